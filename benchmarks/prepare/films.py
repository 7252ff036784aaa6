"""Films that tell their own time (`avfuse.simulation.stamped`), in the ways in which cameras and sites write them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from avfuse.simulation.stamped import stamped_film, write_film

# Samples that an encoder puts before the first one. MP4 and Matroska say that they are to be skipped; a transport
# stream cannot, so that they are presented.
_PRIMING = {"aac": 1024, "mp2": 481, "ac3": 256}


@dataclass(frozen=True)
class Film:
    """name: of the file. sound: its encoder. rate: mean frames per second; variable: see `stamped_film`. starts: of
    picture and sound, seconds."""

    name: str
    sound: str
    rate: float
    variable: float
    starts: tuple[float, float]
    sound_rate: int = 48000

    @property
    def zero(self) -> float:
        """The moment (seconds) that the file's time 0 shows: that of its earliest presented frame or sample."""
        priming = _PRIMING.get(self.sound, 0) if self.name.endswith(".ts") else 0
        return min(self.starts[0], self.starts[1] - priming / self.sound_rate)

    def make(self, folder: Path, duration: float, seed: int) -> Path:
        """The file; made where it is not there yet."""
        path, stamp = folder / self.name, folder / f"{self.name}.json"
        wanted = json.dumps({**asdict(self), "duration": duration, "seed": seed})
        if path.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        film = stamped_film(duration, seed, rate=self.rate, variable=self.variable, starts=self.starts,
                            sound_rate=self.sound_rate, seed=seed)  # fmt: skip
        write_film(path, film, sound=self.sound)
        stamp.write_text(wanted, "utf-8")
        return path


FILMS = (
    Film("phone.mp4", "aac", 29.97, 0.6, (0.32, 0.0)),
    Film("site.mkv", "libopus", 25.0, 0.6, (0.0, 0.35)),
    Film("broadcast.ts", "aac", 25.0, 0.3, (0.0, 0.4)),
    Film("steady.mp4", "aac", 25.0, 0.0, (0.0, 0.7), 44100),
    Film("screen.mkv", "flac", 12.0, 0.8, (0.48, 0.0), 44100),
    Film("fast.mov", "aac", 59.94, 0.4, (0.0, 0.25)),
    Film("old.ts", "mp2", 25.0, 0.0, (0.5, 0.0)),
    Film("late.mp4", "libmp3lame", 23.976, 0.5, (1.1, 0.0)),
)
