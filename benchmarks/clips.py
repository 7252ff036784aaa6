"""Pieces of real recordings, for pairs that share nothing."""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile

import avfuse
from avfuse.stream import Stream

_LENGTHS = (10.0, 6.0, 15.0)  # seconds, in turn
_SHORTEST = 2.0
# One recording of every event, so that pieces of different files share nothing; clicks repeat by themselves.
_FILES = (
    "sound/timbl_1.mp3", "sound/echo_loudspeaker.wav", "sound/noecho_loudspeaker.wav", "sound/noecho_microphone.wav",
    "sound/ami_array/AMI_WSJ20-Array1-1_T10c0201.wav", "speech/bobby.wav", "motion/karma.mp4",
    "picture/nasa_13013.mp4", "picture/VID00003-20100701-2204.avi", "picture/bbaf2n.mpg", "picture/lwbsza.mpg",
    "picture/sbia1a.mpg", "picture/id2_vcd_swwp2s.mpg", "picture/flipping_a_pancake.mkv", "picture/fire2.mp4",
    "picture/face_22fps.mp4", "geometry/respeaker/one_source_a180_e20_50cm.wav",
    "geometry/respeaker/two_sources_a180_e20_a225_e35_50cm.wav",
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """device: what recorded it. begins, ends: seconds on that recording; clips of one that overlap are no strangers."""

    name: str
    device: str
    begins: float
    ends: float
    stream: Stream


def real_clips(shared: Path) -> list[Clip]:
    """Every recording with sound, cut into pieces of 6 to 15 s; none where the folder is absent."""
    found = []
    for path in (shared / name for name in _FILES):
        if not path.exists():
            continue
        sounds = avfuse.read(path).of_kind("sound")
        if not sounds:
            continue
        blocks = [values for _, values in sounds[0].blocks(10.0, 16000.0)]
        samples = np.concatenate(blocks, axis=1)
        begin, number = 0, 0
        while samples.shape[1] - begin >= _SHORTEST * 16000:
            end = min(begin + round(_LENGTHS[number % len(_LENGTHS)] * 16000), samples.shape[1])
            stream = Stream.from_samples(np.ascontiguousarray(samples[:, begin:end]), rate=16000.0)
            name = f"{path.name}@{begin / 16000:g}"
            found.append(Clip(name, path.name, begin / 16000, end / 16000, stream))
            begin, number = end, number + 1
    return found


def digit_clips(shared: Path, count: int, *, seed: int, digits: int = 12) -> list[Clip]:
    """One speaker each, saying digits recorded one by one, each recording used once; 8 kHz, about 8 s."""
    archive = shared / "labelled" / "fsdd.tar"
    if not archive.exists():
        return []
    spoken: dict[str, list[np.ndarray]] = defaultdict(list)
    with tarfile.open(archive) as tar:
        members = sorted((m for m in tar.getmembers() if m.name.endswith(".wav")), key=lambda m: m.name)
        np.random.default_rng(seed).shuffle(members)
        for member in members:
            speaker = Path(member.name).stem.split("_")[1]
            if len(spoken[speaker]) < digits * -(-count // 6):
                file = tar.extractfile(member)
                assert file is not None
                spoken[speaker].append(soundfile.read(io.BytesIO(file.read()), dtype="float32")[0])
    rng = np.random.default_rng(seed)
    found = []
    for speaker, recordings in sorted(spoken.items()):
        for first in range(0, len(recordings) - digits + 1, digits):
            parts = [np.pad(r, (0, int(rng.integers(800, 3200)))) for r in recordings[first : first + digits]]
            stream = Stream.from_samples(np.concatenate(parts), rate=8000.0)
            found.append(Clip(f"{speaker}-{first}", f"fsdd {speaker}", first, first + digits, stream))
    return found[:count] if count < 6 else found


def strangers(clips: list[Clip], count: int, *, seed: int) -> list[tuple[int, int]]:
    """`count` pairs of clips that share nothing (all there are, where fewer); those of one device come first."""
    pairs = [
        (i, j)
        for i, j in combinations(range(len(clips)), 2)
        if clips[i].device != clips[j].device or clips[i].ends <= clips[j].begins or clips[j].ends <= clips[i].begins
    ]
    np.random.default_rng(seed).shuffle(pairs)
    # A third from one device, which are the harder ones.
    same = [p for p in pairs if clips[p[0]].device == clips[p[1]].device][: count // 3]
    other = [p for p in pairs if clips[p[0]].device != clips[p[1]].device]
    return [(int(i), int(j)) for i, j in [*same, *other][:count]]
