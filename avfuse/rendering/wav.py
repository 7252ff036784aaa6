"""WAV files of 32-bit float samples; RF64 where 32-bit sizes do not reach.

Float, because resampled or decoded sound may swing a little beyond full scale, and nothing may be clipped or rounded.
Written here and not through libsndfile because that stamps the time of day into float files: equal input gives equal
output.

References: Microsoft, "Multiple channel audio data and WAVE files" (WAVE_FORMAT_EXTENSIBLE); EBU Tech 3306, RF64.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

RIFF_LIMIT = 0xFFFFFFFF  # bytes that a RIFF chunk can count
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
_FLOAT_GUID = struct.pack("<IHH8B", _FLOAT, 0x0000, 0x0010, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71)
# dwChannelMask bits in the order of the standard, by FFmpeg's names.
SPEAKERS = ("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR")


def wav_size(frames: int, channels: int) -> int:
    """Bytes of the file."""
    return len(wav_header(frames, 1, channels)) + frames * channels * 4


def wav_header(frames: int, rate: int, channels: int, speakers: tuple[str, ...] = ()) -> bytes:
    """Everything before the samples.

    speakers: FFmpeg's channel names; where they are not speakers in the standard's order no positions are claimed.
    """
    data = frames * channels * 4
    form = struct.pack("<HIIHH", channels, rate, rate * channels * 4, channels * 4, 32)
    if channels <= 2:
        fmt = struct.pack("<H", _FLOAT) + form + struct.pack("<H", 0)
    else:
        extension = struct.pack("<HI", 32, _channel_mask(channels, speakers)) + _FLOAT_GUID
        fmt = struct.pack("<H", _EXTENSIBLE) + form + struct.pack("<H", len(extension)) + extension
    body = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"fact" + struct.pack("<II", 4, min(frames, 0xFFFFFFFF))
    whole = 4 + len(body) + 8 + data
    if whole <= RIFF_LIMIT:
        return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + body + b"data" + struct.pack("<I", data)
    sizes = struct.pack("<QQQI", whole + 36, data, frames, 0)
    ds64 = b"ds64" + struct.pack("<I", len(sizes)) + sizes
    return b"RF64" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + ds64 + body + b"data" + struct.pack("<I", 0xFFFFFFFF)


def _channel_mask(channels: int, speakers: tuple[str, ...]) -> int:
    bits = [SPEAKERS.index(name) for name in speakers if name in SPEAKERS]
    if len(bits) != channels or bits != sorted(set(bits)):
        return 0
    return sum(1 << bit for bit in bits)


def write_samples(file: BinaryIO, values: NDArray[np.float32]) -> None:
    """Append (channels, n) samples."""
    file.write(np.ascontiguousarray(values.T, "<f4").data)
