"""What becomes of events: kept, corrected or dropped, for reasons that are told; each file decoded once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import avfuse
from avfuse import ReadError, Recording, Stream, StreamError
from avfuse.alignment import ClockEstimate
from avfuse.clock import ClockMap
from avfuse.io import decoding
from avfuse.manifests import Event
from avfuse.preparation.deciding import judge_clock, judge_window, out_of_step
from avfuse.preparation.encoding import decode_samples
from avfuse.preparation.events import Part, prepare_event
from avfuse.preparation.examples import film_of
from avfuse.preparation.recipe import Limits, PictureForm, Recipe, SoundForm, load_recipe, recipe_from, with_values
from avfuse.preparation.shards import members_of
from avfuse.simulation import film_with_sound, write_media

DELAY, STARTED = 0.12, 3.2  # seconds: of the sound behind the picture; of the recorder after the camera
SMALL = PictureForm(speed="ultrafast", quality=28)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blows: a film whose sound is late, one that is in step, and a recorder beside the first."""
    folder = tmp_path_factory.mktemp("recorded")
    made = film_with_sound("blow", 3, duration=20.0, rate=25.0, delay=DELAY, size=(128, 72), distractors=False)
    write_media(folder / "late.mp4", made.recording)
    sound, picture = made.recording.streams
    assert isinstance(sound.values, np.ndarray)
    values = sound.values[0]
    first = round((DELAY + STARTED) * 16000)
    soundfile.write(folder / "recorder.wav", values[first : first + 15 * 16000], 16000)
    soundfile.write(folder / "other.wav", np.random.default_rng(5).normal(0, 0.05, 12 * 16000), 16000)
    early = replace(sound, values=np.ascontiguousarray(sound.values[:, round(DELAY * 16000) :]))
    write_media(folder / "good.mp4", Recording("good", (early, picture)))
    write_media(folder / "silent.mp4", Recording("silent", (picture,)))
    return folder


def event_of(folder: Path, start: float | None = None, end: float | None = None, **files: str) -> Event:
    return Event(
        "e1", {role: str(folder / name) for role, name in files.items()}, start=start, end=end, label="blow",
        sources=files,
    )  # fmt: skip


def prepared(event: Event, recipe: Recipe, folder: Path, spool: float = 1e9) -> tuple[Part, list[dict[str, bytes]]]:
    """The part, and for each sample that is kept its files."""
    out = io.BytesIO()
    part = prepare_event(event, "train", recipe, out, folder, spool)
    data = out.getvalue()
    spans = [row["members"] for row in part.rows if "members" in row]
    assert not any(folder.iterdir())  # nothing is left behind
    return part, [members_of(data[start : start + size]) for start, size in spans]


# Sound against picture


def test_late_sound_of_a_single_film_is_put_in_step(recorded: Path, tmp_path: Path) -> None:
    recipe = Recipe(None, picture=SMALL)
    part, (files,) = prepared(event_of(recorded, camera="late.mp4"), recipe, tmp_path)
    (row,) = part.rows
    assert row["decision"] == "correct"
    assert "sound comes +1" in row["reasons"][0]
    sound, picture = (row["streams"][name] for name in sorted(row["streams"], reverse=True))
    assert sound["moved"] == pytest.approx(-DELAY, abs=0.006)
    assert picture["moved"] == 0.0
    assert sound["std"] >= row["sync"]["camera"]["std"]
    assert_in_step(row, files, sound, picture, tmp_path)


def test_the_picture_moves_where_others_are_aligned_by_its_sound(recorded: Path, tmp_path: Path) -> None:
    for order in (("camera", "recorder"), ("recorder", "camera")):
        names = {"camera": "late.mp4", "recorder": "recorder.wav"}
        event = event_of(recorded, **{role: names[role] for role in order})
        recipe = Recipe(None, streams={"sound": "recorder/sound", "picture": "camera/picture"}, picture=SMALL)
        part, (files,) = prepared(event, recipe, tmp_path)
        (row,) = part.rows
        assert row["decision"] == "correct"
        assert len(row["reasons"]) == 2, row["reasons"]
        picture, sound = row["streams"]["picture"], row["streams"]["sound"]
        assert picture["moved"] == pytest.approx(DELAY, abs=0.006)
        assert sound["moved"] == 0.0
        moving = sound if order[0] == "camera" else picture
        assert abs(moving["offset"]) == pytest.approx(STARTED + DELAY, abs=1e-3)
        assert_in_step(row, files, sound, picture, tmp_path)


