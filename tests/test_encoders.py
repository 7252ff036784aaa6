"""Encoders: laws that hold for each of them, and what each says about time, rates and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import librosa
import soundfile
import torch
from torch import Tensor, nn

from avfuse import StreamError
from avfuse.nn.encoders import (
    BYTES,
    ImageEncoder,
    LogMel,
    ModuleEncoder,
    SensorConvolution,
    SensorTransformer,
    SoundEncoder,
    TextEncoder,
    TransformersEncoder,
    VideoConvolution,
    VideoTransformer,
    bytes_of,
)
from avfuse.nn.encoders.grid import on_grid
from avfuse.nn.encoders.sound import mel_edges, mel_filters
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
    return torch.randn((batch, 4000, 2), generator=rng), 8000.0, 8000.0


def film(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.rand((batch, 7, 18, 25, 3), generator=rng), 25.0, 25.0


def text(batch: int, rng: torch.Generator) -> tuple[Tensor, float, float | None]:
    return torch.randint(0, BYTES, (batch, 20), generator=rng), 12.0, None


Make = Callable[[int, torch.Generator], tuple[Tensor, float, float | None]]
KINDS: dict[str, tuple[Callable[[], nn.Module], Make]] = {
    "sound": (lambda: SoundEncoder(DIM, heads=2, bands=16, channels=4), sound),
    "video convolution": (lambda: VideoConvolution(3, DIM, heads=2, channels=4), film),
    "video transformer": (lambda: VideoTransformer(3, DIM, heads=2, patch=8), film),
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
        more = values.shape[1] // 2 + 13
        return torch.cat([values, torch.full_like(values[:, :1], fill).repeat_interleave(more, dim=1)], dim=1)

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


class Exported(nn.Module):
    """An encoder between tensors alone, as a graph has them."""

    def __init__(self, encoder: nn.Module, rate: tuple[float | None, ...]) -> None:
        super().__init__()
        self.encoder, self.rate = encoder, rate

    def forward(self, *fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.encoder(Timed(*fields, self.rate))
        return found.values, found.times, found.valid


@every
def test_a_graph_exported_in_evaluation_says_the_same(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    if kind == "module":  # one that padding does not touch: an exported graph gives it whole arrays
        net = ModuleEncoder(nn.Linear(3, 6), 6, DIM).eval()
    if isinstance(net, SensorConvolution):
        net.duration = 1.5
    fields = [getattr(source, name) for name in ("values", "times", "valid", "present", "confidence", "std")]
    graph = torch.export.export(Exported(net, source.rate), tuple(fields), strict=False).module()
    other = stream(kind, seed=1)
    fields[0] = other.values
    found, expected = graph(*fields), net(other)
    assert_same(replace(expected, values=found[0], times=found[1], valid=found[2]), expected)


@every
def test_mixed_precision_changes_little(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    quiet = replace(source, values=source.values * 1e-4) if kind == "sound" else source
    with torch.autocast("cpu", dtype=torch.float16 if kind == "sound" else torch.bfloat16):
        found = net(quiet)
    assert (found.mean().float() - net(quiet).mean()).abs().max() < 0.05


def evenly(values: Tensor, rate: float) -> Timed:
    batch, count = values.shape[:2]
    times = (torch.arange(count, dtype=torch.float64) / rate).expand(batch, count)
    return at(values, times, (rate,) * batch)


def at(values: Tensor, times: Tensor, rate: tuple[float | None, ...] | None = None) -> Timed:
    one = torch.ones(len(values))
    return Timed(
        values, times, torch.ones(times.shape, dtype=torch.bool), one.bool(), one, 0 * one, rate or (None,) * len(one)
    )


def relative_change(net: nn.Module, one: Timed, same: Timed, other: Timed) -> float:
    """How far `same` is from `one`, against how far another signal is, by the mean over time."""
    with torch.no_grad():
        found = [net(source).mean() for source in (one, same, other)]
    return float((found[1] - found[0]).norm() / (found[2] - found[0]).norm())


# ---- rates


def moves(times: Tensor, seed: int) -> Tensor:
    """A smooth movement of three channels, up to 4 Hz, at times (T,): (1, T, 3)."""
    rng = torch.Generator().manual_seed(seed)
    speeds = 2 * torch.pi * 4 * torch.rand((6, 3), generator=rng, dtype=torch.float64)
    phases = 2 * torch.pi * torch.rand((6, 3), generator=rng, dtype=torch.float64)
    return torch.sin(times[:, None, None] * speeds + phases).sum(dim=1)[None].float()


def film_of(times: Tensor, seed: int) -> Tensor:
    """A spot that moves smoothly, at times (T,): (1, T, 24, 24, 1)."""
    path = moves(times, seed)[0].double() / 4
    grid = torch.linspace(-1, 1, 24, dtype=torch.float64)
    away = (grid[:, None] - path[:, 0, None, None]) ** 2 + (grid[None] - path[:, 1, None, None]) ** 2
    return torch.exp(-8 * away).float()[None, ..., None]


def jittered(rate: float) -> Tensor:
    """Times (T,) of 4 s, each up to a third of a step early or late."""
    times = torch.arange(int(4 * rate), dtype=torch.float64)
    jitter = torch.rand(times.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5
    return (times + 0.6 * jitter).clamp(min=0.0) / rate


@pytest.mark.parametrize("kind", ["sensor convolution", "sensor transformer"])
def test_sensors_at_twice_the_rate_with_jitter_are_nearly_the_same(kind: str) -> None:
    net, even, denser = encoder(kind), torch.arange(200).double() / 50, jittered(100.0)
    for seed in range(5):
        streams = (at(moves(t, s), t[None]) for t, s in ((even, seed), (denser, seed), (even, seed + 50)))
        assert relative_change(net, *streams) < 0.1


@pytest.mark.parametrize("kind", ["video convolution", "video transformer"])
def test_a_frame_among_more_and_irregular_ones_says_nearly_the_same(kind: str) -> None:
    torch.manual_seed(0)
    build = VideoConvolution if kind == "video convolution" else VideoTransformer
    net = build(1, DIM, heads=2).eval()
    even, other = torch.arange(100).double() / 25, jittered(30.0)
    other[::6] = torch.arange(20).double() / 5  # frames at moments that both have
    for seed in range(3):
        with torch.no_grad():
            one, same, different = (
                net(at(film_of(t, s), t[None])).values[0, ::step]
                for t, s, step in ((even, seed, 5), (other, seed, 6), (even, seed + 50, 5))
            )
        assert (same - one).norm() < 0.2 * (different - one).norm()


def noise(rate: float, seed: int, top: float = 3000.0) -> Tensor:
    """The same random sound below `top` hertz at any rate: (1, samples of 1 s, 1)."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(rate)) / rate
    hertz, phases = rng.uniform(100, top, 80), rng.uniform(0, 2 * np.pi, 80)
    rise = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(1, 4, 80)[:, None] * times + phases[:, None])
    made = (rise * np.sin(2 * np.pi * hertz[:, None] * times + phases[:, None])).sum(axis=0)
    return torch.as_tensor(made / 50, dtype=torch.float32)[None, :, None]


