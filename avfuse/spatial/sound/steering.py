"""Steered power: how well the sounds of an array line up when it is turned to a direction.

The cross-spectra of all pairs of microphones, of which only the phases are kept (PHAT), are averaged over frames and
turned into correlations, sixteen or more lags to a sample; the power of a direction is their sum at the lags that a
plane wave from there would have. A table holds those lags, so that a direction costs one addition a pair (DiBiase, A
high-accuracy, low-latency technique for talker localization in reverberant environments using microphone arrays, 2000).

Directions are unit vectors `(n, 3)` from the array to the sound. A microphone at x hears a plane wave from u early by
x . u / speed, so pair (i, j) has the delay t_i - t_j = -(x_i - x_j) . u / speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from avfuse._kernels import steering as kernels
from avfuse.errors import StreamError

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
C64 = NDArray[np.complex64]

FRAME = 0.032  # seconds: long against the delays of an array, short against syllables
BAND = (100.0, 8000.0)  # Hz
_FINE = 256e3  # lags a second: sixteen to a sample at 16 kHz
_PARTS = 256  # into which the table divides a lag
_UNSURE = 5e-4  # of all power: what straight lines between lags may be off by, several times over
_SMALLEST = 1e-3  # metres between the first and the last microphone of an array
_BENT = 8e-6  # seconds off a plane wave that matter
_FLAT = 0.03  # extent off a plane (or line) against that along it: less tells nothing


def sound_speed(temperature: float) -> float:
    """m/s in dry air at `temperature` degrees Celsius."""
    return float(331.3 * np.sqrt(1 + temperature / 273.15))


def direction_of(azimuth: ArrayLike, elevation: ArrayLike) -> F64:
    """Unit vectors `(..., 3)`: azimuth counter-clockwise from +x, elevation up from the xy plane, radians."""
    a, e = np.asarray(azimuth, np.float64), np.asarray(elevation, np.float64)
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e) + 0 * a], axis=-1)


def angles_of(directions: ArrayLike) -> tuple[F64, F64]:
    """(azimuth, elevation) of vectors `(..., 3)` of any length, radians."""
    d = np.asarray(directions, np.float64)
    return np.arctan2(d[..., 1], d[..., 0]), np.arctan2(d[..., 2], np.hypot(d[..., 0], d[..., 1]))


def sphere(step: float, *, facing: ArrayLike | None = None) -> F64:
    """Directions `(n, 3)` about `step` radians apart, evenly over the sphere, or over the half that looks along
    `facing` `(3,)`."""
    rings = max(1, round(np.pi / 2 / step))
    made = []
    for elevation in np.linspace(-np.pi / 2, np.pi / 2, 2 * rings + 1):
        count = max(1, round(2 * np.pi * float(np.cos(elevation)) / step))
        made.append(direction_of(2 * np.pi * np.arange(count) / count, np.full(count, elevation)))
    found = np.concatenate(made)
    return found if facing is None else found[found @ np.asarray(facing, np.float64) >= -1e-9]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the microphones are, and what of a direction they can tell.

    microphones: `(channels, 3)` metres. rank: 3 for a solid array, 2 for a plane one (which cannot tell a direction
    from its mirror image in the plane), 1 for a line. axes: `(3, 3)` rows, principal directions, the longest first;
    the last one of a plane array is its normal, turned to the upper half.
    """

    microphones: F64
    speed: float = 343.0

    @cached_property
    def centred(self) -> F64:
        return np.asarray(self.microphones - self.microphones.mean(axis=0))

    @cached_property
    def _parts(self) -> tuple[F64, F64]:
        _, sizes, axes = np.linalg.svd(self.centred, full_matrices=True)
        if axes[2] @ (1e-6, 1e-3, 1.0) < 0:
            axes[2] *= -1
        if np.linalg.det(axes) < 0:
            axes[1] *= -1
        return np.pad(sizes, (0, 3 - len(sizes))), axes

    @property
    def axes(self) -> F64:
        return self._parts[1]

    @property
    def rank(self) -> int:
        sizes = self._parts[0]
        return int((sizes > _FLAT * max(float(sizes[0]), 1e-12)).sum())

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """`(pairs, 2)`, i < j."""
        return np.stack(np.triu_indices(len(self.microphones), 1), axis=1)

    @cached_property
    def baselines(self) -> F64:
        """`(pairs, 3)` x_i - x_j."""
        i, j = self.pairs.T
        return np.asarray(self.microphones[i] - self.microphones[j])

    @property
    def aperture(self) -> float:
        """Metres between the two microphones that are farthest apart."""
        return float(np.linalg.norm(self.baselines, axis=1).max())

    def lateness(self, directions: F64) -> F64:
        """`(n, channels)` seconds by which a wave from 1 m away arrives later than a plane one, next to its middle:
        (|x|^2 - (x . u)^2) / (2 speed), and as much less as it comes from farther away."""
        x = self.centred
        return np.asarray((np.sum(x**2, axis=1) - (directions @ x.T) ** 2) / (2 * self.speed))

    @cached_property
    def is_bent(self) -> bool:
        """Whether the wavefront of a source at half a metre is bent enough to matter."""
        x = self.centred
        front = self.lateness(self.axes[:2])
        base = np.concatenate([np.ones((len(x), 1)), x], axis=1)
        rest = front - front @ base @ np.linalg.pinv(base)
        return bool(np.abs(rest).max() / 0.5 > _BENT or np.abs(front - front.mean(axis=1)[:, None]).max() > 4 * _BENT)

    @property
    def feels_distance(self) -> bool:
        """Whether there are microphones enough to tell it beside the direction."""
        return self.is_bent and len(self.microphones) >= 5

    def mirrored(self, directions: ArrayLike) -> F64:
        """Directions `(..., 3)` in the mirror that a plane array is."""
        d = np.asarray(directions, np.float64)
        normal = self.axes[2]
        return np.asarray(d - 2 * (d @ normal)[..., None] * normal)


