"""How others cut a span out of a film: by copying streams, by encoding again, by seeking to a frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.evaluation.processes import run
from avfuse.simulation.stamped import times_of_frames
from benchmarks.peers import RUNNERS, Method, python_of

TAKEN = {".mp4", ".webm", ".mov", ".avi", ".mkv"}  # by the names that video2dataset knows
Span = tuple[float, float]  # seconds since the file's time 0
F64 = NDArray[np.float64]
TORCHCODEC = Method(
    "torchcodec", ("cut_with_torchcodec.py",), "", "torchcodec", ("torch==2.13.0", "torchcodec==0.13.0", "numpy")
)
DECORD = Method("decord", ("cut_with_decord.py",), "", "decord", ("decord==0.6.0", "numpy"))


PATIENCE = 120.0  # seconds for all spans of a film


class NotTaken(RuntimeError):
    """A kind of file that a tool is not made for."""


@dataclass(frozen=True, eq=False)
class Cut:
    """What a tool gives for a span, with the times that it states, in seconds since the start of the span.

    shown: (n,) the moments that its frames bear. times: (n,) of the frames, as stated. sound: (m,) of one channel;
    sound_start: of its first sample.
    """

    shown: F64
    times: F64
    sound: F64
    sound_start: float
    rate: float


Cutter = Callable[[Path, Sequence[Span]], Iterator[Cut | None]]


def start_of(path: Path) -> float:
    """Seconds of the file's own time stamps at its time 0, as FFmpeg says."""
    import av

    with av.open(str(path)) as container:
        return (container.start_time or 0) / 1e6


def by_video2dataset(precision: str, sound: str) -> Cutter:
    """`ClippingSubsampler` of video2dataset 1.3 with precision "low" (its default) or "exact".

    Its FFmpeg commands, as its source gives them (subsamplers/clipping_subsampler.py, data_reader.py): each modality is
    a file of its own, cut by the segment muxer at the starts and ends of all spans. sound: "mp3", that of the sound
    made from the film beforehand; or "mp4", what was cut along with the picture.
    """

    def cut(path: Path, spans: Sequence[Span]) -> Iterator[Cut | None]:
        if path.suffix not in TAKEN:
            raise NotTaken(f"takes no {path.suffix}")
        borders, chosen = _borders(spans)
        how = ["-force_key_frames", borders] if precision == "exact" else ["-c", "copy"]
        with TemporaryDirectory() as folder:
            room = Path(folder)
            made = {}
            # Whatever is in it, a file is named after the format that was asked for.
            shutil.copy(path, room / "input.mp4")
            if sound == "mp3":
                _ffmpeg("-i", str(path), "-map", "0:a", "-f", "mp3", str(room / "input.mp3"))
            how += ["-f", "segment", "-map", "0", "-reset_timestamps", "1", "-segment_times", borders]
            for format_ in dict.fromkeys(("mp4", sound)):
                _ffmpeg("-i", str(room / f"input.{format_}"), *how, str(room / f"clip_%d.{format_}"))
                made[format_] = sorted(room.glob(f"clip_*.{format_}"), key=lambda p: int(p.stem.split("_")[1]))
            for k in chosen:
                if any(k >= len(clips) for clips in made.values()):
                    yield None
                    continue
                shown, times = _pictures(made["mp4"][k])
                samples, start, rate = _samples(made[sound][k])
                yield Cut(shown, times, samples, start, rate)

    return cut


def _borders(spans: Sequence[Span]) -> tuple[str, list[int]]:
    """What `-segment_times` is given, and which of the pieces are the spans."""
    borders: list[float] = []
    chosen, before = [], 0.0
    for start, end in spans:
        borders += [end] if start == before else [start, end]
        chosen.append(len(borders) - 1)
        before = end
    return ",".join(map(str, borders)), chosen


def _ffmpeg(*words: str) -> None:
    _run(["ffmpeg", "-v", "error", "-y", *words], 2 * PATIENCE)


