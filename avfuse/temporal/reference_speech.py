"""A text on a sound by way of speech whose times are known: dynamic time warping, with pauses where they are needed.

Reference frames within words are the states of a chain; a state may stay (the speaker is slower) or be left out at a
price (faster), and between words there may be silence of any length, which plain warping cannot express.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.features.cepstra import FRAME_RATE, HIGHEST, Cepstra, mel_cepstra
from avfuse.features.pitch import RATE
from avfuse.resampling import resample_blocks
from avfuse.stream import Block, Stream
from avfuse.temporal.chance import Units
from avfuse.temporal.espeak import Piece, SpokenPhone, speak
from avfuse.temporal.viterbi import PAUSE, chain_path, speech_chain
from avfuse.transcript import Transcript

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_VARIANTS = ("", "+f2")  # of espeak-ng's voice: a man's, a woman's
_RATES = (150, 210)  # words a minute
_HURRY = -3.0  # for leaving out a reference frame, in distances
_QUIET = 0.3  # loudness that is as much a pause as speech
_PAUSE_COST, _PAUSE_SLOPE = 0.5, 2.0
_PIECE = 0.08  # seconds of a unit where a reference tells no phones
_TOKENS = 128  # kinds of frames that long references are told in
_POOL = 2  # frames in one, in long recordings
_SOME = 20_000  # frames that are grouped, or compared, at once


@dataclass(frozen=True, eq=False)
class Spoken:
    """The frames of words, one after another, without pauses.

    frames: `(n, dims)`. units: `(n,)` which phone each belongs to, from 0. words: `(phones,)` word of each phone.
    labels: name of each phone, or None where they are not known.
    """

    frames: F32
    units: I64
    words: I64
    labels: tuple[str, ...] | None

    def part(self, first: int, last: int) -> Spoken:
        """Words first <= word < last, counted from 0 again."""
        a, b = np.searchsorted(self.words, [first, last])
        i, j = np.searchsorted(self.units, [a, b])
        labels = None if self.labels is None else self.labels[a:b]
        return Spoken(self.frames[i:j], self.units[i:j] - a, self.words[a:b] - first, labels)

    def sheet(self, sound: Cepstra, first: int, last: int) -> tuple[F32, Units]:
        """Scores of sound frames first <= frame < last against every frame of this, and the units to go through."""
        scores = _scores(sound.frames[first:last], self.frames, sound.loudness[first:last])
        cuts = np.flatnonzero(np.diff(self.units)) + 1
        columns = tuple(np.split(np.arange(len(self.frames)), cuts))
        return scores, Units(columns, self.words, len(self.frames), hurry=_HURRY)


def _scores(sound: F32, frames: F32, loudness: F32) -> F32:
    """`(n, frames + 1)` minus the distance; in the last column what a pause costs."""
    scores = np.empty((len(sound), len(frames) + 1), np.float32)
    norms = (frames**2).sum(axis=1)
    for k in range(0, len(sound), _SOME):
        some, found = sound[k : k + _SOME], scores[k : k + _SOME, :-1]
        np.matmul(some, -2 * frames.T, out=found)
        found += (some**2).sum(axis=1)[:, None] + norms
        np.negative(np.sqrt(np.maximum(found, 0, out=found), out=found), out=found)
    usual = float(np.median(scores[:, :-1].max(axis=1)))
    pause = usual - _PAUSE_COST + _PAUSE_SLOPE * abs(usual) * (_QUIET - loudness)
    scores[:, -1] = np.minimum(pause, 0)
    return scores


def coarse_words(sound: Cepstra, spoken: Spoken, count: int) -> F64:
    """`(count, 2)` first and last frame of every word, roughly, in memory that grows with the lengths alone.

    Two frames are averaged into one, and the reference is told in 128 kinds of frames (k-means), so that scores take
    `frames x 129` instead of `frames x reference frames`.
    """
    from scipy.cluster.vq import kmeans2

    usable = len(sound.frames) // _POOL * _POOL
    pairs = (-1, _POOL, sound.frames.shape[1])
    heard = np.asarray(sound.frames[:usable].reshape(pairs).mean(axis=1), np.float32)
    loudness = np.asarray(sound.loudness[:usable].reshape(-1, _POOL).mean(axis=1), np.float32)
    words, starts = spoken.words[spoken.units], _pooled_starts(spoken.words[spoken.units])
    said = np.asarray(np.add.reduceat(spoken.frames, starts, axis=0), np.float32)
    said /= np.diff(starts, append=len(words)).astype(np.float32)[:, None]
    some = said[:: max(1, len(said) // _SOME)]
    centres, _ = kmeans2(some, min(_TOKENS, len(some)), iter=12, minit="++", seed=np.random.default_rng(0))
    centres = centres.astype(np.float32)
    quiet = np.zeros(len(said), np.float32)
    kinds = np.concatenate(
        [
            _scores(said[k : k + _SOME], centres, quiet[k : k + _SOME])[:, :-1].argmax(axis=1)
            for k in range(0, len(said), _SOME)
        ]
    )
    states = speech_chain(kinds, np.arange(len(said)), words[starts], len(centres), _HURRY)
    path, _ = chain_path(_scores(heard, centres, loudness), states)
    owners = states.owners[path]
    at = np.flatnonzero(owners != PAUSE)
    of = words[starts][owners[at]]
    found = np.full((count, 2), np.nan)
    found[of, 1] = at
    found[of[::-1], 0] = at[::-1]
    # Words that nothing is said for stand where the one before them ends.
    ends = np.fmax.accumulate(np.nan_to_num(found[:, 1], nan=0.0))
    found = np.where(np.isnan(found), ends[:, None], found)
    return np.asarray(_POOL * found + np.array([0, _POOL - 1]))


def _pooled_starts(words: I64) -> I64:
    """Every second frame of each word, from its first one on."""
    at = np.arange(len(words))
    opens = np.append(True, words[1:] != words[:-1])
    since = at - np.maximum.accumulate(np.where(opens, at, 0))
    return np.asarray(np.flatnonzero(since % _POOL == 0))


def spoken_by_espeak(words: Sequence[str], voice: str, highest: float) -> Iterator[Spoken]:
    """The text in several voices and at several speeds: what one of them gets wrong, most of the others do not."""
    variants = ("",) if "+" in voice else _VARIANTS
    for variant in variants:
        for rate in _RATES:
            yield _spoken(words, voice + variant, rate, highest)


def _spoken(words: Sequence[str], voice: str, rate: int, highest: float) -> Spoken:
    speech = _Speech(words, voice, rate)
    heard = mel_cepstra(Stream("espeak-ng", "sound", speech), highest=highest)
    if not speech.phones:
        raise StreamError(f"text: voice {voice!r} of espeak-ng says nothing for it; expected words of its language")
    labels = tuple(phone.text for phone in speech.phones)
    times = np.array([(phone.start, phone.end) for phone in speech.phones])
    return _cut(heard, times, np.array([phone.word for phone in speech.phones]), labels)


class _Speech:
    """What espeak-ng says, piece after piece as it comes, never as a whole. phones: those said so far."""

    duration = 0.0  # nobody knows before it is said

    def __init__(self, words: Sequence[str], voice: str, rate: int) -> None:
        self.words, self.voice, self.speed = words, voice, rate
        self.phones: list[SpokenPhone] = []

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        pieces = speak(self.words, voice=self.voice, rate=self.speed)
        first = next(pieces)
        blocks = self._blocks(chain([first], pieces))
        return blocks if rate is None else resample_blocks(blocks, first.rate, rate)

    def _blocks(self, pieces: Iterable[Piece]) -> Iterator[Block]:
        count = 0
        for piece in pieces:
            at = count / piece.rate
            self.phones += [
                SpokenPhone(p.text, p.word, at + p.start, at + p.end) for p in piece.phones if p.word is not None
            ]
            size = len(piece.samples)
            yield (count + np.arange(size)) / piece.rate, piece.samples[None]
            count += size
        if count == 0:
            yield np.zeros(1), np.zeros((1, 1), np.float32)


def spoken_by_person(sound: Stream, transcript: Transcript, highest: float) -> Spoken:
    """Reference speech with the times of its words, and phones where all of them are told."""
    heard = mel_cepstra(sound, highest=highest)
    words = transcript.words
    end = heard.start + len(heard.frames) / FRAME_RATE
    if words[-1].end > end + 0.5 or words[0].start < heard.start - 0.5:
        raise StreamError(
            f"reference: its words lie from {words[0].start:.2f} to {words[-1].end:.2f} s, its sound from "
            f"{heard.start:.2f} to {end:.2f} s; expected the times of this recording"
        )
    labels = None
    if all(word.phones for word in words):
        spans = [(k, p.start, p.end) for k, word in enumerate(words) for p in word.phones]
        labels = tuple(p.text for word in words for p in word.phones)
    else:
        spans = []
        for k, word in enumerate(words):
            edges = np.linspace(word.start, word.end, max(1, round((word.end - word.start) / _PIECE)) + 1)
            spans += [(k, float(a), float(b)) for a, b in pairwise(edges)]
    return _cut(heard, np.array([span[1:] for span in spans]), np.array([span[0] for span in spans]), labels)


def _cut(heard: Cepstra, times: F64, words: I64, labels: tuple[str, ...] | None) -> Spoken:
    """A frame every hundredth of a second of each phone, between the frames that were heard; at least one."""
    frames, units = [], []
    for k, (start, end) in enumerate((times - heard.start) * FRAME_RATE):
        count = max(1, round(end - start))
        at = np.clip(start + (np.arange(count) + 0.5) / count * (end - start), 0, len(heard.frames) - 1.001)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32)[:, None]
        frames.append((1 - share) * heard.frames[low] + share * heard.frames[low + 1])
        units.append(np.full(count, k))
    return Spoken(np.concatenate(frames), np.concatenate(units), words, labels)


def shared_band(*streams: Stream) -> float:
    """Hz up to which all of them hold something."""
    rates = [stream.rate or RATE for stream in streams]
    return float(min([HIGHEST, *(0.475 * rate for rate in rates)]))
