"""Laws of avfuse.align over files and arrays: names, references, islands, refusals and codecs.

What the command prints and its exit codes are held by test_cli.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse import ClockMap, ReadError, Recording, Stream, StreamError, simulate
from avfuse.cli import run
from avfuse.simulation import Device, SimulatedEvent, SoundSource, write_media
from avfuse.simulation.sounds import make_sound

STARTS = {"a": 0.0, "b": 2.5, "c": 4.0}  # on the clock of a


@pytest.fixture(scope="module")
def event() -> SimulatedEvent:
    """Three devices at one distance from a talker."""
    devices = [
        Device(name, ClockMap(0.5 + start), length, rate=16000.0, position=(1.0, 0.0, 0.0), snr_db=20.0, ceiling=1.0)
        for (name, start), length in zip(STARTS.items(), (12.0, 9.0, 7.0), strict=True)
    ]
    return simulate(duration=13.0, devices=devices, rng=21)


@pytest.fixture(scope="module")
def files(event: SimulatedEvent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return event.write(tmp_path_factory.mktemp("takes"))


def recording(name: str, values: np.ndarray, rate: float = 16000.0) -> Recording:
    return Recording(name, (Stream.from_samples(np.asarray(values, np.float32), rate=rate),))


def talk(seed: int, seconds: float = 9.0) -> np.ndarray:
    return make_sound("speech", seconds, 16000.0, np.random.default_rng(seed))


def hiss(n: int, seed: int) -> np.ndarray:
    return 0.002 * np.random.default_rng(seed).standard_normal(n)


def test_the_order_of_the_arguments_never_matters(files):
    documents = [avfuse.align(order).to_json() for order in permutations(files.values())]
    assert all(document == documents[0] for document in documents[1:])


def test_equal_stems_get_their_numbers_whatever_the_order(files, tmp_path):
    same = []
    for name in "abc":
        (tmp_path / name).mkdir()
        same.append(Path(shutil.copy(files[name], tmp_path / name / "take.wav")))
    documents = [avfuse.align(order).to_json() for order in (same, same[::-1])]
    assert documents[0] == documents[1]
    assert set(documents[0]["clocks"]) == {"take.wav", "take.wav-2", "take.wav-3"}


def test_every_recording_lands_where_it_began(event):
    alignment = avfuse.align(event.recordings)
    assert alignment.reference == "a"  # the longest
    assert alignment.complete
    for name in "bc":
        assert alignment.clocks[name].offset == pytest.approx(STARTS[name], abs=1e-5)
        assert alignment.clocks[name].reference == "a"


def test_any_recording_may_be_the_reference(event, files):
    usual = avfuse.align(list(files.values()))
    for chosen in ("c", files["c"], str(files["c"])):
        alignment = avfuse.align(list(files.values()), reference=chosen)
        assert alignment.reference == "c"
        assert next(iter(alignment.clocks)) == "c"
        turned = alignment.clocks["b"].map(3.0)
        expected = usual.clocks["c"].map.inverse()(usual.clocks["b"].map(3.0))
        np.testing.assert_allclose(turned, expected, atol=1e-7)


def test_two_events_form_two_islands(event, tmp_path):
    other = talk(31)
    pair = [recording("x", other + hiss(len(other), 1)), recording("y", other[16000:] + hiss(len(other) - 16000, 2))]
    alignment = avfuse.align([*event.recordings, *pair])
    assert not alignment.complete
    assert alignment.reference == "a"  # of the larger group
    assert {name: alignment.clocks[name].reference for name in "abcxy"} == {
        "a": "a", "b": "a", "c": "a", "x": "x", "y": "x"
    }  # fmt: skip
    assert alignment.clocks["y"].offset == pytest.approx(1.0, abs=1e-5)
    assert "a" in (alignment.clocks["x"].message or "")
    loaded = avfuse.load_alignment(alignment.save(tmp_path / "alignment.json"))
    assert {n: c.message for n, c in loaded.clocks.items()} == {n: c.message for n, c in alignment.clocks.items()}


def test_recordings_of_nothing_in_common_are_all_refused():
    alignment = avfuse.align([recording(f"r{k}", talk(40 + k, 8.0 - k)) for k in range(3)])
    assert alignment.reference == "r0"
    for name in ("r1", "r2"):
        refused = alignment.clocks[name]
        assert refused.status == "no_match"
        assert refused.message
    assert not alignment.complete


def test_recordings_that_never_overlap_are_joined_through_a_third():
    whole = talk(50, 24.0)
    parts = {"early": slice(0, 160000), "late": slice(224000, 384000), "long": slice(96000, 288000)}
    alignment = avfuse.align(
        [
            recording(name, whole[part] + hiss(part.stop - part.start, k))
            for k, (name, part) in enumerate(parts.items())
        ],
        reference="early",
    )
    assert alignment.complete
    assert alignment.clocks["late"].offset == pytest.approx(14.0, abs=2e-5)
    assert alignment.clocks["long"].offset == pytest.approx(6.0, abs=1e-5)
    assert float(alignment.clocks["late"].std_at(5.0)) > float(alignment.clocks["long"].std_at(6.0))


def test_a_video_without_sound_that_shows_nothing_of_it_is_refused(files, tmp_path, ffmpeg):
    silent = tmp_path / "silent.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc=d=20:s=64x48:r=5", silent], check=True)
    alignment = avfuse.align([files["a"], files["b"], silent])
    assert alignment.reference == "a"  # though the video is longer
    assert alignment.clocks["silent"].status in ("degenerate", "no_match")
    assert "picture" in alignment.clocks["silent"].message
    assert alignment.clocks["b"].status == "aligned"


def test_a_second_track_is_heard_where_the_first_is_silent(event):
    values = np.asarray(event["b"]["sound"].values)
    silent = Stream.from_samples(np.zeros(values.shape[1], np.float32), rate=16000.0)
    both = Recording("b", (silent, Stream.from_samples(values, rate=16000.0, name="sound-2")))
    alignment = avfuse.align([event["a"], both])
    assert alignment.clocks["b"].offset == pytest.approx(STARTS["b"], abs=1e-5)


def test_the_same_recording_many_times_lies_at_zero(event):
    alignment = avfuse.align([event["c"]] * 3)
    assert len(alignment.clocks) == 3
    for name, clock in alignment.clocks.items():
        if name != alignment.reference:
            assert clock.status == "aligned"
            assert abs(clock.offset) < 1e-7
            assert abs(clock.drift) < 1e-7


def test_one_recording_or_an_unknown_reference_is_an_error(event, files):
    with pytest.raises(StreamError, match="two"):
        avfuse.align([event["a"]])
    with pytest.raises(StreamError, match="two"):
        avfuse.align(files["a"])
    with pytest.raises(StreamError, match=r"nobody.*\ba, b\b"):
        avfuse.align([event["a"], event["b"]], reference="nobody")


def test_a_file_that_cannot_be_read_is_named(files, tmp_path):
    with pytest.raises(ReadError, match="absent"):
        avfuse.align([files["a"], tmp_path / "absent.wav"])


def test_progress_runs_from_start_to_end(event):
    told: list[float] = []
    avfuse.align(event.recordings, progress=lambda share, text: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_saving_keeps_what_was_found(event, tmp_path):
    alignment = avfuse.align(event.recordings)
    alignment.save(tmp_path / "alignment.json")
    loaded = avfuse.load_alignment(tmp_path / "alignment.json")
    for name, clock in alignment.clocks.items():
        np.testing.assert_array_equal(loaded.clocks[name].map([0.0, 5.0]), clock.map([0.0, 5.0]))
        assert loaded.clocks[name].status == clock.status


def test_real_recordings_of_one_room_and_of_another_event(shared):
    """Microphones of one array belong together, a loudspeaker's signal does not."""
    array = [shared / "sound" / "ami_array" / f"AMI_WSJ20-Array1-{k}_T10c0201.wav" for k in (1, 4, 7)]
    alignment = avfuse.align([*array, shared / "sound" / "noecho_loudspeaker.wav"], reference=array[0])
    for path in array[1:]:
        assert abs(float(alignment.clocks[path.stem].map(4.0)) - 4.0) < 6e-4
    assert alignment.clocks["noecho_loudspeaker"].status == "no_match"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = make_sound("music", 8.0, 48000.0, np.random.default_rng(60))
    path = tmp_path_factory.mktemp("codecs") / "original.wav"
    return write_media(path, recording("original", 0.5 * values / np.abs(values).max(), 48000.0))


