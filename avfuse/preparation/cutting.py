"""Streams of an aligned event, cut exactly into windows of its timeline, one after the other.

Sound is evaluated at the window's own samples, so that it begins with the window and has the same number of samples in
each. Pictures keep their frames, each at its own time, or come at even times. Whatever is read is read once, forward.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.batches import Samples, Track
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.io.frames import PicturePacker
from avfuse.preparation.encoding import Encoded, encode_pictures, encode_samples, encode_sound
from avfuse.preparation.keeping import KeptPictures
from avfuse.preparation.recipe import PictureForm, Recipe, SoundForm
from avfuse.preparation.shaping import Shaper
from avfuse.rendering.placing import InterpolatedSound
from avfuse.stream import Stream

F64 = NDArray[np.float64]
_BLOCK = 10.0  # seconds of sound that are evaluated at once
# Seconds for which a picture stands where none follows it: a camera that pauses longer has a gap.
_HOLD = 1.0


@dataclass(frozen=True, eq=False)
class Slot:
    """A window to be cut: start <= t < end on the timeline. following: the start of the next one, or infinity."""

    start: float
    end: float
    following: float = math.inf


@dataclass(frozen=True, eq=False)
class Piece:
    """What one stream has in a window.

    file: encoded. times: seconds since the window's start of each frame; None for sound, whose sample k is at
    k / rate, and for archives, which hold their own. start: seconds of the first sample since the window's start.
    coverage: share of the window of which there is something. valid: where it is, in seconds since the window's start.
    clipped: samples beyond full scale. confidence, std: of the clock. source_start: own time at the window's start.
    """

    file: Encoded
    start: float
    samples: int
    rate: float | None
    coverage: float
    valid: tuple[tuple[float, float], ...]
    confidence: float
    std: float
    source_start: float
    times: F64 | None = None
    clipped: int = 0


class Cutter:
    """One stream, window after window; `None` where it has nothing in one."""

    def __init__(self, track: Track, recipe: Recipe, transform: str | None) -> None:
        self.track = track
        kind = track.stream.kind
        self._source: _Sound | _Pictures | _Others
        if kind == "sound":
            self._source = _Sound(track, recipe.sound)
        elif kind == "picture":
            self._source = _Pictures(track, recipe.picture)
        else:
            self._source = _Others(track)
        self._transform = None if transform is None else load_function(transform)
        self._name = transform

    def take(self, slot: Slot) -> Piece | None:
        """Raises StreamError where a transform returns what cannot be stored."""
        middle = 0.5 * (slot.start + slot.end)
        confidence, std = self.track.doubt(middle)
        own = self.track.own(slot.start)
        if self._transform is None:
            found = self._source.encoded(slot)
            return found and replace(found, confidence=confidence, std=std, source_start=own)
        samples, spans = self._source.samples(slot)
        if not len(samples.times):
            return None
        samples = replace(samples, confidence=confidence, std=std)
        try:
            made = self._transform(samples)
        except Exception as error:  # whatever a function of the user's raises
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise StreamError(f"transform {self._name!r} failed at {slot.start:.3f} s: {text}") from error
        if not isinstance(made, Samples):
            made = _as_samples(made, samples, self._name)
        return _archived(made, slot, spans, self._source.rate if len(made.times) == len(samples.times) else None, own)


def load_function(place: str) -> Any:
    """What "module:function" names. Raises StreamError where it cannot be imported or called."""
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise StreamError(f"transform {place!r}: {text}; expected module:function that can be imported") from error
    if not callable(found):
        raise StreamError(f"transform {place!r}: is {type(found).__name__}; expected a function")
    return found


def _as_samples(made: Any, samples: Samples, name: str | None) -> Samples:
    """An array of a transform: a row for each sample, or rows at even times over those of the samples."""
    try:
        values = np.asarray(made)
    except ValueError:  # rows of several lengths
        values = np.zeros(0, object)
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise StreamError(
            f"transform {name!r} returned {type(made).__name__}; expected an array of numbers, time first, or Samples"
        )
    times = samples.times
    if len(values) != len(times):
        # Rows in the middle of equal parts of the stretch.
        step = (times[-1] - times[0]) / max(1, len(times) - 1)
        stretch = times[-1] + step - times[0]
        times = times[0] + (np.arange(len(values)) + 0.5) * stretch / max(1, len(values))
    known = np.ones(len(values), bool)
    if values.dtype.kind == "f" and values.size:
        known = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        values = np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, values.dtype.type(0))
    return Samples(values, times, known, samples.confidence, samples.std)


def _archived(
    samples: Samples, slot: Slot, spans: list[tuple[float, float]], rate: float | None, own: float
) -> Piece | None:
    if not samples.valid.any():
        return None
    first = float(samples.times[0]) - slot.start
    return Piece(
        encode_samples(samples, slot.start), first, len(samples.times), rate, *_covered(spans, slot),
        samples.confidence, samples.std, own,
    )  # fmt: skip


def _covered(spans: list[tuple[float, float]], slot: Slot) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Share of the window that spans of the timeline cover, and these from its start; spans are in order."""
    joined: list[list[float]] = []
    for low, high in spans:
        low, high = max(low, slot.start), min(high, slot.end)
        if high <= low:
            continue
        if joined and low - joined[-1][1] <= 1e-6:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    # Microseconds: what is finer is rounding, and would make rows differ.
    found = tuple((round(low - slot.start, 6), round(high - slot.start, 6)) for low, high in joined)
    share = sum(high - low for low, high in found) / (slot.end - slot.start)
    return min(1.0, round(share, 6)), found


