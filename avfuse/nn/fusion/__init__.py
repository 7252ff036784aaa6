"""Fusion: Tokens of several modalities, any of which may be absent, become one sequence of Tokens.

    steps        tokens brought onto common steps of time
    pooled       one vector of each modality: concatenation, learned weighted sum, gate
    products     tensor fusion and low-rank tensor fusion
    attending    attention between streams: joint, cross-attention
    latents      through few tokens: bottlenecks, Perceiver
    late         decisions of each modality, combined
    hybrid       any of these for groups of modalities, and another over the groups

A fusion is Module(modality -> Tokens, every one of its `names` in it) -> Tokens.
"""

from __future__ import annotations

from torch import nn

from avfuse.nn.fusion.attending import CrossAttention, Joint
from avfuse.nn.fusion.hybrid import Hybrid
from avfuse.nn.fusion.late import Late
from avfuse.nn.fusion.latents import Bottleneck, Perceiver
from avfuse.nn.fusion.pooled import Concatenation, Gate, Pooled, WeightedSum
from avfuse.nn.fusion.products import LowRank, TensorProduct

FUSIONS: dict[str, type[nn.Module]] = {
    "concatenation": Concatenation,
    "weighted_sum": WeightedSum,
    "gate": Gate,
    "tensor": TensorProduct,
    "low_rank": LowRank,
    "joint": Joint,
    "cross_attention": CrossAttention,
    "bottleneck": Bottleneck,
    "perceiver": Perceiver,
    "late": Late,
    "hybrid": Hybrid,
}


def one_token(fusion: nn.Module) -> bool:
    """Whether what comes out is one token for a whole window: there is nothing to attend to in it."""
    return one_token(fusion.over) if isinstance(fusion, Hybrid) else isinstance(fusion, Pooled) and fusion.grid is None


__all__ = [
    "FUSIONS", "Bottleneck", "Concatenation", "CrossAttention", "Gate", "Hybrid", "Joint", "Late", "LowRank",
    "Perceiver", "TensorProduct", "WeightedSum", "one_token",
]  # fmt: skip
