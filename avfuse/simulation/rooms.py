"""How sound gets from a place to a device: free field, a shoebox room, or a measured-like decay.

All give responses in which a source at 1 m arrives with amplitude 1, distance / 343 s late, so that the
arrival is exact to a fraction of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels import simulation as kernels
from avfuse.errors import StreamError
from avfuse.simulation.sampling import Sound, limit_band, sinc_table

SPEED_OF_SOUND = 343.0
_TAPS = 128
_COARSE_TAPS = 32
_LEAD = _TAPS // 2
_SETTLE = 0.05  # seconds of room before time 0 for the high-pass

Place = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Response:
    """An impulse response: samples (n,), of which index `lead` is time 0; distance in metres.

    drr_db: energy of the direct sound against that of everything later.
    """

    samples: Sound
    rate: float
    lead: int
    distance: float
    drr_db: float

    @property
    def delay(self) -> float:
        """Seconds that the direct sound travels."""
        return self.distance / SPEED_OF_SOUND


@dataclass(frozen=True, eq=False)
class Room:
    """A shoebox room with one corner at the origin, heard through its image sources.

    size: (3,) metres. reflection: pressure reflection of the walls x=0, x=Lx, y=0, y=Ly, floor, ceiling:
    (6,), or (6, bands) for octave bands around `bands` (Hz). duration: seconds of the responses.
    scatter: metres by which images of second and higher order are displaced, against the whistling sweeps
    that a perfect box has (De Sena et al. 2015, "On the modeling of rectangular geometries").
    """

    size: Place
    reflection: NDArray[np.float64]
    duration: float
    bands: tuple[float, ...] = ()
    scatter: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.size)) or min(self.size) <= 0.0:
            raise StreamError(f"Room: size {self.size} m; expected three positive lengths")
        wanted = (6, len(self.bands)) if self.bands else (6,)
        if np.shape(self.reflection) != wanted:
            raise StreamError(f"Room: reflection has shape {np.shape(self.reflection)}; expected {wanted}")
        if np.min(self.reflection) < 0.0 or np.max(self.reflection) >= 1.0:
            raise StreamError("Room: reflection outside 0 <= r < 1, such a room would not fall silent")

    @classmethod
    def with_rt60(
        cls, size: Place, rt60: float | tuple[float, ...], *, bands: tuple[float, ...] = (), scatter: float = 0.0
    ) -> Room:
        """Walls all alike, such that the decay from -5 to -25 dB, prolonged to 60 dB, takes `rt60` seconds.

        rt60: one figure, or one for each of `bands`. Sabine's and Eyring's formulas hold for diffuse fields;
        in a box with even walls the long axis rings on and the decay comes out up to 1.6 times too long.
        """
        times = np.atleast_1d(np.asarray(rt60, np.float64))
        if times.min() <= 0.0 or len(times) != max(1, len(bands)):
            raise StreamError(f"Room: rt60 {rt60} s for {len(bands)} bands; expected one positive time for each")
        reflection = np.tile(np.exp(-_decay_time(size) / (2.0 * SPEED_OF_SOUND * times)), (6, 1))
        # The tail decays slower than its beginning: 1.25 times rt60 takes it below -55 dB.
        return cls(size, reflection if bands else reflection[:, 0], 1.25 * float(times.max()), bands, scatter)

    @classmethod
    def random(cls, rng: np.random.Generator, *, rt60: tuple[float, float] = (0.2, 0.8), scatter: float = 0.0) -> Room:
        """4-10 m x 3-8 m x 2.4-4 m."""
        x, y, z = rng.uniform((4.0, 3.0, 2.4), (10.0, 8.0, 4.0))
        return cls.with_rt60((float(x), float(y), float(z)), float(rng.uniform(*rt60)), scatter=scatter)

    def response(self, source: Place, receiver: Place, rate: float) -> Response:
        """The response between two places inside the room."""
        for name, place in (("source", source), ("receiver", receiver)):
            if not all(0.0 < p < s for p, s in zip(place, self.size, strict=True)):
                raise StreamError(f"Room of {self.size} m: {name} at {place} is not inside")
        distance = _apart(source, receiver)
        n = _LEAD + int((distance / SPEED_OF_SOUND + self.duration) * rate) + _TAPS
        # Past twice the mixing time (sqrt of the volume in ms: Polack) pulses overlap and only their
        # statistics are heard: there 32 taps do what 128 do before.
        mixed = _LEAD + rate * (distance / SPEED_OF_SOUND + 2e-3 * float(np.sqrt(np.prod(self.size))))
        by_band = kernels.image_sources(
            np.array(self.size),
            np.array(source, np.float64),
            np.array(receiver, np.float64),
            np.asarray(self.reflection, np.float64).reshape(6, -1),
            float(self.scatter),
            float(rate),
            SPEED_OF_SOUND,
            _LEAD,
            n,
            mixed,
            sinc_table(_TAPS),
            sinc_table(_COARSE_TAPS, 1.0, 70.0),
        )
        direct = _pulses(n, np.array([_LEAD + distance / SPEED_OF_SOUND * rate]), np.array([1.0 / distance]))
        late = (by_band[0] if not self.bands else _join_bands(by_band, self.bands, rate)) - direct
        # All images have the same sign, so below the room's first modes they pile up and never decay; Allen
        # and Berkley take that out with a high-pass too. The direct sound stays as it is.
        before = np.zeros(round(_SETTLE * rate), np.float32)
        late = limit_band(np.concatenate([before, late]), rate, 40.0, None)
        return _joined(np.concatenate([before, direct]), late, rate, len(before) + _LEAD, distance)


@dataclass(frozen=True, eq=False)
class Decay:
    """A response that looks measured: direct sound, a dozen early reflections, then decaying noise.

    Every device gets early reflections and a tail of its own; high frequencies decay faster. The tail is
    scaled so that the direct-to-reverberant ratio falls by 6 dB per doubling of the distance from
    `critical_distance` (m), where it is 0 dB.
    """

    rt60: float
    critical_distance: float = 1.0
    seed: int = 0

    def response(self, source: Place, receiver: Place, rate: float) -> Response:
        distance = _apart(source, receiver)
        # The same two places always get the same response.
        rng = np.random.default_rng([self.seed, *np.abs(np.round(1e4 * np.array([*source, *receiver]))).astype(int)])
        arrival = distance / SPEED_OF_SOUND * rate + _LEAD
        n = int(arrival + self.rt60 * rate) + _TAPS
        direct = _pulses(n, np.array([arrival]), np.array([1.0 / distance]))
        times = np.sort(rng.uniform(0.002, 0.04, 12))
        heights = rng.choice([-1.0, 1.0], 12) * rng.uniform(0.3, 1.0, 12) * np.exp(-times / 0.02)
        late = _pulses(n, arrival + times * rate, 0.5 * heights)
        since = np.maximum(0.0, (np.arange(n) - arrival) / rate)
        # Two bands: above about 2 kHz air and soft things halve the decay time.
        low = np.convolve(rng.standard_normal(n), np.hanning(max(3, int(rate / 2000))), "same")
        low /= np.std(low)
        high = rng.standard_normal(n)
        tail = low * 10.0 ** (-3.0 * since / self.rt60) + 0.7 * high * 10.0 ** (-6.0 * since / self.rt60)
        late += (0.1 * tail * (since > 0.003) * np.minimum(1.0, since / 0.02)).astype(np.float32)
        # The room rings equally loud everywhere: as loud as the direct sound at the critical distance.
        late *= np.float32(1.0 / (self.critical_distance * np.sqrt(np.sum(np.square(late, dtype=np.float64)))))
        return _joined(direct, late, rate, _LEAD, distance)


def _decay_time(size: Place) -> float:
    """Reverberation time (T20, ISO 3382) of a box whose walls take one neper of energy a hit, times 343 m/s.

    The energy that arrives from a direction decays with the walls it meets, |cos| / length of each axis per
    metre; their mean over all directions is the decay of the room (Lehmann and Johansson 2008, eq. 12-15).
    """
    height = (np.arange(24) + 0.5) / 24
    angle = (np.arange(24) + 0.5) / 24 * np.pi / 2
    across = np.sqrt(1.0 - height**2)[:, None]
    hits = height[:, None] / size[2] + across * (np.cos(angle) / size[0] + np.sin(angle) / size[1])
    reach = np.linspace(0.0, 12.0 * max(size), 240)
    left = np.array([np.mean(np.exp(-hits * r) / hits) for r in reach])
    level = 10.0 * np.log10(left / left[0])
    at_5, at_25 = np.interp([5.0, 25.0], -level, reach)
    return float(3.0 * (at_25 - at_5))


def _pulses(n: int, positions: NDArray[np.float64], heights: NDArray[np.float64]) -> Sound:
    pulses: Sound = kernels.pulses(n, positions, heights, sinc_table(_TAPS))[0]
    return pulses


def _apart(source: Place, receiver: Place) -> float:
    distance = float(np.linalg.norm(np.subtract(source, receiver)))
    if distance < 0.01:
        raise StreamError(f"source at {source} and receiver at {receiver}: closer than 1 cm")
    return distance


def _joined(direct: Sound, late: Sound, rate: float, lead: int, distance: float) -> Response:
    energy = float(np.sum(np.square(late, dtype=np.float64)))
    ratio = -10.0 * np.log10(distance**2 * energy) if energy > 0.0 else np.inf
    return Response(direct + late, rate, lead, distance, float(ratio))


def _join_bands(by_band: NDArray[np.float32], bands: tuple[float, ...], rate: float) -> Sound:
    """Crossfade the bands in log frequency; the zero-phase weights of a frequency sum to 1, so the direct
    sound, alike in all bands, comes out untouched."""
    n = by_band.shape[1]
    octave = np.log2(np.maximum(np.fft.rfftfreq(2 * n, 1.0 / rate), 1.0))
    centres = np.log2(bands)
    out = np.zeros(n + 1, np.complex128)
    for b in range(len(bands)):
        weight = np.interp(octave, centres, np.eye(len(bands))[b])
        out += np.fft.rfft(by_band[b], 2 * n) * weight
    return np.asarray(np.fft.irfft(out, 2 * n)[:n], np.float32)
