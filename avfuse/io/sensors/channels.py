"""Which columns belong together, what they measure, and in which unit.

A kind comes from the words of the columns' names (from the file's name where the columns are only x, y and z, or have
no names). A unit comes, in this order, from the columns' names, from what the values must be (gravity: a resting
accelerometer shows 9.81, 1 or 1000), from the step in which a converter counts (2000 deg/s / 2^15 is a step that
radians do not have), from size; else rad/s and m/s^2 are assumed, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError
from avfuse.io.sensors.headers import Header
from avfuse.stream import Kind

G = 9.80665  # m/s^2, standard gravity
SCALES = {
    "rotation_rate": {"rad/s": 1.0, "deg/s": np.pi / 180, "mdeg/s": np.pi / 180e3},
    "acceleration": {"m/s^2": 1.0, "g": G, "milli-g": G / 1000},
    "position": {"m": 1.0, "cm": 0.01, "mm": 0.001},
}
SI = {"rotation_rate": "rad/s", "acceleration": "m/s^2"}

_GYRO = {"gyro", "gyr", "gyroscope", "w", "omega", "angvel", "rotationrate", "gyroscopes", "gyrodata"}
_ACCEL = {"acc", "accel", "accl", "acceleration", "accelerometer", "accelerations", "a", "accelerometers"}
_POSITION = {"p", "t", "pos", "position", "translation", "trans"}
_TURN = {"q", "quat", "quaternion", "orientation", "attitude", "rot", "rotation"}
# Steps of the converters in use, deg/s a count: 16 bits over +-125 to 4000, and STMicroelectronics' round figures.
_FULL_SCALES = [r / 2**15 for r in (125, 250, 500, 1000, 2000, 4000)]
_ROUND = [0.004375, 0.00875, 0.0175, 0.035, 0.07, 0.14, 1 / 131.0, 1 / 65.5, 1 / 32.8, 1 / 16.4]
_COUNTS = np.array(sorted(_FULL_SCALES + _ROUND))
_PARTS = 10  # of a recording that must show gravity in the same unit
_MOST_SENSORS = 40  # words of a column that may name sensors
_MOST_GYRO = 75.0  # rad/s; 4000 deg/s is the most that is made


@dataclass(frozen=True)
class Group:
    """Columns that become one stream. columns: indices, in the order of the stream's channels."""

    kind: Kind
    columns: tuple[int, ...]
    channels: tuple[str, ...]
    why: str
    unit: str | None = None  # as the columns' names state it
    length: str | None = None  # unit of a pose's positions


@dataclass(frozen=True)
class Unit:
    """unit: of the values as read. scale: to SI. why: what decided. assumed: that nothing did."""

    unit: str | None
    scale: float
    why: str
    assumed: bool = False


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)


def kind_of_words(words: Sequence[str]) -> str | None:
    """rotation_rate, acceleration, position, orientation, or None."""
    have, text = set(words), _joined(words)
    if "mag" in have or "magnetometer" in have or "gravity" in have or "angular acceleration" in text:
        return None
    if "angular velocity" in text or "rotation rate" in text or "angular rate" in text or have & _GYRO or text == "g":
        return "rotation_rate"
    if have & _ACCEL:
        return "acceleration"
    if have & _TURN:
        return "orientation"
    if have & _POSITION:
        return "position"
    return None


