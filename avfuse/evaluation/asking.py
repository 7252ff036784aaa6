"""Methods asked about files, each in a process of its own: what they say, how long it takes, what memory it needs."""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from avfuse.alignment import Alignment, alignment_from_json
from avfuse.errors import AvfuseError, ReadError
from avfuse.evaluation.methods import Command, Function, Local, Method
from avfuse.evaluation.processes import Watch, kill, limit_memory, read_from, run
from avfuse.evaluation.worker import answer as answer_here

_ROOT = str(Path(__file__).resolve().parents[2])
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method said of a case.

    alignment: None where it failed, for `reason`.
    seconds: of the work itself. startup: of starting the process, loading the method and one small case to warm up;
    both NaN where not measured. peak_mb: memory of all its processes; NaN where other cases ran in them before.
    """

    alignment: Alignment | None
    reason: str = ""
    seconds: float = math.nan
    startup: float = math.nan
    peak_mb: float = math.nan

    @property
    def wait(self) -> float:
        """Seconds that a person waits, start included; NaN without an answer."""
        return (
            math.nan if self.alignment is None else self.seconds + (0.0 if math.isnan(self.startup) else self.startup)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "alignment": None if self.alignment is None else self.alignment.to_json(),
            "reason": self.reason,
            **{key: number(getattr(self, key)) for key in ("seconds", "startup", "peak_mb")},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Answer:
        told = document["alignment"]
        alignment = None if told is None else alignment_from_json(told, "", "a kept answer")
        figures = {k: math.nan if document[k] is None else document[k] for k in ("seconds", "startup", "peak_mb")}
        return cls(alignment, document["reason"], **figures)


def number(value: float) -> float | None:
    """A number as JSON knows it."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Limits:
    """seconds: for one case, None for as long as it takes. memory: GB of address space, None for all there is.

    fresh: a process for each case; else one that answers case after case. one_thread: for processes beside others.
    warm: files to warm up on.
    """

    seconds: float | None = None
    memory: float | None = None
    fresh: bool = True
    one_thread: bool = False
    warm: tuple[str, ...] = ()


class Asker:
    """Asks one method, one case at a time; closed when done. Raises ReadError where a function cannot be loaded."""

    def __init__(self, method: Method, limits: Limits) -> None:
        self.method = method
        self.limits = limits
        self._worker: _Worker | None = None
        self._command: subprocess.Popen[Any] | None = None
        self._warmed = self._loaded = False

    def ask(self, files: Sequence[str]) -> Answer:
        with TemporaryDirectory(prefix="avfuse-evaluate-") as folder:
            out = os.path.join(folder, "alignment.json")
            if isinstance(self.method, Command):
                return self._ask_command(self.method, files, out)
            if isinstance(self.method, Local):
                return self._ask_here(self.method, files, out)
            return self._ask_worker(self.method, files, out)

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        if self._command is not None:
            kill(self._command)

    def _started(self, process: subprocess.Popen[Any]) -> None:
        self._command = process

    def _ask_command(self, method: Command, files: Sequence[str], out: str) -> Answer:
        environment = dict(os.environ) | (_ONE_THREAD if self.limits.one_thread else {})
        try:
            ran = run(
                method.filled(files, out), memory_limit=self.limits.memory, time_limit=self.limits.seconds,
                environment=environment, started=self._started,
            )  # fmt: skip
        except OSError as error:
            return Answer(None, f"cannot be started: {error.strerror}")
        failed = Answer(None, seconds=ran.seconds, startup=0.0, peak_mb=ran.peak_mb)
        if ran.timed_out:
            return replace(failed, reason=self._too_slow())
        text = ran.stdout
        if method.writes:
            if not os.path.exists(out):
                return replace(failed, reason=f"wrote no alignment.json; {last_words(ran.code, ran.stderr)}")
            text = Path(out).read_text("utf-8", "replace")
        elif not text.strip():
            return replace(failed, reason=f"printed nothing; {last_words(ran.code, ran.stderr)}")
        return self._read(text, out, failed)

    def _ask_here(self, method: Local, files: Sequence[str], out: str) -> Answer:
        began = time.perf_counter()
        if not self._warmed and self.limits.warm:
            answer_here(method.call, list(self.limits.warm), None)
            self._warmed = True
        startup = time.perf_counter() - began
        told = answer_here(method.call, list(files), out)
        failed = Answer(None, told.get("error", ""), told["seconds"], startup)
        return failed if "error" in told else self._read(None, out, failed)

    def _ask_worker(self, method: Function, files: Sequence[str], out: str) -> Answer:
        if self._worker is None:
            try:
                self._worker = self._start(method)
            except ReadError as error:
                if not self._loaded:
                    raise
                return Answer(None, str(error))
            self._loaded = True
        worker, first = self._worker, self._worker.asked == 0
        told = worker.ask(files, out)
        if self.limits.fresh or "died" in told:
            self.close()
        failed = Answer(
            None, told.get("error", ""), told["seconds"], worker.startup if first else math.nan,
            worker.peak_mb if self.limits.fresh else math.nan,
        )  # fmt: skip
        if "died" in told:
            return replace(failed, reason=told["died"] or self._too_slow())
        return failed if "error" in told else self._read(None, out, failed)

    def _start(self, method: Function) -> _Worker:
        try:
            return _Worker(method, self.limits)
        except _WarmUpError:
            # What a method cannot do with our small case is no result; what it does with the case itself is.
            self.limits = replace(self.limits, warm=())
            return _Worker(method, self.limits)

    def _too_slow(self) -> str:
        return f"took longer than {self.limits.seconds:g} s and was ended"

    def _read(self, text: str | None, out: str, failed: Answer) -> Answer:
        """The document that was written or printed. It may state its own `seconds`; the rest is then start-up."""
        try:
            document = json.loads(Path(out).read_text(encoding="utf-8") if text is None else text)
            alignment = alignment_from_json(document, os.path.dirname(out), "its answer")
        except (ValueError, RecursionError) as error:
            return replace(failed, reason=f"its answer is no JSON ({error})")
        except AvfuseError as error:
            return replace(failed, reason=str(error))
        own = alignment.extra.get("seconds")
        if isinstance(own, int | float) and 0.0 <= own <= failed.seconds:
            failed = replace(failed, seconds=float(own), startup=failed.startup + failed.seconds - own)
        return replace(failed, alignment=alignment)


