"""Which recordings to compare, where there are too many for all pairs at full cost.

An index of thinned features scores every pair by correlation, at about a thousandth of the cost of a comparison. Then
recordings are compared along a maximum spanning tree of the scores, and from there each with its best
partners until it has a few agreeing ones, because only loops tell a wrong comparison. Groups that stay apart are tried
against each other before they are called islands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.temporal.coarse import normalise
from avfuse.temporal.graph import cheapest_tree, groups_of
from avfuse.temporal.hearing import BANDS, FRAME_RATE, Heard

Pair = tuple[str, str]
F32 = NDArray[np.float32]

ALL_PAIRS = 8  # recordings up to which every pair is compared
_PARTNERS = 3  # agreeing comparisons that a recording should have
_TRIES = 6  # comparisons of a recording before its partners are taken as they are
_BETWEEN = 8  # comparisons with another group, for each recording of the smaller one
_THIN = 4  # frames in one
_FEW_BANDS = 8
_PIECE = 300.0  # seconds; 100 ppm moves a thinned frame in it
_LEAST = 1.0  # seconds


def score_pairs(heard: Mapping[str, Heard]) -> dict[Pair, float]:
    """How much any stretch of five minutes of the shorter of two recordings resembles the other, for every pair.

    In standard deviations of unrelated lags, of which the largest is 4 to 6; pairs are sorted names.
    """
    names = sorted(heard)
    thin = {name: _thinned(heard[name]) for name in names}
    longest = max(len(t) for t in thin.values())
    piece = int(_PIECE * FRAME_RATE / _THIN)
    size = fft.next_fast_len(longest + min(piece, longest), real=True)
    spectra = {name: fft.rfft(thin[name].T, size, axis=1) for name in names}
    found = {}
    for name in names:
        # The shorter is cut up, ties by name.
        longer = [n for n in names if (len(thin[n]), n) > (len(thin[name]), name)]
        count = max(1, round(len(thin[name]) / piece))
        for other in longer:
            found[min(name, other), max(name, other)] = 0.0
        for first, last in pairwise(np.linspace(0, len(thin[name]), count + 1).astype(int)):
            if not np.any(thin[name][first:last]):
                continue
            ours = np.conj(fft.rfft(thin[name][first:last].T, size, axis=1))
            for other in longer:
                pair = min(name, other), max(name, other)
                score = _score(spectra[other] * ours, size, len(thin[other]), last - first)
                found[pair] = max(found[pair], score)
    return found


def _thinned(heard: Heard) -> F32:
    """`(frames, bands)` float32: normalised features, four frames and two bands in one."""
    features = normalise(heard)
    count = len(features) // _THIN
    wide = features[: count * _THIN].reshape(count, _THIN, _FEW_BANDS, BANDS // _FEW_BANDS)
    return np.asarray(wide.mean(axis=(1, 3), dtype=np.float32))


def _score(products: NDArray[np.complexfloating], size: int, frames: int, length: int) -> float:
    """Height of the half whitened correlation over what most lags have."""
    magnitude = np.abs(products)
    cross = (products / np.sqrt(magnitude + 1e-3 * magnitude.mean(axis=1, keepdims=True) + 1e-20)).sum(axis=0)
    correlation = fft.irfft(cross, size)
    lags = np.arange(-(length - 1), frames)
    overlap = np.minimum(lags + length, frames) - np.maximum(lags, 0)
    usable = overlap >= _LEAST * FRAME_RATE / _THIN
    # What meets at a lag grows with the overlap.
    values = correlation[lags[usable]] / np.sqrt(np.maximum(overlap[usable], 0.05 * length))
    scale = 1.4826 * float(np.median(np.abs(values))) if usable.any() else 0.0
    return float(values.max()) / scale if scale > 0 else 0.0


def choose_pairs(
    names: Sequence[str], scores: Mapping[Pair, float], compare: Callable[[Sequence[Pair]], Iterable[bool]]
) -> None:
    """Calls `compare` with pairs, at most a few for each recording, until what can be joined is joined by loops.

    scores: see `score_pairs`. compare: compares pairs and says for each whether the two agree on one clock.
    """
    ranked = sorted(scores, key=lambda pair: (-scores[pair], pair))
    if len(names) <= ALL_PAIRS:
        list(compare(sorted(ranked)))
        return
    tried: set[Pair] = set()
    agreed: list[Pair] = []
    agreeing: dict[str, set[str]] = {name: set() for name in names}

    def run(pairs: Sequence[Pair]) -> None:
        tried.update(pairs)
        for (a, b), agree in zip(pairs, compare(pairs), strict=True):
            if agree:
                agreed.append((a, b))
                agreeing[a].add(b)
                agreeing[b].add(a)

    def count(name: str) -> int:
        return sum(name in pair for pair in tried)

    run(_spanning_tree(names, ranked))
    while pairs := _partners([p for p in ranked if p not in tried], agreeing, count):
        run(pairs)
    while pairs := _between(groups_of(names, agreed), ranked, tried):
        run(pairs)


def _spanning_tree(names: Sequence[str], ranked: Sequence[Pair]) -> list[Pair]:
    """The pairs of the highest ranks that join all recordings, in order of rank."""
    index = {name: k for k, name in enumerate(names)}
    ends = np.array([(index[a], index[b]) for a, b in ranked]).T
    tree = cheapest_tree(len(names), ends, np.arange(len(ranked), dtype=np.float64))
    return [ranked[k] for k in np.sort(tree.edge[tree.edge >= 0])]


def _partners(ranked: Sequence[Pair], agreeing: Mapping[str, set[str]], count: Callable[[str], int]) -> list[Pair]:
    """The best untried pair of every recording that lacks partners; none twice."""
    chosen: list[Pair] = []
    busy: set[str] = set()
    for pair in ranked:
        lacking = [n for n in pair if len(agreeing[n]) < _PARTNERS and count(n) < _TRIES and n not in busy]
        if lacking and not busy & set(pair):
            chosen.append(pair)
            busy |= set(pair)
    return chosen


def _between(groups: Sequence[set[str]], ranked: Sequence[Pair], tried: set[Pair]) -> list[Pair]:
    """The best untried pair of every two groups; the smaller of them is not tried without end."""
    busy = Counter(name for pair in tried for name in pair)
    chosen = []
    for one, other in combinations(sorted(groups, key=len), 2):
        across = [p for p in ranked if (p[0] in one and p[1] in other) or (p[0] in other and p[1] in one)]
        if sum(p in tried for p in across) >= _BETWEEN * len(one):
            continue
        left = [p for p in across if p not in tried and min(busy[n] for n in p if n in one) < 2 * _TRIES]
        chosen += left[:1]
    return chosen
