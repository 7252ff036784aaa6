"""Two sensors that moved together: laws on simulated bodies, and real recordings with known offsets."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from avfuse.errors import StreamError
from avfuse.features.inertia import rotation_rate, velocity
from avfuse.simulation.motions import MotionPair, simulate_motions
from avfuse.stream import Stream
from avfuse.temporal import estimate_motion, motion
from avfuse.temporal.tracks import repetition, samples_of, track_of

TIMES = np.linspace(0, 20, 5)


def pair(seed: int = 1, duration: float = 20.0, **options: object) -> MotionPair:
    return simulate_motions(duration, np.random.default_rng(seed), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def hand() -> MotionPair:
    return pair()


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


def test_offset_and_rotation_are_found_within_their_intervals(hand):
    found = estimate_motion(hand.reference, hand.moving)
    middle = found.clock.diagnostics["middle"]
    assert abs(float(found.clock.map(middle) - hand.truth(middle))) < 3 * found.clock.std_at(middle) < 2e-3
    assert found.rotation is not None
    assert found.rotation.status == "aligned"
    spread = np.degrees(np.sqrt(np.trace(found.rotation.cov)))
    assert angle_between(found.rotation.matrix, hand.matrix) < 3 * spread < 3.0


def test_swapping_the_streams_inverts_map_and_rotation(hand):
    there, back = estimate_motion(hand.reference, hand.moving), estimate_motion(hand.moving, hand.reference)
    assert_allclose((back.clock.map @ there.clock.map)(TIMES), TIMES, atol=1e-9)
    assert_allclose(back.rotation.matrix @ there.rotation.matrix, np.eye(3), atol=1e-9)


def test_delay_moves_the_offset_and_turning_the_rotation(hand):
    from scipy.spatial.transform import Rotation

    before = estimate_motion(hand.reference, hand.moving)
    turn = Rotation.from_rotvec([0.3, -1.0, 2.0]).as_matrix()
    moved = replace(hand.moving, times=hand.moving.times - 1.25, values=2.0 * hand.moving.values @ turn.T + 0.4)
    after = estimate_motion(hand.reference, moved)
    assert after.clock.offset - before.clock.offset == pytest.approx(1.25, abs=2e-4)
    assert_allclose(after.rotation.matrix @ turn, before.rotation.matrix, atol=2e-3)
    assert after.rotation.gain == pytest.approx(2 * before.rotation.gain, rel=1e-3)


def test_more_noise_widens_the_interval():
    quiet, loud = (estimate_motion(p.reference, p.moving).clock.std for p in (pair(3), pair(3, noise_db=-6.0)))
    assert loud > 2 * quiet


def test_rows_that_are_missing_doubled_or_uneven_change_little(hand):
    rng = np.random.default_rng(2)
    times, values = hand.moving.times, np.array(hand.moving.values)
    values[rng.random(len(values)) < 0.05] = np.nan
    keep = np.sort(np.concatenate([np.flatnonzero(rng.random(len(times)) < 0.9), [7, 7, 90]]))
    keep = keep[(times[keep] < 8) | (times[keep] > 9)]  # and a second without any
    broken = estimate_motion(hand.reference, replace(hand.moving, times=times[keep], values=values[keep])).clock
    middle = broken.diagnostics["middle"]
    assert abs(float(broken.map(middle) - hand.truth(middle))) < 3 * broken.std_at(middle) < 4e-3


@pytest.mark.parametrize("motion", ["hand", "walk", "gestures", "turntable"])
def test_bodies_that_move_alike_but_apart_are_refused(motion):
    for seed in range(2):
        apart = pair(seed, motion=motion, related=False)
        assert estimate_motion(apart.reference, apart.moving).clock.status in ("no_match", "ambiguous")


def test_steady_steps_fit_in_several_places():
    t = np.arange(0, 30, 0.01)
    steps = np.stack([np.cos(2 * np.pi * k * t / 0.6 + k) for k in (1, 2, 3)], axis=1)
    noise = 0.05 * np.random.default_rng(0).standard_normal((2, *steps.shape))
    steady = Stream.from_samples(steps + noise[0], rate=100.0, kind="rotation_rate")
    other = Stream.from_samples((steps + noise[1])[150:2800], rate=100.0, kind="rotation_rate")
    found = estimate_motion(steady, other).clock
    assert found.status == "ambiguous"
    assert any(abs(c.offset - 1.5) < 0.05 for c in found.candidates)


@pytest.mark.parametrize("seed", range(4))
def test_few_steps_of_a_walk_are_not_told_apart(seed):
    """Which of its steps is which takes more of them than fit into seconds; free motion tells it in as many."""
    steps = pair(seed, duration=9.0, motion="walk")
    assert estimate_motion(steps.reference, steps.moving).clock.status != "aligned"
    free = pair(seed, duration=9.0)
    assert estimate_motion(free.reference, free.moving).clock.status == "aligned"


def test_a_track_says_how_far_it_repeats_itself():
    t = np.arange(0, 12, 0.01)
    rng = np.random.default_rng(1)
    steps = track_of(t, np.stack([np.sin(2 * np.pi * t / 0.8), np.sin(2 * np.pi * t / 1.6)], axis=1), 40.0, 8.0)
    alike, every = repetition(steps)
    assert alike > 0.99
    assert every == pytest.approx(1.6, abs=0.03)
    assert repetition(track_of(t, rng.standard_normal((len(t), 2)).cumsum(axis=0), 40.0, 8.0))[0] < 0.5
    # A swell that dies away repeats nothing.
    assert repetition(track_of(t, np.exp(-((t[:, None] - 6) ** 2)), 40.0, 8.0))[0] < 0.3


def test_steps_that_fit_steps_do_not_outvote_the_axes():
    """The magnitudes of this walk agree best two steps away; the axes keep one rotation best where it was."""
    walk = pair(6, 12.0, motion="walk", rates=(30.0, 200.0))
    found = estimate_motion(walk.reference, walk.moving).clock
    assert found.status == "ambiguous"
    first = found.candidates[0].map
    assert abs(float(first(5.0)) - float(walk.truth(5.0))) < 0.01


def test_where_magnitudes_agree_the_axes_are_tried(hand, monkeypatch):
    x, y = motion.Samples.of(hand.reference), motion.Samples.of(hand.moving)
    sizes = motion._search(x.magnitude, y.magnitude, "linear", None)
    monkeypatch.setattr(motion, "_LINES", 0)
    assert not motion._search(x, y, "rotation", None).matches
    tried = motion._search(x, y, "rotation", None, sizes.matches[:1])
    assert tried.close(sizes)
    assert abs(float(tried.matches[0].map(5.0)) - float(hand.truth(5.0))) < 0.01


def test_motion_about_one_axis_tells_the_clock_but_not_the_rotation():
    turning = pair(4, motion="turntable")
    found = estimate_motion(turning.reference, turning.moving)
    assert found.clock.status == "aligned"
    assert found.rotation.status == "degenerate"
    assert "second axis" in found.rotation.message


def test_one_turn_about_one_axis_is_never_sure():
    """Somebody else's turn may have taken as long."""
    rng = np.random.default_rng(6)
    streams = []
    for start, rate, axis in ((4.0, 200.0, [1.0, 0.0, 0.0]), (6.5, 100.0, [0.6, -0.8, 0.0])):
        times = np.arange(0, 12, 1 / rate)
        ramp = np.clip(np.minimum(times - start, start + 0.9 - times) / 0.2, 0, 1)
        turn = np.outer(0.7 * ramp * ramp * (3 - 2 * ramp), axis)
        noisy = turn + 0.01 * rng.standard_normal(turn.shape)
        streams.append(Stream("gyro", "rotation_rate", noisy, times=times))
    found = estimate_motion(*streams)
    assert found.clock.offset == pytest.approx(-2.5, abs=0.02)
    assert found.clock.confidence < 0.95
    shaken = pair(4, motion="turntable")
    assert estimate_motion(shaken.reference, shaken.moving).clock.confidence > 0.99


