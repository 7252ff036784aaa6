"""Contrast: embeddings of one row agree, those of different rows do not (InfoNCE), over any number of modalities.

van den Oord et al., Representation learning with contrastive predictive coding, 2018, eq. 4; both ways and with a
learned temperature as in Radford et al., Learning transferable visual models from natural language supervision, 2021.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from avfuse.errors import StreamError


class InfoNCE(nn.Module):
    """Loss of embeddings of several modalities: each row's has to be told from all others by those of the same row.

    For each ordered pair of modalities (a, b), cross-entropy of row i's embedding in a against the embeddings of all
    rows in b, scale * cosine, the right one being row i's; mean over rows that have both, then over pairs of modalities
    that any row has. A row that lacks a is no example of it, one that lacks b no candidate.

    temperature: to start with; log(1 / temperature) is the parameter `log_scale`. largest: the scale goes no higher.
    group: of processes; None is all of them. With several, each example is compared with the candidates of all, and
    gradients go back to where these came from. Each process computes its own examples only (a local loss); the mean of
    what the processes return is the loss of the joined batch, and the mean of their gradients, as
    DistributedDataParallel takes it, is that loss's gradient. Batches may differ in size, and be empty in some.
    """

    def __init__(
        self, *, temperature: float = 0.07, largest: float = 100.0, group: distributed.ProcessGroup | None = None
    ) -> None:
        super().__init__()
        if not 0 < 1 / largest <= temperature < math.inf:
            raise StreamError(
                f"InfoNCE: temperature {temperature}, largest scale {largest}; expected 1 / largest <= temperature"
            )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.largest = largest
        self.group = group

    @property
    def scale(self) -> Tensor:
        """1 / temperature, what cosines are multiplied by."""
        return self.log_scale.clamp(max=math.log(self.largest)).exp()

    def forward(
        self,
        embeddings: Mapping[str, Tensor],
        present: Mapping[str, Tensor] | None = None,
        negatives: Mapping[str, Tensor] | None = None,
        usable: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """embeddings: modality -> (B, D), of any length. present: modality -> (B,) bool; all where it is not named.

        negatives: modality -> (B, N, D), further candidates for the examples of each row alone: the same clip at other
        times, which no other row is as hard to tell from. usable: modality -> (B, N) bool, which of them count.
        0 where no row has two modalities. Every process must name the same modalities; one that a process has not at
        all is named with `present` false.
        Raises StreamError for shapes that do not fit, in all processes if they differ between them.
        """
        with torch.no_grad():
            # The parameter itself: above the largest scale it would have no gradient, and never come back.
            self.log_scale.clamp_(max=math.log(self.largest))
        own = stacked(embeddings, present)
        with torch.autocast(own.vectors.device.type, enabled=False):
            return self._loss(own, _extra(own, negatives or {}, usable or {}))

    def _loss(self, own: Stacked, extra: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        candidates, there, first, processes = _gather(own, self.group)
        scale = self.scale.to(own.vectors.dtype)
        rows, names = len(own.vectors), len(own.names)
        right = torch.arange(rows, device=own.vectors.device) + first
        # Nothing but 0, so that every process takes part in the gradients of every other, examples or none.
        total = 0.0 * (candidates.sum() + scale)
        pairs = 0
        for a, b in permutations(range(names), 2):
            count = int((there[:, a] & there[:, b]).sum())
            if not count:
                continue
            pairs += 1
            example = own.present[:, a] & own.present[:, b]
            scores = scale * own.vectors[:, a] @ candidates[:, b].T
            scores = scores.masked_fill(~there[:, b], -torch.inf)
            if own.names[b] in extra:
                vectors, valid = extra[own.names[b]]
                others = scale * (vectors @ own.vectors[:, a, :, None])[:, :, 0]
                scores = torch.cat([scores, others.masked_fill(~valid, -torch.inf)], dim=1)
            loss = functional.cross_entropy(scores[example], right[example], reduction="sum")
            total = total + processes * loss / count
        return total / max(pairs, 1)


@dataclass(frozen=True, eq=False)
class Stacked:
    """names: M modalities, sorted. vectors: (B, M, D), of length 1, 0 where absent. present: (B, M) bool."""

    names: tuple[str, ...]
    vectors: Tensor
    present: Tensor


def _unit(vectors: Tensor, there: Tensor) -> Tensor:
    """Of length 1, in float32 at least: half precision cannot tell temperatures apart."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32)).masked_fill(~there[..., None], 0.0)
    return functional.normalize(vectors, dim=-1, eps=1e-6)


