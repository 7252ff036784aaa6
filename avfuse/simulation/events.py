"""An event: sounds at places, heard by devices with clocks of their own, and the exact truth about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.simulation.devices import Device
from avfuse.simulation.media import write_media
from avfuse.simulation.pictures import Film, Scene
from avfuse.simulation.rooms import SPEED_OF_SOUND, Place, Response
from avfuse.simulation.sampling import Clock, Sound, convolve, sample_on_clock
from avfuse.simulation.sounds import make_sound
from avfuse.stream import Recording, Stream


class Acoustics(Protocol):
    """A `Room`, a `Decay`, or anything else that gives responses between two places."""

    def response(self, source: Place, receiver: Place, rate: float) -> Response: ...


@dataclass(frozen=True, eq=False)
class SoundSource:
    """A sound at a place. sound: a name of `SOUNDS`, or (n,) samples at the event's rate; start: event seconds."""

    sound: str | Sound
    position: Place = (0.0, 0.0, 0.0)
    start: float = 0.0
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class SimulatedEvent:
    """Recordings of one event and the truth about them.

    recordings: as `avfuse.read` would give them. devices: by name. distances: (sources,) metres per device;
    drr_db: direct-to-reverberant ratio likewise (infinite in the free field).
    """

    recordings: tuple[Recording, ...]
    devices: Mapping[str, Device]
    distances: Mapping[str, tuple[float, ...]]
    drr_db: Mapping[str, tuple[float, ...]]
    rate: float
    duration: float
    scene: Scene | None = None

    def __getitem__(self, name: str) -> Recording:
        for recording in self.recordings:
            if recording.name == name:
                return recording
        raise KeyError(f"no recording {name!r}; there are {', '.join(self.devices)}")

    @property
    def truth(self) -> dict[str, Clock]:
        """Device time -> event time, per device."""
        return {name: device.clock for name, device in self.devices.items()}

    def truth_between(self, reference: str, moving: str) -> Clock:
        """Clock of `moving` -> clock of `reference`."""
        return self.devices[reference].clock.inverse() @ self.devices[moving].clock

    def acoustic_between(self, reference: str, moving: str, source: int = 0) -> Clock:
        """Where on the clock of `reference` the direct sound is that `moving` has at a time of its own.

        It differs from `truth_between` by the travel times, 2.9 ms for each metre of difference.
        """
        farther = self.distances[reference][source] - self.distances[moving][source]
        travel = ClockMap(farther / SPEED_OF_SOUND)
        return self.devices[reference].clock.inverse() @ (travel @ self.devices[moving].clock)

    def write(
        self, folder: str | PathLike[str], *, suffixes: Mapping[str, str] | None = None, bits: Literal[16, 24, 32] = 16
    ) -> dict[str, Path]:
        """Write every recording to `folder`, made where absent; returns the files by name.

        suffixes: by recording name; otherwise ".mp4" for cameras and ".wav" for the rest. bits: see `write_media`.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = {}
        for recording in self.recordings:
            usual = ".mp4" if recording.of_kind("picture") else ".wav"
            suffix = (suffixes or {}).get(recording.name, usual)
            files[recording.name] = write_media(target / f"{recording.name}{suffix}", recording, bits=bits)
        return files


def simulate(
    *,
    duration: float,
    devices: Sequence[Device],
    sources: Sequence[SoundSource] = (SoundSource("speech"),),
    room: Acoustics | None = None,
    scene: Scene | None = None,
    rate: float | None = None,
    rng: np.random.Generator | int,
) -> SimulatedEvent:
    """Recordings of `duration` seconds of an event, with exact truth; equal `rng` seeds give equal recordings.

    room: None is the free field. scene: what devices with a camera see, drawn when read. rate: Hz at which the
    event is made up; None takes the devices' highest, 48 kHz at most.
    """
    rng = np.random.default_rng(rng)
    names = [d.name for d in devices]
    if not devices or len(set(names)) != len(names):
        raise StreamError(f"simulate: devices named {names}; expected at least one, no name twice")
    if not sources:
        raise StreamError("simulate: no sources; expected at least one")
    rate = float(min(48000.0, max(d.rate for d in devices)) if rate is None else rate)
    *for_sources, for_devices = rng.spawn(len(sources) + 1)
    played = [_play(source, duration, rate, own) for source, own in zip(sources, for_sources, strict=True)]
    common = _common_time(devices)
    recordings, distances, ratios = [], {}, {}
    for device, own in zip(devices, for_devices.spawn(len(devices)), strict=True):
        received = []
        for microphone in device.microphones:
            x, y, z = (float(p + m) for p, m in zip(device.position, microphone, strict=True))
            received.append(_receive(played, sources, device, (x, y, z), room, rate))
        distances[device.name] = tuple(_distance(s.position, device.position) for s in sources)
        ratios[device.name] = received[0][1]
        values = device.record([sound for sound, _ in received], own, heard=_heard(device, common))
        stream = Stream.from_samples(values, rate=device.rate)
        streams = [stream]
        if device.camera is not None:
            film = Film(scene or Scene(np.empty(0), np.empty(0)), device.camera, device.clock, device.duration)
            streams.insert(0, Stream("picture", "picture", film))
        recordings.append(Recording(device.name, tuple(streams)))
    return SimulatedEvent(
        tuple(recordings), {d.name: d for d in devices}, distances, ratios, rate, float(duration), scene
    )


def _play(source: SoundSource, duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """(n,) of the source alone on event time."""
    left = duration - source.start
    if isinstance(source.sound, str):
        sound = make_sound(source.sound, left, rate, rng)
    else:
        sound = np.asarray(source.sound, np.float32)[: round(left * rate)]
    out = np.zeros(round(duration * rate), np.float32)
    first = round(source.start * rate)
    out[first : first + len(sound)] = np.float32(source.gain) * sound[: len(out) - first]
    return out


def _receive(
    played: Sequence[Sound],
    sources: Sequence[SoundSource],
    device: Device,
    place: Place,
    room: Acoustics | None,
    rate: float,
) -> tuple[Sound, tuple[float, ...]]:
    """What one microphone hears, on the device's clock, and the direct-to-reverberant ratio of every source."""
    ratios = []
    out = np.zeros(device.samples, np.float32)
    mixed = None
    for sound, source in zip(played, sources, strict=True):
        if room is None:
            # The free field is a delay and a gain: exact without any response.
            distance = _distance(source.position, place)
            heard = sample_on_clock(
                sound, rate, device.clock, device.rate, device.samples, delay=distance / SPEED_OF_SOUND
            )
            out += heard / np.float32(max(distance, 0.1))
            ratios.append(np.inf)
        else:
            response = room.response(source.position, place, rate)
            heard = convolve(sound, response.samples, response.lead)
            mixed = heard if mixed is None else mixed + heard
            ratios.append(response.drr_db)
    if mixed is not None:
        out = sample_on_clock(mixed, rate, device.clock, device.rate, device.samples)
    return out, tuple(ratios)


def _distance(a: Place, b: Place) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _common_time(devices: Sequence[Device]) -> tuple[float, float]:
    """Event time in which every device listens; empty where there is none."""
    begins = max(float(d.clock(0.0)) for d in devices)
    ends = min(float(d.clock(d.duration)) for d in devices)
    return begins, ends


def _heard(device: Device, common: tuple[float, float]) -> slice:
    """The device's samples inside the common time, all of them where that is empty."""
    back = device.clock.inverse()
    first, last = (int(np.clip(np.nan_to_num(float(back(t))) * device.rate, 0, device.samples)) for t in common)
    return slice(first, last) if last - first > 1 else slice(None)
