"""Two performances of one piece at different tempo, with the true map between them.

Nothing is resampled: every note and syllable is made anew at its own time, by another instrument or voice, so that
pitch and timbre do not give the tempo away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels import simulation as kernels
from avfuse.clock import WarpPath
from avfuse.errors import StreamError
from avfuse.simulation.rooms import Decay
from avfuse.simulation.sampling import Sound, convolve, to_rms
from avfuse.simulation.sounds import RMS, Talker
from avfuse.stream import Stream

_KNOTS = 0.05  # seconds between the knots of the true map
_SCALE = np.array([0, 2, 4, 5, 7, 9, 11])


@dataclass(frozen=True, eq=False)
class PerformancePair:
    """truth: moving -> reference, over the whole of the moving performance."""

    reference: Stream
    moving: Stream
    truth: WarpPath


@dataclass(frozen=True)
class Instrument:
    """partials: how many; tilt: their fall as a power of their number; attack, decay: seconds (of the first partial);
    stretch: inharmonicity, as of a stiff string; detune: cents."""

    partials: int
    tilt: float
    attack: float
    decay: float
    stretch: float
    detune: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Instrument:
        return cls(
            int(rng.integers(4, 10)),
            rng.uniform(0.6, 1.6),
            float(np.exp(rng.uniform(np.log(0.002), np.log(0.015)))),
            rng.uniform(0.25, 0.8),
            float(np.exp(rng.uniform(np.log(1e-5), np.log(4e-4)))),
            rng.uniform(-12, 12),
        )


def tempo_map(
    duration: float, rng: np.random.Generator, *, tempo: tuple[float, float] = (0.7, 1.4), period: float = 8.0
) -> WarpPath:
    """A map over `duration` moving seconds whose slope wanders smoothly between the two of `tempo`.

    period: seconds in which it typically turns. Starts at reference time 0.
    """
    low, high = tempo
    if not 0 < low <= high:
        raise StreamError(f"tempo {tempo}; expected 0 < slowest <= fastest")
    n = round(duration / _KNOTS) + 1
    turns = rng.uniform(-1.0, 1.0, int(duration / period) + 6)
    at = np.arange(n) * _KNOTS / period + rng.uniform(1.0, 2.0)
    k = at.astype(int)
    # Cubic B-spline over the draws: smooth, and never beyond them; stretched, since it seldom reaches them.
    u = at - k
    weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    bend = np.clip(1.5 * sum(w * turns[k - 1 + q] for q, w in enumerate(weights)) / 6, -1, 1)
    slopes: NDArray[np.float64] = np.exp(np.log(low) + (bend + 1) / 2 * np.log(high / low))
    mapped = np.zeros(n, np.float64)
    mapped[1:] = np.cumsum((slopes[1:] + slopes[:-1]) / 2 * _KNOTS)
    return WarpPath(np.arange(n, dtype=np.float64) * _KNOTS, mapped)


@dataclass(frozen=True, eq=False)
class Score:
    """What is played: onsets (reference seconds), lengths (seconds), keys (MIDI numbers), loudness; all `(n,)`."""

    onsets: NDArray[np.float64]
    lengths: NDArray[np.float64]
    keys: NDArray[np.int64]
    loudness: NDArray[np.float64]

    @classmethod
    def random(cls, duration: float, rng: np.random.Generator) -> Score:
        """A melody in eighths, quarters and halves over chords that change every bar or two."""
        beat, root = rng.uniform(0.4, 0.65), int(rng.integers(43, 55))
        notes: list[tuple[float, float, int, float]] = []
        t, degree = rng.uniform(0.1, 0.5), 7
        while t < duration:
            length = beat * float(rng.choice([0.5, 0.5, 1.0, 1.0, 2.0]))
            degree = int(np.clip(degree + rng.integers(-3, 4), 0, 14))
            if rng.random() > 0.08:  # or a rest
                key = root + 12 + int(_SCALE[degree % 7]) + 12 * (degree // 7)
                notes.append((t, 0.9 * length, key, rng.uniform(0.5, 1.0)))
            t += length
        t = notes[0][0] if notes else 0.0
        while t < duration:
            step, bar = int(rng.integers(0, 7)), beat * float(rng.choice([2, 4, 4]))
            for third in range(3):
                key = root + int(_SCALE[(step + 2 * third) % 7]) + 12 * ((step + 2 * third) // 7)
                notes.append((t + rng.uniform(0, 0.01), 0.95 * bar, key - 12 * (third == 0), rng.uniform(0.3, 0.6)))
            t += bar
        onsets, lengths, keys, loudness = (np.array(column) for column in zip(*sorted(notes), strict=True))
        return cls(onsets, lengths, keys.astype(np.int64), loudness)


def play(
    score: Score, duration: float, rate: float, instrument: Instrument, rng: np.random.Generator,
    onsets: NDArray[np.float64],
) -> Sound:  # fmt: skip
    """`(n,)` samples: the score's notes at `onsets` (seconds; NaN leaves a note out), each 20 % louder or softer."""
    rows = []
    loud = score.loudness * rng.uniform(0.8, 1.2, len(onsets))
    for onset, length, key, level in zip(onsets, score.lengths, score.keys, loud, strict=True):
        if not np.isfinite(onset):
            continue
        base = 440.0 * 2.0 ** ((key - 69) / 12 + instrument.detune / 1200)
        for p in range(1, instrument.partials + 1):
            frequency = p * base * np.sqrt(1 + instrument.stretch * p * p)
            if frequency < 0.45 * rate:
                decay = min(instrument.decay, length) / p**0.5
                attack = min(instrument.attack, decay / 2)
                rows.append((onset, frequency, level / p**instrument.tilt, attack, decay, rng.uniform(0, 6.28)))
    columns = np.array(rows, float).reshape(-1, 6).T.copy()
    rung: NDArray[np.float64] = kernels.damped_sines(round(duration * rate), float(rate), *columns)
    return to_rms(rung, RMS)


