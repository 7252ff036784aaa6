"""The figures of avfuse/temporal/calibration.py, fitted again on simulated pairs, beside those in use.

Nothing is written into the package: a person looks at the tables and decides, and `honest` judges on other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from avfuse.clock import ClockMap
from avfuse.reporting.tables import Table, milliseconds
from avfuse.simulation import UNRELATED, simulate_pair, unrelated_pair
from avfuse.temporal import calibration
from avfuse.temporal.coarse import Line
from avfuse.temporal.evidence import choose_windows, gather, gather_onsets
from avfuse.temporal.focus import Lobe
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.matching import candidate_lines
from avfuse.temporal.refine import Refined, cells_of, refine
from avfuse.temporal.settling import find_arrivals
from avfuse.temporal.sharing import share_of_time
from avfuse.temporal.sound import are_swapped
from benchmarks.honest import designed_pair
from benchmarks.options import Options
from benchmarks.rows import Row
from benchmarks.rows import gather as measure
from benchmarks.tables import show

_SEED = 1000  # added to the seed, so that nothing is judged on what it was fitted to
_NEAR = 0.03  # seconds from the truth within which a line is right
_RIGHT = 0.25e-3  # the same of a lobe
F64 = NDArray[np.float64]


def _prepared(reference: Heard, moving: Heard, truth: ClockMap) -> tuple[Heard, Heard, ClockMap]:
    """The shorter is searched in the longer, as `compare` does."""
    return (moving, reference, truth.inverse()) if are_swapped(reference, moving) else (reference, moving, truth)


def _miss(line: Line, truth: ClockMap) -> float:
    """Seconds by which a line misses the truth at its centre."""
    return line.lag - (float(truth(line.centre)) - line.centre)


def related_row(seed: int, index: int) -> Row:
    """Of one pair: the line near the truth, the lobes along it, and both refinements of the right one."""
    recipe, setting = designed_pair(seed + _SEED, index)
    arguments = {key: value for key, value in recipe.items() if key not in ("pair", "seed")}
    pair = simulate_pair(**arguments, rng=np.random.default_rng(recipe["seed"]))
    a, b, truth = _prepared(hear(pair.reference), hear(pair.moving), pair.truth)
    near = [t for t in candidate_lines(a, b, -math.inf, math.inf) if abs(_miss(t.focused.line, truth)) < _NEAR]
    row: Row = {"setting": setting, "found": bool(near)}
    if not near:
        return row
    best = max(near, key=lambda t: t.focused.peak)
    line = best.focused.line
    windows = choose_windows(a, b, line)
    sharp, onsets = gather(a, b, line, windows), gather_onsets(a, b, line, windows)
    lobes, sharpness = find_arrivals(sharp, onsets)
    late = -_miss(line, truth)
    row |= {"peak": best.focused.peak, "score": best.line.score, "wave": best.line.wave, "sharpness": sharpness,
            "lobes": [[p.lag - late, p.sign, p.plain, p.broad, p.fine] for p in lobes]}  # fmt: skip
    right = min(lobes, key=lambda p: abs(p.lag - late))
    if abs(right.lag - late) < _RIGHT:
        row["share"] = share_of_time(sharp, onsets, right)
        for name, evidence in (("plain", sharp), ("onset", onsets)):
            found = refine(cells_of(evidence, sign=right.sign), lag=right.lag)
            row[name] = [_miss(found.line, truth), math.sqrt(found.cov[0, 0]), found.bent]
    return row


def stranger_row(seed: int, index: int) -> Row:
    """Peak and score of every line tried, of two recordings that share nothing."""
    rng = np.random.default_rng([seed + _SEED, 31, index])
    kinds = [kind for kind in UNRELATED if kind != "silence"]
    kind = kinds[index % len(kinds)]
    streams = unrelated_pair(kind, duration=float(rng.uniform(8.0, 40.0)), rng=rng)
    a, b, _ = _prepared(*map(hear, streams), ClockMap())
    tried = candidate_lines(a, b, -math.inf, math.inf)
    return {"setting": {"kind": kind}, "lines": [[t.focused.peak, t.line.score, t.line.wave] for t in tried]}


def benchmark(options: Options) -> bool:
    related = measure(options, "related", partial(related_row, options.seed), options.pick(32, 768))
    strangers = measure(options, "strangers", partial(stranger_row, options.seed), options.pick(22, 330))
    found = [row for row in related if row["found"]]
    tables = [_lobes(found), _matches(found, strangers), _deviations(found)]
    # These are for whoever changes the figures, not for the documentation.
    show(tables, options.out / "calibrate.md", "calibrate", f"Seed {options.seed + _SEED}.")
    return True


def _lobes(rows: Sequence[Row]) -> Table:
    usable = [r for r in rows if min(abs(p[0]) for p in r["lobes"]) < _RIGHT]

    def surprise(figures: F64) -> float:
        """Mean negative log-likelihood of the right lobes."""
        *weights, power = figures
        total = 0.0
        for row in usable:
            late, sign, _, broad, fine = np.array(row["lobes"]).T
            score = np.stack([broad, fine, sign < 0], axis=1) @ np.array(weights)
            score *= math.exp(power * (math.log(row["sharpness"]) - 2.5))
            p = np.exp(score - score.max())
            total -= math.log(max(float(p[np.abs(late) < _RIGHT].sum() / p.sum()), 1e-6))
        return total / len(usable)

    used = np.array([*calibration.LOBE_WEIGHTS, calibration.LOBE_SHARPNESS])
    fitted = minimize(lambda x: surprise(x) + 1e-4 * float(np.sum(x**2)), used, method="Nelder-Mead").x
    sure = wrong = 0
    for row in usable:
        lobes = [Lobe(p[0], p[1], *p[2:]) for p in row["lobes"]]
        p = calibration.lobe_probabilities(lobes, row["sharpness"])
        top = lobes[int(np.argmax(p))].lag
        if sum(q for q, lobe in zip(p, lobes, strict=True) if abs(lobe.lag - top) < 0.8e-3) > 0.98:
            sure += 1
            wrong += abs(top) > 1e-3
    return Table(
        f"Lobes of {len(usable)} pairs ({len(rows) - len(usable)} more have none at the truth)",
        ("figures", "broad", "fine", "inverted", "sharpness", "surprise"),
        [(name, *(f"{v:.2f}" for v in x), f"{surprise(x):.4f}") for name, x in (("used", used), ("fitted", fitted))],
        f"As used, {sure} are sure beyond 0.98, of which {wrong} are off by more than 1 ms.",
    )


def _matches(rows: Sequence[Row], strangers: Sequence[Row]) -> Table:
    low, high = calibration.MATCH_SCORES

    def features(peak: float, score: float, wave: bool) -> list[float]:
        return [1.0, math.log(max(peak, 1e-3)), math.log((low if wave else min(max(score, low), high)) / low)]

    true = np.array([features(r["peak"], r["score"], r["wave"]) for r in rows])
    false = np.array([features(*line) for r in strangers for line in r["lines"]])

    def surprise(w: F64) -> float:
        return float(np.logaddexp(0, -true @ w).mean() + np.logaddexp(0, false @ w).mean())

    used = calibration.MATCH_WEIGHTS
    fitted = minimize(lambda w: surprise(w) + 1e-5 * float(np.sum(w**2)), used, method="BFGS").x
    return Table(
        f"Matches: {len(true)} lines at the truth, {len(false)} of unrelated pairs",
        ("figures", "constant", "peak", "score", "surprise", "true below 0.5", "false above 0.5"),
        [(name, *(f"{v:.1f}" for v in w), f"{surprise(w):.4f}", int((true @ w < 0).sum()), int((false @ w > 0).sum()))
         for name, w in (("used", used), ("fitted", fitted))],
        f"Largest peak of unrelated pairs {math.exp(false[:, 1].max()):.2f}; their largest score is "
        f"{low * math.exp(false[:, 2].max()):.1f}; least share of the time of a true pair "
        f"{min((r['share'] for r in rows if 'share' in r), default=math.nan):.2f}.",
    )  # fmt: skip


def _deviations(rows: Sequence[Row]) -> Table:
    """Coverage of 95 % by factors of both parts of the standard deviation."""
    usable = [r for r in rows if "plain" in r]
    eye = np.eye(2)
    lines = []
    for noise in (1.0, 1.15, 1.3, 1.5):
        for bent in (1.0, 1.3, 1.6):
            scores: dict[str, list[float]] = {}
            for row in usable:
                parts = [
                    Refined(Line(miss, 0.0, 0.0, 0.0), eye * (std * noise / calibration.STD_NOISE) ** 2,
                            bending * bent / calibration.STD_BENT, 0.0, True)
                    for miss, std, bending in (row["plain"], row["onset"])
                ]  # fmt: skip
                settled = calibration.settle(*parts)
                scores.setdefault(row["setting"]["room"], []).append(settled.line.lag / math.sqrt(settled.cov[0, 0]))
            covered = {room: float(np.mean(np.abs(z) < 1.96)) for room, z in scores.items()}
            pooled = float(np.mean(np.abs(np.concatenate(list(scores.values()))) < 1.96))
            lines.append((noise, bent, f"{100 * pooled:.1f} %", *(f"{100 * c:.1f} %" for c in covered.values())))
    error = np.abs([min(r["plain"], r["onset"], key=lambda p: p[1] ** 2 + p[2] ** 2)[0] for r in usable])
    return Table(
        f"Coverage of 95 % intervals over {len(usable)} pairs, given the right lobe",
        ("noise", "reflections", "all", *dict.fromkeys(r["setting"]["room"] for r in usable)), lines,
        f"Used: {calibration.STD_NOISE:g} and {calibration.STD_BENT:g}. Median |error| "
        f"{milliseconds(float(np.median(error)))} ms.",
    )  # fmt: skip
