"""Laws of streams and recordings, and of outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfuse import Recording, Stream, StreamError, WriteError
from avfuse.files import check_folder, check_writable, replacing


@given(
    samples=st.integers(1, 5000),
    rate=st.sampled_from([8000.0, 11025.0, 48000.0]),
    start=st.floats(-10, 1e5),
    duration=st.floats(1e-4, 2.0),
)
def test_blocks_of_sound_touch_and_hold_every_sample_once(
    samples: int, rate: float, start: float, duration: float
) -> None:
    values = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
    stream = Stream.from_samples(values, rate=rate, start=start)
    blocks = list(stream.blocks(duration))
    np.testing.assert_array_equal(np.concatenate([v for _, v in blocks], axis=1), values)
    times = np.concatenate([t for t, _ in blocks])
    np.testing.assert_allclose(times, start + np.arange(samples) / rate, atol=1e-9)
    assert times.dtype == np.float64
    assert all(v.dtype == np.float32 and v.shape[1] <= max(1, round(duration * rate)) for _, v in blocks)


@given(gaps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=40), duration=st.floats(0.01, 5.0))
def test_blocks_of_uneven_streams_hold_every_value_once_in_time(gaps: list[float], duration: float) -> None:
    times = np.cumsum(np.array(gaps))
    stream = Stream("motion", "rotation_rate", np.arange(3.0 * len(times)).reshape(-1, 3), times=times)
    blocks = list(stream.blocks(duration))
    np.testing.assert_array_equal(np.concatenate([t for t, _ in blocks]), times)
    np.testing.assert_array_equal(np.concatenate([v for _, v in blocks]), stream.values)
    assert all(len(t) == 1 or t[-1] - t[0] <= duration for t, _ in blocks)


def test_a_stream_lasts_to_the_end_of_its_last_sample() -> None:
    stream = Stream.from_samples(np.zeros(800), rate=8000, start=2.5)
    assert (stream.duration, stream.start_time, stream.end) == (0.1, 2.5, 2.6)
    stamped = Stream("tilt", "orientation", np.zeros((3, 4)), times=np.array([1.0, 2.0, 4.0]))
    assert (stamped.duration, stamped.start_time, stamped.end) == (3.0, 1.0, 4.0)


@pytest.mark.parametrize(
    ("dtype", "lowest", "middle"), [(np.int16, -32768, 0), (np.int32, -(2**31), 0), (np.uint8, 0, 128)]
)
def test_integer_sound_is_scaled_to_one(dtype: type, lowest: int, middle: int) -> None:
    stream = Stream.from_samples(np.array([lowest, middle], dtype), rate=8000)
    np.testing.assert_array_equal(stream.values, [[-1.0, 0.0]])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "no values"),
        ([[1.0, 2.0], [1.0]], "ragged"),
        ([0.0, np.nan], "1 of 2 samples are NaN or infinite"),
        ([0.0, np.inf], "NaN or infinite"),
        (["loud", "quiet"], "expected numbers"),
        (np.zeros((1000, 100)), "try values.T"),
        (np.zeros((1, 2, 3)), r"expected \(channels, samples\)"),
        ([1j, 2j], "expected numbers"),
    ],
)
def test_what_is_no_sound_is_refused_by_name(values: object, words: str) -> None:
    with pytest.raises(StreamError, match=words) as caught:
        Stream.from_samples(values, rate=8000, name="mic")  # type: ignore[arg-type]
    assert "'mic'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_is_positive(rate: float) -> None:
    with pytest.raises(StreamError, match="expected a positive number"):
        Stream.from_samples(np.zeros(10), rate=rate)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "smell"}, "expected one of"),
        ({"times": np.array([0.0, 1.0])}, "3 values but times has shape"),
        ({"times": np.array([0.0, 1.0, 2.0], np.float32)}, "expected float64 seconds"),
        ({"times": np.array([0.0, 2.0, 1.0])}, "in order"),
        ({"times": np.array([0.0, np.nan, 1.0])}, "finite"),
        ({"times": None}, "give either times or rate"),
        ({"rate": 3.0}, "give either times or rate"),
        ({"start": np.nan}, "expected a finite number"),
        ({"values": [1, 2, 3]}, "expected a NumPy array"),
    ],
)
def test_streams_that_contradict_themselves_are_refused(changes: dict[str, object], words: str) -> None:
    whole: dict[str, object] = {"name": "imu", "kind": "other", "values": np.zeros(3), "times": np.arange(3.0)}
    Stream(**whole)  # type: ignore[arg-type]
    with pytest.raises(StreamError, match=words):
        Stream(**(whole | changes))  # type: ignore[arg-type]


class Decoder:
    """A source that makes its blocks when asked."""

    duration = 3.0

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield np.array([duration]), np.array([[rate or 0.0]], np.float32)


def test_a_lazy_stream_asks_its_source() -> None:
    stream = Stream("sound", "sound", Decoder(), rate=8000.0)
    assert stream.lazy
    assert stream.duration == 3.0
    ((times, values),) = stream.blocks(0.5, rate=4000.0)
    assert (times[0], values[0, 0]) == (0.5, 4000.0)


def test_only_sound_is_resampled_while_reading_and_blocks_have_a_length() -> None:
    stream = Stream("imu", "rotation_rate", np.zeros((5, 3)), rate=100.0)
    with pytest.raises(StreamError, match="only sound"):
        next(stream.blocks(1.0, rate=50.0))
    with pytest.raises(StreamError, match="positive duration"):
        next(stream.blocks(0.0))


def test_a_recording_finds_its_streams_by_name_and_kind() -> None:
    left, right = (Stream.from_samples(np.zeros(n), rate=100, name=name) for n, name in ((100, "left"), (250, "right")))
    imu = Stream("imu", "rotation_rate", np.zeros((5, 3)), rate=100.0)
    recording = Recording("cam", (left, imu, right))
    assert recording["left"] is left
    assert recording.of_kind("sound") == (left, right)
    assert recording.duration == 2.5
    with pytest.raises(KeyError, match="it has left, imu, right"):
        recording["middle"]
    with pytest.raises(StreamError, match="not unique"):
        Recording("cam", (left, left))


# Outputs.


def test_an_output_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".json"
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_failed_output_leaves_what_was_there(tmp_path: Path, fault: type[BaseException]) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise fault

    with pytest.raises(fault):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"out\.wav: cannot be written \(No space left"),
        replacing(tmp_path / "out.wav"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_faults_of_other_files_are_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "out.wav"):
        (tmp_path / "missing.wav").read_bytes()


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with replacing(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.skipif(not Path(os.devnull).is_char_device(), reason="this system has no null device to protect")
def test_a_device_is_written_to_and_never_replaced() -> None:
    check_writable(os.devnull)
    with replacing(os.devnull) as out:
        out.write_text("gone")
    assert Path(os.devnull).is_char_device()


def test_places_that_cannot_be_written_are_known_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new.json")
    check_folder(tmp_path / "new" / "deeper")
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(WriteError, match="is a folder"):
        check_writable(tmp_path)
    for path in (tmp_path / "absent" / "a.json", tmp_path / "file" / "a.json"):
        with pytest.raises(WriteError, match="does not exist"):
            check_writable(path)
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(WriteError, match="is a file"):
            check_folder(path)
    with pytest.raises(WriteError, match="cannot be written"):
        check_writable(tmp_path / ("n" * 300))
