"""Tensors that know when they are: `Timed` streams go into encoders, `Tokens` come out of them.

Shapes: batch B, time T, tokens N, features D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avfuse.batches import Batch, Padded
from avfuse.errors import StreamError


@dataclass(frozen=True, eq=False)
class Timed:
    """One modality of a batch, as `avfuse.batches.Padded` holds it.

    values: (B, T, ...). times: (B, T) float64 seconds. valid: (B, T) bool. present: (B,) bool.
    confidence: (B,) probability that the clock is right. std: (B,) seconds, 1 sigma of the clock.
    rate: Hz of each row; None where it is not evenly sampled.
    """

    values: Tensor
    times: Tensor
    valid: Tensor
    present: Tensor
    confidence: Tensor
    std: Tensor
    rate: tuple[float | None, ...]

    @property
    def mask(self) -> Tensor:
        """(B, T) bool: valid, of a modality that is present."""
        return self.valid & self.present[:, None]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Timed:
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in TENSORS}
        return replace(self, **moved)

    def pin_memory(self) -> Timed:
        """In memory from which a GPU copies while it computes; a DataLoader calls this where it is asked to pin."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in TENSORS})


TENSORS = ("values", "times", "valid", "present", "confidence", "std")


@dataclass(frozen=True, eq=False)
class Tokens:
    """What encoders and fusion hand on: features with times.

    values: (B, N, D). times: (B, N) float64 seconds since the batch's origin. valid: (B, N) bool.
    confidence, std: (B, N), of the clock that each token's time comes from. clock: (B, N) int64, which clock that is:
    tokens of one clock err together. Values of tokens that are not valid are anything finite; nothing may depend on
    them.
    """

    values: Tensor
    times: Tensor
    valid: Tensor
    confidence: Tensor
    std: Tensor
    clock: Tensor

    @classmethod
    def of(cls, values: Tensor, times: Tensor, valid: Tensor, source: Timed) -> Tokens:
        """Tokens that an encoder made of `source`: its clock is theirs."""
        shape = times.shape
        return cls(
            values,
            times,
            valid & source.present[:, None],
            source.confidence.to(values.dtype)[:, None].expand(shape),
            source.std.to(values.dtype)[:, None].expand(shape),
            torch.zeros_like(valid, dtype=torch.int64),
        )

    @classmethod
    def absent(cls, batch: int, dim: int, like: Tensor) -> Tokens:
        """One token that says nothing: of a modality that nobody has. like: for device and type."""
        nothing = like.new_zeros((batch, 1))
        valid = torch.zeros_like(nothing, dtype=torch.bool)
        return cls(like.new_zeros((batch, 1, dim)), nothing.double(), valid, nothing, nothing, valid.long())

    @classmethod
    def timeless(cls, values: Tensor, valid: Tensor, *, clock: int = 0) -> Tokens:
        """Tokens that are at no moment: at the origin with a std of infinity, so that no distance counts for them."""
        sure = torch.ones_like(valid, dtype=values.dtype)
        times = torch.zeros_like(sure, dtype=torch.float64)
        return cls(values, times, valid, sure, torch.full_like(sure, torch.inf), torch.full_like(times, clock).long())

    @classmethod
    def join(cls, parts: Sequence[Tokens]) -> Tokens:
        """Tokens of several modalities as one sequence: (B, N1 + N2 + ..., D)."""
        fields = ("values", "times", "valid", "confidence", "std", "clock")
        return cls(*(torch.cat([getattr(part, name) for part in parts], dim=1) for name in fields))

    @property
    def present(self) -> Tensor:
        """(B,) bool: whether a row has a valid token."""
        return self.valid.any(dim=1)

    def mean(self) -> Tensor:
        """(B, D): over valid tokens; 0 where there is none."""
        weights = self.valid.to(self.values.dtype)[:, :, None]
        return (self.values.masked_fill(~self.valid[:, :, None], 0.0)).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)

    def with_values(self, values: Tensor) -> Tokens:
        return replace(self, values=values)

    def on_clock(self, number: int) -> Tokens:
        return replace(self, clock=torch.full_like(self.clock, number))


def to_timed(batch: Batch, device: torch.device | str = "cpu") -> dict[str, Timed]:
    """A NumPy batch as tensors: modality -> Timed."""
    return {name: _tensors(padded, device) for name, padded in batch.modalities.items()}


def _tensors(padded: Padded, device: torch.device | str) -> Timed:
    tensors = {name: torch.as_tensor(getattr(padded, name), device=device) for name in TENSORS}
    return Timed(**tensors, rate=padded.rate)


def since_origin(batch: Mapping[str, Timed]) -> dict[str, Timed]:
    """Times since the earliest valid sample of any modality, row by row: all clocks set on together change nothing.

    Raises StreamError where a row of the batch has no modality at all.
    """
    earliest = torch.stack(
        [timed.times.masked_fill(~timed.mask, torch.inf).amin(dim=1) for timed in batch.values()]
    ).amin(dim=0)
    if not torch.compiler.is_compiling():
        empty = torch.isinf(earliest).nonzero().flatten().tolist()
        if empty:
            raise StreamError(f"batch: row {empty[0]} has no modality present; expected at least one in each row")
    origin = earliest.masked_fill(torch.isinf(earliest), 0.0)[:, None]
    return {
        name: replace(timed, times=(timed.times - origin).masked_fill(~timed.mask, 0.0))
        for name, timed in batch.items()
    }
