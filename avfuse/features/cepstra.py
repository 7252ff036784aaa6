"""Cepstra of speech: which sound is being said, rather than by whom.

mel_cepstra   the shape of the spectrum in 13 coefficients and how it changes, 100 frames a second
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.errors import StreamError
from avfuse.features.pitch import RATE, without_gaps
from avfuse.stream import Stream

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

FRAME_RATE = 100  # Hz
HOP = RATE // FRAME_RATE
BANDS, COEFFICIENTS = 32, 13
_LENGTH, _BINS = 400, 512  # samples of a window, and of its transform
_EMPHASIS = 0.97
_LOWEST, HIGHEST = 100.0, 7600.0  # Hz
_FLOOR = 1e-5  # of the loud frames' power: what is 50 dB below them counts as nothing


@dataclass(frozen=True, eq=False)
class Cepstra:
    """frames: `(n, 26)`, thirteen coefficients with mean 0 and deviation 1 over the loud frames, then their slopes;
    frame k is centred on `start + k / 100` s. loudness: `(n,)` log energy, 0 for the quietest and 1 for the loudest
    frames. contrast: dB between these.
    """

    frames: F32
    loudness: F32
    start: float
    contrast: float


@lru_cache(maxsize=4)
def _bank(highest: float) -> F32:
    """`(BANDS, bins)` triangles that are even on the mel scale (Davis and Mermelstein 1980)."""
    edges = np.linspace(_mel(np.array(_LOWEST)), _mel(np.array(highest)), BANDS + 2)
    bins = _mel(np.arange(_BINS // 2 + 1) * RATE / _BINS)
    width = edges[1] - edges[0]
    rise, fall = (bins - edges[:-2, None]) / width, (edges[2:, None] - bins) / width
    return np.asarray(np.maximum(0, np.minimum(rise, fall)), np.float32)


def _mel(frequency: F64) -> F64:
    return np.asarray(2595 * np.log10(1 + frequency / 700))


def mel_cepstra(stream: Stream, *, highest: float = HIGHEST) -> Cepstra:
    """Mel cepstra of a sound (Davis and Mermelstein 1980) with their slopes (Furui 1986), in blocks.

    highest: Hz above which nothing is looked at, for two sounds of which one holds no more. Mean and deviation are
        taken out, which takes with them microphone, room and much of the voice (Viikki and Laurila 1998). Channels are
        averaged; gaps count as silence. An hour takes 110 MB at most.
    Raises StreamError where the stream is not finite sound, or holds none.
    """
    if stream.kind != "sound":
        raise StreamError(f"Stream {stream.name!r}: is {stream.kind}; expected sound")
    start, parts = None, []
    held = np.zeros(_LENGTH // 2 + 1, np.float32)
    for at, channels in without_gaps(stream):
        start = at if start is None else start
        held = np.concatenate([held, channels.mean(axis=0, dtype=np.float32)])
        count = (len(held) - 1 - _LENGTH) // HOP + 1
        if count > 0:
            parts.append(_energies(held, count, highest))
            held = held[count * HOP :]
    if start is None:
        raise StreamError(f"Stream {stream.name!r}: holds no sound")
    held = np.concatenate([held, np.zeros(_LENGTH // 2, np.float32)])
    count = (len(held) - 1 - _LENGTH) // HOP + 1
    parts.append(_energies(held, max(count, 0), highest))
    return _shaped(np.concatenate(parts), start)


def _energies(samples: F32, count: int, highest: float) -> F32:
    """`(count, BANDS)`; the first sample is only there for what is taken from the second."""
    clear = samples[1:] - np.float32(_EMPHASIS) * samples[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(clear, _LENGTH)[: count * HOP : HOP] if count else clear[:0, None]
    if not len(frames):
        return np.zeros((0, BANDS), np.float32)
    window = np.hamming(_LENGTH).astype(np.float32)
    powers = np.abs(fft.rfft(frames * window, _BINS)) ** 2
    return np.asarray(powers @ _bank(highest).T, np.float32)


def _shaped(energies: F32, start: float) -> Cepstra:
    power = energies.sum(axis=1)
    # Loud frames, not the loudest one: a click must not push speech below the floor.
    loud = float(np.quantile(power, 0.98)) if len(power) else 0.0
    energies += np.float32(max(loud * _FLOOR / BANDS, 1e-20))
    np.log(energies, out=energies)
    cepstra = np.asarray(fft.dct(energies, axis=1, norm="ortho")[:, :COEFFICIENTS], np.float32)
    level = cepstra[:, 0]
    top = float(np.quantile(level, 0.95))
    low = min(float(np.quantile(level, 0.02)), top - 1e-3)
    spoken = cepstra[level > top - 3 * np.sqrt(BANDS)]
    cepstra = (cepstra - spoken.mean(axis=0)) / np.maximum(spoken.std(axis=0), 1e-3)
    loudness = np.asarray((level - low) / (top - low), np.float32)
    contrast = (top - low) / np.sqrt(BANDS) * 10 / np.log(10)
    return Cepstra(np.hstack([cepstra, 2 * _slopes(cepstra)]), loudness, start, float(contrast))


def _slopes(frames: F32) -> F32:
    """Of the straight line through five frames."""
    wide = np.pad(frames, ((2, 2), (0, 0)), "edge")
    return np.asarray((wide[3:-1] - wide[1:-3] + 2 * (wide[4:] - wide[:-4])) / 10, np.float32)