CODECS = {
    "aac.mp4": ["-c:a", "aac", "-b:a", "128k"],
    "aac.mkv": ["-c:a", "aac", "-b:a", "128k"],
    "mp3.mp3": ["-c:a", "libmp3lame", "-b:a", "128k"],
    "opus.ogg": ["-c:a", "libopus", "-b:a", "96k"],
    "opus.mkv": ["-c:a", "libopus", "-b:a", "96k"],
    "vorbis.ogg": ["-c:a", "libvorbis"],
    "flac.flac": ["-c:a", "flac"],
}


@pytest.mark.parametrize("name", CODECS)
def test_an_encoded_copy_lies_at_zero(original, tmp_path, ffmpeg, name):
    """Priming of the encoder is taken out: within one sample of 48 kHz."""
    copy = tmp_path / name
    subprocess.run([ffmpeg, "-v", "error", "-i", original, *CODECS[name], copy], check=True)
    alignment = avfuse.align([original, copy], reference="original")
    found = alignment.clocks[copy.stem]
    assert found.status == "aligned"
    assert np.all(np.abs(found.map([0.0, 4.0, 8.0]) - [0.0, 4.0, 8.0]) < 1 / 48000)


def test_a_film_and_a_recorder(event, files, tmp_path, ffmpeg):
    """Sound inside a video, beside a WAV file of the same event."""
    film = tmp_path / "film.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc=d=9:s=64x48:r=25"]
    subprocess.run([ffmpeg, "-v", "error", "-i", files["b"], *picture, "-c:a", "aac", "-shortest", film], check=True)
    alignment = avfuse.align([files["a"], film])
    assert alignment.clocks["film"].offset == pytest.approx(STARTS["b"], abs=1 / 48000)


