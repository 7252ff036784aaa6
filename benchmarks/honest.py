"""Does avfuse know what it knows: coverage of stated intervals, reliability, and pairs that share nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avfuse.evaluation import Evaluation, PairResult
from avfuse.metrics import reliability
from avfuse.reporting.evaluation import statuses_table
from avfuse.reporting.tables import Table, milliseconds, percent, tenths
from avfuse.simulation import UNRELATED
from avfuse.simulation.media import write_media
from avfuse.stream import Recording
from benchmarks.clips import Clip, digit_clips, real_clips, strangers
from benchmarks.measuring import Entry, measure
from benchmarks.options import SHARED, Options
from benchmarks.peers import WITH_SCORES
from benchmarks.tables import Goals, show

_ROOMS = (None, "near", "mid", "far")
_SNRS = (20.0, 10.0, 0.0, -6.0)
_KINDS = ("speech", "music", "impacts")
_MS = 1e-3
_PLAYS = ((3, 2), (2, 1), (2, 2), (4, 1))
_SCORES = ("peak", "share", "match")

Recipe = dict[str, Any]


def designed_pair(seed: int, index: int) -> tuple[Recipe, dict[str, str]]:
    """Recipe `index` of a design that turns every class over, with everything else drawn; and its classes."""
    rng = np.random.default_rng([seed, index])
    room, snr = _ROOMS[index % 4], _SNRS[index // 4 % 4]
    kind = _KINDS[index // 16 % 3]
    overlap = float(np.exp(rng.uniform(np.log(6.0), np.log(45.0))))
    drift = float(rng.uniform(-120.0, 120.0))
    recipe = {"pair": "related", "kind": kind, "overlap": overlap, "snr_db": snr, "room": room, "drift_ppm": drift,
              "seed": [seed, 1, index]}  # fmt: skip
    longs = "6-12 s" if overlap < 12 else "12-24 s" if overlap < 24 else "24-45 s"
    return recipe, {"room": room or "free field", "SNR": f"{snr:+g} dB", "kind": kind, "overlap": longs}


def _room_pair(seed: int, index: int) -> tuple[Recipe, dict[str, str]]:
    """0 dB, 30 s, one room class after the other."""
    room, kind = str(_ROOMS[1 + index % 3]), _KINDS[index // 3 % 3]
    drift = float(np.random.default_rng([seed, 7, index]).uniform(-120.0, 120.0))
    recipe = {"pair": "related", "kind": kind, "overlap": 30.0, "snr_db": 0.0, "room": room, "drift_ppm": drift,
              "seed": [seed, 8, index]}  # fmt: skip
    return recipe, {"room": room, "kind": kind}


def _unrelated_pair(seed: int, index: int) -> tuple[Recipe, dict[str, str]]:
    """Two simulated recordings that share nothing, 8 to 40 s long."""
    kind = UNRELATED[index % len(UNRELATED)]
    duration = float(np.random.default_rng([seed, 11, index]).uniform(8.0, 40.0))
    recipe = {"pair": "unrelated", "kind": kind, "duration": duration, "seed": [seed, 12, index]}
    return recipe, {"kind": f"simulated: {kind}"}


def _jingle_pair(seed: int, index: int) -> tuple[Recipe, dict[str, str]]:
    """Two broadcasts that share a jingle alone, which one of them has twice at least."""
    plays = _PLAYS[index % len(_PLAYS)]
    recipe = {"pair": "jingle", "plays": list(plays), "seed": [seed, 13, index]}
    return recipe, {"plays": f"{plays[0]} x {plays[1]}"}


def recipes(part: str, design: Any, seed: int, count: int) -> list[Entry]:
    """Entries of a cases file, each made when it is asked for."""
    found: list[Entry] = []
    for index in range(count):
        recipe, settings = design(seed, index)
        found.append({"name": f"{part} {index}", "group": part, "settings": settings, "simulate": recipe})
    return found


def benchmark(options: Options) -> bool:
    goals = Goals()
    seed, method = options.seed, {"avfuse": WITH_SCORES}

    def run(part: str, design: Any, count: int) -> Evaluation:
        return measure(options, f"honest-{part}", recipes(part, design, seed, count), method)

    pairs = run("coverage", designed_pair, options.pick(96, 1008))
    rooms = run("rooms", _room_pair, options.pick(18, 450))
    jingles = run("jingles", _jingle_pair, options.pick(8, 60))
    apart = [run("unrelated", _unrelated_pair, options.pick(48, 1320))]
    crossed = _crossed(options)
    if crossed:
        apart.append(measure(options, "honest-crossed", crossed, method))
    tables = [
        _coverage(pairs, goals),
        _reliability(pairs.pairs),
        _room_classes(rooms.pairs, goals),
        *_unrelated(apart, goals),
        _jingles(jingles, goals),
        _wrong([*pairs.pairs, *rooms.pairs], goals),
        goals.table(),
    ]
    show(tables, options.page, "honest", f"Seed {seed}; every pair can be made again from it and its number.")
    return goals.met


def _crossed(options: Options) -> list[Entry]:
    """Pieces of real recordings against each other, each written once."""
    clips = real_clips(SHARED) + digit_clips(SHARED, options.pick(12, 72), seed=options.seed)
    if not clips:
        print("no shared recordings: real pairs are left out", flush=True)
        return []
    folder = options.out / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[int, tuple[str, float]] = {}
    found: list[Entry] = []
    for number, pair in enumerate(strangers(clips, options.pick(60, 1700), seed=options.seed)):
        a, b = (clips[k] for k in pair)
        for k in pair:
            files.setdefault(k, (_written(folder / f"clip-seed{options.seed}-{k}.wav", clips[k]),
                                 clips[k].stream.duration))  # fmt: skip
        same = "same device" if a.device == b.device else "crossed"
        kind = f"real: digits, {same}" if a.device.startswith("fsdd") else f"real: {same}"
        clocks = {
            name: {"source": files[k][0], "duration": files[k][1], "status": status}
            for name, k, status in zip(("reference", "moving"), pair, ("reference", "no_match"), strict=True)
        }
        truth = {"format": "avfuse.alignment/1", "reference": "reference", "clocks": clocks}
        name = f"crossed {number}: {a.name} / {b.name}"
        found.append({"name": name, "group": "crossed", "settings": {"kind": kind}, "truth": truth})
    return found


def _written(path: Path, clip: Clip) -> str:
    write_media(path, Recording(path.stem, (clip.stream,)), bits=32)
    return os.path.abspath(path)


def stated(rows: Sequence[PairResult]) -> list[PairResult]:
    return [r for r in rows if r.stated]


def errors_of(rows: Sequence[PairResult]) -> np.ndarray:
    """|error| of what was stated; one NaN where nothing was."""
    return np.abs([r.error for r in stated(rows)] or [np.nan])


def _coverage(found: Evaluation, goals: Goals) -> Table:
    lines: list[Sequence[object]] = []

    def line(title: str, chosen: Evaluation) -> tuple[float, int]:
        s = chosen.summary("avfuse")
        lines.append((
            title, s.pairs, percent(s.stated.value, 1), *(tenths(f.value, 1) for f in
            (s.covered, s.last_covered, s.drift_covered)), milliseconds(s.median.value), milliseconds(s.p95.value),
            milliseconds(s.largest), sum(p.wrong for p in chosen.pairs),
        ))  # fmt: skip
        return s.covered.value, s.covered.count

    pooled, n = line("all", found)
    goals.add("95 % intervals hold the truth 93-97 % of the time, pooled", f"{100 * pooled:.1f} % of {n}",
              0.93 <= pooled <= 0.97)  # fmt: skip
    outside, judged_classes = [], 0
    for key in ("room", "SNR", "kind", "overlap"):
        for value in found.settings().get(key, ()):
            share, count = line(f"{key} {value}", found.where(lambda c, k=key, v=value: c.settings[k] == v))
            # A class that is hardly ever aligned says nothing about coverage.
            if count < 20:
                continue
            judged_classes += 1
            if not 0.90 <= share <= 0.99:
                outside.append(f"{key} {value}: {100 * share:.1f} %")
    inside = f"in all {judged_classes} classes with 20 aligned pairs or more"
    goals.add("90-99 % in each class", "; ".join(outside) or inside, not outside and judged_classes > 0)
    return Table(
        f"Coverage of the stated 95 % intervals over {len(found.asked)} simulated pairs "
        "(drift up to 120 ppm, equal paths)",
        ("class", "pairs", "aligned", "coverage, middle", "coverage, end", "coverage, drift", "median |error| [ms]",
         "p95", "max", "wrong"),
        lines, "Coverage is of aligned pairs. Wrong: |error| > max(5 std, 1 ms).",
    )  # fmt: skip


def _reliability(rows: Sequence[PairResult]) -> Table:
    """Stated confidence of aligned pairs against the share of them that was right."""
    told = stated(rows)
    levels = reliability([r.confidence for r in told], [not r.wrong for r in told])
    lines = [(f"{b.low:g} - {b.high:g}", b.count, f"{100 * b.stated:.2f} %", tenths(b.right, b.count)) for b in levels]
    others = {s: [r for r in rows if r.status == s] for s in ("ambiguous", "no_match", "degenerate")}
    among = sum(bool(r.among) for r in others["ambiguous"])
    note = ", ".join(f"{len(found)} {status}" for status, found in others.items())
    return Table(
        "Reliability: stated confidence against the share right",
        ("confidence", "aligned", "mean stated", "right"),
        lines,
        f"Of the rest: {note}; the truth is among the candidates of {percent(among, len(others['ambiguous']))} "
        "of the ambiguous.",
    )  # fmt: skip


def _room_classes(rows: Sequence[PairResult], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    least = {"near": 0.85, "mid": 0.40}
    for room in dict.fromkeys(r.settings["room"] for r in rows):
        chosen = [r for r in rows if r.settings["room"] == room]
        good = stated(chosen)
        unsure = [r for r in chosen if r.status == "ambiguous"]
        among = sum(bool(r.among) for r in unsure)
        error = errors_of(chosen)
        median, p95 = float(np.median(error)), float(np.quantile(error, 0.95))
        beyond = int((error > _MS).sum())
        lines.append((room, len(chosen), percent(len(good), len(chosen)), percent(len(unsure), len(chosen)),
                      percent(among, len(unsure)), len(chosen) - len(good) - len(unsure), milliseconds(median),
                      milliseconds(p95), milliseconds(float(error.max())), beyond))  # fmt: skip
        if room in least:
            share = len(good) / len(chosen)
            goals.add(f"{room}: aligned at least {100 * least[room]:.0f} %", f"{100 * share:.0f} %",
                      share >= least[room])  # fmt: skip
        if room == "near":
            goals.add("near: median at most 0.02 ms, p95 at most 0.1 ms",
                      f"{milliseconds(median)} and {milliseconds(p95)} ms",
                      median <= 0.02e-3 and p95 <= 0.1e-3)  # fmt: skip
        if room == "mid":
            rest = len(chosen) - len(good)
            goals.add("mid: the rest ambiguous with the truth among the candidates", f"{among} of {rest}",
                      among == rest)  # fmt: skip
        goals.add(f"{room}: no error above 1 ms aligned", str(beyond), beyond == 0)
    return Table(
        "Rooms at 0 dB, 30 s: near 0.3-1.5 m, mid 0.5-4 m, far 2-8 m from the source",
        ("room", "pairs", "aligned", "ambiguous", "with the truth among the candidates", "refused",
         "median |error| [ms]", "p95", "max", "> 1 ms"), lines,
    )  # fmt: skip


def _unrelated(parts: Sequence[Evaluation], goals: Goals) -> list[Table]:
    joined = Evaluation(
        tuple(a for part in parts for a in part.asked), ("avfuse",), tuple(p for part in parts for p in part.pairs)
    )
    scores: dict[str, list[dict[str, float]]] = {}
    for asked in joined.asked:
        alignment = asked.answers["avfuse"].alignment
        told = [f.extra.get("scores", {}) for f in alignment.facts.values()] if alignment is not None else []
        scores.setdefault(asked.case.settings["kind"], []).extend(told)
    lines = []
    for kind, told in scores.items():
        cells = []
        for key in _SCORES:
            values = [s[key] for s in told if key in s]
            cells.append(" / ".join(f"{q:.3g}" for q in np.quantile(values, (0.5, 0.95, 1.0))) if values else "–")
        lines.append((kind, *cells))
    bad = stated(joined.pairs)
    for r in bad:
        print(f"UNRELATED YET ALIGNED: {r.case}: {dict(r.settings)}", flush=True)
    goals.add("no unrelated pair is aligned", f"{len(bad)} of {len(joined.pairs)}", not bad)
    counted = statuses_table(joined, "avfuse")
    assert counted is not None
    return [counted, Table("Their scores: median / p95 / largest", ("kind", "peak over the null", "share", "match"),
                           lines)]  # fmt: skip


def _jingles(found: Evaluation, goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    for plays in dict.fromkeys(p.settings["plays"] for p in found.pairs):
        chosen = [p for p in found.pairs if p.settings["plays"] == plays]
        count = {s: sum(p.status == s for p in chosen) for s in ("aligned", "ambiguous", "no_match", "degenerate")}
        lines.append((plays, len(chosen), *count.values(), sum(bool(p.among) for p in chosen)))
    ambiguous = sum(p.status == "ambiguous" for p in found.pairs)
    goals.add("pairs that share a repeated jingle alone are ambiguous", f"{ambiguous} of {len(found.pairs)}",
              ambiguous == len(found.pairs))  # fmt: skip
    return Table(
        "Pairs that share a repeated jingle alone",
        ("plays", "pairs", "aligned", "ambiguous", "no match", "degenerate", "two true candidates or more"), lines,
    )  # fmt: skip


def _wrong(rows: Sequence[PairResult], goals: Goals) -> Table:
    bad = [r for r in rows if r.wrong]
    lines = [(r.case, ", ".join(r.settings.values()), milliseconds(r.error), f"{r.confidence:.5f}") for r in bad]
    goals.add("nothing aligned and wrong", str(len(lines)), not lines)
    return Table("Aligned and wrong", ("pair", "setting", "|error| [ms]", "confidence"), lines)
