"""What a training run is told: a TOML file, checked key by key, and the network that it describes.

[data]          manifest, or shards
[window]        duration, hop, size, timeline
[modalities.N]  stream, encoder, and the encoder's own keywords
[fusion]        kind and its own keywords (hybrid: groups and over)
[head]          kind and its own keywords
[training]      epochs, batch, rate, ...
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from avfuse.errors import ReadError, StreamError
from avfuse.files import read_toml
from avfuse.manifests.places import is_url
from avfuse.nn.encoders import (
    ImageEncoder,
    SensorConvolution,
    SensorTransformer,
    SoundEncoder,
    TextEncoder,
    VideoConvolution,
    VideoTransformer,
)
from avfuse.nn.fusion import FUSIONS, Hybrid, Late, one_token
from avfuse.nn.heads import HEADS, Decided, Head, Pool
from avfuse.nn.network import FusionNet
from avfuse.preparation.reading import open_shards
from avfuse.preparation.recipe import Recipe, recipe_from

FORMAT = "avfuse.train/1"
ENCODERS: dict[str, type[nn.Module]] = {
    "sound": SoundEncoder,
    "video_convolution": VideoConvolution,
    "video_transformer": VideoTransformer,
    "image": ImageEncoder,
    "sensor_convolution": SensorConvolution,
    "sensor_transformer": SensorTransformer,
    "text": TextEncoder,
}
# What the data say, and a configuration need not: the number of colours or of channels.
_FROM_DATA = ("colours", "channels")
_SIZES = {"classification": "classes", "multi_label": "labels", "regression": "numbers", "retrieval": "size"}
_HEADS = {kind: head for kind, head in HEADS.items() if kind != "retrieval"}


@dataclass(frozen=True)
class Data:
    """One of manifest and shards: a path, relative to the configuration; shards may be at an address, too.

    Of a manifest: spacing, metres that devices of an event may stand apart, see `avfuse.align`; validation, test:
    shares of events, where no split is given. Of shards: workers, processes that decode; 0 decodes in this one.
    """

    manifest: str | None = None
    shards: str | None = None
    spacing: float = 0.0
    validation: float = 0.2
    test: float = 0.0
    workers: int = 0


@dataclass(frozen=True)
class Cut:
    """How events are cut: see `avfuse.windows`."""

    duration: float
    hop: float | None = None
    size: tuple[int, int] | None = None
    timeline: Literal["intersection", "union"] = "intersection"


@dataclass(frozen=True)
class Modality:
    """stream: "role/stream", or several of which the first that is aligned is taken; of shards, what these call it.
    encoder: its kind."""

    stream: str | tuple[str, ...]
    encoder: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """A fusion or a head: its kind and the keywords of its own."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """epochs, batch (windows), rate (of AdamW, after warm-up), decay (of weights).

    warmup: share of all steps in which the rate rises; schedule: what it does then. clip: most that the norm of the
    gradient may be. precision: of the forward pass. patience: epochs without a better validation loss after which
    training stops; 0 never. modality_dropout: probability that a window loses a modality. risk: share of wrong answers
    that is tolerated; more doubtful ones are withheld; 0 answers always. tensorboard: whether to write its logs, too.
    """

    epochs: int = 30
    batch: int = 32
    rate: float = 1e-3
    decay: float = 0.01
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    patience: int = 10
    modality_dropout: float = 0.0
    risk: float = 0.0
    tensorboard: bool = False


@dataclass(frozen=True)
class Configuration:
    """All of it. where: folder that paths are relative to. classes: what the numbers of classes mean, from the data.

    recipe: how the shards were made; None where it is learned from a manifest.
    """

    data: Data
    window: Cut
    modalities: Mapping[str, Modality]
    fusion: Chosen
    head: Chosen
    training: Training = Training()
    dim: int = 64
    seed: int = 0
    where: str = "."
    classes: tuple[str, ...] = ()
    recipe: Recipe | None = None

    @property
    def stored(self) -> dict[str, str]:
        """Modality -> what the shards call it."""
        return {name: str(modality.stream) for name, modality in self.modalities.items()}

    def streams(self) -> dict[str, list[str]]:
        """Modality -> the streams of raw recordings that it may come from, the best first."""
        given = {name: modality.stream for name, modality in self.modalities.items()}
        if self.recipe is not None and self.recipe.streams is not None:
            given = {name: self.recipe.streams[stream] for name, stream in self.stored.items()}
        return {name: [stream] if isinstance(stream, str) else list(stream) for name, stream in given.items()}

    @property
    def roles(self) -> list[str]:
        """Of the recordings that these streams are of."""
        return sorted({choice.rpartition("/")[0] for choices in self.streams().values() for choice in choices})

    def to_json(self) -> str:
        return json.dumps(asdict(replace(self, where=".")), sort_keys=True)

    @property
    def of_network(self) -> dict[str, Any]:
        """What the weights depend on: two configurations that agree in it have one network."""
        document = json.loads(self.to_json())
        return {key: document[key] for key in ("modalities", "fusion", "head", "dim", "classes")}


def load_configuration(path: str | os.PathLike[str]) -> Configuration:
    """Read and check a configuration. Raises ReadError, with the key and the nearest right one, where one is wrong."""
    file = Path(path)
    document = read_toml(file, "a configuration", ", see `avfuse train --example`")
    try:
        return _configuration(document, str(file.parent))
    except StreamError as error:
        raise ReadError(f"{file}: {error}") from error


def configuration_from_json(text: str) -> Configuration:
    """As `Configuration.to_json` wrote it. Raises StreamError where it is something else."""
    try:
        document = json.loads(text)
        fusion, head = (Chosen(**document.pop(key)) for key in ("fusion", "head"))
        modalities = {
            name: Modality(
                tuple(m["stream"]) if isinstance(m["stream"], list) else m["stream"], m["encoder"], m["options"]
            )
            for name, m in document.pop("modalities").items()
        }
        cut, recipe = document.pop("window"), document.pop("recipe", None)
        return Configuration(
            Data(**document.pop("data")),
            Cut(**{**cut, "size": tuple(cut["size"]) if cut["size"] else None}),
            modalities,
            fusion,
            head,
            training=Training(**document.pop("training")),
            classes=tuple(document.pop("classes")),
            recipe=None if recipe is None else recipe_from(recipe),
            **document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StreamError(f"configuration of a checkpoint cannot be read ({error!r})") from error


def _configuration(document: dict[str, Any], where: str) -> Configuration:
    if document.pop("format", FORMAT) != FORMAT:
        raise StreamError(f"format is not {FORMAT!r}")
    known = ("data", "window", "modalities", "fusion", "head", "training", "dim", "seed")
    _check_keys(document, known, "the configuration")
    for table in ("data", "modalities", "fusion", "head"):
        if not isinstance(document.get(table), dict):
            raise StreamError(f"[{table}] is missing; expected a table of that name")
    data: Data = _table(Data, document["data"], "[data]")
    _check_source(data, document["data"])
    stored = data.shards is not None
    if not isinstance(document.get("window", {} if stored else None), dict):
        raise StreamError("[window] is missing; expected a table of that name")
    modalities = {name: _modality(name, given, stored) for name, given in document["modalities"].items()}
    if not modalities:
        raise StreamError("[modalities] has none; expected one table for each, such as [modalities.sound]")
    for name in modalities:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise StreamError(f"[modalities.{name}]: expected a name of letters, digits, - and _")
    recipe = _recipe_of(place_of(data.shards, where), modalities) if data.shards is not None else None
    stated = document.get("window", {})
    found = Configuration(
        data,
        _table(Cut, stated, "[window]") if recipe is None else _cut_by(recipe, stated, str(data.shards)),
        modalities,
        _chosen(document["fusion"], FUSIONS, "[fusion]"),
        _chosen(document["head"], _HEADS, "[head]"),
        _table(Training, document.get("training", {}), "[training]"),
        _value(document.get("dim", 64), int, "dim"),
        _value(document.get("seed", 0), int, "seed"),
        where,
        recipe=recipe,
    )
    _check_ranges(found)
    return found


def place_of(given: str, where: str) -> str:
    """A path as a configuration in the folder `where` gives it, or an address."""
    return given if is_url(given) else str(Path(where) / given)


def _check_source(data: Data, stated: Mapping[str, Any]) -> None:
    """Raises StreamError unless there is a manifest or shards, with what goes with it."""
    if (data.manifest is None) == (data.shards is None):
        has = "neither manifest nor shards" if data.manifest is None else "manifest and shards"
        raise StreamError(f"[data] has {has}; expected one of the two")
    of_shards = data.shards is not None
    for key in ("spacing", "validation", "test") if of_shards else ("workers",):
        if key in stated:
            why = "shards are aligned and split already" if of_shards else "windows of a manifest are held in memory"
            raise StreamError(f"[data] {key} is {stated[key]!r}, and {why}; leave it out")


def _recipe_of(place: str, modalities: Mapping[str, Modality]) -> Recipe:
    """How shards were made. Raises ReadError where there are none, StreamError where they lack a modality."""
    recipe = recipe_from(open_shards(place).facts["recipe"])
    if recipe.streams is not None:  # else only their windows tell
        for name, modality in modalities.items():
            if modality.stream not in recipe.streams:
                raise StreamError(
                    f"[modalities.{name}]: {modality.stream!r} is not in {place}; its windows have "
                    f"{', '.join(recipe.streams)}"
                )
    return recipe


def _cut_by(recipe: Recipe, stated: Mapping[str, Any], place: str) -> Cut:
    """Windows as they are in the shards. Raises StreamError where something else is stated."""
    if recipe.duration is None:
        raise StreamError(f"{place}: its samples are whole events; expected windows, `avfuse prepare --duration 2`")
    found = Cut(recipe.duration, recipe.hop, recipe.picture.size, recipe.timeline)
    hints = typing.get_type_hints(Cut)
    _check_keys(stated, tuple(hints), "[window]")
    for key, value in stated.items():
        told, theirs = _value(value, hints[key], f"[window] {key}"), getattr(found, key)
        if told != (recipe.duration if key == "hop" and theirs is None else theirs):
            raise StreamError(
                f"[window] {key} is {value!r}, and {theirs!r} in {place}; leave [window] out, or prepare it again"
            )
    return found


def _check_ranges(found: Configuration) -> None:
    told = found.training
    for name, value, fits, expected in (
        ("[window] duration", found.window.duration, found.window.duration > 0, "more than 0 s"),
        ("[window] hop", found.window.hop, found.window.hop is None or found.window.hop > 0, "more than 0 s"),
        ("[data] validation", found.data.validation, 0 < found.data.validation < 1, "a share within 0 ... 1"),
        ("[data] test", found.data.test, 0 <= found.data.test < 1 - found.data.validation, "a share that leaves some"),
        ("[data] spacing", found.data.spacing, found.data.spacing >= 0, "metres, 0 or more"),
        ("[data] workers", found.data.workers, found.data.workers >= 0, "processes, 0 or more"),
        ("dim", found.dim, found.dim >= 8 and found.dim % 8 == 0, "a multiple of 8"),
        ("[training] epochs", told.epochs, told.epochs >= 1, "1 or more"),
        ("[training] batch", told.batch, told.batch >= 1, "1 or more"),
        ("[training] rate", told.rate, told.rate > 0, "more than 0"),
        ("[training] decay", told.decay, told.decay >= 0, "0 or more"),
        ("[training] warmup", told.warmup, 0 <= told.warmup < 1, "a share within 0 ... 1"),
        ("[training] clip", told.clip, told.clip > 0, "more than 0"),
        ("[training] patience", told.patience, told.patience >= 0, "0 or more"),
        ("[training] modality_dropout", told.modality_dropout, 0 <= told.modality_dropout < 1, "0 <= p < 1"),
        ("[training] risk", told.risk, 0 <= told.risk < 1, "0 <= risk < 1"),
    ):
        if not fits:
            raise StreamError(f"{name} is {value!r}; expected {expected}")


def _modality(name: str, given: Any, stored: bool) -> Modality:
    where = f"[modalities.{name}]"
    if not isinstance(given, dict):
        raise StreamError(f"{where} is {given!r}; expected a table with stream and encoder")
    given = {"stream": name, **given} if stored else dict(given)
    for key in ("stream", "encoder"):
        if key not in given:
            raise StreamError(f"{where}: {key} is missing; it has {', '.join(given) or 'nothing'}")
    stream = given.pop("stream")
    streams = [stream] if isinstance(stream, str) else stream
    if stored and not isinstance(stream, str):
        raise StreamError(f"{where}: stream is {stream!r}; expected what the shards call it; left out, {name!r}")
    if not stored and not (
        isinstance(streams, list) and streams and all(isinstance(s, str) and "/" in s for s in streams)
    ):
        raise StreamError(f'{where}: stream is {stream!r}; expected "role/stream", or a list of such')
    encoder = given.pop("encoder")
    _check_kind(encoder, ENCODERS, f"{where}: encoder")
    _check_options(given, ENCODERS[encoder], where, skip=("dim",))
    return Modality(stream if isinstance(stream, str) else tuple(streams), encoder, given)


def _chosen(given: Mapping[str, Any], kinds: Mapping[str, type[nn.Module]], where: str) -> Chosen:
    given = dict(given)
    if "kind" not in given:
        raise StreamError(f"{where}: kind is missing; expected one of {', '.join(kinds)}")
    kind = given.pop("kind")
    _check_kind(kind, kinds, f"{where}: kind")
    if kind == "hybrid":
        _check_keys(given, ("groups", "over"), where)
        for name, group in (given.get("groups") or {}).items():
            inner = {key: value for key, value in group.items() if key != "modalities"}
            _chosen(inner, FUSIONS, f"[fusion.groups.{name}]")
        _chosen(given.get("over") or {}, FUSIONS, "[fusion.over]")
    else:
        _check_options(given, kinds[kind], where, skip=("names", "dim", "head", "pool", *_SIZES.values()))
    return Chosen(kind, given)


def _check_kind(kind: Any, kinds: Mapping[str, Any], where: str) -> None:
    if kind not in kinds:
        raise StreamError(
            f"{where} {kind!r} is not known{_nearest(str(kind), kinds)}; expected one of {', '.join(kinds)}"
        )


def _check_options(given: Mapping[str, Any], kind: type[nn.Module], where: str, skip: Sequence[str]) -> None:
    """Keywords of a constructor, with the types of its annotations."""
    known: dict[str, Any] = {}
    for base in kind.__mro__:
        # `**options` hands on to the class above it.
        parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        hints = typing.get_type_hints(base.__init__)  # type: ignore[misc]
        for name in parameters:
            if name not in ("self", "options", *skip):
                known.setdefault(name, hints.get(name, Any))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    _check_keys(given, tuple(known), where)
    for key, value in given.items():
        _value(value, known[key], f"{where} {key}")


def _check_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise StreamError(
                f"{where}: unknown key {key!r}{_nearest(key, known)}; expected some of {', '.join(known)}"
            )


def _nearest(word: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f" (do you mean {close[0]!r}?)" if close else ""


def _table(kind: type[Any], given: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    _check_keys(given, tuple(hints), where)
    missing = [f.name for f in fields(kind) if f.name not in given and _required(f)]
    if missing:
        raise StreamError(f"{where}: {missing[0]} is missing")
    return kind(**{key: _value(value, hints[key], f"{where} {key}") for key, value in given.items()})


def _required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _value(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`. Raises StreamError where it is of another type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for each in inner:
            if each is not type(None):
                return _value(value, each, where)
    if origin is Literal:
        if value not in inner:
            raise StreamError(f"{where} is {value!r}{_nearest(str(value), inner)}; expected one of {', '.join(inner)}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or len(value) != len(inner):
            raise StreamError(f"{where} is {value!r}; expected {len(inner)} numbers, [height, width]")
        return tuple(_value(v, k, where) for v, k in zip(value, inner, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool) and type(value) is not kind:
        named = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]
        raise StreamError(f"{where} is {value!r}; expected {named}")
    return value


def build_network(found: Configuration, outputs: int) -> FusionNet:
    """The network of a configuration whose options say what only data can say (channels, colours).

    outputs: classes, labels or numbers. Raises StreamError where parts do not fit together.
    """
    names = sorted(found.modalities)
    encoders = {name: _encoder(modality, found) for name, modality in found.modalities.items()}

    def head(pool: Pool = "attention") -> Head:
        options = {_SIZES[found.head.kind]: outputs, **found.head.options}
        return HEADS[found.head.kind](found.dim, pool=pool, **options)

    fusion = _fusion(found.fusion, names, found.dim, head, found.window.duration)
    last = Decided(head()) if isinstance(fusion, Late) else head("mean" if one_token(fusion) else "attention")
    return FusionNet(encoders, fusion, last, dim=found.dim)


def _encoder(modality: Modality, found: Configuration) -> nn.Module:
    kind = ENCODERS[modality.encoder]
    options = dict(modality.options)
    if "duration" in inspect.signature(kind.__init__).parameters:  # type: ignore[misc]
        options.setdefault("duration", found.window.duration)
    return kind(dim=found.dim, **options)


def _fusion(chosen: Chosen, names: Sequence[str], dim: int, head: Callable[[], Head], duration: float) -> nn.Module:
    options = dict(chosen.options)
    if chosen.kind == "hybrid":
        groups, grouped = {}, set()
        for name, given in (options.get("groups") or {}).items():
            given = dict(given)
            kind, members = given.pop("kind"), given.pop("modalities", None)
            if not isinstance(members, list) or not members:
                raise StreamError(f"[fusion.groups.{name}]: modalities is {members!r}; expected a list of names")
            groups[name] = _fusion(Chosen(kind, given), members, dim, head, duration)
            grouped |= set(members)
        over = dict(options.get("over") or {})
        outer = [*groups, *(name for name in names if name not in grouped)]
        return Hybrid(
            names, dim, groups=groups, over=_fusion(Chosen(over.pop("kind"), over), outer, dim, head, duration)
        )
    if chosen.kind == "late":
        return Late(names, dim, head=head)
    if "step" in options:
        options.setdefault("duration", duration)
    return FUSIONS[chosen.kind](names, dim, **options)


def with_data(found: Configuration, widths: Mapping[str, int], classes: Sequence[str]) -> Configuration:
    """A configuration that says what the data say: widths, the last dimension of each modality's values."""
    modalities = {}
    for name, modality in found.modalities.items():
        parameters = inspect.signature(ENCODERS[modality.encoder].__init__).parameters  # type: ignore[misc]
        named = next((key for key in _FROM_DATA if key in parameters and _says_data(parameters[key], key)), None)
        told = {} if named is None or name not in widths else {named: widths[name]}
        modalities[name] = replace(modality, options={**told, **modality.options})
    return replace(found, modalities=modalities, classes=tuple(classes))


def _says_data(parameter: inspect.Parameter, key: str) -> bool:
    """`channels` of a sensor's encoder are those of the data; of a picture's they are the network's own."""
    return key == "colours" or parameter.default is inspect.Parameter.empty
