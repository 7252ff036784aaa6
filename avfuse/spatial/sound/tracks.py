"""Sources over time: located in windows, and those of neighbouring windows joined where they agree."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from avfuse.errors import StreamError
from avfuse.spatial.sound.sources import (
    Listening,
    SoundSource,
    SoundSources,
    find_waves,
    judged,
    listen,
    nothing_to_hear,
)
from avfuse.spatial.sound.steering import F64, checked_geometry, checked_samples

_GATE = 4.0  # standard deviations within which a source is the one of a track
_TURN = np.radians(20.0)  # by which it may have moved on a second later, one standard deviation
_PATIENCE = 1.5  # seconds that a track waits for its source to be heard again
_FEWEST = 3  # windows of a track


@dataclass(frozen=True, eq=False)
class SoundTrack:
    """One source over time. times: `(n,)` middles of the windows in which it was heard, seconds from the first sample;
    sources: as it was found in each."""

    times: F64
    sources: tuple[SoundSource, ...]

    @property
    def directions(self) -> F64:
        """`(n, 3)` unit vectors."""
        return np.array([one.direction for one in self.sources])

    @property
    def azimuth(self) -> F64:
        return np.array([one.azimuth for one in self.sources])

    @property
    def elevation(self) -> F64:
        return np.array([one.elevation for one in self.sources])

    @property
    def cov(self) -> F64:
        """`(n, 2, 2)` of azimuth and elevation, rad^2."""
        return np.array([one.cov for one in self.sources])


def track_sounds(
    samples: ArrayLike,
    *,
    rate: float,
    microphones: ArrayLike,
    window: float = 0.5,
    hop: float = 0.25,
    most: int = 2,
    speed: float = 343.0,
    facing: ArrayLike = (0.0, 0.0, 1.0),
) -> list[SoundTrack]:
    """Sources that move or take turns, the one heard longest first; none where nothing can be told.

    As `locate_sound`, window by window. window, hop: seconds of a window and from one to the next. most: sources in one
    window. The order of the channels is not checked here: let `locate_sound` do that first.
    Raises StreamError for arrays that do not fit each other.
    """
    x = checked_samples(samples, rate)
    geometry = checked_geometry(microphones, len(x), speed)
    if not (0.05 <= hop <= window):
        raise StreamError(f"hop: {hop!r} s of windows of {window!r} s; expected at least 0.05 and at most the window")
    if nothing_to_hear(x, geometry) is not None or x.shape[1] < window * rate:
        return []
    found = windows_of(listen(x, geometry, rate), window, hop, most, np.asarray(facing, np.float64))
    return joined(found)


def windows_of(heard: Listening, window: float, hop: float, most: int, side: F64) -> list[tuple[float, SoundSources]]:
    """What is heard in every window, with the time of its middle."""
    step = heard.spectra.hop / heard.spectra.rate
    frames, every = max(4, round(window / step)), max(1, round(hop / step))
    loud = heard.spectra.power.sum(axis=1)
    usual = float(np.mean(loud))
    found = []
    for first in range(0, max(len(loud) - frames + 1, 1), every):
        rows = slice(first, first + frames)
        at = float(heard.spectra.times[rows].mean())
        if float(loud[rows].mean()) < 1e-3 * usual:
            continue
        part = replace(heard, spectra=heard.spectra.part(rows), weights=np.ascontiguousarray(heard.weights[rows]))
        waves, gains = find_waves(part, None, most)
        found.append((at, judged(part, waves, gains, side, None)))
    return found


def joined(found: list[tuple[float, SoundSources]]) -> list[SoundTrack]:
    """Tracks through windows: every source goes to the track that expects it best, or begins one."""
    tracks: list[list[tuple[float, SoundSource]]] = []
    for at, sources in found:
        open_ones = [k for k, track in enumerate(tracks) if at - track[-1][0] <= _PATIENCE]
        cost = np.full((len(sources), len(open_ones)), 1e6)
        for i, source in enumerate(sources):
            for j, k in enumerate(open_ones):
                then, before = tracks[k][-1]
                cost[i, j] = _apart(before, source, at - then)
        taken = set()
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < _GATE:
                tracks[open_ones[j]].append((at, sources[int(i)]))
                taken.add(int(i))
        tracks += [[(at, source)] for i, source in enumerate(sources) if i not in taken]
    kept = [track for track in tracks if len(track) >= _FEWEST]
    kept.sort(key=lambda track: -len(track))
    return [SoundTrack(np.array([t for t, _ in track]), tuple(s for _, s in track)) for track in kept]


def _apart(a: SoundSource, b: SoundSource, elapsed: float) -> float:
    """Standard deviations between two directions, and what a source may move meanwhile."""
    angle = float(np.arccos(np.clip(a.direction @ b.direction, -1.0, 1.0)))
    own = sum(float(one.cov[0, 0] * np.cos(one.elevation) ** 2 + one.cov[1, 1]) / 2 for one in (a, b))
    return angle / float(np.sqrt(own + (_TURN * elapsed) ** 2))
