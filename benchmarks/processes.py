"""Wall time and memory of a program and everything that it starts."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks.options import ROOT

_EVERY = 0.02  # seconds between looks at memory


@dataclass(frozen=True)
class Ran:
    """seconds: wall time, start-up included. peak_mb: MB resident at most, children included.

    code: exit status; negative where a signal ended it.
    """

    seconds: float
    peak_mb: float
    code: int
    stdout: str
    stderr: str


def run(command: Sequence[str], *, memory: float | None = None, timeout: float = 3600.0) -> Ran:
    """Run `command` to its end. memory: GB of address space it may ask for, None for no limit.

    A program that exceeds `timeout` seconds is ended, with everything it started, and has code -9.
    """

    # The package under test is the one beside the benchmarks, installed or not.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    began = time.perf_counter()
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True, errors="replace"
    )
    if memory is not None:
        # Long before a program asks for much; what it starts later inherits the limit.
        size = round(memory * 1e9)
        psutil.Process(process.pid).rlimit(psutil.RLIMIT_AS, (size, size))
    watch = _Watch(process.pid)
    watch.start()
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        stdout, stderr = process.communicate()
    except BaseException:
        process.kill()
        raise
    finally:
        seconds = time.perf_counter() - began
        watch.done.set()
        watch.join()
    return Ran(seconds, watch.peak / 1e6, process.returncode, stdout, stderr)


class _Watch(threading.Thread):
    """Adds up what a process and its children keep in memory, again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        try:
            process = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return
        while not self.done.wait(_EVERY):
            total = 0
            for one in [process, *_children(process)]:
                try:
                    total += one.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
