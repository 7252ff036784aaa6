"""Work shared among the cores of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many this process may use."""
    # macOS and Windows tell how many there are, and no more.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cores(function: Callable[[Item], Result], items: Iterable[Item], *, most: int = 2) -> list[Result]:
    """`function` of every item, in their order, by threads; it should leave the interpreter's lock alone.

    most: threads, for each holds memory of its own.
    """
    with ThreadPoolExecutor(min(most, cores())) as pool:
        return list(pool.map(function, items))
