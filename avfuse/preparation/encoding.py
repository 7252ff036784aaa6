"""Windows as files in memory, equal bytes for equal windows: H.264, FLAC, and NumPy's archives for all else."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.batches import Samples
from avfuse.errors import StreamError
from avfuse.io.frames import PicturePacker
from avfuse.preparation.recipe import PictureForm, SoundForm

TICK = Fraction(1, 90000)  # seconds of time stamps in the files of pictures
_BITEXACT = 1 << 23  # FFmpeg's AV_CODEC_FLAG_BITEXACT
_MOST_FLAC_CHANNELS, _MOST_FLAC_RATE = 8, 655350


@dataclass(frozen=True)
class Encoded:
    """A file. suffix: of its name; codec: of what is in it; time_base: seconds that its time stamps count.

    size: height and width of pictures.
    """

    suffix: str
    codec: str
    time_base: Fraction
    data: bytes
    size: tuple[int, int] | None = None


def encode_pictures(frames: Iterable[tuple[float, Any]], rate: float, form: PictureForm) -> Encoded | None:
    """`(stamp, frame)` as a film without sound: yuv420p frames of one size, seconds at which each is shown, rising.

    rate: frames per second as the header states it; the stamps tell. None where there is no frame.
    The encoder has one thread, so that equal frames give equal bytes.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    out = io.BytesIO()
    options = {"movie_timescale": str(TICK.denominator), "fflags": "+bitexact"}
    track: Any = None
    container = av.open(out, "w", format="mp4", options=options)
    try:
        last = -1
        for stamp, frame in frames:
            if track is None:
                track = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001) or Fraction(1))
                track.width, track.height, track.pix_fmt = frame.width, frame.height, "yuv420p"
                context = track.codec_context
                context.time_base, context.thread_count, context.flags = TICK, 1, context.flags | _BITEXACT
                context.colorspace = frame.colorspace
                # Without B-frames and without the tree of macroblocks: there x264 reads memory that it never wrote
                # (for pictures of a few macroblocks), and equal frames give other bytes. And B-frames decode in an
                # order of their own.
                told = {"preset": form.speed, "crf": str(form.quality), "threads": "1", "bf": "0", "mbtree": "0"}
                track.options = told if codec == "libx264" else {"qscale": "3"}
            last = max(last + 1, round(stamp / TICK))
            frame.pts, frame.time_base, frame.pict_type = last, TICK, 0  # the encoder chooses its own key frames
            container.mux(track.encode(frame))
        if track is None:
            return None
        container.mux(track.encode(None))
    finally:
        container.close()
    name = "h264" if codec == "libx264" else "mpeg4"
    return Encoded(".mp4", name, TICK, out.getvalue(), (track.height, track.width))


def encode_sound(blocks: Iterable[NDArray[np.float32]], rate: float, form: SoundForm) -> tuple[Encoded, int] | None:
    """`(channels, n)` blocks of sound as FLAC, or as WAV where FLAC cannot hold it; and how many samples were clipped.

    None where there is no block.
    """
    import soundfile

    out, file, clipped = io.BytesIO(), None, 0
    scale, codec = 2.0 ** (form.bits - 1), "flac"
    for values in blocks:
        if file is None:
            channels = values.shape[0]
            codec = "flac" if channels <= _MOST_FLAC_CHANNELS and rate <= _MOST_FLAC_RATE else f"pcm_s{form.bits}le"
            file = soundfile.SoundFile(
                out, "w", round(rate), channels, f"PCM_{form.bits}", format="FLAC" if codec == "flac" else "WAV"
            )
        whole = np.rint(values.T * np.float64(scale))
        clipped += int(np.count_nonzero((whole > scale - 1) | (whole < -scale)))
        # Whole numbers in the upper bits of 32: rounded here, so that no library's rounding matters.
        packed = np.left_shift(np.clip(whole, -scale, scale - 1).astype(np.int32), 32 - form.bits)
        file.write(packed)
    if file is None:
        return None
    file.close()
    suffix = ".flac" if codec == "flac" else ".wav"
    return Encoded(suffix, codec, Fraction(1, round(rate)), out.getvalue()), clipped


def encode_samples(samples: Samples, start: float) -> Encoded:
    """Samples as an archive of `values`, `times` (seconds since `start`) and `valid`.

    Raises StreamError for values that are no numbers, which only Python could read.
    """
    if samples.values.dtype.kind not in "biuf":
        raise StreamError(f"samples of type {samples.values.dtype}; expected numbers")
    out = io.BytesIO()
    np.savez_compressed(out, values=samples.values, times=samples.times - start, valid=samples.valid)
    return Encoded(".npz", "npz", Fraction(1, 10**9), out.getvalue())


def decode_pictures(data: bytes) -> NDArray[np.uint8]:
    """`(n, height, width, 3)` RGB of what `encode_pictures` made."""
    import av

    container: Any = av.open(io.BytesIO(data))
    with container:
        track = container.streams.video[0]
        track.codec_context.thread_count = 1
        packed = PicturePacker(track.width, track.height)
        frames = [packed(frame) for frame in container.decode(track)]
    return np.stack(frames)


def decode_sound(data: bytes) -> tuple[NDArray[np.float32], int]:
    """`(n, channels)` float32 of what `encode_sound` made, and its rate in Hz."""
    import soundfile

    values, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return values, int(rate)


def decode_samples(data: bytes) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
    """values, times (seconds since the window's start) and valid of what `encode_samples` made."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return archive["values"], archive["times"], archive["valid"]
