"""Timelines for editing programs, read back: every second of every clip lies where the alignment says."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import opentimelineio as otio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avfuse import Alignment, Candidate, ClockEstimate, ClockMap, PiecewiseClock, Recording, Segment, Stream, simulate
from avfuse.alignment import RecordingFacts, reference_estimate
from avfuse.errors import ReadError, StreamError, WriteError
from avfuse.io.timeline import Exported, export
from avfuse.io.timeline.fcpxml import placed
from avfuse.io.timeline.media import media_of
from avfuse.io.timeline.rates import STANDARD, given_rate, seconds_of_timecode, timeline_rate
from avfuse.io.timeline.tracks import Clip
from avfuse.simulation import Device

Clock = ClockMap | PiecewiseClock
NTSC = 30000 / 1001


# --- alignments without files


@dataclass(frozen=True)
class Unread:
    """Values that nobody decodes: of a file it tells the length."""

    duration: float

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        raise AssertionError("an export decodes nothing")


def shot(
    name: str, duration: float, fps: float | None = 25.0, sound: float | None = 48000.0, **facts: object
) -> Recording:
    """A recording of a camera (or, with fps None, of a recorder) of that length."""
    values, streams = Unread(duration), []
    if fps is not None:
        seen = {"width": 1280, "height": 720, "average_rate": fps, "is_variable": False}
        streams.append(Stream("picture", "picture", values, rate=fps, facts=seen))
    if sound is not None:
        streams.append(Stream("sound", "sound", values, rate=sound, channels=("left", "right")))
    start = facts.pop("start", 0)
    source = f"/takes/{name}.{'wav' if fps is None else 'mov'}"
    return Recording(name, tuple(streams), source, start=start, facts=dict(facts))


def estimate(clock: Clock, lasts: float, reference: str = "cam", std: float = 1e-4, **more: object) -> ClockEstimate:
    cov = np.diag([std**2, 0.0])
    if isinstance(clock, PiecewiseClock):
        cov = np.array([cov] * len(clock.segments))
    more = {"confidence": 0.999, "span": (0.0, lasts)} | more
    return ClockEstimate("aligned", clock, cov, reference=reference, **more)


def alignment_of(reference: Recording, *others: tuple[Recording, Clock | ClockEstimate], **facts: object) -> Alignment:
    recordings = {r.name: r for r in (reference, *(r for r, _ in others))}
    clocks = {reference.name: reference_estimate(reference.name, reference.duration)}
    for recording, clock in others:
        known = clock if isinstance(clock, ClockEstimate) else estimate(clock, recording.duration, reference.name)
        clocks[recording.name] = known
    known = {name: RecordingFacts.of(r) for name, r in recordings.items()} | facts
    return Alignment(reference.name, clocks, {}, known, recordings)


def onto_reference(alignment: Alignment, name: str) -> Clock:
    return alignment.clocks[name].map


# --- reading back


@dataclass(frozen=True)
class Shown:
    """A clip as a reader of the file sees it: media(t) seconds into the file at `first` <= t < `last`."""

    name: str
    track: str
    first: float
    last: float
    media_first: float
    speed: float
    url: str
    enabled: bool
    marks: tuple[tuple[float, str, str], ...]
    kind: str
    start: float = math.nan  # of the timeline, on the reference's clock

    def media(self, times: np.ndarray) -> np.ndarray:
        return self.media_first + (times - self.first) * self.speed

    @property
    def media_last(self) -> float:
        return float(self.media(np.array(self.last)))


def read_otio(path: Path) -> list[Shown]:
    timeline = otio.adapters.read_from_file(str(path))
    assert timeline.global_start_time.value == 0
    found = []
    for track in timeline.tracks:
        assert track.kind in ("Video", "Audio")
        for clip in track.find_clips():
            place = track.range_of_child(clip)
            available = clip.media_reference.available_range
            zero = available.start_time.to_seconds()
            start = clip.source_range.start_time.to_seconds() - zero
            speed = 1.0
            for effect in clip.effects:
                assert isinstance(effect, otio.schema.LinearTimeWarp)
                speed *= effect.time_scalar
            first = place.start_time.to_seconds()
            shown = Shown(
                clip.name,
                track.name,
                first,
                first + place.duration.to_seconds(),
                start,
                speed,
                clip.media_reference.target_url,
                clip.enabled,
                tuple((m.marked_range.start_time.to_seconds() - zero, m.name, m.comment) for m in clip.markers),
                track.kind,
            )
            assert start >= -1e-9
            assert shown.media_last <= available.duration.to_seconds() + 1e-6
            found.append(shown)
    return found


# What Apple's document type definition of FCPXML 1.9 allows, as far as avfuse writes it: attributes (required ones with
# a !) and children in their order.
STRUCTURE = {
    "fcpxml": ("version!", "resources library"),
    "resources": ("", "(format|asset)*"),
    "format": ("id! name frameDuration width height", ""),
    "asset": (
        "id! name start duration hasVideo format hasAudio videoSources audioSources audioChannels audioRate",
        "media-rep",
    ),
    "media-rep": ("kind src!", ""),
    "library": ("location", "event*"),
    "event": ("name", "project*"),
    "project": ("name", "sequence"),
    "sequence": ("format! duration tcStart tcFormat audioLayout audioRate", "spine"),
    "spine": ("", "gap*"),
    "gap": ("name offset start duration!", "asset-clip* marker*"),
    "asset-clip": (
        "ref! lane offset name start duration enabled srcEnable format tcStart tcFormat",
        "note? conform-rate? timeMap? marker*",
    ),
    "note": ("", ""),
    "conform-rate": ("scaleEnabled srcFrameRate frameSampling", ""),
    "timeMap": ("frameSampling preservesPitch", "timept*"),
    "timept": ("time! value! interp", ""),
    "marker": ("start! duration value! completed note", ""),
}
CHOICES = {
    "version": "1.9", "tcFormat": "DF|NDF", "audioLayout": "mono|stereo|surround", "enabled": "0|1",
    "srcEnable": "all|audio|video", "hasVideo": "0|1", "hasAudio": "0|1", "scaleEnabled": "0|1",
    "srcFrameRate": r"23\.98|24|25|29\.97|30|47\.95|48|50|59\.94|60", "interp": "linear|smooth|smooth2",
    "preservesPitch": "0|1", "kind": "original-media|proxy-media", "lane": r"-?[1-9]\d*", "frameSampling": "floor",
    "width": r"[1-9]\d*", "height": r"[1-9]\d*", "audioSources": r"[1-9]\d*", "audioChannels": r"[1-9]\d*",
}  # fmt: skip
TIMES = {"frameDuration", "start", "duration", "offset", "tcStart", "time"}


def seconds(text: str) -> Fraction:
    found = re.fullmatch(r"(-?\d+)(?:/(\d+))?s", text)
    assert found, text
    numerator, denominator = int(found[1]), int(found[2] or 1)
    assert abs(numerator) < 2**63
    assert 0 < denominator < 2**31
    return Fraction(numerator, denominator)


def check_structure(element: ElementTree.Element) -> None:
    attributes, children = STRUCTURE[element.tag]
    allowed = {name.rstrip("!"): name.endswith("!") for name in attributes.split()}
    assert set(element.attrib) <= set(allowed), (element.tag, element.attrib)
    assert {name for name, required in allowed.items() if required} <= set(element.attrib), element.tag
    for name, value in element.attrib.items():
        if name in TIMES:
            seconds(value)
        elif name in CHOICES:
            assert re.fullmatch(CHOICES[name], value), (element.tag, name, value)
    # "note? (format|asset)*" as a pattern of "<note><format><asset>".
    order = "".join(
        "(?:"
        + "|".join(f"<{name}>" for name in re.findall(r"[\w-]+", word))
        + ")"
        + word[-1].strip("abcdefghijklmnopqrstuvwxyz)")
        for word in children.split()
    )
    found = "".join(f"<{child.tag}>" for child in element)
    assert re.fullmatch(order, found), (element.tag, found)
    for child in element:
        check_structure(child)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        (' lane="1"', ' lane="0"'),
        (' ref="', ' colour="'),
        ("<note>", "<marker start='0s' value='x' /><note>"),
        ('value="', 'value="1s" color="'),
        ('duration="', 'duration="0.5s" x="'),
        ("</resources>", "</resources><library />"),
        ("<media-rep", "<media"),
    ],
)
def test_the_reader_of_these_tests_is_strict(tmp_path, written, instead):
    export(everything(), tmp_path / "t.fcpxml")
    text = (tmp_path / "t.fcpxml").read_text()
    assert written in text
    (tmp_path / "t.fcpxml").write_text(text.replace(written, instead, 1))
    with pytest.raises((AssertionError, KeyError)):
        read_fcpxml(tmp_path / "t.fcpxml")


def read_fcpxml(path: Path) -> tuple[list[Shown], Fraction]:
    """The clips of a document, and the duration of its frames. Refuses what Final Cut Pro would refuse."""
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[1] == "<!DOCTYPE fcpxml>"
    root = ElementTree.fromstring(text)
    check_structure(root)
    resources = {r.attrib["id"]: r for r in root.find("resources")}
    assert len(resources) == len(root.find("resources"))
    for asset in root.iter("asset"):
        assert "hasVideo" in asset.attrib or "hasAudio" in asset.attrib
        if "hasVideo" in asset.attrib:
            assert resources[asset.attrib["format"]].tag == "format"
    (sequence,) = root.iter("sequence")
    frame = seconds(resources[sequence.attrib["format"]].attrib["frameDuration"])
    (gap,) = sequence.find("spine")
    assert seconds(gap.attrib["offset"]) == seconds(gap.attrib["start"]) == seconds(sequence.attrib["tcStart"]) == 0
    assert seconds(gap.attrib["duration"]) == seconds(sequence.attrib["duration"])
    found, ends = [], {}
    for clip in gap.iter("asset-clip"):
        asset = resources[clip.attrib["ref"]]
        assert asset.tag == "asset"
        zero, length = seconds(asset.attrib["start"]), seconds(asset.attrib["duration"])
        offset, duration, start = (seconds(clip.attrib[key]) for key in ("offset", "duration", "start"))
        for time in (offset, duration):
            assert (time / frame).denominator == 1
        assert offset >= ends.get(clip.attrib["lane"], 0)
        ends[clip.attrib["lane"]] = offset + duration
        assert 0 < duration <= seconds(gap.attrib["duration"]) - offset
        speed, media_first = Fraction(1), start - zero
        if (time_map := clip.find("timeMap")) is not None:
            (t0, v0), (t1, v1) = ((seconds(p.attrib["time"]), seconds(p.attrib["value"])) for p in time_map)
            assert {p.attrib["interp"] for p in time_map} == {"linear"}
            assert t0 <= start
            assert start + duration <= t1
            assert (v0, v1) == (zero, zero + length)
            speed = (v1 - v0) / (t1 - t0)
            media_first = v0 + (start - t0) * speed - zero
        if "hasVideo" in asset.attrib and time_map is None:
            assert (media_first / frame).denominator == 1
        assert media_first >= 0
        assert media_first + duration * speed <= length
        marks = []
        for mark in clip.iter("marker"):
            at = seconds(mark.attrib["start"])
            assert start <= at < start + duration
            at = float((at - start) * speed + media_first)
            marks.append((at, mark.attrib["value"], mark.attrib.get("note", "")))
        kind = clip.attrib.get("srcEnable", "all")
        shown = Shown(
            clip.attrib["name"],
            clip.attrib["lane"],
            float(offset),
            float(offset + duration),
            float(media_first),
            float(speed),
            asset.find("media-rep").attrib["src"],
            clip.attrib.get("enabled", "1") == "1",
            tuple(marks),
            kind if kind != "all" else ("Video" if "hasVideo" in asset.attrib else "Audio"),
        )
        found.append(shown)
    return found, frame


def times_of(clip: Shown) -> np.ndarray:
    """Every second of the clip on the timeline, and its very end."""
    return np.append(np.arange(clip.first, clip.last, 1.0), clip.last)


def errors(clip: Shown, clock: Clock) -> np.ndarray:
    """Seconds by which what the clip shows is off its place, at every second; NaN where the alignment has no place."""
    times = times_of(clip)
    inside = clip.media(times)
    inside[-1] -= 1e-9  # the end belongs to the segment before it
    return times - (clock(inside) - clip.start)


def both(alignment: Alignment, folder: Path, **options: object) -> tuple[list[Shown], list[Shown], Exported]:
    exact = export(alignment, folder / "t.otio", **options)
    exported = export(alignment, folder / "t.fcpxml", **options)
    clips, frame = read_fcpxml(folder / "t.fcpxml")
    assert frame == 1 / exported.rate
    # Whole frames are counted from the reference's: the timeline starts less than one later.
    assert exact.start - 1e-9 <= exported.start < exact.start + frame
    return (
        [replace(clip, start=exact.start) for clip in read_otio(folder / "t.otio")],
        [replace(clip, start=exported.start) for clip in clips],
        exported,
    )


# --- where clips lie


@settings(deadline=None, max_examples=40)
@given(
    takes=st.lists(
        st.tuples(
            st.floats(-9000, 9000),  # offset
            st.floats(-3e-4, 3e-4),  # drift
            st.floats(0.5, 10000),  # duration
            st.sampled_from([None, 24.0, 24000 / 1001, 25.0, NTSC, 60.0]),
            st.sampled_from([44100.0, 48000.0, 96000.0]),
        ),
        min_size=1,
        max_size=4,
    ),
    fps=st.sampled_from([None, 25.0, NTSC, 50.0, 15.0]),
)
def test_every_second_of_every_clip_lies_where_the_alignment_says(tmp_path_factory, takes, fps):
    others = [
        (shot(f"take{k}", duration, rate, sound), ClockMap(offset, drift))
        for k, (offset, drift, duration, rate, sound) in enumerate(takes)
    ]
    alignment = alignment_of(shot("cam", 7200.0, fps), *others)
    exact, framed, exported = both(alignment, tmp_path_factory.mktemp("t"))
    assert {c.name for c in exact} == {c.name for c in framed} == set(alignment.clocks)
    for clip in exact:
        assert np.abs(errors(clip, onto_reference(alignment, clip.name))).max() < 1e-6
        assert clip.media_first == pytest.approx(0.0, abs=1e-6)
        assert clip.media_last == pytest.approx(alignment.recordings[clip.name].duration, abs=1e-6)
    frame = 1 / float(exported.rate)
    for clip in framed:
        off = np.abs(errors(clip, onto_reference(alignment, clip.name)))
        assert off.max() <= frame / 2 * (1 + 1e-5) + 2e-6
        (said,) = exported.rounding[clip.name]
        assert off.max() == pytest.approx(said, abs=2e-6)
        # All of it, but for a frame at its ends, and a quarter for drift that is left out and shared by both.
        assert clip.media_first <= 1.26 * frame
        lost = alignment.recordings[clip.name].duration - clip.media_last
        own = alignment.recordings[clip.name]
        assert lost < 1.76 * frame + (1 / own["picture"].rate if own.of_kind("picture") else 0.0)


def test_sound_alone_is_placed_to_the_sample_however_frames_fall(tmp_path):
    for offset in (0.013, 1.0199, 7.7777):
        alignment = alignment_of(shot("cam", 60.0), (shot("recorder", 60.0, None), ClockMap(offset)))
        _, framed, exported = both(alignment, tmp_path)
        (recorder,) = (c for c in framed if c.name == "recorder")
        assert np.abs(errors(recorder, ClockMap(offset))).max() <= 0.5 / 48000 + 1e-9
        assert exported.rounding["recorder"][0] <= 0.5 / 48000 + 1e-9


@pytest.mark.parametrize(("drift", "retimed"), [(1e-6, False), (5e-6, False), (6e-6, True), (-2e-5, True)])
def test_drift_is_a_retime_where_it_matters_and_the_end_is_right(tmp_path, drift, retimed):
    """Half a frame is 20 ms: 5 ppm are 18 ms in an hour, 6 ppm are 21.6 ms."""
    clock = ClockMap(12.013, drift)
    alignment = alignment_of(shot("cam", 3700.0), (shot("recorder", 3600.0, None), clock))
    exact, framed, _ = both(alignment, tmp_path)
    (clip,) = (c for c in framed if c.name == "recorder")
    assert (clip.speed != 1.0) == retimed
    assert np.abs(errors(clip, clock)).max() < (2e-5 if retimed else 0.0101)
    if retimed:
        assert clip.speed == pytest.approx(1 / (1 + drift), abs=1e-9)
    (clip,) = (c for c in exact if c.name == "recorder")
    assert clip.speed == pytest.approx(1 / (1 + drift), abs=1e-12)
    assert clip.last == pytest.approx(float(clock(3600.0)), abs=1e-6)


@pytest.mark.parametrize("fps", [25.0, NTSC])
def test_the_picture_of_the_reference_lies_on_whole_frames(tmp_path, fps):
    """A recorder that ran before the camera is then exact beside it."""
    alignment = alignment_of(shot("cam", 60.0, fps), (shot("recorder", 80.0, None), ClockMap(-7.0123)))
    _, framed, exported = both(alignment, tmp_path)
    assert exported.rounding["cam"][0] < 1e-9
    places = {c.name: c.first - c.media_first for c in framed}
    assert places["recorder"] - places["cam"] == pytest.approx(-7.0123, abs=1.1e-5)
    assert min(c.first for c in framed) == 0


def test_without_drift_nothing_is_retimed(tmp_path):
    alignment = alignment_of(shot("cam", 3600.0), (shot("b", 3600.0), ClockMap(1.5)))
    export(alignment, tmp_path / "t.otio")
    assert "LinearTimeWarp" not in (tmp_path / "t.otio").read_text()


def test_time_0_is_the_earliest_start_and_shifting_everything_shifts_nothing_else(tmp_path):
    alignment = alignment_of(
        shot("cam", 60.0), (shot("b", 50.0), ClockMap(-20.125, 1e-4)), (shot("c", 40.0, None), ClockMap(30.0))
    )
    exact, framed, _ = both(alignment, tmp_path)
    assert exact[0].start == -20.125
    assert min(c.first for c in exact) == min(c.first for c in framed) == 0
    shifted = {n: replace(e, clock=ClockMap(1000.0) @ e.map) for n, e in alignment.clocks.items()}
    exact2, framed2, _ = both(replace(alignment, clocks=shifted), tmp_path)
    assert exact2[0].start == pytest.approx(1000.0 - 20.125, abs=1e-12)
    assert [replace(c, start=0.0) for c in framed2] == [replace(c, start=0.0) for c in framed]
    for there, here in zip(exact2, exact, strict=True):
        assert there.first == pytest.approx(here.first, abs=1e-9)
        assert there.last == pytest.approx(here.last, abs=1e-9)


def test_the_order_of_the_recordings_changes_nothing(tmp_path):
    alignment = everything()
    turned = {name: alignment.clocks[name] for name in reversed(alignment.clocks)}
    for suffix in (".otio", ".fcpxml"):
        one, two = tmp_path / f"t{suffix}", tmp_path / "two" / f"t{suffix}"
        two.parent.mkdir(exist_ok=True)
        export(alignment, one)
        export(replace(alignment, clocks=turned), two)
        assert one.read_text().replace('"path": "../', '"path": "') == two.read_text().replace(
            '"path": "../../', '"path": "../'
        ).replace('"path": "../', '"path": "')
    exact = read_otio(tmp_path / "t.otio")
    assert exact[0].name == "cam"


def test_picture_and_sound_are_two_tracks_of_one_name_in_otio_and_one_clip_in_fcpxml(tmp_path):
    alignment = alignment_of(shot("cam", 60.0), (shot("mute", 50.0, 25.0, None), ClockMap(1.0)))
    exact, framed, _ = both(alignment, tmp_path)
    assert [(c.name, c.kind) for c in exact] == [("cam", "Video"), ("mute", "Video"), ("cam", "Audio")]
    assert [(c.name, c.kind, c.track) for c in framed] == [("cam", "Video", "1"), ("mute", "Video", "2")]


def test_a_correction_inside_a_recording_parts_its_picture_from_its_sound(tmp_path):
    recording = shot("b", 50.0)
    corrected = RecordingFacts(recording.source, duration=50.0, streams={"sound": -0.2})
    alignment = alignment_of(shot("cam", 60.0), (recording, ClockMap(5.0, 1e-5)), b=corrected)
    for clips in both(alignment, tmp_path)[:2]:
        found = {c.kind.lower(): c.first for c in clips if c.name == "b"}
        assert found["video"] == pytest.approx(5.0, abs=0.021)
        assert found["audio"] == pytest.approx(4.8, abs=0.021)


@given(
    start=st.floats(0.0, 50.0),
    duration=st.floats(0.0, 50.0),
    offset=st.floats(0.0, 100.0),
    drift=st.floats(-2e-3, 2e-3),
    rate=st.sampled_from([Fraction(25), Fraction(30000, 1001)]),
    fps=st.sampled_from([None, 25.0, NTSC]),
    taken=st.integers(-3, 3),
)
@example(20.008, 20.0, 0.016, 0.0, Fraction(25), 25.0, 0)  # all of its frames would lie 0.6 frames off
@example(20.032, 20.0, 0.024, 0.0, Fraction(25), 25.0, 0)
def test_a_piece_from_the_middle_of_a_file_is_within_half_a_frame(start, duration, offset, drift, rate, fps, taken):
    media = media_of(alignment_of(shot("b", 100.0, fps)), "b")
    clip = Clip("b", media, start, start + duration, ClockMap(offset, drift))
    after = max(0, round(clip.place[0] * rate) + taken)
    place = placed(clip, rate, fps is not None, after)
    frame = 1 / float(rate)
    if place is None:
        assert clip.place[1] - max(clip.place[0], after * frame) < 3 * frame
        return
    assert place.first >= after
    assert place.last > place.first
    assert place.rounding <= frame / 2 * (1 + 1e-5)
    for at, shown in ((place.first, place.start), (place.last, place.start + (place.last - place.first) / rate)):
        assert abs(at * frame - float(clip.clock(float(shown / place.slope)))) <= place.rounding + 1e-9
        assert start - 0.51 * frame <= float(shown / place.slope) <= start + duration + 0.51 * frame
    # Nothing is given up but parts of frames at its ends.
    assert place.last * frame > clip.place[1] - 2.6 * frame
    assert place.first * frame < max(clip.place[0], after * frame) + 2.6 * frame


# --- broken clocks

PAUSE = PiecewiseClock((Segment(0, 20, 5, 1e-4), Segment(20, 60, 9.3, 2e-5)))  # 4.3 s missing in the recording
HOLE = PiecewiseClock((Segment(0, 20, 5, 0), Segment(23.5, 60, 1.5, 0)))  # 3.5 s too much in the recording
RESET = PiecewiseClock((Segment(0, 20, 5, 0), Segment(20, 60, -6, 0)))  # 11 s of the event recorded twice
HAIR = PiecewiseClock((Segment(0, 20, 5, 0), Segment(20, 60, 4.9996, 0)))  # what a break's uncertainty looks like
THREE = PiecewiseClock((Segment(0, 20, 5, 0), Segment(20, 40.007, 6.013, 0), Segment(41, 60, 6.5, -1e-4)))


@pytest.mark.parametrize("fps", [None, 25.0, NTSC])
@pytest.mark.parametrize("clock", [PAUSE, HOLE, RESET, HAIR, THREE], ids=["pause", "hole", "reset", "hair", "three"])
def test_every_segment_is_a_clip_and_all_of_it_appears_once(tmp_path, clock, fps):
    alignment = alignment_of(shot("cam", 100.0, NTSC), (shot("b", 60.0, fps), clock))
    exact, framed, exported = both(alignment, tmp_path)
    frame = 1 / float(exported.rate)
    for clips, tolerance, lost in ((exact, 1e-6, 5.1e-4), (framed, frame / 2 + 1e-6, 2 * frame)):
        for kind in {c.kind for c in clips if c.name == "b"}:
            found = sorted((c for c in clips if c.name == "b" and c.kind == kind), key=lambda c: c.media_first)
            assert len(found) == len(clock.segments)
            for clip, segment in zip(found, clock.segments, strict=True):
                assert clip.media_first == pytest.approx(segment.start, abs=lost)
                assert clip.media_last == pytest.approx(segment.end, abs=lost)
                off = errors(clip, segment.map)
                assert np.abs(off).max() <= tolerance
            for before, after in pairwise(found):
                assert after.media_first >= before.media_last - (frame if clips is framed else 1e-6)
                if before.track == after.track and clock is not RESET:
                    assert after.first >= before.last - 1e-9
            assert sum(len(c.marks) for c in found) == len(found) - 1
            assert all(title.startswith("break: ") for c in found[1:] for _, title, _ in c.marks)


def test_marks_say_what_broke(tmp_path):
    for clock, said in (
        (PAUSE, "4.298 s missing"),
        (HOLE, "3.500 s of the recording cut out"),
        (RESET, "back by 11."),
        (HAIR, "the drift changes"),
    ):
        alignment = alignment_of(shot("cam", 100.0), (shot("b", 60.0, None), clock))
        for clips in both(alignment, tmp_path)[:2]:
            (mark,) = (mark for c in clips for mark in c.marks)
            assert said in mark[1]
            assert mark[0] == pytest.approx(clock.segments[1].start, abs=0.041)


def test_what_is_recorded_twice_lies_on_a_track_of_its_own(tmp_path):
    alignment = alignment_of(shot("cam", 100.0), (shot("b", 60.0, None), RESET))
    exact, framed, _ = both(alignment, tmp_path)
    assert {c.track for c in exact if c.name == "b"} == {"b", "b (2)"}
    assert len({c.track for c in framed if c.name == "b"}) == 2


# --- what has no place, and what is doubtful


def everything() -> Alignment:
    """Aligned, broken, an island, and refusals of two kinds."""
    answers = (Candidate(10.0, 0.0, 0.5), Candidate(25.0, 0.0, 0.4))
    return alignment_of(
        shot("cam", 90.0),
        (shot("recorder", 80.0, None), ClockMap(-3.25, 4e-5)),
        (shot("paused", 60.0), PAUSE),
        (shot("far", 30.0), reference_estimate("far", 30.0)),
        (shot("farther", 30.0, None), estimate(ClockMap(-2.5), 30.0, "far")),
        (shot("jingle", 20.0), ClockEstimate("ambiguous", None, None, 0.5, answers, "two fit", reference="cam")),
        (shot("still", 10.0, None), ClockEstimate("degenerate", message="is silent", reference="cam")),
    )


def test_refused_recordings_lie_apart_switched_off_and_say_why(tmp_path):
    alignment = everything()
    exact, framed, _ = both(alignment, tmp_path)
    for clips in (exact, framed):
        end = max(c.last for c in clips if c.name in ("cam", "recorder", "paused", "far", "farther"))
        refused = [c for c in clips if c.name in ("jingle", "still")]
        assert {c.name for c in clips if not c.enabled} == {"jingle", "still"}
        assert all(c.first >= end + 9.9 for c in refused)
        spans = sorted({(c.first, c.last) for c in refused})
        assert len(spans) == 2
        assert spans[1][0] >= spans[0][1] + 9.9
        for clip in refused:
            ((_, title, note),) = clip.marks
            assert title == ("not aligned: ambiguous" if clip.name == "jingle" else "not aligned: degenerate")
            assert ("two fit" in note) == (clip.name == "jingle")
        (note,) = {c.marks[0][2] for c in refused if c.name == "jingle"}
        # Places on the timeline, whose time 0 is about -3.25 s of the reference.
        assert f"{10 - clips[0].start:.3f} s" in note
        assert f"{25 - clips[0].start:.3f} s" in note


def test_islands_lie_apart_and_are_right_among_themselves(tmp_path):
    exact, framed, _ = both(everything(), tmp_path)
    for clips, tolerance in ((exact, 1e-9), (framed, 0.02)):
        end = max(c.last for c in clips if c.name in ("cam", "recorder", "paused"))
        (far,) = {(c.first, c.media_first) for c in clips if c.name == "far"}
        ((farther, inside),) = {(c.first, c.media_first) for c in clips if c.name == "farther"}
        assert min(far[0], farther) >= end + 9.9
        assert (farther - inside) - (far[0] - far[1]) == pytest.approx(-2.5, abs=tolerance)
        marks = {title for c in clips if c.name == "far" for _, title, _ in c.marks}
        assert marks == {"island of far"}


def test_doubts_are_marked_and_certainty_is_not(tmp_path):
    known = (shot("sure", 50.0), estimate(ClockMap(1.0), 50.0))
    doubtful = [
        (shot("unsure", 50.0), estimate(ClockMap(2.0), 50.0, confidence=0.98)),
        (shot("loose", 50.0), estimate(ClockMap(3.0), 50.0, std=0.08)),
        (shot("odd", 50.0), estimate(ClockMap(4.0), 50.0, message="cut short")),
    ]
    alignment = alignment_of(shot("cam", 60.0), known, *doubtful)
    for clips in both(alignment, tmp_path)[:2]:
        marks = {c.name: c.marks for c in clips}
        assert marks["cam"] == marks["sure"] == ()
        assert "0.98" in marks["unsure"][0][1]
        assert "0.08 s" in marks["loose"][0][1]
        assert marks["odd"][0][2] == "cut short"


def test_each_segment_is_marked_by_its_own_uncertainty(tmp_path):
    covs = np.array([np.diag([std**2, 0.0]) for std in (1e-4, 0.05)])
    broken = ClockEstimate("aligned", PAUSE, covs, 0.999, span=(0.0, 60.0), reference="cam")
    for clips in both(alignment_of(shot("cam", 90.0), (shot("b", 60.0, None), broken)), tmp_path)[:2]:
        first, second = (c.marks for c in clips if c.name == "b")
        assert first == ()
        assert [title for _, title, _ in second] == ["break: 4.298 s missing in it", "check: placed to ± 0.05 s"]


def test_metadata_says_what_the_alignment_says(tmp_path):
    export(everything(), tmp_path / "t.otio")
    timeline = otio.adapters.read_from_file(str(tmp_path / "t.otio"))
    assert timeline.metadata["avfuse"]["start"] == -3.25
    told = {c.name: c.metadata["avfuse"] for c in timeline.find_clips()}
    assert told["recorder"]["offset"] == -3.25
    assert told["recorder"]["drift"] == pytest.approx(4e-5, rel=1e-12)
    assert told["recorder"]["std"] == pytest.approx(1e-4)
    assert told["recorder"]["status"] == "aligned"
    assert told["farther"]["reference"] == "far"
    assert told["jingle"]["candidates"][0]["offset"] == 10.0


# --- files


def test_names_and_paths_of_every_kind_survive(tmp_path):
    names = ['a & b <"c">', "入口 1", os.fsdecode(b"caf\xe9"), "bell\x07", "100% #1?"]
    others = [
        (replace(shot("x", 20.0, None), name=n, source=f"/takes/{n}.wav"), ClockMap(float(k)))
        for k, n in enumerate(names)
    ]
    exact, framed, _ = both(alignment_of(shot("cam", 60.0), *others), tmp_path)
    for clips in (exact, framed):
        urls = {c.url for c in clips}
        assert all(re.fullmatch(r"file:///[\w./%~-]+", url) for url in urls)
        found = {os.fsdecode(os.fsencode(unquote(urlsplit(u).path, errors="surrogateescape"))) for u in urls}
        assert {f"/takes/{n}.wav" for n in names} < found
        assert {c.name for c in clips} >= {'a & b <"c">', "入口 1", "caf\ufffd", "bell\ufffd", "100% #1?"}


@pytest.mark.parametrize(
    ("timecode", "rate", "seconds"),
    [
        ("01:00:00:00", Fraction(25), Fraction(3600)),
        ("00:00:10:12", Fraction(24), Fraction(21, 2)),
        # A whole hour of drop-frame time code is 107892 frames.
        ("01:00:00;00", Fraction(30000, 1001), Fraction(107892 * 1001, 30000)),
        ("00:01:00;02", Fraction(30000, 1001), Fraction(1800 * 1001, 30000)),
        ("01:00:00:00", Fraction(30000, 1001), Fraction(108000 * 1001, 30000)),
    ],
)
def test_time_code_counts_frames(timecode, rate, seconds):
    assert seconds_of_timecode(timecode, rate) == seconds
    assert seconds_of_timecode("soon", rate) is None


def test_clips_are_counted_in_the_time_code_of_their_file(tmp_path):
    clock = ClockMap(2.0, 1e-4)
    camera, recorder = shot("b", 900.0, 25.0, timecode="10:00:00:00"), shot("r", 50.0, None, time_reference="480000")
    alignment = alignment_of(shot("cam", 60.0), (camera, clock), (recorder, ClockMap(3.0)))
    exact, framed, _ = both(alignment, tmp_path)
    root = ElementTree.fromstring((tmp_path / "t.fcpxml").read_text())
    starts = {a.attrib["name"]: a.attrib["start"] for a in root.iter("asset")}
    assert (starts["b.mov"], starts["r.wav"]) == ("36000s", "10s")
    timeline = otio.adapters.read_from_file(str(tmp_path / "t.otio"))
    ranges = {c.name: c.media_reference.available_range for c in timeline.find_clips()}
    assert ranges["b"].start_time.to_seconds() == 36000
    assert ranges["r"].start_time.to_seconds() == 10
    for clips, tolerance in ((exact, 1e-6), (framed, 0.0201)):
        for clip in clips:
            assert np.abs(errors(clip, onto_reference(alignment, clip.name))).max() < tolerance


def test_a_first_sample_that_is_stamped_late_is_found_late_in_the_file(tmp_path):
    """MP4 files that start at 0.48 s are shown so by editors; the recording's own time 0 is that sample."""
    alignment = alignment_of(shot("cam", 60.0), (shot("b", 50.0, start=480_000_000), ClockMap(7.0)))
    for clips in both(alignment, tmp_path)[:2]:
        for clip in clips:
            if clip.name == "b":
                assert clip.first - clip.media_first == pytest.approx(7.0 - 0.48, abs=1e-9)
                assert clip.media_first == pytest.approx(0.48, abs=1e-9)


