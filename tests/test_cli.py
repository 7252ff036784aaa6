"""The contract that scripts rely on: what goes where, exit codes, and nothing half-written."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avfuse import ClockMap, Recording, Stream, load_alignment, simulate
from avfuse.cli import main
from avfuse.simulation import Device, SimulatedEvent, write_media
from avfuse.simulation.cases import simulate_case

AVFUSE = [sys.executable, "-m", "avfuse"]
OFFSET = 3.25  # of b on the clock of a


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def avfuse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs the command in this process, as its entry point does."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Done(int(stopped.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def event() -> SimulatedEvent:
    """b starts 3.25 s after a, in the same place."""
    devices = [
        Device("a", ClockMap(0.5), 16.0, rate=16000.0, position=(1.0, 0.0, 0.0), snr_db=20.0, ceiling=1.0, gain=0.3),
        Device("b", ClockMap(0.5 + OFFSET), 12.0, rate=16000.0, position=(1.0, 0.0, 0.0), snr_db=20.0, ceiling=1.0),
    ]
    return simulate(duration=17.0, devices=devices, rng=5)


@pytest.fixture(scope="session")
def takes(event: SimulatedEvent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a.wav and b.wav."""
    folder = tmp_path_factory.mktemp("takes")
    event.write(folder)
    return folder


def one_line(done: Done) -> str:
    assert done.code == 2
    assert done.out == ""
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    return done.err


def wav(path: Path, values: np.ndarray, rate: float = 16000.0) -> Path:
    return write_media(path, Recording(path.stem, (Stream.from_samples(values, rate=rate),)))


# align


def test_a_pair_is_put_on_the_clock_of_the_longest(avfuse: Callable[..., Done], takes: Path) -> None:
    done = avfuse("align", takes / "b.wav", takes / "a.wav", "--json")
    assert done.code == 0
    assert done.err == ""
    clocks = done.document["clocks"]
    assert done.document["format"] == "avfuse.alignment/1"
    assert done.document["reference"] == "a"
    assert clocks["a"]["status"] == "reference"
    assert clocks["b"]["status"] == "aligned"
    assert clocks["b"]["segments"][0]["offset"] == pytest.approx(OFFSET, abs=2e-4)
    assert clocks["b"]["source"] == str(takes / "b.wav")


def test_the_order_of_the_files_does_not_matter(avfuse: Callable[..., Done], takes: Path) -> None:
    there = avfuse("align", takes / "a.wav", takes / "b.wav", "--json").document
    back = avfuse("align", takes / "b.wav", takes / "a.wav", "--json").document
    assert there == back


def test_the_reference_is_given_by_name_or_path(avfuse: Callable[..., Done], takes: Path) -> None:
    for reference in ("b", takes / "b.wav"):
        done = avfuse("align", takes / "a.wav", takes / "b.wav", "--reference", reference, "--json")
        assert done.code == 0
        assert done.document["reference"] == "b"
        assert done.document["clocks"]["a"]["segments"][0]["offset"] == pytest.approx(-OFFSET, abs=2e-4)
    assert "nobody" in one_line(avfuse("align", takes / "a.wav", takes / "b.wav", "--reference", "nobody"))


def test_without_an_output_option_nothing_is_written(
    avfuse: Callable[..., Done], takes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = avfuse("align", takes / "a.wav", takes / "b.wav")
    assert done.code == 0
    assert any(line.split()[0] == "b" and "aligned" in line for line in done.out.splitlines() if line.strip())
    assert done.err == ""
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in takes.iterdir()) == ["a.wav", "b.wav"]


def test_every_output_that_was_asked_for_is_written(avfuse: Callable[..., Done], takes: Path, tmp_path: Path) -> None:
    saved, picture, folder = tmp_path / "alignment.json", tmp_path / "timeline.svg", tmp_path / "aligned"
    timeline, page = tmp_path / "timeline.otio", tmp_path / "report.html"
    outputs = ["-o", saved, "--picture", picture, "--render", folder, "--timeline", timeline, "--report", page]
    done = avfuse("align", takes / "a.wav", takes / "b.wav", *outputs, "--json")
    assert done.code == 0
    assert json.loads(timeline.read_text())["OTIO_SCHEMA"] == "Timeline.1"
    assert json.loads(saved.read_text())["clocks"]["b"]["segments"] == done.document["clocks"]["b"]["segments"]
    assert picture.stat().st_size > 0
    assert "Confirmed" in page.read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav"]
    again = avfuse("align", folder / "a.wav", folder / "b.wav", "--json").document
    for clock in again["clocks"].values():
        for segment in clock.get("segments", []):
            assert abs(segment["offset"]) < 5e-5
    other = avfuse("render", saved, "-o", tmp_path / "second", "--intersection")
    assert other.code == 0
    assert sorted(path.name for path in (tmp_path / "second").iterdir()) == ["a.wav", "b.wav"]


