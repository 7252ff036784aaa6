"""Fusion by products: every feature of one modality with every feature of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.fusion.pooled import Pooled
from avfuse.nn.fusion.steps import Moments

_MOST_PRODUCTS = 100_000


class TensorProduct(Pooled):
    """Tensor fusion: A (z_1 (x) ... (x) z_M) + b with z_m = [B_m x_m + c_m, 1], `size` + 1 numbers each.

    The 1 keeps products of fewer modalities among the products of all; an absent modality is [0 ... 0, 1].
    Zadeh et al., Tensor fusion network for multimodal sentiment analysis, 2017.
    Parameters: M (D + 1) size + ((size + 1)^M + 1) D.
    """

    def __init__(self, names: Sequence[str], dim: int, *, size: int = 8, **options: float) -> None:
        super().__init__(names, dim, **options)  # type: ignore[arg-type]
        products = (size + 1) ** len(self.names)
        if products > _MOST_PRODUCTS:
            raise StreamError(
                f"tensor fusion: {len(self.names)} modalities of size {size} have {products} products; expected at "
                f"most {_MOST_PRODUCTS}: take a smaller size, or low_rank"
            )
        self.reduce = nn.ModuleList(nn.Linear(dim, size) for _ in self.names)
        self.out = nn.Linear(products, dim)

    def fuse(self, moments: Moments) -> Tensor:
        product = moments.values.new_ones((*moments.values.shape[:2], 1))
        one = torch.ones_like(product)
        for k, reduce in enumerate(self.reduce):
            reduced = reduce(moments.values[:, :, k]) * moments.present[:, :, k, None].to(product.dtype)
            product = (product[..., :, None] * torch.cat([reduced, one], dim=2)[..., None, :]).flatten(2)
        return self.out(product)  # type: ignore[no-any-return]


class LowRank(Pooled):
    """Low-rank tensor fusion: sum_r w_r prod_m (F_mr [x_m, 1]) + b; an absent modality contributes ones.

    Liu et al., Efficient low-rank multimodal fusion with modality-specific factors, 2018.
    Parameters: R M (D + 1) D + R + D.
    """

    def __init__(self, names: Sequence[str], dim: int, *, rank: int = 4, **options: float) -> None:
        super().__init__(names, dim, **options)  # type: ignore[arg-type]
        count = len(self.names)
        # Products of M numbers about 1 neither vanish nor explode: the column of the appended 1 starts at 1.
        factors = torch.randn(count, rank, dim + 1, dim) / dim**0.5
        factors[:, :, -1] = 1.0
        self.factors = nn.Parameter(factors)
        self.weights = nn.Parameter(torch.full((rank,), 1.0 / rank))
        self.bias = nn.Parameter(torch.zeros(dim))

    def fuse(self, moments: Moments) -> Tensor:
        linear, constant = self.factors[:, :, :-1], self.factors[:, :, -1]
        each = torch.einsum("bsmd,mrde->bsmre", moments.values, linear) + constant
        each = torch.where(moments.present[..., None, None], each, 1.0)
        product = each[:, :, 0]
        for k in range(1, len(self.names)):
            product = product * each[:, :, k]
        return torch.einsum("bsre,r->bse", product, self.weights) + self.bias
