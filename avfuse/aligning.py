"""Recordings -> pairwise evidence -> one consistent Alignment."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from avfuse.alignment import Alignment, Candidate, ClockEdge, ClockEstimate, RecordingFacts, reference_estimate
from avfuse.clock import ClockMap
from avfuse.cores import cores
from avfuse.errors import StreamError
from avfuse.stream import Recording
from avfuse.temporal.broken import Part, edges_of, join, parts_of
from avfuse.temporal.graph import groups_of
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.movement import Movement, compare_movements
from avfuse.temporal.pairing import ALL_PAIRS, Pair, choose_pairs, score_pairs
from avfuse.temporal.sound import compare, nothing_to_hear

Progress = Callable[[float, str], None]
_DECODING = 0.7  # share of the work that reading usually is
_DRIFT_TOLD = 20e-6  # standard deviation of a drift that is told
_CUT_SHORT = 1.0  # seconds that a file may lack at its end; encoders round


def align(
    recordings: Sequence[Recording | str | os.PathLike[str]],
    *,
    reference: str | os.PathLike[str] | None = None,
    max_offset: float | None = None,
    spacing: float = 0.0,
    progress: Progress | None = None,
) -> Alignment:
    """Put recordings of one event on one timeline.

    recordings: two or more `Recording`s or paths; their order never matters.
    reference: name or path of the recording whose clock the others map to; None takes the longest of the
        largest group that belongs together, ties by name.
    max_offset: seconds that any two recordings start apart at most; None searches everything.
    spacing: metres that the devices stood apart at most. Clocks are aligned as sound was heard, and sound
        takes 2.9 ms for a metre; with `spacing` the standard deviations include what that can do.
    progress: called with (share done, what is being done).
    Raises StreamError for fewer than two recordings or an unknown reference, ReadError for files that cannot
    be read. A recording that cannot be placed is no error: its clock says why.
    """
    named = _named(recordings)
    chosen = None if reference is None else _find(reference, named)
    tell = progress or (lambda share, text: None)
    heard = _hear_all(named, tell)
    estimates = _compare_all(heard, max_offset, spacing, tell)
    parts, cuts = parts_of(
        estimates, {n: h.name for n, h in heard.items()}, {n: h.start + h.duration for n, h in heard.items()}
    )
    edges = _without_repetition(edges_of(estimates, parts))
    moved = _compare_movements(named, heard, edges, max_offset, tell)
    for name in {n for pair, e in moved.items() if e.clock is not None for n in pair} - set(parts):
        parts[name], cuts[name] = [Part((name, named[name].streams[0].name), 0.0, named[name].duration)], []
    edges += _without_repetition(_movement_edges(moved, parts))
    root = chosen or _default_reference(named, heard, edges)
    solved = join(edges, parts, cuts, _island_references(root, named, list(parts), edges))
    clocks: dict[str, ClockEstimate] = {}
    for name in [root, *sorted(set(named) - {root})]:
        clocks[name] = _noting_damage(_clock_of(name, root, solved, estimates, moved, heard, named), heard.get(name))
    tell(1.0, "done")
    return Alignment(
        root,
        clocks,
        facts={name: RecordingFacts.of(named[name]) for name in clocks},
        recordings={name: named[name] for name in clocks},
    )


def _named(recordings: Sequence[Recording | str | os.PathLike[str]]) -> dict[str, Recording]:
    """Recordings by name: the stem, where stems collide the whole file name, then with a number."""
    if isinstance(recordings, str | os.PathLike | Recording) or len(recordings) < 2:
        raise StreamError("align: needs at least two recordings; got one")
    from avfuse.io import read

    opened = [r if isinstance(r, Recording) else read(r) for r in recordings]
    # Sorted, so that numbers do not depend on the order of the arguments.
    opened.sort(key=lambda r: (r.name, r.source or ""))
    stems = Counter(r.name for r in opened)
    names = [Path(r.source).name if stems[r.name] > 1 and r.source else r.name for r in opened]
    taken: dict[str, Recording] = {}
    for name, recording in zip(names, opened, strict=True):
        unique, number = name, 2
        while unique in taken or (unique != name and unique in names):
            unique, number = f"{name}-{number}", number + 1
        taken[unique] = replace(recording, name=unique)
    return taken


def _find(reference: str | os.PathLike[str], named: Mapping[str, Recording]) -> str:
    text = os.fspath(reference)
    if text in named:
        return text
    for name, recording in named.items():
        if recording.source is not None and (
            recording.source == text or os.path.abspath(recording.source) == os.path.abspath(text)
        ):
            return name
    raise StreamError(f"reference {text!r}: no such recording; expected one of {', '.join(named)}, or its path")


def _hear_all(named: Mapping[str, Recording], tell: Progress) -> dict[str, Heard]:
    """The first sound stream of each recording that holds anything, or the first one."""
    found: dict[str, Heard] = {}
    names = [name for name, recording in named.items() if recording.of_kind("sound")]
    with ThreadPoolExecutor(min(2, cores())) as pool:
        for k, (name, heard) in enumerate(zip(names, pool.map(lambda n: _hear(named[n]), names), strict=True)):
            found[name] = heard
            tell(_DECODING * (k + 1) / len(names), f"heard {name}")
    return found


def _deaf(heard: Heard) -> bool:
    """Whether its microphone was as good as off."""
    return nothing_to_hear(heard) is not None or heard.steady


def _hear(recording: Recording) -> Heard:
    first: Heard | None = None
    for stream in recording.of_kind("sound"):
        heard = hear(stream)
        if nothing_to_hear(heard) is None:
            return heard
        first = first or heard
    assert first is not None  # only recordings with sound come here
    return first


def _compare_all(
    heard: Mapping[str, Heard], max_offset: float | None, spacing: float, tell: Progress
) -> dict[Pair, ClockEstimate]:
    """Comparisons of all pairs, or of those that `choose_pairs` takes among many."""
    found: dict[Pair, ClockEstimate] = {}
    names = sorted(heard)
    pairs = list(combinations(names, 2))
    scores = score_pairs(heard) if len(names) > ALL_PAIRS else dict.fromkeys(pairs, 0.0)
    expected = min(len(pairs), 4 * len(names))

    def compare_pair(pair: Pair) -> ClockEstimate:
        return compare(heard[pair[0]], heard[pair[1]], max_offset=max_offset, spacing=spacing)

    with ThreadPoolExecutor(min(2, cores())) as pool:

        def compare_some(some: Sequence[Pair]) -> Iterator[bool]:
            for pair, estimate in zip(some, pool.map(compare_pair, some), strict=True):
                found[pair] = estimate
                share = min(1.0, len(found) / expected)
                tell(_DECODING + (1 - _DECODING) * share, f"compared {pair[0]} and {pair[1]}")
                yield estimate.status == "aligned"

        choose_pairs(names, scores, compare_some)
    return found


def _compare_movements(
    named: Mapping[str, Recording],
    heard: Mapping[str, Heard],
    edges: Sequence[ClockEdge],
    max_offset: float | None,
    tell: Progress,
) -> dict[Pair, ClockEstimate]:
    """Comparisons by motion of recordings that sound has not brought together, until nothing is left apart."""
    sounds = {n: [named[n][h.name]] for n, h in heard.items() if not _deaf(h)}
    made = {name: Movement(recording, sounds.get(name, [])) for name, recording in named.items()}
    movements = {name: m for name, m in made.items() if m.tells}
    together = {name: k for k, group in enumerate(_belonging(list(named), edges)) for name in group}
    by_sound = dict(together)
    # Of a few recordings of sensors alone every two are compared: a wrong comparison then contradicts the others.
    thorough = {name for name, m in movements.items() if m.blind}
    if len(thorough) > ALL_PAIRS:
        thorough = set()
    found: dict[Pair, ClockEstimate] = {}
    # Sensors first: a picture takes long to look at. Two that have nothing but sound have had their chance.
    pairs = sorted(combinations(sorted(movements), 2), key=lambda p: sum(not movements[n].sensors for n in p))
    for a, b in pairs:
        if by_sound[a] == by_sound[b] or (together[a] == together[b] and not thorough.issuperset((a, b))):
            continue
        tell(1.0, f"comparing how {a} and {b} moved")
        estimate = compare_movements(movements[a], movements[b], max_offset=max_offset)
        if estimate is None:
            continue
        found[a, b] = estimate
        if estimate.clock is not None:
            old, new = together[b], together[a]
            together = {name: new if group == old else group for name, group in together.items()}
    return found


def _movement_edges(moved: Mapping[Pair, ClockEstimate], parts: Mapping[str, Sequence[Part]]) -> list[ClockEdge]:
    """One edge for each comparison that placed something, between the parts in whose middle it is surest."""
    edges = []
    for (a, b), e in moved.items():
        if isinstance(e.clock, ClockMap) and e.cov is not None:
            at = float(e.diagnostics["middle"])
            ends = [_part_at(parts[name], time).node for name, time in ((a, float(e.clock(at))), (b, at))]
            edges.append(ClockEdge(ends[0], ends[1], e.clock, e.cov, e.confidence, e.evidence[0]))
    return edges


def _part_at(parts: Sequence[Part], time: float) -> Part:
    return min(parts, key=lambda p: max(p.start - time, time - p.end, 0.0))


def _without_repetition(edges: Sequence[ClockEdge]) -> list[ClockEdge]:
    """Wider covariances, so that all pairs of n recordings together claim no more than n - 1 of them.

    Every comparison of a recording shares that recording's own noise, room and codec.
    """
    ends = [(e.reference, e.moving) for e in edges]
    groups = groups_of(sorted({node for pair in ends for node in pair}), ends)
    wider = {
        node: max(1.0, sum(e.reference in group for e in edges) / max(len(group) - 1, 1))
        for group in groups
        for node in group
    }
    return [replace(e, cov=e.cov * wider[e.reference]) for e in edges]


def _missing(heard: Heard | None) -> float:
    """Seconds of sound that the file states and does not hold."""
    return 0.0 if heard is None else max(0.0, heard.stated - heard.duration)


def _noting_damage(estimate: ClockEstimate, heard: Heard | None) -> ClockEstimate:
    if heard is None or _missing(heard) < _CUT_SHORT:
        return estimate
    note = f"states {heard.stated:.2f} s of sound and holds {heard.duration:.2f} s: cut short or damaged"
    return replace(estimate, message=f"{note}; {estimate.message}" if estimate.message else note)


def _belonging(names: Sequence[str], edges: Sequence[ClockEdge]) -> list[set[str]]:
    """Groups of recordings that edges join, whatever their parts."""
    return groups_of(names, [(e.reference[0], e.moving[0]) for e in edges])


def _default_reference(named: Mapping[str, Recording], heard: Mapping[str, Heard], edges: Sequence[ClockEdge]) -> str:
    placed = {node[0] for e in edges for node in (e.reference, e.moving)}
    usable = [n for n in named if n in placed or (n in heard and nothing_to_hear(heard[n]) is None)] or list(named)
    groups = _belonging(list(named), edges)

    def rank(name: str) -> tuple[int, float, str]:
        size = next(len(g) for g in groups if name in g)
        return (-size, _missing(heard.get(name)) - named[name].duration, name)

    return min(usable, key=rank)


def _island_references(
    root: str, named: Mapping[str, Recording], placed: Sequence[str], edges: Sequence[ClockEdge]
) -> list[str]:
    """The reference of every group: the chosen one for its own, elsewhere the longest, ties by name."""
    groups = _belonging([n for n in named if n in placed], edges)
    return [root if root in g else min(g, key=lambda n: (-named[n].duration, n)) for g in groups]


def _clock_of(
    name: str,
    root: str,
    solved: Mapping[str, ClockEstimate],
    estimates: Mapping[Pair, ClockEstimate],
    moved: Mapping[Pair, ClockEstimate],
    heard: Mapping[str, Heard],
    named: Mapping[str, Recording],
) -> ClockEstimate:
    span = (0.0, named[name].duration)
    if name == root:
        return reference_estimate(root, named[name].duration)
    if name in solved:
        found = replace(solved[name], span=span)
        if found.status == "reference" or found.reference != root:
            found = replace(
                found,
                message=f"shares nothing with {root}; forms a group of its own, on the clock of {found.reference}",
            )
        # Motion always states what it and what is usual of crystals say together.
        by_motion = any(name in pair and e.clock is not None and e.drift_known for pair, e in moved.items())
        drift_known = by_motion or (found.drift_std is not None and found.drift_std < _DRIFT_TOLD)
        return found if drift_known else replace(found, drift_known=False)
    if name not in heard or _deaf(heard[name]):
        of_motion = [(pair, e) for pair, e in moved.items() if name in pair and e.clock is None]
        if of_motion:
            (a, b), refusal = min(of_motion, key=lambda item: (root not in item[0], item[0]))
            message = f"against {a if b == name else b}: {refusal.message}"
            empty = all(e.status == "degenerate" for _, e in of_motion)
            return ClockEstimate(
                "degenerate" if empty else "no_match", message=message, span=span, reference=root,
                evidence=refusal.evidence,
            )  # fmt: skip
    if name not in heard:
        kinds = ", ".join(s.kind for s in named[name].streams) or "no streams"
        return ClockEstimate(
            "degenerate", message=f"has no sound (only {kinds}); nothing to compare", span=span, reference=root
        )
    return replace(_refusal(name, root, solved, estimates, heard), span=span, reference=root, evidence=("sound",))


def _refusal(
    name: str,
    root: str,
    solved: Mapping[str, ClockEstimate],
    estimates: Mapping[Pair, ClockEstimate],
    heard: Mapping[str, Heard],
) -> ClockEstimate:
    """Why `name` has no place: its most telling comparison, first with the reference, then with any other."""
    own = nothing_to_hear(heard[name])
    if own is not None:
        return ClockEstimate("degenerate", message=f"its sound {own}")
    ranked: list[tuple[int, float, str, ClockEstimate]] = []
    for (a, b), e in estimates.items():
        if name not in (a, b):
            continue
        other = b if a == name else a
        onto = ClockMap() if other == root else _map_to_root(other, root, solved)
        if e.status == "ambiguous" and onto is not None:
            # Comparisons are stored as reference a, moving b.
            maps = [c.map if b == name else c.map.inverse() for c in e.candidates]
            candidates = tuple(
                Candidate(m.offset, m.drift, c.confidence)
                for c, inner in zip(e.candidates, maps, strict=True)
                for m in [onto @ inner]
            )
            ranked.append((0 if other == root else 1, -e.confidence, other, replace(e, candidates=candidates)))
        elif e.status in ("no_match", "degenerate") and other == root:
            ranked.append((2, -e.confidence, other, e))
    if not ranked:
        return ClockEstimate("no_match", message=f"shares nothing with {root} or any other recording")
    rank, _, other, best = min(ranked, key=lambda r: r[:3])
    message = best.message
    if best.status == "degenerate":
        best = replace(best, status="no_match")
        message = f"cannot be compared with {other}: {message}"
    elif rank == 1:
        message = f"against {other}: {message}"
    return replace(best, message=message)


def _map_to_root(other: str, root: str, solved: Mapping[str, ClockEstimate]) -> ClockMap | None:
    found = solved.get(other)
    if found is None or found.reference != root or not isinstance(found.clock, ClockMap):
        return None
    return found.clock
