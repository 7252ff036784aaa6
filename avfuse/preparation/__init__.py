"""From a manifest of raw recordings to training shards, on one machine or on Ray.

recipe      what is made of every event: `Recipe` and its parts
events      one event, step by step: read, align, check, judge, cut, encode
keeping     recordings that are decoded once, however often they are looked at
shaping     frames as they are stored
deciding    keep, correct or drop, and why
cutting     streams cut exactly into windows
encoding    windows as files in memory, and back
shards      samples of all events into shards
running     `prepare`: the whole job
pool        tasks in processes of their own
on_ray      the same on Ray
store       files here or at an address of fsspec
reading     shards back into windows and batches
examples    samples to look at and to listen to
"""

from avfuse.preparation.deciding import out_of_step
from avfuse.preparation.events import judge_event, prepare_event, read_event, slots_of
from avfuse.preparation.reading import Sample, cuts, open_shards, read_batches, read_windows
from avfuse.preparation.recipe import Limits, PictureForm, Recipe, SoundForm, load_recipe
from avfuse.preparation.running import Prepared, prepare

__all__ = [
    "Limits",
    "PictureForm",
    "Prepared",
    "Recipe",
    "Sample",
    "SoundForm",
    "cuts",
    "judge_event",
    "load_recipe",
    "open_shards",
    "out_of_step",
    "prepare",
    "prepare_event",
    "read_batches",
    "read_event",
    "read_windows",
    "slots_of",
]
