"""Metric learning across modalities: an anchor in one, what is like it and what is not in another.

    triplet_loss            one positive nearer than one negative by a margin, semi-hard negatives
    multi_similarity_loss   all pairs, each weighed by how it stands beside the others

Where a row's own partner is all that is known, InfoNCE (`contrast`) makes more of a batch; these are for labels that
several rows share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.colearning.contrast import stacked


def triplet_loss(
    embeddings: Mapping[str, Tensor],
    labels: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
    *,
    margin: float = 0.2,
) -> Tensor:
    """mean of max(0, d(a, p) - d(a, n) + margin), d the squared distance of embeddings of length 1: at most 4 + margin.

    Schroff et al., FaceNet, 2015, eq. 3, anchors in one modality, positives and negatives in another, all ordered pairs
    of modalities. For each anchor and each positive the negative is semi-hard: the nearest of those that are further
    than the positive; where none is, the furthest there is. (The hardest of all pull embeddings into one point.)

    embeddings: modality -> (B, D), of any length. labels: (B,) integers, rows of one label being positives of each
    other; None: each row is its own. present: modality -> (B,) bool; all where it is not named. An anchor without a
    positive or without a negative counts nowhere; 0 where there is no other.
    Raises StreamError for shapes that do not fit.
    """
    losses = []
    for cosine, positive, negative in _between(embeddings, labels, present):
        distance = 2 - 2 * cosine
        some = negative.any(dim=1)
        pairs = positive & some[:, None]
        if not bool(pairs.any()):
            continue
        nearest_first = distance.masked_fill(~negative, torch.inf).sort(dim=1).values
        # Each positive's place among its anchor's negatives; those at the same distance are no further.
        place = torch.searchsorted(nearest_first.detach(), distance.detach().contiguous(), right=True)
        count = negative.sum(dim=1, keepdim=True)
        place = torch.minimum(place, (count - 1).clamp(min=0))
        chosen = nearest_first.gather(1, place)
        losses.append(functional.relu(distance[pairs] - chosen[pairs] + margin).mean())
    return _mean(losses, embeddings)


def multi_similarity_loss(
    embeddings: Mapping[str, Tensor],
    labels: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    margin: float = 0.1,
) -> Tensor:
    """Mean over anchors of P / alpha + N / beta, P = log(1 + sum exp(-alpha (s - base))) over positives of cosine s.

    N = log(1 + sum exp(beta (s - base))), over negatives: Wang et al., Multi-similarity loss with general pair
    weighting for deep metric learning, 2019, eq. 15; anchors in one modality, the rest in another. Pairs that tell
    nothing are left out first (their eq. 11 and 12): negatives more than `margin` below the anchor's least similar
    positive, positives more than `margin` above its most similar negative. An anchor that is left with no pair adds 0,
    and is counted.

    Arguments as of `triplet_loss`. base: 0.5 as in the authors' program; their paper says 1.
    Raises StreamError for shapes that do not fit.
    """
    losses = []
    for cosine, positive, negative in _between(embeddings, labels, present):
        anchors = positive.any(dim=1) & negative.any(dim=1)
        if not bool(anchors.any()):
            continue
        cosine, positive, negative = cosine[anchors], positive[anchors], negative[anchors]
        weakest = cosine.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
        strongest = cosine.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True)
        negative = negative & (cosine > weakest - margin)
        positive = positive & (cosine < strongest + margin)
        pulled = _soft_sum(-alpha * (cosine - base), positive) / alpha
        pushed = _soft_sum(beta * (cosine - base), negative) / beta
        losses.append((pulled + pushed).mean())
    return _mean(losses, embeddings)


def _soft_sum(exponents: Tensor, chosen: Tensor) -> Tensor:
    """(rows,): log(1 + sum of exp over what is chosen), without overflow."""
    with_one = functional.pad(exponents.masked_fill(~chosen, -torch.inf), (1, 0))
    return torch.logsumexp(with_one, dim=1)


def _between(
    embeddings: Mapping[str, Tensor], labels: Tensor | None, present: Mapping[str, Tensor] | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each ordered pair of modalities: cosines, positives, negatives, (B, B) each, anchors by rows."""
    own = stacked(embeddings, present)
    rows = len(own.vectors)
    if labels is None:
        labels = torch.arange(rows, device=own.vectors.device)
    if tuple(labels.shape) != (rows,) or labels.is_floating_point():
        raise StreamError(f"labels of shape {tuple(labels.shape)}, {labels.dtype}; expected ({rows},), integers")
    vectors, there = own.vectors.unbind(dim=1), own.present.unbind(dim=1)
    same = labels[:, None] == labels
    for a, b in permutations(range(len(own.names)), 2):
        both = there[a][:, None] & there[b]
        with torch.autocast(own.vectors.device.type, enabled=False):
            cosine = vectors[a] @ vectors[b].T
        yield cosine, same & both, ~same & both


def _mean(losses: list[Tensor], embeddings: Mapping[str, Tensor]) -> Tensor:
    if losses:
        return torch.stack(losses).mean()
    # 0, with a gradient of 0: a batch without a pair must not stop a training.
    return sum((0.0 * embedding.nan_to_num().sum() for embedding in embeddings.values()), start=torch.zeros(()))