def _run(command: Sequence[str], patience: float) -> None:
    """Raises RuntimeError with the program's last words where it fails, or takes more than `patience` seconds."""
    done = run(command, memory_limit=12.0, time_limit=patience)
    if done.timed_out:
        raise RuntimeError(f"no end after {patience:.0f} s")
    if done.code:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.code}"])[-1][-160:])


def _pictures(path: Path) -> tuple[F64, F64]:
    import av

    shown, times = [], []
    with av.open(str(path)) as container:
        if container.streams.video:
            for frame in container.decode(video=0):
                shown.append(_borne(frame))
                times.append(frame.time)
    return np.array(shown), np.array(times)


def _borne(frame: Any) -> float:
    return float(times_of_frames(frame.to_ndarray(format="gray")[None])[0])


def _samples(path: Path) -> tuple[F64, float, float]:
    import av

    parts: list[Any] = []
    start, rate = 0.0, 1.0
    with av.open(str(path)) as container:
        if container.streams.audio:
            rate = float(container.streams.audio[0].rate)
            for frame in container.decode(audio=0):
                start = frame.time if not parts else start
                parts.append(_mono(frame))
    return np.concatenate(parts) if parts else np.zeros(0), start, rate


def _mono(frame: Any) -> F64:
    values = frame.to_ndarray()
    scale = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    return np.asarray(values.mean(axis=0) / scale, np.float64)


def by_seeking(path: Path, spans: Sequence[Span]) -> Iterator[Cut | None]:
    """PyAV, `Container.seek` to the key frame before the start, then what is decoded with a time stamp in the span."""
    import av

    shift = start_of(path)
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        for start, end in spans:
            seen, heard = (_sought(container, stream, start + shift, end + shift) for stream in (picture, sound))
            if not seen or not heard:
                yield None
                continue
            since = shift + start
            yield Cut(
                np.array([_borne(f) for f in seen]), np.array([f.time for f in seen]) - since,
                np.concatenate([_mono(f) for f in heard]), heard[0].time - since, float(heard[0].sample_rate),
            )  # fmt: skip


def _sought(container: Any, stream: Any, start: float, end: float) -> list[Any]:
    container.seek(int(start / stream.time_base), stream=stream)
    found = []
    for frame in container.decode(stream):
        if frame.time >= end:
            break
        if frame.time >= start:
            found.append(frame)
    return found


def by_runner(method: Method) -> Cutter:
    """A tool in an environment of its own: it is asked in the file's own time stamps."""

    def cut(path: Path, spans: Sequence[Span]) -> Iterator[Cut | None]:
        shift = start_of(path)
        with TemporaryDirectory() as folder:
            listed = Path(folder) / "spans.json"
            listed.write_text(json.dumps([[start + shift, end + shift] for start, end in spans]), "utf-8")
            command = [python_of(method), str(RUNNERS / method.runner[0]), str(path), str(listed), folder]
            _run(command, PATIENCE)
            for k, (start, _) in enumerate(spans):
                with np.load(Path(folder) / f"{k}.npz") as found:
                    since, sound = shift + start, found["sound"].astype(np.float64)
                    yield Cut(times_of_frames(found["frames"]), found["times"] - since, sound,
                              float(found["sound_start"]) - since, float(found["rate"]))  # fmt: skip

    return cut


CUTTERS: dict[str, Cutter] = {
    "video2dataset, mp4 and mp3": by_video2dataset("low", "mp3"),
    "video2dataset, mp4 alone": by_video2dataset("low", "mp4"),
    "video2dataset exact, mp4 and mp3": by_video2dataset("exact", "mp3"),
    "video2dataset exact, mp4 alone": by_video2dataset("exact", "mp4"),
    "torchcodec": by_runner(TORCHCODEC),
    "decord": by_runner(DECORD),
    "PyAV seek": by_seeking,
}
