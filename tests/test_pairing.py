"""Laws of the choice of pairs among many recordings, and of the index that ranks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

from avfuse import Stream
from avfuse.simulation.sounds import make_sound
from avfuse.temporal import hearing
from avfuse.temporal.hearing import FRAME_RATE, Heard, hear
from avfuse.temporal.pairing import ALL_PAIRS, Pair, choose_pairs, score_pairs

RATE = 16000.0


def asked(names: Sequence[str], scores: dict[Pair, float], agree: Callable[[str, str], bool]) -> list[Pair]:
    """The pairs that are compared, where `agree` says which of them agree."""
    pairs: list[Pair] = []

    def compare(some: Sequence[Pair]) -> list[bool]:
        pairs.extend(some)
        return [agree(a, b) for a, b in some]

    choose_pairs(names, scores, compare)
    return pairs


def groups(names: Sequence[str], pairs: Sequence[Pair]) -> int:
    group = {name: {name} for name in names}
    for a, b in pairs:
        if group[a] is not group[b]:
            joined = group[a] | group[b]
            for name in joined:
                group[name] = joined
    return len({id(g) for g in group.values()})


def names_of(count: int) -> list[str]:
    return [f"r{k:03d}" for k in range(count)]


def test_few_recordings_are_compared_each_with_each():
    names = names_of(ALL_PAIRS)
    pairs = list(combinations(names, 2))
    assert sorted(asked(names, dict.fromkeys(pairs, 0.0), lambda a, b: False)) == pairs


@pytest.mark.parametrize("count", [20, 60])
def test_many_recordings_are_joined_by_few_comparisons_with_loops(count):
    names = names_of(count)
    rng = np.random.default_rng(count)
    scores = {pair: float(rng.uniform(5, 30)) for pair in combinations(names, 2)}
    pairs = asked(names, scores, lambda a, b: True)
    assert len(set(pairs)) == len(pairs) <= 3 * count
    assert groups(names, pairs) == 1
    assert min(sum(name in pair for pair in pairs) for name in names) >= 3


def test_what_agrees_is_found_although_the_index_ranks_it_low():
    """A third of the pairs disagree, whatever their scores; the others still join everything."""
    names = names_of(24)
    rng = np.random.default_rng(3)
    scores = {pair: float(rng.uniform(5, 30)) for pair in combinations(names, 2)}
    right = {pair: bool(rng.random() < 0.67) for pair in scores}
    pairs = asked(names, scores, lambda a, b: right[a, b])
    assert groups(names, [pair for pair in pairs if right[pair]]) == 1


def test_groups_that_share_nothing_are_tried_and_then_left():
    names = names_of(20)
    scores = {(a, b): 20.0 if (a < "r010") == (b < "r010") else 5.0 for a, b in combinations(names, 2)}
    pairs = asked(names, scores, lambda a, b: (a < "r010") == (b < "r010"))
    across = sum((a < "r010") != (b < "r010") for a, b in pairs)
    assert 8 <= across <= 100
    assert len(pairs) < len(scores)


def test_the_index_ranks_what_was_recorded_together_first():
    rng = np.random.default_rng(7)
    heard = {}
    for event in range(3):
        sound = make_sound("speech", 40.0, RATE, rng)
        for device in range(3):
            first = round(float(rng.uniform(0, 10)) * RATE)
            part = sound[first : first + round(25 * RATE)]
            noise = 0.1 * float(np.std(part)) * rng.standard_normal(len(part))
            heard[f"{event}-{device}"] = hear(Stream.from_samples((part + noise).astype(np.float32), rate=RATE))
    scores = score_pairs(heard)
    together = [score for (a, b), score in scores.items() if a[0] == b[0]]
    apart = [score for (a, b), score in scores.items() if a[0] != b[0]]
    assert len(together) == 9
    assert min(together) > max(apart)


# What the choice is made from, and what breaks are judged on


@pytest.mark.parametrize("spilled", [False, True])
def test_an_excerpt_is_what_was_heard_there(spilled: bool, monkeypatch: pytest.MonkeyPatch):
    if spilled:
        monkeypatch.setattr(hearing, "_KEEP", 16000)
    sound = make_sound("speech", 12.0, RATE, np.random.default_rng(1))
    whole = hear(Stream.from_samples(sound, rate=RATE, start=2.0))
    part: Heard = whole.excerpt(3.003, 9.0)
    assert part.start == pytest.approx(2.0 + 3.01)  # the next frame of the features
    assert part.duration == pytest.approx(5.99)
    np.testing.assert_array_equal(part.read(-5, 400)[5:], whole.read(round(3.01 * RATE), 395))
    assert not part.read(-5, 5).any()
    assert not part.read(part.count, 100).any()
    np.testing.assert_array_equal(part.features, whole.features[301 : 301 + len(part.features)])
    assert len(part.features) == round(part.duration * FRAME_RATE) + 1
    again = part.excerpt(1.0, 2.0)
    np.testing.assert_array_equal(again.read(0, 300), whole.read(round(4.01 * RATE), 300))
