"""Band-limited sampling and filtering of simulated sound."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse._kernels import simulation as kernels
from avfuse.clock import ClockMap, PiecewiseClock

Sound = NDArray[np.float32]
Clock = ClockMap | PiecewiseClock

PHASES = 512
_CHUNK = 1 << 19  # positions are float64: sampling in chunks keeps an hour at 48 kHz out of memory


@lru_cache(maxsize=16)
def sinc_table(taps: int, cutoff: float = 1.0, stop_db: float = 90.0) -> NDArray[np.float32]:
    """Kaiser-windowed sinc for `kernels.interpolate_at`: (PHASES + 1, taps) float32.

    cutoff: of the low-pass, as a share of Nyquist. With 128 taps and 90 dB the pass band ends at 0.955 of it.
    """
    beta = 0.1102 * (stop_db - 8.7)  # Kaiser's formula for more than 50 dB
    distance = np.arange(1 - taps // 2, taps // 2 + 1) - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(beta * np.sqrt(np.maximum(0.0, 1.0 - (2.0 * distance / taps) ** 2))) / np.i0(beta)
    weights = cutoff * np.sinc(cutoff * distance) * window
    # Every row passes a constant unchanged.
    table: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    table.flags.writeable = False
    return table


def sample_on_clock(
    values: Sound, rate: float, clock: Clock, device_rate: float, n: int, *, delay: float = 0.0
) -> Sound:
    """What a device with `clock` (device time -> event time) records of a sound that runs on event time.

    values: (m,) samples of the event at `rate`, the first at event time 0, silence outside.
    device_rate, n: Hz and samples of the device; where it is the lower rate the sound is low-passed first.
    delay: seconds by which the sound reaches the device late.
    Where the clock has a hole the device records nothing.
    """
    ratio = min(1.0, device_rate * (1.0 + _fastest(clock)) / rate)
    taps = 2 * round(64 / ratio)
    table = sinc_table(taps, round(ratio, 3))
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty(n, np.float32)
    for first in range(0, n, _CHUNK):
        last = min(n, first + _CHUNK)
        positions = (clock(np.arange(first, last) / device_rate) - delay) * rate
        out[first:last] = kernels.interpolate_at(values, positions, table)
    return out


def _fastest(clock: Clock) -> float:
    """The smallest drift of the clock, whose samples lie closest together."""
    return clock.drift if isinstance(clock, ClockMap) else min(s.drift for s in clock.segments)


def convolve(values: Sound, response: Sound, lead: int = 0) -> Sound:
    """`values` filtered by a response whose index `lead` is time 0; same length as `values`. Overlap-add."""
    taps = len(response)
    size = fft.next_fast_len(min(len(values) + taps - 1, max(8 * taps, 1 << 16)), real=True)
    step = size - taps + 1
    spectrum = fft.rfft(np.asarray(response, np.float32), size)
    out = np.zeros(len(values) + lead + size, np.float32)
    for first in range(0, len(values), step):
        block = fft.rfft(np.asarray(values[first : first + step], np.float32), size)
        out[first : first + size] += fft.irfft(block * spectrum, size)
    return out[lead : lead + len(values)]


def shape_spectrum(values: Sound, rate: float, gains: NDArray[np.float64], frequencies: NDArray[np.float64]) -> Sound:
    """Zero-phase filter with the magnitudes `gains` at `frequencies` (Hz, rising), straight lines between."""
    size = fft.next_fast_len(int(min(max(0.25 * rate, 1024), 16384)), real=True)
    magnitude = np.interp(fft.rfftfreq(size, 1.0 / rate), frequencies, gains)
    response = np.roll(fft.irfft(magnitude, size), size // 2) * np.hanning(size)
    return convolve(values, response.astype(np.float32), size // 2)


def limit_band(values: Sound, rate: float, low: float | None, high: float | None) -> Sound:
    """Zero-phase Butterworth magnitudes of order 4: half power at `low` and `high` Hz.

    Zero phase because a filter's own delay would otherwise hide in the clock's truth.
    """
    frequencies = np.linspace(0.0, rate / 2, 8193)
    gains = np.ones_like(frequencies)
    if low is not None:
        gains *= frequencies**4 / np.sqrt(frequencies**8 + low**8)
    if high is not None:
        gains /= np.sqrt(1.0 + (frequencies / high) ** 8)
    return shape_spectrum(values, rate, gains, frequencies)


def coloured_noise(n: int, rate: float, slope_db: float, rng: np.random.Generator) -> Sound:
    """(n,) Gaussian noise of unit RMS whose power falls by `slope_db` per octave above 40 Hz (0: white)."""
    noise = rng.standard_normal(n, dtype=np.float32)
    if slope_db == 0.0:
        return noise
    frequencies = np.linspace(0.0, rate / 2, 8193)
    gains = (np.maximum(frequencies, 40.0) / 40.0) ** (-slope_db / 6.0206)
    return to_rms(shape_spectrum(noise, rate, gains, frequencies), 1.0)


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def to_rms(values: NDArray[np.floating], level: float) -> Sound:
    """`values` scaled to the RMS `level`; silence stays silence."""
    found = rms(values)
    return (values * (level / found if found > 0.0 else 0.0)).astype(np.float32)