def stacked(embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> Stacked:
    """Embeddings of several modalities as one tensor. Raises StreamError where they or `present` do not fit."""
    names = tuple(sorted(embeddings))
    shapes = {tuple(embeddings[name].shape) for name in names}
    if len(names) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 2:
        found = ", ".join(f"{name} {tuple(embeddings[name].shape)}" for name in names)
        raise StreamError(f"embeddings: {found or 'none'}; expected two modalities or more, each (B, D)")
    like = embeddings[names[0]]
    there = presence(names, present, len(like), like.device)
    return Stacked(names, _unit(torch.stack([embeddings[name] for name in names], dim=1), there), there)


def presence(names: Sequence[str], present: Mapping[str, Tensor] | None, rows: int, device: torch.device) -> Tensor:
    """(B, M) bool of (B,) each, all where a name is not there. Raises StreamError for masks that do not fit."""
    given = present or {}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise StreamError(f"present: {unknown[0]!r} is not given; expected some of {', '.join(names)}")
    masks = []
    for name in names:
        mask = given[name] if name in given else torch.ones(rows, dtype=torch.bool, device=device)
        if tuple(mask.shape) != (rows,) or mask.dtype != torch.bool:
            raise StreamError(
                f"present: {name!r} of shape {tuple(mask.shape)}, {mask.dtype}; expected ({rows},), torch.bool"
            )
        masks.append(mask)
    return torch.stack(masks, dim=1)


def _extra(
    own: Stacked, negatives: Mapping[str, Tensor], usable: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """modality -> vectors (B, N, D) of length 1, valid (B, N)."""
    rows, _, dim = own.vectors.shape
    made = {}
    for name, vectors in negatives.items():
        if name not in own.names or vectors.ndim != 3 or vectors.shape[0] != rows or vectors.shape[2] != dim:
            raise StreamError(
                f"negatives: {name!r} of shape {tuple(vectors.shape)}; expected ({rows}, N, {dim}) of one of "
                + ", ".join(own.names)
            )
        valid = usable.get(name)
        if valid is None:
            valid = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        if valid.shape != vectors.shape[:2] or valid.dtype != torch.bool:
            raise StreamError(
                f"usable: {name!r} of shape {tuple(valid.shape)}, {valid.dtype}; expected {tuple(vectors.shape[:2])}, "
                "torch.bool"
            )
        made[name] = _unit(vectors, valid), valid
    stray = sorted(set(usable) - set(negatives))
    if stray:
        raise StreamError(f"usable: {stray[0]!r} has no negatives; expected some of {', '.join(negatives) or 'none'}")
    return made


def _gather(own: Stacked, group: distributed.ProcessGroup | None) -> tuple[Tensor, Tensor, int, int]:
    """Vectors (R, M, D) and presence (R, M) of all processes, the place of this one's first row, how many processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return own.vectors, own.present, 0, 1
    processes = distributed.get_world_size(group)
    if processes == 1:
        return own.vectors, own.present, 0, 1
    vectors = own.vectors
    # What all must agree on comes first, and is judged by all alike: one that stopped alone would leave the others
    # waiting.
    named = zlib.crc32("\n".join(own.names).encode())
    facts = torch.tensor(
        [len(vectors), vectors.shape[1], vectors.shape[2], named, int(vectors.requires_grad)], device=vectors.device
    )
    all_facts = [torch.empty_like(facts) for _ in range(processes)]
    distributed.all_gather(all_facts, facts, group=group)
    table = torch.stack(all_facts).tolist()
    if len({tuple(row[1:4]) for row in table}) != 1:
        found = "; ".join(f"process {k}: {row[1]} modalities of {row[2]} numbers" for k, row in enumerate(table))
        raise StreamError(f"embeddings differ between processes: {found}; expected the same names and sizes in all")
    sizes = [row[0] for row in table]
    if any(row[4] for row in table) and not vectors.requires_grad and torch.is_grad_enabled():
        # Of a process that has nothing to learn from this batch; the others wait for it on the way back all the same.
        vectors = vectors.detach().requires_grad_()
    longest = max(sizes)
    padded = functional.pad(vectors, (0, 0, 0, 0, 0, longest - len(vectors)))
    joined = _AllGather.apply(padded, group)  # type: ignore[no-untyped-call]
    there = functional.pad(own.present, (0, 0, 0, longest - len(vectors))).to(torch.uint8)
    all_there = [torch.empty_like(there) for _ in range(processes)]
    distributed.all_gather(all_there, there, group=group)
    rank = distributed.get_rank(group)
    return joined.flatten(0, 1), torch.cat(all_there).bool(), rank * longest, processes


class _AllGather(torch.autograd.Function):
    """(processes, ...) of equal shapes; the gradient of a process's part is summed over all that used it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        ctx.group = group
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size(group))]
        distributed.all_gather(parts, part.contiguous(), group=group)
        return torch.stack(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient, group=ctx.group)
        return gradient[distributed.get_rank(ctx.group)], None
