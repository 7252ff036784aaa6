"""A device: where it stands, how its clock runs, and what it does to the sound it receives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avfuse._kernels import simulation as kernels
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import StreamError
from avfuse.simulation.pictures import Camera
from avfuse.simulation.rooms import Place
from avfuse.simulation.sampling import Clock, Sound, coloured_noise, limit_band, rms
from avfuse.simulation.sounds import hum


@dataclass(frozen=True, eq=False)
class Device:
    """A recorder, camera or phone that hears the event.

    clock: device time -> event time (seconds): ClockMap(start, drift), or any PiecewiseClock.
    duration: seconds on the device's own clock. rate: Hz. position: metres.
    microphones: metres relative to the position, one channel each.
    gain: factor; polarity: 1 or -1. band: half-power (low, high) in Hz, None where open.
    snr_db: own noise against the received sound, both measured where all devices listen; None is noiseless.
    noise_slope_db: fall of the own noise per octave; hum_db: mains hum relative to the received sound.
    agc: the device levels what it hears. ceiling: absolute value at which samples clip.
    camera: how it films, None where it only hears.
    """

    name: str
    clock: Clock
    duration: float
    rate: float = 48000.0
    position: Place = (0.0, 0.0, 0.0)
    microphones: tuple[Place, ...] = ((0.0, 0.0, 0.0),)
    gain: float = 1.0
    polarity: int = 1
    band: tuple[float | None, float | None] = (None, None)
    snr_db: float | None = None
    noise_slope_db: float = 0.0
    hum_db: float | None = None
    mains: float = 50.0
    agc: bool = False
    ceiling: float | None = None
    camera: Camera | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.duration) and self.duration * self.rate >= 1.0):
            raise StreamError(
                f"Device {self.name!r}: {self.duration} s at {self.rate} Hz; expected at least one sample"
            )
        if self.polarity not in {1, -1}:
            raise StreamError(f"Device {self.name!r}: polarity {self.polarity}; expected 1 or -1")

    @property
    def samples(self) -> int:
        return round(self.duration * self.rate)

    def record(self, received: list[Sound], rng: np.random.Generator, *, heard: slice = slice(None)) -> Sound:
        """(channels, n) of what arrives at the microphones, as the device stores it.

        received: (n,) per microphone, at the device's rate and on its clock. heard: the samples over which
        the levels of noise and hum are measured.
        """
        channels = []
        buzz = None
        if self.hum_db is not None:
            buzz = hum(self.duration, self.rate, rng, mains=self.mains)
        for sound in received:
            low, high = self.band
            if low is not None or (high is not None and high < self.rate / 2):
                sound = limit_band(sound, self.rate, low, high)
            sound = sound * np.float32(self.gain * self.polarity)
            level = rms(sound[heard])
            if self.snr_db is not None:
                noise = coloured_noise(len(sound), self.rate, self.noise_slope_db, rng)
                sound = sound + np.float32(level * 10.0 ** (-self.snr_db / 20.0) / rms(noise[heard])) * noise
            if buzz is not None and self.hum_db is not None:
                sound = sound + np.float32(level * 10.0 ** (self.hum_db / 20.0) / rms(buzz[heard])) * buzz
            if self.agc:
                # Down within 5 ms, up again within a second, by 20 dB at most.
                rise, fall = 1.0 - np.exp(-1.0 / (0.005 * self.rate)), 1.0 - np.exp(-1.0 / self.rate)
                sound = kernels.control_gain(sound, 0.25, 10.0, rise, fall)
            if self.ceiling is not None:
                sound = np.clip(sound, -self.ceiling, self.ceiling)
            channels.append(sound)
        return np.stack(channels)


def wandering_clock(
    start: float, duration: float, drift: float, wander: float, rng: np.random.Generator, *, step: float = 5.0
) -> PiecewiseClock:
    """A clock whose rate walks smoothly about `drift`, as temperature makes it: no jumps, one line per `step` s.

    wander: standard deviation of the drift over the recording (dimensionless).
    """
    edges = np.linspace(0.0, duration, max(2, int(np.ceil(duration / step)) + 1))
    walk = np.cumsum(np.cumsum(rng.standard_normal(len(edges) - 1)) * 0.1 + rng.standard_normal(len(edges) - 1))
    walk -= walk.mean()
    spread = float(np.std(walk))
    drifts = drift + (wander * walk / spread if spread > 0.0 else walk)
    segments = []
    event = start
    for first, last, rate in zip(edges[:-1], edges[1:], drifts, strict=True):
        segments.append(Segment(float(first), float(last), float(event - first - rate * first), float(rate)))
        event += (last - first) + rate * (last - first)
    return PiecewiseClock(tuple(segments))


def dropping_clock(clock: ClockMap, duration: float, drops: list[tuple[float, float]]) -> PiecewiseClock:
    """`clock`, except that at each device time of `drops` the device loses (time, seconds) of the event.

    drops: in order of time, inside the recording; the recording goes on without a gap of its own.
    """
    edges = [0.0, *(time for time, _ in drops), duration]
    lost = np.cumsum([0.0, *(seconds for _, seconds in drops)])
    return PiecewiseClock(
        tuple(
            Segment(first, last, clock.offset + float(gone), clock.drift)
            for first, last, gone in zip(edges[:-1], edges[1:], lost, strict=True)
        )
    )
