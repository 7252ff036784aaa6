"""Columns as they are read, block after block, into one array per stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError

_T = TypeVar("_T")


def check_rate(
    path: str, rate: float | None, time_column: str | int | None = None, time_unit: str | None = None
) -> float | None:
    """`rate` itself. Raises ReadError where it is no rate, or comes with a column of time."""
    if rate is None:
        return None
    if time_column is not None or time_unit is not None:
        raise ReadError(f"{path}: rate= says that rows are evenly sampled; leave time_column= and time_unit= out")
    if not (np.isfinite(rate) and rate > 0):
        raise ReadError(f"{path}: rate {rate!r} Hz; expected a positive number")
    return rate


class Collected:
    """Values of several streams, each `(columns, rows)` float64, growing.

    Pages that were never written cost nothing, so arrays are made as long as the file suggests and cut in the end.
    """

    def __init__(self, groups: Sequence[Sequence[int]], texts: Sequence[bool]) -> None:
        self._groups = [tuple(group) for group in groups]
        self._texts: list[list[NDArray[Any]] | None] = [[] if text else None for text in texts]
        self._arrays: list[NDArray[np.float64] | None] = [None] * len(groups)
        self._stamps = np.empty(0, np.int64)
        self.rows = 0

    def add(
        self, columns: Mapping[int, NDArray[Any]], stamps: NDArray[np.int64] | None, count: int, expected: int | None
    ) -> None:
        """`count` rows more. expected: rows that the whole file will have, as far as one can tell."""
        end = self.rows + count
        if end > self._stamps.size:
            self._grow(max(end, expected or 0, 0 if expected else 2 * self.rows))
        if stamps is not None:
            self._stamps[self.rows : end] = stamps
        for group, texts, array in zip(self._groups, self._texts, self._arrays, strict=True):
            if texts is not None:
                texts.append(columns[group[0]])
                continue
            assert array is not None
            for row, k in enumerate(group):
                array[row, self.rows : end] = columns[k]
        self.rows = end

    def finish(self) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
        """One `(rows, columns)` array per group, `(rows,)` of str for text, and the stamps."""
        found: list[NDArray[Any]] = []
        for group, texts, array in zip(self._groups, self._texts, self._arrays, strict=True):
            if texts is not None:
                found.append(np.concatenate(texts) if texts else np.empty(0, np.str_))
            elif array is None:
                found.append(np.empty((0, len(group))))
            else:
                found.append(array[:, : self.rows].T)
        return found, self._stamps[: self.rows]

    def _grow(self, size: int) -> None:
        stamps = np.zeros(size, np.int64)
        stamps[: self.rows] = self._stamps[: self.rows]
        self._stamps = stamps
        for k, (group, texts) in enumerate(zip(self._groups, self._texts, strict=True)):
            if texts is None:
                array = np.empty((len(group), size))
                old = self._arrays[k]
                if old is not None:
                    array[:, : self.rows] = old[:, : self.rows]
                self._arrays[k] = array


def ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The same items, each made while the one before is worked on: decoding and copying let go of Python's lock."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
