"""Models that the user brings, as encoders: any nn.Module, or a model of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.timed import Timed, Tokens


class ModuleEncoder(nn.Module):
    """Any nn.Module as an encoder: its features, projected, spread evenly over the stretch that it saw.

    module: (B, T, ...) -> (B, N, features), or (B, features) for one token. It takes what a stream holds up to its last
    valid sample: rows of one length at a time, so that no padding reaches it; samples missing on the way are 0.
    (A graph that is exported passes whole arrays, and only a module that padding does not touch gives the same.)
    features: of the module's output. dim: features of the Tokens. freeze: the module stays as it is.
    """

    def __init__(self, module: nn.Module, features: int, dim: int, *, freeze: bool = False) -> None:
        super().__init__()
        self.module, self.features, self.dim, self.freeze = module, features, dim, freeze
        self.project = nn.Linear(features, dim)
        if freeze:
            module.requires_grad_(False)
            module.eval()

    def train(self, mode: bool = True) -> ModuleEncoder:
        """As of any module, but that a frozen one stays as in use."""
        super().train(mode)
        if self.freeze:
            self.module.eval()  # nor may its dropout or running statistics move
        return self

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, ...). Tokens: (B, N, dim).

        Raises StreamError where the module's output has another shape than it should.
        """
        mask = stream.mask
        shape = (*mask.shape, *(1 for _ in stream.values.shape[2:]))
        values = stream.values.masked_fill(~mask.reshape(shape), 0)
        if torch.compiler.is_compiling():
            return self._tokens(*self._spread(self._features(values, mask), stream.times, mask), stream)
        lengths = _lengths(mask).tolist()
        parts, order = [], []
        for length in sorted(set(lengths)):
            rows = [row for row, n in enumerate(lengths) if n == length]
            index = torch.tensor(rows, device=mask.device)
            seen = mask[index, :length]
            parts.append(self._spread(self._features(values[index, :length], seen), stream.times[index, :length], seen))
            order += rows
        longest = max(part[0].shape[1] for part in parts)
        back = torch.argsort(torch.tensor(order, device=mask.device))

        def joined(some: list[Tensor]) -> Tensor:
            return torch.cat(
                [torch.cat([s, s.new_zeros((len(s), longest - s.shape[1], *s.shape[2:]))], 1) for s in some]
            )[back]

        found, times, valid = (joined(list(some)) for some in zip(*parts, strict=True))
        return self._tokens(found, times, valid, stream)

    def _features(self, values: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad() if self.freeze else nullcontext():
            found = self._call(values, mask)
        if not isinstance(found, Tensor) or found.ndim not in (2, 3) or found.shape[-1] != self.features:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise StreamError(
                f"{type(self.module).__name__} gave {got} for {tuple(values.shape)}; expected (batch, tokens, "
                f"{self.features}) or (batch, {self.features})"
            )
        return found if found.ndim == 3 else found[:, None]

    def _call(self, values: Tensor, mask: Tensor) -> Tensor:
        return self.module(values)  # type: ignore[no-any-return]

    def _spread(self, found: Tensor, times: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token j of n has the samples from j T / n to (j + 1) T / n: the mean of their times; valid where one is."""
        count, samples = found.shape[1], mask.shape[1]
        starts, ends = (_bounds(count, samples, side, mask.device) for side in (0, 1))
        known = functional.pad(mask.long().cumsum(dim=1), (1, 0))
        total = functional.pad(times.masked_fill(~mask, 0.0).cumsum(dim=1), (1, 0))
        inside = known[:, ends] - known[:, starts]
        return found, (total[:, ends] - total[:, starts]) / inside.clamp(min=1), inside > 0

    def _tokens(self, found: Tensor, times: Tensor, valid: Tensor, stream: Timed) -> Tokens:
        return Tokens.of(self.project(found.to(self.project.weight.dtype)), times, valid, stream)


def _lengths(mask: Tensor) -> Tensor:
    """(B,): up to the last valid sample; at least 1, so that a module has something to run on."""
    number = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return torch.where(mask, number, 1).amax(dim=1)


def _bounds(count: int, samples: int, side: int, device: torch.device) -> Tensor:
    """Of each of `count` tokens, its first sample (side 0) or the one after its last (1); each has one at least."""
    number = torch.arange(count, device=device)
    start = (number * samples) // count
    return start if side == 0 else torch.maximum(((number + 1) * samples) // count, start + 1)


class TransformersEncoder(ModuleEncoder):
    """A model of the transformers library as an encoder: its last hidden state.

    model: called with `argument`=(B, T, ...) and `attention_mask`=(B, T), both cut to the valid stretch; returns an
    object with `last_hidden_state` (B, N, features). features: of its configuration's `hidden_size` unless given.
    argument: "input_ids" for text, "input_values" for sound, "inputs_embeds" or "pixel_values", as the model asks.
    prepare: values (B, T, ...) -> what the model takes, where that is not the same: scaling, or another order of axes.
    """

    def __init__(
        self,
        model: nn.Module,
        dim: int,
        *,
        argument: str = "input_ids",
        prepare: Callable[[Tensor], Tensor] | None = None,
        features: int | None = None,
        freeze: bool = False,
    ) -> None:
        size = features or getattr(getattr(model, "config", None), "hidden_size", None)
        if size is None:
            raise StreamError(f"{type(model).__name__} has no config.hidden_size; give `features` of its last layer")
        super().__init__(model, int(size), dim, freeze=freeze)
        self.argument, self.prepare = argument, prepare

    def _call(self, values: Tensor, mask: Tensor) -> Tensor:
        values = values if self.prepare is None else self.prepare(values)
        found = self.module(**{self.argument: values, "attention_mask": mask.long()})
        return found.last_hidden_state  # type: ignore[no-any-return]
