"""Any two streams of numbers: laws on simulated mixtures of common sources, strangers, and real channels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import CubicSpline
from scipy.signal import lfilter

import avfuse
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.features.channels import channels
from avfuse.features.inertia import force_parts
from avfuse.stream import Recording, Stream
from avfuse.temporal import estimate_canonical, estimate_clock, estimate_offset

TIMES = np.linspace(0, 40, 5)
_RATE = 250.0  # Hz at which sources are made


@dataclass(frozen=True, eq=False)
class Mixtures:
    reference: Stream
    moving: Stream
    truth: ClockMap


def mixtures(
    seed: int, *, duration: float = 60.0, counts: tuple[int, int] = (3, 8), noise: float = 0.3, sources: int = 2
) -> Mixtures:
    """Two sources below 10 Hz or so in two mixtures, sampled at 60 and 100 Hz, each channel with noise of its own."""
    rng = np.random.default_rng(seed)
    grid = np.arange(int((duration + 20) * _RATE)) / _RATE - 10
    made = lfilter([1.0], [1.0, -1.7, 0.74], rng.standard_normal((sources, len(grid))))
    made = CubicSpline(grid, (made / made.std()).T)
    truth = ClockMap(float(rng.uniform(-3, 6)), float(rng.normal(0, 50e-6)))

    def device(times: np.ndarray, on_reference: np.ndarray, count: int) -> Stream:
        values = made(on_reference) @ rng.standard_normal((sources, count))
        values = values + noise * rng.standard_normal(values.shape) + 5.0
        return Stream("other", "other", values, times=times)

    one, two = np.arange(int(duration * 60)) / 60, np.arange(int(0.8 * duration * 100)) / 100
    return Mixtures(device(one, one, counts[0]), device(two, np.asarray(truth(two)), counts[1]), truth)


@pytest.fixture(scope="module")
def mixed() -> Mixtures:
    return mixtures(1)


def missed(found: avfuse.ClockEstimate, truth: ClockMap) -> tuple[float, float]:
    """Seconds by which the middle is missed, and their standard deviation."""
    middle = float(found.diagnostics["middle"])
    return abs(float(found.map(middle)) - float(truth(middle))), float(found.std_at(middle))


@pytest.mark.parametrize("counts", [(1, 1), (3, 8), (16, 2)])
def test_mixtures_of_common_sources_are_placed_within_their_intervals(counts):
    pair = mixtures(2, counts=counts)
    found = estimate_canonical(pair.reference, pair.moving)
    error, std = missed(found, pair.truth)
    assert error < 4 * std < 8e-3
    assert found.evidence == ("channels",)


def test_swapping_the_streams_inverts_the_map(mixed):
    there, back = estimate_canonical(mixed.reference, mixed.moving), estimate_canonical(mixed.moving, mixed.reference)
    assert_allclose((back.map @ there.map)(TIMES), TIMES, atol=1e-9)


def test_delay_moves_the_offset_and_mixing_again_does_not(mixed):
    before = estimate_canonical(mixed.reference, mixed.moving)
    matrix = np.random.default_rng(0).standard_normal((8, 8))
    values = np.asarray(mixed.moving.values) @ matrix * 1e-3 - 7.0
    after = estimate_canonical(mixed.reference, replace(mixed.moving, times=mixed.moving.times - 1.25, values=values))
    assert after.map.offset - before.map.offset == pytest.approx(1.25, abs=1e-3)


def test_more_noise_widens_the_interval():
    quiet, loud = (mixtures(3, noise=noise) for noise in (0.1, 2.0))
    stds = [missed(estimate_canonical(p.reference, p.moving), p.truth)[1] for p in (quiet, loud)]
    assert stds[1] > 2 * stds[0]


def test_dead_channels_and_rows_without_numbers_change_little(mixed):
    rng = np.random.default_rng(4)
    values = np.array(mixed.moving.values)
    values[rng.random(len(values)) < 0.02, 2] = np.nan
    values[1000:1100] = np.inf
    dead = np.column_stack([values, np.full(len(values), np.nan), np.full(len(values), 0.1)])
    error, std = missed(estimate_canonical(mixed.reference, replace(mixed.moving, values=dead)), mixed.truth)
    assert error < 4 * std < 8e-3


def strangers(kind: str, seed: int) -> Stream:
    rng = np.random.default_rng([seed, len(kind)])
    n, count = 3000, int(rng.integers(1, 9))
    white = rng.standard_normal((n, count))
    made = {
        "white": white,
        "walks": np.cumsum(white, axis=0),
        "resonant": lfilter([1.0], [1.0, -1.9, 0.98], white, axis=0),
        "bursts": white * np.exp(-(((np.arange(n) - rng.uniform(0, n)) / 30.0) ** 2))[:, None] + 0.01 * white[::-1],
        "steps": np.cumsum((rng.random(white.shape) < 2e-3) * white, axis=0) + 0.01 * white[::-1],
        "trends": np.linspace(0, 5, n)[:, None] ** rng.uniform(1, 3, count) + 0.05 * white,
        "heavy": lfilter([1.0], [1.0, -0.9], rng.standard_t(1.5, white.shape), axis=0),
    }[kind]
    return Stream.from_samples(made, rate=50.0, kind="other")


@pytest.mark.parametrize("kind", ["white", "walks", "resonant", "bursts", "steps", "trends", "heavy"])
def test_strangers_are_refused(kind):
    for seed in range(3):
        found = estimate_canonical(strangers(kind, seed), strangers(kind, seed + 100))
        assert found.status in ("no_match", "ambiguous")


def test_what_repeats_itself_is_ambiguous():
    rng = np.random.default_rng(5)
    tile = np.tile(lfilter([1.0], [1.0, -0.8], rng.standard_normal((200, 3)), axis=0), (20, 1))
    one, two = (
        Stream.from_samples(tile[a:b] + 0.1 * rng.standard_normal((b - a, 3)), rate=50.0, kind="other")
        for a, b in ((0, 4000), (130, 3500))
    )
    found = estimate_canonical(one, two)
    assert found.status != "aligned"
    limited = estimate_canonical(one, two, max_offset=3.5)
    assert limited.status != "aligned" or abs(limited.offset - 2.6) < 0.01


def test_a_rate_of_change_tells_no_more_than_it_can():
    """Its phase is that of no delay; the interval holds what lag it is given."""
    pair = mixtures(6, counts=(2, 2), noise=0.05)
    values = np.gradient(np.asarray(pair.moving.values), axis=0)
    found = estimate_canonical(pair.reference, replace(pair.moving, values=values))
    if found.status == "aligned":
        error, std = missed(found, pair.truth)
        assert error < 3 * std


def test_too_little_is_told():
    short = Stream.from_samples(np.arange(60.0), rate=10.0, kind="feature")
    still = Stream.from_samples(np.full((500, 2), 0.1), rate=10.0, kind="feature")
    walk = Stream.from_samples(np.cumsum(np.random.default_rng(0).standard_normal(500)), rate=10.0, kind="feature")
    for poor in (short, still):
        found = estimate_canonical(walk, poor)
        assert found.status == "degenerate"
        assert "moving holds" in found.message
    with pytest.raises(StreamError, match="text"):
        estimate_canonical(walk, Stream("text", "text", np.array(["a", "b"]), times=np.array([0.0, 1.0])))
    with pytest.raises(StreamError, match="max_offset"):
        estimate_canonical(walk, walk, max_offset=0.0)


def test_fast_streams_come_as_means_of_what_was_measured():
    times = np.arange(120_000) / 2000
    wave = np.stack([np.sin(2 * np.pi * 1.3 * times), np.cos(2 * np.pi * 3 * times), np.full(len(times), 2.0)], axis=1)
    made = channels(Stream.from_samples(wave, rate=2000.0, kind="other"))
    assert made.values.shape == (15_000, 2)
    assert_allclose(made.values[:, 0], np.sin(2 * np.pi * 1.3 * made.times), atol=1e-3)
    turns = Stream("pose", "pose", np.tile([1.0, 2, 3, 0, 0, 0, 1], (20, 1)), times=np.arange(20) / 10)
    assert channels(turns).values.shape[1] == 0  # it does not move


def test_estimate_clock_and_estimate_offset_take_any_numbers(mixed):
    found = estimate_clock(mixed.reference, replace(mixed.moving, kind="feature"))
    assert found.evidence == ("channels",)
    assert estimate_offset(mixed.reference, mixed.moving).offset == pytest.approx(mixed.truth.offset, abs=5e-3)


def test_align_places_channels_and_refuses_a_stranger(mixed):
    stranger = mixtures(7).moving
    found = avfuse.align(
        [Recording("a", (mixed.reference,)), Recording("b", (mixed.moving,)), Recording("c", (stranger,))],
        reference="a",
    ).clocks
    assert found["b"].evidence == ("channels",)
    assert found["b"].offset == pytest.approx(mixed.truth.offset, abs=5e-3)
    assert found["c"].status == "no_match"


def posed(seed: int, duration: float = 60.0) -> tuple[Stream, Stream, ClockMap]:
    """Poses of a hand that moves and turns at 60 Hz, and an accelerometer on it, mounted anyhow, at 100 Hz."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    grid = np.arange(int((duration + 12) * 200)) / 200 - 6
    way, turn = (gaussian_filter1d(rng.standard_normal((len(grid), 3)), 200 * wide, axis=0) for wide in (0.25, 0.3))
    way, turn = CubicSpline(grid, 0.15 * way / way.std()), CubicSpline(grid, 0.4 * turn / turn.std())
    truth, mount = ClockMap(float(rng.uniform(-3, 3)), 0.0), Rotation.random(random_state=seed)
    times, felt = np.arange(0, duration, 1 / 60), np.arange(0, 0.8 * duration, 1 / 100)
    places = way(times) + 0.001 * rng.standard_normal((len(times), 3))
    pose = np.hstack([places, Rotation.from_rotvec(turn(times)).as_quat()])
    on = np.asarray(truth(felt))
    force = Rotation.from_rotvec(turn(on)).inv().apply(way(on, 2) + np.array([0.0, 9.81, 0.0]))
    force = mount.apply(force) + 0.05 * rng.standard_normal(force.shape)
    return Stream("pose", "pose", pose, times=times), Stream("acceleration", "acceleration", force, times=felt), truth


