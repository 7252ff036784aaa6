"""Pictures against sensors by what turned from frame to frame, also faster than frames can follow."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

import avfuse
from avfuse import ClockMap, Stream
from avfuse.features.flow import BANDS, ImageMotion, image_motion
from avfuse.temporal.frames import _nats, _new, match_frames
from avfuse.temporal.motion import MotionEstimate, compare_motions
from avfuse.temporal.tracks import samples_of

GYRO_RATE, FRAME_RATE = 400.0, 15.0


def shaking(seed: int, duration: float = 20.0, low: float = 9.0, high: float = 25.0) -> CubicSpline:
    """Rotation rates `(n, 3)` of a camera that shakes in a band above half the frame rate; from a second before 0."""
    rng = np.random.default_rng(seed)
    n = int((duration + 2) * 1000)
    spectrum = np.fft.rfft(rng.standard_normal((3, n)))
    frequencies = np.fft.rfftfreq(n, 1e-3)
    spectrum[:, (frequencies < low) | (frequencies > high)] = 0
    return CubicSpline(np.arange(n) / 1000 - 1, np.fft.irfft(spectrum, n).T)


def gyroscope(body: CubicSpline, duration: float = 20.0, seed: int = 2) -> Stream:
    rng = np.random.default_rng(seed)
    times = np.arange(int(duration * GYRO_RATE)) / GYRO_RATE
    values = body(times) + 0.02 * rng.standard_normal((len(times), 3)) + 0.01
    return Stream("gyro", "rotation_rate", values, times=times, unit="rad/s", channels=("x", "y", "z"))


def seen_by(body: CubicSpline, clock: ClockMap, matrix: np.ndarray, duration: float = 16.0) -> ImageMotion:
    """What a camera saw, clock: its frames on the body's time; no bands of rows."""
    rng = np.random.default_rng(3)
    frames = np.arange(int(duration * FRAME_RATE)) / FRAME_RATE
    at = np.asarray(clock(frames))
    turned = np.diff(body.antiderivative()(at), axis=0) @ matrix.T
    turned = turned + 3e-4 * rng.standard_normal(turned.shape)
    n = len(turned)
    rate = Stream("r", "rotation_rate", turned * FRAME_RATE, times=(frames[1:] + frames[:-1]) / 2, unit="rad/s")
    return ImageMotion(
        rate, np.zeros((n, BANDS, 3, 3)), np.zeros((n, BANDS, 3)), np.zeros((n, BANDS, 2)), np.full(n, 1 / FRAME_RATE)
    )


CLOCK = ClockMap(1.3456, 40e-6)
AXES = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()


@pytest.fixture(scope="module")
def shaken() -> tuple[Stream, ImageMotion, MotionEstimate]:
    body = shaking(1)
    gyro, seen = gyroscope(body), seen_by(body, CLOCK, AXES)
    found = compare_motions(gyro, seen, None)
    assert found is not None
    return gyro, seen, found


def test_what_shakes_faster_than_half_the_frame_rate_places_the_picture(shaken):
    _, _, found = shaken
    middle = float(found.clock.diagnostics["middle"])
    std = float(found.clock.std_at(middle))
    assert abs(float(found.clock.map(middle) - CLOCK(middle))) < 3 * std < 3e-3
    assert "nats" in found.clock.diagnostics  # not by the slow motion, of which there is none


def test_and_tells_the_axes(shaken):
    _, _, found = shaken
    off = Rotation.from_matrix(found.rotation.matrix @ AXES).as_rotvec()  # the gyroscope is the reference
    assert np.linalg.norm(off) < 3 * np.sqrt(np.trace(found.rotation.cov)) < np.radians(15)


def test_swapping_picture_and_sensor_inverts_clock_and_rotation(shaken):
    gyro, seen, found = shaken
    back = compare_motions(seen, gyro, None)
    times = np.linspace(0, 15, 6)
    assert_allclose(back.clock.map(found.clock.map(times)), times, atol=1e-9)
    assert_allclose(back.rotation.matrix @ found.rotation.matrix, np.eye(3), atol=1e-9)
    assert back.clock.span[1] == pytest.approx(gyro.times[-1])
    assert found.clock.span[1] == pytest.approx(seen.rate.times[-1])