def kind_of_name(stem: str) -> str | None:
    """What a file's own name says its three columns are."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", stem)]
    kind = kind_of_words([w for w in words if len(w) > 2])
    return kind if kind in SI else None


def group_columns(path: str, stem: str, headers: Sequence[Header], columns: Sequence[int]) -> list[Group]:
    """Streams that the columns make. Raises ReadError where one sensor's axes state different units."""
    by_words: dict[tuple[str, ...], dict[str, int]] = {}
    for k in columns:
        axis = headers[k].axis
        if axis is not None:
            by_words.setdefault(headers[k].words, {}).setdefault(axis, k)
    vectors: dict[str, list[tuple[tuple[str, ...], tuple[int, ...]]]] = {}
    for words, axes in by_words.items():
        kind = kind_of_words(words)
        if {"x", "y", "z", "w"} <= set(axes) and kind == "orientation":
            vectors.setdefault("orientation", []).append((words, tuple(axes[a] for a in "xyzw")))
        elif {"x", "y", "z"} <= set(axes) and kind in ("rotation_rate", "acceleration", "position", None):
            if kind is None and not words:
                kind = "bare"
            vectors.setdefault(kind or "other", []).append((words, tuple(axes[a] for a in "xyz")))
    places = vectors.pop("position", []) + vectors.pop("bare", [])
    turns = vectors.pop("orientation", [])
    groups: list[Group] = []
    for kind in ("rotation_rate", "acceleration"):
        for _, group in vectors.pop(kind, []):
            unit = _one_unit(path, headers, group)
            groups.append(Group(kind, group, ("x", "y", "z"), "the columns' names", unit))  # type: ignore[arg-type]
    if len(places) == 1 and len(turns) == 1:
        place, turn = places.pop()[1], turns.pop()[1]
        length = _one_unit(path, headers, place)
        channels = ("x", "y", "z", "qx", "qy", "qz", "qw")
        groups.append(Group("pose", place + turn, channels, "the columns' names", length=length))
    groups += [Group("orientation", g, ("qx", "qy", "qz", "qw"), "the columns' names") for _, g in turns]
    by_file = kind_of_name(stem)
    for words, group in places:
        if not words and by_file is not None:
            unit = _one_unit(path, headers, group)
            groups.append(Group(by_file, group, ("x", "y", "z"), "the file's name", unit))  # type: ignore[arg-type]
        else:
            vectors.setdefault("other", []).append((words, group))
    for _, group in vectors.pop("other", []):
        names = tuple(headers[k].name for k in group)
        units = {headers[k].unit for k in group}
        groups.append(Group("other", group, names, "no kind that avfuse names", _only(units)))
    taken = {k for g in groups for k in g.columns}
    rest = tuple(k for k in columns if k not in taken)
    if rest:
        units = {headers[k].unit for k in rest}
        names = tuple(headers[k].name for k in rest)
        groups.append(Group("other", rest, names, "no kind that avfuse names", _only(units)))
    return groups


def group_unnamed(stem: str, columns: Sequence[int], sample: NDArray[np.float64]) -> list[Group]:
    """Streams of a file without names. sample: `(n, columns)` first rows of the value columns.

    Seven columns whose last four have norm 1 are a pose as TUM writes it; three columns are what the file's name
    says.
    """
    columns = tuple(columns)
    if len(columns) == 7:
        norms = np.linalg.norm(sample[:, 3:], axis=1)
        norms = norms[np.isfinite(norms)]
        if norms.size and float(np.mean(np.abs(norms - 1) < 0.02)) > 0.95:
            why = "seven columns, of which the last four have norm 1: x y z qx qy qz qw, as TUM writes them"
            return [Group("pose", columns, ("x", "y", "z", "qx", "qy", "qz", "qw"), why)]
    by_file = kind_of_name(stem)
    if len(columns) == 3 and by_file is not None:
        return [Group(by_file, columns, ("x", "y", "z"), "the file's name")]  # type: ignore[arg-type]
    names = tuple(f"column {k + 1}" for k in columns)
    return [Group("other", columns, names, "no names")] if columns else []


def _only(units: set[str | None]) -> str | None:
    return units.pop() if len(units) == 1 else None


def _one_unit(path: str, headers: Sequence[Header], group: Sequence[int]) -> str | None:
    units = {headers[k].unit for k in group}
    if len(units - {None}) > 1:
        told = ", ".join(f"{headers[k].name!r}" for k in group)
        raise ReadError(f"{path}: columns {told} are one sensor's and state different units; expected one unit")
    return next(iter(units - {None}), None)


