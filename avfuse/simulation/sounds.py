"""Sounds of an event: each returns (n,) float32 of RMS 0.1, n = round(duration * rate).

They are not meant to please, but to have what alignment meets: speech with its syllables, harmonics and
pauses, music with attacks, chords and exact repeats, blows, rooms that murmur, devices that hum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels import simulation as kernels
from avfuse.errors import StreamError
from avfuse.simulation.sampling import Sound, coloured_noise, to_rms

RMS = 0.1

# First three formants (Hz) of ten vowels, men: Peterson and Barney (1952), table II. The fourth is typical.
_VOWELS = np.array(
    [
        (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
        (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
    ],
    float,
)  # fmt: skip
_BANDWIDTHS = np.array([70.0, 100.0, 160.0, 250.0])
_FRAME = 0.005


def speech(duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """Somebody talks: 3.5-5.5 syllables a second in phrases of 1-4 s, with pauses and consonants."""
    talker = Talker(duration, rate, rng)
    pace = rng.uniform(3.5, 5.5)
    t = rng.uniform(0.0, 0.5)
    while t < duration:
        syllables = int(rng.integers(4, 16))
        accent = rng.uniform(0.9, 1.15)
        for s in range(syllables):
            length = rng.gamma(12.0, 1.0 / (12.0 * pace))
            tone = accent * (1.12 - 0.24 * s / syllables) * rng.uniform(0.92, 1.1)
            talker.syllable(t, length, int(rng.integers(len(_VOWELS))), int(rng.integers(6)), tone, rng)
            t += length
        t += rng.uniform(0.15, 0.9)
    return talker.speak(rng)


def digits(duration: float, rate: float, rng: np.random.Generator, *, speaker: int = 0) -> Sound:
    """One speaker says digits in random order: the same ten words over and over, never quite alike."""
    words = np.random.default_rng([speaker, 71])
    lexicon = [[(int(words.integers(10)), int(words.integers(6))) for _ in range(1 + (d % 3 == 1))] for d in range(10)]
    talker = Talker(duration, rate, np.random.default_rng(speaker))
    t = rng.uniform(0.0, 0.4)
    while t < duration:
        for vowel, consonant in lexicon[int(rng.integers(10))]:
            length = rng.uniform(0.22, 0.3)
            talker.syllable(t, length, vowel, consonant, rng.uniform(0.95, 1.05), rng)
            t += length
        t += rng.uniform(0.15, 0.5)
    return talker.speak(rng)


class Talker:
    """Writes syllables into the control tracks of the formant synthesiser. `rng` draws the voice."""

    def __init__(self, duration: float, rate: float, rng: np.random.Generator) -> None:
        self.n = _samples(duration, rate)
        self.rate = rate
        self.hop = max(1, round(_FRAME * rate))
        frames = self.n // self.hop + 2
        self.height = rng.uniform(0.0, 1.0)  # 0: deep and large, 1: high and small
        self.base = 95.0 * 2.3**self.height
        self.pitch = np.full(frames, self.base)
        self.voicing, self.breath, self.hiss = np.zeros(frames), np.zeros(frames), np.zeros(frames)
        self.hiss_frequency = np.full(frames, min(3000.0, 0.3 * rate))
        self.formants = np.tile([500.0, 1500.0, 2500.0, 3500.0], (frames, 1))

    def syllable(
        self, start: float, length: float, vowel: int, consonant: int, tone: float, rng: np.random.Generator
    ) -> None:
        """consonant: 0 none, 1 and 2 stops, 3 and 4 fricatives, 5 a nasal."""
        frame = self.hop / self.rate
        at = int(start / frame)
        frames = max(8, int(length / frame))
        onset = (0, 8, 10, 14, 18, 10)[consonant]
        onset = min(onset, frames // 2)
        loud = rng.uniform(0.6, 1.2)
        k = np.arange(frames)
        inside = slice(at, min(at + frames, len(self.pitch)))
        k = k[: max(0, inside.stop - at)]
        if not len(k):
            return
        if consonant in {1, 2}:  # silence, then a burst of 10 ms
            burst = (k >= onset - 3) & (k < onset)
            self.hiss[inside] += burst * rng.uniform(0.06, 0.2)
            self.hiss_frequency[inside] = min((1800.0, 4000.0)[consonant - 1], 0.4 * self.rate)
        elif consonant in {3, 4}:
            rise = np.clip(k / 3.0, 0.0, 1.0) * (k < onset)
            self.hiss[inside] += rise * rng.uniform(0.025, 0.08)
            self.hiss_frequency[inside] = min((2500.0, 5500.0)[consonant - 3], 0.4 * self.rate)
        # The vowel: up within 2-6 frames, sustained, fading over its last third.
        rise = np.clip((k - onset + 1) / rng.integers(2, 6), 0.0, 1.0)
        fade = np.clip((frames - k) / (0.35 * frames), 0.0, 1.0)
        level = loud * rise * fade
        if consonant == 5:
            level = np.where(k < onset, 0.35 * loud * np.clip(k / 3.0, 0.0, 1.0), level)
        self.voicing[inside] = level
        self.breath[inside] = 0.02 * level
        wave = 1.0 + 0.04 * np.sin(np.pi * k / frames) + 0.01 * rng.standard_normal(len(k))
        self.pitch[inside] = self.base * tone * wave
        target = np.append(_VOWELS[vowel], 3500.0) * (1.0 + 0.18 * self.height) * rng.uniform(0.95, 1.05, 4)
        start_from = target * np.array([0.6, 1.1, 1.0, 1.0]) if consonant else target
        glide = np.exp(-np.maximum(0, k - onset) / 6.0)[:, None]
        moving = target + glide * (start_from - target)
        self.formants[inside] = np.minimum(moving, 0.45 * self.rate)

    def speak(self, rng: np.random.Generator) -> Sound:
        noise = rng.standard_normal(self.n)
        samples = kernels.voice(
            noise, float(self.rate), self.hop, self.pitch, self.voicing, self.breath, self.hiss, self.hiss_frequency,
            self.formants, _BANDWIDTHS,
        )  # fmt: skip
        return to_rms(samples, RMS)


def music(duration: float, rate: float, rng: np.random.Generator, *, loop: int | None = None) -> Sound:
    """Plucked chords, a bass, a melody and drums at 80-140 beats a minute.

    loop: beats after which everything repeats exactly, sample by sample; None plays on without repeating.
    """
    beat = 60.0 / rng.uniform(80.0, 140.0)
    if loop is None:
        return to_rms(_band(duration, rate, beat, rng), RMS)
    if loop < 1:
        raise StreamError(f"music: a loop of {loop} beats; expected at least 1")
    n = _samples(duration, rate)
    period = _samples(loop * beat, rate)
    # The second round holds what rings over from the first: repeats are exact from there on.
    rounds = _band(2 * period / rate, rate, period / rate / loop, rng, loop=loop)
    return to_rms(np.tile(rounds[period : 2 * period], n // period + 1)[:n], RMS)


def jingle(duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """A short tune on bells."""
    steps = np.arange(0.0, duration, rng.uniform(0.12, 0.2))
    keys = 60 + rng.choice([0, 2, 4, 7, 9, 12, 14, 16], len(steps))
    notes = [(t, _hertz(key), 1.0, 0.25, 5, 1.2) for t, key in zip(steps, keys, strict=True)]
    return to_rms(_notes(duration, rate, notes, rng), RMS)


def _band(duration: float, rate: float, beat: float, rng: np.random.Generator, *, loop: int | None = None) -> Sound:
    """What `music` plays; with `loop`, beat b + loop repeats beat b."""
    beats = int(duration / beat) + 1
    root = int(rng.integers(45, 57))
    notes: list[tuple[float, float, float, float, int, float]] = []
    drums: list[tuple[float, int]] = []
    scores: list[tuple[list[tuple[float, float, float, float, int, float]], list[tuple[float, int]]]] = []
    chord = (0, 4, 7)
    for b in range(beats):
        if loop is None or b < loop:
            if b % 4 == 0:
                base = int(rng.choice([0, 5, 7, 9, 2]))
                minor = base in {9, 2}
                chord = (base, base + (3 if minor else 4), base + 7)
            play: list[tuple[float, float, float, float, int, float]] = []
            if b % 2 == 0 or rng.random() < 0.3:
                for k, step in enumerate(chord):
                    play.append((0.012 * k + rng.uniform(0, 0.01), _hertz(root + 12 + step), 0.5, 0.35, 6, 1.0))
            play.append((rng.uniform(0, 0.008), _hertz(root - 12 + chord[0]), 1.0, 0.3, 5, 1.3))
            for half in (0.0, 0.5):
                if rng.random() < 0.6:
                    step = int(rng.choice(chord)) + int(rng.choice([0, 2, 12, 14]))
                    late = half * beat + rng.uniform(0, 0.01)
                    play.append((late, _hertz(root + 24 + step), rng.uniform(0.4, 0.8), 0.2, 5, 1.0))
            hits = [(0.0, b % 2), (0.5 * beat, 2)]
            scores.append((play, hits))
        play, hits = scores[b if loop is None else b % loop]
        notes += [(b * beat + t, f, loud, decay, partials, tilt) for t, f, loud, decay, partials, tilt in play]
        drums += [(b * beat + t, which) for t, which in hits]
    seed = int(rng.integers(1 << 30))
    return (_notes(duration, rate, notes, np.random.default_rng(seed)) + _drums(duration, rate, drums, rng)).astype(
        np.float32
    )


def _hertz(key: float) -> float:
    return float(440.0 * 2.0 ** ((key - 69) / 12.0))


def _notes(
    duration: float,
    rate: float,
    notes: Sequence[tuple[float, float, float, float, int, float]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """notes: (onset, frequency, loudness, decay, partials, tilt)."""
    rows: list[tuple[float, float, float, float, float, float]] = []
    for onset, frequency, loud, decay, partials, tilt in notes:
        for p in range(1, partials + 1):
            if p * frequency < 0.45 * rate:
                # Phases hang on the pitch and not on chance: equal notes sound exactly equal.
                rows.append((onset, p * frequency, loud / p**tilt, 0.003, decay / p**0.5, 0.7 * p * p))
    return _ring(duration, rate, rows)


def _drums(
    duration: float, rate: float, hits: Sequence[tuple[float, int]], rng: np.random.Generator
) -> NDArray[np.float64]:
    """0: a kick, 1: a snare, 2: a hat; each made of short resonances, always the same."""
    kits = []
    for low, high, count, loud, decay in (
        (45, 90, 3, 1.5, 0.09),
        (180, 4000, 25, 0.25, 0.04),
        (5000, 9000, 20, 0.1, 0.015),
    ):
        frequencies = np.exp(rng.uniform(np.log(low), np.log(high), count))
        kits.append((frequencies, loud * rng.uniform(0.5, 1.0, count), decay, rng.uniform(0, 6.28, count)))
    rows = [
        (onset, f, a, 0.0005, decay, phase)
        for onset, which in hits
        for frequencies, amplitudes, decay, phases in [kits[which]]
        for f, a, phase in zip(frequencies, amplitudes, phases, strict=True)
        if f < 0.45 * rate
    ]
    return _ring(duration, rate, rows)


def _ring(duration: float, rate: float, rows: Sequence[tuple[float, ...]]) -> NDArray[np.float64]:
    """rows: (onset, frequency, amplitude, attack, decay, phase)."""
    onsets, frequencies, amplitudes, attacks, decays, phases = np.array(rows, float).reshape(-1, 6).T.copy()
    n = _samples(duration, rate)
    rung: NDArray[np.float64] = kernels.damped_sines(
        n, float(rate), onsets, frequencies, amplitudes, attacks, decays, phases
    )
    return rung


def impacts(
    duration: float, rate: float, rng: np.random.Generator, *, times: NDArray[np.float64] | None = None
) -> Sound:
    """Blows on things: each rings in 8 modes after a click of 2 ms.

    times: (k,) seconds of the blows; None draws 0.4-2.5 s between them. They need not fall on samples.
    """
    if times is None:
        gaps = rng.uniform(0.4, 2.5, int(duration / 0.4) + 2)
        times = np.cumsum(gaps)[np.cumsum(gaps) < duration]
        times = times if len(times) else np.array([duration / 2])
    rows = []
    for onset in times:
        size = rng.uniform(0.5, 1.5)
        modes = np.exp(rng.uniform(np.log(150.0), np.log(6000.0), 8)) / size
        decays = size * rng.uniform(0.02, 0.15, 8) * (300.0 / (300.0 + modes)) ** 0.4
        loud = rng.uniform(0.5, 1.0)
        rows += [
            (onset, f, loud * a, 0.0003, d, p)
            for f, a, d, p in zip(modes, rng.uniform(0.2, 1, 8), decays, rng.uniform(0, 6.28, 8), strict=True)
        ]
        click = np.exp(rng.uniform(np.log(800.0), np.log(12000.0), 20))
        rows += [(onset, f, 0.3 * loud, 0.0001, 0.002, p) for f, p in zip(click, rng.uniform(0, 6.28, 20), strict=True)]
    return to_rms(_ring(duration, rate, [r for r in rows if r[1] < 0.45 * rate]), RMS)


def beeps(duration: float, rate: float, *, times: NDArray[np.float64], length: float = 0.08) -> Sound:
    """Beeps of 1 kHz and its third harmonic that begin at `times` (k,) seconds and last `length` seconds."""
    n = _samples(duration, rate)
    t = np.arange(n) / rate
    out = np.zeros(n)
    for begin in times:
        since = t - begin
        on = (since >= 0.0) & (since < length)
        edge = np.minimum(1.0, np.minimum(since, length - since) / 0.001) * on
        tone = np.sin(2.0 * np.pi * 1000.0 * since) + 0.3 * np.sin(2.0 * np.pi * 3000.0 * since)
        out += edge * tone
    return to_rms(out, RMS)


def ambience(duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """Murmur: noise that falls by 3-6 dB per octave and swells slowly."""
    n = _samples(duration, rate)
    noise = coloured_noise(n, rate, rng.uniform(3.0, 6.0), rng)
    knots = rng.normal(0.0, 0.35, int(duration / 2.0) + 4)
    swell = np.exp(np.interp(np.arange(n) / rate, 2.0 * np.arange(len(knots)), knots))
    return to_rms(noise * swell, RMS)


def white(duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """White Gaussian noise."""
    return to_rms(rng.standard_normal(_samples(duration, rate), dtype=np.float32), RMS)


def hum(duration: float, rate: float, rng: np.random.Generator, *, mains: float = 50.0) -> Sound:
    """Mains hum: harmonics of a frequency that wanders by hundredths of a hertz."""
    n = _samples(duration, rate)
    knots = np.cumsum(rng.normal(0.0, 0.01, int(duration) + 3))
    frequency = mains + np.interp(np.arange(n) / rate, np.arange(len(knots)), np.clip(knots, -0.1, 0.1))
    phase = 2.0 * np.pi * np.cumsum(frequency) / rate
    out = np.zeros(n)
    for k in (1, 2, 3, 4, 5, 6, 7, 9, 11):
        if k * mains < 0.45 * rate:
            out += rng.uniform(0.3, 1.0) / k * np.sin(k * phase + rng.uniform(0, 6.28))
    return to_rms(out, RMS)


def self_noise(duration: float, rate: float, rng: np.random.Generator, *, device: int = 0) -> Sound:
    """What a device hears of itself: its noise spectrum and its steady tones are those of `device`."""
    own = np.random.default_rng([device, 43])
    n = _samples(duration, rate)
    noise = coloured_noise(n, rate, float(own.uniform(0.0, 3.0)), rng)
    t = np.arange(n) / rate
    tones = np.zeros(n)
    for frequency in (1000.0, *own.uniform(200.0, 0.45 * rate, 4)):
        tones += own.uniform(0.02, 0.15) * np.sin(2.0 * np.pi * frequency * t + rng.uniform(0, 6.28))
    return to_rms(noise + tones, RMS)


SOUNDS: dict[str, Callable[[float, float, np.random.Generator], Sound]] = {
    "speech": speech,
    "music": music,
    "loop": lambda duration, rate, rng: music(duration, rate, rng, loop=8),
    "impacts": impacts,
    "ambience": ambience,
    "jingle": jingle,
    "digits": digits,
    "white": white,
}


def make_sound(kind: str, duration: float, rate: float, rng: np.random.Generator) -> Sound:
    """One of `SOUNDS` by name."""
    if kind not in SOUNDS:
        raise StreamError(f"sound {kind!r}; expected one of {', '.join(SOUNDS)}")
    return SOUNDS[kind](duration, rate, rng)


def _samples(duration: float, rate: float) -> int:
    n = round(duration * rate)
    if n < 1:
        raise StreamError(f"a sound of {duration} s at {rate} Hz; expected at least one sample")
    return n
