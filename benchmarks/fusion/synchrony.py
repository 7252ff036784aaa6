"""A synchroniser that was learned on films, beside the classical estimator, on films that neither has seen.

Weights ship with avfuse only where the learned one answers more than the classical one and is as seldom wrong. Talkers
and blows, simulated; one seed of training for each run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

import avfuse
from avfuse.alignment import ClockEstimate
from avfuse.features import picture_features, sound_features
from avfuse.nn.synchrony import InStep, Synchroniser, compare_tracks, learn_synchrony
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import film_with_sound
from avfuse.stream import Recording
from avfuse.temporal import compare_sound_picture
from benchmarks.options import SHARED, Options
from benchmarks.tables import Goals

KINDS = ("talk", "blow")
LENGTH = 30.0  # seconds of a film
FARTHEST = 2.0  # seconds that are searched
SHIFTS = (-0.6, 0.0, 0.6)
CLIPS = ("bbaf2n.mpg", "lwbsza.mpg", "sbia1a.mpg", "id2_vcd_swwp2s.mpg", "face_22fps.mp4", "flipping_a_pancake.mkv")


def tables(options: Options, goals: Goals) -> list[Table]:
    count, tried = options.pick(3, 16), options.pick(2, 12)
    began = time.process_time()
    footage = [InStep.of(_film(kind, k, options.seed)) for k in range(count) for kind in KINDS]
    model = learn_synchrony(footage, steps=20 if options.quick else 400, rng=options.seed)
    minutes = (time.process_time() - began) / 60
    assert model.learned is not None
    found = {kind: _on_films(model, kind, range(1000, 1000 + tried), options.seed) for kind in KINDS}
    rows, answered, wrong = [], np.zeros(2, int), np.zeros(2, int)
    for kind in KINDS:
        for k, method in enumerate(("learned", "classical")):
            true, strange = found[kind][method]
            errors = np.array([e.offset - by for e, by in true if e.status == "aligned"])
            bad = sum(abs(e.offset - by) > max(5 * e.std, 1e-3) for e, by in true if e.status == "aligned")
            falsely = sum(e.status == "aligned" for e in strange)
            answered[k] += len(errors)
            wrong[k] += bad + falsely
            middle = milliseconds(float(np.median(np.abs(errors)))) if len(errors) else ""
            rows.append((kind, method, len(true), len(errors), bad, middle, f"{falsely} of {len(strange)}"))
    goals.add("learned: no wrong answer, none to strangers", f"{wrong[0]}", wrong[0] == 0)
    better = bool(answered[0] > answered[1] and wrong[0] <= wrong[1])
    told = f"{answered[0]} answers of the learned one beside {answered[1]}"
    goals.add(
        "weights ship only if the learned one is better", f"{told}: {'they may' if better else 'none ship'}", True
    )
    made = [
        Table(
            f"Films of {LENGTH:g} s that were not trained on",
            ("film", "method", "films", "answered", "wrong", "median error (ms)", "strangers answered"),
            rows,
            f"Learned from {len(model.learned.trained_on)} films, {len(model.learned.held_out)} held out, in "
            f"{minutes:.1f} minutes of one core, films included. Held-out clips of 4-20 s: best lag right "
            f"{model.learned.right:.0%}, answered {model.learned.answered:.0%}.",
        )
    ]
    if SHARED.is_dir():
        made.append(_on_clips(model, goals))
    return made


def _film(kind: Any, k: int, seed: int) -> Recording:
    rng = np.random.default_rng([seed, 6, k])
    made = film_with_sound(kind, rng, duration=LENGTH, rate=float(rng.choice([25.0, 29.97])), size=(160, 96))
    return replace(made.recording, name=f"{kind}-{k}")


Answers = tuple[list[tuple[ClockEstimate, float]], list[ClockEstimate]]


def _on_films(model: Synchroniser, kind: str, numbers: range, seed: int) -> dict[str, Answers]:
    films = [_film(kind, k, seed) for k in numbers]
    tracks = [InStep.of(film) for film in films]
    features = [(sound_features(f["sound"]), picture_features(f["picture"])) for f in films]
    found: dict[str, Answers] = {"learned": ([], []), "classical": ([], [])}
    for k in range(len(films)):
        late = SHIFTS[k % len(SHIFTS)]  # whole steps
        for step, out in ((0, 0), (1, 1)):
            j = (k + step) % len(films)
            heard, seen = tracks[j].first, tracks[k].second
            heard = replace(heard, first=heard.first + round(late / 0.04))
            sound = replace(features[j][0], start=features[j][0].start + late)
            answers = {
                "learned": compare_tracks(model, heard, seen, max_offset=FARTHEST),
                "classical": compare_sound_picture(sound, features[k][1], max_offset=FARTHEST),
            }
            for method, answer in answers.items():
                if out:
                    found[method][1].append(answer)
                else:
                    found[method][0].append((answer, late))
    return found


def _on_clips(model: Synchroniser, goals: Goals) -> Table:
    """Real clips, their sound shifted by what is known."""
    rows, wrong = [], 0
    for name in CLIPS:
        recording = avfuse.read(SHARED / "picture" / name)
        ready = InStep.of(recording)
        sound, picture = sound_features(recording["sound"]), picture_features(recording["picture"])
        told: list[str] = []
        for late in SHIFTS:
            heard = replace(ready.first, first=ready.first.first + round(late / 0.04))
            one = compare_tracks(model, heard, ready.second, max_offset=FARTHEST)
            two = compare_sound_picture(replace(sound, start=sound.start + late), picture, max_offset=FARTHEST)
            told += [one.status, two.status]
            wrong += one.status == "aligned" and abs(one.offset - late) > max(5 * one.std, 0.04)
        answered = [sum(t == "aligned" for t in told[k::2]) for k in (0, 1)]
        rows.append((name, len(SHIFTS), *answered))
    goals.add("real clips: no wrong answer of the learned one", f"{wrong}", wrong == 0)
    return Table("Real clips, shifted", ("clip", "shifts", "answered, learned", "answered, classical"), rows)