def test_stillness_is_told_from_disagreement(hand):
    still = pair(5, motion="still")
    quiet = replace(still.moving, values=0.001 * np.asarray(still.moving.values))
    found = estimate_motion(hand.reference, quiet).clock
    assert found.status == "degenerate"
    assert "no motion" in found.message
    brief = estimate_motion(hand.reference, pair(5, duration=3.0).moving).clock
    assert brief.status == "degenerate"
    assert "4 s" in brief.message


def test_what_cannot_be_compared_is_told():
    hand = pair()
    other = replace(hand.moving, kind="acceleration")
    with pytest.raises(StreamError, match="rotation_rate and acceleration"):
        estimate_motion(hand.reference, other)
    with pytest.raises(StreamError, match="samples"):
        estimate_motion(hand.reference, replace(hand.moving, times=np.zeros(0), values=np.zeros((0, 3))))
    with pytest.raises(StreamError, match="max_offset"):
        estimate_motion(hand.reference, hand.moving, max_offset=-1.0)


def test_poses_turn_and_move_as_their_derivatives_say():
    from scipy.spatial.transform import Rotation

    t = np.arange(0, 5, 0.02)
    rate = np.array([0.3, -0.2, 0.5])
    turns = Rotation.from_rotvec(t[:, None] * rate)
    pose = Stream("pose", "pose", np.hstack([np.outer(t, [1.0, 2.0, -1.0]), turns.as_quat()]), times=t)
    assert_allclose(rotation_rate(pose).values, np.tile(rate, (len(t) - 1, 1)), atol=1e-9)
    assert_allclose(velocity(pose).values, np.tile([1.0, 2.0, -1.0], (len(t) - 1, 1)), atol=1e-9)


