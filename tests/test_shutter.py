"""Cameras whose rows are read one after the other, against gyroscopes on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from avfuse.errors import StreamError
from avfuse.features.flow import ImageMotion, image_motion
from avfuse.simulation.shutters import TurningCamera, simulate_turning_camera
from avfuse.temporal import MotionEstimate, estimate_clock, estimate_motion
from avfuse.temporal.motion import compare_motions


def camera(readout: float, seed: int = 1, **options: float) -> TurningCamera:
    settings = {"size": (240, 136), "rate": 30.0, **options}
    return simulate_turning_camera(8.0, np.random.default_rng(seed), readout=readout, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rolling() -> tuple[TurningCamera, ImageMotion]:
    case = camera(0.02)
    return case, image_motion(case.picture)


def off(found: MotionEstimate, case: TurningCamera) -> tuple[float, float]:
    """Error and standard deviation of the clock in the middle, the gyroscope moving."""
    middle = float(found.clock.diagnostics["middle"])
    return float(found.clock.map(middle) - case.truth(middle)), float(found.clock.std_at(middle))


def test_readout_and_clock_of_the_middle_row_are_found(rolling):
    case, seen = rolling
    found = compare_motions(seen, case.gyro, None)
    assert abs(found.readout - case.readout) < 3 * found.readout_std < 2e-3
    error, std = off(found, case)
    assert abs(error) < 3 * std < 1.5e-3


def test_a_global_shutter_reads_all_rows_at_once():
    case = camera(0.0, 2)
    found = estimate_motion(case.picture, case.gyro)
    assert abs(found.readout) < 3 * found.readout_std < 2e-3


def test_upside_down_the_last_row_is_read_first(rolling):
    case, _ = rolling
    mirrored = replace(case.picture, values=np.ascontiguousarray(np.asarray(case.picture.values)[:, ::-1]))
    found = estimate_motion(mirrored, case.gyro)
    assert abs(found.readout + case.readout) < 3 * found.readout_std < 2e-3


def test_swapping_picture_and_gyroscope_inverts_the_clock_and_keeps_the_readout(rolling):
    case, seen = rolling
    there, back = compare_motions(seen, case.gyro, None), compare_motions(case.gyro, seen, None)
    times = np.linspace(0, 7, 5)
    assert_allclose(back.clock.map(there.clock.map(times)), times, atol=1e-7)
    assert back.readout == pytest.approx(there.readout, abs=1e-7)


def test_where_in_the_picture_things_are_does_not_move_the_clock(rolling):
    """Of an empty sky nothing is seen; one rotation for all rows is then late by a quarter of the read-out."""
    case, _ = rolling
    frames = np.array(case.picture.values)
    frames[:, : frames.shape[1] // 2] = 200
    low = image_motion(replace(case.picture, values=frames))
    found = compare_motions(low, case.gyro, None)
    error, std = off(found, case)
    assert abs(error) < 3 * std < 3e-3
    blind = estimate_motion(low.rate, case.gyro)
    assert off(blind, case)[0] < -0.003
    # Where rows do not tell, the interval says that they might matter.
    unread = replace(low, normals=low.normals * (np.arange(low.normals.shape[1]) == 4)[:, None, None])
    loose = compare_motions(unread, case.gyro, None)
    assert loose.readout is None
    error, std = off(loose, case)
    assert abs(error) < 2 * std
    assert std > 3 * off(blind, case)[1]


def test_motion_that_does_not_tell_the_readout_leaves_it_open():
    case = camera(0.016, 3, strength=0.02, noise_db=0.0)
    found = estimate_motion(case.picture, case.gyro)
    assert found.readout is None
    assert found.readout_std is None


def test_estimate_clock_keeps_the_readout(rolling):
    case, seen = rolling
    told = estimate_clock(case.picture, case.gyro).diagnostics
    found = compare_motions(seen, case.gyro, None)
    assert told["readout"] == found.readout
    assert told["readout_std"] == found.readout_std


def test_rows_that_take_longer_than_a_frame_are_no_camera():
    with pytest.raises(StreamError, match=r"0\.05 s at 30\.0 fps"):
        camera(0.05)
