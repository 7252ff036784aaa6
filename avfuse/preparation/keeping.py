"""Recordings that are decoded once, however often they are looked at.

An event is heard to align it, looked at to check it, and then cut. What the first reading decodes is kept in files
without a name below the working folder: sound as it is, pictures as they will be stored, which is small, and the
brightness that the check looks at. A file that grows beyond a limit is given up, and decoding is done again.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from avfuse.files import FAULTS_OF_THE_DISK
from avfuse.io.decoding import PictureSource, SoundSource
from avfuse.io.placing import Findings
from avfuse.preparation.shaping import Shaper, packed_frame, unpacked_frame
from avfuse.stream import Recording

SPOOL = 8 * 2.0**30  # bytes of each stream that are kept while an event is looked at
_HELD = 512 * 2**20  # bytes of a stream that are held in memory: a file is slower

Item = TypeVar("Item")
Given = TypeVar("Given")
Sound = tuple[float, float, NDArray[np.float32]]
Frame = tuple[float, Any]
Grey = tuple[float, NDArray[np.uint8]]


class Spool(Generic[Item]):
    """Items that are read more than once: in memory at first, then in a file without a name.

    limit: bytes in all; beyond that nothing is kept. pack: item -> what is remembered of it, and an array; unpack: the
    same back. size: bytes of an item.
    """

    def __init__(
        self,
        folder: Path,
        limit: float,
        pack: Callable[[Item], tuple[Any, NDArray[Any]]],
        unpack: Callable[[Any, NDArray[Any]], Item],
        size: Callable[[Item], int],
    ) -> None:
        self._folder, self._limit = folder, limit
        self._pack, self._unpack, self._size = pack, unpack, size
        self._held: list[Item] = []
        self._facts: list[tuple[Any, int, tuple[int, ...], np.dtype[Any]]] = []
        self._file: Any = None
        self._writing = threading.Lock()
        self.complete = False

    def noting(self, items: Iterator[Given], kept: Callable[[Given], Item]) -> Iterator[Given]:
        """`items` as they come; what `kept` makes of them is kept, where nobody else does so already."""
        if self.complete or self._limit <= 0 or not self._writing.acquire(blocking=False):
            yield from items
            return
        try:
            size = 0
            for item in items:
                if self._limit > 0:
                    found = kept(item)
                    size += self._size(found)
                    if size > self._limit or not self._keep(found, size):
                        self._limit = 0  # another reading would find as much
                        self._forget()
                yield item
            self.complete = self._limit > 0
        finally:
            if not self.complete:
                self._forget()
            self._writing.release()

    def _keep(self, item: Item, size: int) -> bool:
        """Whether there was room for it."""
        self._held.append(item)
        if self._file is None and size <= _HELD:
            return True
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  (until nobody reads it)
        held, self._held = self._held, []
        return all(map(self._write, held))

    def _write(self, item: Item) -> bool:
        facts, values = self._pack(item)
        self._facts.append((facts, self._file.tell(), values.shape, values.dtype))
        left = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno in FAULTS_OF_THE_DISK:
                return False
            raise
        return True

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
        self._held, self._facts, self._file = [], [], None

    def read(self) -> Iterator[Item]:
        """What was kept, in order; several may read at once."""
        yield from self._held
        if self._file is None:
            return
        number = self._file.fileno()
        for facts, start, shape, dtype in self._facts:
            values = np.empty(shape, dtype)
            done, raw = 0, values.reshape(-1).view(np.uint8)
            while done < raw.size:
                done += _read_into(raw[done:], number, start + done)
            yield self._unpack(facts, values)

    def through(self, items: Callable[[], Iterator[Item]]) -> Iterator[Item]:
        """`items()`, the first time; what was kept of them after that."""
        return self.read() if self.complete else self.noting(items(), lambda item: item)


def _read_into(raw: NDArray[np.uint8], number: int, start: int) -> int:
    """Bytes of an open file from `start` on, without moving where others read; how many they were."""
    if hasattr(os, "preadv"):
        return os.preadv(number, [raw.data], start)
    found = os.pread(number, len(raw), start)  # macOS before 11
    raw[: len(found)] = np.frombuffer(found, np.uint8)
    return len(found)


@dataclass
class Reading:
    """What reading a stream brought to light.

    reached: own time at which it ended; None while it was not read to its end. damaged: packets or frames that could
    not be decoded as they should. findings: see there.
    """

    reached: float | None = None
    damaged_frames: int = 0
    findings: Findings = field(default_factory=Findings)

    def begin(self) -> Findings:
        self.reached, self.damaged_frames, self.findings = None, 0, Findings()
        return self.findings

    @property
    def damaged(self) -> int:
        return self.findings.corrupt_packets + self.damaged_frames


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptSound(SoundSource):
    """A `SoundSource` whose samples are kept."""

    spool: Spool[Sound]
    reading: Reading = field(default_factory=Reading)

    def _native(self, findings: Findings) -> Iterator[Sound]:
        def decoded() -> Iterator[Sound]:
            end = None
            for rate, start, values in SoundSource._native(self, self.reading.begin()):
                end = start + values.shape[1] / rate
                yield rate, start, values
            self.reading.reached = end

        yield from self.spool.through(decoded)


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptPictures(PictureSource):
    """A `PictureSource` whose frames are kept as they will be stored, and their brightness as the check looks at it."""

    shaper: Shaper
    shaped: Spool[Frame]
    greys: dict[int, Spool[Grey]]
    folder: Path
    limit: float
    reading: Reading = field(default_factory=Reading)

    def grey(self, pixels: int, findings: Findings) -> Iterator[Grey]:
        spool = self.greys.get(pixels)
        if spool is None:
            spool = Spool(
                self.folder, self.limit, lambda item: item, lambda time, values: (time, values), _size_of_grey
            )
            self.greys[pixels] = spool
        yield from spool.through(lambda: PictureSource.grey(self, pixels, findings))

    def frames(self, findings: Findings, threads: int = 0) -> Iterator[Frame]:
        found = self._decoded(threads)
        yield from self.shaped.noting(found, lambda item: (item[0], self.shaper(item[1])))

    def shaped_frames(self) -> Iterator[Frame]:
        """(time, PyAV frame) as they are stored."""
        if self.shaped.complete:
            yield from self.shaped.read()
            return
        for time, frame in self._decoded():
            yield time, self.shaper(frame)

    def _decoded(self, threads: int = 0) -> Iterator[Frame]:
        end = None
        for time, frame in PictureSource.frames(self, self.reading.begin(), threads):
            self.reading.damaged_frames += bool(frame.is_corrupt)
            end = time
            yield time, frame
        self.reading.reached = None if end is None else end + 1.0 / self.rate


def keeping(recording: Recording, shaper: Callable[[], Shaper], folder: Path, limit: float) -> Recording:
    """The recording, its sound and pictures decoded once where `limit` bytes of each suffice."""

    def kept(source: Any) -> Any:
        given = {f.name: getattr(source, f.name) for f in fields(source)} if type(source) in _KEPT else {}
        if type(source) is SoundSource:
            return KeptSound(**given, spool=Spool(folder, limit, _packed_sound, _unpacked_sound, _size_of_sound))
        if type(source) is PictureSource:
            shape = shaper()
            height, width = shape.form.size or (source.height, source.width)
            # What will not fit is not begun: bytes of a frame in 4:2:0, of as many as the header promises.
            fits = 1.5 * height * width * source.rate * source.duration <= limit
            spool: Spool[Frame] = Spool(folder, limit if fits else 0.0, packed_frame, unpacked_frame, _size_of_frame)
            return KeptPictures(**given, shaper=shape, shaped=spool, greys={}, folder=folder, limit=limit)
        return source

    return replace(recording, streams=tuple(replace(s, values=kept(s.values)) for s in recording.streams))


_KEPT = (SoundSource, PictureSource)


def damage_of(recording: Recording) -> list[str]:
    """What is wrong with the streams that were read: in words, none where they are whole."""
    found = []
    for stream in recording.streams:
        if not isinstance(stream.values, KeptSound | KeptPictures):
            continue
        reading = stream.values.reading
        if reading.damaged:
            found.append(f"{stream.name}: {reading.damaged} damaged packets or frames")
        if reading.reached is not None and stream.end - reading.reached > max(_SHORT, min(1.0, 0.05 * stream.duration)):
            held = max(0.0, reading.reached - stream.start_time)
            found.append(f"{stream.name}: states {stream.duration:.2f} s and holds {held:.2f} s: cut short")
        # No device writes these with a gap: what lay there was lost.
        if recording.facts.get("container") == "flac" and (gaps := reading.findings.gaps):
            found.append(f"{stream.name}: {sum(size for _, size in gaps):.2f} s cannot be read, {_first(gaps)}")
    paths = {s.values.path for s in recording.streams if isinstance(s.values, KeptSound | KeptPictures)}
    return found + [words for path in sorted(paths) if (words := _cut_chunk(path))]


def _first(gaps: list[tuple[float, float]]) -> str:
    return f"from {gaps[0][0]:.2f} s on" if len(gaps) == 1 else f"in {len(gaps)} places"


def _cut_chunk(path: str) -> str | None:
    """Whether a file whose first chunk is all of it (WAV, AVI, AIFF) lacks a part: FFmpeg takes what is there."""
    with open(path, "rb") as file:
        head = file.read(8)
        held = os.fstat(file.fileno()).st_size - len(head)
    if len(head) < 8 or head[:4] not in _CHUNKS:
        return None
    stated = int.from_bytes(head[4:], _CHUNKS[head[:4]])
    # Recorders that write into a pipe state nothing, or all bits.
    if stated in (0, 0xFFFFFFFF) or stated <= held + 1:
        return None
    return f"states {stated} bytes and holds {held}: cut short"


_CHUNKS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
_SHORT = 0.2  # seconds that a stream may lack at its end: encoders and headers round


def _size_of_sound(item: Sound) -> int:
    return item[2].nbytes


def _size_of_frame(item: Frame) -> int:
    return sum(plane.buffer_size for plane in item[1].planes)


def _size_of_grey(item: Grey) -> int:
    return item[1].nbytes


def _packed_sound(item: Sound) -> tuple[tuple[float, float], NDArray[np.float32]]:
    rate, start, values = item
    return (rate, start), values


def _unpacked_sound(facts: tuple[float, float], values: NDArray[np.float32]) -> Sound:
    return (*facts, values)