def test_a_truncated_file_is_one_clear_line_and_writes_nothing(files, tmp_path, ffmpeg, capsys):
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-i", files["b"], "-c:a", "aac", whole], check=True)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # its index was at the end
    assert run(["align", str(files["a"]), str(cut), "-o", str(tmp_path / "alignment.json")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "cut.mp4" in printed.err
    assert not (tmp_path / "alignment.json").exists()


def test_json_is_one_document_even_where_nothing_fits(tmp_path, capsys):
    paths = [write_media(tmp_path / f"{k}.wav", recording(str(k), 0.3 * talk(70 + k, 6.0))) for k in range(2)]
    assert run(["align", *map(str, paths), "--json"]) == 3
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert printed.err == ""
    assert document["clocks"]["1"]["status"] == "no_match"
    assert document["clocks"]["1"]["message"]


def test_a_camera_farther_away_lands_where_the_sound_was_heard():
    """Clocks are aligned as sound was heard: 10 m are 29 ms, which `spacing` puts into the stated error."""
    devices = [
        Device("near", ClockMap(0.5), 9.0, rate=16000.0, position=(1.0, 0.0, 0.0), snr_db=30.0),
        Device("far", ClockMap(1.5), 7.0, rate=16000.0, position=(11.0, 0.0, 0.0), snr_db=30.0),
    ]
    event = simulate(duration=10.0, devices=devices, sources=[SoundSource("speech")], rng=3)
    alignment = avfuse.align(event.recordings, spacing=10.0)
    heard, truth = event.acoustic_between("near", "far"), event.truth_between("near", "far")
    far = alignment.clocks["far"]
    assert float(far.map(3.0)) == pytest.approx(float(heard(3.0)), abs=2e-5)
    assert abs(float(far.map(3.0) - truth(3.0))) < 2 * float(far.std_at(3.0))


def test_more_copies_of_a_recording_claim_no_more(tmp_path):
    """What is wrong with one encoding is wrong with each comparison of it."""
    sound = talk(31, 12.0)
    base, copy = recording("base", sound), sound[16000:] + 0.05 * np.random.default_rng(5).standard_normal(11 * 16000)
    alone = avfuse.align([base, recording("copy", copy)], reference="base").clocks["copy"]
    several = avfuse.align([base, *(recording(f"copy{k}", copy) for k in range(4))], reference="base").clocks["copy0"]
    assert several.status == alone.status == "aligned"
    assert several.std > 0.7 * alone.std  # half of it, if four comparisons with the base were four pieces of evidence
