"""Which descriptors of two pictures belong together: nearest neighbours, Lowe's ratio and a check of both ways.

Exact, whatever the number of threads: equal distances go to the lowest index. Binary descriptors are counted 512 at a
time; of float ones a matrix product in float32 leaves few pairs possible, and these are measured in float64. Memory is
that of the inputs. Guided matching looks only at pairs that a known homography or epipolar geometry allows.

Sources: Lowe, Distinctive image features from scale-invariant keypoints, IJCV 2004 (ratio); Mula, Kurz and Lemire,
Faster population counts using AVX2 instructions, 2018 (counting); Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1 (by how much a product may be wrong).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels import matching as kernels
from avfuse.cores import cores, on_cores, one_blas_thread
from avfuse.errors import StreamError
from avfuse.transform import Fundamental, Homography, points_of

Metric = Literal["hamming", "l2", "cosine"]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_LARGEST = 1e70  # of a float descriptor: its squares, and their products, stay finite
_SMALLEST = 1e-140  # of an inner product that still has a direction
_BLOCK = 1024  # rows and columns whose products lie in memory at once
_PAIRS_A_THREAD = 1 << 20  # less work than this is done before another thread has begun
_POINTS_AT_ONCE = 256  # for which guided matching keeps candidates


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of descriptors. pairs: `(n, 2)` int64, indices into a and into b, sorted by the first; distances: `(n,)`.

    Distances are bits for Hamming, lengths for L2, and 1 - cosine.
    """

    pairs: I64
    distances: F64

    def __len__(self) -> int:
        return len(self.pairs)


def match_descriptors(
    a: ArrayLike | None,
    b: ArrayLike | None,
    *,
    metric: Metric | None = None,
    ratio: float | None = None,
    mutual: bool = True,
) -> Matches:
    """Nearest of `b` for each descriptor of `a`, where it is good enough.

    a, b: `(n, d)`, a row for each descriptor, as OpenCV, kornia or a network made them: uint8 of `8 d` bits, or floats.
    None and nothing at all match nothing.
    metric: "hamming", "l2" or "cosine"; by default Hamming of uint8 and L2 of floats. Whole numbers of other types, and
    SIFT kept in uint8, are told by `metric="l2"`.
    ratio: keep a pair only where its distance is less than this share of that to the second nearest (Lowe 2004; 0.8 or
    so). Where b has one descriptor only, there is no second, and nothing is said against the first.
    mutual: keep a pair only where a's is also the nearest for b's.

    Equal distances go to the lowest index. Raises StreamError for descriptors that cannot be compared: of different
    lengths or types, with NaN, or for "cosine" of length zero.
    """
    _check_ratio(ratio)
    pair = _comparable(a, b, metric)
    if pair is None:
        return _nothing()
    first, second, kind = pair
    nearest = _nearest_binary if kind == "hamming" else _nearest_float
    return _kept(nearest(first, second, kind, ratio is not None, mutual), kind, ratio, mutual)


def match_guided(
    reference: ArrayLike | None,
    moving: ArrayLike | None,
    reference_points: ArrayLike,
    moving_points: ArrayLike,
    geometry: Homography | Fundamental,
    *,
    distance: float,
    metric: Metric | None = None,
    ratio: float | None = None,
    mutual: bool = True,
) -> Matches:
    """The same among those pairs only that lie where `geometry`, moving -> reference, lets them.

    reference, moving: descriptors as of `match_descriptors`; the points of each, `(n, 2)` in pixels, in their order.
    geometry: a Homography of the plane (or Affine, Similarity, Rigid), or a Fundamental matrix.
    distance: in pixels, and in both pictures: from a point to where the other one is mapped, or to its epipolar line.

    Ratio and mutual check are about candidates, so repeated texture is matched that `match_descriptors` must leave; a
    sole candidate passes every ratio. Points that are mapped to infinity have none. Raises StreamError as
    `match_descriptors`, and for points, a distance or a geometry that do not fit.
    """
    _check_ratio(ratio)
    if not (np.isfinite(distance) and distance > 0):
        raise StreamError(f"match_guided: distance {distance!r}; expected a positive number of pixels")
    if not isinstance(geometry, Homography | Fundamental) or getattr(geometry, "dimension", 2) != 2:
        name = type(geometry).__name__ + (" in space" if isinstance(geometry, Homography) else "")
        raise StreamError(f"match_guided: geometry of type {name}; expected a Homography of the plane or a Fundamental")
    pair = _comparable(reference, moving, metric, "reference", "moving")
    if pair is None:
        return _nothing()
    first, second, kind = pair
    x = _points(reference_points, len(first), "reference")
    y = _points(moving_points, len(second), "moving")
    binary = kind == "hamming"
    measured = _measured(first, second, kind, "reference", "moving")
    there, back = _guides(geometry, x, y)
    grid = _grid(x, distance)
    found = _Nearest.none(len(first), len(second))
    for start in range(0, len(second), _POINTS_AT_ONCE):
        few = slice(start, start + _POINTS_AT_ONCE)
        rows, columns = kernels.candidates(
            x, y[few], there[few], back, distance, isinstance(geometry, Fundamental), *grid
        )
        columns += start
        if binary:
            costs = kernels.bits_of_pairs(measured.a, measured.b, rows, columns)
        else:
            costs = kernels.costs_of_pairs(
                measured.a, measured.b, measured.a_power, measured.b_power, kind == "cosine", rows, columns
            )
        kernels.keep_best(
            rows, columns, costs, found.best, found.cost, found.second, found.column_best, found.column_cost
        )
    return _kept(found, kind, ratio, mutual)


