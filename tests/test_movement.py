"""Recordings that heard nothing in common: placed by how they moved, through `align` and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse.cli import main
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.features.flow import image_motion
from avfuse.simulation import film_with_sound, write_media
from avfuse.simulation.motions import simulate_motions
from avfuse.stream import Recording, Stream
from avfuse.temporal import estimate_clock, estimate_offset
from avfuse.temporal.movement import compare_movements


def write_csv(path: Path, stream: Stream) -> Path:
    rows = np.column_stack([stream.times, stream.values])
    np.savetxt(path, rows, delimiter=",", header="time [s],gx [rad/s],gy [rad/s],gz [rad/s]", comments="", fmt="%.9g")
    return path


def test_sensors_and_a_stranger_through_the_command_line(tmp_path, capsys):
    pair = simulate_motions(20.0, np.random.default_rng(1))
    other = simulate_motions(15.0, np.random.default_rng(2))
    files = [
        write_csv(tmp_path / f"{name}.csv", stream)
        for name, stream in (("a", pair.reference), ("b", pair.moving), ("stranger", other.moving))
    ]
    with pytest.raises(SystemExit) as ended:
        main(["align", *map(str, files), "--json"])
    assert ended.value.code == 3  # the stranger has no place
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == "a"
    assert found["clocks"]["b"]["evidence"] == ["motion"]
    segment = found["clocks"]["b"]["segments"][0]
    assert segment["offset"] == pytest.approx(pair.truth.offset, abs=3e-3)
    assert segment["drift"] == pytest.approx(pair.truth.drift, abs=3 * segment["drift_std"])
    assert found["clocks"]["stranger"]["status"] == "no_match"
    assert "rotation rate" in found["clocks"]["stranger"]["message"]


def test_a_wrong_comparison_among_three_sensors_is_not_believed(monkeypatch):
    pair = simulate_motions(20.0, np.random.default_rng(1))
    later = np.asarray(pair.reference.times) > 2.0
    third = Stream(
        "rotation_rate", "rotation_rate", np.asarray(pair.reference.values)[later],
        times=np.asarray(pair.reference.times)[later] - 2.0,
    )  # fmt: skip
    recordings = [Recording(n, (s,)) for n, s in (("a", pair.reference), ("b", pair.moving), ("c", third))]
    clocks = avfuse.align(recordings, reference="a").clocks
    assert clocks["c"].offset == pytest.approx(2.0, abs=1e-3)
    assert clocks["b"].offset == pytest.approx(pair.truth.offset, abs=3e-3)

    def one_wrong(reference, moving, **options):
        found = compare_movements(reference, moving, **options)
        wrong = {reference.sensors[0], moving.sensors[0]} == {pair.moving, third}
        return replace(found, clock=ClockMap(found.clock.offset + 0.5, found.clock.drift)) if wrong else found

    monkeypatch.setattr("avfuse.aligning.compare_movements", one_wrong)
    clocks = avfuse.align(recordings, reference="a").clocks
    assert {clocks["b"].status, clocks["c"].status} == {"ambiguous"}


def turning_camera(seconds: float, rate: float, rng: np.random.Generator) -> tuple[Stream, Stream]:
    """What a camera saw that was turned about two axes in front of a wall, and the gyroscope on it, 0.4 s later."""
    import cv2

    focal = 0.9 * 320
    wall = cv2.resize(rng.integers(0, 256, (150, 150), np.uint8), (1500, 1500), interpolation=cv2.INTER_CUBIC)
    t = np.arange(0, seconds + 1, 1e-3)
    turn = np.zeros((len(t), 2))
    for hertz in (0.4, 0.7, 1.3, 2.1):
        turn += rng.uniform(0.02, 0.06, 2) / hertz * np.sin(2 * np.pi * (hertz * t[:, None] + rng.uniform(0, 1, 2)))
    times = np.arange(0, seconds, 1 / rate)
    frames = []
    for at in times:
        x, y = (focal * np.tan(np.interp(at, t, turn[:, k])) for k in range(2))
        shift = np.array([[1, 0, x - 590], [0, 1, y - 660]])
        frames.append(cv2.warpAffine(wall, shift, (320, 180), flags=cv2.INTER_AREA))
    picture = Stream("picture", "picture", np.stack(frames), times=times)
    # A picture that goes right and down: the camera turned left about y, up about x.
    rates = np.gradient(turn, 1e-3, axis=0)
    moving = np.arange(0, seconds, 1 / 200)
    gyro = np.stack([np.interp(moving + 0.4, t, r) for r in (rates[:, 1], -rates[:, 0], np.zeros(len(t)))], axis=1)
    gyro += 0.01 * rng.standard_normal(gyro.shape)
    return picture, Stream("rotation_rate", "rotation_rate", gyro, times=moving)


@pytest.fixture(scope="module")
def turned() -> tuple[Stream, Stream]:
    return turning_camera(12.0, 30.0, np.random.default_rng(3))


def test_image_motion_is_the_rotation_of_the_camera(turned):
    picture, gyro = turned
    seen = image_motion(picture).rate
    for axis in range(2):
        expected = np.interp(seen.times, gyro.times + 0.4, gyro.values[:, axis])
        inside = (seen.times > 0.5) & (seen.times < 11.5)
        assert np.corrcoef(seen.values[inside, axis], expected[inside])[0, 1] > 0.98
        assert np.polyfit(expected[inside], seen.values[inside, axis], 1)[0] == pytest.approx(1.0, abs=0.1)


def test_a_silent_camera_is_placed_by_a_gyroscope(turned):
    picture, gyro = turned
    camera, sensor = Recording("camera", (picture,)), Recording("imu", (gyro,))
    alignment = avfuse.align([camera, sensor], reference="camera")
    found = alignment.clocks["imu"]
    assert found.evidence == ("picture",)
    assert abs(float(found.map(5.0)) - 5.4) < max(3 * float(found.std_at(5.0)), 2e-3)
    assert found.std < 5e-3


def test_estimate_clock_takes_sensors_and_pictures(turned):
    picture, gyro = turned
    found = estimate_clock(picture, gyro)
    assert found.evidence == ("picture",)
    assert abs(float(found.map(5.0)) - 5.4) < max(3 * float(found.std_at(5.0)), 2e-3)
    pair = simulate_motions(20.0, np.random.default_rng(1), drift=0.0)
    constant = estimate_offset(pair.reference, pair.moving)
    assert constant.offset == pytest.approx(pair.truth.offset, abs=1e-3)
    assert not constant.drift_known
    with pytest.raises(StreamError, match="sound and rotation_rate"):
        estimate_clock(Stream.from_samples(np.ones(16000), rate=16000.0), gyro)


def test_a_camera_that_stands_still_is_refused(turned):
    picture, gyro = turned
    still = Stream("picture", "picture", np.repeat(np.asarray(picture.values)[:1], 60, axis=0), rate=10.0)
    found = avfuse.align([Recording("camera", (still,)), Recording("imu", (gyro,))]).clocks
    assert [c.status for c in found.values()].count("aligned") == 0


def test_one_event_of_cameras_a_recorder_and_a_sensor(turned, tmp_path, capsys):
    """Sound joins what heard it, blows a camera without a microphone, turning the sensor on the camera in the hand."""
    film = film_with_sound("blow", 5, delay=0.15, duration=40.0, rate=25.0, size=(160, 96), distractors=False)
    sound, picture = film.recording.of_kind("sound")[0], film.recording.of_kind("picture")[0]
    samples, rate = np.asarray(sound.values), float(sound.rate or 0)

    def heard(begin: float, seconds: float, seed: int) -> Stream:
        part = samples[:, int(begin * rate) :][:, : int(seconds * rate)]
        noise = np.random.default_rng(seed).standard_normal(part.shape)
        return Stream.from_samples(part + 0.05 * float(part.std()) * noise.astype(np.float32), rate=rate)

    in_hand, gyro = turned
    off = Stream.from_samples(np.zeros((1, int(40 * rate)), np.float32), rate=rate)
    rng = np.random.default_rng(8)
    elsewhere = simulate_motions(15.0, rng).moving
    recordings = {
        "recorder.wav": Recording("recorder", (heard(0.0, 40.0, 1),)),
        "tripod.mp4": Recording("tripod", (picture, heard(0.0, 40.0, 2))),
        "hand.mp4": Recording("hand", (in_hand, heard(9.3, 12.0, 3))),
        "deaf.mp4": Recording("deaf", (picture, off)),
    }
    files = [write_media(tmp_path / name, recording) for name, recording in recordings.items()]
    files.append(write_csv(tmp_path / "imu.csv", gyro))
    files.append(write_csv(tmp_path / "elsewhere.csv", elsewhere))
    code, found = run_align([*files, "--reference", "recorder"], capsys)
    clocks = found["clocks"]
    assert code == 3
    assert clocks["tripod"]["evidence"] == clocks["hand"]["evidence"] == ["sound"]
    assert clocks["hand"]["segments"][0]["offset"] == pytest.approx(9.3, abs=2e-3)
    # The sound of what the camera saw came `delay` later.
    assert "picture" in clocks["deaf"]["evidence"]
    assert clocks["deaf"]["segments"][0]["offset"] == pytest.approx(film.delay, abs=0.04)
    assert "picture" in clocks["imu"]["evidence"]
    assert clocks["imu"]["segments"][0]["offset"] == pytest.approx(9.3 + 0.4, abs=0.01)
    assert clocks["elsewhere"]["status"] == "no_match"


def run(arguments, capsys) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def run_align(arguments, capsys) -> tuple[int, dict]:
    code, out, _ = run(["align", *arguments, "--json"], capsys)
    return code, json.loads(out)


@pytest.mark.parametrize("hiss", [0.0, 1e-4])
def test_a_microphone_that_was_off_leaves_a_camera_silent(turned, hiss):
    picture, gyro = turned
    noise = hiss * np.random.default_rng(1).standard_normal((1, 16000 * 12)).astype(np.float32)
    camera = Recording("camera", (picture, Stream.from_samples(noise, rate=16000.0)))
    found = avfuse.align([camera, Recording("imu", (gyro,))], reference="camera").clocks["imu"]
    assert found.evidence == ("picture",)


def test_tables_that_leave_their_times_open_are_aligned_as_told(tmp_path, capsys):
    pair = simulate_motions(20.0, np.random.default_rng(1))
    timed = write_csv(tmp_path / "a.csv", pair.reference)
    bare = tmp_path / "b.csv"
    np.savetxt(bare, pair.moving.values, delimiter=",", header="gx [rad/s],gy [rad/s],gz [rad/s]", comments="")
    rate = 1 / float(np.diff(pair.moving.times).mean())
    assert run(["align", timed, bare], capsys)[0] == 2
    saved = tmp_path / "alignment.json"
    assert run(["align", timed, bare, "--rate", rate, "-o", saved], capsys)[0] == 0
    found = avfuse.load_alignment(saved)
    began = float(pair.moving.times[0])
    assert abs(float(found.clocks["b"].map(5.0)) - float(pair.truth(5.0 + began))) < 3e-3
    # Read again as it was told.
    assert found.recording("b").duration == pytest.approx(pair.moving.duration, abs=0.01)
    for option in ("--rate", "100"), ("--time-column", "nothing"):
        code, _, told = run(["align", timed, timed, *option], capsys)
        assert code == 2
        assert len(told.splitlines()) == 1


def test_karma_own_gyroscope(shared):
    recording = avfuse.read(shared / "motion" / "karma.mp4")
    camera = Recording("camera", recording.of_kind("picture"))
    sensor = Recording("gyro", recording.of_kind("rotation_rate"))
    found = avfuse.align([camera, sensor], reference="camera").clocks["gyro"]
    # All that happens is a turn in the last half second.
    assert abs(float(found.map(11.7)) - 11.7) < 0.02


def test_the_report_says_what_placed_a_recording(turned, tmp_path):
    camera, sensor = Recording("camera", (turned[0],)), Recording("imu", (turned[1],))
    page = avfuse.align([camera, sensor], reference="camera").report(tmp_path / "report.html")
    assert "What placed it: what the pictures show." in page.read_text(encoding="utf-8")
