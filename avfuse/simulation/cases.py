"""Simulated recordings as files with their truth beside them: cases for `avfuse evaluate`.

A recipe is what a cases file says of a case that is made when it is needed: the name of a function under "pair" and
its arguments, e.g. `{"pair": "related", "kind": "speech", "room": "near", "snr_db": 0, "seed": [1, 7]}`.

    related     `simulate_pair`     two devices at one event
    unrelated   `unrelated_pair`    two recordings that share nothing
    jingle      `jingle_pair`       two that share a repeated jingle only: ambiguous
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.alignment import Alignment, Candidate, ClockEstimate, RecordingFacts, reference_estimate
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.errors import StreamError
from avfuse.simulation.events import SimulatedEvent
from avfuse.simulation.media import write_media
from avfuse.simulation.pairs import jingle_pair, simulate_pair, unrelated_pair
from avfuse.stream import Recording, Stream

_PAIRS: dict[str, Callable[..., Any]] = {
    "related": simulate_pair,
    "unrelated": unrelated_pair,
    "jingle": jingle_pair,
}
_NOTHING_SHARED = "shares nothing with the reference"


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise StreamError where `recipe` is none."""
    if not isinstance(recipe, Mapping) or recipe.get("pair") not in _PAIRS:
        pair = recipe.get("pair") if isinstance(recipe, Mapping) else recipe
        raise StreamError(f"simulates pair {pair!r}; expected one of {', '.join(_PAIRS)}")
    if "seed" not in recipe:
        raise StreamError("simulates without a seed; expected a whole number or a list of them")
    known = [name for name in inspect.signature(_PAIRS[recipe["pair"]]).parameters if name not in ("rng", "acoustics")]
    unknown = [key for key in recipe if key not in {"pair", "seed", *known}]
    if unknown:
        raise StreamError(f"simulates with {unknown[0]!r}; a {recipe['pair']} pair knows {', '.join(known)}")


def simulate_case(recipe: Mapping[str, Any], folder: str | os.PathLike[str]) -> Alignment:
    """Make the recordings of a recipe in `folder`, as 32-bit WAV, and return their truth."""
    check_recipe(recipe)
    arguments = {key: value for key, value in recipe.items() if key not in ("pair", "seed")}
    if "plays" in arguments:
        arguments["plays"] = tuple(arguments["plays"])
    made = _PAIRS[recipe["pair"]](**arguments, rng=np.random.default_rng(recipe["seed"]))
    if recipe["pair"] == "related":
        return write_case(folder, made[:2], made.truth)
    if recipe["pair"] == "unrelated":
        return write_case(folder, made, None)
    return write_case(folder, made[:2], [float(offset) for offset in made.offsets])


def write_case(
    folder: str | os.PathLike[str],
    streams: Sequence[Stream],
    truth: ClockMap | PiecewiseClock | Sequence[float] | None,
    *,
    suffix: str = ".wav",
    bits: int = 32,
    std: float = 0.0,
) -> Alignment:
    """Write a reference and a moving recording and their truth, alignment.json, into `folder`; returns the truth.

    truth: clock of the moving recording on the reference's. Offsets, where several are true and none is to be chosen.
    None: they share nothing. std: seconds to which the truth is known.
    """
    reference, moving = streams
    recordings = [Recording("reference", (reference,)), Recording("moving", (moving,))]
    if isinstance(truth, ClockMap | PiecewiseClock):
        estimate = _true_estimate(truth, moving.duration, std)
    elif truth is None:
        estimate = ClockEstimate("no_match", message=_NOTHING_SHARED, span=(0.0, moving.duration))
    else:
        candidates = tuple(Candidate(offset, 0.0, 1.0 / len(truth)) for offset in truth)
        estimate = ClockEstimate("ambiguous", candidates=candidates, message="several offsets are true")
    return _write(folder, recordings, {"moving": estimate}, suffix, bits)


def write_event_case(
    event: SimulatedEvent,
    folder: str | os.PathLike[str],
    *,
    strangers: Sequence[Recording] = (),
    suffix: str = ".wav",
    bits: int = 16,
) -> Alignment:
    """Write all recordings of an event, the first being the reference, and their truth into `folder`.

    strangers: recordings of something else, which must be refused.
    """
    reference, *others = event.recordings
    clocks = {r.name: _true_estimate(event.truth_between(reference.name, r.name), r.duration, 0.0) for r in others}
    for stranger in strangers:
        clocks[stranger.name] = ClockEstimate("no_match", message=_NOTHING_SHARED)
    return _write(folder, [reference, *others, *strangers], clocks, suffix, bits)


def _true_estimate(clock: ClockMap | PiecewiseClock, duration: float, std: float) -> ClockEstimate:
    count = len(clock.segments) if isinstance(clock, PiecewiseClock) else 1
    cov = np.zeros((count, 2, 2))
    cov[:, 0, 0] = std**2
    span = (0.0, duration)
    if isinstance(clock, PiecewiseClock):
        span = (clock.segments[0].start, clock.segments[-1].end)
    return ClockEstimate("aligned", clock, cov if count > 1 else cov[0], 1.0, span=span, evidence=("truth",))


def _write(
    folder: str | os.PathLike[str],
    recordings: Sequence[Recording],
    clocks: Mapping[str, ClockEstimate],
    suffix: str,
    bits: int,
) -> Alignment:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    facts = {}
    for recording in recordings:
        path = write_media(place / f"{recording.name}{suffix}", recording, bits=bits)  # type: ignore[arg-type]
        facts[recording.name] = RecordingFacts(str(path), duration=recording.duration)
    reference = recordings[0]
    truth = Alignment(
        reference.name, {reference.name: reference_estimate(reference.name, reference.duration), **clocks}, facts=facts
    )
    # Relative to its folder, which can then be moved.
    near = {name: replace(f, source=os.path.relpath(f.source or "")) for name, f in facts.items()}
    replace(truth, facts=near).save(place / "alignment.json")
    return truth