def assert_in_step(row: Any, files: Mapping[str, bytes], sound: Any, picture: Any, folder: Path) -> None:
    heard, seen = files[f"{row['key']}.{sound['file']}"], files[f"{row['key']}.{picture['file']}"]
    path = folder / "together.mp4"
    path.write_bytes(film_of(seen, picture["start"], heard))
    (found,) = avfuse.check(path)
    path.unlink()
    assert found.verdict == "in_sync"
    assert found.sound_delay == pytest.approx(0.0, abs=0.008)


def test_what_is_in_step_is_kept_as_it_is(recorded: Path, tmp_path: Path) -> None:
    part, samples = prepared(event_of(recorded, camera="good.mp4"), Recipe(5.0, picture=SMALL), tmp_path)
    assert {row["decision"] for row in part.rows} == {"keep"}
    assert not any(row["reasons"] for row in part.rows)
    assert len(samples) == len(part.rows) == 3
    assert all(facts["moved"] == 0.0 for row in part.rows for facts in row["streams"].values())


def test_out_of_step_is_dropped_where_nothing_may_be_corrected(recorded: Path, tmp_path: Path) -> None:
    recipe = Recipe(5.0, limits=Limits(correct=False), picture=SMALL)
    part, samples = prepared(event_of(recorded, camera="late.mp4"), recipe, tmp_path)
    (row,) = part.rows
    assert (row["decision"], samples) == ("drop", [])
    assert "nothing may be corrected" in row["reasons"][0]


@pytest.mark.parametrize("unsure", ["keep", "drop"])
def test_of_what_cannot_be_told_the_recipe_decides(recorded: Path, tmp_path: Path, unsure: Any) -> None:
    quiet = tmp_path / "in"
    quiet.mkdir()
    silence = Stream.from_samples(np.zeros(16000 * 8, np.float32), rate=16000)
    write_media(quiet / "a.mp4", Recording("a", (silence, small_picture(8.0))))
    recipe = Recipe(2.0, limits=Limits(unsure=unsure), picture=SMALL)
    (tmp_path / "work").mkdir()
    part, _ = prepared(event_of(quiet, camera="a.mp4"), recipe, tmp_path / "work")
    assert {row["decision"] for row in part.rows} == {unsure}
    assert all("in sync or not is unknown" in row["reasons"][0] for row in part.rows)


def small_picture(duration: float, rate: float = 25.0, size: tuple[int, int] = (64, 64)) -> Stream:
    rng = np.random.default_rng(2)
    count = round(duration * rate)
    frames = np.repeat(rng.integers(0, 255, (count, 1, 1, 3), np.uint8), size[0], axis=1).repeat(size[1], axis=2)
    return Stream("picture", "picture", frames, rate=rate)


# Nothing decodes twice


