"""Samples of parts into shards, in the order of the manifest: the same bytes whatever came first.

A sample is a range of a part's tar file. A shard is N of them one after the other, and the two empty blocks that end a
tar file; or the same samples as rows of a Parquet file, in the layout that Hugging Face's `datasets` takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from typing import IO, Any

from avfuse.errors import StreamError, WriteError
from avfuse.manifests import SPLITS
from avfuse.preparation.recipe import Recipe
from avfuse.preparation.store import ASIDE, Store

Row = dict[str, Any]
FORMAT = "avfuse.shards/1"
FACTS, MANIFEST, ERRORS = "prepare.json", "manifest.jsonl", "errors.jsonl"
RECORD = f"{ASIDE}/job.json"  # of what is being made
_FEATURES = {"sound": "Audio", "picture": "Video"}
_COPY = 1 << 20  # bytes that are copied at once


@dataclass(frozen=True)
class Shard:
    """A file of samples. name: relative to the folder; sha256: of its bytes."""

    name: str
    split: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Sample:
    part: str
    start: int
    size: int
    row: Row


class Packer:
    """Puts samples into shards of `recipe.shard`, each split for itself; what is written already stays as it is."""

    def __init__(self, store: Store, recipe: Recipe) -> None:
        self._store, self._recipe = store, recipe
        self.shards: list[Shard] = []
        self._open: dict[str, list[_Sample]] = {}
        self._numbers: dict[str, int] = {}
        self._needed: dict[str, int] = {}  # part -> its samples that are in no shard yet
        self._written = written_shards(store)

    def add(self, part: str, rows: Sequence[Row]) -> list[Row]:
        """The samples of one part; its rows as they stand in the manifest, with the name of their shard."""
        told = []
        self._needed[part] = sum("members" in row for row in rows)
        full = []
        for row in rows:
            plain = {key: value for key, value in row.items() if key != "members"}
            if "members" in row:
                split = row["split"]
                waiting = self._open.setdefault(split, [])
                plain["shard"] = self._name(split)
                start, size = row["members"]
                waiting.append(_Sample(part, start, size, plain))
                if len(waiting) == self._recipe.shard:
                    full.append((split, self._open.pop(split)))
                    self._numbers[split] = self._numbers.get(split, 0) + 1
            told.append(plain)
        for split, samples in full:
            self._write(split, samples)
        self._release(part)
        return told

    def finish(self) -> list[Shard]:
        """The last shard of each split."""
        for split in sorted(self._open):
            self._write(split, self._open[split])
        self._open = {}
        return sorted(self.shards, key=lambda shard: shard.name)

    def _name(self, split: str) -> str:
        suffix = "tar" if self._recipe.format == "webdataset" else "parquet"
        return f"{split}/{self._numbers.get(split, 0):06d}.{suffix}"

    def _write(self, split: str, samples: Sequence[_Sample]) -> None:
        name = str(samples[0].row["shard"])
        if name in self._written:
            shard, _ = self._written[name]
        else:
            with self._store.writing(name) as file:
                counted = _Counted(file)
                if self._recipe.format == "webdataset":
                    self._write_tar(counted, samples)
                else:
                    write_parquet(counted, self._rows_of_parquet(samples), self._recipe)
            shard = Shard(name, split, len(samples), counted.size, counted.digest.hexdigest())
            document = {"shard": asdict(shard), "parts": list(dict.fromkeys(sample.part for sample in samples))}
            self._store.write(f"{ASIDE}/{name}.json", json.dumps(document).encode())
        self.shards.append(shard)
        for sample in samples:
            self._needed[sample.part] -= 1
            self._release(sample.part)

    def _release(self, part: str) -> None:
        """A part all of whose samples are in shards is not needed any more; its rows are, until the job is done."""
        if self._needed.get(part) == 0:
            del self._needed[part]
            self._store.remove(f"{ASIDE}/{part}.tar")

    def _write_tar(self, file: _Counted, samples: Sequence[_Sample]) -> None:
        for _, chunk in self._chunks(samples):
            file.write(chunk)
        file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _chunks(self, samples: Sequence[_Sample]) -> Iterator[tuple[_Sample, bytes]]:
        for part, those in groupby(samples, key=lambda sample: sample.part):
            with self._reading(part) as file:
                for sample in those:
                    file.seek(sample.start)
                    left = sample.size
                    while left:
                        chunk = file.read(min(left, _COPY))
                        if not chunk:
                            raise WriteError(
                                f"{self._store.place}/{ASIDE}/{part}.tar: is cut short; remove it and run again"
                            )
                        left -= len(chunk)
                        yield sample, chunk

    @contextmanager
    def _reading(self, part: str) -> Iterator[IO[bytes]]:
        try:
            with self._store.reading(f"{ASIDE}/{part}.tar") as file:
                yield file
        except FileNotFoundError as error:
            raise WriteError(
                f"{self._store.place}/{ASIDE}/{part}.tar: is gone, and not in a shard yet; remove {ASIDE} and run again"
            ) from error

    def _rows_of_parquet(self, samples: Sequence[_Sample]) -> Iterator[Row]:
        held: list[bytes] = []
        current: _Sample | None = None
        for sample, chunk in self._chunks(samples):
            if current is not None and sample is not current:
                yield sample_row(current.row, members_of(b"".join(held)))
                held = []
            current = sample
            held.append(chunk)
        if current is not None:
            yield sample_row(current.row, members_of(b"".join(held)))


def written_shards(store: Store) -> dict[str, tuple[Shard, list[str]]]:
    """Of a job that is not finished: name -> the shard, and the parts that have samples in it."""
    found = {}
    for split in SPLITS:
        for record in store.names(f"{ASIDE}/{split}"):
            document = json.loads(store.read(f"{ASIDE}/{split}/{record}"))
            shard = Shard(**document["shard"])
            if store.size(shard.name) == shard.bytes:
                found[shard.name] = shard, document["parts"]
    return found


class _Counted:
    """A file that is written to, how long it is, and its digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size, self.digest = 0, hashlib.sha256()
        self.closed = False

    def write(self, data: Any) -> int:
        view = bytes(data)
        self._file.write(view)
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