def decide_unit(path: str, kind: str, stated: str | None, values: NDArray[np.float64]) -> Unit:
    """Unit of a group. values: `(n, k)`, NaN allowed, as read.

    Raises ReadError for a stated unit that is none of that kind.
    """
    scales = SCALES[kind]
    if stated is not None:
        if stated not in scales:
            expected = ", ".join(scales)
            raise ReadError(f"{path}: {kind.replace('_', ' ')} in {stated!r}; expected one of {expected}")
        return Unit(stated, scales[stated], "its columns' names state it")
    known = values[np.isfinite(values).all(axis=1)]
    if known.size == 0:
        return Unit(None, 1.0, "no values")
    if kind == "acceleration":
        return _by_gravity(path, known)
    peak = float(np.abs(known).max())
    counted = _by_counts(known)
    if counted is not None:
        return Unit(counted, scales[counted], f"its values lie on the grid of a converter that counts in {counted}")
    if peak > _MOST_GYRO:
        return Unit("deg/s", scales["deg/s"], f"its peak of {peak:.0f} is more than any gyroscope measures in rad/s")
    return Unit("rad/s", 1.0, "nothing states or shows it", assumed=True)


def _by_gravity(path: str, known: NDArray[np.float64]) -> Unit:
    norms = np.linalg.norm(known, axis=1)
    norm = float(np.median(norms))
    parts = [_gravity(float(np.median(part))) for part in np.array_split(norms, min(_PARTS, len(norms)))]
    shown = sorted({unit for unit in parts if unit is not None and parts.count(unit) > 1})
    if len(shown) > 1:
        raise ReadError(
            f"{path}: acceleration is in {shown[0]} in one part and in {shown[1]} in another; expected one unit"
        )
    unit = _gravity(norm)
    if unit is not None:
        scale = SCALES["acceleration"][unit]
        return Unit(unit, scale, f"its median norm of {norm:.4g} is gravity in {unit}")
    return Unit("m/s^2", 1.0, f"nothing states it, and its median norm of {norm:.4g} is no gravity", assumed=True)


def _gravity(norm: float) -> str | None:
    """The unit in which a norm is gravity."""
    scales = SCALES["acceleration"]
    return next((unit for unit, scale in scales.items() if abs(norm * scale / G - 1) < 0.25), None)


def check_one_sensor(path: str, name: str, cells: Sequence[str]) -> None:
    """Raises ReadError where the words of a column name several sensors, whose rows then stand in the same columns."""
    words = {cell: re.findall(r"[a-z]+", cell.lower()) for cell in set(cells) if cell}
    named = {
        cell: kind for cell, some in words.items() if (kind := kind_of_words([w for w in some if len(w) > 2])) in SI
    }
    if len(words) <= _MOST_SENSORS and len(set(named.values())) > 1:
        told = " and ".join(repr(cell) for cell in sorted(named)[:2])
        raise ReadError(
            f"{path}: column {name!r} tells whose row it is ({told}); expected the rows of one sensor, split the file "
            "by it"
        )


def _by_counts(known: NDArray[np.float64]) -> str | None:
    """deg/s or rad/s where the differences of successive values are whole multiples of a known converter's step."""
    steps = np.abs(np.diff(known[:5000], axis=0)).ravel()
    steps = steps[steps > 0]
    if steps.size < 30:
        return None
    fits = {}
    for unit, scale in (("deg/s", 1.0), ("rad/s", np.pi / 180)):
        counts = _COUNTS * scale
        # Only steps of few counts tell: written digits blur the others.
        best = 0.0
        for count in counts:
            few = steps[steps < 40 * count] / count
            if few.size >= 30:
                off = np.abs(few - np.round(few))
                best = max(best, float(np.mean((off < 0.02) & (few > 0.5))))
        fits[unit] = best
    unit = max(fits, key=lambda u: fits[u])
    other = min(fits.values())
    # By chance one step in 25 falls within the tolerance.
    return unit if fits[unit] > 0.9 and other < 0.5 else None
