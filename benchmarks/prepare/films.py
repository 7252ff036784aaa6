"""Films that tell their own time (`avfuse.simulation.stamped`), in the ways in which cameras and sites write them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from avfuse.simulation import write_media
from avfuse.simulation.stamped import stamped_film, stamped_sound, write_film
from avfuse.stream import Recording, Stream

# Samples that an encoder puts before the first one. MP4 and Matroska say that they are to be skipped; a transport
# stream cannot, so that they are presented.
_RECORDER, _FAST = 44100, 35e-6  # Hz, and how much slower its clock is
_PRIMING = {"aac": 1024, "mp2": 481, "ac3": 256}


@dataclass(frozen=True)
class Film:
    """name: of the file. sound: its encoder. rate: mean frames per second; variable: see `stamped_film`. starts: of
    picture and sound, seconds. recorder: seconds after which a second device starts, whose clock is 35 ppm off, and
    whose sound is to be taken.
    """

    name: str
    sound: str
    rate: float
    variable: float
    starts: tuple[float, float]
    sound_rate: int = 48000
    recorder: float | None = None

    @property
    def streams(self) -> dict[str, str]:
        return {"picture": "camera/picture", "sound": "camera/sound" if self.recorder is None else "recorder/sound"}

    @property
    def begins(self) -> float:
        """Seconds of the file's time from which on everything is there."""
        return max(*self.starts, self.recorder or 0.0) - self.zero

    @property
    def zero(self) -> float:
        """The moment (seconds) that the file's time 0 shows: that of its earliest presented frame or sample."""
        priming = _PRIMING.get(self.sound, 0) if self.name.endswith(".ts") else 0
        return min(self.starts[0], self.starts[1] - priming / self.sound_rate)

    def files(self, folder: Path, duration: float, seed: int) -> dict[str, Path]:
        """Role -> file; made where they are not there yet."""
        path, stamp = folder / self.name, folder / f"{self.name}.json"
        wanted = json.dumps({**asdict(self), "duration": duration, "seed": seed})
        made = {"camera": path} | ({} if self.recorder is None else {"recorder": path.with_suffix(".wav")})
        if stamp.exists() and stamp.read_text("utf-8") == wanted and all(p.exists() for p in made.values()):
            return made
        folder.mkdir(parents=True, exist_ok=True)
        film = stamped_film(duration, seed, rate=self.rate, variable=self.variable, starts=self.starts,
                            sound_rate=self.sound_rate, seed=seed)  # fmt: skip
        write_film(path, film, sound=self.sound)
        if self.recorder is not None:
            heard = np.arange(int((duration - self.recorder) * _RECORDER)) / _RECORDER * (1.0 + _FAST) + self.recorder
            sound = Stream.from_samples(stamped_sound(heard, seed).astype(np.float32), rate=_RECORDER)
            write_media(made["recorder"], Recording("recorder", (sound,)))
        stamp.write_text(wanted, "utf-8")
        return made


FILMS = (
    Film("phone.mp4", "aac", 29.97, 0.6, (0.32, 0.0)),
    Film("site.mkv", "libopus", 25.0, 0.6, (0.0, 0.35)),
    Film("broadcast.ts", "aac", 25.0, 0.3, (0.0, 0.4)),
    Film("steady.mp4", "aac", 25.0, 0.0, (0.0, 0.7), 44100),
    Film("screen.mkv", "flac", 12.0, 0.8, (0.48, 0.0), 44100),
    Film("fast.mov", "aac", 59.94, 0.4, (0.0, 0.25)),
    Film("old.ts", "mp2", 25.0, 0.0, (0.5, 0.0)),
    Film("late.mp4", "libmp3lame", 23.976, 0.5, (1.1, 0.0)),
    Film("two.mp4", "aac", 29.97, 0.3, (0.2, 0.0), recorder=3.21),
)