def checked_geometry(microphones: ArrayLike, channels: int, speed: float) -> Geometry:
    """Raises StreamError for positions that are no array of `channels` microphones."""
    x = np.asarray(microphones, np.float64)
    if x.ndim != 2 or x.shape[1] != 3:
        raise StreamError(f"microphones: shape {x.shape}; expected (channels, 3) in metres")
    if len(x) != channels:
        raise StreamError(f"microphones: {len(x)} positions for {channels} channels of sound; expected one for each")
    if not np.isfinite(x).all():
        raise StreamError("microphones: a position is not finite; expected metres")
    if not 200.0 < speed < 2000.0:
        raise StreamError(f"speed: {speed!r} m/s; expected the speed of sound, 343 in air at 20 degrees Celsius")
    if len(x) < 3:
        raise StreamError(f"microphones: {len(x)}; expected at least 3, two tell the angle to their line alone")
    found = Geometry(x, speed)
    apart = np.linalg.norm(found.baselines, axis=1)
    if apart.min() < 1e-4:
        i, j = found.pairs[int(apart.argmin())]
        raise StreamError(f"microphones: {i + 1} and {j + 1} are at one place; expected different places, in metres")
    if not _SMALLEST < found.aperture < 30.0:
        raise StreamError(f"microphones: {found.aperture:g} m from first to last; expected metres (are these mm?)")
    return found


@dataclass(frozen=True, eq=False)
class Spectra:
    """Frames of sound, of which only the phases are kept.

    whitened: `(channels, frames, bins)` complex64 of length 1. power: `(frames, bins)`, mean over channels.
    frequencies: `(bins,)` Hz. size: samples of a frame; hop: from one to the next.
    """

    whitened: C64
    power: F32
    frequencies: F64
    size: int
    hop: int
    rate: float
    first_bin: int

    @property
    def times(self) -> F64:
        """Middles of the frames, seconds."""
        return np.asarray((np.arange(self.power.shape[0]) * self.hop + self.size / 2) / self.rate)

    def part(self, rows: slice) -> Spectra:
        """Some of its frames."""
        return replace(self, whitened=self.whitened[:, rows], power=self.power[rows])

    def cross(self, weights: F32) -> C64:
        """Sums over frames of the whitened cross-spectra z_i conj(z_j), `(pairs, bins)`; weights `(frames, bins)`."""
        z = self.whitened.transpose(2, 0, 1)
        sums = (z * weights.T[:, None, :]) @ z.conj().transpose(0, 2, 1)
        i, j = np.triu_indices(len(self.whitened), 1)
        return np.asarray(sums[:, i, j].T)


