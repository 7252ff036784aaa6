"""Decisions, their losses, and probabilities that mean what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from test_timed import DIM, tokens

from avfuse import StreamError
from avfuse.nn.calibration import (
    calibration_error,
    fit_spread,
    fit_temperature,
    fit_threshold,
    probabilities,
    upper_bound,
)
from avfuse.nn.heads import (
    HEADS,
    AttentionPool,
    ClassificationHead,
    Decided,
    MultiLabelHead,
    RegressionHead,
    RetrievalHead,
    StepHead,
    gaussian,
)
from avfuse.nn.timed import Tokens


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("pool", ["attention", "mean"])
def test_heads_see_what_is_valid_and_nothing_else(kind: str, pool: str) -> None:
    torch.manual_seed(0)
    head, found = HEADS[kind](DIM, 4, pool=pool), tokens(3, 6)
    broken = found.with_values(found.values.masked_fill(~found.valid[:, :, None], torch.nan))
    torch.testing.assert_close(head(broken), head(found), rtol=0, atol=0)
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    shuffled = type(found)(
        *(getattr(found, f)[:, order] for f in ("values", "times", "valid", "confidence", "std", "clock"))
    )
    torch.testing.assert_close(head(shuffled), head(found), rtol=0, atol=1e-5)
    longer = Tokens.join([found, replace(found, valid=torch.zeros_like(found.valid))])
    torch.testing.assert_close(head(longer), head(found), rtol=0, atol=1e-5)


def test_attention_is_a_mean_that_is_not_swayed_by_how_many_there_are_of_one_kind() -> None:
    torch.manual_seed(0)
    pool, found = AttentionPool(DIM), tokens(1, 2)
    found = type(found)(
        found.values, found.times, torch.ones_like(found.valid), found.confidence, found.std, found.clock
    )
    pooled = pool(found)[0]
    low, high = found.values[0].amin(dim=0) - 1e-5, found.values[0].amax(dim=0) + 1e-5
    assert bool(((pooled >= low) & (pooled <= high)).all())
    assert bool((pool(replace(found, valid=~found.valid)) == 0).all())


def test_losses_are_lowest_where_the_decision_is_right() -> None:
    right, wrong = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 4.0, 0.0]])
    classes = ClassificationHead(DIM, 3)
    assert classes.loss(wrong, torch.tensor([0])) > 3
    assert classes.loss(right, torch.tensor([0])) == pytest.approx(math.log(1 + 2 * math.exp(-4)), abs=1e-6)
    with pytest.raises(StreamError, match=r"labels 1 \.\.\. 3 do not fit 3 classes; expected 0 \.\.\. 2"):
        classes.loss(right.repeat(2, 1), torch.tensor([3, 1]))
    labels = MultiLabelHead(DIM, 2)
    assert labels.loss(torch.tensor([[9.0, -9.0]]), torch.tensor([[1, 0]])) < 1e-3
    assert labels.decide(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]]
    space = RetrievalHead(DIM, 8)
    vectors = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert space.loss(vectors, vectors) < space.loss(vectors, vectors.roll(1, 0)) - 1.0
    torch.testing.assert_close(space(tokens(3, 5)).norm(dim=-1), torch.ones(3))


def test_a_regression_learns_the_spread_of_what_it_cannot_know() -> None:
    rng = torch.Generator().manual_seed(0)
    target = 3.0 + 0.5 * torch.randn(4000, 1, generator=rng)
    for beta in (0.0, 0.5, 1.0):
        output = torch.zeros(1, 2, requires_grad=True)
        head = RegressionHead(DIM, 1, beta=beta)
        optimiser = torch.optim.Adam([output], lr=0.05)
        for _ in range(400):
            optimiser.zero_grad()
            head.loss(output.expand(4000, 2), target).backward()
            optimiser.step()
        mean, std = head.decide(output.detach())[0, 0].tolist()
        assert mean == pytest.approx(3.0, abs=0.05)
        assert std == pytest.approx(0.5, rel=0.05)


def test_steps_are_decided_each_by_itself() -> None:
    torch.manual_seed(0)
    found = tokens(3, 6)
    head = StepHead(ClassificationHead(DIM, 4, pool="none"))
    output = head(found)
    assert output.shape == (3, 6, 4)
    changed = found.values.clone()
    changed[:, 2] += 1.0
    apart = (head(found.with_values(changed)) - output).abs().amax(dim=(0, 2))
    assert (apart > 0).tolist() == [False, False, True, False, False, False]
    target = torch.zeros(3, 6, dtype=torch.long)
    loss = head.loss(output, target, found.valid)
    wild = torch.where(found.valid[:, :, None], output, 1e6)
    torch.testing.assert_close(head.loss(wild, target, found.valid), loss)
    with pytest.raises(StreamError, match="no step is valid"):
        head.loss(output, target, torch.zeros_like(found.valid))
    with pytest.raises(StreamError, match='made with pool="none"'):
        StepHead(ClassificationHead(DIM, 4))


def test_what_late_fusion_decided_is_read_as_the_head_would() -> None:
    head = ClassificationHead(DIM, DIM)
    decided, found = Decided(head), tokens(3, 1)
    torch.testing.assert_close(decided(found), found.values[:, 0])
    target = torch.tensor([0, 1, 2])
    torch.testing.assert_close(decided.loss(decided(found), target), head.loss(found.values[:, 0], target))
    assert list(decided.parameters()) == []
    assert gaussian(torch.tensor([[1.0, 99.0]]))[1].item() == 10.0


def draws(n: int, sure: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `sure` times as large as those that the labels were drawn by."""
    rng = np.random.default_rng(seed)
    honest = 1.5 * rng.standard_normal((n, 5))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return sure * honest, labels


