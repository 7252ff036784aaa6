"""Windows a second out of shards: avfuse beside webdataset's own loader with PyAV on the same tar files."""

from __future__ import annotations

import io
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import avfuse
from avfuse.preparation import PictureForm, Recipe, SoundForm, cuts, prepare, read_windows
from avfuse.reporting.tables import Table
from benchmarks.options import Options
from benchmarks.prepare.manifests import write_manifest
from benchmarks.prepare.speed import make_films
from benchmarks.tables import Goals

BATCH = 16
LENGTH = 1.0  # seconds of a window
SIZE = (112, 112)
WORKERS = (0, 2)


def tables(options: Options, goals: Goals) -> list[Table]:
    batch = 4 if options.quick else BATCH
    count, seconds = (2, 8) if options.quick else (8, 40)
    room = options.out / "prepare"
    films = make_films(room / "speed", count, seconds)
    manifest = write_manifest(room / "loader.jsonl", {film.stem: {"camera": film} for film in films})
    place = room / "loader"
    shutil.rmtree(place, ignore_errors=True)
    recipe = Recipe(
        duration=LENGTH, streams={"picture": "camera/picture", "sound": "camera/sound"}, shard=count * seconds // 8,
        picture=PictureForm(size=SIZE, fit="crop"), sound=SoundForm(rate=16000.0, mono=True),
    )  # fmt: skip
    windows = prepare(manifest, place, recipe, workers=2).samples
    readers: dict[str, Callable[[], Iterable[int]]] = {
        "avfuse.windows (NumPy), in this process": partial(_own, place, batch)
    }
    for workers in WORKERS:
        readers[f"avfuse.nn loader, {_called(workers)}"] = partial(_torch, place, batch, workers)
        readers[f"webdataset WebLoader, PyAV, {_called(workers)}"] = partial(_webdataset, place, batch, workers)
    _check_equal(place)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for repeat in range(options.pick(1, 5)):
        for name in list(readers)[:: -1 if repeat % 2 else 1]:
            took[name].append(_measure(readers[name], windows))
    rows = []
    for name, runs in took.items():
        whole, steady = (statistics.median(r[k] for r in runs) for k in (0, 1))
        rows.append((name, f"{steady:.0f}", f"{whole:.0f}", " ".join(f"{r[1]:.0f}" for r in runs)))
    for workers in WORKERS:
        ratio = statistics.median(
            a[1] / b[1]
            for a, b in zip(
                took[f"avfuse.nn loader, {_called(workers)}"],
                took[f"webdataset WebLoader, PyAV, {_called(workers)}"], strict=True,
            )
        )  # fmt: skip
        goals.add(f"loader, {_called(workers)}: >= 0.9 x webdataset with PyAV", f"{ratio:.2f} x", ratio >= 0.9)
    return [
        Table(
            f"{windows} windows of {LENGTH:g} s (30 frames of 112 x 112, 16 kHz sound) out of shards, {batch} at once",
            ("reader", "windows/s", "windows/s, start-up included", "every run"), rows,
            "In turns; medians. Windows a second count from the first batch to the last one. webdataset decodes with "
            "PyAV, one thread, as its users do, and hands out lists; avfuse also pads, with times and validity.",
        )
    ]  # fmt: skip


def _called(workers: int) -> str:
    return f"{workers} workers" if workers else "no workers"


def _measure(reader: Callable[[], Iterable[int]], windows: int) -> tuple[float, float]:
    """Windows a second, with the start and without. Raises SystemExit where not all came."""
    began = time.perf_counter()
    first, read, early = began, 0, 0
    for size in reader():
        if not read:
            first, early = time.perf_counter(), size
        read += size
    ended = time.perf_counter()
    if read != windows:
        raise SystemExit(f"{read} of {windows} windows were read")
    return windows / (ended - began), (windows - early) / max(ended - first, 1e-9)


def _own(place: Path, batch: int) -> Iterable[int]:
    return (len(found) for found in avfuse.windows(place, batch=batch))


def _torch(place: Path, batch: int, workers: int) -> Iterable[int]:
    from avfuse.nn.data import loader

    return (len(labels) for _, labels in loader(cuts(place), batch, workers=workers))


def _webdataset(place: Path, batch: int, workers: int) -> Iterable[int]:
    import webdataset

    shards = sorted(map(str, (place / "train").glob("*.tar")))
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).map(decoded)
    dataset = dataset.batched(batch, collation_fn=list)
    context = "spawn" if workers else None
    return map(
        len, webdataset.WebLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    )


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """What a user of webdataset and PyAV writes."""
    import av

    with av.open(io.BytesIO(sample["picture.mp4"])) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(io.BytesIO(sample["sound.flac"])) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return {"picture": frames, "sound": sound.astype(np.float32) / 32768.0, "row": json.loads(sample["json"])}


def _check_equal(place: Path) -> None:
    """Both read the same: else their speeds are not to be compared."""
    import webdataset

    shard = min((place / "train").glob("*.tar"))
    theirs = decoded(next(iter(webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False))))
    ours = next(iter(read_windows(place)))
    same = np.array_equal(theirs["sound"][0], ours.samples["sound"].values[:, 0])
    # Colours are converted by different code.
    near = np.abs(theirs["picture"].astype(int) - ours.samples["picture"].values.astype(int)).mean() < 3.0
    if not (same and near):
        raise SystemExit(f"{shard}: webdataset and avfuse do not read the same")