def test_files_that_moved_are_exported_with_what_is_known_and_said(tmp_path):
    clocks = {"cam": reference_estimate("cam", 60.0), "b": estimate(ClockMap(4.0), 50.0)}
    facts = {"cam": RecordingFacts("/gone/cam.wav", duration=60.0), "b": RecordingFacts("/gone/b.mp4", duration=50.0)}
    exact, framed, exported = both(Alignment("cam", clocks, {}, facts), tmp_path)
    for clips in (exact, framed):
        assert {(c.name, c.first) for c in clips} == {("cam", 0.0), ("b", 4.0)}
        assert {c.url for c in clips} == {"file:///gone/cam.wav", "file:///gone/b.mp4"}
    assert sum("is not there any more" in note for note in exported.notes) == 2


def test_what_no_clip_can_show_is_left_out_and_said(tmp_path):
    array = Recording("array", (Stream.from_samples(np.zeros(1000), rate=100.0),))
    words = tmp_path / "words.wav"
    words.write_text("these are words")
    text = RecordingFacts(str(words), duration=10.0)
    alignment = alignment_of(shot("cam", 60.0), (array, ClockMap(1.0)))
    clocks = dict(alignment.clocks) | {"words": estimate(ClockMap(1.0), 10.0)}
    alignment = replace(alignment, clocks=clocks, facts=dict(alignment.facts) | {"words": text})
    exact, framed, exported = both(alignment, tmp_path)
    assert {c.name for c in exact} == {c.name for c in framed} == {"cam"}
    assert "made from arrays" in exported.left_out["array"]
    assert "cannot be read" in exported.left_out["words"]
    with pytest.raises(StreamError, match="made from arrays"):
        export(alignment_of(array), tmp_path / "t.otio")


