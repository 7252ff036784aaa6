"""MCAP and ROS bags: messages with numbers as streams, one or more per topic.

Messages are decoded by rosbags (ROS 1 and 2) or are JSON. Times are those of the messages' own headers where they have
one, since a log's time includes the way through the network; ROS messages are in SI units (REP 103).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.errors import ReadError
from avfuse.io.sensors.assembling import Part, reason_of, recording_of, rows_to_parts
from avfuse.io.sensors.channels import SI, Group, group_columns
from avfuse.io.sensors.headers import parse_header
from avfuse.io.sensors.needed import needed
from avfuse.stream import Recording

_MOST_NAMES = 512  # of the numbers of one topic
_MOST_BAD = 10  # messages in a row that cannot be decoded before a topic is given up
_MOST_NUMBERS = 64  # of an array in a message; what is longer is a picture, a scan or a cloud
_SKIPPED = ("Image", "CompressedImage", "PointCloud2", "LaserScan", "OccupancyGrid", "CameraInfo", "PointCloud")
_STAMP_FIELDS = ("stamp", "timestamp", "time", "header")


@dataclass
class _Topic:
    """What one topic said: `rows` of values by the places of their names in `names`, each with its stamp (None where
    the message has none) and the log's time (ns)."""

    kind: str
    names: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    stamps: list[int | None] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)
    shapes: dict[tuple[str, ...], tuple[int, ...]] = field(default_factory=dict)
    other: int = 0


Message = tuple[str, str, int, Any]  # topic, type, log time in ns, decoded


def read_bag(path: str) -> Recording:
    """Streams of an MCAP file, a ROS 1 bag, or a ROS 2 bag (its folder, or its .db3).

    Raises ReadError, one line, where it cannot be read or holds no numbers.
    """
    odd: list[str] = []
    container = "mcap" if path.endswith(".mcap") else "ros bag"
    skipped: dict[str, str] = {}
    topics: dict[str, _Topic] = {}
    messages = _mcap(path, odd, skipped) if _begins(path, b"\x89MCAP") else _ros(path, odd, skipped)
    for name, kind, logged, message in messages:
        _add(topics.setdefault(name, _Topic(kind)), message, logged)
    for name, why in skipped.items():
        odd.append(f"topic {name!r}: {why}; left out")
    parts: list[Part] = []
    for name, topic in sorted(topics.items()):
        parts += _parts(path, name, topic, odd)
    if not parts:
        told = f" ({odd[-1]})" if odd else ""
        raise ReadError(f"{path}: no messages with numbers in it{told}; expected topics such as sensor_msgs/Imu")
    return recording_of(path, container, parts, {"topics": {name: t.kind for name, t in sorted(topics.items())}}, odd)


def _begins(path: str, mark: bytes) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(mark)) == mark


def _add(topic: _Topic, message: Any, logged: int) -> None:
    numbers: dict[str, float] = {}
    _flatten(message, "", numbers)
    text = None if numbers or topic.names else _text(message)
    if text is not None:
        topic.texts.append(text)
    elif not numbers or topic.texts or len(topic.names.keys() | numbers) > _MOST_NAMES:
        topic.other += 1
        return
    else:
        # Not every message has to hold everything: what one lacks is missing in its row.
        shape = tuple(numbers)
        if shape not in topic.shapes:
            topic.shapes[shape] = tuple(topic.names.setdefault(name, len(topic.names)) for name in shape)
        topic.rows.append((topic.shapes[shape], tuple(numbers.values())))
    topic.stamps.append(_stamp(message))
    topic.logged.append(logged)


def _fields(message: Any) -> Mapping[str, Any]:
    if isinstance(message, Mapping):
        return message
    names = getattr(message, "__dataclass_fields__", {})
    return {name: getattr(message, name) for name in names if not name.startswith("__")}


