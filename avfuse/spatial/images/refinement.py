"""A transform of images made exact: Gauss-Newton on what they have in common, from coarse to fine.

The moving image is brought onto the reference's grid, and a small change of the plane, D, is sought that takes what is
left away: r = f_ref - f_mov = -grad(f) J d by least squares, and T becomes D T. The gradient is the mean of both
images' (Benhimane and Malis 2004), both are scaled to one size over what they share (as in Evangelidis and Psarakis
2008), and what never fits counts less (Geman and McClure's weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.registration import gradient_moments, seen_through
from avfuse.spatial.images.appearance import F32, F64, Appearance, Level, field_of

Model = Literal["translation", "rigid", "similarity", "affine", "homography"]
Pairing = tuple[Appearance, Appearance]  # of the reference, of the moving image
PAIRINGS: tuple[Pairing, ...] = (
    ("orientation", "orientation"), ("intensity", "intensity"), ("strength", "intensity"), ("intensity", "strength"),
)  # fmt: skip
FREEDOM: dict[Model, int] = {"translation": 2, "rigid": 3, "similarity": 4, "affine": 6, "homography": 8}

# Of each parameter of a change, how it moves what lies at u, v: along which axis, by which powers of v and u, and the
# sign.
_Term = tuple[int, int, int, int]
_SHIFTS: list[list[_Term]] = [[(0, 0, 0, 1)], [(1, 0, 0, 1)]]
_AFFINE: list[list[_Term]] = [[(axis, *power, 1)] for axis in (0, 1) for power in ((0, 1), (1, 0), (0, 0))]
_TURN: list[_Term] = [(1, 0, 1, 1), (0, 1, 0, -1)]
_TERMS: dict[Model, list[list[_Term]]] = {
    "translation": _SHIFTS,
    "rigid": [_TURN, *_SHIFTS],
    "similarity": [_TURN, *_SHIFTS, [(0, 0, 1, 1), (1, 1, 0, 1)]],
    "affine": _AFFINE,
    "homography": [*_AFFINE, [(0, 0, 2, -1), (1, 1, 1, -1)], [(0, 1, 1, -1), (1, 2, 0, -1)]],
}

_LONGEST_STEP = 2.5  # pixels of the level that a corner may move at once
_ENOUGH = 0.05  # of the reference's pixels that must be seen by both
_BLOCK = 24  # pixels of the squares that pull together: what is left in one says little of the next
_SINGULAR = 1e-4  # least eigenvalue of the normal equations, scaled to ones on the diagonal
_ROBUST = 3.0  # scales of the residuals at which one counts a quarter
_FINE_ENOUGH = 0.7  # pixels of the moving image for one of the reference, at least


@dataclass(frozen=True, eq=False)
class Fitted:
    """matrix: `(3, 3)`, pixels of the level of the moving image -> of the reference. score: correlation of what both
    show. moved: pixels that a corner went in the last round. overlap: share of the reference that both show."""

    matrix: F64
    score: float
    moved: float
    overlap: float
    ok: bool


@dataclass(frozen=True, eq=False)
class Target:
    """One level of the reference, ready to be compared with. appearance: what of a moving image it is compared with."""

    level: Level
    field: F32
    usable: NDArray[np.bool_]
    appearance: Appearance

    @classmethod
    def of(cls, level: Level, pairing: Pairing) -> Target:
        return cls(level, *field_of(level.grey, pairing[0]), pairing[1])

    def seen(self, moving: Level, matrix: F64) -> tuple[F32, NDArray[np.bool_]] | None:
        """The moving image's field on this grid, and where both have one. matrix: its pixels -> these."""
        try:
            back = np.linalg.inv(matrix)
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(back).all():
            return None
        field, usable = field_of(seen_through(moving.grey, back, *self.shape), self.appearance)
        return field, usable & self.usable

    @property
    def shape(self) -> tuple[int, int]:
        return self.level.grey.shape

    @property
    def middle(self) -> tuple[float, float, float]:
        """x, y of the middle, and half the longer side: increments are in these units."""
        h, w = self.shape
        return (w - 1) / 2, (h - 1) / 2, max(h, w) / 2


def corners(shape: tuple[int, int]) -> F64:
    h, w = shape
    return np.array([[0, 0], [w - 1, 0], [0, h - 1], [w - 1, h - 1]], np.float64)


