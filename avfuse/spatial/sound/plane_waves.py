"""Which plane waves a recording of an array is made of: a mixture over moments and frequencies.

Speech and most other sounds are sparse: at one moment and frequency one source is louder than all others. So every
such cell is given to one of a few plane waves, or to none: the phases of its channels follow a complex Watson
distribution about those of the wave (Tran Vu and Haeb-Umbach, Blind speech separation employing directional
statistics in an expectation maximization framework, ICASSP 2010). The direction of a wave that best explains its cells
is where their steered power is highest, so that expectation and steering alternate.

Directions are handled as q, their coordinates in the principal axes of the array: two for a plane one, whose length is
then free, and three of length 1 for a solid one. Where an array is so large that it feels the distance of a source, the
bend 1 / distance of the wavefront follows as a last coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from avfuse._kernels import steering as kernels
from avfuse.spatial.sound.steering import C64, F32, F64, Geometry, Spectra, angles_of

_ROUNDS = 15
_SHARPNESS = (8.0, 2.0)  # times the channels: concentration of the cells that one wave fills, and of blunt ones
_MOST_BENT = 5.0  # 1/m
_BLOCK = 8  # frames that count as one in judging scatter: neighbours share samples and sounds


@dataclass(frozen=True, eq=False)
class Wave:
    """One plane wave: q, the share of what can tell anything that it fills alone, and with other sound.

    weights: `(frames, bins)`, how much each cell is filled by it alone.
    """

    q: F64
    share: float
    blunt_share: float
    weights: F32


def diffuse_fit(geometry: Geometry, frequencies: F64) -> F64:
    """`(bins,)` mean fit of sound from everywhere at once to any one plane wave: 1 where the array is short against the
    wave and tells nothing."""
    apart = np.linalg.norm(geometry.centred[:, None] - geometry.centred[None], axis=-1)
    return np.asarray(np.sinc(2 * frequencies[:, None, None] * apart / geometry.speed).mean(axis=(1, 2)))


def per_channel(geometry: Geometry, q: F64) -> F64:
    """`(channels, len(q))`: by how many seconds a wave comes earlier, per unit of q's coordinates."""
    ways = geometry.centred @ geometry.axes[: geometry.rank].T / geometry.speed
    if len(q) == geometry.rank:
        return np.asarray(ways)
    late = geometry.lateness(direction_of_q(geometry, q)[None])
    return np.concatenate([ways, -late.T], axis=1)


def steering_vector(geometry: Geometry, q: F64, frequencies: F64) -> C64:
    """`(channels, bins)`: what a wave makes of the phases."""
    return np.asarray(np.exp(2j * np.pi * np.outer(per_channel(geometry, q) @ q, frequencies)), np.complex64)


def q_of(geometry: Geometry, direction: F64, bend: float = 0.0) -> F64:
    q = np.asarray(geometry.axes[: geometry.rank] @ direction)
    return np.append(q, bend) if geometry.feels_distance else q


def direction_of_q(geometry: Geometry, q: F64) -> F64:
    """Unit vectors `(..., 3)` of q; of a plane array those on the side of its normal."""
    flat = q[..., : geometry.rank]
    size = np.linalg.norm(flat, axis=-1, keepdims=True)
    if geometry.rank == 3:
        return np.asarray(flat / np.maximum(size, 1e-12) @ geometry.axes)
    inside = flat / np.maximum(size, 1.0)
    up = np.sqrt(np.maximum(0.0, 1 - np.sum(inside**2, axis=-1, keepdims=True)))
    return np.asarray(inside @ geometry.axes[:2] + up * geometry.axes[2])


def tangent(geometry: Geometry, q: F64) -> F64:
    """`(len(q), 2)`, or 3 with a bend: the ways in which q can change."""
    base = np.zeros((len(q), len(q) - geometry.rank + 2))
    base[: geometry.rank, :2] = np.eye(2) if geometry.rank == 2 else np.linalg.svd(q[None, :3])[2][1:].T
    base[geometry.rank :, 2:] = np.eye(len(q) - geometry.rank)
    return base


@dataclass(frozen=True, eq=False)
class Slope:
    """Steered power about q: its height, and gradient and curvature of every pair's part along the pair's delay."""

    height: float
    gradient: F64
    curvature: F64
    ways: F64

    @property
    def total(self) -> F64:
        """As q."""
        return np.asarray(self.ways.T @ self.gradient)

    @property
    def hessian(self) -> F64:
        """Of the height in q."""
        return np.asarray((self.ways * self.curvature[:, None]).T @ self.ways)


