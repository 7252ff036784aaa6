"""Missing modalities: hidden at random in training, chosen in evaluation.

A network that has always had everything leans on its strongest modality, and is lost without it. Dropping whole
modalities at random (Neverova et al., ModDrop, 2016) shows it every subset; `avfuse.nn.colearning.distillation` keeps
what that costs small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.timed import TENSORS, Timed

Subset = tuple[str, ...]


class ModalityDropout:
    """Hides whole modalities and spans of time, row by row, from a generator of its own.

    probability: that a row loses a modality: one number for all of them, or one for each by name (others: 0). Losses
        are independent but for one condition: no row loses all that it has. So a row of M modalities loses one with
        probability (p - p^M) / (1 - p^M): 1/3 of each of two at p = 1/2.
    span: probability that a row loses a span of time of a modality, drawn for each modality by itself.
    share: the longest span, as a share (below 1) of the time from a row's first to its last valid sample; lengths are
        uniform up to it, and places uniform within. The row's first and last sample are never both lost, so a span
        alone makes no modality absent.
    seed: of the generator. The draws depend on the modalities' names and the rows' number, not on their order in the
        batch nor on what is in it.

    What is hidden is as `collate` leaves what was never there: not valid, not present, of no confidence.
    Raises StreamError for probabilities outside of 0 ... 1, or 1 where it is that of a whole modality.
    """

    def __init__(
        self,
        probability: float | Mapping[str, float] = 0.5,
        *,
        span: float = 0.0,
        share: float = 0.5,
        seed: int = 0,
    ) -> None:
        for p in probability.values() if isinstance(probability, Mapping) else [probability]:
            if not 0.0 <= p < 1.0:
                raise StreamError(f"ModalityDropout: probability {p!r}; expected 0 <= p < 1")
        if not (0.0 <= span <= 1.0 and 0.0 < share < 1.0):
            raise StreamError(f"ModalityDropout: span {span!r}, share {share!r}; expected 0 ... 1, and 0 < share < 1")
        self.probability = dict(probability) if isinstance(probability, Mapping) else float(probability)
        self.span = span
        self.share = share
        # On the CPU wherever the batch is: the same draws on any device.
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch: Mapping[str, Timed]) -> dict[str, Timed]:
        """The batch with some of it hidden; tensors of values are shared with it.

        Raises StreamError for an empty batch, and for one that has none of the modalities that probabilities name.
        """
        names = sorted(batch)
        if not names:
            raise StreamError("ModalityDropout: the batch has no modality; expected one or more")
        if isinstance(self.probability, dict) and self.probability and not set(self.probability) & set(names):
            raise StreamError(
                f"ModalityDropout: probabilities of {', '.join(self.probability)}; the batch has {', '.join(names)}"
            )
        present = torch.stack([batch[name].mask.any(dim=1).cpu() for name in names], dim=1)  # (B, M)
        kept = self._kept(names, present)
        found = {
            name: keep_rows(batch[name], kept[:, k].to(batch[name].present.device)) for k, name in enumerate(names)
        }
        if self.span > 0.0:
            found = {name: self._without_span(found[name]) for name in names}
        return found

    def _kept(self, names: Sequence[str], present: Tensor) -> Tensor:
        """(B, M): drawn one modality after the other, each given those before it, so that no row is drawn twice."""
        own = self.probability
        each = [own.get(name, 0.0) if isinstance(own, dict) else own for name in names]
        drops = torch.tensor(each, dtype=torch.float64).expand(present.shape).clone()
        drops[~present] = 1.0  # what is not there is lost for certain
        draws = torch.rand(present.shape, dtype=torch.float64, generator=self._generator)
        kept = torch.zeros_like(present)
        for k in range(len(names)):
            here = drops[:, k]
            after = drops[:, k + 1 :].prod(dim=1)  # that all that follow are lost
            # As long as all before are lost, not everything from here on may be.
            chance = torch.where(kept.any(dim=1), here, here * (1 - after) / (1 - here * after).clamp(min=1e-300))
            kept[:, k] = present[:, k] & (draws[:, k] >= chance)
        return kept

    def _without_span(self, stream: Timed) -> Timed:
        rows = len(stream.present)
        draws = torch.rand((3, rows), dtype=torch.float64, generator=self._generator).to(stream.times.device)
        mask = stream.mask
        there = mask.any(dim=1)
        first = stream.times.masked_fill(~mask, torch.inf).amin(dim=1).masked_fill(~there, 0.0)
        last = stream.times.masked_fill(~mask, -torch.inf).amax(dim=1).masked_fill(~there, 0.0)
        length = draws[1] * self.share * (last - first)
        start = first + draws[2] * (last - first - length)
        hit = (draws[0] < self.span)[:, None]
        inside = (stream.times >= start[:, None]) & (stream.times < (start + length)[:, None])
        return replace(stream, valid=stream.valid & ~(hit & inside))

    def state_dict(self) -> dict[str, Tensor]:
        """Where the generator is: a run that is resumed from it draws what it would have drawn."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._generator.set_state(state["generator"].cpu())


