"""Labelled happenings that three devices record on clocks of their own: what a network fuses, with the truth about it.

A class is spoken, shown and made as a gesture at one moment; a little later the next one is.

    camera    pictures of what is shown, and what its microphone hears
    recorder  what a microphone nearer to the talker hears
    wearable  the rotation rate of the hand that makes the gestures, and what its microphone hears

All three hear one room, in which other things sound too: that is what `avfuse.align` has to go by. What is said, shown
and done comes from `Examples`: recordings of somebody's, or those that are made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Alignment, ClockEstimate, reference_estimate
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.resampling import resample
from avfuse.simulation.canvas import rod
from avfuse.simulation.devices import Device
from avfuse.simulation.events import SoundSource, simulate
from avfuse.simulation.motions import MOTION_RATE, motion_rates
from avfuse.simulation.rooms import Decay
from avfuse.simulation.sampling import Sound, to_rms
from avfuse.simulation.sounds import RMS
from avfuse.stream import Array, Recording, Stream

F64 = NDArray[np.float64]

LASTS = 0.4  # seconds that a happening takes at most
PITCH = (LASTS, 0.7)  # seconds from one to the next, drawn evenly
EDGE = 1.0  # seconds at both ends in which nothing happens, whatever the offsets
_BEGINS = 1.0  # event seconds at which the camera begins
_FADE = 0.01  # seconds in which what is longer than a happening is faded out
_EXPOSURE = 0.01  # seconds of a frame
_PLACES: Mapping[str, tuple[float, float, float]] = {
    "camera": (1.3, 0.2, 0.1), "recorder": (0.5, -0.2, 0.0), "wearable": (0.25, 0.2, -0.3),
}  # fmt: skip
SPACING = max(
    float(np.linalg.norm(np.subtract(a, b))) for a in _PLACES.values() for b in _PLACES.values()
)  # metres that the devices stand apart at most, as `avfuse.align` wants to know it


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of classes.

    values: one array for each: sound `(n,)`, pictures `(height, width)` of 0 ... 255, gestures `(n, 3)` in rad/s.
    labels: `(examples,)` class numbers. rate: Hz; None for pictures.
    Raises StreamError where there is not one label for each.
    """

    values: Sequence[Array]
    labels: NDArray[np.int64]
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.values),) or not len(self.values):
            raise StreamError(f"Examples: {len(self.values)} values, labels of shape {self.labels.shape}; one for each")

    def drawn(self, label: int, rng: np.random.Generator) -> Array:
        """One of the examples of a class."""
        return self.values[int(rng.choice(np.flatnonzero(self.labels == label)))]


@dataclass(frozen=True)
class Rates:
    """Hz of the camera's pictures, of the recorder's sound and of the wearable's rotation rate.

    jitter: standard deviation of the times at which pictures and rotation rates are taken, as a share of the time from
        one to the next. Their stamps say when they were taken.
    """

    picture: float = 25.0
    sound: float = 16000.0
    rotation: float = 50.0
    jitter: float = 0.0


@dataclass(frozen=True)
class Difficulty:
    """How much of each modality is hidden, so that none of them tells all.

    background_db: what else sounds in the room, against the talker. grain: standard deviation of the noise in pictures
    of 0 ... 255. tremor: rms of the hand's own rotation rate in rad/s, up to 5 Hz; hiss: of the gyroscope's noise.
    """

    background_db: float = 0.0
    grain: float = 25.0
    tremor: float = 0.8
    hiss: float = 0.1


@dataclass(frozen=True, eq=False)
class LabelledEvent:
    """Recordings of one event, and the truth about it.

    recordings: `camera`, `recorder`, `wearable`. clocks: their names -> device time -> event time.
    moments: `(happenings,)` event seconds of the middle of each. labels: `(happenings,)`.
    """

    name: str
    recordings: tuple[Recording, ...]
    clocks: Mapping[str, ClockMap]
    moments: F64
    labels: NDArray[np.int64]

    def moments_on(self, device: str) -> F64:
        """`(happenings,)` the moments on a device's own clock."""
        return self.clocks[device].inverse()(self.moments)

    @property
    def truth(self) -> Alignment:
        """The true clocks, on that of the camera, with a std of 0."""
        back = self.clocks["camera"].inverse()
        return self._alignment({name: back @ clock for name, clock in self.clocks.items()})

    @property
    def unaligned(self) -> Alignment:
        """Every clock taken for the camera's: the files as they are, from their starts on."""
        return self._alignment(dict.fromkeys(self.clocks, ClockMap()))

    def _alignment(self, maps: Mapping[str, ClockMap]) -> Alignment:
        clocks = {
            r.name: reference_estimate(r.name, r.duration)
            if r.name == "camera"
            else ClockEstimate(
                "aligned", maps[r.name], np.zeros((2, 2)), 1.0, span=(0.0, r.duration), reference="camera"
            )
            for r in self.recordings
        }
        return Alignment("camera", clocks, recordings={r.name: r for r in self.recordings})


