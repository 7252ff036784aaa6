"""Many values in little memory: nothing is lost that is told, whatever their order."""

from __future__ import annotations

import math
import random
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from avfuse.reporting.distributions import DISTINCT, Distribution, Kinds, bins_of


@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.1, 2.0]), min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_a_few_numbers_are_kept_as_they_are(values: list[float], share: float) -> None:
    d = Distribution(values)
    assert (d.count, d.low, d.high, d.exact) == (len(values), min(values), max(values), True)
    assert [v for v, n in d.items() for _ in range(n)] == sorted(values)
    ranked = sorted(map(abs, values))
    assert d.quantile(share, abs) == ranked[max(math.ceil(share * len(values) - 1e-9) - 1, 0)]


def test_many_numbers_take_no_more_memory_in_any_order_and_lose_a_thousandth_of_their_range() -> None:
    rng = random.Random(3)
    values = [rng.uniform(-2.0, 5.0) for _ in range(3 * DISTINCT)]
    d = Distribution(values)
    assert not d.exact
    assert len(d.items()) <= DISTINCT
    assert sum(n for _, n in d.items()) == d.count == len(values)
    for share in (0.0, 0.05, 0.5, 0.9, 1.0):
        truth = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
        assert d.quantile(share) == pytest.approx(truth, abs=7e-3)
    for order in (sorted(values), sorted(values, reverse=True), rng.sample(values, len(values))):
        assert Distribution(order).items() == d.items()


@given(
    st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), max_size=80),
    st.lists(st.floats(1e-6, 1e3), max_size=80),
    st.booleans(),
)
@example([], [2.0], False)
@example([0.3, 0.6, 0.9], [], False)
def test_every_number_is_in_one_bin(first: list[float], second: list[float], logarithmic: bool) -> None:
    bins = bins_of(Distribution(first), Distribution(second), logarithmic=logarithmic)
    every = first + second
    if bins is None:
        assert not every or max(every) - min(every) <= 1e-6 * max(map(abs, every))
        return
    assert [sum(counts) for counts in bins.counts] == [len(first), len(second)]
    assert list(bins.edges) == sorted(set(bins.edges))
    if not bins.below + bins.above:
        shown = [math.log10(v) for v in every] if bins.logarithmic else every
        width = bins.edges[1] - bins.edges[0]
        for low, high, *counts in zip(bins.edges, bins.edges[1:], *bins.counts, strict=False):
            inside = sum(low + 1e-6 * width < v < high - 1e-6 * width for v in shown)
            assert inside <= sum(counts) <= sum(low - 1e-6 * width <= v <= high + 1e-6 * width for v in shown)


def test_a_few_values_far_out_do_not_hide_the_others() -> None:
    values = [0.01 * k for k in range(1000)]
    bins = bins_of(Distribution([*values, 1e6, -1e5]))
    assert bins is not None
    assert (bins.below, bins.above) == (1, 1)
    assert bins.edges[-1] - bins.edges[0] < 30.0
    assert sum(bins.counts[0]) == 1002
    assert sum(count > 0 for count in bins.counts[0]) > 8


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-9e5, 9e5)), min_size=1, max_size=40))
def test_sentences_that_differ_in_numbers_are_one_kind(said: list[tuple[str, float]]) -> None:
    kinds = Kinds()
    for k, (name, value) in enumerate(said):
        kinds.add(f"cam{name}2: offset {value:.3f} s is more than 2.5 s", f"e{k}")
    by_name = {name: [v for n, v in said if n == name] for name, _ in said}
    assert {kind.parts[0]: kind.count for kind in kinds.ranked()} == {
        f"cam{name}2: offset ": len(values) for name, values in by_name.items()
    }
    for kind in kinds.ranked():
        values = [round(v, 3) for v in by_name[kind.parts[0][3]]]
        assert kind.text.endswith(" s is more than 2.5 s")
        found = [float(text) for text in re.findall(r"-?\d+\.\d+", kind.text)[:-1]]
        assert found == ([min(values)] if min(values) == max(values) else [min(values), max(values)])
