"""Nearest descriptors: the best and second best of every row and the best of every column, in one pass.

Binary ones are counted 512 at a time. Bit k of 512 descriptors is a plane of 512 lanes, a number for each of them a
stack of planes, lowest bit first, and adding is what an adder does with wires: d = |q| + |t| - 2 |q and t|, so only
planes of bits that q has are added up, seven adders for eight planes (Harley and Seal's counter: Mula, Kurz and Lemire
2018). Kept is the nearness -1 - d, in as many planes as d needs: it grows with every shared bit.

Of float ones a matrix product says roughly which are near; whoever could be, by the product's own rounding, is measured
in float64, always in the same order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avfuse._kernels.lanes import LANES, WORDS, load, lowest, numbers, ones, some, spread, store, total

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TOGETHER = 128  # rows for which a block of planes stays in the nearest cache
_GLANCE = 128  # columns that are looked at before any of them is told apart


@njit(cache=True, nogil=True)
def bit_planes(words, bits):
    """Planes `(blocks, bits + 1, 8)`, flat, of rows of words; the last plane of each block is empty."""
    blocks = (len(words) + LANES - 1) // LANES
    planes = np.zeros(blocks * (bits + 1) * WORDS, np.uint64)
    square = np.zeros(64, np.uint64)
    for start in range(0, len(words), 64):
        block, word = start // LANES, start % LANES // 64
        count = min(64, len(words) - start)
        for column in range(words.shape[1]):
            for r in range(64):
                square[r] = words[start + r, column] if r < count else _ZERO
            _transpose(square)
            for k in range(min(64, bits - 64 * column)):
                planes[(block * (bits + 1) + 64 * column + k) * WORDS + word] = square[k]
    return planes


@njit(cache=True, nogil=True)
def _transpose(square):
    """Bit c of word r becomes bit r of word c: quarters change places, then their quarters (Warren 2013, 7-3)."""
    width, mask = 32, np.uint64(0xFFFFFFFF)
    while width > 0:
        shift = np.uint64(width)
        for start in range(0, 64, 2 * width):
            for k in range(start, start + width):
                apart = ((square[k] >> shift) ^ square[k + width]) & mask
                square[k] ^= apart << shift
                square[k + width] ^= apart
        width //= 2
        mask ^= mask << np.uint64(width)


@njit(cache=True, nogil=True)
def lightness(planes, bits, height):
    """-1 - |t| of every lane, `(blocks, height, 8)`, flat."""
    blocks = len(planes) // ((bits + 1) * WORDS)
    light = np.zeros(blocks * height * WORDS, np.uint64)
    for block in range(blocks):
        first = block * height * WORDS
        for k in range(bits):
            carry = load(planes, (block * (bits + 1) + k) * WORDS)
            for at in range(first, first + height * WORDS, WORDS):
                now = load(light, at)
                store(light, at, now ^ carry)
                carry = now & carry
    for k in range(len(light)):
        light[k] = ~light[k]
    return light


@njit(cache=True, nogil=True)
def _add(a, b, c):
    """Sum and carry of three bits in every lane."""
    either = a ^ b
    return either ^ c, (a & b) | (either & c)


@njit(cache=True, nogil=True)
def _count(planes, first, offsets, start, stop, counts, end):
    """Adds 2 to the counts for each plane that has the lane's bit. counts: flat planes, up to `end`, changed.

    offsets: `[start, stop)`, a multiple of eight, of planes after `first`.
    """
    one, two, four = load(counts, WORDS), load(counts, 2 * WORDS), load(counts, 3 * WORDS)
    # Unsigned indices cannot be negative: nobody need look whether they wrap around.
    for k in range(np.uint64(start), np.uint64(stop), np.uint64(8)):
        one, two_a = _add(one, load(planes, first + offsets[k]), load(planes, first + offsets[k + np.uint64(1)]))
        one, two_b = _add(
            one, load(planes, first + offsets[k + np.uint64(2)]), load(planes, first + offsets[k + np.uint64(3)])
        )
        two, four_a = _add(two, two_a, two_b)
        one, two_a = _add(
            one, load(planes, first + offsets[k + np.uint64(4)]), load(planes, first + offsets[k + np.uint64(5)])
        )
        one, two_b = _add(
            one, load(planes, first + offsets[k + np.uint64(6)]), load(planes, first + offsets[k + np.uint64(7)])
        )
        two, four_b = _add(two, two_a, two_b)
        four, carry = _add(four, four_a, four_b)
        for at in range(4 * WORDS, end, WORDS):
            now = load(counts, at)
            store(counts, at, now ^ carry)
            carry = now & carry
    store(counts, WORDS, one)
    store(counts, 2 * WORDS, two)
    store(counts, 3 * WORDS, four)


@njit(cache=True, nogil=True)
def _greatest(counts, end, lanes, scratch):
    """The greatest number among the lanes, and the lowest lane that has it."""
    value = 0
    for at in range(end - WORDS, -1, -WORDS):
        having = lanes & load(counts, at)
        value *= 2
        if some(having):
            lanes = having
            value += 1
    store(scratch, 0, lanes)
    word = 0
    while scratch[word] == _ZERO:
        word += 1
    return value, 64 * word + lowest(scratch[word])


@njit(cache=True, nogil=True)
def _set_bits(row, offsets, at, bits):
    """Writes offsets of the planes of the bits that are set, and of the empty plane up to a multiple of eight."""
    start = at
    for w in range(len(row)):
        word = row[w]
        while word != _ZERO:
            offsets[at] = (64 * w + lowest(word)) * WORDS
            word &= word - _ONE
            at += 1
    count = at - start
    while (at - start) % 8:
        offsets[at] = bits * WORDS
        at += 1
    return at, count


@njit(cache=True, nogil=True)
def nearest_binary(rows, planes, light, count, want_second, want_columns):
    """Of each row of words its best column, the distance, and the second best distance; of each column its best row.

    planes, light: of the columns, of which there are `count`. Ties go to the lowest index; without a second column its
    distance is -1. Columns' rows are -1, and the second distances are not meant, where they are not wanted.
    """
    blocks = (count + LANES - 1) // LANES
    end = len(light) // blocks
    height, bits = end // WORDS, len(planes) // (blocks * WORDS) - 1
    best = np.zeros(len(rows), np.int64)
    near = np.zeros(len(rows), np.int64)
    second = np.zeros(len(rows), np.int64)
    column_best = np.full(blocks * LANES, -1, np.int64)
    column_near = np.zeros(len(light), np.uint64)
    counts = np.zeros(end, np.uint64)
    scratch = np.zeros(WORDS, np.uint64)
    offsets = np.zeros(_TOGETHER * (bits + 7), np.int64)
    starts = np.zeros(_TOGETHER + 1, np.int64)
    weights = np.zeros(_TOGETHER, np.int64)
    inside = np.full(WORDS, _ALL)
    for lane in range(LANES):
        if (blocks - 1) * LANES + lane >= count:
            inside[lane // 64] &= ~(_ONE << np.uint64(lane % 64))
    inside_last = load(inside, 0)
    for first in range(0, len(rows), _TOGETHER):
        together = min(_TOGETHER, len(rows) - first)
        for r in range(together):
            starts[r + 1], weights[r] = _set_bits(rows[first + r], offsets, starts[r], bits)
        for block in range(blocks):
            for r in range(together):
                i = first + r
                # -1 - |t| - |q|, and 2 more for each bit that both have.
                less = (1 << height) - weights[r]
                carry = spread(0)
                for at in range(0, end, WORDS):
                    bit = spread(less & 1)
                    added, carry = _add(load(light, block * end + at), bit, carry)
                    store(counts, at, added)
                    less >>= 1
                _count(planes, block * (bits + 1) * WORDS, offsets, starts[r], starts[r + 1], counts, end)
                # a > b where a + ~b carries.
                limit = ~(second[i] if want_second else near[i])
                nearer, column_nearer = spread(0), spread(0)
                for at in range(0, end, WORDS):
                    number = load(counts, at)
                    nearer = _add(number, spread(limit & 1), nearer)[1]
                    limit >>= 1
                    if want_columns:
                        column_nearer = _add(number, ~load(column_near, block * end + at), column_nearer)[1]
                if block == blocks - 1:
                    nearer = nearer & inside_last
                if some(nearer):
                    value, lane = _greatest(counts, end, nearer, scratch)
                    if value > near[i]:
                        second[i] = near[i]
                        near[i] = value
                        best[i] = block * LANES + lane
                    else:
                        second[i] = value
                    if want_second:
                        store(scratch, 0, nearer)
                        scratch[lane // 64] &= ~(_ONE << np.uint64(lane % 64))
                        nearer = load(scratch, 0)
                        if some(nearer):
                            value, lane = _greatest(counts, end, nearer, scratch)
                            second[i] = max(second[i], value)
                if want_columns and some(column_nearer):
                    for at in range(0, end, WORDS):
                        old = load(column_near, block * end + at)
                        store(column_near, block * end + at, old ^ ((old ^ load(counts, at)) & column_nearer))
                    store(scratch, 0, column_nearer)
                    for w in range(WORDS):
                        word = scratch[w]
                        while word != _ZERO:
                            column_best[block * LANES + 64 * w + lowest(word)] = i
                            word &= word - _ONE
    furthest = (1 << height) - 1
    for i in range(len(rows)):
        near[i] = furthest - near[i]
        second[i] = furthest - second[i] if second[i] > 0 else -1
    column_distance = np.full(count, furthest, np.int64)
    for j in range(count):
        for p in range(height):
            word = column_near[j // LANES * end + p * WORDS + j % LANES // 64]
            column_distance[j] -= np.int64((word >> np.uint64(j % 64)) & _ONE) << p
    return best, near, second, column_best[:count], column_distance


@njit(cache=True, nogil=True)
def bits_apart(a, i, b, j):
    """Hamming distance of two rows of words."""
    total = 0
    for k in range(a.shape[1]):
        total += ones(a[i, k] ^ b[j, k])
    return total


@njit(cache=True, nogil=True)
def squares_apart(a, b):
    """Squared distance of two rows of a multiple of eight numbers, in eight sums."""
    apart = numbers(a, 0) - numbers(b, 0)
    found = apart * apart
    for k in range(8, len(a), 8):
        apart = numbers(a, k) - numbers(b, k)
        found = found + apart * apart
    return total(found)


@njit(cache=True, nogil=True)
def inner(a, b):
    """Inner product of two rows, summed as their squared distance is."""
    found = numbers(a, 0) * numbers(b, 0)
    for k in range(8, len(a), 8):
        found = found + numbers(a, k) * numbers(b, k)
    return total(found)


@njit(cache=True, nogil=True)
def inner_with_itself(a):
    """Of every row."""
    found = np.empty(len(a), np.float64)
    for i in range(len(a)):
        found[i] = inner(a[i], a[i])
    return found


@njit(cache=True, nogil=True)
def _cost(a, i, b, j, a_power, b_power, cosine):
    """What float descriptors are ordered by: squared distance, or 1 - cosine."""
    if not cosine:
        return squares_apart(a[i], b[j])
    # The root of the product, not the product of roots: of equal rows it is their inner product to the last bit.
    return max(0.0, 1.0 - inner(a[i], b[j]) / np.sqrt(a_power[i] * b_power[j]))


# Below, rows u and columns v are compared by u v = u_half + v_half - cost * scale, true within slack. A product that
# changes what is known of its row must reach v_half + row_needs, and of its column u_half + column_needs.


@njit(cache=True, nogil=True)
def _raise_to(above, below, product, half):
    """above = max(below, product - half). In one array it would be stored under a mask, and slowly."""
    for c in range(len(above)):
        here, before = product[c] - half[c], below[c]
        above[c] = here if here > before else before


@njit(cache=True, nogil=True)
def foresee_rows(products, column_half, row_slack, row_needs):
    """Row needs `(m,)`, changed, such that two columns of these products reach them, whatever the slack."""
    highest, other = np.empty(_GLANCE, np.float32), np.empty(_GLANCE, np.float32)
    for r in range(products.shape[0]):
        product = products[r]
        highest[:] = -np.inf
        for at in range(0, len(product) - _GLANCE + 1, _GLANCE):
            _raise_to(other, highest, product[at : at + _GLANCE], column_half[at : at + _GLANCE])
            highest, other = other, highest
        first = second = np.float32(-np.inf)
        for c in range(_GLANCE):
            if highest[c] > first:
                first, second = highest[c], first
            elif highest[c] > second:
                second = highest[c]
        row_needs[r] = max(row_needs[r], np.float32(second - 2 * row_slack[r]))


@njit(cache=True, nogil=True)
def foresee_columns(products, row_half, column_slack, column_needs):
    """Column needs `(n,)`, changed, such that one row of these products reaches them, whatever the slack."""
    columns = products.shape[1]
    highest, other = np.full(columns, -np.inf, np.float32), np.empty(columns, np.float32)
    half = np.empty(columns, np.float32)
    for r in range(products.shape[0]):
        half[:] = row_half[r]
        _raise_to(other, highest, products[r], half)
        highest, other = other, highest
    for c in range(columns):
        column_needs[c] = max(column_needs[c], np.float32(highest[c] - 2 * column_slack[c]))


@njit(cache=True, nogil=True)
def _any_reaches(product, column_half, row_needs, row_half, column_needs):
    """Whether one of the products is what its row or its column needs."""
    found = np.int32(0)
    for c in range(len(product)):
        found |= np.int32(product[c] >= min(column_half[c] + row_needs, row_half + column_needs[c]))
    return found != 0


@njit(cache=True, nogil=True)
def _next_that_reaches(product, column_half, row_needs, row_half, column_needs, start):
    """Where the next few columns begin, one of which reaches what it needs; the number of columns where none does."""
    for at in range(start, len(product), _GLANCE):
        stop = min(at + _GLANCE, len(product))
        if _any_reaches(product[at:stop], column_half[at:stop], row_needs, row_half, column_needs[at:stop]):
            return at
    return len(product)


@njit(cache=True, nogil=True)
def consider(products, a, b, a_power, b_power, cosine, scale, row_half, column_half, row_slack, column_slack,
             row_needs, column_needs, first_row, first_column, want_second,
             best, cost, second, column_best, column_cost):  # fmt: skip
    """Measures those pairs of the rows of a and b that their products `(m, n)` leave possible.

    Changed: best, cost, second and needs of the rows, best, cost and needs of the columns; `first_row` and
    `first_column` are added to the indices.
    """
    rows, columns = products.shape
    for r in range(rows):
        product, half, start = products[r], row_half[r], 0
        while True:
            start = _next_that_reaches(product, column_half, row_needs[r], half, column_needs, start)
            if start >= columns:
                break
            for j in range(start, min(start + _GLANCE, columns)):
                for_column = product[j] >= half + column_needs[j]
                if not for_column and product[j] < column_half[j] + row_needs[r]:
                    continue
                here = _cost(a, r, b, j, a_power, b_power, cosine)
                if here < cost[r]:
                    best[r], cost[r], second[r] = first_column + j, here, cost[r]
                elif here < second[r]:
                    second[r] = here
                worst = second[r] if want_second else cost[r]
                row_needs[r] = max(row_needs[r], np.float32(half - worst * scale - row_slack[r]))
                if for_column and here < column_cost[j]:
                    column_best[j], column_cost[j] = first_row + r, here
                    lower = np.float32(column_half[j] - here * scale - column_slack[j])
                    column_needs[j] = max(column_needs[j], lower)
            start += _GLANCE


@njit(cache=True, nogil=True)
def candidates(x, y, there, back, distance, lines, corner, side, across, down, begins, members):
    """Pairs (i, j) of points x and y that lie within `distance` of where the other is mapped, in both pictures.

    there, back: of each y in the picture of x, and of each x in that of y, a point, or the line a x + b y + c = 0 where
    `lines`. The grid of x: cells of `side` from `corner`, `members[begins[k] : begins[k + 1]]` of cell k.
    """
    rows, columns, count = np.empty(1024, np.int64), np.empty(1024, np.int64), 0
    for j in range(len(y)):
        guide = there[j]
        if not np.isfinite(guide).all():
            continue
        # Strips of cells: columns of them where the line is rather level, else rows.
        level = not lines or abs(guide[1]) >= abs(guide[0])
        along, beside = (0, 1) if level else (1, 0)
        strips, cells = (across, down) if level else (down, across)
        first, last = 0, strips - 1
        if not lines:
            first, last = _span(guide[0] - distance, guide[0] + distance, corner[0], side, strips)
        for strip in range(first, last + 1):
            if lines:
                start = corner[along] + strip * side
                low = -(guide[along] * start + guide[2]) / guide[beside]
                high = -(guide[along] * (start + side) + guide[2]) / guide[beside]
                reach = distance / abs(guide[beside])
                low, high = min(low, high) - reach, max(low, high) + reach
            else:
                low, high = guide[1] - distance, guide[1] + distance
            nearest, furthest = _span(low, high, corner[beside], side, cells)
            for place in range(nearest, furthest + 1):
                cell = place * across + strip if level else strip * across + place
                for k in range(begins[cell], begins[cell + 1]):
                    i = members[k]
                    if _misses(guide, x[i], distance, lines) or _misses(back[i], y[j], distance, lines):
                        continue
                    if count == len(rows):
                        rows, columns = np.append(rows, rows), np.append(columns, columns)
                    rows[count], columns[count] = i, j
                    count += 1
    return rows[:count].copy(), columns[:count].copy()


@njit(cache=True, nogil=True)
def _span(low, high, corner, side, cells):
    """First and last of the cells from low to high, and those that rounding may have moved them from."""
    first = min(max((low - corner) / side - 1e-6, 0.0), float(cells))
    last = min(max((high - corner) / side + 1e-6, -1.0), cells - 1.0)
    return int(np.floor(first)), int(np.floor(last))


@njit(cache=True, nogil=True)
def _misses(guide, point, distance, lines):
    """Whether a point lies further from a point or line than `distance`, or nobody knows."""
    if lines:
        return not abs(guide[0] * point[0] + guide[1] * point[1] + guide[2]) <= distance
    return not (guide[0] - point[0]) ** 2 + (guide[1] - point[1]) ** 2 <= distance**2


@njit(cache=True, nogil=True)
def bits_of_pairs(a, b, rows, columns):
    """Hamming distances of pairs of rows of words."""
    found = np.empty(len(rows), np.float64)
    for k in range(len(rows)):
        found[k] = bits_apart(a, rows[k], b, columns[k])
    return found


@njit(cache=True, nogil=True)
def costs_of_pairs(a, b, a_power, b_power, cosine, rows, columns):
    """Squared distances, or 1 - cosine, of pairs of rows."""
    found = np.empty(len(rows), np.float64)
    for k in range(len(rows)):
        found[k] = _cost(a, rows[k], b, columns[k], a_power, b_power, cosine)
    return found


@njit(cache=True, nogil=True)
def keep_best(rows, columns, costs, best, cost, second, column_best, column_cost):
    """Takes pairs, their columns never falling, into the best and second of rows and the best of columns.

    Equal ones go to the lowest index.
    """
    for k in range(len(rows)):
        i, j, here = rows[k], columns[k], costs[k]
        if here < cost[i]:
            best[i], cost[i], second[i] = j, here, cost[i]
        elif here < second[i]:
            second[i] = here
        if here < column_cost[j] or (here == column_cost[j] and i < column_best[j]):
            column_best[j], column_cost[j] = i, here
