"""What cameras see of an event: a ball that bounces at known times, flashes, things that move, a frame counter.

Light is taken to be instant; a frame bears the time of the middle of its exposure. OpenCV draws, and is
imported only when frames are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.simulation.sampling import Clock
from avfuse.stream import Block, parts_of_times

Image = NDArray[np.uint8]
_SHIFT = 4  # OpenCV draws on sixteenths of a pixel
_BAR_TURN = 2.0  # seconds a turn of the bar takes


@dataclass(frozen=True, eq=False)
class Scene:
    """What is to be seen, on event time.

    impacts: (k,) seconds, rising, at which the ball hits the floor. flashes: (m,) seconds at which the light
    goes on, for `flash_duration` seconds.
    """

    impacts: NDArray[np.float64]
    flashes: NDArray[np.float64]
    flash_duration: float = 0.08

    def __post_init__(self) -> None:
        if np.any(np.diff(self.impacts) <= 0.0):
            raise StreamError("Scene: impacts do not rise; expected times in order, none twice")

    def ball(self, time: float) -> tuple[float, float, float]:
        """(across, height, seconds since the last impact), both places 0 to 1; it flies parabolas between impacts."""
        across = 0.5 + 0.3 * np.sin(2.0 * np.pi * time / 7.3)
        if not len(self.impacts):
            return float(across), 0.0, np.inf
        k = int(np.searchsorted(self.impacts, time, side="right"))
        before = self.impacts[k - 1] if k > 0 else self.impacts[0] - 1.0
        after = self.impacts[k] if k < len(self.impacts) else self.impacts[-1] + 1.0
        if not before <= time < after:
            return float(across), 0.0, np.inf
        gap = after - before
        share = (time - before) / gap
        height = 4.0 * share * (1.0 - share) * min(1.0, (gap / 1.2) ** 2)
        return float(across), float(height), float(time - before) if k > 0 else np.inf

    def light(self, begin: float, end: float) -> float:
        """Share of the exposure from `begin` to `end` (event seconds) that a flash lights."""
        if not len(self.flashes):
            return 0.0
        lit = np.minimum(self.flashes + self.flash_duration, end) - np.maximum(self.flashes, begin)
        return float(np.sum(np.maximum(0.0, lit)) / (end - begin))


@dataclass(frozen=True, eq=False)
class Camera:
    """How a device films. Sizes in pixels (even), rate in frames per second, exposure in seconds.

    zoom, shift: of the view (shift in picture widths); mirrored: seen from the other side.
    jitter: seconds (standard deviation) by which frames come early or late; lost: share of frames that never
    come. Both make a variable frame rate, drawn from `seed`.
    """

    width: int = 640
    height: int = 360
    rate: float = 25.0
    exposure: float = 0.01
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    jitter: float = 0.0
    lost: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or self.width < 64 or self.height < 64:
            raise StreamError(f"Camera: {self.width}x{self.height} pixels; expected even numbers of at least 64")
        if not (self.rate > 0.0 and 0.0 < self.exposure <= 1.0 / self.rate):
            raise StreamError(f"Camera: exposure {self.exposure} s at {self.rate} fps; expected 0 < exposure <= 1/rate")

    def frame_times(self, duration: float) -> NDArray[np.float64]:
        """(n,) seconds on the camera's clock; the first frame is at 0 and never lost."""
        times = np.arange(max(1, round(duration * self.rate))) / self.rate
        rng = np.random.default_rng(self.seed)
        late = np.clip(rng.normal(0.0, self.jitter, len(times)), -0.4 / self.rate, 0.4 / self.rate)
        late[0] = 0.0
        there = rng.random(len(times)) >= self.lost
        there[0] = True
        found: NDArray[np.float64] = (times + late)[there]
        return found