class _Sound:
    """Sound at the samples of windows: sample k of a window is at its start + k / rate."""

    def __init__(self, track: Track, form: SoundForm) -> None:
        rate = track.stream.rate
        assert rate is not None  # of sound: see `Stream`
        self.rate: float = form.rate or float(max(1, round(rate)))
        self._form = form
        self._clock, self._back = track.clock, track.clock.inverse()
        # Where the rate is nearly right, samples are evaluated between those recorded; else it is resampled first.
        close = abs(self.rate - rate) < 1e-3 * rate
        self._sound = InterpolatedSound(track.stream, rate if close else self.rate)

    def _blocks(self, slot: Slot) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """(number of the first sample, `(channels, n)` values, where there is something), of what a window has."""
        count = math.floor((slot.end - slot.start) * self.rate + 0.5)
        size = round(_BLOCK * self.rate)
        if not self._sound.channels:
            return
        for first in range(0, count, size):
            stop = min(first + size, count)
            times = np.asarray(self._back(slot.start + np.arange(first, stop) / self.rate), np.float64)
            then = min(slot.following, slot.start + stop / self.rate if stop < count else math.inf)
            # What a later part of this block lies at is still needed, too.
            since = min(self._own_after(then), float(times[np.isfinite(times)].min(initial=math.inf)))
            found, known = [], []
            for part in _rising(times):
                found.append(self._sound.at(part, since))
                known.append(self._sound.covers(part))
            values = np.concatenate(found, axis=1)
            if self._form.mono:
                values = values.mean(axis=0, keepdims=True)
            yield first, values, np.concatenate(known)

    def _own_after(self, time: float) -> float:
        """The earliest own time of anything from a moment of the timeline on."""
        if isinstance(self._back, ClockMap) or not math.isfinite(time):
            return float(self._back(time)) if math.isfinite(time) else time
        *_, last = self._back.segments
        later = [s for s in self._back.segments if s.end > time or s is last]
        before = later[0] is self._back.segments[0]  # its line goes on before it
        return float(min(s.map(time if before and s is later[0] else max(s.start, time)) for s in later))

    def encoded(self, slot: Slot) -> Piece | None:
        spans: list[tuple[float, float]] = []
        samples = 0

        def blocks() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for first, values, known in self._blocks(slot):
                spans.extend(self._spans(first, known, slot))
                samples += len(known)
                yield values

        found = encode_sound(blocks(), self.rate, self._form)
        if found is None or not spans:
            return None
        file, clipped = found
        return Piece(file, 0.0, samples, self.rate, *_covered(spans, slot), 1.0, 0.0, 0.0, clipped=clipped)

    def samples(self, slot: Slot) -> tuple[Samples, list[tuple[float, float]]]:
        blocks = list(self._blocks(slot))
        if not blocks:
            return _NONE, []
        values, mask = (np.concatenate(each, axis=-1) for each in list(zip(*blocks, strict=True))[1:])
        times = slot.start + np.arange(len(mask)) / self.rate
        return Samples(np.where(mask[:, None], values.T, 0), times, mask, rate=self.rate), self._spans(0, mask, slot)

    def _spans(self, first: int, known: NDArray[np.bool_], slot: Slot) -> list[tuple[float, float]]:
        edges = (first + np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))).tolist()
        # The last sample stands until the window ends: rounding may put that a part of a sample later.
        step = 1.0 / self.rate
        ends = [slot.start + stop * step for stop in edges[1::2]]
        ends = [slot.end if abs(slot.end - end) < step else end for end in ends]
        return [(slot.start + start * step, end) for start, end in zip(edges[::2], ends, strict=True)]


