"""Dynamic time warping of two feature sequences: the cheapest path of cells (moving frame, reference frame).

exact_path        the optimum over all paths, in memory that grows with the lengths alone
multiscale_path   coarse frames first, then a band around their path, widened until the path no longer touches it

A cell costs the distance of its two frames, times the weight of the step that led there (Sakoe and Chiba 1978,
"Dynamic programming algorithm optimization for spoken word recognition"); equal sums are decided by the order of the
steps. Costs are made where they are used and never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse._kernels import warp as kernels
from avfuse.cores import cores
from avfuse.errors import StreamError, WeakAlignmentError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_STRIP = 1024  # rows along whose anti-diagonals the innermost loop runs
_BLOCK = 1024  # rows and columns that are filled without a pause, at least
_APART = 512  # rows and columns between the lines that are kept, at least
_LINES = 32  # kept along the longer side of a grid
_WHOLE = 8192  # rows and columns between lines whose steps are still kept in memory
_POOL = 5  # frames in one of the next coarser scale
_AT_ONCE = 4e8  # cells that are searched without a coarser scale

_NO_PATH = (
    "no path obeys the steps: one sequence is more than twice as long as the other; "
    "use steps that are not limited, or search the moving sequence within the reference (subsequence)"
)


@dataclass(frozen=True)
class Steps:
    """Which steps a path may take, as (moving frames, reference frames), and the weight of each.

    limited False: (1, 1), (1, 0), (0, 1): any monotone path. True: (1, 1), (2, 1), (1, 2): the reference runs between
    half and twice as fast as the moving one at every place, and cells that are jumped over cost nothing.
    """

    limited: bool = False
    weights: tuple[float, float, float] = (2.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.weights) != 3 or not all(np.isfinite(w) and w > 0 for w in self.weights):
            raise StreamError(f"Steps: weights {self.weights}; expected three positive numbers")


# Weights that count the frames passed in both sequences: no slope is cheaper than another for the same cost per frame.
FREE = Steps()
LIMITED = Steps(limited=True, weights=(2.0, 3.0, 3.0))


@dataclass(frozen=True, eq=False)
class CellPath:
    """cells: `(n, 2)` (moving frame, reference frame), in order. cost: of all its steps.

    radius: reference frames on either side of the coarser path that were searched; None where all cells were.
    ends: cost of the cheapest path that ends in each reference frame, where all cells were searched: in frames that
        hold `scale` of the given ones.
    """

    cells: I64
    cost: float
    radius: int | None = None
    ends: F64 = field(default_factory=lambda: np.zeros(0))
    scale: int = 1


def feature_major(name: str, frames: ArrayLike) -> F32:
    """`(n, dims)` or `(n,)` frames as the kernels want them: `(dims, n)` float32, dims a multiple of four."""
    values = np.asarray(frames)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.size:
        raise StreamError(f"{name}: features of shape {values.shape}; expected (n, dims) with at least one frame")
    out = np.zeros((-(-values.shape[1] // 4) * 4, len(values)), np.float32)
    out[: values.shape[1]] = values.T
    if not np.isfinite(out).all():
        raise StreamError(f"{name}: NaN or infinite features; expected finite numbers")
    return out


def exact_path(
    reference: ArrayLike, moving: ArrayLike, *, steps: Steps = FREE, rooted: bool = False, subsequence: bool = False
) -> CellPath:
    """The cheapest of all paths from the first frames to the last ones.

    reference, moving: `(n, dims)` features. rooted: cells cost the Euclidean distance instead of half its square
    (which for unit vectors is 1 - cosine). subsequence: the whole of `moving` anywhere within `reference`.
    Time goes with the product of the lengths, memory with their sum: rows and columns are kept at the borders of
    blocks, and only the blocks that the path crosses are filled again (Driga et al. 2006, "FastLSA"). Blocks that do
    not wait for each other run on all cores.
    Raises StreamError for features that do not match, WeakAlignmentError where no path obeys the steps.
    """
    x, y = _checked(reference, moving)
    return _exact(x, y, steps, rooted, subsequence, _BLOCK, _STRIP)


def _checked(reference: ArrayLike, moving: ArrayLike) -> tuple[F32, F32]:
    x, y = feature_major("moving", moving), feature_major("reference", reference)
    dims = [1 if np.ndim(frames) == 1 else np.shape(frames)[1] for frames in (reference, moving)]
    if dims[0] != dims[1]:
        raise StreamError(f"features of {dims[0]} dimensions in the reference and {dims[1]} in the moving stream")
    return x, y


def _exact(x: F32, y: F32, steps: Steps, rooted: bool, free: bool, block: int, strip: int) -> CellPath:
    columns = np.arange(y.shape[1])
    row, begins = kernels.first_row(
        kernels.costs_at(x, y, np.zeros_like(columns), columns, rooted), steps.limited, np.array(steps.weights), free
    )
    parts: list[I64] = []
    i, j, ends = x.shape[1] - 1, y.shape[1] - 1, row
    if i > 0:
        above = np.full((2, y.shape[1] + 2), np.inf)
        above[1, 2:] = row
        grid = _Grid(_Filler(x, y, steps, rooted, strip), (1, i + 1), (0, j + 1), above, np.full((i, 2), np.inf), block)
        ends = grid.rows[-1][1, 2:]
        j = _end(ends, free)
        i, j = grid.trace(i, j, parts)
    else:
        j = _end(ends, free)
    cost = float(ends[j if not parts else parts[0][0, 1]])
    while j >= 0:
        parts.append(np.array([[0, j]]))
        if begins[j]:
            break
        j -= 1
    return CellPath(np.concatenate(parts)[::-1], cost, ends=ends)


def _end(last: F64, free: bool) -> int:
    """The column where the path ends: the last one, or the first of the cheapest."""
    end = int(np.argmin(last)) if free else len(last) - 1
    if not np.isfinite(last[end]):
        raise WeakAlignmentError(_NO_PATH)
    return end


@dataclass(frozen=True, eq=False)
class _Filler:
    x: F32
    y: F32
    steps: Steps
    rooted: bool
    strip: int

    def __call__(
        self, rows: tuple[int, int], columns: tuple[int, int], above: F64, left: F64, every: int, keep: bool
    ) -> tuple[F64, F64, NDArray[np.uint8]]:
        x = np.ascontiguousarray(self.x[:, slice(*rows)])
        y = np.ascontiguousarray(self.y[:, slice(*columns)][:, ::-1])
        found: tuple[F64, F64, NDArray[np.uint8]] = kernels.fill(
            x, y, np.ascontiguousarray(above), np.ascontiguousarray(left), self.rooted, self.steps.limited,
            np.array(self.steps.weights), self.strip, every, keep,
        )  # fmt: skip
        return found


class _Grid:
    """A rectangle of cells, of which two rows and two columns are kept at every line."""

    def __init__(
        self, filler: _Filler, rows: tuple[int, int], columns: tuple[int, int], above: F64, left: F64, block: int
    ) -> None:
        """above: `(2, columns + 2)` rows before the rectangle, from two columns before it on. left: `(rows, 2)`."""
        self.filler, self.block = filler, block
        longest = max(rows[1] - rows[0], columns[1] - columns[0])
        self.apart = max(min(_APART, block), -(-longest // _LINES))
        self.row_cuts = [*range(rows[0], rows[1], self.apart), rows[1]]
        self.column_cuts = [*range(columns[0], columns[1], self.apart), columns[1]]
        self.rows = [above, *(np.full_like(above, np.inf) for _ in self.row_cuts[1:])]
        tall = np.concatenate([above[:, :2], left])
        self.columns = [tall, *(np.full_like(tall, np.inf) for _ in self.column_cuts[1:])]
        for a, cut in enumerate(self.row_cuts[1:], 1):
            first = cut - rows[0]
            self.rows[a][:, :2] = tall[first : first + 2]
        for b, cut in enumerate(self.column_cuts[1:], 1):
            first = cut - columns[0]
            self.columns[b][:2] = above[:, first : first + 2]
        self._many = max(1, block // self.apart)  # lines of a block
        down, across = (-(-(len(cuts) - 1) // self._many) for cuts in (self.row_cuts, self.column_cuts))
        _in_order(down, across, self._fill)

    def _borders(self, a: int, b: int, many: int) -> tuple[tuple[int, int], tuple[int, int], F64, F64]:
        rows = (self.row_cuts[a], self.row_cuts[min(a + many, len(self.row_cuts) - 1)])
        columns = (self.column_cuts[b], self.column_cuts[min(b + many, len(self.column_cuts) - 1)])
        first, last = (c - self.column_cuts[0] for c in columns)
        top, bottom = (r - self.row_cuts[0] for r in rows)
        return rows, columns, self.rows[a][:, first : last + 2], self.columns[b][top + 2 : bottom + 2]

    def _fill(self, a: int, b: int) -> None:
        a, b = a * self._many, b * self._many
        rows, columns, above, left = self._borders(a, b, self._many)
        below, right, _ = self.filler(rows, columns, above, left, self.apart, False)
        first, last = (c - self.column_cuts[0] for c in columns)
        top, bottom = (r - self.row_cuts[0] for r in rows)
        for line, found in zip(self.rows[a + 1 :], below, strict=False):
            line[:, first + 2 : last + 2] = found[:, 2:]
        for line, found in zip(self.columns[b + 1 :], right, strict=False):
            line[top + 2 : bottom + 2] = found

    def trace(self, i: int, j: int, parts: list[I64]) -> tuple[int, int]:
        """Adds the path's cells, last one first, from (i, j) back until it leaves; returns where it arrives."""
        while i >= self.row_cuts[0] and j >= self.column_cuts[0]:
            a, b = (i - self.row_cuts[0]) // self.apart, (j - self.column_cuts[0]) // self.apart
            rows, columns, above, left = self._borders(a, b, 1)
            # What lies beyond the path's end in this block is not needed.
            rows, columns = (rows[0], i + 1), (columns[0], j + 1)
            above, left = above[:, : j - columns[0] + 3], left[: i - rows[0] + 1]
            if self.apart <= _WHOLE:
                _, _, steps = self.filler(rows, columns, above, left, self.apart, True)
                cells, i, j = kernels.walk(steps, self.filler.steps.limited, i - rows[0], j - columns[0])
                i, j = i + rows[0], j + columns[0]
                parts.append(cells + np.array([rows[0], columns[0]]))
            else:
                inner = _Grid(self.filler, rows, columns, above, left, self.block)
                i, j = inner.trace(i, j, parts)
        return i, j


