"""Every window comes once an epoch, in an order that the seed fixes, in one process or in several."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from avfuse import ReadError, StreamError
from avfuse.batches import Samples, Window
from avfuse.manifests import Event, Span
from avfuse.nn import shards as stored
from avfuse.nn.data import HeldWindows, Pass, WindowsOfEvents, batches, loader, tensors
from avfuse.nn.shards import StoredWindows
from avfuse.nn.timed import Timed
from avfuse.preparation import Recipe, cuts, prepare, read_windows


def window(event: str, number: int, count: int = 3) -> Window:
    times = np.arange(count) / 10 + number
    return Window(
        event, float(number), 1.0, {"imu": Samples(np.full((count, 2), number), times, np.ones(count, bool))}, number
    )


BROKEN = -1  # label of a window that holds NaN


def cut(event: int, count: int = 5, *, broken: int | None = None) -> Iterator[Window]:
    """Windows of an event; module level, so that it can be sent to a process."""
    for k in range(count):
        made = window(f"e{event}", 100 * event + k)
        nan = replace(made.samples["imu"], values=np.full((3, 2), np.nan))
        yield replace(made, samples={"imu": nan}, label=BROKEN) if k == broken else made


EVENTS = [functools.partial(cut, n) for n in range(7)]
ALL = sorted(100 * n + k for n in range(7) for k in range(5))


def labels(found) -> list[int]:
    return [label for _, each in found for label in each]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("alike", [False, True])
def test_processes_share_the_windows_of_an_epoch(ranks: int, alike: bool) -> None:
    windows = [window("e", k, 1 + k % 9) for k in range(61)]
    shares = [
        [n for batch in batches(windows, 8, seed=4, epoch=2, rank=r, ranks=ranks, alike=alike) for n in batch.labels]
        for r in range(ranks)
    ]
    assert {len(share) for share in shares} == {-(-61 // ranks)}
    assert set().union(*shares) == set(range(61))
    again = [n for batch in batches(windows, 8, seed=4, epoch=2, ranks=ranks, alike=alike) for n in batch.labels]
    assert again == shares[0]
    other = [n for batch in batches(windows, 8, seed=4, epoch=3, ranks=ranks, alike=alike) for n in batch.labels]
    assert other != shares[0]


def test_windows_that_are_alike_need_little_padding() -> None:
    rng = np.random.default_rng(0)
    windows = [window("e", k, int(n)) for k, n in enumerate(rng.integers(1, 200, 400))]
    padding = {
        alike: np.mean([1 - b["imu"].valid.mean() for b in batches(windows, 16, seed=1, alike=alike)])
        for alike in (False, True)
    }
    assert padding[False] > 0.4
    assert padding[True] < 0.08
    first = [next(batches(windows, 16, seed=1, epoch=e, alike=True))["imu"].values.shape[1] for e in range(20)]
    assert len(set(first)) > 5  # short ones do not always come first
    with pytest.raises(StreamError, match="alike, and no seed"):
        next(batches(windows, 16, alike=True))


def test_windows_that_are_cut_while_read_come_once_an_epoch_in_an_order_of_the_seed() -> None:
    assert labels(loader(EVENTS, 4)) == ALL
    found = labels(loader(EVENTS, 4, seed=1, buffer=6))
    assert sorted(found) == ALL
    assert found != ALL
    torch.manual_seed(99)  # whatever else draws
    assert labels(loader(EVENTS, 4, seed=1, buffer=6)) == found
    assert labels(loader(EVENTS, 4, seed=1, buffer=6, epoch=1)) != found
    assert labels(loader(EVENTS, 4, seed=2, buffer=6)) != found


def test_no_more_is_held_than_the_buffer() -> None:
    read = 0

    def counted() -> Iterator[Window]:
        nonlocal read
        for made in cut(0, 100):
            read += 1
            yield made

    for given, _ in enumerate(WindowsOfEvents([counted], seed=0, buffer=10)):
        assert read - given <= 11
    mixed = [w.label for w in WindowsOfEvents([functools.partial(cut, 0, 100)], seed=0, buffer=30)]
    assert min(mixed[:10]) < 30 < max(mixed[:60])


def test_spawned_processes_read_their_share_of_the_events_and_tell_what_is_wrong_with_it() -> None:
    events = [*EVENTS[:6], functools.partial(cut, 6, broken=3)]
    dataset = WindowsOfEvents(events, seed=3)
    shares = [[w.label for w in dataset.share(k, 2)] for k in range(2)]
    assert sorted(n for share in shares for n in share if n != BROKEN) == [n for n in ALL if n != 603]
    turns = [tuple(share[first : first + 2]) for first in range(0, 20, 2) for share in shares if share[first:]]
    bad = next(k for k, turn in enumerate(turns) if BROKEN in turn)
    assert bad > 1
    found = iter(loader(events, 2, seed=3, workers=2))
    assert [next(found)[1] for _ in range(bad)] == turns[:bad]
    with pytest.raises(StreamError, match="NaN or infinite values that are said to be valid"):
        next(found)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(StreamError, match="0 events in batches of 4"):
        loader([], 4)
    with pytest.raises(StreamError, match="cannot be sent to another process"):
        loader([lambda: iter(())], 4, workers=2)
    with pytest.raises(StreamError, match="0 windows in batches of 4"):
        next(batches([], 4))


def test_tensors_move_with_their_times() -> None:
    timed, told = tensors([window("a", 3), window("b", 5, 2)])
    assert told == (3, 5)
    moved = timed["imu"].to("meta", non_blocking=True)
    assert isinstance(moved, Timed)
    assert {getattr(moved, n).device.type for n in ("values", "times", "valid", "present", "confidence", "std")} == {
        "meta"
    }
    assert timed["imu"].times.dtype == torch.float64
    if torch.cuda.is_available():
        pinned, _ = next(iter(loader(EVENTS, 4, pinned=True)))
        assert pinned["imu"].values.is_pinned()
        assert pinned["imu"].times.is_pinned()


LEARNED, SHARD = 7, 8  # events of training; samples in a shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of a log of 6.1 s, a window each second; the first window of event 0 has no label, event 9 has none."""
    root = tmp_path_factory.mktemp("logs")
    events = []
    for n in range(LEARNED + 3):
        rows = [f"{k / 10:.1f},{1000 * n + k},{k % 7}" for k in range(61)]
        (root / f"{n}.csv").write_text("t,a,b\n" + "\n".join(rows) + "\n")
        spans = (Span(1.0, 9.0, "x"),) if n == 0 else ()
        label = None if n in (0, 9) else "xy"[n % 2]
        events.append(Event(f"e{n}", {"watch": str(root / f"{n}.csv")}, label, spans,
                            "train" if n < LEARNED else "validation", sources={"watch": f"{n}.csv"}))  # fmt: skip
    recipe = Recipe(duration=1.0, streams={"imu": "watch/other"}, shard=SHARD)
    prepare(events, root / "shards", recipe, workers=1)
    return root / "shards"


