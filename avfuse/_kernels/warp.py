"""Loops of elastic time: dynamic time warping of feature sequences.

Rows are frames of x, columns frames of y. Features lie feature-major, `(dims, frames)` float32, dims a multiple of four
(zeros added). The local cost of a cell is half the squared distance of the two frames, summed in the order of the
dimensions in float32, or the distance itself where `rooted`; costs add up in float64.

Steps into a cell, in the order in which equal sums are taken:
    free      (1, 1), (1, 0), (0, 1)
    limited   (1, 1), (2, 1), (1, 2)
each (rows, columns), with its weight of the cost of the cell it leads to. A cell that no step reaches holds infinity.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_LANES = 8  # entries that the innermost loops take at once
WIDE = 2064  # entries from row to row where loops run over several: no power of two, which would share cache lines
_STRIP = 1024  # rows that `fill` takes together, at most: with them and their neighbours, less than half of WIDE


@njit(cache=True, nogil=True)
def costs_at(x, y, rows, columns, rooted):
    """Local costs of the cells (rows[k], columns[k]), `(n,)` float32."""
    out = np.empty(rows.shape[0], np.float32)
    for k in range(rows.shape[0]):
        total = np.float32(0.0)
        for d in range(x.shape[0]):
            difference = x[d, rows[k]] - y[d, columns[k]]
            total += difference * difference
        out[k] = np.sqrt(total) if rooted else np.float32(0.5) * total
    return out


# The innermost loops index with unsigned integers: indices that may be negative, and slices that avoid them, cost more
# than the sums do.


@njit(cache=True, nogil=True)
def _whole(count):
    """As many or more, in whole vectors: the odd entries after them would take as long as all the others."""
    return np.uint64((count + _LANES - 1) // _LANES * _LANES)


@njit(cache=True, nogil=True)
def _add_squares(total, x, y, first, other, count, afresh):
    """Squared differences of four dimensions along four anti-diagonals, added to what is there or afresh.

    All flat, with rows WIDE apart: dimensions in x and y, diagonals in total. That the distances are constants spares
    the compiled loop the comparison of every pair of rows, which took as long as hundreds of entries.
    """
    d1, d2, d3 = np.uint64(WIDE), np.uint64(2 * WIDE), np.uint64(3 * WIDE)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    if afresh:
        for k in range(count):
            total[k] = np.float32(0.0)
            total[d1 + k] = np.float32(0.0)
            total[d2 + k] = np.float32(0.0)
            total[d3 + k] = np.float32(0.0)
    for k in range(count):
        x0, x1, x2, x3 = x[first + k], x[first + d1 + k], x[first + d2 + k], x[first + d3 + k]
        e0, e1 = x0 - y[other + k], x1 - y[other + d1 + k]
        e2, e3 = x2 - y[other + d2 + k], x3 - y[other + d3 + k]
        total[k] = total[k] + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
        e0, e1 = x0 - y[other - one + k], x1 - y[other + d1 - one + k]
        e2, e3 = x2 - y[other + d2 - one + k], x3 - y[other + d3 - one + k]
        total[d1 + k] = total[d1 + k] + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
        e0, e1 = x0 - y[other - two + k], x1 - y[other + d1 - two + k]
        e2, e3 = x2 - y[other + d2 - two + k], x3 - y[other + d3 - two + k]
        total[d2 + k] = total[d2 + k] + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3
        e0, e1 = x0 - y[other - three + k], x1 - y[other + d1 - three + k]
        e2, e3 = x2 - y[other + d2 - three + k], x3 - y[other + d3 - three + k]
        total[d3 + k] = total[d3 + k] + e0 * e0 + e1 * e1 + e2 * e2 + e3 * e3


@njit(cache=True, nogil=True)
def _flat(into, rows, first, count):
    """Copies `count` entries from `first` on of every row, WIDE apart; what lies beyond the rows counts for nothing."""
    begin, end = max(first, 0), min(first + count, rows.shape[1])
    for d in range(rows.shape[0]):
        at = d * WIDE - first
        for k in range(begin, end):
            into[at + k] = rows[d, k]


@njit(cache=True, nogil=True)
def _root(total, count):
    for k in range(count):
        total[k] = np.sqrt(total[k])


@njit(cache=True, nogil=True)
def _cheapest(diagonals, now, a, b, c, into, first, second, third, cost, weights, count):
    """Entries `into` ... of diagonal `now`, from those of the diagonals a, b, c that the three steps come from."""
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for k in range(count):
        local = np.float64(cost[k])
        best = diagonals[a, first + k] + w0 * local
        other = diagonals[b, second + k] + w1 * local
        best = other if other < best else best
        other = diagonals[c, third + k] + w2 * local
        diagonals[now, into + k] = other if other < best else best


@njit(cache=True, nogil=True)
def _cheapest_step(diagonals, now, a, b, c, into, first, second, third, cost, weights, count, taken):
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for k in range(count):
        local = np.float64(cost[k])
        best = diagonals[a, first + k] + w0 * local
        step = np.uint8(0)
        other = diagonals[b, second + k] + w1 * local
        step = np.uint8(1) if other < best else step
        best = other if other < best else best
        other = diagonals[c, third + k] + w2 * local
        step = np.uint8(2) if other < best else step
        diagonals[now, into + k] = other if other < best else best
        taken[k] = step


@njit(cache=True, nogil=True)
def fill(x, y_reversed, above, left, rooted, limited, weights, strip, every, keep_steps):
    """Accumulated costs of a block, strip by strip, each along its anti-diagonals.

    x: `(dims, rows)`. y_reversed: `(dims, columns)`, last column first, so that anti-diagonals run forward in both.
    above: `(2, columns + 2)` the two rows before, from two columns before the block on. left: `(rows, 2)` the two
    columns before. strip: rows taken together.
    Returns the two rows before every `every`-th one and before the end `(ceil(rows / every), 2, columns + 2)`; columns
    likewise `(ceil(columns / every), rows, 2)`; and the steps taken `steps[strip, row + column, row]`, counted within a
    strip, with _LANES rows that count for nothing, empty unless keep_steps.
    """
    (dims, rows), columns = x.shape, y_reversed.shape[1]
    strip = min(strip, rows, _STRIP)
    apart = strip + _LANES
    strips = (rows + strip - 1) // strip
    below = np.empty(((rows + every - 1) // every, 2, columns + 2))
    right = np.empty(((columns + every - 1) // every, rows, 2))
    # The two rows before a strip, and its last two.
    top, bottom = above.copy(), np.empty_like(above)
    steps = np.empty((strips if keep_steps else 0, columns + strip - 1, apart), np.uint8)
    # The diagonals of row + column = s, s - 1, s - 2, s - 3; entry r + 2 belongs to row r.
    diagonals = np.full((4, apart + 4), np.inf)
    costs = np.empty(4 * WIDE, np.float32)
    xs, ys = np.zeros(dims * WIDE, np.float32), np.zeros(dims * WIDE, np.float32)
    first, held = 0, 0  # row of the first cost; first entry of y_reversed in ys
    scaled = weights if rooted else np.float64(0.5) * weights  # half the square: exact in either factor
    for q in range(strips):
        begin = q * strip
        count = min(strip, rows - begin)
        _flat(xs, x, begin, count)
        held = columns
        for s in range(-3, columns + count - 1):
            now = diagonals[s % 4]
            low, high = max(0, s - columns + 1), min(count - 1, s)
            if high >= low:
                if s % 4 == 0:  # this diagonal and the next three, over the rows of any of them
                    first = low
                    n = _whole(min(count - 1, s + 3) - low + 1)
                    other = columns - 1 - s + low
                    if other - 3 < held:  # diagonals wander towards the first entries
                        held = other + np.int64(n) + _LANES - WIDE
                        _flat(ys, y_reversed, held, WIDE)
                    for d in range(0, dims, 4):
                        _add_squares(
                            costs, xs, ys, np.uint64(d * WIDE + low), np.uint64(d * WIDE + other - held), n, d == 0
                        )
                    if rooted:
                        for t in range(4):
                            _root(costs[t * WIDE :], n)
                cost = costs[(s % 4) * WIDE + low - first :]
                n = _whole(high - low + 1)
                # Entry low + 2 is row low; the steps come from one row back, or two.
                into, row, before = np.uint64(low + 2), np.uint64(low + 1), np.uint64(low)
                a, b, c = np.uint64((s - 2) % 4), np.uint64((s - 3) % 4), np.uint64((s - 3) % 4)
                second, third = before, row
                if not limited:
                    b, c = np.uint64((s - 1) % 4), np.uint64((s - 1) % 4)
                    second, third = row, into
                here = np.uint64(s % 4)
                if keep_steps:
                    taken = steps[q, s, low:]
                    _cheapest_step(diagonals, here, a, b, c, into, row, second, third, cost, scaled, n, taken)
                else:
                    _cheapest(diagonals, here, a, b, c, into, row, second, third, cost, scaled, n)
            # After the loops, whose last lanes may have written here: rows before the strip, columns before the block.
            for r in range(-2, min(s + 3, 0)):
                if s - r < columns:
                    now[r + 2] = top[r + 2, s - r + 2]
            for j in range(-2, 0):
                if 0 <= s - j < count:
                    now[s - j + 2] = left[begin + s - j, j + 2]
            for r in range(max(count - 2, 0), count):
                if 0 <= s - r < columns:
                    bottom[r - count + 2, s - r + 2] = now[r + 2]
            for line in range(below.shape[0]):
                end = min((line + 1) * every, rows) - begin
                for r in range(max(end - 2, 0), min(end, count)):
                    if 0 <= s - r < columns:
                        below[line, r - end + 2, s - r + 2] = now[r + 2]
            for line in range(right.shape[0]):
                end = min((line + 1) * every, columns)
                for j in range(max(end - 2, 0), end):
                    if 0 <= s - j < count:
                        right[line, begin + s - j, j - end + 2] = now[s - j + 2]
        for r in range(max(count - 2, 0), count):
            bottom[r - count + 2, :2] = left[begin + r]
        if count == 1:
            bottom[0] = top[1]
        top, bottom = bottom, top
    if min(every, rows) == 1:
        below[0, 0] = above[1]
    if min(every, columns) == 1:
        right[0, :, 0] = left[:, 1]
    return below, right, steps


@njit(cache=True, nogil=True)
def walk(steps, limited, row, column):
    """The path back through a block from (row, column) until it leaves: `(n, 2)` cells passed, and where it arrives.

    steps: as `fill` keeps them.
    """
    strip = steps.shape[2] - _LANES
    cells = np.empty((row + column + 2, 2), np.int64)
    n = 0
    while row >= 0 and column >= 0:
        cells[n, 0], cells[n, 1] = row, column
        n += 1
        within = row % strip
        step = steps[row // strip, within + column, within]
        if limited:
            row -= 2 if step == 1 else 1
            column -= 2 if step == 2 else 1
        else:
            row -= 0 if step == 2 else 1
            column -= 0 if step == 1 else 1
    return cells[:n], row, column


@njit(cache=True, nogil=True)
def first_row(costs, limited, weights, free):
    """Accumulated costs of row 0, and where a path begins in it: at its first cell, or anywhere where `free`.

    costs: `(columns,)` local. Returns `(columns,)` float64 and bool.
    """
    total = np.full(costs.shape[0], np.inf)
    begins = np.zeros(costs.shape[0], np.bool_)
    for j in range(costs.shape[0]):
        if free or j == 0:
            total[j] = weights[0] * costs[j]
            begins[j] = True
        if j > 0 and not limited and total[j - 1] + weights[2] * costs[j] < total[j]:
            total[j] = total[j - 1] + weights[2] * costs[j]
            begins[j] = False
    return total, begins


@njit(cache=True, nogil=True)
def next_row(x, row, y, low, high, rooted, limited, weights, once, twice, into, taken, cost):
    """One row of accumulated costs, for low <= column < high.

    once, twice: `(columns + 2,)` the two rows before, column j at j + 2, infinite where they were not reached; into:
    this row, likewise, all infinite when called. taken: `(high - low,)` uint8 steps. cost: `(high - low,)` scratch.
    """
    cost[:] = np.float32(0.0)
    count = high - low
    for d in range(x.shape[0]):
        value = x[d, row]
        frame = y[d, low:high]
        for k in range(count):
            difference = value - frame[k]
            cost[k] += difference * difference
    if rooted:
        _root(cost, count)
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for k in range(count):
        c = np.float64(cost[k] if rooted else np.float32(0.5) * cost[k])
        at = low + k + 2
        best = once[at - 1] + w0 * c
        step = np.uint8(0)
        other = (twice[at - 1] if limited else once[at]) + w1 * c
        if other < best:
            best, step = other, np.uint8(1)
        other = (once[at - 2] if limited else into[at - 1]) + w2 * c
        if other < best:
            best, step = other, np.uint8(2)
        into[at] = best
        taken[k] = step


@njit(cache=True, nogil=True)
def fill_band(x, y, low, high, rooted, limited, weights, free):
    """Accumulated costs within a band: row i holds the columns low[i] <= column < high[i].

    Returns the last row `(high - low,)`, the steps of all rows one after the other, `(rows + 1,)` where each row's
    begin, and where a path begins in row 0, `(high[0] - low[0],)`.
    """
    rows, columns = x.shape[1], y.shape[1]
    offsets = np.zeros(rows + 1, np.int64)
    widest = 0
    for i in range(rows):
        offsets[i + 1] = offsets[i] + high[i] - low[i]
        widest = max(widest, high[i] - low[i])
    steps = np.zeros(offsets[rows], np.uint8)
    cost = np.empty(widest, np.float32)
    kept = np.full((3, columns + 2), np.inf)
    where = np.arange(low[0], high[0])
    start, begins = first_row(costs_at(x, y, np.zeros_like(where), where, rooted), limited, weights, free)
    kept[0, low[0] + 2 : high[0] + 2] = start
    for i in range(1, rows):
        into = kept[i % 3]
        if i >= 3:
            into[low[i - 3] + 2 : high[i - 3] + 2] = np.inf
        next_row(
            x, i, y, low[i], high[i], rooted, limited, weights, kept[(i - 1) % 3], kept[(i - 2) % 3], into,
            steps[offsets[i] : offsets[i + 1]], cost[: high[i] - low[i]],
        )  # fmt: skip
    last = rows - 1
    return kept[last % 3, low[last] + 2 : high[last] + 2].copy(), steps, offsets, begins


@njit(cache=True, nogil=True)
def walk_band(steps, offsets, low, begins, limited, row, column):
    """The path from its beginning to (row, column), `(n, 2)`; `steps`, `offsets` and `begins` as of `fill_band`."""
    cells = np.empty((row + column + 2, 2), np.int64)
    n = 0
    while True:
        cells[n, 0], cells[n, 1] = row, column
        n += 1
        if row == 0:
            if begins[column - low[0]]:
                break
            column -= 1
            continue
        step = steps[offsets[row] + column - low[row]]
        if limited:
            row -= 2 if step == 1 else 1
            column -= 2 if step == 2 else 1
        else:
            row -= 0 if step == 2 else 1
            column -= 0 if step == 1 else 1
    return cells[:n][::-1].copy()


@njit(cache=True, nogil=True)
def follow_peaks(values, state, keep, floor):
    """What decays by the factor `keep` per row and rises at once: max(values, keep * row before, floor).

    values: `(n, m)` float32. state: `(m,)` the row before the first one. Returns `(n, m)` float32.
    """
    out = np.empty_like(values)
    for m in range(values.shape[1]):
        held = state[m]
        for k in range(values.shape[0]):
            held = max(values[k, m], keep * held, floor)
            out[k, m] = held
    return out


@njit(cache=True, nogil=True)
def inverse_diagonal(factor):
    """Diagonal of the inverse of L L^T (Takahashi, Fagan and Chen 1973).

    factor: `(3, n)`, n >= 2: diagonal of L and the two below it, column by column. Returns `(n,)`.
    """
    n = factor.shape[1]
    out = np.empty(n)
    one_one = one_two = two_two = 0.0  # the inverse at (j+1, j+1), (j+1, j+2), (j+2, j+2)
    for j in range(n - 1, -1, -1):
        l0 = factor[0, j]
        l1 = factor[1, j] if j + 1 < n else 0.0
        l2 = factor[2, j] if j + 2 < n else 0.0
        to_one = -(one_one * l1 + one_two * l2) / l0
        to_two = -(one_two * l1 + two_two * l2) / l0
        out[j] = (1.0 / l0 - to_one * l1 - to_two * l2) / l0
        one_one, one_two, two_two = out[j], to_one, one_one
    return out


@njit(cache=True, nogil=True)
def windowed_distances(x, y, shifts, centres, half):
    """Least mean squared distance of x shifted against y, over the shifts, in windows: `(windows,)` float64.

    x, y: `(dims, n)` float32. shifts: frames by which x is taken later (> 0) or earlier. A window holds the frames of y
    within `half` of its centre, as far as both sequences reach; where that is half or less of it the shift does not
    count. Infinite where no shift counts.
    """
    dims, n = x.shape
    least = np.full(centres.shape[0], np.inf)
    distance = np.empty(n, np.float32)
    total = np.zeros(n + 1)
    for shift in shifts:
        low, high = max(0, -shift), min(n, n - shift)
        count = high - low
        if count <= half:
            continue
        part = distance[:count]
        part[:] = np.float32(0.0)
        for d in range(dims):
            a, b = x[d, low + shift : high + shift], y[d, low:high]
            for k in range(count):
                difference = a[k] - b[k]
                part[k] += difference * difference
        for k in range(count):
            total[k + 1] = total[k] + part[k]
        for w in range(centres.shape[0]):
            left = max(centres[w] - half, low) - low
            right = min(centres[w] + half + 1, high) - low
            if right - left > half:
                mean = (total[right] - total[left]) / (right - left)
                least[w] = min(least[w], mean)
    return least
