"""Attention between tokens that know when they are.

Order inside a sequence is told by rotating queries and keys by their times in seconds (Su et al., RoFormer, 2021, with
seconds in place of indices), so that any rate, jitter and gap is the same to it. Between streams on different clocks a
bias -|t_query - t_key| / width favours what happens together; its width is learned, and the clocks' stated uncertainty
widens it: where nobody knows when, attention looks farther.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.timed import Tokens

_SHORTEST, _LONGEST = 0.04, 100.0  # seconds of a whole turn
_LEAST_CONFIDENCE = 1e-4


def log_confidence(confidence: Tensor) -> Tensor:
    """What a clock's confidence adds to the scores of what is on it; finite where it is 0."""
    return confidence.clamp(min=_LEAST_CONFIDENCE).log()


class Rotation(nn.Module):
    """Turns pairs of features by angles that grow with time: products of two then depend on their distance in time."""

    def __init__(self, features: int) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(_SHORTEST), math.log10(_LONGEST), features // 2, dtype=torch.float64)
        self.register_buffer("speeds", 2 * math.pi / periods, persistent=False)

    def forward(self, values: Tensor, times: Tensor) -> Tensor:
        """values: (B, heads, N, features), times: (B, N) seconds."""
        # In float64 until the angle is within a turn: 60 s at 25 turns/s would cost float32 four digits.
        angles = times.double()[:, None, :, None] * self.speeds.to(times.device)  # type: ignore[operator]
        cos, sin = torch.cos(angles).to(values.dtype), torch.sin(angles).to(values.dtype)
        even, odd = values.chunk(2, dim=-1)
        return torch.cat([even * cos - odd * sin, even * sin + odd * cos], dim=-1)


class TimedAttention(nn.Module):
    """Multi-head attention of `queries` to `keys`, both Tokens; invalid keys are not seen.

    across: whether queries and keys may be on clocks of their own: adds the bias of distance in time, learned for
        each head and widened by both clocks' std, and the logarithm of the lower of both clocks' confidence. Tokens
        without a time (latents) have a clock of their own and a std of infinity: no distance counts for them.
    near: False leaves the distance out, where no query has a time.
    A query for which there is no valid key gets 0.
    """

    def __init__(self, dim: int, heads: int, *, across: bool = False, near: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % (2 * heads):
            raise StreamError(f"attention: dim {dim} with {heads} heads; expected a multiple of {2 * heads}")
        self.heads = heads
        self.across = across
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # a constant added to all keys would change no weight
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.rotation = Rotation(dim // heads)
        # Widths from 50 ms to 5 s; learned as logarithms, so that they stay positive.
        widths = torch.logspace(math.log10(0.05), math.log10(5.0), heads) if across and near else None
        self.log_width = None if widths is None else nn.Parameter(widths.log())

    def forward(self, queries: Tokens, keys: Tokens) -> Tensor:
        """(B, N_queries, D)."""
        batch, count, dim = queries.values.shape

        def split(values: Tensor) -> Tensor:  # (B, heads, N, features)
            return values.reshape(batch, values.shape[1], self.heads, dim // self.heads).transpose(1, 2)

        # What invalid tokens hold reaches nothing, NaN included.
        seen = keys.values.masked_fill(~keys.valid[:, :, None], 0.0)
        q = self.rotation(split(self.query(queries.values)), queries.times)
        k = self.rotation(split(self.key(seen)), keys.times)
        v = split(self.value(seen))
        anything = keys.valid.any(dim=1)
        # A row without any key attends to all of them and is set to 0 below: no NaN on the way, nor in gradients.
        mask = (keys.valid | ~anything[:, None])[:, None, None, :]
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf)
        if self.across:
            bias = bias + self.clock_bias(queries, keys).to(q.dtype)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
        )
        found = self.out(found.transpose(1, 2).reshape(batch, count, dim))
        return torch.where(anything[:, None, None], found, 0.0)

    def clock_bias(self, queries: Tokens, keys: Tokens) -> Tensor:
        """(B, heads or 1, N_queries, N_keys): -|dt| / sqrt(width^2 + std_q^2 + std_k^2) + log of the lower confidence.

        Within one clock std and confidence do not count: its tokens err together.
        """
        differ = queries.clock[:, :, None] != keys.clock[:, None, :]
        least = torch.minimum(queries.confidence[:, :, None], keys.confidence[:, None, :])
        doubt = log_confidence(least).masked_fill(~differ, 0.0)[:, None]
        if self.log_width is None:
            return doubt
        apart = (queries.times[:, :, None] - keys.times[:, None, :]).abs().to(self.log_width.dtype)[:, None]
        spread = (queries.std[:, :, None] ** 2 + keys.std[:, None, :] ** 2).masked_fill(~differ, 0.0)[:, None]
        width = torch.sqrt(torch.exp(2 * self.log_width)[None, :, None, None] + spread)
        return doubt - apart / width


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a perceptron, each added to what came in.

    Xiong et al., On layer normalization in the transformer architecture, 2020. keys: other tokens than the queries'
    own. across, near: as in `TimedAttention`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        across: bool = False,
        near: bool = True,
        dropout: float = 0.0,
        widen: int = 4,
    ) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(dim)
        self.before_keys = nn.LayerNorm(dim) if across else None
        self.attention = TimedAttention(dim, heads, across=across, near=near, dropout=dropout)
        self.before_perceptron = nn.LayerNorm(dim)
        self.perceptron = nn.Sequential(
            nn.Linear(dim, widen * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(widen * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens, keys: Tokens | None = None) -> Tokens:
        queries = tokens.with_values(self.before_attention(tokens.values))
        if keys is None:
            keys = queries
        elif self.before_keys is not None:
            keys = keys.with_values(self.before_keys(keys.values))
        values = tokens.values + self.dropout(self.attention(queries, keys))
        return tokens.with_values(values + self.dropout(self.perceptron(self.before_perceptron(values))))


class Transformer(nn.Module):
    """Blocks of self-attention over one sequence of Tokens, and a last normalisation."""

    def __init__(self, dim: int, layers: int, heads: int, *, across: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, across=across, dropout=dropout) for _ in range(layers))
        self.across = across
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens) -> Tokens:
        for block in self.blocks:
            tokens = block(tokens, tokens if self.across else None)
        return tokens.with_values(self.norm(tokens.values))
