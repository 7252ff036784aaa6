"""What the rows of a prepared dataset say together, in one pass: the figures of its card and of its page."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from avfuse.reporting.distributions import Distribution, Kinds

DECISIONS = ("keep", "correct", "drop")
FIGURES = ("offset", "drift", "std", "confidence", "doubt", "delay", "coverage", "duration")
SURE = 1e-6  # less doubt than this is drawn as this
_SPLITS = ("train", "validation", "test")
_NAMES = 5000  # labels, roles, codecs, ... told apart
_MODALITIES = 500  # told apart
# A path from the root, but for its last name: whose machine it was is nobody's business.
_ROOTED = re.compile(
    r"(?:\bfile:/+|(?<![\w.:/\\~<])(?:~\w*)?/|\\\\(?=\w)|\b[A-Za-z]:[\\/])(?=[^\s/])(?:[^\s:;,'\"<>|]*[\\/])*"
)


class Names:
    """Names, counted: the first `_NAMES` of them; `others` are not told apart."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.others = 0

    def add(self, name: str) -> None:
        if name in self.counts or len(self.counts) < _NAMES:
            self.counts[name] += 1
        else:
            self.others += 1

    def ranked(self) -> list[tuple[str, int]]:
        """The most frequent first."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))


@dataclass
class Figure:
    """A quantity of what was written, and of what was dropped."""

    written: Distribution = field(default_factory=Distribution)
    dropped: Distribution = field(default_factory=Distribution)

    def add(self, value: object, written: bool) -> None:
        """Add a number; what is none is left out."""
        number = number_of(value)
        if number is not None:
            (self.written if written else self.dropped).add(number)

    @property
    def count(self) -> int:
        return self.written.count + self.dropped.count


@dataclass
class Split:
    """events: with a sample in it. nanoseconds: that its samples last."""

    decisions: Counter[str] = field(default_factory=Counter)
    events: int = 0
    nanoseconds: int = 0
    shards: int = 0
    bytes: int = 0

    @property
    def samples(self) -> int:
        return self.decisions["keep"] + self.decisions["correct"]

    @property
    def duration(self) -> float:
        return self.nanoseconds / 1e9


@dataclass
class Modality:
    """Files of one name in all samples."""

    samples: int = 0
    bytes: int = 0
    partial: int = 0
    files: Names = field(default_factory=Names)
    kinds: Names = field(default_factory=Names)
    codecs: Names = field(default_factory=Names)
    rates: Names = field(default_factory=Names)
    sizes: Names = field(default_factory=Names)


@dataclass
class Statistics:
    """All figures of a dataset.

    splits: by name; "" of rows that have none. events: with at least one sample, without one. leaks: events with
    samples in more than one split. recordings: that samples were cut from, one for each event that has it.
    still: clocks whose drift could not be estimated. checks: by verdict, of written and of dropped.
    figures: by `FIGURES`; doubt is 1 - confidence, `SURE` at least. Offset, drift, std, confidence, doubt and delay
    count once for each recording of an event (and once more for each further segment of its clock), as written where
    any of its samples was, with the largest std and the least confidence of its samples; references, which are exact
    by definition, are left out. Coverage counts once for each stream of each sample, duration for each sample.
    """

    rows: int = 0
    splits: dict[str, Split] = field(default_factory=dict)
    events: tuple[int, int] = (0, 0)
    leaks: int = 0
    recordings: int = 0
    still: int = 0
    roles: Names = field(default_factory=Names)
    evidence: Names = field(default_factory=Names)
    figures: dict[str, Figure] = field(default_factory=lambda: {name: Figure() for name in FIGURES})
    checks: dict[str, tuple[int, int]] = field(default_factory=dict)
    modalities: dict[str, Modality] = field(default_factory=dict)
    labels: Names = field(default_factory=Names)
    numbers: Distribution = field(default_factory=Distribution)
    unlabelled: int = 0
    dropped: Kinds = field(default_factory=Kinds)
    corrected: Kinds = field(default_factory=Kinds)
    errors: Kinds = field(default_factory=Kinds)
    failures: int = 0

    @property
    def total(self) -> Split:
        """All splits together; an event counts once."""
        every = self.splits.values()
        decisions = sum((split.decisions for split in every), Counter[str]())
        seconds, shards, size = (sum(getattr(s, name) for s in every) for name in ("nanoseconds", "shards", "bytes"))
        return Split(decisions, self.events[0], seconds, shards, size)

    def ordered(self) -> list[tuple[str, Split]]:
        """Splits, see `split_rank`."""
        return sorted(self.splits.items(), key=lambda item: split_rank(item[0]))


def split_rank(name: str) -> tuple[bool, int, str]:
    """Orders splits: train, validation, test, others by name, none."""
    return name == "", _SPLITS.index(name) if name in _SPLITS else len(_SPLITS), name


def gather(
    facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
) -> Statistics:
    """Figures of a dataset: one pass over `rows`, with the memory that a few thousand numbers take.

    facts: of prepare.json. rows: of manifest.jsonl, those of one event one after the other. errors: of errors.jsonl.
    """
    found = Statistics()
    sources: dict[str, set[str]] = {}
    for error in errors:
        found.errors.add(reason_of(error), name_of(error))
        found.failures += 1
        if error.get("source"):
            sources.setdefault(str(error.get("event")), set()).add(str(error["source"]))
    event: str | None = None
    group = _Event()
    for row in rows:
        if row.get("event") != event:
            group.close(found)
            event, group = row.get("event"), _Event()
        _add(row, found, group, sources.get(str(event), ()))
    group.close(found)
    for shard in facts.get("shards", ()):
        split = found.splits.setdefault(shard["split"], Split())
        split.shards += 1
        split.bytes += shard["bytes"]
    return found


def _add(row: Mapping[str, Any], found: Statistics, group: _Event, sources: Iterable[str]) -> None:
    decision = row["decision"]
    written = decision != "drop"
    found.rows += 1
    name = row.get("split") or ""
    if name not in found.splits:
        found.splits[name] = Split()
    split = found.splits[name]
    split.decisions[decision] += 1
    group.add(row, written)
    reasons = row.get("reasons") or (() if written else ("no reason was stated",))
    for reason in reasons:
        reason = _unnamed(reason, (*sources, str(row.get("event"))))
        (found.corrected if written else found.dropped).add(local(reason), name_of(row))
    # A dropped event has a row too, which is no window.
    found.figures["duration"].add(row.get("duration"), written)
    for name, stream in (row.get("streams") or {}).items():
        found.figures["coverage"].add(stream.get("coverage"), written)
        if written:
            if name not in found.modalities:
                name = name if len(found.modalities) < _MODALITIES else "others"
                found.modalities.setdefault(name, Modality())
            _add_file(stream, found.modalities[name])
    if written:
        split.nanoseconds += round(row["duration"] * 1e9)
        _add_label(row.get("label"), found)


def _add_file(stream: Mapping[str, Any], modality: Modality) -> None:
    modality.samples += 1
    modality.bytes += stream.get("bytes") or 0
    coverage = number_of(stream.get("coverage"))
    modality.partial += coverage is not None and coverage < 1.0
    for names, value in (
        (modality.files, stream.get("file")),
        (modality.kinds, stream.get("kind")),
        (modality.codecs, stream.get("codec")),
        (modality.rates, number_of(stream.get("rate"))),
    ):
        if value is not None:
            names.add(f"{value:.6g}" if isinstance(value, float) else str(value))
    if stream.get("size") is not None:
        height, width = stream["size"]
        modality.sizes.add(f"{width} × {height}")


def _add_label(label: object, found: Statistics) -> None:
    number = number_of(label)
    if label is None:
        found.unlabelled += 1
    elif number is not None:
        found.numbers.add(number)
    else:
        found.labels.add(label if isinstance(label, str) else json.dumps(label, ensure_ascii=False, sort_keys=True))


class _Event:
    """What rows of one event say again and again, counted once."""

    def __init__(self) -> None:
        self._splits: set[str] = set()
        self._rows = False
        self._recordings: set[str] = set()
        # (recording, offset, drift, evidence) -> largest std and least confidence, of what was written and dropped
        self._clocks: dict[bool, dict[tuple[Any, ...], tuple[float, float]]] = {True: {}, False: {}}
        self._checks: dict[tuple[Any, ...], bool] = {}

    def add(self, row: Mapping[str, Any], written: bool) -> None:
        self._rows = True
        if written:
            self._splits.add(row.get("split") or "")
        clocks = self._clocks[written]
        for stream in (row.get("streams") or {}).values():
            recording = str(stream.get("recording"))
            if written:
                self._recordings.add(recording)
            if recording != row.get("reference"):
                offset, drift, std, sure = (number_of(stream.get(n)) for n in ("offset", "drift", "std", "confidence"))
                key = (recording, offset, drift, tuple(stream.get("evidence") or ()))
                most, least = clocks.get(key, (-math.inf, math.inf))
                clocks[key] = (most if std is None else max(most, std), least if sure is None else min(least, sure))
        for recording, check in (row.get("sync") or {}).items():
            stated = (recording, check.get("verdict"), check.get("sound_delay"))
            self._checks[stated] = self._checks.get(stated, False) or written

    def close(self, found: Statistics) -> None:
        if not self._rows:
            return
        with_samples, without = found.events
        found.events = (with_samples + bool(self._splits), without + (not self._splits))
        found.leaks += len(self._splits) > 1
        for name in self._splits:
            found.splits[name].events += 1
        found.recordings += len(self._recordings)
        for recording in self._recordings:
            found.roles.add(recording)
        for written, clocks in self._clocks.items():
            for key, (std, sure) in clocks.items():
                if written or key not in self._clocks[True]:
                    _add_clock(key, std, sure, written, found)
        for (_, verdict, delay), written in self._checks.items():
            counts = found.checks.get(str(verdict), (0, 0))
            found.checks[str(verdict)] = (counts[0] + written, counts[1] + (not written))
            found.figures["delay"].add(delay, written)


def _add_clock(key: tuple[Any, ...], std: float, sure: float, written: bool, found: Statistics) -> None:
    _, offset, drift, evidence = key
    figures = found.figures
    figures["confidence"].add(sure, written)
    figures["doubt"].add(max(1.0 - sure, SURE) if math.isfinite(sure) else None, written)
    if offset is None:
        return
    figures["offset"].add(offset, written)
    figures["std"].add(std, written)
    # An estimate is never exactly nothing: 0 is what is taken where there is none.
    if drift:
        figures["drift"].add(drift, written)
    elif written:
        found.still += 1
    if written:
        for kind in evidence:
            found.evidence.add(str(kind))


def number_of(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def name_of(row: Mapping[str, Any]) -> str:
    """What a row or an error is of: its sample, or its event."""
    return str(row.get("key") or row.get("event") or row.get("where") or "?")


def reason_of(error: Mapping[str, Any]) -> str:
    """Why something could not be read, without the name of the file or the event that it was."""
    message, source = str(error.get("message") or error.get("kind") or "no reason was stated"), error.get("source")
    message = _unnamed(message, (str(name) for name in (source, error.get("event")) if name))
    if source:
        message = message.replace(str(source), PurePath(str(source)).name)
    return local(message)


def _unnamed(reason: str, names: Iterable[str]) -> str:
    """A reason without the names before it, so that reasons alike are one kind."""
    prefixes = tuple(f"{name}: " for name in names)
    while reason.startswith(prefixes):
        reason = next(reason.removeprefix(prefix) for prefix in prefixes if reason.startswith(prefix))
    return reason


def source_of(error: Mapping[str, Any]) -> str:
    """The file of an error: as the manifest names it, or its name where that is a path from the root."""
    source = str(error.get("source") or "")
    return PurePath(source).name if _ROOTED.match(source) else source


def local(text: str) -> str:
    """A sentence without the folders of paths from the root."""
    return _ROOTED.sub("…/", text)


def format_bytes(count: int) -> str:
    """340 bytes, 12.3 MB."""
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * scale:
            return f"{count / scale:.{2 - min(int(math.log10(count / scale) + 1e-3), 2)}f} {unit}"
    return f"{count} bytes"
