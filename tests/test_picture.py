"""Laws of sound against picture: delays move the offset, what shares nothing is refused, what cannot tell says so."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse import Recording, Stream, StreamError, WeakAlignmentError
from avfuse.features import PictureFeatures, SoundFeatures, picture_features, sound_features
from avfuse.simulation import film_with_sound, write_media
from avfuse.simulation.films import FilmWithSound
from avfuse.temporal import compare_sound_picture, estimate_sound_picture

SMALL = (160, 96)
Features = tuple[SoundFeatures, PictureFeatures]


def film(happening, seed: int, **options) -> FilmWithSound:
    return film_with_sound(happening, seed, **({"duration": 30.0, "rate": 25.0, "size": SMALL} | options))


def features(made: FilmWithSound) -> Features:
    sound, picture = made.recording.streams
    return sound_features(sound), picture_features(picture)


@pytest.fixture(scope="module")
def flashes() -> Features:
    return features(film("flash", 5, delay=0.3, readout=0.02))


@pytest.fixture(scope="module")
def blows() -> Features:
    return features(film("blow", 3, delay=-0.4, rate=30.0, jitter=0.003))


@pytest.fixture(scope="module")
def talk() -> Features:
    return features(film("talk", 4, delay=0.2, duration=40.0, distractors=False))


def test_flashes_are_placed_finer_than_frames_by_the_rows_that_they_light(flashes):
    found = compare_sound_picture(*flashes, max_offset=2.0)
    assert found.diagnostics["decided"] == "flash"
    assert found.offset == pytest.approx(0.3, abs=0.002)
    assert abs(found.offset - 0.3) <= 5 * found.std


def test_blows_are_placed_finer_than_frames_though_these_come_unevenly(blows):
    found = compare_sound_picture(*blows, max_offset=2.0)
    assert found.diagnostics["decided"] in ("blow", "bounce")
    assert found.offset == pytest.approx(-0.4, abs=0.02)


def test_a_talker_is_found_by_the_correlation_alone(talk):
    found = compare_sound_picture(*talk, max_offset=2.0)
    assert found.diagnostics["decided"] == "talk"
    assert found.offset == pytest.approx(0.2, abs=0.06)
    assert abs(found.offset - 0.2) <= 3 * found.std


@pytest.mark.parametrize("name", ["flashes", "blows", "talk"])
@pytest.mark.parametrize("late", [-0.7, 0.04, 0.9])
def test_sound_that_comes_later_moves_the_offset_by_as_much(name, late, request):
    sound, picture = request.getfixturevalue(name)
    before = compare_sound_picture(sound, picture, max_offset=2.0)
    after = compare_sound_picture(replace(sound, start=sound.start + late), picture, max_offset=2.0)
    assert after.offset - before.offset == pytest.approx(late, abs=0.5 * before.std + 1e-4)


@pytest.mark.parametrize("gain", [0.01, 30.0])
def test_gain_of_the_sound_does_not_matter(blows, gain):
    sound, picture = blows
    louder = replace(sound, energy=sound.energy * np.float32(gain**2))
    before, after = (compare_sound_picture(s, picture, max_offset=2.0) for s in (sound, louder))
    assert after.offset == pytest.approx(before.offset, abs=1e-3)


@pytest.mark.parametrize(
    ("seen", "heard"), [("flashes", "talk"), ("talk", "blows"), ("blows", "talk"), ("talk", "flashes")]
)
def test_a_picture_and_the_sound_of_another_are_refused(seen, heard, request):
    picture, sound = request.getfixturevalue(seen)[1], request.getfixturevalue(heard)[0]
    found = compare_sound_picture(sound, picture, max_offset=2.0)
    assert found.status in ("no_match", "ambiguous")
    with pytest.raises(WeakAlignmentError):
        _ = found.map


@pytest.mark.parametrize("name", ["flashes", "blows", "talk"])
def test_a_sound_that_runs_backwards_is_refused(name, request):
    sound, picture = request.getfixturevalue(name)
    backwards = replace(sound, energy=np.ascontiguousarray(sound.energy[:, ::-1]))
    assert compare_sound_picture(backwards, picture, max_offset=2.0).status in ("no_match", "ambiguous")


def test_a_delay_beyond_what_is_looked_for_is_refused(blows):
    sound, picture = blows
    assert compare_sound_picture(replace(sound, start=sound.start + 5.0), picture, max_offset=1.0).status != "aligned"


def test_across_recordings_every_overlap_is_searched_and_flashes_of_minutes_tell_the_drift():
    sound, picture = features(film("flash", 21, duration=150.0, readout=0.02))
    fast = replace(picture, times=picture.times / (1 + 1e-4) - 7.0)  # t_sound = (1 + 1e-4) (t_picture + 7)
    found = compare_sound_picture(sound, fast)
    assert found.drift_known
    assert abs(found.drift - 1e-4) <= 5 * found.drift_std
    assert float(found.map(68.0)) == pytest.approx(75.0 * (1 + 1e-4), abs=0.004)


def test_still_pictures_silence_and_seconds_are_degenerate(blows):
    sound, picture = blows
    still = replace(picture, motion=np.zeros_like(picture.motion))
    silent = replace(sound, energy=np.zeros_like(sound.energy))
    brief = replace(sound, energy=sound.energy[:, :3000])
    for pair, word in (((sound, still), "still"), ((silent, picture), "silent"), ((brief, picture), "3.0 s")):
        found = compare_sound_picture(*pair)
        assert found.status == "degenerate"
        assert word in (found.message or "")


def test_a_light_that_goes_on_is_not_taken_for_something_that_stops(flashes):
    sound, picture = flashes
    findings = compare_sound_picture(sound, picture, max_offset=2.0).diagnostics["findings"]
    assert all(f.confidence < 0.95 for kind, f in findings.items() if kind != "flash")


def test_features_are_streams_on_the_recording_s_clock(blows):
    _, picture = blows
    made = {s.name: s for s in picture.streams()}
    assert set(made) == {"brightness", "motion", "impulse", "rows"}
    np.testing.assert_array_equal(made["motion"].times, picture.times)
    assert np.isnan(made["motion"].values[0]).all()  # nothing comes before the first frame
    assert not np.isnan(made["brightness"].values).any()


def test_cells_are_as_bright_as_their_quarters_and_these_tell_what_moves_within_them():
    frames = np.full((2, 88, 160), 50, np.uint8)
    frames[0, 8:12, 16:20] = 90
    frames[1, 12:16, 20:24] = 90
    made = picture_features(Stream("picture", "picture", frames, rate=25.0))
    cells = made.brightness.reshape(2, *made.grid)
    quarters = made.detail.reshape(2, 2 * made.grid[0], 2 * made.grid[1])
    np.testing.assert_array_equal(cells[0], cells[1])
    assert cells[0, 1, 2] == 60
    assert quarters[0, 2, 4] == quarters[1, 3, 5] == 90
    assert quarters.sum(dtype=float) == 4 * cells.sum(dtype=float)


def test_onsets_are_heard_within_a_millisecond():
    rng = np.random.default_rng(5)
    rate, times = 16000, np.array([0.5, 1.3337, 2.71])
    t = np.arange(4 * rate) / rate
    sound = 1e-4 * rng.standard_normal(len(t))
    for time in times:
        sound += (t >= time) * np.exp(-np.clip(t - time, 0, 1) / 0.02) * rng.standard_normal(len(t)) * 0.3
    found = sound_features(Stream.from_samples(sound.astype(np.float32), rate=rate, start=0.25)).onsets
    strongest = np.sort(found.times[np.argsort(found.strengths)[-3:]])
    np.testing.assert_allclose(strongest, times + 0.25, atol=1e-3)


def test_file_and_array_give_the_same_features(tmp_path):
    made = film("blow", 6, duration=9.0)
    path = write_media(tmp_path / "film.mp4", made.recording)
    picture = avfuse.read(path).of_kind("picture")[0]
    from_file, from_array = picture_features(picture), features(made)[1]
    np.testing.assert_allclose(from_file.times, from_array.times, atol=1e-4)
    assert from_file.grid == from_array.grid
    # H.264 and video levels change little of what a region's mean shows.
    a, b = (f.brightness.astype(float).ravel() for f in (from_file, from_array))
    assert np.corrcoef(a, b)[0, 1] > 0.99


def test_other_kinds_are_refused_in_one_line(blows):
    rate = Stream.from_samples(np.zeros((30, 3)), rate=100.0, kind="rotation_rate")
    for ask in (sound_features, picture_features):
        with pytest.raises(StreamError, match="rotation_rate; expected"):
            ask(rate)
    with pytest.raises(StreamError, match="max_offset"):
        compare_sound_picture(*blows, max_offset=-1.0)


def test_streams_can_be_given_as_they_are():
    made = film("flash", 5, delay=-0.25, readout=0.02)
    sound, picture = made.recording.streams
    assert estimate_sound_picture(sound, picture, max_offset=1.5).offset == pytest.approx(-0.25, abs=0.002)


@pytest.mark.parametrize("late", [-0.8, 0.5])
def test_real_clips_give_no_wrong_answer_when_their_sound_is_shifted(shared: Path, ffmpeg: str, tmp_path, late):
    for clip in ("lwbsza.mpg", "flipping_a_pancake.mkv", "nasa_13013.mp4"):
        source, moved = str(shared / "picture" / clip), str(tmp_path / f"{clip}.mkv")
        streams = ["-itsoffset", str(late), "-i", source, "-map", "0:v:0", "-map", "1:a:0", "-c", "copy"]
        subprocess.run([ffmpeg, "-v", "error", "-y", "-i", source, *streams, moved], check=True)
        recording: Recording = avfuse.read(moved)
        found = estimate_sound_picture(recording.of_kind("sound")[0], recording.of_kind("picture")[0], max_offset=3.0)
        if found.status == "aligned":
            assert abs(found.offset - late) <= max(5 * found.std, 0.04)