def test_what_is_felt_is_a_linear_map_of_force_parts():
    pose, _, _ = posed(1, 20.0)
    parts = force_parts(pose)
    assert parts.values.shape[1] == 12
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_quat(np.asarray(pose.values)[:, 3:]).as_matrix()
    for axis in range(3):
        seen = np.asarray(parts.values)[:, 3 * axis + 3 : 3 * axis + 6]
        assert_allclose(seen[:-1], turns[: len(seen) - 1, axis], atol=0.02)  # R^T e is a row of R
    still = np.tile([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0], (300, 1))
    still[:, 0] += 0.5 * 2.0 * (np.arange(300) / 60) ** 2  # 2 m/s^2 along x
    pushed = np.asarray(force_parts(Stream("pose", "pose", still, times=np.arange(300) / 60)).values)
    assert_allclose(pushed, np.tile([2.0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], (len(pushed), 1)), atol=1e-6)


def test_the_sign_of_a_quaternion_means_nothing():
    pose, _, _ = posed(1, 20.0)
    keep = np.flatnonzero(np.random.default_rng(1).random(len(pose.times)) < 0.7)
    values = np.array(pose.values)[keep]
    values[100:400, 3:] *= -1
    values[777, 3:] *= -1
    plain, turned = (
        force_parts(replace(pose, times=pose.times[keep], values=v)).values
        for v in (np.array(pose.values)[keep], values)
    )
    assert_allclose(turned, plain, atol=1e-9)


