"""Laws of missing modalities: dropout, distillation, balance, and reports of transfer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avfuse.errors import StreamError
from avfuse.nn.colearning.balance import (
    GradientBlending,
    GradientModulation,
    blending_weights,
    modulation_coefficients,
    probability_of_truth,
)
from avfuse.nn.colearning.distillation import Distillation, feature_distance, softened_divergence
from avfuse.nn.colearning.missing import ModalityDropout, evaluate_subsets, only, rows_with, subsets, take_rows
from avfuse.nn.colearning.transfer import compare_transfer
from avfuse.nn.fusion import FUSIONS
from avfuse.nn.heads import ClassificationHead, Decided
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, Tokens

ROWS, STEPS, DIM, CLASSES = 12, 10, 8, 3
NAMES = ("gyro", "sound", "touch")


class Linear(nn.Module):
    """An encoder: each sample by itself."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.out = nn.Linear(2, dim)

    def forward(self, stream: Timed) -> Tokens:
        seen = stream.values.masked_fill(~stream.mask[:, :, None], 0.0)
        return Tokens.of(self.out(seen), stream.times, stream.valid, stream)


def streams(names: Sequence[str] = NAMES, rows: int = ROWS, seed: int = 0) -> dict[str, Timed]:
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(STEPS, dtype=torch.float64).expand(rows, STEPS) / 10
    ones = torch.ones(rows, dtype=torch.float64)
    return {
        name: Timed(
            torch.randn((rows, STEPS, 2), generator=generator),
            times,
            torch.ones((rows, STEPS), dtype=torch.bool),
            ones.bool(),
            0.9 * ones,
            0.01 * ones,
            (10.0,) * rows,
        )
        for name in names
    }


def network(names: Sequence[str] = NAMES, kind: str = "concatenation", seed: int = 0) -> FusionNet:
    torch.manual_seed(seed)
    head = ClassificationHead(DIM, CLASSES)
    if kind == "late":
        fusion = FUSIONS[kind](names, DIM, head=lambda: ClassificationHead(DIM, CLASSES))
        return FusionNet({name: Linear() for name in names}, fusion, Decided(head), dim=DIM)
    return FusionNet({name: Linear() for name in names}, FUSIONS[kind](names, DIM), head, dim=DIM)


def present(batch: dict[str, Timed]) -> Tensor:
    return torch.stack([batch[name].mask.any(dim=1) for name in sorted(batch)], dim=1)


def hide(batch: dict[str, Timed], name: str, rows: Sequence[int]) -> dict[str, Timed]:
    there = batch[name].present.clone()
    there[list(rows)] = False
    changed = Timed(**{**vars(batch[name]), "present": there})
    return batch | {name: changed}


# Modality dropout


@given(p=st.floats(0.0, 0.999), seed=st.integers(0, 99), lost=st.lists(st.integers(0, ROWS - 1), max_size=ROWS))
@settings(max_examples=60)
def test_no_row_ever_loses_all_that_it_has(p: float, seed: int, lost: list[int]) -> None:
    batch = hide(hide(streams(), "touch", lost), "sound", lost[::2])
    thinned = ModalityDropout(p, span=1.0, share=0.99, seed=seed)(batch)
    assert present(thinned).any(dim=1).all()
    assert not (present(thinned) & ~present(batch)).any()


@pytest.mark.parametrize("probability", [0.5, {"gyro": 0.2, "sound": 0.7, "touch": 0.9}])
def test_modalities_are_lost_as_often_as_stated(probability: float | dict[str, float]) -> None:
    rows = 40_000
    batch = {name: take_rows({name: stream}, torch.zeros(rows).long())[name] for name, stream in streams().items()}
    kept = present(ModalityDropout(probability, seed=3)(batch)).numpy()
    p = np.array([probability[name] if isinstance(probability, dict) else probability for name in NAMES])
    everything = np.prod(p)
    for subset in subsets(range(3)):  # every outcome, not only how often each is lost
        here = np.isin(np.arange(3), subset)
        expected = np.prod(np.where(here, 1 - p, p)) / (1 - everything)
        seen = float(np.mean((kept == here).all(axis=1)))
        assert abs(seen - expected) < 5 * math.sqrt(expected * (1 - expected) / rows)


