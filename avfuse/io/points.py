"""Point clouds of PLY and PCD files.

PLY  ascii, binary_little_endian, binary_big_endian (Turk 1994)
PCD  ascii, binary, binary_compressed, as the Point Cloud Library writes them (version 0.7)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.points import lzf_unpack
from avfuse.errors import ReadError

F64 = NDArray[np.float64]

_AXES = ("x", "y", "z")
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True, eq=False)
class PointCloud:
    """points: `(n, 3)` float64, in the file's units, all finite.

    fields: what else the file holds of each, by its name there (intensity, ring, time, ...), `(n,)` or `(n, k)`.
    dropped: points left out because a coordinate was NaN or infinite, as sensors write where nothing came back.
    """

    points: F64
    fields: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dropped: int = 0


def read_points(path: str | os.PathLike[str]) -> PointCloud:
    """The cloud in a .ply or .pcd file, told by how it begins.

    Raises ReadError, of one line, for other files, damage, and clouds without x, y and z.
    """
    name = os.fspath(path)
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror}); expected a .ply or .pcd point cloud") from error
    if data[:4] in (b"ply\n", b"ply\r"):
        table = _read_ply(name, data)
    elif b"\nFIELDS" in data[:_LONGEST_HEADER] or data[:6] == b"FIELDS":
        table = _read_pcd(name, data)
    else:
        raise ReadError(f"{name}: begins neither as a PLY nor as a PCD file; expected one of these point clouds")
    missing = [axis for axis in _AXES if axis not in table or table[axis].ndim != 1]
    if missing:
        raise ReadError(f"{name}: its points have no {', '.join(missing)} (found {', '.join(table) or 'nothing'})")
    points = np.stack([np.asarray(table[axis], np.float64) for axis in _AXES], axis=1)
    whole = np.isfinite(points).all(axis=1)
    rest = {key: values[whole] for key, values in table.items() if key not in _AXES}
    return PointCloud(points[whole], rest, int(len(points) - whole.sum()))


# --- PLY -------------------------------------------------------------------------------------------------------------


@dataclass
class _Element:
    """properties: name -> (type, type of the count of a list or None)."""

    name: str
    count: int
    properties: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def _read_ply(name: str, data: bytes) -> dict[str, NDArray[Any]]:
    end = data[:_LONGEST_HEADER].find(b"end_header")
    newline = data.find(b"\n", end)
    if end < 0 or newline < 0:
        raise ReadError(f"{name}: a PLY file without end_header; expected a whole file, try to copy it again")
    order, elements = _ply_header(name, data[:end])
    body = data[newline + 1 :]
    return _ply_ascii(name, body, elements) if order is None else _ply_binary(name, body, elements, order)


def _ply_header(name: str, header: bytes) -> tuple[str | None, list[_Element]]:
    """Byte order, None for text, and the elements up to the vertices, which come last."""
    lines = [line.split() for line in header.decode("ascii", "replace").splitlines()]
    order, elements, known = "", list[_Element](), False
    for words in lines:
        try:
            if words[:1] == ["format"]:
                known, order = words[1] == "ascii" or words[1] in _PLY_ORDERS, words[1]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].properties[words[4]] = (_PLY_TYPES[words[3]], _PLY_TYPES[words[2]])
            elif words[:1] == ["property"]:
                elements[-1].properties[words[2]] = (_PLY_TYPES[words[1]], None)
        except (IndexError, KeyError, ValueError):
            raise ReadError(f"{name}: the line {' '.join(words)!r} of its header is not understood") from None
    if not known:
        expected = "ascii, binary_little_endian or binary_big_endian"
        raise ReadError(f"{name}: a PLY file of format {order!r}; expected {expected}")
    names = [e.name for e in elements]
    if "vertex" not in names or any(e.count < 0 for e in elements):
        raise ReadError(f"{name}: a PLY file of {', '.join(names) or 'nothing'}; expected an element vertex")
    return _PLY_ORDERS.get(order), elements[: names.index("vertex") + 1]


def _ply_ascii(name: str, body: bytes, elements: Sequence[_Element]) -> dict[str, NDArray[Any]]:
    vertices = elements[-1]
    lines = [line for line in body.decode("ascii", "replace").splitlines() if line.strip()]
    skipped = sum(e.count for e in elements[:-1])
    rows = [line.split() for line in lines[skipped : skipped + vertices.count]]
    if len(rows) < vertices.count:
        raise ReadError(f"{name}: ends after {len(rows)} of {vertices.count} points; try to copy it again")
    found: dict[str, NDArray[Any]] = {}
    if any(counted is not None for _, counted in vertices.properties.values()):
        raise ReadError(f"{name}: a list in its points; expected one number for each property")
    values = _numbers(name, rows, len(vertices.properties))
    for k, (key, (kind, _)) in enumerate(vertices.properties.items()):
        found[key] = values[:, k].astype(kind)
    return found


def _ply_binary(name: str, body: bytes, elements: Sequence[_Element], order: str) -> dict[str, NDArray[Any]]:
    at = 0
    for element in elements[:-1]:
        at = _after(name, body, at, element, order)
    vertices = elements[-1]
    if any(counted is not None for _, counted in vertices.properties.values()):
        raise ReadError(f"{name}: a list in its points; expected one number for each property")
    layout = np.dtype([(key, order + kind) for key, (kind, _) in vertices.properties.items()])
    table = _table(name, body[at:], layout, vertices.count)
    return {key: table[key] for key in layout.names or ()}


def _after(name: str, body: bytes, at: int, element: _Element, order: str) -> int:
    """Where an element ends that begins at `at`; lists make its length known only by reading it."""
    kinds = [(np.dtype(order + kind), counted) for kind, counted in element.properties.values()]
    if all(counted is None for _, counted in kinds):
        return at + element.count * sum(kind.itemsize for kind, _ in kinds)
    for _ in range(element.count):
        for kind, counted in kinds:
            number = 1
            if counted is not None:
                size = np.dtype(counted).itemsize
                if at + size > len(body):
                    raise ReadError(f"{name}: ends within its element {element.name}; try to copy it again")
                number = int(np.frombuffer(body, order + counted, 1, at)[0])
                at += size
            at += number * kind.itemsize
    return at


# --- PCD -------------------------------------------------------------------------------------------------------------


def _read_pcd(name: str, data: bytes) -> dict[str, NDArray[Any]]:
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        newline = data.find(b"\n", at)
        if newline < 0 or newline > _LONGEST_HEADER:
            raise ReadError(f"{name}: a PCD file without DATA; expected a whole file, try to copy it again")
        words = data[at:newline].decode("ascii", "replace").split()
        at = newline + 1
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    layout, count = _pcd_layout(name, header)
    kind = " ".join(header["DATA"])
    if kind == "ascii":
        rows = [line.split() for line in data[at:].decode("ascii", "replace").splitlines() if line.strip()][:count]
        if len(rows) < count:
            raise ReadError(f"{name}: ends after {len(rows)} of {count} points; try to copy it again")
        values = _numbers(name, rows, sum(width for _, _, width in layout))
        starts = np.cumsum([0, *(width for _, _, width in layout)])
        columns = [values[:, a : a + width].astype(t) for (_, t, width), a in zip(layout, starts[:-1], strict=True)]
    elif kind == "binary":
        table = _table(name, data[at:], np.dtype([(f"{k}", t, (w,)) for k, (_, t, w) in enumerate(layout)]), count)
        columns = [table[f"{k}"] for k in range(len(layout))]
    elif kind == "binary_compressed":
        columns = _unpacked(name, data[at:], layout, count)
    else:
        raise ReadError(f"{name}: PCD data of kind {kind!r}; expected ascii, binary or binary_compressed")
    # Fields called "_" only fill bytes.
    return {
        key: column[:, 0] if width == 1 else column
        for (key, _, width), column in zip(layout, columns, strict=True)
        if key != "_"
    }


def _pcd_layout(name: str, header: Mapping[str, list[str]]) -> tuple[list[tuple[str, str, int]], int]:
    """(name, type, numbers) of each field, and how many points there are."""
    try:
        fields, sizes, types = header["FIELDS"], header["SIZE"], header["TYPE"]
        widths = [int(w) for w in header.get("COUNT", ["1"] * len(fields))]
        size = int(header["WIDTH"][0]) * int(header["HEIGHT"][0]) if "POINTS" not in header else 0
        count = int(header["POINTS"][0]) if "POINTS" in header else size
        layout = [
            (key, {"F": "<f", "I": "<i", "U": "<u"}[kind] + str(int(bytes_)), width)
            for key, kind, bytes_, width in zip(fields, types, sizes, widths, strict=True)
        ]
        for _, kind, _ in layout:
            np.dtype(kind)
        if count < 0 or min(widths, default=1) < 0:
            raise ValueError
    except (KeyError, IndexError, ValueError, TypeError):
        said = "; ".join(f"{key} {' '.join(words)}" for key, words in header.items())
        raise ReadError(f"{name}: its PCD header is not understood ({said[:200]})") from None
    return layout, count


def _unpacked(name: str, body: bytes, layout: Sequence[tuple[str, str, int]], count: int) -> list[NDArray[Any]]:
    """Fields one after the other, packed by LZF."""
    lengths = [count * np.dtype(kind).itemsize * width for _, kind, width in layout]
    if len(body) < 8:
        raise ReadError(f"{name}: ends before its data; try to copy it again")
    packed, size = (int(n) for n in np.frombuffer(body, "<u4", 2))
    if size != sum(lengths) or packed > len(body) - 8:
        raise ReadError(
            f"{name}: says {packed} bytes that unpack to {size}; expected at most {len(body) - 8} that unpack to "
            f"{sum(lengths)}, try to copy it again"
        )
    raw = lzf_unpack(np.frombuffer(body, np.uint8, packed, 8), size)
    if len(raw) < size:
        raise ReadError(f"{name}: its packed data are damaged after {len(raw)} of {size} bytes; try to copy it again")
    starts = np.cumsum([0, *lengths])
    return [
        np.frombuffer(raw, kind, count * width, int(a)).reshape(count, width)
        for (_, kind, width), a in zip(layout, starts[:-1], strict=True)
    ]


# --- both ------------------------------------------------------------------------------------------------------------


def _numbers(name: str, rows: Sequence[Sequence[str]], width: int) -> F64:
    for k, row in enumerate(rows):
        if len(row) != width:
            raise ReadError(f"{name}: {len(row)} numbers in point {k + 1}; expected {width}")
    try:
        return np.array(rows, np.float64).reshape(len(rows), width)
    except ValueError as error:
        raise ReadError(f"{name}: its points are no numbers ({error})") from None


def _table(name: str, body: bytes, layout: np.dtype[Any], count: int) -> NDArray[Any]:
    have = len(body) // layout.itemsize if layout.itemsize else 0
    if have < count:
        raise ReadError(f"{name}: ends after {have} of {count} points; try to copy it again")
    return np.frombuffer(body, layout, count)
