"""Pictures made small, and light that falls into rows which are read one after the other."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def block_means(image, top, left, block, step, rows, columns):
    """(rows, columns) uint8: means over squares of `block` pixels from (top, left).

    step: every so manieth of their rows is read.
    """
    out = np.empty((rows, columns), np.uint8)
    sums = np.empty(columns * block, np.uint32)
    height = (block + step - 1) // step
    half = height * block // 2
    for r in range(rows):
        sums[:] = 0
        for k in range(0, block, step):
            line = image[top + r * block + k]
            for c in range(columns * block):
                sums[c] += line[left + c]
        for c in range(columns):
            total = 0
            for k in range(block):
                total += sums[c * block + k]
            out[r, c] = (total + half) // (height * block)
    return out


@njit(cache=True, nogil=True)
def lost_velocity(back, ahead, shake, image, before, after, earlier, later, still, texture, cell):
    """(rows // cell, columns // cell) float32: velocity that is lost at a frame, mean over cells, pixels a second.

    back, ahead: (rows, columns, 2) float32 flow from `image` to the frames before and after it. shake: (4,) what of
    both is the camera's own: back across, down, ahead across, down. earlier, later: seconds to these frames. still:
    pixels by which flow errs where nothing moves. texture: brightness steps at which an edge that changes counts whole.
    """
    rows, columns = image.shape
    out = np.zeros((rows // cell, columns // cell), np.float32)
    quiet = still / earlier + still / later
    for r in range(rows // cell * cell):
        up, under = (r - 1 if r > 0 else 1), (r + 1 if r + 1 < rows else rows - 2)
        for c in range(columns // cell * cell):
            now = np.int32(image[r, c])
            differs = abs(now - np.int32(before[r, c])) + abs(now - np.int32(after[r, c]))
            if differs == 0:
                continue
            back_x, back_y = back[r, c, 0] - shake[0], back[r, c, 1] - shake[1]
            ahead_x, ahead_y = ahead[r, c, 0] - shake[2], ahead[r, c, 1] - shake[3]
            far = np.sqrt(back_x * back_x + back_y * back_y)
            # The change, as far as it goes against where it came from.
            along = (ahead_x * back_x + ahead_y * back_y) / (far + np.float32(1e-6))
            size = far / earlier + along / later - quiet
            if size <= 0.0:
                continue
            left, right = (c - 1 if c > 0 else 1), (c + 1 if c + 1 < columns else columns - 2)
            a, b, d = np.int32(image[up, left]), np.int32(image[up, c]), np.int32(image[up, right])
            e, g = np.int32(image[r, left]), np.int32(image[r, right])
            h, i, k = np.int32(image[under, left]), np.int32(image[under, c]), np.int32(image[under, right])
            # Sobel's gradients, an eighth of their sums: brightness steps a pixel.
            edges = (abs(d + 2 * g + k - a - 2 * e - h) + abs(h + 2 * i + k - a - 2 * b - d)) * 0.125
            out[r // cell, c // cell] += size * min(edges * differs / (texture * texture), 1.0)
    return out / np.float32(cell * cell)


@njit(cache=True, nogil=True)
def lit_residuals(times, rows, first, last, onsets, readout, exposure, lasting):
    """(events,): what flashes of a known beginning leave of the brightness that they added.

    times: (n,) of the middle of each frame. rows: (n, height) added brightness. first, last: (events,) range of
    frames. onsets: (events,) seconds at which light goes on. readout, exposure, lasting: seconds. How bright a flash
    is may change evenly from the first row to the last; both ends of that line are fitted.
    """
    events = len(onsets)
    height = rows.shape[1]
    out = np.empty(events)
    for e in range(events):
        total = 0.0
        a00 = a01 = a11 = b0 = b1 = 0.0
        for k in range(first[e], last[e]):
            for r in range(height):
                down = (r + 0.5) / height
                middle = times[k] + (down - 0.5) * readout
                begin = max(onsets[e], middle - 0.5 * exposure)
                end = min(onsets[e] + lasting, middle + 0.5 * exposure)
                share = max(0.0, end - begin) / min(exposure, lasting)
                value = rows[k, r]
                total += value * value
                top = share * (1.0 - down)
                low = share * down
                a00 += top * top
                a01 += top * low
                a11 += low * low
                b0 += top * value
                b1 += low * value
        det = a00 * a11 - a01 * a01
        x0 = x1 = 0.0
        if det > 1e-9 * a00 * a11:
            x0 = (a11 * b0 - a01 * b1) / det
            x1 = (a00 * b1 - a01 * b0) / det
        if x0 <= 0.0 or x1 <= 0.0:
            # One row alone tells of no line, and light adds: it takes nothing away.
            both = a00 + 2.0 * a01 + a11
            x0 = x1 = max(0.0, (b0 + b1) / both) if both > 0.0 else 0.0
        total -= 2.0 * (x0 * b0 + x1 * b1) - (a00 * x0 * x0 + 2.0 * a01 * x0 * x1 + a11 * x1 * x1)
        out[e] = max(total, 0.0)
    return out
