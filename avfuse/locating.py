"""`avfuse locate`: a recording of an array, where its sounds come from, and the video that shows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from avfuse.errors import ReadError, StreamError, WriteError
from avfuse.io import read
from avfuse.spatial.sound.array_files import read_array, read_camera
from avfuse.spatial.sound.overlay import SoundPixel, sound_pixels
from avfuse.spatial.sound.sources import SoundSources, listen, locate_sound
from avfuse.spatial.sound.steering import F64, Geometry, checked_geometry, sound_speed
from avfuse.spatial.sound.tracks import track_sounds
from avfuse.stream import Stream
from avfuse.transform import Camera

_BLOCK = 10.0  # seconds decoded at a time
_MOST = 600.0  # seconds of sound that are looked at: the first
_ACROSS = 0.3  # cosine between the camera's axis and the normal of a plane array that makes it look at one side
_VIDEOS = (".mp4", ".mkv", ".mov")


@dataclass(frozen=True, eq=False)
class Located:
    """What `avfuse locate` found. pixels: of the sources, where a camera was given."""

    source: str
    sources: SoundSources
    pixels: tuple[SoundPixel, ...]
    picture: Stream | None
    sound: Stream
    samples: F64
    microphones: F64
    speed: float
    camera: Camera | None
    distance: tuple[float, float]
    facing: tuple[float, float, float]

    def write_video(self, path: Path) -> bool:
        """Whether there was something to show."""
        from avfuse.spatial.sound.video import write_sound_video

        if self.sources.status != "located":
            return False
        assert self.sound.rate is not None
        geometry = checked_geometry(self.microphones, len(self.samples), self.speed)
        heard = listen(self.samples, geometry, self.sound.rate)
        tracks = track_sounds(
            self.samples, rate=self.sound.rate, microphones=self.microphones, speed=self.speed, facing=self.facing
        )
        write_sound_video(
            path, heard, tracks, camera=None if self.picture is None else self.camera, picture=self.picture,
            sound=self.sound, distance=self.distance,
        )  # fmt: skip
        return True

    def to_json(self) -> dict[str, Any]:
        document = {"format": "avfuse.locate/1", "source": self.source, **self.sources.to_json()}
        for entry, seen in zip(document["sources"], self.pixels, strict=False):
            shown = bool(np.isfinite(seen.pixel).all())
            entry["pixel"] = seen.pixel.tolist() if shown else None
            entry["pixel_cov"] = seen.cov.tolist() if shown else None
            entry["inside"] = seen.inside
        return document


def check_video(path: Path) -> None:
    """Raise WriteError where no video can be written under this name."""
    if path.suffix.lower() not in _VIDEOS:
        raise WriteError(f"{path}: format {path.suffix!r}; expected one of {', '.join(_VIDEOS)}")


def locate_recording(
    path: str | os.PathLike[str],
    array: str | os.PathLike[str],
    *,
    camera: str | os.PathLike[str] | None = None,
    film: str | os.PathLike[str] | None = None,
    most: int = 4,
    temperature: float = 20.0,
    distance: tuple[float, float] = (0.5, 10.0),
    facing: tuple[float, float, float] | None = None,
) -> Located:
    """Where the sound of a recording comes from.

    camera: JSON of the camera. film: file of its picture, on the recording's clock; the recording's own where None.
    Raises ReadError for files that are none or do not fit each other.
    """
    from avfuse.spatial.sound.video import of_size

    name = os.fspath(path)
    recording = read(name)
    sounds = recording.of_kind("sound")
    if not sounds:
        raise ReadError(f"{name}: holds no sound; expected a recording of an array")
    sound = sounds[0]
    values = _samples(sound)
    microphones = read_array(array, len(values))
    speed = sound_speed(temperature)
    assert sound.rate is not None
    try:
        geometry = checked_geometry(microphones, len(values), speed)
    except StreamError as error:
        raise ReadError(f"{os.fspath(array)}: {error}") from error
    seen_by = None if camera is None else read_camera(camera)
    pictures = (recording if film is None else read(film)).of_kind("picture")
    if film is not None and not pictures:
        raise ReadError(f"{os.fspath(film)}: holds no picture; expected the film of the camera")
    if seen_by is not None and pictures:
        try:
            seen_by = of_size(seen_by, int(pictures[0].facts["width"]), int(pictures[0].facts["height"]))
        except StreamError as error:
            raise ReadError(f"{camera}: {error}") from error
    side = _side(geometry, seen_by) if facing is None else facing
    found = locate_sound(values, rate=sound.rate, microphones=microphones, most=most, speed=speed, facing=side)
    pixels = () if seen_by is None else tuple(sound_pixels(list(found), seen_by, distance=distance))
    picture = pictures[0] if pictures and seen_by is not None else None
    return Located(name, found, pixels, picture, sound, values, microphones, speed, seen_by, distance, side)


def _side(geometry: Geometry, camera: Camera | None) -> tuple[float, float, float]:
    """Of an array in one plane: that on which the camera looks, unless it looks along the plane."""
    if camera is not None:
        axis = camera.pose.rotation[2]
        if abs(float(axis @ geometry.axes[2])) > _ACROSS:
            return float(axis[0]), float(axis[1]), float(axis[2])
    return 0.0, 0.0, 1.0


def _samples(sound: Stream) -> F64:
    parts, length = [], 0.0
    for _, values in sound.blocks(_BLOCK):
        parts.append(values)
        length += values.shape[1] / (sound.rate or 1.0)
        if length >= _MOST:
            break
    return np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)


def print_located(found: Located, out: TextIO) -> None:
    """A line a source, in degrees."""
    for k, source in enumerate(found.sources):
        azimuth, elevation = np.degrees([source.azimuth, source.elevation])
        std = np.degrees(source.std)
        line = f"{k + 1}  azimuth {azimuth:+7.1f} ± {std[0]:.1f}°  elevation {elevation:+6.1f} ± {std[1]:.1f}°"
        line += f"  confidence {source.confidence:.2f}"
        if source.distance is not None:
            line += f"  about {source.distance:.1f} m away"
        if found.pixels:
            seen = found.pixels[k]
            line += f"  pixel {seen.pixel[0]:.0f}, {seen.pixel[1]:.0f}" if seen.inside else "  not in the picture"
        out.write(line + "\n")
    if found.sources.status != "located":
        out.write(f"{found.source}: {found.sources.status}\n")
    if found.sources.message:
        out.write(f"{found.sources.message}\n")