def mapped(matrix: F64, points: F64) -> F64:
    made = points @ matrix[:2, :2].T + matrix[:2, 2]
    weight = points @ matrix[2, :2] + matrix[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(made / weight[:, None])


def change(model: Model, d: F64, target: Target) -> F64:
    """The matrix D of a small change of the reference's plane, in pixels of the level."""
    cx, cy, unit = target.middle
    made = np.eye(3)
    if model == "translation":
        made[:2, 2] = d
    elif model == "rigid":
        made[:2, :2], made[:2, 2] = _turn(d[0]), d[1:]
    elif model == "similarity":
        made[:2, :2], made[:2, 2] = np.exp(d[3]) * _turn(d[0]), d[1:3]
    elif model == "affine":
        made[:2] += d.reshape(2, 3)
    else:
        made += np.append(d, 0.0).reshape(3, 3)
    there = np.array([[1 / unit, 0, -cx / unit], [0, 1 / unit, -cy / unit], [0, 0, 1]])
    made = np.linalg.inv(there) @ made @ there
    return np.asarray(made / made[2, 2])


def _turn(angle: float) -> F64:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def descent(model: Model, gx: F32, gy: F32, target: Target) -> F32:
    """How a field changes with each parameter of a change, `(parameters, h, w)`, with a minus sign."""
    h, w = gx.shape
    cx, cy, unit = target.middle
    u = ((np.arange(w, dtype=np.float32) - np.float32(cx)) / np.float32(unit))[None, :]
    v = ((np.arange(h, dtype=np.float32) - np.float32(cy)) / np.float32(unit))[:, None]
    gx, gy = gx * np.float32(unit), gy * np.float32(unit)
    if model == "translation":
        made = [gx, gy]
    elif model == "rigid":
        made = [gy * u - gx * v, gx, gy]
    elif model == "similarity":
        made = [gy * u - gx * v, gx, gy, gx * u + gy * v]
    else:
        made = [gx * u, gx * v, gx, gy * u, gy * v, gy]
        if model == "homography":
            inward = gx * u + gy * v
            made += [-inward * u, -inward * v]
    return np.stack(made)


@dataclass(frozen=True, eq=False)
class System:
    """The normal equations about one transform. score: correlation of what both show. overlap: share of the target."""

    normal: F64
    right: F64
    score: float
    overlap: float


@dataclass(frozen=True, eq=False)
class _Compared:
    """Fields of both, of mean 0 and size 1 where both are, and what is left; power: of what is left, `(h, w)`."""

    own: F32
    seen: F32
    inside: NDArray[np.bool_]
    score: float
    overlap: float
    power: F32
    scale: float


def _compared(target: Target, moving: Level, matrix: F64) -> _Compared | None:
    found = target.seen(moving, matrix)
    if found is None:
        return None
    seen, both = found
    count = float(both.sum())
    if count < max(64.0, _ENOUGH * both.size):
        return None
    fields = []
    for f in (target.field, seen):
        f = np.where(both, f, np.float32(0))
        if len(f) == 1:
            f = np.where(both, f - np.float32(f.sum() / count), np.float32(0))
        size = float(np.sqrt(np.einsum("chw,chw->", f, f) / count))
        if size < 1e-6:
            return None
        fields.append(f * np.float32(1 / size))
    own, seen = fields
    score = float(np.einsum("chw,chw->", own, seen) / count)
    if score < 0 and len(own) == 1:
        # Light and dark are exchanged.
        seen, score = -seen, -score
    inside = both.copy()
    inside[:, 1:] &= both[:, :-1]
    inside[:, :-1] &= both[:, 1:]
    inside[1:] &= both[:-1]
    inside[:-1] &= both[1:]
    inside[[0, -1]] = False
    inside[:, [0, -1]] = False
    if inside.sum() < 64:
        return None
    left = own - seen
    power = np.einsum("chw,chw->hw", left, left)
    some = power[inside]
    scale = float(np.median(some[:: 1 + some.size // 20000])) * _ROBUST**2 / 0.4549
    return _Compared(own, seen, inside, score, count / both.size, power, max(scale, 1e-12))


def _slopes(field: F32) -> tuple[F32, F32]:
    gx, gy = np.zeros_like(field), np.zeros_like(field)
    gx[:, 1:-1] = (field[:, 2:] - field[:, :-2]) * np.float32(0.5)
    gy[1:-1] = (field[2:] - field[:-2]) * np.float32(0.5)
    return gx, gy


def normal_equations(target: Target, moving: Level, matrix: F64, model: Model) -> System | None:
    """matrix: pixels of `moving` -> of the target. None where the images share too little."""
    c = _compared(target, moving, matrix)
    if c is None:
        return None
    squares, pulls = gradient_moments(c.own, c.seen, c.inside.astype(np.float32), c.scale)
    unit, terms = target.middle[2], _TERMS[model]
    normal, right = np.zeros((len(terms), len(terms))), np.zeros(len(terms))
    for m, one in enumerate(terms):
        right[m] = unit * sum(sign * pulls[axis, i, j] for axis, i, j, sign in one)
        for n, two in enumerate(terms):
            normal[m, n] = unit**2 * sum(
                s * t * squares[a + b, i + k, j + q] for a, i, j, s in one for b, k, q, t in two
            )
    return System(normal, right, c.score, c.overlap)


def covariance(target: Target, moving: Level, matrix: F64, model: Model) -> F64 | None:
    """Of the parameters of a change about `matrix`, by how much squares of pixels pull in different ways.

    The slope of the equations is taken from the products of both images' gradients, in which the noise of neither
    counts. None where what both show does not hold every parameter.
    """
    c = _compared(target, moving, matrix)
    if c is None:
        return None
    p, (h, w) = FREEDOM[model], target.shape
    ratio = c.power / np.float32(c.scale)
    weights = c.inside / np.square(1 + ratio)
    # What another pixel further away changes: the derivative of weight times residual.
    slope = weights * (1 - np.float32(4 / len(c.own)) * ratio / (1 + ratio))
    normal, pulls = np.zeros((p, p)), np.zeros((p, h * w), np.float32)
    for a, b in zip(c.own, c.seen, strict=True):
        one, two = (descent(model, *_slopes(f), target).reshape(p, -1) for f in (a, b))
        crossed = (one * slope.reshape(-1)) @ two.T
        normal += (crossed + crossed.T) / 2
        pulls += (one + two) * (np.float32(0.5) * weights * (a - b)).reshape(-1)
    rows, columns = -(-h // _BLOCK), -(-w // _BLOCK)
    padded = np.zeros((p, rows * _BLOCK, columns * _BLOCK), np.float32)
    padded[:, :h, :w] = pulls.reshape(p, h, w)
    blocks = padded.reshape(p, rows, _BLOCK, columns, _BLOCK).sum(axis=(2, 4)).reshape(p, -1).T.astype(np.float64)
    blocks = blocks[(blocks != 0).any(axis=1)]
    scaled = np.sqrt(np.maximum(np.diag(normal), 0))
    if len(blocks) <= p + 1 or not scaled.min() > 0:
        return None
    values, vectors = np.linalg.eigh(normal / np.outer(scaled, scaled))
    if values[0] < _SINGULAR:
        return None
    back = (vectors / values) @ vectors.T / np.outer(scaled, scaled)
    blocks = blocks - blocks.mean(axis=0)
    made = back @ (blocks.T @ blocks) @ back * (len(blocks) / (len(blocks) - p))
    return np.asarray((made + made.T) / 2)


def fit(target: Target, moving: Level, matrix: F64, model: Model, *, rounds: int, until: float) -> Fitted:
    """Refine `matrix`, pixels of `moving` -> of the target, in at most `rounds` rounds, until a corner moves less than
    `until` pixels."""
    edge = corners(target.shape)
    score, moved, overlap = 0.0, np.inf, 0.0
    for _ in range(rounds):
        system = normal_equations(target, moving, matrix, model)
        if system is None:
            return Fitted(matrix, 0.0, np.inf, 0.0, False)
        score, overlap = system.score, system.overlap
        scaled = np.sqrt(np.maximum(np.diag(system.normal), 1e-30))
        normal = system.normal / np.outer(scaled, scaled) + 1e-6 * np.eye(len(scaled))
        d = -np.linalg.solve(normal, system.right / scaled) / scaled
        step = change(model, d, target)
        moved = float(np.abs(mapped(step, edge) - edge).max())
        if not np.isfinite(moved):
            return Fitted(matrix, 0.0, np.inf, 0.0, False)
        if moved > _LONGEST_STEP:
            step = change(model, d * (_LONGEST_STEP / moved), target)
        matrix = step @ matrix
        matrix = matrix / matrix[2, 2]
        if moved < until:
            break
    return Fitted(matrix, score, moved, overlap, True)


def level_for(moving: list[Level], target: Target, whole: F64) -> Level:
    """The level of the moving image that is sampled about as densely as the target through `whole`, a map of whole
    pixels."""
    h, w = target.shape
    middle = np.array([[(w - 1) / 2, (h - 1) / 2]])
    for level in reversed(moving):
        onto = level.matrix @ np.linalg.inv(whole) @ np.linalg.inv(target.level.matrix)
        around = mapped(onto, middle + np.array([[0, 0], [1, 0], [0, 1]]))
        a, b = around[1] - around[0], around[2] - around[0]
        if np.sqrt(abs(a[0] * b[1] - a[1] * b[0])) >= _FINE_ENOUGH:
            return level
    return moving[0]


def on_levels(whole: F64, moving: Level, target: Target) -> F64:
    """A map of whole pixels as one of the pixels of two levels."""
    made = target.level.matrix @ whole @ np.linalg.inv(moving.matrix)
    return np.asarray(made / made[2, 2])


def off_levels(matrix: F64, moving: Level, target: Target) -> F64:
    made = np.linalg.inv(target.level.matrix) @ matrix @ moving.matrix
    return np.asarray(made / made[2, 2])
