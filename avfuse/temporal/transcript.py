"""When each word of a text is said: from an acoustic model's emissions, or from speech of the same words.

words      what is written, cut at spaces
way        emissions: viterbi.py over tokens of words;  else speech: reference_speech.py over frames of words
doubt      the same with shuffled phones (chance.py), and whether several voices agree
decide     here, and in speech_confidence.py
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avfuse.cores import cores, on_cores
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.features.cepstra import FRAME_RATE, Cepstra, mel_cepstra
from avfuse.stream import Stream
from avfuse.temporal import speech_confidence
from avfuse.temporal.chance import Fit, Units, fit, shuffles_for
from avfuse.temporal.reference_speech import Spoken, coarse_words, shared_band, spoken_by_espeak, spoken_by_person
from avfuse.temporal.spelling import Spelling, forms_of, tokens_of, written_words
from avfuse.temporal.viterbi import PAUSE, chain_path
from avfuse.transcript import Emissions, Phone, Transcript, Word

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_AT_ONCE = 3e7  # cells: sound frames times reference frames that are compared without a coarser pass
_WINDOW, _OVERLAP = 40, 4  # words of a section, and beside it
_BESIDE = 0.1  # seconds around a section
_TOUCHING = 0.05  # seconds that words may overlap
_SECTION = 60.0  # seconds of emissions over which shuffled texts are compared
_NEAR, _FAR = 0.15, 0.5  # seconds beside a word that tell of it too
_DOUBTFUL = 0.5
_QUIETEST = 3.0  # dB between loud and quiet frames


def estimate_transcript(
    sound: Stream | None,
    text: str,
    *,
    emissions: Emissions | None = None,
    spelling: Spelling | None = None,
    reference: tuple[Stream, Transcript] | None = None,
    voice: str = "en-us",
) -> Transcript:
    """Times of the words of `text`, and of their phones, in the time of the recording.

    sound: the recording; with `emissions` it may be None.
    text: all that is said, in order; words are what stands between spaces.
    emissions: of any acoustic model, on the sound's own time.
    spelling: with emissions, the tokens of a word: a mapping or function that is asked for the word as written, then
        without the punctuation around it, then that in small letters, then in capitals. By default the word's letters,
        as far as the model has them in one case or the other; the word itself where it is a token.
    reference: with no emissions, a sound of the same words and its transcript (`avfuse.io.read_transcript`).
    voice: with neither, the voice of espeak-ng that speaks the text; `espeak-ng --voices` lists them.

    Emissions go through the exact Viterbi path; speech through dynamic time warping (Sakoe and Chiba 1978) in which
    words may have pauses between them. `Word.confidence` is the probability that both ends of a word are within 0.1 s;
    it was fitted on simulated emissions and on synthetic and spoken words (docs/transcript.md). Where the text fits no
    better than the same words in another order it is refused.
    Raises StreamError for arguments that do not fit and words without tokens, ReadError where espeak-ng is needed and
    absent.
    """
    if emissions is not None and reference is not None:
        raise StreamError("both emissions and a reference; give one of them")
    if emissions is None and spelling is not None:
        raise StreamError("a spelling without emissions; it tells the tokens of an acoustic model")
    words = written_words(text)
    if emissions is not None:
        by, ends = "emissions", emissions.start + len(emissions.scores) / emissions.rate
    elif sound is not None:
        by, ends = "espeak-ng" if reference is None else "reference speech", 0.0
    else:
        raise StreamError("neither a sound nor emissions; expected one of them")
    duration = ends if sound is None else sound.start_time + sound.duration
    try:
        if emissions is not None:
            readings = _by_emissions(words, emissions, spelling)
        else:
            assert sound is not None
            readings = _by_speech(sound, words, reference, voice)
    except _NothingToHear as error:
        return Transcript("degenerate", (), None, str(error), (by,), duration)
    except WeakAlignmentError as error:
        message = f"{error}; check that text and recording belong together"
        return Transcript("no_match", (), None, message, (by,), duration)
    return _decided(words, readings, by, duration)


def _decided(words: list[str], readings: Sequence[_Reading], by: str, duration: float) -> Transcript:
    evidence = _evidence(words, readings)
    if min(len(set(reading.words[reading.words >= 0])) for reading in readings) == 0 or evidence.sections == 0:
        few = "too few different phones to be told from chance; give more of the text and its sound"
        return Transcript("degenerate", (), None, few, (by,), duration)
    way = "emissions" if by == "emissions" else "speech"
    confidence = speech_confidence.of_text(way, len(words), evidence.fitness, evidence.deviations)
    sure = speech_confidence.of_words(way, len(words), evidence.signs)
    if confidence < speech_confidence.ACCEPT:
        poor = (
            f"the text fits the sound hardly better than the same words in another order "
            f"({evidence.deviations:.1f} standard deviations); check that they belong together, and the text is whole"
        )
        return Transcript("no_match", (), None, poor, (by,), duration)
    doubtful = int((sure < _DOUBTFUL).sum())
    why: str | None = None
    if doubtful:
        k = int(np.argmin(sure))
        why = f"{doubtful} of {len(words)} words are doubtful, most of all {words[k]!r} at {evidence.times[k, 0]:.2f} s"
    if 2 * doubtful > len(words):
        why = f"{why}; check that text and recording belong together"
        return Transcript("no_match", (), None, why, (by,), duration)
    phones = _phones(readings, evidence.times)
    found = tuple(
        Word(word, float(start), float(end), float(p), tuple(parts))
        for word, (start, end), p, parts in zip(words, evidence.times, sure, phones, strict=True)
    )
    confidence = min(confidence, speech_confidence.of_half(sure))
    return Transcript("aligned", found, confidence, why, (by,), duration)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """times: `(words, 2)` seconds. signs: of the words. fitness: of the text. deviations: by how many standard
    deviations of shuffled texts it is better than these. sections: how many of a reading could be shuffled."""

    times: F64
    signs: speech_confidence.Signs
    fitness: float
    deviations: float
    sections: int


def _evidence(words: list[str], readings: Sequence[_Reading]) -> _Evidence:
    each = np.array([reading.word_times(len(words)) for reading in readings])
    silent = np.isnan(each).all(axis=(0, 2))  # words for which nothing is said
    times = np.zeros((len(words), 2))
    times[~silent] = np.nanmedian(each[:, ~silent], axis=0)
    at = readings[0].start
    for k in range(len(words)):
        times[k] = (at, at) if silent[k] else times[k]
        at = times[k, 1]
    placed = in_order(times)
    spread = np.full(len(words), speech_confidence.ONE_VOICE)
    if len(readings) > 1:
        spread[~silent] = np.nanstd(each[:, ~silent], axis=0).max(axis=1)
    # Sections are placed one by one; what had to move for the order of words is as unsure as it moved.
    spread = np.maximum(spread, np.abs(placed - times).max(axis=1))
    times = placed
    signs = np.median([reading.signs(times, mine) for reading, mine in zip(readings, each, strict=True)], axis=0)
    signs[:, silent] = -np.inf
    gained = float(np.mean([reading.gained.sum() for reading in readings]))
    possible = float(np.mean([reading.possible.sum() for reading in readings]))
    deviations = [r.gained.sum() / max(float(np.sqrt(np.square(r.spreads).sum())), 1e-9) for r in readings]
    sections = max(sum(s > 0 for s in reading.spreads) for reading in readings)
    deviation = float(np.median(deviations))
    near, far, own, length = signs
    told = speech_confidence.Signs(near, far, own, length, spread, deviation / np.sqrt(max(sections, 1)))
    return _Evidence(times, told, gained / max(possible, 1e-9), deviation, sections)


def in_order(times: F64) -> F64:
    """`(words, 2)` times that never fall. As many words as can be stay where they are; the others, which a section put
    beyond its neighbours, go between these."""
    kept = _longest_in_order(times)
    out = times.copy()
    flat = out[kept].ravel()
    late, early = np.maximum.accumulate(flat), np.minimum.accumulate(flat[::-1])[::-1]
    out[kept] = ((late + early) / 2).reshape(-1, 2)
    low, high = np.full(len(times), -np.inf), np.full(len(times), np.inf)
    low[kept], high[kept] = out[kept, 1], out[kept, 0]
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
    others = np.setdiff1d(np.arange(len(times)), kept)
    out[others] = np.clip(out[others], low[others, None], high[others, None])
    return np.asarray(np.maximum.accumulate(out.ravel()).reshape(times.shape))


def _longest_in_order(times: F64) -> I64:
    """Most words of which none begins more than 50 ms before the one before it ends (Fredman 1975)."""
    ends: list[float] = []  # the earliest end of a chain of each length
    last: list[int] = []  # and its word
    before = np.full(len(times), -1)
    for k, (start, end) in enumerate(times):
        length = bisect_right(ends, start + _TOUCHING)
        before[k] = last[length - 1] if length else -1
        if length == len(ends):
            ends.append(end)
            last.append(k)
        elif end < ends[length]:
            ends[length], last[length] = end, k
    chain = [last[-1]]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return np.array(chain[::-1])


def _phones(readings: Sequence[_Reading], times: F64) -> list[list[Phone]]:
    """Of every word, the medians of those voices that say it with as many phones as the first."""
    found: list[list[Phone]] = [[] for _ in times]
    labels = readings[0].labels
    if labels is None:
        return found
    parts = [np.searchsorted(_rising(r.words), np.arange(len(times) + 1)) for r in readings]
    for w, (low, high) in enumerate(times):
        i, j = parts[0][w], parts[0][w + 1]
        mine = [k for k in range(i, j) if readings[0].words[k] == w]
        sets = []
        for reading, part in zip(readings, parts, strict=True):
            theirs = [k for k in range(part[w], part[w + 1]) if reading.words[k] == w]
            if len(theirs) == len(mine):
                sets.append(np.stack([reading.starts[theirs], reading.ends[theirs]], axis=1))
        at = low
        for k, (start, end) in zip(mine, _median(sets), strict=True):
            start = at if np.isnan(start) else min(max(start, at), high)
            end = start if np.isnan(end) else min(max(end, start), high)
            found[w].append(Phone(labels[k], float(start), float(end)))
            at = end
    return found


def _rising(words: I64) -> I64:
    """Words of units, with that of the last word for what stands between two."""
    return np.asarray(np.maximum.accumulate(words))


def _median(sets: Sequence[F64]) -> F64:
    stacked = np.stack(sets)
    known = np.isfinite(stacked).any(axis=0)
    out = np.full(stacked.shape[1:], np.nan)
    out[known] = np.nanmedian(stacked[:, known], axis=0)
    return out


@dataclass(frozen=True, eq=False)
class _Reading:
    """The text as one acoustic model or one voice hears it.

    starts, ends: `(units,)` seconds, NaN for what was left out. words: `(units,)` -1 for what belongs to none.
    sizes: `(units,)` frames of the reference, or tokens. labels: names of the units, None where they have none.
    gained, possible: `(frames,)` as in `Fit`, from `start` on at `rate` Hz. spreads: of every section.
    """

    starts: F64
    ends: F64
    words: I64
    sizes: I64
    labels: tuple[str, ...] | None
    gained: F64
    possible: F64
    spreads: tuple[float, ...]
    rate: float
    start: float

    def word_times(self, count: int) -> F64:
        """`(count, 2)`, NaN for words without units."""
        times = np.full((count, 2), np.nan)
        for k in np.flatnonzero((self.words >= 0) & np.isfinite(self.starts)):
            w = self.words[k]
            times[w] = np.fmin(times[w, 0], self.starts[k]), np.fmax(times[w, 1], self.ends[k])
        return times

    def signs(self, times: F64, mine: F64) -> F64:
        """`(4, words)`: fitness around the times of every word, near and far, that of its own times here, and the
        logarithm of how much longer it is than its reference, beside the other words."""
        fits = [self._fitness(times, _NEAR), self._fitness(times, _FAR), self._fitness(mine, 0.0)]
        lengths = np.nan_to_num(mine[:, 1] - mine[:, 0]) * self.rate
        sizes = np.bincount(self.words[self.words >= 0], self.sizes[self.words >= 0], len(times))
        ratios = np.log(np.maximum(np.round(lengths), 0.5) / np.maximum(sizes, 1))
        return np.stack([*fits, ratios - np.median(ratios)])

    def _fitness(self, times: F64, around: float) -> F64:
        """What was gained of what was possible, `around` seconds before every word to as much after it: `(words,)`."""
        sums = [np.append(0.0, np.cumsum(x)) for x in (self.gained, self.possible)]
        low, high = (times + np.array([-around, around]) - self.start).T * self.rate
        low, high = (np.clip(np.round(np.nan_to_num(x)), 0, len(self.gained)).astype(np.int64) for x in (low, high))
        gained, possible = (s[high] - s[low] for s in sums)
        return np.asarray(gained / np.maximum(possible, 1e-9))


# Emissions ------------------------------------------------------------------------------------------------------------


def _by_emissions(words: list[str], emissions: Emissions, spelling: Spelling | None) -> list[_Reading]:
    """Raises WeakAlignmentError where no path is possible."""
    columns, owners = tokens_of(words, emissions, spelling)
    pause = emissions.blank if emissions.blank is not None else emissions.silence
    units = Units(
        tuple(columns[:, None]), owners, None if pause is None else emissions.column(pause),
        ctc=emissions.blank is not None,
    )  # fmt: skip
    chain, scores = units.chain(), emissions.scores
    if len(scores) < chain.shortest:
        raise WeakAlignmentError(
            f"the text needs at least {chain.shortest} frames ({chain.shortest / emissions.rate:.2f} s) and there are "
            f"{len(scores)}"
        )
    # Sums in float64 whatever is given: those of an hour are good to a hundredth only in float32.
    path, _ = chain_path(np.asarray(scores, np.float64), chain)
    said = np.flatnonzero(chain.owners[path] != PAUSE)
    of = chain.owners[path][said]
    first, last = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    last[of] = said
    first[of[::-1]] = said[::-1]
    rng = np.random.default_rng(0)
    gained, possible, spreads = np.zeros(len(scores)), np.zeros(len(scores)), []
    sections = list(_sections(first, len(scores), round(_SECTION * emissions.rate)))
    shuffles = shuffles_for(len(sections))
    for i, j, a, b in sections:
        part = Units(units.columns[i:j], owners[i:j], units.pause, units.ctc)
        beside = fit(np.asarray(scores[a:b], np.float64), part, rng, shuffles)
        gained[a:b], possible[a:b] = beside.gained, beside.possible
        spreads.append(beside.spread)
    starts, ends = (emissions.start + frames / emissions.rate for frames in (first, last + 1))
    labels = tuple(emissions.tokens[c] for c in columns)
    rate, start = emissions.rate, emissions.start
    sizes = np.ones(len(owners), np.int64)
    return [_Reading(starts, ends, owners, sizes, labels, gained, possible, tuple(spreads), rate, start)]


def _sections(first: I64, frames: int, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Units i <= unit < j and frames a <= frame < b of sections about `size` frames long; together everything."""
    count = max(1, round(frames / size))
    cuts = np.searchsorted(first, np.arange(1, count) * frames / count)
    edges = np.unique(np.concatenate([[0], cuts, [len(first)]]))
    for i, j in pairwise(edges):
        yield int(i), int(j), int(first[i]) if i else 0, int(first[j]) if j < len(first) else frames