def told(found) -> list[tuple[str, int]]:
    """Which windows these batches hold, in order: event, and the first value that was logged."""
    return [
        (event, int(value))
        for timed, _, events in found
        for event, value in zip(events, timed["imu"].values[:, 0, 0].tolist(), strict=True)
    ]


EVERY = sorted((f"e{n}", 1000 * n + 10 * k) for n in range(LEARNED) for k in range(6) if (n, k) != (0, 0))


def test_a_loader_of_shards_gives_each_window_once_an_epoch_from_spawned_processes(shards: Path) -> None:
    wanted = sorted(float(w.samples["imu"].values[0, 0]) for w in read_windows(shards))
    assert len(wanted) == 6 * LEARNED
    for workers in (0, 2):
        found = [float(v) for timed, _ in loader(cuts(shards, "train"), 4, seed=0, workers=workers)
                 for v in timed["imu"].values[:, 0, 0]]  # fmt: skip
        assert sorted(found) == wanted
        assert found != wanted


def test_no_event_is_in_two_splits_of_shards_and_one_that_is_is_told(shards: Path, tmp_path: Path) -> None:
    events = {split: {w.event for w in read_windows(shards, split=split)} for split in ("train", "validation")}
    assert all(events.values())
    assert events["train"].isdisjoint(events["validation"])
    for path in shards.glob("*/*.tar"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "prepare.json").write_text((shards / "prepare.json").read_text())
    rows = (shards / "manifest.jsonl").read_text()
    (tmp_path / "manifest.jsonl").write_text(rows.replace('"event": "e7"', '"event": "e2"'))
    with pytest.raises(ReadError, match="e2 is in train and validation; prepare it again"):
        StoredWindows(tmp_path, {"imu": "imu"}, 4)
    (tmp_path / "manifest.jsonl").write_text("".join(rows.splitlines(True)[1:]))
    with pytest.raises(ReadError, match=r"prepare\.json tells of 8 samples, and manifest\.jsonl of 7"):
        StoredWindows(tmp_path, {"imu": "imu"}, 4)


def test_stored_windows_come_once_an_epoch_in_an_order_of_the_seed_alone(shards: Path) -> None:
    alone, helped = StoredWindows(shards, {"imu": "imu"}, 4), StoredWindows(shards, {"imu": "imu"}, 4, workers=2)
    assert told(alone.batches(Pass("train"))) == EVERY
    orders = []
    for epoch in (0, 1):
        each = Pass("train", 5, epoch)
        order = told(alone.batches(each))
        assert sorted(order) == EVERY
        assert told(helped.batches(each)) == order
        assert told(StoredWindows(shards, {"imu": "imu"}, 4).batches(each)) == order
        orders.append(order)
    assert orders[0] != orders[1] != EVERY
    # From another split in between, and back.
    assert {event for event, _ in told(helped.batches(Pass("validation")))} == {"e7", "e8"}
    assert told(helped.batches(Pass("train", 5, 0))) == orders[0]
    assert alone.left_out[0].endswith("train: 1 windows without a label")
    assert alone.left_out[1].endswith("validation: 6 windows without a label")
    assert alone.labels == ["x"] * 5 + [label for n in range(1, LEARNED) for label in 6 * ["xy"[n % 2]]]


