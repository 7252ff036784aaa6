"""Aligned recordings in windows, and windows in batches: values with their times, validity and confidence.

    windows   cuts an aligned event into ragged `Window`s on the common timeline
    collate   pads windows to one `Batch` of NumPy arrays

Nothing is resampled unless asked; what is padding, missing or not a number is masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.stream import Array

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """What one stream has to say about one window.

    values: `(n, ...)`, time first: sound `(n, channels)`, pictures `(n, height, width, colour)`, sensors
        `(n, channels)`, text `(n,)` integer tokens.
    times: `(n,)` float64 seconds on the common timeline, in order.
    valid: `(n,)`, False where a value is not known (NaN in a sensor's log); such values are 0.
    confidence: probability that the stream's clock is right, of the alignment; 1 for the reference.
    std: seconds, 1 sigma of the times against the common timeline, given that it is right.
    rate: Hz of evenly sampled streams in their own time; None for others.
    """

    values: Array
    times: F64
    valid: Bool
    confidence: float = 1.0
    std: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        n = len(self.values) if self.values.ndim else -1
        if self.times.shape != (n,) or self.valid.shape != (n,):
            raise StreamError(
                f"Samples: values of shape {self.values.shape}, times {self.times.shape}, valid {self.valid.shape}; "
                "expected one time and one validity for each value"
            )
        if self.times.dtype != np.float64:
            raise StreamError(f"Samples: times are {self.times.dtype}; expected float64 seconds")
        if not np.isfinite(self.times).all() or (np.diff(self.times) < 0).any():
            raise StreamError("Samples: times are not finite and in order; sort the values by time")
        if not 0.0 <= self.confidence <= 1.0:
            raise StreamError(f"Samples: confidence {self.confidence!r}; expected a probability, 0 ... 1")
        if not self.std >= 0.0:
            raise StreamError(f"Samples: std {self.std!r} s; expected 0 or more (infinity: no time is known)")


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of one event: what each modality has in it.

    event: name of the event; windows of one event belong into one split.
    start, duration: seconds on the common timeline; the window holds start <= t < start + duration.
    samples: modality -> its samples; a modality that the event lacks, or that is not aligned, is not in it.
    label: of the window; None where there is none.
    """

    event: str
    start: float
    duration: float
    samples: Mapping[str, Samples]
    label: Any = None


@dataclass(frozen=True, eq=False)
class Padded:
    """One modality of a batch.

    values: `(batch, time, ...)`; 0 where nothing is valid.
    times: `(batch, time)` float64 seconds since the start of each window; 0 in padding.
    valid: `(batch, time)`, False in padding and where a value is not known.
    present: `(batch,)`, whether the window has anything valid of this modality.
    confidence, std: `(batch,)`, see `Samples`; 0 where not present.
    rate: Hz, one for each window; None where it has none.
    """

    values: Array
    times: F64
    valid: Bool
    present: Bool
    confidence: F64
    std: F64
    rate: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows, padded: `batch["sound"].values`.

    modalities: name -> `Padded`, in the order of names. events, starts, durations, labels: one for each window.
    """

    modalities: Mapping[str, Padded]
    events: tuple[str, ...]
    starts: F64
    durations: F64
    labels: tuple[Any, ...] = field(default=())

    def __getitem__(self, name: str) -> Padded:
        try:
            return self.modalities[name]
        except KeyError:
            raise KeyError(f"this batch has no modality {name!r}; it has {', '.join(self.modalities)}") from None

    def __len__(self) -> int:
        return len(self.events)


def collate(windows: Sequence[Window]) -> Batch:
    """Windows of any lengths and modalities as one batch.

    Raises StreamError where there is no window, where one has nothing valid at all, where shapes of values differ
    between windows, or where a value that is said to be valid is NaN or infinite.
    """
    if not windows:
        raise StreamError("collate: no windows; expected at least one")
    for window in windows:
        if not any(samples.valid.any() for samples in window.samples.values()):
            raise StreamError(
                f"collate: window of {window.event!r} at {window.start:.3f} s has no modality with a valid value; "
                "leave it out"
            )
    names = sorted({name for window in windows for name in window.samples})
    return Batch(
        {name: _padded(name, windows) for name in names},
        tuple(window.event for window in windows),
        np.array([window.start for window in windows], np.float64),
        np.array([window.duration for window in windows], np.float64),
        tuple(window.label for window in windows),
    )


def _padded(name: str, windows: Sequence[Window]) -> Padded:
    rows = [window.samples.get(name) for window in windows]
    some = next(row for row in rows if row is not None)
    shape, dtype = some.values.shape[1:], np.result_type(*(row.values for row in rows if row is not None))
    longest = max(len(row.values) for row in rows if row is not None)
    count = len(windows)
    values = np.zeros((count, longest, *shape), dtype)
    times, valid = np.zeros((count, longest)), np.zeros((count, longest), bool)
    for k, (window, row) in enumerate(zip(windows, rows, strict=True)):
        if row is None:
            continue
        where = f"collate: {name!r} of {window.event!r} at {window.start:.3f} s"
        if row.values.shape[1:] != shape:
            raise StreamError(
                f"{where}: values of shape {row.values.shape[1:]} beside {shape}; expected one shape in a batch: "
                "ask `windows` for a size, or batch by shape"
            )
        known = row.values[row.valid]
        if known.dtype.kind == "f" and not np.isfinite(known).all():
            raise StreamError(f"{where}: NaN or infinite values that are said to be valid; mask or replace them")
        n = len(row.values)
        values[k, :n][row.valid] = known
        times[k, :n] = row.times - window.start  # in float64: what is cast later is small
        valid[k, :n] = row.valid
    present: Bool = np.any(valid, axis=1)
    return Padded(
        values,
        times,
        valid,
        present,
        np.array([row.confidence if row is not None and p else 0.0 for row, p in zip(rows, present, strict=True)]),
        np.array([row.std if row is not None and p else 0.0 for row, p in zip(rows, present, strict=True)]),
        tuple(None if row is None else row.rate for row in rows),
    )
