"""What is to be made of every event: how it is aligned, judged, cut, transformed and stored.

A `Recipe` is plain values, so that it can be sent to any process, written beside what was made by it, and compared.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from avfuse.batches import Timeline
from avfuse.errors import ReadError, StreamError

Format = Literal["webdataset", "parquet"]
Lacking = Literal["drop", "keep"]
Fit = Literal["stretch", "crop", "pad"]
SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class Limits:
    """What a sample may be, else it is dropped; None asks nothing.

    confidence: least probability that each clock is right. std: seconds, most that 1 sigma of a clock may be in the
        window. coverage: least share of the window of which each stream has something.
    offset: seconds that a recording may have started apart from the reference; drift: most of a clock's |drift|.
    lacking: what becomes of windows without a stream that was asked for, since its recording could not be aligned or
        has nothing there: dropped, or kept without it.
    sync: whether recordings with sound and picture are checked. `unsure` drops those of which the check cannot tell.
    sync_confidence: least probability of a delay between sound and picture for it to be corrected or dropped for.
    damaged: what becomes of events with files that are damaged or cut short: dropped, or kept as far as they go.
    correct: whether clocks and delays are corrected; without it, a recording that is out of step is dropped.
    """

    confidence: float = 0.95
    std: float | None = 0.02
    coverage: float = 0.99
    offset: float | None = None
    drift: float | None = 1e-3
    lacking: Lacking = "drop"
    sync: bool = True
    sync_confidence: float = 0.95
    unsure: Lacking = "keep"
    damaged: Lacking = "drop"
    correct: bool = True


@dataclass(frozen=True)
class PictureForm:
    """How pictures are stored.

    size: (height, width); None keeps that of the recording (even numbers of pixels, as H.264 needs).
    fit: what is done where the shape differs: stretched, cropped to the middle, or padded with black.
    rate: frames per second, at even times of the window, each the nearest one recorded; None keeps every frame at
        its own time.
    quality: constant rate factor of x264, smaller is better. speed: its preset.
    """

    size: tuple[int, int] | None = None
    fit: Fit = "stretch"
    rate: float | None = None
    quality: int = 20
    speed: str = "veryfast"


@dataclass(frozen=True)
class SoundForm:
    """How sound is stored: rate in Hz (None keeps the recording's), mono mixes the channels, bits of each sample."""

    rate: float | None = None
    mono: bool = False
    bits: Literal[16, 24] = 16


@dataclass(frozen=True)
class Recipe:
    """How every event is prepared.

    duration, hop: seconds of each window and from one start to the next; no duration makes one sample of each event.
    timeline: "intersection" cuts where all streams have something, "union" where any has.
    streams: modality -> "role/stream", or several, of which the first that is aligned is taken; None takes every
        stream of every recording.
    transforms: modality -> "module:function", called with the `Samples` of a window, that returns an array or `Samples`
        to be stored in the place of sound, picture or sensor: features.
    format, shard: WebDataset tar files or Parquet; samples in each.
    validation, test: shares of events for these splits where the manifest does not say; seed: of that choice.
    spacing, max_offset: see `avfuse.align`.
    """

    duration: float | None = None
    hop: float | None = None
    timeline: Timeline = "intersection"
    streams: Mapping[str, str | tuple[str, ...]] | None = None
    limits: Limits = Limits()
    picture: PictureForm = PictureForm()
    sound: SoundForm = SoundForm()
    transforms: Mapping[str, str] = field(default_factory=dict)
    format: Format = "webdataset"
    shard: int = 1000
    validation: float = 0.0
    test: float = 0.0
    seed: int = 0
    spacing: float = 0.0
    max_offset: float | None = None

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, the same whether it was made here or read."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from TOML. Raises ReadError, with the key, for what cannot be read or is not known."""
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReadError(f"{file}: no such file; expected a recipe in TOML") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"{file}: cannot be read as TOML ({error}); expected a recipe") from error
    try:
        return recipe_from(document)
    except StreamError as error:
        raise ReadError(f"{file}: {error}") from error


