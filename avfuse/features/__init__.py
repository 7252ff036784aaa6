"""Features over time, Stream -> Stream: what recordings of one event share.

pitch     harmony: pitch classes and onsets of sound, for takes of one piece
inertia   rotation_rate, velocity: of poses
"""

from avfuse.features.inertia import rotation_rate, velocity
from avfuse.features.pitch import HarmonyExtractor, harmony

__all__ = ["HarmonyExtractor", "harmony", "rotation_rate", "velocity"]
