"""An example to learn from: raw recordings of takes, each with a label, as two devices wrote them.

In each take one of a few signs is shown several times, and its word is said each time. A camera films it from across
the room; a recorder stands closer. Both started at moments of their own, and their clocks run at speeds of their own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avfuse.errors import WriteError
from avfuse.files import check_folder, replacing
from avfuse.simulation.labelled import (
    Difficulty,
    Examples,
    drawn_shapes,
    simulate_labelled,
    simulated_gestures,
    spoken_tones,
)
from avfuse.simulation.media import write_media
from avfuse.stream import Recording

SIGNS = ("circle", "cross", "house", "wave")
_TAKES, _UNSEEN, _LASTS = 8, 2, 12.0  # of each sign, and seconds
# Hard enough that neither the sound nor the picture alone tells all signs.
_DIFFICULTY = Difficulty(background_db=10.0, grain=110.0)

_CONFIGURATION = """\
# Takes of four signs: which one is it? Every key is explained in docs/training.md.
format = "avfuse.train/1"
seed = {seed}
dim = 48

{data}
[modalities.sound]
{sound}encoder = "sound"
layers = 1

[modalities.picture]
{picture}encoder = "video_convolution"
layers = 1

[fusion]
kind = "cross_attention"
layers = 1

[head]
kind = "classification"

[training]
epochs = 16
batch = 16
rate = 2e-3
modality_dropout = 0.2
"""
_OF_RECORDINGS = """\
[data]
manifest = "takes.jsonl"
spacing = 3.0  # metres that camera and recorder may stand apart
validation = 0.25

[window]
duration = 2.0
hop = 1.0
"""
_OF_SHARDS = """\
[data]
shards = "shards"
workers = 1
"""
_RECIPE = """\
# How the same windows are stored: avfuse prepare takes.jsonl -o shards --recipe recipe.toml
duration = 2.0
hop = 1.0
spacing = 3.0
validation = 0.25
seed = {seed}

[streams]
sound = "recorder/sound"
picture = "camera/picture"
"""


def write_example(
    folder: str | os.PathLike[str], *, seed: int = 0, tell: Callable[[float, str], None] | None = None
) -> tuple[Path, list[list[Path]]]:
    """Write `train.toml`, `takes.jsonl` and takes to learn from, and others below `unseen/`.

    Beside them, for the same by way of shards: `recipe.toml` for `avfuse prepare`, and `train-shards.toml`.
    Returns the configuration, and the files of each unseen take, which lie in a folder called after its sign.
    Raises WriteError where the folder holds something already, or cannot be written to.
    """
    root = Path(folder)
    check_folder(root)
    if root.is_dir() and any(root.iterdir()):
        raise WriteError(f"{root}: is not empty; choose another folder for the example")
    rng = np.random.default_rng(seed)
    count = len(SIGNS)
    sources = (
        spoken_tones(count, 40, rng),
        drawn_shapes(count, 40, rng, size=32),
        simulated_gestures(count, 2, rng),
    )
    lines, unseen = [], []
    total = count * (_TAKES + _UNSEEN)
    for number in range(total):
        take, label = divmod(number, count)
        learned = take < _TAKES
        name = f"{SIGNS[label]}-{take + 1}"
        place = root / ("takes" if learned else "unseen") / name
        place.mkdir(parents=True)
        files = _write_take(sources, label, place, rng)
        if learned:
            paths = {role: os.path.relpath(path, root) for role, path in files.items()}
            lines.append(json.dumps({"event": name, "files": paths, "label": SIGNS[label]}))
        else:
            unseen.append(list(files.values()))
        if tell is not None:
            tell((number + 1) / total, f"recording {name}")
    with replacing(root / "takes.jsonl") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    named = {"sound": 'stream = "recorder/sound"\n', "picture": 'stream = "camera/picture"\n'}
    for name, text in (
        ("train.toml", _CONFIGURATION.format(seed=seed, data=_OF_RECORDINGS, **named)),
        ("train-shards.toml", _CONFIGURATION.format(seed=seed, data=_OF_SHARDS, sound="", picture="")),
        ("recipe.toml", _RECIPE.format(seed=seed)),
    ):
        with replacing(root / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return root / "train.toml", unseen


def _write_take(sources: tuple[Examples, ...], label: int, folder: Path, rng: np.random.Generator) -> dict[str, Path]:
    spoken, shown, gestures = (_only(source, label) for source in sources)
    event = simulate_labelled(spoken, shown, gestures, rng=rng, duration=_LASTS, difficulty=_DIFFICULTY)
    found = {}
    for recording, suffix in zip(event.recordings[:2], (".mp4", ".wav"), strict=True):
        path = folder / f"{recording.name}{suffix}"
        write_media(path, Recording(recording.name, recording.streams))
        found[recording.name] = path
    return found


def _only(source: Examples, label: int) -> Examples:
    """Examples of one class."""
    mine = np.flatnonzero(source.labels == label).tolist()
    return Examples([source.values[k] for k in mine], source.labels[mine], source.rate)
