"""Sources that decode one stream of a media file when iterated: sound, picture, text.

FFmpeg decodes (through PyAV) and applies edit lists and stated priming. Time stamps become times in `placing`,
frames become arrays in `frames`, and another rate is made by avfuse's own resampler.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avfuse._kernels.picture import block_means
from avfuse.cores import cores
from avfuse.errors import ReadError
from avfuse.files import for_ffmpeg
from avfuse.io.frames import Layout, PicturePacker, SoundPacker, layout_of
from avfuse.io.placing import Findings, Placer
from avfuse.resampling import regroup, resample_pieces
from avfuse.stream import Array, Block

# FFmpeg's own messages go to stderr beside ours, many of them about files that then decode well.
av.logging.set_level(None)

_CHUNK = 1.0  # seconds of sound that are placed, converted and resampled together
_MOST_BACKWARD = 5.0  # seconds; picture stamps that jump back further belong to another clock


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """The container at `path`. Raises ReadError, one line, for what FFmpeg cannot open."""
    if not os.path.exists(path):
        raise ReadError(f"{path}: no such file; expected a recording")
    if os.path.isdir(path):
        raise ReadError(f"{path}: a directory; expected a file, try those in it")
    if not os.path.isfile(path):  # reading a pipe would wait for ever, and nothing can be read twice from it
        raise ReadError(f"{path}: a pipe or a device; expected a file, write it to one first")
    if os.path.getsize(path) == 0:
        raise ReadError(f"{path}: an empty file; expected a recording, try to copy it again")
    try:
        container = av.open(for_ffmpeg(path), options=_probing(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ReadError(
            f"{path}: FFmpeg cannot read it as a media file ({error.__class__.__name__}); expected a complete sound "
            "or video file, try to copy or download it again"
        ) from error
    with container:
        yield container


def _probing(path: str) -> dict[str, str]:
    """How far FFmpeg looks ahead: headers say enough, and what they say takes milliseconds to read."""
    with open(path, "rb") as file:
        head = file.read(12)
    # Guessing frame rates from many decoded pictures takes a tenth of a second.
    options = {"fpsprobesize": "0"}
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:] == b"WAVE":
        # PCM is looked through for DTS in disguise, by default for 5 MB; that starts with the sound if it is there.
        options["probesize"] = "65536"
    return options


def packets(container: Any, stream: Any, findings: Findings) -> Iterator[Any]:
    """Packets of one stream; a broken end of the file ends the stream."""
    found = container.demux(stream)
    while True:
        try:
            packet = next(found, None)
        except av.error.FFmpegError:
            findings.corrupt_packets += 1
            return
        if packet is None:
            return
        yield packet


def frames_of(packet: Any, findings: Findings) -> list[Any]:
    """What a packet decodes to: nothing where it is damaged, which is counted."""
    try:
        return list(packet.decode())
    except av.error.FFmpegError:
        findings.corrupt_packets += 1
        return []


def decoded(container: Any, stream: Any, findings: Findings) -> Iterator[Any]:
    """Frames of one stream; damaged packets are counted and left out."""
    for packet in packets(container, stream, findings):
        yield from frames_of(packet, findings)


@dataclass(frozen=True, eq=False)
class SoundSource:
    """Sound of one track as float32 `(channels, n)`.

    index: of the stream in the container. rate, channels: as declared; what differs in mid-file is converted.
    zero: seconds in the container that are the recording's time 0.
    priming: samples to leave out at the start where only the encoder's name tells of them.
    """

    path: str
    index: int
    rate: float
    channels: int
    duration: float
    zero: float = 0.0
    priming: int = 0

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """See `Stream.blocks`. Raises ReadError where the file is gone or holds NaN."""
        wanted = self.rate if rate is None else float(rate)
        return regroup(self.pieces(wanted, Findings()), max(1, int(duration * wanted + 1e-6)), wanted)

    def pieces(self, rate: float, findings: Findings) -> Iterator[tuple[float, Array]]:
        """(start, values) in order, at `rate` Hz; what was odd goes into `findings`."""
        for native, group in groupby(self._native(findings), key=lambda piece: piece[0]):
            pieces = ((start, values) for _, start, values in group)
            yield from pieces if native == rate else resample_pieces(pieces, native, rate)

    def _native(self, findings: Findings) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
        """(rate, start, values) at whatever rate the frames have."""
        with opened(self.path) as container:
            stream = container.streams[self.index]
            tick = float(stream.time_base)
            packer: SoundPacker | None = None
            placer: Placer | None = None
            skip = self.priming
            for frame in decoded(container, stream, findings):
                layout = layout_of(frame)
                if packer is None or placer is None or layout != packer.layout:
                    if packer is not None and placer is not None:
                        yield from self._placed(packer, placer, last=True)
                        findings.changes.append((placer.end - self.zero, _change(packer.layout, layout)))
                    if placer is None or packer is None or layout[0] != packer.layout[0]:
                        end = placer.end if placer is not None else None
                        placer = Placer(layout[0], tick, findings, self.zero, end)
                    packer = SoundPacker(layout, tick)
                elif packer.samples >= layout[0] * _CHUNK:
                    yield from self._placed(packer, placer, last=False)
                if frame.samples > skip:
                    packer.add(frame, skip)
                    skip = 0
                else:
                    skip -= frame.samples
            if packer is not None and placer is not None:
                yield from self._placed(packer, placer, last=True)

    def _placed(
        self, packer: SoundPacker, placer: Placer, *, last: bool
    ) -> Iterator[tuple[float, float, NDArray[np.float32]]]:
        pieces, settled = placer.place(np.array(packer.stamps), np.array(packer.sizes, np.int64), last=last)
        if pieces:
            rate = float(packer.layout[0])
            values = packer.values(self.channels)
            self._check_finite(values, pieces[0].start - pieces[0].first / rate - self.zero, rate)
            for piece in pieces:
                yield rate, piece.start - self.zero, values[:, piece.first : piece.end]
        packer.drop(settled)

    def _check_finite(self, values: NDArray[np.float32], start: float, rate: float) -> None:
        # A sum is finite unless a sample is not: one pass for good sound, a second only to find what is bad.
        if np.isfinite(values.sum()):
            return
        bad = np.flatnonzero(~np.isfinite(values).all(axis=0))
        if bad.size:
            raise ReadError(
                f"{self.path}: sound is NaN or infinite at {start + bad[0] / rate:.3f} s; expected finite samples, "
                "try to save it again as integer PCM"
            )


def _change(before: Layout, after: Layout) -> str:
    words = []
    for name, old, new in zip(("rate", "sample format", "channels"), before, after, strict=True):
        if old != new:
            words.append(f"{name} from {old} to {new}")
    return ", ".join(words)


@dataclass(frozen=True, eq=False)
class PictureSource:
    """Frames of one video track as `(n, height, width, 3)` uint8 RGB, upright, each at its own time.

    rate: average frames per second, used only where a frame has no time stamp.
    rotation: degrees counter-clockwise by which stored frames are turned, a multiple of 90.
    """

    path: str
    index: int
    width: int
    height: int
    rate: float
    duration: float
    zero: float = 0.0
    rotation: int = 0

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """See `Stream.blocks`; pictures are never resampled, so `rate` must be None."""
        times: list[float] = []
        frames: list[NDArray[np.uint8]] = []
        packed = PicturePacker(self.width, self.height, self.rotation)
        for time, frame in self.frames(Findings()):
            if times and time >= times[0] + duration:
                yield np.array(times), np.stack(frames)
                times, frames = [], []
            times.append(time)
            frames.append(packed(frame))
        if times:
            yield np.array(times), np.stack(frames)

    def grey(self, pixels: int, findings: Findings) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """(time, `(height, width)` uint8 brightness), made small: about `pixels` of them, see `reduction`.

        Rows are those of the stored picture, which the sensor read one after the other: nothing is turned upright.
        Means are taken straight from the decoded brightness where it has 8 bits, which costs a third of what FFmpeg's
        scaler does; other pictures go through that.
        """
        scaler: Any = None  # one for all frames: it keeps what it worked out for the size
        stored: tuple[int, int] | None = None
        for time, frame in self.frames(findings):
            stored = stored or (frame.width, frame.height)
            block, columns, rows = reduction(*stored, pixels)
            if frame.format.name in _BRIGHTNESS_FIRST and (frame.width, frame.height) == stored:
                plane = frame.planes[0]
                values = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
                top, left = ((full - n * block) // 2 for full, n in ((frame.height, rows), (frame.width, columns)))
                # Large blocks are known well enough from every other row.
                yield time, block_means(values, top, left, block, 2 if block >= 8 else 1, rows, columns)
            else:
                scaler = scaler or av.video.reformatter.VideoReformatter()
                made = scaler.reformat(frame, columns, rows, format="gray8", interpolation="AREA")
                yield time, np.ascontiguousarray(made.to_ndarray())

    def frames(self, findings: Findings, threads: int = 0) -> Iterator[tuple[float, Any]]:
        """(time, PyAV frame), times rising; frames that are not later than the one before are left out.

        threads: 0 for as many as there are cores; 1 is quickest for the first frame alone.
        """
        previous: float | None = None
        shift = -self.zero
        size: tuple[int, int] | None = None
        with opened(self.path) as container:
            stream = container.streams[self.index]
            stream.thread_type = "AUTO"
            # On many cores FFmpeg itself takes one thread more, and 16 at most.
            stream.codec_context.thread_count = threads or (min(cores() + 1, 16) if cores() > 1 else 1)
            for frame in decoded(container, stream, findings):
                period = 1.0 / self.rate
                if frame.pts is not None:
                    time = float(frame.pts * frame.time_base) + shift
                else:
                    time = 0.0 if previous is None else previous + period
                if previous is not None and time <= previous:
                    if previous - time < _MOST_BACKWARD:
                        findings.overlaps.append((previous, period))
                        continue
                    findings.resets.append((previous, time - previous))
                    shift += previous + period - time
                    time = previous + period
                if size is not None and size != (frame.width, frame.height):
                    findings.changes.append((time, f"size from {size[0]}x{size[1]} to {frame.width}x{frame.height}"))
                size = (frame.width, frame.height)
                previous = time
                yield time, frame


# Formats whose first plane is brightness, 8 bits a pixel.
_BRIGHTNESS_FIRST = frozenset(
    f"{word}{layout}p" for word in ("yuv", "yuvj") for layout in (410, 411, 420, 422, 440, 444)
) | {"nv12", "nv21", "gray", "gray8"}


def reduction(width: int, height: int, pixels: int) -> tuple[int, int, int]:
    """(block, columns, rows) that make a picture small: means over squares of `block` pixels, about `pixels` of them.

    Columns and rows are multiples of 8, from the middle; what is left over lies at the edges.
    """
    block = max(1, round((width * height / pixels) ** 0.5))
    return block, max(8, width // block // 8 * 8), max(8, height // block // 8 * 8)


@dataclass(frozen=True, eq=False)
class TextSource:
    """Subtitles of one track: values `(n,)` of str, each at the time it appears; pictures of text are empty strings."""

    path: str
    index: int
    duration: float
    zero: float = 0.0

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[Block]:
        """See `Stream.blocks`; text is never resampled, so `rate` must be None."""
        times: list[float] = []
        texts: list[str] = []
        with opened(self.path) as container:
            stream = container.streams[self.index]
            for packet in packets(container, stream, Findings()):
                subtitles = frames_of(packet, Findings())
                if not subtitles or packet.pts is None:
                    continue
                time = float(packet.pts * packet.time_base) - self.zero
                if times and time >= times[0] + duration:
                    yield np.array(times), np.array(texts, dtype=np.str_)
                    times, texts = [], []
                times.append(time)
                lines = [getattr(subtitle, "dialogue", b"").decode("utf-8", "replace") for subtitle in subtitles]
                texts.append("\n".join(lines))
        if times:
            yield np.array(times), np.array(texts, dtype=np.str_)
