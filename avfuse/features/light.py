"""Light over time: what of a picture can go with a sound.

picture_features    brightness, motion and abrupt changes of velocity per region, brightness per row

Frames are looked at small (about 160 x 90 pixels, made so by FFmpeg) and grey, each at its own time stamp. Rows are
those of the sensor: where a flash falls into the picture tells its time finer than the frame does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.picture import lost_velocity
from avfuse.errors import StreamError
from avfuse.stream import Stream

_LEAST = 16  # pixels on a side that dense optical flow needs
PIXELS = 14400
CELL = 8  # pixels; a mouth that fills a fifteenth of the picture's height still has a cell to itself
FINE = 4  # pixels; a drumstick that moves within a cell changes nothing of its mean
_STILL = 0.3  # pixels a frame by which optical flow errs where nothing moves
_TEXTURE = 24.0  # brightness steps a pixel at which an edge counts in full
_CUT, _CUT_STEP = 0.6, 12.0  # share of cells that change by so many brightness steps where another scene begins

Float = NDArray[np.float64]
Single = NDArray[np.float32]
Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureFeatures:
    """What happens in the pictures of one stream, per frame and region; all `(n, cells)`, rows of cells one by one.

    times: `(n,)` seconds in the recording's own time, as the frames are stamped.
    valid: `(n,)`, False where the frame follows a cut or a gap, so that changes across it mean nothing.
    detail: `(n, 4 cells)`, mean of each quarter of a cell, in rows of twice as many, 0 to 255.
    motion: mean absolute difference to the frame before, 0 to 255.
    impulse: how abruptly things change their velocity, in picture widths a second, summed over the cell.
    rows: `(n, height)` mean brightness of each row.
    grid: rows and columns of cells.
    """

    name: str
    times: Float
    valid: NDArray[np.bool_]
    detail: NDArray[np.float16]
    motion: NDArray[np.float16]
    impulse: NDArray[np.float16]
    rows: Single
    grid: tuple[int, int]

    @cached_property
    def brightness(self) -> NDArray[np.float16]:
        """Mean of each cell, 0 to 255."""
        rows, columns = self.grid
        quarters = self.detail.reshape(len(self.detail), rows, 2, columns, 2)
        return np.asarray(quarters.mean(axis=(2, 4), dtype=np.float32).reshape(len(quarters), -1), np.float16)

    @property
    def period(self) -> float:
        """Seconds from frame to frame, typically."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.04

    @property
    def start(self) -> float:
        return float(self.times[0]) if len(self.times) else 0.0

    @property
    def end(self) -> float:
        """Seconds at which the last frame goes."""
        return float(self.times[-1]) + self.period if len(self.times) else 0.0

    def streams(self) -> tuple[Stream, ...]:
        """The features as streams on the recording's clock; NaN where they are not valid."""
        made = []
        for name, unit in (("brightness", ""), ("motion", ""), ("impulse", "widths/s")):
            values = getattr(self, name).astype(np.float32)
            if name != "brightness":
                values[~self.valid] = np.nan
            made.append(Stream(name, "feature", values, times=self.times, unit=unit or None))
        return (*made, Stream("rows", "feature", self.rows, times=self.times))


def picture_features(stream: Stream, tell: Callable[[float], None] | None = None) -> PictureFeatures:
    """Features of a picture stream, decoded once and lazily.

    stream: kind `picture`, frames `(n, height, width, 3)` RGB or `(n, height, width)` grey, 8 bits.
    tell: called with the share that is done, about once for each second of picture.
    Raises StreamError for another kind, ReadError where the file cannot be read.

    Velocity comes from dense optical flow (DIS: Kroeger, Timofte, Dai and Van Gool 2016) from every frame to the next
    and to the one before. Both start on the same pixels, so their sum is how the velocity of what is seen there
    changes, wherever it goes: a thing that flies by evenly gives none, one that hits something gives much.
    """
    cv2: Any = import_module("cv2")  # whose stubs lack optical flow
    if stream.kind != "picture":
        raise StreamError(f"Stream {stream.name!r}: {stream.kind}; expected a picture")
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # decoding has the other cores
    try:
        return _collect(stream, flow, tell or (lambda share: None))
    finally:
        cv2.setNumThreads(threads)