# --- what is asked ---------------------------------------------------------------------------------------------------


def _check_ratio(ratio: float | None) -> None:
    if ratio is not None and not 0 < ratio <= 1:
        raise StreamError(f"ratio {ratio!r}; expected a number above 0 and up to 1, or None")


def _comparable(
    a: ArrayLike | None, b: ArrayLike | None, metric: Metric | None, a_name: str = "a", b_name: str = "b"
) -> tuple[NDArray[Any], NDArray[Any], Metric] | None:
    """Both as arrays, and the metric that compares them; None where one of them is empty."""
    if metric is not None and metric not in get_args(Metric):
        raise StreamError(f"metric {metric!r}; expected one of {', '.join(get_args(Metric))}, or None")
    first, second = _array(a, a_name), _array(b, b_name)
    if not len(first) or not len(second):
        return None
    binary = [x.dtype == np.uint8 for x in (first, second)]
    if metric == "hamming" and not all(binary):
        wrong, name = (second, b_name) if binary[0] else (first, a_name)
        raise StreamError(f"{name}: descriptors of {wrong.dtype}; Hamming distance expects uint8, eight bits in each")
    if metric is None:
        if any(binary) and not all(binary):
            raise StreamError(
                f"{a_name} has descriptors of {first.dtype}, {b_name} of {second.dtype}; expected one type, or "
                'metric="l2" to take uint8 as numbers'
            )
        for x, name in ((first, a_name), (second, b_name)):
            if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
                raise StreamError(f'{name}: descriptors of {x.dtype}; expected uint8 or floats, or metric="l2" said')
    if first.shape[1] != second.shape[1]:
        raise StreamError(
            f"{a_name} has descriptors of length {first.shape[1]}, {b_name} of length {second.shape[1]}; "
            "expected equal lengths"
        )
    kind: Metric = metric or ("hamming" if all(binary) else "l2")
    if kind != "hamming":
        _check_values(first, a_name)
        _check_values(second, b_name)
    return first, second, kind


def _array(descriptors: ArrayLike | None, name: str) -> NDArray[Any]:
    if descriptors is None:  # what OpenCV gives where it found nothing
        return np.zeros((0, 0))
    if hasattr(descriptors, "detach"):  # a tensor, perhaps on a device and with gradients
        descriptors = descriptors.detach().cpu()
    try:
        found = np.asarray(descriptors)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StreamError(f"{name}: no array can be made of these descriptors: {str(error).splitlines()[0]}") from None
    if found.dtype != np.bool_ and not (
        np.issubdtype(found.dtype, np.integer) or np.issubdtype(found.dtype, np.floating)
    ):
        raise StreamError(f"{name}: descriptors of {found.dtype}; expected uint8 or floats")
    if found.dtype == np.bool_:
        raise StreamError(f"{name}: descriptors of single bits; expected them packed by np.packbits(..., axis=1)")
    if found.size == 0 and (found.ndim != 2 or len(found) == 0):
        return np.zeros((0, 0))
    if found.ndim != 2 or found.shape[1] == 0:
        raise StreamError(f"{name}: descriptors of shape {found.shape}; expected (n, d), a row for each")
    return found


def _check_values(values: NDArray[Any], name: str) -> None:
    if np.issubdtype(values.dtype, np.integer):
        return
    # One pass without an array of its own: NaN spreads into both.
    if not max(abs(float(values.max())), abs(float(values.min()))) <= _LARGEST:
        with np.errstate(invalid="ignore"):
            row = int(np.argmax(~(np.abs(values.astype(np.float64)) <= _LARGEST).all(axis=1)))
        raise StreamError(f"{name}: row {row} holds NaN, infinity or more than {_LARGEST:g}; leave such rows out")


def _points(points: ArrayLike, count: int, name: str) -> F64:
    found = points_of(points, 2, f"{name}_points")
    if found.shape != (count, 2):
        raise StreamError(f"{name}_points of shape {found.shape}; expected one of each of {count} descriptors")
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found).all(axis=1)))
        raise StreamError(f"{name}_points: row {row} is {found[row].tolist()}; expected finite pixels")
    return np.ascontiguousarray(found)


