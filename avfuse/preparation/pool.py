"""Tasks in processes of their own, whose results come in the order of the tasks.

Workers are started afresh, never forked, and know nothing of the script that started them: it needs no
`if __name__ == "__main__"`. One that dies, grows too large or takes too long costs its own task, and that only where
another try fails as well. Tasks are handed out a bounded number ahead of the first whose result was not taken yet.
"""

from __future__ import annotations

import os
import pickle
import queue
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from avfuse.cores import LIMIT
from avfuse.errors import AvfuseError
from avfuse.files import FAULTS_OF_THE_DISK

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
_STARTS = 3  # tries to start a worker
# What a worker runs first. Its folder for what is temporary it makes itself, and removes however it ends.
# Streams are set aside: what a task prints, or what programs that it starts read, must not come between tasks and
# results. Modules are found where whoever asks finds them.
_BEGIN = """
import os, pickle, shutil, sys
folder = os.environ["TMPDIR"]
os.mkdir(folder, 0o700)
tasks, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
try:
    sys.path[:], parent = pickle.load(tasks)
except EOFError:
    shutil.rmtree(folder)
    os._exit(1)
from avfuse.preparation.worker import serve
serve(tasks, results, parent, folder)
"""


@dataclass(frozen=True)
class Failed:
    """A task without a result. kind: the error that avfuse raised, or

    "Died"    its process ended
    "Memory"  it took too much of it
    "Time"    it took too long
    "Fault"   something unforeseen was raised

    attempts: tries that it took.
    """

    kind: str
    message: str
    attempts: int = 1


@dataclass(frozen=True)
class Bounds:
    """What a task may take. memory: bytes of its process; seconds: of time; retries: further tries where a process
    dies or something unforeseen is raised; what avfuse raises on purpose would be raised again.
    """

    memory: float | None = None
    seconds: float | None = None
    retries: int = 2


BOUNDS = Bounds()


def attempt(function: Callable[[Any], Any], task: Any) -> Any:
    """The result, or `Failed`; what is unforeseen keeps its place in the code."""
    try:
        return function(task)
    except AvfuseError as error:
        return Failed(type(error).__name__, str(error))
    except MemoryError:
        return Failed("Memory", "memory ran out")
    except Exception as error:
        # A full disk is nobody's own fault; EIO is also what FFmpeg says of files that it cannot decode.
        if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_DISK and error.filename is not None:
            return Failed("WriteError", f"{error.filename}: {error.strerror}; make room")
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Failed("Fault", f"{text} ({os.path.basename(where.filename)}:{where.lineno})")


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int, ahead: int, bounds: Bounds = BOUNDS
) -> Generator[Result | Failed, None, None]:
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


class StoppedError(Exception):
    """A worker is asked that was stopped."""


