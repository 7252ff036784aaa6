"""Fusion by attention between the streams, with their times and the doubts about their clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.attention import Block, Transformer
from avfuse.nn.fusion.steps import in_order, sorted_names
from avfuse.nn.timed import Tokens


class Marks(nn.Module):
    """A learned vector for each modality, added to its tokens: whose they are. Parameters: M D."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(0.02 * torch.randn(count, dim))

    def forward(self, parts: Sequence[Tokens]) -> list[Tokens]:
        vectors: Tensor = self.vectors
        return [part.with_values(part.values + vectors[k].to(part.values.dtype)) for k, part in enumerate(parts)]


class Joint(nn.Module):
    """One transformer over the tokens of all modalities: the earliest fusion of features there can be.

    Attention between streams has a learned bias of distance in time, widened by the std of their clocks.
    """

    def __init__(
        self, names: Sequence[str], dim: int, *, layers: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.names = sorted_names(names)
        self.marks = Marks(len(self.names), dim)
        self.transformer = Transformer(dim, layers, heads, across=True, dropout=dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        return self.transformer(Tokens.join(self.marks(in_order(tokens, self.names))))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Tokens of each modality attend to those of all others; what comes out are all tokens, each on its own clock.

    After Tsai et al., Multimodal transformer for unaligned multimodal language sequences, 2019, with one attention to
    all others in place of one to each, and the bias of distance in time. A modality that is alone keeps what it has.
    """

    def __init__(
        self, names: Sequence[str], dim: int, *, layers: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.names = sorted_names(names)
        if len(self.names) < 2:
            raise StreamError(f"cross_attention: the only modality is {self.names[0]!r}; expected two or more")
        self.marks = Marks(len(self.names), dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, across=True, dropout=dropout) for _ in self.names) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        parts = self.marks(in_order(tokens, self.names))
        for blocks in self.layers:
            parts = [
                block(part, Tokens.join(parts[:k] + parts[k + 1 :]))
                for k, (block, part) in enumerate(zip(blocks, parts, strict=True))  # type: ignore[call-overload]
            ]
        found = Tokens.join(parts)
        return found.with_values(self.norm(found.values))
