"""What is to be made of every event: how it is aligned, judged, cut, transformed and stored.

A `Recipe` is plain values, so that it can be sent to any process, written beside what was made by it, and compared.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from avfuse.batches import Timeline
from avfuse.errors import ReadError, StreamError
from avfuse.files import read_toml

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
        if isinstance(self.streams, Mapping):  # lists or tuples: the same recipe
            streams = {name: tuple(s) if isinstance(s, list) else s for name, s in self.streams.items()}
            object.__setattr__(self, "streams", streams)
        _check(self)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, the same whether it was made here or read."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from TOML. Raises ReadError, with the key, for what cannot be read or is not known."""
    file = Path(path)
    document = read_toml(file, "a recipe", " in TOML")
    try:
        return recipe_from(document)
    except StreamError as error:
        raise ReadError(f"{file}: {error}") from error


def recipe_from(document: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values, as `Recipe.to_json` makes them. Raises StreamError for what does not fit."""
    given = dict(document)
    for name, made in _TABLES.items():
        table = given.get(name, {})
        if not isinstance(table, Mapping):
            raise StreamError(f"{name} is {table!r}; expected a table")
        table = dict(table)
        _check_keys(table, made, f"{name}.")
        if name == "picture" and table.get("size") is not None:
            table["size"] = tuple(table["size"]) if isinstance(table["size"], list | tuple) else table["size"]
        given[name] = made(**table)
    _check_keys(given, Recipe, "")
    return Recipe(**given)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some values replaced: "duration", "limits.confidence", "picture.size"; None replaces nothing."""
    plain: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        if value is not None:
            (tables.setdefault(table, {}) if table else plain)[name] = value
    _check_keys(plain, Recipe, "")
    for table, made in tables.items():
        if table not in _TABLES:
            raise StreamError(f"{table}.{next(iter(made))}: no such entry of a recipe; expected {', '.join(_TABLES)}")
        _check_keys(made, _TABLES[table], f"{table}.")
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


_TABLES: Mapping[str, type] = {"limits": Limits, "picture": PictureForm, "sound": SoundForm}
_COLUMNS = frozenset({"key", "event", "label", "start", "duration", "json"})  # of Parquet, beside those of streams
_MOST_RATE = 10_000_000  # Hz


def _is_number(value: Any) -> bool:
    # Not `math.isfinite`, which whole numbers can overflow.
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(value: Any, choices: Any) -> bool:
    return isinstance(value, str) and value in get_args(choices)


def _positive(value: Any) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _are_streams(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return value is None
    every = [(s,) if isinstance(s, str) else s for s in value.values()]
    return all(isinstance(s, tuple) and s for s in every) and all(
        isinstance(x, str) and all(x.rpartition("/")[::2]) for s in every for x in s
    )


def _are_names(value: Any) -> bool:
    """Modalities that can be told apart as files and columns, also by readers that ignore case."""
    names = list(value or ())
    if not all(isinstance(name, str) and name for name in names):
        return False
    return len({name.lower() for name in names}) == len(names) and not _COLUMNS & set(names)


def _are_transforms(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(f, str) and f.count(":") == 1 and all(f.split(":"))
        for name, f in value.items()
    )


def _is_size(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple) and len(value) == 2
        and all(_is_whole(n) and 16 <= n <= 8192 and n % 2 == 0 for n in value)
    )  # fmt: skip


def _check(recipe: Recipe) -> None:
    for table, made in _TABLES.items():
        if not isinstance(getattr(recipe, table), made):
            raise StreamError(f"{table} is {getattr(recipe, table)!r}; expected {made.__name__}")
    limits, picture, sound = recipe.limits, recipe.picture, recipe.sound
    for key, value, fits, expected in (
        ("duration", recipe.duration, _positive(recipe.duration), "seconds, more than 0, or none for whole events"),
        ("hop", recipe.hop, _positive(recipe.hop), "seconds, more than 0"),
        ("timeline", recipe.timeline, _one_of(recipe.timeline, Timeline), "intersection or union"),
        ("streams", recipe.streams, _are_streams(recipe.streams), "modality -> role/stream, one or more"),
        (
            "streams",
            recipe.streams,
            recipe.streams is None or _are_names(recipe.streams),
            f"modalities with names, none of {', '.join(sorted(_COLUMNS))}, that differ not in case alone",
        ),
        ("format", recipe.format, _one_of(recipe.format, Format), "webdataset or parquet"),
        ("shard", recipe.shard, _is_whole(recipe.shard) and recipe.shard >= 1, "samples, 1 or more"),
        ("validation", recipe.validation, _share(recipe.validation), "a share of events, 0 to 1"),
        ("test", recipe.test, _share(recipe.test), "a share of events, 0 to 1"),
        ("seed", recipe.seed, _is_whole(recipe.seed), "a whole number"),
        ("spacing", recipe.spacing, _is_number(recipe.spacing) and recipe.spacing >= 0, "metres, 0 or more"),
        ("max_offset", recipe.max_offset, _positive(recipe.max_offset), "seconds, more than 0"),
        ("limits.confidence", limits.confidence, _share(limits.confidence), "a probability"),
        ("limits.sync_confidence", limits.sync_confidence, _share(limits.sync_confidence), "a probability"),
        ("limits.coverage", limits.coverage, _share(limits.coverage), "a share, 0 to 1"),
        ("limits.std", limits.std, _positive(limits.std), "seconds, more than 0"),
        ("limits.offset", limits.offset, _positive(limits.offset), "seconds, more than 0"),
        ("limits.drift", limits.drift, _positive(limits.drift), "a share of time, more than 0"),
        ("limits.lacking", limits.lacking, _one_of(limits.lacking, Lacking), "drop or keep"),
        ("limits.unsure", limits.unsure, _one_of(limits.unsure, Lacking), "drop or keep"),
        ("limits.damaged", limits.damaged, _one_of(limits.damaged, Lacking), "drop or keep"),
        ("limits.sync", limits.sync, isinstance(limits.sync, bool), "true or false"),
        ("limits.correct", limits.correct, isinstance(limits.correct, bool), "true or false"),
        ("picture.size", picture.size, _is_size(picture.size), "(height, width), even numbers from 16 to 8192"),
        ("picture.fit", picture.fit, _one_of(picture.fit, Fit), "stretch, crop or pad"),
        ("picture.rate", picture.rate, _positive(picture.rate), "frames per second, more than 0"),
        (
            "picture.quality",
            picture.quality,
            _is_whole(picture.quality) and 0 <= picture.quality <= 51,
            "a whole number, 0 (lossless) to 51",
        ),
        ("picture.speed", picture.speed, picture.speed in SPEEDS, "one of " + ", ".join(SPEEDS)),
        (
            "sound.rate",
            sound.rate,
            _positive(sound.rate) and (sound.rate or 1) % 1 == 0 and (sound.rate or 1) <= _MOST_RATE,
            f"Hz, a whole number up to {_MOST_RATE}",
        ),
        ("sound.mono", sound.mono, isinstance(sound.mono, bool), "true or false"),
        ("sound.bits", sound.bits, _is_whole(sound.bits) and sound.bits in (16, 24), "16 or 24"),
        ("transforms", recipe.transforms, _are_transforms(recipe.transforms), 'modality -> "module:function"'),
    ):
        if not fits:
            raise StreamError(f"{key} is {value!r}; expected {expected}")
    if recipe.validation + recipe.test > 1:
        raise StreamError(
            f"test is {recipe.test!r}, and validation {recipe.validation!r}; expected shares of one whole"
        )
    if recipe.hop is not None and recipe.duration is None:
        raise StreamError(f"hop is {recipe.hop!r}, and there is no duration; expected both, or neither")


RECIPE = Recipe()  # where nothing is asked for
