"""Fusion through a few tokens that belong to no modality: they have no time, and no distance counts for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from avfuse.nn.attention import Block
from avfuse.nn.fusion.attending import Marks
from avfuse.nn.fusion.steps import in_order, sorted_names
from avfuse.nn.timed import Tokens

_OWN_CLOCK = -1


class Bottleneck(nn.Module):
    """Modalities exchange only what passes through `bottlenecks` tokens.

    In each layer a modality's tokens and the bottlenecks attend to one another, and the bottlenecks of the modalities
    that are present are averaged. Nagrani et al., Attention bottlenecks for multimodal fusion, 2021; its lower layers
    are the encoders here.
    """

    def __init__(
        self,
        names: Sequence[str],
        dim: int,
        *,
        bottlenecks: int = 4,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.names = sorted_names(names)
        self.marks = Marks(len(self.names), dim)
        self.latents = nn.Parameter(0.02 * torch.randn(bottlenecks, dim))
        self.layers = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in self.names) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        parts = self.marks(in_order(tokens, self.names))
        present = torch.stack([part.present for part in parts], dim=1)  # (B, M)
        shares = present.to(parts[0].values.dtype)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1.0)
        between = latent_tokens(self.latents, parts[0])
        for blocks in self.layers:
            passed = []
            for k, block in enumerate(blocks):  # type: ignore[arg-type, var-annotated]
                together = block(Tokens.join([parts[k], between]))
                count = parts[k].values.shape[1]
                parts[k] = parts[k].with_values(together.values[:, :count])
                passed.append(together.values[:, count:])
            between = between.with_values((torch.stack(passed, dim=1) * shares[:, :, None, None]).sum(dim=1))
        found = Tokens.join([*parts, between])
        return found.with_values(self.norm(found.values))


class Perceiver(nn.Module):
    """A fixed number of latents attend to the tokens of all modalities, then to one another, again and again.

    Jaegle et al., Perceiver: general perception with iterative attention, 2021. What comes out are the latents.
    """

    def __init__(
        self,
        names: Sequence[str],
        dim: int,
        *,
        latents: int = 32,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.names = sorted_names(names)
        self.marks = Marks(len(self.names), dim)
        self.latents = nn.Parameter(0.02 * torch.randn(latents, dim))
        self.reading = nn.ModuleList(Block(dim, heads, across=True, near=False, dropout=dropout) for _ in range(layers))
        self.thinking = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        parts = self.marks(in_order(tokens, self.names))
        everything = Tokens.join(parts)
        found = latent_tokens(self.latents, parts[0])
        for reading, thinking in zip(self.reading, self.thinking, strict=True):
            found = thinking(reading(found, everything))
        return found.with_values(self.norm(found.values))


def latent_tokens(latents: Tensor, like: Tokens) -> Tokens:
    """Latents (N, D) as Tokens of every row: at the origin, on a clock of their own of which nothing is known."""
    values = latents.to(like.values.dtype).expand(len(like.values), *latents.shape)
    everywhere = torch.ones_like(values[:, :, 0], dtype=torch.bool)
    return Tokens.timeless(values, everywhere, clock=_OWN_CLOCK)
