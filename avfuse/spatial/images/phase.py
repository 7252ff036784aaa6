"""Shift, turn and scale between images by their spectra.

    shift_surface      correlation over all shifts of a complex field with another, without wrapping round
    estimate_shift     sub-pixel phase correlation: a matrix DFT about the peak, wrapped shifts decided by what overlaps
    turns_and_scales   candidates by the log-polar spectrum, which no shift changes (Reddy and Chatterji 1996)

Sources: Kuglin and Hines 1975; Guizar-Sicairos, Thurman, Fienup 2008 (upsampled matrix DFT); Foroosh, Zerubia,
Berthod 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.spatial.images.appearance import F32, F64

C64 = NDArray[np.complex64]
_LEAST_OVERLAP = 0.2  # of the smaller image
_PHASE = 1e-4  # of the strongest frequency: weaker ones have no phase


@dataclass(frozen=True)
class Shift:
    """x, y: what is added to a pixel of the moving image. score: correlation of what overlaps, -1 to 1."""

    x: float
    y: float
    score: float


class Spectrum:
    """Spectrum of a reference's complex field `(h, w)`, whitened by a power, to compare many fields with."""

    def __init__(self, field: NDArray[np.complexfloating], room: tuple[int, int], whiten: float = 0.5) -> None:
        h, w = field.shape
        self.shape = (h, w)
        self.size = (fft.next_fast_len(h + room[0] - 1), fft.next_fast_len(w + room[1] - 1))
        self.whiten = whiten
        self._values = self._of(field)

    def _of(self, field: NDArray[np.complexfloating]) -> C64:
        made = fft.fft2(field.astype(np.complex64), self.size)
        if self.whiten:
            size = np.abs(made)
            made *= (size + np.float32(1e-3) * size.mean() + np.float32(1e-20)) ** np.float32(-self.whiten)
        return np.asarray(made, np.complex64)

    def surface(self, field: NDArray[np.complexfloating]) -> tuple[F32, tuple[int, int]]:
        """Correlation over shifts, in units of its own scatter; and the index of shift (0, 0), rows first.

        It is divided by the root of the overlap, so that large and small ones compete fairly.
        """
        h, w = self.shape
        m, n = field.shape
        values = fft.ifft2(self._values * np.conj(self._of(field))).real
        # Shifts from -(m - 1) to h - 1: those below 0 lie at the end.
        surface = np.roll(values, (m - 1, n - 1), axis=(0, 1))[: h + m - 1, : w + n - 1]
        down = np.minimum(np.minimum(np.arange(1, h + m), np.arange(h + m - 1, 0, -1)), min(h, m))
        across = np.minimum(np.minimum(np.arange(1, w + n), np.arange(w + n - 1, 0, -1)), min(w, n))
        overlap = np.outer(down, across) / (min(h, m) * min(w, n))
        surface = np.where(overlap >= _LEAST_OVERLAP, surface / np.sqrt(np.maximum(overlap, _LEAST_OVERLAP)), 0.0)
        spread = float(np.sqrt(np.mean(np.square(surface[overlap >= _LEAST_OVERLAP]))))
        return (surface / max(spread, 1e-30)).astype(np.float32), (m - 1, n - 1)


def peaks(surface: F32, most: int, apart: int = 3) -> list[tuple[int, int, float]]:
    """Row, column and height of the highest points that are `apart` from each other."""
    import cv2

    kernel = np.ones((2 * apart + 1, 2 * apart + 1), np.uint8)
    top = (surface >= cv2.dilate(surface, kernel)) & (surface > 0)
    rows, columns = np.nonzero(top)
    order = np.argsort(-surface[rows, columns], kind="stable")[:most]
    return [(int(rows[k]), int(columns[k]), float(surface[rows[k], columns[k]])) for k in order]