def test_absent_modalities_change_the_condition_and_not_the_others() -> None:
    rows = 20_000
    batch = take_rows(streams(("gyro", "sound")), torch.zeros(rows).long())
    quarter = rows // 4
    batch = hide(hide(batch, "gyro", range(quarter)), "sound", range(quarter, 2 * quarter))
    kept = present(ModalityDropout(0.5, seed=1)(batch))
    assert kept[:quarter, 1].all()
    assert kept[quarter : 2 * quarter, 0].all()
    assert abs(float(kept[2 * quarter :].double().mean()) - 2 / 3) < 0.02


def test_what_is_hidden_is_as_what_was_never_there() -> None:
    batch = streams()
    thinned = ModalityDropout(0.5, seed=1)(batch)
    for stream in thinned.values():
        gone = ~stream.present
        assert gone.any()
        assert not stream.valid[gone].any()
        assert (stream.confidence[gone] == 0).all()
        assert (stream.std[gone] == 0).all()
    net = network().eval()
    spoiled = {
        name: Timed(**{**vars(s), "values": torch.where(s.present[:, None, None], s.values, torch.nan)})
        for name, s in thinned.items()
    }
    assert torch.equal(net(thinned), net(spoiled))


def test_one_seed_draws_the_same_whatever_the_order_and_a_resumed_run_goes_on() -> None:
    batch = streams()
    one, other = ModalityDropout(0.5, span=0.5, seed=7), ModalityDropout(0.5, span=0.5, seed=7)
    first = one(batch)
    swapped = other(dict(reversed(batch.items())))
    assert all(torch.equal(first[name].mask, swapped[name].mask) for name in batch)
    state = one.state_dict()
    resumed = ModalityDropout(0.5, span=0.5, seed=99)
    resumed.load_state_dict(state)
    second, again = one(batch), resumed(batch)
    assert all(torch.equal(second[name].mask, again[name].mask) for name in batch)
    assert not all(torch.equal(first[name].mask, second[name].mask) for name in batch)


def test_spans_are_of_one_modality_within_their_share_and_as_often_as_stated() -> None:
    rows, share = 4000, 0.5
    batch = take_rows(streams(("gyro", "sound")), torch.zeros(rows).long())
    thinned = ModalityDropout(0.0, span=0.8, share=share, seed=2)(batch)
    lost = [~thinned[name].valid for name in ("gyro", "sound")]
    for hidden in lost:
        assert (hidden.sum(dim=1) <= math.ceil(share * (STEPS - 1))).all()
        # What is hidden is in one piece.
        edges = (hidden[:, 1:] != hidden[:, :-1]).sum(dim=1) + hidden[:, 0].long() + hidden[:, -1].long()
        assert set(edges.tolist()) <= {0, 2}
        # A span of length l holds a sample with probability min(1, 9 l): mean over l uniform up to 1/2 is 8/9.
        assert abs(float(hidden.any(dim=1).double().mean()) - 0.8 * 8 / 9) < 0.03
        assert thinned["gyro"].present.all()
    both = float((lost[0].any(dim=1) & lost[1].any(dim=1)).double().mean())
    assert abs(both - (0.8 * 8 / 9) ** 2) < 0.03
    shifted = {name: Timed(**{**vars(s), "times": s.times + 1000.0}) for name, s in batch.items()}
    again = ModalityDropout(0.0, span=0.8, share=share, seed=2)(shifted)
    same = (again["gyro"].valid == thinned["gyro"].valid).double().mean()
    assert float(same) > 0.999  # a sample within rounding of an end may fall on either side


