"""The whole job: a manifest of raw recordings -> shards, with what was found and decided.

    events --(pool of processes, or Ray)--> parts --(one packer, in the manifest's order)--> shards, manifest, errors

What is done stays done: a job that is killed and started again finishes with the same bytes.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Literal, get_args

from avfuse import __version__
from avfuse.cores import cores
from avfuse.errors import AvfuseError, StreamError, WriteError
from avfuse.manifests import SPLITS, Event, read_manifest, split_events
from avfuse.manifests.places import file_system, is_url
from avfuse.preparation.cutting import load_function
from avfuse.preparation.events import Part, UnreadableError, dropped_row, error_row, prepare_event
from avfuse.preparation.keeping import SPOOL
from avfuse.preparation.pool import Bounds, Failed, run_tasks
from avfuse.preparation.recipe import RECIPE, Recipe
from avfuse.preparation.shards import (
    ERRORS,
    FACTS,
    FORMAT,
    MANIFEST,
    RECORD,
    Packer,
    Row,
    Shard,
    arrow,
    written_shards,
)
from avfuse.preparation.store import ASIDE, Store

Engine = Literal["pool", "ray"]
Tell = Callable[[float, str], None]
_PAGES = ("README.md", "index.html", "examples")
_EXAMPLES = 6  # samples to look at on the page


@dataclass(frozen=True)
class Prepared:
    """What was made. place: the folder; shards: in order of names; decisions: of samples and dropped events.

    splits: name -> events, samples, duration in seconds. errors: lines of the error manifest. rows: of a dry run, what
    would be done; empty where shards were written, since they stand in the manifest. before: all of it was there
    already, and nothing was done. It goes where a path of its folder does.
    """

    place: str
    shards: tuple[Shard, ...]
    decisions: Mapping[str, int]
    splits: Mapping[str, Mapping[str, float]]
    errors: tuple[Mapping[str, Any], ...]
    rows: tuple[Mapping[str, Any], ...] = ()
    before: bool = False

    def __fspath__(self) -> str:
        return self.place

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Work:
    """What a worker does with a task: everything of one event, once. place: where parts go; None writes nothing."""

    recipe: Recipe
    place: str | None

    def __call__(self, task: Task) -> Part:
        with tempfile.TemporaryDirectory(prefix="avfuse-") as folder:
            if self.place is None:
                return self._made(task, None, Path(folder))
            store, print_ = Store(self.place), fingerprint(task, self.recipe)
            record, members = f"{ASIDE}/{task.name}.json", f"{ASIDE}/{task.name}.tar"
            if store.exists(record):
                found = json.loads(store.read(record))
                same = found.pop("fingerprint") == print_ and store.exists(members)
                # What is in a shard stays in it, even if its recordings have changed since.
                if same or task.packed:
                    return Part(**found)
            with store.writing(members) as out:
                part = self._made(task, out, Path(folder))
            # Last: where it is there, all of it is.
            document = {"fingerprint": print_, **json.loads(part.to_json())}
            store.write(record, json.dumps(document, ensure_ascii=False).encode())
            return part

    def _made(self, task: Task, out: IO[bytes] | None, folder: Path) -> Part:
        event, began = task.event, time.perf_counter()
        try:
            return prepare_event(event, task.split, self.recipe, out, folder, SPOOL)
        except UnreadableError as error:
            errors = error.rows
        except WriteError:  # the job's business
            raise
        except AvfuseError as error:
            errors = [error_row(event, None, type(error).__name__, str(error))]
        if out is not None:
            out.seek(0)
            out.truncate()
        reasons = [f"{line['source'] or event.name}: {line['message']}" for line in errors]
        return Part([dropped_row(event, task.split, reasons)], errors, took=time.perf_counter() - began)


@dataclass(frozen=True)
class Task:
    """number: of the event in the manifest. packed: some of its samples are in a shard already."""

    number: int
    event: Event
    split: str
    packed: bool = False

    @property
    def name(self) -> str:
        return f"{self.number:07d}"


def fingerprint(task: Task, recipe: Recipe) -> str:
    """Of all that a part follows from: the event, its files' sizes and times of change, and the recipe."""
    stamps: dict[str, list[Any] | None] = {}
    for role, path in task.event.files.items():
        try:
            if is_url(path):
                system, inside = file_system(path)
                found = system.info(inside)
                stamps[role] = [found.get("size"), str(found.get("mtime") or found.get("LastModified") or "")]
            else:
                stat = os.stat(path)
                stamps[role] = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            stamps[role] = None
    told = [__version__, _facts_of(task.event), task.split, stamps, recipe.to_json()]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _facts_of(event: Event) -> dict[str, Any]:
    found = asdict(event)
    for key in ("files", "where"):  # where it lies is no part of what it is
        del found[key]
    return found


