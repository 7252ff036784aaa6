"""Learning a synchroniser on one's own footage: whatever is in step within its files teaches what being in step is.

Every clip is held against its own other stream at other times, which are the hardest negatives there are (SyncNet,
Chung and Zisserman 2016; as a choice among many lags: Chung, Chung and Kang, Perfect match, 2019), and against those of
other recordings, by one softmax over all of them (InfoNCE: van den Oord, Li and Vinyals 2018). Some recordings are
never trained on: they tell how much evidence is needed for an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avfuse.errors import StreamError
from avfuse.nn.synchrony.confidence import MatchProbability
from avfuse.nn.synchrony.estimating import SHORTEST, Found, judged, search
from avfuse.nn.synchrony.network import Learned, Synchroniser, timed
from avfuse.nn.synchrony.tracks import FINER, STEP, Track, stream_of, track_of
from avfuse.stream import Recording

_RIGHT = 0.12  # seconds within which a lag is right
_SPREAD = 0.6  # steps, standard deviation of the target: containers and mouths are in step to about that
_RATE, _DECAY = 2e-3, 1e-2
_RISE = 20  # steps of training until the full rate
_CLIPS = (4.0, 20.0)  # seconds, of held-out clips
_TRIES = 96  # held-out clips
_USUAL, _USUAL_WEIGHT = 0.025, 2.0  # seconds by which mouths and blows are off, and recordings that it counts for

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class InStep:
    """Two streams of one recording that are in step, ready to learn from."""

    name: str
    first: Track
    second: Track

    @classmethod
    def of(cls, recording: Recording, kinds: tuple[str, str] = ("sound", "picture")) -> InStep:
        """Raises StreamError where the recording has no stream of one of the kinds."""
        first, second = (track_of(stream_of(recording, kind)) for kind in kinds)
        return cls(recording.name, first, second)

    @property
    def start(self) -> int:
        return max(self.first.first, self.second.first)

    @property
    def steps(self) -> int:
        """That both have."""
        ends = (t.first + t.steps for t in (self.first, self.second))
        return max(0, min(ends) - self.start)


def learn_synchrony(
    recordings: Sequence[Recording | InStep],
    *,
    kinds: tuple[str, str] = ("sound", "picture"),
    held_out: float | Sequence[str] = 0.25,
    steps: int = 400,
    window: float = 5.0,
    farthest: float = 1.5,
    batch: int = 8,
    rng: np.random.Generator | int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Synchroniser:
    """A synchroniser for two kinds of streams, from recordings in which these are in step.

    recordings: their first streams of each kind are taken; ones of the same event should be given as one, or held out
    together. kinds: the picture, where there is one, second. held_out: share of the recordings, or names of those, that
    are not trained on; what the model is worth on them is in `.learned`, and they set when it refuses. steps: of
    training, each on `batch` clips of `window` seconds, told from lags up to `farthest` seconds.
    progress: called with (share done, what is being done).
    Raises StreamError for fewer than two recordings, or ones too short to learn from. On equal input and rng the result
    is the same. Where there is nothing to learn, the model that comes back refuses everything.
    """
    tell = progress or (lambda share, what: None)
    ready = []
    for k, recording in enumerate(recordings):
        tell(0.3 * k / max(len(recordings), 1), f"reading {recording.name}")
        ready.append(recording if isinstance(recording, InStep) else InStep.of(recording, kinds))
    rng = np.random.default_rng(rng)
    training, testing = _split(ready, held_out, rng)
    channels = {(r.first.channels, r.second.channels) for r in ready}
    if len(channels) > 1:
        raise StreamError(
            f"learn_synchrony: streams of {sorted(channels)} channels; expected the same in all recordings"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        model = Synchroniser((ready[0].first.kind, ready[0].second.kind), channels.pop())
    count, reach = round(window / STEP), round(farthest / STEP)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY)
    model.train()
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min((step + 1) / _RISE, 0.5 + 0.5 * math.cos(math.pi * share) + 1e-3)
        first, second, owners = _batch(training, batch, count, reach, rng)
        scores = model(timed(first), timed(second), 2 * reach + 1)
        loss = contrast(scores, owners, reach)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        tell(0.3 + 0.5 * share, f"step {step + 1} of {steps}, loss {float(loss.detach()):.3f}")
    model.eval()
    _calibrate(model, training, testing, farthest, rng, tell)
    return model


def contrast(scores: Tensor, owners: Tensor, reach: int) -> Tensor:
    """InfoNCE over lags and clips at once.

    scores: `(B, B, lags)` of every second with every first, lag 0 in the middle. owners: `(B,)` recordings; other clips
    of one's own recording are no negatives, since they may overlap.
    """
    rows, lags = scores.shape[0], scores.shape[2]
    away = torch.arange(lags, dtype=scores.dtype, device=scores.device) - reach
    target = torch.softmax(-(away**2) / (2 * _SPREAD**2), dim=0)
    own = torch.eye(rows, dtype=torch.bool, device=scores.device)
    kept = own | (owners[:, None] != owners[None, :])
    against = scores.masked_fill(~kept[:, :, None], -torch.inf).reshape(rows, -1).logsumexp(dim=1)
    mine = scores[own]  # (B, lags)
    # Half of the loss among one's own lags only: other recordings are told apart by how they sound, without any time.
    everything = against - (mine * target).sum(dim=1)
    within = mine.logsumexp(dim=1) - (mine * target).sum(dim=1)
    return 0.5 * (everything + within).mean()


def _split(
    ready: Sequence[InStep], held_out: float | Sequence[str], rng: np.random.Generator
) -> tuple[list[InStep], list[InStep]]:
    names = [r.name for r in ready]
    if isinstance(held_out, float | int):
        if not 0.0 < held_out < 1.0:
            raise StreamError(f"held_out {held_out!r}; expected a share between 0 and 1, or names of recordings")
        chosen = max(1, round(held_out * len(ready)))
        kept = set(rng.permutation(len(ready))[:chosen].tolist())
    else:
        unknown = sorted(set(held_out) - set(names))
        if unknown:
            raise StreamError(f"held_out: no recording {unknown[0]!r}; there are {', '.join(names)}")
        kept = {k for k, name in enumerate(names) if name in set(held_out)}
    training = [r for k, r in enumerate(ready) if k not in kept]
    testing = [r for k, r in enumerate(ready) if k in kept]
    if not training or not testing:
        raise StreamError(
            f"learn_synchrony: {len(ready)} recordings, {len(testing)} of them held out; expected at least one to "
            "train on and one to hold out, better ten and three"
        )
    for r in ready:
        if r.steps * STEP < SHORTEST:
            raise StreamError(
                f"recording {r.name!r}: its streams meet for {r.steps * STEP:.1f} s; at least {SHORTEST:g} s are needed"
            )
    return training, testing


def _batch(
    recordings: Sequence[InStep], size: int, count: int, reach: int, rng: np.random.Generator
) -> tuple[list[Track], list[Track], Tensor]:
    """Clips of the second stream, and of the first one with `reach` steps more on either side."""
    lengths = np.array([r.steps for r in recordings], np.float64)
    # Long recordings have more to say; no recording twice while there are others.
    chance = np.sqrt(lengths) / np.sqrt(lengths).sum()
    owners = rng.choice(len(recordings), size, replace=size > len(recordings), p=chance)
    first, second = [], []
    for k in owners:
        r = recordings[k]
        begin = r.start + int(rng.integers(max(1, r.steps - count + 1)))
        first.append(_varied(r.first.part(begin - reach, count + 2 * reach), rng))
        second.append(_varied(r.second.part(begin, count), rng))
    return first, second, torch.as_tensor(owners)


def _varied(track: Track, rng: np.random.Generator) -> Track:
    """The same in another place, light or room: what must not matter."""
    if track.kind == "picture":
        values = track.values[:, :, ::-1] if rng.random() < 0.5 else track.values
        down, right = int(rng.integers(-2, 3)), int(rng.integers(-4, 5))
        values = np.pad(values, ((0, 0), (2, 2), (4, 4)), "edge")
        values = values[:, 2 + down : values.shape[1] - 2 + down, 4 + right : values.shape[2] - 4 + right]
        return replace(track, values=np.clip(values * rng.uniform(0.6, 1.4), 0.0, 255.0).astype(np.float32))
    values = track.values * np.float32(rng.uniform(0.8, 1.2))
    if track.kind == "sound":
        # A room or a microphone colours sound: a level for each band, smooth over bands.
        colour = np.interp(np.arange(values.shape[1]), np.linspace(0, values.shape[1] - 1, 5), rng.normal(0, 0.7, 5))
        values = values + colour.astype(np.float32) * np.repeat(track.valid, FINER)[:, None]
    return replace(track, values=values.astype(np.float32))


def _calibrate(
    model: Synchroniser,
    training: Sequence[InStep],
    testing: Sequence[InStep],
    farthest: float,
    rng: np.random.Generator,
    tell: Callable[[float, str], None],
) -> None:
    """How much evidence is enough, and how far right answers scatter, from clips of held-out recordings."""
    # With seconds by which the first is late, None where unrelated, and the number of the recording.
    found: list[tuple[Found, float | None]] = []
    of: list[int] = []
    for k in range(_TRIES):
        tell(0.8 + 0.2 * k / _TRIES, f"held-out clip {k + 1} of {_TRIES}")
        r = testing[k % len(testing)]
        least, most = (round(s / STEP) for s in _CLIPS)
        count = min(r.steps, int(rng.integers(least, most + 1)))
        begin = r.start + int(rng.integers(r.steps - count + 1))
        seen = r.second.part(begin, count)
        late = int(rng.integers(-round(farthest / STEP), round(farthest / STEP) + 1))
        clips: list[tuple[Track, float | None]] = [(r.first.part(begin - late, count), late * STEP)]
        clips += [(other, None) for other in _elsewhere(testing, r, begin, count, farthest, rng)]
        if seen.idle is not None:
            continue
        shown = model.embed(seen)
        for heard, by in clips:
            if heard.idle is not None:
                continue
            one = search(
                model.embed(heard)[:, 0], shown, heard.valid, seen.valid,
                lead=0, low=-farthest - 0.5, high=farthest + 0.5,
            )  # fmt: skip
            if one is not None:
                found.append((one, by))
                of.append(k % len(testing))
    true = [(f, f.lag - by) for f, by in found if by is not None]
    right = [(f, error) for f, error in true if abs(error) <= _RIGHT]
    wrong = [f for f, error in true if abs(error) > _RIGHT]
    unrelated = [f for f, by in found if by is None]
    errors = np.array([error for _, error in right])
    # What a recording is off by as a whole no clip of it shows; with few of them, what is usual for mouths counts.
    owners = np.array([o for o, (f, by) in zip(of, found, strict=True) if by is not None and abs(f.lag - by) <= _RIGHT])
    off = np.array([float(np.median(errors[owners == o])) for o in np.unique(owners)])
    if len(off):
        model.std_floor = math.sqrt((float(np.sum(off**2)) + _USUAL_WEIGHT * _USUAL**2) / len(off))
        beyond = float(np.mean(errors**2)) - model.std_floor**2
        stated = float(np.mean([f.std**2 for f, _ in right]))
        model.std_scale = max(1.0, math.sqrt(max(beyond, 0.0) / max(stated, 1e-12)))
    else:
        model.std_floor, model.std_scale = _RIGHT, 1.0
    model.match = MatchProbability.fit(
        [f.evidence for f, _ in right], [f.evidence for f in (*wrong, *unrelated)], trials=min(_TRIES, len(unrelated))
    )
    answers = [(judged(model, f, (0.0, f.meeting)), by) for f, by in found]
    answers = [(a, by) for a, by in answers if a.status == "aligned"]
    model.learned = Learned(
        trained_on=tuple(r.name for r in training),
        held_out=tuple(r.name for r in testing),
        clips=len(true),
        right=len(right) / max(len(true), 1),
        answered=sum(by is not None for _, by in answers) / max(len(true), 1),
        wrong=sum(by is None or abs(a.offset - by) > max(5 * a.std, 1e-3) for a, by in answers),
        unrelated=len(unrelated),
        unrelated_answered=sum(by is None for _, by in answers),
        median_error=float(np.median(np.abs(errors))) if right else math.nan,
        bias=float(np.median(errors)) if right else math.nan,
    )


def _elsewhere(
    testing: Sequence[InStep], own: InStep, begin: int, count: int, farthest: float, rng: np.random.Generator
) -> list[Track]:
    """Two clips of the first stream that have nothing to do with this one: of other times, of other recordings."""
    found = []
    apart = count + round((2 * farthest + 1.0) / STEP)
    times = [b for b in range(own.start, own.start + own.steps - count + 1) if abs(b - begin) >= apart]
    if times:
        found.append(own.first.part(int(rng.choice(times)), count))
    others = [r for r in testing if r is not own]
    while others and len(found) < 2:
        r = others[int(rng.integers(len(others)))]
        length = min(count, r.steps)
        found.append(r.first.part(r.start + int(rng.integers(r.steps - length + 1)), length))
    return found