def recipe_from(document: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as `Recipe.to_json` makes them. Raises StreamError for what does not fit."""
    given = dict(document)
    for name, made in (("limits", Limits), ("picture", PictureForm), ("sound", SoundForm)):
        table = given.get(name, {})
        if not isinstance(table, Mapping):
            raise StreamError(f"{name} is {table!r}; expected a table")
        table = dict(table)
        _check_keys(table, made, f"{name}.")
        if name == "picture" and table.get("size") is not None:
            table["size"] = tuple(table["size"]) if isinstance(table["size"], list | tuple) else table["size"]
        given[name] = made(**table)
    _check_keys(given, Recipe, "")
    if given.get("streams") is not None:
        if not isinstance(given["streams"], Mapping):
            raise StreamError(f"streams is {given['streams']!r}; expected a table: modality -> role/stream")
        given["streams"] = {
            name: stream if isinstance(stream, str) else tuple(stream) for name, stream in given["streams"].items()
        }
    return Recipe(**given)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some values replaced: "duration", "limits.confidence", "picture.size"; None replaces nothing."""
    plain: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        if value is not None:
            (tables.setdefault(table, {}) if table else plain)[name] = value
    # All at once: a hop needs its duration.
    return replace(recipe, **plain, **{name: replace(getattr(recipe, name), **made) for name, made in tables.items()})


def _check_keys(given: Mapping[str, Any], made: type, prefix: str) -> None:
    from difflib import get_close_matches

    known = [f.name for f in fields(made)]
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}"
            raise StreamError(f"{prefix}{key}: no such entry of a recipe; {hint}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(recipe: Recipe) -> None:
    limits, picture, sound = recipe.limits, recipe.picture, recipe.sound

    def positive(value: Any) -> bool:
        return value is None or (_is_number(value) and value > 0)

    def share(value: Any) -> bool:
        return _is_number(value) and 0 <= value <= 1

    def streams(value: Any) -> bool:
        if value is None:
            return True
        every = [[s] if isinstance(s, str) else list(s) for s in value.values()]
        return bool(every) and all(s and all(isinstance(x, str) and "/" in x for x in s) for s in every)

    whole = picture.size
    for key, value, fits, expected in (
        ("duration", recipe.duration, positive(recipe.duration), "seconds, more than 0, or none for whole events"),
        ("hop", recipe.hop, positive(recipe.hop), "seconds, more than 0"),
        ("timeline", recipe.timeline, recipe.timeline in get_args(Timeline), "intersection or union"),
        ("streams", recipe.streams, streams(recipe.streams), "modality -> role/stream, one or more"),
        ("format", recipe.format, recipe.format in get_args(Format), "webdataset or parquet"),
        ("shard", recipe.shard, isinstance(recipe.shard, int) and recipe.shard >= 1, "samples, 1 or more"),
        ("validation", recipe.validation, share(recipe.validation), "a share of events, 0 to 1"),
        ("test", recipe.test, share(recipe.test) and recipe.test + recipe.validation <= 1, "a share that leaves some"),
        ("seed", recipe.seed, isinstance(recipe.seed, int), "a whole number"),
        ("spacing", recipe.spacing, _is_number(recipe.spacing) and recipe.spacing >= 0, "metres, 0 or more"),
        ("max_offset", recipe.max_offset, positive(recipe.max_offset), "seconds, more than 0"),
        ("limits.confidence", limits.confidence, share(limits.confidence), "a probability"),
        ("limits.sync_confidence", limits.sync_confidence, share(limits.sync_confidence), "a probability"),
        ("limits.coverage", limits.coverage, share(limits.coverage), "a share, 0 to 1"),
        ("limits.std", limits.std, positive(limits.std), "seconds, more than 0"),
        ("limits.offset", limits.offset, positive(limits.offset), "seconds, more than 0"),
        ("limits.drift", limits.drift, positive(limits.drift), "a share of time, more than 0"),
        ("limits.lacking", limits.lacking, limits.lacking in get_args(Lacking), "drop or keep"),
        ("limits.unsure", limits.unsure, limits.unsure in get_args(Lacking), "drop or keep"),
        ("limits.damaged", limits.damaged, limits.damaged in get_args(Lacking), "drop or keep"),
        ("limits.sync", limits.sync, isinstance(limits.sync, bool), "true or false"),
        ("limits.correct", limits.correct, isinstance(limits.correct, bool), "true or false"),
        (
            "picture.size",
            whole,
            whole is None
            or (len(whole) == 2 and all(isinstance(n, int) and 16 <= n <= 8192 and n % 2 == 0 for n in whole)),
            "(height, width), even numbers from 16 to 8192",
        ),
        ("picture.fit", picture.fit, picture.fit in get_args(Fit), "stretch, crop or pad"),
        ("picture.rate", picture.rate, positive(picture.rate), "frames per second, more than 0"),
        ("picture.quality", picture.quality, picture.quality in range(52), "0 (lossless) to 51"),
        ("picture.speed", picture.speed, picture.speed in SPEEDS, "one of " + ", ".join(SPEEDS)),
        ("sound.rate", sound.rate, positive(sound.rate) and (sound.rate or 1) % 1 == 0, "Hz, a whole number"),
        ("sound.mono", sound.mono, isinstance(sound.mono, bool), "true or false"),
        ("sound.bits", sound.bits, sound.bits in (16, 24), "16 or 24"),
        (
            "transforms",
            recipe.transforms,
            all(isinstance(f, str) and f.count(":") == 1 for f in recipe.transforms.values()),
            'modality -> "module:function"',
        ),
    ):
        if not fits:
            raise StreamError(f"{key} is {value!r}; expected {expected}")
    if recipe.hop is not None and recipe.duration is None:
        raise StreamError(f"hop is {recipe.hop!r}, and there is no duration; expected both, or neither")


RECIPE = Recipe()  # where nothing is asked for
