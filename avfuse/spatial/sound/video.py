"""A video that shows where the sound comes from: heat over the picture, and an ellipse on every source.

Without a camera the picture is a map of all directions: azimuth from +180 degrees on the left to -180 on the right, as
they lie around somebody who looks along +x, elevation from bottom to top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.simulation.media import write_media
from avfuse.spatial.sound.overlay import NEAR_AND_FAR, sound_pixels
from avfuse.spatial.sound.sources import Listening, SoundSource
from avfuse.spatial.sound.steering import F64, Steering, direction_of
from avfuse.spatial.sound.tracks import SoundTrack
from avfuse.stream import Block, Recording, Stream
from avfuse.transform import Camera

Image = NDArray[np.uint8]

_MAP = (960, 480)
_MAP_RATE = 10.0  # frames a second
_GRID = (64, 36)  # directions of the heat across a picture
_WINDOW = 0.25  # seconds of sound that one picture shows
_SHOWN = 0.4  # seconds from a source's window to a picture that still bears it
_FLOOR = 0.35  # of the greatest power, where heat begins
_LEAST = 0.1  # share of all sound from one direction that is full heat at least
_INK = ((255, 255, 255), (90, 230, 255), (255, 190, 80), (190, 255, 120))


@dataclass(frozen=True, eq=False)
class SoundPicture:
    """Frames with heat and ellipses: the `values` of a picture stream.

    start: seconds of the picture's time at which the sound of `heard` begins. camera: None for the map.
    """

    heard: Listening
    tracks: tuple[SoundTrack, ...]
    camera: Camera | None = None
    picture: Stream | None = None
    distance: tuple[float, float] = NEAR_AND_FAR
    start: float = 0.0

    @property
    def duration(self) -> float:
        if self.picture is not None:
            return self.picture.duration
        return float(self.heard.spectra.times[-1])

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """(times, frames) with frames `(n, height, width, 3)` uint8 RGB."""
        heat = _Heat(self)
        if self.picture is None:
            times = np.arange(max(1, round(self.duration * _MAP_RATE))) / _MAP_RATE
            for first in range(0, len(times), 8):
                part = times[first : first + 8]
                yield part, np.stack([heat.drawn(None, float(t)) for t in part])
            return
        for times, images in self.picture.blocks(min(duration, 0.5)):
            yield times, np.stack([heat.drawn(image, float(t)) for t, image in zip(times, images, strict=True)])


def write_sound_video(
    path: str | Path,
    heard: Listening,
    tracks: list[SoundTrack],
    *,
    camera: Camera | None = None,
    picture: Stream | None = None,
    sound: Stream | None = None,
    distance: tuple[float, float] = NEAR_AND_FAR,
) -> Path:
    """Write the picture with heat and ellipses, and the sound (its channels mixed to one) beside it.

    camera: of the picture, posed by T_camera_array; without both the map of all directions is written.
    Raises StreamError where only one of them is given, WriteError where the file cannot be written.
    """
    if (camera is None) != (picture is None):
        raise StreamError("write_sound_video: camera and picture belong together; give both, or neither for a map")
    start = 0.0 if sound is None else sound.start
    values = SoundPicture(heard, tuple(tracks), camera, picture, distance, start)
    rate = _MAP_RATE if picture is None else picture.rate
    streams = [Stream("picture", "picture", values, rate=rate, start=0.0 if picture is None else picture.start)]
    if sound is not None and sound.rate is not None:
        streams.append(Stream("sound", "sound", _Mixed(sound), rate=sound.rate, start=sound.start))
    return write_media(path, Recording("located", tuple(streams)))


@dataclass(frozen=True, eq=False)
class _Mixed:
    """All channels in one, of a level that neither clips nor whispers."""

    sound: Stream

    @property
    def duration(self) -> float:
        return self.sound.duration

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        for times, values in self.sound.blocks(duration, rate):
            yield times, np.asarray(values.mean(axis=0, keepdims=True), np.float32)


class _Heat:
    """Draws frames; keeps the table of lags from one to the next."""

    def __init__(self, shown: SoundPicture) -> None:
        self.shown = shown
        self.size = _MAP
        self.steering: Steering | None = None
        self.greatest = _LEAST
        self.told: Any = True

    def drawn(self, image: Image | None, at: float) -> Image:
        import cv2

        if image is None:
            image = np.full((_MAP[1], _MAP[0], 3), 24, np.uint8)
        canvas: Any = np.ascontiguousarray(image)
        self.size = (canvas.shape[1], canvas.shape[0])
        height = self._height(at - self.shown.start)
        if height is not None:
            warm = cv2.resize(height, self.size, interpolation=cv2.INTER_CUBIC).clip(0, 1)
            colours = cv2.applyColorMap((255 * warm).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
            share = (0.65 * warm)[..., None]
            canvas = (canvas * (1 - share) + colours * share).astype(np.uint8)
        if self.shown.camera is None:
            _draw_map(canvas)
        canvas = np.ascontiguousarray(canvas)
        for number, (source, age) in self._sources(at - self.shown.start):
            self._mark(canvas, source, age, number)
        return np.asarray(canvas)

    def _height(self, at: float) -> NDArray[np.float32] | None:
        """`(rows, columns)` 0..1: steered power of the sound around `at`."""
        spectra = self.shown.heard.spectra
        inside = np.flatnonzero(np.abs(spectra.times - at) <= _WINDOW / 2)
        if not len(inside):
            return None
        rows = slice(int(inside[0]), int(inside[-1]) + 1)
        if self.steering is None:
            self.steering = Steering(self.shown.heard.geometry, self._directions(), spectra.rate, spectra.size)
        part, weights = spectra.part(rows), self.shown.heard.weights[rows]
        power = self.steering.power(part.cross(weights), spectra) / max(
            float(weights.sum()) * len(self.shown.heard.geometry.pairs), 1e-12
        )
        self.greatest = max(0.97 * self.greatest, float(power.max()), _LEAST)
        # What is hardly audible warms nothing, however well it lines up.
        loud = float(part.power.sum(axis=1).mean()) / max(float(spectra.power.sum(axis=1).mean()), 1e-30)
        made = np.where(self.told, power, 0).reshape(_GRID[1], _GRID[0]) / self.greatest * min(1.0, np.sqrt(10 * loud))
        return np.asarray(np.clip((made - _FLOOR) / (1 - _FLOOR), 0, 1), np.float32)

    def _directions(self) -> F64:
        """Of the middles of a coarse grid over the picture, row by row."""
        width, height = self.size
        x, y = np.meshgrid(
            (np.arange(_GRID[0]) + 0.5) * width / _GRID[0], (np.arange(_GRID[1]) + 0.5) * height / _GRID[1]
        )
        geometry, camera = self.shown.heard.geometry, self.shown.camera
        if camera is None:
            towards = direction_of(np.pi - 2 * np.pi * x.ravel() / width, np.pi / 2 - np.pi * y.ravel() / height)
        else:
            rays = np.nan_to_num(camera.rays(np.stack([x.ravel(), y.ravel()], axis=1)))
            near, far = self.shown.distance
            points = camera.centre + rays * (2 / (1 / near + 1 / far))
            towards = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
        if geometry.rank == 2:
            # The other side of a plane array is an image of this one: no heat there that nothing tells.
            self.told = towards @ geometry.axes[2] >= 0
        return np.asarray(towards)

    def _sources(self, at: float) -> list[tuple[int, tuple[SoundSource, float]]]:
        found = []
        for number, track in enumerate(self.shown.tracks):
            k = int(np.abs(track.times - at).argmin())
            age = abs(float(track.times[k]) - at)
            if age <= _SHOWN:
                found.append((number, (track.sources[k], age)))
        return found

    def _mark(self, canvas: Image, source: SoundSource, age: float, number: int) -> None:
        import cv2

        if self.shown.camera is None:
            width, height = self.size
            at = np.array(
                [(np.pi - source.azimuth) / (2 * np.pi) * width, (np.pi / 2 - source.elevation) / np.pi * height]
            )
            scale = np.diag([-width / (2 * np.pi), -height / np.pi])
            values, vectors = np.linalg.eigh(scale @ source.cov @ scale)
            long, short = np.sqrt(5.99 * np.maximum(values[::-1], 0.0))
            angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]))
        else:
            seen = sound_pixels(source, self.shown.camera, distance=self.shown.distance)[0]
            if not np.isfinite(seen.pixel).all() or np.abs(seen.pixel).max() > 1e5:
                return
            at = seen.pixel
            long, short, angle = seen.ellipse()
        ink, bold = _INK[number % len(_INK)], max(1, round(self.size[1] / 360))
        # The map's left and right are one place.
        turns = (-self.size[0], 0, self.size[0]) if self.shown.camera is None else (0,)
        axes = (min(round(long), 4000), min(max(round(short), 1), 4000))
        for colour, wide in (((0, 0, 0), bold + 2), (ink, bold)):
            for turn in turns:
                centre = (round(float(at[0])) + turn, round(float(at[1])))
                cv2.ellipse(canvas, centre, axes, float(np.degrees(angle)), 0, 360, colour, wide, cv2.LINE_AA)
                cv2.circle(canvas, centre, 2 * bold, colour, wide, cv2.LINE_AA)


def _draw_map(canvas: Image) -> None:
    """Lines and figures every 30 degrees."""
    import cv2

    height, width = canvas.shape[:2]
    for azimuth in range(-150, 181, 30):
        x = round((180 - azimuth) / 360 * width)
        cv2.line(canvas, (x, 0), (x, height), (70, 70, 70), 1)
        cv2.putText(
            canvas, f"{azimuth:+d}", (x + 3, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (200, 200, 200), 1, cv2.LINE_AA
        )
    for elevation in range(-60, 61, 30):
        y = round((90 - elevation) / 180 * height)
        cv2.line(canvas, (0, y), (width, y), (70, 70, 70), 1)
        cv2.putText(
            canvas, f"{elevation:+d}", (3, y - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (200, 200, 200), 1, cv2.LINE_AA
        )


def of_size(camera: Camera, width: int, height: int) -> Camera:
    """The camera for pictures of this size. Raises StreamError where they are of another one."""
    if camera.size is None:
        return replace(camera, size=(width, height))
    if camera.size != (width, height):
        raise StreamError(
            f"camera: of {camera.size[0]} x {camera.size[1]} pixels, and the picture has {width} x {height}"
        )
    return camera
