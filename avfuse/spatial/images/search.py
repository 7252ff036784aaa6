"""Where to begin: turns, scales and shifts of small copies of two images that are worth a closer look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.registration import seen_through
from avfuse.spatial.images.appearance import F64, Level, field_of, shrunk
from avfuse.spatial.images.phase import Spectrum, peaks, turns_and_scales
from avfuse.spatial.images.refinement import corners, mapped

_SIDE = 96  # pixels of the reference's longer side
_LOG_POLAR = 224
_USUAL = [(np.radians(a), s) for s in (1.0, 0.92, 1.09) for a in (0.0, -5.0, 5.0)]
_ROOMS = (110, 160, 250)  # pixels of the longer side of moving copies, for each a size of spectra
_PEAKS = 2  # of one surface


@dataclass(frozen=True, eq=False)
class Start:
    """matrix: `(3, 3)`, whole moving pixels -> whole reference pixels. height: of its peak, in scatters of its
    surface: about 5 of images that have nothing in common, 10 to 35 of those that have."""

    matrix: F64
    height: float


class Search:
    """Small copies of two images; `starts` lays one over the other in many ways."""

    def __init__(self, reference: list[Level], moving: list[Level]) -> None:
        self.reference, self.moving = reference, moving
        self._small = smaller(reference, _SIDE)
        self._spectra: dict[int, Spectrum] = {}

    def _spectrum(self, side: int) -> Spectrum:
        """For moving copies of at most `side` pixels."""
        room = next(r for r in _ROOMS if r >= side)
        if room not in self._spectra:
            self._spectra[room] = Spectrum(complex_field(self._small), (room, room))
        return self._spectra[room]

    def log_polar(self) -> list[tuple[float, float]]:
        one, two = smaller(self.reference, _LOG_POLAR), smaller(self.moving, _LOG_POLAR)
        # Pixels of one size for both, and of the whole images in the end.
        between = one.matrix[0, 0] / two.matrix[0, 0]
        return [(a, s / between) for a, s in turns_and_scales(one.grey, two.grey)]

    def starts(self, hypotheses: Iterable[tuple[float, float]]) -> list[Start]:
        """For each angle (radians) and scale, whole moving -> whole reference pixels, the best shifts."""
        found = []
        h, w = self.moving[0].grey.shape
        factor = self._small.matrix[0, 0]
        for angle, scale in hypotheses:
            c, s = np.cos(angle) * scale * factor, np.sin(angle) * scale * factor
            turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
            place = mapped(turn, corners((h, w)))
            low, high = place.min(axis=0), place.max(axis=0)
            size = np.ceil(high - low).astype(int) + 1
            if size.min() < 12 or size.max() > _ROOMS[-1]:
                continue
            turn[:2, 2] = -low
            source = _level_of_step(self.moving, scale * factor)
            back = source.matrix @ np.linalg.inv(turn)
            grey = seen_through(source.grey, back, int(size[1]), int(size[0]))
            level = Level(grey, turn)
            surface, zero = self._spectrum(int(size.max())).surface(complex_field(level))
            for row, column, height in peaks(surface, _PEAKS):
                placed = turn.copy()
                placed[:2, 2] += (column - zero[1], row - zero[0])
                found.append(Start(np.linalg.inv(self._small.matrix) @ placed, height))
        return found


def smaller(levels: list[Level], longest: int) -> Level:
    """The image with its longer side of so many pixels, or as it is where it has fewer."""
    source = next((level for level in reversed(levels) if level.longest >= longest), levels[0])
    if source.longest <= longest:
        return source
    h, w = source.grey.shape
    factor = longest / max(h, w)
    return shrunk(source, (max(8, round(h * factor)), max(8, round(w * factor))))


def _level_of_step(levels: list[Level], step: float) -> Level:
    """The smallest level of which a pixel of the copy takes no less than one; step: copy's pixels for a whole one."""
    for level in reversed(levels):
        if level.matrix[0, 0] >= 0.8 * step:
            return level
    return levels[0]


def complex_field(level: Level) -> NDArray[np.complex64]:
    """The direction of edges as one complex number a pixel, of mean 0."""
    field, usable = field_of(level.grey, "orientation")
    if usable.any():
        field = np.where(usable, field - field.sum(axis=(1, 2), keepdims=True) / usable.sum(), 0)
    return np.asarray(field[0] + 1j * field[1], np.complex64)


def usual(reference: list[Level], moving: list[Level]) -> list[tuple[float, float]]:
    """Turns and scales that images of one scene mostly have: hardly any, or as if both showed as much."""
    (h, w), (m, n) = reference[0].grey.shape, moving[0].grey.shape
    scales = [1.0]
    as_much = float(np.sqrt(w / n * h / m))
    if abs(np.log(as_much)) > np.log(1.15):
        scales.append(as_much)
    return [(a, s * t) for t in scales for a, s in _USUAL]


def everything() -> list[tuple[float, float]]:
    """All turns, and scales up to more than two."""
    return [(np.radians(a), float(s)) for s in np.exp(np.arange(-5, 6) * 0.16) for a in range(-180, 180, 10)]