# --- rates


def test_the_timeline_has_the_rate_of_the_reference_or_one_that_fits_it(tmp_path):
    def rate(*recordings: Recording, **options: object) -> Fraction:
        first, *others = recordings
        alignment = alignment_of(first, *((r, ClockMap(1.0)) for r in others))
        return both(alignment, tmp_path, **options)[2].rate

    assert rate(shot("a", 60.0, 29.971), shot("b", 50.0, 50.0)) == Fraction(30000, 1001)
    assert rate(shot("a", 60.0, None), shot("b", 50.0, 23.976)) == Fraction(24000, 1001)
    assert rate(shot("a", 60.0, None), shot("b", 50.0, None)) == 25
    assert rate(shot("a", 60.0, 29.83)) in (Fraction(30000, 1001), 30)
    assert rate(shot("a", 60.0, 12.5)) == 25
    assert rate(shot("a", 60.0, 25.0), rate=59.94) == Fraction(60000, 1001)
    with pytest.raises(StreamError, match=r"17: no rate .* 23\.976, 24, 25"):
        rate(shot("a", 60.0), rate=17)


@given(st.floats(1.0, 240.0))
def test_any_camera_gets_a_rate_that_editors_have(rate):
    assert timeline_rate(rate) in STANDARD


@pytest.mark.parametrize("standard", STANDARD)
def test_rates_are_understood_as_people_type_them(standard):
    assert given_rate(float(standard)) == given_rate(round(float(standard), 2)) == standard


