"""Windows a second, in training and in use, of every kind of fusion; and what an optimiser sees of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.nn.fusion import LowRank
from avfuse.nn.timed import Timed
from avfuse.reporting.tables import Table
from avfuse.simulation.labelled import Rates
from benchmarks.fusion.happenings import TRAINING, event_of, windows_of
from benchmarks.fusion.learning import Data
from benchmarks.fusion.networks import KINDS, network
from benchmarks.options import Options
from benchmarks.tables import Goals

DIM, BATCH = 32, 64  # on the CPU, as in the other parts
WIDE, MANY = 256, 256  # on a GPU


def tables(options: Options, goals: Goals) -> list[Table]:
    event = event_of(options, TRAINING, 0, Rates())
    data = Data.of(windows_of(event, event.truth))
    found = [_on_cpu(options, data), _factors(goals)]
    if torch.cuda.is_available():
        found.append(_on_gpu(options, data))
    return found


def _batch(data: Data, size: int, device: str) -> tuple[dict[str, Timed], Tensor]:
    """Windows of the event, over again where it has not enough."""
    chosen = np.arange(size) % len(data)
    batch = {name: timed.to(device) for name, timed in data.rows(chosen).items()}
    return batch, torch.as_tensor(data.labels[chosen], device=device)


def _step(net: nn.Module, optimiser: torch.optim.Optimizer, batch: Mapping[str, Timed], labels: Tensor) -> None:
    optimiser.zero_grad()
    functional.cross_entropy(net(batch).float(), labels).backward()
    optimiser.step()


def _seconds(work: Callable[[], Any], repeats: int, wait: Callable[[], None] = lambda: None) -> float:
    """Median of `repeats`, after one that is not counted."""
    work()
    took = []
    for _ in range(repeats):
        wait()
        began = time.perf_counter()
        work()
        wait()
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def _on_cpu(options: Options, data: Data) -> Table:
    torch.manual_seed(options.seed)
    repeats = 2 if options.quick else 10
    batch, labels = _batch(data, BATCH, "cpu")
    names = tuple(data.modalities)
    rows = []
    for kind in KINDS:
        net = network(kind, names)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
        training = _seconds(lambda: _step(net, optimiser, batch, labels), repeats)  # noqa: B023
        net.eval()
        with torch.inference_mode():
            using = _seconds(lambda: net(batch), repeats)  # noqa: B023
        count = sum(p.numel() for p in net.fusion.parameters())
        rows.append((kind, f"{BATCH / training:.0f}", f"{BATCH / using:.0f}", count,
                     sum(p.numel() for p in net.parameters())))  # fmt: skip
    return Table(
        f"Windows a second on the CPU, {torch.get_num_threads()} threads",
        ("fusion", "training", "use", "parameters of the fusion", "of the network"),
        rows,
        f"Windows of 0.6 s: 15 pictures of 14 x 14, 9,600 samples of sound, 30 rotation rates. {BATCH} at once, "
        f"{DIM} features; medians of {repeats}. Encoders included: sound and pictures take most of it.",
    )


class ListedLowRank(nn.Module):
    """Low-rank fusion as MultiBench and PyKale publish it: the factors of the modalities are in a plain list.

    Written here from the equation (Liu et al. 2018, eq. 7), with that one trait.
    """

    def __init__(self, names: tuple[str, ...], dim: int, rank: int) -> None:
        super().__init__()
        self.factors = [nn.Parameter(torch.randn(rank, dim + 1, dim) / dim**0.5) for _ in names]
        self.weights = nn.Parameter(torch.full((rank,), 1 / rank))
        self.bias = nn.Parameter(torch.zeros(dim))


def _factors(goals: Goals) -> Table:
    """How many of the numbers an optimiser gets, and a checkpoint holds."""
    names, rank = ("picture", "rotation", "sound"), 4
    formula = len(names) * rank * (DIM + 1) * DIM + rank + DIM
    rows = []
    for called, fusion in (
        ("avfuse", LowRank(names, DIM, rank=rank)),
        ("as published", ListedLowRank(names, DIM, rank)),
    ):
        optimised = sum(p.numel() for p in fusion.parameters())
        stored = sum(t.numel() for t in fusion.state_dict().values())
        rows.append((called, formula, optimised, stored))
    goals.add(
        "low-rank fusion: an optimiser gets all numbers of the formula",
        f"{rows[0][2]} of {formula}",
        rows[0][2] == formula,
    )
    return Table(
        "Low-rank tensor fusion of three modalities: numbers",
        ("", "by the formula", "an optimiser gets", "a checkpoint holds"),
        rows,
        "As published: MultiBench and PyKale hold the factors in a Python list, so that they are neither trained nor "
        "saved. This is that pattern written again: the packages themselves were not run.",
    )


def _on_gpu(options: Options, data: Data) -> Table:
    """bf16, compiled or not; how much of the time kernels run."""
    device = "cuda"
    torch.manual_seed(options.seed)
    repeats = 5 if options.quick else 30
    batch, labels = _batch(data, MANY, device)
    rows = []
    for kind in KINDS:
        for half in (False, True):
            for compiled in (False, True):
                net = network(kind, tuple(data.modalities), dim=WIDE).to(device)
                optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
                run = torch.compile(net) if compiled else net

                def step(run=run, optimiser=optimiser, half=half) -> None:  # type: ignore[no-untyped-def]
                    with torch.autocast(device, torch.bfloat16) if half else nullcontext():
                        _step(run, optimiser, batch, labels)

                took = _seconds(step, repeats, torch.cuda.synchronize)
                rows.append((kind, "bf16" if half else "fp32", "yes" if compiled else "no", f"{MANY / took:.0f}",
                             f"{100 * _busy(step, repeats):.0f} %"))  # fmt: skip
    return Table(
        f"Windows a second in training on {torch.cuda.get_device_name()}",
        ("fusion", "precision", "compiled", "windows/s", "kernels run"),
        rows,
        f"{MANY} windows at once, {WIDE} features, on the device already.",
    )


def _busy(work: Callable[[], None], repeats: int) -> float:
    """Share of the time in which the device works, as the profiler sees its kernels."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(repeats):
            work()
        torch.cuda.synchronize()
        took = time.perf_counter() - began
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / took