def last_words(code: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ended = f"ended by signal {-code}" if code < 0 else f"exit status {code}"
    return f"{ended}: {lines[-1][:200]}" if lines else ended


class _WarmUpError(Exception):
    """A process did not live through its warm-up, or not in time."""


class _Worker:
    """avfuse.evaluation.worker with a function in it. Raises ReadError where it cannot load that."""

    def __init__(self, method: Function, limits: Limits) -> None:
        self.limits = limits
        self.asked = 0
        self._stderr = TemporaryFile()  # noqa: SIM115  (until the process ends)
        began = time.perf_counter()
        start = f"import sys; sys.path.append({_ROOT!r}); from avfuse.evaluation.worker import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
            start_new_session=True, env=dict(os.environ) | (_ONE_THREAD if limits.one_thread else {}),
        )  # fmt: skip
        limit_memory(self._process.pid, limits.memory)
        self._watch = Watch(self._process.pid)
        self._watch.__enter__()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        loading = {"function": method.function, "module": method.module, "file": method.file}
        try:
            told = self._exchange({"method": loading, "warm": list(limits.warm)})
            trouble = told.get("fault", told.get("died"))
            if trouble is not None:
                raise ReadError(f"method {method.spec!r} cannot be loaded: {trouble or 'it takes too long'}")
            if "died" in self._next():
                raise _WarmUpError
        except BaseException:
            self.close()
            raise
        self.startup = time.perf_counter() - began

    def ask(self, files: Sequence[str], out: str) -> dict[str, Any]:
        """`died` where the process did not live to answer: its last words, or nothing where the time was up."""
        self.asked += 1
        began = time.perf_counter()
        told = self._exchange({"files": list(files), "out": out})
        return {"seconds": time.perf_counter() - began, **told}

    @property
    def peak_mb(self) -> float:
        return self._watch.peak_mb

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(OSError):  # a process that died is told below
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        return self._next()

    def _next(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self.limits.seconds)
        except queue.Empty:
            self.close()
            return {"died": ""}
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        # A process that closed its stdout and lives on is of no use.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        kill(self._process)
        said = "" if self._stderr.closed else read_from(self._stderr)
        return {"died": f"its process died; {last_words(self._process.returncode, said)}"}

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def close(self) -> None:
        self._watch.__exit__()
        kill(self._process)
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
