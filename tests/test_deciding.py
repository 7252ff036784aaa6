"""What becomes of events: kept, corrected or dropped, for reasons that are told; each file decoded once."""

from __future__ import annotations

import io
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import avfuse
from avfuse import Recording, Stream
from avfuse.io import decoding
from avfuse.manifests import Event
from avfuse.preparation.events import Part, prepare_event
from avfuse.preparation.examples import film_of
from avfuse.preparation.recipe import Limits, PictureForm, Recipe, SoundForm
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


@pytest.mark.parametrize("streams", [None, {"sound": "camera/sound", "picture": "camera/picture"}])
def test_late_sound_of_a_single_film_is_put_in_step(recorded: Path, tmp_path: Path, streams: Any) -> None:
    recipe = Recipe(None, streams=streams, picture=SMALL)
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


@pytest.mark.parametrize("limits", [Limits(), Limits(sync=False)], ids=["checked", "not checked"])
@pytest.mark.parametrize("duration", [None, 2.0])
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