def test_a_single_sample_is_never_a_span() -> None:
    batch = streams()
    valid = torch.zeros((ROWS, STEPS), dtype=torch.bool)
    valid[:, 4] = True
    batch["gyro"] = Timed(**{**vars(batch["gyro"]), "valid": valid})
    assert torch.equal(ModalityDropout(0.0, span=1.0, share=0.9)(batch)["gyro"].valid, valid)


@pytest.mark.parametrize(
    "arguments", [{"probability": 1.0}, {"probability": {"gyro": -0.1}}, {"span": 1.5}, {"share": 1.0}, {"share": 0.0}]
)
def test_dropout_names_arguments_that_do_not_fit(arguments: dict[str, float]) -> None:
    with pytest.raises(StreamError, match="ModalityDropout"):
        ModalityDropout(**arguments)  # type: ignore[arg-type]


def test_dropout_names_modalities_that_no_batch_has() -> None:
    with pytest.raises(StreamError, match="gyroscope"):
        ModalityDropout({"gyroscope": 0.5})(streams())
    with pytest.raises(StreamError, match="no modality"):
        ModalityDropout()({})


# Subsets


def test_every_subset_is_evaluated_as_if_the_others_were_not_there() -> None:
    net = network().train()
    net.encoders["gyro"].eval()  # as of one that is frozen
    batch = hide(streams(), "touch", [0, 3])
    target = torch.arange(ROWS) % CLASSES
    halves = [torch.arange(5), torch.arange(5, ROWS)]
    batches = [(take_rows(batch, half), target[half]) for half in halves]
    found = evaluate_subsets(net, batches, probability_of_truth)
    assert net.training
    assert not net.encoders["gyro"].training
    assert list(found) == subsets(NAMES)
    assert len(found) == 7
    net.eval()
    assert np.isnan(found["touch",]).nonzero()[0].tolist() == [0, 3]
    there = rows_with(batch, ["touch"])
    expected = probability_of_truth(net(only(take_rows(batch, there.nonzero()[:, 0]), ["touch"])), target[there])
    np.testing.assert_allclose(found["touch",][there.numpy()], expected.detach().numpy(), atol=1e-6)
    expected = probability_of_truth(net(batch), target)
    np.testing.assert_allclose(found[NAMES], expected.detach().numpy(), atol=1e-6)


# Distillation


def test_networks_that_are_the_same_have_nothing_to_learn_from_each_other() -> None:
    teacher = network().eval()
    student = copy.deepcopy(teacher)
    batch = streams()
    fused = student.fusion(student.encode(batch))
    loss = Distillation(teacher, weight=1.0, features=1.0)(student.head(fused), batch, batch, fused)
    assert abs(loss.item()) < 1e-6
    loss.backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in student.parameters())
    thinned = ModalityDropout(0.6, seed=1)(batch)
    lost = Distillation(teacher)(student(thinned), thinned, batch)
    assert lost.item() > 1e-4  # a hundred times what rounding leaves


@given(temperature=st.floats(0.5, 8.0), seed=st.integers(0, 20))
@settings(max_examples=20)
def test_divergence_is_what_torch_says_and_never_negative(temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (4 * torch.randn((5, 4), generator=generator, dtype=torch.float64) for _ in range(2))
    found = softened_divergence(student, teacher, temperature=temperature)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher / temperature),
        torch.distributions.Categorical(logits=student / temperature),
    )
    torch.testing.assert_close(found, temperature**2 * expected)
    assert (found >= -1e-9).all()


