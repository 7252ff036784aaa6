"""Programs under test: their wall time, the memory of all that they start, and their end.

Processes are started afresh, never forked, in a session of their own, so that Ctrl-C meets only who waits for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any

_EVERY = 0.02  # seconds between looks at memory
_CHILDREN_EVERY = 5  # looks between searches for children, which go through every process of the machine


@dataclass(frozen=True)
class Ran:
    """seconds: wall time, start-up included. peak_mb: MB resident at most, children included.

    code: exit status; negative where a signal ended it. timed_out: whether it was ended for taking too long.
    """

    seconds: float
    peak_mb: float
    code: int
    stdout: str
    stderr: str
    timed_out: bool = False


def run(
    command: Sequence[str],
    *,
    memory_limit: float | None = None,
    time_limit: float | None = None,
    environment: Mapping[str, str] | None = None,
    started: Callable[[subprocess.Popen[Any]], None] | None = None,
) -> Ran:
    """Run `command` to its end.

    memory_limit: GB of address space that it may ask for. time_limit: seconds after which it is ended, with
    everything it started, and has code -9. started: told the process, so that another thread can end it.
    Raises OSError where it cannot be started.
    """
    with TemporaryFile() as out, TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        timed_out = False
        if started is not None:
            started(process)
        try:
            limit_memory(process.pid, memory_limit)
            with Watch(process.pid) as watch:
                try:
                    process.wait(time_limit)
                except subprocess.TimeoutExpired:
                    timed_out = True
                    kill(process)
                seconds = time.perf_counter() - began
        except BaseException:
            kill(process)
            raise
        said = [read_from(file) for file in (out, err)]
    return Ran(seconds, watch.peak_mb, process.returncode, said[0], said[1], timed_out)


def read_from(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def limit_memory(pid: int, memory_limit: float | None) -> None:
    """Long before a program asks for much; what it starts later inherits the limit. Only Linux can."""
    if memory_limit is None:
        return
    import psutil

    size = round(memory_limit * 1e9)
    with suppress(psutil.Error, AttributeError):
        psutil.Process(pid).rlimit(psutil.RLIMIT_AS, (size, size))


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process and everything that it started, and wait for it."""
    if process.poll() is not None:
        return
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    # Whoever lost their parent is still in the session.
    with suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    process.wait()


class Watch:
    """Adds up what a process and its children keep in memory, again and again: `with Watch(pid) as watch`.

    Resident memory is summed, pages that several share count for each. On Linux the kernel's own high-water mark of
    every process is heeded too, so that a peak between two looks is not lost.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        import psutil

        try:
            process = psutil.Process(self.pid)
        except psutil.Error:
            return
        children: list[Any] = []
        looks = 0
        while True:
            if looks % _CHILDREN_EVERY == 0:
                with suppress(psutil.Error):
                    children = process.children(recursive=True)
            looks += 1
            total = 0
            for one in (process, *children):
                with suppress(psutil.Error):
                    total += one.memory_info().rss
                self.peak_mb = max(self.peak_mb, high_water(one.pid))
            self.peak_mb = max(self.peak_mb, total / 1e6)
            if self._done.wait(_EVERY):
                return


def high_water(pid: int) -> float:
    """MB that a process kept resident at most; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    return 0.0
