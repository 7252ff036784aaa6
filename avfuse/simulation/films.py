"""Films with sound whose delay is known: blows, flashes and talkers, among things that only distract.

Things are seen where they are when their own row is read: a sensor that takes `readout` seconds from its first row to
its last sees the middle row at the frame's time stamp. Drawn with OpenCV, which is imported only when frames are asked
for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.simulation.canvas import Canvas, Placed, at, coloured_blocks, ellipse, wander
from avfuse.simulation.sampling import Sound, rms
from avfuse.simulation.sounds import ambience, impacts, music, speech
from avfuse.simulation.striking import PAUSES, STRIKERS, Striker, striker
from avfuse.stream import Block, Recording, Stream

Happening = Literal["blow", "flash", "talk", "nothing"]
Float = NDArray[np.float64]
_SOUND_RATE = 16000.0
_BLUR = 0.004  # seconds: of an exposure, so often is drawn what moves


@dataclass(frozen=True, eq=False)
class FilmWithSound:
    """recording: a sound and a picture stream. delay: seconds by which the sound comes later than what it belongs to.

    events: seconds, in the picture's time, of the blows or flashes; none where somebody talks.
    """

    recording: Recording
    delay: float
    events: Float


def film_with_sound(
    happening: Happening,
    rng: np.random.Generator | int,
    *,
    duration: float = 60.0,
    rate: float = 30.0,
    readout: float = 0.015,
    delay: float = 0.0,
    distractors: bool = True,
    jitter: float = 0.0,
    voice: Sound | None = None,
    struck: Striker | None = None,
    size: tuple[int, int] = (320, 180),
) -> FilmWithSound:
    """Somebody hits things, lights flash, or somebody talks, and is heard.

    rate: frames per second. readout: seconds. delay: of the sound. jitter: seconds (standard deviation) of the frames'
    times. size: pixels.
    distractors: other things move, one of them as what matters does but unheard; the camera shakes; a background of
    murmur or music, 6-20 dB below.
    voice: (n,) samples at 16 kHz of who talks; a synthetic talker otherwise.
    struck: with what blows are struck; None draws it.
    "nothing": only the distractors, and the sound of a talker or of blows that nobody sees.
    """
    rng = np.random.default_rng(rng)
    for_scene, for_sound, for_noise, for_others = rng.spawn(4)
    width, height = size
    events = np.zeros(0)
    draws: list[Placed] = []
    lights: list[tuple[float, float, float]] = []
    length = duration + 2.0 * abs(delay) + 2.0  # of sound before it is cut, so that the delay leaves no hole
    lead = abs(delay) + 1.0
    if happening == "flash":
        events = _spread(duration, for_scene, 3.0, 7.0)
        lasting = for_scene.choice([0.003, 0.06, 0.15])
        lights = [(float(t), float(t + lasting), float(for_scene.uniform(40.0, 110.0))) for t in events]
        sound = _clicks(length, events + lead, for_sound)
    elif happening == "blow":
        kind = struck or STRIKERS[int(for_scene.integers(len(STRIKERS)))]
        events = _spread(duration, for_scene, *PAUSES[kind])
        draws.append(striker(kind, events, for_scene, size))
        sound = impacts(length, _SOUND_RATE, for_sound, times=events + lead)
    else:
        if voice is None or happening == "nothing":
            blows = happening == "nothing" and for_sound.random() < 0.4
            sound = (impacts if blows else speech)(length, _SOUND_RATE, for_sound)
        else:
            sound = np.resize(voice, round(length * _SOUND_RATE)).astype(np.float32)
        if happening == "talk":
            envelope = sound[round(lead * _SOUND_RATE) :]
            draws.append(_Face(envelope, for_scene, size).placed())
    shake = np.zeros((1, 2))
    if distractors:
        draws = [*_others(duration, for_others, size, happening, struck), *draws]
        shake = wander(duration, for_others, 2.0 * for_others.random(), 2)
        behind = (ambience if for_others.random() < 0.5 else music)(length, _SOUND_RATE, for_others)
        level = rms(sound) / rms(behind) * 10.0 ** (-for_others.uniform(6.0, 20.0) / 20.0)
        sound = np.asarray(sound + behind * level, np.float32)
    sound = np.asarray(sound + for_noise.normal(0.0, 1e-3 * rms(sound), len(sound)), np.float32)
    first = round((lead - delay) * _SOUND_RATE)
    heard = np.asarray(sound[first : first + round(duration * _SOUND_RATE)], np.float32)
    times = np.arange(max(2, round(duration * rate))) / rate
    times[1:] += np.clip(for_noise.normal(0.0, 1.0, len(times) - 1) * jitter, -0.4 / rate, 0.4 / rate)
    exposure = min(for_scene.uniform(0.002, 0.02), 0.9 / rate)
    film = _Film(times, size, readout, exposure, draws, lights, shake, duration, int(for_noise.integers(1 << 31)))
    picture = Stream(
        "picture", "picture", film, rate=rate, facts={"width": width, "height": height, "average_rate": rate}
    )
    heard_stream = Stream.from_samples(heard / max(1.0, float(np.abs(heard).max()) * 1.05), rate=_SOUND_RATE)
    return FilmWithSound(Recording(happening, (heard_stream, picture)), delay, events)


def _spread(duration: float, rng: np.random.Generator, least: float, most: float) -> Float:
    times = 0.5 + np.cumsum(rng.uniform(least, most, int(duration / least) + 1))
    return np.asarray(times[times < duration - 0.5])


def _clicks(duration: float, times: Float, rng: np.random.Generator) -> Sound:
    """Claps: noise that decays within some 20 ms from each of `times`."""
    out = np.zeros(round(duration * _SOUND_RATE) + 4000)
    decay = rng.uniform(0.004, 0.03)
    for time in times:
        first = int(np.ceil(time * _SOUND_RATE))
        since = (first + np.arange(3200)) / _SOUND_RATE - time
        out[first : first + 3200] += rng.normal(0.0, 0.3, 3200) * np.exp(-since / decay) * rng.uniform(0.5, 1.0)
    return np.asarray(out[: round(duration * _SOUND_RATE)], np.float32)


class _Face:
    """A head that sways, blinks, and opens its mouth with what it says, 20 ms (1 sigma) before or after.

    How far it opens follows the envelope by a correlation of 0.4-0.8 only: the rest is articulation.
    """

    def __init__(self, voice: Sound, rng: np.random.Generator, size: tuple[int, int]) -> None:
        from scipy.ndimage import gaussian_filter1d

        hop = round(_SOUND_RATE / 100)
        count = len(voice) // hop
        energy = np.mean(np.asarray(voice[: count * hop], float).reshape(count, hop) ** 2, axis=1)
        loud = np.log(gaussian_filter1d(energy, 1.5) + 1e-3 * energy.mean())
        loud = gaussian_filter1d((loud - loud.mean()) / loud.std(), 2.5)
        lead = rng.normal(0.0, 0.02)
        loud = np.interp(np.arange(count) / 100 + lead, np.arange(count) / 100, loud)
        share = rng.uniform(0.45, 0.8)
        own = wander(count / 100, rng, 1.0, 1, pace=4.0)[:count, 0]
        mixed = share * loud / loud.std() + np.sqrt(1 - share**2) * own
        self.opening = np.clip(0.35 + 0.3 * mixed, 0.02, 1.2)[:, None]
        self.sway = wander(count / 100, rng, rng.uniform(0.5, 3.0), 2, pace=0.7)
        self.radius = rng.uniform(0.1, 0.24) * size[1]
        self.place = rng.uniform(0.25, 0.75) * size[0], rng.uniform(0.35, 0.6) * size[1]
        self.grey = rng.uniform(110.0, 200.0)
        self.blinks = np.cumsum(rng.uniform(1.0, 6.0, int(count / 100) + 2))
        self.down = self.place[1] / size[1]

    def placed(self) -> Placed:
        return self.draw, self.down

    def draw(self, canvas: Canvas, time: float) -> None:
        r = self.radius
        dx, dy = at(self.sway, time)
        x, y = self.place[0] + dx, self.place[1] + dy
        opening = float(at(self.opening, time)[0])
        ellipse(canvas, (x, y + 2.3 * r), (1.6 * r, 1.1 * r), 0.5 * self.grey)
        ellipse(canvas, (x, y), (0.75 * r, r + 0.08 * r * opening), self.grey)
        shut = np.min(np.abs(self.blinks - time)) < 0.08
        for side in (-1, 1):
            ellipse(canvas, (x + side * 0.3 * r, y - 0.25 * r), (0.13 * r, 0.02 * r if shut else 0.07 * r), 45.0)
        ellipse(
            canvas, (x, y + 0.48 * r), (0.3 * r - 0.06 * r * opening, 0.05 * r + 0.2 * r * opening), 0.62 * self.grey
        )
        ellipse(canvas, (x, y + 0.48 * r), (0.24 * r - 0.06 * r * opening, 0.16 * r * opening), 40.0)


def _others(
    duration: float, rng: np.random.Generator, size: tuple[int, int], happening: Happening, struck: Striker | None
) -> list[Placed]:
    """What moves and is not heard: people who pass, and a decoy that does what matters at other times."""
    found: list[Placed] = []
    for _ in range(int(rng.integers(1, 4))):
        track = wander(duration, rng, 0.25 * size[0], 2, pace=rng.uniform(0.15, 0.6)) + 0.5 * np.array(size)
        radius, grey = rng.uniform(0.04, 0.1) * size[1], rng.uniform(50.0, 200.0)
        tilt = rng.uniform(0.5, 2.0)

        def draw(
            canvas: Canvas,
            time: float,
            track: Float = track,
            radius: float = radius,
            grey: float = grey,
            tilt: float = tilt,
        ) -> None:
            x, y = at(track, time)
            ellipse(canvas, (float(x), float(y)), (radius, radius * tilt), grey)

        found.append((draw, 0.5))
    if rng.random() < 0.6:
        if happening == "talk" or rng.random() < 0.5:
            found.append(_Face(speech(duration + 1.0, _SOUND_RATE, rng), rng, size).placed())
        else:
            kind = struck or STRIKERS[int(rng.integers(len(STRIKERS)))]
            found.append(striker(kind, _spread(duration, rng, *PAUSES[kind]), rng, size))
    return found


@dataclass(frozen=True, eq=False)
class _Film:
    """Frames drawn when asked for: the `values` of a picture stream."""

    times: Float
    size: tuple[int, int]
    readout: float
    exposure: float
    draws: list[Placed]
    lights: list[tuple[float, float, float]]
    shake: Float
    duration: float
    seed: int

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """(times, frames) with frames (n, height, width, 3) uint8 RGB."""
        if rate is not None:
            raise StreamError("a film is never resampled; expected rate=None")
        yield from coloured_blocks(self.times, self.frame, duration)

    def frame(self, index: int) -> Canvas:
        """(height, width) uint8."""
        import cv2

        time = float(self.times[index])
        image = self._seen(time)
        dx, dy = at(self.shake, time)
        if dx or dy:
            move = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
            image = np.asarray(cv2.warpAffine(image, move, self.size, borderMode=cv2.BORDER_REFLECT), np.uint8)
        noise = self._noise[index % len(self._noise)]
        lit = self.lit(time)
        if lit.any():
            noise = noise + np.round(lit).astype(np.int16)[:, None]
        return np.asarray(np.clip(image.astype(np.int16) + noise, 0, 255), np.uint8)

    def _seen(self, time: float) -> Canvas:
        """What moves, blurred by the exposure."""
        count = int(np.ceil(self.exposure / _BLUR))
        total = np.zeros(self._backdrop.shape, np.uint16)
        for k in range(count):
            image = self._backdrop.copy()
            for draw, down in self.draws:
                draw(image, time + ((k + 0.5) / count - 0.5) * self.exposure + (down - 0.5) * self.readout)
            total += image
        return np.asarray((total + count // 2) // count, np.uint8)

    def lit(self, time: float) -> Float:
        """(height,) brightness steps that flashes add to each row of the frame at `time`."""
        height = self.size[1]
        middle = time + ((np.arange(height) + 0.5) / height - 0.5) * self.readout
        total = np.zeros(height)
        for begin, end, strength in self.lights:
            if begin - 0.2 < time < end + 0.2:
                lasted = np.minimum(middle + self.exposure / 2, end) - np.maximum(middle - self.exposure / 2, begin)
                # A short flash is as bright as it must be to be seen.
                total += strength * np.clip(lasted, 0.0, None) / min(self.exposure, end - begin)
        return total

    @cached_property
    def _backdrop(self) -> Canvas:
        import cv2

        rng = np.random.default_rng(self.seed)
        width, height = self.size
        coarse = rng.uniform(50.0, 130.0, (9, 16)).astype(np.float32)
        image = np.asarray(cv2.resize(coarse, self.size, interpolation=cv2.INTER_CUBIC), np.float32)
        for _ in range(12):
            x, y, w, h = rng.uniform(0, 1, 4) * [width, height, 0.15 * width, 0.2 * height]
            image[int(y) : int(y + h), int(x) : int(x + w)] += np.float32(rng.uniform(-30.0, 30.0))
        return np.clip(image, 0, 255).astype(np.uint8)

    @cached_property
    def _noise(self) -> NDArray[np.int16]:
        rng = np.random.default_rng(self.seed + 1)
        return np.round(rng.normal(0.0, 2.0, (16, self.size[1], self.size[0]))).astype(np.int16)
