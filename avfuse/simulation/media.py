"""Recordings to media files, through PyAV: the file's time 0 is the recording's time 0.

    .wav   PCM (16, 24 bit, or 32 bit float)       .mp4, .mov   H.264 and AAC
    .flac  16 or 24 bit                            .mkv         H.264 and Opus (48 kHz)

Where FFmpeg was built without libx264, MPEG-4 part 2 takes the place of H.264 and a warning is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avfuse.errors import WriteError
from avfuse.files import replacing
from avfuse.stream import Recording, Stream

_LAYOUTS = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1", 8: "7.1"}
_SOUND = {".wav": "pcm", ".flac": "flac", ".mp4": "aac", ".mov": "aac", ".mkv": "libopus"}
_TICK = Fraction(1, 90000)
# Matroska counts in milliseconds, and Opus starts 6.5 ms early: packets fall on whole milliseconds, and no
# reader needs to guess what was rounded, when everything starts half a millisecond later.
_MATROSKA_SHIFT = Fraction(1, 2000)
_BLOCK = 0.5  # seconds of sound or picture in memory at a time

Timed = Iterator[tuple[float, Any, Any]]


def write_media(path: str | PathLike[str], recording: Recording, *, bits: Literal[16, 24, 32] = 16) -> Path:
    """Write the sound and pictures of `recording` to one file, by its suffix; every stream keeps its start.

    bits: of WAV and FLAC samples; 32 is float (WAV only). Sound beyond +-1 is clipped where samples are whole
    numbers. Raises WriteError where the format cannot hold the recording.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    sounds, pictures = recording.of_kind("sound"), recording.of_kind("picture")
    if suffix not in _SOUND:
        raise WriteError(f"{target}: format {suffix!r}; expected one of {', '.join(_SOUND)}")
    if suffix in {".wav", ".flac"} and (pictures or len(sounds) != 1 or sounds[0].start != 0.0):
        raise WriteError(f"{target}: {suffix} holds one sound that starts at 0; try .mkv or .mp4")
    if not sounds and not pictures:
        raise WriteError(f"{target}: recording {recording.name!r} has neither sound nor picture")
    import av

    shift = _MATROSKA_SHIFT if suffix == ".mkv" else Fraction(0)
    with replacing(target) as temporary:
        try:
            # Bit-exact: no random identifiers and no library versions, so equal recordings give equal files.
            with av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
                tracks = [_picture_track(container, p, shift) for p in pictures]
                tracks += [_sound_track(container, s, suffix, bits, shift) for s in sounds]
                # In order of time, as players want it, and with little in memory.
                for _, stream, frame in merge(*tracks, key=itemgetter(0)):
                    container.mux(stream.encode(frame))
                for stream in container.streams.video:
                    container.mux(stream.encode(None))
                for stream in container.streams.audio:
                    container.mux(stream.encode(None))
        except av.FFmpegError as error:
            raise WriteError(f"{target}: FFmpeg cannot write this recording ({error.strerror})") from error
    return target


def _sound_track(container: Any, stream: Stream, suffix: str, bits: int, shift: Fraction) -> Timed:
    import av

    assert stream.rate is not None
    codec = _SOUND[suffix]
    rate = 48000 if codec == "libopus" else round(stream.rate)
    if rate != stream.rate and codec != "libopus":
        raise WriteError(f"sound {stream.name!r} at {stream.rate} Hz; files hold whole rates only")
    if codec == "pcm":
        codec = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_f32le"}[bits]
    elif codec == "flac" and bits == 32:
        raise WriteError(f"sound {stream.name!r}: FLAC holds 16 or 24 bits, not 32; try .wav")
    _, first = next(stream.blocks(_BLOCK))
    channels = first.shape[0]
    if channels not in _LAYOUTS:
        raise WriteError(f"sound {stream.name!r}: {channels} channels; files hold {', '.join(map(str, _LAYOUTS))}")
    track = container.add_stream(codec, rate=rate)
    track.layout = _LAYOUTS[channels]
    track.time_base = Fraction(1, rate)
    if codec in {"aac", "libopus"}:
        track.bit_rate = 64000 * (channels + 1)
        depth, sample_format = 32, "fltp"
    elif codec == "pcm_f32le":
        depth, sample_format = 32, "flt"
    else:
        depth, sample_format = bits, "s16" if bits == 16 else "s32"
    if codec == "flac":
        track.format = sample_format

    def frames() -> Timed:
        pts = round((stream.start + shift) * rate)
        for _, values in stream.blocks(_BLOCK, None if rate == stream.rate else rate):
            frame = av.AudioFrame.from_ndarray(_packed(values, sample_format, depth), sample_format, _LAYOUTS[channels])
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), pts
            yield pts / rate, track, frame
            pts += values.shape[1]

    return frames()


def _packed(values: np.ndarray[Any, Any], sample_format: str, bits: int) -> np.ndarray[Any, Any]:
    """(channels, n) samples as FFmpeg wants them: planar, or (1, n * channels) interleaved."""
    if sample_format == "fltp":
        return np.ascontiguousarray(values, np.float32)
    flat = values.T.reshape(1, -1)
    if sample_format == "flt":
        return np.ascontiguousarray(flat, np.float32)
    top = 2 ** (bits - 1)
    whole = np.clip(np.round(flat * np.float64(top)), -top, top - 1)
    # 24 bits travel in the upper part of 32.
    return whole.astype(np.int16) if bits == 16 else (whole * 256).astype(np.int32)


def _picture_track(container: Any, stream: Stream, shift: Fraction) -> Timed:
    import av
    import cv2

    _, first = next(stream.blocks(1e-9))
    track = container.add_stream(_picture_codec(), rate=_nominal_rate(stream))
    track.height, track.width = first.shape[1:3]
    track.pix_fmt = "yuv420p"
    # Frames bear their own times, whatever the nominal rate.
    track.codec_context.time_base = _TICK
    if track.codec_context.name == "libx264":
        track.options = {"preset": "ultrafast", "crf": "23", "g": "50"}
    else:
        track.bit_rate = 2_000_000

    def frames() -> Timed:
        for times, images in stream.blocks(_BLOCK):
            for time, image in zip(times, images, strict=True):
                # OpenCV converts to the encoder's colours several times faster than swscale.
                colours = image if image.ndim == 3 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
                yuv = cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_RGB2YUV_I420)
                frame = av.VideoFrame.from_ndarray(np.asarray(yuv, np.uint8), format="yuv420p")
                frame.pts, frame.time_base = round((time + shift) / _TICK), _TICK
                yield float(time), track, frame

    return frames()


def _picture_codec() -> str:
    import av

    if "libx264" in av.codecs_available:
        return "libx264"
    logging.getLogger(__name__).warning("this FFmpeg has no libx264: pictures are written as MPEG-4 part 2")
    return "mpeg4"


def _nominal_rate(stream: Stream) -> Fraction:
    if stream.rate is not None:
        return Fraction(stream.rate).limit_denominator(1001)
    times = stream.times if stream.times is not None else getattr(stream.values, "times", np.array([0.0, 0.04]))
    return Fraction(1.0 / float(np.median(np.diff(times)))).limit_denominator(1001)