def _in_order(rows: int, columns: int, work: Callable[[int, int], None]) -> None:
    """work(a, b) for every block, each as soon as the ones above it and before it are done, on all cores."""
    waits = {(a, b): (a > 0) + (b > 0) for a in range(rows) for b in range(columns)}
    with ThreadPoolExecutor(cores()) as pool:
        running = {pool.submit(work, 0, 0): (0, 0)}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                a, b = running.pop(future)
                future.result()
                for after in ((a, b + 1), (a + 1, b)):
                    if after in waits:
                        waits[after] -= 1
                        if not waits[after]:
                            running[pool.submit(work, *after)] = after


def multiscale_path(
    reference: ArrayLike,
    moving: ArrayLike,
    *,
    steps: Steps = FREE,
    rooted: bool = False,
    subsequence: bool = False,
    radius: int = 50,
) -> CellPath:
    """The cheapest path near that of coarser frames (Salvador and Chan 2007, "FastDTW"; Müller et al. 2006).

    Where there are more than 4e8 cells, five frames are averaged into one, their path is found, and frames are searched
    within `radius` of it in both directions of the reference; the radius doubles until the path keeps off the edges of
    its band. The result is the optimum of its band: what it may miss is a cheaper path that leaves the band and comes
    back, past cells dearer than those inside. Arguments and errors as `exact_path`.
    """
    if radius < 1:
        raise StreamError(f"radius {radius}; expected at least one frame")
    x, y = _checked(reference, moving)
    return _multiscale(x, y, steps, rooted, subsequence, radius, _AT_ONCE)


