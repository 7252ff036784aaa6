"""Tokens on common steps of time: where streams of different rates can be compared moment by moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avfuse.errors import StreamError
from avfuse.nn.timed import Tokens

_REACH = 2.0  # widths of the kernel: farther from any token a step has nothing of a modality


@dataclass(frozen=True, eq=False)
class Moments:
    """What each modality says at each step: batch B, steps S, modalities M in the order of names, features D.

    values: (B, S, M, D), 0 where not present. present: (B, S, M) bool. confidence: (B, S, M) of the clocks.
    """

    values: Tensor
    present: Tensor
    confidence: Tensor


def in_order(tokens: Mapping[str, Tokens], names: Sequence[str]) -> list[Tokens]:
    """Tokens in the order of `names`. Raises StreamError where these are not the modalities that there are."""
    if set(tokens) != set(names):
        raise StreamError(f"fusion: tokens of {', '.join(sorted(tokens)) or 'nothing'}; expected {', '.join(names)}")
    return [tokens[name] for name in names]


def sorted_names(names: Sequence[str]) -> tuple[str, ...]:
    """Raises StreamError where there are none, or one is there twice."""
    if not names or len(set(names)) != len(names):
        raise StreamError(f"fusion: names {list(names)}; expected one or more, each once")
    return tuple(sorted(names))


def whole(parts: Sequence[Tokens]) -> Moments:
    """One moment: the means over the whole window."""
    values = torch.stack([part.mean() for part in parts], dim=1)[:, None]
    confidence = torch.stack([_mean(part.confidence, part.valid) for part in parts], dim=1)[:, None]
    return Moments(values, torch.stack([part.present for part in parts], dim=1)[:, None], confidence)


@dataclass(frozen=True)
class Grid:
    """Steps of `step` seconds that cover `duration` seconds from a batch's origin.

    At each step a modality says the mean of its tokens under a Gaussian in time, half a step wide and widened by the
    stated std of its clock: what cannot be placed to within a step is heard in all steps where it may have been.
    """

    step: float
    duration: float

    def __post_init__(self) -> None:
        if not (self.step > 0 and math.isfinite(self.duration) and self.duration >= self.step):
            raise StreamError(
                f"fusion: step {self.step!r} s of duration {self.duration!r} s; expected 0 < step <= duration"
            )

    @property
    def count(self) -> int:
        return math.ceil(self.duration / self.step - 1e-9)

    def times(self, like: Tensor) -> Tensor:
        """(S,) float64 seconds of the middles of the steps."""
        return (torch.arange(self.count, device=like.device, dtype=torch.float64) + 0.5) * self.step

    def moments(self, parts: Sequence[Tokens]) -> Moments:
        found = [self._at_steps(part) for part in parts]
        values, present, confidence = (torch.stack(each, dim=2) for each in zip(*found, strict=True))
        return Moments(values, present, confidence)

    def _at_steps(self, part: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        dtype = part.values.dtype
        apart = (self.times(part.times)[None, :, None] - part.times[:, None, :]).to(dtype)
        variance = (self.step / 2) ** 2 + part.std[:, None, :].to(dtype) ** 2
        widths = apart**2 / variance  # squared, in widths of the kernel
        valid = part.valid[:, None, :]
        weights = torch.exp(-0.5 * widths).masked_fill(~valid, 0.0)
        present = ((widths <= _REACH**2) & valid).any(dim=2)
        # What is too far from every token to count must not be divided by next to nothing.
        weights = weights * present[:, :, None].to(dtype)
        weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=math.exp(-0.5 * _REACH**2))
        values = weights @ part.values.masked_fill(~part.valid[:, :, None], 0.0)
        return values, present, (weights * part.confidence[:, None, :]).sum(dim=2)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """(B,): mean of (B, N) over what is valid; 0 where nothing is."""
    return values.masked_fill(~valid, 0.0).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
