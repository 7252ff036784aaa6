"""Recordings whose clocks break, in the joint solve: every unbroken part is a node of its own.

A comparison of two recordings shows where one of them lacks what the other holds. The one that lacks it is taken to be
broken there: recorders lose content far more often than they invent it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avfuse.alignment import Break, ClockEdge, ClockEstimate, Node
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.temporal.piecewise import break_after, breaks_of
from avfuse.temporal.solve import solve_clocks

Pair = tuple[str, str]  # reference, moving
_ONE_PLACE = 1.0  # seconds within which breaks that several comparisons show are one
_ONE_BEND = 30.0  # seconds within which changes of drift are one
_LEAST, _SHARE = 0.5, 0.2  # seconds, and share, of a part that two recordings must have in common for an edge


@dataclass(frozen=True)
class Cut:
    """A break of a recording at `at` seconds of its own time; std: of that, 0 where only the drift changes."""

    at: float
    std: float


@dataclass(frozen=True)
class Part:
    """An unbroken part of a recording, from `start` to `end` seconds of its own time."""

    node: Node
    start: float
    end: float


def parts_of(
    estimates: Mapping[Pair, ClockEstimate], streams: Mapping[str, str], durations: Mapping[str, float]
) -> tuple[dict[str, list[Part]], dict[str, list[Cut]]]:
    """The parts of every recording, one where nothing shows that it breaks, and its cuts."""
    seen: dict[str, list[Cut]] = {name: [] for name in streams}
    often = _how_often_bent(estimates)
    for (a, b), estimate in estimates.items():
        for segment in estimate.segments[:-1]:
            broken = break_after(segment, estimate.breaks)
            if broken is None:
                # Whose drift changed shows in its other comparisons.
                lacks = a if often.get(a, 0.0) > often.get(b, 0.0) else b
            else:
                lacks = b if broken.missing > 0 else a
            at = segment.end if lacks == b else float(segment.map(segment.end))
            seen[lacks].append(Cut(at, 0.0 if broken is None else broken.std))
    parts, cuts = {}, {}
    for name, stream in streams.items():
        cuts[name] = [c for c in _all_cuts(seen[name]) if 0 < c.at < durations[name]]
        edges = [0.0, *(c.at for c in cuts[name]), durations[name]]
        labels = [stream] if len(edges) == 2 else [f"{stream}#{k}" for k in range(len(edges) - 1)]
        parts[name] = [
            Part((name, label), start, end) for label, start, end in zip(labels, edges[:-1], edges[1:], strict=True)
        ]
    return parts, cuts


def _how_often_bent(estimates: Mapping[Pair, ClockEstimate]) -> dict[str, float]:
    """Share of the comparisons of each recording that show a drift which changes."""
    bent: dict[str, list[bool]] = {}
    for pair, estimate in estimates.items():
        if estimate.clock is not None:
            changes = len(estimate.segments) - 1 > len(estimate.breaks)
            for name in pair:
                bent.setdefault(name, []).append(changes)
    return {name: float(np.mean(each)) for name, each in bent.items()}


def _all_cuts(seen: Sequence[Cut]) -> list[Cut]:
    breaks = _merged([c for c in seen if c.std > 0], _ONE_PLACE)
    bends = _merged([c for c in seen if c.std == 0], _ONE_BEND)
    bends = [c for c in bends if all(abs(c.at - b.at) > _ONE_BEND for b in breaks)]
    return sorted([*breaks, *bends], key=lambda c: c.at)


def _merged(cuts: Sequence[Cut], apart: float) -> list[Cut]:
    """Cuts that are one place: their mean, weighted by certainty."""
    found: list[list[Cut]] = []
    for cut in sorted(cuts, key=lambda c: c.at):
        if found and cut.at - found[-1][-1].at < max(apart, 2 * cut.std):
            found[-1].append(cut)
        else:
            found.append([cut])
    merged = []
    for group in found:
        weight = np.array([1 / max(c.std, 1e-3) ** 2 for c in group])
        merged.append(Cut(float(np.average([c.at for c in group], weights=weight)), min(c.std for c in group)))
    return merged


def edges_of(estimates: Mapping[Pair, ClockEstimate], parts: Mapping[str, Sequence[Part]]) -> list[ClockEdge]:
    """An edge for every two parts of a pair that share enough of one segment of its estimate."""
    found = []
    for (a, b), estimate in estimates.items():
        if estimate.clock is None or estimate.cov is None:
            continue
        for segment, cov in zip(estimate.segments, estimate.cov.reshape(-1, 2, 2), strict=True):
            for theirs in parts[a]:
                for ours in parts[b]:
                    alone = len(parts[a]) == len(parts[b]) == len(estimate.segments) == 1
                    if alone or _share(segment, theirs, ours):
                        found.append(ClockEdge(theirs.node, ours.node, segment.map, cov, estimate.confidence, "sound"))
    return found


def _share(segment: Segment, theirs: Part, ours: Part) -> bool:
    """Whether enough of the moving recording lies in the segment, in our part, and in their part of the reference."""
    back = segment.map.inverse()
    low, high = float(back(theirs.start)), float(back(theirs.end))
    shared = min(segment.end, ours.end, high) - max(segment.start, ours.start, low)
    # Where a break lies is not known exactly: what reaches beyond it is no evidence.
    return shared > max(_LEAST, _SHARE * min(segment.end - segment.start, ours.end - ours.start, high - low))


def join(
    edges: Sequence[ClockEdge],
    parts: Mapping[str, Sequence[Part]],
    cuts: Mapping[str, Sequence[Cut]],
    roots: Sequence[str],
) -> dict[str, ClockEstimate]:
    """The clock of every recording on that of the root of its group; recordings without any edge are left out.

    roots: names of the recordings to map to. A root that breaks itself is solved for once from each of its parts, and
    what falls into its gaps has no time.
    """
    found: dict[str, ClockEstimate] = {}
    for root in roots:
        solved = [
            (part, solve_clocks(edges, references=[part.node, *(parts[other][0].node for other in roots)]))
            for part in parts[root]
        ]
        for name, own in parts.items():
            if name == root and solved[0][0].node in solved[0][1]:
                found[name] = solved[0][1][solved[0][0].node]
            if name in found or name in roots:
                continue
            estimate = _assembled(root, own, cuts[name], cuts[root], solved)
            if estimate is not None:
                found[name] = estimate
    return found


def _assembled(
    root: str,
    own: Sequence[Part],
    own_cuts: Sequence[Cut],
    root_cuts: Sequence[Cut],
    solved: Sequence[tuple[Part, Mapping[Node, ClockEstimate]]],
) -> ClockEstimate | None:
    """One clock from those of all parts, or the refusal of the longest."""
    here = [
        (part, target, estimate)
        for part in own
        for target, clocks in solved
        if (estimate := clocks.get(part.node)) is not None and estimate.reference == root
    ]
    if not here:
        return None
    if len(own) == len(solved) == 1:
        return here[0][2]
    placed = [
        (piece, estimate)
        for part, target, estimate in here
        if isinstance(estimate.clock, ClockMap) and (piece := _within(part, target, estimate.clock, solved))
    ]
    if not placed:
        longest = max(here, key=lambda h: h[0].end - h[0].start)
        return longest[2]
    placed.sort(key=lambda p: p[0].start)
    segments: list[Segment] = []
    covs, weights = [], []
    for piece, estimate in placed:
        # Rounding must not make parts overlap.
        start = max(piece.start, segments[-1].end) if segments else piece.start
        if piece.end > start:
            segments.append(replace(piece, start=start))
            covs.append(estimate.cov)
            weights.append((piece.end - start, estimate.confidence))
    clock = PiecewiseClock(tuple(segments))
    first = placed[0][1]
    lengths, confidences = zip(*weights, strict=True)
    return ClockEstimate(
        "aligned",
        clock,
        np.array(covs),
        float(np.average(confidences, weights=lengths)),
        message=first.message,
        drift_known=first.drift_known,
        evidence=first.evidence,
        reference=root,
        breaks=_breaks(clock, own_cuts, root_cuts),
    )


def _within(
    part: Part,
    target: Part,
    clock: ClockMap,
    solved: Sequence[tuple[Part, Mapping[Node, ClockEstimate]]],
) -> Segment | None:
    """What of `part` falls into `target`; the ends of a recording go on beyond those of the root."""
    back = clock.inverse()
    start, end = part.start, part.end
    if target is not solved[0][0]:
        start = max(start, float(back(target.start)))
    if target is not solved[-1][0]:
        end = min(end, float(back(target.end)))
    return Segment(start, end, clock.offset, clock.drift) if end - start > 1e-3 else None


def _breaks(clock: PiecewiseClock, own: Sequence[Cut], roots: Sequence[Cut]) -> tuple[Break, ...]:
    stds = []
    for before in clock.segments[:-1]:
        reached = float(before.map(before.end))
        near = [c.std for c in own if abs(c.at - before.end) < _ONE_PLACE]
        near += [c.std for c in roots if abs(c.at - reached) < _ONE_PLACE]
        stds.append(max(near, default=0.0))
    return breaks_of(clock, stds)
