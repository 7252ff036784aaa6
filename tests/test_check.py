"""Laws of avfuse.check and its command: the sign, the verdicts, the document and the exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse import ClockEstimate, ClockMap, ReadError, Recording, Stream
from avfuse.checking import judge
from avfuse.cli import run
from avfuse.simulation import film_with_sound, write_media


def flashing(delay: float, path: Path) -> Path:
    made = film_with_sound("flash", 5, duration=30.0, rate=25.0, delay=delay, size=(160, 96))
    return write_media(path, made.recording)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("films")
    flashing(0.0, where / "good.mp4")
    flashing(0.25, where / "late.mp4")
    flashing(-0.25, where / "early.mkv")
    sound = Stream.from_samples(np.zeros(16000 * 9, np.float32), rate=16000)
    write_media(where / "dark.mp4", Recording("dark", (sound,)))
    (where / "notes.txt").write_text("not a video")
    return where


def answer(delay: float, std: float) -> ClockEstimate:
    cov = np.diag([std**2, 0.0])
    return ClockEstimate("aligned", ClockMap(delay), cov, 0.99, span=(0.0, 60.0), drift_known=False)


def test_a_folder_is_a_list_and_late_sound_is_positive(folder):
    found = {Path(one.source).name: one for one in avfuse.check(folder)}
    assert list(found) == ["dark.mp4", "early.mkv", "good.mp4", "late.mp4"]
    assert {name: one.verdict for name, one in found.items()} == {
        "dark.mp4": "unknown", "early.mkv": "out_of_sync", "good.mp4": "in_sync", "late.mp4": "out_of_sync",
    }  # fmt: skip
    assert found["late.mp4"].sound_delay == pytest.approx(0.25, abs=0.004)
    assert found["early.mkv"].sound_delay == pytest.approx(-0.25, abs=0.004)
    assert found["dark.mp4"].sound_delay is None
    assert "no picture" in (found["dark.mp4"].message or "")


def test_the_document_is_the_contract_s(folder, capsys):
    code = run(["check", str(folder / "late.mp4"), str(folder / "dark.mp4"), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert code == 3
    assert printed["format"] == "avfuse.check/1"
    keys = {"source", "verdict", "sound_delay", "std", "confidence", "message"}
    assert [set(one) for one in printed["files"]] == [keys, keys]
    late, dark = printed["files"]
    assert late["source"] == str(folder / "late.mp4")
    assert late["message"] is None
    assert late["confidence"] >= 0.95
    assert dark["sound_delay"] is None and dark["std"] is None  # noqa: PT018


def test_exit_codes_tell_in_step_doubtful_and_unreadable(folder, capsys):
    assert run(["check", str(folder / "good.mp4")]) == 0
    table = capsys.readouterr().out
    assert "in_sync" in table and "flash" in table and "R37" in table  # noqa: PT018
    assert run(["check", str(folder / "late.mp4")]) == 3
    assert run(["check", str(folder / "gone.mp4"), str(folder / "good.mp4")]) == 2
    done = capsys.readouterr()
    assert "gone.mp4: no such file" in done.err
    assert "in_sync" in done.out  # what can be read is looked at all the same


def test_a_broken_file_in_a_folder_is_unknown_and_one_that_is_named_an_error(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(os.urandom(2000))
    (found,) = avfuse.check(tmp_path)
    assert found.verdict == "unknown"
    assert found.message and "FFmpeg" in found.message  # noqa: PT018
    with pytest.raises(ReadError):
        avfuse.check(tmp_path / "broken.mp4")
    (tmp_path / "broken.mp4").unlink()
    with pytest.raises(ReadError, match="without videos"):
        avfuse.check(tmp_path)


@pytest.mark.parametrize(
    ("delay", "std", "verdict"),
    [
        (0.0, 0.001, "in_sync"), (0.055, 0.001, "in_sync"), (-0.035, 0.002, "in_sync"), (0.02, 0.025, "in_sync"),
        (0.12, 0.004, "out_of_sync"), (-0.06, 0.004, "out_of_sync"), (0.065, 0.001, "out_of_sync"),
        (0.3, 0.1, "out_of_sync"),
        (0.0, 0.1, "unknown"), (0.08, 0.03, "unknown"), (-0.038, 0.02, "unknown"),
    ],
)  # fmt: skip
def test_the_interval_decides_against_the_tolerances(delay, std, verdict):
    found = judge("a.mp4", answer(delay, std))
    assert found.verdict == verdict
    assert (found.sound_delay is None) == (verdict == "unknown")
    assert (found.message is None) == (verdict != "unknown")


def test_a_refusal_says_why():
    found = judge("a.mp4", ClockEstimate("no_match", message="nothing goes together"))
    assert (found.verdict, found.message, found.std) == ("unknown", "nothing goes together", None)