def log_polar(grey: F32, size: int) -> tuple[F32, float]:
    """Logarithm of the spectrum's size over angle (rows, 180 degrees) and logarithm of frequency (columns); and the
    logarithm's step. The image lies in the middle of a square of `size` pixels, its mean around it."""
    h, w = grey.shape
    square = np.zeros((size, size), np.float32)
    filled = np.where(np.isfinite(grey), grey, np.nanmean(grey)).astype(np.float32)
    fade = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1]).astype(np.float32)
    filled = (filled - np.float32((filled * fade).sum() / fade.sum())) * fade
    square[(size - h) // 2 : (size - h) // 2 + h, (size - w) // 2 : (size - w) // 2 + w] = filled
    spectrum = np.log1p(np.abs(fft.fftshift(fft.fft2(square)))).astype(np.float32)
    rows, columns = size, size
    low, high = 0.02 * size, 0.42 * size
    step = np.log(high / low) / columns
    angle = np.pi * np.arange(rows) / rows
    radius = low * np.exp(step * np.arange(columns))
    x = size // 2 + np.outer(np.cos(angle), radius)
    y = size // 2 + np.outer(np.sin(angle), radius)
    from scipy.ndimage import gaussian_filter, map_coordinates

    made = map_coordinates(spectrum, [y, x], order=1, output=np.float32)
    # What every picture has, much of low and little of high frequencies, tells nothing.
    made -= gaussian_filter(made.mean(axis=0, keepdims=True), (0, 1), mode="nearest")
    made -= gaussian_filter(made, 12.0, mode=("wrap", "nearest"))
    return np.asarray(made, np.float32), float(step)


def turns_and_scales(reference: F32, moving: F32, most: int = 4) -> list[tuple[float, float]]:
    """Candidates (angle in radians, scale) of moving -> reference for greys of one pixel size, best first.

    A spectrum cannot tell an angle from one that is half a turn further: both are listed.
    """
    size = fft.next_fast_len(max(*reference.shape, *moving.shape))
    size += size % 2
    (a, step), (b, _) = log_polar(reference, size), log_polar(moving, size)
    # Angles go round, frequencies do not.
    wide = fft.next_fast_len(2 * size)
    fade = np.hanning(size + 2)[1:-1].astype(np.float32)
    one, two = (fft.fft2(v * fade, (size, wide)) for v in (a, b))
    cross = one * np.conj(two)
    # Whole whitening is for noiseless pictures only.
    cross /= np.sqrt(np.abs(cross)) + 1e-12 * np.abs(cross).max()
    surface = fft.ifft2(cross).real.astype(np.float32)
    reach = int(np.log(3.0) / step)
    surface[:, reach : wide - reach] = surface.min()
    padded = np.concatenate([surface[-3:], surface, surface[:3]])  # a peak at angle 0 has neighbours on both sides
    found: list[tuple[float, float]] = []
    for row, column, _ in peaks(padded - padded.min() + np.float32(1e-6), 3 * most):
        if not 3 <= row < 3 + size:
            continue
        angle = np.pi * (row - 3) / size
        away = column if column < wide // 2 else column - wide
        # An image seen larger has its frequencies lower: by 1 / scale.
        scale = float(np.exp(-step * away))
        for turned in (angle, angle + np.pi):
            found.append((float((turned + np.pi) % (2 * np.pi) - np.pi), scale))
        if len(found) >= 2 * most:
            break
    return found


def estimate_shift(reference: F32, moving: F32, *, upsampling: int = 100) -> Shift:
    """Shift between greys `(h, w)` of any two sizes by phase correlation: x_ref = x_mov + shift, to 1 / `upsampling`.

    Both lie in the corner of one field under a window; a peak stands for four shifts, which wrap round, and that is
    taken whose overlap correlates best.
    """
    h, w = (max(a, b) for a, b in zip(reference.shape, moving.shape, strict=True))
    one, two = (_windowed(g, (h, w)) for g in (reference, moving))
    a, b = fft.fft2(one), fft.fft2(two)
    cross = a * np.conj(b)
    size = np.abs(cross)
    cross /= np.maximum(size, _PHASE * float(size.max()) + 1e-30)
    surface = fft.ifft2(cross).real
    best: Shift | None = None
    for row, column, _ in peaks(np.asarray(surface - surface.min() + 1e-9, np.float32), 3):
        y, x = _fine(cross, row, column, upsampling)
        for dy in (y, y - h, y + h):
            for dx in (x, x - w, x + w):
                score = overlap_correlation(reference, moving, round(dx), round(dy))
                if score is not None and (best is None or score > best.score):
                    best = Shift(dx, dy, score)
    return best or Shift(0.0, 0.0, 0.0)


def _windowed(grey: F32, shape: tuple[int, int]) -> F64:
    h, w = grey.shape
    present = np.isfinite(grey)
    fade = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1]) * present
    filled = np.where(present, grey, 0.0)
    mean = float((filled * fade).sum() / max(float(fade.sum()), 1e-30))
    made = np.zeros(shape)
    made[:h, :w] = (filled - mean) * fade
    return made


def _fine(cross: NDArray[np.complexfloating], row: int, column: int, upsampling: int) -> tuple[float, float]:
    """The peak about an index, to 1 / upsampling, by the inverse DFT at places between (two matrix products each)."""
    h, w = cross.shape
    fy, fx = fft.fftfreq(h), fft.fftfreq(w)
    y, x, reach, step = float(row), float(column), 1.0, 0.1
    while True:
        ys, xs = (c + np.arange(-reach, reach + step / 2, step) for c in (y, x))
        values = (np.exp(2j * np.pi * np.outer(ys, fy)) @ cross @ np.exp(2j * np.pi * np.outer(fx, xs))).real
        top = np.unravel_index(int(np.argmax(values)), values.shape)
        y, x = float(ys[top[0]]), float(xs[top[1]])
        if step * upsampling <= 1.0:
            return y, x
        reach, step = step, max(step / 10, 1.0 / upsampling)


def overlap_correlation(reference: F32, moving: F32, x: int, y: int) -> float | None:
    """Correlation of greys where they overlap once `moving` is shifted by whole pixels; None below a fifth of it."""
    (h, w), (m, n) = reference.shape, moving.shape
    top, left, bottom, right = max(0, y), max(0, x), min(h, m + y), min(w, n + x)
    if bottom - top < 2 or right - left < 2 or (bottom - top) * (right - left) < _LEAST_OVERLAP * min(h, m) * min(w, n):
        return None
    a, b = reference[top:bottom, left:right], moving[top - y : bottom - y, left - x : right - x]
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 4:
        return None
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    size = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b) / size) if size > 0 else None
