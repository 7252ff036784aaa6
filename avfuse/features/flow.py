"""Image motion: how the camera turned, from how corners moved between frames.

Corners (Shi and Tomasi 1994) are followed from frame to frame (Lucas and Kanade 1981, in pyramids, there and back), and
the small rotation is found that moves most of them so (Longuet-Higgins and Prazdny 1980). Things that move by
themselves, and the parallax of near ones, are outliers or noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.stream import Stream

F64 = NDArray[np.float64]
Grey = NDArray[np.uint8]
_Fit = tuple[F64, F64, F64, F64]

PIXELS = 400 * 225
FOCAL = 0.9  # of the longer side: what most cameras have, 58 degrees across
BANDS = 6  # of rows, which a rolling shutter reads one after the other

_CORNERS, _FEWEST = 160, 12
_QUALITY, _APART = 0.01, 7
_BACK = 0.7  # pixels by which a corner may miss itself on the way back
_ROUNDS, _TUNING = 6, 2.0
_LARGEST = 0.35  # radians from frame to frame
_FIT = 0.4  # share of corners that must follow the rotation


@dataclass(frozen=True, eq=False)
class ImageMotion:
    """rate: rotation rate of the camera (x right, y down, z forward), at the middle between frames; NaN where unknown.

    normals: `(n, bands, 3, 3)` and right: `(n, bands, 3)`: normal equations of the rotation between frames by bands of
    rows, top to bottom, over the variance of the corners about a rotation that changes evenly from row to row.
    rows: `(n, bands, 2)` where the corners of a band are in both frames, in heights of the picture, -0.5 to 0.5.
    apart: `(n,)` seconds between the two frames.
    """

    rate: Stream
    normals: F64
    right: F64
    rows: F64
    apart: F64


def image_motion(stream: Stream, *, focal: float | None = None, most: float | None = None) -> ImageMotion:
    """How the camera of a picture stream turned.

    focal: of the lens, in widths of the longer side; None guesses 0.9. A wrong one makes the rates about x and y too
        large or too small, nothing else. most: seconds from the beginning that are looked at; None takes all.
    Raises StreamError for other kinds and fewer than three frames.
    """
    import cv2

    if stream.kind != "picture":
        raise StreamError(f"Stream {stream.name!r} is of kind {stream.kind}; expected picture")
    times: list[float] = []
    fits: list[_Fit] = []
    before: Grey | None = None
    corners: Any = None
    for time, frame in _frames(stream):
        if most is not None and times and time > times[0] + most:
            break
        if before is not None and before.shape == frame.shape:
            corners = cv2.goodFeaturesToTrack(before, _CORNERS, _QUALITY, _APART)
            fits.append(_turn(cv2, before, frame, corners, focal or FOCAL))
        elif before is not None:
            fits.append(_unknown())
        before = frame
        times.append(time)
    if len(times) < 3:
        raise StreamError(f"Stream {stream.name!r}: {len(times)} frames; expected three or more")
    at = np.array(times)
    apart = np.diff(at)
    rates = np.array([f[0] for f in fits]) / apart[:, None]
    rate = Stream("rotation_rate", "rotation_rate", rates, times=(at[1:] + at[:-1]) / 2, unit="rad/s",
                  channels=("x", "y", "z"))  # fmt: skip
    normals, right, rows = (np.array([f[k] for f in fits]) for k in (1, 2, 3))
    return ImageMotion(rate, normals, right, rows, apart)


def _frames(stream: Stream) -> Iterator[tuple[float, Grey]]:
    from avfuse.io.decoding import PictureSource
    from avfuse.io.placing import Findings

    if isinstance(stream.values, PictureSource):
        yield from stream.values.grey(PIXELS, Findings())
        return
    import cv2

    for times, images in stream.blocks(2.0):
        for time, image in zip(times, images, strict=True):
            grey = np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
            scale = min(1.0, (PIXELS / grey.size) ** 0.5)
            size = tuple(max(8, round(side * scale)) for side in grey.shape[::-1])
            yield float(time), np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _unknown() -> _Fit:
    return np.full(3, np.nan), np.zeros((BANDS, 3, 3)), np.zeros((BANDS, 3)), np.zeros((BANDS, 2))


def _turn(cv2: Any, before: Grey, after: Grey, corners: Any, focal: float) -> _Fit:
    if corners is None or len(corners) < _FEWEST:
        return _unknown()
    options = {"winSize": (15, 15), "maxLevel": 3}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **options)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    missed = np.linalg.norm(back[:, 0] - corners[:, 0], axis=1)
    good = (found[:, 0] == 1) & (again[:, 0] == 1) & (missed < _BACK)
    # Pixels are counted from their middles.
    start, end = (p[good, 0].astype(np.float64) + 0.5 for p in (corners, there))
    return turn_of(start, end, (before.shape[1], before.shape[0]), focal)


def turn_of(start: F64, end: F64, size: tuple[int, int], focal: float) -> _Fit:
    """Rotation in rad that moved corners `(n, 2)` from start to end, in pixels, and by bands its normal equations and
    rows; size: (width, height); focal: in widths of the longer side."""
    if len(start) < _FEWEST:
        return _unknown()
    width, height = size
    scale = focal * max(size)
    # The middle of the way: the small rotation is then good to second order.
    x, y = ((start + end) / 2 - np.array([width, height]) / 2).T / scale
    flow = (end - start) / scale
    rows = np.stack(
        [np.stack([x * y, -(1 + x * x), y], axis=1), np.stack([1 + y * y, -x * y, -x], axis=1)], axis=1
    )  # (corners, 2, 3)
    turn, miss, _ = _robust(rows, flow, 0.05 / scale)
    followed = float((miss < max(3 * 1.0 / scale, 0.1 * float(np.linalg.norm(turn)))).mean())
    if followed < _FIT or float(np.linalg.norm(turn)) > _LARGEST:
        return _unknown()
    # A rolling shutter turns every row a little differently: weights of one rotation for all would pull bands together.
    _, miss, weights = _robust(np.concatenate([rows, rows * y[:, None, None]], axis=2), flow, 0.05 / scale)
    weights = weights / max(float((weights * miss**2).sum() / weights.sum()), (0.05 / scale) ** 2)
    normals, right, where = np.zeros((BANDS, 3, 3)), np.zeros((BANDS, 3)), np.zeros((BANDS, 2))
    band = np.clip(((y * scale / height + 0.5) * BANDS).astype(np.int64), 0, BANDS - 1)
    ends = np.stack([start[:, 1], end[:, 1]], axis=1) / height - 0.5
    for b in range(BANDS):
        inside = band == b
        if inside.any():
            normals[b] = np.einsum("k,kci,kcj->ij", weights[inside], rows[inside], rows[inside])
            right[b] = np.einsum("k,kci,kc->i", weights[inside], rows[inside], flow[inside])
            where[b] = np.average(ends[inside], axis=0, weights=weights[inside])
    return turn, normals, right, where


def _robust(rows: F64, flow: F64, least: float) -> tuple[F64, F64, F64]:
    """What moves most corners so, by how much each `(n,)` is missed, and its weight; rows `(n, 2, p)`, flow `(n, 2)`.

    least: spread that corners have in any case.
    """
    weights, miss, turn = np.ones(len(flow)), np.zeros(len(flow)), np.zeros(rows.shape[2])
    for _ in range(_ROUNDS):
        normal = np.einsum("k,kci,kcj->ij", weights, rows, rows)
        turn = np.linalg.lstsq(normal, np.einsum("k,kci,kc->i", weights, rows, flow), rcond=None)[0]
        miss = np.linalg.norm(flow - rows @ turn, axis=1)
        spread = max(float(np.median(miss)), least)
        weights = 1 / (1 + (miss / (_TUNING * spread)) ** 2)
    return turn, miss, weights