class Counted:
    """How often each packet of each stream was decoded: (file, stream, stamp) -> times, after `read` has looked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets: Counter[tuple[str, int, int | None]] = Counter()
        counted = decoding.decoded

        def decoded(container: Any, stream: Any, findings: Any) -> Iterator[Any]:
            for packet in decoding.packets(container, stream, findings):
                self.packets[Path(container.name).name, stream.index, packet.dts] += bool(packet.size)
                yield from decoding.frames_of(packet, findings)

        assert counted is not decoded
        monkeypatch.setattr(decoding, "decoded", decoded)

    def most(self) -> dict[str, int]:
        """File and stream -> how often its packets behind the first second, which `read` looks at, were decoded."""
        found: dict[str, int] = {}
        seen: Counter[tuple[str, int]] = Counter()
        for (file, index, _), times in sorted(self.packets.items(), key=lambda item: (item[0][:2], item[0][2] or 0)):
            seen[file, index] += 1
            if seen[file, index] > 60:
                found[f"{file}/{index}"] = max(found.get(f"{file}/{index}", 0), times)
        return found


@pytest.mark.parametrize(("limits", "duration"), [(Limits(), 2.0), (Limits(sync=False), None)], ids=["checked", "not"])
def test_a_single_film_is_decoded_once(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, duration: float | None
) -> None:
    counted = Counted(monkeypatch)
    prepared(event_of(recorded, camera="late.mp4"), Recipe(duration, limits=limits, picture=SMALL), tmp_path)
    assert counted.most() == {"late.mp4/0": 1, "late.mp4/1": 1}


def test_several_recordings_are_decoded_once_each(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    event = event_of(recorded, camera="late.mp4", recorder="recorder.wav", second="good.mp4")
    part, samples = prepared(event, Recipe(2.0, picture=SMALL, sound=SoundForm(rate=8000.0, mono=True)), tmp_path)
    assert samples, part.rows
    assert set(counted.most().values()) == {1}, counted.most()


def test_a_full_spool_costs_a_second_decoding_and_changes_nothing(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    event, recipe = event_of(recorded, camera="late.mp4"), Recipe(3.0, picture=SMALL)
    small = prepared(event, recipe, tmp_path, spool=3e5)
    assert counted.most() == {"late.mp4/0": 2, "late.mp4/1": 2}
    large = prepared(event, recipe, tmp_path)
    assert small[1] == large[1]
    assert small[0].rows == large[0].rows


# Damage


def truncated(source: Path, target: Path, share: float) -> Path:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def scratched(source: Path, target: Path) -> Path:
    """Noise over a tenth of the file, behind its middle."""
    data = bytearray(source.read_bytes())
    first = int(0.55 * len(data))
    data[first : first + len(data) // 10] = (
        np.random.default_rng(1).integers(0, 256, len(data) // 10, np.uint8).tobytes()
    )
    target.write_bytes(bytes(data))
    return target


@pytest.fixture(scope="module")
def damaged(recorded: Path, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    for name, options in {
        "fast.mp4": ["-c", "copy", "-movflags", "+faststart"],
        "a.mkv": ["-c", "copy"],
        "a.flac": ["-vn"],
        "a.wav": ["-vn"],
        "a.mp3": ["-vn"],
    }.items():
        subprocess.run([ffmpeg, "-v", "error", "-i", recorded / "good.mp4", *options, folder / name], check=True)
        truncated(folder / name, folder / f"cut-{name}", 0.6)
        scratched(folder / name, folder / f"scratched-{name}")
    return folder


@pytest.mark.parametrize("name", ["fast.mp4", "a.mkv", "a.flac", "a.wav"])
@pytest.mark.parametrize("damaged_limit", ["drop", "keep"])
def test_a_file_that_was_cut_short_is_told_and_dropped_or_kept_as_far_as_it_goes(
    damaged: Path, tmp_path: Path, name: str, damaged_limit: Any
) -> None:
    recipe = Recipe(1.0, limits=Limits(damaged=damaged_limit, sync=False), picture=SMALL)
    whole, _ = prepared(event_of(damaged, camera=name), recipe, tmp_path)
    assert not whole.errors
    part, samples = prepared(event_of(damaged, camera=f"cut-{name}"), recipe, tmp_path)
    assert [error["kind"] for error in part.errors] == ["Damaged"], part.rows
    assert part.errors[0]["source"] == f"cut-{name}"
    if damaged_limit == "drop":
        assert not samples
        assert all(part.errors[0]["message"] in row["reasons"][-1] for row in part.rows)
    else:
        assert 7 <= len(samples) <= 14
        wholes = [row["decision"] for row in whole.rows]
        assert 19 <= len(wholes) <= 20
        starts = [row["start"] for row in part.rows if row["decision"] != "drop"]
        np.testing.assert_allclose(np.diff(starts), 1.0)
        assert starts[0] < 0.1


@pytest.mark.parametrize("name", ["fast.mp4", "a.mkv", "a.flac", "a.mp3"])
def test_scratches_in_the_middle_are_told(damaged: Path, tmp_path: Path, name: str) -> None:
    recipe = Recipe(1.0, limits=Limits(damaged="keep", sync=False), picture=SMALL)
    part, samples = prepared(event_of(damaged, camera=f"scratched-{name}"), recipe, tmp_path)
    assert any(error["kind"] == "Damaged" for error in part.errors), part.rows
    assert len(samples) >= 8


# Names of modalities


NAMES = ["../x", "a/b", "a.b", "json", "ünï", "c:\\d", "-", "x" * 300, "é", "e\u0301", ".", "a//b", "a b", "\n", "cls"]


def test_no_name_of_a_modality_leaves_the_sample_or_is_another_s(recorded: Path, tmp_path: Path) -> None:
    wanted = [name for name in NAMES if name != "json"]
    recipe = Recipe(2.0, streams={name: "mic/sound" for name in wanted}, limits=Limits(sync=False))
    part, samples = prepared(event_of(recorded, mic="recorder.wav"), recipe, tmp_path)
    row, files = part.rows[0], samples[0]
    assert set(row["streams"]) == set(wanted)
    assert len(files) == len(wanted) + 1
    for file in files:
        key, _, extension = file.partition(".")
        assert key == row["key"]
        assert file.isascii()
        assert len(file) < 200
        assert not set(file) & set('/\\: \n"')
        assert extension.endswith((".flac", "json"))
    assert len({file.lower() for file in files}) == len(files)


def test_roles_that_differ_in_case_alone_are_refused(recorded: Path, tmp_path: Path) -> None:
    event = event_of(recorded, Mic="recorder.wav", mic="recorder.wav")
    with pytest.raises(StreamError, match="differ in case"):
        prepared(event, Recipe(2.0), tmp_path)


# Functions of the user's


def level(samples: Any) -> Any:
    return np.abs(samples.values).mean(axis=1)


def spectrum(samples: Any) -> Any:
    return np.abs(np.fft.rfft(samples.values[:16000, 0].reshape(100, 160), axis=1)).astype(np.float32)


def with_nan(samples: Any) -> Any:
    found = samples.values[:10].astype(np.float32)
    found[3] = np.nan
    return found


def as_samples(samples: Any) -> Any:
    return replace(samples, values=samples.values * 2.0)


def nothing(samples: Any) -> Any:
    return np.zeros((0, 4))


def fault(samples: Any) -> Any:
    raise KeyError("first\nsecond")


def none(samples: Any) -> Any:
    return None


def words(samples: Any) -> Any:
    return np.array(["a"] * len(samples.values))


def ragged(samples: Any) -> Any:
    return [[1.0], [1.0, 2.0]]


NO_FUNCTION = 3


def transformed(recorded: Path, folder: Path, name: str) -> tuple[Part, list[dict[str, bytes]]]:
    sys.modules.setdefault("test_deciding", sys.modules[__name__])
    recipe = Recipe(
        2.0, streams={"sound": "mic/sound"}, transforms={"sound": f"test_deciding:{name}"}, limits=Limits(sync=False)
    )
    return prepared(event_of(recorded, mic="recorder.wav"), recipe, folder)


def test_what_a_transform_returns_is_stored(recorded: Path, tmp_path: Path) -> None:
    heard, _ = soundfile.read(recorded / "recorder.wav", dtype="float32")
    for name in ("level", "spectrum", "with_nan", "as_samples"):
        part, samples = transformed(recorded, tmp_path, name)
        for k, (row, files) in enumerate(zip(part.rows, samples, strict=True)):
            values, times, valid = decode_samples(files[f"{row['key']}.sound.npz"])
            window = heard[k * 32000 : (k + 1) * 32000]
            assert ((times >= 0.0) & (times < 2.0)).all()
            facts = row["streams"]["sound"]
            assert (facts["codec"], facts["samples"], facts["coverage"]) == ("npz", len(values), 1.0)
            if name == "level":
                np.testing.assert_allclose(values, np.abs(window), atol=1e-12)
                np.testing.assert_allclose(times, np.arange(32000) / 16000, atol=1e-9)
            elif name == "spectrum":
                assert (values.shape, values.dtype) == ((100, 81), np.float32)
                np.testing.assert_allclose(np.diff(times), 0.02)
                assert times[0] == pytest.approx(0.01)
            elif name == "with_nan":
                assert valid.tolist() == [k != 3 for k in range(10)]
                assert np.isfinite(values).all()
            else:
                np.testing.assert_allclose(values[:, 0], 2.0 * window, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "told"),
    [("fault", "KeyError: 'first"), ("none", "NoneType"), ("words", "expected an array of numbers"),
     ("ragged", "expected an array of numbers"), ("lacking", "has no attribute"), ("NO_FUNCTION", "is int")],
)  # fmt: skip
def test_faults_of_transforms_are_told_in_one_line(recorded: Path, tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(StreamError, match="transform") as caught:
        transformed(recorded, tmp_path, name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_transform_that_returns_no_row_has_nothing_there(recorded: Path, tmp_path: Path) -> None:
    part, samples = transformed(recorded, tmp_path, "nothing")
    assert not samples
    assert all("nothing there" in row["reasons"][0] for row in part.rows)


# Sensors and text


def test_what_a_sensor_does_not_know_is_neither_valid_nor_covered(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "work").mkdir()
    times = np.arange(2000) / 100
    values = np.random.default_rng(0).normal(size=(2000, 3))
    values[430:460] = np.nan  # 0.3 s
    values[900] = np.nan
    lines = [f"{t:.3f},{x},{y},{z}" for t, (x, y, z) in zip(times, values, strict=True) if not 12.5 <= t < 13.0]
    (tmp_path / "in" / "imu.csv").write_text(
        "time [s],gyro_x [rad/s],gyro_y [rad/s],gyro_z [rad/s]\n" + "\n".join(lines)
    )
    recipe = Recipe(2.0, limits=Limits(coverage=0.9))
    part, samples = prepared(event_of(tmp_path / "in", watch="imu.csv"), recipe, tmp_path / "work")
    assert not part.errors
    found = {row["start"]: row for row in part.rows}
    assert len(found) == 9 or len(found) == 10
    covered = {start: next(iter(row["streams"].values()))["coverage"] for start, row in found.items()}
    assert covered[0.0] == 1.0
    assert covered[4.0] == pytest.approx(0.85, abs=0.006)
    assert covered[8.0] == pytest.approx(0.995, abs=0.0011)
    assert covered[12.0] == pytest.approx(0.75, abs=0.011)
    assert {start for start, row in found.items() if row["decision"] == "drop"} == {4.0, 12.0}
    valid = next(iter(found[8.0]["streams"].values()))["valid"]
    np.testing.assert_allclose(valid, [(0.0, 0.995), (1.005, 2.0)], atol=1e-6)
    files = dict(zip([row["key"] for row in part.rows if row["decision"] != "drop"], samples, strict=True))
    row = found[8.0]
    stream = next(iter(row["streams"].values()))
    stored, own, known = decode_samples(files[row["key"]][f"{row['key']}.{stream['file']}"])
    assert known.tolist() == [k != 100 for k in range(200)]
    np.testing.assert_allclose(stored[known], np.delete(values[800:1000], 100, axis=0), rtol=1e-12)
    np.testing.assert_allclose(own, np.arange(200) / 100, atol=1e-9)


def test_a_slow_sensor_covers_what_it_stands_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "work").mkdir()
    rows = "\n".join(f"{k * 1.5},{k}.5" for k in range(20))
    (tmp_path / "in" / "gps.csv").write_text("time [s],speed [m/s]\n" + rows)
    part, _ = prepared(event_of(tmp_path / "in", gps="gps.csv"), Recipe(3.0), tmp_path / "work")
    assert [row["decision"] for row in part.rows] == ["keep"] * 9


def test_lines_of_text_come_at_their_times(tmp_path: Path, recorded: Path, ffmpeg: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "a.srt").write_text(
        "1\n00:00:02,500 --> 00:00:03,000\nHallo\n\n2\n00:00:07,250 --> 00:00:08,000\nÄpfel\n"
    )
    subprocess.run(
        [ffmpeg, "-v", "error", "-i", recorded / "recorder.wav", "-i", tmp_path / "a.srt", "-c:a", "pcm_s16le",
         "-c:s", "srt",
         tmp_path / "in" / "a.mkv"], check=True,
    )  # fmt: skip
    recipe = Recipe(2.0, limits=Limits(lacking="keep"))
    part, samples = prepared(event_of(tmp_path / "in", mic="a.mkv"), recipe, tmp_path / "work")
    told = {}
    for row, files in zip(part.rows, samples, strict=True):
        if "mic/text" in row["streams"]:
            values, times, _ = decode_samples(files[f"{row['key']}.mic.text.npz"])
            told[row["start"]] = (bytes(values.astype(np.uint8)).decode(), set(np.round(times, 3).tolist()))
    assert {start: text.strip() for start, (text, _) in told.items()} == {2.0: "Hallo", 6.0: "Äpfel"}
    assert told[2.0][1] == {0.5}
    assert told[6.0][1] == {1.25}


# Recipes


BAD: list[dict[str, Any]] = [
    {"duration": "2"}, {"duration": -1}, {"duration": True}, {"duration": [2]}, {"duration": 0},
    {"duration": float("nan")},
    {"duration": 10**400, "hop": "x"}, {"hop": 1.0}, {"timeline": "both"}, {"timeline": ["union"]}, {"streams": []},
    {"streams": {}}, {"streams": "a/b"}, {"streams": {"x": 3}}, {"streams": {"x": "nosound"}}, {"streams": {"x": []}},
    {"streams": {"x": ["a/b", 2]}}, {"streams": {"x": "a/"}}, {"streams": {"x": "/b"}}, {"streams": {"": "a/b"}},
    {"streams": {"json": "a/b"}}, {"streams": {"key": "a/b"}}, {"streams": {"X": "a/b", "x": "a/c"}}, {"format": "zip"},
    {"format": 3}, {"shard": 0}, {"shard": 1.5}, {"shard": True}, {"shard": "10"}, {"validation": 1.2},
    {"validation": "0.1"}, {"test": -0.1}, {"test": 0.6, "validation": 0.6}, {"seed": 1.0}, {"seed": "a"},
    {"seed": True},
    {"spacing": -1}, {"spacing": "1 m"}, {"max_offset": 0}, {"max_offset": []}, {"transforms": []},
    {"transforms": {"x": 3}}, {"transforms": {"x": "math.sin"}}, {"transforms": {"x": ":f"}},
    {"transforms": {"x": "m:"}},
    {"limits": []}, {"limits": {"confidence": "high"}}, {"limits": {"confidence": 1.5}}, {"limits": {"std": 0}},
    {"limits": {"std": "1"}}, {"limits": {"coverage": -0.1}}, {"limits": {"offset": -1}}, {"limits": {"drift": []}},
    {"limits": {"lacking": "ignore"}}, {"limits": {"lacking": True}}, {"limits": {"unsure": 1}},
    {"limits": {"damaged": ["drop"]}}, {"limits": {"sync": "no"}}, {"limits": {"sync": 1}},
    {"limits": {"correct": "yes"}},
    {"limits": {"sync_confidence": None}}, {"picture": {"size": 64}}, {"picture": {"size": [64]}},
    {"picture": {"size": [64, 63]}}, {"picture": {"size": [64.0, 64]}}, {"picture": {"size": "64x64"}},
    {"picture": {"size": [8, 64]}}, {"picture": {"size": [True, 64]}}, {"picture": {"fit": "cover"}},
    {"picture": {"fit": 1}}, {"picture": {"rate": 0}}, {"picture": {"rate": "25"}}, {"picture": {"quality": 52}},
    {"picture": {"quality": 20.0}}, {"picture": {"quality": "20"}}, {"picture": {"quality": True}},
    {"picture": {"speed": "warp"}}, {"picture": {"speed": ["fast"]}}, {"sound": {"rate": 16000.5}},
    {"sound": {"rate": "16k"}}, {"sound": {"rate": 0}}, {"sound": {"rate": 10**12}}, {"sound": {"mono": 1}},
    {"sound": {"bits": 8}}, {"sound": {"bits": 16.0}}, {"sound": {"bits": "16"}}, {"sound": 3},
]  # fmt: skip


@pytest.mark.parametrize("document", BAD, ids=str)
def test_what_no_recipe_can_be_is_refused_by_its_name(document: dict[str, Any]) -> None:
    with pytest.raises(StreamError) as caught:
        recipe_from(document)
    (table, value), *_ = document.items()
    key = (
        f"{table}.{next(iter(value))}" if isinstance(value, dict) and table in ("limits", "picture", "sound") else table
    )
    assert any(name in str(caught.value) for name in (key, *document))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "hint"),
    [({"durations": 2.0}, "duration"), ({"limits": {"confidense": 1}}, "confidence"),
     ({"sound": {"Mono": True}}, "mono"), ({"picture": {"sise": [64, 64]}}, "size"), ({"zzz": 1}, "expected some of")],
)  # fmt: skip
def test_unknown_keys_of_a_recipe_are_told_with_what_they_may_mean(document: dict[str, Any], hint: str) -> None:
    with pytest.raises(StreamError, match=hint):
        recipe_from(document)
    (table, value), *_ = document.items()
    key = f"{table}.{next(iter(value))}" if isinstance(value, dict) else table
    with pytest.raises(StreamError, match=hint):
        with_values(Recipe(), {key: 1})


def test_a_recipe_s_file_is_told_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("duration = '2'\n")
    with pytest.raises(ReadError, match=r"r\.toml: duration is '2'"):
        load_recipe(path)
    path.write_text("duration = \n")
    with pytest.raises(ReadError, match=r"r\.toml: cannot be read as TOML"):
        load_recipe(path)
    path.write_text("duration = 2\nhop = 1\n[streams]\nsound = ['a/sound', 'b/sound']\n[picture]\nsize = [64, 96]\n")
    made = Recipe(2, 1, streams={"sound": ("a/sound", "b/sound")}, picture=PictureForm((64, 96)))
    assert load_recipe(path) == made


SHARES, SECONDS = st.floats(0.0, 1.0), st.none() | st.floats(1e-6, 1e6)
LACKING = st.sampled_from(["drop", "keep"])
LIMITS = st.builds(
    Limits, confidence=SHARES, std=SECONDS, coverage=SHARES, offset=SECONDS, drift=SECONDS, lacking=LACKING,
    sync=st.booleans(), sync_confidence=SHARES, unsure=LACKING, damaged=LACKING, correct=st.booleans(),
)  # fmt: skip
SIDES = st.integers(8, 4096).map(lambda n: 2 * n)
PICTURES = st.builds(
    PictureForm, size=st.none() | st.tuples(SIDES, SIDES), fit=st.sampled_from(["stretch", "crop", "pad"]),
    rate=SECONDS, quality=st.integers(0, 51), speed=st.sampled_from(["ultrafast", "medium"]),
)  # fmt: skip
SOUNDS = st.builds(
    SoundForm, rate=st.none() | st.integers(1, 400000).map(float), mono=st.booleans(), bits=st.sampled_from([16, 24])
)
STREAMS = st.none() | st.dictionaries(
    st.text("abcdeé/. ", min_size=1, max_size=6),
    st.sampled_from(["a/sound", ("a/sound",), ("a/sound", "b c/picture-2")]), min_size=1, max_size=3,
)  # fmt: skip
RECIPES = st.builds(
    Recipe, duration=st.just(3.0), hop=SECONDS, timeline=st.sampled_from(["union", "intersection"]), streams=STREAMS,
    limits=LIMITS, picture=PICTURES, sound=SOUNDS, format=st.sampled_from(["webdataset", "parquet"]),
    transforms=st.dictionaries(st.text(max_size=3), st.just("m.n:f"), max_size=2), shard=st.integers(1, 10**6),
    seed=st.integers(0, 2**62), spacing=st.floats(0.0, 100.0), max_offset=SECONDS, validation=st.floats(0.0, 0.5),
    test=st.floats(0.0, 0.5),
)  # fmt: skip


@given(RECIPES)
def test_a_recipe_is_the_same_behind_json(recipe: Recipe) -> None:
    document = recipe.to_json()
    again = recipe_from(json.loads(json.dumps(document)))
    assert again == recipe
    assert again.to_json() == document


@given(RECIPES, LIMITS)
def test_values_replace_those_that_they_name_and_no_other(recipe: Recipe, limits: Limits) -> None:
    values = {f"limits.{name}": value for name, value in asdict(limits).items()}
    found = with_values(recipe, {**values, "duration": 4.0, "hop": None})
    kept = {name: value for name, value in asdict(limits).items() if value is not None}
    assert found == replace(recipe, duration=4.0, limits=replace(recipe.limits, **kept))


# Limits


def clock(offset: float = 3.0, drift: float = 2e-5, confidence: float = 0.99) -> ClockEstimate:
    cov = np.diag([1e-6, 1e-14])
    return ClockEstimate("aligned", ClockMap(offset, drift), cov, confidence, span=(0.0, 60.0), reference="cam")


@pytest.mark.parametrize(
    ("estimate", "limits", "decision", "reason"),
    [
        (clock(), Limits(), "correct", "offset +3.0000 s, drift +20.0 ppm"),
        (clock(), Limits(correct=False), "drop", "nothing may be corrected"),
        (clock(0.0, 0.0), Limits(correct=False), "keep", None),
        (clock(confidence=0.9), Limits(), "drop", "probability of 0.90"),
        (clock(confidence=0.9), Limits(confidence=0.9), "correct", "offset"),
        (clock(-3.0), Limits(offset=2.9), "drop", "offset of 3.000 s"),
        (clock(-3.0), Limits(offset=3.0), "correct", "offset"),
        (clock(drift=-2e-3), Limits(), "drop", "drift of 2000 ppm"),
        (clock(drift=-2e-3), Limits(drift=None), "correct", "drift"),
        (ClockEstimate("no_match", message="nothing is shared"), Limits(), "drop", "nothing is shared"),
        (replace(clock(), reference="island"), Limits(), "drop", "island"),
    ],
)
def test_a_clock_is_judged_by_its_limits(
    estimate: ClockEstimate, limits: Limits, decision: str, reason: str | None
) -> None:
    found = judge_clock("mic", estimate, "cam", limits)
    assert found.decision == decision
    assert len(found.reasons) == (reason is not None)
    assert reason is None or reason in found.reasons[0]


def test_a_window_is_judged_by_what_it_has() -> None:
    limits = Limits(coverage=0.9, std=0.01)
    for found, decision, reasons in (
        ({"a": (0.9, 0.01), "b": (1.0, 0.0)}, "keep", 0),
        ({"a": (0.89, 0.0), "b": (1.0, 0.011)}, "drop", 2),
        ({"a": (1.0, 0.0)}, "drop", 1),
    ):
        verdict = judge_window(found, ["a", "b"], limits)
        assert (verdict.decision, len(verdict.reasons)) == (decision, reasons)
    kept = judge_window({"a": (1.0, 0.0)}, ["a", "b"], replace(limits, lacking="keep"))
    assert (kept.decision, kept.reasons) == ("keep", ("b: nothing there",))
    assert judge_window({}, ["a"], replace(limits, lacking="keep")).decision == "drop"


def test_samples_are_ranked_by_how_likely_they_are_out_of_step() -> None:
    def score(delay: float | None, std: float = 0.005, sure: float = 0.99) -> float:
        return out_of_step({"sound_delay": delay, "std": std, "confidence": sure, "likeliest": delay})

    assert out_of_step(None) == score(None) == 0.5
    assert score(0.01) < score(0.01, sure=0.6) < 0.5 < score(-0.1, sure=0.6) < score(-0.1)
    assert score(0.04) < score(0.04, std=0.03)  # less sure that it fits
    assert score(0.1) == pytest.approx(score(-0.1))
    guess = {"sound_delay": None, "std": None, "confidence": 0.8, "likeliest": 0.2}
    assert 0.5 < out_of_step(guess) < out_of_step(guess | {"confidence": 0.9})
    assert out_of_step(guess | {"likeliest": 0.0}) < 0.5
