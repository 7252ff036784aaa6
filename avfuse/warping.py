"""Pictures brought onto another frame: what `register_images` found, applied to images and to video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError
from avfuse.stream import Block, Source, Stream
from avfuse.transform import Homography, Transform

_LARGEST = 32766  # pixels of a side that OpenCV takes
_TAKEN = ("uint8", "uint16", "int16", "float32", "float64")  # by OpenCV as they are
_AT_ONCE = 4  # channels

Image = NDArray[Any]


def warp(image: ArrayLike, transform: Transform, size: tuple[int, int] | None = None) -> np.ma.MaskedArray[Any, Any]:
    """An image as the frame of the reference shows it, masked where it shows nothing.

    image: `(h, w)` or `(h, w, c)` of any numbers. transform: its pixels -> the reference's (Rigid to Homography, of the
    plane). size: (width, height) of the reference in pixels; None for the image's own. Between pixels it is linear.
    Returns the same type of numbers, 0 under the mask. Raises StreamError for what is no image or no map of pixels.
    """
    values = np.asarray(image)
    if values.ndim not in (2, 3) or 0 in values.shape or values.dtype.kind not in "fiub":
        raise StreamError(f"warp: {values.dtype} of shape {values.shape}; expected an image (h, w) or (h, w, c)")
    onto = _Onto(transform, (values.shape[1], values.shape[0]), size)
    made = onto(values)
    outside = ~onto.present if values.ndim == 2 else np.broadcast_to(~onto.present[..., None], made.shape)
    if values.dtype.kind == "f":
        outside = outside | ~np.isfinite(made)
        made = np.where(outside, 0, made).astype(values.dtype)
    return np.ma.MaskedArray(made, mask=outside)


def warp_picture(picture: Stream, transform: Transform, size: tuple[int, int] | None = None) -> Stream:
    """A video as the frame of the reference shows it: every frame warped when it is decoded, black where it shows
    nothing.

    picture: a stream of kind `picture`. transform, size: as of `warp`. Raises StreamError for other kinds.
    """
    if picture.kind != "picture":
        raise StreamError(f"Stream {picture.name!r} is of kind {picture.kind}; expected a picture")
    if not isinstance(picture.values, np.ndarray):
        own = (int(picture.facts.get("width") or 0), int(picture.facts.get("height") or 0))
        if not all(own):
            first = next(iter(picture.blocks(1e-3)), None)
            if first is None:
                raise StreamError(f"Stream {picture.name!r}: no frames")
            own = (first[1].shape[2], first[1].shape[1])
    elif picture.values.ndim in (3, 4):
        own = (picture.values.shape[2], picture.values.shape[1])
    else:
        shape = picture.values.shape
        raise StreamError(f"Stream {picture.name!r}: frames of shape {shape}; expected (n, height, width, colour)")
    onto = _Onto(transform, own, size)
    facts = picture.facts | {"width": onto.size[0], "height": onto.size[1]}
    if isinstance(picture.values, np.ndarray):
        made = np.stack([onto(frame) for frame in picture.values]) if len(picture.values) else picture.values
        values: Image | Source = made
    else:
        values = _Frames(picture.values, onto)
    return Stream(
        picture.name,
        "picture",
        values,
        picture.times,
        picture.rate,
        picture.start,
        picture.unit,
        picture.channels,
        facts,
    )


@dataclass(frozen=True, eq=False)
class _Frames:
    """Frames of another source, warped when they are asked for."""

    source: Source
    onto: _Onto

    @property
    def duration(self) -> float:
        return self.source.duration

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        for times, frames in self.source.blocks(duration, rate):
            yield times, np.stack([self.onto(frame) for frame in frames]) if len(frames) else frames


class _Onto:
    """One transform for many images of one size. present: `(height, width)` where there is anything."""

    def __init__(self, transform: Transform, own: tuple[int, int], size: tuple[int, int] | None) -> None:
        if not isinstance(transform, Homography) or transform.dimension != 2:
            kind = getattr(transform, "kind", type(transform).__name__)
            raise StreamError(f"warp: transform of kind {kind}; expected a map of the plane, rigid to homography")
        self.size = own if size is None else (int(size[0]), int(size[1]))
        if not (min(self.size) > 0 and max(*self.size, *own) <= _LARGEST):
            raise StreamError(f"warp: {own} onto {self.size} pixels; expected (width, height) of 1 to {_LARGEST}")
        self.own, self.matrix = own, transform.matrix
        y, x = np.mgrid[: self.size[1], : self.size[0]]
        back = transform.inverse().matrix
        weight = back[2, 0] * x + back[2, 1] * y + back[2, 2]
        # The side of the horizon on which the image's own middle lies.
        middle = np.array([(own[0] - 1) / 2, (own[1] - 1) / 2, 1.0])
        before = np.sign(back[2] @ (transform.matrix @ middle) * (transform.matrix[2] @ middle))
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) / weight
            v = (back[1, 0] * x + back[1, 1] * y + back[1, 2]) / weight
            inside = (u >= -0.5) & (u <= own[0] - 0.5) & (v >= -0.5) & (v <= own[1] - 0.5)
        self.present = inside & (weight * before > 0)

    def __call__(self, image: Image) -> Image:
        import cv2

        if (image.shape[1], image.shape[0]) != self.own:
            raise StreamError(f"warp: a frame of {image.shape[1]} x {image.shape[0]} pixels among {self.own}")
        taken = image if image.dtype.name in _TAKEN else image.astype(np.float64)
        planes = [taken] if taken.ndim == 2 else np.split(taken, range(_AT_ONCE, taken.shape[2], _AT_ONCE), axis=2)
        made = []
        for plane in planes:
            # Pixels at the edge go on, so that no black is mixed in; what lies outside is cut off below.
            one = cv2.warpPerspective(
                np.ascontiguousarray(plane), self.matrix, self.size, flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
            made.append(one if taken.ndim == 2 else one.reshape(*one.shape[:2], -1))
        whole = made[0] if taken.ndim == 2 else np.concatenate(made, axis=2)
        whole[~self.present] = 0
        if taken is not image:
            whole = (np.rint(whole) if image.dtype.kind in "iub" else whole).astype(image.dtype)
        return np.asarray(whole)
