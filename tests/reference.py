"""Slow, obvious twins of the kernels."""

from __future__ import annotations

import itertools

import numpy as np

# Resampling


def polyphase(values, taps, origins, advance, first, periods):
    """Twin of avfuse._kernels.resampling.polyphase."""
    found = np.empty((len(values), periods * len(taps) * 4))
    for c, row in enumerate(values.astype(np.float64)):
        for k in range(found.shape[1]):
            p, rest = divmod(k, len(taps) * 4)
            g, r = divmod(rest, 4)
            at = first + p * advance + origins[g]
            found[c, k] = np.dot(taps[g, r], row[at : at + taps.shape[2]])
    return found


def interpolated(values, taps, starts, phases, weights):
    """Twin of avfuse._kernels.resampling.interpolated."""
    found = np.empty((len(values), len(starts)))
    for k, (start, phase, weight) in enumerate(zip(starts, phases, weights, strict=True)):
        row = (1 - weight) * taps[phase].astype(np.float64) + weight * taps[phase + 1]
        found[:, k] = values[:, start : start + taps.shape[1]] @ row
    return found


# --- rendering -------------------------------------------------------------------------------------------------------


def locate(times, origin, rate, skipped, n, taps, phases):
    """Where each time lies in a sound padded with `taps` zeros, as (start, row, weight), one at a time."""
    found = []
    for time in times:
        position = (time - origin) * rate - skipped
        if np.isnan(position) or not -taps / 2 < position < n - 1 + taps / 2:
            found.append((0, 0, 0.0))
            continue
        whole = int(np.floor(position))
        row = min(int((position - whole) * phases), phases - 1)
        # The filter's first sample is taps/2 - 1 before `whole`, and the zeros push everything back by taps.
        found.append((whole - (taps // 2 - 1) + taps, row, (position - whole) * phases - row))
    starts, rows, weights = zip(*found, strict=True) if found else ((), (), ())
    return np.array(starts, np.int64), np.array(rows, np.int64), np.array(weights, np.float64)


def sinc_value(samples, position, taps, beta):
    """The Kaiser-windowed sinc interpolation of `samples` (zero outside) at one fractional index."""
    total = 0.0
    for k in range(int(np.floor(position)) - taps // 2 + 1, int(np.floor(position)) + taps // 2 + 1):
        if 0 <= k < len(samples):
            edge = 1.0 - ((position - k) / (taps / 2)) ** 2
            window = np.i0(beta * np.sqrt(max(edge, 0.0))) / np.i0(beta)
            total += samples[k] * np.sinc(position - k) * window
    return total


# avfuse._kernels.simulation


def interpolate_at(values, positions, table):
    """One position and one tap at a time; weights between two rows of the table are mixed first."""
    phases, taps = table.shape[0] - 1, table.shape[1]
    out = np.zeros(len(positions))
    for m, position in enumerate(positions):
        if np.isnan(position):
            continue
        whole = int(np.floor(position))
        row, share = divmod((position - whole) * phases, 1.0)
        row = int(row)
        for k in range(taps):
            j = whole - taps // 2 + 1 + k
            if 0 <= j < len(values):
                out[m] += values[j] * ((1.0 - share) * table[row, k] + share * table[row + 1, k])
    return out


def pulses(n, positions, heights, table):
    """The interpolation's transpose: what a sample at a fractional place gives to every whole one."""
    out = np.zeros(n)
    for position, height in zip(positions, heights, strict=True):
        for j in range(n):
            unit = np.zeros(n)
            unit[j] = 1.0
            out[j] += height * interpolate_at(unit, [position], table)[0]
    return out


def image_sources(size, source, receiver, reflection, rate, speed, lead, n, table):
    """Every image within reach, mirrored wall by wall: unfold a coordinate until it lies in image room k."""
    reach = (n - lead) / rate * speed

    def mirrored(axis):
        """(coordinate, hits on the near wall, hits on the far wall) of all images along one axis."""
        for room in range(-9, 10):
            # Image room k holds the source upright where k is even, mirrored where it is odd.
            inside = source[axis] if room % 2 == 0 else size[axis] - source[axis]
            hits = abs(room)
            near_first = room < 0
            first, second = (hits + 1) // 2, hits // 2
            near, far = (first, second) if near_first else (second, first)
            yield room * size[axis] + inside, near, far

    bands = reflection.shape[1]
    out = np.zeros((bands, n))
    for x, x0, x1 in mirrored(0):
        for y, y0, y1 in mirrored(1):
            for z, z0, z1 in mirrored(2):
                distance = np.linalg.norm([x - receiver[0], y - receiver[1], z - receiver[2]])
                if distance > reach:
                    continue
                for b in range(bands):
                    gain = np.prod(reflection[:, b] ** np.array([x0, x1, y0, y1, z0, z1])) / distance
                    out[b] += pulses(n, [distance / speed * rate + lead], [gain], table)
    return out


def damped_sines(n, rate, onsets, frequencies, amplitudes, attacks, decays, phases):
    out = np.zeros(n)
    for onset, frequency, amplitude, attack, decay, phase in zip(
        onsets, frequencies, amplitudes, attacks, decays, phases, strict=True
    ):
        t = np.arange(n) / rate - onset
        on = (t >= 0.0) & (t < 8.0 * decay)
        t = np.where(on, t, 0.0)
        envelope = np.exp(-t / decay) - np.exp(-t / attack)
        out += on * amplitude * envelope * np.sin(2.0 * np.pi * frequency * t + phase)
    return out


def voice(noise, rate, hop, pitch, voicing, breath, hiss, hiss_frequency, formants, bandwidths):
    """Excitation first, then one resonator after the other over the whole sound."""
    n = len(noise)
    at = np.arange(n) / hop
    frames = np.arange(len(pitch))
    f0, level, air, blow = (np.interp(at, frames, track) for track in (pitch, voicing, breath, hiss))
    phase = np.cumsum(f0) / rate % 1.0
    pulse = np.where(phase < 0.6, 1.2 * phase - 3.0 * phase**2, 0.0)
    frame = np.arange(n) // hop

    def resonate(x, frequency, width, *, cascade):
        c = -np.exp(-2.0 * np.pi * width / rate)
        b = 2.0 * np.exp(-np.pi * width / rate) * np.cos(2.0 * np.pi * frequency / rate)
        a = 1.0 - b - c if cascade else 1.0 + c
        y = np.zeros(n + 2)
        for i in range(n):
            y[i + 2] = a[i] * x[i] + b[i] * y[i + 1] + c[i] * y[i]
        return y[2:]

    y = level * pulse + air * noise
    for q, width in enumerate(bandwidths):
        y = resonate(y, formants[frame, q], np.full(n, width), cascade=True)
    return y + resonate(blow * noise, hiss_frequency[frame], 0.35 * hiss_frequency[frame], cascade=False)


def control_gain(values, target, most, rise, fall):
    out, level = [], target / most
    for value in np.asarray(values, float):
        step = rise if abs(value) > level else fall
        level = (1.0 - step) * level + step * abs(value)
        out.append(value * min(most, target / max(level, 1e-12)))
    return np.array(out)


# --- sound


def _turned(x, y, late):
    """x conj(y), every frame advanced by `late` samples: `(frames, bins)`."""
    at = np.pi * np.arange(x.shape[1]) / (x.shape[1] - 1)
    return x.astype(np.complex128) * np.conj(y.astype(np.complex128)) * np.exp(-1j * np.outer(late, at))


def cross_groups(x, y, late, group, groups):
    """Twin of avfuse._kernels.sound.cross_groups."""
    product = _turned(x, y, late)
    size = np.abs(product)
    usual = np.sqrt(size).mean(axis=0)
    phat = np.zeros((groups, x.shape[1]), np.complex128)
    cross = np.zeros_like(phat)
    power_x, power_y = np.zeros(phat.shape), np.zeros(phat.shape)
    for k, g in enumerate(group):
        cross[g] += product[k]
        power_x[g] += np.abs(x[k].astype(np.complex128)) ** 2
        power_y[g] += np.abs(y[k].astype(np.complex128)) ** 2
        for b in np.flatnonzero(size[k]):
            phat[g, b] += product[k, b] / size[k, b] * min(np.sqrt(size[k, b]) / usual[b], 4.0)
    return phat, cross, power_x, power_y


def slant_stack(spectra, lateness, first_slope, gap, count):
    """Twin of avfuse._kernels.sound.slant_stack."""
    at = np.pi * np.arange(spectra.shape[1]) / (spectra.shape[1] - 1)
    slopes = first_slope + gap * np.arange(count)
    return np.array([(spectra * np.exp(1j * np.outer(slope * lateness, at))).sum(axis=0) for slope in slopes])


def _rises(levels, keep):
    """What each level, `(frames, ...)`, exceeds its running mean of the past by, within 0 .. 3; the first by 0."""
    past, found = levels[0], []
    for level in levels:
        found.append(np.clip(level - past, 0.0, 3.0))
        past = keep * past + (1 - keep) * level
    return np.array(found)


def onset_groups(x, y, late, keep, group, groups):
    """Twin of avfuse._kernels.sound.onset_groups."""
    bins = x.shape[1]
    product = _turned(x, y, late)
    phase = np.divide(product, np.abs(product), out=np.zeros_like(product), where=product != 0)
    broad, fine = np.ones(len(x)), np.ones(x.shape)
    for spectra in (x, y):
        power = np.abs(spectra.astype(np.complex128)) ** 2
        around = np.stack([power[:, max(b - 4, 0) : b + 5].mean(axis=1) for b in range(bins)], axis=1)
        broad *= _rises(np.log(power.sum(axis=1) + 1e-9), keep)
        fine *= _rises(np.log(around + 1e-9), keep)
    fine *= phase != 0
    sums = [np.zeros((groups, bins), kind) for kind in (np.complex128, np.float64, np.float64)]
    for total, values in zip(sums, (fine * phase, fine, fine**2), strict=True):
        np.add.at(total, group, values)
    return phase.sum(axis=0), (broad[:, None] * phase).sum(axis=0), *sums


def triangle_powers(spectra, interval, rise, bands):
    """Twin of avfuse._kernels.sound.triangle_powers."""
    weights = np.zeros((spectra.shape[1], bands + 2))
    for b, j in enumerate(interval):
        if j >= 0:
            weights[b, j + 1] += rise[b]
            weights[b, j] += 1 - rise[b]
    return (np.abs(spectra.astype(np.complex128)) ** 2 @ weights)[:, 1:-1]


def lag_products(reference, moving, first, lags, block):
    out = np.zeros((len(first), lags))
    for k, start in enumerate(first):
        for f in range(k * block, min((k + 1) * block, len(moving))):
            for lag in range(lags):
                at = f + start + lag
                if 0 <= at < len(reference):
                    out[k, lag] += float(np.dot(reference[at], moving[f]))
    return out


def path_value(scores, moved, steps, step_cost, jump_cost, path):
    """What a path of columns is worth."""
    total = float(scores[0, path[0]])
    for g in range(1, len(scores)):
        step = path[g] - (path[g - 1] - moved[g])
        total += float(scores[g, path[g]]) - min(step_cost * abs(step) if abs(step) <= steps else np.inf, jump_cost)
    return total


def best_path_value(scores, moved, steps, step_cost, jump_cost):
    """The largest value of any path, by trying every one."""
    return max(
        path_value(scores, moved, steps, step_cost, jump_cost, path)
        for path in itertools.product(range(scores.shape[1]), repeat=len(scores))
    )


# avfuse._kernels.warp


def local_costs(x, y, rooted):
    """Costs of all cells of (n, dims) frames, summed in float32 in the order of the dimensions."""
    found = np.empty((len(x), len(y)), np.float32)
    for i, a in enumerate(np.asarray(x, np.float32)):
        for j, b in enumerate(np.asarray(y, np.float32)):
            total = np.float32(0)
            for p, q in zip(a, b, strict=True):
                total = np.float32(total + np.float32(p - q) * np.float32(p - q))
            found[i, j] = np.sqrt(total) if rooted else np.float32(0.5) * total
    return found


def warp_path(costs, limited, weights, free, allowed=None):
    """The whole matrix, cell by cell: cost of the cheapest path and its cells, or (inf, None)."""
    rows, columns = costs.shape
    moves = ((1, 1), (2, 1), (1, 2)) if limited else ((1, 1), (1, 0), (0, 1))
    total, came = np.full((rows, columns), np.inf), {}
    for i in range(rows):
        for j in range(columns):
            if allowed is not None and not allowed[i, j]:
                continue
            c = float(costs[i, j])
            if i == 0 and (free or j == 0):
                total[i, j], came[i, j] = weights[0] * c, None
            for (di, dj), weight in zip(moves, weights, strict=True):
                if i >= di and j >= dj and total[i - di, j - dj] + weight * c < total[i, j]:
                    total[i, j], came[i, j] = total[i - di, j - dj] + weight * c, (i - di, j - dj)
    cell = (rows - 1, int(np.argmin(total[-1])) if free else columns - 1)
    if not np.isfinite(total[cell]):
        return np.inf, None
    path, cost = [], float(total[cell])
    while cell is not None:
        path.append(cell)
        cell = came[cell]
    return cost, np.array(path[::-1])


def follow_peaks(values, state, keep, floor):
    """One row after the other."""
    rows, held = [], state
    for row in values:
        held = np.maximum(np.maximum(row, keep * held), floor)
        rows.append(held)
    return np.array(rows, np.float32).reshape(values.shape)


def windowed_distances(x, y, shifts, centres, half):
    """One window of one shift at a time."""
    n = x.shape[1]
    least = np.full(len(centres), np.inf)
    for w, centre in enumerate(centres):
        for shift in shifts:
            frames = [k for k in range(centre - half, centre + half + 1) if 0 <= k < n and 0 <= k + shift < n]
            if len(frames) > half:
                squares = [float(((x[:, k + shift].astype(float) - y[:, k]) ** 2).sum()) for k in frames]
                least[w] = min(least[w], np.mean(squares))
    return least


def chain_path(scores, columns, skips, loose):
    """The path of the highest sum through a chain of states, from the whole matrix; None where there is none.

    Equal sums: stay, else one on, else two on; of the two possible last states the earlier one.
    """
    frames, states = len(scores), len(columns)
    sums = np.full((frames, states), -np.inf, scores.dtype)
    steps = np.zeros((frames, states), int)
    sums[0, 0] = scores[0, columns[0]]
    if loose and states > 1:
        sums[0, 1] = scores[0, columns[1]]
    for t in range(1, frames):
        for s in range(states):
            ways = [sums[t - 1, s]]
            ways.append(sums[t - 1, s - 1] if s >= 1 else -np.inf)
            ways.append(sums[t - 1, s - 2] + skips[s] if s >= 2 else -np.inf)
            steps[t, s] = int(np.argmax(ways))
            sums[t, s] = ways[steps[t, s]] + scores[t, columns[s]]
    state = states - 1
    if loose and states > 1 and sums[-1, -2] >= sums[-1, -1]:
        state = states - 2
    if sums[-1, state] == -np.inf:
        return -np.inf, None
    total, path = sums[-1, state], [state]
    for t in range(frames - 1, 0, -1):
        state -= steps[t, state]
        path.append(state)
    return float(total), np.array(path[::-1])


# Picture


def lit_residuals(times, rows, first, last, onsets, readout, exposure, lasting):
    """Shares of light row by row, and a least squares fit of the light's two ends."""
    height = rows.shape[1]
    found = []
    for a, b, onset in zip(first, last, onsets, strict=True):
        design, values = [], []
        for k in range(a, b):
            for r in range(height):
                down = (r + 0.5) / height
                middle = times[k] + (down - 0.5) * readout
                overlap = min(onset + lasting, middle + exposure / 2) - max(onset, middle - exposure / 2)
                share = max(overlap, 0.0) / min(exposure, lasting)
                design.append([share * (1 - down), share * down])
                values.append(rows[k, r])
        design, values = np.array(design), np.array(values)
        ends = np.zeros(2)
        if np.linalg.matrix_rank(design) == 2:
            ends = np.linalg.lstsq(design, values, rcond=None)[0]
        if np.any(ends <= 0):
            both = design.sum(axis=1)
            ends = np.full(2, max(0.0, both @ values / max(both @ both, 1e-300)))
        found.append(float(np.sum((values - design @ ends) ** 2)))
    return np.array(found)


def block_means(image, top, left, block, step, rows, columns):
    """Square by square."""
    found = np.empty((rows, columns))
    for r in range(rows):
        for c in range(columns):
            y, x = top + r * block, left + c * block
            found[r, c] = np.floor(image[y : y + block : step, x : x + block].mean() + 0.5)
    return found


def lost_velocity(back, ahead, shake, image, before, after, earlier, later, still, texture, cell):
    """Whole pictures at once, gradients by OpenCV."""
    import cv2

    back, ahead = back.astype(float) - shake[:2], ahead.astype(float) - shake[2:]
    far = np.linalg.norm(back, axis=2)
    along = (ahead * back).sum(axis=2) / (far + 1e-6)
    size = np.maximum(far / earlier + along / later - still / earlier - still / later, 0.0)
    across, down = (cv2.Sobel(image, cv2.CV_64F, *axes, scale=0.125) for axes in ((1, 0), (0, 1)))
    now = image.astype(float)
    differs = np.abs(now - before) + np.abs(now - after)
    size *= np.minimum((np.abs(across) + np.abs(down)) * differs / texture**2, 1.0)
    rows, columns = image.shape[0] // cell, image.shape[1] // cell
    return size[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).mean(axis=(1, 3))


# avfuse._kernels.matching


def descriptor_costs(a, b, metric):
    """Every distance, L2 squared, `(n, m)`; float sums are eight, of every eighth number."""
    if metric == "hamming":
        return np.unpackbits(a[:, None] ^ b[None], axis=-1).sum(axis=-1).astype(np.float64)
    a, b = a.astype(np.float64), b.astype(np.float64)

    def summed(terms):
        s = np.zeros((8, *terms[0].shape))
        for k, term in enumerate(terms):
            s[k % 8] += term
        return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))

    if metric == "l2":
        return summed([(a[:, k, None] - b[None, :, k]) ** 2 for k in range(a.shape[1])])
    inner = summed([a[:, k, None] * b[None, :, k] for k in range(a.shape[1])])
    powers = [summed([x[:, k] * x[:, k] for k in range(x.shape[1])]) for x in (a, b)]
    return np.maximum(0.0, 1.0 - inner / np.sqrt(powers[0][:, None] * powers[1][None]))


def matches(a, b, metric, ratio, mutual, allowed=None):
    """Pairs and distances of match_descriptors and, with a mask `(n, m)` of allowed pairs, match_guided."""
    costs = descriptor_costs(a, b, metric)
    if allowed is not None:
        costs = np.where(allowed, costs, np.inf)
    pairs, distances = [], []
    for i in range(len(a)):
        j = int(np.argmin(costs[i]))
        others = np.delete(costs[i], j)
        near, second = costs[i, j], others.min() if others.size else np.inf
        if metric == "l2":
            near, second = np.sqrt(near), np.sqrt(second)
        if np.isinf(near) or (ratio is not None and not near < ratio * second):
            continue
        if mutual and int(np.argmin(costs[:, j])) != i:
            continue
        pairs.append((i, j))
        distances.append(near)
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(distances, np.float64)


def guided_pairs(geometry, x, y, distance):
    """Mask `(n, m)` of points x and y within a distance of where `geometry` takes the other, in both pictures."""
    there, back = geometry(y), geometry.inverse()(x)
    with np.errstate(invalid="ignore"):
        if there.shape[1] == 3:
            ahead = abs(x @ there[:, :2].T + there[:, 2]) <= distance
            return ahead & (abs(back[:, :2] @ y.T + back[:, 2:]) <= distance)
        ahead = ((x[:, None] - there[None]) ** 2).sum(axis=-1) <= distance**2
        return ahead & (((back[:, None] - y[None]) ** 2).sum(axis=-1) <= distance**2)


# Information


def joint_moments(rows, image, positions, bins):
    """Point by point: the grey where it lies, and the powers of its part above a whole step."""
    height, width = image.shape
    found = np.zeros((bins, bins, 4))
    for row, (x, y) in zip(rows, np.asarray(positions, np.float64), strict=True):
        if row >= bins or not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        c, r = min(int(x), width - 2), min(int(y), height - 2)
        u, v = x - c, y - r
        corners = image[r : r + 2, c : c + 2].astype(np.float64)
        grey = np.array([1 - v, v]) @ corners @ np.array([1 - u, u])
        found[row, int(grey)] += (grey - int(grey)) ** np.arange(4)
    return found


def spread_moments(moments, spline):
    """Each cell's weights of the four columns about its grey."""
    bins = len(moments)
    made = np.zeros((bins, bins + 3))
    for j in range(4):
        made[:, j : j + bins] += moments @ spline[j]
    return made[:, :-1]


def entropies(histogram):
    share = histogram / max(histogram.sum(), 1e-300)
    return tuple(-float(np.sum(p * np.log(np.where(p > 0, p, 1)))) for p in (share.sum(1), share.sum(0), share))


def position_slopes(rows, image, positions, polynomials):
    """The chain rule, point by point."""
    height, width = image.shape
    bins = len(polynomials)
    found = np.zeros((len(rows), 2))
    for i, (row, (x, y)) in enumerate(zip(rows, np.asarray(positions, np.float64), strict=True)):
        if row >= bins or not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        c, r = min(int(x), width - 2), min(int(y), height - 2)
        u, v = x - c, y - r
        corners = image[r : r + 2, c : c + 2].astype(np.float64)
        grey = np.array([1 - v, v]) @ corners @ np.array([1 - u, u])
        change = polynomials[row, int(grey)] @ (grey - int(grey)) ** np.arange(3)
        found[i] = change * np.array([[1 - v, v] @ corners @ [-1, 1], [-1, 1] @ corners @ [1 - u, u]])
    return found


# --- avfuse._kernels.robust and its estimators ------------------------------------------------------------------------


def xorshift(state):
    """The next number of [0, 1) and state, with Python's own integers."""
    mask = 2**64 - 1
    state ^= (state << 13) & mask
    state ^= state >> 7
    state ^= (state << 17) & mask
    return (state >> 11) / 2**53, state


def summed_loss(squared, threshold2, losses):
    """Truncated squares, or a loss interpolated between its tabulated values."""
    u = np.minimum(squared / threshold2, 1.0)
    if len(losses) == 0:
        return float(u.sum())
    return float(np.interp(u, np.linspace(0, 1, len(losses)), losses).sum())


def mapped_distances(matrix, data):
    """Squared distances of columns (reference, moving) from a matrix on homogeneous coordinates; none behind."""
    d = len(data) // 2
    x = np.vstack([data[d:], np.ones(data.shape[1])])
    y = np.asarray(matrix) @ x
    squared = np.sum((y[:d] / y[d] - data[:d]) ** 2, axis=0)
    return np.where(y[d] > 1e-12, squared, 1e30)


def sampson_distances(matrix, data):
    """Squared Sampson distances, each picture's share by the squared size of its pixel."""
    found = []
    for u, v, x, y, s, t in data.T:
        ref, mov = np.array([u, v, 1.0]), np.array([x, y, 1.0])
        line, back = matrix @ mov, matrix.T @ ref
        found.append((ref @ line) ** 2 / (s * (line[:2] @ line[:2]) + t * (back[:2] @ back[:2])))
    return np.array(found)


def ray_distances(matrix, rotation, translation, data):
    """Squared Sampson distances, and how far points lie beyond the part of the line that both cameras have before
    them: by the depths z_ref, z_mov of z_ref x_ref = z_mov R x_mov + t that come nearest to it."""
    found = []
    for (u, v, x, y, s, t), line in zip(data.T, sampson_distances(matrix, data), strict=True):
        ref, mov = np.array([u, v, 1.0]), np.array([x, y, 1.0])
        z_ref, z_mov = np.linalg.lstsq(np.stack([ref, -rotation @ mov], axis=1), translation, rcond=None)[0]
        ends = {
            (True, True): 0.0,
            (False, False): seen_apart(ref, rotation @ mov) / (s + t),
            (True, False): seen_apart(ref, translation) / s,
            (False, True): seen_apart(mov, rotation.T @ translation) / t,
        }
        found.append(line + ends[bool(z_ref >= 0), bool(z_mov >= 0)])
    return np.array(found)


def seen_apart(one, other):
    """Squared distance of two rays on the plane one unit in front."""
    return float(np.sum((one[:2] / one[2] - other[:2] / other[2]) ** 2))


def projected_distances(pose, data):
    """Squared distances in pixels of points seen by a pose [R | t]; none behind."""
    found = []
    for u, v, x, y, z, a, b, c, d in data.T:
        there = pose @ np.array([x, y, z, 1.0])
        off = np.array([[a, b], [c, d]]) @ (there[:2] / there[2] - np.array([u, v]))
        found.append(off @ off if there[2] > 1e-12 else 1e30)
    return np.array(found)


# Registration


def keys(t):
    """Keys's cubic kernel with a = -1/2."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def seen_through(image, matrix, height, width):
    """Pixel by pixel, by the kernel's definition; the image's edge goes on outside it."""
    rows, columns = image.shape
    out = np.full((height, width), np.nan)
    for r in range(height):
        for k in range(width):
            place = matrix @ np.array([k, r, 1.0])
            x, y = place[:2] / place[2] if place[2] > 0 else (np.nan, np.nan)
            if not (-1e-6 <= x <= columns - 1 + 1e-6 and -1e-6 <= y <= rows - 1 + 1e-6):
                continue
            i, j = min(max(int(y), 0), rows - 2), min(max(int(x), 0), columns - 2)
            out[r, k] = sum(
                keys(y - q) * keys(x - p) * float(image[min(max(q, 0), rows - 1), min(max(p, 0), columns - 1)])
                for q in range(i - 1, i + 3)
                for p in range(j - 1, j + 3)
            )
    return out


def gradient_moments(own, seen, inside, scale):
    """Sums over pixels, one at a time."""
    channels, height, width = own.shape
    squares, pulls = np.zeros((3, 5, 5)), np.zeros((2, 3, 3))
    mean, left = (own.astype(float) + seen) / 2, own.astype(float) - seen
    unit = max(height, width) / 2
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            v, u = (y - (height - 1) / 2) / unit, (x - (width - 1) / 2) / unit
            weight = inside[y, x] / (1 + np.sum(left[:, y, x] ** 2) / scale) ** 2
            for c in range(channels):
                gx = (mean[c, y, x + 1] - mean[c, y, x - 1]) / 2
                gy = (mean[c, y + 1, x] - mean[c, y - 1, x]) / 2
                for i in range(5):
                    for j in range(5 - i):
                        squares[:, i, j] += weight * np.array([gx * gx, gx * gy, gy * gy]) * v**i * u**j
                for i in range(3):
                    for j in range(3 - i):
                        pulls[:, i, j] += weight * left[c, y, x] * np.array([gx, gy]) * v**i * u**j
    return squares, pulls


def lag_sums(correlations: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Every pair's correlation at the lag of every direction, in 1/256 of a lag, added up."""
    lags = np.arange(correlations.shape[1])
    each = [np.interp(at / 256, lags, row) for at, row in zip(table, correlations, strict=True)]
    return np.sum(each, axis=0).astype(np.float32) if each else np.zeros(table.shape[1], np.float32)


def fits_of_directions(whitened: np.ndarray, steering: np.ndarray) -> np.ndarray:
    """|a^H z|^2 / channels^2 of every moment and frequency."""
    turned = np.einsum("mb,mkb->kb", steering.conj().astype(np.complex128), whitened)
    return (np.abs(turned) ** 2 / len(whitened) ** 2).astype(np.float32)


# --- points ----------------------------------------------------------------------------------------------------------


def lzf_unpacked(packed, size):
    """Twin of avfuse._kernels.points.lzf_unpack, of whole data: bytes that were packed."""
    out = bytearray()
    data = list(packed)
    while data:
        control = data.pop(0)
        if control < 32:
            out += bytes(data[: control + 1])
            del data[: control + 1]
            continue
        length = control >> 5
        if length == 7:
            length += data.pop(0)
        back = ((control & 31) << 8) + data.pop(0) + 1
        for _ in range(length + 2):
            out.append(out[-back])
    assert len(out) == size
    return bytes(out)


def voxel_means(points, size, origin):
    """Twin of avfuse._kernels.points.voxel_means."""
    cubes = {}
    for point in points:
        key = tuple(int(v) for v in (point - origin) * (1 / size))
        cubes.setdefault(key, []).append(point)
    return np.array([np.mean(members, axis=0) for members in cubes.values()])


def nearest_points(points, queries, limit):
    """Twin of avfuse._kernels.kd_tree.kd_nearest: squared distances, infinite beyond the root of `limit`."""
    squared = ((queries[:, None] - points) ** 2).sum(axis=2).min(axis=1)
    return np.where(squared < limit, squared, np.inf)


def neighbour_planes(points, k):
    """Twin of avfuse._kernels.kd_tree.kd_normals: eigenvalues, rising, and axes of each point's k nearest."""
    found = []
    for point in points:
        near = points[np.argsort(((points - point) ** 2).sum(axis=1), kind="stable")[:k]]
        found.append(np.linalg.eigh(np.cov(near.T, bias=True)))
    return found


def plane_terms(points, normals, moved, turned, match, weight, thin):
    """Twin of avfuse._kernels.points.plane_terms, in one part."""
    total, gradient, hessian = 0.0, np.zeros(6), np.zeros((6, 6))
    for y, m, k, w in zip(moved, turned, match, weight, strict=True):
        if k < 0:
            continue
        n = normals[k]
        if thin > 0:
            flat = 1 - thin
            mass = np.linalg.inv(2 * np.eye(3) - flat * (np.outer(n, n) + np.outer(m, m)))
        else:
            mass = np.outer(n, n)
        cross = np.array([[0, -y[2], y[1]], [y[2], 0, -y[0]], [-y[1], y[0], 0]])
        jacobian = np.hstack([-cross, np.eye(3)])
        r = points[k] - y
        total += w * r @ mass @ r
        gradient += w * jacobian.T @ mass @ r
        hessian += w * jacobian.T @ mass @ jacobian
    return total, gradient, hessian


def pair_weights(points, normals, trust, moved, own, match, squared, limit, usual):
    """Twin of avfuse._kernels.points.pair_weights."""
    found = []
    for y, mine, k, d2 in zip(moved, own, match, squared, strict=True):
        if k < 0:
            found.append(0.0)
            continue
        across = (points[k] - y) @ normals[k]
        found.append((1 - d2 / limit) ** 2 * trust[k] * mine / (1 + (across / usual) ** 2 if usual > 0 else 1))
    return np.array(found)


# avfuse._kernels.ranging, avfuse._kernels.visibility


def cast(origin, directions, corners, sides):
    """Every ray against every rectangle, the plane's equation solved for three unknowns at once."""
    which, far, at = np.full(len(directions), -1), np.full(len(directions), np.inf), np.zeros((len(directions), 2))
    for i, direction in enumerate(directions):
        for k in range(len(corners)):
            # origin + t d = corner + u a + v b
            system = np.stack([sides[k, 0], sides[k, 1], -direction], axis=1)
            if abs(np.linalg.det(system)) < 1e-12:
                continue
            u, v, t = np.linalg.solve(system, origin - corners[k])
            if 0 < t < far[i] and 0 <= u <= 1 and 0 <= v <= 1:
                which[i], far[i], at[i] = k, t, (u, v)
    return which, far, at


def pose_slopes(points, project, slopes, step=1e-6):
    """By differences: project(points, change) are pixels after a change (rotation vector, translation)."""
    found = np.zeros(6)
    for d in range(6):
        change = np.zeros(6)
        change[d] = step
        found[d] = np.nansum(slopes * (project(points, change) - project(points, -change))) / (2 * step)
    return found


def _neighbours(i, positions, depths, cell, columns, rows, reach):
    """The nearest point of each cell about point i, the first one of equal depth."""
    cells = {}
    for j, (x, y) in enumerate(positions):
        if 0 <= x < cell * columns and 0 <= y < cell * rows:
            key = int(x / cell), int(y / cell)
            if key not in cells or depths[j] < depths[cells[key]]:
                cells[key] = j
    c, r = (int(v / cell) for v in positions[i])
    return [j for (a, b), j in cells.items() if max(abs(a - c), abs(b - r)) <= reach]


def _eighth(dx, dy):
    angle = np.arctan2(dy, dx) % (2 * np.pi)
    return int(angle // (np.pi / 4)) % 8


def visible(positions, depths, cell, columns, rows, reach, nearer):
    found = np.zeros(len(positions), bool)
    for i, (x, y) in enumerate(positions):
        if not (0 <= x < cell * columns and 0 <= y < cell * rows):
            continue
        beside = _neighbours(i, positions, depths, cell, columns, rows, reach)
        full = {_eighth(*(positions[j] - positions[i])) for j in beside if depths[j] < depths[i] * (1 - nearer)}
        found[i] = any(not full & {(k + n) % 8 for n in range(3)} for k in range(8))
    return found


def standing_out(positions, depths, cell, columns, rows, reach):
    found, behind = np.zeros(len(positions)), np.arange(len(positions))
    for i, (x, y) in enumerate(positions):
        if not (0 <= x < cell * columns and 0 <= y < cell * rows):
            continue
        nearest = {}
        for j in sorted(_neighbours(i, positions, depths, cell, columns, rows, reach)):
            away = np.hypot(*(positions[j] - positions[i]))
            k = _eighth(*(positions[j] - positions[i]))
            if away > 0 and (k not in nearest or away < nearest[k][0]):
                nearest[k] = away, j
        for k in range(4):
            if k in nearest and k + 4 in nearest:
                (a, i_a), (b, i_b) = nearest[k], nearest[k + 4]
                line = np.interp(0, [-a, b], [1 / depths[i_a], 1 / depths[i_b]])
                if 1 - line * depths[i] > found[i]:
                    found[i] = 1 - line * depths[i]
                    behind[i] = i_a if depths[i_a] > depths[i_b] else i_b
    return found, behind


def plane_distances(points, normals, match, given, rotation, translation):
    """Twin of avfuse._kernels.points.plane_distances."""
    moved = given @ rotation.T + translation
    return np.where(match >= 0, np.abs(((points[match] - moved) * normals[match]).sum(axis=1)), np.inf)
