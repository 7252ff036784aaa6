"""A WAV file of one recording's sound over the whole timeline."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from avfuse.rendering.placing import Clock, PlacedSound
from avfuse.rendering.progress import Progress
from avfuse.rendering.wav import wav_header, wav_size, write_samples
from avfuse.stream import Stream

_BLOCK = 1.0  # seconds of sound in memory


@dataclass(eq=False)
class SoundFile:
    """name: without suffix. start, length: of the timeline, reference seconds. notes: what a person should know."""

    name: str
    sound: Stream
    clock: Clock
    start: float
    length: float
    notes: list[str] = field(default_factory=list)
    suffix: str = ".wav"

    @property
    def size(self) -> int:
        """Bytes that the file will have."""
        sound = self._placed()
        return wav_size(self._frames(sound.rate), sound.channels)

    def _placed(self) -> PlacedSound:
        return PlacedSound(self.sound, self.clock, self.start)

    def _frames(self, rate: int) -> int:
        # Rounding alone must not add a sample behind the end.
        return max(1, math.ceil(self.length * rate - 1e-6))

    def write(self, path: Path, progress: Progress) -> None:
        sound = self._placed()
        frames, block = self._frames(sound.rate), round(_BLOCK * sound.rate)
        with path.open("wb") as file:
            file.write(wav_header(frames, sound.rate, sound.channels, self.sound.channels))
            for first in range(0, frames, block):
                write_samples(file, sound.take(min(block, frames - first)))
                progress.reached(first / sound.rate)
