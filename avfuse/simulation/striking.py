"""Things that hit other things at known times, and are seen to: a hammer, a ball, hands that clap, drumsticks.

Contact lasts: what is hit gives way for some milliseconds, and it is the first touch that is heard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import numpy as np

from avfuse.simulation.canvas import Canvas, Float, Placed, at, ellipse, rod, wander

Striker = Literal["hammer", "ball", "hands", "sticks"]
STRIKERS: tuple[Striker, ...] = ("hammer", "ball", "hands", "sticks")
# Seconds from one blow to the next, least and most.
PAUSES: dict[Striker, tuple[float, float]] = {
    "hammer": (0.6, 2.8), "ball": (0.5, 1.1), "hands": (0.5, 2.5), "sticks": (0.35, 1.5),
}  # fmt: skip


def striker(kind: Striker, hits: Float, rng: np.random.Generator, size: tuple[int, int]) -> Placed:
    """What hits at the times `hits` (seconds), drawn in pictures of `size`."""
    kinds: dict[Striker, Callable[..., _Hits]] = {
        "hammer": _Hammer, "ball": _Ball, "hands": _Hands, "sticks": _Sticks,
    }  # fmt: skip
    made = kinds[kind](hits, rng, size)
    return made.draw, made.down


class _Hits(ABC):
    """When the next hit comes, and how long ago the last was."""

    down: float  # how far down the picture it hits, 0 to 1

    def __init__(self, hits: Float, rng: np.random.Generator) -> None:
        self.hits = hits
        self.force = rng.uniform(0.7, 1.3, len(hits) + 1)  # of each, relative

    def around(self, time: float) -> tuple[float, float, int]:
        """(seconds until the next, seconds since the last, number of the next)."""
        k = int(np.searchsorted(self.hits, time, side="right"))
        until = float(self.hits[k]) - time if k < len(self.hits) else np.inf
        since = time - float(self.hits[k - 1]) if k else np.inf
        return until, since, k

    @abstractmethod
    def draw(self, canvas: Canvas, time: float) -> None: ...


class _Hammer(_Hits):
    """Something that falls onto a surface, sinks in a little, stops there or rebounds, and is lifted again."""

    def __init__(self, hits: Float, rng: np.random.Generator, size: tuple[int, int]) -> None:
        super().__init__(hits, rng)
        self.fall = rng.uniform(0.12, 0.3)  # seconds it takes
        self.rebound = rng.uniform(0.0, 0.5)  # share of its velocity
        self.contact = rng.uniform(0.0, 0.006)  # seconds in which it stops
        self.height = rng.uniform(0.15, 0.35) * size[1]
        self.place = rng.uniform(0.2, 0.8) * size[0], rng.uniform(0.55, 0.85) * size[1]
        self.radius = rng.uniform(0.03, 0.07) * size[0]
        self.grey = rng.choice([40.0, 190.0, 230.0])
        self.down = self.place[1] / size[1]

    def lifted(self, time: float) -> float:
        """0 on the surface, 1 at the top."""
        until, since, k = self.around(time)
        fall = self.fall / self.force[k]
        falling = 1.0 - (1.0 - until / fall) ** 2 if until < fall else 1.0
        if np.isinf(since):
            return float(falling)
        speed = 2.0 / self.fall * self.force[k - 1]
        since -= self.contact
        if since < 0.0:
            return float(-0.5 * speed * (self.contact - since**2 / self.contact))
        # It rebounds against gravity, then is lifted with a swing.
        up = self.rebound * speed * since - since**2 / self.fall**2 if since < 10.0 else 1.0
        swung = 0.5 - 0.5 * np.cos(np.pi * min(max(since - 0.05, 0.0) / 0.4, 1.0))
        return float(min(falling, max(up, swung, 0.0) - 0.5 * speed * self.contact * (1.0 - swung)))

    def draw(self, canvas: Canvas, time: float) -> None:
        (x, y), r = self.place, self.radius
        top = y - r - self.height * self.lifted(time)
        ellipse(canvas, (x, y + 0.4 * r), (2.0 * r, 0.4 * r), 75.0)
        ellipse(canvas, (x, top), (r, 0.8 * r), self.grey)
        ellipse(canvas, (x - 0.3 * r, top - 0.2 * r), (0.3 * r, 0.3 * r), 0.6 * self.grey)


class _Ball(_Hits):
    """A ball that bounces: it flies in parabolas, is squeezed on the floor, and wanders sideways."""

    def __init__(self, hits: Float, rng: np.random.Generator, size: tuple[int, int]) -> None:
        # It comes from a bounce and goes to one that nobody hears.
        super().__init__(np.array([hits[0] - 0.8, *hits, hits[-1] + 0.8]) if len(hits) else hits, rng)
        self.gravity = 8.0 * rng.uniform(0.3, 0.7) * size[1]  # pixels / s^2: so high in a second
        self.contact = rng.uniform(0.003, 0.012)
        self.floor = rng.uniform(0.6, 0.95) * size[1]
        self.radius = rng.uniform(0.025, 0.06) * size[0]
        self.grey = rng.choice([40.0, 190.0, 230.0])
        self.aside = wander(float(hits[-1]) + 2.0 if len(hits) else 1.0, rng, 0.03 * size[0], 1, pace=0.5)
        self.x = rng.uniform(0.25, 0.75) * size[0]
        self.down = self.floor / size[1]

    def lifted(self, time: float) -> float:
        """Pixels from the floor to its lowest point; below 0 where it is squeezed."""
        until, since, _ = self.around(time)
        if np.isinf(until) or np.isinf(since):
            return 0.0
        flight = until + since - self.contact
        if since < self.contact:
            return float(-0.5 * self.gravity * flight * self.contact / np.pi * np.sin(np.pi * since / self.contact))
        return float(0.5 * self.gravity * (since - self.contact) * until)

    def draw(self, canvas: Canvas, time: float) -> None:
        x, r, lifted = self.x + float(at(self.aside, time)[0]), self.radius, self.lifted(time)
        squeezed = max(0.5 * r, r + 0.5 * min(lifted, 0.0))
        ellipse(canvas, (x, self.floor - squeezed - max(lifted, 0.0)), (r, squeezed), self.grey)


class _Hands(_Hits):
    """Two hands that clap, now here and now there, stay together for a moment and part."""

    def __init__(self, hits: Float, rng: np.random.Generator, size: tuple[int, int]) -> None:
        super().__init__(hits, rng)
        self.closing = rng.uniform(0.08, 0.2)
        self.contact = rng.uniform(0.0, 0.005)
        self.together = rng.uniform(0.03, 0.12)
        self.apart = rng.uniform(0.05, 0.13) * size[0]
        self.radii = rng.uniform(0.02, 0.035) * size[0], rng.uniform(0.05, 0.08) * size[0]
        self.places = np.array([rng.uniform(0.25, 0.75) * size[0], rng.uniform(0.35, 0.7) * size[1]])
        self.places = self.places + rng.normal(0.0, 0.01 * size[0], (len(hits) + 1, 2))
        self.grey = rng.uniform(120.0, 220.0)
        self.down = float(self.places[0, 1] / size[1])

    def draw(self, canvas: Canvas, time: float) -> None:
        until, since, k = self.around(time)
        closing = self.closing / self.force[k]
        gap = 1.0 - (1.0 - until / closing) ** 2 if until < closing else 1.0
        opened = 1.0
        if not np.isinf(since):
            speed = 2.0 / self.closing * self.force[k - 1]
            soft = min(since, self.contact)
            sunk = speed * (soft - 0.5 * soft**2 / self.contact)
            opened = float(0.5 - 0.5 * np.cos(np.pi * min(max(since - self.together, 0.0) / 0.35, 1.0)))
            gap = min(gap, opened - sunk * (1.0 - opened))
        before, after = self.places[max(k - 1, 0)], self.places[k]
        x, y = before + (after - before) * opened if k else after
        wide, tall = self.radii
        for side in (-1.0, 1.0):
            place = (x + side * (self.apart * gap + 0.9 * wide), y + 0.2 * self.apart * gap)
            ellipse(canvas, place, (wide, tall), self.grey - 12.0 * side, side * 12.0)
            ellipse(
                canvas, (place[0] + side * tall, place[1] + 1.6 * tall), (0.9 * wide, 1.6 * tall), 70.0, -side * 30.0
            )


class _Sticks(_Hits):
    """Two drumsticks on two drums: either falls, rebounds, and waits raised."""

    def __init__(self, hits: Float, rng: np.random.Generator, size: tuple[int, int]) -> None:
        super().__init__(hits, rng)
        self.which = rng.integers(0, 2, len(hits) + 1)
        self.falling = rng.uniform(0.07, 0.16)
        self.rebound = rng.uniform(0.4, 0.9)
        self.contact = rng.uniform(0.0, 0.004)
        self.raised = rng.uniform(0.4, 0.9)  # radians
        self.long = rng.uniform(0.15, 0.25) * size[0]
        self.width = max(2, round(rng.uniform(0.012, 0.025) * size[0]))
        middle = rng.uniform(0.4, 0.6) * size[0]
        self.drums = middle - 0.17 * size[0], middle + 0.17 * size[0]
        self.y = rng.uniform(0.5, 0.85) * size[1]
        self.grey = rng.choice([40.0, 200.0])
        self.down = self.y / size[1]

    def angle(self, side: int, time: float) -> float:
        """Radians above the drum, of the stick of a side."""
        mine = self.which[: len(self.hits)] == side
        until, since, _ = _Hits.around(self, time)
        own = self.hits[mine]
        k = int(np.searchsorted(own, time, side="right"))
        until = float(own[k]) - time if k < len(own) else np.inf
        since = time - float(own[k - 1]) if k else np.inf
        force = self.force[: len(self.hits)][mine]
        falling = self.falling / force[k] if k < len(own) else self.falling
        down = self.raised * (1.0 - (1.0 - until / falling) ** 2) if until < falling else self.raised
        if np.isinf(since):
            return float(down)
        speed = 2.0 * self.raised / self.falling * force[k - 1]
        since -= self.contact
        if since < 0.0:
            return float(-0.5 * speed * (self.contact - since**2 / self.contact))
        back = self.raised * (1.0 - np.exp(-self.rebound * speed * since / self.raised))
        sunk = 0.5 * speed * self.contact * np.exp(-since / 0.05)
        return float(min(down, back - sunk))

    def draw(self, canvas: Canvas, time: float) -> None:
        for side, x in enumerate(self.drums):
            outwards = 2.0 * side - 1.0
            ellipse(canvas, (x, self.y + 0.1 * self.long), (0.35 * self.long, 0.1 * self.long), 100.0)
            angle = self.angle(side, time)
            grip = x + outwards * self.long, self.y
            tip = grip[0] - outwards * self.long * np.cos(angle), self.y - self.long * np.sin(angle)
            rod(canvas, grip, tip, self.width, self.grey)
            ellipse(canvas, (grip[0], grip[1]), (0.12 * self.long, 0.12 * self.long), 140.0)