def slope(geometry: Geometry, q: F64, cross: C64, frequencies: F64) -> Slope:
    """At q, of cross-spectra `(pairs, bins)`."""
    each = per_channel(geometry, q)
    i, j = geometry.pairs.T
    ways = each[i] - each[j]
    omega = 2 * np.pi * frequencies
    # A pair's delay is -ways @ q: what the wave turned by it is turned back.
    turned = cross * np.exp(-1j * np.outer(ways @ q, omega))
    return Slope(float(turned.real.sum()), turned.imag @ omega, -(turned.real @ omega**2), ways)


def climb(geometry: Geometry, q: F64, cross: C64, frequencies: F64, *, rounds: int = 20, free: bool = False) -> F64:
    """The top of steered power next to q, by Newton's steps; what curves the wrong way is left out.

    free: let the length of a solid array's q go where it fits best.
    """
    here = slope(geometry, q, cross, frequencies)
    # Within an eighth of the shortest wave a hill is one hill.
    most = 0.125 * geometry.speed / float(frequencies[-1]) / (geometry.aperture / 2)
    for _ in range(rounds):
        bent = (here.ways * np.minimum(here.curvature, 0.0)[:, None]).T @ here.ways
        base = np.eye(len(q)) if free else tangent(geometry, q)
        step = -base @ np.linalg.lstsq(base.T @ bent @ base, base.T @ here.total, rcond=1e-10)[0]
        step *= min(1.0, most / max(float(np.linalg.norm(step[: geometry.rank])), 1e-12))
        share = 1.0
        while share > 1e-2:
            tried = _allowed(geometry, q + share * step, free)
            there = slope(geometry, tried, cross, frequencies)
            if there.height >= here.height:
                break
            share /= 2
        else:
            break
        moved = float(np.linalg.norm(tried - q))
        q, here = tried, there
        if moved < 1e-6:
            break
    return q


def _allowed(geometry: Geometry, q: F64, free: bool) -> F64:
    q = q.copy()
    q[geometry.rank :] = np.clip(q[geometry.rank :], 0.0, _MOST_BENT)
    size = float(np.linalg.norm(q[: geometry.rank]))
    if not free:
        q[: geometry.rank] /= size if geometry.rank == 3 else max(1.0, size)
    return q


def log_density(fit: F32, channels: int, concentration: float) -> F32:
    """Of a wave's cells against those of no wave; concentration is well above the number of channels."""
    # Of 1F1(1; channels; k), its growth for large k.
    level = gammaln(channels) + (1 - channels) * np.log(concentration) + concentration
    return np.asarray(np.float32(concentration) * fit - np.float32(level))


def separate(
    geometry: Geometry, spectra: Spectra, starts: list[F64], weights: F32, *, rounds: int = _ROUNDS
) -> tuple[list[Wave], F32, float]:
    """The waves to which directions q lead that start at `starts`, what is left to none `(frames, bins)`, and the mean
    log likelihood of a cell. weights: `(frames, bins)` of cells by what they can tell.

    Every wave has cells that it fills alone, which place it, and blunter ones with echoes and noise beside it, which
    only keep these from being taken for further waves.
    """
    f = spectra.frequencies
    qs = [q.copy() for q in starts]
    shares = np.full((len(qs), 2), 0.2 / len(qs))
    none = 0.6
    total = float(weights.sum())
    belongs: list[F32] = []
    likelihood = 0.0
    for _ in range(rounds):
        belongs, likelihood = _shared_out(geometry, spectra, qs, shares, none, weights)
        none = max(float(belongs[0].sum()) / total, 0.02)
        moved = 0.0
        for k in range(len(qs)):
            shares[k] = [max(float(part.sum()) / total, 1e-4) for part in belongs[1 + 2 * k : 3 + 2 * k]]
            new = climb(geometry, qs[k], spectra.cross(belongs[1 + 2 * k]), f, rounds=3)
            moved = max(moved, float(np.linalg.norm(new - qs[k])))
            qs[k] = new
        if moved < 3e-4:
            break
    waves = [
        Wave(q, float(pair[0]), float(pair[1]), part) for q, pair, part in zip(qs, shares, belongs[1::2], strict=True)
    ]
    return waves, belongs[0], likelihood


def _shared_out(
    geometry: Geometry, spectra: Spectra, qs: list[F64], shares: F64, none: float, weights: F32
) -> tuple[list[F32], float]:
    """Weights of cells by what they belong to: no wave, then a sharp and a blunt part of every wave; and the mean log
    likelihood of a cell."""
    channels = len(geometry.microphones)
    logs = [np.full(weights.shape, np.log(none), np.float32)]
    for pair, q in zip(shares, qs, strict=True):
        fit = kernels.fits_of_directions(spectra.whitened, steering_vector(geometry, q, spectra.frequencies))
        for share, sharpness in zip(pair, _SHARPNESS, strict=True):
            logs.append(np.float32(np.log(share)) + log_density(fit, channels, sharpness * channels))
    highest = np.maximum.reduce(logs)
    belongs = [np.exp(part - highest) for part in logs]
    whole = np.sum(belongs, axis=0)
    likelihood = float(np.sum(weights * (highest + np.log(whole))) / weights.sum())
    return [part / whole * weights for part in belongs], likelihood