@dataclass(frozen=True, eq=False)
class Film:
    """The frames of one camera, drawn when asked for: the `values` of a picture stream."""

    scene: Scene
    camera: Camera
    clock: Clock
    length: float

    @property
    def duration(self) -> float:
        return self.length

    @cached_property
    def times(self) -> NDArray[np.float64]:
        return self.camera.frame_times(self.length)

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """(times, frames) with frames (n, height, width, 3) uint8 RGB."""
        for part in parts_of_times(self.times, duration):
            yield self.times[part], np.stack([self.frame(k) for k in range(part.start, part.stop)])

    def frame(self, index: int) -> Image:
        """(height, width, 3) uint8 RGB."""
        import cv2

        time = float(self.times[index])
        seen = float(self.clock(time))
        image = self._background.copy()
        if not np.isfinite(seen):
            return image
        unit = self._unit
        # A bar that turns, and a block that swings.
        angle = 2.0 * np.pi * seen / _BAR_TURN
        for side in (-1.0, 1.0):
            tip = (0.16 + side * 0.07 * np.sin(angle), 0.3 - side * 0.12 * np.cos(angle))
            cv2.line(
                image,
                self._fixed(0.16, 0.3),
                self._fixed(*tip),
                (230, 200, 60),
                max(1, round(0.012 * unit)),
                16,
                _SHIFT,
            )
        swing = 0.8 + 0.1 * np.sin(2.0 * np.pi * seen / 3.1)
        corners = np.array(
            [self._fixed(swing + a, 0.25 + b) for a, b in ((-0.05, -0.06), (0.05, -0.06), (0.05, 0.06), (-0.05, 0.06))]
        )
        cv2.fillConvexPoly(image, corners.astype(np.int32), (90, 160, 220), 16, _SHIFT)
        # The ball, and a ring that spreads from where it hits.
        across, height, since = self.scene.ball(seen)
        floor = 0.86
        if since < 0.25:
            fade = 1.0 - since / 0.25
            size = (0.05 + 0.5 * since) * unit * 2**_SHIFT
            colour = tuple(int(60 + fade * (c - 60)) for c in (255, 240, 120))
            cv2.ellipse(
                image,
                self._fixed(across, floor),
                (int(size), int(0.3 * size)),
                0,
                0,
                360,
                colour,
                max(1, round(0.01 * unit)),
                16,
                _SHIFT,
            )
        squash = 0.35 * np.exp(-((since / 0.02) ** 2)) if np.isfinite(since) else 0.0
        radius = 0.035 * unit * 2**_SHIFT
        centre = self._fixed(across, floor - 0.06 - 0.62 * height + 0.03 * squash)
        cv2.ellipse(
            image,
            centre,
            (int(radius * (1 + squash)), int(radius * (1 - squash))),
            0,
            0,
            360,
            (235, 90, 50),
            -1,
            16,
            _SHIFT,
        )
        half = 0.5 * self.camera.exposure
        lit = self.scene.light(float(self.clock(time - half)), float(self.clock(time + half)))
        if lit > 0.0:
            image = np.asarray(
                cv2.addWeighted(image, 1.0 - 0.85 * lit, np.full_like(image, 255), 0.85 * lit, 0.0), np.uint8
            )
        label = f"{index:05d}  {time:8.3f} s"
        part = self.camera.width / 640.0
        left, below = round(12 * part), self.camera.height - round(14 * part)
        box = (round(6 * part), below - round(20 * part)), (round(190 * part), below + round(8 * part))
        cv2.rectangle(image, *box, (20, 20, 20), -1)
        cv2.putText(image, label, (left, below), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * part, (255, 255, 255), 1, 16)
        return image

    @property
    def _unit(self) -> float:
        """Pixels of the scene's width."""
        return self.camera.zoom * self.camera.width

    def _fixed(self, across: float, down: float) -> Any:
        """A place of the scene (0 to 1 across and down) in the picture, in OpenCV's fixed-point pixels."""
        camera = self.camera
        side = -1.0 if camera.mirrored else 1.0
        x = camera.width * (0.5 + side * camera.zoom * (across - 0.5) + camera.shift[0])
        y = camera.height * (0.5 + camera.zoom * (down - 0.5)) + camera.width * camera.shift[1]
        return round(x * 2**_SHIFT), round(y * 2**_SHIFT)

    @cached_property
    def _background(self) -> Image:
        """Wall, floor and things on the wall, which do not move."""
        import cv2

        camera = self.camera
        rows = np.linspace(70.0, 40.0, camera.height)[:, None, None]
        image = np.ascontiguousarray(
            (rows * np.array([1.0, 1.05, 1.2]) + np.zeros((1, camera.width, 1))).astype(np.uint8)
        )
        floor = [self._fixed(*p) for p in ((-2.0, 0.82), (3.0, 0.82), (3.0, 3.0), (-2.0, 3.0))]
        cv2.fillConvexPoly(image, np.array(floor, np.int32), (96, 80, 64), 16, _SHIFT)
        rng = np.random.default_rng(11)  # every camera sees the same wall
        for _ in range(14):
            x, y, w, h = rng.uniform((0.0, 0.05, 0.02, 0.03), (1.0, 0.7, 0.09, 0.12))
            box = [self._fixed(*p) for p in ((x, y), (x + w, y), (x + w, y + h), (x, y + h))]
            cv2.fillConvexPoly(image, np.array(box, np.int32), tuple(map(int, rng.integers(50, 120, 3))), 16, _SHIFT)
        return image