def prepare(
    manifest: str | os.PathLike[str] | Sequence[Event],
    output: str | os.PathLike[str],
    recipe: Recipe = RECIPE,
    *,
    workers: int | None = None,
    engine: Engine = "pool",
    ray_address: str | None = None,
    retries: int = 2,
    memory: float | None = 4.0,
    time_limit: float | None = None,
    dry_run: int = 0,
    progress: Tell | None = None,
) -> Prepared:
    """Turn raw recordings into synchronised, windowed, filtered, documented shards.

    manifest: file, folder or pattern, see `avfuse.manifests.read_manifest`; or events. output: folder, or an address of
        fsspec. recipe: what is made of every event.
    workers: processes, or Ray tasks, at once; None takes one for each core. engine: "pool" needs nothing else, "ray"
        runs on Ray, on this machine or at `ray_address`; nodes must see input and output under the same names.
    retries: further tries of an event whose process died. memory: GiB that each process may take. time_limit: seconds
        for an event. Events beyond these go into the error manifest, the others go on.
    dry_run: tells what would be done to so many samples, and writes nothing.
    progress: called with (share done, what is being done).

    The same manifest and recipe give the same bytes, with the same libraries on one kind of machine, whatever the
    engine, the number of workers, and interruptions. Run again, a job goes on where it was stopped.
    Raises ReadError for a manifest that cannot be read, StreamError for arguments that do not fit or a folder that
    holds something else, WriteError where nothing can be written.
    """
    _check(recipe, workers, engine, ray_address, retries, memory, time_limit, dry_run)
    if isinstance(manifest, str | os.PathLike):
        events, name = read_manifest(manifest, missing="keep"), os.path.basename(os.path.normpath(os.fspath(manifest)))
    else:
        events, name = list(manifest), "events"
    splits = _splits(events, recipe)
    tasks = [Task(number, _placed(event), splits[event.name]) for number, event in enumerate(events)]
    job = _Job(Store(output), recipe, name, tasks, progress or (lambda share, text: None))
    bounds = Bounds(None if memory is None else memory * 2**30, time_limit, retries)
    if dry_run:
        return job.imagine(_engine(engine, Work(recipe, None), tasks, workers, ray_address, bounds), dry_run)
    if (found := job.finished()) is not None:
        return found
    place = os.fspath(output)
    if place.startswith("memory:"):
        raise StreamError(f"{place}: only the process that writes there sees it; expected a folder or another address")
    job.check()
    job.store.prepare()
    with job.store.alone(f"{ASIDE}/lock"):
        if (found := job.finished()) is not None:  # by who was at it until now
            return found
        job.begin()
        work = Work(recipe, place if is_url(place) else os.path.abspath(place))
        with closing(_engine(engine, work, job.tasks, workers, ray_address, bounds)) as parts:
            return job.run(parts)


def _placed(event: Event) -> Event:
    """The event with paths that are the same in every process."""
    files = {role: path if is_url(path) else os.path.abspath(path) for role, path in event.files.items()}
    return replace(event, files=files, sources=event.sources or dict(event.files))


def _check(
    recipe: Recipe,
    workers: int | None,
    engine: str,
    address: str | None,
    retries: int,
    memory: float | None,
    limit: float | None,
    dry: int,
) -> None:
    for name, value, fits, expected in (
        ("workers", workers, workers is None or workers >= 1, "1 or more"),
        ("engine", engine, engine in get_args(Engine), "pool or ray"),
        ("retries", retries, retries >= 0, "0 or more"),
        ("memory", memory, memory is None or memory > 0, "GiB, more than 0"),
        ("time_limit", limit, limit is None or limit > 0, "seconds, more than 0"),
        ("dry_run", dry, dry >= 0, "samples, 0 or more"),
    ):
        if not fits:
            raise StreamError(f"prepare: {name} {value!r}; expected {expected}")
    if engine == "ray":
        from avfuse.preparation.on_ray import check_ray

        check_ray()
    elif address is not None:
        raise StreamError(f"prepare: ray_address {address!r}, and the engine is {engine}; expected engine ray")
    for modality, place in recipe.transforms.items():
        if place.startswith("__main__:"):
            raise StreamError(f"transform {place!r}: is the script; expected a module that workers can import")
        load_function(place)
        if recipe.streams is not None and modality not in recipe.streams:
            raise StreamError(f"transforms: {modality!r} is no modality; expected some of {', '.join(recipe.streams)}")
    if recipe.format == "parquet":
        arrow()
        if recipe.streams is None:
            raise StreamError(
                "format parquet: no streams are named; expected some, such as sound=camera/sound: all rows of a table "
                "have the same columns"
            )