def test_no_gradient_goes_to_a_teacher() -> None:
    teacher, student, batch = network(seed=1), network(seed=2), streams()
    fused = student.fusion(student.encode(batch))
    Distillation(teacher, features=1.0)(student.head(fused), batch, batch, fused).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training
    assert all(p.grad is not None for p in student.parameters() if p is not student.fusion.absent)
    # Nor where the caller has not shut it off.
    one, other = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    softened_divergence(one, other).sum().backward()
    assert one.grad is not None
    assert other.grad is None
    told = teacher.fusion(teacher.encode(batch))
    feature_distance(student.fusion(student.encode(batch)), told).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_each_row_is_taught_by_whoever_knows_exactly_what_it_has() -> None:
    full, of_gyro, student = network(seed=1), network(("gyro",), seed=2).eval(), network(seed=3)
    batch = streams()
    thinned = hide(hide(batch, "sound", range(6)), "touch", range(6))  # rows 0 ... 5 have gyro alone
    output = student(thinned)
    found = Distillation(full, specialists={"gyro": of_gyro})(output, thinned, batch)
    by_gyro = softened_divergence(output[:6], of_gyro(only(batch, ["gyro"]))[:6])
    by_full = softened_divergence(output[6:], full(batch)[6:])
    torch.testing.assert_close(found, torch.cat([by_gyro, by_full]).mean())
    without = Distillation(full)(output, thinned, batch)
    assert abs(without.item() - found.item()) > 1e-3


def test_features_are_compared_by_their_shape_and_not_their_size() -> None:
    tokens = Linear()(streams()["gyro"])
    larger = tokens.with_values(3.0 * tokens.values + 1.0)
    assert feature_distance(larger, tokens).max() < 1e-4
    other = tokens.with_values(tokens.values.flip(dims=(2,)))
    assert feature_distance(other, tokens).min() > 1e-2