def simulate_labelled(
    spoken: Examples,
    shown: Examples,
    gestures: Examples,
    *,
    rng: np.random.Generator | int,
    duration: float = 60.0,
    rates: Rates = Rates(),
    difficulty: Difficulty = Difficulty(),
    offset: float = 0.5,
    drift: float = 100e-6,
    name: str = "event",
) -> LabelledEvent:
    """Happenings of up to 0.4 s, 0.4 to 0.7 s from one to the next, each of any class that all three have examples of.

    duration: seconds of each recording. offset, drift: the recorder's and the wearable's clocks start up to `offset`
        seconds before or after the camera's and run up to `drift` faster or slower, drawn evenly.
    Equal seeds give the same happenings on the same clocks at any rates.
    Raises StreamError where there is no class in common, or no time for a happening.
    """
    classes = sorted(set(spoken.labels.tolist()) & set(shown.labels.tolist()) & set(gestures.labels.tolist()))
    if not classes:
        raise StreamError("simulate_labelled: no class that is spoken, shown and made as a gesture; expected one")
    if not duration > 2 * (EDGE + offset) + LASTS:
        raise StreamError(
            f"simulate_labelled: {duration!r} s; expected more than {2 * (EDGE + offset) + LASTS:g} s at this offset"
        )
    rng = np.random.default_rng(rng)
    planning, choosing, sounding, moving, filming = rng.spawn(5)
    clocks = {
        "camera": ClockMap(_BEGINS),
        "recorder": ClockMap(_BEGINS + planning.uniform(-offset, offset), planning.uniform(-drift, drift)),
        "wearable": ClockMap(_BEGINS + planning.uniform(-offset, offset), planning.uniform(-drift, drift)),
    }
    gaps = planning.uniform(*PITCH, int(duration / PITCH[0]) + 1)
    moments = _BEGINS + offset + EDGE + np.cumsum(gaps) - gaps[0]
    moments = moments[moments < _BEGINS + duration - offset - EDGE]
    labels = planning.choice(classes, len(moments)).astype(np.int64)
    chosen = [[source.drawn(int(c), choosing) for c in labels] for source in (spoken, shown, gestures)]
    sounds = _sounds(chosen[0], float(spoken.rate or 0.0), moments, duration, clocks, rates.sound, difficulty, sounding)
    picture = _film(chosen[1], moments, clocks["camera"], duration, rates, difficulty, filming)
    rotation = _rotation(
        chosen[2], float(gestures.rate or 0.0), moments, clocks["wearable"], duration, rates, difficulty, moving
    )
    streams = {
        "camera": (picture, sounds["camera"]),
        "recorder": (sounds["recorder"],),
        "wearable": (rotation, sounds["wearable"]),
    }
    return LabelledEvent(name, tuple(Recording(n, s) for n, s in streams.items()), clocks, moments, labels)