@pytest.mark.parametrize("rate", [11025.0, 16000.0, 44100.0])
def test_bands_that_two_rates_hold_are_equally_strong(rate: float) -> None:
    mel = LogMel(bands=32).eval()
    low, high = (mel(evenly(noise(r, 0), r)) for r in (8000.0, rate))
    shared = low[1][0] & high[1][0]
    assert 16 <= int(shared.sum()) == int(low[1].sum()) < int(high[1].sum()) + (rate < 16000)
    inside = slice(5, 90)
    at_low = low[0][0, inside, shared]
    seconds = low[2][0, inside]
    nearest = (high[2][0][None] - seconds[:, None]).abs().argmin(dim=1)
    difference = (high[0][0, nearest][:, shared] - at_low) * 4.0  # nats
    assert difference.square().mean().sqrt() < 0.5
    assert at_low.std() * 4.0 > 1.0


@pytest.mark.parametrize("rate", [11025.0, 16000.0, 44100.0])
def test_bands_never_learned_from_are_not_looked_at(rate: float) -> None:
    torch.manual_seed(0)
    net = SoundEncoder(DIM, heads=2)
    learn, same, other = (
        evenly(noise(8000.0, 0), 8000.0),
        evenly(noise(rate, 0), rate),
        evenly(noise(8000.0, 1, 1000.0), 8000.0),
    )
    before = relative_change(net.eval(), learn, same, other)
    net.train()(learn)
    after = relative_change(net.eval(), learn, same, other)
    assert after < 0.1 < before