def keep_rows(stream: Timed, kept: Tensor) -> Timed:
    """The modality hidden in rows where `kept`, (B,) bool, is False."""
    return replace(
        stream,
        valid=stream.valid & kept[:, None],
        present=stream.present & kept,
        confidence=stream.confidence.masked_fill(~kept, 0.0),
        std=stream.std.masked_fill(~kept, 0.0),
    )


def take_rows(batch: Mapping[str, Timed], index: Tensor) -> dict[str, Timed]:
    """Rows `index`, (n,) int64, of every modality."""
    chosen = index.tolist()
    return {
        name: Timed(
            **{field: getattr(stream, field)[index.to(stream.present.device)] for field in TENSORS},
            rate=tuple(stream.rate[k] for k in chosen),
        )
        for name, stream in batch.items()
    }


def subsets(names: Iterable[str]) -> list[Subset]:
    """All 2^M - 1 subsets that are not empty, each in order of names: single modalities first, all of them last."""
    ordered = sorted(names)
    return [subset for size in range(1, len(ordered) + 1) for subset in combinations(ordered, size)]


def only(batch: Mapping[str, Timed], subset: Iterable[str]) -> dict[str, Timed]:
    """The batch with the modalities of `subset` alone, those of them that it has.

    Raises StreamError where it has none of them.
    """
    wanted = set(subset)
    found = {name: stream for name, stream in batch.items() if name in wanted}
    if not found:
        raise StreamError(f"batch of {', '.join(sorted(batch))}: it has none of {', '.join(sorted(wanted))}")
    return found


def rows_with(batch: Mapping[str, Timed], subset: Iterable[str]) -> Tensor:
    """(B,) bool, on the CPU: rows that have any modality of `subset`."""
    rows = len(next(iter(batch.values())).present)
    found = torch.zeros(rows, dtype=torch.bool)
    for name in subset:
        if name in batch:
            found = found | batch[name].mask.any(dim=1).cpu()
    return found


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in eval(); afterwards each part is as it was, frozen ones included."""
    before = [(part, part.training) for part in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@torch.no_grad()
def evaluate_subsets(
    net: nn.Module,
    batches: Iterable[tuple[Mapping[str, Timed], Any]],
    score: Callable[[Tensor, Any], Tensor],
    names: Iterable[str] | None = None,
) -> dict[Subset, NDArray[np.float64]]:
    """How good a network is with each subset of modalities, example by example.

    net: a `FusionNet`; it is in eval() meanwhile. batches: (batch, targets) in an order that stays. score: (output,
    targets) -> (B,), higher is better: 1 where right and 0 where wrong, or minus an error. names: of the modalities;
    None takes those of the network's encoders.
    Returns subset -> (examples,), NaN for an example that has nothing of a subset.
    """
    names = list(net.encoders if names is None else names)  # type: ignore[arg-type]
    wanted = subsets(names)
    found: dict[Subset, list[NDArray[np.float64]]] = {subset: [] for subset in wanted}
    with evaluating(net):
        for batch, targets in batches:
            for subset in wanted:
                there = rows_with(batch, subset)
                scores = np.full(len(there), np.nan)
                if bool(there.any()):
                    index = there.nonzero()[:, 0]
                    seen = take_rows(only(batch, subset), index)
                    chosen = targets[index.to(targets.device)]
                    scores[there.numpy()] = score(net(seen), chosen).double().cpu().numpy()
                found[subset].append(scores)
    return {subset: np.concatenate(parts) for subset, parts in found.items()}
