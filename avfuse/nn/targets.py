"""Labels of a manifest as targets of a head, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avfuse.errors import StreamError


@dataclass(frozen=True)
class Targets:
    """What the outputs of a head stand for.

    kind: of the head. classes: names of classes or labels; of a regression, of its numbers. centre, scale: of each
    number of a regression over the training data; the network sees (number - centre) / scale.
    """

    kind: str
    classes: tuple[str, ...]
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @classmethod
    def of(cls, kind: str, labels: Sequence[Any]) -> Targets:
        """From the labels of the training data. Raises StreamError where they do not fit the kind of head."""
        if not labels:
            raise StreamError("labels: there are none; expected one for each window of the training data")
        if kind == "regression":
            numbers = np.array([_numbers(label) for label in labels])
            scale = numbers.std(axis=0)
            names = tuple(str(k) for k in range(numbers.shape[1]))
            return cls(kind, names, tuple(numbers.mean(axis=0)), tuple(np.where(scale > 0, scale, 1.0)))
        if kind == "multi_label":
            found = {str(name) for label in labels for name in _names(label)}
        else:
            found = {_class(label) for label in labels}
            if len(found) < 2:
                raise StreamError(f"labels: the only class is {next(iter(found))!r}; expected two or more")
        return cls(kind, tuple(sorted(found)))

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def tensor(self, labels: Sequence[Any], device: torch.device | str = "cpu") -> Tensor:
        """Targets of a batch. Raises StreamError for a label that the training data did not have."""
        if self.kind == "regression":
            numbers = np.array([_numbers(label, len(self.classes)) for label in labels])
            return torch.as_tensor((numbers - self.centre) / self.scale, dtype=torch.float32, device=device)
        if self.kind == "multi_label":
            hot = np.zeros((len(labels), len(self.classes)), np.float32)
            for row, label in enumerate(labels):
                for name in _names(label):
                    hot[row, self._number(str(name))] = 1.0
            return torch.as_tensor(hot, device=device)
        return torch.as_tensor([self._number(_class(label)) for label in labels], device=device)

    def _number(self, name: str) -> int:
        if name not in self.classes:
            raise StreamError(f"label {name!r} is not among those of the training data: {', '.join(self.classes)}")
        return self.classes.index(name)


def _class(label: Any) -> str:
    if isinstance(label, list | dict | None):
        raise StreamError(f"label {label!r} does not fit a classification; expected one name")
    return str(label)


def _names(label: Any) -> list[Any]:
    if not isinstance(label, list):
        raise StreamError(f"label {label!r} does not fit multi_label; expected a list of names")
    return label


def _numbers(label: Any, count: int | None = None) -> list[float]:
    given = label if isinstance(label, list) else [label]
    try:
        numbers = [float(value) for value in given]
    except (TypeError, ValueError):
        raise StreamError(f"label {label!r} does not fit a regression; expected a number, or a list of them") from None
    if not all(map(math.isfinite, numbers)) or (count is not None and len(numbers) != count):
        raise StreamError(f"label {label!r} does not fit a regression; expected {count or 'finite'} numbers")
    return numbers
