"""Sound against picture: films with known delay, real clips shifted by known delays, pairs that share nothing, speed.

Films go through real encoders (H.264 and AAC) and are read back. Real clips hardly hold enough for an answer: there it
counts that none is wrong.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import avfuse
from avfuse.checking import check_file, judge
from avfuse.features import PictureFeatures, SoundFeatures, picture_features, sound_features
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import film_with_sound, write_media
from avfuse.simulation.striking import STRIKERS
from avfuse.temporal import compare_sound_picture
from benchmarks.options import ROOT, SHARED, Options
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals, show

KINDS = ("flash", "blow", "talk", "nothing")
RATES = (25.0, 29.97, 50.0, 60.0)
LENGTH = 60.0  # seconds of every film
FARTHEST = 3.0  # seconds of delay that are looked for
SHIFTS = (-1.0, -0.62, -0.25, 0.0, 0.25, 0.62, 1.0)
CLIPS = ("picture/*.mpg", "picture/*.mp4", "picture/*.mkv", "picture/*.avi", "motion/karma.mp4")
SOUNDS = ("sound/timbl_1.mp3", "sound/echo_microphone.wav", "speech/bobby.wav")


def film_row(k: int, seed: int) -> Row:
    """One film, written, read back and judged."""
    kind = KINDS[k % len(KINDS)]
    rng = np.random.default_rng([seed, k])
    delay, rate, readout = float(rng.uniform(-1, 1)), float(rng.choice(RATES)), float(rng.uniform(0.005, 0.03))
    voice = None
    if kind == "talk" and (SHARED / SOUNDS[0]).exists() and rng.random() < 0.5:
        voice = np.roll(_real_voice(), int(rng.integers(16000 * 40)))
    struck = STRIKERS[k // len(KINDS) % len(STRIKERS)] if kind == "blow" else None
    options = {"duration": LENGTH, "rate": rate, "readout": readout, "delay": delay, "voice": voice, "struck": struck}
    film = film_with_sound(kind, rng, **options)
    with tempfile.TemporaryDirectory() as folder:
        path = write_media(Path(folder) / "film.mp4", film.recording)
        features = _features(path)
    found = _judged(*features[0], *features[1], delay)
    return {"kind": kind, "struck": struck, "rate": rate, "voice": voice is not None, **found}


@cache
def _real_voice() -> np.ndarray:
    stream = avfuse.read(SHARED / SOUNDS[0]).of_kind("sound")[0]
    return np.concatenate([values.mean(axis=0) for _, values in stream.blocks(10.0, rate=16000.0)])


def _features(path: Path) -> tuple[list[PictureFeatures], list[SoundFeatures]]:
    recording = avfuse.read(path)
    return (
        [picture_features(p) for p in recording.of_kind("picture")],
        [sound_features(s) for s in recording.of_kind("sound")],
    )


def _judged(picture: PictureFeatures, sound: SoundFeatures, delay: float | None) -> Row:
    """What is answered, and how far off; delay None: nothing is shared, so any answer is wrong."""
    estimate = compare_sound_picture(sound, picture, max_offset=FARTHEST)
    row: Row = {"status": estimate.status, "confidence": estimate.confidence}
    if estimate.status == "aligned":
        found = judge("", estimate)
        row |= {"evidence": found.evidence, "std": estimate.std, "verdict": found.verdict}
        if delay is not None:
            row["error"] = estimate.offset - delay
    return row


@cache
def _clips() -> tuple[dict[str, PictureFeatures], dict[str, SoundFeatures]]:
    pictures: dict[str, PictureFeatures] = {}
    sounds: dict[str, SoundFeatures] = {}
    for path in sorted(p for pattern in CLIPS for p in SHARED.glob(pattern)):
        seen, heard = _features(path)
        pictures |= {f"{path.name} {p.name}": p for p in seen}
        sounds |= {f"{path.name} {s.name}": s for s in heard}
    for name in SOUNDS:
        sounds[name] = _features(SHARED / name)[1][0]
    return pictures, sounds


def clip_row(k: int) -> Row:
    """A real clip whose sound was shifted by a known delay."""
    pictures, sounds = _clips()
    name, shift = list(pictures)[k // len(SHIFTS)], SHIFTS[k % len(SHIFTS)]
    sound = sounds[name.replace(" picture", " sound")]
    return {"clip": name, "shift": shift, **_judged(pictures[name], replace(sound, start=sound.start + shift), shift)}


def unrelated_row(k: int, seed: int) -> Row:
    """A picture, real or simulated, with a sound of something else, forwards or backwards, cut to 10-60 s."""
    rng = np.random.default_rng([seed, 7, k])
    pictures, sounds = _clips()
    long = [n for n, p in pictures.items() if p.end - p.start > 9.0]
    if long and rng.random() < 0.5:
        name = long[int(rng.integers(len(long)))]
        picture = pictures[name]
    else:
        name = "film"
        made = film_with_sound(KINDS[k % 3], rng, duration=float(rng.uniform(10, 60)), rate=30.0)
        picture = picture_features(made.recording.of_kind("picture")[0])
    others = [n for n, s in sounds.items() if n.split(" ")[0] != name.split(" ")[0] and s.duration > 9.0]
    if others and rng.random() < 0.5:
        sound = sounds[others[int(rng.integers(len(others)))]]
    else:
        kind = KINDS[int(rng.integers(3))]
        made = film_with_sound(kind, rng, duration=max(10.0, picture.end - picture.start), rate=30.0)
        sound = sound_features(made.recording.of_kind("sound")[0])
    if rng.random() < 0.4:
        sound = replace(sound, energy=np.ascontiguousarray(sound.energy[:, ::-1]))
    length = int((picture.end - picture.start) * 1000)
    first = int(rng.integers(max(1, sound.energy.shape[1] - length + 1)))
    sound = replace(sound, start=picture.start, energy=sound.energy[:, first : first + length])
    return {"clip": name, **_judged(picture, sound, None)}


def speed_rows(options: Options) -> list[Row]:
    """`avfuse check` beside decoding the picture alone, of one 1080p file, once each."""
    program = shutil.which("ffmpeg")
    source = SHARED / "motion" / "karma.mp4"
    if program is None or not source.exists():
        return []
    minutes = 1 if options.quick else 10
    part, path = options.out / "hd-60.mp4", options.out / f"hd-{60 * minutes}.mp4"
    if not path.exists():
        quiet = [program, "-v", "error", "-y"]
        looped = [*quiet, "-stream_loop", "5", "-i", str(source), "-map", "0:v:0", "-map", "0:a:0"]
        encoded = ["-vf", "scale=1920:1080,noise=alls=6:allf=t", "-t", "60", "-c:v", "libx264", "-preset", "veryfast"]
        subprocess.run([*looped, *encoded, "-c:a", "aac", str(part)], check=True)
        listed = options.out / "hd.txt"
        listed.write_text(f"file '{part}'\n" * minutes, "utf-8")
        joined = [*quiet, "-f", "concat", "-safe", "0", "-i", str(listed), "-c", "copy", str(path)]
        if path != part:
            subprocess.run(joined, check=True)
    check_file(str(part))  # compiled and cached from here on
    rows = []
    for name, work in (
        ("ffmpeg -map 0:v -f null -", lambda: _ffmpeg(program, path)),
        ("PyAV, threads auto", lambda: _decode(path)),
        ("avfuse check", lambda: check_file(str(path))),
    ):
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        rows.append({"name": name, "seconds": seconds, "length": 60.0 * minutes})
    return rows


def _ffmpeg(program: str, path: Path) -> None:
    subprocess.run([program, "-v", "error", "-i", str(path), "-map", "0:v", "-f", "null", "-"], check=True)


def _decode(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def benchmark(options: Options) -> bool:
    goals = Goals()
    films = gather(options, "films", partial(film_row, seed=options.seed), len(KINDS) * options.pick(2, 24))
    tables = [_film_table(films, goals)]
    if SHARED.is_dir():
        clips = gather(options, "clips", clip_row, len(_clips()[0]) * len(SHIFTS))
        answered = [r for r in clips if "error" in r]
        wrong = [r for r in answered if abs(r["error"]) > max(5 * r["std"], 0.04)]
        goals.add(
            "real clips shifted within +-1 s: no wrong answer", f"{len(wrong)} wrong of {len(answered)}", not wrong
        )
        tables.append(_clip_table(clips))
        count = 10 * options.pick(2, 24)
        pairs = gather(options, "unrelated", partial(unrelated_row, seed=options.seed), count)
        matched = [r for r in pairs if r["status"] == "aligned"]
        goals.add("unrelated pairs answered: at most 1 %", f"{len(matched)} of {count}", len(matched) <= 0.01 * count)
    speeds = speed_rows(options)
    if speeds:
        ratio = speeds[-1]["seconds"] / min(r["seconds"] for r in speeds[:-1])
        goals.add("check against decoding the picture: <= 1.5x", f"{ratio:.2f}x", ratio <= 1.5)
        rows = [(r["name"], f"{r['seconds']:.1f} s", f"{r['length'] / r['seconds']:.0f}x real time") for r in speeds]
        tables.append(Table("A 1080p file of 30 frames/s (H.264, AAC)", ("program", "time", "speed"), rows))
    page = options.out / "picture.md" if options.quick else ROOT / "docs" / "picture.md"
    preface = f"`python -m benchmarks picture --seed {options.seed}`"
    show([*tables, goals.table()], page, "picture", preface)
    return goals.met


def _film_table(films: Sequence[Row], goals: Goals) -> Table:
    rows: list[tuple[Any, ...]] = []
    found: dict[str, np.ndarray] = {}
    for kind in KINDS:
        these = [r for r in films if r["kind"] == kind]
        found[kind] = np.abs([r["error"] for r in these if "error" in r])
        rows.append(_film_row(kind, these))
        if kind == "blow":
            rows += [_film_row(f"blow: {one}", [r for r in these if r["struck"] == one]) for one in STRIKERS]
    shares = {kind: len(found[kind]) / max(1, sum(r["kind"] == kind for r in films)) for kind in KINDS}
    for kind, goal in (("flash", 0.002), ("blow", 0.010)):
        p95 = float(np.percentile(found[kind], 95)) if len(found[kind]) else np.inf
        goals.add(f"{kind}: p95 of the error <= {goal * 1e3:g} ms", f"{milliseconds(p95)} ms", p95 <= goal)
    for kind in ("talk", "blow"):
        goals.add(f"{kind}, with distractors: >= 80 % answered", f"{shares[kind]:.0%}", shares[kind] >= 0.8)
        near = float(np.mean(found[kind] <= 0.04)) if len(found[kind]) else 0.0
        goals.add(f"{kind}: 95 % of the answers within 40 ms", f"{near:.0%}", near >= 0.95)
    goals.add("nothing in common: no answer", f"{len(found['nothing'])}", not len(found["nothing"]))
    return Table(
        f"Films of {LENGTH:g} s with distractors, 25-60 frames/s, readout 5-30 ms, through H.264 and AAC",
        ("film", "count", "answered", "median error (ms)", "p95 (ms)", "worst (ms)", "within 2 std"),
        rows,
    )


def _film_row(name: str, films: Sequence[Row]) -> tuple[Any, ...]:
    answered = [r for r in films if "error" in r]
    errors = np.abs([r["error"] for r in answered])
    inside = [abs(r["error"]) <= 2 * r["std"] for r in answered]
    figures = (
        (*(milliseconds(float(np.percentile(errors, q))) for q in (50, 95, 100)), f"{np.mean(inside):.0%}")
        if len(errors)
        else ("", "", "", "")
    )
    return name, len(films), f"{len(answered) / max(1, len(films)):.0%}", *figures


def _clip_table(clips: Sequence[Row]) -> Table:
    rows = []
    for name in dict.fromkeys(r["clip"] for r in clips):
        these = [r for r in clips if r["clip"] == name]
        errors = [r["error"] for r in these if "error" in r]
        what = ", ".join(sorted({r["evidence"] for r in these if "error" in r})) or these[0]["status"]
        worst = milliseconds(float(np.max(np.abs(errors)))) if errors else ""
        rows.append((name, len(these), f"{len(errors)}", what, worst))
    return Table(
        "Real clips, their sound shifted within +-1 s", ("clip", "shifts", "answered", "by", "worst error (ms)"), rows
    )