def test_variable_frame_rates_are_said(tmp_path):
    phone = shot("phone", 60.0, 29.83)
    phone["picture"].facts["is_variable"] = True
    exported = export(alignment_of(phone), tmp_path / "t.fcpxml")
    assert any("variable frame rate" in note for note in exported.notes)


def test_a_clip_shorter_than_a_frame_is_left_out_of_frames_and_said(tmp_path):
    clock = PiecewiseClock((Segment(0, 20, 5), Segment(20.5, 20.51, 5), Segment(21, 60, 5)))
    exact, framed, exported = both(alignment_of(shot("cam", 90.0), (shot("b", 60.0, None), clock)), tmp_path)
    assert sum(c.name == "b" for c in exact) == 3
    assert sum(c.name == "b" for c in framed) == 2
    assert any("fills no frame" in note for note in exported.notes)


# --- real files


@pytest.fixture(scope="module")
def taken(tmp_path_factory) -> tuple[Path, Alignment]:
    """Two real WAV files, a clock with a drift, and their rendered copies."""
    folder = tmp_path_factory.mktemp("real")
    devices = [
        Device("a", ClockMap(0.0), 8.0, rate=16000.0, position=(1.0, 0.0, 0.0)),
        Device("b", ClockMap(1.25, 1e-4), 6.0, rate=16000.0, position=(1.0, 0.0, 0.0)),
    ]
    files = simulate(duration=9.0, devices=devices, rng=1).write(folder / "takes #1")
    clocks = {"a": reference_estimate("a", 8.0), "b": estimate(ClockMap(1.25, 1e-4), 6.0, "a")}
    alignment = Alignment("a", clocks, {}, {n: RecordingFacts(str(p), duration=8.0) for n, p in files.items()})
    alignment.render(folder / "aligned")
    return folder, alignment


