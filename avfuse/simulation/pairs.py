"""Pairs of recordings for benchmarks and tests: alike conditions, known truth, one call each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.simulation.devices import Device
from avfuse.simulation.events import Acoustics, SoundSource, simulate
from avfuse.simulation.rooms import Place, Room
from avfuse.simulation.sampling import coloured_noise, limit_band, rms
from avfuse.simulation.sounds import SOUNDS, hum, jingle, make_sound, self_noise
from avfuse.stream import Stream

# Metres between the source and both devices.
RANGES = {"near": (0.3, 1.5), "mid": (0.5, 4.0), "far": (2.0, 8.0)}


class Pair(NamedTuple):
    """Two recordings and the clock of `moving` on that of `reference`.

    Each stream's `facts` hold `distance` (m) and `drr_db`.
    """

    reference: Stream
    moving: Stream
    truth: ClockMap


def simulate_pair(
    kind: str = "speech",
    *,
    overlap: float = 30.0,
    snr_db: float | None = 0.0,
    room: str | None = None,
    drift_ppm: float = 0.0,
    equal_paths: bool = True,
    offset: float | None = None,
    rate: float = 16000.0,
    acoustics: Acoustics | None = None,
    rng: np.random.Generator | int,
) -> Pair:
    """Two devices in one random room, with white noise of their own.

    kind: a name of `SOUNDS`. overlap: seconds that both record. snr_db: at each device; None is noiseless.
    room: "near" (0.3-1.5 m from the source), "mid" (0.5-4 m), "far" (2-8 m), or None for the free field.
    equal_paths: both devices equally far from the source, so that what is heard obeys the clock truth.
    offset: reference seconds at which the moving recording starts; None draws it from -5 to 5 s.
    drift_ppm: of the moving clock against the reference's. acoustics: instead of a random `Room`.
    """
    rng = np.random.default_rng(rng)
    if room is not None and room not in RANGES:
        raise StreamError(f"room {room!r}; expected one of {', '.join(RANGES)} or None")
    if not overlap > 0.0:
        raise StreamError(f"overlap of {overlap} s; expected a positive time")
    place_rng, event_rng = rng.spawn(2)
    lag = float(rng.uniform(-5.0, 5.0)) if offset is None else float(offset)
    tail = float(rng.uniform(0.0, 2.0))
    drift = drift_ppm / 1e6
    # Half a second before the first device starts fills the room.
    start = 0.5
    reference_clock = ClockMap(start + max(0.0, -lag))
    truth = ClockMap(lag, drift)
    reference_duration = max(0.0, lag) + overlap + (tail if rng.random() < 0.5 else 0.0)
    moving_duration = max(0.0, -lag) + overlap
    places: tuple[Place, Place, Place]
    if room is None:
        places, hall = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), acoustics
    else:
        places, hall = random_places(RANGES[room], place_rng, equal_paths=equal_paths, room_name=room)
        hall = hall if acoustics is None else acoustics
    event = simulate(
        duration=start
        + max(float(reference_clock(reference_duration)), float(reference_clock(truth(moving_duration)))),
        devices=[
            Device("reference", reference_clock, reference_duration, rate, places[1], snr_db=snr_db),
            Device("moving", reference_clock @ truth, moving_duration, rate, places[2], snr_db=snr_db),
        ],
        sources=[SoundSource(kind, places[0])],
        room=hall,
        rate=rate,
        rng=event_rng,
    )
    streams = []
    for name in ("reference", "moving"):
        stream = event[name].streams[0]
        stream.facts.update(distance=event.distances[name][0], drr_db=event.drr_db[name][0])
        streams.append(stream)
    return Pair(streams[0], streams[1], truth)


def random_places(
    distances: tuple[float, float],
    rng: np.random.Generator,
    *,
    equal_paths: bool = True,
    from_walls: float = 0.3,
    room_name: str = "",
) -> tuple[tuple[Place, Place, Place], Room]:
    """A random room, with a source and two devices in it: ((source, device, device), room).

    distances: metres between source and device, drawn evenly; directions are random.
    """
    while True:
        room = Room.random(rng)
        size = np.array(room.size)
        for _ in range(50):
            source = rng.uniform(0.5, size - 0.5)
            first = rng.uniform(*distances)
            second = first if equal_paths else rng.uniform(*distances)
            devices = []
            for distance in (first, second):
                direction = rng.standard_normal(3)
                place = source + distance * direction / np.linalg.norm(direction)
                if np.all(place > from_walls) and np.all(place < size - from_walls):
                    devices.append(place)
            if len(devices) == 2:
                a, b, c = (tuple(map(float, p)) for p in (source, *devices))
                return (a, b, c), room  # type: ignore[return-value]


# Kinds of recordings that share nothing of an event, although some look alike.
UNRELATED = (*SOUNDS, "hum", "self_noise", "same_device", "silence")


def unrelated_pair(
    kind: str, *, duration: float = 30.0, rate: float = 16000.0, rng: np.random.Generator | int
) -> tuple[Stream, Stream]:
    """Two recordings of different events; whoever aligns them is wrong.

    kind: of `UNRELATED`. A name of `SOUNDS`: each hears another performance, with 20 dB less noise ("digits"
    have one speaker, "loop" bars of other tunes). "hum": nothing but noise and the hum of one mains supply.
    "self_noise": one device in a quiet room, twice. "same_device": one device, two talks, its hum and its band.
    "silence": digital silence on both.
    """
    if kind not in UNRELATED:
        raise StreamError(f"kind {kind!r}; expected one of {', '.join(UNRELATED)}")
    rng = np.random.default_rng(rng)
    n = round(duration * rate)
    device = int(rng.integers(1 << 30))
    # One supply: its phase runs on between the two recordings.
    mains = hum(2.0 * duration + 10.0, rate, rng) if kind in {"hum", "same_device"} else np.zeros(1, np.float32)
    later = n + int(rng.integers(round(10.0 * rate)))
    streams = []
    for name, first in (("reference", 0), ("moving", later)):
        length = n if name == "reference" else max(1, round(n * rng.uniform(0.6, 1.0)))
        buzz = mains[first : first + length]
        if kind == "silence":
            sound = np.zeros(length, np.float32)
        elif kind == "hum":
            sound = buzz + 0.1 * coloured_noise(length, rate, 3.0, rng)
        elif kind == "self_noise":
            sound = 0.01 * self_noise(length / rate, rate, rng, device=device)
        elif kind == "same_device":
            own = self_noise(length / rate, rate, rng, device=device)
            talk = make_sound("speech", length / rate, rate, rng)
            sound = limit_band(talk + 0.2 * own + 0.1 * buzz, rate, 150.0, 0.4 * rate)
        else:
            sound = make_sound(kind, length / rate, rate, rng)
            sound = sound + 0.1 * rms(sound) * coloured_noise(length, rate, 0.0, rng)
        streams.append(Stream.from_samples(np.asarray(sound, np.float32), rate=rate, name=name))
    return streams[0], streams[1]


class JinglePair(NamedTuple):
    """Two recordings that share a jingle only. offsets: (k,) seconds at which one of its uses meets another."""

    reference: Stream
    moving: Stream
    offsets: NDArray[np.float64]


def jingle_pair(
    *,
    duration: float = 60.0,
    plays: tuple[int, int] = (3, 2),
    length: float = 3.0,
    snr_db: float | None = 20.0,
    rate: float = 16000.0,
    rng: np.random.Generator | int,
) -> JinglePair:
    """Two broadcasts with different talk between plays of one jingle, sample for sample the same.

    plays: how often each has it, at irregular times.
    """
    rng = np.random.default_rng(rng)
    tune = jingle(length, rate, rng)
    streams, starts = [], []
    for name, count in zip(("reference", "moving"), plays, strict=True):
        share = duration / count
        if share <= length:
            raise StreamError(f"jingle_pair: {count} jingles of {length} s do not fit into {duration} s")
        begins = np.round((np.arange(count) * share + rng.uniform(0.0, share - length, count)) * rate).astype(int)
        sound = make_sound("speech", duration, rate, rng)
        for begin in begins:
            # The talker waits for the jingle.
            sound[begin : begin + len(tune)] = tune
        if snr_db is not None:
            sound = sound + np.float32(rms(sound) * 10.0 ** (-snr_db / 20.0)) * coloured_noise(
                len(sound), rate, 0.0, rng
            )
        streams.append(Stream.from_samples(sound, rate=rate, name=name))
        starts.append(begins / rate)
    return JinglePair(streams[0], streams[1], np.sort((starts[0][:, None] - starts[1][None, :]).ravel()))
