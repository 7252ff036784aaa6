"""How far a render has come."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[float, str], None]


class Progress:
    """Passes the share of all files' seconds that are done, 0..1, to a callback, in steps worth telling.

    lengths: file name -> seconds.
    """

    def __init__(self, callback: ProgressCallback | None, lengths: dict[str, float]) -> None:
        self._callback = callback
        self._lengths = lengths
        self._total = max(sum(lengths.values()), 1e-9)
        self._done = 0.0
        self._file = ""
        self._told = -1.0

    def begin(self, file: str) -> None:
        self._done += self._lengths.get(self._file, 0.0)
        self._file = file
        self.reached(0.0)

    def reached(self, time: float) -> None:
        """`time` seconds of the current file are written."""
        fraction = (self._done + min(max(time, 0.0), self._lengths.get(self._file, 0.0))) / self._total
        if self._callback is not None and fraction >= self._told + 0.002:
            self._told = fraction
            self._callback(min(fraction, 1.0), self._file)
