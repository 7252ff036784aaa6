"""Where things are: correspondences, transforms between frames of space, sound on pixels.

matching    which descriptors belong together: match_descriptors, match_guided
    sound         locate_sound, track_sounds, steered_power: where sounds come from, as an array hears it
                  calibrate_array, sound_pixels, write_sound_video: arrays beside cameras, sound on the picture
                  read_array, read_camera, sound_speed

Estimators of two inputs take `(reference, moving)` and return a TransformEstimate, moving -> reference.

calibrate_depth      where a LiDAR or depth camera sits beside a camera, without a target
calibration_basin    from how far away it comes to one answer
visible_points       which points of a cloud a camera sees
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avfuse.spatial.matching import Matches as Matches
    from avfuse.spatial.matching import match_descriptors as match_descriptors
    from avfuse.spatial.matching import match_guided as match_guided
    from avfuse.spatial.depth import calibrate_depth as calibrate_depth
    from avfuse.spatial.depth_basin import Basin as Basin
    from avfuse.spatial.depth_basin import calibration_basin as calibration_basin
    from avfuse.spatial.visibility import visible_points as visible_points

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {
    "Matches": "matching",
    "match_descriptors": "matching",
    "match_guided": "matching",
    "JointInformation": "information",
    "information_distance": "information",
    "register_images": "registration",
    from avfuse.spatial.array_files import read_array as read_array, read_camera as read_camera
    from avfuse.spatial.overlay import (
        SoundPixel as SoundPixel,
        calibrate_array as calibrate_array,
        sound_pixels as sound_pixels,
    )
    from avfuse.spatial.sound import (
        SoundSource as SoundSource,
        SoundSources as SoundSources,
        locate_sound as locate_sound,
    )
    from avfuse.spatial.sound_tracks import SoundTrack as SoundTrack, track_sounds as track_sounds
    from avfuse.spatial.sound_video import write_sound_video as write_sound_video
    from avfuse.spatial.steering import sound_speed as sound_speed, steered_power as steered_power

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {
    "SoundPixel": "overlay",
    "SoundSource": "sound",
    "SoundSources": "sound",
    "SoundTrack": "sound_tracks",
    "calibrate_array": "overlay",
    "locate_sound": "sound",
    "read_array": "array_files",
    "read_camera": "array_files",
    "sound_pixels": "overlay",
    "sound_speed": "steering",
    "steered_power": "steering",
    "track_sounds": "sound_tracks",
    "write_sound_video": "sound_video",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avfuse.spatial.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'avfuse.spatial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
