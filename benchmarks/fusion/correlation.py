"""What two or three parts of one picture have in common: DCCA and DGCCA on MNIST, as Andrew et al. 2013 measured it.

Networks and closed forms see 50,000 pictures; 10,000 others of the training set chose the settings below; the test set
is scored once, by a linear CCA of the outputs that was fitted on the 50,000. Nothing stops early.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from avfuse.nn.colearning.correlation import (
    CanonicalProjection,
    dcca_loss,
    dgcca_loss,
    fit_cca,
    fit_gcca,
    shuffled_scores,
)
from avfuse.reporting.tables import Table
from benchmarks.fusion.degenerate import degenerate_batches
from benchmarks.measuring import run_here
from benchmarks.options import SHARED, Options
from benchmarks.peers import ENVIRONMENTS, RUNNERS, Method, python_of
from benchmarks.tables import Goals

# Its losses need torch alone, which is the benchmark's own.
_PEER = Method("cca_zoo", ("with_cca_zoo.py",), "", "cca-zoo", ("--no-deps", "cca-zoo==4.0.1"))
_SIZE = 50  # dimensions of the outputs
_HALVES = (slice(0, 14), slice(14, 28))
_STRIPS = (slice(0, 9), slice(9, 19), slice(19, 28))
_TRAINING = 50_000
_THREADS = 2


@dataclass(frozen=True)
class Settings:
    """Chosen on the 10,000 pictures for validation. steps: of Adam, its rate falling as a cosine."""

    width: int = 512
    batch: int = 5000
    steps: int = 150
    rate: float = 2e-3
    dropout: float = 0.2
    ridge: float = 1e-3


class Encoder(nn.Module):
    """Pixels -> `_SIZE` numbers: two hidden layers, multiplied in bfloat16 while training and exactly afterwards."""

    def __init__(self, pixels: int, settings: Settings) -> None:
        super().__init__()
        width, drop = settings.width, settings.dropout
        self.hidden = nn.Sequential(
            nn.Linear(pixels, width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, width), nn.ReLU(), nn.Dropout(drop)
        )
        self.out = nn.Linear(width, _SIZE)

    def forward(self, values: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.training):
            hidden = self.hidden(values)
        # The last layer exactly: DCCA divides by its least variances, and bfloat16 would be all that is in them.
        return self.out(hidden.float())


@dataclass(frozen=True)
class Pictures:
    """Views of (n, pixels) float32, of the pictures trained on, of those for validation, and of the test set."""

    training: list[Tensor]
    validation: list[Tensor]
    test: list[Tensor]

    def shuffled(self, seed: int) -> Pictures:
        """The same pictures, whose views no longer belong together."""
        rng = torch.Generator().manual_seed(seed)
        return Pictures(*([view[torch.randperm(len(view), generator=rng)] for view in views] for views in self.sets))

    @property
    def sets(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.training, self.validation, self.test


@dataclass(frozen=True)
class Learned:
    """What was learned: its fit, scores, seconds by the clock, and seconds of all threads of this process."""

    projection: CanonicalProjection
    outputs: list[np.ndarray]
    training: float
    validation: float
    test: float
    seconds: float
    cpu: float


def tables(options: Options, goals: Goals) -> list[Table]:
    made = [_degenerate(options, goals)]
    path = SHARED / "labelled" / "mnist.npz"
    if path.exists():
        made += [_halves(options, goals), _strips(options, goals)]
    return made


def read(columns: Sequence[slice], seed: int) -> Pictures:
    with np.load(SHARED / "labelled" / "mnist.npz") as held:
        training, test = (held[name].astype(np.float32) / 255 for name in ("x_train", "x_test"))
    training = training[np.random.default_rng(seed).permutation(len(training))]
    mean, std = training[:_TRAINING].mean(axis=0), training[:_TRAINING].std()

    def views(pictures: np.ndarray) -> list[Tensor]:
        centred = (pictures - mean) / std
        return [torch.tensor(centred[:, :, part].reshape(len(centred), -1)) for part in columns]

    return Pictures(views(training[:_TRAINING]), views(training[_TRAINING:]), views(test))


def learn(pictures: Pictures, settings: Settings, seed: int) -> Learned:
    """DCCA of two views, DGCCA of more; then the closed form of what the networks put out."""
    began, worked = time.perf_counter(), time.process_time()
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    torch.manual_seed(seed)
    encoders = nn.ModuleList(Encoder(view.shape[1], settings) for view in pictures.training)
    optimizer = torch.optim.Adam(encoders.parameters(), settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps, pct_start=0.05, cycle_momentum=False
    )
    count = len(pictures.training[0])
    order = torch.randperm(count)
    at = 0
    for _ in range(settings.steps):
        if at + settings.batch > count:
            order, at = torch.randperm(count), 0
        rows = order[at : at + settings.batch]
        at += settings.batch
        outputs = [net(view[rows]) for net, view in zip(encoders, pictures.training, strict=True)]
        if len(outputs) == 2:
            loss = dcca_loss(*outputs, ridge=settings.ridge)
        else:
            loss = dgcca_loss({str(k): out for k, out in enumerate(outputs)}, ridge=settings.ridge)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    encoders.eval()
    training, validation, test = (
        [_outputs(net, view) for net, view in zip(encoders, views, strict=True)] for views in pictures.sets
    )
    fitted = fit_cca(*training) if len(training) == 2 else fit_gcca(*training)
    scores = [fitted.score(*views) for views in (training, validation, test)]
    torch.set_num_threads(threads)
    return Learned(fitted, test, *scores, time.perf_counter() - began, time.process_time() - worked)


def _outputs(net: nn.Module, view: Tensor) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([net(part) for part in view.split(10_000)]).numpy()


def closed_form(pictures: Pictures) -> Learned:
    """Linear CCA of the pixels, its ridge by validation."""
    began, worked = time.perf_counter(), time.process_time()
    fit = fit_cca if len(pictures.training) == 2 else fit_gcca
    training, validation, test = ([view.numpy() for view in views] for views in pictures.sets)
    fitted = max(
        (fit(*training, components=_SIZE, ridge=ridge) for ridge in (1e-5, 1e-4, 1e-3, 1e-2)),
        key=lambda one: one.score(*validation),
    )
    scores = [fitted.score(*views) for views in (training, validation, test)]
    return Learned(fitted, test, *scores, time.perf_counter() - began, time.process_time() - worked)


def _interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of it over seeds, by Student's t; the value alone where there is one."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{np.mean(values):.2f} ± {half:.2f}"


def _row(name: str, found: Sequence[Learned]) -> tuple[str, ...]:
    return (
        name,
        *(_interval([getattr(one, part) for one in found]) for part in ("training", "validation", "test")),
        f"{np.median([one.seconds for one in found]):.0f}",
        f"{np.median([one.cpu for one in found]):.0f}",
    )


_COLUMNS = ("", "training", "validation", "test", "time [s]", "of all threads [s]")


def _settings(options: Options) -> Settings:
    return Settings(steps=40, width=128) if options.quick else Settings()


def _halves(options: Options, goals: Goals) -> Table:
    settings, seeds = _settings(options), range(options.seed, options.seed + options.pick(1, 3))
    linear, deep, by_heart, unrelated, permuted = [], [], [], [], []
    for seed in seeds:
        pictures = read(_HALVES, seed)
        linear.append(closed_form(pictures))
        deep.append(learn(pictures, settings, seed))
        by_heart.append(learn(pictures, replace(settings, dropout=0.0), seed))
        unrelated.append(learn(pictures.shuffled(seed), settings, seed))
        rng = np.random.default_rng(seed)
        permuted.append(shuffled_scores(deep[-1].projection, *deep[-1].outputs, rng=rng, repeats=options.pick(5, 20)))
        print(
            f"correlation: seed {seed}: linear {linear[-1].test:.2f}, shuffled {unrelated[-1].test:.2f}, "
            f"DCCA {deep[-1].test:.2f} in {deep[-1].seconds:.0f} s ({deep[-1].cpu:.0f} s of all threads)",
            flush=True,
        )
    figure = _interval([one.test for one in deep])
    seconds, cpu = (float(np.median([getattr(one, part) for one in deep])) for part in ("seconds", "cpu"))
    worst = max(float(np.abs(permuted).max()), *(abs(one.test) for one in unrelated))
    if not options.quick:
        least = min(one.test for one in deep)
        goals.add("DCCA, halves of MNIST: total test correlation >= 44 of 50, every seed", figure, least >= 44)
        goals.add("the same in <= 3 minutes", f"{seconds:.0f} s ({cpu:.0f} s of {_THREADS} threads)", seconds <= 180)
    goals.add("shuffled pairs, held out: < 2", f"{worst:.2f}", worst < 2)
    rows = [
        _row("linear CCA of the pixels", linear),
        _row("DCCA", deep),
        _row("DCCA without dropout", by_heart),
        _row("DCCA trained on shuffled pairs", unrelated),
        ("DCCA, test pairs shuffled", "", "", _interval([float(p.mean()) for p in permuted]), "", ""),
    ]
    return Table(
        f"Left and right halves of MNIST: total correlation of {_SIZE} dimensions", _COLUMNS, rows,
        f"{len(seeds)} seeds (of the split, the start and the batches), 95 % intervals; {_THREADS} threads; "
        "Andrew et al. 2013 report 39.7 for DCCA. Scores are signed correlations on axes fitted on the 50,000 pictures "
        "trained on. Its training column on shuffled pairs is what a network makes of nothing.",
    )  # fmt: skip


def _strips(options: Options, goals: Goals) -> Table:
    settings, seeds = _settings(options), range(options.seed, options.seed + options.pick(1, 3))
    linear, deep = [], []
    for seed in seeds:
        pictures = read(_STRIPS, seed)
        linear.append(closed_form(pictures))
        deep.append(learn(pictures, settings, seed))
        print(f"correlation: seed {seed}: GCCA {linear[-1].test:.2f}, DGCCA {deep[-1].test:.2f}", flush=True)
    gained = [d.test - g.test for d, g in zip(deep, linear, strict=True)]
    if not options.quick:
        goals.add("DGCCA above linear GCCA, three strips, every seed", _interval(gained), min(gained) > 0)
    rows = [_row("linear GCCA of the pixels", linear), _row("DGCCA", deep)]
    return Table(
        f"Three strips of MNIST: total correlation of {_SIZE} dimensions, mean of three pairs", _COLUMNS, rows,
        "Strips of 9, 10 and 9 columns; otherwise as the halves.",
    )  # fmt: skip


def _degenerate(options: Options, goals: Goals) -> Table:
    batches = degenerate_batches(1000, options.seed)
    counted: dict[str, list[int]] = {}
    for what, first, second in batches:
        leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
        row = counted.setdefault(what, [0, 0, 0])
        row[0] += 1
        for place, loss in (
            (1, dcca_loss(*leaves)),
            (2, dgcca_loss({"first": leaves[0], "second": leaves[1]})),
        ):
            gradients = torch.autograd.grad(loss, leaves)
            row[place] += not all(bool(torch.isfinite(value).all()) for value in (loss, *gradients))
    python_of(_PEER)  # makes its environment
    (objectives,) = (ENVIRONMENTS / _PEER.environment).glob("lib/*/site-packages/cca_zoo/deep/objectives.py")
    ran = run_here(
        [sys.executable, str(RUNNERS / _PEER.runner[0]), str(objectives), str(len(batches)), str(options.seed)]
    )
    if ran.code:
        raise SystemExit(f"cca_zoo: {(ran.stderr.strip() or ran.stdout.strip())[-500:]}")
    theirs = json.loads(ran.stdout.splitlines()[-1])
    rows = [
        (what, n, ours, general, theirs["CCALoss"][what][1], theirs["GCCALoss"][what][1])
        for what, (n, ours, general) in counted.items()
    ]
    total = [sum(row[k] for row in rows) for k in range(1, 6)]
    goals.add("DCCA: no NaN in 1,000 degenerate batches", f"{total[1]} of {total[0]}", total[1] == 0)
    goals.add("DGCCA: no NaN in 1,000 degenerate batches", f"{total[2]} of {total[0]}", total[2] == 0)
    return Table(
        "Degenerate batches whose loss or gradient is not finite, or that raise an error",
        ("", "batches", "DCCA", "DGCCA", "cca_zoo CCALoss", "cca_zoo GCCALoss"), [*rows, ("all", *total)],
        "float32 views of 0 to 31 rows. cca_zoo 4.0.1, its default ridge.",
    )  # fmt: skip
