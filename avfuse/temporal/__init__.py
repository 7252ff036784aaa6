"""Estimates of time: where one stream lies on the clock of another.

    sound      estimate_offset, estimate_clock   two sounds
    solve      solve_clocks                      many recordings, one consistent answer

Both of two inputs are `Stream`s, `(reference, moving)`; results map moving -> reference.
"""

from avfuse.temporal.solve import solve_clocks
from avfuse.temporal.sound import estimate_clock, estimate_offset

__all__ = ["estimate_clock", "estimate_offset", "solve_clocks"]
