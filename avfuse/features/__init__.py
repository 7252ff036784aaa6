"""Features over time, Stream -> Stream: what recordings of one event share.

pitch   harmony: pitch classes and onsets of sound, for takes of one piece
"""

from avfuse.features.pitch import HarmonyExtractor, harmony

__all__ = ["HarmonyExtractor", "harmony"]
