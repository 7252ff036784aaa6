"""Negative transfer: is the fused network better than its best modality alone, and which modality does it harm?

Fusing is no gift: a modality of noise, or one that is learned too soon, can leave a fused network behind one of its
parts. This compares them on the same held-out examples, pair by pair, and speaks only where the interval does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError

F64 = NDArray[np.float64]
Subset = tuple[str, ...]
Verdict = Literal["positive", "negative", "undecided"]


@dataclass(frozen=True)
class Scored:
    """How one network does with one subset of the modalities, beside the fused network with all of them.

    own: whether it is a network of these modalities alone; else it is the fused one with the others hidden.
    score: mean over the examples. behind: how far the fused network with all is behind it (positive: this is better),
        with its interval; on the examples that both know.
    """

    subset: Subset
    own: bool
    score: float
    examples: int
    behind: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Transfer:
    """What fusing has brought.

    score: of the fused network with all modalities. rows: own networks, then subsets of the fused one.
    best: the single modality whose own network is best. gain: score less that of `best`, with its `interval`.
    verdict: "negative" where the interval of any single modality's own network says that it is better than the fused;
        "positive" where the fused is better than each of them; else "undecided".
    harmful: modalities without which something is better, all others kept, by more than the interval.
    level: of all intervals together.
    """

    score: float
    rows: tuple[Scored, ...]
    best: Subset
    gain: float
    interval: tuple[float, float]
    verdict: Verdict
    harmful: Subset
    level: float

    @property
    def message(self) -> str:
        """One sentence for a person."""
        low, high = self.interval
        said = f"fused {self.score:.4g}, {self.gain:+.3g} ({low:+.3g} ... {high:+.3g}) from {self.best[0]} alone"
        if self.verdict == "positive":
            return f"{said}: fusing helps"
        if self.verdict == "undecided":
            said = f"{said}: these examples do not tell whether fusing helps"
        else:
            said = f"{said}: negative transfer"
        return f"{said}; better without {' or without '.join(self.harmful)}" if self.harmful else said


def compare_transfer(
    own: Mapping[str, ArrayLike] | Mapping[Subset, ArrayLike],
    fused: Mapping[str, ArrayLike] | Mapping[Subset, ArrayLike],
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> Transfer:
    """Each modality alone, by a network of its own, beside the fused network and its subsets.

    own: modality (or subset of them) -> scores (examples,) of a network that was trained and tuned on it alone, with as
        much care as the fused one: every single modality must be there. fused: the same of the fused network, as
        `evaluate_subsets` gives it; all modalities together must be there. Higher is better; NaN where an example has
        nothing of a subset.
    groups: what each example belongs to (its event, its speaker, its recording): examples of one group are drawn
        together, for they are not independent; None takes each for itself.
    level: probability that all intervals hold, together (Bonferroni); repeats: of the paired bootstrap (Efron and
        Tibshirani, An introduction to the bootstrap, 1993, chapter 13; percentiles); seed: of it.

    Raises StreamError where scores are missing, of different lengths, infinite, or without a common example.
    """
    alone = {_subset(key): _scores(values) for key, values in own.items()}
    parts = {_subset(key): _scores(values) for key, values in fused.items()}
    names = tuple(sorted({name for subset in (*alone, *parts) for name in subset}))
    lacking = [name for name in names if (name,) not in alone]
    if len(names) < 2 or lacking or names not in parts:
        raise StreamError(
            f"transfer: own networks of {_listed(alone)}, the fused with {_listed(parts)}; expected an own network of "
            "each of two or more modalities, and the fused network with all of them"
        )
    everything = parts.pop(names)
    lengths = {len(values) for values in (everything, *alone.values(), *parts.values())}
    if len(lengths) != 1 or (groups is not None and len(groups) not in lengths):
        raise StreamError(
            f"transfer: scores of {sorted(lengths)} examples"
            + (f", {len(groups)} groups" if groups is not None else "")
            + "; expected one of each for the same held-out examples"
        )
    if not (0 < level < 1 and repeats >= 100):
        raise StreamError(f"transfer: level {level!r}, {repeats} repeats; expected 0 < level < 1 and 100 or more")
    compared = [(subset, True, values) for subset, values in sorted(alone.items(), key=_by_size)]
    compared += [(subset, False, values) for subset, values in sorted(parts.items(), key=_by_size)]
    differences = np.array([values - everything for _, _, values in compared])  # (rows, examples)
    intervals = _paired_bootstrap(differences, groups, 1 - (1 - level) / len(compared), repeats, seed)
    rows = tuple(
        Scored(
            subset,
            is_own,
            float(np.nanmean(values)),
            int(np.isfinite(values).sum()),
            float(np.nanmean(difference)),
            interval,
        )
        for (subset, is_own, values), difference, interval in zip(compared, differences, intervals, strict=True)
    )
    singles = [row for row in rows if row.own and len(row.subset) == 1]
    best = max(singles, key=lambda row: row.behind)
    verdict: Verdict = "undecided"
    if any(row.interval[0] > 0 for row in singles):
        verdict = "negative"
    elif all(row.interval[1] < 0 for row in singles):
        verdict = "positive"
    better = {row.subset for row in rows if row.interval[0] > 0}
    harmful = tuple(name for name in names if tuple(other for other in names if other != name) in better)
    low, high = best.interval
    gain, interval = 0.0 - best.behind, (0.0 - high, 0.0 - low)  # no -0
    return Transfer(float(np.nanmean(everything)), rows, best.subset, gain, interval, verdict, harmful, level)


def _paired_bootstrap(
    differences: F64, groups: Sequence[Hashable] | None, level: float, repeats: int, seed: int
) -> list[tuple[float, float]]:
    """Interval of the mean of each row; one draw of groups for all rows. NaN in a row does not count in it."""
    known = np.isfinite(differences)
    if not known.any(axis=1).all():
        raise StreamError("transfer: a network and the fused one have no example in common; expected the same data")
    count = differences.shape[1]
    number = np.arange(count) if groups is None else _numbered(groups)
    most = int(number.max()) + 1
    # What a group adds to the sum and to the number of examples is all that drawing it does.
    sums = np.array([np.bincount(number, np.where(k, d, 0.0), most) for k, d in zip(known, differences, strict=True)])
    sizes = np.array([np.bincount(number, k, most) for k in known])
    rng = np.random.default_rng(seed)
    means = np.empty((repeats, len(differences)))
    for k in range(repeats):
        drawn = np.bincount(rng.integers(0, most, most), minlength=most)
        means[k] = (sums @ drawn) / np.maximum(sizes @ drawn, 1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _numbered(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def _scores(values: ArrayLike) -> F64:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not len(scores) or np.isinf(scores).any() or np.isnan(scores).all():
        raise StreamError(
            f"transfer: scores of shape {scores.shape}; expected one finite number for each example, NaN for those "
            "that have nothing of the subset"
        )
    return scores


def _subset(names: str | Iterable[str]) -> Subset:
    """A name alone is a subset of one."""
    return (names,) if isinstance(names, str) else tuple(sorted(names))


def _by_size(item: tuple[Subset, F64]) -> tuple[int, Subset]:
    return len(item[0]), item[0]


def _listed(found: Mapping[Subset, F64]) -> str:
    return ", ".join("+".join(subset) for subset in found) or "nothing"