def simulate_performances(
    duration: float,
    rng: np.random.Generator,
    *,
    kind: str = "music",
    tempo: tuple[float, float] = (0.7, 1.4),
    noise_db: float = -25.0,
    rate: float = 16000.0,
) -> PerformancePair:
    """The moving performance lasts `duration` seconds; the reference is played at an even tempo.

    kind: `music` or `speech`. tempo: slope of the true map, reference seconds per moving second.
    noise_db: noise against sound, in both. Both are heard in rooms, each from its own place.
    """
    truth = tempo_map(duration, rng, tempo=tempo)
    last = float(truth.reference_times[-1])
    back = truth.inverse()
    if kind == "music":
        score = Score.random(last - 0.2, rng)
        takes = [
            play(score, length, rate, Instrument.random(rng), rng, onsets)
            for length, onsets in ((last, score.onsets), (duration, back(score.onsets)))
        ]
    elif kind == "speech":
        plan = _syllables(last - 0.2, rng)
        takes = [_speak(plan, length, rate, rng, when) for length, when in ((last, None), (duration, back))]
    else:
        raise StreamError(f"performances of {kind!r}; expected 'music' or 'speech'")
    streams = [
        Stream.from_samples(_heard(take, rate, noise_db, rng), rate=rate, name=name)
        for take, name in zip(takes, ("reference", "moving"), strict=True)
    ]
    return PerformancePair(streams[0], streams[1], truth)


def _heard(take: Sound, rate: float, noise_db: float, rng: np.random.Generator) -> Sound:
    """In a room, with noise; the direct sound arrives when it is made, so that the map needs no correction."""
    room = Decay(rng.uniform(0.3, 0.8), rng.uniform(1.0, 2.0), int(rng.integers(1 << 30)))
    response = room.response((0.0, 0.0, 0.0), (rng.uniform(0.5, 2.0), 0.0, 0.0), rate)
    wet = to_rms(convolve(take, response.samples, response.lead + round(response.delay * rate)), RMS)
    noise = rng.standard_normal(len(wet), np.float32) * np.float32(RMS * 10 ** (noise_db / 20))
    return np.asarray(wet + noise, np.float32)


Syllable = tuple[float, float, int, int, float]  # begins, lasts, vowel, consonant, tone


def _syllables(duration: float, rng: np.random.Generator) -> list[Syllable]:
    plan: list[Syllable] = []
    pace, t = rng.uniform(3.5, 5.5), rng.uniform(0.1, 0.5)
    while t < duration:
        count = int(rng.integers(4, 16))
        for s in range(count):
            length = float(rng.gamma(12.0, 1.0 / (12.0 * pace)))
            tone = (1.12 - 0.24 * s / count) * rng.uniform(0.92, 1.1)
            plan.append((t, length, int(rng.integers(10)), int(rng.integers(6)), tone))
            t += length
        t += rng.uniform(0.15, 0.9)
    return plan


def _speak(
    plan: list[Syllable], duration: float, rate: float, rng: np.random.Generator, when: WarpPath | None
) -> Sound:
    """Another voice says the syllables, each from its own `when` to that of its end."""
    talker = Talker(duration, rate, rng)
    for begins, lasts, vowel, consonant, tone in plan:
        first, last = (begins, begins + lasts) if when is None else when(np.array([begins, begins + lasts]))
        if last <= duration:
            talker.syllable(float(first), float(last - first), vowel, consonant, tone, rng)
    return talker.speak(rng)
