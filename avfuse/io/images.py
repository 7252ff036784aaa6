"""Still images, and the first picture of a video, as arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError, WriteError
from avfuse.files import replacing

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm", ".jp2"})


def read_image(path: str | os.PathLike[str]) -> NDArray[Any]:
    """`(h, w)`, or `(h, w, 3)` in red, green, blue: a still image as it is stored, turned upright, or the first picture
    of a video. Raises ReadError."""
    place = Path(path)
    if place.suffix.lower() in IMAGES:
        return _still(place, path)
    from avfuse.io import read
    from avfuse.io.reading import TABLES, format_of

    expected = f"an image ({', '.join(sorted(IMAGES))}) or a video"
    if place.exists() and format_of(os.fspath(place)) in TABLES:
        raise ReadError(f"{path}: is a table of numbers; expected {expected}")
    streams = [s for s in read(path).streams if s.kind == "picture"]
    for stream in streams:
        for _, frames in stream.blocks(1e-3):
            if len(frames):
                return np.asarray(frames[0])
    raise ReadError(f"{path}: has no picture; expected {expected}")


def _still(place: Path, path: str | os.PathLike[str]) -> NDArray[Any]:
    import cv2

    try:
        stored = np.frombuffer(place.read_bytes(), np.uint8)
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image = cv2.imdecode(stored, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR) if stored.size else None
    except cv2.error:
        image = None
    if image is None:
        raise ReadError(f"{path}: is not an image that OpenCV decodes; is it broken, or of another format?")
    return np.asarray(image if image.ndim == 2 else image[..., ::-1])


def check_image(path: str | os.PathLike[str]) -> None:
    """Raises WriteError where the suffix names no image that can be written."""
    import cv2

    if Path(path).suffix.lower() not in IMAGES or not cv2.haveImageWriter(os.fspath(path)):
        raise WriteError(f"{path}: expected the name of an image, such as {Path(path).stem}.png")


def write_image(path: str | os.PathLike[str], image: NDArray[Any]) -> None:
    """image: `(h, w)`, or `(h, w, 3)` in red, green, blue, and opacity last where there are four. Raises WriteError."""
    import cv2

    check_image(path)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    stored = image[..., order[image.shape[2]]] if image.ndim == 3 and image.shape[2] in order else image
    with replacing(path) as temporary:
        coded, found = cv2.imencode(Path(path).suffix.lower(), np.ascontiguousarray(stored))
        if not coded:
            raise WriteError(f"{path}: {image.dtype} of shape {image.shape} cannot be written in this format")
        temporary.write_bytes(found.tobytes())
