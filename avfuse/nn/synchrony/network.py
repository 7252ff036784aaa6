"""A small network that hears and sees whether two streams go together, and at which lag.

Two encoders turn each stream into features on steps of 40 ms; pictures have some at each of 60 places. The score of a
lag is the correlation, over the whole clip, of what is heard with what one place shows, whichever place it is: as
SyncNet (Chung and Zisserman, Out of time: automated lip sync in the wild, 2016) compares windows of both in one
space, with the place found by the network itself (Afouras, Owens, Chung and Zisserman, Self-supervised learning of
audio-visual objects from video, 2020).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from avfuse.errors import ReadError, StreamError
from avfuse.files import replacing
from avfuse.nn.synchrony.confidence import MatchProbability
from avfuse.nn.synchrony.tracks import FINER, HEIGHT, STEP, WIDTH, Track
from avfuse.nn.timed import Timed, Tokens

DIM = 24
FORMAT = "avfuse.synchroniser/1"
_QUIET = 0.02  # of the liveliest place's power: places with less show nothing but noise


class FrameEncoder(nn.Module):
    """Frames of 10 ms, four to a step, as features of each step: of sound or of a sensor.

    Timed `(B, 4 T, channels)` -> Tokens `(B, T, dim)`. What is not valid reaches nothing.
    """

    places = 1

    def __init__(self, channels: int, dim: int = DIM, width: int = 48) -> None:
        super().__init__()
        self.spectral = nn.Conv1d(channels, width, 9, stride=FINER, padding=4)
        self.temporal = nn.Conv1d(width, width, 5, padding=2)
        self.out = nn.Conv1d(width, dim, 5, padding=2)

    def forward(self, timed: Timed) -> Tokens:
        values = timed.values.masked_fill(~timed.mask[:, :, None], 0.0).transpose(1, 2)
        valid = timed.mask[:, ::FINER]
        # Padding is 0 to each layer, as what lies beyond the ends is.
        known = valid[:, None, :].to(values.dtype)
        x = functional.gelu(self.spectral(values)) * known
        x = x + functional.gelu(self.temporal(x)) * known
        return Tokens.of(self.out(x).transpose(1, 2), timed.times[:, ::FINER], valid, timed)


class PictureEncoder(nn.Module):
    """Small grey pictures as features of each step at each of 6 x 10 places.

    Timed `(B, T, 24, 40)`, brightness about its mean at each pixel, see `timed` -> Tokens `(B, T * places, dim)`,
    the places of a step one after the other.
    """

    places = (HEIGHT // 4) * (WIDTH // 4)

    def __init__(self, dim: int = DIM, width: int = 32) -> None:
        super().__init__()
        self.motion = nn.Conv3d(1, width // 2, 5, stride=(1, 2, 2), padding=2)
        self.shape = nn.Conv3d(width // 2, width, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.temporal = nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0))
        self.out = nn.Conv3d(width, dim, (5, 1, 1), padding=(2, 0, 0))

    def forward(self, timed: Timed) -> Tokens:
        batch, steps = timed.values.shape[:2]
        known = timed.mask[:, None, :, None, None]
        x = 4.0 * timed.values[:, None].masked_fill(~known, 0.0)
        known = known.to(x.dtype)
        x = functional.gelu(self.motion(x)) * known
        x = functional.gelu(self.shape(x)) * known
        x = x + functional.gelu(self.temporal(x)) * known
        values = self.out(x).flatten(3).permute(0, 2, 3, 1).reshape(batch, steps * self.places, -1)
        times = timed.times[:, :, None].expand(-1, -1, self.places).reshape(batch, -1)
        valid = timed.mask[:, :, None].expand(-1, -1, self.places).reshape(batch, -1)
        return Tokens.of(values, times, valid, timed)


def liveliness(tokens: Tokens, places: int) -> Tensor:
    """(B, T, places, D): features about their mean over valid steps, in units of their power at each place; 0 where
    nothing is valid."""
    batch, count, dim = tokens.values.shape
    values = tokens.values.reshape(batch, count // places, places, dim)
    known = tokens.valid.reshape(batch, count // places, places, 1)
    weights = known.to(values.dtype)
    number = weights.sum(dim=1, keepdim=True).clamp(min=1.0)
    values = values.masked_fill(~known, 0.0)
    values = (values - values.sum(dim=1, keepdim=True) / number) * weights
    power = (values**2).sum(dim=(1, 3), keepdim=True) / (number * dim)
    floor = _QUIET * power.amax(dim=2, keepdim=True) + 1e-8
    return values / torch.sqrt(power + floor)


def lagged(heard: Tensor, seen: Tensor, lags: int) -> Tensor:
    """Correlation of every sound with every place of every picture: (B_seen, B_heard, places, lags).

    heard: (B, T + lags - 1, D). seen: (B, T, places, D). Entry k is the sound k steps after its first, over T.
    """
    steps, dim = seen.shape[1], seen.shape[3]
    size = heard.shape[1]  # lags in which all of the picture meets sound do not wrap around
    a = torch.fft.rfft(heard.float(), size, dim=1)
    b = torch.fft.rfft(seen.float(), size, dim=1)
    product = torch.einsum("ifpd,jfd->ijpf", b.conj(), a)
    found: Tensor = torch.fft.irfft(product, size, dim=3)[..., :lags]
    return found / (steps * dim)


@dataclass(frozen=True)
class Learned:
    """What a synchroniser was made from, and what it is worth on recordings that it was not trained on.

    trained_on, held_out: names of recordings. right: share of held-out clips whose best lag is right, whatever the
    confidence. answered: share of them that are answered. wrong: answers that are wrong, of all of both kinds.
    unrelated_answered: of clips with sound of another time or recording, of which there are `unrelated`.
    median_error: seconds, of the right ones; bias: their median with its sign.
    """

    trained_on: tuple[str, ...]
    held_out: tuple[str, ...]
    clips: int
    right: float
    answered: float
    wrong: int
    unrelated: int
    unrelated_answered: int
    median_error: float
    bias: float


class Synchroniser(nn.Module):
    """Two encoders and what turns their agreement into an answer.

    kinds: of the two streams, e.g. ("sound", "picture"); the first is the one that a lag belongs to. channels: of each.
    match: evidence -> probability. std_scale, std_floor: what the scatter of an estimate misses, and seconds that no
    estimate goes below. All three come from held-out recordings; None, or infinity, before.
    """

    def __init__(self, kinds: tuple[str, str], channels: tuple[int, int]) -> None:
        super().__init__()
        if len(kinds) != 2 or kinds.count("picture") > 1:
            raise StreamError(f"Synchroniser: kinds {', '.join(kinds)}; expected two, and one picture at most")
        if kinds[0] == "picture":
            raise StreamError(f"Synchroniser: kinds {', '.join(kinds)}; expected the picture second")
        self.kinds, self.channels = kinds, channels
        self.first = FrameEncoder(channels[0])
        self.second: FrameEncoder | PictureEncoder = (
            PictureEncoder() if kinds[1] == "picture" else FrameEncoder(channels[1])
        )
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.match: MatchProbability | None = None
        self.std_scale, self.std_floor = 1.0, float("inf")
        self.learned: Learned | None = None

    def forward(self, first: Timed, second: Timed, lags: int) -> Tensor:
        """Scores of every first with every second: (B_second, B_first, lags); see `lagged`."""
        heard = liveliness(self.first(first), 1)[:, :, 0]
        seen = liveliness(self.second(second), self.second.places)
        found = lagged(heard, seen, lags) * self.log_scale.exp().clamp(max=100.0)
        # Whichever place it is: a smooth maximum.
        return torch.logsumexp(found, dim=2) - float(np.log(self.second.places))

    def embed(self, track: Track) -> NDArray[np.float32]:
        """(steps, places, D) of a whole track; raises StreamError for another kind, or other channels, than learned."""
        if track.kind not in self.kinds:
            raise StreamError(f"a track of {track.kind}; this synchroniser was learned for {' and '.join(self.kinds)}")
        which = self.kinds.index(track.kind)
        if track.channels != self.channels[which]:
            raise StreamError(
                f"{track.kind} of {track.channels} channels; this synchroniser was learned for {self.channels[which]}"
            )
        encoder = (self.first, self.second)[which]
        training = self.training
        self.eval()
        with torch.no_grad():
            # A minute at a time, with as much around it as the encoders look at.
            piece, around = round(60.0 / STEP), 8
            parts = []
            still = mean_picture(track) if track.kind == "picture" else None
            for first in range(0, track.steps, piece):
                count = min(piece, track.steps - first)
                part = track.part(track.first + first - around, count + 2 * around)
                tokens = encoder(timed([part], still))
                values = tokens.values.reshape(part.steps, encoder.places, -1)[around : around + count]
                known = torch.as_tensor(part.valid[around : around + count])
                parts.append(values * known[:, None, None])
            whole = Tokens(
                torch.cat(parts).flatten(0, 1)[None],
                torch.zeros(1, track.steps * encoder.places, dtype=torch.float64),
                torch.as_tensor(np.repeat(track.valid, encoder.places))[None],
                torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1, 1),
            )  # fmt: skip
            found = liveliness(whole, encoder.places)[0].numpy()
        self.train(training)
        return np.asarray(found, np.float32)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """One safetensors file: weights, and all else as JSON in its header."""
        from safetensors.torch import save

        facts = {
            "format": FORMAT, "kinds": self.kinds, "channels": self.channels,
            "match": None if self.match is None else asdict(self.match),
            "std_scale": self.std_scale,
            "std_floor": self.std_floor if np.isfinite(self.std_floor) else None,
            "learned": None if self.learned is None else asdict(self.learned),
        }  # fmt: skip
        path = Path(path)
        with replacing(path) as temporary:
            Path(temporary).write_bytes(save(self.state_dict(), {"avfuse": json.dumps(facts)}))
        return path


def load_synchroniser(path: str | os.PathLike[str]) -> Synchroniser:
    """What `Synchroniser.save` wrote; nothing in it is executed. Raises ReadError for anything else."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ReadError(f"{path}: no such file; expected a synchroniser that `Synchroniser.save` wrote")
    try:
        with safe_open(str(path), "pt") as file:
            facts: Mapping[str, Any] = json.loads((file.metadata() or {}).get("avfuse", "{}"))
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ReadError(f"{path}: no safetensors file ({error}); expected what `Synchroniser.save` wrote") from error
    if facts.get("format") != FORMAT:
        raise ReadError(f"{path}: format {facts.get('format')!r}; expected {FORMAT!r}")
    try:
        model = Synchroniser(tuple(facts["kinds"]), tuple(facts["channels"]))
        model.load_state_dict(weights)
        model.match = None if facts["match"] is None else MatchProbability(**facts["match"])
        model.std_scale = float(facts["std_scale"])
        model.std_floor = float("inf") if facts["std_floor"] is None else float(facts["std_floor"])
        told = facts["learned"]
        if told is not None:
            listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
            model.learned = Learned(**listed)
    except (KeyError, TypeError, RuntimeError, StreamError) as error:
        reason = str(error).splitlines()[0]
        raise ReadError(f"{path}: not all of a synchroniser is in it ({reason}); save it again") from error
    return model


