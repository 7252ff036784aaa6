"""Laws of telemetry in video files: samples at their own times, whatever the packets declare."""

from __future__ import annotations

import struct
import subprocess

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.io import inspect, read
from avfuse.io.sensors.gpmf import Broken, Portion, Track, axes_of, in_axes, parse_packet, place

RATE = 397.19
GYRO_SCALE = 3755


def odd(recording) -> str:
    return "\n".join(recording.facts["odd"])


def record(key: str, kind: str, size: int, payload: bytes) -> bytes:
    count = len(payload) // size if size else 0
    head = struct.pack(">4scBH", key.encode(), kind.encode() if kind else b"\0", size, count)
    return head + payload + bytes(-len(payload) % 4)


def nest(key: str, *inner: bytes) -> bytes:
    return record(key, "", 1, b"".join(inner))


def packet(values: np.ndarray, total: int, **tags: bytes) -> bytes:
    """A GPMF packet with one gyroscope, as the format's description says."""
    extra = [record(name, "c", 1, text) for name, text in tags.items()]
    return nest(
        "DEVC",
        record("DVNM", "c", 1, b"Camera"),
        nest(
            "STRM",
            record("TSMP", "L", 4, struct.pack(">I", total)),
            *extra,
            record("SCAL", "s", 2, struct.pack(">h", GYRO_SCALE)),
            record("GYRO", "s", 6, np.round(values * GYRO_SCALE).astype(">i2").tobytes()),
        ),
    )


def portions(late: np.ndarray, first: float = 0.3, burst: int = 7, rate: float = RATE) -> tuple[Track, np.ndarray]:
    """Packets of 1.001 s that get what a buffer of `burst` samples handed over by then, and the true times."""
    times = first + np.arange(int(10 * rate)) / rate
    handed = times[np.minimum(np.arange(times.size) // burst * burst + burst - 1, times.size - 1)]
    track, total = Track("GYRO", "Camera"), 0
    for k in range(11):
        inside = (handed >= k * 1.001) & (handed < (k + 1) * 1.001)
        total += int(inside.sum())
        if inside.any():
            track.portions.append(Portion(k * 1.001 + late[k], np.zeros((int(inside.sum()), 3)), total))
    return track, times[:total]


# Placing


@settings(max_examples=30)
@given(st.floats(0, 0.9), st.integers(1, 16), st.floats(150, 800), st.integers(0, 2**31))
def test_samples_lie_on_one_line_whatever_packets_hold(first, burst, rate, seed):
    late = np.random.default_rng(seed).uniform(-5e-4, 5e-4, 11)
    track, times = portions(late, first, burst, rate)
    placed, told, facts = place(track)
    # A buffer that is handed over when full can be off by its length, to either side; the interval by far less.
    assert np.abs(placed - times).max() < 2 * burst / rate + 2e-3
    assert abs(facts["interval"] * rate - 1) < 2 * burst / rate / 8
    np.testing.assert_allclose(np.diff(placed), facts["interval"], rtol=1e-9)
    assert told == []


def test_a_last_packet_that_declares_more_than_it_holds_bends_nothing():
    track, _ = portions(np.zeros(11))
    whole, _, _ = place(track)
    last = track.portions[-1]
    kept = last.values[:28]
    track.portions[-1] = Portion(last.start, kept, last.total - len(last.values) + 28)
    short, told, _ = place(track)
    np.testing.assert_allclose(short, whole[: short.size], atol=1e-12)
    assert told == []


def test_packets_that_are_lost_leave_a_gap_and_move_nothing():
    track, _ = portions(np.zeros(11))
    whole, _, _ = place(track)
    sizes = np.cumsum([0, *(len(p.values) for p in track.portions)])
    del track.portions[4]
    placed, told, facts = place(track)
    expected = np.concatenate([whole[: sizes[4]], whole[sizes[5] :]])
    np.testing.assert_allclose(placed, expected, atol=3e-3)
    assert facts["gaps"][0][0] == pytest.approx(whole[sizes[4]], abs=5e-3)
    assert "ms missing at" in told[0]


@pytest.mark.parametrize("lost", [60, 400])
def test_samples_that_nobody_counted_begin_a_new_line(lost):
    times = np.arange(24000) / RATE
    keep = np.r_[0:9000, 9000 + lost : 24000]
    track = Track("GYRO", "Camera")
    for k in range(int(times[-1]) + 1):
        count = int(np.count_nonzero((times[keep] >= k) & (times[keep] < k + 1)))
        if count:
            track.portions.append(Portion(float(k), np.zeros((count, 3)), None))
    placed, _, facts = place(track)
    # Where in its packet the loss was nobody can tell.
    far = np.abs(times[keep] - times[9000]) > 2.2
    assert np.abs(placed - times[keep])[far].max() < 0.01
    assert abs(facts["interval"] * RATE - 1) < 2e-3


def test_a_single_packet_does_not_tell_its_rate():
    track = Track("GYRO", "Camera", [Portion(0.0, np.zeros((400, 3)), 400)])
    assert place(track)[2]["interval"] is None


# Parsing


def test_values_are_scaled_and_axes_named():
    values = np.random.default_rng(0).uniform(-3, 3, (50, 3))
    tracks: dict = {}
    parse_packet(packet(values, 50, STNM=b"Gyroscope (z,x,y)", SIUN=b"rad/s"), 0.0, tracks)
    track = tracks["Camera", "GYRO"]
    np.testing.assert_allclose(track.portions[0].values, values, atol=1 / GYRO_SCALE)
    assert track.portions[0].total == 50
    assert axes_of(track) == ("Z", "X", "Y")
    np.testing.assert_array_equal(in_axes(values, ("Z", "X", "Y")), values[:, [1, 2, 0]])


def test_orin_turns_axes_and_signs():
    tracks: dict = {}
    parse_packet(packet(np.ones((4, 3)), 4, ORIN=b"yXZ"), 0.0, tracks)
    assert axes_of(tracks["Camera", "GYRO"]) == ("y", "X", "Z")
    turned = in_axes(np.array([[1.0, 2.0, 3.0]]), ("y", "X", "Z"))
    assert turned.tolist() == [[2.0, -1.0, 3.0]]
    parse_packet(packet(np.ones((4, 3)), 4), 0.0, other := {})
    assert axes_of(other["Camera", "GYRO"]) is None


@settings(max_examples=100)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=8))
def test_damage_is_refused_or_read_never_a_fault(at, damage):
    data = bytearray(packet(np.ones((50, 3)), 50, STNM=b"Gyroscope (z,x,y)"))
    data[at : at + len(damage)] = damage
    tracks: dict = {}
    try:
        parse_packet(bytes(data), 0.0, tracks)
    except Broken:
        assert tracks == {}


