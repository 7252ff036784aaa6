"""Files that say where the microphones of an array are."""

from __future__ import annotations

import csv
import json
import os
from typing import Any

import numpy as np

from avfuse.errors import ReadError, StreamError
from avfuse.spatial.sound.steering import F64
from avfuse.transform import Camera, transform_from_json

_LARGEST = 1 << 20  # bytes


def read_array(path: str | os.PathLike[str], channels: int | None = None) -> F64:
    """Positions `(channels, 3)` of microphones, metres, one row a channel.

    CSV: three numbers a row (x, y, z), or two in a plane; a first row of names is passed over. JSON: a list of such
    rows, or an object with it under "microphones". channels: how many the recording has.
    Raises ReadError, one line, for what is none or does not fit.
    """
    name = os.fspath(path)
    text = _text(name)
    rows = _from_json(name, text) if text.lstrip()[:1] in ("[", "{") else _from_csv(name, text)
    sizes = {len(row) for row in rows}
    if sizes not in ({2}, {3}):
        raise ReadError(f"{name}: rows of {', '.join(map(str, sorted(sizes)))} numbers; expected x, y, z in metres")
    found = np.zeros((len(rows), 3))
    found[:, : sizes.pop()] = rows
    if not np.isfinite(found).all():
        raise ReadError(f"{name}: a position is not finite; expected metres")
    if channels is not None and len(found) != channels:
        raise ReadError(
            f"{name}: {len(found)} microphones, but the recording has {channels} channels; expected one row for each"
        )
    return found


def read_camera(path: str | os.PathLike[str]) -> Camera:
    """A camera as `Camera.to_json` writes it; its `pose` is T_camera_array. Raises ReadError for what is none."""
    name = os.fspath(path)
    try:
        document = json.loads(_text(name))
        found = transform_from_json({"kind": "camera", **document})
    except (ValueError, KeyError, TypeError) as error:
        what = error if isinstance(error, StreamError) else f"no camera in it ({type(error).__name__}: {error})"
        raise ReadError(f"{name}: {what}; expected JSON with matrix, size, distortion and pose") from error
    if not isinstance(found, Camera):
        raise ReadError(f"{name}: a transform of kind {found.kind}; expected a camera")
    return found


def _text(name: str) -> str:
    try:
        if os.path.getsize(name) > _LARGEST:
            raise ReadError(f"{name}: {os.path.getsize(name)} bytes; expected a small file of positions")
        with open(name, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError:
        raise ReadError(f"{name}: no such file") from None
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise ReadError(f"{name}: is no text; expected CSV or JSON with the positions of microphones") from None


def _from_json(name: str, text: str) -> list[list[float]]:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise ReadError(f"{name}: is no JSON ({error}); expected a list of positions") from error
    if isinstance(found, dict):
        found = found.get("microphones")
    try:
        rows = [[float(v) for v in row] for row in found]
    except (TypeError, ValueError):
        raise ReadError(f"{name}: no list of positions; expected [[x, y, z], ...] or it under microphones") from None
    if not rows:
        raise ReadError(f"{name}: no positions in it; expected one row a channel")
    return rows


def _from_csv(name: str, text: str) -> list[list[float]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines[:5])
    delimiter = next((mark for mark in (",", ";", "\t") if mark in joined), " ")
    rows: list[list[float]] = []
    for number, row in enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), 1):
        cells = [cell.strip() for cell in row if cell.strip()]
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            if number > 1:
                raise ReadError(
                    f"{name}: row {number} reads {delimiter.join(row)!r}; expected x, y, z in metres"
                ) from None
    if not rows:
        raise ReadError(f"{name}: no positions in it; expected one row a channel: x, y, z in metres")
    return rows
