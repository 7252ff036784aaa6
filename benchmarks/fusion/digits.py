"""Spoken digits of FSDD and written ones of MNIST as `Examples`, each in a part for training and one for testing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from avfuse.simulation.labelled import Examples

_TESTED = 10  # of the 50 recordings of a digit by a speaker: those that are tested, as FSDD numbers them (it takes 5)


def spoken_digits(folder: Path) -> tuple[Examples, Examples]:
    """(training, testing): 2,400 and 600 recordings of 6 speakers, 8 kHz."""
    values: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    with tarfile.open(folder / "fsdd.tar") as tar:
        for member in sorted(tar.getnames()):
            if not member.endswith(".wav"):
                continue
            digit, _, number = Path(member).stem.split("_")
            file = tar.extractfile(member)
            assert file is not None
            samples, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32")
            assert rate == 8000
            part = int(number) < _TESTED
            values[part].append(samples)
            labels[part].append(int(digit))
    training, testing = (Examples(v, np.array(n, np.int64), 8000.0) for v, n in zip(values, labels, strict=True))
    return training, testing


def written_digits(folder: Path, *, components: int) -> tuple[Examples, Examples]:
    """(training, testing): 60,000 and 10,000 images of 28 x 28 that keep no more than `components` principal ones.

    The components are those of the images for training.
    """
    with np.load(folder / "mnist.npz") as stored:
        images = {part: stored[f"x_{part}"].reshape(-1, 784).astype(np.float32) for part in ("train", "test")}
        labels = {part: stored[f"y_{part}"].astype(np.int64) for part in ("train", "test")}
    mean = images["train"].mean(axis=0)
    centred = images["train"] - mean
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :components]
    kept = {part: np.clip((x - mean) @ directions @ directions.T + mean, 0, 255) for part, x in images.items()}
    training, testing = (Examples(kept[part].reshape(-1, 28, 28), labels[part]) for part in ("train", "test"))
    return training, testing
