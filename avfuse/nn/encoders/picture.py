"""Pictures -> Tokens: convolutions or patches within a frame, attention in seconds between frames; still images.

Frames are never paired by their index: what lies between two of them is told by their times, so 25 fps, 30 fps and
variable rates are the same to a network.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.attention import Block, Transformer
from avfuse.nn.encoders.grid import check_heads
from avfuse.nn.timed import Timed, Tokens

_FREQUENCIES = 4  # of positions in the picture: 1/2, 1, 2 and 4 turns over its width


def _pictures(stream: Timed, colours: int) -> Tensor:
    """(B, T, colours, H, W) floats around 0, what is invalid 0; raises StreamError for others."""
    values = stream.values
    if values.ndim != 5 or values.shape[4] != colours:
        raise StreamError(
            f"pictures of shape {tuple(values.shape)}; expected (batch, time, height, width, {colours} colours)"
        )
    if not (values.dtype == torch.uint8 or values.is_floating_point()):
        raise StreamError(f"pictures of {values.dtype}; expected uint8, or floats 0 ... 1")
    values = values.float() / 255 if values.dtype == torch.uint8 else values
    values = (values - 0.5) / 0.25
    return values.masked_fill(~stream.mask[:, :, None, None, None], 0.0).permute(0, 1, 4, 2, 3)


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """(height, width, 2): y and x from -1 to 1, at the middles of rows and columns."""
    y, x = ((2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1 for n in (height, width))
    return torch.stack([y[:, None].expand(height, width), x.expand(height, width)], dim=-1)


class VideoConvolution(nn.Module):
    """Frames -> one Token each: strided convolutions, the mean over the picture, a transformer in seconds.

    The convolutions see where they are (Liu et al., CoordConv, 2018). Any height and width.

    colours: 1 or 3. dim: features. channels: of the first of three convolutions, doubled twice.
    layers, heads, dropout: of the transformer over frames.
    """

    def __init__(
        self,
        colours: int = 3,
        dim: int = 64,
        *,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        channels: int = 16,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.colours, self.dim = colours, dim
        widths = [colours + 2, channels, 2 * channels, 4 * channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths[1:])
        self.project = nn.Linear(2 * widths[-1], dim)
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(dim, layers, heads, dropout=dropout)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, H, W, colours), uint8 or 0 ... 1. Tokens: (B, T, dim)."""
        frames = _pictures(stream, self.colours).to(self.project.weight.dtype)
        batch, count = stream.mask.shape
        values = self.dropout(self.project(self._frames(frames.flatten(0, 1)))).reshape(batch, count, self.dim)
        return self.transformer(Tokens.of(values, stream.times, stream.valid, stream))  # type: ignore[no-any-return]

    def _frames(self, frames: Tensor) -> Tensor:
        """(frames, colours, H, W) -> (frames, features): each frame by itself, so no padding leaks."""
        places = _places(frames.shape[2], frames.shape[3], frames).permute(2, 0, 1)
        seen = torch.cat([frames, places.expand(len(frames), -1, -1, -1)], dim=1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            seen = functional.gelu(norm(convolution(seen)))
        return torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1)


