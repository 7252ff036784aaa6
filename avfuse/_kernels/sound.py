"""Loops of the sound estimators."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def triangle_powers(spectra, interval, rise, bands):
    """Power of each spectrum under triangles that share their edges: where one falls the next one rises.

    spectra: `(frames, bins)` complex64. interval: `(bins,)` triangle that rises at the bin, -1 where there is none;
    `bands` where only the last one falls. rise: `(bins,)` its height there. Returns `(frames, bands)` float32.
    """
    frames, bins = spectra.shape
    out = np.zeros((frames, bands), np.float32)
    for k in range(frames):
        for b in range(bins):
            j = interval[b]
            if j >= 0:
                power = spectra[k, b].real * spectra[k, b].real + spectra[k, b].imag * spectra[k, b].imag
                if j < bands:
                    out[k, j] += rise[b] * power
                if j > 0:
                    out[k, j - 1] += (np.float32(1.0) - rise[b]) * power
    return out


@njit(cache=True, nogil=True)
def cross_groups(x, y, late, group, groups):
    """Sums over groups of frames: whitened cross spectra, cross spectra and powers.

    Whitened: phases, weighted by the root of the product of both magnitudes against its mean in that bin, at
    most 4, so that moments with sound count more than pauses and no moment decides alone.

    x, y: `(frames, bins)` complex64 spectra. late: `(frames,)` samples by which y's frame was read too early.
    group: `(frames,)` index below `groups`. Bins are those of a real transform: bin b at pi * b / (bins - 1).
    """
    frames, bins = x.shape
    phat = np.zeros((groups, bins), np.complex64)
    cross = np.zeros((groups, bins), np.complex64)
    power_x = np.zeros((groups, bins), np.float32)
    power_y = np.zeros((groups, bins), np.float32)
    usual = np.zeros(bins, np.float32)
    for k in range(frames):
        for b in range(bins):
            u, v = x[k, b], y[k, b]
            m = (u.real * u.real + u.imag * u.imag) * (v.real * v.real + v.imag * v.imag)
            usual[b] += np.float32(np.sqrt(np.sqrt(m)))
    for b in range(bins):
        usual[b] /= frames
    for k in range(frames):
        g = group[k]
        step = np.exp(-1j * np.pi / (bins - 1) * late[k])
        turn = 1.0 + 0.0j
        for b in range(bins):
            u, v = x[k, b], y[k, b]
            pu = u.real * u.real + u.imag * u.imag
            pv = v.real * v.real + v.imag * v.imag
            p = np.complex64(u * np.conj(v) * turn)
            turn *= step
            power_x[g, b] += pu
            power_y[g, b] += pv
            cross[g, b] += p
            m = np.float32(np.sqrt(pu * pv))
            if m > 0.0:
                phat[g, b] += p * (min(np.float32(np.sqrt(m)) / usual[b], np.float32(4.0)) / m)
    return phat, cross, power_x, power_y


@njit(cache=True, nogil=True)
def slant_stack(spectra, lateness, first_slope, gap, count):
    """Sum of spectra, each first advanced by slope * lateness samples, for evenly spaced slopes.

    spectra: `(groups, bins)` complex64; lateness: `(groups,)`; slopes first_slope + gap * s for s below count.
    Returns `(count, bins)` complex64.
    """
    groups, bins = spectra.shape
    real = np.zeros((count, bins), np.float32)
    imag = np.zeros((count, bins), np.float32)
    vr, vi = np.empty(bins, np.float32), np.empty(bins, np.float32)
    tr, ti = np.empty(bins, np.float32), np.empty(bins, np.float32)
    for g in range(groups):
        unit = np.pi / (bins - 1) * lateness[g]
        for b in range(bins):
            c, s = np.cos(unit * first_slope * b), np.sin(unit * first_slope * b)
            vr[b] = spectra[g, b].real * c - spectra[g, b].imag * s
            vi[b] = spectra[g, b].real * s + spectra[g, b].imag * c
            tr[b], ti[b] = np.cos(unit * gap * b), np.sin(unit * gap * b)
        # Phases go on by multiplication: this loop vectorises over bins, sines and cosines would not.
        for k in range(count):
            for b in range(bins):
                real[k, b] += vr[b]
                imag[k, b] += vi[b]
                turned = vr[b] * tr[b] - vi[b] * ti[b]
                vi[b] = vr[b] * ti[b] + vi[b] * tr[b]
                vr[b] = turned
    return real + np.complex64(1j) * imag


@njit(cache=True, nogil=True)
def onset_groups(x, y, late, keep, group, groups):
    """Phase-only cross spectra, weighted by how steeply sound rises at both.

    x, y: `(frames, bins)` complex64 spectra of frames in time order. late, group: as in `cross_groups`.
    keep: share of the running mean of the past that is left one frame later.
    The rise is that of log energy over its running mean, at most 3, taken over all bins (broad) and over the nine
    bins around each (fine). Returns the plain and the broad sum, `(bins,)` complex128; the fine one, `(groups, bins)`
    complex64; and the sums of its weights and of their squares, `(groups, bins)` float32.
    """
    frames, bins = x.shape
    plain = np.zeros(bins, np.complex128)
    broad = np.zeros(bins, np.complex128)
    fine = np.zeros((groups, bins), np.complex64)
    mass = np.zeros((groups, bins), np.float32)
    square = np.zeros((groups, bins), np.float32)
    past_x, past_y = np.zeros(bins), np.zeros(bins)
    now_x, now_y = np.zeros(bins), np.zeros(bins)
    total_past_x, total_past_y = 0.0, 0.0
    for k in range(frames):
        g = group[k]
        sum_x, sum_y = 0.0, 0.0
        for b in range(bins):
            sum_x += x[k, b].real * x[k, b].real + x[k, b].imag * x[k, b].imag
            sum_y += y[k, b].real * y[k, b].real + y[k, b].imag * y[k, b].imag
            now_x[b], now_y[b] = sum_x, sum_y  # running sums: local means by two look-ups
        total_x, total_y = np.log(sum_x + 1e-9), np.log(sum_y + 1e-9)
        if k == 0:
            total_past_x, total_past_y = total_x, total_y
        weight = min(max(total_x - total_past_x, 0.0), 3.0) * min(max(total_y - total_past_y, 0.0), 3.0)
        total_past_x = keep * total_past_x + (1 - keep) * total_x
        total_past_y = keep * total_past_y + (1 - keep) * total_y
        step = np.exp(-1j * np.pi / (bins - 1) * late[k])
        turn = 1.0 + 0.0j
        for b in range(bins):
            low, high = max(b - 5, -1), min(b + 4, bins - 1)
            width = high - low
            local_x = now_x[high] - (now_x[low] if low >= 0 else 0.0)
            local_y = now_y[high] - (now_y[low] if low >= 0 else 0.0)
            log_x, log_y = np.log(local_x / width + 1e-9), np.log(local_y / width + 1e-9)
            if k == 0:
                past_x[b], past_y[b] = log_x, log_y
            rise = min(max(log_x - past_x[b], 0.0), 3.0) * min(max(log_y - past_y[b], 0.0), 3.0)
            past_x[b] = keep * past_x[b] + (1 - keep) * log_x
            past_y[b] = keep * past_y[b] + (1 - keep) * log_y
            p = np.complex128(x[k, b] * np.conj(y[k, b]))
            size = abs(p)
            if size > 0.0:
                p *= turn / size
                plain[b] += p
                broad[b] += weight * p
                fine[g, b] += np.complex64(rise * p)
                mass[g, b] += np.float32(rise)
                square[g, b] += np.float32(rise * rise)
            turn *= step
    return plain, broad, fine, mass, square