class Worker(Generic[Task, Result]):
    """A process that does one task after the other; started when there is one, and again when it has ended."""

    def __init__(self, function: Callable[[Task], Result], bounds: Bounds) -> None:
        self._function, self._bounds = function, bounds
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""
        self._lock = threading.Lock()  # `stop` comes from another thread
        self._stopped = False

    def ask(self, task: Task) -> Result | Failed:
        """The result, after as many tries as the bounds allow.

        Raises AvfuseError where no process can be started, StoppedError after `stop`.
        """
        attempts = 0
        while True:
            attempts += 1
            fresh = self._started()
            result = self._once(task)
            if not isinstance(result, Failed):
                return result
            if result.kind == "Memory":
                self.close()
                if not fresh:  # what earlier tasks left behind is no fault of this one
                    attempts -= 1
                    continue
            if result.kind not in ("Died", "Fault") or attempts > self._bounds.retries:
                return replace(result, attempts=attempts)

    def stop(self) -> None:
        """Whatever it is doing, and for good."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _kill(self._process)
                shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """From the thread that asks."""
        with self._lock:
            self._end()

    def _started(self) -> bool:
        """Whether a process had to be started."""
        if self._process is not None and self._process.poll() is None:
            return False
        for tried in range(1, _STARTS + 1):
            with self._lock:
                if self._stopped:
                    raise StoppedError
                self._end()
                process = self._begin()
            try:
                # Who is slow to start is not looked at: limits are for tasks.
                pickle.dump((_paths(), os.getpid()), _pipe(process.stdin))
                pickle.dump(self._function, _pipe(process.stdin))
                _pipe(process.stdin).flush()
                pickle.load(_pipe(process.stdout))
                return True
            except (EOFError, OSError, pickle.UnpicklingError):
                if tried == _STARTS and not self._stopped:
                    raise AvfuseError(
                        f"workers cannot be started: {sys.executable} {_how(process)} before it could work; run with "
                        "AVFUSE_DEBUG=1 to see what it says"
                    ) from None
        raise AssertionError("not reached")

    def _begin(self) -> subprocess.Popen[bytes]:
        self._folder = os.path.join(tempfile.gettempdir(), f"avfuse-{secrets.token_hex(8)}")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BEGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT, "TMPDIR": self._folder},
            start_new_session=True,  # Ctrl-C meets who waits for it
        )
        return self._process

    def _once(self, task: Task) -> Result | Failed:
        process = self._process
        assert process is not None  # started
        began = time.monotonic()
        try:
            pickle.dump(task, _pipe(process.stdin))
            _pipe(process.stdin).flush()
            while not _answers(process):
                if (beyond := self._beyond(process, time.monotonic() - began)) is not None:
                    _kill(process)
                    return beyond
            result: Result | Failed = pickle.load(_pipe(process.stdout))
            return result
        except (EOFError, OSError, pickle.UnpicklingError):
            if self._stopped:
                raise StoppedError from None
            return Failed("Died", f"its process {_how(process)}: a decoder crashed, or memory ran out")

    def _beyond(self, process: subprocess.Popen[bytes], took: float) -> Failed | None:
        """Where a task is beyond its bounds."""
        import psutil

        if self._bounds.seconds is not None and took > self._bounds.seconds:
            return Failed("Time", f"took longer than {self._bounds.seconds:g} s")
        if self._bounds.memory is not None:
            with suppress(psutil.Error):
                if psutil.Process(process.pid).memory_info().rss > self._bounds.memory:
                    return Failed("Memory", f"took more than {self._bounds.memory / 2**30:.3g} GiB of memory")
        return None

    def _end(self) -> None:
        if self._process is not None:
            _kill(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    _pipe(pipe).close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._process = None


@dataclass
class _Pool(Generic[Task, Result]):
    function: Callable[[Task], Result]
    count: int
    bounds: Bounds
    tasks: queue.Queue[Any] = field(default_factory=queue.Queue)
    results: queue.Queue[Any] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self._workers = [Worker(self.function, self.bounds) for _ in range(self.count)]
        self._threads = [threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        for worker in self._workers:
            self.tasks.put(None)
            worker.stop()
        for thread in self._threads:
            thread.join()

    def _serve(self, worker: Worker[Task, Result]) -> None:
        try:
            while (item := self.tasks.get()) is not None:
                number, task = item
                self.results.put((number, worker.ask(task)))
        except StoppedError:
            return
        except BaseException as error:  # such as no more processes: whoever waits for results is told
            self.results.put((-1, error))
        finally:
            worker.close()


def _paths() -> list[str]:
    """Where modules are looked for, whatever folder a worker is in."""
    return [os.path.abspath(path) for path in sys.path]


def _pipe(found: Any) -> Any:
    assert found is not None  # asked for
    return found


def _answers(process: subprocess.Popen[bytes]) -> bool:
    """Whether something is to be read, or the end, after a short while."""
    waiting = select.poll()
    waiting.register(_pipe(process.stdout), select.POLLIN)
    return bool(waiting.poll(1000 * _LOOK))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how(process: subprocess.Popen[bytes]) -> str:
    """How it ended, as it does where its pipes are closed."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LOOK)
    if process.poll() is None:
        _kill(process)
        return "did not answer"
    code = process.returncode
    return f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