def _flatten(message: Any, prefix: str, numbers: dict[str, float]) -> None:
    """Numbers of a message by their dotted names; without stamps, covariances and what is long."""
    for name, value in _fields(message).items():
        if name in _STAMP_FIELDS or "covariance" in name:
            continue
        full = f"{prefix}.{name}" if prefix else name
        if isinstance(value, bool | int | float | np.number):
            numbers[full] = float(value)
        elif isinstance(value, np.ndarray | list | tuple):
            flat = np.asarray(value) if len(value) <= _MOST_NUMBERS else np.empty(0)
            if flat.ndim == 1 and flat.dtype.kind in "fiub":
                for k, each in enumerate(flat):
                    numbers[f"{full}.{k}"] = float(each)
        elif not isinstance(value, str | bytes) and value is not None:
            _flatten(value, full, numbers)


def _stamp(message: Any) -> int | None:
    """ns of the message's own stamp; None where it has none, or one that was never set."""
    fields = _fields(message)
    for holder in (_fields(fields.get("header")) if fields.get("header") is not None else {}, fields):
        for key in ("stamp", "timestamp"):
            stamp = _fields(holder[key]) if key in holder else {}
            seconds = stamp.get("sec", stamp.get("secs"))
            nanos = stamp.get("nanosec", stamp.get("nsec", stamp.get("nsecs")))
            if seconds is not None and nanos is not None and (seconds or nanos):
                return int(seconds) * 1_000_000_000 + int(nanos)
    return None


def _text(message: Any) -> str | None:
    words = [value for value in _fields(message).values() if isinstance(value, str)]
    return words[0] if len(words) == 1 else None


def _parts(path: str, name: str, topic: _Topic, odd: list[str]) -> list[Part]:
    if topic.other:
        odd.append(f"topic {name!r}: {topic.other} messages are not shaped as its first ones; left out")
    if not topic.stamps:
        return []
    logged = np.array(topic.logged, np.int64)
    known = [stamp for stamp in topic.stamps if stamp is not None]
    stamps = np.array(known, np.int64) if len(known) == len(logged) else logged
    if 0 < len(known) < len(logged):
        lacking = len(logged) - len(known)
        odd.append(
            f"topic {name!r}: {lacking} of {len(logged)} messages have no stamp of their own; the log's time is taken"
        )
    facts: dict[str, Any] = {"topic": name, "type": topic.kind}
    if np.array_equal(stamps, logged):
        facts["time_from"] = "the log's time"
    else:
        facts["time_from"] = "the messages' own stamps"
        facts["logged_later"] = float(np.median((logged - stamps) / 1e9))
    if topic.texts:
        groups, values = [Group("text", (0,), (name,), "it holds words")], [np.array(topic.texts, dtype=np.str_)]
    else:
        table = np.full((len(topic.rows), len(topic.names)), np.nan)
        for row, (places, numbers) in zip(table, topic.rows, strict=True):
            row[list(places)] = numbers
        headers = [parse_header(each) for each in topic.names]
        groups = group_columns(path, name.strip("/").replace("/", " "), headers, range(len(headers)))
        if "_msgs/" in topic.kind:
            groups = [replace(g, unit=SI[g.kind]) if g.kind in SI else g for g in groups]
        values = [table[:, list(g.columns)] for g in groups]
    found: list[str] = []
    try:
        parts = rows_to_parts(path, groups, values, stamps, 1, found)
    except ReadError as error:  # the other topics are good without it
        odd.append(f"topic {name!r} is left out: {reason_of(error, path)}")
        return []
    odd += [f"topic {name!r}: {sentence}" for sentence in found]
    for part in parts:
        part.name = name
        part.facts |= facts
        if part.group.kind in SI and part.group.unit == SI[part.group.kind]:
            part.facts["unit_from"] = "ROS messages are in SI units (REP 103)"
    return parts


