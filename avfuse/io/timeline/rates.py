"""Frame rates as editors know them, and time code counted in them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from avfuse.errors import StreamError

# What Final Cut Pro and Resolve offer as the rate of a timeline, in frames per second.
STANDARD = tuple(
    Fraction(rate)
    for rate in (
        "24000/1001", "24", "25", "30000/1001", "30", "48000/1001", "48", "50", "60000/1001", "60", "100",
        "120000/1001", "120",
    )
)  # fmt: skip
DEFAULT = Fraction(25)
_SAME = 0.02  # share by which a measured average may miss the rate that the camera was set to
_GIVEN = 0.0005  # share by which a typed 23.98 misses 24000/1001
_MOST_FRAMES = 5  # frames of the timeline that one frame of a slow camera lasts at most


def nearest(rate: float) -> Fraction:
    """The standard rate that a camera of `rate` frames/s is set to, or `rate` itself where there is none near it."""
    found = min(STANDARD, key=lambda standard: abs(math.log(rate / standard)))
    return found if abs(rate / found - 1) <= _SAME else Fraction(rate).limit_denominator(1001)


def timeline_rate(rate: float) -> Fraction:
    """The standard rate for a timeline of pictures at `rate` frames/s: its own, or a multiple of it.

    Rates that no standard one is a multiple of get the next faster one, so that no frame is lost.
    """
    for multiple in range(1, _MOST_FRAMES + 1):
        found = nearest(multiple * rate)
        if found in STANDARD:
            return found
    return min((standard for standard in STANDARD if standard >= rate), default=STANDARD[-1])


def given_rate(rate: float) -> Fraction:
    """The standard rate that somebody means who types 29.97. Raises StreamError where there is none."""
    for standard in STANDARD:
        if abs(rate / standard - 1) <= _GIVEN:
            return standard
    known = ", ".join(f"{float(standard):.5g}" for standard in STANDARD)
    raise StreamError(f"rate {rate:g}: no rate that editors have; expected one of {known}")


def seconds_of_timecode(timecode: str, rate: Fraction) -> Fraction | None:
    """Seconds that `timecode` ("01:00:00:00", or "01:00:00;00" with dropped numbers) counts; None for other texts.

    SMPTE ST 12-1: time code counts whole frames; at 29.97 and 59.94 the drop-frame kind leaves out the first 2 or 4
    numbers of each minute but every tenth, so that it stays near the clock.
    """
    found = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d+)", timecode.strip())
    if found is None:
        return None
    hours, minutes, seconds, frames = (int(found[k]) for k in (1, 2, 3, 5))
    nominal = round(rate)
    count = ((hours * 60 + minutes) * 60 + seconds) * nominal + frames
    if found[4] != ":":
        passed = hours * 60 + minutes
        count -= nominal // 15 * (passed - passed // 10)
    return count / rate
