"""Decoded frames as arrays: sound of every sample format and layout, upright pictures.

Done with NumPy and not with libswresample: a copy per frame and one conversion per second of sound cost a tenth of
the decoding, FFmpeg's resampler through Python frames as much as the decoding itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from avfuse.cores import cores

# Format name without its "p" for planar: element type, middle and full scale.
_FORMATS: dict[str, tuple[type[np.generic], float, float]] = {
    "u8": (np.uint8, 2.0**7, 2.0**7),
    "s16": (np.int16, 0.0, 2.0**15),
    "s32": (np.int32, 0.0, 2.0**31),
    "s64": (np.int64, 0.0, 2.0**63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}

# Degrees by which a stored frame is turned -> FFmpeg's filters that turn it upright.
UPRIGHT: dict[int, tuple[str, ...]] = {
    90: ("transpose=cclock",), -90: ("transpose=clock",), 180: ("hflip", "vflip"), -180: ("hflip", "vflip"),
}  # fmt: skip
_SMALL = 512 * 512  # pixels
# Older releases of PyAV scale with one thread.
_HAS_THREADS = "threads" in (VideoReformatter.reformat.__doc__ or "")

Layout = tuple[int, str, int]  # rate in Hz, sample format, channels


def layout_of(frame: Any) -> Layout:
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


class SoundPacker:
    """Collects sound frames of one layout until there are enough to convert at once.

    tick: seconds of one unit of the frames' stamps.
    stamps, sizes: per frame, seconds in the container (NaN where it states none) and samples.
    """

    def __init__(self, layout: Layout, tick: float) -> None:
        self.layout = layout
        self._tick = tick
        self._planar = layout[1].endswith("p")
        self._dtype, self._middle, self._scale = _FORMATS[layout[1].removesuffix("p")]
        self._frames: list[list[NDArray[Any]]] = []  # views of FFmpeg's own memory: per frame, per plane
        self.samples = 0
        self.stamps: list[float] = []
        self.sizes: list[int] = []

    def add(self, frame: Any, skip: int = 0) -> None:
        """Take a frame without its first `skip` samples. Runs 50 times per second of sound: every line counts."""
        size = frame.samples
        dtype = self._dtype
        # Planes may be longer than what they hold.
        width = size if self._planar else size * self.layout[2]
        views = [np.frombuffer(plane, dtype, width) for plane in frame.planes]
        if skip:
            start = skip if self._planar else skip * self.layout[2]
            views = [view[start:] for view in views]
        self._frames.append(views)
        self.sizes.append(size - skip)
        self.samples += size - skip
        pts = frame.pts
        self.stamps.append(float("nan") if pts is None else pts * self._tick + skip / self.layout[0])

    def values(self, channels: int) -> NDArray[np.float32]:
        """Everything collected as float32 `(channels, n)` within +-1, at the number of channels asked for."""
        stored = self.layout[2]
        if self._planar:
            found = np.empty((stored, self.samples), np.float32)
            for c in range(stored):
                np.concatenate([views[c] for views in self._frames], out=found[c], casting="unsafe")
        else:
            packed = np.concatenate([views[0] for views in self._frames]).reshape(-1, stored)
            found = np.ascontiguousarray(packed.T, np.float32)
        if self._middle:
            found -= np.float32(self._middle)
        if self._scale != 1.0:
            found *= np.float32(1.0 / self._scale)
        if stored == channels:
            return found
        # A change in mid-file: what is asked for stays the same, every channel then carries the mix.
        return np.repeat(found.mean(axis=0, keepdims=True), channels, axis=0)

    def drop(self, frames: int) -> None:
        """Forget the first `frames` frames."""
        self.samples -= sum(self.sizes[:frames])
        del self.sizes[:frames], self.stamps[:frames], self._frames[:frames]


class PicturePacker:
    """Makes arrays of the frames of one track, `(height, width, 3)` uint8 RGB, turned upright.

    width, height: of the upright picture; frames of another size are scaled to it.
    rotation: degrees counter-clockwise, a multiple of 90.
    """

    def __init__(self, width: int, height: int, rotation: int = 0) -> None:
        self._turns = rotation // 90 % 4
        self._stored = (height, width) if self._turns % 2 else (width, height)
        # One for all frames: by itself, each would set up a scaler with threads of its own, which takes longer than
        # the scaling. Nor are small pictures worth threads.
        self._scaler = VideoReformatter()
        self._threads = {"threads": 1 if width * height < _SMALL else cores()} if _HAS_THREADS else {}

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        width, height = self._stored
        made: Any = self._scaler.reformat(frame, width, height, "rgb24", **self._threads)
        values: NDArray[np.uint8] = made.to_ndarray()
        return np.ascontiguousarray(np.rot90(values, self._turns)) if self._turns else values
