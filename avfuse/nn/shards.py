"""Labelled windows of shards that `avfuse prepare` made: read again in each epoch, never held as a whole.

StoredWindows      batches in an order that a seed fixes, decoded by processes of their own
windows_as_stored  raw recordings of an event, cut and encoded as those of the shards were: what a model is asked about
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from avfuse.batches import Window
from avfuse.errors import AvfuseError, ReadError, StreamError
from avfuse.manifests import Event
from avfuse.nn.data import ENOUGH, Drawn, Pass, tensors
from avfuse.preparation.events import prepare_event
from avfuse.preparation.keeping import SPOOL
from avfuse.preparation.reading import Sample, Shards, open_shards, sample_at, samples_in
from avfuse.preparation.recipe import Recipe
from avfuse.preparation.shards import members_of
from avfuse.preparation.store import Store

I64 = NDArray[np.int64]
_HELD = 1024  # windows among which each one is mixed, held as they are stored
_SHARDS = 16  # that windows for statistics are taken from


class StoredWindows:
    """Labelled windows of shards that `avfuse.prepare` made.

    place: the folder, or its address. streams: modality -> what the shards call it; nothing else is decoded.
    size: of a batch. workers: spawned processes that decode the next batches; 0 decodes in this one. The batches are
    the same whatever their number: each process reads the shards as they are stored, and decodes its share.
    Of a pass, as many windows are held, as they are stored, as are mixed: 1024, and those of the batches that are made.
    left_out: what is not learned from, and why.
    Raises ReadError for a folder that was not prepared, or whose files contradict each other; StreamError where a
    modality, or the labelled windows of training or validation, are not in it.
    """

    def __init__(
        self, place: str | os.PathLike[str], streams: Mapping[str, str], size: int, *, workers: int = 0
    ) -> None:
        opened = open_shards(place)
        self._store, self._streams, self._size = opened.store, dict(streams), size
        self._listed, self.left_out = _list_samples(opened, streams)
        self._turns: list[tuple[Pass, int]] = []
        # Processes are started once: a DataLoader asks for what stands in the list when a pass begins.
        self._loader: DataLoader[Drawn | AvfuseError] = DataLoader(
            _StoredBatches(self._store.place, self._streams, self._listed, size),
            batch_size=None,
            sampler=self._turns,
            collate_fn=_as_it_is,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # else it would draw from the seed of all else
        )

    @property
    def splits(self) -> list[str]:
        """Those that have windows."""
        return list(self._listed)

    def count(self, split: str) -> int:
        return len(self._listed[split].shard)

    @property
    def labels(self) -> list[Any]:
        """Of the training data; nothing is decoded."""
        return self._listed["train"].labels

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of every modality's values in the training data: colours, channels; one window each tells."""
        found, listed = {}, self._listed["train"]
        for name in self._streams:
            k = int(np.argmax(listed.having[name]))
            sample = sample_at(self._store, listed.names[listed.shard[k]], int(listed.place[k]))
            values = _window_of(sample, {name: self._streams[name]}).samples[name].values
            if values.ndim > 1:
                found[name] = int(values.shape[-1])
        return found

    def some(self, name: str) -> list[Window]:
        """Windows of the training data that have a modality, and this one alone; enough for its mean."""
        listed = self._listed["train"]
        having = np.flatnonzero(listed.having[name])
        shards = np.unique(listed.shard[having])
        few = having[np.isin(listed.shard[having], shards[:: math.ceil(len(shards) / _SHARDS)])]
        spread = few[:: math.ceil(len(few) / ENOUGH)]
        streams = {name: self._streams[name]}
        return [_window_of(sample, streams) for sample in _samples(self._store, listed, spread)]

    def batches(self, each: Pass) -> Iterator[Drawn]:
        """One pass at a time. Raises ReadError where a shard is gone or damaged, in whatever process."""
        windows = math.ceil(self.count(each.split) / each.ranks)
        self._turns[:] = [(each, number) for number in range(math.ceil(windows / self._size))]
        for drawn in self._loader:
            if isinstance(drawn, AvfuseError):
                raise drawn
            yield drawn


def _as_it_is(drawn: Any) -> Any:
    return drawn


@dataclass(frozen=True, eq=False)
class _Listed:
    """Labelled samples of a split, in order, `(n,)` each. names: of its shards. shard: number of its name; place: in
    the shard. having: modality -> which have it. labels: of each; none in processes that only read."""

    names: tuple[str, ...]
    shard: I64
    place: I64
    having: Mapping[str, NDArray[np.bool_]]
    labels: list[Any]


