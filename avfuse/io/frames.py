"""Decoded frames as arrays: sound of every sample format and layout, upright pictures.

Done with NumPy and not with libswresample: a copy per frame and one conversion per second of sound cost a tenth of
the decoding, FFmpeg's resampler through Python frames as much as the decoding itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Format name without its "p" for planar: element type, middle and full scale.
_FORMATS: dict[str, tuple[type[np.generic], float, float]] = {
    "u8": (np.uint8, 2.0**7, 2.0**7),
    "s16": (np.int16, 0.0, 2.0**15),
    "s32": (np.int32, 0.0, 2.0**31),
    "s64": (np.int64, 0.0, 2.0**63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}

Layout = tuple[int, str, int]  # rate in Hz, sample format, channels


def layout_of(frame: Any) -> Layout:
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


class SoundPacker:
    """Collects sound frames of one layout until there are enough to convert at once.

    stamps, sizes: per frame, seconds in the container (NaN where it states none) and samples.
    """

    def __init__(self, layout: Layout, room: int) -> None:
        self.layout = layout
        self._planar = layout[1].endswith("p")
        self._dtype, self._middle, self._scale = _FORMATS[layout[1].removesuffix("p")]
        self._raw: NDArray[Any] = np.empty((layout[2], room), self._dtype)
        self.samples = 0
        self.stamps: list[float] = []
        self.sizes: list[int] = []

    def add(self, frame: Any, skip: int = 0) -> None:
        """Take a frame without its first `skip` samples."""
        size = frame.samples
        pts = frame.pts
        rate, _, channels = self.layout
        stamp = float("nan") if pts is None else float(pts * frame.time_base)
        if self.samples + size > self._raw.shape[1]:
            grown = np.empty((channels, 2 * (self.samples + size)), self._dtype)
            grown[:, : self.samples] = self._raw[:, : self.samples]
            self._raw = grown
        stop = self.samples + size - skip
        planes = frame.planes
        if self._planar:
            for c in range(channels):
                self._raw[c, self.samples : stop] = np.frombuffer(planes[c], self._dtype, size)[skip:]
        else:
            packed = np.frombuffer(planes[0], self._dtype, size * channels).reshape(size, channels)
            self._raw[:, self.samples : stop] = packed[skip:].T
        self.samples = stop
        self.sizes.append(size - skip)
        self.stamps.append(stamp + skip / rate)

    def values(self, first: int, end: int, channels: int) -> NDArray[np.float32]:
        """Samples first .. end as float32 `(channels, n)` within +-1, at the number of channels asked for."""
        found = self._raw[:, first:end].astype(np.float32)
        if self._middle:
            found -= np.float32(self._middle)
        if self._scale != 1.0:
            found *= np.float32(1.0 / self._scale)
        if len(found) == channels:
            return found
        # A change in mid-file: what is asked for stays the same, every channel then carries the mix.
        return np.repeat(found.mean(axis=0, keepdims=True), channels, axis=0)

    def drop(self, frames: int) -> None:
        """Forget the first `frames` frames."""
        gone = sum(self.sizes[:frames])
        left = self.samples - gone
        self._raw[:, :left] = self._raw[:, gone : self.samples].copy()
        self.samples = left
        del self.sizes[:frames], self.stamps[:frames]


def picture(frame: Any, width: int, height: int, rotation: int) -> NDArray[np.uint8]:
    """A video frame as `(height, width, 3)` uint8 RGB, turned upright.

    width, height: of the upright picture; frames of another size are scaled to it.
    rotation: degrees counter-clockwise, a multiple of 90.
    """
    turns = rotation // 90 % 4
    stored = (height, width) if turns % 2 else (width, height)
    values = frame.to_ndarray(format="rgb24", width=stored[0], height=stored[1])
    return np.ascontiguousarray(np.rot90(values, turns)) if turns else values