def test_an_accelerometer_is_placed_by_poses():
    pose, felt, truth = posed(2)
    for one, two, expected in ((pose, felt, truth), (felt, pose, truth.inverse())):
        found = estimate_clock(one, two)
        error, std = missed(found, expected)
        assert error < 3 * std < 0.05
        assert found.evidence == ("motion",)
    apart = posed(3)[1]
    assert estimate_clock(pose, apart).status == "no_match"
    clocks = avfuse.align([Recording("tracker", (pose,)), Recording("imu", (felt,))], reference="tracker").clocks
    assert clocks["imu"].offset == pytest.approx(truth.offset, abs=0.02)


def test_a_heart_by_two_recorders(shared):
    ecg = avfuse.read(shared / "motion" / "faros.csv.gz")["other"]
    times, volts = np.asarray(ecg.times), np.asarray(ecg.values, np.float64).reshape(len(ecg.times))
    truth = ClockMap(3.3, 30e-6)
    moving = np.arange(0, 30, 1 / 90)
    again = Stream("ecg", "other", CubicSpline(times, volts)(truth(moving))[:, None], times=moving)
    error, std = missed(estimate_canonical(ecg, again), truth)
    assert error < max(4 * std, 1e-3)


def test_one_heart_at_two_times_is_refused(shared):
    ecg = avfuse.read(shared / "motion" / "faros.csv.gz")["other"]
    half = len(ecg.times) // 2
    parts = [replace(ecg, times=ecg.times[s], values=ecg.values[s]) for s in (slice(0, half), slice(half, None))]
    assert estimate_canonical(*parts).status in ("no_match", "ambiguous")


def test_what_one_system_says_was_felt_goes_with_poses_of_the_other(shared):
    one, two = (avfuse.read(shared / "motion" / f"falcon_{name}.csv")["pose"] for name in ("vicon", "imu_odom"))
    parts = force_parts(one)
    force = np.asarray(parts.values) @ np.vstack([np.eye(3), np.zeros((6, 3)), 9.81 * np.eye(3)])
    found = estimate_clock(Stream("acceleration", "acceleration", force, times=parts.times), two)
    assert abs(found.offset - 0.292) < max(3 * float(found.std_at(20.0)), 0.01) < 0.1


def test_poses_of_two_systems_as_plain_numbers(shared):
    one, two = (avfuse.read(shared / "motion" / f"falcon_{name}.csv")["pose"] for name in ("vicon", "imu_odom"))
    found = estimate_canonical(one, two)
    assert abs(found.offset - 0.292) < max(4 * float(found.std_at(20.0)), 0.01)