def frame_size(rate: float, aperture: float, speed: float) -> int:
    """Samples: a power of two of about FRAME, and eight times the longest delay at least."""
    return int(2 ** round(np.log2(max(FRAME * rate, 8 * aperture / speed * rate, 16))))


def spectra_of(samples: NDArray[np.floating], rate: float, size: int, *, band: tuple[float, float] = BAND) -> Spectra:
    """Frames of `(channels, n)` under a Hann window, half overlapping; bins within `band` alone."""
    hop = size // 2
    x = np.ascontiguousarray(samples, np.float32)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    framed = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, ::hop] * window
    frequencies: F64 = np.arange(size // 2 + 1) * np.float64(rate / size)
    inside = np.flatnonzero((frequencies >= band[0]) & (frequencies <= min(band[1], 0.475 * rate)))
    first, last = int(inside[0]), int(inside[-1]) + 1
    found = fft.rfft(framed, axis=-1)[:, :, first:last]
    squares = found.real**2 + found.imag**2
    with np.errstate(divide="ignore", invalid="ignore"):
        whitened = np.where(squares > 0, found / np.sqrt(squares), 0)
    return Spectra(
        np.asarray(whitened, np.complex64),
        squares.mean(axis=0),
        np.asarray(frequencies[first:last]),
        size,
        hop,
        rate,
        first,
    )


@dataclass(frozen=True, eq=False)
class Steering:
    """A table of lags for directions `(n, 3)` of an array, made once and used for any sound of the same rate.

    bends: 1 / distances of the sources, 1/m: the table holds all directions for the first of them, then for the next.
    """

    geometry: Geometry
    directions: F64
    rate: float
    size: int
    bends: tuple[float, ...] = (0.0,)

    @cached_property
    def fine(self) -> int:
        """Lags to a sample: a power of two."""
        return int(2 ** np.ceil(np.log2(max(2.0, _FINE / self.rate))))

    @cached_property
    def reach(self) -> int:
        return int(np.ceil(self.geometry.aperture / self.geometry.speed * self.rate * self.fine)) + 2

    def lags(self, which: NDArray[np.int64]) -> F64:
        """`(pairs, n)` of some of the directions, counted through all bends; in fine steps."""
        k, bend = which % len(self.directions), np.array(self.bends)[which // len(self.directions)]
        per_second = self.rate * self.fine
        plane = (-per_second / self.geometry.speed) * (self.geometry.baselines @ self.directions[k].T)
        if self.bends == (0.0,):
            return np.asarray(plane)
        i, j = self.geometry.pairs.T
        late = per_second * self.geometry.lateness(self.directions[k]).T
        most = self.reach - 1
        return np.asarray(np.clip(plane + bend * (late[i] - late[j]), -most, most))

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """`(pairs, directions)` indices of lags, in 1/256."""
        lags = self.lags(np.arange(len(self.directions) * len(self.bends)))
        return np.rint(_PARTS * lags).astype(np.int32) + np.int32(_PARTS * self.reach)

    def correlations(self, cross: C64, spectra: Spectra) -> F32:
        """`(pairs, 2 reach + 1)`: correlations at the lags of the table."""
        whole = np.zeros((len(cross), self.size * self.fine // 2 + 1), np.complex64)
        whole[:, spectra.first_bin : spectra.first_bin + cross.shape[1]] = cross
        lagged = fft.irfft(whole, axis=1) * np.float32(self.size * self.fine / 2)
        reach = min(self.reach, lagged.shape[1] // 2 - 1)
        return np.ascontiguousarray(np.concatenate([lagged[:, -reach:], lagged[:, : reach + 1]], axis=1))

    def direction(self, index: int) -> F64:
        return np.asarray(self.directions[index % len(self.directions)])

    def power(self, cross: C64, spectra: Spectra) -> F32:
        """`(bends * directions,)`: sums over pairs; `cross` from `Spectra.cross`."""
        return np.asarray(kernels.lag_sums(self.correlations(cross, spectra), self.table))

    def exact_power(self, correlations: F32, which: NDArray[np.int64]) -> F64:
        """The same of some directions, by cubics through four lags (Lagrange) instead of straight lines between two."""
        lags = self.lags(which) + self.reach
        first = np.clip(lags.astype(np.int64) - 1, 0, correlations.shape[1] - 4)
        u = lags - first - 1
        weights = (
            -u * (u - 1) * (u - 2) / 6, (u + 1) * (u - 1) * (u - 2) / 2, -(u + 1) * u * (u - 2) / 2,
            (u + 1) * u * (u - 1) / 6,
        )  # fmt: skip
        rows = np.arange(len(correlations))[:, None]
        return np.asarray(sum(w * correlations[rows, first + k] for k, w in enumerate(weights)).sum(axis=0))  # type: ignore[union-attr]


def steered_power(
    samples: ArrayLike,
    *,
    rate: float,
    microphones: ArrayLike,
    directions: ArrayLike,
    speed: float = 343.0,
    steering: Steering | None = None,
) -> F32:
    """How well sounds `(channels, n)` line up for each direction `(d, 3)`: 1 where all of it comes from there, about 0
    where the channels share nothing. `(d,)` float32.

    microphones: `(channels, 3)` metres. steering: of an earlier call, to save the table; then microphones, directions
    and speed are its own. Raises StreamError for what does not fit.
    """
    x = checked_samples(samples, rate)
    if steering is None:
        geometry = checked_geometry(microphones, len(x), speed)
        towards = np.asarray(directions, np.float64)
        if towards.ndim != 2 or towards.shape[1] != 3:
            raise StreamError(f"directions: shape {towards.shape}; expected (n, 3) unit vectors")
        steering = Steering(geometry, towards, rate, frame_size(rate, geometry.aperture, speed))
    if x.shape[1] < steering.size:
        raise StreamError(f"samples: {x.shape[1]} samples; expected at least one frame of {steering.size}")
    spectra = spectra_of(x, rate, steering.size)
    cross = spectra.cross(np.ones_like(spectra.power))
    whole = spectra.power.size * len(cross)
    correlations = steering.correlations(cross, spectra)
    power = kernels.lag_sums(correlations, steering.table)
    # Of those between which straight lines cannot choose, the strongest is to be the strongest.
    top = np.flatnonzero(power >= power.max() - _UNSURE * whole)
    power[top] = steering.exact_power(correlations, top)
    return np.asarray(power / np.float32(whole))


def checked_samples(samples: ArrayLike, rate: float) -> NDArray[np.floating]:
    """`(channels, n)`. Raises StreamError for other shapes, values that are not finite and rates that are none."""
    x = np.asarray(samples)
    if x.ndim != 2:
        raise StreamError(f"samples: shape {x.shape}; expected (channels, n)")
    if x.dtype.kind not in "fiu":
        raise StreamError(f"samples: of type {x.dtype}; expected real numbers")
    if x.shape[0] > x.shape[1]:
        raise StreamError(f"samples: {x.shape[0]} channels of {x.shape[1]} samples; expected (channels, n): turn it")
    if not np.isfinite(rate) or rate < 1000:
        raise StreamError(f"rate: {rate!r} Hz; expected that of the samples, 1000 or more")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise StreamError("samples: some are not finite; expected sound")
    # Whole numbers are taken for those of a converter, full scale 1.
    return x if x.dtype.kind == "f" else x / np.float32(np.iinfo(x.dtype).max)
