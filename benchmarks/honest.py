"""Does avfuse know what it knows: coverage of stated intervals, reliability, and pairs that share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from itertools import pairwise

import numpy as np

from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.simulation import UNRELATED, jingle_pair, simulate_pair, unrelated_pair
from avfuse.simulation.pairs import Pair
from avfuse.stream import Stream
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.sound import compare
from benchmarks.clips import Clip, digit_clips, real_clips, strangers
from benchmarks.options import SHARED, Options
from benchmarks.rows import Row, gather
from benchmarks.tables import Goals, Table, milliseconds, percent, show

_ROOMS = (None, "near", "mid", "far")
_SNRS = (20.0, 10.0, 0.0, -6.0)
_KINDS = ("speech", "music", "impacts")
_MS = 1e-3
_AMONG = 0.5e-3  # seconds from the truth within which a candidate is it
_LEVELS = (0.0, 0.5, 0.9, 0.98, 0.99, 0.999, 0.9999, 1.0)


def estimate_row(pair: Pair, *, spacing: float = 0.0) -> Row:
    """What avfuse says of a pair with known truth, and how far off it is."""
    heard = [hear(stream) for stream in (pair.reference, pair.moving)]
    found = compare(heard[0], heard[1], spacing=spacing)
    return stated(found) | judged(found, pair)


def stated(found: ClockEstimate) -> Row:
    row: Row = {"status": found.status, "confidence": found.confidence, "candidates": len(found.candidates)}
    return row | {key: float(found.diagnostics[key]) for key in ("peak", "share", "match") if key in found.diagnostics}


def judged(found: ClockEstimate, pair: Pair) -> Row:
    """Errors in seconds in the middle of what both recorded and at the end of it, and their stated deviations."""
    first = max(0.0, float(pair.truth.inverse()(0.0)))
    last = min(pair.moving.duration, float(pair.truth.inverse()(pair.reference.duration)))
    middle = (first + last) / 2
    if not isinstance(found.clock, ClockMap):
        truth = float(pair.truth(middle))
        near = [abs(float(c.map(middle)) - truth) for c in found.candidates]
        return {"among": min(near, default=np.inf) <= _AMONG}
    return {
        "error": float(found.clock(middle) - pair.truth(middle)),
        "std": float(found.std_at(middle)),
        "end_error": float(found.clock(last) - pair.truth(last)),
        "end_std": float(found.std_at(last)),
        "drift_error": found.drift - pair.truth.drift,
        "drift_std": found.drift_std,
    }


def designed_pair(rng: np.random.Generator, index: int) -> tuple[Pair, dict[str, str]]:
    """Pair `index` of a design that turns every class over, with everything else drawn; and its classes."""
    room, snr = _ROOMS[index % 4], _SNRS[index // 4 % 4]
    kind = _KINDS[index // 16 % 3]
    overlap = float(np.exp(rng.uniform(np.log(6.0), np.log(45.0))))
    drift = float(rng.uniform(-120.0, 120.0))
    pair = simulate_pair(kind, overlap=overlap, snr_db=snr, room=room, drift_ppm=drift, rng=rng)
    longs = "6-12 s" if overlap < 12 else "12-24 s" if overlap < 24 else "24-45 s"
    return pair, {"room": room or "free field", "SNR": f"{snr:+g} dB", "kind": kind, "overlap": longs}


def coverage_row(seed: int, index: int) -> Row:
    pair, setting = designed_pair(np.random.default_rng([seed, index]), index)
    return estimate_row(pair) | {"setting": setting}


def room_row(seed: int, index: int) -> Row:
    """0 dB, 30 s, one room class after the other."""
    rng = np.random.default_rng([seed, 7, index])
    room = _ROOMS[1 + index % 3]
    kind = _KINDS[index // 3 % 3]
    drift = float(rng.uniform(-120.0, 120.0))
    pair = simulate_pair(kind, overlap=30.0, snr_db=0.0, room=room, drift_ppm=drift, rng=rng)
    return estimate_row(pair) | {"setting": {"room": room, "kind": kind}}


def unrelated_row(seed: int, index: int) -> Row:
    """Two simulated recordings that share nothing, 8 to 40 s long."""
    rng = np.random.default_rng([seed, 11, index])
    kind = UNRELATED[index % len(UNRELATED)]
    found = _compared(*unrelated_pair(kind, duration=float(rng.uniform(8.0, 40.0)), rng=rng))
    return stated(found) | {"setting": {"kind": f"simulated: {kind}"}}


def jingle_row(seed: int, index: int) -> Row:
    """Two broadcasts that share a jingle alone, which one of them has twice at least."""
    plays = ((3, 2), (2, 1), (2, 2), (4, 1))[index % 4]
    pair = jingle_pair(plays=plays, rng=np.random.default_rng([seed, 13, index]))
    found = _compared(pair.reference, pair.moving)
    offsets = [c.offset for c in found.candidates]
    met = sum(bool(np.min(np.abs(pair.offsets - o)) < 0.05) for o in offsets) if offsets else 0
    return stated(found) | {"setting": {"plays": f"{plays[0]} x {plays[1]}"}, "real": met}


def _compared(reference: Stream, moving: Stream) -> ClockEstimate:
    return compare(hear(reference), hear(moving))


def benchmark(options: Options) -> bool:
    goals = Goals()
    run = partial(gather, options)
    pairs = run("coverage", partial(coverage_row, options.seed), options.pick(96, 1008))
    rooms = run("rooms", partial(room_row, options.seed), options.pick(18, 450))
    jingles = run("jingles", partial(jingle_row, options.seed), options.pick(8, 60))
    apart = run("unrelated", partial(unrelated_row, options.seed), options.pick(48, 1320))
    apart += _crossed(options)
    tables = [
        _coverage(pairs, goals),
        _reliability(pairs),
        _room_classes(rooms, goals),
        *_unrelated(apart, goals),
        _jingles(jingles, goals),
        _wrong([("coverage", pairs), ("rooms", rooms)], goals),
        goals.table(),
    ]
    show(tables, options.page, "honest", f"Seed {options.seed}; every pair can be made again from it and its number.")
    return goals.met


@lru_cache(maxsize=1)
def _clips(seed: int, digits: int) -> list[Clip]:
    return real_clips(SHARED) + digit_clips(SHARED, digits, seed=seed)


@cache
def _heard(seed: int, digits: int, clip: int) -> Heard:
    return hear(_clips(seed, digits)[clip].stream)


def crossed_row(seed: int, digits: int, pairs: Sequence[tuple[int, int]], index: int) -> Row:
    """Pieces of real recordings against each other: each is prepared once in every process, and compared often."""
    a, b = (_clips(seed, digits)[k] for k in pairs[index])
    same = "same device" if a.device == b.device else "crossed"
    kind = f"real: digits, {same}" if a.device.startswith("fsdd") else f"real: {same}"
    found = compare(*(_heard(seed, digits, k) for k in pairs[index]))
    return stated(found) | {"setting": {"kind": kind, "clips": f"{a.name} / {b.name}"}}


def _crossed(options: Options) -> list[Row]:
    digits = options.pick(12, 72)
    clips = _clips(options.seed, digits)
    if not clips:
        print("no shared recordings: real pairs are left out", flush=True)
        return []
    pairs = strangers(clips, options.pick(60, 1700), seed=options.seed)
    return gather(options, "crossed", partial(crossed_row, options.seed, digits, pairs), len(pairs))


def aligned(rows: Sequence[Row]) -> list[Row]:
    return [r for r in rows if r["status"] == "aligned"]


def is_wrong(row: Row) -> bool:
    """By the definition of confidence: |error| > max(5 std, 1 ms)."""
    return bool(abs(row["error"]) > max(5 * row["std"], _MS))


def _covered(rows: Sequence[Row], error: str, std: str) -> int:
    return sum(abs(r[error]) <= 1.96 * r[std] for r in rows)


def _coverage(rows: Sequence[Row], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []

    def line(title: str, chosen: Sequence[Row]) -> tuple[float, int]:
        stated_ = aligned(chosen)
        drifts = [r for r in stated_ if r["drift_std"] is not None]
        error = np.abs([r["error"] for r in stated_]) if stated_ else np.array([np.nan])
        covered = _covered(stated_, "error", "std")
        lines.append((
            title, len(chosen), percent(len(stated_), len(chosen)), _tenths(covered, len(stated_)),
            _tenths(_covered(stated_, "end_error", "end_std"), len(stated_)),
            _tenths(_covered(drifts, "drift_error", "drift_std"), len(drifts)),
            milliseconds(float(np.median(error))), milliseconds(float(np.quantile(error, 0.95))),
            milliseconds(float(error.max())), sum(map(is_wrong, stated_)),
        ))  # fmt: skip
        return (covered / len(stated_) if stated_ else np.nan), len(stated_)

    pooled, n = line("all", rows)
    goals.add("95 % intervals hold the truth 93-97 % of the time, pooled", f"{100 * pooled:.1f} % of {n}",
              0.93 <= pooled <= 0.97)  # fmt: skip
    outside, judged_classes = [], 0
    for key in ("room", "SNR", "kind", "overlap"):
        for value in dict.fromkeys(r["setting"][key] for r in rows):
            share, count = line(f"{key} {value}", [r for r in rows if r["setting"][key] == value])
            # A class that is hardly ever aligned says nothing about coverage.
            if count < 20:
                continue
            judged_classes += 1
            if not 0.90 <= share <= 0.99:
                outside.append(f"{key} {value}: {100 * share:.1f} %")
    inside = f"in all {judged_classes} classes with 20 aligned pairs or more"
    goals.add("90-99 % in each class", "; ".join(outside) or inside, not outside and judged_classes > 0)
    return Table(
        f"Coverage of the stated 95 % intervals over {len(rows)} simulated pairs (drift up to 120 ppm, equal paths)",
        ("class", "pairs", "aligned", "coverage, middle", "coverage, end", "coverage, drift", "median |error| [ms]",
         "p95", "max", "wrong"),
        lines, "Coverage is of aligned pairs. Wrong: |error| > max(5 std, 1 ms).",
    )  # fmt: skip


def _tenths(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _reliability(rows: Sequence[Row]) -> Table:
    """Stated confidence of aligned pairs against the share of them that was right."""
    lines: list[Sequence[object]] = []
    for low, high in pairwise(_LEVELS):
        inside = [r for r in aligned(rows) if low <= r["confidence"] < high or (high == 1.0 == r["confidence"])]
        if inside:
            right = sum(not is_wrong(r) for r in inside)
            mean = float(np.mean([r["confidence"] for r in inside]))
            lines.append((f"{low:g} - {high:g}", len(inside), f"{100 * mean:.2f} %", _tenths(right, len(inside))))
    others = {s: [r for r in rows if r["status"] == s] for s in ("ambiguous", "no_match", "degenerate")}
    among = sum(bool(r["among"]) for r in others["ambiguous"])
    note = ", ".join(f"{len(found)} {status}" for status, found in others.items())
    return Table(
        "Reliability: stated confidence against the share right",
        ("confidence", "aligned", "mean stated", "right"),
        lines,
        f"Of the rest: {note}; the truth is among the candidates of {percent(among, len(others['ambiguous']))} "
        "of the ambiguous.",
    )  # fmt: skip


def _room_classes(rows: Sequence[Row], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    least = {"near": 0.85, "mid": 0.40}
    for room in dict.fromkeys(r["setting"]["room"] for r in rows):
        chosen = [r for r in rows if r["setting"]["room"] == room]
        good = aligned(chosen)
        unsure = [r for r in chosen if r["status"] == "ambiguous"]
        among = sum(bool(r["among"]) for r in unsure)
        error = np.abs([r["error"] for r in good]) if good else np.array([np.nan])
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


def _unrelated(rows: Sequence[Row], goals: Goals) -> list[Table]:
    lines: list[Sequence[object]] = []
    scores: list[Sequence[object]] = []
    for kind in dict.fromkeys(r["setting"]["kind"] for r in rows):
        chosen = [r for r in rows if r["setting"]["kind"] == kind]
        count = {s: sum(r["status"] == s for r in chosen) for s in ("aligned", "ambiguous", "no_match", "degenerate")}
        lines.append((kind, len(chosen), *count.values()))
        cells = []
        for key in ("peak", "share", "match"):
            values = [r[key] for r in chosen if key in r]
            cells.append(" / ".join(f"{q:.3g}" for q in np.quantile(values, (0.5, 0.95, 1.0))) if values else "–")
        scores.append((kind, *cells))
    bad = [r for r in rows if r["status"] == "aligned"]
    for r in bad:
        print(f"UNRELATED YET ALIGNED: {r['part']} {r['index']}: {r['setting']}", flush=True)
    goals.add("no unrelated pair is aligned", f"{len(bad)} of {len(rows)}", not bad)
    return [
        Table(
            f"{len(rows)} unrelated pairs", ("kind", "pairs", "aligned", "ambiguous", "no match", "degenerate"), lines
        ),
        Table("Their scores: median / p95 / largest", ("kind", "peak over the null", "share", "match"), scores),
    ]


def _jingles(rows: Sequence[Row], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    for plays in dict.fromkeys(r["setting"]["plays"] for r in rows):
        chosen = [r for r in rows if r["setting"]["plays"] == plays]
        count = {s: sum(r["status"] == s for r in chosen) for s in ("aligned", "ambiguous", "no_match", "degenerate")}
        lines.append((plays, len(chosen), *count.values(), sum(r["real"] >= 2 for r in chosen)))
    ambiguous = sum(r["status"] == "ambiguous" for r in rows)
    goals.add("pairs that share a repeated jingle alone are ambiguous", f"{ambiguous} of {len(rows)}",
              ambiguous == len(rows))  # fmt: skip
    return Table(
        "Pairs that share a repeated jingle alone",
        ("plays", "pairs", "aligned", "ambiguous", "no match", "degenerate", "two true candidates or more"), lines,
    )  # fmt: skip


def _wrong(parts: Sequence[tuple[str, Sequence[Row]]], goals: Goals) -> Table:
    lines: list[Sequence[object]] = []
    for name, rows in parts:
        for r in aligned(rows):
            if is_wrong(r):
                setting = ", ".join(r["setting"].values())
                lines.append((name, r["index"], setting, milliseconds(r["error"]), f"{r['confidence']:.5f}"))
    goals.add("nothing aligned and wrong", str(len(lines)), not lines)
    return Table("Aligned and wrong", ("part", "number", "setting", "|error| [ms]", "confidence"), lines)
