"""Missing streams and co-learning on AV-MNIST: digits that are seen as one number and heard through loud noise."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn

from avfuse.batches import Samples, Window, collate
from avfuse.nn.colearning.balance import GradientBlending, GradientModulation, blending_weights
from avfuse.nn.colearning.distillation import Distillation
from avfuse.nn.colearning.missing import ModalityDropout, evaluate_subsets, only
from avfuse.nn.colearning.transfer import compare_transfer
from avfuse.nn.encoders import LogMel, SensorConvolution, VideoConvolution
from avfuse.nn.fusion import Concatenation
from avfuse.nn.heads import ClassificationHead
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, to_timed
from avfuse.reporting.tables import Table
from avfuse.simulation.labelled import Examples
from benchmarks.fusion.digits import spoken_digits, written_digits
from benchmarks.options import SHARED, Options
from benchmarks.tables import Goals

Labelled = tuple[dict[str, Timed], Tensor]  # a batch and its digits
Accuracies = dict[tuple[str, ...], float]  # subset of modalities -> per cent
Objective = Callable[[FusionNet, Mapping[str, Timed], Tensor], Tensor]

_SNR = -10.0  # dB
_LONGEST = 1.0  # seconds of a recording that are kept: 99 % of them are shorter
_DIGITS = 10
_NAMES = ("image", "sound")
_BANDS, _WINDOW, _HOP = 32, 0.032, 0.016
_DIM = 64
_HELD = 0.1  # of the recordings and images for training: they choose settings and weights of blending


@dataclass(frozen=True)
class Parts:
    """Batches of pairs for training, for choosing, and for testing; no recording and no image is in two of them.

    recordings: number of the recording of each example in `test`, in the order of its batches.
    """

    training: list[Labelled]
    held: list[Labelled]
    test: list[Labelled]
    recordings: list[int]


def make_parts(seed: int, training: int, held: int, test: int) -> Parts:
    """Pairs of an image and a recording of the same digit; each pair has noise of its own."""
    rng = np.random.default_rng(seed)
    spoken, written = spoken_digits(SHARED / "labelled"), written_digits(SHARED / "labelled", components=1)
    (said, kept_said), (seen, kept_seen) = _divided(spoken[0], rng), _divided(written[0], rng)
    batches, recordings = [], []
    for count, sounds, images in ((training, said, seen), (held, kept_said, kept_seen), (test, spoken[1], written[1])):
        made, numbers = _pairs(count, sounds, images, rng)
        batches.append(made)
        recordings.append(numbers)
    return Parts(*batches, recordings[2])


def _divided(examples: Examples, rng: np.random.Generator) -> tuple[Examples, Examples]:
    order = rng.permutation(len(examples.labels))
    first = round(_HELD * len(order))
    held, rest = order[:first], order[first:]
    return tuple(
        Examples([examples.values[k] for k in index], examples.labels[index], examples.rate) for index in (rest, held)
    )  # type: ignore[return-value]


def _pairs(
    count: int, sounds: Examples, images: Examples, rng: np.random.Generator
) -> tuple[list[Labelled], list[int]]:
    """Batches of pairs of like lengths; each digit as often, and what it is made of in rounds."""
    pairs: list[tuple[int, int, int]] = []
    for digit in range(_DIGITS):
        chosen = (_in_rounds(np.flatnonzero(of.labels == digit), count // _DIGITS, rng) for of in (sounds, images))
        pairs += [(int(one), int(other), digit) for one, other in zip(*chosen, strict=True)]
    assert sounds.rate is not None
    longest = int(_LONGEST * sounds.rate)
    order = sorted(rng.permutation(len(pairs)), key=lambda k: min(len(sounds.values[pairs[k][0]]), longest))
    batches = []
    for begin in range(0, len(order), 64):
        part = [pairs[k] for k in order[begin : begin + 64]]
        windows = [
            _window(sounds.values[one][:longest], sounds.rate, images.values[other], digit, rng)
            for one, other, digit in part
        ]
        batches.append((_with_bands(to_timed(collate(windows))), torch.tensor([digit for *_, digit in part])))
    return batches, [pairs[k][0] for k in order]


def _in_rounds(of: NDArray[np.int64], wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each once before any comes again."""
    return np.concatenate([rng.permutation(of) for _ in range(-(-wanted // len(of)))])[:wanted]


def _window(
    clean: NDArray[np.float32], rate: float, image: NDArray[np.float32], digit: int, rng: np.random.Generator
) -> Window:
    n = len(clean)
    noise = rng.standard_normal(n) * np.sqrt(np.mean(clean.astype(np.float64) ** 2) * 10 ** (-_SNR / 10))
    samples = {
        "sound": Samples((clean + noise).astype(np.float32)[:, None], np.arange(n) / rate, np.ones(n, bool), rate=rate),
        # Of the whole window, and of no moment in it.
        "image": Samples(image[None, :, :, None] / 255, np.zeros(1), np.ones(1, bool), std=np.inf),
    }
    return Window("pair", 0.0, _LONGEST, samples, digit)


@torch.no_grad()
def _with_bands(batch: dict[str, Timed]) -> dict[str, Timed]:
    """Mel bands in place of the waveform, made once; each is then a channel of a sensor."""
    mel = LogMel(bands=_BANDS, window=_WINDOW, hop=_HOP, highest=3600.0, limit=0.0).eval()
    sound = batch["sound"]
    strength, _, times, valid = mel(sound)
    bands = Timed(strength, times, valid, sound.present, sound.confidence, sound.std, (1 / _HOP,) * len(sound.present))
    return {"image": batch["image"], "sound": bands}


def network(names: Sequence[str], batches: Sequence[Labelled], seed: int) -> FusionNet:
    """The same encoders for every comparison. batches: for means and standard deviations of the bands."""
    torch.manual_seed(seed)
    encoders: dict[str, nn.Module] = {}
    if "image" in names:
        encoders["image"] = VideoConvolution(1, _DIM, layers=1, channels=8)
    if "sound" in names:
        sound = SensorConvolution(_BANDS, _DIM, rate=1 / _HOP, kernel=0.06)
        sound.fit(batches[len(batches) // 2][0]["sound"])
        encoders["sound"] = sound
    return FusionNet(encoders, Concatenation(names, _DIM), ClassificationHead(_DIM, _DIGITS), dim=_DIM)


def supervised(net: FusionNet, batch: Mapping[str, Timed], digits: Tensor) -> Tensor:
    return net.head.loss(net(only(batch, net.encoders)), digits)  # type: ignore[operator, no-any-return]


def fit(
    net: FusionNet,
    batches: Sequence[Labelled],
    *,
    epochs: int,
    seed: int,
    rate: float = 2e-3,
    objective: Objective = supervised,
    also: nn.Module | None = None,
    modulated: Callable[[FusionNet], GradientModulation] | None = None,
) -> FusionNet:
    """AdamW, 50 steps of warming up, then a cosine down to 0. also: trained with the network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    weights = [*net.parameters(), *(also.parameters() if also is not None else ())]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.05)
    steps, modulation = epochs * len(batches), None if modulated is None else modulated(net)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 50) * 0.5 * (1 + np.cos(np.pi * k / steps))
    )
    for _ in range(epochs):
        net.train()
        for k in rng.permutation(len(batches)):
            batch, digits = batches[k]
            optimizer.zero_grad()
            if modulation is None:
                objective(net, batch, digits).backward()
            else:
                tokens = net.encode(batch)
                net.head.loss(net.head(net.fusion(tokens)), digits).backward()  # type: ignore[operator]
                modulation(tokens, digits)
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def losses(net: FusionNet, parts: Parts) -> tuple[float, float]:
    """In training and on what is held out."""
    net.eval()
    found = [
        float(np.mean([supervised(net, *each).item() for each in batches])) for batches in (parts.training, parts.held)
    ]
    return found[0], found[1]


def right(output: Tensor, digits: Tensor) -> Tensor:
    return (output.argmax(dim=1) == digits).double()


def distilled(distillation: Distillation, dropout: ModalityDropout) -> Objective:
    def objective(net: FusionNet, batch: Mapping[str, Timed], digits: Tensor) -> Tensor:
        thinned = dropout(batch)
        tokens = net.fusion(net.encode(thinned))
        output = net.head(tokens)
        return net.head.loss(output, digits) + distillation(output, thinned, batch, tokens)  # type: ignore[operator, no-any-return]

    return objective


def measure(seed: int, quick: bool) -> dict[str, Accuracies | str]:
    """Accuracy of each network with each subset, in per cent; and what the report of transfer says."""
    torch.set_num_threads(1)
    parts = make_parts(seed, *((1000, 200, 500) if quick else (6000, 600, 3000)))
    epochs = 1 if quick else 4
    made = partial(network, batches=parts.training, seed=seed)
    fitted = partial(fit, batches=parts.training, epochs=epochs, seed=seed)
    branches = {"all": _NAMES, "image": ("image",), "sound": ("sound",)}
    before, once = {}, {}
    for branch, names in branches.items():
        net = made(names)
        before[branch] = losses(net, parts)
        once[branch] = fitted(net)
    after = {branch: losses(net, parts) for branch, net in once.items()}
    # A second round for all that is compared, so that what follows with dropout has not had more training.
    nets = {branch: fitted(copy.deepcopy(net)) for branch, net in once.items()}

    thinning = partial(ModalityDropout, 0.5, seed=seed)
    dropout = thinning()
    nets["dropout"] = fitted(
        copy.deepcopy(once["all"]), objective=lambda net, batch, digits: supervised(net, dropout(batch), digits)
    )
    distillation = Distillation(nets["all"], specialists={name: nets[name] for name in _NAMES})
    nets["dropout, distilled"] = fitted(copy.deepcopy(once["all"]), objective=distilled(distillation, thinning()))

    net = made(_NAMES)
    for _ in range(2):
        fitted(net, modulated=partial(GradientModulation, alpha=0.3, seed=seed))
    nets["OGM-GE"] = net

    net = made(_NAMES)
    blending = GradientBlending(net, partial(ClassificationHead, _DIM, _DIGITS))
    # Losses of so few held-out pairs are not known to within less.
    blending.weights = blending_weights(before, after, least=0.02)

    def blended(net: FusionNet, batch: Mapping[str, Timed], digits: Tensor) -> Tensor:
        tokens = net.encode(batch)
        return blending(tokens, net.head(net.fusion(tokens)), digits)  # type: ignore[no-any-return]

    for _ in range(2):
        fitted(net, objective=blended, also=blending)
    nets["gradient blending"] = net

    scores = {name: evaluate_subsets(net, parts.test, right) for name, net in nets.items()}
    report = compare_transfer(
        {name: scores[name][name,] for name in _NAMES}, scores["all"], groups=parts.recordings, seed=seed
    )
    found: dict[str, Accuracies | str] = {
        name: {subset: 100 * float(np.mean(values)) for subset, values in each.items()} for name, each in scores.items()
    }
    weights = ", ".join(f"{branch} {weight:.2f}" for branch, weight in blending.weights.items())
    return found | {"report": report.message, "weights": weights}


def tables(options: Options, goals: Goals) -> list[Table]:
    if not SHARED.is_dir():
        return []
    seeds = range(options.seed, options.seed + options.pick(1, 5))
    # Spawned: a forked process may hold a lock of torch's that nobody releases.
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        runs = list(pool.map(partial(measure, quick=options.quick), seeds))
    return summary(runs, goals)


def summary(runs: Sequence[dict[str, Accuracies | str]], goals: Goals) -> list[Table]:
    """Means over runs with 95 % intervals (Student's t); differences are those of networks of one seed."""
    accuracy = {
        name: {subset: np.array([run[name][subset] for run in runs]) for subset in found}  # type: ignore[index]
        for name, found in runs[0].items()
        if not isinstance(found, str)
    }
    single = {name: accuracy[name][name,] for name in _NAMES}
    full = accuracy["all"][_NAMES]
    # The better one by its mean over the seeds: choosing it anew for each seed would favour it.
    better = max(_NAMES, key=lambda name: float(single[name].mean()))
    gain = full - single[better]
    goals.add(
        f"AV-MNIST, {len(runs)} seeds: fused at least 5 points above the better single modality",
        f"{_interval(gain)} above {better}",
        bool(gain.mean() >= 5.0),
    )
    kept = accuracy["dropout, distilled"]
    for name in _NAMES:
        lost = single[name] - kept[name,]
        goals.add(
            f"AV-MNIST, modality dropout: {name} alone within 1.5 points of its own network",
            f"{_interval(-lost)}",
            bool(lost.mean() <= 1.5),
        )
    lost = full - kept[_NAMES]
    goals.add(
        "AV-MNIST, modality dropout: both within 1 point of the network without dropout",
        f"{_interval(-lost)}",
        bool(lost.mean() <= 1.0),
    )
    rows = [
        (
            "fused" if name == "all" else f"{name} alone" if name in _NAMES else name,
            *(_mean(found[subset]) if subset in found else "" for subset in (("image",), ("sound",), _NAMES)),
            _interval(found[_NAMES] - full) if _NAMES in found and name != "all" else "",
        )
        for name, found in accuracy.items()
    ]
    reports = "; ".join(str(run["report"]) for run in runs)
    return [
        Table(
            "AV-MNIST: digits of one principal component, spoken at -10 dB; right in per cent",
            ("network", "image alone", "sound alone", "both", "both, less fused"), rows,
            f"{len(runs)} seeds: of what is held out, of pairs, noise and networks. Means and 95 % intervals; the last "
            "column is paired by seed, less fused. All have been trained as long, in two rounds of a falling rate; "
            "dropout is in the second. "
            f"Weights of blending: {'; '.join(str(run['weights']) for run in runs)}. "
            f"Reports of transfer, each over recordings of its test: {reports}.",
        )
    ]  # fmt: skip


def _spread(values: NDArray[np.float64]) -> float:
    """Half a 95 % interval of the mean; infinite of one value."""
    n = len(values)
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def _mean(values: NDArray[np.float64]) -> str:
    return f"{values.mean():.1f} ± {_spread(values):.1f}"


def _interval(values: NDArray[np.float64]) -> str:
    return f"{values.mean():+.1f} ± {_spread(values):.1f}"
