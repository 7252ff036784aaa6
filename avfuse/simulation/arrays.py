"""Sound at an array of microphones, with the truth: where each source stood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from avfuse.errors import StreamError
from avfuse.simulation.rooms import SPEED_OF_SOUND, Place, Room
from avfuse.simulation.sampling import Sound
from avfuse.simulation.sounds import speech

F64 = NDArray[np.float64]
Maker = Callable[[float, float, np.random.Generator], Sound]


@dataclass(frozen=True, eq=False)
class ArrayRecording:
    """samples: `(channels, n)` float32. microphones: `(channels, 3)` metres. positions: `(sources, 3)` metres from the
    array's origin, or `(sources, k, 3)` of sources that move, evenly spaced in time.

    Directions are those from the middle of the array, the mean of its microphones.
    """

    samples: Sound
    rate: float
    microphones: F64
    positions: F64

    @property
    def directions(self) -> F64:
        """Unit vectors, shaped as positions."""
        towards = self.positions - self.microphones.mean(axis=0)
        return np.asarray(towards / np.linalg.norm(towards, axis=-1, keepdims=True))

    @property
    def azimuth(self) -> F64:
        """Radians, counter-clockwise from +x."""
        return np.asarray(np.arctan2(self.directions[..., 1], self.directions[..., 0]))

    @property
    def elevation(self) -> F64:
        """Radians, up from the xy plane."""
        return np.asarray(np.arcsin(np.clip(self.directions[..., 2], -1, 1)))


def circular_array(count: int, radius: float) -> F64:
    """`(count, 3)` on a circle in the xy plane, the first on +x, then counter-clockwise."""
    angle = 2 * np.pi * np.arange(count) / count
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], axis=1)


def square_array(side: float) -> F64:
    """Four in the xy plane at (+x+y), (-x+y), (-x-y), (+x-y)."""
    return side / 2 * np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [1.0, -1.0, 0.0]])


def solid_array(count: int, radius: float) -> F64:
    """`(count, 3)` spread over a sphere by the golden angle."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    across = np.sqrt(1 - height**2)
    return radius * np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)


def place(azimuth: float, elevation: float, distance: float) -> F64:
    """`(3,)` metres; radians."""
    across = distance * np.cos(elevation)
    return np.array([across * np.cos(azimuth), across * np.sin(azimuth), distance * np.sin(elevation)])


def simulate_array(
    microphones: ArrayLike,
    positions: ArrayLike,
    rng: np.random.Generator,
    *,
    rate: float = 16000.0,
    duration: float = 3.0,
    noise_db: float = -30.0,
    room: Room | None = None,
    origin: Place | None = None,
    sounds: Sequence[Maker] | None = None,
    speed: float = SPEED_OF_SOUND,
    levels_db: Sequence[float] | None = None,
) -> ArrayRecording:
    """Sources around an array, each with a sound of its own, in free field or in a room.

    microphones: `(channels, 3)`; positions: `(sources, 3)` metres from the array's origin, or `(sources, k, 3)` for
    sources that move along k places, evenly spaced in time (free field alone). noise_db: of each microphone,
    independent and white, against the sound of all sources. origin: of the array in the room; its middle where None.
    sounds: makers such as `avfuse.simulation.sounds.speech`, one a source. speed: of sound in free field, m/s.
    levels_db: of the sources at the array.
    Raises StreamError for shapes that do not fit and for sources that move in a room.
    """
    mics, where = np.asarray(microphones, np.float64), np.asarray(positions, np.float64)
    if mics.ndim != 2 or mics.shape[1] != 3 or where.ndim not in (2, 3) or where.shape[-1] != 3:
        raise StreamError(
            f"simulate_array: microphones {mics.shape} and positions {where.shape}; expected (channels, 3) and "
            "(sources, 3) or (sources, k, 3)"
        )
    if room is not None and where.ndim == 3:
        raise StreamError("simulate_array: sources that move can be heard in free field alone; leave room= out")
    n = round(duration * rate)
    heard = np.zeros((len(mics), n))
    for k, source in enumerate(where):
        maker = speech if sounds is None else sounds[k]
        sound = np.zeros(n)
        made = np.asarray(maker(duration, rate, rng), np.float64)[:n]
        sound[: len(made)] = made
        if room is not None:
            one = _in_room(sound, source, mics, room, origin, rate, n)
        elif source.ndim == 1:
            one = _arriving(sound, source, mics, rate, speed)
        else:
            one = _moving(sound, source, mics, rate, speed)
        level = 0.0 if levels_db is None else levels_db[k]
        heard += one * (10 ** (level / 20) / max(float(np.sqrt(np.mean(one**2))), 1e-12))
    rms = float(np.sqrt(np.mean(heard**2))) if len(where) else 1.0
    heard += rms * 10 ** (noise_db / 20) * rng.standard_normal(heard.shape)
    return ArrayRecording((0.1 * heard / rms).astype(np.float32), rate, mics, where)


def _arriving(sound: F64, source: F64, mics: F64, rate: float, speed: float) -> F64:
    """Free field: late by distance / speed, weaker by 1 / distance, exact to a fraction of a sample."""
    apart = np.linalg.norm(mics - source, axis=1)
    n = len(sound)
    size = fft.next_fast_len(n + int(apart.max() / speed * rate) + 256, real=True)
    spectrum = fft.rfft(sound, size)
    turn = np.exp(-2j * np.pi * fft.rfftfreq(size, 1 / rate) * (apart / speed)[:, None])
    return np.asarray(fft.irfft(spectrum * turn, size)[:, :n] / apart[:, None])


def _moving(sound: F64, places: F64, mics: F64, rate: float, speed: float) -> F64:
    """A source that steps from place to place, faded from one to the next."""
    n = len(sound)
    out = np.zeros((len(mics), n))
    at = np.linspace(0, n, len(places))
    for k, source in enumerate(places):
        share = np.interp(np.arange(n), at, np.eye(len(places))[k])
        first, last = np.flatnonzero(share)[[0, -1]]
        part = np.zeros(last + 1 - first + 512)
        inner = slice(first, last + 1)
        part[: last + 1 - first] = sound[inner] * share[inner]
        made = _arriving(part, source, mics, rate, speed)
        stop = min(n, first + made.shape[1])
        out[:, first:stop] += made[:, : stop - first]
    return out


def _in_room(sound: F64, source: F64, mics: F64, room: Room, origin: Place | None, rate: float, n: int) -> F64:
    centre = np.asarray(room.size) / 2 if origin is None else np.asarray(origin, np.float64)
    out = np.zeros((len(mics), n))
    for m, mic in enumerate(mics):
        place_of_source, place_of_mic = (tuple(float(v) for v in centre + p) for p in (source, mic))
        response = room.response(place_of_source, place_of_mic, rate)  # type: ignore[arg-type]
        size = fft.next_fast_len(n + len(response.samples), real=True)
        made = fft.irfft(fft.rfft(sound, size) * fft.rfft(response.samples.astype(np.float64), size), size)
        out[m] = made[response.lead : response.lead + n]
    return out
