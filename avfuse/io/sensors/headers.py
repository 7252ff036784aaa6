"""What the names of columns say: words, axes and units.

gyro_x [deg/s]                    words gyro,             axis x, unit deg/s
motionRotationRateX(rad/s)        words motion rotation rate, axis x, unit rad/s
w_RS_S_x [rad s^-1]               words w rs s,           axis x, unit rad/s
timestamp_ns                      words timestamp,                unit ns
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Spelling (lower case, without spaces, dots and "^") -> the unit as avfuse writes it.
UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "days"),
    **dict.fromkeys(("rad/s", "rads-1", "rads", "rad/sec", "radps", "radians/s", "radian/s", "rps"), "rad/s"),
    **dict.fromkeys(("deg/s", "degs-1", "deg/sec", "degps", "dps", "°/s", "°s-1", "degrees/s", "degree/s"), "deg/s"),
    **dict.fromkeys(("mdps", "mdeg/s"), "mdeg/s"),
    **dict.fromkeys(("m/s2", "ms-2", "m/s/s", "m/s²", "ms2", "mps2", "m/sec2", "m/s**2", "meter/s2"), "m/s^2"),
    **dict.fromkeys(("g", "gs", "gee"), "g"),
    **dict.fromkeys(("mg", "millig", "milli-g"), "milli-g"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("cm",), "cm"),
    **dict.fromkeys(("mm",), "mm"),
}  # fmt: skip
# Units of time that loggers of sensors seldom write and stamps are not read in.
LONG_UNITS: Final = ("min", "h", "days")
TIME_SCALE: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
# Units that a bare last word of a name states: gyro_x_deg_s. A lone "s", "m" or "g" may be anything there.
_TAILS: Final = {
    ("deg", "s"): "deg/s", ("rad", "s"): "rad/s", ("m", "s", "2"): "m/s^2", ("m", "s2"): "m/s^2", ("dps",): "deg/s",
    ("mps", "2"): "m/s^2", ("mps2",): "m/s^2", ("mg",): "milli-g", ("ms", "2"): "m/s^2", ("ms2",): "m/s^2",
    ("mdps",): "mdeg/s", ("rads",): "rad/s", ("degs",): "deg/s",
}  # fmt: skip
_TIME_WORDS: Final = {
    "time", "t", "timestamp", "timestamps", "stamp", "datetime", "date", "ts", "epoch", "unixtime", "unix",
    "elapsed", "seconds", "sec", "secs", "millis", "milliseconds", "micros", "nanos", "nanoseconds", "clock",
}  # fmt: skip
_TIME_FORMS: Final = {"seconds": "s", "sec": "s", "secs": "s", "s": "s", "ns": "ns", "us": "us", "ms": "ms",
                      "millis": "ms", "milliseconds": "ms", "micros": "us", "microseconds": "us", "nanos": "ns",
                      "nanoseconds": "ns", "nsec": "ns", "usec": "us", "msec": "ms"}  # fmt: skip
_PARTS: Final = {
    "ns": ("ns", "nsec", "nsecs", "nanos", "nanosec", "nanosecs", "nanoseconds"),
    "us": ("us", "usec", "usecs", "micros", "microsec", "microsecs", "microseconds"),
    "ms": ("ms", "msec", "msecs", "millis", "millisec", "millisecs", "milliseconds"),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[µμ°]+\w*")
_BRACKETS = re.compile(r"^(.*?)\s*[\[({]([^\[\](){}]*)[\])}]\s*$")
_FUSED = re.compile(r"^(gyro|gyr|acc|accel|accl|omega|pos|mag|magn|quat|rot|[wgaqtpmv])([xyzw])$")


@dataclass(frozen=True)
class Header:
    """One column's name taken apart. words: lower case, without axis and unit. axis: "x", "y", "z", "w" or None."""

    name: str
    words: tuple[str, ...]
    axis: str | None
    unit: str | None

    @property
    def time_unit(self) -> str | None:
        """The unit of time that the name states, such as ms of `time_ms` and s of `seconds_elapsed`."""
        if self.unit in TIME_SCALE:
            return self.unit
        stated = [_TIME_FORMS[word] for word in self.words if word in _TIME_FORMS]
        return stated[-1] if stated else None

    @property
    def long_unit(self) -> str | None:
        """min, h or days of a name such as `time (min)` or `elapsed_hours`."""
        if self.unit in LONG_UNITS:
            return self.unit
        unit = UNITS.get(self.words[-1]) if len(self.words) > 1 else None
        return unit if unit in LONG_UNITS else None

    @property
    def part_of_second(self) -> str | None:
        """The unit of what is left of whole seconds: ns of `nsecs`, us of `usec`; None for other names."""
        last = self.words[-1] if self.words else ""
        return next((unit for unit, forms in _PARTS.items() if last in forms), None)

    @property
    def is_time(self) -> bool:
        """Whether the name says time: `t`, `timestamp [ns]`, `seconds_elapsed`, `Time`, but not `flight mode time`."""
        rest = [w for w in self.words if w not in _TIME_WORDS and w not in _TIME_FORMS]
        named = any(w in _TIME_WORDS for w in self.words)
        return self.axis is None and named and len(rest) <= 1 and len(self.words) <= 3


def unit_named(text: str) -> str | None:
    """The unit that is spelt `text`; None where it is none that avfuse knows."""
    spelt = text.strip().lower().replace(" ", "").replace("^", "").replace("·", "")
    spelt = "".join(c for c in spelt if c not in "*()[]")
    return UNITS.get(spelt)


def parse_header(name: str) -> Header:
    """Words, axis and unit of a column's name."""
    name = name.strip()
    unit, text = None, name
    match = _BRACKETS.match(name)
    if match and match[2].strip() and not match[2].strip().isdigit():
        # Units that avfuse does not convert (mV, uT) are units too; a remark such as "(left)" is harmless as one.
        unit, text = unit_named(match[2]) or match[2].strip(), match[1]
    words = [word.lower() for word in _WORD.findall(text)]
    if unit is None:
        for tail, meant in _TAILS.items():
            if len(words) > len(tail) and tuple(words[-len(tail) :]) == tail:
                unit, words = meant, words[: -len(tail)]
                break
    axis, words = _axis(words)
    return Header(name, tuple(words), axis, unit)


def _axis(words: list[str]) -> tuple[str | None, list[str]]:
    for k in reversed(range(len(words))):
        # A leading "w" is angular velocity, not an axis: w_x.
        if words[k] in ("x", "y", "z") or (words[k] == "w" and (k > 0 or len(words) == 1)):
            return words[k], words[:k] + words[k + 1 :]
    if words:
        fused = _FUSED.match(words[-1])
        if fused:
            return fused[2], [*words[:-1], fused[1]]
        if len(words) > 1 and words[-1] in ("0", "1", "2") and words[0].startswith(("gyro", "acc")):
            return "xyz"[int(words[-1])], words[:-1]
    return None, words
