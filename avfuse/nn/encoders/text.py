"""Text -> Tokens: bytes, or the pieces of a tokenizer that the user brings."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from avfuse.errors import StreamError
from avfuse.nn.attention import Transformer
from avfuse.nn.encoders.grid import check_heads
from avfuse.nn.timed import Timed, Tokens

BEGIN, END, MASK = 256, 257, 258
BYTES = 259  # 256 bytes and the three above: the vocabulary of `bytes_of`

_STEP = 0.02  # "seconds" from one token to the next: two tokens are one turn of the fastest rotation


def bytes_of(text: str) -> NDArray[np.int64]:
    """(n,) tokens: BEGIN, the bytes of `text` in UTF-8, END."""
    return np.array([BEGIN, *text.encode(), END], np.int64)


class TextEncoder(nn.Module):
    """Integer tokens -> Tokens.

    Order in the text is that of the tokens, whatever their times: words of a text without times, all at one moment,
    keep their order. Times are handed on for fusion.

    vocabulary: tokens are 0 ... vocabulary - 1; BYTES for those of `bytes_of`. dim, layers, heads, dropout: of the
    transformer.
    """

    def __init__(
        self, vocabulary: int = BYTES, dim: int = 64, *, layers: int = 2, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.vocabulary, self.dim = vocabulary, dim
        self.embedding = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(dim, layers, heads, dropout=dropout)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T) integers. Tokens: (B, T, dim).

        Raises StreamError for values that are not tokens of the vocabulary.
        """
        if stream.values.ndim != 2 or stream.values.is_floating_point():
            raise StreamError(
                f"text of shape {tuple(stream.values.shape)}, {stream.values.dtype}; expected (batch, tokens) integers"
            )
        tokens = stream.values.long().masked_fill(~stream.mask, 0)
        if not torch.compiler.is_compiling():
            wrong = tokens[(tokens < 0) | (tokens >= self.vocabulary)]
            if len(wrong):
                raise StreamError(f"text: token {int(wrong[0])}; expected 0 ... {self.vocabulary - 1}")
        place = (stream.mask.long().cumsum(dim=1) - 1).clamp(min=0).double() * _STEP
        embedded = Tokens.of(self.dropout(self.embedding(tokens)), place, stream.valid, stream)
        found = self.transformer(embedded)
        return Tokens.of(found.values, stream.times, stream.valid, stream)