def _ros(path: str, odd: list[str], skipped: dict[str, str]) -> Iterator[Message]:
    highlevel = needed("rosbags.highlevel", path, "ROS bags")
    from rosbags.typesys import Stores, get_typestore

    try:
        with highlevel.AnyReader([Path(path)], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            wanted = []
            for connection in reader.connections:
                if connection.msgtype.rsplit("/", 1)[-1] in _SKIPPED:
                    skipped[connection.topic] = f"{connection.msgtype} is no series of numbers"
                else:
                    wanted.append(connection)
            if not wanted:
                return
            for connection, logged, data in reader.messages(connections=wanted):
                try:
                    message = reader.deserialize(data, connection.msgtype)
                except Exception as error:  # definitions that are missing or damaged raise what they like
                    skipped[connection.topic] = f"{connection.msgtype} cannot be decoded ({type(error).__name__})"
                    continue
                yield connection.topic, connection.msgtype, logged, message
    except Exception as error:  # rosbags lets through struct, sqlite and YAML errors of damaged bags
        if isinstance(error, ReadError):
            raise
        told = f"{type(error).__name__}: {error}"
        raise ReadError(
            f"{path}: no whole ROS bag ({' '.join(told.split())[:120]}); expected one that was closed properly, "
            "try 'rosbag reindex' or 'ros2 bag reindex'"
        ) from error


def _mcap(path: str, odd: list[str], skipped: dict[str, str]) -> Iterator[Message]:
    needed("mcap.reader", path, "MCAP")
    from mcap.reader import NonSeekingReader

    decoders: dict[int, Callable[[bytes], Any] | None] = {}
    count = 0
    bad: dict[int, tuple[int, int]] = {}  # of a channel: messages, and how many of them in a row
    with open(path, "rb") as file:
        try:
            # From its start to its end: the index at the end is what a file that was cut short lacks.
            for schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                if channel.id not in decoders:
                    decoders[channel.id] = _decoder(path, schema, channel, skipped)
                decode = decoders[channel.id]
                if decode is None:
                    continue
                try:
                    decoded = decode(message.data)
                except Exception as error:  # whatever damaged data makes of a decoder
                    lost, row = bad.get(channel.id, (0, 0))
                    bad[channel.id] = lost + 1, row + 1
                    told = f"{lost + 1} messages cannot be decoded ({type(error).__name__})"
                    if row + 1 == _MOST_BAD:
                        told, decoders[channel.id] = f"{told}, nor those behind them", None
                    skipped[channel.topic] = told
                    continue
                count += 1
                if channel.id in bad:
                    bad[channel.id] = bad[channel.id][0], 0
                yield channel.topic, schema.name if schema else "json", message.log_time, decoded
        except Exception as error:  # beside its own errors mcap lets through those of zstd, lz4 and struct
            if count == 0:
                raise ReadError(
                    f"{path}: no whole MCAP file ({type(error).__name__}); expected one that was closed properly, "
                    "try 'mcap recover'"
                ) from error
            what = "it ends early" if type(error).__name__ == "EndOfFile" else f"{type(error).__module__}: {error}"
            odd.append(
                f"cut short or damaged ({' '.join(what.split())[:80]}); the {count} messages before that were read"
            )


def _decoder(path: str, schema: Any, channel: Any, skipped: dict[str, str]) -> Callable[[bytes], Any] | None:
    if channel.message_encoding == "json":
        return json.loads
    name = schema.name if schema is not None else ""
    if name.rsplit("/", 1)[-1] in _SKIPPED:
        skipped[channel.topic] = f"{name} is no series of numbers"
        return None
    if schema is None or schema.encoding not in ("ros1msg", "ros2msg"):
        encoding = channel.message_encoding or "no encoding"
        skipped[channel.topic] = f"messages in {encoding}; expected ROS or JSON"
        return None
    needed("rosbags.typesys", path, "ROS messages")
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    first = schema.encoding == "ros1msg"
    kind = name if "/msg/" in name else name.replace("/", "/msg/", 1)
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(schema.data.decode(), kind))
        # Types that every definition leaves to the language.
        base = get_typestore(Stores.ROS1_NOETIC if first else Stores.ROS2_HUMBLE)
        missing = {k: v for k, v in base.fielddefs.items() if k not in store.fielddefs}
        store.register(missing)
    except Exception as error:
        skipped[channel.topic] = f"the definition of {name} cannot be read ({type(error).__name__})"
        return None
    return lambda data: store.deserialize_ros1(data, kind) if first else store.deserialize_cdr(data, kind)