def members_of(data: bytes) -> dict[str, bytes]:
    """Name -> bytes of the members of a piece of a tar file, in order."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data + bytes(2 * tarfile.BLOCKSIZE))) as archive:
        for info in archive:
            file = archive.extractfile(info)
            assert file is not None  # nothing but files is written
            found[info.name] = file.read()
    return found


def sample_row(row: Row, members: Mapping[str, bytes]) -> Row:
    """A sample as a row of a Parquet file: its facts as JSON, and each stream's file."""
    key = row["key"]
    label = row["label"]
    found: Row = {
        "key": key,
        "event": row["event"],
        "label": label if isinstance(label, str) or label is None else json.dumps(label, ensure_ascii=False),
        "start": row["start"],
        "duration": row["duration"],
        "json": members[f"{key}.json"].decode(),
    }
    for name, facts in row["streams"].items():
        file = f"{key}.{facts['file']}"
        found[name] = {"bytes": members[file], "path": file}
    return found


def write_parquet(file: Any, rows: Iterator[Row], recipe: Recipe) -> None:
    """Rows in groups of 100: one can be read without the others."""
    pa, pq = arrow()
    assert recipe.streams is not None  # see `prepare`
    kept = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [("key", pa.string()), ("event", pa.string()), ("label", pa.string()), ("start", pa.float64()),
               ("duration", pa.float64()), ("json", pa.string())]  # fmt: skip
    columns += [(name, kept) for name in recipe.streams]
    schema = pa.schema(columns)
    features: dict[str, Any] = {
        name: {"dtype": "float64" if kind == pa.float64() else "string", "_type": "Value"}
        for name, kind in columns[:6]
    }  # fmt: skip
    for name in recipe.streams:
        features[name] = _feature(recipe, name)
    info = json.dumps({"info": {"features": features}})
    schema = schema.with_metadata({"huggingface": info})
    with pq.ParquetWriter(file, schema, compression="none", store_schema=True) as writer:
        while group := list(islice(rows, 100)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _feature(recipe: Recipe, name: str) -> dict[str, Any]:
    """What Hugging Face's `datasets` makes of a column."""
    assert recipe.streams is not None
    choices = recipe.streams[name]
    stream = (choices if isinstance(choices, str) else choices[0]).rpartition("/")[2].partition("-")[0]
    kind = None if name in recipe.transforms else _FEATURES.get(stream)
    if kind is not None:
        return {"_type": kind}
    return {"bytes": {"dtype": "binary", "_type": "Value"}, "path": {"dtype": "string", "_type": "Value"}}


def arrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet. Raises StreamError where it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise StreamError("format parquet: pyarrow is not installed; expected pip install 'avfuse[scale]'") from error
    return pa, pq
