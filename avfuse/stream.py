"""Every measurement is a stream on a clock; a recording is the streams of one device.

Streams of long recordings are lazy: `values` is then a `Source` that decodes on demand, and
`Stream.blocks` is the only thing that estimators use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError

Kind = Literal[
    "sound", "picture", "rotation_rate", "acceleration", "pose", "orientation", "points", "text", "feature", "other"
]
Array = NDArray[Any]
Block = tuple[NDArray[np.float64], Array]


@runtime_checkable
class Source(Protocol):
    """Values that are decoded when asked for.

    `duration`: seconds from the stream's first sample to the end of its last one, as far as known.
    `blocks(duration, rate)`: see `Stream.blocks`.
    """

    @property
    def duration(self) -> float: ...

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]: ...


def parts_of_times(times: NDArray[np.float64], duration: float) -> Iterator[slice]:
    """Rising times in parts of `duration` seconds, in order; none is empty."""
    index = 0
    while index < len(times):
        stop = max(int(np.searchsorted(times, times[index] + duration)), index + 1)
        yield slice(index, stop)
        index = stop


@dataclass(frozen=True, eq=False)
class Stream:
    """One measurement on one clock.

    name: "sound", "sound-2", "picture", ...
    kind: what is measured (see `Kind`).
    values: sound `(channels, samples)`, pictures `(n, height, width, colour)`, everything else time first
        `(n, ...)`; or a `Source`.
    times: `(n,)` seconds in the recording's own time; or None for evenly sampled streams.
    rate, start: Hz and seconds of the first sample, for evenly sampled streams.
    unit: of the values, e.g. "rad/s"; None where there is none.
    channels: names, e.g. ("left", "right").
    """

    name: str
    kind: Kind
    values: Array | Source
    times: NDArray[np.float64] | None = None
    rate: float | None = None
    start: float = 0.0
    unit: str | None = None
    channels: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise StreamError(f"Stream {self.name!r}: kind {self.kind!r}; expected one of {', '.join(get_args(Kind))}")
        if self.rate is not None and not (np.isfinite(self.rate) and self.rate > 0):
            raise StreamError(f"Stream {self.name!r}: rate {self.rate!r} Hz; expected a positive number")
        if not np.isfinite(self.start):
            raise StreamError(f"Stream {self.name!r}: start {self.start!r} s; expected a finite number")
        if isinstance(self.values, np.ndarray):
            self._check_values(self.values)
        elif not isinstance(self.values, Source):
            raise StreamError(
                f"Stream {self.name!r}: values of type {type(self.values).__name__}; expected a NumPy array"
            )

    def _check_values(self, values: Array) -> None:
        axis = 1 if self.kind == "sound" else 0
        if self.kind == "sound" and values.ndim != 2:
            raise StreamError(f"Stream {self.name!r}: sound of shape {values.shape}; expected (channels, samples)")
        if values.ndim == 0:
            raise StreamError(f"Stream {self.name!r}: a single value; expected an array over time")
        if (self.times is None) == (self.rate is None):
            raise StreamError(f"Stream {self.name!r}: give either times or rate, not both and not neither")
        if self.kind == "sound" and self.rate is None:
            raise StreamError(f"Stream {self.name!r}: sound without a rate; expected rate in Hz")
        if self.times is not None:
            if self.times.shape != (values.shape[axis],):
                raise StreamError(
                    f"Stream {self.name!r}: {values.shape[axis]} values but times has shape {self.times.shape}"
                )
            if self.times.dtype != np.float64:
                raise StreamError(f"Stream {self.name!r}: times are {self.times.dtype}; expected float64 seconds")
            if not np.all(np.isfinite(self.times)) or np.any(np.diff(self.times) < 0):
                raise StreamError(f"Stream {self.name!r}: times are not finite and in order; sort the values by time")
        if values.dtype.kind == "f":
            bad = values.size - int(np.count_nonzero(np.isfinite(values)))
            if bad and self.kind == "sound":
                raise StreamError(
                    f"Stream {self.name!r}: {bad} of {values.size} samples are NaN or infinite; expected finite sound. "
                    "Cut or replace them first, e.g. with numpy.nan_to_num"
                )

    @classmethod
    def from_samples(
        cls,
        values: Array,
        *,
        rate: float,
        start: float = 0.0,
        kind: Kind = "sound",
        name: str | None = None,
        unit: str | None = None,
        channels: tuple[str, ...] = (),
    ) -> Stream:
        """A stream from an array that is already in memory.

        values: sound `(samples,)` or `(channels, samples)`, anything else time first. Integer sound is
            scaled to +-1.
        Raises StreamError for empty, ragged, NaN or infinite input.
        """
        name = kind if name is None else name
        try:
            values = np.asarray(values)
        except ValueError as error:
            raise StreamError(f"Stream {name!r}: ragged values ({error}); expected rows of one length") from error
        if values.dtype.kind not in "fiub":
            raise StreamError(f"Stream {name!r}: values of type {values.dtype}; expected numbers")
        if values.size == 0:
            raise StreamError(f"Stream {name!r}: no values; expected at least one sample")
        if kind == "sound":
            if values.ndim == 1:
                values = values[None, :]
            if values.ndim == 2 and values.shape[0] > 64 and values.shape[0] > values.shape[1]:
                raise StreamError(
                    f"Stream {name!r}: sound of shape {values.shape}; expected (channels, samples), try values.T"
                )
            if values.dtype.kind in "iu":
                info = np.iinfo(values.dtype)
                middle = 0.0 if values.dtype.kind == "i" else (info.max + 1) / 2
                values = ((values - middle) / (info.max + 1 - middle)).astype(np.float32)
        return cls(name, kind, values, rate=float(rate), start=float(start), unit=unit, channels=channels)

    @property
    def lazy(self) -> bool:
        return not isinstance(self.values, np.ndarray)

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the end of the last one."""
        if not isinstance(self.values, np.ndarray):
            return float(self.values.duration)
        if self.times is not None:
            return float(self.times[-1] - self.times[0]) if len(self.times) else 0.0
        assert self.rate is not None
        return float(self.values.shape[1 if self.kind == "sound" else 0] / self.rate)

    @property
    def end(self) -> float:
        return self.start_time + self.duration

    @property
    def start_time(self) -> float:
        """Seconds of the first sample in the recording's own time."""
        return float(self.times[0]) if self.times is not None and len(self.times) else self.start

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """`(times, values)` in order, each at most `duration` seconds long.

        rate: Hz, resample to it (sound only); None keeps the stream's own.
        Inside a block sound is evenly sampled; blocks touch, except where the recording has a gap.
        Sound comes as float32 `(channels, n)`; times as float64 `(n,)`.
        """
        if not duration > 0:
            raise StreamError(f"Stream {self.name!r}: blocks of {duration!r} s; expected a positive duration")
        if rate is not None and self.kind != "sound":
            raise StreamError(f"Stream {self.name!r}: only sound can be resampled while reading, not {self.kind}")
        if not isinstance(self.values, np.ndarray):
            yield from self.values.blocks(duration, rate)
        elif self.kind == "sound":
            yield from self._sound_blocks(self.values, duration, rate)
        elif self.times is not None:
            for part in parts_of_times(self.times, duration):
                yield self.times[part], self.values[part]
        else:
            assert self.rate is not None
            size = max(1, round(duration * self.rate))
            for first in range(0, len(self.values), size):
                values = self.values[first : first + size]
                yield self.start + (first + np.arange(len(values))) / self.rate, values

    def _sound_blocks(self, values: Array, duration: float, rate: float | None) -> Iterator[Block]:
        assert self.rate is not None
        if rate is None or rate == self.rate:
            size = max(1, round(duration * self.rate))
            for first in range(0, values.shape[1], size):
                part = np.ascontiguousarray(values[:, first : first + size], np.float32)
                yield self.start + (first + np.arange(part.shape[1])) / self.rate, part
            return
        from avfuse.resampling import resample_blocks

        yield from resample_blocks(self.blocks(duration), self.rate, rate)


@dataclass(frozen=True, eq=False)
class Recording:
    """The streams of one device on the recording's own clock.

    name: the file's stem, or what the user called it.
    source: path as given; None for recordings made from arrays.
    start: integer nanoseconds that were subtracted to put time 0 at the earliest sample.
    start_clock: what `start` counts from: "unix", "device" or None.
    facts: what the container said beside its streams (creation time, time code, oddities).
    """

    name: str
    streams: tuple[Stream, ...]
    source: str | None = None
    start: int = 0
    start_clock: Literal["unix", "device"] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [s.name for s in self.streams]
        if len(set(names)) != len(names):
            raise StreamError(f"Recording {self.name!r}: stream names {names} are not unique")

    def __getitem__(self, name: str) -> Stream:
        for stream in self.streams:
            if stream.name == name:
                return stream
        have = ", ".join(s.name for s in self.streams) or "no streams"
        raise KeyError(f"Recording {self.name!r} has no stream {name!r}; it has {have}")

    def of_kind(self, kind: Kind) -> tuple[Stream, ...]:
        return tuple(s for s in self.streams if s.kind == kind)

    @property
    def duration(self) -> float:
        """Seconds from time 0 to the end of the last stream."""
        return max((s.end for s in self.streams), default=0.0)