def test_training_hides_high_bands_of_some_rows() -> None:
    torch.manual_seed(0)
    mel = LogMel(limit=0.5)
    source = evenly(noise(16000.0, 0).expand(40, -1, -1), 16000.0)
    held = mel.train()(source)[1]
    left = held.sum(dim=1)
    whole = mel.eval()(source)[1].sum(dim=1)
    assert bool((whole == whole[0]).all())
    assert 8 <= int((left < whole).sum()) <= 32
    assert bool((held.long().diff(dim=1) <= 0).all())  # from the top
    assert bool((LogMel(limit=0.0).train()(source)[1].sum(dim=1) == whole).all())


def test_rows_of_several_rates_are_each_as_alone() -> None:
    torch.manual_seed(0)
    net = SoundEncoder(DIM, heads=2, bands=16).eval()
    parts = [noise(rate, k) for k, rate in enumerate((16000.0, 8000.0, 16000.0))]
    parts[1] = parts[1][:, :3000]  # shorter in seconds, too
    longest = max(part.shape[1] for part in parts)
    values, times, valid = torch.zeros(3, longest, 1), torch.zeros(3, longest).double(), torch.zeros(3, longest).bool()
    for k, (part, rate) in enumerate(zip(parts, (16000.0, 8000.0, 16000.0), strict=True)):
        n = part.shape[1]
        values[k, :n], times[k, :n], valid[k, :n] = part[0], torch.arange(n).double() / rate, True
    together = replace(at(values, times, (16000.0, 8000.0, 16000.0)), valid=valid)
    found = net(together)
    for k, rate in enumerate((16000.0, 8000.0, 16000.0)):
        assert_same(Tokens(*(getattr(found, f)[[k]] for f in found.__dataclass_fields__)), net(evenly(parts[k], rate)))


# ---- sound


@pytest.mark.parametrize(("rate", "size"), [(16000, 512), (8000, 256), (22050, 1024)])
def test_mel_filters_are_those_of_librosa(rate: int, size: int) -> None:
    ours = mel_filters(rate, size, mel_edges(40, 50.0, 0.45 * rate))
    theirs = librosa.filters.mel(sr=rate, n_fft=size, n_mels=40, fmin=50.0, fmax=0.45 * rate)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * theirs.max())


def test_log_mel_is_that_of_librosa_against_its_own_level(shared: Path) -> None:
    samples, rate = soundfile.read(shared / "sound" / "echo_microphone.wav", frames=48000, dtype="float32")
    mel = LogMel(bands=64, highest=7200.0).eval()
    ours, held, _, valid = (part[0] for part in mel(evenly(torch.as_tensor(samples)[None, :, None], rate)))
    theirs = librosa.feature.melspectrogram(
        y=samples, sr=rate, n_fft=1024, win_length=400, hop_length=160, n_mels=64, fmin=50.0, fmax=7200.0,
        pad_mode="constant",
    ).T  # fmt: skip
    assert bool(held.all())
    inside = slice(3, int(valid.sum()) - 3)
    ours, theirs = np.exp(4.0 * ours.numpy()[inside].astype(float) - 6.0) - 1e-5, theirs[inside].astype(float)
    gain = (ours * theirs).sum() / (theirs**2).sum()
    np.testing.assert_allclose(ours, gain * theirs, rtol=2e-3, atol=2e-7)