def mean_picture(track: Track) -> NDArray[np.float32]:
    known = track.values[track.valid]
    return np.asarray(known.mean(axis=0) if len(known) else np.zeros(track.values.shape[1:]), np.float32)


def timed(tracks: Sequence[Track], still: NDArray[np.float32] | None = None) -> Timed:
    """Tracks of one kind and length as a batch for an encoder.

    Of pictures, what differs from `still`, or else from each track's own mean: what stands still says nothing, and is
    no edge where a clip begins.
    """
    finer = 1 if tracks[0].kind == "picture" else FINER
    valid = np.stack([np.repeat(t.valid, finer) for t in tracks])
    if tracks[0].kind == "picture":
        means = [mean_picture(t) if still is None else still for t in tracks]
        values = np.stack([(t.values - mean) / 255.0 for t, mean in zip(tracks, means, strict=True)])
    else:
        values = np.stack([t.values for t in tracks])
    count = valid.shape[1]
    ones = torch.ones(len(tracks))
    return Timed(
        torch.as_tensor(values.astype(np.float32)),
        (torch.arange(count, dtype=torch.float64) * (STEP / finer)).expand(len(tracks), count),
        torch.as_tensor(valid),
        torch.as_tensor(valid.any(axis=1)),
        ones,
        torch.zeros_like(ones),
        (finer / STEP,) * len(tracks),
    )
