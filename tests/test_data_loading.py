"""Every window comes once an epoch, in an order that the seed fixes, in one process or in several."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from avfuse import StreamError
from avfuse.batches import Samples, Window
from avfuse.nn.data import WindowsOfEvents, batches, loader, tensors
from avfuse.nn.timed import Timed


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
