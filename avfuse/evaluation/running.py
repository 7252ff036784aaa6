"""`evaluate`: every method asked about every case, and what they said judged."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from avfuse.alignment import Alignment, alignment_from_json, json_text
from avfuse.clock import ClockMap, PiecewiseClock
from avfuse.errors import AvfuseError, ReadError, StreamError, WriteError
from avfuse.evaluation.asking import Answer, Asker, Limits
from avfuse.evaluation.cases import Case, check_names, check_truth, read_cases
from avfuse.evaluation.judging import names_in, relative, true_pairs
from avfuse.evaluation.methods import Aligner, Function, Method, methods_of
from avfuse.evaluation.results import Asked, Evaluation
from avfuse.evaluation.worker import LOADED
from avfuse.files import check_folder
from avfuse.metrics import cycle_residuals

Progress = Callable[[float, str], None]
_KEPT = "answers.jsonl"


def evaluate(
    cases: str | os.PathLike[str] | Sequence[Case],
    methods: Mapping[str, str | Aligner] | Sequence[str] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = True,
    cycles: bool = False,
    processes: int = 1,
    time_limit: float | None = 600.0,
    memory_limit: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask every method about every case, and judge what they say by the truth.

    cases: a folder or a JSON file of them (see `avfuse.evaluation.cases`), or `Case`s.
    methods: names and functions `[file, ...] -> Alignment`, or specifications (see `avfuse.evaluation.methods`); None
        is avfuse alone. The first is what the others are compared with.
    folder: where answers are kept as they come, in `answers.jsonl`. resume: take those of an interrupted run, where
        neither the method's file nor the recordings have changed since.
    fresh: a process for each case, so that its memory is its own. False keeps one process per method: quicker, and
        memory is not told.
    cycles: ask about every pair of a case with three recordings or more by itself, too, and tell how well the answers
        close.
    processes: cases at a time. More than one: times are not told, since the cases hinder each other.
    time_limit: seconds for a case. memory_limit: GB of address space that a process under test may ask for (Linux).
    progress: called with (share done, what is being done).

    What a method does wrong (an exception, an end, a limit, an answer that is none) is its result of that case. Raises
    ReadError for cases that cannot be read and methods that cannot be loaded.
    """
    if LOADED in os.environ:
        raise StreamError(
            "evaluate: was called while a method was loaded from this file; call it under if __name__ == '__main__'"
        )
    listed = read_cases(cases) if isinstance(cases, str | os.PathLike) else list(cases)
    if not listed:
        raise StreamError("evaluate: no cases; expected at least one")
    if processes < 1:
        raise StreamError(f"evaluate: {processes} processes; expected at least one")
    check_names(listed, "evaluate")
    for case in listed:
        if case.truth is not None:
            check_truth(case.truth)
            true_pairs(case)
    chosen = methods_of(methods)
    tell = progress or (lambda share, text: None)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="avfuse-evaluate-")))
        # What is made to warm up on is simulated only where somebody warms up.
        warm = () if all(not isinstance(m, Function) for m in chosen) else _warm_files(place / "warm")
        limits = Limits(time_limit, memory_limit, fresh, processes > 1, warm)
        kept = stack.enter_context(closing(_Kept(folder, resume)))
        run = _Run(chosen, limits, cycles, kept, place)
        stack.callback(run.close)
        asked: list[Asked] = []
        for part in run.through(listed, processes):
            asked.append(part)
            tell(len(asked) / len(listed), f"{len(asked)} of {len(listed)} cases: {part.case.name}")
    tell(1.0, "done")
    # Cases come as they are done; tables have them in the order in which they were given.
    order = {case.name: k for k, case in enumerate(listed)}
    asked.sort(key=lambda part: order[part.case.name])
    return Evaluation.of(asked, [m.name for m in chosen], timed=processes == 1)


def _warm_files(folder: Path) -> tuple[str, ...]:
    from avfuse.simulation.cases import simulate_case

    truth = simulate_case({"pair": "related", "overlap": 5.0, "snr_db": 20.0, "seed": 1}, folder)
    return tuple(os.path.abspath(facts.source or "") for facts in truth.facts.values())