@pytest.mark.parametrize("ranks", [2, 3, 50])
def test_ranks_share_stored_windows_equally(shards: Path, ranks: int) -> None:
    source = StoredWindows(shards, {"imu": "imu"}, 4)
    shares = [told(source.batches(Pass("train", 5, 2, rank, ranks))) for rank in range(ranks)]
    assert {len(share) for share in shares} == {-(-len(EVERY) // ranks)}
    assert sorted({one for share in shares for one in share}) == EVERY
    assert all(len(set(share)) == len(share) for share in shares)


def test_few_stored_windows_are_held_and_read(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_HELD", 6)
    read, opened = 0, set()

    def counted(*given, read_on=stored.samples_in):
        nonlocal read
        opened.add(given[1])
        for sample in read_on(*given):
            read += 1
            yield sample

    monkeypatch.setattr(stored, "samples_in", counted)
    source = StoredWindows(shards, {"imu": "imu"}, 4)
    given, far = [], 0
    for timed, _, events in source.batches(Pass("train", 5)):
        given += told([(timed, None, events)])
        far = max(far, read - len(given))
    assert sorted(given) == EVERY
    assert read <= len(EVERY) + 1  # each once, and the one without a label
    assert far <= 6 + 1
    # A process that makes every tenth batch alone lets go of what the others make.
    dataset = StoredWindows(shards, {"imu": "imu"}, 2)._loader.dataset
    for number in (0, 10, 20):
        dataset[Pass("train", 5), number]
        assert len(dataset._reader._held) <= 6
    # Few are mixed, so passes begin elsewhere, each time.
    begun = [told(source.batches(Pass("train", 5, epoch)))[0][0] for epoch in range(12)]
    assert len(set(begun)) >= 4
    monkeypatch.setattr(stored, "ENOUGH", 10)
    monkeypatch.setattr(stored, "_SHARDS", 3)
    read, opened = 0, set()
    some = source.some("imu")
    assert 5 <= len(some) <= 10
    assert len(opened) == 3
    assert read <= 3 * SHARD
    assert len({w.event for w in some}) >= 3


def test_stored_and_held_windows_tell_a_network_the_same(shards: Path) -> None:
    windows = {split: list(read_windows(shards, split=split)) for split in ("train", "validation")}
    windows = {split: [w for w in found if w.label is not None] for split, found in windows.items()}
    held, source = HeldWindows(windows, 4), StoredWindows(shards, {"motion": "imu"}, 4)
    assert source.splits == held.splits == ["train", "validation"]
    assert [source.count(split) for split in source.splits] == [len(EVERY), 12]
    assert source.labels == held.labels
    assert source.widths == {"motion": 2} == {"motion": held.widths["imu"]}
    theirs, ours = held.some("imu"), source.some("motion")
    assert len(ours) == len(theirs) == len(EVERY)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.samples["motion"].values, other.samples["imu"].values)


def test_shards_that_do_not_fit_are_told(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"\[modalities.sound\]: 'sound' is not in .*; its windows have imu"):
        StoredWindows(shards, {"sound": "sound"}, 4)
    rows = [json.loads(line) for line in (shards / "manifest.jsonl").read_text().splitlines()]
    facts = json.loads((shards / "prepare.json").read_text())
    facts["shards"] = [shard for shard in facts["shards"] if shard["split"] == "train"]
    del facts["splits"]["validation"]
    (tmp_path / "prepare.json").write_text(json.dumps(facts))
    kept = [row for row in rows if row["split"] == "train"]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    with pytest.raises(StreamError, match=r"no window of validation; it has 42 windows of train.*--validation 0\.2"):
        StoredWindows(tmp_path, {"imu": "imu"}, 4)
    bare = [{**row, "label": None} for row in rows]
    (tmp_path / "prepare.json").write_text((shards / "prepare.json").read_text())
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in bare))
    with pytest.raises(StreamError, match="none of the 42 windows of train has a label"):
        StoredWindows(tmp_path, {"imu": "imu"}, 4)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_told_in_one_line(shards: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    whole = (copy / "train" / "000002.tar").read_bytes()
    (copy / "train" / "000002.tar").write_bytes(whole[: len(whole) // 2])
    source = StoredWindows(copy, {"imu": "imu"}, 4, workers=workers)
    found = source.batches(Pass("train"))
    assert told([next(found)]) == EVERY[:4]
    with pytest.raises(ReadError, match=r"^[^\n]*train/000002.tar: [^\n]*prepare it again$"):
        list(found)
