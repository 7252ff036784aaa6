"""Fusion of one vector of each modality: of the whole window, or at each step of time.

With a `step` the vectors are those of `avfuse.nn.fusion.steps.Grid`, so that what happens together is fused together,
and a small transformer then looks along the steps. Without, they are means over the window, and order is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.attention import Transformer, log_confidence
from avfuse.nn.fusion.steps import Grid, Moments, in_order, sorted_names, whole
from avfuse.nn.timed import Tokens


class Pooled(nn.Module):
    """What kinds that fuse one vector of each modality have in common; they say how, in `fuse`.

    names: modalities. dim: features. step, duration: seconds, of the grid; both or neither. layers, heads: of the
    transformer over the steps.
    """

    def __init__(
        self,
        names: Sequence[str],
        dim: int,
        *,
        step: float | None = None,
        duration: float | None = None,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if (step is None) != (duration is None):
            raise StreamError(f"fusion: step {step!r} and duration {duration!r}; expected both or neither, in seconds")
        self.names = sorted_names(names)
        self.dim = dim
        self.grid = Grid(step, duration) if step is not None and duration is not None else None
        self.along = None if self.grid is None else Transformer(dim, layers, heads, dropout=dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        parts = in_order(tokens, self.names)
        moments = whole(parts) if self.grid is None else self.grid.moments(parts)
        fused = self.fuse(moments)  # (B, S, D)
        valid = moments.present.any(dim=2)
        found = Tokens.timeless(fused, valid)  # the mean of a window is at no moment of it
        if self.grid is None or self.along is None:
            return found
        times = self.grid.times(found.times).expand(found.times.shape)
        return self.along(replace(found, times=times, std=torch.zeros_like(found.std)))  # type: ignore[no-any-return]

    def fuse(self, moments: Moments) -> Tensor:
        raise NotImplementedError


class Concatenation(Pooled):
    """Vectors side by side, then a perceptron; an absent modality is a learned vector.

    Parameters: M D for the absent, (M D + 1) D + (D + 1) D for the perceptron.
    """

    def __init__(self, names: Sequence[str], dim: int, **options: float) -> None:
        super().__init__(names, dim, **options)  # type: ignore[arg-type]
        count = len(self.names)
        self.absent = nn.Parameter(0.02 * torch.randn(count, dim))
        self.perceptron = nn.Sequential(nn.Linear(count * dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def fuse(self, moments: Moments) -> Tensor:
        values = torch.where(moments.present[..., None], moments.values, self.absent.to(moments.values.dtype))
        return self.perceptron(values.flatten(2))  # type: ignore[no-any-return]


class WeightedSum(Pooled):
    """sum_m w_m (A_m x_m + b_m), w the softmax over those present of a learned score + log confidence of the clock.

    Parameters: M + M (D + 1) D.
    """

    def __init__(self, names: Sequence[str], dim: int, **options: float) -> None:
        super().__init__(names, dim, **options)  # type: ignore[arg-type]
        self.scores = nn.Parameter(torch.zeros(len(self.names)))
        self.maps = nn.ModuleList(nn.Linear(dim, dim) for _ in self.names)

    def fuse(self, moments: Moments) -> Tensor:
        weights = masked_softmax(self.scores.expand(moments.present.shape), moments)
        mapped = torch.stack([m(moments.values[:, :, k]) for k, m in enumerate(self.maps)], dim=2)
        return (weights[..., None] * mapped).sum(dim=2)


class Gate(Pooled):
    """Gated multimodal unit of M modalities: each feature chooses, seeing all of them, whom it listens to.

    sum_m z_m * tanh(A_m x_m + b_m), with z the softmax over those present of C_m [p_1 x_1 ... p_M x_M] + c_m + log p_m,
    p the confidence of the clocks.
    Arevalo et al., Gated multimodal units for information fusion, 2017, whose sigmoid of two is this softmax.
    Parameters: M (D + 1) D + M (M D + 1) D.
    """

    def __init__(self, names: Sequence[str], dim: int, **options: float) -> None:
        super().__init__(names, dim, **options)  # type: ignore[arg-type]
        count = len(self.names)
        self.maps = nn.ModuleList(nn.Linear(dim, dim) for _ in self.names)
        self.gates = nn.Linear(count * dim, count * dim)

    def fuse(self, moments: Moments) -> Tensor:
        count = len(self.names)
        # What is surely from another time must not decide whom to listen to, either.
        seen = moments.values * moments.confidence[..., None].to(moments.values.dtype)
        scores = self.gates(seen.flatten(2)).unflatten(2, (count, self.dim))
        weights = masked_softmax(scores, moments)
        mapped = torch.stack([torch.tanh(m(moments.values[:, :, k])) for k, m in enumerate(self.maps)], dim=2)
        return (weights * mapped).sum(dim=2)


def masked_softmax(scores: Tensor, moments: Moments) -> Tensor:
    """Weights of modalities, dimension 2: the absent have none, the doubtful less; 0 where nobody is present."""
    present, doubt = moments.present, log_confidence(moments.confidence)
    anyone = present.any(dim=2, keepdim=True)
    while present.ndim < scores.ndim:
        present, doubt, anyone = present[..., None], doubt[..., None], anyone[..., None]
    seen = present | ~anyone
    weights = torch.softmax((scores + doubt.to(scores.dtype)).masked_fill(~seen, -torch.inf), dim=2)
    return weights * anyone.to(weights.dtype)
