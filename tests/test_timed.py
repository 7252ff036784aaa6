"""Tensors that know when they are, attention in seconds, and the network's frame."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from avfuse import StreamError
from avfuse.nn.attention import Block, TimedAttention, Transformer
from avfuse.nn.network import FusionNet
from avfuse.nn.timed import Timed, Tokens, since_origin

DIM, HEADS = 16, 2


def timed(batch: int, count: int, seed: int = 0) -> Timed:
    rng = torch.Generator().manual_seed(seed)
    times = torch.rand((batch, count), generator=rng, dtype=torch.float64).sort(dim=1).values
    return Timed(
        torch.randn((batch, count, 3), generator=rng),
        times,
        torch.rand((batch, count), generator=rng) < 0.8,
        torch.ones(batch, dtype=torch.bool),
        torch.full((batch,), 0.9),
        torch.full((batch,), 0.01),
        (None,) * batch,
    )


def tokens(
    batch: int, count: int, seed: int = 0, *, std: float = 0.0, confidence: float = 1.0, clock: int = 0
) -> Tokens:
    source = timed(batch, count, seed)
    values = torch.randn((batch, count, DIM), generator=torch.Generator().manual_seed(seed + 1))
    made = Tokens.of(values, source.times, source.valid, source).on_clock(clock)
    return replace(made, std=torch.full_like(made.std, std), confidence=torch.full_like(made.std, confidence))


def attention(**options: bool) -> TimedAttention:
    torch.manual_seed(0)
    return TimedAttention(DIM, HEADS, **options)


class Linear(nn.Module):
    """The smallest encoder there can be."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, DIM)

    def forward(self, stream: Timed) -> Tokens:
        return Tokens.of(self.linear(stream.values), stream.times, stream.valid, stream)


class Joined(nn.Module):
    def forward(self, found: dict[str, Tokens]) -> Tokens:
        return Tokens.join(list(found.values()))


class Mean(nn.Module):
    def forward(self, found: Tokens) -> Tensor:
        return found.mean()


def network() -> FusionNet:
    torch.manual_seed(0)
    fusion = nn.Sequential(Joined(), Transformer(DIM, 2, HEADS, across=True))
    return FusionNet({"sound": Linear(), "imu": Linear()}, fusion, Mean(), dim=DIM)


def test_what_is_not_valid_reaches_nothing_not_even_nan() -> None:
    layer, queries, keys = attention(across=True), tokens(2, 5), tokens(2, 7, 3)
    broken = keys.with_values(keys.values.masked_fill(~keys.valid[:, :, None], torch.nan))
    found = layer(queries, broken)
    torch.testing.assert_close(found, layer(queries, keys), rtol=0, atol=0)
    found.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters() if p.grad is not None)
    assert bool(torch.isfinite(broken.mean()).all())


def test_a_query_without_keys_gets_nothing_and_no_gradient_breaks() -> None:
    layer, queries, keys = attention(across=True), tokens(2, 5), tokens(2, 7, 3)
    keys = replace(keys, valid=keys.valid & torch.tensor([[True], [False]]))
    found = layer(queries, keys)
    assert bool((found[1] == 0).all())
    assert bool((found[0] != 0).any())
    found.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("across", [False, True])
def test_only_distances_in_time_count(across: bool) -> None:
    layer, queries, keys = attention(across=across), tokens(2, 5), tokens(2, 7, 3)
    found = layer(queries, keys)
    later = layer(replace(queries, times=queries.times + 1e5), replace(keys, times=keys.times + 1e5))
    torch.testing.assert_close(later, found, rtol=0, atol=1e-5)
    apart = layer(queries, replace(keys, times=keys.times + 0.3))
    assert (apart - found).abs().max() > 1e-3


def test_order_of_tokens_is_told_by_their_times_alone() -> None:
    block, found = Block(DIM, HEADS), tokens(2, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    shuffled = Tokens(
        *(getattr(found, name)[:, order] for name in ("values", "times", "valid", "confidence", "std", "clock"))
    )
    torch.testing.assert_close(block(shuffled).values, block(found).values[:, order], rtol=0, atol=1e-5)


def test_doubt_about_clocks_flattens_the_bias_between_them_and_not_within_one() -> None:
    layer, queries = attention(across=True), tokens(1, 5)
    other = {std: tokens(1, 7, 3, std=std, clock=1) for std in (0.0, 0.5, torch.inf)}
    bias = {std: layer.clock_bias(queries, keys).detach() for std, keys in other.items()}
    assert bool((bias[0.5] > bias[0.0]).all())
    assert bool((bias[torch.inf] == 0).all())
    same = layer.clock_bias(queries, tokens(1, 7, 3, std=0.5, clock=0))
    torch.testing.assert_close(same, layer.clock_bias(queries, tokens(1, 7, 3, clock=0)))


def test_keys_on_a_doubtful_clock_weigh_less() -> None:
    layer, queries = attention(across=True), tokens(1, 5)
    sure, doubtful = tokens(1, 4, 3, clock=1), tokens(1, 4, 5, clock=2, confidence=0.0)
    alone = layer(queries, sure)
    both = layer(queries, Tokens.join([sure, doubtful]))
    equal = layer(queries, Tokens.join([sure, replace(doubtful, confidence=sure.confidence)]))
    assert (both - alone).abs().max() < 0.02 * (equal - alone).abs().max()


def test_clocks_set_on_together_change_nothing() -> None:
    batch = {"sound": timed(3, 6), "imu": timed(3, 4, 7)}
    later = {name: replace(stream, times=stream.times + 1.7e9) for name, stream in batch.items()}
    net = network()
    torch.testing.assert_close(net(later), net(batch), rtol=0, atol=1e-5)
    earliest = torch.stack([s.times.masked_fill(~s.mask, torch.inf).amin(dim=1) for s in since_origin(batch).values()])
    torch.testing.assert_close(earliest.amin(dim=0), torch.zeros(3, dtype=torch.float64))


def test_a_modality_that_is_not_there_is_the_same_as_one_that_is_not_in_the_batch() -> None:
    batch, net = {"sound": timed(3, 6), "imu": timed(3, 4, 7)}, network()
    gone = replace(batch["imu"], present=torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(net(batch | {"imu": gone}), net({"sound": batch["sound"]}), rtol=0, atol=1e-5)


def test_padding_and_order_change_nothing() -> None:
    batch, net = {"sound": timed(3, 6), "imu": timed(3, 4, 7)}, network()
    pad = {"values": torch.nan, "times": 0.0, "valid": False}
    longer = {
        name: replace(
            stream,
            **{
                f: torch.cat([getattr(stream, f), torch.full_like(getattr(stream, f), v)], dim=1)
                for f, v in pad.items()
            },
        )
        for name, stream in batch.items()
    }
    found = net(batch)
    torch.testing.assert_close(net(dict(reversed(longer.items()))), found, rtol=0, atol=1e-5)


def test_batches_that_cannot_be_decided_on_are_told() -> None:
    batch, net = {"sound": timed(3, 6)}, network()
    with pytest.raises(StreamError, match="smell; expected some of imu, sound"):
        net(batch | {"smell": timed(3, 6)})
    with pytest.raises(StreamError, match="none; expected some of imu, sound"):
        net({})
    nobody = replace(batch["sound"], present=torch.tensor([True, False, True]))
    with pytest.raises(StreamError, match="row 1 has no modality present"):
        net({"sound": nobody})
