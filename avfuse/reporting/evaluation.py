"""An evaluation as tables, as a page, as a plot, and as rows for other programs."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from avfuse.alignment import json_text
from avfuse.evaluation.judging import PairResult
from avfuse.evaluation.results import PAIR_FIELDS, SURE, Evaluation, Summary
from avfuse.files import check_folder, replacing
from avfuse.metrics import GROSS, TOLERANCES, Figure, is_gross, succeeds
from avfuse.reporting.tables import Table, milliseconds, percent, tenths

# Okabe and Ito's colours, told apart by colour-blind readers; black and yellow vanish on one ground or the other.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
_LISTED = 20  # failures and wrong answers told one by one; all are in pairs.csv


def print_evaluation(evaluation: Evaluation, file: IO[str]) -> None:
    """All tables, one after the other."""
    from avfuse.reporting.text import show

    show(file, *(part for table in tables(evaluation) for part in table.styled()))


def tables(evaluation: Evaluation) -> list[Table]:
    """Everything that there is something to say about."""
    summaries = [evaluation.summary(method) for method in evaluation.methods]
    methods = evaluation.methods
    alone = len(methods) == 1
    found = [
        errors_table(summaries),
        success_table(summaries),
        refusals_table(summaries),
        coverage_table(summaries),
        *(reliability_table(evaluation, method) for method in methods),
        consistency_table(summaries),
        *(setting_table(evaluation, key) for key in evaluation.settings()),
        statuses_table(evaluation, methods[0]) if alone else strangers_table(evaluation),
        comparison_table(evaluation),
        cost_table(evaluation, summaries),
        wrong_table(evaluation),
        failures_table(evaluation),
    ]
    return [table for table in found if table is not None]


def errors_table(summaries: Sequence[Summary]) -> Table | None:
    """Errors of the pairs that have a truth to find."""
    if not summaries[0].pairs:
        return None
    rows = [
        (s.method, _share(s.stated), _ms(s.median), _ms(s.p95), milliseconds(s.largest), _ms(s.worst), _share(s.gross))
        for s in summaries
    ]
    return Table(
        f"Errors: {_pairs(summaries[0].pairs)} with a truth to find",
        ("method", "answers", "median |error| [ms]", "p95", "max", "worst, median", "gross"), rows,
        "Errors are of the answers given, in the middle of what both recorded; worst: the largest within it. "
        f"Gross: answers off by more than {GROSS * 1e3:g} ms, of all pairs. In brackets: 95 % intervals.",
    )  # fmt: skip


def success_table(summaries: Sequence[Summary]) -> Table | None:
    """Shares of all pairs that are within a tolerance."""
    if not summaries[0].pairs:
        return None
    rows = [(s.method, *map(_share, s.success)) for s in summaries]
    return Table(
        f"Success: share of {_pairs(summaries[0].pairs)} within a tolerance",
        ("method", *(f"<= {t * 1e3:g} ms" for t in TOLERANCES)), rows, "A refusal is no success.",
    )  # fmt: skip


def refusals_table(summaries: Sequence[Summary]) -> Table | None:
    """What was refused, rightly or not, and what was placed and should not have been."""
    rows = [(s.method, _share(s.missed), _share(s.among), _share(s.failed), _share(s.false)) for s in summaries]
    return Table(
        "Refusals and false accepts",
        ("method", f"missed (of {summaries[0].pairs})", "ambiguous with the truth among", "failed",
         f"false accepts (of {summaries[0].strangers})"), rows,
        "Missed: refused though there is a truth; of the ambiguous among these, the share with the truth among their "
        "candidates. False accepts: placed though they share nothing, or have no one answer.",
    )  # fmt: skip


def coverage_table(summaries: Sequence[Summary]) -> Table | None:
    """Whether stated deviations and confidences hold; None where no method states any."""
    rows = [
        (
            s.method, _share(s.covered, 1), _share(s.last_covered, 1), _share(s.drift_covered, 1),
            f"{_share(s.sure_wrong, 1)} of {s.sure_wrong.count}" if s.sure_wrong.count else "–",
        )
        for s in summaries
        if s.covered.count or s.sure_wrong.count
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        "Whether what is stated holds",
        ("method", "coverage, middle", "coverage, end", "coverage, drift", f"wrong of those sure (>= {SURE:g})"), rows,
        "Coverage: share of the stated 95 % intervals that hold the truth. Wrong: |error| > max(5 std, 1 ms), beyond "
        "what the truth is known to; and whatever is stated of pairs that share nothing.",
    )  # fmt: skip


def reliability_table(evaluation: Evaluation, method: str) -> Table | None:
    levels = evaluation.reliability(method)
    if not levels:
        return None
    return Table(
        f"Stated confidence against the share right: {method}",
        ("confidence", "answers", "mean stated", "right"),
        [(f"{b.low:g} - {b.high:g}", b.count, f"{100 * b.stated:.2f} %", tenths(b.right, b.count)) for b in levels],
    )


def consistency_table(summaries: Sequence[Summary]) -> Table | None:
    """Drift, closure of loops, and offsets among all recordings; None where there is nothing of them."""
    rows = [
        (
            s.method, _ppm(s.drift_median), _ppm(s.drift_p95), milliseconds(s.mutual_p95),
            milliseconds(s.cycle_median), milliseconds(s.cycle_max),
        )
        for s in summaries
    ]  # fmt: skip
    columns = ("method", "|drift error|, median [ppm]", "p95", "mutual error, p95 [ms]", "cycle residual, median [ms]",
               "max")  # fmt: skip
    told = [k for k in range(len(columns)) if any(row[k] != "–" for row in rows)]
    if told == [0]:
        return None
    notes = [
        "Mutual error: of joint answers, between any two recordings." if 3 in told else "",
        "Cycle residual: of answers about pairs alone, round every triangle." if 4 in told else "",
    ]
    return Table(
        "Drift and consistency", [columns[k] for k in told], [[row[k] for k in told] for row in rows],
        " ".join(filter(None, notes)),
    )  # fmt: skip


def setting_table(evaluation: Evaluation, key: str) -> Table | None:
    """Shares within 1 ms and off by more than 100 ms, by the values of a setting or by group."""
    values = [
        (value, {p.case: p for p in evaluation.pairs if p.shared and value_of(p, key) == value})
        for value in evaluation.settings()[key]
    ]
    values = [(value, found) for value, found in values if found]
    if len(values) < 2:
        return None
    rows, counts = [], []
    for method in evaluation.methods:
        cells = []
        for value, _ in values:
            error = np.array([p.error for p in evaluation.of_method(method) if p.shared and value_of(p, key) == value])
            within, gross = succeeds(error, TOLERANCES[0]).sum(), is_gross(error).sum()
            cells.append(f"{percent(int(within), len(error))} / {percent(int(gross), len(error))}")
            counts.append(len(error))
        rows.append((method, *cells))
    titles = (f"{value or 'none'} ({count})" for (value, _), count in zip(values, counts, strict=False))
    return Table(f"By {key}: pairs within 1 ms / off by more than 100 ms", ("method", *titles), rows)


def value_of(pair: PairResult, key: str) -> str | None:
    return pair.group if key == "group" else pair.settings.get(key)


def kind_of(pair: PairResult) -> str:
    """What a pair that shares nothing is told under: its settings, else its group."""
    return ", ".join(pair.settings.values()) or pair.group or "all"


def statuses_table(evaluation: Evaluation, method: str) -> Table | None:
    """What one method says where nothing is shared, by kind of case."""
    strangers = [p for p in evaluation.of_method(method) if not p.shared]
    if not strangers:
        return None
    statuses = ("aligned", "ambiguous", "no_match", "degenerate", "failed")
    rows = []
    for kind in dict.fromkeys(map(kind_of, strangers)):
        found = [p for p in strangers if kind_of(p) == kind]
        rows.append((kind, len(found), *(sum(p.status == s for p in found) for s in statuses)))
    return Table(f"{_pairs(len(strangers))} without a truth to find: what {method} says",
                 ("kind", "pairs", *(s.replace("_", " ") for s in statuses)), rows)  # fmt: skip


def strangers_table(evaluation: Evaluation) -> Table | None:
    """False accepts of every method, by kind of case."""
    strangers = [p for p in evaluation.pairs if not p.shared]
    if not strangers:
        return None
    rows = []
    for kind in dict.fromkeys(map(kind_of, strangers)):
        found = [[p for p in strangers if kind_of(p) == kind and p.method == m] for m in evaluation.methods]
        rows.append((kind, len(found[0]), *(sum(p.stated for p in each) for each in found)))
    count = len(strangers) // len(evaluation.methods)
    return Table(f"Placed, of {_pairs(count)} without a truth to find", ("kind", "pairs", *evaluation.methods), rows)


def comparison_table(evaluation: Evaluation) -> Table | None:
    """The first method against each other one, paired."""
    if len(evaluation.methods) < 2 or not any(p.shared for p in evaluation.pairs):
        return None
    rows = []
    for other in evaluation.methods[1:]:
        c = evaluation.comparison(other)
        gains = [f"{_points(f)}{_star(p)}" for f, p in zip(c.success, c.p, strict=True)]
        time = "–" if not math.isfinite(c.time.value) else f"{c.time.value:.2f} ({c.time.low:.2f} to {c.time.high:.2f})"
        rows.append((other, *gains, f"{c.closer} : {c.farther}{_star(c.closer_p)}", time))
    first = evaluation.methods[0]
    return Table(
        f"{first} less each other method, paired by case",
        ("method", *(f"<= {t * 1e3:g} ms [points]" for t in TOLERANCES), "closer : farther", "time, ratio"), rows,
        f"Points: per cent of the pairs by which {first} succeeds more often. * p < 0.05 by McNemar's exact test and "
        f"the sign test, uncorrected for the number of them. Time: {first} over the other, start-up included.",
    )  # fmt: skip


def cost_table(evaluation: Evaluation, summaries: Sequence[Summary]) -> Table | None:
    """Time and memory; None where neither was measured."""
    if not evaluation.timed:
        return None
    rows = []
    for s in summaries:
        startup = s.startup if math.isfinite(s.startup) else 0.0
        if math.isfinite(s.seconds.value):
            memory = f"{s.peak_mb:.0f}" if math.isfinite(s.peak_mb) else "–"
            rows.append((s.method, _seconds(s.seconds), f"{s.seconds.value + startup:.2f}", memory))
    if not rows:
        return None
    return Table(
        f"Cost of {len(evaluation.asked)} cases",
        ("method", "seconds a case, median", "start-up included", "peak MB"), rows,
        "Start-up: of the process, of loading the method, and of one small case to warm up. Memory is the most that "
        "all processes of one case kept resident.",
    )  # fmt: skip


def wrong_table(evaluation: Evaluation) -> Table | None:
    """What was stated and is wrong, of methods that state how sure they are: the worst defect there is."""
    bad = [p for p in evaluation.pairs if p.wrong and math.isfinite(p.confidence)]
    if not bad:
        return None
    rows = []
    for p in sorted(bad, key=lambda p: -p.confidence)[:_LISTED]:
        rivals = [q for q in evaluation.pairs if (q.case, q.moving) == (p.case, p.moving) and q.method != p.method]
        right = [q.method for q in rivals if p.shared and abs(q.error) < abs(p.error) / 2]
        error = milliseconds(p.error) if p.shared else "shares nothing"
        rows.append((p.method, p.case, p.moving, error, f"{p.confidence:.5f}", ", ".join(right)))
    return Table(
        f"Stated and wrong: {len(bad)}",
        ("method", "case", "recording", "|error| [ms]", "confidence", "others at less than half of it"), rows,
    )  # fmt: skip


def failures_table(evaluation: Evaluation) -> Table | None:
    failed = [p for p in evaluation.pairs if p.status == "failed"]
    if not failed:
        return None
    told = {(p.method, p.case): p.reason for p in failed}
    rows = [(method, case, reason) for (method, case), reason in list(told.items())[:_LISTED]]
    return Table(f"Failed: {len(told)}", ("method", "case", "reason"), rows)


def _interval(figure: Figure, form: str) -> str:
    return f" ({form.format(figure.low)} to {form.format(figure.high)})" if math.isfinite(figure.low) else ""


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"


def _share(figure: Figure, digits: int = 0) -> str:
    if not math.isfinite(figure.value):
        return "–"
    value, low, high = (f"{100 * v:.{digits}f}" for v in (figure.value, figure.low, figure.high))
    return f"{value} % ({low}-{high})" if math.isfinite(figure.low) else f"{value} %"


def _ms(figure: Figure) -> str:
    if not math.isfinite(figure.value):
        return "–"
    inside = f" ({milliseconds(figure.low)}-{milliseconds(figure.high)})" if math.isfinite(figure.low) else ""
    return milliseconds(figure.value) + inside


def _ppm(figure: Figure) -> str:
    if not math.isfinite(figure.value):
        return "–"
    return f"{figure.value * 1e6:.3g} ({figure.low * 1e6:.3g}-{figure.high * 1e6:.3g})"


def _seconds(figure: Figure) -> str:
    return f"{figure.value:.2f}{_interval(figure, '{:.2f}')}"


def _points(figure: Figure) -> str:
    if not math.isfinite(figure.value):
        return "–"
    return f"{100 * figure.value:+.0f} ({100 * figure.low:+.0f} to {100 * figure.high:+.0f})"


def _star(p: float) -> str:
    return " *" if p < 0.05 else ""


def save(evaluation: Evaluation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write evaluation.json, pairs.csv, errors.svg and evaluation.html into `folder`, made where it is absent.

    The page needs no other file. Raises WriteError where that is not possible.
    """
    check_folder(folder)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    plot = error_plot(evaluation)
    texts = {
        "evaluation.json": json_text(evaluation.to_json()) + "\n",
        "pairs.csv": pairs_csv(evaluation.pairs),
        "errors.svg": plot,
        "evaluation.html": page(evaluation, plot),
    }
    for name, text in texts.items():
        with replacing(place / name) as temporary:
            # Names of files may hold what UTF-8 cannot.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return [place / name for name in texts]