def test_the_gain_of_a_recording_changes_nothing() -> None:
    net, source = encoder("sound"), stream("sound")
    assert_same(net(replace(source, values=source.values * 0.01)), net(source), atol=1e-4)


def test_frames_across_a_gap_in_time_are_not_used_and_times_keep_the_gap() -> None:
    mel = LogMel().eval()
    whole = evenly(noise(8000.0, 0), 8000.0)
    later = torch.where(torch.arange(8000) >= 4000, 3.0, 0.0)
    strength, _, times, valid = mel(replace(whole, times=whole.times + later))
    steady, _, _, all_valid = mel(whole)
    lost = (all_valid & ~valid)[0].nonzero().flatten()
    assert lost.tolist() == [49, 50, 51]  # 25 ms about sample 4000
    assert times[0, 52] - times[0, 48] == pytest.approx(3.04)
    # The level is that of the frames that are left: the same for all.
    apart = (strength - steady)[valid]
    assert float(apart.max() - apart.min()) < 0.02


def test_a_faint_end_is_not_softer_than_the_middle() -> None:
    mel = LogMel().eval()
    strength, _, _, valid = mel(evenly(torch.randn((8, 8000, 1), generator=torch.Generator().manual_seed(0)), 8000.0))
    loud = strength.sum(dim=2).mean(dim=0)[valid[0]] / 4
    assert abs(float(loud[0] - loud[5:-5].mean())) < 3 * float(loud[5:-5].std())


# ---- sensors


def test_points_of_the_grid_are_weighted_local_lines() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 2, (2, 60)), axis=1)
    values, mask = rng.normal(size=(2, 60, 2)), rng.random((2, 60)) < 0.8
    rate, points = 10.0, 21
    found, known = on_grid(
        torch.as_tensor(values), torch.as_tensor(times), torch.as_tensor(mask), rate=rate, points=points, gap=0.0
    )
    for row in range(2):
        for k in range(points):
            away = times[row] * rate - k
            weights = np.where(mask[row], np.maximum(0.0, 1 - np.abs(away)), 0.0)
            assert bool(known[row, k]) == (weights.sum() >= 0.25)
            if known[row, k]:
                design = np.stack([np.ones(60), away], axis=1)
                normal = (design.T * weights) @ design + np.diag([0.0, 0.01 * weights.sum()])
                line = np.linalg.solve(normal, (design.T * weights) @ values[row])
                np.testing.assert_allclose(found[row, k].numpy(), line[0], atol=1e-9)


def test_straight_lines_stay_and_gaps_are_bridged_as_far_as_they_may() -> None:
    times = torch.cat([torch.arange(0, 1, 0.02), torch.arange(1.2, 2, 0.02), torch.arange(3, 4, 0.02)]).double()[None]
    line = torch.stack([3 * times - 1, 0 * times + 5], dim=2)
    found, known = on_grid(line, times, torch.ones(times.shape).bool(), rate=25.0, points=101, gap=0.4)
    seconds = torch.arange(101) / 25
    assert known[0].tolist() == [t <= 2.0 or t > 2.97 for t in seconds.tolist()]
    expected = torch.stack([3 * seconds - 1, 0 * seconds + 5], dim=1).double() * known[0, :, None]
    off = (found[0] - expected).abs()
    # At an end, where all samples of a point lie on one side of it, it takes their middle for itself.
    ends = torch.tensor([k in (0, 25, 30, 50, 75, 100) for k in range(101)])
    assert off[~ends & ~((seconds > 1.0) & (seconds < 1.2))].max() < 1e-3
    assert off.max() < 3 * 0.03


