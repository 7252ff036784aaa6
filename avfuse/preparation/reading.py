"""Shards back into windows and batches: in order or shuffled, shared out among processes, a split at a time."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from avfuse.batches import Batch, Samples, Window, collate
from avfuse.errors import ReadError, StreamError
from avfuse.preparation.encoding import decode_pictures, decode_samples, decode_sound
from avfuse.preparation.shards import FACTS, FORMAT, RECORD, Row, Shard, arrow
from avfuse.preparation.store import Store


@dataclass(frozen=True)
class Sample:
    """As it is stored. row: its facts, with the times of frames; files: modality -> bytes."""

    row: Row
    files: Mapping[str, bytes]

    def window(self) -> Window:
        """Decoded: sound `(n, channels)` float32, pictures `(n, height, width, 3)` uint8, on the event's timeline.

        Raises ReadError where a file is not what was written.
        """
        row = self.row
        samples = {}
        for name, facts in row["streams"].items():
            # Decoders make something of most damage, and say nothing.
            if hashlib.sha256(self.files[name]).hexdigest() != facts["sha256"]:
                raise ReadError(f"{row['key']}: {name} is damaged; prepare it again")
            samples[name] = _decoded(self.files[name], facts, row, name)
        return Window(row["event"], row["start"], row["duration"], samples, row["label"])


def _decoded(data: bytes, facts: Row, row: Row, name: str) -> Samples:
    start, rate = row["start"], facts["rate"]
    if facts["codec"] == "npz":
        values, times, valid = decode_samples(data)
        return Samples(values, start + times, valid, facts["confidence"], facts["std"], rate)
    if name in row["times"]:
        values, times = decode_pictures(data), start + np.array(row["times"][name], np.float64)
        valid = np.ones(len(times), bool)
    else:
        values, _ = decode_sound(data)
        own = np.arange(len(values)) / rate
        # To half a sample: spans are told in microseconds.
        valid = np.zeros(len(values), bool)
        for low, high in facts["valid"]:
            valid |= (own >= low - 0.5 / rate) & (own < high - 0.5 / rate)
        times = start + own
    if len(values) != len(times):
        raise ReadError(f"{row['key']}: {name} holds {len(values)} samples and {len(times)} times; prepare it again")
    return Samples(values, times, valid, facts["confidence"], facts["std"], rate)


@dataclass(frozen=True)
class Shards:
    """A prepared folder. facts: its prepare.json."""

    store: Store
    facts: Row

    @property
    def shards(self) -> list[Shard]:
        return [Shard(**shard) for shard in self.facts["shards"]]

    def of(self, split: str | None) -> list[Shard]:
        """Shards of a split, or all. Raises StreamError where there is none."""
        found = [shard for shard in self.shards if split is None or shard.split == split]
        if not found:
            if not self.facts["splits"]:
                raise StreamError(f"{self.store.place}: has no sample: all were dropped, manifest.jsonl says why")
            raise StreamError(f"{self.store.place}: no split {split!r}; it has {', '.join(self.facts['splits'])}")
        return found


def open_shards(place: str | os.PathLike[str]) -> Shards:
    """What `avfuse.prepare` made. Raises ReadError where it is not there, not finished, or something else."""
    store = Store(place)
    try:
        facts = json.loads(store.read(FACTS))
    except (FileNotFoundError, NotADirectoryError):
        unfinished = store.exists(RECORD)
        what = "is not finished: run the same `avfuse prepare` again" if unfinished else f"holds no {FACTS}"
        raise ReadError(f"{store.place}: {what}; expected a folder that `avfuse prepare` made") from None
    except (OSError, ValueError) as error:
        raise ReadError(f"{store.place}/{FACTS}: cannot be read ({error}); prepare it again") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ReadError(f"{store.place}/{FACTS}: format is not {FORMAT!r}; expected what `avfuse prepare` made")
    return Shards(store, facts)


def samples_in(store: Store, shard: str, first: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """Samples first <= k < stop of a shard, in order. Raises ReadError where it is gone or damaged."""
    read = _samples_of_tar if shard.endswith(".tar") else _samples_of_parquet
    number = first
    try:
        with store.reading(shard) as file:
            for sample in read(file, first, stop):
                number += 1
                yield sample
    except FileNotFoundError:
        raise ReadError(f"{store.place}/{shard}: no such shard; prepare it again") from None
    except (tarfile.TarError, KeyError, OSError, ValueError) as error:  # Arrow's errors are some of these
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise ReadError(f"{store.place}/{shard}: is damaged ({told}); prepare it again") from error
    if stop is not None and number < stop:
        # What is cut between two samples looks whole.
        raise ReadError(f"{store.place}/{shard}: ends after {number} samples; expected {stop}, prepare it again")


def _samples_of_tar(file: Any, first: int, stop: int | None) -> Iterator[Sample]:
    number = -1
    row: Row | None = None
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            key, _, extension = info.name.partition(".")
            if extension == "json":  # the first one of each sample
                if row is not None and number >= first:
                    yield _sample(row, files)
                number += 1
                if stop is not None and number >= stop:
                    return
                row, files = None, {}
                if number >= first:
                    row = json.loads(_content(archive, info))
            elif row is not None and number >= first and key == row["key"]:
                files[extension] = _content(archive, info)
        if row is not None:
            yield _sample(row, files)


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name} is no file")
    return file.read()


def _sample(row: Row, files: Mapping[str, bytes]) -> Sample:
    return Sample(row, {name: files[facts["file"]] for name, facts in row["streams"].items()})


def _samples_of_parquet(file: Any, first: int, stop: int | None) -> Iterator[Sample]:
    _, pq = arrow()
    table = pq.ParquetFile(file)
    number = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        if number + count > first and (stop is None or number < stop):
            for k, found in enumerate(table.read_row_group(group).to_pylist(), number):
                if k >= first and (stop is None or k < stop):
                    row = json.loads(found["json"])
                    yield Sample(row, {name: found[name]["bytes"] for name in row["streams"]})
        number += count


def sample_at(store: Store, shard: str, place: int) -> Sample:
    """One sample of a shard."""
    return next(samples_in(store, shard, place, place + 1))


def windows_in(place: str | os.PathLike[str], shard: str, first: int = 0, stop: int | None = None) -> Iterator[Window]:
    """Windows first <= k < stop of a shard, decoded."""
    for sample in samples_in(Store(place), shard, first, stop):
        yield sample.window()


def cuts(place: str | os.PathLike[str], split: str | None = "train") -> list[Callable[[], Iterator[Window]]]:
    """A function for each shard that reads its windows: what `avfuse.nn.data.loader` takes."""
    return [partial(windows_in, place, shard.name, 0, shard.samples) for shard in open_shards(place).of(split)]


def read_windows(
    place: str | os.PathLike[str],
    *,
    split: str | None = "train",
    seed: int | None = None,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
    buffer: int = 256,
) -> Iterator[Window]:
    """Windows of a split; None takes every one.

    seed, epoch: shuffle, the same for the same numbers: shards, and windows among `buffer` of them that are held as
        they are stored; seed None keeps the order. rank, ranks: this reader and how many there are (processes of
        training, times their workers); all get equally many, the first ones again where they do not share out evenly.
    Raises ReadError for a folder that was not prepared, and later for a damaged shard; StreamError where the split has
    no window.
    """
    if not (ranks >= 1 and 0 <= rank < ranks and buffer >= 1):
        raise StreamError(
            f"windows: rank {rank} of {ranks}, buffer {buffer}; expected 0 <= rank < ranks, and 1 or more"
        )
    opened = open_shards(place)
    shards = opened.of(split)
    random = None if seed is None else np.random.default_rng([seed & (2**63 - 1), epoch])
    if random is not None:
        shards = [shards[k] for k in random.permutation(len(shards))]
    read: Iterator[Sample] = (
        sample for shard, first, stop in _share(shards, rank, ranks)
        for sample in samples_in(opened.store, shard.name, first, stop)
    )  # fmt: skip
    if seed is not None:
        read = _mixed(read, buffer, np.random.default_rng([seed & (2**63 - 1), epoch, rank + 1]))
    return (sample.window() for sample in read)


def _share(shards: Sequence[Shard], rank: int, ranks: int) -> Iterator[tuple[Shard, int, int]]:
    """(shard, first, stop): one reader's part of all samples, one after the other."""
    total = sum(shard.samples for shard in shards)
    each = -(-total // ranks)
    begin = rank * each % total
    for low, high in ((begin, min(begin + each, total)), (0, begin + each - total)):
        position = 0
        for shard in shards:
            first, stop = max(low - position, 0), min(high - position, shard.samples)
            if first < stop:
                yield shard, first, stop
            position += shard.samples


def _mixed(read: Iterator[Sample], buffer: int, random: np.random.Generator) -> Iterator[Sample]:
    held: list[Sample] = []
    for sample in read:
        if len(held) < buffer:
            held.append(sample)
            continue
        k = int(random.integers(len(held)))
        yield held[k]
        held[k] = sample
    for k in random.permutation(len(held)):
        yield held[k]


def read_batches(
    place: str | os.PathLike[str],
    *,
    batch: int = 32,
    split: str | None = "train",
    seed: int | None = None,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
    buffer: int = 256,
) -> Iterator[Batch]:
    """`read_windows`, `batch` at a time and padded; the last batch may be smaller."""
    if batch < 1:
        raise StreamError(f"windows: batch {batch!r}; expected 1 or more")
    windows = read_windows(place, split=split, seed=seed, epoch=epoch, rank=rank, ranks=ranks, buffer=buffer)
    return _batched(windows, batch)


def _batched(windows: Iterator[Window], batch: int) -> Iterator[Batch]:
    held: list[Window] = []
    for window in windows:
        held.append(window)
        if len(held) == batch:
            yield collate(held)
            held = []
    if held:
        yield collate(held)
