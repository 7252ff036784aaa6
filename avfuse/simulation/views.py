"""One happening filmed by two cameras that stand at different places: people who come, go and gesture, lights.

People are balls with two hands on a floor, seen from any side; each camera has its own framing, exposure, noise, frame
rate and clock. Nothing of the background is shared. Drawn with OpenCV, imported only when frames are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.simulation.canvas import Canvas, coloured_blocks, ellipse
from avfuse.stream import Block, Stream

F64 = NDArray[np.float64]

_TRACK = 100.0  # Hz of what moves
_MARGIN = 10.0  # seconds before and after
_ROOM = 2.0  # metres about the middle in which people are


@dataclass(frozen=True, eq=False)
class TwoViews:
    """Pictures of two cameras. truth: moving -> reference."""

    reference: Stream
    moving: Stream
    truth: ClockMap


@dataclass(frozen=True, eq=False)
class _Happening:
    """bodies: `(people, n, 2)` metres on the floor, 100 a second. hands: `(people, 2, n, 3)` about the body, the last
    one up. light: `(n,)`, how bright the room is. greys: `(people,)`."""

    bodies: F64
    hands: F64
    light: F64
    greys: F64

    def at(self, time: float) -> tuple[F64, F64, float]:
        place = min(max((time + _MARGIN) * _TRACK, 0.0), self.light.size - 1.001)
        k, part = int(place), place - int(place)
        bodies = self.bodies[:, k] * (1 - part) + self.bodies[:, k + 1] * part
        hands = self.hands[:, :, k] * (1 - part) + self.hands[:, :, k + 1] * part
        return bodies, hands, float(self.light[k])


def two_views(
    duration: float,
    rng: np.random.Generator,
    *,
    people: int = 2,
    lights: bool = True,
    angle: float | None = None,
    rates: tuple[float, float] = (30.0, 25.0),
    noise: float = 3.0,
    related: bool = True,
) -> TwoViews:
    """What two silent cameras see for `duration` seconds, the second for all but a fifth of them.

    people: how many are about. lights: whether somebody switches them. angle: radians between the cameras; None draws
    one of 30 to 150 degrees. rates: frames a second. noise: brightness steps of the sensors. related False: the second
    camera films something else of the same sort. Raises StreamError for a duration or rates that are not positive.
    """
    if not (duration > 0 and min(rates) > 0):
        raise StreamError(f"two_views: {duration!r} s at {rates!r} Hz; expected positive numbers")
    happenings = [_happening(duration, people, lights, rng) for _ in range(1 if related else 2)]
    truth = ClockMap(float(rng.uniform(-0.05, 0.15) * duration), float(rng.normal(0, 50e-6)))
    between = float(rng.uniform(np.pi / 6, 5 * np.pi / 6)) if angle is None else angle
    first = float(rng.uniform(0, 2 * np.pi))
    streams = []
    for k, (side, rate, lasts) in enumerate(((first, rates[0], duration), (first + between, rates[1], 0.8 * duration))):
        times = np.arange(max(3, round(lasts * rate))) / rate
        film = _View(
            happenings[-k], times, np.asarray(truth(times)) if k else times, side, float(rng.uniform(3.0, 6.0)),
            float(rng.uniform(0.7, 1.3)), noise, int(rng.integers(2**31)),
        )  # fmt: skip
        width, height = film.size
        facts = {"width": width, "height": height, "average_rate": rate}
        streams.append(Stream("picture", "picture", film, rate=rate, facts=facts))
    return TwoViews(streams[0], streams[1], truth)


def _happening(duration: float, people: int, lights: bool, rng: np.random.Generator) -> _Happening:
    from scipy.ndimage import gaussian_filter1d

    n = int((duration + 2 * _MARGIN) * _TRACK)

    def wander(shape: tuple[int, ...], pace: float) -> F64:
        made = gaussian_filter1d(rng.standard_normal((*shape, n)), 0.16 * _TRACK / pace, axis=-1)
        return np.asarray(made / max(float(made.std()), 1e-12))

    def spells(mean: float) -> F64:
        """1 while somebody is busy, 0 while not."""
        lengths = rng.exponential(mean, int(4 * n / _TRACK / mean) + 8) + 0.3
        on = np.arange(len(lengths)) % 2
        busy = on[np.minimum(np.searchsorted(np.cumsum(lengths), np.arange(n) / _TRACK), len(on) - 1)]
        return np.asarray(gaussian_filter1d(busy.astype(np.float64), 0.1 * _TRACK))

    bodies, hands = np.zeros((people, n, 2)), np.zeros((people, 2, n, 3))
    for k in range(people):
        # Who walks, walks by steps of speed; who stands, gestures now and then.
        speed = wander((2,), 0.4) * spells(5.0)
        way = np.cumsum(speed, axis=1) / _TRACK
        bodies[k] = (_ROOM * np.sin(way + rng.uniform(-1, 1, (2, 1)))).T
        for side in (0, 1):
            hands[k, side] = (0.35 * wander((3,), rng.uniform(0.8, 2.0)) * spells(3.0)).T
            hands[k, side, :, 0] += 0.35 * (2 * side - 1)
    light = np.ones(n)
    if lights:
        at = 0
        while at < n:
            stop = at + int(rng.exponential(8.0) * _TRACK) + 100
            light[at:stop] = rng.choice([0.6, 0.8, 1.0, 1.2])
            at = stop
    return _Happening(bodies, hands, light, rng.uniform(30.0, 220.0, people))


@dataclass(frozen=True, eq=False)
class _View:
    """Frames of one camera, drawn when asked for: the `values` of a picture stream."""

    happening: _Happening
    times: F64
    event: F64
    side: float
    away: float
    gain: float
    noise: float
    seed: int
    size: tuple[int, int] = (160, 96)

    @property
    def duration(self) -> float:
        return float(self.times[-1] + self.times[1] - self.times[0])

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """(times, frames) with frames (n, height, width, 3) uint8 RGB."""
        yield from coloured_blocks(self.times, self.frame, duration)

    def frame(self, index: int) -> Canvas:
        """(height, width) uint8."""
        image = self._backdrop.copy()
        bodies, hands, light = self.happening.at(float(self.event[index]))
        right = np.array([np.cos(self.side), np.sin(self.side)])
        ahead = np.array([-np.sin(self.side), np.cos(self.side)])
        things = []
        for body, pair, grey in zip(bodies, hands, self.happening.greys, strict=True):
            things.append((float(body @ ahead), float(body @ right), 0.0, 0.3, 0.8, float(grey)))
            for hand in pair:
                place = body + hand[:2]
                things.append(
                    (float(place @ ahead), float(place @ right), float(hand[2]), 0.12, 0.12, 0.8 * float(grey))
                )
        width, height = self.size
        for depth, across, up, wide, tall, grey in sorted(things, reverse=True):
            near = depth + self.away + _ROOM
            scale = 0.9 * width / max(near, 0.3)
            centre = (width / 2 + across * scale, 0.55 * height - up * scale)
            ellipse(image, centre, (wide * scale, tall * scale), grey)
        grain = np.random.default_rng([self.seed, index]).normal(0.0, self.noise, image.shape)
        return np.clip(image * (self.gain * light) + grain, 0, 255).astype(np.uint8)

    @cached_property
    def _backdrop(self) -> Canvas:
        import cv2

        coarse = np.random.default_rng(self.seed).uniform(50.0, 130.0, (6, 10)).astype(np.float32)
        return np.clip(cv2.resize(coarse, self.size, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