@pytest.mark.parametrize("sure", [0.4, 1.0, 4.0])
def test_the_temperature_is_how_much_too_sure_a_network_is(sure: float) -> None:
    logits, labels = draws(4000, sure)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(sure, rel=0.08)
    fresh, truth = draws(4000, sure, seed=1)
    errors = []
    for t in (1.0, temperature):
        stated = probabilities(fresh, t)
        errors.append(calibration_error(stated.max(axis=1), stated.argmax(axis=1) == truth))
        np.testing.assert_array_equal(stated.argmax(axis=1), fresh.argmax(axis=1))
    assert errors[1] < 0.03
    assert sure == 1.0 or errors[1] < 0.5 * errors[0]


def test_labels_that_hold_together_have_a_temperature_too() -> None:
    rng = np.random.default_rng(0)
    honest = rng.standard_normal((3000, 4))
    labels = (rng.uniform(size=honest.shape) < probabilities(honest, exclusive=False)).astype(int)
    assert fit_temperature(2.5 * honest, labels) == pytest.approx(2.5, rel=0.1)
    with pytest.raises(StreamError, match=r"expected \(n, k\) and \(n,\) or \(n, k\)"):
        fit_temperature(honest, labels[:5])


def test_stated_spreads_are_widened_to_what_they_are() -> None:
    rng = np.random.default_rng(0)
    stds = rng.uniform(0.5, 2.0, (5000, 1))
    assert fit_spread(np.zeros((5000, 1)), stds, 3.0 * stds * rng.standard_normal((5000, 1))) == pytest.approx(
        3.0, rel=0.03
    )


def test_of_what_is_answered_no_more_is_wrong_than_was_promised() -> None:
    broken, answered = 0, []
    for seed in range(200):
        logits, labels = draws(1500, 1.0, seed)
        stated = probabilities(logits)
        found = fit_threshold(stated.max(axis=1), stated.argmax(axis=1) == labels, 0.25, certainty=0.9)
        if found is None:
            continue
        threshold, bound, share = found
        assert bound <= 0.25
        fresh = probabilities(draws(20000, 1.0, 1000 + seed)[0]).max(axis=1)
        answered.append(share)
        broken += bool((1.0 - fresh[fresh >= threshold]).mean() > 0.25)  # these probabilities are true ones
    assert broken <= 20 + 3 * math.sqrt(200 * 0.1 * 0.9)
    assert len(answered) > 150
    assert np.mean(answered) > 0.2


def test_a_promise_that_cannot_be_kept_is_not_made() -> None:
    rng = np.random.default_rng(0)
    assert fit_threshold(rng.uniform(size=300), rng.uniform(size=300) < 0.5, 0.05) is None
    assert fit_threshold(np.ones(20), np.ones(20, bool), 0.05) is None  # twenty right ones do not promise 5 %
    threshold, bound, share = fit_threshold(np.ones(2000), np.ones(2000, bool), 0.05)
    assert (threshold, share) == (1.0, 1.0)
    assert bound < 0.01
    with pytest.raises(StreamError, match="expected both within"):
        fit_threshold(np.ones(3), np.ones(3, bool), 0.0)


def test_the_bound_is_that_of_the_binomial() -> None:
    from scipy.stats import binom

    for wrong, count in ((0, 10), (3, 40), (39, 40)):
        bound = upper_bound(wrong, count, 0.95)
        assert binom.cdf(wrong, count, bound) == pytest.approx(0.05, abs=1e-9)
    assert upper_bound(5, 5, 0.95) == 1.0
