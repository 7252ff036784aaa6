"""One sound through many codecs and containers: each must align with the original at 0."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from avfuse.clock import ClockMap
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import write_media
from avfuse.simulation.sounds import make_sound
from avfuse.stream import Recording, Stream
from benchmarks.cases import truth_of
from benchmarks.measuring import Entry, measure
from benchmarks.options import Options
from benchmarks.tables import Goals, show

RATE = 48000
SECONDS = 30.0


@dataclass(frozen=True)
class Coding:
    """suffix: of the file, which names the container. encoder: as Debian's ffmpeg calls it.

    delay: seconds by which the sound comes late because the container carries no delay; 0 where it must not.
    """

    name: str
    suffix: str
    encoder: tuple[str, ...]
    delay: float = 0.0


# One frame of AAC is 1024 samples; LAME delays by 1105, and its decoder takes back nothing without a header.
CODINGS = (
    Coding("PCM in WAV", "wav", ("pcm_s16le",)),
    Coding("FLAC", "flac", ("flac",)),
    Coding("FLAC in MKV", "mkv", ("flac",)),
    Coding("AAC in MP4", "mp4", ("aac", "-b:a", "128k")),
    Coding("AAC in MOV", "mov", ("aac", "-b:a", "128k")),
    Coding("AAC in MKV", "mkv", ("aac", "-b:a", "128k")),
    Coding("MP3", "mp3", ("libmp3lame", "-b:a", "128k")),
    Coding("MP3 in MKV", "mkv", ("libmp3lame", "-b:a", "128k")),
    Coding("Opus in OGG", "ogg", ("libopus", "-b:a", "96k")),
    Coding("Opus in MKV", "mkv", ("libopus", "-b:a", "96k")),
    Coding("Opus in WebM", "webm", ("libopus", "-b:a", "96k")),
    Coding("Vorbis in OGG", "ogg", ("libvorbis", "-q:a", "4")),
    Coding("Vorbis in WebM", "webm", ("libvorbis", "-q:a", "4")),
    Coding("MP3 in AVI", "avi", ("libmp3lame", "-b:a", "128k"), delay=1105 / RATE),
    Coding("AAC in ADTS", "aac", ("aac", "-b:a", "128k"), delay=1024 / RATE),
    Coding("AAC in MPEG-TS", "ts", ("aac", "-b:a", "128k"), delay=1024 / RATE),
)  # fmt: skip


def original(folder: Path, seed: int) -> Path:
    """30 s of talk with music in stereo, as WAV."""
    import numpy as np

    path = folder / f"original-seed{seed}.wav"
    if not path.exists():
        rng = np.random.default_rng(seed)
        left, right = (make_sound(kind, SECONDS, RATE, rng) for kind in ("speech", "music"))
        mixed = np.stack([left + 0.3 * right, 0.6 * left + 0.5 * right])
        folder.mkdir(parents=True, exist_ok=True)
        write_media(path, Recording("original", (Stream.from_samples(mixed, rate=RATE),)))
    return path


def encode(wav: Path, coding: Coding) -> Path:
    """`wav` in that coding, by Debian's ffmpeg. Raises SystemExit where the program is absent or refuses."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise SystemExit("no ffmpeg program: it encodes what is to be aligned (apt-get install ffmpeg)")
    target = wav.with_name(f"{coding.encoder[0]}.{coding.suffix}")
    done = subprocess.run(
        [program, "-v", "error", "-y", "-i", str(wav), "-c:a", *coding.encoder, str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{coding.name}: ffmpeg failed: {done.stderr.strip()[-300:]}")
    return target


def benchmark(options: Options) -> bool:
    goals = Goals()
    wav = original(options.out / "codecs", options.seed)
    cases: list[Entry] = []
    for coding in CODINGS:
        coded = encode(wav, coding)
        # A file whose sound comes late has it at a later time of its own, so its time 0 lies before the original's.
        cases.append({"name": coding.name, "truth": truth_of(wav, coded, ClockMap(-coding.delay))})
    found = measure(options, "codecs", cases)
    rows = []
    for coding, pair in zip(CODINGS, found.pairs, strict=True):
        if not pair.stated:
            rows.append((coding.name, "–", "–", "–", f"{pair.status}: {pair.reason}"))
            continue
        note = f"exception: no delay is carried, {coding.delay * 1e3:.1f} ms late" if coding.delay else ""
        rows.append((coding.name, f"{(pair.error - coding.delay) * 1e3:+.4f}", milliseconds(pair.std),
                     f"{abs(pair.error) * RATE:.2f}", note))  # fmt: skip
    missed = [p.case for p in found.pairs if not (p.stated and abs(p.error) <= 1 / RATE)]
    worst = max((abs(p.error) for p in found.pairs if p.stated), default=0.0)
    goals.add("every coding at 0 (exceptions at their delay) within one sample of 48 kHz",
              ", ".join(missed) or f"all; {worst * RATE:.2f} samples at most", not missed)  # fmt: skip
    show(
        [Table("One WAV, encoded by ffmpeg, aligned with itself",
               ("coding", "offset [ms]", "stated std [ms]", "error [samples of 48 kHz]", ""), rows), goals.table()],
        options.page, "codecs",
    )  # fmt: skip
    return goals.met
