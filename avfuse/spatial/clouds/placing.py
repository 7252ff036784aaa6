"""Where one surface may lie on another when nothing is known: poses to begin from.

Points that look alike, by histograms of the angles about them (FPFH: Rusu, Blodow and Beetz 2009, here blind to which
side of a surface is seen), give rigid maps by threes; beside them turns about each cloud's main axes and about the
upright one. What each comes to is judged by how much of one surface then lies on the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avfuse._kernels.points import extent, voxel_means
from avfuse.rotations import nearest_rotation
from avfuse.spatial.clouds.surfaces import Surface, surface_of

F64 = NDArray[np.float64]
Pose = tuple[F64, F64]

_FEW = 1500  # points that are described
_BINS = 11
_REACH = 6.0  # spacings about a point that are described
_MOST_NEIGHBOURS = 60
_LIKELY = 3  # most similar points that are looked at
_TRIES, _KEPT = 20000, 2000  # triples, and those whose sides agree that are fitted
_LONG, _SIDES_AGREE = 4.0, 2.0  # spacings: of the shortest side, and by which sides may differ
_BEST = 12
_TURNS = 12  # about the upright axis


def sparse(surface: Surface, count: int = _FEW) -> Surface:
    """A surface of about `count` points."""
    points = surface.points
    low = extent(points)[0]
    size = surface.spacing
    while len(points) > 1.2 * count:
        size *= max((len(points) / count) ** 0.5, 1.1)
        points = voxel_means(surface.points, size, low)[0]
    return surface_of(points, min(12, len(points)))


def poses(reference: Surface, moving: Surface, rng: np.random.Generator) -> list[Pose]:
    """Rotation and translation, moving -> reference, of every start worth trying. Both surfaces: `sparse`."""
    found = _by_features(reference, moving, rng)
    a, b = reference.points.mean(axis=0), moving.points.mean(axis=0)
    turns = [_axes(reference.points) @ np.diag(s) @ _axes(moving.points).T for s in _PROPER]
    for angle in np.linspace(0, 2 * np.pi, _TURNS, endpoint=False):
        c, s = np.cos(angle), np.sin(angle)
        turns.append(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]))
    return found + [(turn, a - turn @ b) for turn in turns]


_PROPER = [np.array(s, np.float64) for s in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))]


def _axes(points: F64) -> F64:
    axes = np.asarray(np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2].T)
    return np.asarray(axes * np.array([1.0, 1.0, np.linalg.det(axes)]))


def described(surface: Surface, reach: float) -> F64:
    """`(n, 33)`: histograms of three angles between each point, its normal and those about it, and then the mean of
    those of its neighbours, the nearer the weightier. Blind to the signs of normals."""
    tree = cKDTree(surface.points)
    k = min(_MOST_NEIGHBOURS, len(surface))
    apart, index = tree.query(surface.points, k, distance_upper_bound=reach)
    apart, index = apart[:, 1:], index[:, 1:]  # itself comes first
    there = np.isfinite(apart) & (apart > 0)
    index = np.where(there, index, 0)
    apart = np.where(there, apart, 1.0)
    way = (surface.points[index] - surface.points[:, None]) / apart[..., None]
    own, other = surface.normals[:, None], surface.normals[index]
    angles = np.stack(
        [np.abs((own * way).sum(-1)), np.abs((other * way).sum(-1)), np.abs((own * other).sum(-1))], axis=-1
    )
    bins = np.minimum((angles * _BINS).astype(np.int64), _BINS - 1) + _BINS * np.arange(3)
    simple = np.zeros((len(surface), 3 * _BINS))
    rows = np.broadcast_to(np.arange(len(surface))[:, None, None], bins.shape)
    np.add.at(simple, (rows[there], bins[there]), 1.0)
    simple /= np.maximum(there.sum(axis=1), 1)[:, None]
    weight = np.where(there, 1 / apart, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(simple + (weight[..., None] * simple[index]).sum(axis=1))


def _by_features(reference: Surface, moving: Surface, rng: np.random.Generator) -> list[Pose]:
    spacing = max(reference.spacing, moving.spacing)
    one, two = described(reference, _REACH * spacing), described(moving, _REACH * spacing)
    # Most points of a plane look like all the others of it: what is usual says little.
    scale = np.concatenate([one, two]).std(axis=0) + 0.01
    one, two = one / scale, two / scale
    k = min(_LIKELY, len(one))
    _, near = cKDTree(one).query(two, k)
    pairs = np.stack([near.reshape(len(two), k).ravel(), np.repeat(np.arange(len(two)), k)], axis=1)
    odd = np.linalg.norm(two - two.mean(axis=0), axis=1)
    chance = odd[pairs[:, 1]]
    if len(pairs) < 3 or not chance.sum() > 0:
        return []
    triples = rng.choice(len(pairs), (_TRIES, 3), p=chance / chance.sum())
    p, q = reference.points[pairs[triples, 0]], moving.points[pairs[triples, 1]]  # (tries, 3, 3)
    sides = [np.linalg.norm(x - np.roll(x, 1, axis=1), axis=2) for x in (p, q)]
    fits = (np.abs(sides[0] - sides[1]) < _SIDES_AGREE * spacing).all(axis=1) & (sides[1].min(axis=1) > _LONG * spacing)
    p, q = p[fits][:_KEPT], q[fits][:_KEPT]
    if not len(p):
        return []
    rotations, translations = rigid_of_many(p, q)
    x, y = reference.points[pairs[:, 0]], moving.points[pairs[:, 1]]
    counts = np.array(
        [
            (((y @ r.T + t - x) ** 2).sum(axis=1) < (_SIDES_AGREE * spacing) ** 2).sum()
            for r, t in zip(rotations, translations, strict=True)
        ]
    )
    best: list[Pose] = []
    for k in np.argsort(-counts, kind="stable"):
        pose = (rotations[k], translations[k])
        if all(differ(pose, other, moving.radius, 4 * spacing) for other in best):
            best.append(pose)
            if len(best) == _BEST:
                break
    return best


def differ(one: Pose, two: Pose, radius: float, least: float) -> bool:
    """Whether points at `radius` come to lie further apart than `least`."""
    turned = np.sqrt(max(3 - float(np.trace(one[0].T @ two[0])), 0.0))  # about the angle
    return bool(turned * radius + np.linalg.norm(one[1] - two[1]) > least)


def rigid_of_many(p: F64, q: F64) -> tuple[F64, F64]:
    """Rotations `(n, 3, 3)` and translations `(n, 3)` that take q to p, both `(n, k, 3)` (Kabsch 1976)."""
    a, b = p.mean(axis=1), q.mean(axis=1)
    rotations = nearest_rotation(np.einsum("nki,nkj->nij", p - a[:, None], q - b[:, None]))
    return rotations, a - np.einsum("nij,nj->ni", rotations, b)


def overlap(reference: Surface, moving: Surface, pose: Pose, within: float, agree: float = 0.85) -> float:
    """Share of the moving points that lie on the reference: near it, with a normal alike."""
    moved, normals = moving.points @ pose[0].T + pose[1], moving.normals @ pose[0].T
    index, _ = reference.nearest(moved, within)
    alike = np.abs((reference.normals[index] * normals).sum(axis=1)) > agree
    return float(((index >= 0) & alike).mean())
