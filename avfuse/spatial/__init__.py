"""Where things are: correspondences, transforms between frames of space, sound on pixels.

    matching, transforms, epipolar, camera_pose   descriptors -> correspondences -> transforms, outliers left out
    registration, information                     images onto images, without correspondences
    points, trajectories                          clouds of points, paths of one body
    cameras, board_adjustment                     cameras around one board
    rotation, hand_eye                            sensors on one body
    depth, depth_basin, visibility                LiDAR and depth cameras beside a camera
    sound, sound_tracks, steering                 microphones -> directions
    overlay, sound_video, array_files             directions -> pixels

Estimators of two inputs take `(reference, moving)` and return a TransformEstimate, moving -> reference.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avfuse.spatial.array_files import read_array as read_array
    from avfuse.spatial.array_files import read_camera as read_camera
    from avfuse.spatial.board_adjustment import BoardTrack as BoardTrack
    from avfuse.spatial.camera_pose import estimate_pose as estimate_pose
    from avfuse.spatial.cameras import average_poses as average_poses
    from avfuse.spatial.cameras import calibrate_cameras as calibrate_cameras
    from avfuse.spatial.cameras import track_board as track_board
    from avfuse.spatial.depth import calibrate_depth as calibrate_depth
    from avfuse.spatial.depth_basin import Basin as Basin
    from avfuse.spatial.depth_basin import calibration_basin as calibration_basin
    from avfuse.spatial.epipolar import estimate_essential as estimate_essential
    from avfuse.spatial.epipolar import estimate_fundamental as estimate_fundamental
    from avfuse.spatial.hand_eye import HandEye as HandEye
    from avfuse.spatial.hand_eye import calibrate_hand_eye as calibrate_hand_eye
    from avfuse.spatial.information import JointInformation as JointInformation
    from avfuse.spatial.information import information_distance as information_distance
    from avfuse.spatial.matching import Matches as Matches
    from avfuse.spatial.matching import match_descriptors as match_descriptors
    from avfuse.spatial.matching import match_guided as match_guided
    from avfuse.spatial.overlay import SoundPixel as SoundPixel
    from avfuse.spatial.overlay import calibrate_array as calibrate_array
    from avfuse.spatial.overlay import sound_pixels as sound_pixels
    from avfuse.spatial.points import register_points as register_points
    from avfuse.spatial.registration import register_images as register_images
    from avfuse.spatial.rotation import RotationCalibration as RotationCalibration
    from avfuse.spatial.rotation import calibrate_rotation as calibrate_rotation
    from avfuse.spatial.sound import SoundSource as SoundSource
    from avfuse.spatial.sound import SoundSources as SoundSources
    from avfuse.spatial.sound import locate_sound as locate_sound
    from avfuse.spatial.sound_tracks import SoundTrack as SoundTrack
    from avfuse.spatial.sound_tracks import track_sounds as track_sounds
    from avfuse.spatial.sound_video import write_sound_video as write_sound_video
    from avfuse.spatial.steering import sound_speed as sound_speed
    from avfuse.spatial.steering import steered_power as steered_power
    from avfuse.spatial.trajectories import PoseErrors as PoseErrors
    from avfuse.spatial.trajectories import TrajectoryAlignment as TrajectoryAlignment
    from avfuse.spatial.trajectories import absolute_errors as absolute_errors
    from avfuse.spatial.trajectories import align_trajectories as align_trajectories
    from avfuse.spatial.trajectories import relative_errors as relative_errors
    from avfuse.spatial.transforms import estimate_affine as estimate_affine
    from avfuse.spatial.transforms import estimate_homography as estimate_homography
    from avfuse.spatial.transforms import estimate_rigid as estimate_rigid
    from avfuse.spatial.transforms import estimate_similarity as estimate_similarity
    from avfuse.spatial.visibility import visible_points as visible_points

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {
    "Basin": "depth_basin",
    "BoardTrack": "board_adjustment",
    "HandEye": "hand_eye",
    "JointInformation": "information",
    "Matches": "matching",
    "PoseErrors": "trajectories",
    "RotationCalibration": "rotation",
    "SoundPixel": "overlay",
    "SoundSource": "sound",
    "SoundSources": "sound",
    "SoundTrack": "sound_tracks",
    "TrajectoryAlignment": "trajectories",
    "absolute_errors": "trajectories",
    "align_trajectories": "trajectories",
    "average_poses": "cameras",
    "calibrate_array": "overlay",
    "calibrate_cameras": "cameras",
    "calibrate_depth": "depth",
    "calibrate_hand_eye": "hand_eye",
    "calibrate_rotation": "rotation",
    "calibration_basin": "depth_basin",
    "estimate_affine": "transforms",
    "estimate_essential": "epipolar",
    "estimate_fundamental": "epipolar",
    "estimate_homography": "transforms",
    "estimate_pose": "camera_pose",
    "estimate_rigid": "transforms",
    "estimate_similarity": "transforms",
    "information_distance": "information",
    "locate_sound": "sound",
    "match_descriptors": "matching",
    "match_guided": "matching",
    "read_array": "array_files",
    "read_camera": "array_files",
    "register_images": "registration",
    "register_points": "points",
    "relative_errors": "trajectories",
    "sound_pixels": "overlay",
    "sound_speed": "steering",
    "steered_power": "steering",
    "track_board": "cameras",
    "track_sounds": "sound_tracks",
    "visible_points": "visibility",
    "write_sound_video": "sound_video",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avfuse.spatial.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'avfuse.spatial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
