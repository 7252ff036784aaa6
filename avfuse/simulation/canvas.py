"""Things drawn finer than pixels, for simulated films. OpenCV is imported only when something is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.stream import Block, parts_of_times

Float = NDArray[np.float64]
Canvas = NDArray[np.uint8]
Draw = Callable[[Canvas, float], None]  # onto the canvas, as it is at this time
Placed = tuple[Draw, float]  # and how far down the picture it is, 0 to 1
_SHIFT = 4  # OpenCV draws on sixteenths of a pixel


def ellipse(
    canvas: Canvas, centre: tuple[float, float], axes: tuple[float, float], grey: float, angle: float = 0
) -> None:
    import cv2

    radii = _fixed(max(axes[0], 0.1), max(axes[1], 0.1))
    cv2.ellipse(canvas, _fixed(*centre), radii, angle, 0, 360, round(grey), -1, cv2.LINE_AA, _SHIFT)


def rod(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], width: int, grey: float) -> None:
    import cv2

    cv2.line(canvas, _fixed(*start), _fixed(*end), round(grey), width, cv2.LINE_AA, _SHIFT)


def wander(duration: float, rng: np.random.Generator, size: float, count: int, pace: float = 2.0) -> Float:
    """(100 a second, count): smooth, of standard deviation `size`, turning about `pace` times a second."""
    from scipy.ndimage import gaussian_filter1d

    made = gaussian_filter1d(rng.normal(size=(int(duration * 100) + 200, count)), 16.0 / pace, axis=0)
    return np.asarray(size * made / max(float(made.std()), 1e-9))


def at(track: Float, time: float) -> Float:
    """The row of a track of 100 a second at `time`, between its rows."""
    place = min(max(time * 100.0, 0.0), len(track) - 1.001) if len(track) > 1 else 0.0
    low = int(place)
    part = place - low
    return np.asarray(track[low] * (1 - part) + track[min(low + 1, len(track) - 1)] * part)


def coloured_blocks(times: Float, frame: Callable[[int], Canvas], duration: float) -> Iterator[Block]:
    """(times, frames) by parts of `duration` seconds, with frames (n, height, width, 3) uint8 RGB of grey ones."""
    for part in parts_of_times(times, duration):
        drawn = [np.repeat(frame(k)[:, :, None], 3, axis=2) for k in range(part.start, part.stop)]
        yield times[part], np.stack(drawn)


def _fixed(*values: float) -> Any:
    return tuple(round(v * 2**_SHIFT) for v in values)
