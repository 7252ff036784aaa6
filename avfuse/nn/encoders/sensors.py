"""Sensors -> Tokens: convolutions over an even grid of seconds, or a transformer over the samples as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.attention import Transformer
from avfuse.nn.encoders.grid import check_heads, even_length, grid_points, halved, on_grid
from avfuse.nn.timed import Timed, Tokens


class Standardise(nn.Module):
    """Each channel less its mean, over its standard deviation, as `fit` found them; kept with the weights.

    Until `fit` is called nothing is changed.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def fit(self, stream: Timed) -> None:
        """Takes mean and standard deviation from what is valid in `stream`; of a still channel, the mean alone.

        Raises StreamError where nothing is valid.
        """
        known = _channels(stream, len(self.mean))[stream.mask].double()
        if not len(known):
            raise StreamError("Standardise.fit: no valid sample; expected a batch that has this modality")
        std = known.std(dim=0, correction=0)
        self.mean.copy_(known.mean(dim=0))
        self.scale.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """(..., channels)."""
        return (values - self.mean) / self.scale


def _channels(stream: Timed, channels: int) -> Tensor:
    """(B, T, channels); raises StreamError for others."""
    values = stream.values[:, :, None] if stream.values.ndim == 2 else stream.values.flatten(2)
    if values.shape[2] != channels:
        raise StreamError(f"sensor values of shape {tuple(stream.values.shape)}; expected {channels} channels")
    return values


class SensorConvolution(nn.Module):
    """Sensors of any rate -> Tokens at `rate` / 2**layers: convolutions whose kernels are so many seconds long.

    Samples come onto a grid of `rate` hertz (see `on_grid`); whether a point is known is a channel of its own. Then a
    convolution, and `layers` times a residual one and one with stride 2.

    channels: of the sensor. dim: features. kernel: seconds. gap: seconds up to which missing samples are interpolated.
    duration: seconds of the longest window; needed for export, None takes it from each batch.
    Call `fit(stream)` with training data before training, so that units do not matter.
    """

    def __init__(
        self,
        channels: int,
        dim: int = 64,
        *,
        layers: int = 2,
        dropout: float = 0.1,
        rate: float = 50.0,
        kernel: float = 0.1,
        gap: float = 0.25,
        duration: float | None = None,
    ) -> None:
        super().__init__()
        if not (rate > 0 and kernel > 0 and gap >= 0):
            raise StreamError(
                f"SensorConvolution: rate {rate} Hz, kernel {kernel} s, gap {gap} s; expected more than 0"
            )
        self.channels, self.dim, self.rate, self.gap, self.duration = channels, dim, rate, gap, duration
        taps = 2 * max(1, round(kernel * rate / 2)) + 1
        self.standardise = Standardise(channels)
        self.first = nn.Conv1d(channels + 1, dim, taps, padding=taps // 2)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.wide = nn.ModuleList(nn.Conv1d(dim, dim, taps, padding=taps // 2) for _ in range(layers))
        self.strided = nn.ModuleList(nn.Conv1d(dim, dim, 4, stride=2, padding=1) for _ in range(layers))
        self.last = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def fit(self, stream: Timed) -> None:
        """See `Standardise.fit`."""
        self.standardise.fit(stream)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, channels), times from 0 on (`since_origin`). Tokens: (B, points / 2**layers, dim)."""
        samples = _channels(stream, self.channels)
        points = grid_points(stream, self.rate, self.duration)
        values, valid = on_grid(samples, stream.times, stream.mask, rate=self.rate, points=points, gap=self.gap)
        times = torch.arange(points, device=values.device, dtype=torch.float64).expand(valid.shape) / self.rate
        values = torch.cat([self.standardise(values), valid[:, :, None].to(values.dtype)], dim=2)
        values = values.to(self.first.weight.dtype)
        values = self._over_time(self.first, values, valid)
        for norm, wide, strided in zip(self.norms, self.wide, self.strided, strict=True):
            found = functional.gelu(self._over_time(wide, norm(values), valid))
            values, times, valid = even_length(values + self.dropout(found), times, valid)
            values = self._over_time(strided, values, valid)
            times, valid = halved(times, valid)
        return Tokens.of(self.last(values), times.masked_fill(~valid, 0.0), valid, stream)

    @staticmethod
    def _over_time(convolution: nn.Module, values: Tensor, valid: Tensor) -> Tensor:
        """Of what is valid alone: beyond it lies 0, as beyond the ends."""
        seen = values.masked_fill(~valid[:, :, None], 0.0)
        return convolution(seen.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


class SensorTransformer(nn.Module):
    """Sensors of any rate -> one Token for each sample; positions are seconds.

    Attention grows with the square of the number of samples: for more than some thousand, `SensorConvolution`.

    channels: of the sensor. dim, layers, heads, dropout: of the transformer. Call `fit(stream)` before training.
    """

    def __init__(self, channels: int, dim: int = 64, *, layers: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.channels, self.dim = channels, dim
        self.standardise = Standardise(channels)
        self.first, self.second = nn.Linear(channels, dim), nn.Linear(dim, dim)
        self.transformer = Transformer(dim, layers, heads, dropout=dropout)

    def fit(self, stream: Timed) -> None:
        """See `Standardise.fit`."""
        self.standardise.fit(stream)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, T, channels). Tokens: (B, T, dim)."""
        values = _channels(stream, self.channels).masked_fill(~stream.mask[:, :, None], 0.0)
        values = self.first(self.standardise(values.to(self.first.weight.dtype)))
        values = self.second(functional.gelu(values))
        return self.transformer(Tokens.of(values, stream.times, stream.valid, stream))  # type: ignore[no-any-return]
