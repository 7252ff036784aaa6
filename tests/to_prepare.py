"""Recordings to prepare: events of a camera and a recorder, clips, a sensor, files that are broken or not there.

And transforms that workers import.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.preparation import Recipe
from avfuse.simulation import film_with_sound, write_media
from avfuse.stream import Recording, Stream

CLIPS = 5
LOUD = 2  # the clip that `die_if_loud` and others mean
RECIPE = Recipe(duration=1.5, shard=3, validation=0.3)


def make_recordings(folder: Path) -> Path:
    """The manifest."""
    lines: list[dict[str, Any]] = []
    for k in range(2):
        film = film_with_sound("blow", k, duration=5.0, rate=15.0, size=(64, 48), distractors=False).recording
        place = folder / f"event-{k}"
        place.mkdir(parents=True)
        write_media(place / "cam.mp4", film)
        (sound,) = (s for s in film.streams if s.kind == "sound")
        values = np.concatenate([part for _, part in sound.blocks(60.0)], axis=1)[:, 8000:]
        noise = np.random.default_rng(k).normal(0, 1e-3, values.shape)
        heard = Stream.from_samples(np.asarray(values + noise, np.float32), rate=sound.rate)
        write_media(place / "rec.wav", Recording("rec", (heard,)))
        files = {"camera": f"event-{k}/cam.mp4", "recorder": f"event-{k}/rec.wav"}
        lines.append({"event": f"event {k}", "files": files, "label": "blow"})
    for k in range(CLIPS):
        times = np.arange(25600) / 8000.0
        sound = np.asarray((0.9 if k == LOUD else 0.2) * np.sin(2 * np.pi * (200 + 50 * k) * times), np.float32)
        frames = np.full((32, 32, 32, 3), 20 * k + 10, np.uint8)
        frames[:, :, : k + 1] = 255
        streams = (Stream.from_samples(sound, rate=8000.0), Stream("picture", "picture", frames, rate=10.0))
        write_media(folder / f"clip-{k}.mp4", Recording("clip", streams))
        lines.append({"event": f"clip-{k}", "files": {"camera": f"clip-{k}.mp4"}, "label": k})
    rows = "".join(f"{0.02 * k:.2f},{np.sin(0.3 * k):.6f},0.1,0.2\n" for k in range(200))
    (folder / "imu.csv").write_text("time,gyro_x,gyro_y,gyro_z\n" + rows)
    lines.append({"event": "sensor", "files": {"imu": "imu.csv"}})
    (folder / "broken.mp4").write_bytes((folder / "clip-0.mp4").read_bytes()[:700])
    lines.insert(3, {"event": "broken", "files": {"camera": "broken.mp4"}})
    lines.insert(5, {"event": "missing", "files": {"camera": "event-0/cam.mp4", "recorder": "nowhere.wav"}})
    return write_manifest(folder / "events.jsonl", lines)


def write_manifest(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tree(folder: str | os.PathLike[str]) -> dict[str, str]:
    """Every file of a folder, however deep -> the digest of its bytes."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }


def samples(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Name -> bytes of all members of all shards."""
    found = {}
    for path in sorted(Path(folder).glob("*/*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


def _is_loud(given: Any) -> bool:
    return given.values.dtype == np.float32 and float(np.abs(given.values).max()) > 0.8


def as_it_is(given: Any) -> Any:
    return given


def die_if_loud(given: Any) -> Any:
    if _is_loud(given):
        os.kill(os.getpid(), signal.SIGKILL)
    return given


def stay_if_loud(given: Any) -> Any:
    while _is_loud(given):
        time.sleep(1.0)
    return given