def pairs_csv(pairs: Sequence[PairResult]) -> str:
    """A row per method and pair; a column for each field, and one for each setting."""
    settings = list(dict.fromkeys(key for p in pairs for key in p.settings))
    plain = [name for name in PAIR_FIELDS if name != "settings"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *(f"setting: {key}" for key in settings)])
    for p in pairs:
        cells = ["" if isinstance(v, float) and math.isnan(v) else v for v in (getattr(p, name) for name in plain)]
        writer.writerow([*cells, *(p.settings.get(key, "") for key in settings)])
    return out.getvalue()


def error_plot(evaluation: Evaluation) -> str:
    """SVG: share of the pairs within a tolerance against the tolerance, a curve for each method.

    Lines and text take the page's own colour, so that it can be read on dark and on light.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    tolerances = np.geomspace(1e-6, 1.0, 400)
    ink = "#808080"
    # Text as text, and no random identifiers: equal evaluations give equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "avfuse"}):
        drawing = Drawing(figsize=(8, 4.2), layout="constrained", facecolor="none")
        panel = drawing.add_subplot(facecolor="none")
        for k, method in enumerate(evaluation.methods):
            error = np.abs([p.error for p in evaluation.of_method(method) if p.shared])
            error = np.nan_to_num(error, nan=np.inf)
            within = (error[:, None] <= tolerances).mean(axis=0) if len(error) else np.zeros(len(tolerances))
            panel.step(
                tolerances * 1e3, 100 * within, where="post", label=_plain_name(method), lw=2.6 if k == 0 else 1.6,
                color=COLOURS[k % len(COLOURS)], ls=("-", "--", ":")[k // len(COLOURS) % 3], zorder=3 - (k > 0),
            )  # fmt: skip
        panel.set(xscale="log", xlim=(1e-3, 1e3), ylim=(-2, 102))
        panel.set_xlabel("tolerance [ms]", color=ink)
        panel.set_ylabel("pairs within the tolerance [%]", color=ink)
        panel.grid(alpha=0.3, color=ink)
        panel.tick_params(colors=ink, which="both")
        for spine in panel.spines.values():
            spine.set_color(ink)
        drawing.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False, labelcolor=ink)
        out = io.StringIO()
        drawing.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _plain_name(name: str) -> str:
    """A name that matplotlib neither hides (a leading underscore) nor typesets ($)."""
    return name.replace("$", r"\$").replace("_", "\u200b_", 1) if name.startswith("_") else name.replace("$", r"\$")


def page(evaluation: Evaluation, plot: str) -> str:
    """The tables and the plot as one HTML page that needs nothing else."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    from avfuse import __version__

    environment = Environment(
        loader=PackageLoader("avfuse.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    drawn = Markup(plot[plot.index("<svg") :])  # our own; matplotlib escapes the names in it
    return environment.get_template("evaluation.html").render(
        evaluation=evaluation, tables=tables(evaluation), plot=drawn, version=__version__,
        shown=any(p.shared for p in evaluation.pairs),
    )  # fmt: skip
