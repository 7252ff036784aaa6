"""Some seconds of two recordings to listen to: one in the left ear, one in the right."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.temporal.hearing import RATE, Heard

F32 = NDArray[np.float32]

# MP3 is what every browser plays; FLAC is what every FFmpeg can write. The last: bytes a second as base64, at most.
_CODECS = (("libmp3lame", "mp3", "audio/mpeg", "fltp", 8200), ("flac", "flac", "audio/flac", "s16", 86000))
_BIT_RATE = 48000
_COLUMNS = 240
_LEVEL, _CEILING, _MOST = 0.1, 0.89, 300.0  # RMS aimed at, highest sample, highest gain
_FADE = 0.03  # seconds


@dataclass(frozen=True, eq=False)
class Snippet:
    """label: what it shows. times: own times (s) of the reference and of the moving recording at its start.

    sound: data URI. strips: `(2, columns)` loudest sample of each column, 0..1, reference above.
    """

    label: str
    times: tuple[float, float]
    seconds: float
    sound: str
    strips: F32


def aligned_snippet(
    label: str, reference: Heard, moving: Heard, line: ClockMap, middle: float, seconds: float
) -> Snippet:
    """Both as `line` places them, to the sample, around the moving recording's time `middle`."""
    return _snippet(label, reference, moving, (float(line(middle)), middle), seconds)


def unaligned_snippet(
    label: str, reference: Heard, moving: Heard, line: ClockMap, middle: float, seconds: float
) -> Snippet:
    """Both as their files are when laid at one start: around one file time of both, the reference's if both hold it."""
    there = float(line(middle))
    time = there if moving.start <= there <= moving.start + moving.duration else middle
    return _snippet(label, reference, moving, (time, time), seconds)


def _snippet(label: str, reference: Heard, moving: Heard, middles: tuple[float, float], seconds: float) -> Snippet:
    count = round(seconds * RATE)
    ears = []
    for heard, middle in zip((reference, moving), middles, strict=True):
        ears.append(_levelled(heard.read(round((middle - heard.start) * RATE) - count // 2, count)))
    both = np.stack(ears)
    strips = np.abs(both[:, : count // _COLUMNS * _COLUMNS]).reshape(2, _COLUMNS, -1).max(axis=2)
    starts = middles[0] - seconds / 2, middles[1] - seconds / 2
    return Snippet(label, starts, seconds, encode(both), strips / np.maximum(strips.max(axis=1, keepdims=True), 1e-6))


def _levelled(samples: F32) -> F32:
    """At the loudness of speech without clipping, so that neither ear drowns the other; soft at its ends."""
    samples = samples - samples.mean()
    rms, peak = float(np.sqrt(np.mean(samples**2))), float(np.abs(samples).max(initial=0.0))
    gain = min(_LEVEL / max(rms, 1e-9), _CEILING / max(peak, 1e-9), _MOST)
    ramp = np.minimum(np.arange(len(samples)) / (_FADE * RATE), 1.0)
    return np.asarray(samples * gain * ramp * ramp[::-1], np.float32)


def _codec() -> tuple[str, str, str, str, int]:
    return next(c for c in _CODECS if c[0] in av.codecs_available)


def bytes_per_second() -> int:
    """What a second of a snippet adds to the page, at most."""
    return _codec()[-1]


def encode(samples: F32) -> str:
    """`(2, n)` samples at RATE as a data URI that browsers play."""
    codec, container, mime, layout, _ = _codec()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        # Two ears that differ: joint stereo would let one be heard in the other.
        options = {"joint_stereo": "0"} if codec == "libmp3lame" else {}
        stream: Any = out.add_stream(codec, rate=RATE, layout="stereo", options=options)
        if codec == "libmp3lame":
            stream.bit_rate = _BIT_RATE
        values: Any = samples if layout == "fltp" else np.round(samples.T.reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values), format=layout, layout="stereo")
        frame.sample_rate = RATE
        fifo = av.AudioFifo()
        fifo.write(frame)
        while (part := fifo.read(1152, partial=True)) is not None:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
