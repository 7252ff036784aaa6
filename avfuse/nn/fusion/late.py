"""Late fusion: each modality decides alone, and their decisions are combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from avfuse.nn.fusion.pooled import masked_softmax
from avfuse.nn.fusion.steps import in_order, sorted_names, whole
from avfuse.nn.timed import Tokens


class Late(nn.Module):
    """exp(s) sum_m w_m head_m(tokens_m), w the softmax over those present of a learned score + log confidence.

    Scores of classes are logarithms: their weighted sum is a weighted product of what each modality holds probable,
    and s, learned, says how independent they are. The result is one token whose values are the scores; the network's
    head is then `avfuse.nn.heads.Decided`.

    head: makes a head, Module(Tokens) -> (B, outputs); called once for each modality.
    Parameters: those of M heads, M, and 1.
    """

    def __init__(self, names: Sequence[str], dim: int, *, head: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.names = sorted_names(names)
        self.dim = dim
        self.heads = nn.ModuleList(head() for _ in self.names)
        self.scores = nn.Parameter(torch.zeros(len(self.names)))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        parts = in_order(tokens, self.names)
        moments = whole(parts)
        weights = masked_softmax(self.scores.expand(moments.present.shape), moments)  # (B, 1, M)
        decisions = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], dim=1)
        combined = weights.to(decisions.dtype) @ decisions * self.log_scale.exp()  # (B, 1, outputs)
        return Tokens.timeless(combined, moments.present.any(dim=2))