def _multiscale(x: F32, y: F32, steps: Steps, rooted: bool, free: bool, radius: int, at_once: float) -> CellPath:
    if x.shape[1] * y.shape[1] <= at_once or min(x.shape[1], y.shape[1]) < 4 * _POOL:
        return _exact(x, y, steps, rooted, free, _BLOCK, _STRIP)
    coarse = _multiscale(_pooled(x), _pooled(y), steps, rooted, free, radius, at_once)
    low, high = _band(coarse.cells, x.shape[1], y.shape[1])
    while True:
        edges = np.maximum(low - radius, 0), np.minimum(high + radius, y.shape[1])
        whole = bool((edges[0] == 0).all() and (edges[1] == y.shape[1]).all())
        found = _path_in_band(x, y, *edges, steps, rooted, free)
        if found is not None and (whole or not _touches(found.cells, *edges, y.shape[1])):
            return replace(found, radius=radius, ends=coarse.ends, scale=_POOL * coarse.scale)
        if found is None and whole:
            raise WeakAlignmentError(_NO_PATH)
        radius *= 2


def _pooled(x: F32) -> F32:
    """Means of five frames each; the last ones that fill no five make one too."""
    starts = np.arange(0, x.shape[1], _POOL)
    counts = np.diff(starts, append=x.shape[1])
    return np.asarray(np.add.reduceat(x, starts, axis=1) / counts.astype(np.float32))


def _band(cells: I64, rows: int, columns: int) -> tuple[I64, I64]:
    """First and last + 1 column near a coarse path in every fine row; neither ever falls."""
    at, first = np.unique(cells[:, 0], return_index=True)
    last = np.append(first[1:], len(cells)) - 1
    # Rows that limited steps jump over lie between their neighbours.
    i = np.arange(rows) // _POOL
    low = np.floor(np.interp(i, at, cells[first, 1])).astype(np.int64) * _POOL
    high = (np.ceil(np.interp(i, at, cells[last, 1])).astype(np.int64) + 1) * _POOL
    return low, np.minimum(high, columns)


def _touches(cells: I64, low: I64, high: I64, columns: int) -> bool:
    i, j = cells.T
    return bool((((j == low[i]) & (low[i] > 0)) | ((j == high[i] - 1) & (high[i] < columns))).any())


def _path_in_band(x: F32, y: F32, low: I64, high: I64, steps: Steps, rooted: bool, free: bool) -> CellPath | None:
    """The cheapest path whose cells have low[i] <= column < high[i] in every row; None where there is none."""
    last, taken, offsets, begins = kernels.fill_band(
        x, y, low, high, rooted, steps.limited, np.array(steps.weights), free
    )
    end = int(np.argmin(last)) if free else y.shape[1] - 1 - int(low[-1])
    if not 0 <= end < len(last) or not np.isfinite(last[end]):
        return None
    cells = kernels.walk_band(taken, offsets, low, begins, steps.limited, x.shape[1] - 1, int(low[-1]) + end)
    return CellPath(cells, float(last[end]))
