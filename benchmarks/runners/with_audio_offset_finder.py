"""A pair through audio-offset-finder with its own settings."""

from audio_offset_finder.audio_offset_finder import find_offset_between_files
from loop import answer


def align(reference, moving):
    found = find_offset_between_files(reference, moving)
    score = float(found["standard_score"])
    return found["time_offset"], score > 10, score if score < float("inf") else None


answer(align)