def grey_frames(stream: Stream) -> Iterator[tuple[float, Grey]]:
    """(time, small `(height, width)` uint8) of every frame of a picture stream, decoded while it is iterated."""
    from avfuse.io.decoding import PictureSource, reduction
    from avfuse.io.placing import Findings

    if isinstance(stream.values, PictureSource):
        if min(stream.values.width, stream.values.height) < _LEAST:
            raise StreamError(
                f"Stream {stream.name!r}: pictures of {stream.values.width} x {stream.values.height}; expected "
                f"{_LEAST} x {_LEAST} or more"
            )
        yield from stream.values.grey(PIXELS, Findings())
        return
    import cv2

    for times, frames in stream.blocks(1.0):
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4):
            raise StreamError(
                f"Stream {stream.name!r}: pictures of {frames.dtype} and shape {frames.shape}; expected uint8 "
                "(n, height, width, 3)"
            )
        if min(frames.shape[1:3]) < _LEAST:
            raise StreamError(
                f"Stream {stream.name!r}: pictures of {frames.shape[2]} x {frames.shape[1]}; expected "
                f"{_LEAST} x {_LEAST} or more"
            )
        block, columns, rows = reduction(frames.shape[2], frames.shape[1], PIXELS)
        top, left = max(0, frames.shape[1] - rows * block) // 2, max(0, frames.shape[2] - columns * block) // 2
        for time, frame in zip(times, frames, strict=True):
            part = frame[top : top + rows * block, left : left + columns * block]
            small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
            yield float(time), np.asarray(small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))


def _triples(frames: Iterator[tuple[float, Grey]]) -> Iterator[list[tuple[float, Grey] | None]]:
    """Every frame between its neighbours, None beyond the ends."""
    window: list[tuple[float, Grey] | None] = [None, None]
    for frame in frames:
        window.append(frame)
        if window[1] is not None:
            yield window
        window = window[-2:]
    if window[1] is not None:
        yield [*window, None]


def _collect(stream: Stream, flow: Any, tell: Callable[[float], None]) -> PictureFeatures:
    import cv2

    times: list[float] = []
    valid: list[bool] = []
    detail, motion, impulse, rows = [], [], [], []
    grid = (0, 0)
    told = -np.inf
    for before, now, after in _triples(grey_frames(stream)):
        assert now is not None
        time, image = now
        if time >= told + 1.0 and stream.duration > 0:
            told = time
            tell(min((time - times[0]) / stream.duration, 1.0) if times else 0.0)
        grid = (image.shape[0] // CELL, image.shape[1] // CELL)
        moved = np.zeros(grid, np.float32)
        if before is not None:
            moved = _cell_means(cv2.absdiff(image, before[1]))
        times.append(time)
        valid.append(before is not None and float(np.mean(moved > _CUT_STEP)) < _CUT)
        detail.append(_cell_means(image, FINE).ravel().astype(np.float16))
        motion.append(moved.ravel().astype(np.float16))
        rows.append(image.mean(axis=1, dtype=np.float32))
        impulse.append(_impulse(before, now, after, flow).ravel().astype(np.float16))
    n = len(times)

    def table(parts: list[Any]) -> Any:
        return np.stack(parts) if n else np.zeros((0, 0), np.float16)

    return PictureFeatures(
        stream.name, np.array(times), np.array(valid, bool), table(detail), table(motion), table(impulse),
        np.stack(rows) if n else np.zeros((0, 0), np.float32), grid,
    )  # fmt: skip


def _cell_means(image: NDArray[np.generic], size: int = CELL) -> Single:
    """(rows, columns) means of size x size pixels, of which the picture holds a whole number."""
    import cv2

    height, width = image.shape[0] // size, image.shape[1] // size
    return np.asarray(cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA))


def _impulse(
    before: tuple[float, Grey] | None, now: tuple[float, Grey], after: tuple[float, Grey] | None, flow: Any
) -> Single:
    """Change of velocity at this frame per cell, picture widths a second; against the camera's own."""
    image = now[1]
    if before is None or after is None:
        return np.zeros((image.shape[0] // CELL, image.shape[1] // CELL), np.float32)
    earlier, later = now[0] - before[0], after[0] - now[0]
    back = flow.calc(image, before[1], None)
    ahead = flow.calc(image, after[1], None)
    # The camera's own shake is what most of the picture does.
    shake = np.concatenate([np.median(one[::3, ::3].reshape(-1, 2), axis=0) for one in (back, ahead)])
    # Flow is a guess where nothing can be told from its surroundings, and no matter where nothing changes.
    lost = lost_velocity(
        back, ahead, shake.astype(np.float32), image, before[1], after[1], earlier, later, _STILL, _TEXTURE, CELL
    )
    total = lost * np.float32(CELL * CELL / image.shape[1])
    return np.asarray(np.minimum(total, np.float32(6e4)))  # float16 holds no more
