"""Where things are: correspondences, transforms between frames of space, sound on pixels.

    correspondences   descriptors -> pairs of points -> transforms, outliers left out
    images            images onto images, without correspondences
    clouds            clouds of points onto one another
    bodies            trajectories, sensors on one body, cameras around one board
    depth             LiDAR and depth cameras beside a camera
    sound             microphones -> directions -> pixels

Estimators of two inputs take `(reference, moving)` and return a TransformEstimate, moving -> reference.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avfuse.spatial.bodies.board_adjustment import BoardTrack as BoardTrack
    from avfuse.spatial.bodies.cameras import average_poses as average_poses
    from avfuse.spatial.bodies.cameras import calibrate_cameras as calibrate_cameras
    from avfuse.spatial.bodies.cameras import track_board as track_board
    from avfuse.spatial.bodies.hand_eye import HandEye as HandEye
    from avfuse.spatial.bodies.hand_eye import calibrate_hand_eye as calibrate_hand_eye
    from avfuse.spatial.bodies.rotation import RotationCalibration as RotationCalibration
    from avfuse.spatial.bodies.rotation import calibrate_rotation as calibrate_rotation
    from avfuse.spatial.bodies.trajectories import PoseErrors as PoseErrors
    from avfuse.spatial.bodies.trajectories import TrajectoryAlignment as TrajectoryAlignment
    from avfuse.spatial.bodies.trajectories import absolute_errors as absolute_errors
    from avfuse.spatial.bodies.trajectories import align_trajectories as align_trajectories
    from avfuse.spatial.bodies.trajectories import relative_errors as relative_errors
    from avfuse.spatial.clouds.registration import register_points as register_points
    from avfuse.spatial.correspondences.camera_pose import estimate_pose as estimate_pose
    from avfuse.spatial.correspondences.epipolar import estimate_essential as estimate_essential
    from avfuse.spatial.correspondences.epipolar import estimate_fundamental as estimate_fundamental
    from avfuse.spatial.correspondences.matching import Matches as Matches
    from avfuse.spatial.correspondences.matching import match_descriptors as match_descriptors
    from avfuse.spatial.correspondences.matching import match_guided as match_guided
    from avfuse.spatial.correspondences.transforms import estimate_affine as estimate_affine
    from avfuse.spatial.correspondences.transforms import estimate_homography as estimate_homography
    from avfuse.spatial.correspondences.transforms import estimate_rigid as estimate_rigid
    from avfuse.spatial.correspondences.transforms import estimate_similarity as estimate_similarity
    from avfuse.spatial.depth.basin import Basin as Basin
    from avfuse.spatial.depth.basin import calibration_basin as calibration_basin
    from avfuse.spatial.depth.calibration import calibrate_depth as calibrate_depth
    from avfuse.spatial.depth.visibility import visible_points as visible_points
    from avfuse.spatial.images.information import JointInformation as JointInformation
    from avfuse.spatial.images.information import information_distance as information_distance
    from avfuse.spatial.images.registration import register_images as register_images
    from avfuse.spatial.sound.array_files import read_array as read_array
    from avfuse.spatial.sound.array_files import read_camera as read_camera
    from avfuse.spatial.sound.overlay import SoundPixel as SoundPixel
    from avfuse.spatial.sound.overlay import calibrate_array as calibrate_array
    from avfuse.spatial.sound.overlay import sound_pixels as sound_pixels
    from avfuse.spatial.sound.sources import SoundSource as SoundSource
    from avfuse.spatial.sound.sources import SoundSources as SoundSources
    from avfuse.spatial.sound.sources import locate_sound as locate_sound
    from avfuse.spatial.sound.steering import sound_speed as sound_speed
    from avfuse.spatial.sound.steering import steered_power as steered_power
    from avfuse.spatial.sound.tracks import SoundTrack as SoundTrack
    from avfuse.spatial.sound.tracks import track_sounds as track_sounds
    from avfuse.spatial.sound.video import write_sound_video as write_sound_video

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {
    "Basin": "depth.basin",
    "BoardTrack": "bodies.board_adjustment",
    "HandEye": "bodies.hand_eye",
    "JointInformation": "images.information",
    "Matches": "correspondences.matching",
    "PoseErrors": "bodies.trajectories",
    "RotationCalibration": "bodies.rotation",
    "SoundPixel": "sound.overlay",
    "SoundSource": "sound.sources",
    "SoundSources": "sound.sources",
    "SoundTrack": "sound.tracks",
    "TrajectoryAlignment": "bodies.trajectories",
    "absolute_errors": "bodies.trajectories",
    "align_trajectories": "bodies.trajectories",
    "average_poses": "bodies.cameras",
    "calibrate_array": "sound.overlay",
    "calibrate_cameras": "bodies.cameras",
    "calibrate_depth": "depth.calibration",
    "calibrate_hand_eye": "bodies.hand_eye",
    "calibrate_rotation": "bodies.rotation",
    "calibration_basin": "depth.basin",
    "estimate_affine": "correspondences.transforms",
    "estimate_essential": "correspondences.epipolar",
    "estimate_fundamental": "correspondences.epipolar",
    "estimate_homography": "correspondences.transforms",
    "estimate_pose": "correspondences.camera_pose",
    "estimate_rigid": "correspondences.transforms",
    "estimate_similarity": "correspondences.transforms",
    "information_distance": "images.information",
    "locate_sound": "sound.sources",
    "match_descriptors": "correspondences.matching",
    "match_guided": "correspondences.matching",
    "read_array": "sound.array_files",
    "read_camera": "sound.array_files",
    "register_images": "images.registration",
    "register_points": "clouds.registration",
    "relative_errors": "bodies.trajectories",
    "sound_pixels": "sound.overlay",
    "sound_speed": "sound.steering",
    "steered_power": "sound.steering",
    "track_board": "bodies.cameras",
    "track_sounds": "sound.tracks",
    "visible_points": "depth.visibility",
    "write_sound_video": "sound.video",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avfuse.spatial.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'avfuse.spatial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
