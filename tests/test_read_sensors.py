"""Laws of reading tables of sensors: which column is time, in which unit, what it measures, and what is odd."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import avfuse
from avfuse.cli import USAGE, run
from avfuse.errors import ReadError
from avfuse.io import inspect, read
from avfuse.io.sensors.headers import parse_header
from avfuse.io.sensors.times import in_order, to_nanoseconds

pytest.importorskip("pyarrow", reason="tables are read by pyarrow: pip install '.[sensors]'")

G = 9.80665
EPOCH = 1_700_000_000_123_456_789  # ns


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def rows(*columns: object, delimiter: str = ",") -> str:
    return "".join(delimiter.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def noise(count: int, columns: int = 3, seed: int = 0) -> np.ndarray:
    return np.round(np.random.default_rng(seed).standard_normal((count, columns)), 4)


def odd(recording: avfuse.Recording) -> str:
    return "\n".join(recording.facts["odd"])


# Real files


def test_phones_held_together_keep_their_stamps_to_the_nanosecond(shared):
    phones = [read(shared / "motion" / f"gyro_{k}-session_0.csv") for k in (0, 1)]
    assert [p.start for p in phones] == [690644433293611, 1100369583277766]
    assert [p.start_clock for p in phones] == ["device", "device"]
    for phone in phones:
        (stream,) = phone.streams
        assert (stream.kind, stream.unit, stream.channels) == ("rotation_rate", "rad/s", ("x", "y", "z"))
        assert stream.facts["rate"] == pytest.approx(500, rel=0.01)
        assert stream.times[0] == 0.0
    assert phones[0].streams[0].values[0] == pytest.approx([1.2107227, -3.8124664, -0.7228747])
    # What the measured offset of the stamps leaves, once each start is subtracted: -0.0110 s.
    assert 409725.161 - (phones[1].start - phones[0].start) / 1e9 == pytest.approx(0.0110, abs=1e-3)


@pytest.mark.parametrize(("name", "start"), [("vicon", 1491561398_620000000), ("imu_odom", 1491561398_460000000)])
def test_poses_come_in_the_order_of_time_and_that_is_said(shared, name, start):
    recording = read(shared / "motion" / f"falcon_{name}.csv")
    (stream,) = recording.streams
    assert (recording.start, recording.start_clock, stream.kind) == (start, "unix", "pose")
    table = np.loadtxt(shared / "motion" / f"falcon_{name}.csv", delimiter=",")
    order = np.argsort(table[:, 0], kind="stable")
    np.testing.assert_array_equal(stream.values, table[order, 1:])
    np.testing.assert_allclose(stream.times, np.sort(table[:, 0]) - start / 1e9, atol=1e-6)
    falls = int(np.count_nonzero(np.diff(table[:, 0]) < 0))
    assert (f"{falls} of {len(table)} rows are earlier than the row before them" in odd(recording)) == (falls > 0)


def test_two_sensors_in_one_table_are_two_streams_with_times_of_their_own(shared):
    recording = read(shared / "motion" / "faros.csv.gz")
    acceleration, ecg = recording.streams
    assert (acceleration.kind, acceleration.unit, acceleration.facts["unit"]) == ("acceleration", "m/s^2", "milli-g")
    assert acceleration.facts["rate"] == pytest.approx(100)
    assert (ecg.kind, ecg.channels, ecg.facts["rate"]) == ("other", ("ECG",), pytest.approx(125))
    assert np.isfinite(acceleration.values).all()
    assert np.isfinite(ecg.values).all()
    assert acceleration.values[0] == pytest.approx(np.array([-88.0, 771.0, -531.5]) * G / 1000)
    assert "rows of other sensors" in odd(recording)
    assert (recording.start, recording.start_clock) == (1_000_000_000, "device")


def test_gravity_and_range_tell_the_units_that_no_header_states(shared):
    recording = read(shared / "motion" / "physilog.csv.gz")
    assert {s.name: s.facts["unit"] for s in recording.streams} == {"rotation_rate": "deg/s", "acceleration": "g"}
    assert recording["rotation_rate"].values[0, 0] == pytest.approx(np.radians(11.47461))
    assert recording.start == 31_250_000


@pytest.mark.parametrize("name", ["groundtruth", "rgbdslam", "rgbdslam_drift"])
def test_trajectories_of_tum(shared, name):
    path = shared / "motion" / f"freiburg1_xyz-{name}.txt"
    recording, table = read(path), np.loadtxt(path)
    (stream,) = recording.streams
    assert (stream.kind, stream.channels) == ("pose", ("x", "y", "z", "qx", "qy", "qz", "qw"))
    np.testing.assert_array_equal(stream.values, table[:, 1:])
    assert recording.start == round(table[0, 0] * 1e6) * 1000


# Time


@pytest.mark.parametrize(("unit", "scale"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
@pytest.mark.parametrize("stated", [True, False])
def test_dates_in_any_unit_lose_nothing(tmp_path, unit, scale, stated):
    stamps = [EPOCH // scale * scale + k * 10_000_000 for k in range(200)]
    written = [f"{s // scale}.{s % scale:0{len(str(scale)) - 1}d}" if scale > 1 else s for s in stamps]
    name = f"time [{unit}]" if stated else "time"
    path = write(tmp_path / "a.csv", f"{name},a,b\n" + rows(written, noise(200)[:, 0], noise(200)[:, 1]))
    recording = read(path)
    assert (recording.start, recording.start_clock) == (stamps[0], "unix")
    np.testing.assert_allclose(recording["other"].times, np.arange(200) * 0.01, atol=1e-12)
    assert recording.facts["time_unit"] == unit


@settings(max_examples=25)
@given(first=st.integers(0, 2**62), step=st.integers(10**6, 10**8))
def test_integer_nanoseconds_never_pass_through_floats(tmp_path_factory, first, step):
    path = tmp_path_factory.mktemp("ns") / "a.csv"
    write(path, "t_ns,a\n" + rows([first + k * step for k in range(20)], range(20)))
    recording = read(path)
    assert recording.start == first
    np.testing.assert_array_equal(recording["other"].times, np.arange(20) * step / 1e9)


@settings(max_examples=50)
@given(st.integers(-(2**40), 2**40), st.sampled_from(["s", "ms", "us", "ns"]))
@example(1_700_000_000 * 1024 + 1, "s")  # a product would be rounded to 256 ns
def test_floats_are_split_before_they_are_scaled(value, unit):
    scale = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    stamps, valid = to_nanoseconds(np.array([value / 1024, np.nan, 1e300]), unit)
    assert valid.tolist() == [True, False, False]
    assert abs(int(stamps[0]) * 1024 - value * scale) <= 512


@pytest.mark.parametrize(
    ("form", "clock"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", "naive"), ("%Y-%m-%dT%H:%M:%S.%fZ", "zoned"), ("%Y-%m-%dT%H:%M:%S.%f+00:00", "zoned"),
        ("%Y-%m-%d %H:%M:%S.%f +00:00", "zoned"), ("%Y-%m-%d %H:%M:%S,%f", "naive"),
    ],
)  # fmt: skip
def test_iso_dates(tmp_path, form, clock):
    first = datetime(2024, 2, 29, 23, 59, 59, 500_000, UTC)
    written = [(first + timedelta(milliseconds=20 * k)).strftime(form) for k in range(100)]
    path = write(tmp_path / "a.csv", "when;a\n" + rows(written, noise(100)[:, 0], delimiter=";"))
    recording = read(path)
    assert (recording.start, recording.start_clock) == (1709251199_500_000_000, "unix")
    np.testing.assert_allclose(recording["other"].times, np.arange(100) * 0.02, atol=1e-9)
    assert ("no time zone" in odd(recording)) == (clock == "naive")


def test_a_zone_is_subtracted(tmp_path):
    text = "date,a\n" + rows([f"2024-01-01T02:00:{k:02d}+02:00" for k in range(50)], range(50))
    assert read(write(tmp_path / "a.csv", text)).start == 1704067200 * 10**9


def test_of_two_columns_of_time_the_one_with_a_date_is_taken_and_that_is_said(tmp_path):
    elapsed = np.arange(300) * 0.01 + 0.0835
    text = "time,seconds_elapsed,z,y,x\n" + rows([EPOCH + k * 10**7 for k in range(300)], elapsed, *noise(300).T)
    recording = read(write(tmp_path / "Gyroscope.csv", text))
    assert recording.start == EPOCH
    assert "'seconds_elapsed' tell the same time less well" in odd(recording)
    assert recording["rotation_rate"].values[:3, 2] == pytest.approx(noise(300)[:3, 0])


def test_two_columns_of_time_that_disagree_are_refused_until_one_is_named(tmp_path):
    text = "time_ms,timestamp_s,a\n" + rows(np.arange(100) * 10, np.arange(100) * 0.011, range(100))
    path = write(tmp_path / "a.csv", text)
    with pytest.raises(ReadError, match=r"'time_ms', 'timestamp_s'.*give time_column="):
        read(path)
    assert read(path, time_column="time_ms")["other"].times[-1] == pytest.approx(0.99)
    assert read(path, time_column=2)["other"].times[-1] == pytest.approx(99 * 0.011)


@pytest.mark.parametrize("step", [1, 500, 1000])
def test_a_unit_that_nothing_tells_is_asked_for(tmp_path, step):
    path = write(tmp_path / "a.csv", "t,a\n" + rows(np.arange(100) * step, range(100)))
    with pytest.raises(ReadError, match=r"its unit is not stated.*give time_unit="):
        read(path)
    assert read(path, time_unit="ms")["other"].times[-1] == pytest.approx(99 * step / 1e3)


@pytest.mark.parametrize(
    ("name", "step", "unit"),
    [("t", 0.01, "s"), ("t", 10, "ms"), ("t", 5_000_000, "ns"), ("time_us", 1000, "us"), ("timestampMs", 1000, "ms"),
     ("t [s]", 1, "s"), ("seconds_elapsed", 2, "s"), ("Time (ms)", 2, "ms")],
)  # fmt: skip
def test_units_by_name_or_by_the_rate_that_they_would_mean(tmp_path, name, step, unit):
    path = write(tmp_path / "a.csv", f"{name},a\n" + rows(np.arange(100) * step, noise(100)[:, 0]))
    assert read(path).facts["time_unit"] == unit


def test_a_stated_unit_that_cannot_be_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", "time [s],a\n" + rows([EPOCH + k * 10**7 for k in range(100)], range(100)))
    with pytest.raises(ReadError, match="says s, but its values are a date of this century in ns"):
        read(path)


def test_a_table_without_times_needs_a_rate(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n" + rows(*noise(100, 2).T))
    with pytest.raises(ReadError, match=r"no column looks like time among 'a', 'b'.*rate="):
        read(path)
    recording = read(path, rate=250.0)
    np.testing.assert_allclose(recording["other"].times, np.arange(100) / 250)
    with pytest.raises(ReadError, match="rate 0 Hz"):
        read(path, rate=0)
    with pytest.raises(ReadError, match="leave time_column= and time_unit= out"):
        read(path, rate=1.0, time_column="a")
    with pytest.raises(ReadError, match="no column named 'c'; expected one of 'a', 'b'"):
        read(path, time_column="c")


# Layout


STAMPS = [f"{k * 0.01:.2f}" for k in range(60)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", "   ", ", "])
@pytest.mark.parametrize("before", ["", "\ufeff", "# made by a logger\n", "Device: phone\nVersion: 2\n\n"])
def test_layouts_are_found(tmp_path, delimiter, before):
    values = noise(60)
    text = before + delimiter.join(["time", "gyro_x", "gyro_y", "gyro_z"]) + "\n"
    text += rows(STAMPS, *values.T, delimiter=delimiter)
    (stream,) = read(write(tmp_path / "a.csv", text)).streams
    assert stream.kind == "rotation_rate"
    np.testing.assert_array_equal(stream.values, values)
    np.testing.assert_allclose(stream.times, np.arange(60) * 0.01, atol=1e-12)


def test_decimal_commas(tmp_path):
    text = "Zeit;Time (s);acc_x [m/s²];acc_y [m/s²];acc_z [m/s²]\n"
    text += rows(["a"] * 60, STAMPS, *[[f"{v}" for v in c] for c in noise(60).T], delimiter=";").replace(".", ",")
    recording = read(write(tmp_path / "a.csv", text))
    np.testing.assert_array_equal(recording["acceleration"].values, noise(60))
    np.testing.assert_allclose(recording["acceleration"].times, np.arange(60) * 0.01, atol=1e-12)


def test_a_row_of_units_below_the_names(tmp_path):
    text = "time,gyro_x,gyro_y,gyro_z\nms,deg/s,deg/s,deg/s\n" + rows(np.arange(60) * 10, *noise(60).T)
    (stream,) = read(write(tmp_path / "a.csv", text)).streams
    np.testing.assert_allclose(stream.values, np.radians(noise(60)))
    assert stream.times[-1] == pytest.approx(0.59)


def test_without_names_the_column_that_runs_is_time(tmp_path):
    text = rows(noise(60)[:, 0], STAMPS, noise(60)[:, 1])
    recording = read(write(tmp_path / "a.csv", text))
    assert recording.facts["time_column"] == "column 2"
    np.testing.assert_array_equal(recording["other"].values, noise(60)[:, :2])


def test_euroc(tmp_path):
    text = (
        "#timestamp [ns],w_RS_S_x [rad s^-1],w_RS_S_y [rad s^-1],w_RS_S_z [rad s^-1],"
        "a_RS_S_x [m s^-2],a_RS_S_y [m s^-2],a_RS_S_z [m s^-2]\n"
    )
    text += rows([1403636579758555392 + 5_000_000 * k for k in range(60)], *noise(60, 6).T)
    recording = read(write(tmp_path / "data.csv", text))
    assert [s.kind for s in recording.streams] == ["rotation_rate", "acceleration"]
    assert recording.start == 1403636579758555392
    np.testing.assert_array_equal(recording["acceleration"].values, noise(60, 6)[:, 3:])


def test_euroc_ground_truth_has_its_quaternion_reordered(tmp_path):
    text = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"
    turn = noise(60, 4)
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    text += rows([1403636579758555392 + 5_000_000 * k for k in range(60)], *noise(60).T, *turn.T)
    (stream,) = read(write(tmp_path / "data.csv", text)).streams
    assert stream.kind == "pose"
    np.testing.assert_allclose(stream.values[:, 3:], turn[:, [1, 2, 3, 0]])


def test_gzip_and_plain_are_the_same(tmp_path):
    text = "time,a\n" + rows(STAMPS, noise(60)[:, 0])
    plain = read(write(tmp_path / "a.csv", text))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    packed = read(tmp_path / "b.csv.gz")
    assert packed.name == "b"
    np.testing.assert_array_equal(plain["other"].values, packed["other"].values)


# Kinds and units


@pytest.mark.parametrize(
    ("name", "words", "axis", "unit"),
    [
        ("gyro_x [deg/s]", ("gyro",), "x", "deg/s"), ("wx", ("w",), "x", None), ("Gyro X", ("gyro",), "x", None),
        ("motionRotationRateX(rad/s)", ("motion", "rotation", "rate"), "x", "rad/s"), ("qw", ("q",), "w", None),
        ("accelerometerAccelerationZ(G)", ("accelerometer", "acceleration"), "z", "g"), ("x", (), "x", None),
        ("w_RS_S_y [rad s^-1]", ("w", "rs", "s"), "y", "rad/s"), ("gyro_z_dps", ("gyro",), "z", "deg/s"),
        ("linear_acceleration.y", ("linear", "acceleration"), "y", None), ("gyroADC[1]", ("gyro", "adc"), "y", None),
        ("timestamp_ns", ("timestamp", "ns"), None, None), ("acc_y (mg)", ("acc",), "y", "milli-g"),
    ],
)  # fmt: skip
def test_names_taken_apart(name, words, axis, unit):
    header = parse_header(name)
    assert (header.words, header.axis, header.unit) == (words, axis, unit)


@pytest.mark.parametrize(
    ("unit", "kind", "factor"),
    [("rad/s", "gyro", 1.0), ("deg/s", "gyro", np.pi / 180), ("dps", "gyro", np.pi / 180), ("°/s", "gyro", np.pi / 180),
     ("g", "acc", G), ("mg", "acc", G / 1000), ("m/s^2", "acc", 1.0), ("m/s2", "acc", 1.0)],
)  # fmt: skip
def test_stated_units_are_converted_and_kept_in_facts(tmp_path, unit, kind, factor):
    names = ",".join(f"{kind}_{axis} [{unit}]" for axis in "xyz")
    (stream,) = read(write(tmp_path / "a.csv", f"time,{names}\n" + rows(STAMPS, *noise(60).T))).streams
    np.testing.assert_allclose(stream.values, noise(60) * factor)
    assert stream.facts.get("scale", 1.0) == factor
    assert stream.facts["unit_from"] == "its columns' names state it"


@pytest.mark.parametrize(("count", "unit"), [(2000 / 2**15, "deg/s"), (np.radians(0.07), "rad/s")])
def test_the_grid_of_a_converter_tells_the_unit_of_a_gyroscope(tmp_path, count, unit):
    turning = np.round(np.cumsum(noise(500) * 3, axis=0)) * count
    names = "time,gyro_x,gyro_y,gyro_z\n"
    text = names + rows([f"{k / 100:.2f}" for k in range(500)], *np.round(turning, 7).T)
    stream = read(write(tmp_path / "a.csv", text))["rotation_rate"]
    assert stream.facts["unit"] == unit
    assert "grid of a converter" in stream.facts["unit_from"]


def test_a_unit_that_nothing_shows_is_assumed_aloud(tmp_path):
    text = "time,gyro_x,gyro_y,gyro_z\n" + rows(STAMPS, *np.random.default_rng(1).standard_normal((60, 3)).T)
    recording = read(write(tmp_path / "a.csv", text))
    assert "unit assumed to be rad/s" in odd(recording)


def test_axes_in_different_units_are_refused(tmp_path):
    text = "time,gyro_x [deg/s],gyro_y [rad/s],gyro_z [deg/s]\n" + rows(STAMPS, *noise(60).T)
    with pytest.raises(ReadError, match="one sensor's and state different units"):
        read(write(tmp_path / "a.csv", text))


def test_words_become_text_and_the_rest_other(tmp_path):
    text = "time,label,EEG1,EEG2\n" + rows(STAMPS, ["go"] + [""] * 58 + ["stop"], *noise(60, 2).T)
    recording = read(write(tmp_path / "a.csv", text))
    assert recording["text"].values.tolist() == ["go", "stop"]
    assert recording["text"].times == pytest.approx([0.0, 0.59])
    assert recording["other"].channels == ("EEG1", "EEG2")


# What is odd


def test_gaps_are_told_and_not_filled(tmp_path):
    keep = np.r_[0:300, 350:600]
    text = "time,a\n" + rows([f"{k / 100:.2f}" for k in keep], range(keep.size))
    recording = read(write(tmp_path / "a.csv", text))
    assert "500.0 ms missing at 3.000 s (the longest; one place, about 50 samples in all)" in odd(recording)
    assert recording["other"].facts["gaps"] == [(pytest.approx(3.0), pytest.approx(0.5))]
    assert len(recording["other"].times) == 550


def test_missing_values_stay_where_they_are(tmp_path):
    values = [str(v) for v in noise(300)[:, 0]]
    values[100:150] = ["", "nan", "NA", "null", "-"] * 10
    text = "time,a\n" + rows([f"{k / 100:.2f}" for k in range(300)], values)
    recording = read(write(tmp_path / "a.csv", text))
    assert np.flatnonzero(np.isnan(recording["other"].values[:, 0])).tolist() == list(range(100, 150))
    assert "50 of 300 rows have values that are missing" in odd(recording)


def test_rows_that_repeat_are_left_out_and_equal_stamps_are_kept(tmp_path):
    k = np.r_[0:50, 40:100]
    text = "time,a\n" + rows([f"{i / 100:.2f}" for i in k], k)
    recording = read(write(tmp_path / "a.csv", text))
    assert "10 rows repeat another row" in odd(recording)
    assert recording["other"].values[:, 0].tolist() == list(range(100))
    batched = "time,a\n" + rows([f"{i // 2 / 50:.2f}" for i in range(100)], range(100))
    recording = read(write(tmp_path / "b.csv", batched))
    assert "50 of 100 stamps are the same as the one before" in odd(recording)
    assert len(recording["other"].times) == 100


def test_a_clock_reset_is_not_sorted_away(tmp_path):
    stamps = np.r_[np.arange(300) + 5000, np.arange(300)] * 10
    recording = read(write(tmp_path / "a.csv", "time_ms,a\n" + rows(stamps, range(600))))
    assert recording["other"].values[:, 0].tolist() == list(range(600))
    assert "jumps back by 52.99 s at row 301 (a clock reset)" in odd(recording)
    assert recording["other"].facts["resets"] == [(pytest.approx(3.0), pytest.approx(-52.99))]


def test_a_counter_that_is_full_goes_on(tmp_path):
    stamps = (np.arange(600, dtype=np.int64) * 10_000 + 2**32 - 3_000_000) % 2**32
    recording = read(write(tmp_path / "a.csv", "time_us,a\n" + rows(stamps, range(600))))
    np.testing.assert_allclose(recording["other"].times, np.arange(600) * 0.01, atol=1e-9)
    assert "as a 32-bit counter does" in odd(recording)


@pytest.mark.parametrize("back", [2, 3])
def test_a_clock_that_falls_by_less_than_a_counter_holds_is_set_back(back):
    stamps = np.arange(600, dtype=np.int64) * 250_000_000
    stamps[300:] -= back * 1_000_000_000 + 120_000_000
    found = in_order("a", stamps, 1)
    assert "clock reset" in found.odd[0]
    np.testing.assert_array_equal(found.stamps, np.arange(600) * 250_000_000)


@settings(max_examples=50)
@given(st.lists(st.floats(0, 3), min_size=40, max_size=40))
def test_rows_that_come_late_are_sorted(lateness):
    order = np.argsort(np.arange(40) + np.array(lateness), kind="stable")
    stamps = order * 10_000_000
    found = in_order("a", stamps, 1)
    np.testing.assert_array_equal(found.stamps, np.sort(stamps))
    assert bool(found.odd) == (order.tolist() != sorted(order))


def test_a_column_that_runs_back_all_over_is_no_time(tmp_path):
    path = write(tmp_path / "a.csv", "time_ms,a\n" + rows(np.random.default_rng(0).integers(0, 10**6, 300), range(300)))
    with pytest.raises(ReadError, match=r"runs backwards at .* of 300 rows"):
        read(path)


def test_time_that_runs_backwards_steadily_is_turned_round(tmp_path):
    recording = read(write(tmp_path / "a.csv", "time_ms,a\n" + rows(np.arange(300)[::-1] * 10, range(300))))
    assert recording["other"].values[:, 0].tolist() == list(range(300))[::-1]
    assert "299 of 300 rows are earlier" in odd(recording)


def test_damaged_rows_are_counted(tmp_path):
    lines = ("time,a,b\n" + rows([f"{k / 100:.2f}" for k in range(300)], *noise(300, 2).T)).splitlines()
    lines[50] = lines[50][:4]
    lines[60] = lines[60].replace("0.59", "oops")
    lines[70] = "0.69,1.0,what"
    lines[-1] = lines[-1][:3]
    recording = read(write(tmp_path / "a.csv", "\n".join(lines)))
    assert "2 rows do not have 3 cells" in odd(recording)
    assert "1 rows have no readable time" in odd(recording)
    assert "1 cells are not the numbers" in odd(recording)
    assert len(recording["other"].times) == 297
    assert int(np.isnan(recording["other"].values).sum()) == 1


def test_a_gzip_that_ends_early_gives_what_is_whole(tmp_path):
    text = "time,a\n" + rows([f"{k / 100:.2f}" for k in range(20000)], noise(20000)[:, 0])
    packed = gzip.compress(text.encode())
    (tmp_path / "a.csv.gz").write_bytes(packed[: len(packed) // 2])
    recording = read(tmp_path / "a.csv.gz")
    assert "cut short: its gzip data ends early" in odd(recording)
    assert 5000 < len(recording["other"].times) < 15000
    np.testing.assert_array_equal(recording["other"].values[:5000, 0], noise(20000)[:5000, 0])


def test_blocks_are_joined_without_a_seam(tmp_path, monkeypatch):
    import avfuse.io.sensors.text_tables as tables

    text = "time,label,a\n" + rows([f"{k / 100:.2f}" for k in range(20000)], ["w"] * 20000, noise(20000)[:, 0])
    whole = read(write(tmp_path / "a.csv", text))
    monkeypatch.setattr(tables, "_BLOCK", 5000)
    monkeypatch.setattr(tables, "_HEAD", 3000)
    pieces = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(whole["other"].values, pieces["other"].values)
    np.testing.assert_array_equal(whole["other"].times, pieces["other"].times)
    assert len(pieces["text"].values) == 20000


def test_single_columns_that_come_in_turn_are_streams_of_their_own(tmp_path):
    k = np.arange(600)
    skin = [f"{v}" if i % 4 == 0 else "" for i, v in enumerate(noise(600)[:, 0])]
    pulse = ["" if i % 4 == 0 else f"{v}" for i, v in enumerate(noise(600)[:, 1])]
    recording = read(write(tmp_path / "a.csv", "time,EDA,BVP\n" + rows([f"{i / 100:.2f}" for i in k], skin, pulse)))
    assert [s.channels for s in recording.streams] == [("EDA",), ("BVP",)]
    assert [len(s.times) for s in recording.streams] == [150, 450]
    np.testing.assert_allclose(recording["other"].times, k[::4] / 100, atol=1e-12)


def test_equal_values_under_coarse_stamps_are_no_repeated_rows(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, 400)
    text = "time_s,a\n" + rows([i // 10 for i in range(400)], values)
    assert len(read(write(tmp_path / "a.csv", text))["other"].times) == 400


def test_loggers_of_phones_and_labs(tmp_path):
    k, still = range(200), noise(200) * 0.1 + [0, 0, 9.8]
    shimmer = "sep=\t\nShimmer_Timestamp_Unix_CAL\tShimmer_Accel_LN_X_CAL\tShimmer_Accel_LN_Y_CAL\t"
    shimmer += "Shimmer_Accel_LN_Z_CAL\nms\tm/(s^2)\tm/(s^2)\tm/(s^2)\n"
    shimmer += rows([1.7e12 + i * 9.765625 for i in k], *still.T, delimiter="\t")
    (stream,) = read(write(tmp_path / "shimmer.csv", shimmer)).streams
    assert (stream.kind, stream.facts["unit"]) == ("acceleration", "m/s^2")
    assert stream.facts["rate"] == pytest.approx(102.4, rel=1e-4)

    phyphox = '"Time (s)","Acceleration x (m/s^2)","Acceleration y (m/s^2)","Acceleration z (m/s^2)"\n'
    phyphox += rows([f"{i * 0.005:.9E}" for i in k], *[[f"{v:.9E}" for v in c] for c in still.T])
    (stream,) = read(write(tmp_path / "phyphox.csv", phyphox)).streams
    np.testing.assert_allclose(stream.values, still)
    np.testing.assert_allclose(stream.times, np.arange(200) * 0.005, atol=1e-9)

    openbci = "%OpenBCI Raw EXG Data\n%Sample Rate = 250 Hz\nSample Index, EXG Channel 0, Timestamp, Other\n"
    openbci += rows([i % 256 for i in k], noise(200)[:, 0], [f"{1.7e9 + i * 0.004:.6f}" for i in k], k, delimiter=", ")
    recording = read(write(tmp_path / "openbci.txt", openbci))
    assert (recording.start, recording["other"].channels[1]) == (1_700_000_000 * 10**9, "EXG Channel 0")

    betaflight = "loopIteration,time (us),gyroADC[0],gyroADC[1],gyroADC[2]\n"
    betaflight += rows(k, [29_000_000 + 500 * i for i in k], *np.round(noise(200) * 60).astype(int).T)
    assert read(write(tmp_path / "LOG1.csv", betaflight))["rotation_rate"].facts["unit"] == "deg/s"

    trailing = "time,a,\n" + "".join(f"{i / 100:.2f},{i},\n" for i in k)
    assert read(write(tmp_path / "trailing.csv", trailing))["other"].channels == ("a",)


# Bad input: one line, exit code 2


def _bad(tmp_path: Path) -> dict[str, Path]:
    garbage = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8).tobytes()
    files = {
        "garbage": garbage, "prose": b"Dear reader,\nthis is no table at all.\nYours\n", "header": b"time,a,b\n",
        "empty": b"",
        "utf16": "time,a\n0,1\n0.01,2\n".encode("utf-16"), "blank": b"\n\n\n", "one": b"time\n0.01\n0.02\n",
        "gzip": gzip.compress(b"time,a\n0.01,1\n")[:12], "dates": b"time,a\n01/02/2024 10:00,1\n01/02/2024 10:01,2\n",
        "clock": b"time,a\n12:00:00.1,1\n12:00:00.2,2\n", "notime": b"a,b\n1,5\n2,3\n1,7\n",
        "json": b'{"a": [1, 2, 3]}\n',
    }  # fmt: skip
    made = {}
    for name, data in files.items():
        made[name] = tmp_path / f"{name}.csv"
        made[name].write_bytes(data)
    made["folder"] = tmp_path / "folder.csv"
    made["folder"].mkdir()
    made["absent"] = tmp_path / "absent.csv"
    return made


BAD = ("clock", "garbage", "prose", "header", "empty", "utf16", "blank", "one", "gzip", "dates", "notime", "json",
       "folder", "absent")  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_get_one_line_and_code_2(tmp_path, capsys, name):
    path = _bad(tmp_path)[name]
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("expected", "try", "give"))
    assert run(["info", str(path)]) == USAGE
    told = capsys.readouterr().err.strip()
    assert told == f"avfuse: {caught.value}"


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(ReadError, match=r"needs pyarrow, which is not installed; try pip install 'avfuse\[sensors\]'"):
        read(write(tmp_path / "a.csv", "time,a\n0.0,1\n0.01,2\n"))


def test_arguments_of_tables_are_refused_for_media(shared):
    with pytest.raises(ReadError, match="is no table; time_unit= is for tables alone"):
        read(shared / "sound" / "timbl_1.mp3", time_unit="s")


def test_info_tells_of_sensors(tmp_path, capsys):
    path = write(tmp_path / "a.csv", "t,gyro_x,gyro_y,gyro_z\n" + rows(np.arange(100) * 1000, *noise(100).T))
    assert run(["info", str(path)]) == USAGE
    assert run(["info", str(path), "--time-unit", "us"]) == 0
    told = capsys.readouterr().out
    assert "rotation_rate" in told
    assert "100 samples of x y z in rad/s, 1000 Hz" in told
    found = inspect(path, time_unit="us")
    assert (found.start, found.start_clock, found.streams[0].frames) == (0, "device", 100)
    assert found.streams[0].unit == "rad/s"
