"""Two silent films of one happening from different places: offset and drift by when things moved and lights changed.

What is near the middle for one camera is at an edge for the other, and may be hidden; but when somebody moves, or the
light goes on, both see it. Motion and brightness by regions are compared as the channels of any two streams are (see
`canonical`), which finds out by itself which regions of one go with which of the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import ClockEstimate
from avfuse.features.light import PictureFeatures
from avfuse.temporal.canonical import compare_channels
from avfuse.temporal.motion import Samples

F64 = NDArray[np.float64]

SHORTEST = 10.0  # seconds
_ROWS, _COLUMNS = 3, 4  # regions
_INEXACT = 0.25  # frames of the slower film
_GRAIN = 5.0  # per cent of the frames in which nothing moves but grain
_QUIET = 0.1  # of the mean motion that counts as none


def compare_pictures(
    reference: PictureFeatures, moving: PictureFeatures, *, max_offset: float | None = None
) -> ClockEstimate:
    """The clock of one film on that of another that shows the same happening.

    max_offset: seconds, searched both ways; None searches every overlap.
    """
    for role, film in (("reference", reference), ("moving", moving)):
        if film.end - film.start < SHORTEST:
            message = f"{role} shows {film.end - film.start:.2f} s of picture; expected {SHORTEST:g} s or more"
            return ClockEstimate("degenerate", message=message, span=(moving.start, moving.end), evidence=("picture",))
    # What crosses one view and then the other is no copy: it is a little later there.
    inexact = _INEXACT * max(reference.period, moving.period)
    found = compare_channels(happenings(reference), happenings(moving), max_offset=max_offset, inexact=inexact)
    if found.status == "no_match":
        found = replace(found, message="nothing that moves or lights up goes with what the reference shows")
    return replace(found, evidence=("picture",))


def happenings(film: PictureFeatures) -> Samples:
    """How much moves in all and by regions, and how much brighter all became, per frame, `(n, channels)`.

    Both are changes since the frame before, and stand at the middle between the two.
    """
    rows, columns = film.grid
    cells = [np.array_split(np.arange(n), min(n, parts)) for n, parts in ((rows, _ROWS), (columns, _COLUMNS))]
    regions = [(r[:, None] * columns + c).ravel() for r in cells[0] for c in cells[1]]
    moved = np.asarray(film.motion, np.float64)[film.valid]
    brightness = np.asarray(film.brightness, np.float64)
    brighter = np.diff(brightness, axis=0, prepend=brightness[:1])[film.valid]
    apart = np.diff(film.times, prepend=film.times[0] - film.period)
    # Most of the picture changes alike when a light does, and hardly ever otherwise.
    made = [np.median(brighter, axis=1), _level(moved.mean(axis=1))]
    made += [_level(moved[:, region].mean(axis=1)) for region in regions]
    values = np.stack(made, axis=1)
    if len(values):
        values = values[:, np.ptp(values, axis=0) > 1e-6]
    return Samples((film.times - apart / 2)[film.valid], values, "picture")


def _level(moved: F64) -> F64:
    """Logarithm of what is over the grain: who is far away moves as often as who is near."""
    if not len(moved):
        return moved
    over = np.maximum(moved - np.percentile(moved, _GRAIN), 0.0)
    return np.asarray(np.log(over + _QUIET * over.mean() + 1e-3))