class Patches(nn.Module):
    """Pictures (frames, colours, H, W) -> patches (frames, patches, dim) that know where in the picture they are.

    Two convolutions make them: early convolutions help transformers see better (Xiao et al., 2021). Positions are
    Fourier features of the fraction of height and width, so the size may change.
    patch: pixels along a side, a power of two, at least 4.
    """

    def __init__(self, colours: int, dim: int, patch: int) -> None:
        super().__init__()
        if patch < 4 or patch & (patch - 1):
            raise StreamError(f"patch of {patch} pixels; expected 4, 8, 16, 32 ...")
        self.patch = patch
        self.fine = nn.Conv2d(colours, dim // 2, 3, stride=2, padding=1)
        self.coarse = nn.Conv2d(dim // 2, dim, patch // 2, stride=patch // 2)
        self.place = nn.Linear(4 * _FREQUENCIES, dim)

    def forward(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[2:]
        if min(height, width) < self.patch:
            raise StreamError(f"pictures of {height} x {width}; expected at least one patch of {self.patch}")
        # Whole patches: what is missing at the right and below is grey.
        frames = functional.pad(frames, (0, -width % self.patch, 0, -height % self.patch))
        found = self.coarse(functional.gelu(self.fine(frames)))
        rows, columns = found.shape[2:]
        turns = _places(rows, columns, frames)[..., None] * (
            math.pi / 2 * 2.0 ** torch.arange(_FREQUENCIES, device=frames.device, dtype=frames.dtype)
        )
        place = self.place(torch.cat([turns.sin(), turns.cos()], dim=-1).flatten(2))  # (rows, columns, dim)
        return (found.permute(0, 2, 3, 1) + place).flatten(1, 2)  # type: ignore[no-any-return]


def _as_tokens(values: Tensor, times: Tensor, valid: Tensor) -> Tokens:
    one = torch.zeros_like(times, dtype=values.dtype)
    return Tokens(values, times, valid, one + 1, one, valid.long())


class VideoTransformer(nn.Module):
    """Frames -> one Token each: patches that attend in time, each to itself in other frames, and within their frame.

    Divided attention of Bertasius et al., Is space-time attention all you need for video understanding? (2021), with
    rotary positions in seconds along time; the mean of a frame's patches is its token.

    colours: 1 or 3. dim, layers, heads, dropout: of the transformer. patch: pixels along a side: 4, 8, 16, 32 ...
    """

    def __init__(
        self, colours: int = 3, dim: int = 64, *, layers: int = 2, heads: int = 4, dropout: float = 0.1, patch: int = 16
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.colours, self.dim = colours, dim
        self.patches = Patches(colours, dim, patch)
        self.in_time = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(layers))
        self.in_space = nn.ModuleList(Block(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, H, W, colours), uint8 or 0 ... 1. Tokens: (B, T, dim)."""
        frames = _pictures(stream, self.colours).to(self.norm.weight.dtype)
        batch, count = stream.mask.shape
        values = self.patches(frames.flatten(0, 1))  # (B * T, patches, dim)
        patches = values.shape[1]
        times = stream.times.masked_fill(~stream.mask, 0.0).repeat_interleave(patches, dim=0)
        seen = stream.mask.repeat_interleave(patches, dim=0)
        within = stream.mask.reshape(-1, 1).expand(-1, patches)
        nowhen = torch.zeros_like(within, dtype=torch.float64)
        for in_time, in_space in zip(self.in_time, self.in_space, strict=True):
            along = values.reshape(batch, count, patches, self.dim).transpose(1, 2).flatten(0, 1)
            along = in_time(_as_tokens(along, times, seen)).values
            values = along.reshape(batch, patches, count, self.dim).transpose(1, 2).flatten(0, 1)
            values = in_space(_as_tokens(values, nowhen, within)).values
        frames = self.norm(values.mean(dim=1)).reshape(batch, count, self.dim)
        return Tokens.of(frames, stream.times, stream.valid, stream)


class ImageEncoder(nn.Module):
    """Still images -> a Token for each patch, (B, T * patches, dim), at the time that its image was taken.

    Each image by itself, patches in their order. An image that belongs to the whole window and to no moment of it has
    `std` = infinity: then no distance in time counts in fusion.

    colours: 1 or 3. dim, layers, heads, dropout: of the transformer. patch: pixels along a side: 4, 8, 16, 32 ...
    """

    def __init__(
        self, colours: int = 3, dim: int = 64, *, layers: int = 2, heads: int = 4, dropout: float = 0.1, patch: int = 8
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.colours, self.dim = colours, dim
        self.patches = Patches(colours, dim, patch)
        self.transformer = Transformer(dim, layers, heads, dropout=dropout)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, H, W, colours), uint8 or 0 ... 1; T images, mostly 1."""
        images = _pictures(stream, self.colours).to(self.patches.fine.weight.dtype)
        batch = len(images)
        values = self.patches(images.flatten(0, 1))
        patches = values.shape[1]
        valid = stream.mask.reshape(-1, 1).expand(-1, patches)
        found = self.transformer(_as_tokens(values, torch.zeros_like(valid, dtype=torch.float64), valid)).values
        times, seen = (field.repeat_interleave(patches, dim=1) for field in (stream.times, stream.valid))
        return Tokens.of(found.reshape(batch, -1, self.dim), times, seen, stream)