# Files


def test_karma(shared):
    recording = read(shared / "motion" / "karma.mp4")
    assert [s.kind for s in recording.streams[:2]] == ["picture", "sound"]
    gyro, acceleration = recording["rotation_rate"], recording["acceleration"]
    assert gyro.values.shape == (4795, 3)
    assert (gyro.unit, acceleration.unit) == ("rad/s", "m/s^2")
    assert gyro.facts["axes"] == "camera, from ZXY"
    # Evenly spaced to the end, within the clip, and not stretched over the length that the last packet declares.
    steps = np.diff(gyro.times)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert gyro.facts["rate"] == pytest.approx(397.2, abs=0.3)
    assert acceleration.facts["rate"] == pytest.approx(gyro.facts["rate"] / 2, rel=1e-3)
    assert gyro.times[0] >= 0
    assert gyro.times[-1] < 12.0787 + 0.01
    # It rests on the ground, upright, at its start.
    assert np.median(acceleration.values[:400], axis=0)[2] == pytest.approx(9.8, abs=1.0)


def karma_in_front(shared, ffmpeg, tmp_path) -> bytes:
    """karma.mp4 with its index at the start, so that it can be cut."""
    path = tmp_path / "karma.mp4"
    source = shared / "motion" / "karma.mp4"
    options = ["-map", "0:v", "-map", "0:a", "-map", "0:3", "-c", "copy", "-copy_unknown", "-movflags", "faststart"]
    subprocess.run([ffmpeg, "-v", "error", "-y", "-i", str(source), *options, str(path)], check=True)
    return path.read_bytes()


def test_telemetry_cut_short_gives_what_is_whole(shared, ffmpeg, tmp_path):
    data = karma_in_front(shared, ffmpeg, tmp_path)
    whole = read(tmp_path / "karma.mp4")["rotation_rate"]
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.6)])
    recording = read(tmp_path / "cut.mp4")
    gyro = recording["rotation_rate"]
    assert "telemetry cut short: the container says 12.1 s" in odd(recording)
    assert 2000 < len(gyro.times) < 4000
    np.testing.assert_array_equal(gyro.values, whole.values[: len(gyro.times)])
    np.testing.assert_allclose(gyro.times, whole.times[: len(gyro.times)], atol=0.01)
    assert any("telemetry cut short" in sentence for sentence in inspect(tmp_path / "cut.mp4").odd)


