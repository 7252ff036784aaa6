"""Missing streams and co-learning on AV-MNIST: digits that are seen as one number and heard through loud noise."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from avfuse.batches import Samples, Window, collate
from avfuse.nn.timed import Timed, to_timed
from benchmarks.options import SHARED

F32 = NDArray[np.float32]

_RATE = 8000.0  # Hz, of FSDD
_SNR = -10.0  # dB
_LONGEST = 1.0  # seconds of a recording that are kept: 99 % of them are shorter
_DIGITS = 10


@dataclass(frozen=True)
class Sources:
    """Images and recordings of one split, by digit: none of them is in another split.

    images: digit -> (n, 28, 28) in 0 ... 1, one principal component of each. recordings: digit -> waveforms.
    """

    images: tuple[F32, ...]
    recordings: tuple[tuple[F32, ...], ...]


@dataclass(frozen=True)
class Pair:
    """An image and a recording of one digit; the noise is drawn for this pair."""

    image: F32
    sound: F32
    digit: int


def split_sources(rng: np.random.Generator) -> dict[str, Sources]:
    """Train, validation and test: 2,400, 300 and 300 recordings; 50,000, 10,000 and MNIST's own 10,000 test images."""
    recordings = _recordings()
    data = np.load(SHARED / "labelled" / "mnist.npz")
    order = rng.permutation(len(data["x_train"]))
    parts = {"train": order[:50_000], "validation": order[50_000:]}
    pictures = {name: (data["x_train"][index], data["y_train"][index]) for name, index in parts.items()}
    pictures["test"] = (data["x_test"], data["y_test"])
    # The component is that of the training images alone.
    flat = pictures["train"][0].reshape(-1, 784).astype(np.float64) / 255
    mean = flat.mean(axis=0)
    _, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean))
    component = vectors[:, -1]
    orders = [rng.permutation(len(recordings[digit])) for digit in range(_DIGITS)]
    shares = {"train": slice(60, None), "validation": slice(30, 60), "test": slice(0, 30)}
    return {
        name: Sources(
            tuple(_reconstructed(images[labels == digit], mean, component) for digit in range(_DIGITS)),
            tuple(tuple(recordings[d][k] for k in orders[d][shares[name]]) for d in range(_DIGITS)),
        )
        for name, (images, labels) in pictures.items()
    }


def _reconstructed(images: NDArray[np.uint8], mean: NDArray[np.float64], component: NDArray[np.float64]) -> F32:
    flat = images.reshape(-1, 784) / 255 - mean
    made = mean + (flat @ component)[:, None] * component
    return np.clip(made, 0.0, 1.0).reshape(-1, 28, 28).astype(np.float32)


@lru_cache(maxsize=1)
def _recordings() -> list[list[F32]]:
    found: list[list[F32]] = [[] for _ in range(_DIGITS)]
    with tarfile.open(SHARED / "labelled" / "fsdd.tar") as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.name.endswith(".wav"):
                file = archive.extractfile(member)
                assert file is not None
                sound, _ = soundfile.read(io.BytesIO(file.read()), dtype="float32")
                found[int(member.name.rsplit("/", 1)[-1][0])].append(sound[: int(_LONGEST * _RATE)])
    return found


def draw_pairs(sources: Sources, count: int, rng: np.random.Generator) -> list[Pair]:
    """Digits in turn; each image is used once before any is used again, and so is each recording."""
    pairs = []
    for digit in range(_DIGITS):
        images, recordings = sources.images[digit], sources.recordings[digit]
        each = count // _DIGITS
        seen, heard = (_in_rounds(len(of), each, rng) for of in (images, recordings))
        for one, other in zip(seen, heard, strict=True):
            clean = recordings[other]
            power = float(np.mean(clean**2))
            noise = rng.standard_normal(len(clean)) * np.sqrt(power * 10 ** (-_SNR / 10))
            pairs.append(Pair(images[one], (clean + noise).astype(np.float32), digit))
    return [pairs[k] for k in rng.permutation(len(pairs))]


def _in_rounds(count: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = [rng.permutation(count) for _ in range(-(-wanted // count))]
    return np.concatenate(rounds)[:wanted]


def to_batch(pairs: list[Pair]) -> dict[str, Timed]:
    """Through windows as any recording would come: the image belongs to the whole of it."""
    made = []
    for pair in pairs:
        n = len(pair.sound)
        sound = Samples(pair.sound[:, None], np.arange(n) / _RATE, np.ones(n, bool), rate=_RATE)
        image = Samples(pair.image[None, :, :, None], np.zeros(1), np.ones(1, bool), std=np.inf)
        made.append(Window("pair", 0.0, _LONGEST, {"image": image, "sound": sound}, pair.digit))
    return to_timed(collate(made))
