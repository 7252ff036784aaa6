"""Where the pieces of a window really come from: shards of `avfuse.prepare` beside what others cut.

Films bear their own time in every frame and in any stretch of sound. They have 10 s between key frames, 3 B-frames,
variable frame rates and different starts. Every tool is asked for the same spans of the file's time, and judged by the
times that it states itself: those of its time stamps or clip, never an index times a rate.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from avfuse.batches import Window
from avfuse.preparation import Limits, Recipe, prepare, read_windows
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation.stamped import StampedPicture, stamped_film, time_of_sound, times_of_frames
from benchmarks.options import Options
from benchmarks.prepare.cutting import CUTTERS, Cut, NotTaken, Span
from benchmarks.prepare.films import FILMS, Film
from benchmarks.prepare.manifests import write_manifest
from benchmarks.tables import Goals

LENGTH, STEP = 1.5, 1.73  # seconds of a window, and from one to the next
SOUND_GOAL, PICTURE_GOAL = 1e-3, 0.5  # seconds, frames
OWN = "avfuse.prepare"
PIECE = 0.25  # seconds of sound that are looked up at once
PIECES = 7  # of each window
FAR = 60.0  # seconds around
FAR_RATE = 16000.0  # Hz at which that is searched: all that films say is below 6 kHz
KNOWN = 0.5  # correlation from which a piece of sound is what it is taken for
QUIET = 1e-3


@dataclass(frozen=True)
class Judged:
    """One window of one tool.

    picture, sound: largest |where it comes from - where it is said to come from|, in frames and seconds; infinite where
    nothing came or nothing can be recognised. missing: share of the span's frames, or of its seconds of sound, that did
    not come, whichever is more. strange: frames from outside of the span. excess: seconds by which what came is longer
    than it is (shorter below 0), of picture or sound, whichever is farther off. apart: seconds by which the sound is
    later against the picture than in the film.
    """

    film: str
    tool: str
    picture: float = np.inf
    sound: float = np.inf
    missing: float = 1.0
    strange: int = 0
    excess: float = -LENGTH
    apart: float = np.inf

    @property
    def came(self) -> bool:
        return self.missing < 1.0 or self.strange > 0

    @property
    def exact(self) -> bool:
        return self.picture <= PICTURE_GOAL and self.sound <= SOUND_GOAL and self.missing <= 0.01 and not self.strange


def judge(film: Film, tool: str, cut: Cut | None, span: Span, shown: np.ndarray, seed: int) -> Judged:
    """shown: (n,) moments of the film's frames."""
    if cut is None or not len(cut.times) or not len(cut.sound):
        return Judged(film.name, tool)
    begin, end = span[0] + film.zero, span[1] + film.zero
    frame = 1.0 / film.rate
    seen = cut.shown
    off_picture = seen - (begin + cut.times)
    picture = float(np.max(np.abs(off_picture))) if np.isfinite(seen).all() else np.inf
    wanted = shown[(shown >= begin + frame / 2) & (shown < end - frame / 2)]
    came = np.isclose(wanted[:, None], seen, atol=1e-4).any(axis=1)
    # What is on the screen when the span begins may come, too.
    earliest = min(begin - frame / 2, shown[max(0, int(np.searchsorted(shown, begin, "right")) - 1)] - 1e-3)
    strange = int(np.sum((seen < earliest) | (seen > end + frame / 2)))
    off_sound, heard = _sound_errors(cut, begin, seed)
    long = len(cut.sound) / cut.rate - (span[1] - span[0]), np.ptp(cut.times) - np.ptp(wanted)
    return Judged(
        film.name, tool, picture / frame, float(np.max(np.abs(off_sound))) if len(off_sound) else np.inf,
        max(1.0 - float(np.mean(came)), 1.0 - heard / (span[1] - span[0])), strange,
        float(max(long, key=abs)),
        float(np.median(off_picture) - np.median(off_sound)) if len(off_sound) else np.inf,
    )  # fmt: skip