# Speech ---------------------------------------------------------------------------------------------------------------


def _by_speech(
    sound: Stream, words: list[str], reference: tuple[Stream, Transcript] | None, voice: str
) -> list[_Reading]:
    """Raises WeakAlignmentError where no path is possible."""
    if reference is None:
        highest = shared_band(sound)
        spoken: Iterable[Spoken] = spoken_by_espeak(words, voice, highest)
    else:
        _check_same_words(words, reference[1])
        highest = shared_band(sound, reference[0])
        spoken = [spoken_by_person(*reference, highest)]
    heard = mel_cepstra(sound, highest=highest)
    if heard.contrast < _QUIETEST:
        raise _NothingToHear(
            f"the sound is silent, or the same all along: {heard.contrast:.1f} dB between loud and quiet"
        )
    readings: list[_Reading] = []
    windows: list[_Window] = []
    failed: WeakAlignmentError | None = None
    for one in spoken:
        try:
            windows = windows or _windows(heard, one, len(words))
            readings.append(_read(heard, one, windows))
        except WeakAlignmentError as error:
            failed = error  # a voice that speaks too slowly for it; another one may not
    if not readings and failed is not None:
        raise failed
    return readings


class _NothingToHear(WeakAlignmentError):
    pass


_Window = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _windows(heard: Cepstra, spoken: Spoken, words: int) -> list[_Window]:
    """Words to place, words to look at, and sound frames, of each section; one for all that is not long."""
    frames = len(heard.frames)
    if frames * len(spoken.frames) <= _AT_ONCE:
        return [((0, words), (0, words), (0, frames))]
    rough, beside = coarse_words(heard, spoken, words), round(_BESIDE * FRAME_RATE)
    found = []
    for first in range(0, words, _WINDOW):
        last = min(first + _WINDOW, words)
        a, b = max(0, first - _OVERLAP), min(words, last + _OVERLAP)
        from_frame = 0 if a == 0 else max(0, int(rough[a, 0]) - beside)
        to_frame = frames if b == words else min(frames, int(rough[b - 1, 1]) + 1 + beside)
        found.append(((first, last), (a, b), (from_frame, to_frame)))
    return found