def _sounds(
    words: Sequence[Array],
    rate: float,
    moments: F64,
    duration: float,
    clocks: Mapping[str, ClockMap],
    device_rate: float,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> dict[str, Stream]:
    """What each device hears: the words, and somewhere else in the room another talker and murmur."""
    event_rate = 16000.0
    total = duration + _BEGINS + 1.0
    said = np.zeros(round(total * event_rate), np.float32)
    for word, moment in zip(words, moments, strict=True):
        values = to_rms(_as_long_as_a_happening(resample(word[None], rate, event_rate)[0], event_rate), RMS)
        first = round(moment * event_rate) - len(values) // 2
        said[first : first + len(values)] += values
    level = 10.0 ** (difficulty.background_db / 20.0)
    sources = [
        SoundSource(said, (0.0, 0.0, 0.0)),
        SoundSource("speech", (2.0, 2.5, 0.3), gain=0.3 * level),
        SoundSource("ambience", (-1.5, 2.0, 0.5), gain=level),
    ]
    devices = [
        Device(
            name, clock, duration, device_rate if name == "recorder" else event_rate, _PLACES[name], snr_db=own,
            noise_slope_db=3.0,
        )
        for (name, clock), own in zip(clocks.items(), (15.0, 30.0, 10.0), strict=True)
    ]  # fmt: skip
    room = Decay(0.3, 1.5, seed=int(rng.integers(1 << 30)))
    event = simulate(duration=total, devices=devices, sources=sources, room=room, rate=event_rate, rng=rng)
    return {recording.name: recording["sound"] for recording in event.recordings}


def _as_long_as_a_happening(values: Array, rate: float) -> Sound:
    """The loudest LASTS seconds of something longer, faded at the ends."""
    most = round(LASTS * rate)
    if len(values) > most:
        energy = np.concatenate([[0.0], np.cumsum(np.square(values, dtype=np.float64))])
        first = int(np.argmax(energy[most:] - energy[:-most]))
        values = values[first : first + most]
    edge = np.clip(np.arange(len(values)) / (_FADE * rate), 0.0, 1.0)
    return np.asarray(values * edge * edge[::-1], np.float32)


def _film(
    images: Sequence[Array],
    moments: F64,
    clock: ClockMap,
    duration: float,
    rates: Rates,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> Stream:
    """Each image for LASTS seconds in front of something grey, as much of it as the exposure catches."""
    times = _stamps(duration, rates.picture, rates.jitter, rng)
    height, width = images[0].shape
    backdrop = rng.uniform(20.0, 60.0, (height, width))
    frames = np.empty((len(times), height, width, 3), np.uint8)
    for k, at in enumerate(clock(times)):
        light = backdrop
        nearest = int(np.argmin(np.abs(moments - at)))
        begins, ends = at - _EXPOSURE / 2, at + _EXPOSURE / 2
        seen = min(ends, moments[nearest] + LASTS / 2) - max(begins, moments[nearest] - LASTS / 2)
        if seen > 0.0:
            light = backdrop + seen / _EXPOSURE * 0.8 * images[nearest]
        grey = light + difficulty.grain * rng.standard_normal((height, width))
        frames[k] = np.clip(np.rint(grey), 0, 255)[:, :, None]
    return Stream("picture", "picture", frames, times=times)


def _rotation(
    traces: Sequence[Array],
    rate: float,
    moments: F64,
    clock: ClockMap,
    duration: float,
    rates: Rates,
    difficulty: Difficulty,
    rng: np.random.Generator,
) -> Stream:
    """The gestures, a hand that is never still, and the gyroscope's own noise."""
    total = duration + _BEGINS + 1.0
    hand = difficulty.tremor * motion_rates("hand", total, 5.0, rng).T  # (n, 3) at MOTION_RATE
    for trace, moment in zip(traces, moments, strict=True):
        fine = np.arange(round(len(trace) / rate * MOTION_RATE)) / MOTION_RATE
        made = np.stack([np.interp(fine, np.arange(len(trace)) / rate, trace[:, axis]) for axis in range(3)], axis=1)
        first = round(moment * MOTION_RATE) - len(made) // 2
        hand[first : first + len(made)] += made
    times = _stamps(duration, rates.rotation, rates.jitter, rng)
    at = clock(times)
    grid = np.arange(len(hand)) / MOTION_RATE
    values = np.stack([np.interp(at, grid, hand[:, axis]) for axis in range(3)], axis=1)
    values += difficulty.hiss * rng.standard_normal(values.shape)
    return Stream(
        "rotation_rate", "rotation_rate", values, times=times, unit="rad/s", channels=("x", "y", "z")
    )  # fmt: skip


def _stamps(duration: float, rate: float, jitter: float, rng: np.random.Generator) -> F64:
    even = np.arange(int(duration * rate)) / rate
    late = jitter / rate * rng.standard_normal(len(even))
    stamps: F64 = np.sort(np.clip(even + late, 0.0, duration))
    return stamps


def spoken_tones(classes: int, count: int, rng: np.random.Generator) -> Examples:
    """`count` examples of each class at 8 kHz: two tones that glide, as the class has it and never quite alike."""
    rate, values = 8000.0, []
    for label in range(classes):
        ends = np.random.default_rng([label, 31]).uniform(np.log(300.0), np.log(3000.0), (2, 2))
        for _ in range(count):
            n = round(rng.uniform(0.25, LASTS) * rate)
            glide = np.linspace(0.0, 1.0, n)
            voices = []
            for begin, end in ends + rng.normal(0.0, 0.08, (2, 2)):
                frequency = np.exp(begin + (end - begin) * glide)
                voices.append(np.sin(2.0 * np.pi * np.cumsum(frequency) / rate + rng.uniform(0, 2 * np.pi)))
            values.append((np.hanning(n) * np.sum(voices, axis=0)).astype(np.float32))
    return Examples(values, np.repeat(np.arange(classes), count), rate)


def drawn_shapes(
    classes: int, count: int, rng: np.random.Generator, *, size: int = 28, wobble: float = 0.1
) -> Examples:
    """`count` examples of each class: three strokes, each with ends of its own by `wobble` of the picture's size."""
    values = []
    for label in range(classes):
        strokes = np.random.default_rng([label, 37]).uniform(0.15, 0.85, (3, 2, 2))
        for _ in range(count):
            canvas = np.zeros((size, size), np.uint8)
            for begin, end in size * (strokes + rng.normal(0.0, wobble, strokes.shape)):
                rod(canvas, (begin[0], begin[1]), (end[0], end[1]), 2, 255.0)
            values.append(canvas)
    return Examples(values, np.repeat(np.arange(classes), count))


def simulated_gestures(classes: int, count: int, rng: np.random.Generator, *, variety: float = 0.7) -> Examples:
    """`count` examples of each class at 200 Hz: a turn about three axes that ends as still as it began.

    variety: how much of an example is its own, against what its class has in common.
    """
    rate, values = 200.0, []
    for label in range(classes):
        common = np.random.default_rng([label, 41]).standard_normal((4, 3))
        for _ in range(count):
            n = round(LASTS * rng.uniform(0.75, 1.0) * rate)
            phase = np.arange(n) / n
            waves = np.sin(np.pi * np.outer(phase, np.arange(1, 5))) * np.hanning(n)[:, None]
            shape = common + variety * rng.standard_normal((4, 3))
            values.append(np.exp(rng.normal(0.0, 0.2)) * waves @ shape)
    return Examples(values, np.repeat(np.arange(classes), count), rate)
