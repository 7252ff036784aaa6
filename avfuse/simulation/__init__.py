"""Recordings with known truth: sounds at places in a room, heard and seen by devices with clocks of their own.

sounds     what is heard: speech-like, music-like, impacts, ambience, ...
rooms      how it travels: free field, image sources, measured-like decays
devices    who records it: clock, band, noise, gain control, clipping
pictures   what cameras see
films      a film with sound of known delay: blows, flashes, talkers among what distracts
events     `simulate`: an event with any number of sources and devices, and its truth
media      recordings to files
pairs      two devices under the conditions of a benchmark; pairs that share nothing
motions    two sensors on one body
views      one happening filmed by two cameras
shutters   a camera that turns, its rows read one after the other, and a gyroscope on it
arrays     microphones of one array, in free field or a room
labelled   happenings of known classes, seen, heard and felt by three devices
demo       two cameras and a recorder
"""

from avfuse.simulation.arrays import ArrayRecording, simulate_array
from avfuse.simulation.demo import demo_event
from avfuse.simulation.devices import Device, dropping_clock, wandering_clock
from avfuse.simulation.events import SimulatedEvent, SoundSource, simulate
from avfuse.simulation.films import FilmWithSound, film_with_sound
from avfuse.simulation.media import write_media
from avfuse.simulation.motions import MotionPair, simulate_motions
from avfuse.simulation.pairs import UNRELATED, JinglePair, Pair, jingle_pair, simulate_pair, unrelated_pair
from avfuse.simulation.pictures import Camera, Scene
from avfuse.simulation.rooms import SPEED_OF_SOUND, Decay, Response, Room
from avfuse.simulation.views import TwoViews, two_views

__all__ = [
    "SPEED_OF_SOUND",
    "UNRELATED",
    "ArrayRecording",
    "Camera",
    "Decay",
    "Device",
    "FilmWithSound",
    "JinglePair",
    "MotionPair",
    "Pair",
    "Response",
    "Room",
    "Scene",
    "SimulatedEvent",
    "SoundSource",
    "TwoViews",
    "demo_event",
    "dropping_clock",
    "film_with_sound",
    "jingle_pair",
    "simulate",
    "simulate_array",
    "simulate_motions",
    "simulate_pair",
    "two_views",
    "unrelated_pair",
    "wandering_clock",
    "write_media",
]