def test_a_track_keeps_what_its_band_holds():
    rng = np.random.default_rng(1)
    times = (np.arange(8000) + rng.uniform(-0.4, 0.4, 8000)) / 400
    wave = np.sin(2 * np.pi * 1.7 * times)
    stream = Stream("s", "other", (wave + np.sin(2 * np.pi * 60 * times))[:, None], times=times)
    track = track_of(*samples_of(stream), 40.0, 10.0)
    inside = slice(60, -60)
    assert_allclose(track.values[0, inside], np.sin(2 * np.pi * 1.7 * track.times[inside]), atol=0.05)


def phone(shared: Path, which: int) -> Stream:
    rows = [row for row in csv.reader((shared / "motion" / f"gyro_{which}-session_0.csv").open())]
    stamps = np.array([int(row[3]) for row in rows])
    times = (stamps - stamps.min()) * 1e-9
    return Stream("gyro", "rotation_rate", np.array([[float(v) for v in row[:3]] for row in rows]), times=times)


def test_phones_held_together(shared):
    found = estimate_motion(phone(shared, 0), phone(shared, 1))
    assert found.clock.offset == pytest.approx(-0.0110, abs=0.002)
    assert found.rotation.status == "aligned"


def test_poses_of_two_systems(shared):
    streams = []
    for name in ("falcon_vicon.csv", "falcon_imu_odom.csv"):
        rows = np.array([[float(v) for v in row] for row in csv.reader((shared / "motion" / name).open())])
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        streams.append(Stream("pose", "pose", rows[:, 1:], times=rows[:, 0] - rows[0, 0]))
    assert estimate_motion(*streams).clock.offset == pytest.approx(0.292, abs=0.015)


def test_accelerometers_that_were_turned_in_between(shared):
    streams = []
    for name, columns, unit in (("faros", slice(1, 4), 9.81e-3), ("physilog", slice(4, 7), 9.81)):
        with gzip.open(shared / "motion" / f"{name}.csv.gz", "rt") as file:
            rows = list(csv.reader(file))[1:]
        times = np.array([(datetime.fromisoformat(row[0]) - datetime(1970, 1, 1)).total_seconds() for row in rows])
        values = np.array([[float(v or "nan") for v in row[columns]] for row in rows]) * unit
        streams.append(Stream(name, "acceleration", values, times=times - times[0]))
    found = estimate_motion(*streams)
    assert found.clock.offset == pytest.approx(-4.706, abs=0.015)
    assert found.rotation.status == "no_match"
