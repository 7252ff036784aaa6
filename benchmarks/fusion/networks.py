"""The networks that are compared: the same small encoders and head, and every kind of fusion between them."""

from __future__ import annotations

from torch import nn

from avfuse.nn.encoders import SensorConvolution, SoundEncoder, VideoConvolution
from avfuse.nn.fusion import FUSIONS, Concatenation, Hybrid, Late
from avfuse.nn.heads import ClassificationHead, Decided
from avfuse.nn.network import FusionNet
from benchmarks.fusion.happenings import CLASSES, WIDTH

KINDS = tuple(FUSIONS)
_STEP = 0.1  # seconds of the grid on which kinds that pool bring modalities together


def network(kind: str, names: tuple[str, ...], *, dim: int = 32, duration: float = WIDTH) -> FusionNet:
    """A network of one kind of fusion for windows of these modalities, of at most `duration` seconds."""
    encoders = {name: _encoder(name, dim, duration) for name in names}
    head = ClassificationHead(dim, CLASSES)
    if kind == "late":
        late = Late(names, dim, head=lambda: ClassificationHead(dim, CLASSES))
        return FusionNet(encoders, late, Decided(head), dim=dim)
    return FusionNet(encoders, _fusion(kind, names, dim, duration), head, dim=dim)


def _fusion(kind: str, names: tuple[str, ...], dim: int, duration: float) -> nn.Module:
    if kind == "hybrid":
        # What is seen and felt, token by token; then what is heard joins it.
        groups = {"movement": FUSIONS["cross_attention"](("picture", "rotation"), dim, layers=1)}
        over = Concatenation(("movement", "sound"), dim, step=_STEP, duration=duration)
        return Hybrid(names, dim, groups=groups, over=over)
    if kind in ("cross_attention", "joint", "bottleneck", "perceiver"):
        return FUSIONS[kind](names, dim, layers=1, **({"latents": 8} if kind == "perceiver" else {}))
    return FUSIONS[kind](names, dim, step=_STEP, duration=duration)


def _encoder(modality: str, dim: int, duration: float) -> nn.Module:
    if modality == "picture":
        return VideoConvolution(3, dim, layers=1, channels=8)
    if modality == "rotation":
        return SensorConvolution(3, dim, layers=1, duration=duration)
    return SoundEncoder(dim, layers=1, channels=8, bands=32)
