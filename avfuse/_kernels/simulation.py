"""Loops of the simulator: sampling at arbitrary times, image sources, voices, resonances, gain control."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_VECTORISED = {"reassoc", "contract"}


@njit(cache=True, nogil=True, fastmath=_VECTORISED)
def interpolate_at(values: Floats, positions: Doubles, table: Floats) -> Floats:
    """Band-limited values at fractional indices.

    values: (n,) float32, zero outside. positions: (m,) float64 indices into values; NaN gives 0.
    table: (phases + 1, taps) float32; row p holds the weights of values[i - taps/2 + 1 ... i + taps/2] for
        the position i + p / phases; rows in between are interpolated linearly.
    Returns (m,) float32.
    """
    n = values.shape[0]
    phases = table.shape[0] - 1
    taps = table.shape[1]
    half = taps // 2
    out = np.zeros(positions.shape[0], np.float32)
    for m in range(positions.shape[0]):
        position = positions[m]
        if not (position > -half and position < n + half):
            continue
        whole = int(np.floor(position))
        scaled = (position - whole) * phases
        row = min(int(scaled), phases - 1)
        weight = np.float32(scaled - row)
        first = whole - half + 1
        start = max(0, -first)
        stop = min(taps, n - first)
        # Slices, because indices that may be negative keep the loop from vectorising.
        window = values[first + start : first + stop]
        before = table[row, start:stop]
        after = table[row + 1, start:stop]
        lower = np.float32(0.0)
        upper = np.float32(0.0)
        for k in range(window.shape[0]):
            lower += window[k] * before[k]
            upper += window[k] * after[k]
        out[m] = lower + weight * (upper - lower)
    return out


@njit(cache=True, nogil=True)
def _add_pulse(out: Floats, position: float, gains: Doubles, table: Floats) -> None:
    """Add a band-limited pulse of height gains[b] at a fractional index to every row b of out."""
    n = out.shape[1]
    phases = table.shape[0] - 1
    taps = table.shape[1]
    whole = int(np.floor(position))
    scaled = (position - whole) * phases
    row = min(int(scaled), phases - 1)
    weight = scaled - row
    # A pulse at i + f has sinc(j - i - f) at index j: the interpolation weights as they are.
    first = whole - taps // 2 + 1
    start = max(0, -first)
    stop = min(taps, n - first)
    for b in range(out.shape[0]):
        lower = np.float32(gains[b] * (1.0 - weight))
        upper = np.float32(gains[b] * weight)
        window = out[b, first + start : first + stop]
        before = table[row, start:stop]
        after = table[row + 1, start:stop]
        for k in range(window.shape[0]):
            window[k] += lower * before[k] + upper * after[k]


@njit(cache=True, nogil=True)
def pulses(n: int, positions: Doubles, heights: Doubles, table: Floats) -> Floats:
    """(1, n) float32 with a band-limited pulse of heights[k] at every fractional index positions[k]."""
    out = np.zeros((1, n), np.float32)
    for k in range(positions.shape[0]):
        _add_pulse(out, positions[k], heights[k : k + 1], table)
    return out


@njit(cache=True, nogil=True)
def _scramble(a: int, b: int, c: int, d: int) -> float:
    """A number in [-1, 1) that looks random and depends on nothing but four small integers."""
    x = 43758.5453 * np.sin(12.9898 * a + 78.233 * b + 37.719 * c + 4.581 * d)
    return float(2.0 * (x - np.floor(x)) - 1.0)


@njit(cache=True, nogil=True)
def image_sources(
    size: Doubles,
    source: Doubles,
    receiver: Doubles,
    reflection: Doubles,
    scatter: float,
    rate: float,
    speed: float,
    lead: int,
    n: int,
    sharp_until: float,
    sharp: Floats,
    coarse: Floats,
) -> Floats:
    """Impulse responses of a shoebox room by the image-source method (Allen and Berkley 1979, eq. 10).

    size, source, receiver: (3,) metres. reflection: (6, bands) pressure reflection of the walls x=0, x=Lx,
    y=0, ... scatter: metres by which images of second and higher order are displaced at random, the same
    for every receiver (De Sena et al. 2015). lead: samples before time 0. n: samples.
    Images that arrive before the index sharp_until use the table `sharp`, later ones `coarse`.
    Returns (bands, n) float32, where a source at distance r has amplitude 1 / r.
    """
    bands = reflection.shape[1]
    out = np.zeros((bands, n), np.float32)
    reach = (n - lead) / rate * speed
    most = np.empty(3, np.int64)
    for axis in range(3):
        most[axis] = int(reach / (2.0 * size[axis])) + 1
    widest = most.max()
    powers = np.ones((6, bands, widest + 2))
    for wall in range(6):
        for b in range(bands):
            for order in range(1, widest + 2):
                powers[wall, b, order] = powers[wall, b, order - 1] * reflection[wall, b]
    gains = np.empty(bands)
    for i in range(-most[0], most[0] + 1):
        for u in range(2):
            x = (1 - 2 * u) * source[0] + 2.0 * i * size[0] - receiver[0]
            if abs(x) > reach:
                continue
            for j in range(-most[1], most[1] + 1):
                for v in range(2):
                    y = (1 - 2 * v) * source[1] + 2.0 * j * size[1] - receiver[1]
                    if x * x + y * y > reach * reach:
                        continue
                    for k in range(-most[2], most[2] + 1):
                        for w in range(2):
                            z = (1 - 2 * w) * source[2] + 2.0 * k * size[2] - receiver[2]
                            order = abs(2 * i - u) + abs(2 * j - v) + abs(2 * k - w)
                            if scatter > 0.0 and order > 1:
                                which = 3 * (4 * u + 2 * v + w)
                                dx = x + scatter * _scramble(i, j, k, which)
                                dy = y + scatter * _scramble(i, j, k, which + 1)
                                dz = z + scatter * _scramble(i, j, k, which + 2)
                                distance = np.sqrt(dx * dx + dy * dy + dz * dz)
                            else:
                                distance = np.sqrt(x * x + y * y + z * z)
                            if distance > reach:
                                continue
                            for b in range(bands):
                                gains[b] = (
                                    powers[0, b, abs(i - u)]
                                    * powers[1, b, abs(i)]
                                    * powers[2, b, abs(j - v)]
                                    * powers[3, b, abs(j)]
                                    * powers[4, b, abs(k - w)]
                                    * powers[5, b, abs(k)]
                                    / distance
                                )
                            position = distance / speed * rate + lead
                            _add_pulse(out, position, gains, sharp if position < sharp_until else coarse)
    return out


@njit(cache=True, nogil=True)
def damped_sines(
    n: int,
    rate: float,
    onsets: Doubles,
    frequencies: Doubles,
    amplitudes: Doubles,
    attacks: Doubles,
    decays: Doubles,
    phases: Doubles,
) -> Doubles:
    """Sum of amplitude * (exp(-t/decay) - exp(-t/attack)) * sin(2 pi frequency t + phase), t from each onset.

    All (m,); onsets in seconds, need not fall on a sample; attacks and decays are time constants in seconds,
    attack < decay. A sine ends where its envelope has fallen by 70 dB. Returns (n,) float64.
    """
    out = np.zeros(n)
    for m in range(onsets.shape[0]):
        first = max(0, int(np.ceil(onsets[m] * rate)))
        last = min(n, int((onsets[m] + 8.0 * decays[m]) * rate) + 1)
        t = first / rate - onsets[m]
        slow = amplitudes[m] * np.exp(-t / decays[m])
        fast = amplitudes[m] * np.exp(-t / attacks[m])
        slow_step = np.exp(-1.0 / (rate * decays[m]))
        fast_step = np.exp(-1.0 / (rate * attacks[m]))
        angle = 2.0 * np.pi * frequencies[m] * t + phases[m]
        sine, cosine = np.sin(angle), np.cos(angle)
        step = 2.0 * np.pi * frequencies[m] / rate
        turn_sine, turn_cosine = np.sin(step), np.cos(step)
        for k in range(first, last):
            out[k] += (slow - fast) * sine
            slow *= slow_step
            fast *= fast_step
            sine, cosine = sine * turn_cosine + cosine * turn_sine, cosine * turn_cosine - sine * turn_sine
    return out


@njit(cache=True, nogil=True)
def voice(
    noise: Doubles,
    rate: float,
    hop: int,
    pitch: Doubles,
    voicing: Doubles,
    breath: Doubles,
    hiss: Doubles,
    hiss_frequency: Doubles,
    formants: Doubles,
    bandwidths: Doubles,
) -> Doubles:
    """A formant synthesiser: glottal pulses and breath through a cascade, hiss through one resonator (Klatt 1980).

    noise: (n,) white, unit variance. Controls hold for frames of `hop` samples, (frames,) each with
    frames * hop > n; levels glide linearly to the next frame. pitch, hiss_frequency: Hz; voicing, breath,
    hiss: levels; formants: (frames, k) Hz; bandwidths: (k,) Hz. Returns (n,) float64.
    """
    n = noise.shape[0]
    cascade = formants.shape[1]
    one = np.zeros(cascade + 1)
    two = np.zeros(cascade + 1)
    a = np.zeros(cascade + 1)
    b = np.zeros(cascade + 1)
    c = np.zeros(cascade + 1)
    out = np.empty(n)
    phase = 0.0
    frame = -1
    open_part = 0.6
    for i in range(n):
        if i % hop == 0:
            frame += 1
            for q in range(cascade + 1):
                frequency = formants[frame, q] if q < cascade else hiss_frequency[frame]
                width = bandwidths[q] if q < cascade else 0.35 * hiss_frequency[frame]
                c[q] = -np.exp(-2.0 * np.pi * width / rate)
                b[q] = 2.0 * np.exp(-np.pi * width / rate) * np.cos(2.0 * np.pi * frequency / rate)
                a[q] = 1.0 - b[q] - c[q] if q < cascade else 1.0 + c[q]
        glide = (i % hop) / hop
        after = min(frame + 1, pitch.shape[0] - 1)
        phase += (pitch[frame] + glide * (pitch[after] - pitch[frame])) / rate
        phase -= np.floor(phase)
        # Flow phase^2 (open - phase) while the glottis is open; what radiates is its derivative.
        pulse = 2.0 * phase * open_part - 3.0 * phase * phase if phase < open_part else 0.0
        level = voicing[frame] + glide * (voicing[after] - voicing[frame])
        air = breath[frame] + glide * (breath[after] - breath[frame])
        y = level * pulse + air * noise[i]
        for q in range(cascade):
            y = a[q] * y + b[q] * one[q] + c[q] * two[q]
            two[q] = one[q]
            one[q] = y
        turbulence = (hiss[frame] + glide * (hiss[after] - hiss[frame])) * noise[i]
        h = a[cascade] * turbulence + b[cascade] * one[cascade] + c[cascade] * two[cascade]
        two[cascade] = one[cascade]
        one[cascade] = h
        out[i] = y + h
    return out


@njit(cache=True, nogil=True)
def control_gain(values: Floats, target: float, most: float, rise: float, fall: float) -> Floats:
    """Automatic gain control: brings the followed level to `target`, never amplifying by more than `most`.

    values: (n,) float32. rise, fall: share of the way the level follows per sample upwards and downwards.
    Returns (n,) float32.
    """
    out = np.empty_like(values)
    level = target / most
    for i in range(values.shape[0]):
        size = abs(values[i])
        level += (rise if size > level else fall) * (size - level)
        out[i] = values[i] * min(most, target / max(level, 1e-12))
    return out