def test_names_come_from_stems_then_file_names_then_numbers(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path, ffmpeg: str
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(takes / "b.wav", tmp_path / folder / "take.wav")
    flac = tmp_path / "take.flac"
    subprocess.run([ffmpeg, "-v", "error", "-i", takes / "b.wav", flac], check=True)
    files = [takes / "a.wav", tmp_path / "one" / "take.wav", tmp_path / "two" / "take.wav", flac]
    names = set(avfuse("align", *files, "--json").document["clocks"])
    assert {"a", "take.flac"} < names
    assert len(names) == 4
    assert all(name.startswith("take.wav") for name in names - {"a", "take.flac"})


@pytest.mark.parametrize(
    "change",
    [
        "same file",
        "equal stems",
        "cancelling stereo",
        "5.1",
        "8 kHz and 192 kHz",
        "non-Latin names",
        "inverted",
        "a colon",
    ],
)
def test_odd_input_that_simply_works(
    avfuse: Callable[..., Done],
    event: SimulatedEvent,
    takes: Path,
    tmp_path: Path,
    change: str,
    ffmpeg: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, offset = [takes / "a.wav", takes / "b.wav"], OFFSET
    b = np.asarray(event["b"]["sound"].values)
    match change:
        case "same file":
            files, offset = [takes / "a.wav", takes / "a.wav"], 0.0
        case "equal stems":
            for k, name in enumerate("ab"):
                (tmp_path / name).mkdir()
                files[k] = Path(shutil.copy(takes / f"{name}.wav", tmp_path / name / "take.wav"))
        case "cancelling stereo":
            files[1] = wav(tmp_path / "b.wav", np.concatenate([b, -b]))
        case "inverted":
            files[1] = wav(tmp_path / "b.wav", -b)
        case "5.1":
            files[1] = wav(tmp_path / "b.wav", np.concatenate([b * gain for gain in (0, 0.3, 0.5, 0, 0, 0.2)]))
        case "8 kHz and 192 kHz":
            for k, (name, rate) in enumerate((("a", 8000), ("b", 192000))):
                files[k] = tmp_path / f"{name}.wav"
                source = ["-i", takes / f"{name}.wav", "-ar", str(rate)]
                subprocess.run([ffmpeg, "-v", "error", *source, files[k]], check=True)
        case "a colon":
            files[1] = Path(shutil.copy(takes / "b.wav", tmp_path / "12:30:05.wav"))
            monkeypatch.chdir(tmp_path)
            files[1] = Path("12:30:05.wav")
        case "non-Latin names":
            files = [
                Path(shutil.copy(f, tmp_path / name)) for f, name in zip(files, ("入口 1.wav", "Ü ß.wav"), strict=True)
            ]
    done = avfuse("align", *files, "--json")
    assert done.code == 0, done.out
    (moving,) = (c for c in done.document["clocks"].values() if c["status"] == "aligned")
    assert moving["segments"][0]["offset"] == pytest.approx(offset, abs=3e-4)


def test_names_that_are_no_utf8_survive_in_json(avfuse: Callable[..., Done], takes: Path, tmp_path: Path) -> None:
    names = [os.fsdecode(raw) for raw in (b"caf\xe8", b"caf\xe9")]
    files = [
        Path(shutil.copy(takes / f, tmp_path / f"{n}.wav")) for f, n in zip(("a.wav", "b.wav"), names, strict=True)
    ]
    saved, picture = tmp_path / "alignment.json", tmp_path / "timeline.png"
    done = avfuse("align", *files, "--json", "-o", saved, "--picture", picture)
    assert done.code == 0
    assert set(done.document["clocks"]) == set(names)
    assert set(load_alignment(saved).clocks) == set(names)
    assert picture.exists()


def test_a_file_that_is_cut_short_is_said_to_be(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path, ffmpeg: str
) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-i", takes / "b.wav", "-movflags", "+faststart", whole], check=True)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 5])
    done = avfuse("align", takes / "a.wav", cut, "--json")
    (moving,) = (c for c in done.document["clocks"].values() if c["status"] == "aligned")
    assert moving["segments"][0]["offset"] == pytest.approx(OFFSET, abs=1e-3)
    assert "cut short" in moving["message"]


@pytest.mark.parametrize("what", ["silence", "a tenth of a second", "constant", "video without sound"])
def test_what_says_nothing_is_refused_with_a_reason(
    avfuse: Callable[..., Done], event: SimulatedEvent, takes: Path, tmp_path: Path, what: str, ffmpeg: str
) -> None:
    b = np.asarray(event["b"]["sound"].values)[0]
    if what == "video without sound":
        odd = tmp_path / "odd.mp4"
        subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=d=8:s=160x120", odd], check=True)
    else:
        values = {"silence": np.zeros(80000), "a tenth of a second": b[:1600], "constant": np.full(80000, 0.2)}[what]
        odd = wav(tmp_path / "odd.wav", values)
    done = avfuse("align", takes / "a.wav", takes / "b.wav", odd, "--json", "-o", tmp_path / "alignment.json")
    assert done.code == 3
    clocks = done.document["clocks"]
    assert clocks["b"]["status"] == "aligned"
    assert clocks["odd"]["status"] in ("degenerate", "no_match", "ambiguous")
    assert clocks["odd"]["segments"] == []
    assert clocks["odd"]["message"]
    assert json.loads((tmp_path / "alignment.json").read_text())["clocks"]["odd"]["message"]


def test_unrelated_recordings_are_refused(avfuse: Callable[..., Done], takes: Path, tmp_path: Path) -> None:
    noise = wav(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(160000))
    done = avfuse("align", takes / "a.wav", noise)
    assert done.code == 3
    assert any(line.startswith("noise: ") for line in done.out.splitlines())


BAD = {
    "missing": lambda folder: folder / "absent.wav",
    "folder": lambda folder: folder,
    "empty": lambda folder: _written(folder / "empty.wav", b""),
    "text": lambda folder: _written(folder / "text.wav", b"these are words and no sound\n" * 50),
    "truncated": lambda folder: _truncated(folder / "cut.mp4"),
}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _truncated(path: Path) -> Path:
    wav(path, 0.1 * np.random.default_rng(1).standard_normal(64000))
    whole = path.read_bytes()
    return _written(path, whole[: len(whole) // 2])


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", ["align", "info"])
def test_bad_input_is_one_clear_line(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path, kind: str, command: str
) -> None:
    bad = BAD[kind](tmp_path)
    before = sorted(tmp_path.iterdir())
    arguments = [bad] if command == "info" else [takes / "a.wav", bad, "-o", tmp_path / "alignment.json"]
    line = one_line(avfuse(command, *arguments))
    assert line.startswith("avfuse: ")
    assert str(bad) in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["algin", "a.wav"],
        ["align"],
        ["align", "a.wav", "--max-offset", "soon"],
        ["align", "a.wav", "--max-offset", "-1"],
        ["align", "a.wav", "--spacing", "-1"],
        ["align", "a.wav", "--colour"],
        ["render", "alignment.json"],
        ["export", "alignment.json"],
        ["report", "alignment.json"],
        ["info"],
    ],
)
def test_bad_usage_is_one_line_that_says_where_help_is(avfuse: Callable[..., Done], arguments: list[str]) -> None:
    line = one_line(avfuse(*arguments))
    assert line.startswith("avfuse: ")
    assert "--help" in line


def test_outputs_that_cannot_be_written_fail_before_anything_is_read(
    avfuse: Callable[..., Done], tmp_path: Path
) -> None:
    a_file = _written(tmp_path / "file", b"")
    for option, place in (
        ("-o", tmp_path / "absent" / "alignment.json"),
        ("--report", tmp_path / "absent" / "report.html"),
        ("-o", tmp_path),
        ("--render", a_file),
        ("--picture", tmp_path / "timeline.gif"),
        ("--picture", tmp_path / "absent" / "timeline.png"),
        ("--timeline", tmp_path / "timeline.xml"),
        ("--timeline", tmp_path / "absent" / "timeline.otio"),
    ):
        # The recording is missing too: that is found later.
        line = one_line(avfuse("align", tmp_path / "absent.wav", option, place))
        assert str(place) in line
    assert list(tmp_path.iterdir()) == [a_file]


@pytest.mark.parametrize("option", ["-o", "--picture", "--timeline", "--report"])
def test_an_output_never_replaces_a_recording(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path, option: str
) -> None:
    take = Path(shutil.copy(takes / "b.wav", tmp_path / "take.png"))
    line = one_line(avfuse("align", takes / "a.wav", take, option, tmp_path / "." / "take.png"))
    assert "is one of the recordings" in line
    assert take.read_bytes() == (takes / "b.wav").read_bytes()
    both = tmp_path / "both.png"
    for first, second in (("-o", "--picture"), ("-o", "--timeline"), ("--picture", "--report")):
        outputs = [first, both, second, both]
        assert "two names" in one_line(avfuse("align", takes / "a.wav", takes / "b.wav", *outputs))
    assert not both.exists()


def test_no_arguments_show_what_there_is(avfuse: Callable[..., Done]) -> None:
    done = avfuse()
    assert done.code == 2
    assert avfuse("--help").out == done.out
    for command in ("demo", "info", "align", "render", "export", "report"):
        assert command in done.out
        assert avfuse(command, "--help").code == 0
    assert avfuse("--version").out.startswith("avfuse ")


# export


def saved_alignment(takes: Path, place: Path, **refused: str) -> Path:
    """An alignment.json of a.wav and b.wav, and of what `refused` names with a reason."""
    line = {"offset": OFFSET, "drift": 1e-5, "start": 0.0, "end": 12.0, "std": 1e-5, "drift_std": 1e-8, "cov": None}
    clocks: dict[str, Any] = {
        "a": {"status": "reference", "source": str(takes / "a.wav"), "duration": 16.0},
        "b": {
            "status": "aligned", "source": str(takes / "b.wav"), "duration": 12.0, "confidence": 0.9999,
            "segments": [line],
        },
    }  # fmt: skip
    for name, message in refused.items():
        source = str(takes / "b.wav")
        clocks[name] = {"status": "no_match", "source": source, "duration": 12.0, "segments": [], "message": message}
    place.write_text(json.dumps({"format": "avfuse.alignment/1", "reference": "a", "clocks": clocks}))
    return place


@pytest.mark.parametrize("suffix", ["otio", "fcpxml"])
def test_a_timeline_is_written_and_its_rounding_said(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path, suffix: str
) -> None:
    saved, timeline = saved_alignment(takes, tmp_path / "alignment.json"), tmp_path / f"timeline.{suffix}"
    done = avfuse("export", saved, "-o", timeline)
    assert (done.code, done.out) == (0, "")
    assert timeline.stat().st_size > 1000
    assert done.err.startswith(f"wrote {timeline}\n")
    assert ("on frames of 40.0 ms" in done.err) == (suffix == "fcpxml")
    assert "on frames of 16.7 ms" in avfuse("export", saved, "-o", tmp_path / "t.fcpxml", "--rate", "60").err


def test_a_timeline_of_what_is_refused_is_written_and_the_code_is_3(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path
) -> None:
    saved = saved_alignment(takes, tmp_path / "alignment.json", odd="nothing shared")
    done = avfuse("export", saved, "-o", tmp_path / "timeline.fcpxml")
    assert done.code == 3
    assert "not aligned: no match" in (tmp_path / "timeline.fcpxml").read_text()


def test_what_export_cannot_do_is_one_line(avfuse: Callable[..., Done], takes: Path, tmp_path: Path) -> None:
    saved = saved_alignment(takes, tmp_path / "alignment.json")
    before = saved.read_bytes()
    for arguments, said in (
        (["-o", tmp_path / "timeline.aaf"], ".otio or .fcpxml"),
        (["-o", tmp_path / "absent" / "timeline.otio"], "does not exist"),
        (["-o", takes / "a.wav"], "timeline"),
        (["-o", tmp_path / "t.otio", "--rate", "17"], "23.976"),
        (["-o", tmp_path / "t.otio", "--rate", "-1"], "23.976"),
        (["-o", tmp_path / "t.otio", "--rendered", tmp_path / "absent"], "avfuse render"),
    ):
        assert said in one_line(avfuse("export", saved, *arguments))
    assert ".otio or .fcpxml" in one_line(avfuse("export", saved, "-o", saved))
    assert saved.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saved]


# report


def test_a_saved_alignment_is_explained_and_the_exit_code_says_whether_it_is_whole(
    avfuse: Callable[..., Done], takes: Path, tmp_path: Path
) -> None:
    saved, page = tmp_path / "alignment.json", tmp_path / "report.html"
    quiet = wav(tmp_path / "quiet.wav", np.zeros(80000))
    assert avfuse("align", takes / "a.wav", takes / "b.wav", quiet, "-o", saved).code == 3
    done = avfuse("report", saved, "-o", page)
    assert (done.code, done.out, done.err) == (3, "", f"wrote {page}\n")
    assert "Confirmed" in page.read_text(encoding="utf-8")
    before = saved.read_bytes()
    assert "is the alignment itself" in one_line(avfuse("report", saved, "-o", saved))
    assert "is one of the recordings" in one_line(avfuse("report", saved, "-o", quiet))
    assert "no such file" in one_line(avfuse("report", tmp_path / "absent.json", "-o", page))
    assert saved.read_bytes() == before


# info


def test_info_goes_on_after_a_bad_file(avfuse: Callable[..., Done], takes: Path) -> None:
    done = avfuse("info", takes / "absent.wav", takes / "a.wav", "--json")
    assert done.code == 2
    assert done.err.count("\n") == 1
    (found,) = done.document["files"]
    assert done.document["format"] == "avfuse.info/1"
    assert found["name"] == "a"
    assert found["streams"][0]["rate"] == 16000


def test_info_tells_what_is_odd(avfuse: Callable[..., Done], shared: Path) -> None:
    done = avfuse("info", shared / "picture" / "fire2.mp4")
    assert done.code == 0
    assert "1280 x 720" in done.out
    assert "odd: picture: variable frame rate" in done.out


# faults, interruptions, terminals


def test_a_fault_is_one_line_and_a_traceback_on_demand(
    avfuse: Callable[..., Done], takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("avfuse.aligning.align", broken)
    done = avfuse("align", takes / "a.wav", takes / "b.wav")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "report" in done.err
    assert "ZeroDivisionError: division by zero" in done.err
    monkeypatch.setenv("AVFUSE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["align", str(takes / "a.wav"), str(takes / "b.wav")])


def test_ctrl_c_inside_a_kernel_is_an_interruption(
    avfuse: Callable[..., Done], takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba raises a SystemError there, with the KeyboardInterrupt as its cause."""

    def interrupted(*_: object, **__: object) -> None:
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr("avfuse.aligning.align", interrupted)
    done = avfuse("align", takes / "a.wav", takes / "b.wav")
    assert done.code == 130
    assert done.err == "avfuse: interrupted\n"


def test_a_name_with_a_newline_stays_on_one_line(avfuse: Callable[..., Done], tmp_path: Path) -> None:
    assert "two\\nlines.wav" in one_line(avfuse("align", tmp_path / "two\nlines.wav", tmp_path / "b.wav"))


def test_closed_streams_are_no_fault(takes: Path) -> None:
    command = " ".join([*AVFUSE, "align", str(takes / "a.wav"), str(takes / "b.wav")])
    assert subprocess.run(f"{command} >&- 2>&-", shell=True, check=False).returncode == 0


def test_a_full_disk_is_no_fault_of_the_program(
    avfuse: Callable[..., Done], takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("avfuse.aligning.align", full)
    assert "No space left" in one_line(avfuse("align", takes / "a.wav", takes / "b.wav"))


def test_a_reader_that_leaves_early_changes_nothing(takes: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    files = [takes / "a.wav", takes / "b.wav"]
    done = subprocess.run([*AVFUSE, "align", *files, "--json"], stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def _heed_interrupts() -> None:
    """In a child: whoever runs the tests in the background has them ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_render_leaves_nothing_behind(
    takes: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    # An hour of sound at a rate that takes seconds to write.
    long = {"offset": 0.0, "drift": 1e-5, "start": 0.0, "end": 3600.0, "std": 1e-5, "drift_std": 1e-8, "cov": None}
    hour = wav(tmp_path / "hour.wav", np.zeros(3600 * 16000, np.float32))
    clocks = {
        "a": {"status": "reference", "source": str(takes / "a.wav"), "duration": 16.0},
        "hour": {"status": "aligned", "reference": "a", "source": str(hour), "duration": 3600.0, "segments": [long]},
    }
    document = {"format": "avfuse.alignment/1", "reference": "a", "clocks": clocks, "transforms": {}}
    (tmp_path / "alignment.json").write_text(json.dumps(document))
    before = sorted(tmp_path.iterdir())
    aligned = tmp_path / "aligned"
    process = subprocess.Popen(
        [*AVFUSE, "render", tmp_path / "alignment.json", "-o", aligned],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not (aligned.is_dir() and any(aligned.iterdir())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == b""
    assert b"Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_progress_is_shown_on_a_terminal_and_only_there(takes: Path) -> None:
    command = [*AVFUSE, "align", takes / "a.wav", takes / "b.wav", "--json"]
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    out, _ = process.communicate(timeout=120)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(out)["reference"] == "a"
    assert b"%" in shown
    quiet = subprocess.run(command, capture_output=True, check=True)
    assert quiet.stderr == b""
    assert quiet.stdout == out


def test_a_terminal_of_another_encoding_gets_question_marks(takes: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [*AVFUSE, "align", takes / "a.wav", takes / "b.wav"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"s ? " in done.stdout


@pytest.mark.slow
def test_the_demo_finds_the_truth(tmp_path: Path) -> None:
    done = subprocess.run([*AVFUSE, "demo", tmp_path / "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = json.loads((tmp_path / "demo" / "alignment.json").read_text())
    truth = json.loads((tmp_path / "demo" / "truth.json").read_text())
    assert found["reference"] == truth["reference"]
    for name, clock in truth["clocks"].items():
        if name != truth["reference"]:
            (segment,) = found["clocks"][name]["segments"]
            assert segment["offset"] == pytest.approx(clock["offset"], abs=5e-5)
            assert segment["drift"] == pytest.approx(clock["drift"], abs=1e-6)
    made = {str(p.relative_to(tmp_path / "demo")) for p in (tmp_path / "demo").rglob("*") if p.is_file()}
    assert {"timeline.png", "report.html", "README.txt", "recordings/cam-a.mp4", "aligned/recorder.wav"} <= made
    assert len([name for name in made if name.startswith("aligned/")]) == 3


# evaluate


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short cases with their truths: a pair, and strangers."""
    folder = tmp_path_factory.mktemp("cases")
    simulate_case({"pair": "related", "overlap": 5.0, "snr_db": 20, "seed": 3}, folder / "near")
    simulate_case({"pair": "unrelated", "kind": "speech", "duration": 5.0, "seed": 4}, folder / "strange")
    return folder


def test_evaluate_prints_tables_or_one_document(avfuse: Callable[..., Done], cases: Path, tmp_path: Path) -> None:
    done = avfuse("evaluate", cases, "--together", "-o", tmp_path / "out")
    assert done.code == 0
    assert "false accepts (of 1)" in done.out
    assert "\x1b" not in done.out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["answers.jsonl", "errors.svg", "evaluation.html", "evaluation.json", "pairs.csv"]
    again = avfuse("evaluate", cases, "--together", "-o", tmp_path / "out", "--resume", "--json")
    assert again.code == 0
    assert [method["method"] for method in again.document["methods"]] == ["avfuse"]
    assert again.document["methods"][0]["false"]["value"] == 0.0
    assert again.document == json.loads((tmp_path / "out" / "evaluation.json").read_text())


def test_evaluate_is_about_methods_and_not_about_their_success(avfuse: Callable[..., Done], cases: Path) -> None:
    done = avfuse("evaluate", cases, "--method", f"broken=cmd:{sys.executable} -c 'raise ValueError(7)' {{files}}")
    assert done.code == 0
    assert "ValueError: 7" in done.out


def test_evaluate_tells_bad_input_in_one_line(avfuse: Callable[..., Done], cases: Path, tmp_path: Path) -> None:
    assert "no such file or folder" in one_line(avfuse("evaluate", tmp_path / "none"))
    assert "holds no cases" in one_line(avfuse("evaluate", tmp_path))
    assert "is neither 'avfuse'" in one_line(avfuse("evaluate", cases, "--method", "mine"))
    assert "with -o" in one_line(avfuse("evaluate", cases, "--resume"))
    (tmp_path / "file").touch()
    assert "expected a folder" in one_line(avfuse("evaluate", cases, "-o", tmp_path / "file"))


def test_interrupted_evaluate_keeps_finished_cases_and_leaves_no_process(cases: Path, tmp_path: Path) -> None:
    method = tmp_path / "slow.py"
    method.write_text(
        "import os, time, avfuse\n"
        "def slow(files):\n"
        "    if 'strange' in files[0]:\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)\n"
        "    return avfuse.Alignment.from_maps(dict.fromkeys(files, avfuse.ClockMap()))\n"
    )
    out = tmp_path / "out"
    command = [*AVFUSE, "evaluate", str(cases), "--method", f"{method}:slow", "-o", str(out)]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    )
    for _ in range(1200):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said, told = running.communicate(timeout=30)
    assert (running.returncode, said) == (130, "")
    assert told == f"finished cases are kept in {out}; go on with --resume\navfuse: interrupted\n"
    (line,) = (out / "answers.jsonl").read_text().splitlines()
    assert json.loads(line)["case"] == "near"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