# --- what is found ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Nearest:
    """Best column of each row, its cost and the second best's; best row of each column. -1 and infinity: none."""

    best: I64
    cost: F64
    second: F64
    column_best: I64
    column_cost: F64

    @classmethod
    def none(cls, rows: int, columns: int) -> _Nearest:
        return cls(
            np.full(rows, -1, np.int64), np.full(rows, np.inf), np.full(rows, np.inf),
            np.full(columns, -1, np.int64), np.full(columns, np.inf),
        )  # fmt: skip

    @classmethod
    def of_parts(cls, parts: list[_Nearest]) -> _Nearest:
        """One of several runs of rows, in their order; of equal columns the earlier row stays."""
        rows, columns, costs = 0, parts[0].column_best, parts[0].column_cost
        for before, part in pairwise(parts):
            rows += len(before.best)
            nearer = part.column_cost < costs
            columns = np.where(nearer, part.column_best + rows, columns)
            costs = np.where(nearer, part.column_cost, costs)
        best, cost, second = (np.concatenate([getattr(p, name) for p in parts]) for name in ("best", "cost", "second"))
        return cls(best, cost, second, columns, costs)


def _nothing() -> Matches:
    return Matches(np.zeros((0, 2), np.int64), np.zeros(0))


def _kept(found: _Nearest, kind: Metric, ratio: float | None, mutual: bool) -> Matches:
    # Squares are compared by whom they order, lengths by their ratio.
    near, second = (np.sqrt(x) if kind == "l2" else x for x in (found.cost, found.second))
    keep = found.best >= 0
    if ratio is not None:
        keep &= near < ratio * second
    if mutual:
        keep &= found.column_best[found.best] == np.arange(len(found.best))
    rows = np.flatnonzero(keep)
    return Matches(np.stack([rows, found.best[rows]], axis=1), near[rows])