def _list_samples(opened: Shards, streams: Mapping[str, str]) -> tuple[dict[str, _Listed], tuple[str, ...]]:
    """From the rows of the manifest; and lines on what is left out."""
    where, places = opened.store.place, Counter[str]()
    names = {
        split: tuple(s.name for s in opened.shards if s.split == split) for split in {s.split for s in opened.shards}
    }
    numbers = {name: number for split in names.values() for number, name in enumerate(split)}
    split_of: dict[str, str] = {}
    there: set[str] = set()
    rows: dict[str, list[tuple[int, int, tuple[bool, ...], Any]]] = {}
    unlabelled, lacking = Counter[str](), Counter[str]()
    for row in _rows_of_manifest(opened):
        if (shard := row["shard"]) is None:
            continue
        place, split = places[shard], row["split"]
        places[shard] += 1
        there |= row["streams"].keys()
        if split_of.setdefault(row["event"], split) != split:
            raise ReadError(f"{where}: {row['event']} is in {split_of[row['event']]} and {split}; prepare it again")
        having = tuple(stream in row["streams"] for stream in streams.values())
        if not any(having):
            lacking[split] += 1
        elif row["label"] is None:
            unlabelled[split] += 1
        else:
            rows.setdefault(split, []).append((numbers[shard], place, having, row["label"]))
    for shard in opened.shards:
        if places[shard.name] != shard.samples:
            told = f"{shard.samples} samples, and manifest.jsonl of {places[shard.name]}"
            raise ReadError(f"{where}/{shard.name}: prepare.json tells of {told}; prepare it again")
    for name, stream in streams.items():
        if stream not in there:
            have = ", ".join(sorted(there)) or "nothing"
            raise StreamError(f"[modalities.{name}]: {stream!r} is not in {where}; its windows have {have}")
    for split in ("train", "validation"):
        _check_split(opened, split, len(rows.get(split, ())), unlabelled[split])
    found = {}
    for split in sorted(rows, key=("train", "validation", "test").index):
        shards, at, having_, labels = zip(*rows[split], strict=True)
        of_each = dict(zip(streams, np.array(having_, bool).T, strict=True))
        found[split] = _Listed(names[split], np.array(shards), np.array(at), of_each, list(labels))
    for name in streams:
        if not found["train"].having[name].any():
            raise StreamError(f"[modalities.{name}]: no labelled window of train in {where} has {streams[name]!r}")
    left_out = [f"{where}: {split}: {n} windows without a label" for split, n in sorted(unlabelled.items())]
    left_out += [
        f"{where}: {split}: {n} windows with none of {', '.join(streams)}" for split, n in sorted(lacking.items())
    ]
    return found, tuple(left_out)


def _check_split(opened: Shards, split: str, labelled: int, unlabelled: int) -> None:
    if labelled:
        return
    if unlabelled:
        raise StreamError(
            f"{opened.store.place}: none of the {unlabelled} windows of {split} has a label; expected some"
        )
    have = ", ".join(f"{told['samples']} windows of {name}" for name, told in opened.facts["splits"].items())
    raise StreamError(
        f"{opened.store.place}: no window of {split}; it has {have or 'none at all'}: give splits in the manifest, or "
        "prepare it with a share of the events for it, such as `avfuse prepare --validation 0.2`"
    )


def _rows_of_manifest(opened: Shards) -> Iterator[dict[str, Any]]:
    place = f"{opened.store.place}/manifest.jsonl"
    try:
        with opened.store.reading("manifest.jsonl") as file:
            for line in file:
                yield json.loads(line)
    except FileNotFoundError:
        raise ReadError(f"{place}: no such file; prepare it again") from None
    except ValueError as error:
        raise ReadError(f"{place}: is damaged ({error}); prepare it again") from error


def _window_of(sample: Sample, streams: Mapping[str, str]) -> Window:
    """The sample with these modalities, under their names; others are not decoded."""
    there = {name: stream for name, stream in streams.items() if stream in sample.row["streams"]}
    facts = {stream: sample.row["streams"][stream] for stream in there.values()}
    window = Sample({**sample.row, "streams": facts}, sample.files).window()
    return replace(window, samples={name: window.samples[stream] for name, stream in there.items()})


class _StoredBatches(Dataset[Drawn | AvfuseError]):
    """Batches of shards, by (pass, number). They may be asked for in any order; one that only grows reads once.

    What is wrong with one comes in its place: raised in another process, it would come with pages of that one's stack.
    """

    def __init__(self, place: str, streams: Mapping[str, str], listed: Mapping[str, _Listed], size: int) -> None:
        self._place, self._streams, self._size = place, streams, size
        self._listed = {split: replace(each, labels=[]) for split, each in listed.items()}
        self._pass: Pass | None = None
        self._reader: _Reader | None = None

    def __getitem__(self, key: tuple[Pass, int]) -> Drawn | AvfuseError:
        try:
            return self._drawn(*key)
        except AvfuseError as error:
            return error

    def _drawn(self, each: Pass, number: int) -> Drawn:
        if self._reader is None or self._pass != each or number < self._reader.next:
            self._pass = each
            self._reader = _Reader(Store(self._place), self._listed[each.split], each, self._size)
        windows = [_window_of(sample, self._streams) for sample in self._reader.batch(number)]
        timed, labels = tensors(windows)
        return timed, labels, tuple(window.event for window in windows)