def test_rendered_files_start_together_and_run_alike(taken, tmp_path):
    folder, alignment = taken
    exact, framed, _ = both(alignment, tmp_path, rendered=folder / "aligned")
    for clips in (exact, framed):
        assert {(c.name, c.first, c.media_first, c.speed) for c in clips} == {("a", 0, 0, 1), ("b", 0, 0, 1)}
        assert {Path(unquote(urlsplit(c.url).path)) for c in clips} == set((folder / "aligned").iterdir())
    told = otio.adapters.read_from_file(str(tmp_path / "t.otio")).find_clips()
    assert [(m["rendered"], m["offset"]) for m in (c.metadata["avfuse"] for c in told)] == [(True, 0), (True, 1.25)]


def test_rendered_files_must_be_there_and_of_this_alignment(taken, tmp_path):
    folder, alignment = taken
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ReadError, match="avfuse render"):
            export(alignment, tmp_path / "t.otio", rendered=place)
    short = {"a": reference_estimate("a", 2.0), "b": estimate(ClockMap(-3.0), 2.0, "a")}
    other = replace(alignment, clocks=short, recordings={n: shot(n, 2.0, None) for n in short})
    with pytest.raises(ReadError, match="rendered from another"):
        export(other, tmp_path / "t.otio", rendered=folder / "aligned")
    assert list(tmp_path.iterdir()) == []


