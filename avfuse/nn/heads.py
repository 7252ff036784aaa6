"""Heads: Tokens -> a decision, its loss, and how it is read.

    ClassificationHead   one of several classes
    MultiLabelHead       any of several labels
    RegressionHead       numbers, each with its variance
    RetrievalHead        a place in a space that modalities share
    StepHead             any of these at every token's time
    Decided              what late fusion has decided already, read as a head would

A head is Module(Tokens) -> (B, outputs); `loss(output, target)` is a mean over the batch, `decide(output)` what a user
reads. Probabilities are calibrated by `avfuse.nn.calibration`, on data that were not trained on.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.colearning.contrast import InfoNCE
from avfuse.nn.timed import Tokens

Pool = Literal["attention", "mean", "none"]
_NARROWEST = -10.0  # of a log variance: a network that is surer than this has found a leak
_WIDEST = 10.0


class AttentionPool(nn.Module):
    """(B, D) of Tokens: their mean, weighted by a softmax of what a learned vector sees in each; 0 where none is valid.

    A mean would give a stream of many tokens more votes than one of few. Parameters: D + 1 of the score.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, tokens: Tokens) -> Tensor:
        values = tokens.values.masked_fill(~tokens.valid[:, :, None], 0.0)
        anything = tokens.present[:, None]
        scores = self.score(values)[:, :, 0].masked_fill(~(tokens.valid | ~anything), -torch.inf)
        weights = torch.softmax(scores, dim=1) * anything.to(values.dtype)
        return (weights[:, None, :] @ values)[:, 0]


class Head(nn.Module):
    """Pools tokens and maps them to `outputs` numbers. What these mean, subclasses say.

    pool: "attention"; "mean", which is the same for fusions that give one token; or "none", for `StepHead`.
    """

    def __init__(self, dim: int, outputs: int, *, pool: Pool = "attention") -> None:
        super().__init__()
        if outputs < 1:
            raise StreamError(f"{type(self).__name__}: {outputs} outputs; expected one or more")
        self.pool = pool
        self.attend = AttentionPool(dim) if pool == "attention" else None
        self.out = nn.Linear(dim, outputs)

    def forward(self, tokens: Tokens) -> Tensor:
        if self.pool == "none":
            return self.out(tokens.values)  # type: ignore[no-any-return]
        return self.out(tokens.mean() if self.attend is None else self.attend(tokens))  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def decide(self, output: Tensor) -> Tensor:
        raise NotImplementedError


class ClassificationHead(Head):
    """Logits of `classes`; targets (B,) of class numbers. Loss: cross-entropy, with optional label smoothing."""

    def __init__(self, dim: int, classes: int, *, smoothing: float = 0.0, pool: Pool = "attention") -> None:
        super().__init__(dim, classes, pool=pool)
        if classes < 2:
            raise StreamError(f"ClassificationHead: {classes} class; expected two or more")
        self.classes = classes
        self.smoothing = smoothing

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and (target.min() < 0 or target.max() >= self.classes):
            raise StreamError(
                f"labels {int(target.min())} ... {int(target.max())} do not fit {self.classes} classes; expected "
                f"0 ... {self.classes - 1}"
            )
        return functional.cross_entropy(output, target, label_smoothing=self.smoothing)

    def decide(self, output: Tensor) -> Tensor:
        """(..., classes): probabilities."""
        return torch.softmax(output, dim=-1)


class MultiLabelHead(Head):
    """Logits of `labels` that may hold together; targets (B, labels) of 0 or 1. Loss: binary cross-entropy."""

    def __init__(self, dim: int, labels: int, *, pool: Pool = "attention") -> None:
        super().__init__(dim, labels, pool=pool)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output, target.to(output.dtype))

    def decide(self, output: Tensor) -> Tensor:
        """(..., labels): probability of each."""
        return torch.sigmoid(output)


class RegressionHead(Head):
    """Mean and log variance of `numbers`, (B, 2 numbers); targets (B, numbers).

    Loss: negative log-likelihood of a Gaussian, each term weighed by its stated variance to the power `beta`, without
    gradient, so that what is badly fitted is not given up on. Seitzer et al., On the pitfalls of heteroscedastic
    uncertainty estimation with probabilistic neural networks, 2022 (their eq. 4; beta 0.5).
    """

    def __init__(self, dim: int, numbers: int, *, beta: float = 0.5, pool: Pool = "attention") -> None:
        super().__init__(dim, 2 * numbers, pool=pool)
        self.beta = beta

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        mean, log_variance = gaussian(output)
        each = 0.5 * ((target - mean) ** 2 * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))
        return (each * torch.exp(self.beta * log_variance).detach()).mean()

    def decide(self, output: Tensor) -> Tensor:
        """(..., numbers, 2): mean and 1 sigma."""
        mean, log_variance = gaussian(output)
        return torch.stack([mean, torch.exp(0.5 * log_variance)], dim=-1)


def gaussian(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance, (..., numbers) each, of what `RegressionHead` puts out."""
    mean, log_variance = output.chunk(2, dim=-1)
    return mean, log_variance.clamp(_NARROWEST, _WIDEST)


class RetrievalHead(Head):
    """A vector of length 1 in a space of `size` dimensions; targets (B, size), the vectors of what belongs to each row.

    Loss: `InfoNCE` of the two, both ways.
    """

    def __init__(self, dim: int, size: int, *, pool: Pool = "attention") -> None:
        super().__init__(dim, size, pool=pool)
        self.contrast = InfoNCE()

    def forward(self, tokens: Tokens) -> Tensor:
        return functional.normalize(super().forward(tokens), dim=-1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self.contrast({"found": output, "target": target})  # type: ignore[no-any-return]

    def decide(self, output: Tensor) -> Tensor:
        return output


class StepHead(nn.Module):
    """Another head at every token: (B, N, outputs); targets (B, N, ...), and `valid` says which tokens count.

    head: made with `pool="none"`. Tokens must have times: of fusions, the pooled kinds with a `step`, joint,
    cross_attention.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        if head.pool != "none":
            raise StreamError(f'StepHead: {type(head).__name__} pools over time; expected one made with pool="none"')
        self.head = head

    def forward(self, tokens: Tokens) -> Tensor:
        return self.head(tokens)  # type: ignore[no-any-return]

    def loss(self, output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """valid: (B, N) bool. Raises StreamError where nothing is valid."""
        if not valid.any():
            raise StreamError("StepHead: no step is valid; expected one or more in a batch")
        return self.head.loss(output[valid], target[valid])

    def decide(self, output: Tensor) -> Tensor:
        return self.head.decide(output)


class Decided(nn.Module):
    """The head of a late fusion: its one token's values are the decision, with loss and reading of `like`."""

    def __init__(self, like: Head) -> None:
        super().__init__()
        # In a tuple, and thus no submodule: its parameters decide nothing here.
        self._like = (like,)

    def forward(self, tokens: Tokens) -> Tensor:
        return tokens.values[:, 0]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return self._like[0].loss(output, target)

    def decide(self, output: Tensor) -> Tensor:
        return self._like[0].decide(output)


HEADS: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multi_label": MultiLabelHead,
    "regression": RegressionHead,
    "retrieval": RetrievalHead,
}