def _splits(events: Sequence[Event], recipe: Recipe) -> dict[str, str]:
    """Event -> split."""
    if not recipe.validation and not recipe.test:
        return {event.name: event.split or "train" for event in events}
    found = split_events(events, validation=recipe.validation, test=recipe.test, seed=recipe.seed)
    return {event.name: split for split, part in found.items() for event in part}


def _engine(
    engine: str, work: Work, tasks: Sequence[Task], workers: int | None, address: str | None, bounds: Bounds
) -> Generator[Part | Failed, None, None]:
    if engine == "ray":
        from avfuse.preparation.on_ray import run_on_ray

        return run_on_ray(work, tasks, workers=workers, address=address, bounds=bounds)
    count = min(workers or cores(), len(tasks))
    # Enough that nobody waits for one long event, and few enough that what waits to be packed fits on the disk.
    return run_tasks(work, tasks, workers=count, ahead=8 * count + 32, bounds=bounds)


@dataclass
class _Job:
    store: Store
    recipe: Recipe
    manifest: str
    tasks: Sequence[Task]
    tell: Tell
    decisions: Counter[str] = field(default_factory=Counter)
    splits: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[Row] = field(default_factory=list)

    @property
    def digest(self) -> str:
        told = [_facts_of(task.event) | {"split": task.split} for task in self.tasks]
        document = [FORMAT, __version__, self.recipe.to_json(), told]
        return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()

    def finished(self) -> Prepared | None:
        """What is there already. Raises StreamError where that is something else."""
        if not self.store.exists(FACTS):
            return None
        found = _prepared_from(self.store, self._same(FACTS))
        self.store.remove(ASIDE)  # where it was killed just before it did so itself
        return replace(found, before=True)

    def _same(self, name: str) -> Row:
        try:
            found: Row = json.loads(self.store.read(name))
        except ValueError:
            found = {}
        if found.get("job") != self.digest:
            raise StreamError(
                f"{self.store.place}: holds what another manifest, recipe or version of avfuse made; expected a new "
                "folder, or the same job to go on with"
            )
        return found

    def check(self) -> None:
        """Raises StreamError where what is there is not the beginning of this."""
        if self.store.exists(RECORD):
            if self._begun():
                self._same(RECORD)
        elif foreign := sorted({*self.store.names("")}.intersection((MANIFEST, ERRORS, *_PAGES, *SPLITS))):
            raise StreamError(f"{self.store.place}: holds {foreign[0]} of something else; expected a new folder")

    def _begun(self) -> bool:
        """Whether anything was made: a job that failed before that is in nobody's way."""
        return any(name not in ("job.json", "lock") for name in self.store.names(ASIDE))

    def begin(self) -> None:
        if self._begun():
            packed = {part for _, parts in written_shards(self.store).values() for part in parts}
            self.tasks = [replace(task, packed=task.name in packed) for task in self.tasks]
        else:
            self.store.write(RECORD, json.dumps({"format": FORMAT, "job": self.digest}).encode())

    def imagine(self, parts: Generator[Part | Failed, None, None], wanted: int) -> Prepared:
        rows: list[Row] = []
        with closing(parts):
            for done, (task, part) in enumerate(zip(self.tasks, parts, strict=False), 1):
                rows += self._settled(task, part).rows
                self.tell(min(1.0, len(rows) / wanted), f"looked at {done} events")
                if len(rows) >= wanted:
                    break
        rows = rows[:wanted]
        for _, those in groupby(rows, key=lambda row: row["event"]):
            self._count(list(those))
        return Prepared(self.store.place, (), dict(self.decisions), self.splits, tuple(self.errors), tuple(rows))

    def run(self, parts: Iterable[Part | Failed]) -> Prepared:
        packer = Packer(self.store, self.recipe)
        pace = _Pace(len(self.tasks), self.tell)
        examples = _Examples()
        with tempfile.TemporaryFile("w+", encoding="utf-8", prefix="avfuse-") as rows:
            for task, found in zip(self.tasks, parts, strict=True):
                part = self._settled(task, found)
                for row in packer.add(task.name, part.rows):
                    rows.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                    examples.add(row)
                self._count(part.rows)
                pace.done(part.seconds, made=isinstance(found, Failed) or found.took > 0)
            shards = packer.finish()
            rows.seek(0)
            with self.store.writing(MANIFEST) as out:
                for line in rows:
                    out.write(line.encode())
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.errors)
            self.store.write(ERRORS, lines.encode())
            facts = self._facts(shards)
            self._document(facts, rows, examples)
        self.store.write(FACTS, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())
        self.store.remove(ASIDE)
        self.tell(1.0, "done")
        return _prepared_from(self.store, facts)

    def _settled(self, task: Task, found: Part | Failed) -> Part:
        """The part, or what stands for one that could not be made."""
        if isinstance(found, Failed):
            if found.kind == "WriteError":  # no fault of the event: all of them would be lost
                raise WriteError(found.message)
            message = found.message
            errors = [error_row(task.event, None, found.kind, message, found.attempts)]
            found = Part([dropped_row(task.event, task.split, [f"{task.event.name}: {message}"])], errors)
        self.errors += found.errors
        return found

    def _count(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.decisions[row["decision"]] += 1
        kept = [row for row in rows if row["decision"] != "drop"]
        if kept:
            split = self.splits.setdefault(kept[0]["split"], {"events": 0, "samples": 0, "duration": 0.0})
            split["events"] += 1
            split["samples"] += len(kept)
            split["duration"] += sum(row["duration"] for row in kept)

    def _facts(self, shards: Sequence[Shard]) -> Row:
        return {
            "format": FORMAT,
            "avfuse": __version__,
            "job": self.digest,
            "manifest": self.manifest,
            "recipe": self.recipe.to_json(),
            "events": len(self.tasks),
            "splits": dict(sorted(self.splits.items())),
            "decisions": {name: self.decisions[name] for name in ("keep", "correct", "drop")},
            "errors": len(self.errors),
            "shards": [asdict(shard) for shard in shards],
        }

    def _document(self, facts: Row, rows: IO[str], examples: _Examples) -> None:
        """The dataset card and the page, with examples to look at."""
        from avfuse.preparation.examples import write_example
        from avfuse.reporting.dataset import dataset_card
        from avfuse.reporting.dataset_page import statistics_page

        def listed() -> Iterator[Row]:
            rows.seek(0)
            return (json.loads(line) for line in rows)

        shown = [write_example(self.store, row, place) for row, place in examples.chosen()]
        card, page = _PAGES[:2]
        self.store.write(card, dataset_card(facts, listed(), self.errors).encode())
        self.store.write(page, statistics_page(facts, listed(), self.errors, shown).encode())


class _Examples:
    """A few samples, each of another event, chosen by digests of their names: the same ones whatever came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Row, int]] = []
        self._places: Counter[str] = Counter()
        self._seen = 0
        self._best: tuple[int, Row, int] | None = None  # of the event whose samples are coming

    def add(self, row: Row) -> None:
        if row["shard"] is None:
            return
        place = self._places[row["shard"]]
        self._places[row["shard"]] += 1
        found = (_rank(row["key"]), row, place)
        if self._best is not None and self._best[1]["event"] == row["event"]:
            self._best = min(self._best, found, key=lambda item: item[0])
        else:
            self._settle()
            self._best = found

    def _settle(self) -> None:
        if self._best is None:
            return
        _, row, place = self._best
        self._seen += 1
        item = (-_rank(row["event"]), self._seen, row, place)
        if len(self._heap) < _EXAMPLES:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def chosen(self) -> list[tuple[Row, int]]:
        """Rows in the order of the manifest, and which sample of its shard each is."""
        self._settle()
        self._best = None
        return [(row, place) for _, _, row, place in sorted(self._heap, key=lambda item: item[1])]


def _rank(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


class _Pace:
    """How fast it goes, and how long it will take; what an earlier run made tells nothing of that."""

    def __init__(self, count: int, tell: Tell) -> None:
        self._count, self._tell = count, tell
        self._began = time.monotonic()
        self._done, self._made, self._media = 0, 0, 0.0

    def done(self, seconds: float, *, made: bool) -> None:
        self._done += 1
        text = f"{self._done:,} of {self._count:,} events"
        if made:
            self._made += 1
            self._media += seconds
        if self._made:
            took = max(time.monotonic() - self._began, 1e-3)
            left = took / self._made * (self._count - self._done)
            text += f", {self._media / took:.1f} h of media an hour, {_span(left)} left"
        self._tell(self._done / self._count, text)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _prepared_from(store: Store, facts: Row) -> Prepared:
    errors = [json.loads(line) for line in store.read(ERRORS).decode().splitlines()]
    shards = tuple(Shard(**shard) for shard in facts["shards"])
    return Prepared(store.place, shards, facts["decisions"], facts["splits"], tuple(errors))