def test_vibration_too_fast_for_the_grid_is_smoothed_away() -> None:
    times = torch.arange(0, 2, 0.001).double()[None]
    shake = torch.sin(2 * torch.pi * 40 * times)[:, :, None]
    found, known = on_grid(shake, times, torch.ones(times.shape).bool(), rate=50.0, points=100, gap=0.1)
    assert bool(known.all())
    assert found[0, 1:-1].abs().max() < 0.1


def test_a_longer_grid_says_the_same() -> None:
    source = since_origin({"it": stream("sensor convolution")})["it"]
    net = encoder("sensor convolution")
    expected = net(source)
    net.duration = 5.0
    assert_same(net(source), expected)


def test_fitted_channels_have_one_scale_whatever_their_units() -> None:
    source = stream("sensor convolution")
    other = replace(source, values=source.values * torch.tensor([1000.0, 1.0, 0.01]) + torch.tensor([9.8, 0.0, -3.0]))
    for kind in ("sensor convolution", "sensor transformer"):
        one, two = encoder(kind), encoder(kind)
        one.fit(source)
        two.fit(other)
        assert_same(two(other), one(source), atol=1e-4)
        three = encoder(kind, seed=1)
        three.load_state_dict(two.state_dict())
        assert_same(three(other), two(other), atol=0)


# ---- pictures


@pytest.mark.parametrize("kind", ["video convolution", "video transformer", "image"])
def test_bytes_and_fractions_are_the_same_picture(kind: str) -> None:
    net, source = encoder(kind), stream(kind)
    whole = (source.values * 255).round().to(torch.uint8)
    assert_same(net(replace(source, values=whole)), net(replace(source, values=whole.float() / 255)))


@pytest.mark.parametrize("kind", ["video convolution", "video transformer", "image"])
def test_where_something_is_in_the_picture_counts(kind: str) -> None:
    net = encoder(kind)
    frames = torch.zeros((1, 4, 32, 32, 3))
    left, right = frames.clone(), frames.clone()
    left[:, :, 8:16, 2:10], right[:, :, 8:16, 18:26] = 1.0, 1.0
    one, two = (net(evenly(picture, 25.0)).mean() for picture in (left, right))
    assert (one - two).abs().max() > 1e-3


def test_images_see_nothing_of_one_another_and_videos_do() -> None:
    source = stream("image")
    changed = replace(source, values=torch.cat([1 - source.values[:, :1], source.values[:, 1:]], dim=1))
    for kind, alone in (("image", True), ("video convolution", False), ("video transformer", False)):
        one, two = (encoder(kind)(s).values.reshape(3, 7, -1, DIM)[:, 1] for s in (source, changed))
        assert bool(torch.allclose(one, two, rtol=0, atol=1e-6)) == alone


# ---- text


def test_bytes_of_a_text_are_its_utf8_between_two_marks() -> None:
    assert bytes_of("Ä?").tolist() == [256, 0xC3, 0x84, ord("?"), 257]
    assert bytes_of("").tolist() == [256, 257]


def test_order_of_words_counts_without_times() -> None:
    net = encoder("text")
    one = at(torch.as_tensor(bytes_of("dog bites man"))[None], torch.zeros((1, 15)).double())
    other = replace(one, values=torch.as_tensor(bytes_of("man bites dog"))[None])
    found = net(one).mean() - net(other).mean()
    assert found.abs().max() > 1e-3
    later = net(replace(one, times=torch.arange(15).double()[None]))
    torch.testing.assert_close(later.values, net(one).values, rtol=0, atol=0)
    assert later.times[0, 14] == 14.0


# ---- models of the user


