"""Encoders: laws that hold for each of them, and what each says about time, rates and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from avfuse.nn.encoders import (
    BYTES,
    ImageEncoder,
    ModuleEncoder,
    SensorConvolution,
    SensorTransformer,
    SoundEncoder,
    TextEncoder,
    TransformersEncoder,
    VideoConvolution,
    VideoTransformer,
)
from avfuse.nn.timed import Timed, Tokens, since_origin

DIM = 16


class Averages(nn.Module):
    """Stands for a module of the user: sees whole rows, gives a token for each four samples and one more."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(3, 6, 5, stride=4, padding=4)

    def forward(self, values: Tensor) -> Tensor:
        return self.convolution(values.transpose(1, 2)).transpose(1, 2)


@dataclass
class Hidden:
    last_hidden_state: Tensor


class Recurrent(nn.Module):
    """The interface of a model of transformers."""

    @dataclass
    class Config:
        hidden_size: int = 6

    def __init__(self) -> None:
        super().__init__()
        self.config = self.Config()
        self.embedding = nn.Embedding(BYTES, 6)
        self.gru = nn.GRU(6, 6, batch_first=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Hidden:
        return Hidden(self.gru(self.embedding(input_ids) * attention_mask[:, :, None])[0])


def sensor(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.randn((batch, 60, 3), generator=rng), 50.0, None


def sound(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.randn((batch, 8000, 2), generator=rng), 8000.0, 8000.0


def film(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.rand((batch, 7, 18, 25, 3), generator=rng), 25.0, 25.0


def text(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.randint(0, BYTES, (batch, 20), generator=rng), 12.0, None


Make = Callable[[int, torch.Generator], tuple[Tensor, float, float | None]]
KINDS: dict[str, tuple[Callable[[], nn.Module], Make]] = {
    "sound": (lambda: SoundEncoder(DIM, heads=2, bands=16, channels=4), sound),
    "video convolution": (lambda: VideoConvolution(3, DIM, heads=2, channels=4), film),
    "video transformer": (lambda: VideoTransformer(3, DIM, heads=2), film),
    "image": (lambda: ImageEncoder(3, DIM, heads=2), film),
    "sensor convolution": (lambda: SensorConvolution(3, DIM), sensor),
    "sensor transformer": (lambda: SensorTransformer(3, DIM, heads=2), sensor),
    "text": (lambda: TextEncoder(BYTES, DIM, heads=2), text),
    "module": (lambda: ModuleEncoder(Averages(), 6, DIM), sensor),
    "transformers": (lambda: TransformersEncoder(Recurrent(), DIM), text),
}
every = pytest.mark.parametrize("kind", KINDS)


def encoder(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return KINDS[kind][0]().eval()


def stream(kind: str, batch: int = 3, seed: int = 0) -> Timed:
    """Rows of different lengths; in each, the middle fifth of the time is missing."""
    rng = torch.Generator().manual_seed(seed)
    values, per_second, rate = KINDS[kind][1](batch, rng)
    number = torch.arange(values.shape[1], dtype=torch.float64)
    ends = values.shape[1] - torch.arange(batch) * values.shape[1] // 7
    missing = (number >= 0.4 * len(number)) & (number < 0.6 * len(number))
    valid = (number < ends[:, None]) & ~missing
    return Timed(
        values,
        (number / per_second).expand(valid.shape),
        valid,
        torch.ones(batch, dtype=torch.bool),
        torch.full((batch,), 0.9),
        torch.full((batch,), 0.01),
        (rate,) * batch,
    )


def rows(source: Timed, index: list[int]) -> Timed:
    names = ("values", "times", "valid", "present", "confidence", "std")
    return Timed(*(getattr(source, name)[index] for name in names), tuple(source.rate[k] for k in index))


def assert_same(found: Tokens, expected: Tokens, atol: float = 1e-5) -> None:
    """The same valid tokens in the same order, row by row."""
    for row in range(len(expected.valid)):
        for field in ("values", "times", "confidence", "std"):
            one, other = (getattr(tokens, field)[row][tokens.valid[row]] for tokens in (found, expected))
            torch.testing.assert_close(one, other, rtol=0, atol=atol)


@every
def test_extra_padding_changes_nothing(kind: str) -> None:
    net, source = encoder(kind), stream(kind)

    def longer(values: Tensor, fill: float) -> Tensor:
        return torch.cat([values, torch.full_like(values[:, :1], fill).repeat_interleave(13, dim=1)], dim=1)

    padded = replace(
        source,
        values=longer(source.values, torch.nan if source.values.is_floating_point() else -7),
        times=longer(source.times, 0.0),
        valid=longer(source.valid, 0),
    )
    expected = net(source)
    assert bool(expected.present.all())
    assert_same(net(padded), expected)


@every
def test_rows_do_not_see_one_another(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    found = net(source)
    back = net(rows(source, [2, 0, 1]))
    assert_same(back, Tokens(*(getattr(found, f)[[2, 0, 1]] for f in found.__dataclass_fields__)))
    for row in range(3):
        alone = net(rows(source, [row]))
        assert_same(alone, Tokens(*(getattr(found, f)[[row]] for f in found.__dataclass_fields__)))


@every
def test_what_is_not_valid_reaches_nothing_not_even_nan(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    hidden = ~source.valid.reshape(*source.valid.shape, *(1 for _ in source.values.shape[2:]))
    junk = torch.nan if source.values.is_floating_point() else 10**6
    broken = replace(
        source, values=source.values.masked_fill(hidden, junk), times=source.times.masked_fill(~source.valid, 0.0)
    )
    found = net(broken)
    assert_same(found, net(source))
    assert bool(torch.isfinite(found.values).all())
    found.mean().square().sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)


@every
def test_clocks_set_on_change_nothing(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    # Eleven days: at 50 years a float64 of seconds itself is rounded to 0.24 us.
    found, later = (net(since_origin({"it": s})["it"]) for s in (source, replace(source, times=source.times + 1e6)))
    torch.testing.assert_close(later.values, found.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(later.times, found.times, rtol=0, atol=1e-6)


@every
def test_every_parameter_learns_and_is_kept(kind: str, tmp_path: Path) -> None:
    net, source = encoder(kind), stream(kind)
    weights = torch.randn(DIM, generator=torch.Generator().manual_seed(5))
    (net.train()(source).mean() @ weights).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())] == []
    other = encoder(kind, seed=1)
    assert (other(source).mean() - net.eval()(source).mean()).abs().max() > 1e-3
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert_same(other(source), net(source), atol=0)


@every
def test_the_same_seed_gives_the_same_in_training(kind: str) -> None:
    net, source = encoder(kind).train(), stream(kind)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(net(source))
    assert_same(found[0], found[1], atol=0)


@every
def test_a_row_that_is_absent_has_no_valid_token_and_disturbs_nobody(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    gone = replace(source, present=torch.tensor([True, False, True]), rate=(source.rate[0], None, source.rate[2]))
    found = net(gone)
    assert found.present.tolist() == [True, False, True]
    assert bool(torch.isfinite(found.values).all())
    assert_same(Tokens(*(getattr(found, f)[[0, 2]] for f in found.__dataclass_fields__)), net(rows(source, [0, 2])))
    nobody = net(replace(source, present=torch.zeros(3, dtype=torch.bool), rate=(None,) * 3))
    assert not bool(nobody.valid.any())
    assert bool(torch.isfinite(nobody.values).all())


@every
def test_tokens_are_where_their_samples_are_and_doubt_is_handed_on(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    found = net(source)
    for row in range(3):
        times = found.times[row][found.valid[row]]
        known = source.times[row][source.valid[row]]
        assert times.min() >= known.min() - 1e-9
        assert times.max() <= known.max() + 1e-9
        assert bool((times.diff() >= 0).all())
        assert (times[:, None] - known[None]).abs().amin(dim=1).max() < 0.05
    assert found.times.dtype == torch.float64
    assert float(found.confidence.min()) == float(found.confidence.max()) == pytest.approx(0.9)
    assert float(found.std.max()) == pytest.approx(0.01)
