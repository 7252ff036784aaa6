"""Sound -> Tokens: log-mel bands in hertz and frames in seconds at whatever rate, convolutions, a transformer.

Bands above what a recording holds are absent: 0 and said to be so, and training hides high bands at random. So a
network that learned from 16 kHz is not at a loss with 8 kHz.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.attention import Transformer
from avfuse.nn.encoders.grid import check_heads, even_length, halved
from avfuse.nn.timed import Timed, Tokens

F64 = NDArray[np.float64]

_HELD = 0.45  # of the rate: above it, filters against aliasing have taken something away
_LEVEL_UP_TO = 3600.0  # Hz: bands that every recording from 8 kHz on holds tell how loud it is
_LEAST_CUT = 1500.0  # Hz, of the random limits in training: what sound of 3.4 kHz holds
_FLOOR = 1e-5  # of the mean power of the level's bands: -50 dB
_SILENCE = 1e-14  # power per hertz that is nothing: of a full-scale sound, -140 dB
_CENTRE, _SCALE = 6.0, 4.0  # brings nats above the floor to about -1 ... 2


def mel_filters(rate: float, size: int, edges: F64) -> F64:
    """Triangles of unit area, (bands, size // 2 + 1), over the frequencies of a Fourier transform of `size` samples.

    edges: (bands + 2,) hertz; see `mel_edges`. As of Slaney's Auditory Toolbox (1998), per hertz.
    """
    frequencies = np.arange(size // 2 + 1) * rate / size
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (high - low))


def mel_edges(bands: int, lowest: float, highest: float) -> F64:
    """(bands + 2,) hertz, evenly apart in Slaney's mel: linear up to 1 kHz, 27 steps for a factor of 6.4 above."""
    knee, step = 1000.0, np.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < knee else 15.0 + float(np.log(hertz / knee)) / step

    mel = np.linspace(to_mel(lowest), to_mel(highest), bands + 2)
    return np.where(mel < 15.0, mel * 200 / 3, knee * np.exp(step * (mel - 15.0)))


@lru_cache(maxsize=64)
def _filters(rate: float, size: int, bands: int, lowest: float, highest: float) -> tuple[F64, NDArray[np.bool_]]:
    edges = mel_edges(bands, lowest, highest)
    return mel_filters(rate, size, edges), edges[2:] <= _HELD * rate * (1 + 1e-6)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No automatic mixed precision: half precision cannot hold the power of a faint sound."""
    if torch.compiler.is_compiling() or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


class LogMel(nn.Module):
    """Sound -> how strong each mel band is, frame by frame, against the recording's own level.

    window, hop: seconds. bands: mel bands between `lowest` and `highest` hertz. limit: probability, in training, that
    a row loses its bands above a random frequency. Bands that no recording held in training are not looked at later:
    a network that learned from 8 kHz would not know what to make of them.
    """

    level: Tensor
    tops: Tensor
    learned: Tensor

    def __init__(
        self,
        *,
        bands: int = 64,
        window: float = 0.025,
        hop: float = 0.01,
        lowest: float = 50.0,
        highest: float = 7200.0,
        limit: float = 0.5,
    ) -> None:
        super().__init__()
        if not (bands >= 1 and 0 < hop <= window and 0 <= lowest < highest):
            raise StreamError(
                f"LogMel: {bands} bands of {lowest} ... {highest} Hz, window {window} s, hop {hop} s; expected at "
                "least one band, lowest < highest, and a hop that is not longer than the window"
            )
        self.bands, self.window, self.hop, self.lowest, self.highest, self.limit = (
            bands,
            window,
            hop,
            lowest,
            highest,
            limit,
        )
        edges = mel_edges(bands, lowest, highest)
        self.register_buffer("level", torch.as_tensor(edges[2:] <= max(_LEVEL_UP_TO, edges[2])), persistent=False)
        self.register_buffer("learned", torch.zeros(bands, dtype=torch.bool))
        self.register_buffer("tops", torch.as_tensor(edges[2:], dtype=torch.float32), persistent=False)

    def forward(self, stream: Timed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Strengths (B, frames, bands), bands held (B, bands), times (B, frames), frames valid (B, frames).

        stream: values (B, n, channels). Raises StreamError where a row that is present has no rate.
        """
        if stream.values.ndim != 3:
            raise StreamError(f"sound of shape {tuple(stream.values.shape)}; expected (batch, samples, channels)")
        groups = self._groups(stream)
        with _full_precision(stream.values.device):
            if len(groups) == 1:
                power, held, times, valid = self._power(stream, next(iter(groups)))
            else:
                power, held, times, valid = self._by_rate(stream, groups)
        if self.training:
            self.learned |= held[stream.present].any(dim=0)
            held = held & self._limited(held)
        else:
            held = held & (self.learned | ~self.learned.any())
        heard = valid[:, :, None] & (held & self.level)[:, None, :]
        level = power.masked_fill(~heard, 0.0).sum(dim=(1, 2)) / heard.sum(dim=(1, 2)).clamp(min=1)
        relative = power / level.clamp(min=_SILENCE)[:, None, None]
        strength = (torch.log(relative + _FLOOR) + _CENTRE) / _SCALE
        there = valid[:, :, None] & held[:, None, :]
        return strength.masked_fill(~there, 0.0), held, times, valid

    def _groups(self, stream: Timed) -> dict[float, list[int]]:
        """Rows of each rate; rows that are absent go with any."""
        if torch.compiler.is_compiling():
            some = {rate for rate in stream.rate if rate is not None}
            if len(some) != 1:
                raise StreamError(f"sound of {len(some)} rates; expected one in a network that is exported")
            return {some.pop(): []}
        present = stream.present.tolist()
        groups: dict[float, list[int]] = {}
        for row, (rate, there) in enumerate(zip(stream.rate, present, strict=True)):
            if there:
                if rate is None or not rate > 0:
                    raise StreamError(f"sound: row {row} has rate {rate}; expected Hz: sound is sampled evenly")
                groups.setdefault(float(rate), []).append(row)
        if not groups:
            return {next((float(rate) for rate in stream.rate if rate), 16000.0): list(range(len(present)))}
        next(iter(groups.values())).extend(row for row, there in enumerate(present) if not there)
        return groups

    def _by_rate(self, stream: Timed, groups: dict[float, list[int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        parts, order = [], []
        for rate, rows in groups.items():
            index = torch.tensor(rows, device=stream.values.device)
            mask = stream.mask[index]
            # No frames for the padding that rows of higher rates need.
            end = int(mask.any(dim=0).nonzero().max()) + 1 if bool(mask.any()) else 1
            part = Timed(
                stream.values[index, :end],
                stream.times[index, :end],
                stream.valid[index, :end],
                stream.present[index],
                stream.confidence[index],
                stream.std[index],
                (rate,) * len(rows),
            )
            parts.append(self._power(part, rate))
            order += rows
        frames = max(part[0].shape[1] for part in parts)
        back = torch.argsort(torch.tensor(order, device=stream.values.device))

        def joined(field: int) -> Tensor:
            some = [part[field] for part in parts]
            if field != 1:
                some = [torch.cat([p, p.new_zeros((len(p), frames - p.shape[1], *p.shape[2:]))], 1) for p in some]
            return torch.cat(some)[back]

        return joined(0), joined(1), joined(2), joined(3)

    def _power(self, stream: Timed, rate: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Power per hertz in each band, of rows of one rate; frames about samples 0, hop, 2 hops, ..."""
        width, hop = max(2, round(self.window * rate)), max(1, round(self.hop * rate))
        # Twice the window: frequencies dense enough for narrow bands, so that all rates measure alike.
        size = 1 << (2 * width - 1).bit_length()
        mask = stream.mask
        dtype = torch.float64 if stream.values.dtype == torch.float64 else torch.float32
        sound = stream.values.to(dtype).masked_fill(~mask[:, :, None], 0.0).mean(dim=2)
        window = torch.hann_window(width, dtype=dtype, device=sound.device)
        ahead = torch.stft(
            sound, size, hop, width, window, center=True, pad_mode="constant", return_complex=True
        )  # (B, frequencies, frames): beyond both ends there is nothing, as in padding
        density = (ahead.real**2 + ahead.imag**2).transpose(1, 2) / rate
        frames = density.shape[1]
        # Only samples that are there count: a frame at the sound's end, half empty, is not a softer one.
        energy = functional.conv1d(
            functional.pad(mask.to(dtype), ((width + 1) // 2, width // 2))[:, None],
            (window**2)[None, None],
            stride=hop,
        )[:, 0, :frames]
        filters, held = _filters(rate, size, self.bands, self.lowest, self.highest)
        bank = torch.as_tensor(filters * rate / size, dtype=dtype, device=sound.device)
        power = (density @ bank.T) / energy.clamp(min=1e-3)[:, :, None]
        centre = (torch.arange(frames, device=sound.device) * hop).clamp(max=sound.shape[1] - 1)
        inside = torch.arange(frames, device=sound.device) * hop < sound.shape[1]
        valid = mask[:, centre] & inside & self._whole(stream.times, mask, centre, width, rate)
        there = torch.as_tensor(held, device=sound.device).expand(len(sound), -1)
        times = stream.times[:, centre].masked_fill(~valid, 0.0)
        return power, there, times, valid

    def _whole(self, times: Tensor, mask: Tensor, centre: Tensor, width: int, rate: float) -> Tensor:
        """(B, frames): the frame's samples follow one another in time; it is no splice across a gap."""
        first = (centre - (width + 1) // 2).clamp(min=0)
        last = (centre + width // 2 - 1).clamp(max=times.shape[1] - 1)
        steps = times[:, 1:] - times[:, :-1]
        jumps = (steps - 1 / rate).abs() > max(0.5 * self.hop, 1 / rate)
        jumps = jumps & mask[:, 1:] & mask[:, :-1]
        so_far = functional.pad(jumps.long().cumsum(dim=1), (1, 0))
        return so_far[:, last] == so_far[:, first]

    def _limited(self, held: Tensor) -> Tensor:
        """(B, bands): bands that are left when some rows are cut off at a random frequency, evenly in octaves."""
        top = torch.where(held, self.tops, 0.0).amax(dim=1).clamp(min=_LEAST_CUT)
        cut = _LEAST_CUT * (top / _LEAST_CUT) ** torch.rand(len(held), device=held.device)
        cut = torch.where(torch.rand(len(held), device=held.device) < self.limit, cut, torch.inf)
        return self.tops <= cut[:, None]


class SoundEncoder(nn.Module):
    """Waveforms of any rate -> Tokens, one every four hops.

    Log-mel bands, two convolutions over time and frequency, each with stride 2, a transformer whose positions are
    seconds. The recording's gain changes nothing.

    dim: features. layers, heads, dropout: of the transformer. channels: of the first convolution. bands, window, hop,
    lowest, highest, limit: see `LogMel`.
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        channels: int = 16,
        bands: int = 64,
        window: float = 0.025,
        hop: float = 0.01,
        lowest: float = 50.0,
        highest: float = 7200.0,
        limit: float = 0.5,
    ) -> None:
        super().__init__()
        check_heads(dim, heads)
        if bands % 4:
            raise StreamError(f"SoundEncoder: {bands} bands; expected a multiple of 4: two strides of 2 halve them")
        self.dim = dim
        self.mel = LogMel(bands=bands, window=window, hop=hop, lowest=lowest, highest=highest, limit=limit)
        self.first = nn.Conv2d(2, channels, 4, stride=2, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1)
        self.project = nn.Linear(2 * channels * bands // 4, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.transformer = Transformer(dim, layers, heads, dropout=dropout)

    def forward(self, stream: Timed) -> Tokens:
        """stream: values (B, n, channels), with `rate`. Tokens: (B, frames / 4, dim)."""
        strength, held, times, valid = self.mel(stream)
        there = (valid[:, :, None] & held[:, None, :]).to(strength.dtype)
        seen = torch.stack([strength, there], dim=-1).to(self.first.weight.dtype)  # (B, frames, bands, 2)
        for convolution in (self.first, self.second):
            seen, times, valid = even_length(seen, times, valid)
            seen = seen.masked_fill(~valid[:, :, None, None], 0.0)
            seen = functional.gelu(convolution(seen.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
            times, valid = halved(times, valid)
        values = self.dropout(self.norm(self.project(seen.flatten(2))))
        return self.transformer(Tokens.of(values, times, valid, stream))  # type: ignore[no-any-return]
