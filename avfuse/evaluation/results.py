"""What an evaluation found: results of all pairs, figures of every method, and methods compared."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Alignment
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.evaluation.asking import Answer, number
from avfuse.evaluation.cases import Case
from avfuse.evaluation.judging import PairResult, judge, mutual_errors
from avfuse.metrics import (
    TOLERANCES,
    Z95,
    Figure,
    Reliability,
    difference,
    is_covered,
    is_gross,
    quantile,
    ratio,
    reliability,
    share,
    sign_test,
    succeeds,
)

if TYPE_CHECKING:
    from avfuse.reporting.tables import Table

FORMAT = "avfuse.evaluation/1"
SURE = 0.99


@dataclass(frozen=True, eq=False)
class Asked:
    """A case, and what every method said of it. cycles: seconds by which its answers about pairs do not close."""

    case: Case
    answers: Mapping[str, Answer]
    cycles: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Summary:
    """Figures of one method over some cases, each with its 95 % interval.

    pairs: with a truth to find; strangers: to be refused.
    median, p95, largest, worst: seconds, of what was stated; `worst` is the median of the largest error within what
        two recordings share. success: share of all pairs within each of `metrics.TOLERANCES`.
    stated, gross, missed, failed: shares of all pairs. false: share of strangers that were stated.
    covered, last_covered, drift_covered: share of stated 95 % intervals that hold the truth, in the middle and at the
        end of what two recordings share, and of drift.
    sure_wrong: share that is wrong of everything stated with a confidence of 0.99 or more, strangers included.
    among: share of ambiguous answers with the truth among their candidates.
    drift_median, drift_p95: |drift error|, no unit. cycle_median, cycle_max, mutual_p95: seconds.
    seconds, startup: medians of what was answered. peak_mb: the most of any case.
    """

    method: str
    pairs: int
    strangers: int
    stated: Figure
    median: Figure
    p95: Figure
    largest: float
    worst: Figure
    success: tuple[Figure, ...]
    gross: Figure
    missed: Figure
    failed: Figure
    false: Figure
    covered: Figure
    last_covered: Figure
    drift_covered: Figure
    sure_wrong: Figure
    among: Figure
    drift_median: Figure
    drift_p95: Figure
    cycle_median: float
    cycle_max: float
    mutual_p95: float
    seconds: Figure
    startup: float
    peak_mb: float


@dataclass(frozen=True)
class Comparison:
    """The first method against another, paired by case.

    success: difference of the shares within each tolerance, first minus second. p: of McNemar's exact test, by cases
        that succeed as a whole. closer, farther: pairs both stated in which the first is nearer to the truth, or less
        near, by more than the truth is known to (1.96 known); closer_p: of the sign test. time: geometric mean of
        first / second, of all that a person waits for.
    """

    first: str
    second: str
    success: tuple[Figure, ...]
    p: tuple[float, ...]
    closer: int
    farther: int
    closer_p: float
    time: Figure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Methods on cases: print it, or `save` its tables, plot and results.

    asked: every case with every method's answer. methods: names, in order; the first is what others are compared with.
    pairs: one result for each method and recording. timed: whether times may be compared.
    """

    asked: tuple[Asked, ...]
    methods: tuple[str, ...]
    pairs: tuple[PairResult, ...]
    timed: bool = True

    @classmethod
    def of(cls, asked: Sequence[Asked], methods: Sequence[str], *, timed: bool = True) -> Evaluation:
        """Judge what was said."""
        pairs = [
            result
            for part in asked
            for method in methods
            for result in judge(part.case, method, part.answers[method].alignment, part.answers[method].reason)
        ]
        return cls(tuple(asked), tuple(methods), tuple(pairs), timed)

    def also(self, name: str, of: str, change: Callable[[Alignment], Alignment]) -> Evaluation:
        """With one more method: `of`, had it said something else. It takes no time of its own.

        change: takes each alignment of `of`, and returns what is to be judged under `name`.
        """
        if name in self.methods or of not in self.methods:
            raise StreamError(f"also: {name!r} of {of!r}; the methods are {', '.join(self.methods)}")

        def changed(answer: Answer) -> Answer:
            return Answer(answer.alignment and change(answer.alignment), answer.reason)

        asked = [
            replace(part, answers={**part.answers, name: changed(part.answers[of])}, cycles={**part.cycles, name: ()})
            for part in self.asked
        ]
        return Evaluation.of(asked, [*self.methods, name], timed=self.timed)

    def where(self, keep: Callable[[Case], bool]) -> Evaluation:
        """Of some of the cases only."""
        asked = tuple(part for part in self.asked if keep(part.case))
        names = {part.case.name for part in asked}
        return replace(self, asked=asked, pairs=tuple(p for p in self.pairs if p.case in names))

    def of_method(self, method: str) -> tuple[PairResult, ...]:
        return tuple(p for p in self.pairs if p.method == method)

    def summary(self, method: str) -> Summary:
        """Raises StreamError for a method that was not asked."""
        if method not in self.methods:
            raise StreamError(f"no method {method!r}; the methods are {', '.join(self.methods)}")
        number_of = {part.case.name: k for k, part in enumerate(self.asked)}
        shared = _Columns([p for p in self.of_method(method) if p.shared], number_of)
        strangers = _Columns([p for p in self.of_method(method) if not p.shared], number_of)
        stated, ambiguous = shared.chosen(shared.stated), shared.chosen(shared.status == "ambiguous")
        with_std = stated.chosen(np.isfinite(stated.std))
        with_last = stated.chosen(np.isfinite(stated.last_std))
        with_drift = stated.chosen(np.isfinite(stated.drift_std) & np.isfinite(stated.drift_error))
        everything = _Columns(self.of_method(method), number_of)
        sure = everything.chosen(everything.stated & (everything.confidence >= SURE))
        answers = [part.answers[method] for part in self.asked]
        # A method that fails at once is not quick.
        answered = [a for a in answers if a.alignment is not None]
        cycles = np.array([residual for part in self.asked for residual in part.cycles.get(method, ())], np.float64)
        size = np.abs(stated.error)
        peaks = [a.peak_mb for a in answers if math.isfinite(a.peak_mb)]
        return Summary(
            method, len(shared.error), len(strangers.error),
            share(shared.stated, shared.case),
            quantile(size, 0.5, stated.case), quantile(size, 0.95, stated.case), _largest(size),
            quantile(stated.worst, 0.5, stated.case),
            tuple(share(succeeds(shared.error, t), shared.case) for t in TOLERANCES),
            share(is_gross(shared.error), shared.case),
            share(~shared.stated & (shared.status != "failed"), shared.case),
            share(everything.status == "failed", everything.case),
            share(strangers.stated, strangers.case),
            share(is_covered(with_std.error, with_std.std, with_std.known), with_std.case),
            share(is_covered(with_last.last, with_last.last_std, with_last.known), with_last.case),
            share(is_covered(with_drift.drift_error, with_drift.drift_std), with_drift.case),
            share(sure.wrong, sure.case),
            share(ambiguous.among, ambiguous.case),
            quantile(np.abs(stated.drift_error), 0.5, stated.case),
            quantile(np.abs(stated.drift_error), 0.95, stated.case),
            float(np.median(cycles)) if len(cycles) else math.nan, _largest(cycles),
            _quantile(self._mutual(method), 0.95),
            quantile([a.seconds for a in answered], 0.5, np.arange(len(answered))),
            _quantile([a.startup for a in answered], 0.5),
            max(peaks, default=math.nan),
        )  # fmt: skip

    def _mutual(self, method: str) -> NDArray[np.float64]:
        """Of joint answers only: with two recordings it would be the error once more."""
        found = [
            mutual_errors(part.case, alignment)
            for part in self.asked
            for alignment in [part.answers[method].alignment]
            if alignment is not None and len(part.case.names) > 2
        ]
        return np.concatenate(found) if found else np.empty(0)

    def reliability(self, method: str) -> tuple[Reliability, ...]:
        """Stated confidences of what was stated, strangers included, against the share that is right."""
        told = [p for p in self.of_method(method) if p.stated and math.isfinite(p.confidence)]
        return reliability([p.confidence for p in told], [not p.wrong for p in told])

    def comparison(self, second: str) -> Comparison:
        """The first method against `second`, over the same pairs."""
        first = self.methods[0]
        number_of = {part.case.name: k for k, part in enumerate(self.asked)}
        a, b = (_Columns([p for p in self.of_method(m) if p.shared], number_of) for m in (first, second))
        tests = []
        for tolerance in TOLERANCES:
            whole = [_whole(succeeds(c.error, tolerance), c.case) for c in (a, b)]
            tests.append(sign_test(int((whole[0] & ~whole[1]).sum()), int((whole[1] & ~whole[0]).sum())))
        both = a.stated & b.stated
        nearer = np.abs(a.error[both]) - np.abs(b.error[both])
        known = Z95 * a.known[both]
        closer, farther = int((nearer < -known).sum()), int((nearer > known).sum())
        own, theirs = ([part.answers[m].wait for part in self.asked] for m in (first, second))
        return Comparison(
            first, second,
            tuple(difference(succeeds(a.error, t), succeeds(b.error, t), a.case) for t in TOLERANCES),
            tuple(tests), closer, farther, sign_test(closer, farther),
            ratio(own, theirs, np.arange(len(self.asked))) if self.timed else Figure(math.nan),
        )  # fmt: skip

    def settings(self) -> dict[str, tuple[str, ...]]:
        """What the cases can be broken down by: "group" and settings -> their values, those with several only."""
        found: dict[str, dict[str, None]] = {}
        for part in self.asked:
            for key, value in {"group": part.case.group, **part.case.settings}.items():
                found.setdefault(key, {})[value] = None
        return {key: tuple(values) for key, values in found.items() if len(values) > 1}

    def tables(self) -> list[Table]:
        """What is printed: see `avfuse.reporting.evaluation`."""
        from avfuse.reporting.evaluation import tables

        return tables(self)

    def __str__(self) -> str:
        return "\n\n".join(table.text() for table in self.tables())

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write evaluation.json, pairs.csv, evaluation.html and errors.svg: see `avfuse.reporting.evaluation`."""
        from avfuse.reporting.evaluation import save

        return save(self, folder)

    def to_json(self) -> dict[str, Any]:
        """The document of the schema `avfuse.evaluation/1`; what has no number is null."""
        costs = [
            {"method": method, "case": part.case.name, "failed": answer.reason if answer.alignment is None else None,
             **{key: number(getattr(answer, key)) for key in ("seconds", "startup", "peak_mb")}}
            for part in self.asked
            for method, answer in part.answers.items()
        ]  # fmt: skip
        levels = {m: [asdict(level) for level in self.reliability(m)] for m in self.methods}
        return {
            "format": FORMAT,
            "tolerances": list(TOLERANCES),
            "timed": self.timed,
            "methods": [_plain(asdict(self.summary(m))) | {"reliability": levels[m]} for m in self.methods],
            "comparisons": [_plain(asdict(self.comparison(m))) for m in self.methods[1:]],
            "pairs": [_plain(asdict(p)) for p in self.pairs],
            "answers": costs,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return number(value) if isinstance(value, float) else value


class _Columns:
    """Fields of results as arrays, and the number of the case that each belongs to."""

    def __init__(self, results: Sequence[PairResult], number_of: Mapping[str, int]) -> None:
        self._results, self._number_of = results, number_of
        self.case = np.array([number_of[p.case] for p in results], np.int64)
        self.status = np.array([p.status for p in results], dtype=np.str_)
        self.stated = np.array([p.stated for p in results], bool)
        self.wrong = np.array([p.wrong for p in results], bool)
        self.among = np.array([bool(p.among) for p in results], bool)
        self.known = self._floats("known")
        self.error, self.worst, self.last = self._floats("error"), self._floats("worst"), self._floats("last")
        self.std, self.last_std = self._floats("std"), self._floats("last_std")
        self.drift_error, self.drift_std = self._floats("drift_error"), self._floats("drift_std")
        self.confidence = self._floats("confidence")

    def _floats(self, name: str) -> NDArray[np.float64]:
        return np.array([getattr(p, name) for p in self._results], np.float64)

    def chosen(self, keep: NDArray[np.bool_]) -> _Columns:
        return _Columns([p for p, k in zip(self._results, keep, strict=True) if k], self._number_of)


def _whole(hits: NDArray[np.bool_], cases: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Cases all of whose pairs hit."""
    return np.array([bool(hits[cases == k].all()) for k in np.unique(cases)], bool)


def _largest(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else math.nan


def _quantile(values: Sequence[float] | NDArray[np.float64], q: float) -> float:
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    return float(np.quantile(found, q)) if len(found) else math.nan


def first_candidate(alignment: Alignment) -> Alignment:
    """What would have been said had there been no way to stay ambiguous: the first candidate. For `Evaluation.also`."""
    clocks = {}
    for name, estimate in alignment.clocks.items():
        if estimate.status == "ambiguous" and estimate.candidates:
            best = estimate.candidates[0]
            estimate = replace(
                estimate, status="aligned", clock=ClockMap(best.offset, best.drift), confidence=best.confidence,
                candidates=(), cov=None,
            )  # fmt: skip
        clocks[name] = estimate
    return replace(alignment, clocks=clocks)


PAIR_FIELDS = tuple(f.name for f in fields(PairResult))
