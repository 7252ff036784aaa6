"""Distillation: what a network decides that has everything, taught to one that has lost something.

Under modality dropout a label alone says little about how sure to be without a modality; a teacher says it. Hinton,
Vinyals and Dean, Distilling the knowledge in a neural network, 2015; features after Romero et al., FitNets, 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.colearning.missing import Subset, only, take_rows
from avfuse.nn.timed import Timed, Tokens


def softened_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 2.0) -> Tensor:
    """(B,): T^2 KL(softmax(teacher / T) || softmax(student / T)), in nats.

    student, teacher: (B, classes) logits; no gradient goes to the teacher. T^2 keeps the gradient's size (Hinton et
    al., section 2.1). Raises StreamError for shapes that differ, and for temperatures that are not above 0.
    """
    if student.shape != teacher.shape:
        raise StreamError(
            f"distillation: student of shape {tuple(student.shape)}, teacher {tuple(teacher.shape)}; expected the same "
            "classes of both"
        )
    if not temperature > 0:
        raise StreamError(f"distillation: temperature {temperature!r}; expected more than 0")
    told = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    said = functional.log_softmax(student / temperature, dim=-1)
    return temperature**2 * (told.exp() * (told - said)).sum(dim=-1)


def feature_distance(student: Tokens, teacher: Tokens) -> Tensor:
    """(B,): mean squared distance of the means over tokens, each brought to mean 0 and variance 1 over its features.

    So neither can make it small by making its features small. Raises StreamError where the numbers of features differ.
    """
    ours, theirs = student.mean(), teacher.mean().detach()
    if ours.shape != theirs.shape:
        raise StreamError(
            f"distillation: features of shape {tuple(ours.shape)} and {tuple(theirs.shape)}; expected the same dim"
        )
    size = ours.shape[-1:]
    return (functional.layer_norm(ours, size) - functional.layer_norm(theirs, size)).square().mean(dim=-1)


class Distillation:
    """The loss of a student that sees part of a batch, against teachers that see all that they know.

        thinned = dropout(batch)
        fused = student.fusion(student.encode(thinned))
        output = student.head(fused)
        loss = student.head.loss(output, target) + distillation(output, thinned, batch, fused)

    full: `FusionNet` that knows all modalities: it is given the whole batch, whatever the student has lost, unless
    specialists: subset of modalities -> a network of these alone: it teaches the rows of which the student sees exactly
        that subset. The full teacher knows what cannot be known from a part; a specialist is sure of what can.
    temperature: of `softened_divergence`. weight: of it; features: weight of `feature_distance` to the full teacher,
        for rows that it teaches.
    Teachers are in eval() and get no gradient; they are no part of the student and not saved with it.
    """

    def __init__(
        self,
        full: nn.Module,
        *,
        specialists: Mapping[str, nn.Module] | Mapping[Subset, nn.Module] | None = None,
        temperature: float = 2.0,
        weight: float = 1.0,
        features: float = 0.0,
    ) -> None:
        if weight < 0 or features < 0 or weight + features <= 0:
            raise StreamError(f"distillation: weights {weight!r} and {features!r}; expected 0 or more, not both 0")
        self.full = full.eval()
        self.specialists: dict[Subset, nn.Module] = {
            _subset(subset): net.eval() for subset, net in (specialists or {}).items()
        }
        self.temperature, self.weight, self.features = temperature, weight, features

    def __call__(
        self,
        output: Tensor,
        thinned: Mapping[str, Timed],
        whole: Mapping[str, Timed],
        fused: Tokens | None = None,
    ) -> Tensor:
        """Scalar: mean over the batch. output: (B, classes) of the student; fused: its tokens, for `features`.

        Raises StreamError where features count and `fused` is not given.
        """
        if self.features > 0 and fused is None:
            raise StreamError("distillation: features have a weight, and no fused tokens of the student were given")
        names = sorted(thinned)
        seen = torch.stack([thinned[name].mask.any(dim=1) for name in names], dim=1)
        by_full = torch.ones(len(output), dtype=torch.bool, device=output.device)
        each = torch.zeros(len(output), dtype=output.dtype, device=output.device)
        for subset, net in self.specialists.items():
            member = torch.tensor([name in subset for name in names], device=seen.device)
            # A subset with a modality that the batch lacks is that of no row.
            rows = (seen == member).all(dim=1) & bool(set(subset) <= set(names))
            by_full = by_full & ~rows
            index = rows.nonzero()[:, 0]
            if len(index) and self.weight > 0:
                with torch.no_grad():
                    # What the student sees of these modalities may have lost spans of time; the teacher's has not.
                    told = net(take_rows(only(whole, subset), index))
                each = each.index_add(0, index, self.weight * self._divergence(output[index], told))
        index = by_full.nonzero()[:, 0]
        if len(index):
            with torch.no_grad():
                tokens = self.full.fusion(self.full.encode(take_rows(whole, index)))  # type: ignore[operator, union-attr]
                told = self.full.head(tokens)  # type: ignore[operator, union-attr]
            found = self.weight * self._divergence(output[index], told)
            if fused is not None and self.features > 0:
                found = found + self.features * feature_distance(_rows(fused, index), tokens)
            each = each.index_add(0, index, found)
        return each.mean()

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return softened_divergence(student, teacher, temperature=self.temperature)


def _subset(names: Iterable[str]) -> Subset:
    """A name alone is a subset of one."""
    return (names,) if isinstance(names, str) else tuple(sorted(names))


def _rows(tokens: Tokens, index: Tensor) -> Tokens:
    fields = ("values", "times", "valid", "confidence", "std", "clock")
    return Tokens(*(getattr(tokens, field)[index] for field in fields))
