"""Laws of files as strangers have them: what is written in an odd way is read right, or refused with what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from test_read_sensor_formats import EPOCH, lab, noise, odd, parquet, refused, xdf

from avfuse.cli import USAGE, run
from avfuse.errors import ReadError
from avfuse.io import read

pytest.importorskip("pyarrow", reason="tables are read by pyarrow: pip install '.[sensors]'")

G = 9.80665
COUNT = 500
TIMES = np.arange(COUNT) * 0.01
VALUES = np.round(noise(COUNT), 4)
STILL = np.round(0.3 * noise(COUNT) + [0, 0, G], 4)
HALF = np.arange(COUNT) < COUNT // 2


def table(names: str, *columns: object, delimiter: str = ",") -> str:
    return names + "\n" + "".join(delimiter.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def seconds(times: np.ndarray = TIMES) -> list[str]:
    return [f"{t:.3f}" for t in times]


DAYS = 45500 + TIMES / 86400
PARTS = (1_700_000_000 + TIMES.astype(int), np.round(TIMES % 1 * 1e6).astype(int))

REFUSED = {
    "minutes": (table("time (min),a", [f"{t / 60:.9f}" for t in TIMES], VALUES[:, 0]), "is in min; expected s, ms"),
    "hours": (table("elapsed_hours,a", [f"{t / 3600:.9f}" for t in TIMES], VALUES[:, 0]), "is in h; expected s, ms"),
    "spreadsheet": (table("Time,a", [f"{t:.10f}" for t in DAYS], VALUES[:, 0]), "days since 1899-12-30"),
    "matlab": (table("datenum,a", [f"{t + 693960:.12f}" for t in DAYS], VALUES[:, 0]), "days since year 0"),
    "two parts": (table("sec,usec,a", *PARTS, VALUES[:, 0]), "'sec' and 'usec' hold one time in two parts"),
    "ros": (table("stamp.secs,stamp.nsecs,a", PARTS[0], 1000 * PARTS[1], VALUES[:, 0]), "one time in two parts"),
    "days": (table("Date,Time,a", ["2026-01-31"] * COUNT, [f"12:00:{t}" for t in seconds()], VALUES[:, 0]),
             "days without a time of day"),
    "one row": (table("time,a", [0.5], [1.0]), "no two different times"),
    "one time": (table("time,a", ["1.0"] * COUNT, VALUES[:, 0]), "no two different times"),
    "whole seconds": (table("timestamp,a", PARTS[0], VALUES[:, 0]), "500 rows have 5 different times"),
    "few digits": (table("timestamp,a", [f"{1.7e9 + t:.6E}" for t in TIMES], VALUES[:, 0]), "have 1 different times"),
    "s, then ms": (
        table("time,a", [f"{t:g}" for t in np.where(HALF, TIMES, 1e3 * TIMES)], VALUES[:, 0]),
        "changes its unit at row 251"),
    "set back": (table("time_ms,a", [10 * k if k < 250 else 10 * (k - 240) for k in range(COUNT)], VALUES[:, 0]),
                 "rows 11 and 251, and 239 more such pairs, have the same time and different values"),
    "thousands": (table("time_ms,a", [f'"{10 * k:,}"' for k in range(COUNT)], VALUES[:, 0]),
                  r"400 of 500 rows have no readable time \(such as '1,000'\)"),
    "points for thousands": (
        table("time_ms;a", [f"{10 * k:,}".replace(",", ".") for k in range(COUNT)],
              [str(v).replace(".", ",") for v in VALUES[:, 0]], delimiter=";"), r"such as '1\.000'"),
    "commas for all": (
        table("time,a,b", seconds(), *VALUES[:, :2].T).replace(".", ","), "3 columns and its rows have 6 cells"),
    "m/s^2, then g": (
        table("time_s,acc_x,acc_y,acc_z", seconds(), *np.where(HALF, STILL.T, STILL.T / G).round(4)),
        "acceleration is in g in one part and in m/s\\^2 in another"),
    "rows of two sensors": (
        table("time_s,sensor,x,y,z", seconds(), ["ACC", "GYRO"] * (COUNT // 2), *VALUES.T), "tells whose row it is"),
    "no bytes": ("", "an empty file; expected a recording"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_odd_tables_are_refused_with_what_is_wrong(tmp_path, capsys, name):
    text, match = REFUSED[name]
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    refused(path, capsys, match)


def test_a_time_in_two_parts_is_read_by_another_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table("Time,stamp.secs,stamp.nsecs,a", 1.7e9 + TIMES, PARTS[0], 1000 * PARTS[1], VALUES[:, 0]))
    with pytest.raises(ReadError, match="time_column="):
        read(path)
    np.testing.assert_allclose(read(path, time_column="Time")["other"].times, TIMES, atol=1e-6)


def test_one_wild_stamp_does_not_decide_the_unit(tmp_path):
    beats = np.cumsum(np.random.default_rng(0).uniform(0.7, 0.9, COUNT))
    path = tmp_path / "a.csv"
    path.write_text(table("time,a", [1720000000.0, *beats.round(4)], range(COUNT + 1)))
    with pytest.raises(ReadError, match="unit is not stated"):
        read(path)
    assert read(path, time_unit="s")["other"].facts["resets"][0][1] == pytest.approx(-1.72e9, rel=1e-3)


def test_units_that_avfuse_does_not_convert_make_a_row_of_units_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table("EDA,Skin,Time\nuS/cm,°C,s", *VALUES[:, :2].T, seconds()), encoding="utf-8")
    recording = read(path)
    assert (recording["other"].channels, recording.facts["time_column"]) == (("EDA", "Skin"), "Time")


@pytest.mark.parametrize("ends", ["rows", "header"])
def test_a_delimiter_at_the_end_of_rows_or_of_the_header_costs_no_names(tmp_path, ends):
    names = "time,gyro_x,gyro_y,gyro_z" + ("," if ends == "header" else "")
    columns = [seconds(), *VALUES.T, *([[""] * COUNT] if ends == "rows" else [])]
    path = tmp_path / "a.csv"
    path.write_text(table(names, *columns))
    np.testing.assert_array_equal(read(path)["rotation_rate"].values, VALUES)


def test_the_last_line_of_a_gzip_that_ends_early_is_not_believed(tmp_path):
    count, values = 5000, noise(5000)[:, 0].round(6)
    text = table("time,a", seconds(np.arange(count) * 0.01), values).encode()
    packed = gzip.compress(text, 1)
    for cut in range(len(packed) // 2, len(packed) // 2 + 12):
        (tmp_path / "a.csv.gz").write_bytes(packed[:cut])
        found = read(tmp_path / "a.csv.gz")["other"].values[:, 0]
        np.testing.assert_array_equal(found, values[: found.size])


def test_two_columns_of_one_name(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    names = ["time", "a", "a", "tags"]
    columns = [TIMES, VALUES[:, 0], VALUES[:, 1], pa.array([[1]] * COUNT)]
    pyarrow.parquet.write_table(pa.table(columns, names=names), tmp_path / "a.parquet")
    recording = read(tmp_path / "a.parquet")
    np.testing.assert_array_equal(recording["other"].values, VALUES[:, :2])
    assert "column 'tags' holds list" in odd(recording)
    path = tmp_path / "b.csv"
    path.write_text(table("time,a,time", seconds(), VALUES[:, 0], seconds(TIMES + 5)))
    assert read(path)["other"].channels == ("a",)


@pytest.mark.parametrize("kind", ["duration", "time of day", "categories"])
def test_types_of_parquet_that_tell_their_own_unit(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    whole = (np.arange(COUNT) * 10).tolist()
    times = {
        "duration": pa.array(whole, pa.duration("ms")),
        "time of day": pa.array(whole, pa.time32("ms")),
        "categories": TIMES,
    }
    words = pa.array(["on", "off"] * (COUNT // 2)).dictionary_encode()
    recording = read(parquet(tmp_path / "a.parquet", time=times[kind], a=VALUES[:, 0], state=words))
    np.testing.assert_allclose(recording["other"].times, TIMES, atol=1e-9)
    assert recording["text"].values[:2].tolist() == ["on", "off"]


def test_bad_parquet_says_what_it_holds(tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    nested = pa.array([{"x": 1.0}] * COUNT)
    refused(
        parquet(tmp_path / "a.parquet", time=TIMES, gyro=nested),
        capsys,
        r"nothing else that can be read \(column 'gyro'",
    )
    coarse = (1.7e9 + TIMES).astype(np.float32)
    refused(parquet(tmp_path / "b.parquet", time=coarse, a=VALUES[:, 0]), capsys, "have 1 different times")
    few = pa.array([t if k % 3 == 0 else None for k, t in enumerate(TIMES.tolist())])
    refused(parquet(tmp_path / "c.parquet", time=few, a=VALUES[:, 0]), capsys, "333 of 500 rows have no readable time")


def test_numpy_spans_of_time_and_short_floats(tmp_path):
    spans = np.arange(COUNT) * np.timedelta64(10, "ms")
    spans[7] = np.timedelta64("NaT")
    np.savez(tmp_path / "a.npz", time=spans, gyro=VALUES)
    recording = read(tmp_path / "a.npz")
    np.testing.assert_allclose(recording["rotation_rate"].times, np.delete(TIMES, 7), atol=1e-9)
    assert "1 rows have no time" in odd(recording)
    np.save(tmp_path / "b.npy", np.column_stack([TIMES, VALUES]).astype(np.float16))
    assert np.abs(read(tmp_path / "b.npy")["other"].times - TIMES).max() < 2e-3
    gone = np.where(np.arange(COUNT) % 3 == 0, TIMES, np.nan)
    np.savez(tmp_path / "c.npz", time=gone, gyro=VALUES)
    with pytest.raises(ReadError, match="333 of 500 rows have no time"):
        read(tmp_path / "c.npz")


def test_a_damaged_stream_of_an_xdf_costs_no_other(tmp_path, capsys):
    pytest.importorskip("pyxdf")
    amp, glove, _ = lab()
    back = np.r_[amp["times"][:1000], amp["times"][300:1300]]
    xdf(tmp_path / "a.xdf", [amp | {"times": back}, glove])
    recording = read(tmp_path / "a.xdf")
    assert [s.kind for s in recording.streams] == ["rotation_rate"]
    assert "stream 'amp' is left out: rows 301 and 1001" in odd(recording)
    xdf(tmp_path / "b.xdf", [amp | {"times": back}])
    refused(tmp_path / "b.xdf", capsys, "no samples in it .*have the same time and different values")


@pytest.mark.parametrize("name", ["a.xdf.gz", "a.xdfz"])
def test_xdf_in_gzip(tmp_path, name):
    pytest.importorskip("pyxdf")
    whole = xdf(tmp_path / "a.xdf", lab())
    (tmp_path / name).write_bytes(gzip.compress(whole))
    packed, plain = read(tmp_path / name), read(tmp_path / "a.xdf")
    np.testing.assert_array_equal(packed["other"].values, plain["other"].values)
    (tmp_path / name).write_bytes(gzip.compress(whole)[:2000])
    assert run(["info", str(tmp_path / name)]) == USAGE


def mcap(path: Path, messages: list[object]) -> Path:
    pytest.importorskip("mcap")
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/imu", "json", writer.register_schema("imu", "jsonschema", b"{}"))
        for k, message in enumerate(messages):
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            writer.add_message(channel, EPOCH + k * 10**7, data, EPOCH + k * 10**7)
        writer.finish()
    return path


def gyro(k: int) -> dict:
    return {"gyro": {"x": k / 10, "y": 0.5, "z": 0.25}}


def test_messages_that_lack_a_number_have_it_missing(tmp_path):
    lacking = [gyro(k) if k % 10 else {"gyro": {"x": None, "y": 0.5, "z": 0.25}} for k in range(300)]
    values = read(mcap(tmp_path / "a.mcap", lacking))["rotation_rate"].values
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == list(range(0, 300, 10))
    np.testing.assert_array_equal(values[1::10, 0], np.arange(1, 300, 10) / 10)


def test_messages_of_two_shapes_are_two_streams(tmp_path):
    mixed = [gyro(k) if k % 3 else {"temperature": 20.0} for k in range(300)]
    recording = read(mcap(tmp_path / "a.mcap", mixed))
    assert [len(s.times) for s in recording.streams] == [200, 100]


def test_one_message_that_cannot_be_decoded_costs_no_other(tmp_path, capsys):
    broken = [b"{oops" if k == 150 else gyro(k) for k in range(300)]
    recording = read(mcap(tmp_path / "a.mcap", broken))
    assert len(recording["rotation_rate"].times) == 299
    assert "1 messages cannot be decoded" in odd(recording)
    refused(
        mcap(tmp_path / "b.mcap", [b"{oops"] * 300), capsys, "10 messages cannot be decoded .* nor those behind them"
    )


def test_stamps_that_only_some_messages_have_are_not_mixed_with_the_log_s(tmp_path):
    def stamped(k: int) -> dict:
        stamp = {"sec": 1_600_000_000 + k // 100, "nanosec": k % 100 * 10**7} if k % 2 else {"sec": 0, "nanosec": 0}
        return {"header": {"stamp": stamp}, **gyro(k)}

    recording = read(mcap(tmp_path / "a.mcap", [stamped(k) for k in range(300)]))
    np.testing.assert_allclose(recording["rotation_rate"].times, np.arange(300) * 0.01, atol=1e-9)
    assert "150 of 300 messages have no stamp of their own" in odd(recording)
