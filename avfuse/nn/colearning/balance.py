"""Balance of modalities in training: OGM-GE and gradient blending.

Both are for networks in which one modality, learned sooner, keeps the others from being learned. Whether they help is
measured in `benchmarks.fusion.missing` beside a tuned network without them; neither is on unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.colearning.missing import evaluating
from avfuse.nn.timed import Tokens

_ALL = "all"  # the branch of all modalities together


def probability_of_truth(output: Tensor, target: Tensor) -> Tensor:
    """(B,): what a classifier's softmax gives the right class."""
    return torch.softmax(output, dim=-1).gather(1, target[:, None])[:, 0]


class GradientModulation:
    """OGM-GE: on-the-fly gradient modulation with generalisation enhancement (Peng et al., 2022).

        tokens = net.encode(batch)
        net.head.loss(net.head(net.fusion(tokens)), target).backward()
        modulation(tokens, target)
        optimizer.step()

    Encoders of modalities that do better alone than the others, ratio r > 1, have their gradients scaled by
    k = 1 - tanh(alpha r), others by 1 (their eq. 8 to 10); then noise with the gradient's own standard deviation is
    added to each of their weights (eq. 11). What is told apart here: a modality's score is what the network gives the
    truth when it has that modality alone, so that any fusion will do (with a linear layer over a concatenation, theirs,
    it is the same up to a constant); for more than two, r is the ratio to the mean of the others.

    Optimisers that divide by the size of the gradient (Adam) undo a scale that stays the same: this is made for SGD.

    net: a `FusionNet`. alpha: how strongly; 0 scales everything by 1. noise: scale of the noise, 0 for none ("OGM").
    seed: of the noise, the same on all processes. score: (output, target) -> (B,) of 0 or more, higher is better.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        alpha: float = 0.3,
        noise: float = 1.0,
        seed: int = 0,
        score: Callable[[Tensor, Tensor], Tensor] = probability_of_truth,
    ) -> None:
        if not (alpha >= 0 and noise >= 0):
            raise StreamError(f"GradientModulation: alpha {alpha!r}, noise {noise!r}; expected 0 or more")
        if len(net.encoders) < 2:  # type: ignore[arg-type]
            raise StreamError("GradientModulation: the network has one modality; expected two or more to balance")
        self.net = net
        self.alpha, self.noise, self.score = alpha, noise, score
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, tokens: Mapping[str, Tokens], target: Tensor) -> dict[str, float]:
        """After backward(), before the optimiser's step: scales gradients in place and returns the coefficients."""
        found = modulation_coefficients(self.scores(tokens, target), self.alpha)
        for name, encoder in self.net.encoders.items():  # type: ignore[operator, union-attr]
            for weight in encoder.parameters():
                if weight.grad is None:
                    continue
                spread = float(weight.grad.std(correction=0)) * self.noise
                weight.grad.mul_(found.get(name, 1.0))
                if spread > 0:
                    draws = torch.randn(weight.shape, generator=self._generator, dtype=torch.float32)
                    weight.grad.add_(draws.to(weight.grad), alpha=spread)
        return found

    @torch.no_grad()
    def scores(self, tokens: Mapping[str, Tokens], target: Tensor) -> dict[str, float]:
        """Mean score of each modality alone, over the rows (of all processes) that have it; of others, nothing."""
        sums = torch.zeros((len(tokens), 2), dtype=torch.float64, device=target.device)
        with evaluating(self.net):
            for k, name in enumerate(sorted(tokens)):
                have = tokens[name].present
                if bool(have.any()):
                    output = self.net.head(self.net.fusion(alone(tokens, name)))  # type: ignore[operator]
                    sums[k, 0] = self.score(output[have], target[have]).double().sum()
                    sums[k, 1] = have.sum()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)  # else the encoders of processes would part
        return {
            name: float(total / count)
            for name, (total, count) in zip(sorted(tokens), sums.tolist(), strict=True)
            if count > 0
        }

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._generator.set_state(state["generator"].cpu())


def modulation_coefficients(scores: Mapping[str, float], alpha: float) -> dict[str, float]:
    """Modality -> factor of its gradients: 1 - tanh(alpha r) where r, its score over the others' mean, is above 1.

    Scores within a millionth of the others' mean are equal to it. One modality alone has factor 1.
    """
    found = {}
    for name, own in scores.items():
        others = [score for other, score in scores.items() if other != name]
        mean = sum(others) / len(others) if others else own
        if own <= mean * (1 + 1e-6) or alpha == 0:
            found[name] = 1.0
        else:
            found[name] = 1.0 - math.tanh(alpha * own / mean if mean > 0 else math.inf)
    return found


