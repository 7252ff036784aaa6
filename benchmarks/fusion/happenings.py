"""Happenings of known class for a network to tell: where they come from, and how they are cut into windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from avfuse.alignment import Alignment
from avfuse.batches import Window, windows
from avfuse.simulation.labelled import (
    Difficulty,
    Examples,
    LabelledEvent,
    Rates,
    drawn_shapes,
    simulate_labelled,
    simulated_gestures,
    spoken_tones,
)
from benchmarks.fusion.digits import spoken_digits, written_digits
from benchmarks.options import SHARED, Options

CLASSES = 10
WIDTH = 0.6  # seconds of a window
COMPONENTS = 4  # principal ones of an image that is shown
VARIETY = 1.0  # of gestures
DIFFICULTY = Difficulty(background_db=5.0)
TRAINING, TESTING = 0, 1


@dataclass(frozen=True, eq=False)
class Sources:
    """What is spoken, shown and done in one part of the data. real: whether from recordings of digits."""

    spoken: Examples
    shown: Examples
    gestures: Examples
    real: bool


@lru_cache(maxsize=1)
def sources(seed: int) -> tuple[Sources, Sources]:
    """For training and for testing; digits of FSDD and MNIST, or tones and strokes where those are not here."""
    gestures = [
        simulated_gestures(CLASSES, 300, np.random.default_rng([seed, part, 1]), variety=VARIETY) for part in (0, 1)
    ]
    folder = SHARED / "labelled"
    if folder.is_dir():
        spoken, shown = spoken_digits(folder), written_digits(folder, components=COMPONENTS)
    else:
        rngs = [np.random.default_rng([seed, part, 2]) for part in (0, 1)]
        spoken = tuple(spoken_tones(CLASSES, 100, rng) for rng in rngs)
        shown = tuple(drawn_shapes(CLASSES, 300, rng, wobble=0.15) for rng in rngs)
    halved = [Examples([_halved(image) for image in part.values], part.labels) for part in shown]
    training, testing = (
        Sources(spoken[part], halved[part], gestures[part], folder.is_dir()) for part in (TRAINING, TESTING)
    )
    return training, testing


def _halved(image: np.ndarray) -> np.ndarray:
    """14 x 14: few principal components are smooth, and a quarter of the pixels a quarter of the work."""
    return image.astype(np.float32).reshape(14, 2, 14, 2).mean(axis=(1, 3))


STREAMS = {"picture": "camera/picture", "rotation": "wearable/rotation_rate", "sound": "recorder/sound"}


def windows_of(event: LabelledEvent, alignment: Alignment) -> list[Window]:
    """A window of the camera's clock around each happening, of the clocks that the alignment states."""
    found = []
    for moment, label in zip(event.moments_on("camera"), event.labels, strict=True):
        start = float(moment) - WIDTH / 2
        found += windows(
            alignment, duration=WIDTH, start=start, end=start + WIDTH, streams=STREAMS, label=int(label),
            name=event.name,
        )  # fmt: skip
    return found


def event_of(options: Options, part: int, index: int, rates: Rates) -> LabelledEvent:
    """One event of a minute, of its own devices, clocks, noise and examples of the part."""
    source = sources(options.seed)[part]
    return simulate_labelled(
        source.spoken, source.shown, source.gestures, rng=np.random.default_rng([options.seed, part, index, 3]),
        rates=rates, difficulty=DIFFICULTY, name=f"{'training' if part == TRAINING else 'testing'}-{index:02}",
    )  # fmt: skip
