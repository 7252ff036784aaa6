"""Activities of people who wear an accelerometer and a gyroscope: forty windows to learn from, forty to be tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from avfuse.batches import Samples, Window, collate
from avfuse.nn.colearning.missing import ModalityDropout, evaluate_subsets, only
from avfuse.nn.colearning.transfer import compare_transfer
from avfuse.nn.encoders import SensorConvolution
from avfuse.nn.fusion import FUSIONS
from avfuse.nn.heads import ClassificationHead
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, to_timed
from avfuse.reporting.tables import Table
from benchmarks.options import SHARED, Options
from benchmarks.tables import Goals

_RATE = 10.0  # Hz
_CHANNELS = {"accelerometer": slice(0, 3), "gyroscope": slice(3, 6)}
_DIM = 32
_KINDS = ("concatenation", "gate", "low_rank", "cross_attention", "bottleneck")


def tables(options: Options, goals: Goals) -> list[Table]:
    if not SHARED.is_dir():
        return []
    seeds = range(options.seed, options.seed + options.pick(1, 10))
    folder = SHARED / "labelled" / "basic_motions"
    classes = tuple(sorted(set(_read(folder / "BasicMotions_TRAIN.ts")[1])))
    training, test = (_batch(folder / f"BasicMotions_{part}.ts", classes) for part in ("TRAIN", "TEST"))
    networks = {name: ((name,), "concatenation", False) for name in _CHANNELS}
    networks |= {kind: (tuple(_CHANNELS), kind, False) for kind in _KINDS}
    networks["concatenation, modality dropout"] = (tuple(_CHANNELS), "concatenation", True)
    scores: dict[str, list[dict[tuple[str, ...], NDArray[np.float64]]]] = {}
    for label, (names, kind, thinned) in networks.items():
        scores[label] = [
            evaluate_subsets(_fitted(names, kind, training, seed, thinned, 2 if options.quick else 40), [test], _right)
            for seed in seeds
        ]
    rows, everything = [], tuple(_CHANNELS)
    for label, runs in scores.items():
        cells = []
        for subset in (*((name,) for name in _CHANNELS), everything):
            each = [100 * float(np.mean(run[subset])) for run in runs if subset in run]
            cells.append(f"{np.mean(each):.1f} ({min(each):.1f} ... {max(each):.1f})" if each else "")
        rows.append((label, *cells))
    each = [100 * float(np.mean(run[everything])) for run in scores["concatenation"]]
    goals.add(
        f"basic_motions: at least 95 % over {len(each)} seeds",
        f"{np.mean(each):.1f} % ({min(each):.1f} ... {max(each):.1f})",
        bool(np.mean(each) >= 95.0),
    )
    # The mean over seeds of each of the forty: what is compared are the recipes, and not one run of each.
    report = compare_transfer(
        {name: np.mean([run[name,] for run in scores[name]], axis=0) for name in _CHANNELS},
        {everything: np.mean([run[everything] for run in scores["concatenation"]], axis=0)},
    )
    return [
        Table(
            "Four activities from a watch: right of 40, in per cent",
            ("network", *(f"{name} alone" for name in _CHANNELS), "both"), rows,
            f"Means over {len(each)} seeds, and the range. The first two have never had the other sensor; of the "
            f"others it is hidden. Report of transfer: {report.message}.",
        )
    ]  # fmt: skip


def _read(path: Path) -> tuple[list[NDArray[np.float64]], list[str]]:
    """(steps, channels) of each window, and its label, of a .ts file of dimensions of equal length."""
    lines = path.read_text(encoding="utf-8").splitlines()
    body = lines[lines.index("@data") + 1 :]
    values, labels = [], []
    for line in filter(None, body):
        *dimensions, label = line.split(":")
        values.append(np.array([[float(x) for x in d.split(",")] for d in dimensions]).T)
        labels.append(label)
    return values, labels


def _batch(path: Path, classes: tuple[str, ...]) -> tuple[dict[str, Timed], torch.Tensor]:
    values, labels = _read(path)
    windows = []
    for value, label in zip(values, labels, strict=True):
        times, valid = np.arange(len(value)) / _RATE, np.ones(len(value), bool)
        samples = {
            name: Samples(value[:, channels].astype(np.float32), times, valid, rate=_RATE)
            for name, channels in _CHANNELS.items()
        }
        windows.append(Window(path.stem, 0.0, len(value) / _RATE, samples, label))
    return to_timed(collate(windows)), torch.tensor([classes.index(label) for label in labels])


def _fitted(
    names: tuple[str, ...],
    kind: str,
    training: tuple[dict[str, Timed], torch.Tensor],
    seed: int,
    thinned: bool,
    epochs: int,
) -> FusionNet:
    torch.manual_seed(seed)
    batch, target = training
    encoders: dict[str, nn.Module] = {}
    for name in names:
        encoders[name] = SensorConvolution(3, _DIM, rate=_RATE, kernel=0.5, dropout=0.2)
        encoders[name].fit(batch[name])  # type: ignore[operator]
    classes = int(target.max()) + 1
    net = FusionNet(encoders, FUSIONS[kind](names, _DIM), ClassificationHead(_DIM, classes), dim=_DIM).train()
    batch = only(batch, names)
    dropout = ModalityDropout(0.5, span=0.5, seed=seed) if thinned else None
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        optimizer.zero_grad()
        net.head.loss(net(batch if dropout is None else dropout(batch)), target).backward()  # type: ignore[operator]
        optimizer.step()
        schedule.step()
    return net.eval()


def _right(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.argmax(dim=1) == target).double()
