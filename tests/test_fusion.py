"""What holds for every kind of fusion, whatever it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file, save_file
from test_timed import DIM, Linear, timed
from torch import Tensor, nn

from avfuse import StreamError
from avfuse.nn.fusion import (
    FUSIONS,
    Concatenation,
    CrossAttention,
    Gate,
    Hybrid,
    Joint,
    Late,
    LowRank,
    Perceiver,
    TensorProduct,
    WeightedSum,
    one_token,
)
from avfuse.nn.heads import ClassificationHead, Decided
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, Tokens

NAMES = ("imu", "picture", "sound")
ROWS, CLASSES = 4, 5
STEPS = {"step": 0.1, "duration": 1.0}


def head() -> ClassificationHead:
    return ClassificationHead(DIM, CLASSES)


KINDS: dict[str, Callable[[], nn.Module]] = {
    "concatenation": lambda: Concatenation(NAMES, DIM),
    "concatenation by steps": lambda: Concatenation(NAMES, DIM, **STEPS),
    "weighted_sum": lambda: WeightedSum(NAMES, DIM),
    "weighted_sum by steps": lambda: WeightedSum(NAMES, DIM, **STEPS),
    "gate": lambda: Gate(NAMES, DIM),
    "gate by steps": lambda: Gate(NAMES, DIM, **STEPS),
    "tensor": lambda: TensorProduct(NAMES, DIM, size=3),
    "tensor by steps": lambda: TensorProduct(NAMES, DIM, size=3, **STEPS),
    "low_rank": lambda: LowRank(NAMES, DIM, rank=2),
    "low_rank by steps": lambda: LowRank(NAMES, DIM, rank=2, **STEPS),
    "joint": lambda: Joint(NAMES, DIM, layers=1),
    "cross_attention": lambda: CrossAttention(NAMES, DIM, layers=1),
    "bottleneck": lambda: FUSIONS["bottleneck"](NAMES, DIM, layers=2),
    "perceiver": lambda: Perceiver(NAMES, DIM, layers=1, latents=3),
    "late": lambda: Late(NAMES, DIM, head=head),
    "hybrid": lambda: Hybrid(
        NAMES,
        DIM,
        groups={"body": LowRank(("imu", "picture"), DIM, **STEPS)},
        over=CrossAttention(("body", "sound"), DIM),
    ),
}
ANY = pytest.mark.parametrize("kind", KINDS)


def network(kind: str, seed: int = 0) -> FusionNet:
    torch.manual_seed(seed)
    fusion = KINDS[kind]()
    pool = "mean" if one_token(fusion) else "attention"
    last = Decided(head()) if kind == "late" else ClassificationHead(DIM, CLASSES, pool=pool)
    return FusionNet({n: Linear() for n in NAMES}, fusion, last, dim=DIM)


def batch() -> dict[str, Timed]:
    """Three modalities; the second row lacks the picture, whose clock is doubtful in the others."""
    made = {name: timed(ROWS, 6 + k, k) for k, name in enumerate(NAMES)}
    absent = torch.tensor([True, False, True, True])
    made["picture"] = replace(made["picture"], present=absent, std=torch.full((ROWS,), 0.05))
    return made


def rows(made: dict[str, Timed], order: Tensor) -> dict[str, Timed]:
    fields = ("values", "times", "valid", "present", "confidence", "std")
    return {n: replace(s, **{f: getattr(s, f)[order] for f in fields}) for n, s in made.items()}


def all_there(made: dict[str, Timed]) -> dict[str, Timed]:
    """Every modality in every row, on clocks that nobody doubts."""
    there, sure = torch.ones(ROWS, dtype=torch.bool), torch.ones(ROWS)
    return {n: replace(s, present=there, confidence=sure) for n, s in made.items()}


def tokens(values: Tensor, times: Tensor, valid: Tensor) -> Tokens:
    sure = torch.ones(times.shape)
    return Tokens(values, times.double(), valid, sure, 0 * sure, torch.zeros(times.shape).long())


def test_every_kind_is_tried() -> None:
    assert {kind.removesuffix(" by steps") for kind in KINDS} == set(FUSIONS)


@ANY
def test_padding_and_the_orders_of_rows_and_modalities_change_nothing(kind: str) -> None:
    net, made = network(kind).eval(), batch()
    found = net(made)
    pad = {"values": torch.nan, "times": 0.0, "valid": False}

    def longer(stream: Timed) -> Timed:
        parts = {f: [getattr(stream, f), torch.full_like(getattr(stream, f)[:, :3], v)] for f, v in pad.items()}
        return replace(stream, **{f: torch.cat(both, dim=1) for f, both in parts.items()})

    torch.testing.assert_close(net({n: longer(s) for n, s in reversed(made.items())}), found, rtol=0, atol=1e-5)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(rows(made, order)), found[order], rtol=0, atol=1e-5)
    # Told in another order, the network is the same one.
    torch.manual_seed(0)
    names = list(reversed(NAMES))
    if kind in FUSIONS and kind not in ("late", "hybrid", "tensor", "low_rank"):
        again = FUSIONS[kind](names, DIM)
        assert again.names == NAMES


@ANY
def test_every_parameter_learns_and_survives_a_file(kind: str, tmp_path: Path) -> None:
    net, made = network(kind), batch()
    net(made).square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert still == []
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = network(kind, seed=1).eval()
    assert (other(made) - net.eval()(made)).abs().max() > 1e-3
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    torch.testing.assert_close(other(made), net(made), rtol=0, atol=0)


@ANY
@pytest.mark.parametrize("training", [True, False])
def test_any_subset_will_do_and_absent_is_absent_however_it_is_told(kind: str, training: bool) -> None:
    net, made = network(kind).train(training), batch()
    whole = {n: replace(s, present=torch.ones(ROWS, dtype=torch.bool)) for n, s in made.items()}
    outputs = {}
    for count in (1, 2, 3):
        for kept in combinations(NAMES, count):
            gone = torch.zeros(ROWS, dtype=torch.bool)
            told = net({n: s if n in kept else replace(s, present=gone) for n, s in whole.items()})
            left_out = net({n: whole[n] for n in kept})
            torch.testing.assert_close(told, left_out, rtol=0, atol=1e-5)
            assert bool(torch.isfinite(told).all())
            outputs[kept] = told
    apart = [(a - b).abs().max() for a, b in combinations(outputs.values(), 2)]
    assert min(apart) > 1e-6  # each modality has a say


@ANY
def test_rows_do_not_see_one_another(kind: str) -> None:
    net, made = network(kind).eval(), batch()
    alone = [net(rows(made, torch.tensor([k]))) for k in range(ROWS)]
    torch.testing.assert_close(torch.cat(alone), net(made), rtol=0, atol=1e-5)


@ANY
def test_clocks_set_on_together_change_nothing_and_the_same_seed_is_the_same(kind: str) -> None:
    made = batch()
    found = network(kind).eval()(made)
    later = {n: replace(s, times=s.times + 3e8) for n, s in made.items()}
    torch.testing.assert_close(network(kind).eval()(later), found, rtol=0, atol=1e-5)
    torch.testing.assert_close(network(kind).eval()(made), found, rtol=0, atol=0)


TIMELESS = ("concatenation", "weighted_sum", "gate", "tensor", "low_rank", "late")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TIMELESS])
def test_one_clock_set_on_against_the_others_is_seen(kind: str) -> None:
    net, made = network(kind).eval(), batch()
    late = made | {"sound": replace(made["sound"], times=made["sound"].times + 0.3)}
    assert (net(late) - net(made)).abs().max() > 1e-4


def test_the_less_sure_a_clock_is_the_less_its_exact_time_counts() -> None:
    rng = torch.Generator().manual_seed(0)
    values, times = torch.randn(1, 30, DIM, generator=rng), torch.linspace(0.0, 2.0, 30)[None]
    seen = tokens(values, times, torch.ones(1, 30, dtype=torch.bool))
    grid = Gate(("a",), DIM, step=0.1, duration=2.0).grid
    layer = Joint(NAMES, DIM, layers=1).transformer.blocks[0].attention
    reference = seen.on_clock(1)

    def change(of: Callable[[Tokens], Tensor], std: float) -> float:
        doubted = replace(seen, std=torch.full_like(seen.std, std))
        moved = replace(doubted, times=doubted.times + 0.05)
        return float((of(moved) - of(doubted)).abs().mean().detach())

    for of in (lambda t: grid.moments([t]).values, lambda t: layer.clock_bias(reference, t)):
        changes = [change(of, std) for std in (0.0, 0.1, 0.4)]
        assert changes[2] < 0.5 * changes[1] < 0.4 * changes[0]


@pytest.mark.parametrize("kind", ["weighted_sum", "gate", "late", "joint", "cross_attention", "perceiver"])
def test_a_clock_that_is_surely_wrong_is_hardly_listened_to(kind: str) -> None:
    net, whole = network(kind).eval(), all_there(batch())
    whole["sound"] = replace(whole["sound"], times=whole["sound"].times + 1.0)  # the origin is not the sound's
    most = whole["imu"].values.shape[1] if kind in ("joint", "cross_attention") else None  # its own tokens go on

    def fused(made: dict[str, Timed]) -> Tensor:
        found = net.fusion(net.encode(made))
        return found.values.masked_fill(~found.valid[:, :, None], 0.0)[:, :most].detach()

    without = fused({n: s for n, s in whole.items() if n != "sound"})
    wrong = fused(whole | {"sound": replace(whole["sound"], confidence=torch.zeros(ROWS))})
    assert (wrong - without).abs().mean() < 0.05 * (fused(whole) - without).abs().mean()


def test_bottlenecks_hear_nothing_through_the_layers_of_the_absent() -> None:
    net, whole = network("bottleneck"), all_there(batch())
    net({n: s for n, s in whole.items() if n != "picture"}).square().sum().backward()
    for blocks in net.fusion.layers:
        for name, block in zip(net.fusion.names, blocks, strict=True):
            learned = any(p.grad is not None and bool((p.grad != 0).any()) for p in block.parameters())
            assert learned == (name != "picture")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_numbers_of_parameters_are_those_of_the_formulas() -> None:
    """Among them low-rank fusion, whose factors MultiBench keeps in a list, where nothing trains or saves them."""
    m, d = len(NAMES), DIM
    attention = 4 * d * d + 3 * d  # query, key without a constant, value, out
    block = attention + 2 * 2 * d + (d + 1) * 4 * d + (4 * d + 1) * d
    assert count(Concatenation(NAMES, d)) == m * d + (m * d + 1) * d + (d + 1) * d
    assert count(WeightedSum(NAMES, d)) == m + m * (d + 1) * d
    assert count(Gate(NAMES, d)) == m * (d + 1) * d + (m * d + 1) * m * d
    assert count(TensorProduct(NAMES, d, size=3)) == m * (d + 1) * 3 + (4**m + 1) * d
    for rank in (1, 4):
        assert count(LowRank(NAMES, d, rank=rank)) == rank * m * (d + 1) * d + rank + d
    along = block + 2 * d
    assert count(Gate(NAMES, d, **STEPS)) == count(Gate(NAMES, d)) + along
    across = block + 2 * d + 4  # the norm of the keys, and a width for each of four heads
    assert count(Joint(NAMES, d, layers=2)) == m * d + 2 * across + 2 * d
    assert count(CrossAttention(NAMES, d, layers=2)) == m * d + 2 * m * across + 2 * d
    assert count(FUSIONS["bottleneck"](NAMES, d, layers=2, bottlenecks=4)) == m * d + 4 * d + 2 * m * block + 2 * d
    assert count(Perceiver(NAMES, d, layers=2, latents=8)) == m * d + 8 * d + 2 * (block + 2 * d + block) + 2 * d
    assert count(Late(NAMES, d, head=head)) == m * count(head()) + m + 1
    inner, outer = LowRank(("imu", "picture"), d), CrossAttention(("body", "sound"), d)
    assert count(Hybrid(NAMES, d, groups={"body": inner}, over=outer)) == count(inner) + count(outer)


def test_low_rank_is_the_product_of_the_paper_and_the_absent_are_ones() -> None:
    torch.manual_seed(0)
    fusion = LowRank(("a", "b"), DIM, rank=3)
    nn.init.normal_(fusion.factors)  # also what multiplies the appended 1, which begins as 1
    vectors = torch.randn(2, 5, DIM)
    present = torch.tensor([[True, True], [True, False]] * 3)[:5].T
    parts = {
        name: tokens(v[:, None], torch.zeros(5, 1), p[:, None])
        for name, v, p in zip("ab", vectors, present, strict=True)
    }
    found = fusion(parts).values[:, 0]
    for row in range(5):
        total = fusion.bias.clone()
        for r in range(3):
            product = torch.ones(DIM)
            for k in range(2):
                if present[k, row]:
                    product = product * (torch.cat([vectors[k, row], torch.ones(1)]) @ fusion.factors[k, r])
            total = total + fusion.weights[r] * product
        torch.testing.assert_close(found[row], total, rtol=0, atol=1e-5)


def test_steps_hold_what_was_at_their_time() -> None:
    fusion = Concatenation(("a",), DIM, step=0.5, duration=2.0)
    values = torch.arange(4.0)[None, :, None].expand(1, 4, DIM)
    times = torch.tensor([[0.25, 0.75, 1.25, 1.75]])
    sure = tokens(values, times, torch.tensor([[True, True, False, True]]))
    moments = fusion.grid.moments([sure])
    assert moments.present[0, :, 0].tolist() == [True, True, True, True]  # neighbours are near enough
    assert moments.values[0, 1, 0, 0] == pytest.approx(1.0, abs=0.15)
    alone = replace(sure, valid=torch.tensor([[True, False, False, False]]))
    assert fusion.grid.moments([alone]).present[0, :, 0].tolist() == [True, True, False, False]
    vague = replace(alone, std=torch.full((1, 4), 5.0))
    assert fusion.grid.moments([vague]).present[0, :, 0].all()


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(StreamError, match="each once"):
        Gate(("a", "a"), DIM)
    with pytest.raises(StreamError, match="expected both or neither"):
        Gate(NAMES, DIM, step=0.1)
    with pytest.raises(StreamError, match="0 < step <= duration"):
        Gate(NAMES, DIM, step=2.0, duration=1.0)
    with pytest.raises(StreamError, match="take a smaller size, or low_rank"):
        TensorProduct("abcdef", DIM, size=8)
    with pytest.raises(StreamError, match="the only modality is 'a'"):
        CrossAttention(("a",), DIM)
    with pytest.raises(StreamError, match="tokens of sound; expected imu, picture, sound"):
        Joint(NAMES, DIM)({"sound": Tokens.absent(1, DIM, torch.zeros(1))})
    with pytest.raises(StreamError, match="imu in groups; expected each of"):
        Hybrid(NAMES, DIM, groups={"x": Gate(("imu",), DIM), "y": Gate(("imu",), DIM)}, over=Gate(("x", "y"), DIM))
    with pytest.raises(StreamError, match="over fuses a, b; expected picture, sound, x"):
        Hybrid(NAMES, DIM, groups={"x": Gate(("imu",), DIM)}, over=Gate(("a", "b"), DIM))
    with pytest.raises(StreamError, match="dim 10 with 4 heads; expected a multiple of 8"):
        Joint(NAMES, 10)
