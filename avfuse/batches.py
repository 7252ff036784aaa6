"""Aligned recordings in windows, and windows in batches: values with their times, validity and confidence.

    windows   cuts an aligned event into ragged `Window`s on the common timeline
    collate   pads windows to one `Batch` of NumPy arrays

Nothing is resampled unless asked; what is padding, missing or not a number is masked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Alignment, ClockEstimate, load_alignment
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.stream import Array, Recording, Stream

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]
Label = Any | Callable[[float, float], Any]
Timeline = Literal["intersection", "union"]
# Seconds that are decoded at once; a second of a large picture would be gigabytes.
_BLOCKS: Mapping[str, float] = {"sound": 10.0, "picture": 0.25}
_OTHER_BLOCK = 10.0


class NoWindowError(StreamError):
    """An event of which no window can be cut."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What one stream has to say about one window.

    values: `(n, ...)`, time first: sound `(n, channels)`, pictures `(n, height, width, colour)`, sensors
        `(n, channels)`, text `(n,)` integer tokens.
    times: `(n,)` float64 seconds on the common timeline, in order.
    valid: `(n,)`, False where a value is not known (NaN in a sensor's log); such values are 0.
    confidence: probability that the stream's clock is right, of the alignment; 1 for the reference.
    std: seconds, 1 sigma of the times against the common timeline, given that it is right.
    rate: Hz of evenly sampled streams in their own time; None for others.
    """

    values: Array
    times: F64
    valid: Bool
    confidence: float = 1.0
    std: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        n = len(self.values) if self.values.ndim else -1
        if self.times.shape != (n,) or self.valid.shape != (n,):
            raise StreamError(
                f"Samples: values of shape {self.values.shape}, times {self.times.shape}, valid {self.valid.shape}; "
                "expected one time and one validity for each value"
            )
        if self.times.dtype != np.float64:
            raise StreamError(f"Samples: times are {self.times.dtype}; expected float64 seconds")
        if not np.isfinite(self.times).all() or (np.diff(self.times) < 0).any():
            raise StreamError("Samples: times are not finite and in order; sort the values by time")
        if not 0.0 <= self.confidence <= 1.0:
            raise StreamError(f"Samples: confidence {self.confidence!r}; expected a probability, 0 ... 1")
        if not self.std >= 0.0:
            raise StreamError(f"Samples: std {self.std!r} s; expected 0 or more (infinity: no time is known)")


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of one event: what each modality has in it.

    event: name of the event; windows of one event belong into one split.
    start, duration: seconds on the common timeline; the window holds start <= t < start + duration.
    samples: modality -> its samples; a modality that the event lacks, or that is not aligned, is not in it.
    label: of the window; None where there is none.
    """

    event: str
    start: float
    duration: float
    samples: Mapping[str, Samples]
    label: Any = None


@dataclass(frozen=True, eq=False)
class Padded:
    """One modality of a batch.

    values: `(batch, time, ...)`; 0 where nothing is valid.
    times: `(batch, time)` float64 seconds since the start of each window; 0 in padding.
    valid: `(batch, time)`, False in padding and where a value is not known.
    present: `(batch,)`, whether the window has anything valid of this modality.
    confidence, std: `(batch,)`, see `Samples`; 0 where not present.
    rate: Hz, one for each window; None where it has none.
    """

    values: Array
    times: F64
    valid: Bool
    present: Bool
    confidence: F64
    std: F64
    rate: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows, padded: `batch["sound"].values`.

    modalities: name -> `Padded`, in the order of names. events, starts, durations, labels: one for each window.
    """

    modalities: Mapping[str, Padded]
    events: tuple[str, ...]
    starts: F64
    durations: F64
    labels: tuple[Any, ...] = field(default=())

    def __getitem__(self, name: str) -> Padded:
        try:
            return self.modalities[name]
        except KeyError:
            raise KeyError(f"this batch has no modality {name!r}; it has {', '.join(self.modalities)}") from None

    def __len__(self) -> int:
        return len(self.events)


def collate(windows: Sequence[Window]) -> Batch:
    """Windows of any lengths and modalities as one batch.

    Raises StreamError where there is no window, where one has nothing valid at all, where shapes of values differ
    between windows, or where a value that is said to be valid is NaN or infinite.
    """
    if not windows:
        raise StreamError("collate: no windows; expected at least one")
    for window in windows:
        if not any(samples.valid.any() for samples in window.samples.values()):
            raise StreamError(
                f"collate: window of {window.event!r} at {window.start:.3f} s has no modality with a valid value; "
                "leave it out"
            )
    names = sorted({name for window in windows for name in window.samples})
    return Batch(
        {name: _padded(name, windows) for name in names},
        tuple(window.event for window in windows),
        np.array([window.start for window in windows], np.float64),
        np.array([window.duration for window in windows], np.float64),
        tuple(window.label for window in windows),
    )


def _padded(name: str, windows: Sequence[Window]) -> Padded:
    rows = [window.samples.get(name) for window in windows]
    some = next(row for row in rows if row is not None)
    shape, dtype = some.values.shape[1:], np.result_type(*(row.values for row in rows if row is not None))
    longest = max(len(row.values) for row in rows if row is not None)
    count = len(windows)
    values = np.zeros((count, longest, *shape), dtype)
    times, valid = np.zeros((count, longest)), np.zeros((count, longest), bool)
    for k, (window, row) in enumerate(zip(windows, rows, strict=True)):
        if row is None:
            continue
        where = f"collate: {name!r} of {window.event!r} at {window.start:.3f} s"
        if row.values.shape[1:] != shape:
            raise StreamError(
                f"{where}: values of shape {row.values.shape[1:]} beside {shape}; expected one shape in a batch: "
                "ask `windows` for a size, or batch by shape"
            )
        whole = row.valid.all()  # as nearly all are: nothing is copied twice
        known = row.values if whole else row.values[row.valid]
        if known.dtype.kind == "f" and not np.isfinite(known).all():
            raise StreamError(f"{where}: NaN or infinite values that are said to be valid; mask or replace them")
        n = len(row.values)
        if whole:
            values[k, :n] = known
        else:
            values[k, :n][row.valid] = known
        times[k, :n] = row.times - window.start  # in float64: what is cast later is small
        valid[k, :n] = row.valid
    present: Bool = np.any(valid, axis=1)
    return Padded(
        values,
        times,
        valid,
        present,
        np.array([row.confidence if row is not None and p else 0.0 for row, p in zip(rows, present, strict=True)]),
        np.array([row.std if row is not None and p else 0.0 for row, p in zip(rows, present, strict=True)]),
        tuple(None if row is None else row.rate for row in rows),
    )


@overload
def windows(
    event: Alignment | str | os.PathLike[str],
    *,
    duration: float,
    hop: float | None = None,
    streams: Mapping[str, str | Sequence[str]] | None = None,
    start: float | None = None,
    end: float | None = None,
    timeline: Timeline = "intersection",
    size: tuple[int, int] | None = None,
    rates: Mapping[str, float] | None = None,
    label: Label = None,
    name: str | None = None,
    strict: bool = False,
) -> Iterator[Window]: ...


@overload
def windows(
    event: str | os.PathLike[str],
    *,
    batch: int = 32,
    split: str | None = "train",
    seed: int | None = None,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
    buffer: int = 256,
) -> Iterator[Batch]: ...


def windows(event: Alignment | str | os.PathLike[str], **options: Any) -> Iterator[Window] | Iterator[Batch]:
    """Cut an aligned event into windows on the clock of its reference, in order; each stream is decoded once.

    event: an `Alignment`, or the path of an alignment.json whose recordings are where it says.
    duration, hop: seconds of each window, and from one start to the next; None cuts them end to end.
    streams: modality -> "recording/stream", or several, of which the first that the event has and that is aligned is
        taken; None takes every stream of every aligned recording, named so.
    start, end: seconds on the reference's clock; None is the first and the last moment of which all streams
        (timeline "intersection") or any stream ("union") have something. Only whole windows are cut. Text, which comes
        now and then, bounds nothing where there is anything else.
    size: (height, width) of pictures, means over areas; rates: modality -> Hz that its sound is resampled to. Without
        these everything stays as it was recorded.
    label: of all windows, or a function of a window's start and end.
    name: of the event; None takes that of the reference recording.
    strict: raises WeakAlignmentError where a stream that was asked for is not aligned; else it is absent.

    Where the alignment states no uncertainty (`Alignment.from_maps`), its clocks are taken for exact. Samples of a
    moment that the clock does not map (what was inserted) are in no window; windows without any sample are left out.
    Where windows touch (the duration is so many hops), each sample is in one of two neighbours, whatever rounding does.
    Text comes as bytes of UTF-8, each at the time of its line or word, with a space behind it.
    Raises StreamError for arguments that do not fit, and NoWindowError, one of them, where no stream is aligned or no
    window fits in: there the event is to blame, not the arguments.

    Of a folder of shards that `avfuse.prepare` made, or its address, batches are read, not cut:

    batch: windows in each; the last one may be smaller. split: None takes every one.
    seed, epoch, rank, ranks, buffer: see `avfuse.preparation.read_windows`.
    Raises ReadError for a folder that was not prepared, StreamError where the split has no window.
    """
    if "duration" in options or isinstance(event, Alignment) or os.path.isfile(event):
        if "duration" not in options:
            raise StreamError("windows: no duration is given; expected the seconds of each window of an event")
        return _windows_of_event(event, **options)
    from avfuse.preparation.reading import read_batches

    return read_batches(event, **options)


def _windows_of_event(
    event: Alignment | str | os.PathLike[str],
    *,
    duration: float,
    hop: float | None = None,
    streams: Mapping[str, str | Sequence[str]] | None = None,
    start: float | None = None,
    end: float | None = None,
    timeline: Timeline = "intersection",
    size: tuple[int, int] | None = None,
    rates: Mapping[str, float] | None = None,
    label: Label = None,
    name: str | None = None,
    strict: bool = False,
) -> Iterator[Window]:
    hop = duration if hop is None else hop
    for what, value in (("duration", duration), ("hop", hop)):
        if not (math.isfinite(value) and value > 0):
            raise StreamError(f"windows: {what} {value!r} s; expected a positive number")
    for what, moment in (("start", start), ("end", end)):
        if moment is not None and not math.isfinite(moment):
            raise StreamError(f"windows: {what} {moment!r} s; expected a finite time, or None")
    if timeline not in get_args(Timeline):
        raise StreamError(f"windows: timeline {timeline!r}; expected one of {', '.join(get_args(Timeline))}")
    if size is not None and not (len(size) == 2 and min(size) >= 1):
        raise StreamError(f"windows: size {size!r}; expected (height, width) in pixels")
    alignment = event if isinstance(event, Alignment) else load_alignment(event)
    tracks = tracks_of(alignment, streams, size, rates or {}, strict)
    begin, stop = extent_of(tracks, timeline)
    begin, stop = begin if start is None else float(start), stop if end is None else float(end)
    count = count_of(begin, stop, duration, hop)
    if count < 1:
        raise NoWindowError(
            f"windows: no window of {duration:g} s between {begin:.3f} and {stop:.3f} s of {alignment.reference!r}; "
            f"take a shorter duration{'' if timeline == 'union' else ', or timeline=' + repr('union')}"
        )
    called = alignment.reference if name is None else name
    return _cut(tracks, called, edges_of(begin, float(duration), float(hop), count), float(duration), label)


def count_of(begin: float, stop: float, duration: float, hop: float) -> int:
    """How many whole windows there are."""
    # A window that ends with the recording is whole, whatever rounding says.
    return max(0, math.floor((stop - begin - duration) / hop + 1e-9) + 1)


def edges_of(begin: float, duration: float, hop: float, count: int) -> Iterator[tuple[float, float]]:
    """Start and end of each window; the end of one is the same number as the start of the one that follows on it."""
    steps = max(1, round(duration / hop))
    touching = math.isclose(steps * hop, duration, rel_tol=1e-12)
    for k in range(count):
        start = begin + hop * k
        yield start, begin + hop * (k + steps) if touching else start + duration


def _cut(
    tracks: Mapping[str, Track], event: str, edges: Iterator[tuple[float, float]], duration: float, label: Label
) -> Iterator[Window]:
    for start, end in edges:
        samples = {name: track.take(start, end) for name, track in tracks.items()}
        samples = {name: found for name, found in samples.items() if found.valid.any()}
        if samples:
            told = label(start, end) if callable(label) else label
            yield Window(event, start, duration, samples, told)


def extent_of(tracks: Mapping[str, Track], timeline: Timeline) -> tuple[float, float]:
    spans = [(track.stream.kind, track.span) for track in tracks.values()]
    spans = [(kind, span) for kind, span in spans if not math.isnan(span[0])]
    bounding = [span for kind, span in spans if kind != "text"] or [span for _, span in spans]
    if not bounding:
        raise StreamError(f"windows: {', '.join(tracks)}: no sample that the clocks map onto the timeline")
    starts, ends = zip(*bounding, strict=True)
    start, end = (max(starts), min(ends)) if timeline == "intersection" else (min(starts), max(ends))
    # Starts of streams that begin together differ in the last digit of a sum: their first samples belong to a window.
    return math.floor(start * 1e9) / 1e9, end


def tracks_of(
    alignment: Alignment,
    streams: Mapping[str, str | Sequence[str]] | None,
    size: tuple[int, int] | None,
    rates: Mapping[str, float],
    strict: bool,
) -> dict[str, Track]:
    refused = alignment.left_out
    recordings: dict[str, Recording] = {}

    def recording_of(name: str) -> Recording:  # what is not asked for need not be there
        return recordings[name] if name in recordings else recordings.setdefault(name, alignment.recording(name))

    if streams is None:
        every = [
            (name, stream) for name in alignment.clocks if name not in refused for stream in recording_of(name).streams
        ]
        streams = {f"{name}/{stream.name}": f"{name}/{stream.name}" for name, stream in every}
    if unknown := sorted(set(rates) - set(streams)):
        raise StreamError(f"windows: rates of {', '.join(unknown)}; expected some of {', '.join(streams)}")
    tracks: dict[str, Track] = {}
    for modality, wanted in streams.items():
        lacking, weak = [], []
        for choice in [wanted] if isinstance(wanted, str) else wanted:
            recording, _, stream = choice.rpartition("/")
            if recording not in alignment.clocks:
                known = ", ".join(alignment.clocks)
                lacking.append(f"{choice!r} names no recording; expected RECORDING/STREAM with one of {known}")
            elif recording in refused:
                weak.append(f"{choice} is {refused[recording]}")
            elif stream not in (have := {s.name: s for s in recording_of(recording).streams}):
                lacking.append(f"recording {recording!r} has no stream {stream!r}; it has {', '.join(have)}")
            else:
                facts = alignment.facts.get(recording)
                shift = facts.streams.get(stream, 0.0) if facts else 0.0
                rate = rates.get(modality)
                tracks[modality] = Track(recording, have[stream], alignment.clocks[recording], shift, size, rate)
                break
        else:
            if not weak:
                raise StreamError(f"windows: {modality}: {'; '.join(lacking) or 'no stream is named'}")
            if strict:
                raise WeakAlignmentError(f"windows: {modality}: {'; '.join(weak)}")
    if not tracks:
        why = "; ".join(f"{name} is {reason}" for name, reason in refused.items()) or "no streams were asked for"
        raise NoWindowError(f"windows: no stream is aligned: {why}")
    return tracks


class Track:
    """One stream on the common timeline, read forward once: what of it may still be asked for is kept.

    recording: its name. clock: the stream's own time -> the timeline.
    """

    def __init__(
        self,
        recording: str,
        stream: Stream,
        estimate: ClockEstimate,
        shift: float,
        size: tuple[int, int] | None,
        rate: float | None,
    ) -> None:
        self.recording = recording
        self.stream = stream
        self.estimate = estimate
        self._shift = shift
        self.clock = estimate.map @ ClockMap(shift)
        self._size = size
        if rate is not None and stream.kind != "sound":
            raise StreamError(
                f"windows: {stream.name!r} at {rate:g} Hz; only sound can be resampled, not {stream.kind}"
            )
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise StreamError(f"windows: {stream.name!r} at {rate!r} Hz; expected a positive rate")
        self._rate = rate if rate is not None else stream.rate
        self._blocks = stream.blocks(_BLOCKS.get(stream.kind, _OTHER_BLOCK), rate if rate != stream.rate else None)
        self._kept: list[tuple[F64, Array, Bool]] = []
        self._next: float = -math.inf  # no sample that is still to be read lies before this on the timeline

    @property
    def span(self) -> tuple[float, float]:
        """Reference seconds of the first sample and of the end of the last one; NaN where there is none."""
        start, end = self.stream.start_time, self.stream.end
        if isinstance(self.stream.values, np.ndarray) and self.stream.values.size == 0:
            return math.nan, math.nan
        inside = [start, end]
        if isinstance(self.clock, PiecewiseClock):
            inside += [s.start for s in self.clock.segments if start <= s.start <= end]
            inside += [math.nextafter(s.end, -math.inf) for s in self.clock.segments if start < s.end <= end]
        mapped = self.clock(inside)
        mapped = mapped[np.isfinite(mapped)]
        return (float(mapped.min()), float(mapped.max())) if mapped.size else (math.nan, math.nan)

    def take(self, start: float, end: float) -> Samples:
        """Samples of start <= t < end; what lies before start is forgotten."""
        while self._next < end and (block := next(self._blocks, None)) is not None:
            self._keep(*block, start)
        self._kept = [part for part in self._kept if part[0][-1] >= start]
        parts = []
        for times, values, valid in self._kept:
            first, stop = np.searchsorted(times, (start, end))
            if first < stop:
                parts.append((times[first:stop], values[first:stop], valid[first:stop]))
        confidence, std = self.doubt(0.5 * (start + end))
        if not parts:
            empty = np.zeros(0)
            return Samples(empty[:, None], empty, empty.astype(bool), confidence, std, self._rate)
        # Copies, so that a window that is kept does not keep the block that it came from.
        times, values, valid = _in_order(*(np.concatenate(each) for each in zip(*parts, strict=True)))
        return Samples(values, times, valid, confidence, std, self._rate)

    def _keep(self, times: F64, values: Array, start: float) -> None:
        if not times.size:
            return
        self._next = self.earliest_after(float(times[-1]))
        mapped = self.clock(times)
        wanted = mapped >= start  # not where the clock maps nothing, either: NaN
        if not wanted.any():
            return
        if self.stream.kind == "sound":
            values = values.T
        elif self.stream.kind == "text" and values.dtype.kind in "USO":
            mapped, values, wanted = _bytes_of(mapped, values, wanted)
        if not wanted.all():
            mapped, values = mapped[wanted], values[wanted]
        if not len(values):  # lines without a letter
            return
        if self.stream.kind == "picture" and self._size is not None:
            values = _resized(values, self._size)
        valid: Bool = np.ones(len(values), bool)
        if values.dtype.kind == "f" and self.stream.kind != "sound":
            known = np.isfinite(values)
            if not known.all():
                valid = np.all(known.reshape(len(values), -1), axis=1)
                values = np.where(valid.reshape(-1, *(1,) * (values.ndim - 1)), values, 0)
        self._kept.append(
            (mapped, values, valid) if isinstance(self.clock, ClockMap) else _in_order(mapped, values, valid)
        )

    def earliest_after(self, time: float) -> float:
        """The earliest reference time of anything after `time` of the stream: clocks may be set back."""
        if isinstance(self.clock, ClockMap):
            return float(self.clock(time))
        first, *others = self.clock.segments  # the first one's line goes on before it, the last one's behind it
        starts = [(first, time), *((s, max(s.start, time)) for s in others)]
        return float(min(s.map(t) for s, t in starts if s.end > time or s is self.clock.segments[-1]))

    def doubt(self, time: float) -> tuple[float, float]:
        """Confidence and std of the clock about a moment of the timeline."""
        if self.estimate.cov is None:  # nothing was stated, as by `Alignment.from_maps`: taken as told
            return self.estimate.confidence or 1.0, 0.0
        own = self.own(time)
        return self.estimate.confidence, float(self.estimate.std_at(own + self._shift))

    def own(self, time: float) -> float:
        """The stream's own time at a moment of the timeline, or near it where the clock has a hole."""
        if isinstance(self.clock, ClockMap):
            return float(self.clock.inverse()(time))
        away = [(max(float(s.map(s.start)) - time, time - float(s.map(s.end)), 0.0), s) for s in self.clock.segments]
        segment = min(away, key=lambda pair: pair[0])[1]
        return float(np.clip(segment.map.inverse()(time), segment.start, segment.end))


def _resized(values: Array, size: tuple[int, int]) -> Array:
    import cv2

    height, width = size
    if values.shape[1:3] == (height, width):
        return values
    made = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in values]
    return np.stack(made).reshape(len(values), height, width, *values.shape[3:])


def _in_order(times: F64, values: Array, valid: Bool) -> tuple[F64, Array, Bool]:
    if (np.diff(times) < 0).any():  # a clock that was set back
        order = np.argsort(times, kind="stable")
        times, values, valid = times[order], values[order], valid[order]
    return times, values, valid


def _bytes_of(times: F64, lines: Array, wanted: Bool) -> tuple[F64, Array, Bool]:
    """Every byte of every line and a space behind it, at its line's time."""
    plain = (line.encode() if isinstance(line, str) else bytes(line) for line in lines.tolist())
    coded = [line + b" " if line else b"" for line in plain]
    counts = [len(line) for line in coded]
    values = np.frombuffer(b"".join(coded), np.uint8).astype(np.int64)
    return np.repeat(times, counts), values, np.repeat(wanted, counts)
