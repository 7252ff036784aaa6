"""Windows as batches of tensors, in an order that a seed fixes.

batches        windows in memory -> `Batch`es of NumPy, shared out among processes
loader         windows that are cut while they are read, by processes of their own -> tensors
tensors        windows -> tensors and labels: what any other DataLoader needs as `collate_fn`
HeldWindows    what a training run learns from, in memory; `avfuse.nn.shards` has the same from shards
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avfuse.batches import Batch, Window, collate
from avfuse.errors import StreamError
from avfuse.nn.timed import Timed, to_timed

Cut = Callable[[], Iterable[Window]]
TensorBatch = tuple[dict[str, Timed], tuple[Any, ...]]
Drawn = tuple[dict[str, Timed], tuple[Any, ...], tuple[str, ...]]  # modality -> Timed, labels, events
_CHUNK = 32  # batches among which windows of like length are looked for
ENOUGH = 1000  # windows that say enough of a mean


def batches(
    windows: Sequence[Window],
    size: int,
    *,
    seed: int | None = None,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
    alike: bool = False,
) -> Iterator[Batch]:
    """Batches of `size` windows; the last one may be smaller.

    seed, epoch: shuffle, the same for the same numbers; seed None keeps the order. rank, ranks: this process and how
    many there are; each gets as many windows as the others, the first ones again where they do not share out evenly.
    alike: of windows that hold about as much, so that little is padded: those of 32 batches are sorted by how many
    samples they have, then cut, and the batches shuffled; needs a seed.
    Raises StreamError where there are no windows, or a size is not positive.
    """
    if not windows or size < 1:
        raise StreamError(f"batches: {len(windows)} windows in batches of {size}; expected one or more of each")
    if alike and seed is None:
        raise StreamError("batches: alike, and no seed; expected a seed: windows that are alike are not in order")
    order = torch.arange(len(windows))
    random = None if seed is None else _generator(seed, epoch)
    if random is not None:
        order = torch.randperm(len(windows), generator=random)
    each = -(-len(windows) // ranks)
    mine = order.repeat(ranks)[: each * ranks][rank::ranks]
    if alike:
        lengths = torch.tensor([sum(len(s.times) for s in window.samples.values()) for window in windows])
        mine = torch.cat([part[torch.argsort(lengths[part], stable=True)] for part in mine.split(_CHUNK * size)])
    cut = mine.split(size)
    chosen = torch.randperm(len(cut), generator=random).tolist() if alike else range(len(cut))
    for k in chosen:
        yield collate([windows[n] for n in cut[k].tolist()])


def tensors(windows: Sequence[Window]) -> TensorBatch:
    """(modality -> Timed, labels), padded by `collate`, which tells of what does not fit."""
    batch = collate(windows)
    return to_timed(batch), batch.labels


def loader(
    cuts: Sequence[Cut],
    size: int,
    *,
    seed: int | None = None,
    epoch: int = 0,
    buffer: int = 256,
    workers: int = 0,
    pinned: bool = False,
) -> Iterable[TensorBatch]:
    """A DataLoader of batches of windows that are cut while they are read: `buffer` of them are held, not all.

    cuts: one for each event, called without arguments: `functools.partial(avfuse.windows, "alignment.json",
        duration=1.0, label=3)`. size: windows of a batch.
    seed, epoch: events are shuffled, and windows among `buffer` of them, the same for the same numbers and as many
        workers; seed None keeps the order.
    workers: processes that read, each its share of the events; they are spawned, not forked, so threads of decoders are
        safe. 0 reads in this process. pinned: in memory that a GPU copies from while it computes.
    A window is in one batch, once an epoch. What is wrong with an event is raised where its batch would come.
    Raises StreamError where there are no events, a size is not positive, or `cuts` cannot be sent to a process.
    """
    if not cuts or size < 1 or buffer < 1:
        raise StreamError(
            f"loader: {len(cuts)} events in batches of {size} from a buffer of {buffer}; expected one or more of each"
        )
    if workers:
        try:
            pickle.dumps(list(cuts))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise StreamError(
                f"loader: what cuts an event cannot be sent to another process ({error}); expected functools.partial "
                "of functions with a name, or workers=0"
            ) from error
    dataset = WindowsOfEvents(cuts, seed, epoch, buffer)
    context = "spawn" if workers else None
    return DataLoader(
        dataset,
        batch_size=size,
        collate_fn=tensors,
        num_workers=min(workers, len(cuts)),
        multiprocessing_context=context,
        generator=_generator(seed or 0, epoch),  # else it would draw from the seed of all else
        pin_memory=pinned,
    )


class WindowsOfEvents(IterableDataset[Window]):
    """Windows of many events, one event after the other; see `loader`."""

    def __init__(self, cuts: Sequence[Cut], seed: int | None = None, epoch: int = 0, buffer: int = 256) -> None:
        super().__init__()
        self.cuts = tuple(cuts)
        self.seed, self.epoch, self.buffer = seed, epoch, buffer

    def __iter__(self) -> Iterator[Window]:
        worker = get_worker_info()
        return self.share(worker.id, worker.num_workers) if worker is not None else self.share(0, 1)

    def share(self, worker: int, workers: int) -> Iterator[Window]:
        """What one of several processes reads."""
        order = torch.arange(len(self.cuts))
        if self.seed is not None:
            order = torch.randperm(len(self.cuts), generator=_generator(self.seed, self.epoch))
        read = (window for n in order[worker::workers].tolist() for window in self.cuts[n]())
        return read if self.seed is None else self._mixed(read, _generator(self.seed, self.epoch, worker + 1))

    def _mixed(self, read: Iterator[Window], random: torch.Generator) -> Iterator[Window]:
        held: list[Window] = []
        for window in read:
            if len(held) < self.buffer:
                held.append(window)
                continue
            k = int(torch.randint(len(held), (), generator=random))
            yield held[k]
            held[k] = window
        for k in torch.randperm(len(held), generator=random).tolist():
            yield held[k]


def _generator(seed: int, epoch: int, part: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch + part * 1_000_000_007)


@dataclass(frozen=True)
class Pass:
    """Once through the windows of a split; see `batches` for what the numbers do."""

    split: str
    seed: int | None = None
    epoch: int = 0
    rank: int = 0
    ranks: int = 1


class HeldWindows:
    """Labelled windows in memory. windows: split -> these; size: of a batch."""

    def __init__(self, windows: Mapping[str, Sequence[Window]], size: int) -> None:
        self._windows, self._size = windows, size

    @property
    def splits(self) -> list[str]:
        """Those that have windows."""
        return [split for split, windows in self._windows.items() if windows]

    def count(self, split: str) -> int:
        return len(self._windows[split])

    @property
    def labels(self) -> list[Any]:
        """Of the training data."""
        return [window.label for window in self._windows["train"]]

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of every modality's values in the training data: colours, channels."""
        found = [(name, s.values) for window in self._windows["train"] for name, s in window.samples.items()]
        return {name: int(values.shape[-1]) for name, values in found if values.ndim > 1}

    def some(self, name: str) -> list[Window]:
        """Windows of the training data that have a modality, and this one alone; enough for its mean."""
        having = [window for window in self._windows["train"] if name in window.samples]
        spread = having[:: max(1, math.ceil(len(having) / ENOUGH))]
        return [replace(window, samples={name: window.samples[name]}) for window in spread]

    def batches(self, each: Pass) -> Iterator[Drawn]:
        windows = self._windows[each.split]
        for batch in batches(windows, self._size, seed=each.seed, epoch=each.epoch, rank=each.rank, ranks=each.ranks):
            yield to_timed(batch), batch.labels, batch.events
