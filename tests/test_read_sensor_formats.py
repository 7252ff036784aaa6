"""Laws of reading Parquet, NumPy, XDF, MCAP and ROS bags: what was written comes back, at its own time."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.cli import USAGE, run
from avfuse.errors import AvfuseError, ReadError
from avfuse.io import read

EPOCH = 1_700_000_000_123_456_789  # ns


def noise(count: int, columns: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, columns))


def odd(recording) -> str:
    return "\n".join(recording.facts["odd"])


def refused(path: Path, capsys, match: str) -> None:
    with pytest.raises(ReadError, match=match) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert run(["info", str(path)]) == USAGE
    assert capsys.readouterr().err.strip() == f"avfuse: {caught.value}"


# Parquet


def parquet(path: Path, **columns: object) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=300)
    return path


@pytest.mark.parametrize("kind", ["ns", "float s", "timestamp", "zoned", "text"])
def test_parquet_gives_back_what_was_written(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    stamps = EPOCH // 1000 * 1000 + np.arange(1000) * 10_000_000
    times = {
        "ns": stamps, "float s": (stamps - stamps[0]) / 1e9 + 1000.0,
        "timestamp": pa.array(stamps, pa.timestamp("ns")), "zoned": pa.array(stamps, pa.timestamp("ns", "Europe/Rome")),
        "text": [str(np.datetime64(int(s), "ns")) for s in stamps],
    }[kind]  # fmt: skip
    values = noise(1000)
    names = dict(zip(("gyro_x [deg/s]", "gyro_y [deg/s]", "gyro_z [deg/s]"), values.T, strict=True))
    recording = read(parquet(tmp_path / "a.parquet", time=times, **names, label=["w"] * 1000))
    np.testing.assert_allclose(recording["rotation_rate"].values, np.radians(values))
    np.testing.assert_allclose(recording["rotation_rate"].times, np.arange(1000) * 0.01, atol=1e-9)
    assert recording.start == (1000 * 10**9 if kind == "float s" else stamps[0])
    assert recording["text"].values.tolist() == ["w"] * 1000
    assert ("no time zone" in odd(recording)) == (kind in ("timestamp", "text"))


def test_parquet_in_disorder_and_with_nulls(tmp_path):
    pa = pytest.importorskip("pyarrow")
    order = np.r_[0:400, 600:1000, 400:600]
    stamps = pa.array([None if k == 7 else int(EPOCH + k * 10**7) for k in order], pa.int64())
    recording = read(parquet(tmp_path / "a.parquet", t=stamps, a=pa.array([None, *order[1:].astype(float).tolist()])))
    np.testing.assert_array_equal(recording["other"].values[1:, 0], [k for k in range(1, 1000) if k != 7])
    assert np.isnan(recording["other"].values[0, 0])
    for told in ("1 rows have no readable time", "1 of 1000 rows are earlier", "1 of 999 rows have values that are"):
        assert told.replace("1000 rows are", "999 rows are") in odd(recording)


def test_parquet_rows_whose_float_time_is_missing_are_left_out(tmp_path):
    times = np.arange(300) * 0.01
    times[[5, 6]] = np.nan
    recording = read(parquet(tmp_path / "a.parquet", time_s=times, a=np.arange(300.0)))
    assert "2 rows have no readable time" in odd(recording)
    np.testing.assert_array_equal(recording["other"].values[:, 0], [k for k in range(300) if k not in (5, 6)])


def test_bad_parquet(tmp_path, capsys):
    path = parquet(tmp_path / "a.parquet", time=np.arange(500) * 0.01, a=np.arange(500.0))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, capsys, "no whole Parquet file")
    refused(parquet(tmp_path / "b.parquet", a=noise(50)[:, 0], b=noise(50)[:, 1]), capsys, "no column looks like time")
    refused(parquet(tmp_path / "c.parquet", time=[], a=[]), capsys, "no rows")
    refused(parquet(tmp_path / "d.parquet", time=[0.0, 0.1, 0.2]), capsys, "a column of time and nothing else")
    (tmp_path / "e.parquet").write_bytes(b"time,a\n0,1\n")
    refused(tmp_path / "e.parquet", capsys, "no whole Parquet file")


# NumPy


def test_npz_with_times_beside_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", timestamps=EPOCH + np.arange(200) * 10**7, gyro=noise(200), rate=np.array(100.0))
    recording = read(tmp_path / "a.npz")
    assert recording.start == EPOCH
    np.testing.assert_array_equal(recording["rotation_rate"].values, noise(200))
    assert "array 'rate' of shape () and type float64 does not fit" in odd(recording)


def test_npy_as_a_table_as_records_and_without_times(tmp_path):
    times = np.arange(200) * 0.01
    np.save(tmp_path / "a.npy", np.column_stack([times, noise(200)]))
    np.testing.assert_array_equal(read(tmp_path / "a.npy")["other"].values, noise(200))
    records = np.zeros(200, [("time", "datetime64[us]"), ("acc_x", "f4"), ("acc_y", "f4"), ("acc_z", "f4")])
    records["time"] = np.datetime64("2024-01-01T00:00:00", "us") + np.arange(200) * np.timedelta64(10_000, "us")
    records["acc_z"] = 1000
    np.save(tmp_path / "b.npy", records)
    recording = read(tmp_path / "b.npy")
    assert recording.start == 1704067200 * 10**9
    assert recording["acceleration"].values[0, 2] == pytest.approx(9.80665)
    np.save(tmp_path / "c.npy", noise(200, 1)[:, 0])
    np.testing.assert_allclose(read(tmp_path / "c.npy", rate=50)["other"].times, np.arange(200) / 50)


def test_bad_numpy(tmp_path, capsys):
    np.save(tmp_path / "a.npy", noise(200))
    refused(tmp_path / "a.npy", capsys, "no column looks like time.*rate=")
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(data[:300])
    refused(tmp_path / "b.npy", capsys, "no whole NumPy file")
    np.save(tmp_path / "c.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "c.npy", capsys, "pickled objects")
    np.save(tmp_path / "d.npy", np.zeros((2, 3, 4)))
    refused(tmp_path / "d.npy", capsys, r"shape \(2, 3, 4\)")
    (tmp_path / "e.npz").write_bytes(b"PK\3\4 and then nothing")
    refused(tmp_path / "e.npz", capsys, "no whole NumPy file")
    np.savez(tmp_path / "f.npz", time=np.arange(3) * 0.01)
    refused(tmp_path / "f.npz", capsys, "times and nothing else")


# XDF


def chunk(tag: int, content: bytes) -> bytes:
    body = struct.pack("<H", tag) + content
    return (
        b"\x01" + struct.pack("<B", len(body)) if len(body) < 256 else b"\x04" + struct.pack("<I", len(body))
    ) + body


def xdf(path: Path, streams: list[dict], datetime: str = "2025-01-01T00:00:00") -> bytes:
    """An XDF file as the specification says (https://github.com/sccn/xdf/wiki/Specifications)."""
    out = b"XDF:" + chunk(1, f"<info><version>1.0</version><datetime>{datetime}</datetime></info>".encode())
    for number, s in enumerate(streams, 1):
        text = "".join(
            f"<{k}>{escape(str(s[k]))}</{k}>"
            for k in ("name", "type", "channel_count", "nominal_srate", "channel_format")
        )
        labels = "".join(f"<channel><label>{l}</label><unit>{u}</unit></channel>" for l, u in s.get("labels", ()))
        text += f"<desc><channels>{labels}</channels></desc>" if labels else "<desc/>"
        out += chunk(2, struct.pack("<I", number) + f"<info>{text}</info>".encode())
    for number, s in enumerate(streams, 1):
        for when, value in s.get("offsets", ()):
            out += chunk(4, struct.pack("<Idd", number, when, value))
        for first in range(0, len(s["times"]), 50):
            times, rows = s["times"][first : first + 50], s["rows"][first : first + 50]
            body = struct.pack("<I", number) + b"\x04" + struct.pack("<I", len(times))
            for time, row in zip(times, rows, strict=True):
                body += b"\x08" + struct.pack("<d", time)
                if s["channel_format"] == "string":
                    body += b"".join(b"\x04" + struct.pack("<I", len(v.encode())) + v.encode() for v in row)
                else:
                    body += struct.pack(f"<{len(row)}f", *row)
            out += chunk(3, body)
    for number in range(1, len(streams) + 1):
        out += chunk(6, struct.pack("<I", number) + b"<info/>")
    path.write_bytes(out)
    return out


def lab() -> list[dict]:
    """An EEG, a gyroscope of another computer 100 s and 50 ppm away, and markers."""
    own = 5000 + np.arange(2000) / 100
    far = (own - 100) / (1 + 50e-6)
    rng = np.random.default_rng(3)
    offsets = [(t, 100 + 50e-6 * t + 1e-5 * rng.standard_normal()) for t in far[::500]]
    return [
        {"name": "amp", "type": "EEG", "channel_count": 2, "nominal_srate": 100, "channel_format": "float32",
         "times": own, "rows": noise(2000, 2), "offsets": [(t, 0.0) for t in own[::500]],
         "labels": [("Cz", "microvolts"), ("Pz", "microvolts")]},
        {"name": "glove", "type": "Gyro", "channel_count": 3, "nominal_srate": 100, "channel_format": "float32",
         "times": far, "rows": noise(2000), "offsets": offsets,
         "labels": [("gyro_x", "deg/s"), ("gyro_y", "deg/s"), ("gyro_z", "deg/s")]},
        {"name": "cues", "type": "Markers", "channel_count": 1, "nominal_srate": 0, "channel_format": "string",
         "times": own[[10, 700]], "rows": [["go ü"], ["stop"]], "offsets": [(t, 0.0) for t in own[::500]]},
    ]  # fmt: skip


def test_xdf_is_on_the_clock_that_pyxdf_finds(tmp_path):
    pyxdf = pytest.importorskip("pyxdf")
    xdf(tmp_path / "a.xdf", lab())
    recording = read(tmp_path / "a.xdf")
    theirs = {s["info"]["name"][0]: s for s in pyxdf.load_xdf(str(tmp_path / "a.xdf"))[0]}
    assert recording.start_clock == "device"
    for stream in recording.streams:
        expected = theirs[stream.facts["stream_name"]]["time_stamps"]
        np.testing.assert_allclose(stream.times + recording.start / 1e9, expected, atol=1e-6)
    # The other computer's stamps lie where they truly were, not 100 s away.
    np.testing.assert_allclose(recording["rotation_rate"].times, recording["other"].times, atol=1e-3)
    np.testing.assert_allclose(recording["rotation_rate"].values, np.radians(noise(2000)), rtol=1e-6)
    assert recording["rotation_rate"].unit == "rad/s"
    assert recording["other"].channels == ("Cz", "Pz")
    assert recording["text"].values.tolist() == ["go ü", "stop"]
    assert recording["text"].times == pytest.approx([0.1, 7.0], abs=1e-3)


def late(kind: str, own: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """How late stamps are: by a jitter as large as the sampling interval, in chunks of one stamp, in lasting spells."""
    count = own.size
    if kind == "chunks":
        return np.maximum.reduceat(own, np.arange(0, count, 32))[np.arange(count) // 32] - own
    if kind == "spells":
        spells = np.zeros(count)
        for first in [*rng.integers(0, count, 4), count - 10]:
            spells[first : first + int(rng.integers(5, 30))] += 0.3
        return spells
    return rng.normal(0, 0.8 / rate, count) if kind == "normal" else rng.exponential(1 / rate, count)


@pytest.mark.parametrize("kind", ["normal", "exponential", "chunks", "spells"])
@pytest.mark.parametrize("rate", [4, 50, 500])
def test_stamps_that_come_late_agree_with_pyxdf(tmp_path, kind, rate):
    pyxdf = pytest.importorskip("pyxdf")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        own = 5000 + np.arange(60 * rate + 300) / (rate * 1.001)
        stamps, rows = own + late(kind, own, rate, rng), rng.standard_normal((own.size, 2))
        offsets = [(t, 100 + 50e-6 * t) for t in own[:: 5 * rate]]
        stream = lab()[0] | {"times": stamps, "rows": rows, "nominal_srate": rate, "offsets": offsets}
        xdf(tmp_path / "a.xdf", [stream])
        recording = read(tmp_path / "a.xdf")
        theirs = pyxdf.load_xdf(str(tmp_path / "a.xdf"))[0][0]["time_stamps"]
        np.testing.assert_allclose(recording["other"].times + recording.start / 1e9, theirs, atol=1e-3)


def test_samples_that_an_xdf_lost_leave_a_gap_and_late_packets_none(tmp_path):
    pytest.importorskip("pyxdf")
    keep = np.r_[0:800, 860:2000]
    true = 5000 + keep / 100
    late = np.random.default_rng(1).uniform(0, 4e-3, keep.size)
    late[300:305] += 0.08  # a packet that came late is none that was lost
    stream = lab()[0] | {"times": true + late, "rows": noise(keep.size, 2), "offsets": [(t, 0.0) for t in true[::300]]}
    xdf(tmp_path / "a.xdf", [stream])
    recording = read(tmp_path / "a.xdf")
    times = recording["other"].times + recording.start / 1e9
    assert np.abs(times - true - 2e-3).max() < 2e-3
    assert recording["other"].facts["gaps"] == [(pytest.approx(8.0, abs=0.01), pytest.approx(0.6, abs=0.01))]
    assert recording["other"].facts["jitter"] == pytest.approx(np.std(late), rel=0.1)


@pytest.mark.parametrize("name", ["minimal", "empty_streams"])
def test_real_xdf_agrees_with_pyxdf(shared, name):
    pyxdf = pytest.importorskip("pyxdf")
    path = shared / "motion" / f"{name}.xdf"
    recording = read(path)
    theirs = {s["info"]["stream_id"]: s for s in pyxdf.load_xdf(str(path))[0]}
    read_ids = {s.facts["stream_id"] for s in recording.streams}
    assert read_ids == {k for k, s in theirs.items() if len(s["time_stamps"])}
    for stream in recording.streams:
        expected = theirs[stream.facts["stream_id"]]["time_stamps"]
        np.testing.assert_allclose(stream.times + recording.start / 1e9, expected, atol=1e-6)
    assert odd(recording).count("is empty; left out") == len(theirs) - len(read_ids)


def test_xdf_cut_short_gives_what_is_whole(tmp_path):
    pytest.importorskip("pyxdf")
    whole = xdf(tmp_path / "a.xdf", lab()[:1])
    (tmp_path / "b.xdf").write_bytes(whole[: int(len(whole) * 0.6)])
    recording = read(tmp_path / "b.xdf")
    assert "cut short: its last" in odd(recording)
    count = len(recording["other"].times)
    assert 1000 <= count < 1400
    np.testing.assert_allclose(recording["other"].values, noise(2000, 2)[:count], rtol=1e-6)


def test_bad_xdf(tmp_path, capsys):
    pytest.importorskip("pyxdf")
    (tmp_path / "a.xdf").write_bytes(b"XDF?" + bytes(100))
    refused(tmp_path / "a.xdf", capsys, "no XDF file")
    (tmp_path / "b.xdf").write_bytes(b"XDF:")
    refused(tmp_path / "b.xdf", capsys, "no streams|no readable XDF")
    empty = [s | {"times": [], "rows": []} for s in lab()]
    xdf(tmp_path / "c.xdf", empty)
    refused(tmp_path / "c.xdf", capsys, "no samples in it")
    (tmp_path / "d.xdf").write_bytes(b"XDF:" + np.random.default_rng(0).bytes(3000))
    refused(tmp_path / "d.xdf", capsys, "no streams|no readable XDF")


# MCAP and ROS bags


def imu(store, k: int, first: bool):
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1_700_000_000 + k // 100, nanosec=k % 100 * 10_000_000)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="imu", **({"seq": k} if first else {}))
    vector = types["geometry_msgs/msg/Vector3"]
    zeros = np.zeros(9)
    turn = types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0)
    return types["sensor_msgs/msg/Imu"](
        header, turn, zeros, vector(x=float(k), y=1.0, z=2.0), zeros, vector(x=0.0, y=0.0, z=9.81), zeros
    )


def write_bag(path: Path, form: str) -> Path:
    """300 messages of an IMU at 100 Hz, each logged 5 ms late; the file or folder to read."""
    pytest.importorskip("rosbags")
    from rosbags import rosbag1, rosbag2
    from rosbags.typesys import Stores, get_typestore

    first = form == "bag"
    store = get_typestore(Stores.ROS1_NOETIC if first else Stores.ROS2_HUMBLE)
    if first:
        writer = rosbag1.Writer(path)
    else:
        plugin = rosbag2.StoragePlugin.SQLITE3 if form == "db3" else rosbag2.StoragePlugin.MCAP
        writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
    with writer:
        connection = writer.add_connection("/imu", "sensor_msgs/msg/Imu", typestore=store)
        serialise = store.serialize_ros1 if first else store.serialize_cdr
        for k in range(300):
            logged = 1_700_000_000_005_000_000 + k * 10_000_000
            writer.write(connection, logged, serialise(imu(store, k, first), "sensor_msgs/msg/Imu"))
    return path if form in ("bag", "folder") else next(path.glob(f"*.{form}"))


@pytest.mark.parametrize("form", ["bag", "db3", "mcap", "folder"])
def test_bags_give_their_messages_at_their_own_stamps(tmp_path, form):
    recording = read(write_bag(tmp_path / ("a.bag" if form == "bag" else "a"), form))
    assert (recording.start, recording.start_clock) == (1_700_000_000 * 10**9, "unix")
    assert [s.kind for s in recording.streams] == ["rotation_rate", "acceleration", "orientation"]
    rate = recording["rotation_rate"]
    np.testing.assert_array_equal(rate.values[:, 0], np.arange(300))
    np.testing.assert_allclose(rate.times, np.arange(300) * 0.01, atol=1e-12)
    assert rate.facts["logged_later"] == pytest.approx(0.005)
    assert rate.facts["topic"] == "/imu"


def write_mcap(path: Path, count: int = 300) -> bytes:
    """JSON messages in many small chunks, and a topic that cannot be read."""
    pytest.importorskip("mcap")
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file, chunk_size=2000)
        writer.start()
        schema = writer.register_schema("imu", "jsonschema", b"{}")
        good = writer.register_channel("/gyro", "json", schema)
        bad = writer.register_channel("/secret", "protobuf", 0)
        for k in range(count):
            message = {"gyro": {"x": k / 10, "y": 0.5, "z": 0}, "state": "fine"}
            writer.add_message(good, EPOCH + k * 10**7, json.dumps(message).encode(), EPOCH + k * 10**7)
            writer.add_message(bad, EPOCH + k * 10**7, b"\x01\x02", EPOCH + k * 10**7)
        writer.finish()
    return path.read_bytes()


def test_mcap_with_json_and_what_cannot_be_decoded(tmp_path):
    write_mcap(tmp_path / "a.mcap")
    recording = read(tmp_path / "a.mcap")
    assert recording.start == EPOCH
    np.testing.assert_array_equal(recording["rotation_rate"].values[:, 0], np.arange(300) / 10)
    assert "topic '/secret': messages in protobuf; expected ROS or JSON; left out" in odd(recording)


def test_mcap_cut_short_gives_what_is_whole(tmp_path):
    whole = write_mcap(tmp_path / "a.mcap")
    (tmp_path / "b.mcap").write_bytes(whole[: len(whole) // 2])
    recording = read(tmp_path / "b.mcap")
    count = len(recording["rotation_rate"].times)
    assert 100 < count < 200
    assert "cut short or damaged" in odd(recording)


def test_bad_bags(tmp_path, capsys):
    bag = write_bag(tmp_path / "a.bag", "bag")
    (tmp_path / "b.bag").write_bytes(bag.read_bytes()[:20000])
    refused(tmp_path / "b.bag", capsys, "no whole ROS bag")
    whole = write_mcap(tmp_path / "a.mcap")
    (tmp_path / "b.mcap").write_bytes(whole[:150])
    refused(tmp_path / "b.mcap", capsys, "no whole MCAP file|no messages")
    (tmp_path / "c.db3").write_bytes(b"SQLite format 3\0" + bytes(200))
    refused(tmp_path / "c.db3", capsys, "no whole ROS bag")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "metadata.yaml").write_text("rosbag2: [")
    refused(tmp_path / "d", capsys, "no whole ROS bag")
    write_mcap(tmp_path / "e.mcap", 0)
    refused(tmp_path / "e.mcap", capsys, "no messages with numbers")
    (tmp_path / "f.mcap").write_bytes(b"not what its name says")
    refused(tmp_path / "f.mcap", capsys, "no whole")


@pytest.mark.parametrize(
    ("name", "module", "what"),
    [("a.xdf", "pyxdf", "XDF"), ("a.mcap", "mcap.reader", "MCAP"), ("a.bag", "rosbags.highlevel", "ROS bags")],
)  # fmt: skip
def test_missing_libraries_name_the_extra(tmp_path, monkeypatch, name, module, what):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"\x89MCAP0\r\n" if name.endswith("mcap") else b"XDF:" + bytes(20))
    if name.endswith("bag"):
        (tmp_path / name).write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(ReadError, match=rf"reading {what} needs .*pip install 'avfuse\[sensors\]'"):
        read(tmp_path / name)


# Damage


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> Path:
    """A folder with one good file of every format."""
    folder = tmp_path_factory.mktemp("whole")
    for module in ("pyarrow", "pyxdf", "mcap", "rosbags"):
        pytest.importorskip(module)
    times, values = np.arange(200) * 0.01, noise(200)
    table = "time,label,gyro_x,gyro_y,gyro_z\n"
    table += "".join(f"{t:.2f},go,{x},{y},{z}\n" for t, (x, y, z) in zip(times, values.tolist(), strict=True))
    (folder / "a.csv").write_text(table)
    (folder / "a.csv.gz").write_bytes(gzip.compress(table.encode()))
    parquet(folder / "a.parquet", time=times, a=values[:, 0], label=["go"] * 200)
    np.savez(folder / "a.npz", time=times, gyro=values)
    np.save(folder / "a.npy", np.column_stack([times, values]))
    xdf(folder / "a.xdf", lab())
    write_mcap(folder / "a.mcap", 60)
    write_bag(folder / "b", "mcap").rename(folder / "b.mcap")
    write_bag(folder / "a.bag", "bag")
    return folder


@settings(max_examples=120)
@given(data=st.data())
def test_damage_is_read_or_refused_never_a_fault(whole_files, tmp_path_factory, data):
    name = data.draw(st.sampled_from(sorted(path.name for path in whole_files.iterdir() if path.is_file())))
    content = bytearray((whole_files / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["cut", "replace", "insert", "twice"]))
    some = data.draw(st.binary(min_size=1, max_size=20))
    if kind == "cut":
        del content[at:]
    elif kind == "replace":
        content[at : at + len(some)] = some
    else:
        content[at:at] = some if kind == "insert" else content[max(0, at - 200) : at]
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    path.write_bytes(content)
    told, streams = None, ()
    try:
        streams = read(path).streams
    except AvfuseError as error:
        told = str(error)
    assert told is None or (told.startswith(f"{path}: ") and "\n" not in told)
    assert all(np.all(np.diff(stream.times) >= 0) for stream in streams)