def _read(heard: Cepstra, spoken: Spoken, windows: Sequence[_Window]) -> _Reading:
    count = len(spoken.words)
    starts, ends = np.full(count, np.nan), np.full(count, np.nan)
    gained, possible, spreads = np.zeros(len(heard.frames)), np.zeros(len(heard.frames)), []

    shuffles = shuffles_for(len(windows))

    def fitted(window: _Window) -> tuple[Spoken, Fit | None]:
        (first, _), (a, b), (low, high) = window
        part = spoken.part(a, b)
        rng = np.random.default_rng(first)
        return part, fit(*part.sheet(heard, low, high), rng, shuffles) if len(part.frames) else None

    fits = on_cores(fitted, windows, most=cores())
    for ((first, last), (a, _), (low, high)), (part, found) in zip(windows, fits, strict=True):
        if found is None:
            continue
        inside = np.flatnonzero((part.words >= first - a) & (part.words < last - a))
        mine = np.flatnonzero((spoken.words >= first) & (spoken.words < last))
        said = found.first[inside] >= 0
        # A frame is centred on its time.
        starts[mine[said]] = (low + found.first[inside][said] - 0.5) / FRAME_RATE
        ends[mine[said]] = (low + found.last[inside][said] + 0.5) / FRAME_RATE
        gained[low:high], possible[low:high] = found.gained, found.possible
        spreads.append(found.spread)
    sizes = np.bincount(spoken.units, minlength=count)
    return _Reading(
        heard.start + starts, heard.start + ends, spoken.words, sizes, spoken.labels, gained, possible, tuple(spreads),
        float(FRAME_RATE), heard.start - 0.5 / FRAME_RATE,
    )  # fmt: skip


def _check_same_words(words: Sequence[str], transcript: Transcript) -> None:
    theirs = [forms_of(word.text)[2] for word in transcript.words]
    ours = [forms_of(word)[2] for word in words]
    if ours == theirs:
        return
    k = next(
        (k for k, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), min(len(ours), len(theirs))
    )
    here, there = (repr(side[k]) if k < len(side) else "nothing more" for side in (ours, theirs))
    raise StreamError(
        f"reference: its word {k + 1} is {there}, that of the text {here}; expected speech of the same words"
    )
