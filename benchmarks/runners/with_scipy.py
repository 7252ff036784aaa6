"""Pairs through one FFT correlation at 16 kHz, the few lines that anybody would write first."""

import numpy as np
from scipy.signal import correlate, correlation_lags, resample_poly
from soundfile import SoundFile

import avfuse

RATE = 16000


def read(path):
    """Mono at 16 kHz. Read in pieces, so that an hour is held at the low rate only."""
    with SoundFile(path) as file:
        mono = np.concatenate([block.mean(axis=1) for block in file.blocks(1 << 20, dtype="float32", always_2d=True)])
        common = np.gcd(file.samplerate, RATE)
        return resample_poly(mono, RATE // common, file.samplerate // common)


def align(files):
    a, b = map(read, files)
    strength = np.abs(correlate(a, b, method="fft"))
    lag = correlation_lags(len(a), len(b))[np.argmax(strength)]
    return avfuse.Alignment.from_maps({files[0]: avfuse.ClockMap(), files[1]: avfuse.ClockMap(lag / RATE)})