def _rising(times: F64) -> list[F64]:
    """Own times of rising moments in parts, each of which rises: a rearranged recording comes back to earlier ones."""
    known = np.flatnonzero(np.isfinite(times))
    return np.split(times, known[1:][np.diff(times[known]) < 0])


class _Pictures:
    """Frames of a window in their stored form; those that the next window needs as well are kept."""

    def __init__(self, track: Track, form: PictureForm) -> None:
        self._form = form
        own = track.stream.rate or 25.0
        self.rate: float = form.rate or own
        self._period = 1.0 / own
        self._read = _on_timeline(track, form)
        self._kept: deque[tuple[float, Any]] = deque()

    def encoded(self, slot: Slot) -> Piece | None:
        spans: list[tuple[float, float]] = []
        times: list[float] = []

        def frames() -> Iterator[tuple[float, Any]]:
            for stamp, time, frame in self._chosen(slot, spans):
                times.append(time - slot.start)
                yield stamp - slot.start, frame

        file = encode_pictures(frames(), self.rate, self._form)
        if file is None:
            return None
        coverage, valid = _covered(spans, slot)
        return Piece(file, times[0], len(times), self.rate, coverage, valid, 1.0, 0.0, 0.0, np.array(times))

    def samples(self, slot: Slot) -> tuple[Samples, list[tuple[float, float]]]:
        spans: list[tuple[float, float]] = []
        times: list[float] = []
        found: list[NDArray[np.uint8]] = []
        packed: PicturePacker | None = None
        for _, time, frame in self._chosen(slot, spans):
            packed = packed or PicturePacker(frame.width, frame.height)
            times.append(time)
            found.append(packed(frame))
        if not found:
            return _NONE, []
        return Samples(np.stack(found), np.array(times), np.ones(len(times), bool)), spans

    def _chosen(self, slot: Slot, spans: list[tuple[float, float]]) -> Iterator[tuple[float, float, Any]]:
        """(stamp, time, frame) of a window: every frame, or the nearest one to each of the even times.

        spans: takes from when to when there is a picture.
        """
        if self._form.rate is None:
            for time, frame in self._noting(slot, spans):
                if slot.start <= time < slot.end:
                    yield time, time, frame
            return
        count = math.floor((slot.end - slot.start) * self.rate + 0.5)
        done = 0
        before: tuple[float, Any] | None = None
        for time, frame in self._noting(slot, spans):
            while before is not None and done < count and slot.start + done / self.rate <= 0.5 * (before[0] + time):
                yield slot.start + done / self.rate, *before
                done += 1
            before = time, frame
        while before is not None and done < count:
            yield slot.start + done / self.rate, *before
            done += 1

    def _noting(self, slot: Slot, spans: list[tuple[float, float]]) -> Iterator[tuple[float, Any]]:
        """Frames of `_over`, and how long each is shown."""
        before: float | None = None
        for time, frame in self._over(slot):
            if before is not None:
                spans.append((before, min(time, before + _HOLD)))
            before = time
            yield time, frame
        if before is not None:
            spans.append((before, before + self._period))

    def _over(self, slot: Slot) -> Iterator[tuple[float, Any]]:
        """(time, frame) from the last one before the window to the first one after it."""
        earlier, self._kept = self._kept, deque()
        for time, frame in chain(_emptied(earlier), self._read):
            self._keep(time, frame, slot.following)
            yield time, frame
            if time >= slot.end:
                break
        for time, frame in earlier:
            self._keep(time, frame, slot.following)

    def _keep(self, time: float, frame: Any, following: float) -> None:
        self._kept.append((time, frame))
        # The one that is shown when the next window begins is needed, but none before it.
        while len(self._kept) > 1 and self._kept[1][0] <= following:
            self._kept.popleft()


