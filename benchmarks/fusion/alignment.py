"""What alignment is worth: networks on files as they are, on files that were aligned, and on the true clocks."""

from __future__ import annotations

import shutil
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

import avfuse
from avfuse.batches import Window
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation.labelled import SPACING, Rates
from benchmarks.fusion.happenings import TESTING, TRAINING, event_of, sources, windows_of
from benchmarks.fusion.learning import Data, Drawn, bits, correct, interval, rights, trained
from benchmarks.fusion.networks import KINDS, network
from benchmarks.options import Options
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals

CLOCKS = ("true", "raw", "aligned")
ALONE = ("picture", "rotation", "sound")
RATES = Rates(sound=8000.0)  # as FSDD was recorded
EPOCHS = 5
_ASKED = 0.9


def tables(options: Options, goals: Goals) -> list[Table]:
    folder = options.out / "fusion-alignment"
    shutil.rmtree(folder, ignore_errors=True)
    counts = (4, 2) if options.quick else (16, 12)
    clocks = _prepare(options, counts, folder, goals)
    seeds = options.pick(1, 3)
    kinds = ("concatenation", "cross_attention") if options.quick else KINDS
    # Data by data, so that each process maps one of them at a time.
    tasks = [(clock, kind, seed) for clock in CLOCKS for kind in kinds for seed in range(seeds)]
    tasks += [("true", name, seed) for name in ALONE for seed in range(seeds)]
    measure = partial(train_and_test, tasks, str(folder), options.seed, EPOCHS)
    rows = gather(options, "fusion-alignment", measure, len(tasks))
    events = Data.load(folder / "true-testing").events
    shutil.rmtree(folder)  # a gigabyte; the rows are kept
    return [clocks, *_shown(options, goals, rows, kinds, seeds, events, counts)]


def _prepare(options: Options, counts: tuple[int, int], folder: Path, goals: Goals) -> Table:
    """Windows of both parts by each kind of clocks, written to the folder; how well the clocks were found."""
    errors, sigmas, refused, offsets = [], [], 0, []
    for part, count, called in ((TRAINING, counts[0], "training"), (TESTING, counts[1], "testing")):
        windows: dict[str, list[Window]] = {clock: [] for clock in CLOCKS}
        for index in range(count):
            event = event_of(options, part, index, RATES)
            truth = event.truth
            found = avfuse.align(event.recordings, reference="camera", spacing=SPACING)
            for clock, alignment in zip(CLOCKS, (truth, event.unaligned, found), strict=True):
                windows[clock] += windows_of(event, alignment)
            for name in ("recorder", "wearable"):
                estimate, true = found.clocks[name], truth.clocks[name].map
                middle = event.recordings[0].duration / 2
                offsets.append(abs(float(true(middle)) - middle))
                if estimate.clock is None:
                    refused += 1
                    continue
                errors.append(abs(float(estimate.map(middle)) - float(true(middle))))
                sigmas.append(errors[-1] / float(estimate.std_at(np.array(middle))))
        for clock in CLOCKS:
            Data.of(windows[clock]).save(folder / f"{clock}-{called}")
    within = float(np.mean(np.array(sigmas) <= 1.96)) if sigmas else 0.0
    goals.add("align: every clock found, none off by more than 3 of its std",
              f"{refused} refused, {max(sigmas, default=np.inf):.1f} std at most",
              refused == 0 and max(sigmas, default=np.inf) <= 3.0)  # fmt: skip
    return Table(
        "Clocks of recorder and wearable against the camera's, in the middle of the minute",
        ("clocks", "refused", "raw: median off [ms]", "aligned: median error [ms]", "largest [ms]", "within 1.96 std"),
        [(len(offsets), refused, milliseconds(float(np.median(offsets))), milliseconds(float(np.median(errors))),
          milliseconds(max(errors)), f"{100 * within:.0f} %")],
        f"`avfuse.align` was told that the devices stood within {SPACING:.2f} m; what is off is what sound takes from "
        "the talker to the farther one.",
    )  # fmt: skip


@lru_cache(maxsize=2)
def _loaded(folder: str) -> Data:
    return Data.load(Path(folder))


def train_and_test(tasks: list[tuple[str, str, int]], folder: str, base: int, epochs: int, index: int) -> Row:
    """One network; of each window for testing whether it is right, and likewise of windows of the raw files."""
    torch.set_num_threads(1)
    clock, kind, seed = tasks[index]
    training, testing = (_loaded(f"{folder}/{clock}-{part}") for part in ("training", "testing"))
    names = tuple(training.modalities)
    if kind in ALONE:
        training, testing, names, kind = training.only(kind), testing.only(kind), (kind,), "concatenation"
    net = trained(lambda: network(kind, names), training, epochs=epochs, seed=1000 * base + seed)
    row: Row = {"clock": clock, "kind": tasks[index][1], "seed": seed, "right": bits(correct(net, testing))}
    if clock == "true" and len(names) > 1:
        row["on_raw"] = bits(correct(net, _loaded(f"{folder}/raw-testing")))
    return row


def _shown(
    options: Options, goals: Goals, rows: list[Row], kinds: tuple[str, ...], seeds: int, events: np.ndarray,
    counts: tuple[int, int],
) -> list[Table]:  # fmt: skip
    rng = np.random.default_rng(options.seed)
    shown, shape = [], (seeds, len(events))
    for kind in kinds:
        by = {clock: rights(rows, "right", clock=clock, kind=kind) for clock in CLOCKS}

        def recovered(drawn: Drawn, by: dict[str, np.ndarray] = by) -> float:
            true, raw, aligned = (float(drawn(by[clock]).mean()) for clock in CLOCKS)
            return (aligned - raw) / (true - raw) if true > raw else np.nan

        share = recovered(lambda array: array)
        low, high = interval(recovered, shape, events, rng)
        lost = 100 * float(by["true"].mean() - by["raw"].mean())
        met_raw = rights(rows, "on_raw", clock="true", kind=kind)
        if not options.quick:  # where hardly anything is learned, hardly anything is lost
            goals.add(f"{kind}: >= 90 % of what raw files lose comes back", f"{100 * share:.0f} %", share >= _ASKED)
        shown.append((
            kind, *(f"{100 * by[clock].mean():.1f}" for clock in CLOCKS), f"{lost:.1f}", f"{100 * share:.0f} %",
            f"{100 * low:.0f} to {100 * high:.0f} %", f"{100 * met_raw.mean():.1f}",
        ))  # fmt: skip
    real = sources(options.seed)[0].real
    alone = ", ".join(f"{name} {100 * rights(rows, 'right', clock='true', kind=name).mean():.1f}" for name in ALONE)
    return [Table(
        f"Ten classes, accuracy [%] of {seeds} networks on {len(events)} windows of {counts[1]} events",
        ("fusion", "true clocks", "raw files", "aligned", "lost by raw files", "recovered", "95 % interval",
         "trained on true clocks, met raw files"),
        shown,
        f"One modality alone, with the true clocks: {alone}. Trained on {counts[0]} other events, "
        f"{'digits of FSDD and MNIST' if real else 'tones and strokes'}. The interval is over networks and events, "
        f"drawn again together{'' if seeds > 1 else '; of one network it holds the spread of events alone'}.",
    )]  # fmt: skip
