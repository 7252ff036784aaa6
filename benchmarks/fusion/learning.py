"""Windows of labelled events on disk, and a short loop that trains on them: what the parts share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from avfuse.batches import Batch, Padded, Window, collate
from avfuse.nn.encoders import SensorConvolution
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, to_timed
from benchmarks.rows import Row

_ARRAYS = ("values", "times", "valid", "present", "confidence", "std")
Drawn = Callable[[np.ndarray], np.ndarray]  # (networks, windows) -> those that were drawn
_PEAK = 3e-3  # learning rate


@dataclass(frozen=True, eq=False)
class Data:
    """Windows, padded to the longest of them. labels: (windows,). events: (windows,), which event each is of."""

    modalities: Mapping[str, Padded]
    labels: np.ndarray
    events: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Data:
        batch = collate(windows)
        number = {name: k for k, name in enumerate(dict.fromkeys(batch.events))}
        labels = np.array([int(label) for label in batch.labels])
        return cls(batch.modalities, labels, np.array([number[name] for name in batch.events]))

    def only(self, *names: str) -> Data:
        return replace(self, modalities={name: self.modalities[name] for name in names})

    def rows(self, chosen: np.ndarray) -> dict[str, Timed]:
        """Some of the windows as tensors, without padding that none of them needs."""
        found = {}
        for name, padded in self.modalities.items():
            longest = max(int(np.flatnonzero(padded.valid[chosen].any(axis=0)).max(initial=0)) + 1, 1)
            cut = (padded.values, padded.times, padded.valid)
            found[name] = Padded(
                *(array[chosen, :longest] for array in cut),
                *(array[chosen] for array in (padded.present, padded.confidence, padded.std)),
                tuple(padded.rate[k] for k in chosen),
            )
        none = np.zeros(len(chosen))
        return to_timed(Batch(found, ("",) * len(chosen), none, none))

    def save(self, folder: Path) -> None:
        """As arrays that several processes can read without each holding a copy."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, padded in self.modalities.items():
            for array in _ARRAYS:
                np.save(folder / f"{name}.{array}.npy", getattr(padded, array))
            np.save(folder / f"{name}.rate.npy", np.array([np.nan if r is None else r for r in padded.rate]))
        np.save(folder / "labels.npy", self.labels)
        np.save(folder / "events.npy", self.events)

    @classmethod
    def load(cls, folder: Path) -> Data:
        modalities = {}
        for name in sorted(path.name.split(".")[0] for path in folder.glob("*.rate.npy")):
            rate = tuple(None if np.isnan(r) else float(r) for r in np.load(folder / f"{name}.rate.npy"))
            arrays = (np.load(folder / f"{name}.{array}.npy", mmap_mode="r") for array in _ARRAYS)
            modalities[name] = Padded(*arrays, rate)
        return cls(modalities, np.load(folder / "labels.npy"), np.load(folder / "events.npy"))


def trained(make: Callable[[], FusionNet], data: Data, *, epochs: int, seed: int) -> FusionNet:
    """A network that `make` makes, trained by AdamW: 64 windows a step, the rate risen in a tenth of the steps and
    fallen along a cosine in the rest. Equal seeds give equal networks."""
    torch.manual_seed(seed)
    net = make().train()
    for name, encoder in net.encoders.items():
        if isinstance(encoder, SensorConvolution):
            encoder.fit(data.only(name).rows(np.arange(len(data)))[name])
    optimiser = torch.optim.AdamW(net.parameters(), lr=_PEAK, weight_decay=0.02)
    rng = np.random.default_rng(seed)
    parts = [part for _ in range(epochs) for part in _parts(rng.permutation(len(data)), 64)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _PEAK, total_steps=len(parts), pct_start=0.1, div_factor=10.0
    )
    for chosen in parts:
        wanted = torch.as_tensor(data.labels[chosen])
        loss = functional.cross_entropy(net(data.rows(chosen)), wanted, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


@torch.inference_mode()
def correct(net: nn.Module, data: Data) -> np.ndarray:
    """(windows,) whether the class that scores highest is the right one."""
    decided = [net(data.rows(part)).argmax(dim=1).numpy() for part in _parts(np.arange(len(data)), 256)]
    return np.concatenate(decided) == data.labels


def bits(right: np.ndarray) -> str:
    """Whether each was right, for a row that is kept as text."""
    return "".join("01"[int(r)] for r in right)


def rights(rows: list[Row], field: str, **of: str) -> np.ndarray:
    """(networks, windows): whether each was right, of the rows that have these values, by seed."""
    found = sorted((r for r in rows if of.items() <= r.items()), key=lambda r: int(r["seed"]))
    return np.array([[bit == "1" for bit in r[field]] for r in found])


def _parts(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [np.sort(order[k : k + size]) for k in range(0, len(order), size)]


def interval(statistic: Callable[[Drawn], float], shape: tuple[int, int],
             groups: np.ndarray, rng: np.random.Generator, *, draws: int = 2000) -> tuple[float, float]:  # fmt: skip
    """95 % interval of a figure over networks and events, both drawn again with replacement.

    statistic: given a function that turns an array (networks, windows) into that of a draw, the figure of the draw.
    shape: (networks, windows). groups: (windows,), the event of each window; windows of one event are drawn together.
    """
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    found = []
    for _ in range(draws):
        networks = rng.integers(shape[0], size=shape[0])
        windows = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])

        def drawn(array: np.ndarray, networks: np.ndarray = networks, windows: np.ndarray = windows) -> np.ndarray:
            return np.asarray(array[np.ix_(networks, windows)])

        found.append(statistic(drawn))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