def _emptied(items: deque[tuple[float, Any]]) -> Iterator[tuple[float, Any]]:
    while items:
        yield items.popleft()


def _on_timeline(track: Track, form: PictureForm) -> Iterator[tuple[float, Any]]:
    """(time, frame) on the timeline, in order; of what two moments of a recording claim, the earlier one's.

    So it is with sound: a clock that was set back would else mix frames of both.
    """
    back = track.clock.inverse()
    held: list[tuple[float, int, Any]] = []  # a heap: a rearranged recording brings frames out of order
    last = -math.inf
    for number, (own, frame) in enumerate(chain(_frames_of(track, form), [(math.inf, None)])):
        # Nothing that comes later lies before this.
        reached = track.earliest_after(own) if frame is not None else math.inf
        time = float(track.clock(own)) if frame is not None else math.nan
        if not math.isnan(time) and (isinstance(back, ClockMap) or abs(float(back(time)) - own) < 1e-6):
            heapq.heappush(held, (time, number, frame))
        while held and held[0][0] <= reached:
            time, _, shown = heapq.heappop(held)
            if time > last:
                last = time
                yield time, shown


def _frames_of(track: Track, form: PictureForm) -> Iterator[tuple[float, Any]]:
    """(own time, frame) as they are stored."""
    source = track.stream.values
    if isinstance(source, KeptPictures):
        yield from source.shaped_frames()
        return
    import av

    shaper = Shaper(form)
    for times, images in track.stream.blocks(0.25):
        for time, image in zip(times, images, strict=True):
            grey = image.ndim == 2 or image.shape[-1] == 1
            plane = np.ascontiguousarray(image.reshape(image.shape[:2]) if grey else image, np.uint8)
            yield float(time), shaper(av.VideoFrame.from_ndarray(plane, format="gray" if grey else "rgb24"))


class _Others:
    """Sensors and text, as `avfuse.windows` cuts them."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self.rate = track.stream.rate
        self._step = _usual_step(track.stream)

    def encoded(self, slot: Slot) -> Piece | None:
        samples, spans = self.samples(slot)
        return _archived(samples, slot, spans, self.rate, 0.0) if len(samples.times) else None

    def samples(self, slot: Slot) -> tuple[Samples, list[tuple[float, float]]]:
        samples = self._track.take(slot.start, slot.end)
        if not len(samples.times):
            return _NONE, []
        if self._track.stream.kind == "text":  # which is there when somebody speaks
            return samples, [(slot.start, slot.end)]
        # A value stands from the middle between it and the one before it, known or not, to that of the next.
        half = np.minimum(0.5 * np.diff(samples.times), self._step)
        low = samples.times - np.concatenate([[self._step], half])
        high = samples.times + np.concatenate([half, [self._step]])
        known = samples.valid
        return samples, list(zip(low[known].tolist(), high[known].tolist(), strict=True))


def _usual_step(stream: Stream) -> float:
    """Seconds from one value to the next that are no gap: nearly all steps are as short."""
    if stream.rate is not None:
        return 1.0 / stream.rate
    if stream.times is None or len(stream.times) < 2:
        return _HOLD
    return float(np.percentile(np.diff(stream.times), 95.0))


_NONE = Samples(np.zeros((0, 1)), np.zeros(0), np.zeros(0, bool))
