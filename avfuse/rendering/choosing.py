"""Which recording sounds best: a measurement, not a matter of taste."""

from __future__ import annotations

import numpy as np

from avfuse.rendering.timeline import Part
from avfuse.stream import Stream

_FRAME = 0.05  # seconds whose levels are compared
_MOST = 600.0  # seconds of each recording that are listened to
_CLIPPED = 0.999


def choose_best_sound(parts: list[Part]) -> Part | None:
    """The part with the widest range between its loud and its quiet moments; recorders go before cameras.

    A microphone far from the source, or behind automatic gain, hears the quiet moments as noise nearly as loud as the
    rest. Sound that clips loses what it gained by being loud. None where no part has sound.
    """
    heard = [part for part in parts if part.sounds]
    # Whoever brought a separate recorder did so for its sound.
    preferred = [part for part in heard if not part.pictures] or heard
    return max(preferred, key=lambda part: (dynamic_range_db(part.sounds[0][0]), part.name), default=None)


def dynamic_range_db(sound: Stream) -> float:
    """Decibels between the 95th and the 5th percentile of short-time levels, less 10 log10 of the share that clips."""
    levels: list[float] = []
    samples, clipped = 0, 0
    for times, values in sound.blocks(10.0):
        if times[0] - sound.start_time > _MOST:
            break
        size = max(1, round(_FRAME * (sound.rate or 1.0)))
        whole = values[:, : values.shape[1] // size * size]
        power = np.square(whole, dtype=np.float64).mean(axis=0).reshape(-1, size).mean(axis=1)
        levels += power.tolist()
        samples += values.size
        clipped += int(np.count_nonzero(np.abs(values) >= _CLIPPED))
    if not levels:
        return -np.inf
    # Digital silence is a dropout, not a quiet microphone: everything below 16 bits counts as 16 bits.
    loud, quiet = np.percentile(np.maximum(levels, 1e-10), [95, 5])
    return float(10 * np.log10(loud / quiet) - 10 * np.log10(1 + 1e4 * clipped / samples))
