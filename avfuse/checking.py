"""Whether the sound inside a file is in step with its picture."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from avfuse.alignment import ClockEstimate, format_std
from avfuse.cores import cores
from avfuse.errors import ReadError, StreamError
from avfuse.features.light import picture_features
from avfuse.features.loudness import sound_features
from avfuse.stream import Recording
from avfuse.temporal.picture import compare_sound_picture

Verdict = Literal["in_sync", "out_of_sync", "unknown"]
Progress = Callable[[float, str], None]
FORMAT = "avfuse.check/1"

# Seconds by which sound may come after its picture, (earliest, latest).
R37 = (-0.040, 0.060)  # EBU R37: what a programme may have when it is handed over
BT1359 = (-0.045, 0.125)  # ITU-R BT.1359: where viewers begin to notice
_SURE = 0.95  # that the delay lies outside R37; to be called in step it must be undetectable by 0.85
_UNDETECTABLE = 0.85
_FARTHEST = 5.0  # seconds of delay that are looked for, or a quarter of the file


@dataclass(frozen=True)
class SyncCheck:
    """What was found in one file.

    sound_delay: seconds by which sound comes later than the picture it belongs to; None where unknown, as `std`, its
    standard deviation. confidence: probability that `sound_delay` is right. message: why it is unknown.
    evidence: "flash", "blow", "bounce" or "talk", what decided. likeliest: seconds, the best guess, right by
    `confidence`; for those who rank many files, it is there where `sound_delay` is not sure or exact enough, too.
    """

    source: str
    verdict: Verdict
    sound_delay: float | None = None
    std: float | None = None
    confidence: float = 0.0
    message: str | None = None
    evidence: str | None = None
    likeliest: float | None = None

    def to_json(self) -> dict[str, Any]:
        keys = ("source", "verdict", "sound_delay", "std", "confidence", "message")
        return {key: getattr(self, key) for key in keys}


def check(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, progress: Progress | None = None
) -> list[SyncCheck]:
    """Measure in each file how much later its sound comes than its picture.

    paths: files, or folders of them (their videos, by name; not the folders in them).
    progress: called with (share done, what is being done).
    Sound that is heard from far away comes late by 2.9 ms for each metre: that is part of what is measured.
    Raises ReadError for a file that was named and cannot be read, StreamError where there is none; a file of a folder
    that cannot be read is `unknown`.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named:
        raise StreamError("check: no file; expected at least one file or folder")
    tell = progress or (lambda share, text: None)
    files = [(file, Path(path).is_dir()) for path in named for file in videos_at(path)]
    found = []
    for k, (file, listed) in enumerate(files):

        def tell_part(share: float, k: int = k, file: str = file) -> None:
            tell((k + share) / len(files), f"looking at {Path(file).name}")

        try:
            found.append(check_file(file, tell_part))
        except ReadError as error:
            if not listed:
                raise
            found.append(SyncCheck(file, "unknown", message=str(error).removeprefix(f"{file}: ")))
    tell(1.0, "done")
    return found


def videos_at(path: str | os.PathLike[str]) -> list[str]:
    """The file itself, or the videos of a folder by name. Raises ReadError for a folder without any."""
    text = os.fspath(path)
    if not os.path.isdir(text):
        return [text]
    from avfuse.io.reading import VIDEOS

    found = sorted(e.path for e in os.scandir(text) if e.is_file() and Path(e.name).suffix.lower() in VIDEOS)
    if not found:
        raise ReadError(f"{text}: a folder without videos; expected files such as .mp4, .mov or .mkv in it")
    return found


def check_file(path: str, tell: Callable[[float], None] | None = None) -> SyncCheck:
    """`check` of one file. Raises ReadError where it cannot be read."""
    from avfuse.io import read

    return check_recording(read(path), tell)


def check_recording(recording: Recording, tell: Callable[[float], None] | None = None) -> SyncCheck:
    """`check` of the first sound and picture of a recording."""
    source = recording.source or recording.name
    pictures, sounds = recording.of_kind("picture"), recording.of_kind("sound")
    if not pictures or not sounds:
        lacking = "picture" if not pictures else "sound"
        return SyncCheck(source, "unknown", message=f"has no {lacking}, so there is nothing to be in step with")
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(sound_features, sounds[0])
        if cores() == 1:
            heard.result()
        picture = picture_features(pictures[0], tell)
        sound = heard.result()
    farthest = min(_FARTHEST, max(2.0, 0.25 * (picture.end - picture.start)))
    return judge(source, compare_sound_picture(sound, picture, max_offset=farthest))


def judge(source: str, estimate: ClockEstimate) -> SyncCheck:
    """The verdict on an estimate of a picture's clock against that of the sound in the same file.

    `in_sync`: within R37, and undetectable (BT.1359) by a probability of 0.85, the standard deviation counted.
    `out_of_sync`: outside R37 by a probability of 0.95.
    """
    if estimate.status != "aligned":
        best = estimate.candidates[0] if estimate.status == "ambiguous" and estimate.candidates else None
        confidence = estimate.confidence if estimate.status == "ambiguous" else 0.0
        likeliest = best.offset if best is not None else None
        return SyncCheck(source, "unknown", confidence=confidence, message=estimate.message, likeliest=likeliest)
    middle = sum(estimate.span) / 2
    delay = float(estimate.map(middle)) - middle
    std = estimate.std
    evidence = estimate.diagnostics.get("decided")
    answer = SyncCheck(source, "unknown", delay, std, estimate.confidence, None, evidence, delay)
    if R37[0] <= delay <= R37[1] and _within(BT1359, delay, std) >= _UNDETECTABLE:
        return replace(answer, verdict="in_sync")
    if 1.0 - _within(R37, delay, std) >= _SURE:
        return replace(answer, verdict="out_of_sync")
    return SyncCheck(
        source, "unknown", confidence=estimate.confidence, evidence=evidence, likeliest=delay,
        message=f"sound comes {delay * 1e3:+.0f} ms ± {format_std(std)} after the picture: not exact enough to say "
        "whether EBU R37 (-40 to +60 ms) is kept",
    )  # fmt: skip


def _within(limits: tuple[float, float], delay: float, std: float) -> float:
    """Probability that a normal variable lies within limits."""
    low, high = (math.erf((limit - delay) / (max(std, 1e-6) * math.sqrt(2.0))) for limit in limits)
    return 0.5 * (high - low)


def checks_to_json(found: Sequence[SyncCheck]) -> dict[str, Any]:
    """The document of the schema `avfuse.check/1`."""
    return {"format": FORMAT, "files": [one.to_json() for one in found]}
