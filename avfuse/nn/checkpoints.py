"""Checkpoints: one safetensors file with weights, what else training goes on from, and the configuration.

Nothing is pickled, so nothing is run by loading a file. A file is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avfuse.errors import ReadError
from avfuse.files import replacing

FORMAT = "avfuse.checkpoint/1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """tensors: by name, such as "model.head.out.weight". facts: JSON of everything else. path: where it came from."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    path: Path

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors whose names begin with `name.`, without that."""
        first = name + "."
        return {key.removeprefix(first): value for key, value in self.tensors.items() if key.startswith(first)}


def save_checkpoint(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Raises WriteError where that is not possible."""
    # A copy of each: safetensors refuses tensors that share memory.
    whole = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata={"format": FORMAT, "facts": json.dumps(facts)})


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Raises ReadError where it is missing, cut short, or of another format."""
    file = Path(path)
    if not file.is_file():
        raise ReadError(f"{file}: no such file; expected a model as `avfuse train` writes it")
    try:
        with safe_open(file, framework="pt") as opened:
            told = opened.metadata() or {}
            if told.get("format") != FORMAT:
                raise ReadError(f"{file}: format is {told.get('format')!r}; expected {FORMAT!r}")
            return Checkpoint({key: opened.get_tensor(key) for key in opened.keys()}, json.loads(told["facts"]), file)  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ReadError(f"{file}: cannot be read as safetensors ({error}); expected a model of avfuse") from error


def load_weights(network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Raises ReadError, naming the first difference, where the weights are those of another network."""
    weights, own = checkpoint.part("model"), network.state_dict()
    for name in sorted(set(weights) ^ set(own)):
        whose = "is not in the network" if name in weights else "is missing"
        raise ReadError(f"{checkpoint.path}: weight {name!r} {whose}; expected a model of this configuration")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            raise ReadError(
                f"{checkpoint.path}: weight {name!r} of shape {tuple(value.shape)}; expected {tuple(own[name].shape)}"
            )
    network.load_state_dict(weights)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of each parameter, by its number and name: "3.exp_avg"."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{key}": torch.as_tensor(value) for number, each in state.items() for key, value in each.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
