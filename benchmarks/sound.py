"""avfuse beside its peers on the same files in one run: errors, false accepts, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from avfuse.evaluation import Evaluation, PairResult, first_candidate
from avfuse.metrics import GROSS, TOLERANCES
from avfuse.reporting.evaluation import comparison_table, cost_table, setting_table
from avfuse.reporting.tables import Table, milliseconds, percent
from benchmarks.cases import ARRAY, ARRAY_KNOWN, real_cases, simulated_cases, unrelated_cases
from benchmarks.measuring import Entry, measure
from benchmarks.options import SHARED, Options
from benchmarks.peers import METHODS, specifications, trusted_only
from benchmarks.plots import draw_accuracy
from benchmarks.tables import Goals, show

BEST_GUESS = "avfuse, best guess"


def collect(options: Options) -> list[Entry]:
    folder = options.out / "pairs"
    return [
        *real_cases(SHARED, quick=options.quick),
        *simulated_cases(folder, repeats=options.pick(1, 4), seed=options.seed, quick=options.quick),
        *unrelated_cases(folder, repeats=options.pick(1, 3), seed=options.seed, quick=options.quick),
    ]


def benchmark(options: Options) -> bool:
    cases = collect(options)
    print(f"{len(cases)} pairs through {len(METHODS)} methods", flush=True)
    asked = measure(options, "sound", cases, specifications(), timed=True)
    names = ["avfuse", BEST_GUESS, *(m.name for m in METHODS[1:])]
    found = replace(asked.also(BEST_GUESS, "avfuse", first_candidate), methods=tuple(names))
    simulated = found.where(lambda c: c.group == "simulated")
    goals = Goals()
    tables = [
        _accuracy(simulated, names),
        *filter(None, [setting_table(simulated, key) for key in ("room", "SNR", "overlap", "drift", "kind")]),
        _real_table(found.where(lambda c: c.group == "real"), names),
        _false_accepts(asked.where(lambda c: c.group == "unrelated")),
        _statuses(asked),
        *filter(None, [comparison_table(asked.where(lambda c: c.group == "simulated"))]),
        *filter(None, [cost_table(asked, [asked.summary(m.name) for m in METHODS])]),
        _defects(asked, goals),
        goals.table(),
    ]
    draw_accuracy(options.page.parent / "images" / "accuracy.png", simulated, names)
    preface = (
        "Errors are taken in the middle of what both recorded, which is kindest to methods that know no drift; "
        "`worst` is the largest error within it. Truth is the clock; both devices are equally far from the source.\n\n"
        "![Share of pairs within a tolerance, by condition](images/accuracy.png)"
    )
    show(tables, options.page, "sound", preface)
    return goals.met


def _accuracy(found: Evaluation, names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        s = found.summary(name)
        rows.append((
            name, percent(s.stated.value, 1), milliseconds(s.median.value), milliseconds(s.p95.value),
            milliseconds(s.largest), milliseconds(s.worst.value), *(percent(f.value, 1) for f in s.success),
            percent(s.gross.value, 1),
        ))  # fmt: skip
    columns = ("method", "answers", "median [ms]", "p95", "max", "worst, median",
               *(f"<= {t * 1e3:g} ms" for t in TOLERANCES), "gross")  # fmt: skip
    return Table(
        f"{found.summary(names[0]).pairs} simulated pairs", columns, rows,
        "Errors are of the answers given; shares are of all pairs. `gross`: answers off by more than "
        f"{GROSS * 1e3:g} ms. avfuse answers where it is `aligned`; `best guess` also takes the first candidate where "
        "it is `ambiguous`.",
    )  # fmt: skip


def _real_table(found: Evaluation, names: Sequence[str]) -> Table:
    rows: list[Sequence[object]] = []
    of = {(p.case, p.method): abs(p.error) for p in found.pairs}
    array = [part.case.name for part in found.asked if part.case.settings.get("source") == ARRAY]
    for part in found.asked:
        case = part.case.name
        if case not in array:
            known = next(p.known for p in found.pairs if p.case == case)
            rows.append((case, milliseconds(known), *(milliseconds(of[case, name]) for name in names)))
    if array:
        # Nothing is worse than no answer: a method that answers half of them has no largest error.
        largest = [max(np.nan_to_num(of[case, name], nan=np.inf) for case in array) for name in names]
        rows.append((f"{ARRAY}, largest of {len(array)} pairs", milliseconds(ARRAY_KNOWN),
                     *map(milliseconds, largest)))  # fmt: skip
    return Table(
        "Real recordings: |error| [ms]", ("pair", "truth known to", *names), rows, "A dash: no answer."
    )  # fmt: skip


def _false_accepts(found: Evaluation) -> Table:
    rows = []
    for method in METHODS:
        trusted = found.also("trusted", method.name, trusted_only)
        answers, good = trusted.of_method(method.name), trusted.of_method("trusted")
        every = {p.settings["kind"] for p in good}
        kinds = sorted({p.settings["kind"] for p in good if p.stated})
        rows.append((
            method.name, percent(sum(p.stated for p in answers), len(answers)),
            percent(sum(p.stated for p in good), len(good)), method.rule,
            ", ".join(kinds) if len(kinds) < len(every) else "all kinds",
        ))  # fmt: skip
    return Table(
        f"{len(found.asked)} unrelated pairs: any answer is false",
        ("method", "answers", "called good", "by its own rule", "which"), rows,
    )  # fmt: skip


def _statuses(found: Evaluation) -> Table:
    rows = []
    for group in ("real", "simulated", "unrelated"):
        chosen = [p for p in found.of_method("avfuse") if p.group == group]
        ambiguous = [p for p in chosen if p.status == "ambiguous"]
        refused = [p for p in chosen if not p.stated and p.status != "ambiguous"]
        among = percent(sum(bool(p.among) for p in ambiguous), len(ambiguous)) if group != "unrelated" else ""
        rows.append((
            group, len(chosen), percent(sum(p.stated for p in chosen), len(chosen)),
            percent(len(ambiguous), len(chosen)), among, percent(len(refused), len(chosen)),
            sum(p.wrong for p in chosen),
        ))  # fmt: skip
    return Table(
        "What avfuse says",
        ("pairs", "n", "aligned", "ambiguous", "of these with the truth among the candidates (0.5 ms)", "refused",
         "wrong while aligned"),
        rows, "Wrong: |error| > max(5 std, 1 ms), beyond what the truth is known to.",
    )  # fmt: skip


def _defects(found: Evaluation, goals: Goals) -> Table:
    """Every aligned answer that is wrong, and who was right there: to be empty."""
    bad = [p for p in found.of_method("avfuse") if p.wrong]
    rows: list[Sequence[object]] = []
    beaten = 0
    for p in bad:
        right = _right(found, p)
        beaten += bool(right)
        rows.append((p.case, milliseconds(p.error) if p.shared else "unrelated", ", ".join(right)))
    goals.add("nothing aligned and wrong", f"{len(rows)} of {len(found.asked)}", not rows)
    goals.add("no peer right where avfuse is aligned and wrong", str(beaten), beaten == 0)
    return Table("Aligned and wrong", ("pair", "|error| [ms]", "peers at less than half of it"), rows)


def _right(found: Evaluation, wrong: PairResult) -> list[str]:
    peers = [p for p in found.pairs if p.case == wrong.case and p.method != wrong.method]
    return [p.method for p in peers if wrong.shared and abs(p.error) < abs(wrong.error) / 2]