def _shares(rows: int, columns: int) -> list[slice]:
    """Runs of rows, one for each thread."""
    count = max(1, min(cores(), rows, rows * columns // _PAIRS_A_THREAD))
    edges = np.linspace(0, rows, count + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]


# --- binary ----------------------------------------------------------------------------------------------------------


def _nearest_binary(a: NDArray[Any], b: NDArray[Any], kind: Metric, want_second: bool, mutual: bool) -> _Nearest:
    bits = 8 * a.shape[1]
    # Bits that most of a have are turned over in both, which changes no distance: the fewer are set, the less to count.
    sample = a[:: max(1, len(a) // 256)]
    most = np.packbits(np.unpackbits(sample, axis=1).mean(axis=0) > 0.5)
    rows, columns = _words(a ^ most), _words(b ^ most)
    planes = kernels.bit_planes(columns, bits)
    light = kernels.lightness(planes, bits, (bits + 1).bit_length())

    def part(share: slice) -> _Nearest:
        best, near, second, column_best, column_near = kernels.nearest_binary(
            rows[share], planes, light, len(columns), want_second, mutual
        )
        beyond = np.where(second < 0, np.inf, second)
        return _Nearest(best, near.astype(np.float64), beyond, column_best, column_near.astype(np.float64))

    shares = _shares(len(a), len(b))
    return _Nearest.of_parts([part(shares[0])] if len(shares) == 1 else on_cores(part, shares, most=len(shares)))


def _words(values: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Rows as 64-bit words, filled up with zeros."""
    lacking = -values.shape[1] % 8
    whole = np.pad(values, ((0, 0), (0, lacking))) if lacking else values
    return np.ascontiguousarray(whole).view(np.uint64)


# --- float -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Measured:
    """Both as the kernels take them; powers: inner products with themselves, of float ones."""

    a: NDArray[Any]
    b: NDArray[Any]
    a_power: F64
    b_power: F64


def _measured(a: NDArray[Any], b: NDArray[Any], kind: Metric, a_name: str = "a", b_name: str = "b") -> _Measured:
    if kind == "hamming":
        return _Measured(_words(a), _words(b), np.zeros(0), np.zeros(0))
    single = all(x.dtype.itemsize <= (4 if np.issubdtype(x.dtype, np.floating) else 2) for x in (a, b))
    x, y = (_rows_of_eights(values, np.float32 if single else np.float64) for values in (a, b))
    found = _Measured(x, y, kernels.inner_with_itself(x), kernels.inner_with_itself(y))
    if kind == "cosine":
        for power, name in ((found.a_power, a_name), (found.b_power, b_name)):
            if power.min() < _SMALLEST:
                raise StreamError(
                    f"{name}: row {int(power.argmin())} is zero and has no direction; leave such rows out for cosine"
                )
    return found


def _rows_of_eights(values: NDArray[Any], kind: type) -> NDArray[Any]:
    made = np.zeros((len(values), -(-values.shape[1] // 8) * 8), kind)
    made[:, : values.shape[1]] = values
    return made


def _nearest_float(a: NDArray[Any], b: NDArray[Any], kind: Metric, want_second: bool, mutual: bool) -> _Nearest:
    given = _measured(a, b, kind)
    if kind == "cosine":
        x, y = (
            np.asarray(values / np.sqrt(power)[:, None], np.float32)
            for values, power in ((given.a, given.a_power), (given.b, given.b_power))
        )
        scale, x_length, y_length = 1.0, np.ones(len(x)), np.ones(len(y))
    else:
        # A power of two, by which float32 is not left and nothing but the exponent changes.
        largest = np.sqrt(max(given.a_power.max(), given.b_power.max()))
        unit = 2.0 ** -np.ceil(np.log2(largest)) if largest > 0 else 1.0
        x, y = (np.asarray(values * values.dtype.type(unit), np.float32) for values in (given.a, given.b))
        scale, x_length, y_length = unit**2 / 2, unit * np.sqrt(given.a_power), unit * np.sqrt(given.b_power)
    # Products of d terms, in any order, are off by d roundings of |u| |v| at most, and a dozen more happen around them.
    rounding = (x.shape[1] + 16) * 2.0**-24
    x_slack = rounding * (x_length + y_length.max()) ** 2 + 1e-30
    y_slack = rounding * (y_length + x_length.max()) ** 2 + 1e-30
    x_half, y_half = (0.5 * length**2 for length in (x_length, y_length))
    x_half, y_half = x_half.astype(np.float32), y_half.astype(np.float32)

    def part(share: slice) -> _Nearest:
        found = _Nearest.none(share.stop - share.start, len(y))
        x_needs = np.full(share.stop - share.start, -np.inf, np.float32)
        y_needs = np.full(len(y), -np.inf if mutual else np.inf, np.float32)
        room = np.empty(_BLOCK * _BLOCK, np.float32)
        for row in range(0, len(x_needs), _BLOCK):
            near = slice(row, min(row + _BLOCK, len(x_needs)))
            rows = slice(share.start + near.start, share.start + near.stop)
            for column in range(0, len(y), _BLOCK):
                columns = slice(column, min(column + _BLOCK, len(y)))
                shape = (near.stop - near.start, columns.stop - column)
                products = room[: shape[0] * shape[1]].reshape(shape)
                np.dot(x[rows], y[columns].T, out=products)
                if column == 0:
                    kernels.foresee_rows(products, y_half[columns], x_slack[rows], x_needs[near])
                if row == 0 and mutual:
                    kernels.foresee_columns(products, x_half[rows], y_slack[columns], y_needs[columns])
                kernels.consider(
                    products, given.a[rows], given.b[columns], given.a_power[rows], given.b_power[columns],
                    kind == "cosine", scale, x_half[rows], y_half[columns], x_slack[rows], y_slack[columns],
                    x_needs[near], y_needs[columns], row, column, want_second, found.best[near], found.cost[near],
                    found.second[near], found.column_best[columns], found.column_cost[columns],
                )  # fmt: skip
        return found

    shares = _shares(len(a), len(b))
    if len(shares) == 1:
        return part(shares[0])
    # Each thread has products of its own.
    with one_blas_thread():
        return _Nearest.of_parts(on_cores(part, shares, most=len(shares)))


# --- guided ----------------------------------------------------------------------------------------------------------


def _guides(geometry: Homography | Fundamental, x: F64, y: F64) -> tuple[F64, F64]:
    """Where the points y lie in the reference and x in the moving picture: points `(n, 2)`, or lines `(n, 3)`."""
    return np.ascontiguousarray(geometry(y)), np.ascontiguousarray(geometry.inverse()(x))


def _grid(points: F64, distance: float) -> tuple[F64, float, int, int, I64, I64]:
    """Points by square cells: corner and side of the cells, columns, rows, where each cell begins, and its points."""
    corner = points.min(axis=0)
    extent = points.max(axis=0) - corner
    # As wide as the search or so, and about as many cells as points at most.
    side = max(distance, float(np.sqrt(extent.prod() / len(points))), float(extent.max()) / len(points), 1e-9)
    across, down = (int(n) + 1 for n in np.floor(extent / side))
    place = np.minimum(np.floor((points - corner) / side).astype(np.int64), [across - 1, down - 1])
    cell = place[:, 1] * across + place[:, 0]
    order = np.argsort(cell, kind="stable")
    begins = np.searchsorted(cell[order], np.arange(across * down + 1)).astype(np.int64)
    return corner, side, across, down, begins, order.astype(np.int64)
