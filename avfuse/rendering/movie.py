"""One video file on the timeline: its pictures, its own sound, and on request another recorder's sound."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from avfuse.clock import ClockMap
from avfuse.errors import WriteError
from avfuse.rendering.picture import (
    TICK,
    CannotCopyError,
    Cut,
    Packets,
    Picture,
    add_encoder,
    copied,
    opened,
    reencoded,
    without_holes,
)
from avfuse.rendering.placing import Clock, PlacedSound
from avfuse.rendering.progress import Progress
from avfuse.rendering.wav import SPEAKERS
from avfuse.stream import Stream

_SOUND_BLOCK = 1.0  # seconds that are encoded between packets of the picture
# Lossless, so that nothing but the resampling touches the sound, and without encoder delay, so that it starts exactly
# at 0. FLAC plays in browsers, VLC, mpv and on phones; QuickTime files hold PCM, which every editor takes.
_SOUND_CODECS = {".mp4": "flac", ".mkv": "flac", ".mov": "pcm_s24le"}
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
_MOST_FLAC_CHANNELS = 8
_MOST_FLAC_RATE = 655350
_FLAC_BLOCK = 4608  # samples, the most that every decoder must take
_LARGEST_FLAC_BLOCK = 65535
_LAYOUTS = {1: "mono", 2: "stereo"}
_SILENCE = Stream.from_samples(np.zeros(1, np.float32), rate=8000.0, name="silence")


@dataclass(frozen=True)
class SoundTrack:
    """Sound that goes into a video file, and what players call it."""

    title: str
    stream: Stream
    clock: Clock

    def placed(self, start: float) -> PlacedSound:
        return PlacedSound(self.stream, self.clock, start)


def picture_of(stream: Stream, clock: Clock) -> Picture | None:
    """Where the packets of a picture stream are; None for pictures that come from no file."""
    source = stream.values
    if not all(hasattr(source, name) for name in ("path", "index", "zero")):
        return None
    return Picture(str(source.path), int(source.index), clock, float(source.zero), stream.start_time)  # type: ignore[union-attr]


@dataclass(eq=False)
class MovieFile:
    """The pictures of one recording with sound beside them.

    name: without suffix. start, length: reference seconds that it covers. notes: what a person should know.
    """

    name: str
    pictures: list[Picture]
    sounds: list[SoundTrack]
    start: float
    length: float
    reencode: bool
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.suffix, why = self._container()
        if why:
            self.notes.append(why)
        late = min(without_holes(p.clock)(p.start) for p in self.pictures) - self.start
        # A copy into Matroska that must be cut begins late as well, at the next key frame.
        cut_late = late < -float(TICK) and self.suffix == ".mkv" and not self.reencode
        if not self.sounds and (late > float(TICK) or cut_late):
            # Time 0 of a file is the first thing in it, so something has to be there.
            self.sounds = [SoundTrack("silence", _SILENCE, ClockMap(self.start))]
            self.notes.append("has no sound; a silent track holds the time before its picture begins")

    @property
    def size(self) -> int:
        """Bytes that the file will have, roughly."""
        sounds = [track.placed(self.start) for track in self.sounds]
        return Path(self.pictures[0].source).stat().st_size + sum(
            int(self.length * s.rate) * s.channels * 2 for s in sounds
        )

    def _container(self) -> tuple[str, str | None]:
        """Suffix of the container, and why it is not the source's own (None where it is)."""
        source = self.pictures[0].source
        with opened(source) as container:
            family, found = container.format.name, Path(source).suffix.lower()
            codecs = {container.streams[p.index].codec_context.name for p in self.pictures}
            others = {s.type for s in container.streams} - {"video", "audio"}
        if others:
            self.notes.append(f"its {' and '.join(sorted(others))} tracks are left out")
        if "matroska" in family:
            return ".mkv", None
        if "mp4" not in family:
            return ".mkv", f"written as .mkv, since {found or family} cannot hold time stamps and sound as they must be"
        own = ".mov" if found == ".mov" else ".mp4"
        if own == ".mp4" and not all(_flac_holds(track.placed(self.start)) for track in self.sounds):
            return ".mkv", f"written as .mkv, since lossless sound in .mp4 has at most {_MOST_FLAC_CHANNELS} channels"
        odd = codecs - _supported(own)
        if odd and not self.reencode:
            return ".mkv", f"written as .mkv, since {own} cannot hold {', '.join(sorted(odd))}"
        return own, None

    def write(self, path: Path, progress: Progress) -> None:
        if not self.reencode:
            notes = list(self.notes)
            try:
                self._write(path, progress, reencode=False)
            except CannotCopyError as error:
                self.notes = [*notes, f"picture was encoded again, since {error}"]
            else:
                return
        try:
            self._write(path, progress, reencode=True)
        except CannotCopyError as error:
            raise WriteError(
                f"{self.name}{self.suffix}: its picture can neither be copied nor encoded ({error})"
            ) from error

    def _write(self, path: Path, progress: Progress, *, reencode: bool) -> None:
        hides = self.suffix in (".mp4", ".mov")
        # Edit lists count in the movie's time scale, and its default of 1 ms would round the start of the picture.
        options = {"movie_timescale": str(TICK.denominator)} if hides else {}
        # Equal input gives equal output: no random identifiers, no version of the library.
        options["fflags"] = "+bitexact"
        with av.open(str(path), "w", format=_FORMATS[self.suffix], options=options) as out:
            videos = [add_encoder(out, p) if reencode else _copy_track(out, p) for p in self.pictures]
            placed = [track.placed(self.start) for track in self.sounds]
            audios = [
                _sound_track(out, track, sound, self.suffix) for track, sound in zip(self.sounds, placed, strict=True)
            ]
            try:
                out.start_encoding()
            except av.error.ArgumentError as error:
                raise CannotCopyError(f"{self.suffix} does not take it as it is ({error.strerror})") from error
            streams: list[Packets] = []
            for picture, video in zip(self.pictures, videos, strict=True):
                cut = Cut(self.start, self.length, float(video.time_base), hides)
                make = reencoded if reencode else copied
                streams.append(make(picture, video, cut, self._note))
            for sound, audio in zip(placed, audios, strict=True):
                streams.append(self._encoded_sound(sound, audio))
            try:
                for time, packet in heapq.merge(*streams, key=lambda item: item[0]):
                    out.mux(packet)
                    progress.reached(time)
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):  # a full disk and its like, which the caller knows how to say
                    raise
                raise WriteError(f"{self.name}{self.suffix}: FFmpeg could not write it ({error.strerror})") from error

    def _note(self, text: str) -> None:
        self.notes.append(text)

    def _encoded_sound(self, sound: PlacedSound, out: Any) -> Packets:
        total, block = max(1, round(self.length * sound.rate)), round(_SOUND_BLOCK * sound.rate)
        layout, clipped = out.codec_context.layout.name, 0
        for first in range(0, total, block):
            values = sound.take(min(block, total - first))
            clipped += int(np.count_nonzero(np.abs(values) > 1.0))
            frame = av.AudioFrame.from_ndarray(_as_24_bit(values), "s32", layout)
            frame.sample_rate, frame.pts, frame.time_base = sound.rate, first, Fraction(1, sound.rate)
            yield from _timed(out.encode(frame))
        yield from _timed(out.encode(None))
        if clipped:
            self._note(f"{clipped} samples of {out.metadata.get('title', 'sound')} beyond full scale were clipped")


