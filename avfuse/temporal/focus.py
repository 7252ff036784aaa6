"""From a rough line to a sharp one: slant stacks of cross spectra over drift, and the lobes that remain.

Stacking along a drift that is 10 ppm off smears 30 s by 0.15 ms, more than a wave of the upper band: a pair
that looks hopeless at one drift is clear at the right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels.sound import slant_stack
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import Evidence, Onsets
from avfuse.temporal.hearing import RATE

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DRIFT_RANGE = 160e-6
REACH = 0.032  # seconds searched on both sides of a candidate
_UP = 2
_LOW, _HIGH = 100.0, 7600.0  # Hz used for finding
_FIRST_SPAN = 30.0
_STRETCHES = (3, 6, 12, 24)  # half seconds
_EDGE = 6000.0  # Hz at which one step of drift turns the phase at the ends by an eighth of a circle

LAGS = np.arange(-int(REACH * RATE) * _UP, int(REACH * RATE) * _UP + 1) / (RATE * _UP)


def in_band(bins: int) -> NDArray[np.bool_]:
    f = np.linspace(0, RATE / 2, bins)
    return (f >= _LOW) & (f <= _HIGH)


def correlation(spectra: NDArray[np.complexfloating], reach: float = REACH) -> F32:
    """Correlation functions at lags -reach .. reach, two values a sample, of `(..., bins)` cross spectra."""
    size = 2 * (spectra.shape[-1] - 1)
    c = fft.irfft(spectra * in_band(spectra.shape[-1]), size * _UP) * _UP
    m = int(reach * RATE) * _UP
    return np.concatenate([c[..., -m:], c[..., : m + 1]], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Focused:
    """line: sharpened. support: height of the stack, which grows with everything that agrees. peak: the same as a
    multiple of what frames that do not belong together reach over the same search. local: as `peak`, of the best
    stretch of one and a half to twelve seconds: a jingle in an hour.
    """

    line: Line
    peak: float
    support: float
    local: float


def _stack(spectra: NDArray[np.complex64], lateness: F64, first: float, gap: float, count: int) -> F32:
    return correlation(slant_stack(spectra, lateness * RATE, first, gap, count))


def focus(evidence: Evidence | Onsets, drift_range: float = DRIFT_RANGE) -> Focused:
    """Search drift within +-drift_range around the line, and lag within +-REACH."""
    times = evidence.times
    order = np.argsort(times)
    low, high = _liveliest_span(evidence, min(_FIRST_SPAN, evidence.span))
    slope, around = 0.0, drift_range
    null_peak, peak, lag, centre = 1.0, 0.0, 0.0, 0.0
    while True:
        chosen = order[(times[order] >= low) & (times[order] <= high)]
        centre = float(times[chosen].mean())
        lateness = times[chosen] - centre
        half = max(float(np.abs(lateness).max()), 0.3)
        gap = 1 / (8 * _EDGE * half)
        steps = max(2, int(np.ceil(around / gap)))
        stacks = _stack(evidence.spectra[chosen], lateness, slope - steps * gap, gap, 2 * steps + 1)
        s, k = np.unravel_index(int(np.argmax(np.abs(stacks))), stacks.shape)
        peak, lag = float(abs(stacks[s, k])), float(LAGS[k])
        null_peak = float(
            np.mean(
                [
                    np.abs(_stack(null[chosen], lateness, slope - steps * gap, gap, 2 * steps + 1)).max()
                    for null in evidence.null
                ]
            )
        )
        slope += (int(s) - steps) * gap
        if low <= times[order[0]] and high >= times[order[-1]]:
            break
        # Three times the span narrows drift to a third: a few steps around are enough.
        around = 3 * gap
        middle, reach = (low + high) / 2, 1.5 * (high - low)
        low, high = middle - reach, middle + reach
    line = evidence.line
    # The old line plus what the stack found: lag + slope * (t - centre).
    at_centre = line.lag_at(centre) + lag
    sharp = Line(at_centre, line.drift + slope, centre, line.score)
    return Focused(sharp, peak / max(null_peak, 1e-12), peak, _local_peak(evidence, order))


def _local_peak(evidence: Evidence | Onsets, order: NDArray[np.int64]) -> float:
    """Drift is left out: in seconds it moves little."""

    def highest(spectra: NDArray[np.complex64]) -> float:
        total = np.cumsum(correlation(spectra[order]), axis=0, dtype=np.float64)
        found = 0.0
        for count in _STRETCHES:
            if count < len(total):
                found = max(found, float(np.abs(total[count:] - total[:-count]).max()) / math.sqrt(count))
        return found

    null = float(np.mean([highest(null) for null in evidence.null]))
    return highest(evidence.spectra) / max(null, 1e-12)


def _liveliest_span(evidence: Evidence | Onsets, seconds: float) -> tuple[float, float]:
    """The stretch whose groups agree best with each other on any lag."""
    times = evidence.times
    if evidence.span <= 2 * seconds:
        return float(times.min()), float(times.max())
    best, found = -1.0, (float(times.min()), float(times.max()))
    for start in np.arange(times.min(), times.max() - seconds / 2, seconds / 2):
        inside = (times >= start) & (times < start + seconds)
        if np.count_nonzero(inside) < 4:
            continue
        lateness = times[inside] - times[inside].mean()
        c = _stack(evidence.spectra[inside], lateness, -DRIFT_RANGE, 10e-6, 33)
        score = float(np.abs(c).max() / np.sqrt(np.count_nonzero(inside)))
        if score > best:
            best, found = score, (float(start), float(start + seconds))
    return found


@dataclass(frozen=True)
class Lobe:
    """One maximum of the correlation: lag (s) against the line, sign of the match, and what speaks for it.

    plain, broad, fine: height against the highest of the plain, onset-weighted, and band-wise onset-weighted
    correlation, with the sign taken out.
    """

    lag: float
    sign: int
    plain: float
    broad: float
    fine: float


def find_lobes(plain: F32, broad: F32, fine: F32, most: int = 16) -> list[Lobe]:
    """Local maxima of any of three correlation functions on LAGS, strongest first."""
    stacks = [c / max(float(np.abs(c).max()), 1e-12) for c in (plain, broad, fine)]
    places: list[int] = []
    for c in stacks:
        size = np.abs(c)
        top = np.flatnonzero((size[1:-1] >= size[:-2]) & (size[1:-1] > size[2:]) & (size[1:-1] > 0.3)) + 1
        places.extend(int(k) for k in top)
    total = sum(np.abs(c) for c in stacks)
    places.sort(key=lambda k: -float(total[k]))
    near = round(0.00015 * RATE * _UP)
    found: list[Lobe] = []
    taken: list[int] = []
    for k in places:
        if any(abs(k - other) <= near for other in taken):
            continue
        taken.append(k)
        low, high = max(k - near // 2, 0), min(k + near // 2 + 1, len(LAGS))
        sign = 1 if sum(float(c[low + int(np.argmax(np.abs(c[low:high])))]) for c in stacks) >= 0 else -1
        heights = [float((sign * c[low:high]).max()) for c in stacks]
        found.append(Lobe(float(LAGS[k]), sign, *heights))
        if len(found) == most:
            break
    return found