def test_distillation_names_what_does_not_fit() -> None:
    with pytest.raises(StreamError, match="same classes"):
        softened_divergence(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(StreamError, match="temperature"):
        softened_divergence(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
    with pytest.raises(StreamError, match="weights"):
        Distillation(network(), weight=0.0)
    batch, net = streams(), network()
    with pytest.raises(StreamError, match="fused tokens"):
        Distillation(net, features=1.0)(net(batch), batch, batch)


# OGM-GE


@given(scores=st.dictionaries(st.sampled_from("abcd"), st.floats(0.0, 1.0), min_size=1), alpha=st.floats(0.0, 5.0))
def test_coefficients_are_within_0_and_1_and_only_those_who_lead_are_held_back(
    scores: dict[str, float], alpha: float
) -> None:
    found = modulation_coefficients(scores, alpha)
    assert set(found) == set(scores)
    assert all(0.0 <= k <= 1.0 for k in found.values())
    if len(scores) > 1:
        assert found[min(scores, key=lambda name: scores[name])] == 1.0


@pytest.mark.parametrize("score", [0.0, 0.2, 1.0])
def test_balanced_modalities_keep_their_gradients(score: float) -> None:
    assert modulation_coefficients(dict.fromkeys("abc", score), 2.0) == dict.fromkeys("abc", 1.0)


def test_coefficients_are_those_of_the_paper() -> None:
    found = modulation_coefficients({"sound": 0.6, "image": 0.2}, 0.1)
    assert found["image"] == 1.0
    assert found["sound"] == pytest.approx(1 - math.tanh(0.1 * 3))


@pytest.mark.parametrize("kind", ["concatenation", "gate", "low_rank", "joint", "bottleneck", "perceiver", "late"])
def test_the_leading_encoder_is_held_back_whatever_the_fusion(kind: str) -> None:
    net, target = network(kind=kind), torch.arange(ROWS) % CLASSES
    batch = streams()
    # Sound tells the class outright, and the network is taught to hear it.
    values = batch["sound"].values.clone()
    values[:, :, 0], values[:, :, 1] = 3 * (target == 1)[:, None], 3 * (target == 2)[:, None]
    batch["sound"] = Timed(**{**vars(batch["sound"]), "values": values})
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for step in range(40):
        optimizer.zero_grad()
        # Alone as well, else some kinds of fusion never hear sound by itself.
        net.head.loss(net(batch if step % 2 else only(batch, ["sound"])), target).backward()
        optimizer.step()
    optimizer.zero_grad()
    tokens = net.encode(batch)
    net.head.loss(net.head(net.fusion(tokens)), target).backward()
    before = {name: [p.grad.clone() for p in encoder.parameters()] for name, encoder in net.encoders.items()}
    found = GradientModulation(net, alpha=0.5, noise=0.0)(tokens, target)
    assert found["sound"] == min(found.values()) < 0.6
    for name, encoder in net.encoders.items():
        for weight, old in zip(encoder.parameters(), before[name], strict=True):
            torch.testing.assert_close(weight.grad, found[name] * old)
    assert net.training


def test_enhancement_adds_noise_of_the_gradients_own_size_and_nothing_on_average() -> None:
    net, target, batch = network(), torch.arange(ROWS) % CLASSES, streams()
    tokens = net.encode(batch)
    net.head.loss(net.head(net.fusion(tokens)), target).backward()
    old = {name: encoder.out.weight.grad.clone() for name, encoder in net.encoders.items()}
    fusion = net.fusion.perceptron[0].weight.grad.clone()
    modulation = GradientModulation(net, alpha=0.0, seed=5)
    draws: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for _ in range(200):
        for name, encoder in net.encoders.items():
            encoder.out.weight.grad.copy_(old[name])
        modulation(tokens, target)
        for name, encoder in net.encoders.items():
            draws[name].append(encoder.out.weight.grad - old[name])
    for name in NAMES:
        noise, spread = torch.stack(draws[name]), float(old[name].std(correction=0))
        assert float(noise.mean().abs()) < 5 * spread / math.sqrt(noise.numel())
        assert float(noise.std()) == pytest.approx(spread, rel=0.06)
    assert torch.equal(net.fusion.perceptron[0].weight.grad, fusion)


def test_noise_is_seeded_and_resumed() -> None:
    def grads(modulation: GradientModulation, net: FusionNet) -> list[Tensor]:
        net.zero_grad()
        tokens = net.encode(streams())
        target = torch.arange(ROWS) % CLASSES
        net.head.loss(net.head(net.fusion(tokens)), target).backward()
        modulation(tokens, target)
        return [p.grad.clone() for p in net.encoders.parameters()]

    net = network()
    one, other = GradientModulation(net, seed=4), GradientModulation(net, seed=4)
    first = grads(one, net)
    assert all(map(torch.equal, first, grads(other, net)))
    resumed = GradientModulation(net, seed=11)
    resumed.load_state_dict(one.state_dict())
    second = grads(one, net)
    assert all(map(torch.equal, second, grads(resumed, net)))
    assert not all(map(torch.equal, first, second))


def test_a_modality_that_no_row_has_takes_no_part() -> None:
    net, target = network(), torch.arange(ROWS) % CLASSES
    batch = hide(streams(), "touch", range(ROWS))
    tokens = net.encode(batch)
    net.head.loss(net.head(net.fusion(tokens)), target).backward()
    scores = GradientModulation(net).scores(tokens, target)
    assert sorted(scores) == ["gyro", "sound"]
    # Rows that lack it do not count in the score of one that others have.
    some = hide(streams(), "touch", range(6))
    found = GradientModulation(net).scores(net.encode(some), target)["touch"]
    rest = torch.arange(6, ROWS)
    expected = probability_of_truth(net(only(take_rows(some, rest), ["touch"])), target[rest]).mean()
    assert found == pytest.approx(expected.item(), abs=1e-6)


def test_modulation_names_what_does_not_fit() -> None:
    with pytest.raises(StreamError, match="alpha"):
        GradientModulation(network(), alpha=-1.0)
    with pytest.raises(StreamError, match="one modality"):
        GradientModulation(network(("gyro",)))


# Gradient blending


def test_blending_weights_are_those_of_the_closed_form() -> None:
    before = {"all": (2.0, 2.0), "sound": (2.0, 2.1), "image": (2.0, 2.0)}
    after = {"all": (0.5, 1.0), "sound": (1.0, 1.3), "image": (1.0, 2.5)}
    found = blending_weights(before, after)
    # G and O: all 1.0, 0.5; sound 0.8, 0.2; the held-out loss of image has risen.
    weights = {"all": 1.0 / 0.25, "sound": 0.8 / 0.04, "image": 0.0}
    assert found == pytest.approx({name: weight / 24.0 for name, weight in weights.items()})


def test_blending_weights_at_the_edges() -> None:
    level = {"all": (2.0, 2.0), "sound": (2.0, 2.0)}
    assert blending_weights(level, {"all": (1.0, 3.0), "sound": (1.0, 2.0)}) == {"all": 0.5, "sound": 0.5}
    # Nothing overfits: what counts is what was gained, and no weight is infinite.
    found = blending_weights(level, {"all": (1.0, 1.0), "sound": (1.5, 1.5)})
    assert found == pytest.approx({"all": 2 / 3, "sound": 1 / 3})
    with pytest.raises(StreamError, match="same branches"):
        blending_weights(level, {"all": (1.0, 1.0)})
    with pytest.raises(StreamError, match="finite"):
        blending_weights(level, {"all": (1.0, math.nan), "sound": (1.0, 1.0)})


@pytest.mark.parametrize("kind", ["concatenation", "joint", "late"])
def test_the_blended_loss_is_the_weighted_sum_of_all_branches(kind: str) -> None:
    net, target, batch = network(kind=kind), torch.arange(ROWS) % CLASSES, hide(streams(), "touch", [1, 4])
    blending = GradientBlending(net, lambda: ClassificationHead(DIM, CLASSES))
    assert set(blending.weights.values()) == {0.25}
    tokens = net.encode(batch)
    output = net.head(net.fusion(tokens))
    blending.weights = {"all": 0.4, "gyro": 0.3, "sound": 0.0, "touch": 0.3}
    have = [k for k in range(ROWS) if k not in (1, 4)]
    expected = 0.4 * nn.functional.cross_entropy(output, target)
    expected = expected + 0.3 * nn.functional.cross_entropy(blending.heads["gyro"](tokens["gyro"]), target)
    touched = blending.heads["touch"](tokens["touch"])[have]
    expected = expected + 0.3 * nn.functional.cross_entropy(touched, target[have])
    loss = blending(tokens, output, target)
    torch.testing.assert_close(loss, expected)
    blending.weights = dict.fromkeys(blending.weights, 0.25)
    blending(net.encode(batch), net(batch), target).backward()
    assert all(p.grad is not None for p in [*blending.parameters(), *net.encoders.parameters()])
    assert not {id(p) for p in blending.parameters()} & {id(p) for p in net.parameters()}


def test_blending_names_what_does_not_fit() -> None:
    blending = GradientBlending(network(), lambda: ClassificationHead(DIM, CLASSES))
    with pytest.raises(StreamError, match="weights"):
        blending.weights = {"all": 1.0}
    with pytest.raises(StreamError, match="'all'"):
        GradientBlending(network(("all", "gyro")), lambda: ClassificationHead(DIM, CLASSES))


# Reports of transfer


def answers(rng: np.random.Generator, count: int, *rates: float) -> list[np.ndarray]:
    """Right or wrong of networks on the same examples, some of which are hard for all of them."""
    hard = rng.uniform(size=count)
    return [(0.5 * hard + 0.5 * rng.uniform(size=count) < rate).astype(float) for rate in rates]


@pytest.mark.parametrize("seed", range(5))
def test_a_harmful_modality_is_named_and_a_harmless_one_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound, image, touch, fused, no_touch, no_sound, no_image = answers(rng, 1500, 0.65, 0.6, 0.3, 0.6, 0.75, 0.5, 0.5)
    report = compare_transfer(
        {"sound": sound, "image": image, "touch": touch},
        {
            ("image", "sound", "touch"): fused,
            ("image", "sound"): no_touch,
            ("image", "touch"): no_sound,
            ("sound", "touch"): no_image,
        },
    )
    assert report.harmful == ("touch",)
    assert "without touch" in report.message


@pytest.mark.parametrize("seed", range(5))
def test_negative_transfer_is_said_where_it_is(seed: int) -> None:
    sound, image, bad, same, good = answers(np.random.default_rng(seed), 1500, 0.6, 0.3, 0.5, 0.6, 0.7)
    own, both = {"sound": sound, "image": image}, ("image", "sound")
    negative = compare_transfer(own, {both: bad})
    assert (negative.verdict, negative.best, negative.harmful) == ("negative", ("sound",), ("image",))
    assert negative.interval[0] < negative.gain < negative.interval[1] < 0
    assert "negative transfer" in negative.message
    assert compare_transfer(own, {both: good}).verdict == "positive"
    undecided = compare_transfer(own, {both: same})
    assert (undecided.verdict, undecided.harmful) == ("undecided", ())


def test_chance_is_accused_no_oftener_than_the_level_says() -> None:
    """Ten modalities, all of them and the fused equally good: whichever looks best is not accused of being better."""
    accused = 0
    for seed in range(200):
        rng = np.random.default_rng([1, seed])
        *singles, fused = answers(rng, 100, *([0.5] * 11))
        own = dict(zip("abcdefghij", singles, strict=True))
        accused += compare_transfer(own, {tuple("abcdefghij"): fused}, repeats=300, seed=seed).verdict == "negative"
    assert accused <= 13  # of 200 at 2.5 %: 5 expected, 13 or more with probability 0.002


def test_examples_of_one_group_do_not_count_as_many() -> None:
    rng = np.random.default_rng(1)
    level = [np.repeat(values, 50) for values in answers(rng, 20, 0.6, 0.3, 0.5)]
    own, fused = {"sound": level[0], "image": level[1]}, {("image", "sound"): level[2]}
    each = compare_transfer(own, fused)
    grouped = compare_transfer(own, fused, groups=np.repeat(np.arange(20), 50).tolist())
    width = grouped.interval[1] - grouped.interval[0]
    assert width / (each.interval[1] - each.interval[0]) == pytest.approx(math.sqrt(50), rel=0.15)
    assert each.gain == pytest.approx(grouped.gain)


def test_intervals_are_paired_and_of_the_examples_that_both_know() -> None:
    rng = np.random.default_rng(2)
    scores = 10 * rng.normal(size=400)
    better = scores - 0.1 + 0.01 * rng.normal(size=400)
    better[::3] = np.nan
    report = compare_transfer({"sound": better, "image": scores - 5}, {("image", "sound"): scores})
    assert report.verdict == "positive"
    row = next(row for row in report.rows if row.subset == ("sound",))
    assert row.examples == 266
    assert row.behind == pytest.approx(-0.1, abs=0.005)
    assert row.interval[1] - row.interval[0] < 0.01


def test_a_report_is_the_same_again_and_names_what_it_lacks() -> None:
    sound, image, fused = answers(np.random.default_rng(3), 100, 0.6, 0.3, 0.7)
    own, both = {"sound": sound, "image": image}, ("sound", "image")
    assert compare_transfer(own, {both: fused}) == compare_transfer(dict(reversed(own.items())), {both: fused})
    with pytest.raises(StreamError, match="own network"):
        compare_transfer({"sound": sound}, {both: fused})
    with pytest.raises(StreamError, match="all of them"):
        compare_transfer(own, {"sound": fused})
    with pytest.raises(StreamError, match="same held-out"):
        compare_transfer(own, {both: fused[1:]})
    with pytest.raises(StreamError, match="in common"):
        compare_transfer(own | {"sound": np.where(np.arange(100) < 50, np.nan, sound)},
                         {both: np.where(np.arange(100) < 50, fused, np.nan)})  # fmt: skip
    with pytest.raises(StreamError, match="finite"):
        compare_transfer(own | {"sound": sound + np.inf}, {both: fused})