class _Reader:
    """Samples of one pass, batch after batch. next: number of the first batch that can still be had."""

    def __init__(self, store: Store, listed: _Listed, each: Pass, size: int) -> None:
        read, turns = _order(listed, each)
        self._size, self._count, self.next = size, len(read), 0
        self._coming = zip(turns.tolist(), _samples(store, listed, read), strict=True)
        self._held: dict[int, Sample] = {}  # by their turn

    def batch(self, number: int) -> list[Sample]:
        first = number * self._size
        turns = range(first, min(first + self._size, self._count))
        # What was read for the batches of other processes is let go.
        self._held = {turn: sample for turn, sample in self._held.items() if turn >= first}
        missing = set(turns) - self._held.keys()
        while missing:
            turn, sample = next(self._coming)
            if turn >= first:
                self._held[turn] = sample
                missing.discard(turn)
        self.next = number + 1
        return [self._held.pop(turn) for turn in turns]


def _order(listed: _Listed, each: Pass) -> tuple[I64, I64]:
    """Samples of a pass as they are read, and the turn of each among those that are learned from.

    Shards come in any order, the pass begins anywhere in them, and a window waits among `_HELD` others.
    """
    count = len(listed.shard)
    share = -(-count // each.ranks)
    mine = (each.rank * share + np.arange(share)) % count
    if each.seed is None:
        return mine, np.arange(share)
    seed = each.seed & (2**63 - 1)
    random = np.random.default_rng([seed, each.epoch])
    order = np.argsort(random.permutation(len(listed.names))[listed.shard], kind="stable")
    read = np.roll(order, int(random.integers(count)))[mine]
    random = np.random.default_rng([seed, each.epoch, each.rank + 1])
    held = min(_HELD, share)
    turns, waiting = np.empty(share, np.int64), list(range(held))
    for turn, k in enumerate(random.integers(held, size=share - held).tolist()):
        turns[waiting[k]] = turn
        waiting[k] = held + turn
    turns[waiting] = share - held + random.permutation(held)
    return read, turns


def _samples(store: Store, listed: _Listed, read: I64) -> Iterator[Sample]:
    """Samples in the order of `read`: each run that grows within a shard is read in one go."""
    shard, place = listed.shard[read], listed.place[read]
    ends = np.flatnonzero((np.diff(shard) != 0) | (np.diff(place) <= 0)) + 1
    for run in np.split(np.arange(len(read)), ends):
        if not len(run):
            continue
        name, position = listed.names[shard[run[0]]], int(place[run[0]])
        found = samples_in(store, name, position, int(place[run[-1]]) + 1)
        for at in place[run].tolist():
            sample = next(islice(found, at - position, None), None)
            if sample is None:
                raise ReadError(f"{store.place}/{name}: ends before sample {at}; prepare it again")
            yield sample
            position = at + 1


def windows_as_stored(event: Event, recipe: Recipe, streams: Mapping[str, str]) -> tuple[list[Window], list[str]]:
    """Windows of an event's raw recordings, as `avfuse.prepare` would store them and they would be read again.

    streams: modality -> what the recipe calls it. Recordings that are not there or not aligned are absent, and damaged
    ones end early, whatever the recipe says of them; windows that it drops for other reasons are left out. Functions of
    its transforms are imported and called. Returns a line, too, for each thing that is wrong.
    Raises ReadError where nothing can be read.
    """
    limits = replace(recipe.limits, lacking="keep", damaged="keep", unsure="keep")
    event = replace(event, sources=event.sources or event.files)
    out = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="avfuse-") as folder:
        part = prepare_event(event, "unseen", replace(recipe, limits=limits), out, Path(folder), SPOOL)
    found, data = [], out.getvalue()
    for row in part.rows:
        if "members" in row:
            first, size = row["members"]
            members = members_of(data[first : first + size])
            told = json.loads(members[f"{row['key']}.json"])
            files = {name: members[f"{row['key']}.{facts['file']}"] for name, facts in told["streams"].items()}
            window = _window_of(Sample(told, files), streams)
            if window.samples:
                found.append(window)
    wrong = [f"{line['source'] or event.name}: {line['message']}" for line in part.errors]
    for name, stream in streams.items():
        choices = [stream] if recipe.streams is None else recipe.streams[stream]
        roles = {choice.rpartition("/")[0] for choice in ([choices] if isinstance(choices, str) else choices)}
        if not roles.isdisjoint(event.files) and not any(name in window.samples for window in found):
            reasons = (reason for row in part.rows for reason in row["reasons"])
            wrong += [reason for reason in reasons if any(word in reason for word in (*roles, stream))]
    dropped = [row for row in part.rows if row["decision"] == "drop"]
    if dropped:
        wrong.append(f"{len(dropped)} of {len(part.rows)} windows are left out: {dropped[0]['reasons'][-1]}")
    return found, [f"{event.name}: {line}" for line in dict.fromkeys(wrong)]
