"""Thousands of short clips, one in a hundred of which is broken: the job finishes, and every one of these is told.

A clip is broken where something of it cannot be read, or is missing: kinds of it that people meet in folders of
downloads and of memory cards.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avfuse.reporting.tables import Table
from avfuse.simulation.stamped import stamped_film, write_film
from benchmarks.measuring import run_here
from benchmarks.options import Options
from benchmarks.prepare.manifests import write_manifest
from benchmarks.prepare.speed import HighWaters
from benchmarks.tables import Goals

DISTINCT = 200  # clips that are made; the others are links to them
LENGTH = 1.0  # seconds
PATIENCE = 0.6  # seconds for each clip, and a minute's worth: what takes longer hangs
Break = Callable[[Path, bytes, np.random.Generator], None]


def _write(change: Callable[[bytes, np.random.Generator], bytes]) -> Break:
    def broken(path: Path, good: bytes, rng: np.random.Generator) -> None:
        path.write_bytes(change(good, rng))

    return broken


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Outermost boxes of an MP4 file: name -> (begin, end); of several with one name the last."""
    found, at = {}, 0
    while at + 8 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        found[data[at + 4 : at + 8]] = (at, at + size)
        at += max(size, 8)
    return found


def _index_first(path: Path, good: bytes, rng: np.random.Generator) -> None:
    """The file with its index before its samples, as for the web, and then cut short."""
    import io

    import av

    with av.open(io.BytesIO(good)) as read, av.open(str(path), "w", options={"movflags": "+faststart"}) as write:
        tracks = {s.index: write.add_stream_from_template(s) for s in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream_index]
                write.mux(packet)
    whole = path.read_bytes()
    begin, end = boxes(whole)[b"mdat"]
    path.write_bytes(whole[: begin + (end - begin) // 2])


def _without_samples(data: bytes, rng: np.random.Generator) -> bytes:
    """Two streams, and nothing in them."""
    import io

    import av

    out = io.BytesIO()
    with av.open(out, "w", "mp4") as container:
        picture, sound = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=16000)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound.layout = "mono"
        container.start_encoding()
    return out.getvalue()


def _damaged_samples(data: bytes, rng: np.random.Generator) -> bytes:
    begin, end = boxes(data)[b"mdat"]
    changed = bytearray(data)
    first = begin + 8 + (end - begin) // 4
    changed[first:end] = rng.bytes(end - first)
    return bytes(changed)


def _garbled_index(data: bytes, rng: np.random.Generator) -> bytes:
    begin, end = boxes(data)[b"moov"]
    return data[: begin + 16] + rng.bytes(end - begin - 16) + data[end:]


def _sound_with(value: float) -> Break:
    def broken(path: Path, good: bytes, rng: np.random.Generator) -> None:
        """A film in Matroska whose sound, in floats, has a value that is no sound."""
        import av

        made = path.with_suffix(".mkv")
        with av.open(str(made), "w") as container:
            picture, sound = container.add_stream("libx264", rate=10), container.add_stream("pcm_f32le", rate=16000)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            sound.layout = "mono"
            for k in range(10):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
                frame.pts = k
                container.mux(picture.encode(frame))
            values = rng.normal(0.0, 0.1, (1, 16000)).astype(np.float32)
            values[0, 8000:8010] = value
            heard = av.AudioFrame.from_ndarray(values, "flt", "mono")
            heard.sample_rate, heard.pts = 16000, 0
            container.mux(sound.encode(heard))
            container.mux(picture.encode(None))
            container.mux(sound.encode(None))
        made.rename(path)

    return broken


KINDS: dict[str, Break] = {
    "not there": lambda path, good, rng: None,
    "a folder": lambda path, good, rng: path.mkdir(),
    "empty": _write(lambda good, rng: b""),
    "text": _write(lambda good, rng: b"Dear reader, this is no film.\n" * 40),
    "a page of an error": _write(lambda good, rng: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"),
    "random bytes": _write(lambda good, rng: rng.bytes(4000)),
    "cut short in its header": _write(lambda good, rng: good[:30]),
    "cut short, index at the end": _write(lambda good, rng: good[: len(good) // 2]),
    "cut short, index first": _index_first,
    "index garbled": _write(_garbled_index),
    "samples damaged": _write(_damaged_samples),
    "streams without samples": _write(_without_samples),
    "no streams": _write(lambda good, rng: _box(b"ftyp", b"isom\0\0\2\0isomiso2") + _box(b"mdat", bytes(64))),
    "NaN in its sound": _sound_with(np.nan),
    "infinite in its sound": _sound_with(np.inf),
    "a link to nothing": lambda path, good, rng: path.symlink_to(path.with_suffix(".gone")),
    "a link to itself": lambda path, good, rng: path.symlink_to(path),
    "a pipe that nobody writes to": lambda path, good, rng: os.mkfifo(path),
}


def make_clips(folder: Path, count: int, seed: int) -> tuple[dict[str, Path], dict[str, str]]:
    """Name -> file of `count` clips, and name -> kind of those that are broken. Made anew each time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, 11])
    made = []
    for k in range(min(DISTINCT, count)):
        path = folder / f"made-{k}.mp4"
        film = stamped_film(LENGTH, [seed, k], rate=10.0, sound_rate=16000, size=(64, 48), seed=k)
        write_film(path, film)
        made.append(path)
    number = max(count // 100, len(KINDS))
    places = dict(zip(rng.choice(count, number, replace=False).tolist(), range(number), strict=True))
    clips, broken = {}, {}
    for k in range(count):
        name, good = f"clip-{k:05d}", made[k % len(made)]
        # A name says nothing of what is in a file: some have another one.
        path = folder / f"{name}{'.mov' if k % 50 == 7 else '.mp4'}"
        if k in places:
            broken[name] = list(KINDS)[places[k] % len(KINDS)]
            KINDS[broken[name]](path, good.read_bytes(), rng)
        else:
            os.link(good, path)
        clips[name] = path
    return clips, broken


def tables(options: Options, goals: Goals) -> list[Table]:
    count = options.pick(500, 10_000)
    room = options.out / "prepare" / "broken"
    clips, broken = make_clips(room / "clips", count, options.seed)
    manifest = write_manifest(room / "clips.jsonl", {name: {"camera": path} for name, path in clips.items()})
    out = room / "out"
    shutil.rmtree(out, ignore_errors=True)
    marks = HighWaters()
    command = [sys.executable, "-m", "avfuse", "prepare", str(manifest), "-o", str(out), "--workers", "2",
               "--stream", "picture=camera/picture", "--stream", "sound=camera/sound"]  # fmt: skip
    ran = run_here(command, started=marks.watch, time_limit=PATIENCE * (60 + count))
    finished = ran.code == 3 and (out / "prepare.json").exists()
    goals.add("the job finishes, and says that something was left out (exit 3)",
              "it hung, and was ended" if ran.timed_out else f"exit {ran.code}", finished)  # fmt: skip
    if not finished:
        return [Table("It did not finish", ("what was said",), [(line,) for line in ran.stderr.splitlines()[-5:]])]
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text("utf-8").splitlines()]
    told = {e["event"]: e for e in errors if e["message"]}
    held = _held(out)
    lacking = [name for name in broken if name not in told]
    wrongly = [name for name in told if name not in broken]
    lost = [name for name in clips if name not in broken and name not in held]
    kept = [name for name in broken if name in held]
    goals.add("every broken one is in errors.jsonl with its reason", f"{len(broken) - len(lacking)} of {len(broken)}",
              not lacking)  # fmt: skip
    goals.add("no good one is in errors.jsonl", f"{len(wrongly)}", not wrongly)
    goals.add(
        "every good one is in the shards", f"{count - len(broken) - len(lost)} of {count - len(broken)}", not lost
    )
    goals.add("no broken one is in the shards", f"{len(kept)}", not kept)
    rows = []
    for kind, number in Counter(broken.values()).items():
        these = [name for name, k in broken.items() if k == kind]
        example = next((told[name] for name in these if name in told), {"kind": "–", "message": "–"})
        rows.append((kind, number, sum(name in told for name in these), example["kind"], example["message"][:110]))
    return [
        Table(
            f"{count:,} clips of {LENGTH:g} s, {len(broken)} of them broken, by 2 workers",
            ("broken", "count", "told", "as", "for example"), rows,
        ),
        Table(
            "What it took", ("clips", "seconds", "clips/s", "parent (MB)", "largest worker (MB)"),
            [(count, f"{ran.seconds:.0f}", f"{count / ran.seconds:.1f}", f"{marks.parent:.0f}",
              f"{marks.largest_child:.0f}")],
        ),
    ]  # fmt: skip


def _held(out: Path) -> set[str]:
    """Events of which a sample with a picture and a sound really lies in a shard."""
    keys: Counter[str] = Counter()
    for shard in out.glob("*/*.tar"):
        with tarfile.open(shard) as archive:
            keys.update(info.name.partition(".")[0] for info in archive if info.size and info.isfile())
    rows = map(json.loads, (out / "manifest.jsonl").read_text("utf-8").splitlines())
    return {row["event"] for row in rows if row["shard"] is not None and keys[row["key"]] == 3}
