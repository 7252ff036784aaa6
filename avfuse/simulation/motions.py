"""Two sensors on one rigid body, with clocks, axes and noise of their own and the truth between them.

hand        held in a hand, all frequencies up to a limit
walk        steps of uneven length, with overtones
gestures    still but for moments
turntable   about one axis only
still       not at all
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.stream import Stream

F64 = NDArray[np.float64]
Motion = Literal["hand", "walk", "gestures", "turntable", "still"]

MOTION_RATE = 1000.0  # Hz at which a motion is made
_SLOWEST, _KNEE = 0.1, 1.0  # Hz: where hands begin to move, and above which they move less
MARGIN = 6.0  # seconds before and after


@dataclass(frozen=True, eq=False)
class MotionPair:
    """Rotation rates in rad/s. truth: moving -> reference. matrix: v_reference = matrix @ v_moving, `(3, 3)`."""

    reference: Stream
    moving: Stream
    truth: ClockMap
    matrix: F64


def simulate_motions(
    duration: float,
    rng: np.random.Generator,
    *,
    motion: Motion = "hand",
    rates: tuple[float, float] = (200.0, 333.0),
    noise_db: float = -20.0,
    highest: float = 5.0,
    drift: float | None = None,
    related: bool = True,
) -> MotionPair:
    """A gyroscope that measures for `duration` seconds, and another on the same body for all but a tenth of them.

    rates: Hz. noise_db: white noise of each sensor over the rms of the motion. highest: Hz of the motion. drift: of the
    second clock; None draws one of 50 ppm. related False: the second sensor sits on another body that moves alike.
    Raises StreamError for a duration or rates that are not positive.
    """
    if not (duration > 0 and min(rates) > 0):
        raise StreamError(f"simulate_motions: {duration!r} s at {rates!r} Hz; expected positive numbers")
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import Rotation

    total = duration + 2 * MARGIN
    bodies = [motion_rates(motion, total, highest, rng) for _ in range(1 if related else 2)]
    drift = float(rng.normal(0, 50e-6)) if drift is None else drift
    truth = ClockMap(float(rng.uniform(-0.3, 0.4) * min(duration, 10.0)), drift)
    matrix = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    grid = np.arange(bodies[0].shape[1]) / MOTION_RATE - MARGIN
    level = max(float(np.sqrt((bodies[0] ** 2).mean())), 0.02) * 10 ** (noise_db / 20)

    def sensor(body: F64, times: F64, on_reference: F64, axes: F64) -> Stream:
        values = CubicSpline(grid, body.T)(on_reference) @ axes
        values = values + level * rng.standard_normal(values.shape) + 0.01 * rng.standard_normal(3)
        return Stream("rotation_rate", "rotation_rate", values, times=times, unit="rad/s", channels=("x", "y", "z"))

    one = np.arange(int(duration * rates[0])) / rates[0]
    two = np.arange(int(0.9 * duration * rates[1])) / rates[1]
    return MotionPair(
        sensor(bodies[0], one, one, np.eye(3)), sensor(bodies[-1], two, np.asarray(truth(two)), matrix), truth, matrix
    )


def motion_rates(motion: Motion, duration: float, highest: float, rng: np.random.Generator) -> F64:
    """Rotation rate `(3, n)` in rad/s at 1 kHz, of rms 1 along its strongest axis."""
    n = int(duration * MOTION_RATE)
    if motion == "still":
        return np.zeros((3, n))
    hand = _coloured(n, highest, rng)
    if motion == "walk":
        # A step every half second or so; each a few per cent longer or shorter than the one before.
        lengths = 0.52 * np.exp(0.04 * rng.standard_normal(int(duration / 0.3)))
        phase = 2 * np.pi * np.interp(np.arange(n) / MOTION_RATE, np.cumsum(lengths), np.arange(len(lengths)))
        tones = [k for k in (0.5, 1, 2, 3, 4) if k / 0.52 < highest]
        swing = sum(
            np.outer(rng.standard_normal(3) / (1 + k), np.cos(k * phase + rng.uniform(0, 2 * np.pi))) for k in tones
        )
        hand = np.asarray(swing) / float(np.std(swing)) + 0.3 * hand
    elif motion == "gestures":
        gain = np.zeros(n)
        for _ in range(max(2, int(duration / 8))):
            at, width = rng.uniform(0, n), rng.uniform(0.2, 0.8) * MOTION_RATE
            gain += np.exp(-(((np.arange(n) - at) / width) ** 2))
        hand = hand * gain
    elif motion == "turntable":
        axis = rng.standard_normal(3)
        hand = np.outer(axis / np.linalg.norm(axis), hand[0])
    return np.asarray(hand / max(float(hand.std(axis=1).max()), 1e-12))


def _coloured(n: int, highest: float, rng: np.random.Generator) -> F64:
    frequencies = fft.rfftfreq(n, 1 / MOTION_RATE)
    gain = ((frequencies > _SLOWEST) & (frequencies < highest)) / np.sqrt(1 + (frequencies / _KNEE) ** 2)
    bins = (rng.standard_normal((3, len(gain))) + 1j * rng.standard_normal((3, len(gain)))) * gain
    return np.asarray(fft.irfft(bins, n))