def test_a_module_never_sees_padding_and_its_tokens_are_spread_over_what_it_saw() -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            seen.append(tuple(values.shape))
            return values.reshape(len(values), 5, -1, 3).mean(dim=2)

    source = at(torch.randn((3, 40, 3)), torch.arange(40).double().expand(3, -1) / 10)
    lengths = torch.tensor([40, 20, 20])
    source = replace(source, valid=torch.arange(40) < lengths[:, None])
    found = ModuleEncoder(Spy(), 3, DIM)(source)
    assert seen == [(2, 20, 3), (1, 40, 3)]
    torch.testing.assert_close(found.times[0], torch.tensor([0.35, 1.15, 1.95, 2.75, 3.55]).double())
    torch.testing.assert_close(found.times[1], torch.tensor([0.15, 0.55, 0.95, 1.35, 1.75]).double())


def test_a_module_with_one_output_gives_one_token_in_the_middle() -> None:
    class Last(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.amax(dim=1)

    found = ModuleEncoder(Last(), 3, DIM)(stream("sensor transformer"))
    assert found.values.shape == (3, 1, DIM)
    assert 0.5 < float(found.times[0, 0]) < 0.7


def test_a_frozen_module_stays_as_it_is() -> None:
    net = ModuleEncoder(nn.Sequential(nn.Linear(3, 6), nn.Dropout(0.5)), 6, DIM, freeze=True)
    source = stream("sensor transformer")
    net.train()(source).mean().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["project.weight", "project.bias"]
    assert_same(net.train()(source), net.eval()(source), atol=0)


# ---- what cannot be


def test_streams_that_an_encoder_cannot_take_are_told() -> None:
    film_, sound_, sensor_, text_ = (stream(kind) for kind in ("image", "sound", "sensor convolution", "text"))
    for wrong, kind, message in (
        (sensor_, "sound", "rate None; expected Hz"),
        (replace(sound_, values=sound_.values[..., 0]), "sound", r"expected \(batch, samples, channels\)"),
        (sound_, "sensor convolution", "expected 3 channels"),
        (sensor_, "video convolution", r"expected \(batch, time, height, width, 3 colours\)"),
        (replace(film_, values=film_.values.long()), "image", "expected uint8, or floats"),
        (replace(film_, values=film_.values[:, :, :4, :4]), "image", "at least one patch of 8"),
        (replace(sensor_, times=sensor_.times - 1), "sensor convolution", "from -1.000 s"),
        (replace(text_, values=text_.values + BYTES), "text", "expected 0 ... 258"),
        (replace(text_, values=text_.values.float()), "text", r"expected \(batch, tokens\) integers"),
    ):
        with pytest.raises(StreamError, match=message):
            encoder(kind)(wrong)
    with pytest.raises(StreamError, match=r"expected 0 s \.\.\. 0\.5 s"):
        SensorConvolution(3, duration=0.5)(sensor_)
    with pytest.raises(StreamError, match="no valid sample"):
        encoder("sensor transformer").fit(replace(sensor_, present=torch.zeros(3).bool()))
    with pytest.raises(StreamError, match=r"Linear gave \(3, 60, 7\)"):
        ModuleEncoder(nn.Linear(3, 7), 6, DIM)(replace(sensor_, valid=torch.ones(3, 60).bool()))


def test_encoders_that_cannot_be_are_told() -> None:
    for make, message in (
        (lambda: SoundEncoder(20, heads=4), "dim 20, heads 4"),
        (lambda: SoundEncoder(DIM, heads=2, bands=30), "multiple of 4"),
        (lambda: LogMel(window=0.01, hop=0.02), "hop 0.02 s"),
        (lambda: ImageEncoder(1, DIM, heads=2, patch=7), "patch of 7"),
        (lambda: SensorConvolution(3, DIM, rate=0.0), "rate 0.0 Hz"),
        (lambda: TransformersEncoder(nn.Linear(3, 4), DIM), "Linear has no config.hidden_size"),
    ):
        with pytest.raises(StreamError, match=message):
            make()
