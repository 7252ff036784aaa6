"""Tasks in processes of their own, whose results come in the order of the tasks.

Workers are started afresh, never forked, and know nothing of the script that started them: it needs no
`if __name__ == "__main__"`. One that dies, grows too large or takes too long costs its own task, and that only where
another try fails as well. Tasks are handed out a bounded number ahead of the first whose result was not taken yet.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from avfuse.cores import LIMIT
from avfuse.errors import AvfuseError

Task = TypeVar("Task")
Result = TypeVar("Result")
# One core for each worker, so that workers do not slow down one another, and sums are added in one order everywhere.
ENVIRONMENT: Mapping[str, str] = {
    LIMIT: "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
_LOOK = 0.25  # seconds between looks at memory and time


@dataclass(frozen=True)
class Failed:
    """A task without a result. kind: of the error; attempts: tries that it took; error: what `function` raised."""

    kind: str
    message: str
    attempts: int = 1
    error: AvfuseError | None = None


@dataclass(frozen=True)
class Bounds:
    """What a task may take. memory: bytes of its process; seconds: of time; retries: further tries where a process
    dies or something unforeseen is raised; what avfuse raises on purpose would be raised again.
    """

    memory: float | None = None
    seconds: float | None = None
    retries: int = 2


BOUNDS = Bounds()


def settle() -> None:
    """What the environment cannot tell to libraries that are loaded: one thread."""
    import cv2

    cv2.setNumThreads(1)


def attempt(function: Callable[[Any], Any], task: Any) -> Any:
    """The result, or `Failed`; what is unforeseen keeps its place in the code."""
    try:
        return function(task)
    except AvfuseError as error:
        return Failed(type(error).__name__, str(error), error=error)
    except MemoryError:
        return Failed("MemoryError", "memory ran out")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Failed("Fault", f"{text} ({os.path.basename(where.filename)}:{where.lineno})")


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int, ahead: int, bounds: Bounds = BOUNDS
) -> Iterator[Result | Failed]:
    """`function` of every task, in their order, by `workers` processes.

    function: can be pickled. ahead: tasks that are handed out before the result of the first of them is taken.
    """
    pool = _Pool(function, workers, bounds)
    try:
        waiting: dict[int, Result | Failed] = {}
        given = taken = 0
        source = enumerate(tasks)
        exhausted = False
        while True:
            while not exhausted and given - taken < ahead:
                found = next(source, None)
                if found is None:
                    exhausted = True
                else:
                    pool.tasks.put(found)
                    given += 1
            if exhausted and taken == given:
                return
            while taken not in waiting:
                number, result = pool.results.get()
                if number < 0:
                    raise result
                waiting[number] = result
            yield waiting.pop(taken)
            taken += 1
    finally:
        pool.stop()


@dataclass
class _Worker:
    """began: when it took its task; None while it has none. ended_for: why it was killed."""

    process: subprocess.Popen[bytes]
    began: float | None = None
    ended_for: str | None = None


@dataclass
class _Pool(Generic[Task, Result]):
    function: Callable[[Task], Result]
    count: int
    bounds: Bounds
    tasks: queue.Queue[Any] = field(default_factory=queue.Queue)
    results: queue.Queue[Any] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._workers: list[_Worker | None] = [None] * self.count
        self._threads = [threading.Thread(target=self._serve, args=(k,), daemon=True) for k in range(self.count)]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for _ in range(self.count):
            self.tasks.put(None)
        for worker in self._workers:
            if worker is not None:
                _end(worker.process)
        for thread in self._threads:
            thread.join()

    def _start(self, k: int) -> _Worker:
        paths = [os.getcwd() if path == "" else path for path in sys.path]
        process = subprocess.Popen(
            [sys.executable, "-m", "avfuse.preparation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C meets who waits for it
        )
        assert process.stdin is not None  # asked for
        worker = self._workers[k] = _Worker(process)
        pickle.dump(self.function, process.stdin)
        process.stdin.flush()
        return worker

    def _serve(self, k: int) -> None:
        """One worker after the other, and its tasks."""
        try:
            worker: _Worker | None = None
            while (item := self.tasks.get()) is not None and not self._stopped.is_set():
                number, task = item
                attempts = 0
                while True:
                    attempts += 1
                    if worker is None or worker.process.poll() is not None:
                        worker = self._start(k)
                    result = self._ask(worker, task)
                    if self._stopped.is_set():
                        return
                    again = isinstance(result, Failed) and result.kind in ("Fault", "Died")
                    if not again or attempts > self.bounds.retries:
                        break
                if isinstance(result, Failed):
                    result = Failed(result.kind, result.message, attempts, result.error)
                self.results.put((number, result))
        except BaseException as error:  # such as no more processes: whoever waits for results is told
            if not self._stopped.is_set():
                self.results.put((-1, error))

    def _ask(self, worker: _Worker, task: Any) -> Any:
        process = worker.process
        assert process.stdin is not None  # asked for
        assert process.stdout is not None
        worker.began = time.monotonic()
        try:
            pickle.dump(task, process.stdin)
            process.stdin.flush()
            return pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            process.wait()
            if worker.ended_for is not None:
                return Failed("Limit", worker.ended_for)
            code = process.returncode
            how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
            return Failed("Died", f"its process ended {how}: a decoder crashed, or memory ran out")
        finally:
            worker.began = None

    def _watch(self) -> None:
        import psutil

        while not self._stopped.wait(_LOOK):
            for worker in list(self._workers):
                began = worker.began if worker is not None else None
                if worker is None or began is None or worker.ended_for is not None:
                    continue
                took, bounds = time.monotonic() - began, self.bounds
                if bounds.seconds is not None and took > bounds.seconds:
                    worker.ended_for = f"took longer than {bounds.seconds:g} s"
                    _end(worker.process)
                    continue
                if bounds.memory is None:
                    continue
                with suppress(psutil.Error):
                    if psutil.Process(worker.process.pid).memory_info().rss > bounds.memory:
                        worker.ended_for = f"took more than {bounds.memory / 2**30:g} GiB of memory"
                        _end(worker.process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
