"""Recordings with known truth: sounds at places in a room, heard by devices with clocks of their own.

sounds     what is heard: speech-like, music-like, impacts, ambience, ...
rooms      how it travels: free field, image sources, measured-like decays
devices    who records it: clock, band, noise, gain control, clipping
events     `simulate`: an event with any number of sources and devices, and its truth
pairs      two devices under the conditions of a benchmark
"""

from avfuse.simulation.devices import Device, dropping_clock, wandering_clock
from avfuse.simulation.events import SimulatedEvent, SoundSource, simulate
from avfuse.simulation.pairs import Pair, simulate_pair
from avfuse.simulation.rooms import SPEED_OF_SOUND, Decay, Response, Room

__all__ = [
    "SPEED_OF_SOUND",
    "Decay",
    "Device",
    "Pair",
    "Response",
    "Room",
    "SimulatedEvent",
    "SoundSource",
    "dropping_clock",
    "simulate",
    "simulate_pair",
    "wandering_clock",
]