def _sound_errors(cut: Cut, begin: float, seed: int) -> tuple[np.ndarray, float]:
    """Errors (seconds) of up to `PIECES` pieces that are no silence (n,), and the seconds of what is none."""
    fine = round(0.02 * cut.rate)
    levels = np.sqrt(np.mean(cut.sound[: len(cut.sound) // fine * fine].reshape(-1, fine) ** 2, axis=1))
    size = round(PIECE * cut.rate)
    firsts = np.unique(np.linspace(0, max(0, len(cut.sound) - size), PIECES).astype(int))
    found: list[float] = []
    away = 0.0
    for first in firsts:
        piece = cut.sound[first : first + size]
        if np.sqrt(np.mean(piece**2)) <= QUIET:
            continue
        said = begin + cut.sound_start + first / cut.rate
        # Mostly as far off as the piece before.
        when, sure = time_of_sound(piece, cut.rate, near=said + away, within=0.1, seed=seed)
        if sure < KNOWN:
            coarse = soxr.resample(piece, cut.rate, FAR_RATE)
            when, sure = time_of_sound(coarse, FAR_RATE, near=said, within=FAR, seed=seed)
            if sure >= KNOWN:
                when, sure = time_of_sound(piece, cut.rate, near=when, within=0.1, seed=seed)
        if sure < KNOWN:
            found.append(np.inf)
            break
        away = when - said
        found.append(away)
    return np.array(found), float(np.sum(levels > QUIET)) * fine / cut.rate


def spans_of(film: Film, duration: float) -> list[Span]:
    """Spans (seconds of the file's time) in which there are picture and sound throughout."""
    starts = np.arange(_first(film), duration - film.zero - LENGTH - 0.2, STEP)
    return [(round(float(s), 6), round(float(s) + LENGTH, 6)) for s in starts]


def _first(film: Film) -> float:
    return round(film.begins + 0.1, 3)


def tables(options: Options, goals: Goals) -> list[Table]:
    films = [*FILMS[:3], FILMS[-1]] if options.quick else FILMS
    duration = 24.0 if options.quick else 42.0
    folder = options.out / "prepare" / "films"
    files = {film: film.files(folder, duration, options.seed) for film in films}
    own = prepared(files, options)
    judged: list[Judged] = []
    notes = []
    for tool in (OWN, *CUTTERS):
        began = time.perf_counter()
        for film, path in files.items():
            if film.recorder is not None and tool != OWN:
                continue  # a second device is beyond them
            spans = spans_of(film, duration)
            shown = _shown(film, duration, options.seed)
            cuts: list[Cut | None] = [None] * len(spans)
            try:
                if tool == OWN:
                    cuts = [own[film.name].get(start) for start, _ in spans]
                else:
                    cuts = list(CUTTERS[tool](path["camera"], spans))
            except NotTaken:
                continue
            except RuntimeError as error:
                notes.append(f"{tool}, {film.name}: {str(error).rpartition('] ')[2]}")
            judged += [judge(film, tool, c, s, shown, options.seed) for c, s in zip(cuts, spans, strict=True)]
        print(f"fidelity: {tool} {time.perf_counter() - began:.0f} s", flush=True)
    mine = [j for j in judged if j.tool == OWN]
    _add_goals(mine, goals)
    # Few are made for transport streams: apart, so that nobody looks bad for what they do not claim.
    made: list[Table] = []
    for what, streams in (("MP4, MOV and Matroska", False), ("transport streams", True)):
        these = [j for j in judged if j.film.endswith(".ts") == streams]
        rows = [_row(tool, [j for j in these if j.tool == tool]) for tool in (OWN, *CUTTERS)
                if any(j.tool == tool for j in these)]  # fmt: skip
        made.append(Table(f"Windows of {LENGTH} s from {what}", ("tool", *_HEADER), rows, _NOTE if not streams else ""))
    made.append(
        Table(f"{OWN} by film", ("film", *_HEADER),
              [_row(film.name, [j for j in mine if j.film == film.name]) for film in films],
              f"Gave up on a film: {'; '.join(notes)}." if notes else "")
    )  # fmt: skip
    return made


_NOTE = (
    "10 s between key frames, 3 B-frames, frame rates of 12 to 60 Hz, most of them variable, picture or sound "
    "starting 0.25 to 1.1 s late. Errors: the worst of what came in each window, by the times that the tool "
    "states; percentiles over windows that came at all; lost: it cannot be recognised. Exact: sound within 1 ms, "
    "picture within half a frame, at most 1 % missing, no frame from outside but that which is on the screen at "
    "the start. Missing: share of a window's frames or sound (whichever is more) that did not come, median and "
    "worst. Apart: worst error of the sound against the picture. Length: worst difference to 1.5 s of sound, or to "
    "the film's frames that lie inside of the span by half a frame: a pause between frames at its border counts. "
    "video2dataset: FFmpeg commands as in its source."
)


def _shown(film: Film, duration: float, seed: int) -> np.ndarray:
    made = stamped_film(duration, seed, rate=film.rate, variable=film.variable, starts=film.starts, sound_rate=8000)
    source = made["picture"].values
    assert isinstance(source, StampedPicture)
    return source.times


def prepared(files: Mapping[Film, Mapping[str, Path]], options: Options) -> dict[str, dict[float, Cut]]:
    """Name of a film -> start of a window (seconds of the film's time) -> what shards hold of it, made and read."""
    cuts: dict[str, dict[float, Cut]] = {film.name: {} for film in files}
    for number, streams in enumerate(unique := [*{tuple(film.streams.items()): 0 for film in files}]):
        room = options.out / "prepare" / f"fidelity-{number}"
        shutil.rmtree(room, ignore_errors=True)
        manifest = write_manifest(
            room.with_suffix(".jsonl"),
            {film.name: roles for film, roles in files.items() if tuple(film.streams.items()) == unique[number]},
            {film.name: {"start": _first(film)} for film in files},
        )
        recipe = Recipe(duration=LENGTH, hop=STEP, streams=dict(streams), limits=Limits(lacking="keep", coverage=0.0))
        found = prepare(manifest, room, recipe, workers=1)
        if found.errors:
            raise SystemExit(f"films were not prepared: {found.errors[0]}")
        for window in read_windows(room, split=None):
            if {"picture", "sound"} <= window.samples.keys():
                cuts[window.event][round(window.start, 6)] = _cut_of(window)
    return cuts


def _cut_of(window: Window) -> Cut:
    seen, heard = window.samples["picture"], window.samples["sound"]
    # What is not valid is no sound.
    values = np.where(heard.valid, heard.values.mean(axis=1), 0.0)
    return Cut(times_of_frames(seen.values), seen.times - window.start, values, float(heard.times[0]) - window.start,
               float(heard.rate or 1.0))  # fmt: skip


_HEADER = (
    "windows", "came", "exact", "sound: median (ms)", "p95", "worst", "picture: median (frames)", "p95", "worst",
    "missing", "worst missing", "apart (ms)", "length (s)",
)  # fmt: skip


def _row(name: str, windows: Sequence[Judged]) -> tuple[object, ...]:
    def at(values: Sequence[float], share: float) -> float:
        # Not interpolated: infinity stays what it is.
        return float(np.quantile(values, share, method="higher"))

    came = [j for j in windows if j.came]
    counts = (name, len(windows), len(came), f"{np.mean([j.exact for j in windows]):.0%}")
    if not came:
        return (*counts, *["–"] * (len(_HEADER) - len(counts) + 1))
    sound, picture = [j.sound for j in came], [j.picture for j in came]
    missing = [j.missing for j in came]
    return (
        *counts, *(_told(at(sound, q), milliseconds) for q in (0.5, 0.95, 1.0)),
        *(_told(at(picture, q), "{:.2f}".format) for q in (0.5, 0.95, 1.0)),
        f"{at(missing, 0.5):.0%}", f"{at(missing, 1.0):.0%}",
        _told(max(abs(j.apart) for j in came), milliseconds), f"{max((j.excess for j in came), key=abs):+.2f}",
    )  # fmt: skip


def _told(value: float, words: Callable[[float], str]) -> str:
    return words(value) if np.isfinite(value) else "lost"


def _add_goals(own: Sequence[Judged], goals: Goals) -> None:
    sound, picture = max(j.sound for j in own), max(j.picture for j in own)
    goals.add("sound of 100 % of windows within 1 ms", f"worst of {len(own)}: {_told(sound, milliseconds)} ms",
              sound <= SOUND_GOAL)  # fmt: skip
    goals.add("picture of 100 % of windows within half a frame", f"worst: {_told(picture, '{:.3f}'.format)} frames",
              picture <= PICTURE_GOAL)  # fmt: skip
    lacking = sum(j.missing > 0.01 or j.strange > 0 for j in own)
    goals.add("no window lacks a frame or sound, or has one from outside", f"{lacking} do", not lacking)