def alone(tokens: Mapping[str, Tokens], name: str) -> dict[str, Tokens]:
    """One modality's tokens, and those of the others as if nobody had them."""
    return {
        other: found if other == name else Tokens.absent(len(found.values), found.values.shape[2], found.values)
        for other, found in tokens.items()
    }


class GradientBlending(nn.Module):
    """Gradient blending (Wang et al., What makes training multi-modal classification networks hard?, 2020).

        blending = GradientBlending(net, lambda: ClassificationHead(net.dim, classes))
        blending.weights = blending_weights(before, after)
        tokens = net.encode(batch)
        loss = blending(tokens, net.head(net.fusion(tokens)), target)

    Each modality has a head of its own over its encoder, and their losses are added to that of all together, with
    weights that favour what generalises over what overfits. The heads are for training; nothing else needs them. Rows
    that lack a modality do not count in its loss.

    net: a `FusionNet`. head: makes a head, Module(Tokens) -> output with `loss`; called once for each modality.
    weights: branch ("all", or a modality) -> weight; equal to begin with.
    Optimise `blending.parameters()` with those of the network: it holds its heads and not the network.
    """

    def __init__(self, net: nn.Module, head: Callable[[], nn.Module]) -> None:
        super().__init__()
        names = sorted(net.encoders)  # type: ignore[arg-type]
        if _ALL in names:
            raise StreamError(
                f"GradientBlending: a modality is called {_ALL!r}, as all of them together are; rename it"
            )
        self.heads = nn.ModuleDict({name: head() for name in names})
        self._net = (net,)  # in a tuple, and thus no submodule
        self._weights = {branch: 1.0 / (len(names) + 1) for branch in (_ALL, *names)}

    @property
    def weights(self) -> dict[str, float]:
        return dict(self._weights)

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        if set(weights) != set(self._weights) or any(not w >= 0 for w in weights.values()):
            raise StreamError(
                f"GradientBlending: weights {dict(weights)}; expected 0 or more for each of {', '.join(self._weights)}"
            )
        self._weights = dict(weights)

    def forward(self, tokens: Mapping[str, Tokens], output: Tensor, target: Tensor) -> Tensor:
        """The blended loss. output: of the network, for these tokens."""
        found = self.losses(tokens, output, target)
        return torch.stack([self._weights[branch] * loss for branch, loss in found.items()]).sum()

    def losses(self, tokens: Mapping[str, Tokens], output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Loss of each branch; 0 for a modality that no row of the batch has."""
        found = {_ALL: self._net[0].head.loss(output, target)}  # type: ignore[operator, union-attr]
        for name, head in self.heads.items():
            have = tokens[name].present
            said = head(tokens[name])
            # With nobody there the heads still get a gradient, of 0: processes must agree on who takes part.
            found[name] = head.loss(said[have], target[have]) if bool(have.any()) else 0.0 * said.sum()  # type: ignore[operator]
        return found


Losses = tuple[float, float]  # in training and on held-out data


def blending_weights(
    before: Mapping[str, Losses], after: Mapping[str, Losses], *, least: float = 1e-2
) -> dict[str, float]:
    """Weights of branches from their losses before and after some epochs of training: G / O^2, with sum 1.

    before, after: branch -> (loss in training, loss on held-out data). G is what the held-out loss has fallen by, and
    O what its distance to the training loss has grown by (Wang et al., eq. 3, 5 and algorithm 1); branches are trained
    each by itself. A branch whose held-out loss has risen has weight 0; where all have, all are equal. least: nats; an
    O that is smaller, or negative, counts as this.
    Raises StreamError for branches that differ, and for losses that are not finite.
    """
    if not before or set(before) != set(after):
        raise StreamError(
            f"blending: losses of {', '.join(before) or 'nothing'} before and {', '.join(after) or 'nothing'} after; "
            "expected the same branches"
        )
    every: Sequence[float] = [loss for losses in (*before.values(), *after.values()) for loss in losses]
    if not all(math.isfinite(loss) for loss in every):
        raise StreamError("blending: losses that are not finite; take them before training diverged")
    found = {}
    for branch, (trained, held) in before.items():
        trained_after, held_after = after[branch]
        gained = max(held - held_after, 0.0)
        overfitted = max((held_after - trained_after) - (held - trained), least)
        found[branch] = gained / overfitted**2
    total = sum(found.values())
    if not total > 0:
        return dict.fromkeys(found, 1.0 / len(found))
    return {branch: weight / total for branch, weight in found.items()}
