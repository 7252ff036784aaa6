"""Windows as batches of tensors, in an order that a seed fixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from avfuse.batches import Batch, Window, collate
from avfuse.errors import StreamError


def batches(
    windows: Sequence[Window],
    size: int,
    *,
    seed: int | None = None,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Batch]:
    """Batches of `size` windows; the last one may be smaller.

    seed, epoch: shuffle, the same for the same numbers; seed None keeps the order. rank, ranks: this process and how
    many there are; each gets as many windows as the others, the first ones again where they do not share out evenly.
    Raises StreamError where there are no windows, or a size is not positive.
    """
    if not windows or size < 1:
        raise StreamError(f"batches: {len(windows)} windows in batches of {size}; expected one or more of each")
    order = torch.arange(len(windows))
    if seed is not None:
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    each = -(-len(windows) // ranks)
    mine = order.repeat(ranks)[: each * ranks][rank::ranks]
    for first in range(0, len(mine), size):
        yield collate([windows[k] for k in mine[first : first + size].tolist()])