@pytest.mark.parametrize("shift", [-2.713, 0.0091, 1.5])
def test_moving_the_sensor_moves_the_answer(shaken, shift):
    gyro, seen, found = shaken
    moved = compare_motions(replace(gyro, times=np.asarray(gyro.times) + shift), seen, None)
    assert float(moved.clock.map(5.0) - found.clock.map(5.0)) == pytest.approx(shift, abs=2e-4)


def test_max_offset_leaves_out_what_lies_further(shaken):
    gyro, seen, _ = shaken
    assert compare_motions(gyro, seen, 1.0).clock.status != "aligned"
    assert compare_motions(gyro, seen, 2.0).clock.status == "aligned"


@pytest.mark.parametrize("seed", range(2, 12))
def test_another_body_that_shakes_alike_is_refused(shaken, seed):
    gyro, _, _ = shaken
    assert compare_motions(gyro, seen_by(shaking(seed), CLOCK, AXES), None).clock.status != "aligned"


def test_one_steady_vibration_is_refused():
    """Every period of it fits every other."""
    n = 22000
    phase = 2 * np.pi * 11.3 * np.arange(n) / 1000
    body = CubicSpline(np.arange(n) / 1000 - 1, np.stack([np.sin(phase), np.cos(phase), 0.3 * np.sin(phase)], axis=1))
    assert compare_motions(gyroscope(body), seen_by(body, CLOCK, AXES), None).clock.status != "aligned"


def test_gaps_of_either_are_left_out(shaken):
    gyro, seen, _ = shaken
    times = np.asarray(gyro.times)
    kept = (times < 8) | (times > 9.5)
    holed = replace(gyro, times=times[kept], values=np.asarray(gyro.values)[kept])
    rates = np.array(seen.rate.values)
    rates[40:55] = np.nan
    found = compare_motions(holed, replace(seen, rate=replace(seen.rate, values=rates)), None)
    assert abs(float(found.clock.map(8.0) - CLOCK(8.0))) < 5 * float(found.clock.std_at(8.0)) < 5e-3


def test_nats_are_those_of_the_covariances_at_each_lag(shaken):
    """Against a plain loop that integrates the sensor between frames, filters over frames and takes determinants."""
    gyro, seen, _ = shaken
    times, values = samples_of(gyro)
    new = _new(seen)
    lags, nats = _nats(new, times, values)
    angle = CubicSpline(times, values).antiderivative()
    best = int(nats.argmax())
    for k in (best, best - 37, best + 200):
        on = new.times + lags[k]
        heard = angle(on + new.apart / 2) - angle(on - new.apart / 2)
        heard = np.stack([np.convolve(c, new.taps)[: len(c)] for c in heard.T], axis=1)
        use = new.weights > 0
        joint = np.cov(np.concatenate([heard, new.values], axis=1)[use].T, aweights=new.weights[use], bias=True)
        log = [np.linalg.slogdet(c)[1] for c in (joint[:3, :3], joint[3:, 3:], joint)]
        plain = 0.5 * new.weights.sum() * (log[0] + log[1] - log[2]) - 4.5
        assert nats[k] == pytest.approx(plain, rel=0.05, abs=1.0)


def test_too_few_frames_say_nothing():
    body = shaking(1)
    assert match_frames(seen_by(body, CLOCK, AXES, 1.8), *samples_of(gyroscope(body))) is None


@pytest.mark.parametrize("filters", ["select=not(mod(n\\,2))", "select=mod(n\\,2)"])
def test_a_real_camera_at_half_its_frame_rate(shared, ffmpeg, tmp_path, filters):
    """Its one slow turn takes seven such frames; what places it is the vibration, which is faster."""
    source, half = shared / "motion" / "karma.mp4", tmp_path / "half.mp4"
    command = [ffmpeg, "-v", "error", "-copyts", "-i", str(source), "-an", "-dn", "-vf", filters]
    subprocess.run([*command, "-fps_mode", "passthrough", "-c:v", "libx264", str(half)], check=True)
    gyro = avfuse.read(source)["rotation_rate"]
    picture = avfuse.read(half)["picture"]
    found = compare_motions(gyro, image_motion(picture), None)
    whole = compare_motions(gyro, image_motion(avfuse.read(source)["picture"]), None)
    first = 0.0 if "not" in filters else 1001 / 30000  # time 0 of the file is its first frame
    apart = float(found.clock.map(11.7 - first) - whole.clock.map(11.7))
    assert abs(apart) < 5e-3
    backwards = replace(gyro, values=np.asarray(gyro.values)[::-1].copy())
    assert compare_motions(backwards, image_motion(picture), None).clock.status != "aligned"
