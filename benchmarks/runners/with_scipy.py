"""Pairs through one FFT correlation at 16 kHz, the few lines that anybody would write first."""

import numpy as np
from loop import answer_all
from scipy.signal import correlate, correlation_lags, resample_poly
from soundfile import SoundFile

RATE = 16000


def read(path):
    """Mono at 16 kHz. Read in pieces, so that an hour is held at the low rate only."""
    with SoundFile(path) as file:
        mono = np.concatenate([block.mean(axis=1) for block in file.blocks(1 << 20, dtype="float32", always_2d=True)])
        common = np.gcd(file.samplerate, RATE)
        return resample_poly(mono, RATE // common, file.samplerate // common)


def align(reference, moving):
    a, b = read(reference), read(moving)
    strength = np.abs(correlate(a, b, method="fft"))
    lag = correlation_lags(len(a), len(b))[np.argmax(strength)]
    return {"offset": lag / RATE, "trusted": True, "score": float(strength.max() / strength.std())}


answer_all(align)
