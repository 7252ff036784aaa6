"""Hybrid fusion: groups of modalities are fused, each in its own way, and what comes out is fused again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from avfuse.errors import StreamError
from avfuse.nn.fusion.steps import in_order, sorted_names
from avfuse.nn.timed import Tokens


class Hybrid(nn.Module):
    """Fusions of groups under a fusion of the groups, e.g. two sensors early, and what they say late with a camera.

    groups: name of the group -> its fusion, with its own `names`. Modalities of `names` in no group go on alone.
    over: fusion whose names are those of the groups and of the modalities that go on alone.
    Parameters: the sum of theirs.
    """

    def __init__(self, names: Sequence[str], dim: int, *, groups: Mapping[str, nn.Module], over: nn.Module) -> None:
        super().__init__()
        self.names = sorted_names(names)
        self.dim = dim
        self.groups = nn.ModuleDict({name: groups[name] for name in sorted(groups)})
        self.over = over
        grouped = [name for fusion in self.groups.values() for name in fusion.names]  # type: ignore[union-attr]
        twice = sorted({name for name in grouped if grouped.count(name) > 1} | (set(grouped) - set(self.names)))
        if twice:
            raise StreamError(f"hybrid: {', '.join(twice)} in groups; expected each of {', '.join(self.names)} once")
        self.alone = tuple(name for name in self.names if name not in grouped)
        expected = sorted([*self.groups, *self.alone])
        if sorted(over.names) != expected:  # type: ignore[arg-type]
            raise StreamError(f"hybrid: over fuses {', '.join(over.names)}; expected {', '.join(expected)}")  # type: ignore[arg-type]

    def forward(self, tokens: Mapping[str, Tokens]) -> Tokens:
        in_order(tokens, self.names)
        found = {name: tokens[name] for name in self.alone}
        for name, fusion in self.groups.items():
            found[name] = fusion({each: tokens[each] for each in fusion.names})  # type: ignore[union-attr]
        return self.over(found)  # type: ignore[no-any-return]
