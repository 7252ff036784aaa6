"""Loops over sets of points."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lzf_unpack(packed, size):
    """What LZF packed, uint8 `(size,)`; shorter where it ends early, refers to before its start or overflows.

    A control byte under 32 is followed by that many bytes and one, taken as they are. Any other says by its upper
    three bits (7: plus the next byte) and two how many bytes to repeat, from as far back as its lower five bits and the
    byte after tell, and one.
    """
    out = np.empty(size, np.uint8)
    i = made = 0
    while i < len(packed):
        control = np.int64(packed[i])
        i += 1
        if control < 32:
            length = control + 1
            if i + length > len(packed) or made + length > size:
                return out[:made]
            for k in range(length):
                out[made + k] = packed[i + k]
            i += length
            made += length
            continue
        length = control >> 5
        if i + (2 if length == 7 else 1) > len(packed):
            return out[:made]
        if length == 7:
            length += np.int64(packed[i])
            i += 1
        length += 2
        first = made - ((control & 31) << 8) - np.int64(packed[i]) - 1
        i += 1
        if first < 0 or made + length > size:
            return out[:made]
        # One by one: the part repeated may reach into what is being written.
        for k in range(length):
            out[made + k] = out[first + k]
        made += length
    return out[:made]
