"""Estimates of time: where one stream lies on the clock of another.

    sound      estimate_offset, estimate_clock   two sounds
    motion     estimate_motion                   two sensors on one body
    canonical  estimate_canonical                any two streams of numbers
    warp       estimate_warp                     two takes of one piece at different tempo
    following  WarpFollower                      the same while one of them is played
    picture    estimate_sound_picture            a sound and a picture
    solve      solve_clocks                      many recordings, one consistent answer
    transcript estimate_transcript               a text on the time of its speech
    viterbi    ctc_path                          forced alignment of tokens

Both of two inputs are `Stream`s, `(reference, moving)`; results map moving -> reference.
"""

from avfuse.temporal.canonical import estimate_canonical
from avfuse.temporal.following import Position, WarpFollower
from avfuse.temporal.motion import MotionEstimate, RotationEstimate, estimate_motion
from avfuse.temporal.picture import compare_sound_picture, estimate_sound_picture
from avfuse.temporal.solve import solve_clocks
from avfuse.temporal.sound import estimate_clock, estimate_offset
from avfuse.temporal.transcript import estimate_transcript
from avfuse.temporal.viterbi import ctc_path
from avfuse.temporal.warp import WarpEstimate, estimate_warp
from avfuse.transcript import Emissions, Phone, Transcript, Word

__all__ = [
    "Emissions",
    "MotionEstimate",
    "Phone",
    "Position",
    "RotationEstimate",
    "Transcript",
    "WarpEstimate",
    "WarpFollower",
    "Word",
    "compare_sound_picture",
    "ctc_path",
    "estimate_canonical",
    "estimate_clock",
    "estimate_motion",
    "estimate_offset",
    "estimate_sound_picture",
    "estimate_transcript",
    "estimate_warp",
    "solve_clocks",
]
