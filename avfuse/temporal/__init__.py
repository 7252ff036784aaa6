"""Estimates of time: where one stream lies on the clock of another.

    sound      estimate_offset, estimate_clock   two sounds
    warp       estimate_warp                     two takes of one piece at different tempo
    following  WarpFollower                      the same while one of them is played
    picture    estimate_sound_picture            a sound and a picture
    solve      solve_clocks                      many recordings, one consistent answer

Both of two inputs are `Stream`s, `(reference, moving)`; results map moving -> reference.
"""

from avfuse.temporal.following import Position, WarpFollower
from avfuse.temporal.picture import compare_sound_picture, estimate_sound_picture
from avfuse.temporal.solve import solve_clocks
from avfuse.temporal.sound import estimate_clock, estimate_offset
from avfuse.temporal.warp import WarpEstimate, estimate_warp

__all__ = [
    "Position",
    "WarpEstimate",
    "WarpFollower",
    "compare_sound_picture",
    "estimate_clock",
    "estimate_offset",
    "estimate_sound_picture",
    "estimate_warp",
    "solve_clocks",
]
