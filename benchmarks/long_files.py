"""Hour-long recordings of one event, made once: a camera's MP4 (AAC) and a recorder's WAV, both 48 kHz stereo.

The event is talk, blows and a murmuring room, new in every minute; nothing is looped or tiled. It is made in
pieces, so that hours need little memory.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from avfuse.clock import ClockMap
from avfuse.simulation.sampling import Sound, sample_on_clock
from avfuse.simulation.sounds import make_sound

RATE = 48000
_PIECE = 60.0  # seconds made at a time
_MARGIN = 1.0  # seconds around a piece, more than the resampler and the clocks reach
_DELAY = 0.4e-3  # seconds between a device's two microphones
_NOISE = 0.01  # RMS of each microphone's own noise; the event's is about 0.1


@dataclass(frozen=True)
class LongFile:
    """name: with its suffix. begins: event seconds at its time 0. duration: seconds. drift: of its clock."""

    name: str
    begins: float
    duration: float
    drift: float = 0.0
    channels: int = 2

    @property
    def clock(self) -> ClockMap:
        """Device time -> event time."""
        return ClockMap(self.begins, self.drift)


def hour_files(minutes: float) -> tuple[LongFile, LongFile, LongFile]:
    """Camera, recorder and a recorder that runs for twice as long: two thirds overlap, recorders drift by 20 ppm.

    minutes: of the first two; 60 for the real thing.
    """
    length = 60.0 * minutes
    later = length / 3 + 0.123456
    stem = f"{minutes:g}min"
    return (
        LongFile(f"camera-{stem}.mp4", 0.0, length),
        LongFile(f"recorder-{stem}.wav", later, length, 20e-6),
        LongFile(f"recorder-{stem}-twice.wav", later, 2 * length, 20e-6),
    )


def make(file: LongFile, folder: Path, seed: int, event: LongEvent | None = None) -> Path:
    """The file in `folder`; made where it is absent. All but WAV is encoded by Debian's ffmpeg.

    event: of this seed, which keeps what was heard for the next file.
    """
    target = folder / f"seed{seed}-{file.name}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    wav = target.with_name(f"unfinished-{target.stem}.wav")
    last = wav
    try:
        with soundfile.SoundFile(wav, "w", RATE, file.channels, "PCM_16", format="WAV") as out:
            for piece in _pieces(file, event or LongEvent(seed), seed):
                out.write(piece.T)
        if target.suffix != ".wav":
            last = target.with_name(f"unfinished-{target.name}")
            program = shutil.which("ffmpeg")
            if program is None:
                raise SystemExit("no ffmpeg program: it encodes the long files (apt-get install ffmpeg)")
            subprocess.run(
                [
                    program,
                    "-v",
                    "error",
                    "-y",
                    "-i",
                    str(wav),
                    "-c:a",
                    "aac",
                    "-b:a",
                    f"{80 * file.channels}k",
                    str(last),
                ],
                check=True,
            )
        last.rename(target)
    finally:
        for left in (wav, last):
            left.unlink(missing_ok=True)
    return target


def _pieces(file: LongFile, event: LongEvent, seed: int) -> Iterator[Sound]:
    """(channels, n) samples at a time of what the device records."""
    rng = np.random.default_rng([seed, sum(map(ord, file.name))])
    total, step = round(file.duration * RATE), round(_PIECE * RATE)
    for first in range(0, total, step):
        n = min(step, total - first)
        begin = float(file.clock(first / RATE)) - _MARGIN
        sound = event.between(begin, begin + n / RATE + 2 * _MARGIN)
        clock = ClockMap(float(file.clock(first / RATE)) - round(begin * RATE) / RATE, file.drift)
        heard = [sample_on_clock(sound, RATE, clock, RATE, n, delay=k * _DELAY) for k in range(file.channels)]
        noise = rng.standard_normal((file.channels, n), np.float32) * np.float32(_NOISE)
        yield np.clip(0.8 * np.stack(heard) + noise, -1.0, 1.0)


class LongEvent:
    """What is to be heard at any event time, made minute by minute. keep: how many minutes are not forgotten again."""

    def __init__(self, seed: int, keep: int = 2) -> None:
        self.seed = seed
        self.keep = keep
        self.minutes: dict[int, Sound] = {}

    def between(self, begin: float, end: float) -> Sound:
        """Samples from round(begin * RATE) to round(end * RATE); silence before event time 0."""
        first, last = round(begin * RATE), round(end * RATE)
        out = np.zeros(last - first, np.float32)
        step = round(_PIECE * RATE)
        for minute in range(max(first // step, 0), (last - 1) // step + 1):
            start = minute * step
            low, high = max(first, start), min(last, start + step)
            out[low - first : high - first] = self._minute(minute)[low - start : high - start]
        self.minutes = dict(list(self.minutes.items())[-self.keep :])
        return out

    def _minute(self, minute: int) -> Sound:
        if minute not in self.minutes:
            rng = np.random.default_rng([self.seed, minute])
            parts = (("speech", 1.0), ("impacts", 0.3), ("ambience", 0.2))
            made = [np.float32(gain) * make_sound(kind, _PIECE, RATE, rng) for kind, gain in parts]
            self.minutes[minute] = np.sum(made, axis=0, dtype=np.float32)
        return self.minutes[minute]