def _given(geometry: Geometry, spectra: Spectra, waves: list[Wave], qs: list[F64], weights: F32) -> list[F32]:
    """The same for waves whose directions were moved to `qs`."""
    shares = np.array([[wave.share, wave.blunt_share] for wave in waves])
    return _shared_out(geometry, spectra, qs, shares, max(1 - float(shares.sum()), 0.02), weights)[0]


def scatter(geometry: Geometry, spectra: Spectra, waves: list[Wave], which: int, weights: F32) -> tuple[F64, int]:
    """Covariance of one wave's q along its ways, by how blocks of frames disagree; and how many blocks
    count. weights: as `separate` had them.

    The estimate is where the blocks' gradients cancel: cov = H^-1 sum(g g^T) H^-1 (Huber 1967). H is what the gradient
    does when q moves and cells come to the wave or leave it.
    """
    wave, f = waves[which], spectra.frequencies
    base = tangent(geometry, wave.q)
    gradients, masses = [], []
    for first in range(0, len(weights), _BLOCK):
        mass = float(wave.weights[first : first + _BLOCK].sum())
        if mass > 0:
            rows = slice(first, first + _BLOCK)
            cross = spectra.part(rows).cross(wave.weights[rows])
            gradients.append(base.T @ slope(geometry, wave.q, cross, f).total)
            masses.append(mass)
    g, m = np.array(gradients).reshape(-1, base.shape[1]), np.array(masses)
    count = int(m.sum() ** 2 / max(float((m**2).sum()), 1e-12)) if len(m) else 0
    fixed = base.T @ slope(geometry, wave.q, spectra.cross(wave.weights), f).hessian @ base
    step = 0.02 * geometry.speed / float(f[-1]) / geometry.aperture
    columns = []
    for way in base.T:
        ends = []
        for sign in (1.0, -1.0):
            q = wave.q + sign * step * way
            moved = [w.q if k != which else q for k, w in enumerate(waves)]
            part = _given(geometry, spectra, waves, moved, weights)[1 + 2 * which]
            ends.append(base.T @ slope(geometry, q, spectra.cross(part), f).total)
        columns.append((ends[0] - ends[1]) / (2 * step))
    moving = np.stack(columns, axis=1)
    moving = (moving + moving.T) / 2
    # Cells can only come and go so much: where the differences say that nothing holds the wave, they are noise.
    values, vectors = np.linalg.eigh(-moving)
    least = np.array([-0.2 * float(v @ fixed @ v) for v in vectors.T])
    inverse = vectors @ np.diag(1 / np.maximum(values, np.maximum(least, 1e-12))) @ vectors.T
    return np.asarray(inverse @ (g.T @ g) @ inverse) * (count / max(count - base.shape[1], 1)), count


def covariance_of_delays(geometry: Geometry, q: F64, variance: float) -> F64:
    """Covariance of q along its ways where every microphone errs by `variance` s^2, independently."""
    ways = per_channel(geometry, q) @ tangent(geometry, q)
    ways -= ways.mean(axis=0)
    return np.asarray(variance * np.linalg.inv(ways.T @ ways))


def angles_covariance(geometry: Geometry, q: F64, cov: F64, *, mirrored: bool = False) -> F64:
    """`(2, 2)` covariance of (azimuth, elevation) about those of q, by the moments of what q's own makes of them.

    Near the horizon of a plane array a small error of q is a large one of elevation, on one side alone: a slope there
    would say nothing. 7 x 7 Gauss-Hermite points. mirrored: of its image in the plane of the microphones.
    """
    nodes, shares = np.polynomial.hermite_e.hermegauss(7)
    root = np.linalg.cholesky(cov[:2, :2] + 1e-18 * np.eye(2))
    x, y = np.meshgrid(nodes, nodes)
    share = np.outer(shares, shares).ravel() / shares.sum() ** 2
    points = q + np.stack([x.ravel(), y.ravel()], axis=1) @ root.T @ tangent(geometry, q)[:, :2].T
    towards, middle = direction_of_q(geometry, points), direction_of_q(geometry, q)
    if mirrored:
        towards, middle = geometry.mirrored(towards), geometry.mirrored(middle)
    azimuth, elevation = angles_of(towards)
    a0, e0 = angles_of(middle)
    off = np.stack([np.angle(np.exp(1j * (azimuth - a0))), elevation - e0], axis=1)
    return np.asarray((off * share[:, None]).T @ off)
