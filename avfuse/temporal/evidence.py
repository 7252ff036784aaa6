"""What two sounds share along a candidate line: cross spectra of frames that the line brings together.

Frames of 128 ms every 32 ms are read from both sounds so that the line maps the middle of one on the middle
of the other (to the sample; the rest is a phase), which keeps drift from smearing anything. Phase-only cross
spectra (PHAT: Knapp and Carter 1976, eq. 29) are summed in groups of half a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels.sound import cross_groups, onset_groups
from avfuse.temporal.coarse import Line
from avfuse.temporal.hearing import RATE, Heard

F64 = NDArray[np.float64]
C64 = NDArray[np.complex64]

FRAME = 2048
HOP = 512
BINS = FRAME // 2 + 1
_PER_GROUP = 16
MOST_WINDOWS = 30
_WHOLE = 3.0  # seconds of overlap for each window, up to which everything is used
_WINDOW = 6.0  # seconds
_NULL_SHIFTS = (0.37, 0.61)
_ONSET_FRAME = 1024
_ONSET_HOP = 128
_ONSET_PER_GROUP = 62  # half a second
_ONSET_MEMORY = 0.010  # seconds
_ONSET_MOST = 60.0  # seconds of sound that are looked through for onsets

Window = tuple[int, int]  # first sample of the moving sound, number of samples


@dataclass(frozen=True, eq=False)
class Evidence:
    """Sums over groups of frames along `line`.

    times: `(groups,)` seconds of the moving sound. spectra (phase-only), cross: `(groups, BINS)` complex;
    power_reference, power_moving likewise. null: `(shifts, groups, BINS)` phase-only cross spectra of frames that do
    not belong together. frames: `(groups,)` how many frames each holds.
    """

    line: Line
    times: F64
    frames: NDArray[np.int64]
    spectra: C64
    cross: C64
    power_reference: NDArray[np.float32]
    power_moving: NDArray[np.float32]
    null: C64

    @property
    def span(self) -> float:
        return float(self.times[-1] - self.times[0]) + _PER_GROUP * HOP / RATE


def meeting(reference: Heard, moving: Heard, line: Line) -> tuple[float, float]:
    """Seconds of the moving sound between which both have sound."""
    shift, slope = line.lag - line.drift * line.centre, 1 + line.drift
    return max(0.0, -shift / slope), min(moving.duration, (reference.duration - shift) / slope)


def choose_windows(reference: Heard, moving: Heard, line: Line, most: int = MOST_WINDOWS) -> list[Window]:
    """Stretches to compare: all of a short overlap, the liveliest six seconds of each part of a long one.

    most: parts of a long overlap; a short one lasts half of what all parts of it would.
    """
    low, high = meeting(reference, moving, line)
    first, last = int(np.ceil(low * RATE)), int(high * RATE)
    if last - first < FRAME + 3 * HOP:
        return []
    if high - low <= _WHOLE * most:
        return [(first, last - first)]
    count = int(_WINDOW * RATE)
    edges = np.linspace(first, last, most + 1).astype(int)
    found = []
    for start, end in pairwise(edges):
        starts = np.arange(start, max(end - count, start) + 1, RATE)
        found.append((int(starts[np.argmax([_liveliness(reference, moving, line, s, count) for s in starts])]), count))
    return found


def _liveliness(reference: Heard, moving: Heard, line: Line, start: int, count: int) -> float:
    """The less lively of the two sounds counts; taken from each alone, so that it favours no lag."""

    def spread(heard: Heard, first: float) -> float:
        k = max(round(first), 0)
        part = heard.liveliness[k : k + max(count // RATE, 1)]
        return float(part.mean()) if len(part) else 0.0

    at = start / RATE
    return min(spread(moving, at), spread(reference, at + line.lag + line.drift * (at - line.centre)))


def _read_frames(heard: Heard, first: NDArray[np.int64], size: int) -> C64:
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    low = int(first[0])
    samples = heard.read(low, int(first[-1]) + size - low)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[first - low]
    return np.asarray(fft.rfft(frames * window), np.complex64)


def paired_frames(
    reference: Heard, moving: Heard, line: Line, window: Window, size: int, hop: int
) -> tuple[C64, C64, F64, F64]:
    """Spectra of both sounds, samples by which the moving frame was read too early, and its middle (s)."""
    start, count = window
    first = start + hop * np.arange((count - size) // hop + 1)
    times = (first + size / 2) / RATE
    ideal = (times + line.lag + line.drift * (times - line.centre)) * RATE - size / 2
    nearest = np.round(ideal).astype(np.int64)
    return _read_frames(reference, nearest, size), _read_frames(moving, first, size), nearest - ideal, times


def gather(reference: Heard, moving: Heard, line: Line, windows: list[Window], *, with_null: bool = True) -> Evidence:
    """Cross spectra along `line` in `windows`; windows too short for four frames are left out.

    with_null: also pair frames that do not belong together; without, `null` holds no shifts.
    """
    parts: list[tuple[Any, ...]] = []
    for window in windows:
        if window[1] < FRAME + 3 * HOP:
            continue
        x, y, late, middles = paired_frames(reference, moving, line, window, FRAME, HOP)
        group = np.arange(len(middles)) // _PER_GROUP
        groups = int(group[-1]) + 1
        sums = cross_groups(x, y, late, group, groups)
        shifts = []
        for share in _NULL_SHIFTS if with_null else ():
            shifted = np.roll(y, max(1, int(share * len(y))), axis=0)
            shifts.append(cross_groups(x, shifted, late, group, groups)[0])
        counts = np.bincount(group)
        parts.append((np.bincount(group, middles) / counts, counts, *sums, np.array(shifts).reshape(-1, groups, BINS)))
    at, frames, phat, cross, power_x, power_y, null = zip(*parts, strict=True)
    return Evidence(
        line,
        np.concatenate(at),
        np.concatenate(frames),
        np.concatenate(phat),
        np.concatenate(cross),
        np.concatenate(power_x),
        np.concatenate(power_y),
        np.concatenate(null, axis=1),
    )


@dataclass(frozen=True, eq=False)
class Onsets:
    """What rises at both sounds along `line`: phase-only cross spectra of 64 ms frames every 8 ms.

    broad: `(bins,)` sum over everything, weighted by the rise of the whole band.
    times: `(groups,)` seconds of the moving sound. fine: `(groups, bins)` weighted by the rise around each bin; mass
    and square: sums of those weights and of their squares. null: `(shifts, groups, bins)`, `spectra` of frames that
    do not belong together.
    """

    line: Line
    times: F64
    broad: NDArray[np.complex128]
    fine: C64
    mass: NDArray[np.float32]
    square: NDArray[np.float32]
    null: C64

    @cached_property
    def spectra(self) -> C64:
        """What is stacked: every half second weighs alike, or two blows that happen to coincide would decide."""
        return _evened(self.fine, self.square)

    @property
    def span(self) -> float:
        return float(self.times[-1] - self.times[0]) + _ONSET_PER_GROUP * _ONSET_HOP / RATE


def _evened(fine: C64, square: NDArray[np.float32]) -> C64:
    return np.asarray(fine / np.sqrt(square.sum(axis=1, keepdims=True) + 1e-12), np.complex64)


def gather_onsets(
    reference: Heard, moving: Heard, line: Line, windows: list[Window], *, with_null: bool = False
) -> Onsets:
    """What rises at both along `line`, from a minute of `windows` at most.

    What rises first is the direct sound; reflections follow it (the precedence effect).
    with_null: as for `gather`.
    """
    keep = float(np.exp(-_ONSET_HOP / RATE / _ONSET_MEMORY))
    most = int(_ONSET_MOST * RATE)
    step = max(1, round(sum(count for _, count in windows) / most))
    parts: list[tuple[Any, ...]] = []
    broad = np.zeros(_ONSET_FRAME // 2 + 1, np.complex128)
    for start, count in windows[::step]:
        for first in range(start, start + min(count, most), 10 * RATE):  # bounded scratch memory
            piece = (first, min(10 * RATE + _ONSET_FRAME, start + count - first))
            if piece[1] < _ONSET_FRAME + 3 * _ONSET_HOP:
                continue
            x, y, late, middles = paired_frames(reference, moving, line, piece, _ONSET_FRAME, _ONSET_HOP)
            group = np.arange(len(middles)) // _ONSET_PER_GROUP
            groups = int(group[-1]) + 1
            _, wide, *cells = onset_groups(x, y, late, keep, group, groups)
            broad += wide
            shifts = []
            for share in _NULL_SHIFTS if with_null else ():
                shifted = np.roll(y, max(1, int(share * len(y))), axis=0)
                _, _, other, _, squares = onset_groups(x, shifted, late, keep, group, groups)
                shifts.append(_evened(other, squares))
            null = np.array(shifts, np.complex64).reshape(-1, groups, len(broad))
            parts.append((np.bincount(group, middles) / np.bincount(group), *cells, null))
    times, fine, mass, square, nulls = zip(*parts, strict=True)
    return Onsets(
        line,
        np.concatenate(times),
        broad,
        np.concatenate(fine),
        np.concatenate(mass),
        np.concatenate(square),
        np.concatenate(nulls, axis=1),
    )
