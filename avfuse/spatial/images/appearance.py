"""What of an image can be compared with another one: greys without their light, or the direction of edges.

    intensity     greys less their local mean, by their local spread: for cameras that see alike
    strength      the same of the gradient's length: what an image of edges shows
    orientation   exp(2 i angle) of the gradient, by its local strength: edges that are light on either side look the
                  same, so that cameras of other bands, depth and drawings can be compared (after Fitch, Kadyrov,
                  Christmas, Kittler 2002, with the angle doubled)

Images have NaN where they show nothing; what is near it, or near the edge, has no value either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Appearance = Literal["intensity", "orientation", "strength"]

_LOCAL = 15  # pixels of a box which, twice, is the window over which light is taken out: 6 of standard deviation
_SMOOTH: dict[str, float] = {"intensity": 0.8, "orientation": 1.0, "strength": 0.8}  # pixels, before anything else
_FLOOR = 0.25  # of the spread of the whole image: where less happens locally, it is not blown up
_MOST_ABSENT = 0.4  # of a window's weight


def grey_of(image: ArrayLike, called: str) -> F32:
    """`(h, w)` float32 of an image `(h, w)` or `(h, w, c)`, channels averaged (of four the last is opacity).

    NaN, infinite and transparent pixels are NaN. Raises StreamError for what is no image.
    """
    try:
        values = np.asarray(image)
    except ValueError as error:
        raise StreamError(f"{called}: rows of different lengths ({error}); expected an image (h, w, c)") from error
    if values.dtype.kind not in "fiub":
        raise StreamError(f"{called}: values of type {values.dtype}; expected numbers")
    if values.ndim not in (2, 3) or (values.ndim == 3 and not 1 <= values.shape[2] <= 16):
        raise StreamError(f"{called}: shape {values.shape}; expected an image (h, w) or (h, w, c), c at most 16")
    if 0 in values.shape:
        raise StreamError(f"{called}: shape {values.shape}; expected an image with pixels in it")
    made = values.astype(np.float32)
    if made.ndim == 3:
        absent = made[..., 3] == 0 if made.shape[2] == 4 else None
        made = made[..., :3].mean(axis=2) if made.shape[2] == 4 else made.mean(axis=2)
        if absent is not None and not absent.all():
            made[absent] = np.nan
    # Squares of greys are taken further on; neither they nor their sums may overflow.
    finite = np.isfinite(made)
    if not finite.any():
        raise StreamError(f"{called}: no pixel is a finite number; expected an image")
    made[~finite] = np.nan
    low, high = float(np.nanmin(made)), float(np.nanmax(made))
    return (made - np.float32(low)) * np.float32(255.0 / (high - low)) if high > low else np.zeros_like(made) + made * 0


@dataclass(frozen=True, eq=False)
class Level:
    """An image made smaller. grey: `(h, w)` float32. matrix: `(3, 3)`, pixels of the whole image -> its pixels."""

    grey: F32
    matrix: F64

    @property
    def longest(self) -> int:
        return int(max(self.grey.shape))


def pyramid(grey: F32, smallest: int = 24) -> list[Level]:
    """The image, and halves of it until one side would be shorter than `smallest` pixels; finest first."""
    levels = [Level(grey, np.eye(3))]
    while min(levels[-1].grey.shape) >= 2 * smallest:
        h, w = levels[-1].grey.shape
        levels.append(shrunk(levels[-1], (h // 2, w // 2)))
    return levels


def shrunk(level: Level, shape: tuple[int, int]) -> Level:
    """By areas; a pixel is absent where most of what it covers is."""
    import cv2

    h, w = level.grey.shape
    if shape == (h, w):
        return level
    size = (shape[1], shape[0])
    absent = np.isnan(level.grey)
    if absent.any():
        present = cv2.resize((~absent).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        grey = cv2.resize(np.where(absent, np.float32(0), level.grey), size, interpolation=cv2.INTER_AREA)
        grey = np.where(present > 0.5, grey / np.maximum(present, 0.5), np.float32(np.nan))
    else:
        grey = cv2.resize(level.grey, size, interpolation=cv2.INTER_AREA)
    across, down = shape[1] / w, shape[0] / h
    scaled = np.array([[across, 0, 0.5 * across - 0.5], [0, down, 0.5 * down - 0.5], [0, 0, 1]])
    return Level(np.asarray(grey, np.float32), scaled @ level.matrix)


def field_of(grey: F32, appearance: Appearance) -> tuple[F32, NDArray[np.bool_]]:
    """What is compared, `(c, h, w)`, 0 where there is nothing, and where there is something, `(h, w)`."""
    import cv2

    present = np.isfinite(grey)
    whole = bool(present.all())
    filled = grey if whole else np.where(present, grey, np.float32(0))
    weight = None if whole else present.astype(np.float32)

    def blurred(values: F32, blur: Callable[[F32], F32]) -> F32:
        if weight is None:
            return blur(values)
        return np.asarray(blur(values) / np.maximum(blur(weight), np.float32(1e-3)), np.float32)

    def little(values: F32) -> F32:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), smooth))

    def local(values: F32) -> F32:
        # Twice a box: nearly a Gaussian, at a price that does not grow with it.
        for _ in range(2):
            values = np.asarray(cv2.blur(values, (_LOCAL, _LOCAL)))
        return values

    smooth = _SMOOTH[appearance]
    usable = present if whole else _inner(present, round(3 * smooth) + 1)
    fine = blurred(filled, little)
    if weight is not None:
        fine = np.where(present, fine, np.float32(0))
    if appearance == "strength":
        dx = cv2.Sobel(fine, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
        dy = cv2.Sobel(fine, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
        fine = np.where(usable, np.sqrt(dx * dx + dy * dy), np.float32(0))
    if appearance != "orientation":
        level = fine - blurred(fine, local)
        power = level * level if whole else np.where(present, level * level, np.float32(0))
        strength = np.sqrt(np.maximum(blurred(power, local), 0))
        made = level[None]
    else:
        dx = cv2.Sobel(fine, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
        dy = cv2.Sobel(fine, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
        if not whole:
            dx, dy = np.where(usable, dx, np.float32(0)), np.where(usable, dy, np.float32(0))
        power = dx * dx + dy * dy
        size = np.sqrt(power) + np.float32(1e-20)
        # |g| exp(2 i angle)
        made = np.stack([(dx * dx - dy * dy) / size, 2 * dx * dy / size])
        strength = np.sqrt(np.maximum(blurred(power, local), 0))
    floor = _FLOOR * float(np.sqrt(np.mean(np.square(strength[usable])))) if usable.any() else 0.0
    made = made / (strength + np.float32(floor + 1e-12))
    if appearance == "orientation":
        made = np.stack([little(np.ascontiguousarray(c)) for c in made])
    return np.where(usable, made, np.float32(0)).astype(np.float32), usable


def _inner(present: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Pixels further than `radius` from absent ones; the image's own edge does not count."""
    import cv2

    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.erode(present.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0)
