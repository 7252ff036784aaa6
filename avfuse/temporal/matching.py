"""Which line two sounds match along: every candidate is tried on the waveforms.

All frames alike are stacked first; where no line is clear, the waveforms themselves are searched, and what rises at
both is stacked too: in a room the direct sound may show in onsets alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from avfuse.temporal import calibration
from avfuse.temporal.coarse import Line, search, search_waveform
from avfuse.temporal.evidence import choose_windows, gather, gather_onsets
from avfuse.temporal.focus import Focused, focus
from avfuse.temporal.hearing import Heard

RIVAL = 0.5  # share of the best line's support from which another line is a rival
_CLEAR = 6.0  # peaks over their null that need no second search
_NOTICEABLE = 2.2  # a peak over its null that chance seldom reaches
_SCORE = 5.0  # of features, that chance seldom reaches
_WAVE_SCORE, _ANYWAY = 6.5, 2
_HOPEFUL = 3  # lines whose onsets are listened to where no line is clear
ELSEWHERE = 0.05  # seconds between lines that are different answers


@dataclass(frozen=True, eq=False)
class Tried:
    """A candidate line, and what the waveforms say along it: all frames alike, and where that is not clear, onsets."""

    line: Line
    plain: Focused
    onset: Focused | None = None

    @property
    def focused(self) -> Focused:
        return self.onset if self.onset is not None and self.onset.peak > self.plain.peak else self.plain

    @property
    def hopeful(self) -> bool:
        """Worth a second, slower look."""
        return (self.line.score > _SCORE and not self.line.wave) or self.plain.peak > 1.3 or self.plain.local > 2

    @property
    def match(self) -> float:
        """Probability that the sounds share what this line shows."""
        local = max(self.plain.local, self.onset.local if self.onset else 0.0)
        return calibration.match_probability(self.focused.peak, local, self.line.score, self.line.wave)


def _try(a: Heard, b: Heard, line: Line) -> Tried | None:
    windows = choose_windows(a, b, line)
    return Tried(line, focus(gather(a, b, line, windows))) if windows else None


def _listen_to_onsets(a: Heard, b: Heard, tried: Tried) -> Tried:
    """In a room the direct sound may show in onsets alone."""
    windows = choose_windows(a, b, tried.line)
    return replace(tried, onset=focus(gather_onsets(a, b, tried.line, windows, with_null=True)))


def candidate_lines(a: Heard, b: Heard, low: float, high: float) -> list[Tried]:
    """Lines tried, the most probable first."""
    lines = search(a, b, low=low, high=high)
    tried = _try_all(a, b, lines)
    if max((t.plain.peak for t in tried), default=0.0) < _CLEAR:
        # Steady sounds have flat envelopes; their waveforms may still agree.
        waves = search_waveform(a, b, low=low, high=high)
        new = [w for w in waves if not any(abs(k.lag_at(w.centre) - w.lag) < 0.02 for k in lines)]
        tried += _try_all(a, b, new)
    if max((t.plain.peak for t in tried), default=0.0) < _CLEAR:
        hopeful = sorted((t for t in tried if t.hopeful), key=lambda t: -t.match)[:_HOPEFUL]
        tried = [_listen_to_onsets(a, b, t) if t in hopeful else t for t in tried]
    return sorted(tried, key=lambda t: -t.match)


def _try_all(a: Heard, b: Heard, lines: list[Line]) -> list[Tried]:
    """Lines tried; of waveforms a few in any case, more while chance seldom scores as high. Once one is clear, only
    those that may rival it."""
    found: list[Tried] = []
    clear = 0.0
    for k, line in enumerate(lines):
        if line.score < max(RIVAL * clear, _WAVE_SCORE if line.wave and k >= _ANYWAY else 0.0):
            break
        tried = _try(a, b, line)
        if tried is not None:
            found.append(tried)
            if tried.plain.peak > _CLEAR:
                clear = max(clear, line.score)
    return found


def best_supported(tried: list[Tried]) -> Tried:
    """The most probable; among lines that match equally well, the one with most in common."""
    equal = [t for t in tried if t.plain.peak > _NOTICEABLE and t.match > 0.9 * tried[0].match]
    most = max((t.plain.support for t in equal), default=math.inf)
    supported = [t for t in equal if t.plain.support > 0.7 * most]
    return max(supported, key=lambda t: (not t.line.wave, t.line.score), default=tried[0])


def _support(other: Tried, best: Tried) -> float:
    """How much agrees along another line, as a share of what does along the best; like with like."""
    found = [other.plain.support / best.plain.support]
    if other.onset is not None and best.onset is not None:
        found.append(other.onset.support / best.onset.support)
    return max(found)


def rivals_of(best: Tried, tried: list[Tried]) -> list[Tried]:
    """Other lines along which so much agrees that they may be the answer instead."""
    line = best.focused.line
    return [
        t
        for t in tried
        if abs(t.focused.line.lag_at(line.centre) - line.lag) > ELSEWHERE
        and t.focused.peak > _NOTICEABLE
        and _support(t, best) > RIVAL
    ]