class _Run:
    """The work on cases, one after the other or several at a time, each thread with askers of its own."""

    def __init__(self, methods: Sequence[Method], limits: Limits, cycles: bool, kept: _Kept, place: Path) -> None:
        self.methods, self.limits, self.cycles, self.kept, self.place = methods, limits, cycles, kept, place
        self._own = threading.local()
        self._askers: list[Asker] = []
        self._stopped = False

    def through(self, cases: Sequence[Case], processes: int) -> Iterator[Asked]:
        if processes == 1:
            yield from map(self._case, cases)
            return
        pool = ThreadPoolExecutor(processes)
        try:
            todo = {pool.submit(self._case, case) for case in cases}
            while todo:
                # A limit, so that Ctrl-C is heard.
                done, todo = wait(todo, timeout=0.5, return_when=FIRST_COMPLETED)
                for one in done:
                    yield one.result()
        finally:
            self.close()
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        self._stopped = True
        for asker in self._askers:
            asker.close()

    def _ask(self, method: Method, case: Case, *, again: bool = False) -> Answer:
        """again: for what is not timed, and need not be fresh."""
        if self._stopped:
            raise StreamError("evaluate: was stopped")
        own: dict[tuple[str, bool], Asker] = self._own.__dict__.setdefault("askers", {})
        if (method.name, again) not in own:
            own[method.name, again] = Asker(method, replace(self.limits, fresh=False) if again else self.limits)
            self._askers.append(own[method.name, again])
        return own[method.name, again].ask(case.files)

    def _case(self, case: Case) -> Asked:
        # Case after case, and every method in turn: whatever else the machine does slows all methods alike.
        with TemporaryDirectory(dir=self.place) as folder:
            made: Case | None = None if case.make else case
            answers, residuals = {}, {}
            truth: Alignment | None = case.truth
            for method in self.methods:
                key = _key(case, method, self.limits, self.cycles)
                known = self.kept.get(key)
                if known is None:
                    made = case.made(Path(folder)) if made is None else made
                    truth = made.true
                    answer = self._ask(method, made)
                    closing_ = self._cycles(method, made) if self.cycles else ()
                    known = {"answer": answer, "cycles": closing_, "truth": truth if case.make else None}
                    if not self._stopped:
                        self.kept.add(key, method.name, case.name, known)
                answers[method.name], residuals[method.name] = known["answer"], tuple(known["cycles"])
                truth = truth or known["truth"]
            return Asked(replace(case, truth=truth, make=None), answers, residuals)

    def _cycles(self, method: Method, case: Case) -> tuple[float, ...]:
        if len(case.names) < 3:
            return ()
        maps: dict[tuple[str, str], Any] = {}
        for a, b in combinations(case.names, 2):
            pair = case.pair(a, b)
            answer = self._ask(method, pair, again=self.limits.fresh)
            if answer.alignment is None:
                continue
            names = names_in(pair, answer.alignment)
            if {a, b} <= set(names):
                clock = relative(answer.alignment, names[a], names[b]).clock
                if isinstance(clock, ClockMap | PiecewiseClock):
                    maps[a, b] = clock
        facts = case.true.facts
        return tuple(map(float, cycle_residuals(maps, {name: facts[name].duration / 2 for name in case.names})))


def _key(case: Case, method: Method, limits: Limits, cycles: bool) -> str:
    """Equal where neither the method nor the case has changed."""
    from avfuse import __version__

    parts: list[Any] = [__version__, method.spec, case.name, case.key, limits.seconds, limits.memory, cycles]
    parts.append(limits.fresh)
    if isinstance(method, Function) and method.file is not None:
        parts.append(_state(method.file))
    if case.truth is not None:
        parts += [[file, *_state(file)] for file in case.files]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def _state(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


class _Kept:
    """Answers on disk, one to a line, each written as soon as it is there."""

    def __init__(self, folder: str | os.PathLike[str] | None, resume: bool) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._file: IO[str] | None = None
        self._lock = threading.Lock()
        if folder is None:
            if resume:
                raise StreamError("evaluate: resume without a folder; expected the folder of the interrupted run")
            return
        check_folder(folder)
        path = Path(folder) / _KEPT
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.exists():
                self._known = dict(_lines(path))
            self._file = path.open("a" if resume else "w", encoding="utf-8")
            self._file.write("\n" if self._file.tell() else "")  # an unfinished line keeps to itself
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror})") from error

    def get(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def add(self, key: str, method: str, case: str, found: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        truth: Alignment | None = found["truth"]
        line = {
            "key": key, "method": method, "case": case, **found["answer"].to_json(), "cycles": list(found["cycles"]),
            "truth": None if truth is None else truth.to_json(),
        }  # fmt: skip
        with self._lock:
            self._file.write(json.dumps(json.loads(json_text(line))) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line:
            continue
        try:
            told = json.loads(line)
            truth = told["truth"] and alignment_from_json(told["truth"], "", "a kept truth")
            yield told["key"], {"answer": Answer.from_json(told), "cycles": told["cycles"], "truth": truth}
        except json.JSONDecodeError:
            continue  # the line that was being written when the run ended
        except (KeyError, TypeError, AvfuseError) as error:
            raise ReadError(f"{path}: line {number} is no kept answer ({error}); run without --resume") from error