def test_only_timelines_are_written_and_never_over_a_recording(taken, tmp_path):
    folder, alignment = taken
    with pytest.raises(WriteError, match=r"\.otio or \.fcpxml"):
        export(alignment, tmp_path / "t.xml")
    take = tmp_path / "take.otio"
    take.write_bytes((folder / "takes #1" / "a.wav").read_bytes())
    facts = dict(alignment.facts) | {"a": RecordingFacts(str(take), duration=8.0)}
    for rendered in (None, folder / "aligned"):
        with pytest.raises(WriteError, match="is one of the recordings"):
            export(replace(alignment, facts=facts), take, rendered=rendered)
    assert take.stat().st_size > 100_000
    with pytest.raises(WriteError, match="does not exist"):
        export(alignment, tmp_path / "absent" / "t.otio")
    assert list(tmp_path.iterdir()) == [take]


def test_the_stamp_of_a_broadcast_wav_is_what_editors_count_from(ffmpeg, tmp_path):
    field = tmp_path / "field.wav"
    stamp = ["-metadata", "time_reference=96000000", "-write_bext", "1"]
    tone = ["-f", "lavfi", "-i", "sine=d=3:r=48000"]
    subprocess.run([ffmpeg, "-v", "error", *tone, *stamp, field], check=True)
    facts = {"field": RecordingFacts(str(field), duration=3.0)}
    both_kinds = both(Alignment("field", {"field": reference_estimate("field", 3.0)}, {}, facts), tmp_path)
    assert [c.media_first for clips in both_kinds[:2] for c in clips] == [0.0, 0.0]
    (asset,) = ElementTree.fromstring((tmp_path / "t.fcpxml").read_text()).iter("asset")
    assert asset.attrib["start"] == "2000s"


def test_a_real_camera_is_described_as_it_is(shared, tmp_path):
    karma = shared / "motion" / "karma.mp4"
    alignment = Alignment(
        "karma", {"karma": reference_estimate("karma", 1.0)}, {}, {"karma": RecordingFacts(str(karma))}
    )
    export(alignment, tmp_path / "t.fcpxml")
    ((clip,), frame) = read_fcpxml(tmp_path / "t.fcpxml")
    root = ElementTree.fromstring((tmp_path / "t.fcpxml").read_text())
    (asset,) = root.iter("asset")
    # Its time code is 19:26:48:04.
    assert seconds(asset.attrib["start"]) == ((19 * 60 + 26) * 60 + 48) * round(1 / frame) * frame + 4 * frame
    assert clip.first == 0
    assert math.isclose(clip.last, float(seconds(asset.attrib["duration"])), abs_tol=float(frame))
    assert json.loads(json.dumps(clip.url)).startswith("file:///")
