"""A synchroniser that is learned on one's own footage, and speaks through clock edges as all other evidence does.

tracks      what streams show on steps of 40 ms
network     Synchroniser: two encoders, and how far what they say agrees at each lag
learning    learn_synchrony: from recordings that are in step, with some of them held out
estimating  estimate_synchrony: streams -> ClockEstimate; synchrony_edge: -> ClockEdge
confidence  from evidence to probability
"""

from avfuse.nn.synchrony.estimating import compare_tracks, estimate_synchrony, synchrony_edge
from avfuse.nn.synchrony.learning import InStep, learn_synchrony
from avfuse.nn.synchrony.network import Learned, Synchroniser, load_synchroniser
from avfuse.nn.synchrony.tracks import Track, track_of

__all__ = [
    "InStep",
    "Learned",
    "Synchroniser",
    "Track",
    "compare_tracks",
    "estimate_synchrony",
    "learn_synchrony",
    "load_synchroniser",
    "synchrony_edge",
    "track_of",
]
