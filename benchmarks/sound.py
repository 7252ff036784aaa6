"""avfuse beside its peers on the same files in one run: errors, false accepts, time and memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from avfuse.clock import ClockMap
from benchmarks.cases import ARRAY_KNOWN, Case, by, real_cases, simulated_cases, unrelated_cases
from benchmarks.options import SHARED, Options
from benchmarks.peers import METHODS, Answer, Method, ask
from benchmarks.plots import draw_accuracy
from benchmarks.processes import Ran
from benchmarks.tables import Goals, Table, milliseconds, percent, show

TOLERANCES = (1e-3, 5e-3, 20e-3, 40e-3, 100e-3)
GROSS = 0.1
BEST_GUESS = "avfuse, best guess"


def clock_of(answer: Answer) -> ClockMap | None:
    return None if answer.offset is None else ClockMap(answer.offset, answer.drift)


def wrong(case: Case, answer: Answer) -> bool:
    """Whether an aligned answer of avfuse is wrong by its own words: |error| > max(5 std, 1 ms)."""
    clock = clock_of(answer)
    if clock is None or case.truth is None:
        return clock is not None
    return case.error(clock, case.middle) > max(5 * (answer.std or 0.0), 1e-3) + case.known


def collect(options: Options) -> list[Case]:
    folder = options.out / "pairs"
    repeats = options.pick(1, 4)
    return [
        *real_cases(SHARED, quick=options.quick),
        *simulated_cases(folder, repeats=repeats, seed=options.seed, quick=options.quick),
        *unrelated_cases(folder, repeats=options.pick(1, 3), seed=options.seed),
    ]


def benchmark(options: Options) -> bool:
    cases = collect(options)
    pairs = [(c.reference, c.moving) for c in cases]
    print(f"{len(cases)} pairs through {len(METHODS)} methods", flush=True)
    answers: dict[str, list[Answer]] = {}
    costs: dict[str, tuple[Ran, float]] = {}
    for method in METHODS:
        found, ran = ask(method, pairs, memory=options.memory, timeout=6 * 3600)
        # One pair in a process of its own, as a person would run it; what is loaded is in the page cache by now.
        _, single = ask(method, pairs[-1:], memory=options.memory, warm=False)
        answers[method.name] = found
        costs[method.name] = (ran, single.seconds - found[-1].seconds)
        print(f"{method.name}: {ran.seconds:.0f} s", flush=True)
    _save(options, cases, answers)
    answers = {BEST_GUESS: [_best_guess(a) for a in answers["avfuse"]], **answers}
    names = ["avfuse", BEST_GUESS, *(m.name for m in METHODS[1:])]
    goals = Goals()
    tables = [
        _accuracy(cases, answers, names),
        *(_by_setting(cases, answers, names, key) for key in ("room", "SNR", "overlap", "drift", "kind")),
        _real_table(cases, answers, names),
        _false_accepts(cases, answers),
        _statuses(cases, answers["avfuse"]),
        _cost(answers, costs, cases),
        _defects(cases, answers, goals),
        goals.table(),
    ]
    draw_accuracy(options.page.parent / "images" / "accuracy.png", cases, answers, names)
    preface = (
        "Errors are taken in the middle of what both recorded, which is kindest to methods that know no drift; "
        "`worst` is the largest error within it. Truth is the clock; both devices are equally far from the source.\n\n"
        "![Share of pairs within a tolerance, by condition](images/accuracy.png)"
    )
    show(tables, options.page, "sound", preface)
    return goals.met


def _best_guess(answer: Answer) -> Answer:
    """What avfuse would say if it had to choose among the candidates of an ambiguous answer."""
    if answer.offset is not None or not answer.guesses:
        return answer
    return Answer(*answer.guesses[0], confidence=answer.confidence, reason=answer.reason, seconds=answer.seconds)


def _save(options: Options, cases: Sequence[Case], answers: dict[str, list[Answer]]) -> None:
    document = [
        {"case": case.name, "group": case.group, **case.setting,
         "truth": None if case.truth is None else [case.truth.offset, case.truth.drift],
         "answers": {name: asdict(found[k]) for name, found in answers.items()}}
        for k, case in enumerate(cases)
    ]  # fmt: skip
    (options.out / "sound.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def errors(cases: Sequence[Case], answers: Sequence[Answer], chosen: Sequence[int]) -> np.ndarray:
    """|error| in the middle per chosen case, infinite where there was no answer."""
    found = []
    for k in chosen:
        clock = clock_of(answers[k])
        found.append(np.inf if clock is None else cases[k].error(clock, cases[k].middle))
    return np.array(found)


def _of(cases: Sequence[Case], group: str) -> list[int]:
    return [k for k, c in enumerate(cases) if c.group == group]


def _accuracy(cases: Sequence[Case], answers: dict[str, list[Answer]], names: Sequence[str]) -> Table:
    chosen = _of(cases, "simulated")
    rows = []
    for name in names:
        error = errors(cases, answers[name], chosen)
        answered = error[np.isfinite(error)]
        clocks = [(cases[k], clock_of(answers[name][k])) for k in chosen]
        worst = [case.worst(clock) for case, clock in clocks if clock is not None]
        some = len(answered) > 0
        rows.append((
            name, percent(len(answered), len(error)),
            *(milliseconds(float(q)) for q in (np.quantile(answered, (0.5, 0.95, 1.0)) if some else [np.nan] * 3)),
            milliseconds(float(np.median(worst))) if some else "–",
            *(percent(int((error <= t).sum()), len(error)) for t in TOLERANCES),
            percent(int((answered > GROSS).sum()), len(error)),
        ))  # fmt: skip
    columns = ("method", "answers", "median [ms]", "p95", "max", "worst, median",
               *(f"<= {t * 1e3:g} ms" for t in TOLERANCES), "gross")  # fmt: skip
    return Table(
        f"{len(chosen)} simulated pairs", columns, rows,
        "Errors are of the answers given; shares are of all pairs. `gross`: answers off by more than 100 ms. "
        "avfuse answers where it is `aligned`; `best guess` also takes the first candidate where it is `ambiguous`.",
    )  # fmt: skip


def _by_setting(cases: list[Case], answers: dict[str, list[Answer]], names: Sequence[str], key: str) -> Table:
    simulated = [c if c.group == "simulated" else Case(c.name, c.group, c.reference, c.moving, None) for c in cases]
    groups = list(by(simulated, key))
    rows = []
    for name in names:
        cells = []
        for _, chosen in groups:
            error = errors(cases, answers[name], chosen)
            gross = int(((error > GROSS) & np.isfinite(error)).sum())
            cells.append(f"{percent(int((error <= 1e-3).sum()), len(error))} / {percent(gross, len(error))}")
        rows.append((name, *cells))
    titles = (f"{value} ({len(chosen)})" for value, chosen in groups)
    return Table(f"By {key}: pairs within 1 ms / off by more than 100 ms", ("method", *titles), rows)


def _real_table(cases: Sequence[Case], answers: dict[str, list[Answer]], names: Sequence[str]) -> Table:
    rows: list[Sequence[object]] = []
    array: list[int] = []
    for k in _of(cases, "real"):
        if cases[k].known == ARRAY_KNOWN:
            array.append(k)
            continue
        cells = [float(errors(cases, answers[name], [k])[0]) for name in names]
        rows.append((cases[k].name, milliseconds(cases[k].known), *map(milliseconds, cells)))
    if array:
        cells = [float(errors(cases, answers[name], array).max()) for name in names]
        rows.append((f"ami_array, largest of {len(array)} pairs", "0.6", *map(milliseconds, cells)))
    return Table(
        "Real recordings: |error| [ms]", ("pair", "truth known to", *names), rows, "A dash: no answer."
    )  # fmt: skip


def _false_accepts(cases: Sequence[Case], answers: dict[str, list[Answer]]) -> Table:
    chosen = _of(cases, "unrelated")
    rows = []
    for method in METHODS:
        found = [answers[method.name][k] for k in chosen]
        kinds = sorted({cases[k].setting["kind"] for k, a in zip(chosen, found, strict=True) if a.trusted})
        rows.append((
            method.name, percent(sum(a.offset is not None for a in found), len(found)),
            percent(sum(a.trusted for a in found), len(found)), method.rule,
            ", ".join(kinds) if len(kinds) < len({cases[k].setting["kind"] for k in chosen}) else "all kinds",
        ))  # fmt: skip
    return Table(
        f"{len(chosen)} unrelated pairs: any answer is false",
        ("method", "answers", "called good", "by its own rule", "which"), rows,
    )  # fmt: skip


def _statuses(cases: Sequence[Case], own: Sequence[Answer]) -> Table:
    rows = []
    for group in ("real", "simulated", "unrelated"):
        chosen = _of(cases, group)
        aligned = [k for k in chosen if own[k].offset is not None]
        ambiguous = [k for k in chosen if own[k].reason.startswith("ambiguous")]
        among = sum(_among(cases[k], own[k]) for k in ambiguous)
        rows.append((
            group, len(chosen), percent(len(aligned), len(chosen)), percent(len(ambiguous), len(chosen)),
            percent(among, len(ambiguous)) if group != "unrelated" else "",
            percent(len(chosen) - len(aligned) - len(ambiguous), len(chosen)),
            sum(wrong(cases[k], own[k]) for k in aligned),
        ))  # fmt: skip
    return Table(
        "What avfuse says",
        ("pairs", "n", "aligned", "ambiguous", "of these with the truth among the candidates (0.5 ms)", "refused",
         "wrong while aligned"),
        rows, "Wrong: |error| > max(5 std, 1 ms), beyond what the truth is known to.",
    )  # fmt: skip


def _among(case: Case, answer: Answer) -> bool:
    return case.truth is not None and any(
        case.error(ClockMap(*guess), case.middle) <= 0.5e-3 + case.known for guess in answer.guesses
    )


def _cost(answers: dict[str, list[Answer]], costs: dict[str, tuple[Ran, float]], cases: Sequence[Case]) -> Table:
    rows = []
    for method in METHODS:
        ran, start = costs[method.name]
        seconds = float(np.median([a.seconds for a in answers[method.name]]))
        rows.append((method.name, f"{seconds:.2f}", f"{seconds + start:.2f}", f"{ran.peak_mb:.0f}"))
    return Table(
        f"Cost over the same {len(cases)} pairs",
        ("method", "seconds a pair, median", "start-up included", "peak MB"), rows,
        "Memory is that of one process that answers every pair, with its children.",
    )  # fmt: skip


def _defects(cases: Sequence[Case], answers: dict[str, list[Answer]], goals: Goals) -> Table:
    """Every aligned answer that is wrong, and who was right there: to be empty."""
    peers: Sequence[Method] = METHODS[1:]
    rows = []
    beaten = 0
    for k, (case, answer) in enumerate(zip(cases, answers["avfuse"], strict=True)):
        if answer.offset is None or not wrong(case, answer):
            continue
        clock = clock_of(answer)
        assert clock is not None
        if case.truth is None:
            rows.append((case.name, "unrelated", ""))
            continue
        own = case.error(clock, case.middle)
        right = [m.name for m in peers if float(errors(cases, answers[m.name], [k])[0]) < own / 2]
        beaten += bool(right)
        rows.append((case.name, milliseconds(own), ", ".join(right)))
    goals.add("nothing aligned and wrong", f"{len(rows)} of {len(cases)}", not rows)
    goals.add("no peer right where avfuse is aligned and wrong", str(beaten), beaten == 0)
    return Table("Aligned and wrong", ("pair", "|error| [ms]", "peers at less than half of it"), rows)
