"""The filter of what is out of step: can those who read the manifest tell clips that are 80 ms off from those that fit?

Scores come from the rows that `avfuse.prepare` wrote, and from nothing else.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from avfuse.preparation import Limits, PictureForm, Recipe, out_of_step, prepare
from avfuse.reporting.tables import Table
from avfuse.simulation import film_with_sound, write_media
from avfuse.simulation.striking import STRIKERS
from benchmarks.options import SHARED, Options
from benchmarks.prepare.manifests import write_manifest
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals

LENGTH = 20.0  # seconds of a simulated clip
NEAR, FAR = 0.02, 0.08  # seconds: what fits, and from where on it does not
FARTHEST = 0.6
LIMIT = 0.05  # midway: the question that the score answers
GOAL = 0.98
# Clips whose sound is known to fit, or was filmed close by; fireworks far away are none of these.
CLIPS = (
    "picture/bbaf2n.mpg", "picture/lwbsza.mpg", "picture/sbia1a.mpg", "picture/id2_vcd_swwp2s.mpg",
    "picture/face_22fps.mp4", "picture/flipping_a_pancake.mkv", "picture/fire2.mp4", "motion/karma.mp4",
)  # fmt: skip
SHIFTS = (-0.4, -0.2, -0.08, -0.01, 0.0, 0.01, 0.08, 0.2, 0.4)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Probability that a positive one scores above a negative one, equal scores counting half (Hanley, McNeil 1982)."""
    from scipy.stats import rankdata

    ranks, wanted = rankdata(scores), np.asarray(positive, bool)
    above = int(wanted.sum())
    below = len(wanted) - above
    if not above or not below:
        return math.nan
    return float((ranks[wanted].sum() - above * (above + 1) / 2) / (above * below))


def made_clip(k: int, seed: int, folder: Path) -> Row:
    """A film of blows, every second one out of step."""
    rng = np.random.default_rng([seed, 9, k])
    off = bool(k % 2)
    size = rng.uniform(FAR, FARTHEST) if off else rng.uniform(0.0, NEAR)
    delay = float(size * rng.choice([-1.0, 1.0]))
    struck = STRIKERS[k // 2 % len(STRIKERS)]
    path = folder / f"blows-{seed}-{k}.mp4"
    if not path.exists():
        rate, readout = float(rng.choice([25.0, 29.97])), float(rng.uniform(0.005, 0.03))
        film = film_with_sound("blow", rng, duration=LENGTH, rate=rate, readout=readout, delay=delay, struck=struck,
                               size=(256, 144))  # fmt: skip
        write_media(path, film.recording)
    return {"name": path.stem, "path": str(path), "delay": delay, "off": off, "struck": struck}


def shifted_clips(folder: Path) -> list[Row]:
    """Shared clips whose sound was moved, nothing encoded again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for source in (SHARED / clip for clip in CLIPS):
        for delay in SHIFTS:
            path = folder / f"{source.stem}{delay:+.2f}.mkv"
            if not path.exists():
                part = path.with_suffix(".part.mkv")
                subprocess.run(
                    ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-itsoffset", str(delay), "-i", str(source),
                     "-map", "0:v:0", "-map", "1:a:0", "-c", "copy", str(part)],
                    check=True, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                part.rename(path)
            rows.append({"name": path.stem, "path": str(path), "delay": delay, "off": abs(delay) >= FAR,
                         "clip": source.name})  # fmt: skip
    return rows


def judged(rows: Sequence[Row], name: str, options: Options) -> list[Row]:
    """Rows with what `avfuse.prepare` says of them in its manifest; clips that it could not read are left out."""
    place = options.out / "prepare" / f"filter-{name}"
    shutil.rmtree(place, ignore_errors=True)
    manifest = write_manifest(place.with_suffix(".jsonl"), {r["name"]: {"camera": Path(r["path"])} for r in rows})
    # Sound that was moved beyond the picture is no reason to drop anything here.
    recipe = Recipe(picture=PictureForm(size=(36, 64)), limits=Limits(coverage=0.0, damaged="keep"))
    prepare(manifest, place, recipe, workers=max(2, options.processes))
    said = {row["event"]: row for row in map(json.loads, (place / "manifest.jsonl").read_text("utf-8").splitlines())}
    found = []
    for row in rows:
        sync = said[row["name"]]["sync"].get("camera")
        found.append({**row, "sync": sync, "score": out_of_step(sync), "decision": said[row["name"]]["decision"]})
    return found


def tables(options: Options, goals: Goals) -> list[Table]:
    folder = options.out / "prepare" / "blows"
    folder.mkdir(parents=True, exist_ok=True)
    count = options.pick(8, 120)
    made = gather(options, "prepare-blows", partial(made_clip, seed=options.seed, folder=folder), count)
    blows = judged(made, "blows", options)
    area = auroc([r["score"] for r in blows], [r["off"] for r in blows])
    goals.add(f"AUROC >= {GOAL} on simulated clips with visible impacts", f"{area:.4f}", area >= GOAL)
    rows = [_row("all", blows), *(_row(s, [r for r in blows if r["struck"] == s]) for s in STRIKERS)]
    note = (
        f"|delay| of half of them below {NEAR * 1e3:g} ms, of the others {FAR * 1e3:g} to {FARTHEST * 1e3:g} ms, "
        f"either way. Score: the probability that |delay| > {LIMIT * 1e3:g} ms, from sound_delay (or the likeliest "
        f"one), std and confidence of the manifest's row; one half where nothing is told. Wrong: in_sync and 80 ms "
        "off, or out_of_sync and below 20."
    )
    found = [Table(f"{count} films of blows of {LENGTH:g} s", _HEADER, rows, note)]
    if SHARED.is_dir():
        clips = judged(shifted_clips(options.out / "prepare" / "shifted"), "clips", options)
        rows = [_row("all", clips)]
        rows += [
            _row(clip, [r for r in clips if r["clip"] == clip]) for clip in dict.fromkeys(r["clip"] for r in clips)
        ]
        wrong = sum(_is_wrong(r) for r in clips)
        goals.add("shared clips: no verdict is wrong", f"{wrong} of {len(clips)}", not wrong)
        found.append(Table("Shared clips, their sound shifted by 0, 10, 80, 200, 400 ms either way", _HEADER, rows,
                           "Short, and of talkers mostly: unknown is the honest answer to most."))  # fmt: skip
    return found


_HEADER = (
    "clips", "count", "AUROC", "AUROC of those answered", "unknown, in step", "unknown, off", "wrong verdicts",
    "kept as they are", "corrected",
)  # fmt: skip


def _is_wrong(row: Row) -> bool:
    verdict = row["sync"]["verdict"] if row["sync"] else "unknown"
    return bool(verdict == ("in_sync" if row["off"] else "out_of_sync"))


def _row(name: str, rows: Sequence[Row]) -> tuple[object, ...]:
    answered = [r for r in rows if r["sync"] and r["sync"]["sound_delay"] is not None]
    areas = [auroc([r["score"] for r in some], [r["off"] for r in some]) for some in (rows, answered)]
    unknown = [r for r in rows if r not in answered]
    return (
        name, len(rows), *("–" if math.isnan(a) else f"{a:.3f}" for a in areas),
        *(f"{sum(r['off'] == off for r in unknown)} of {sum(r['off'] == off for r in rows)}" for off in (False, True)),
        sum(map(_is_wrong, rows)), *(sum(r["decision"] == d for r in rows) for d in ("keep", "correct")),
    )  # fmt: skip
