"""Features over time, Stream -> Stream: what recordings of one event share.

pitch     harmony: pitch classes and onsets of sound, for takes of one piece
inertia   rotation_rate, velocity, force_parts: of poses
channels  any stream as rows of numbers, few enough to be compared
flow      image_motion: how the camera of a picture turned
light     picture_features: brightness and motion per region of a picture, rows for flashes
loudness  sound_features: energy of sound in fine steps, its onsets, the envelope of speech
"""

from avfuse.features.flow import ImageMotion, image_motion
from avfuse.features.inertia import rotation_rate, velocity
from avfuse.features.light import PictureFeatures, picture_features
from avfuse.features.loudness import SoundFeatures, sound_features
from avfuse.features.pitch import HarmonyExtractor, harmony

__all__ = [
    "HarmonyExtractor",
    "ImageMotion",
    "PictureFeatures",
    "SoundFeatures",
    "harmony",
    "image_motion",
    "picture_features",
    "rotation_rate",
    "sound_features",
    "velocity",
]
