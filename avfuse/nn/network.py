"""The fusion network: encode each modality, fuse, decide."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.timed import Timed, Tokens, since_origin


class FusionNet(nn.Module):
    """Encoders, one for each modality; a fusion of what they say; a head that decides.

    encoders: modality -> Module(Timed) -> Tokens, all of `dim` features.
    fusion: Module(dict of Tokens, every modality in it) -> Tokens.
    head: Module(Tokens) -> a decision.
    Any subset of modalities that is not empty will do, row by row (`Timed.present`) or for a whole batch (not in it).
    """

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: nn.Module, head: nn.Module, *, dim: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({name: encoders[name] for name in sorted(encoders)})
        self.fusion = fusion
        self.head = head
        self.dim = dim

    def forward(self, batch: Mapping[str, Timed]) -> Tensor:
        """batch: modality -> Timed, as `to_timed` makes it.

        Raises StreamError for a modality without an encoder, and for a row with no modality present.
        """
        return self.head(self.fusion(self.encode(batch)))  # type: ignore[no-any-return]

    def encode(self, batch: Mapping[str, Timed]) -> dict[str, Tokens]:
        """Tokens of every modality; of one that is not in the batch, a token that is not valid."""
        unknown = sorted(set(batch) - set(self.encoders))
        if unknown or not batch:
            raise StreamError(
                f"batch: modalities {', '.join(unknown) or 'none'}; expected some of {', '.join(self.encoders)}"
            )
        batch = since_origin(batch)
        rows = len(next(iter(batch.values())).present)
        like = next(self.parameters())
        return {
            name: (encoder(batch[name]) if name in batch else Tokens.absent(rows, self.dim, like)).on_clock(number)
            for number, (name, encoder) in enumerate(self.encoders.items())
        }