def _flac_holds(sound: PlacedSound) -> bool:
    return sound.channels <= _MOST_FLAC_CHANNELS and sound.rate <= _MOST_FLAC_RATE


def _supported(suffix: str) -> set[str]:
    """Codecs that the muxer takes."""
    with av.open(_Nowhere(), "w", format=_FORMATS[suffix]) as container:
        return set(container.supported_codecs)


class _Nowhere:
    """A file that forgets: PyAV tells what a muxer takes only of an open one."""

    def write(self, data: bytes) -> int:
        return len(data)


def _copy_track(out: Any, picture: Picture) -> Any:
    with opened(picture.source) as source:
        track = source.streams[picture.index]
        try:
            video = out.add_stream_from_template(track)
        except (ValueError, av.error.FFmpegError) as error:
            raise CannotCopyError(f"{track.codec_context.name} cannot be copied ({error})") from error
        # Tags of one container mean nothing in another, where 0 lets the muxer choose. Within a family they matter:
        # Apple's players take HEVC as hvc1 and not as hev1.
        same = out.format.name in source.format.name.split(",")
        video.codec_context.codec_tag = track.codec_context.codec_tag if same else "\0\0\0\0"
        video.time_base = TICK
    return video


def _sound_track(out: Any, track: SoundTrack, sound: PlacedSound, suffix: str) -> Any:
    codec = _SOUND_CODECS[suffix] if _flac_holds(sound) else "pcm_s24le"
    audio = out.add_stream(codec, rate=sound.rate)
    audio.codec_context.format = "s32"
    audio.codec_context.layout = _layout(track.stream.channels, sound.channels)
    audio.codec_context.time_base = Fraction(1, sound.rate)
    if codec == "flac":
        # Blocks of whole milliseconds: Matroska counts in them, and a rounded stamp would blur where the sound lies.
        whole = sound.rate // math.gcd(sound.rate, 1000)
        size = max(1, _FLAC_BLOCK // whole) * whole
        audio.codec_context.options = {
            "bits_per_raw_sample": "24",
            "frame_size": str(size if size <= _LARGEST_FLAC_BLOCK else _FLAC_BLOCK),
        }
    # MP4 and MOV keep only the handler's name.
    audio.metadata["title"] = audio.metadata["handler_name"] = track.title
    return audio


def _layout(names: tuple[str, ...], channels: int) -> str:
    """FFmpeg's name for where the channels are; only their number where that is not known."""
    if channels in _LAYOUTS:
        return _LAYOUTS[channels]
    if len(names) == channels and set(names) <= set(SPEAKERS):
        return "+".join(names)
    return f"{channels} channels"


def _as_24_bit(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """(1, n * channels) interleaved, the 24 bits in the upper part of each number."""
    scaled = np.clip(np.rint(values.T.reshape(1, -1) * np.float32(2.0**23)), -(2.0**23), 2.0**23 - 1)
    found: NDArray[np.int32] = np.left_shift(scaled.astype(np.int32), 8)
    return found


def _timed(packets: list[Any]) -> Iterator[tuple[float, Any]]:
    for packet in packets:
        yield float((packet.dts or 0) * packet.time_base), packet