def test_a_damaged_packet_is_left_out_and_nothing_moves(shared, tmp_path):
    source = shared / "motion" / "karma.mp4"
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        sizes = [len(bytes(p)) for p in container.demux(container.streams[3]) if p.size]
    assert len(sizes) == 13
    at = _places(bytes(data), sizes)
    data[at[5] + 4 : at[5] + 8] = b"\0\x01\xff\xff"
    path = tmp_path / "hurt.mp4"
    path.write_bytes(data)
    whole, hurt = read(source)["rotation_rate"], read(path)
    gyro = hurt["rotation_rate"]
    assert "1 of its packets could not be parsed" in odd(hurt)
    assert len(whole.times) - len(gyro.times) == 399
    np.testing.assert_array_equal(gyro.values[-1000:], whole.values[-1000:])
    np.testing.assert_allclose(gyro.times[-1000:], whole.times[-1000:], atol=3e-3)
    assert gyro.facts["gaps"][0][1] == pytest.approx(399 / 397.2, abs=0.01)


def test_a_damaged_first_packet_shifts_nothing(shared, tmp_path):
    source = shared / "motion" / "karma.mp4"
    data = bytearray(source.read_bytes())
    at = data.index(b"DEVC")
    data[at : at + 4] = b"XXXX"
    (tmp_path / "hurt.mp4").write_bytes(data)
    whole, hurt = read(source)["rotation_rate"], read(tmp_path / "hurt.mp4")
    gyro = hurt["rotation_rate"]
    assert "1 of its packets could not be parsed" in odd(hurt)
    lost = len(whole.times) - len(gyro.times)
    assert 350 < lost < 450
    np.testing.assert_array_equal(gyro.values, whole.values[lost:])
    np.testing.assert_allclose(gyro.times, whole.times[lost:], atol=0.01)


def test_counts_without_their_scale_are_no_rotation(shared, tmp_path):
    data = (shared / "motion" / "karma.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data.replace(b"SCAL", b"SCAX"))
    assert {s.kind for s in read(tmp_path / "a.mp4").streams} == {"picture", "sound"}
    assert "13 of its packets could not be parsed" in odd(read(tmp_path / "a.mp4"))


def test_telemetry_that_holds_nothing_is_told(shared, tmp_path):
    data = bytearray((shared / "motion" / "karma.mp4").read_bytes())
    at = data.find(b"DEVC")
    while at >= 0:
        data[at + 8 : at + 2000] = bytes(1992)
        at = data.find(b"DEVC", at + 8)
    (tmp_path / "a.mp4").write_bytes(data)
    assert "its track is there, and nothing of it can be read" in odd(read(tmp_path / "a.mp4"))


def _places(data: bytes, sizes: list[int]) -> list[int]:
    """Where packets begin: a first device, whose length fits into the packet."""
    found, at = [], 0
    for size in sizes:
        while True:
            at = data.index(b"DEVC", at)
            length = struct.unpack(">H", data[at + 6 : at + 8])[0]
            if data[at + 8 : at + 12] == b"DVID" and length + 8 <= size and b"Camera" in data[at : at + 60]:
                break
            at += 4
        found.append(at)
        at += size
    return found


def test_media_without_telemetry_are_as_they_were(shared):
    for name in ("picture/face_22fps.mp4", "picture/nasa_13013.mp4", "picture/fire2.mp4"):
        recording = read(shared / name)
        assert {s.kind for s in recording.streams} <= {"sound", "picture", "text"}
        assert "telemetry" not in odd(recording)


def test_another_makers_telemetry_comes_through_telemetry_parser(shared, tmp_path, monkeypatch):
    # No such file is at hand: a GoPro's own, with the parser of GPMF switched off.
    pytest.importorskip("telemetry_parser")
    from avfuse.io.sensors import telemetry

    ours = read(shared / "motion" / "karma.mp4")["rotation_rate"]
    monkeypatch.setattr(telemetry, "_gpmf_streams", lambda path, zero, odd: [])
    theirs = read(shared / "motion" / "karma.mp4")["rotation_rate"]
    assert theirs.facts["unit_from"] == "telemetry-parser"
    assert theirs.values.shape == ours.values.shape
    # The same turns, about axes that it orders in its own way.
    for mine in ours.values.T:
        assert max(abs(np.corrcoef(mine, other)[0, 1]) for other in theirs.values.T) > 0.999
    monkeypatch.setitem(__import__("sys").modules, "telemetry_parser", None)
    assert "pip install 'avfuse[sensors]'" in odd(read(shared / "motion" / "karma.mp4"))
