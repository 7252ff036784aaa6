"""Loudness of sound over time, finely: what of a sound can go with a picture.

sound_features    energy per millisecond in three bands; from it onsets of blows and the envelope of speech
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.stream import Stream

RATE = 16000  # Hz
FRAME_RATE = 1000  # Hz; a flash is placed within a millisecond
HOP = RATE // FRAME_RATE
BANDS = ((100.0, 1000.0), (300.0, 3400.0), (1500.0, 7000.0))  # Hz: blows, speech, clicks
_BLOCK = 30.0  # seconds that are filtered at a time
_AHEAD, _BEHIND = 6, 30  # ms before and after an onset that are compared
_APART = 60  # ms; blows closer than this are one
_BEGINNING, _ENOUGH = 16, 0.15  # ms within which a blow is loud, and the share of its energy that is
_RISE = 1.4  # nepers of energy (6 dB) that make an onset
_FLOOR = 1e-4  # of the mean energy: what is fainter is silence

Float = NDArray[np.float64]
Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Onsets:
    """Where something begins to sound: `(n,)` seconds, and how strongly (nepers times relative loudness)."""

    times: Float
    strengths: Float


@dataclass(frozen=True, eq=False)
class SoundFeatures:
    """Energy of one sound. energy: `(bands, n)`, each over one millisecond. start: seconds of the first."""

    name: str
    start: float
    energy: Single

    @property
    def duration(self) -> float:
        return float(self.energy.shape[1] / FRAME_RATE)

    @property
    def end(self) -> float:
        return self.start + self.duration

    @property
    def times(self) -> Float:
        """(n,) seconds of the middle of each millisecond."""
        return np.asarray(self.start + (np.arange(self.energy.shape[1]) + 0.5) / FRAME_RATE)

    @cached_property
    def silent(self) -> bool:
        """Whether there is nothing to hear."""
        return self.energy.shape[1] == 0 or float(self.energy.max()) < 1e-10

    @cached_property
    def rise(self) -> Single:
        """(n,) nepers by which the energy of the next milliseconds exceeds that of those before, >= 0.

        The larger of the bands of blows and of clicks, so that neither a hum nor a hiss hides them.
        """
        found = np.zeros(self.energy.shape[1], np.float32)
        for band in (0, 2):
            energy = self.energy[band].astype(np.float64)
            floor = _FLOOR * max(float(energy.mean()), 1e-12)
            total = np.concatenate([np.zeros(1), np.cumsum(energy)])
            here = np.arange(len(energy))
            last, first = np.minimum(here + _AHEAD, len(energy)), np.maximum(here - _BEHIND, 0)
            ahead = (total[last] - total[here]) / np.maximum(last - here, 1)
            behind = (total[here] - total[first]) / np.maximum(here - first, 1)
            behind[:_BEHIND] = np.maximum(behind[:_BEHIND], ahead[:_BEHIND])  # the start is no onset
            np.maximum(found, np.log((ahead + floor) / (behind + floor)), out=found)
        return found

    @cached_property
    def onsets(self) -> Onsets:
        """Onsets, each the strongest within 60 ms, to a millisecond."""
        from scipy.ndimage import maximum_filter1d

        rise = self.rise
        at = np.flatnonzero((rise >= _RISE) & (rise == maximum_filter1d(rise, 2 * _APART + 1)))
        at = at[np.concatenate([np.ones(1, bool), np.diff(at) > _APART])] if len(at) else at
        strength = rise[at]
        loud = self.energy[0].astype(np.float64) + self.energy[2]
        # Codecs sound a little before a blow does: it begins where it is loud.
        within = np.minimum(at[:, None] + np.arange(_BEGINNING), len(loud) - 1)
        first = loud[within]
        at = at + np.argmax(first >= _ENOUGH * first.max(axis=1, keepdims=True), axis=1) if len(at) else at
        total = np.concatenate([np.zeros(1), np.cumsum(loud)])
        peak = (total[np.minimum(at + 20, len(loud))] - total[at]) / 20
        # A faint onset counts for less than a loud one, by the fourth root of its energy.
        level = (peak / max(float(np.max(peak, initial=0.0)), 1e-12)) ** 0.25
        return Onsets(self.start + (at + 0.5) / FRAME_RATE, strength * level)

    @cached_property
    def envelope(self) -> Single:
        """(n,) log energy of the band of speech (300-3400 Hz) over about 40 ms."""
        from scipy.ndimage import gaussian_filter1d

        energy = gaussian_filter1d(self.energy[1].astype(np.float64), 16.0)
        return np.asarray(np.log(energy + 1e-3 * max(float(energy.mean()), 1e-12)), np.float32)


def sound_features(stream: Stream) -> SoundFeatures:
    """Features of a sound stream, decoded once and lazily; its channels are mixed.

    Raises StreamError for another kind, ReadError where the file cannot be read.
    """
    if stream.kind != "sound":
        raise StreamError(f"Stream {stream.name!r}: {stream.kind}; expected sound")
    from scipy import signal

    filters = [signal.butter(3, band, "bandpass", fs=RATE, output="sos") for band in BANDS]
    states = [np.zeros((len(f), 2)) for f in filters]
    start: float | None = None
    filled = 0
    parts: list[Single] = []
    rest = np.zeros(0)
    for times, values in stream.blocks(_BLOCK, rate=RATE):
        if start is None:
            start = float(times[0])
        mono = values.mean(axis=0, dtype=np.float64)
        # What is missing in the middle is silence, so that what follows keeps its time.
        missing = round((float(times[0]) - start) * RATE) - filled
        if missing > 0:
            mono = np.concatenate([np.zeros(missing), mono])
        filled += len(mono)
        mono = np.concatenate([rest, mono])
        whole = len(mono) // HOP * HOP
        rest = mono[whole:]
        piece = np.empty((len(BANDS), whole // HOP), np.float32)
        for k, sos in enumerate(filters):
            heard, states[k] = signal.sosfilt(sos, mono[:whole], zi=states[k])
            piece[k] = np.mean(heard.reshape(-1, HOP) ** 2, axis=1)
        parts.append(piece)
    energy = np.concatenate(parts, axis=1) if parts else np.zeros((len(BANDS), 0), np.float32)
    return SoundFeatures(stream.name, start or 0.0, energy)
