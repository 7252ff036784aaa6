"""Work shared among the cores of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


LIMIT = "AVFUSE_CORES"


def cores() -> int:
    """How many this process may use: those of the system, or fewer where the environment's AVFUSE_CORES says so."""
    # macOS and Windows tell how many there are, and no more.
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get(LIMIT, "")
    return min(there, int(told)) if told.isdecimal() and int(told) else there


def on_cores(function: Callable[[Item], Result], items: Iterable[Item], *, most: int = 2) -> list[Result]:
    """`function` of every item, in their order, by threads; it should leave the interpreter's lock alone.

    most: threads, for each holds memory of its own.
    """
    with ThreadPoolExecutor(min(most, cores())) as pool:
        return list(pool.map(function, items))


_ALONE = RLock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread meanwhile: for small products, and for ones that threads share.

    The limit is the process's, so callers wait for one another: two at once would give back each other's.
    """
    with _ALONE, _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> Any:
    """Which libraries there are is found once: it takes longer than a small product."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
