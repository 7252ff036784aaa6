"""Laws of estimates and of alignment.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfuse import (
    Alignment,
    Candidate,
    ClockEdge,
    ClockEstimate,
    ClockMap,
    PiecewiseClock,
    ReadError,
    Rigid,
    Segment,
    StreamError,
    TransformEstimate,
    WeakAlignmentError,
    WriteError,
    load_alignment,
)
from avfuse.alignment import RecordingFacts, alignment_from_json, format_std, reference_estimate

COV = np.array([[1.9e-10, -2.1e-12], [-2.1e-12, 9.0e-14]])


def aligned(clock: ClockMap | PiecewiseClock, **changes: Any) -> ClockEstimate:
    cov = COV if isinstance(clock, ClockMap) else np.array([COV * (k + 1) for k in range(len(clock.segments))])
    fields = {"confidence": 0.9998, "span": (0.0, 58.0), "evidence": ("sound",), "reference": "cam"} | changes
    return ClockEstimate("aligned", clock, cov, **fields)


@pytest.fixture
def alignment() -> Alignment:
    """One clock of every kind: one line, drift unknown, three segments, two refusals, an island."""
    paused = PiecewiseClock((Segment(0, 10, 3, 1e-6), Segment(10, 20, 4, 1e-6), Segment(22, 58, 9, -2e-5)))
    answers = (Candidate(1.5, 0.0, 0.6), Candidate(7.5, 1e-5, 0.3))
    clocks = {
        "cam": reference_estimate("cam", 61.2),
        "recorder": aligned(ClockMap(3.2041, 4.12e-5)),
        "short": aligned(ClockMap(-8.0), drift_known=False, span=(0.0, 2.0)),
        "paused": aligned(paused),
        "jingle": ClockEstimate("ambiguous", None, None, 0.6, answers, "two answers fit", reference="cam"),
        "still": ClockEstimate("degenerate", message="is silent", reference="cam"),
        "far": reference_estimate("far", 30.0),
        "farther": aligned(ClockMap(0.25), reference="far", message="shares nothing with cam"),
    }
    facts = {name: RecordingFacts(f"{name}.wav", 0, None, 58.0) for name in clocks}
    facts["cam"] = RecordingFacts("cam.mp4", 1_700_000_000_123_456_789, "unix", 61.2, {"sound": -0.012})
    return Alignment("cam", clocks, {"lidar->cam": TransformEstimate("aligned", Rigid(np.eye(4)), np.eye(6))}, facts)


def test_the_document_says_what_the_schema_says(alignment: Alignment) -> None:
    document = alignment.to_json()
    assert list(document) == ["format", "reference", "clocks", "transforms"]
    assert document["format"] == "avfuse.alignment/1"
    assert document["clocks"]["cam"] == {
        "status": "reference", "reference": "cam", "source": "cam.mp4", "start": 1_700_000_000_123_456_789,
        "start_clock": "unix", "duration": 61.2, "streams": {"sound": {"offset": -0.012}},
    }  # fmt: skip
    entry = document["clocks"]["recorder"]
    assert list(entry) == [
        "status", "reference", "source", "start", "start_clock", "duration", "confidence", "evidence", "segments",
        "streams", "candidates", "message",
    ]  # fmt: skip
    (segment,) = entry["segments"]
    assert (segment["start"], segment["end"]) == (0.0, 58.0)
    assert (segment["offset"], segment["drift"]) == (3.2041, 4.12e-5)
    assert segment["cov"] == COV.tolist()
    assert segment["drift_std"] == pytest.approx(3e-7)
    middle = np.array([1.0, 29.0])
    assert segment["std"] == pytest.approx(math.sqrt(middle @ COV @ middle))


def test_drift_that_was_not_estimated_is_zero_with_no_std(alignment: Alignment) -> None:
    (segment,) = alignment.to_json()["clocks"]["short"]["segments"]
    assert segment["drift"] == 0.0
    assert segment["drift_std"] is None


def test_refusals_have_a_message_and_no_segments(alignment: Alignment) -> None:
    for name in ("jingle", "still"):
        entry = alignment.to_json()["clocks"][name]
        assert entry["segments"] == []
        assert entry["message"]
    best, second = alignment.to_json()["clocks"]["jingle"]["candidates"]
    assert best == {"offset": 1.5, "drift": 0.0, "confidence": 0.6}
    assert second["confidence"] < best["confidence"]


def test_what_is_saved_is_loaded(alignment: Alignment, tmp_path: Path) -> None:
    path = alignment.save(tmp_path / "alignment.json")
    loaded = load_alignment(path)
    assert loaded.to_json(tmp_path) == json.loads(path.read_text(encoding="utf-8"))
    for name, estimate in alignment.clocks.items():
        again = loaded.clocks[name]
        assert again.status == estimate.status
        assert again.message == estimate.message
        assert again.reference == estimate.reference
        if estimate.clock is not None:
            times = np.linspace(-5, 70, 76)
            np.testing.assert_array_equal(again.map(times), estimate.map(times))
            np.testing.assert_array_equal(again.std_at(times), estimate.std_at(times))
    assert str(loaded) == str(alignment)


@given(offset=st.floats(-1e9, 1e9), drift=st.floats(-0.9, 0.9), start=st.integers(0, 2**62))
def test_every_digit_survives(offset: float, drift: float, start: int) -> None:
    clocks = {"a": reference_estimate("a", 1.0), "b": aligned(ClockMap(offset, drift))}
    facts = {"b": RecordingFacts("b.wav", start, "device", 58.0)}
    entry = json.loads(json.dumps(Alignment("a", clocks, {}, facts).to_json()))["clocks"]["b"]
    assert entry["start"] == start
    assert (entry["segments"][0]["offset"], entry["segments"][0]["drift"]) == (offset, drift)


def test_an_answer_without_a_covariance_keeps_its_segments(tmp_path: Path) -> None:
    known = ClockEstimate("aligned", ClockMap(2.0), None, 0.9, span=(0.0, 5.0), reference="a")
    path = Alignment("a", {"a": reference_estimate("a", 5.0), "b": known}).save(tmp_path / "a.json")
    (segment,) = json.loads(path.read_text())["clocks"]["b"]["segments"]
    assert (segment["offset"], segment["std"], segment["cov"]) == (2.0, None, None)
    again = load_alignment(path).clocks["b"]
    assert again.offset == 2.0
    assert again.cov is None


def test_unknown_keys_are_kept(alignment: Alignment, tmp_path: Path) -> None:
    path = alignment.save(tmp_path / "alignment.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["note"] = {"by": "hand"}
    document["clocks"]["recorder"]["colour"] = "red"
    document["clocks"]["cam"]["owner"] = "Ada"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert load_alignment(path).to_json(tmp_path) == document


def test_sources_are_relative_to_the_saved_file(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert alignment.to_json()["clocks"]["recorder"]["source"] == "recorder.wav"
    Path("results").mkdir()
    saved = json.loads(alignment.save("results/alignment.json").read_text(encoding="utf-8"))
    assert saved["clocks"]["recorder"]["source"] == "../recorder.wav"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = load_alignment(tmp_path / "results" / "alignment.json")
    assert Path(loaded.facts["recorder"].source or "").resolve() == tmp_path / "recorder.wav"


def test_sources_are_found_again_through_a_linked_folder(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("far/away").mkdir(parents=True)
    Path("link").symlink_to("far/away")
    alignment.save("link/alignment.json")
    for path in ("far/away/alignment.json", "link/alignment.json"):
        assert Path(load_alignment(path).facts["recorder"].source or "").resolve() == tmp_path / "recorder.wav"


def test_saving_never_replaces_a_recording(tmp_path: Path) -> None:
    take = tmp_path / "a.wav"
    take.write_bytes(b"sound")
    with pytest.raises(WriteError, match="is one of the recordings"):
        Alignment("a", {"a": reference_estimate("a", 1.0)}, {}, {"a": RecordingFacts(str(take), duration=1.0)}).save(
            take
        )
    assert take.read_bytes() == b"sound"


def test_an_absolute_source_stays(tmp_path: Path) -> None:
    facts = {"a": RecordingFacts("/media/card/a.mp4", duration=1.0)}
    path = Alignment("a", {"a": reference_estimate("a", 1.0)}, {}, facts).save(tmp_path / "a.json")
    assert json.loads(path.read_text())["clocks"]["a"]["source"] == "/media/card/a.mp4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[1, 2]", "format is 'list'"),
        ("{}", "format is None; expected 'avfuse.alignment/1'"),
        ('{"format": "avfuse.alignment/2"}', "expected 'avfuse.alignment/1'"),
        ('{"format": "avfuse.alignment/1"}', "not a valid"),
        ('{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"a": {}}}', "not a valid"),
        ('{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"a": {"status": "fine"}}}', "not a valid"),
        ('{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"b": {"status": "reference"}}}', "none of its"),
        (
            '{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"a": {"status": "reference", '
            '"start": 1e400}}}',
            "not a valid",
        ),
        (
            '{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"a": {"status": "aligned", "segments": '
            '[{"start": 0, "end": 1, "offset": 1e300, "drift": 0}]}}}',
            "no clock's",
        ),
        (
            '{"format": "avfuse.alignment/1", "reference": "a", "clocks": {"\\ud800": {"status": "reference"}}}',
            "not a valid",
        ),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_what_is_no_alignment_is_one_clear_line(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(ReadError, match=words) as caught:
        load_alignment(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_said(alignment: Alignment, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no such file"):
        load_alignment(tmp_path / "absent.json")
    with pytest.raises(ReadError, match="cannot be read"):
        load_alignment(tmp_path)
    with pytest.raises(WriteError, match="does not exist"):
        alignment.save(tmp_path / "absent" / "alignment.json")


def test_files_by_other_tools_may_give_only_std(tmp_path: Path) -> None:
    segment = {"start": 0, "end": 60, "offset": 2.0, "drift": 1e-5, "std": 1e-4, "drift_std": 1e-6}
    clocks = {
        "a": {"status": "reference"},
        "b": {"status": "aligned", "reference": "a", "duration": 60, "segments": [segment]},
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format": "avfuse.alignment/1", "reference": "a", "clocks": clocks}))
    estimate = load_alignment(path).clocks["b"]
    assert estimate.std_at(30.0) == pytest.approx(1e-4)
    assert estimate.std_at(60.0) == pytest.approx(math.hypot(1e-4, 30 * 1e-6))
    assert estimate.drift_std == pytest.approx(1e-6)


def test_an_alignment_is_complete_when_all_share_the_reference_clock(alignment: Alignment) -> None:
    assert not alignment.complete
    clocks = {name: alignment.clocks[name] for name in ("cam", "recorder", "short", "paused")}
    assert Alignment("cam", clocks).complete
    assert not Alignment("cam", clocks | {"far": alignment.clocks["far"]}).complete
    assert not Alignment("cam", clocks | {"still": alignment.clocks["still"]}).complete


# Estimates.


def test_asking_a_refusal_for_its_map_raises_the_reason() -> None:
    refused = ClockEstimate("no_match", message="nothing shared was heard")
    for ask in ("map", "offset", "drift"):
        with pytest.raises(WeakAlignmentError, match="no_match: nothing shared was heard"):
            getattr(refused, ask)
    assert refused.segments == ()
    assert math.isnan(refused.std)


def test_a_clock_with_several_segments_has_no_one_offset(alignment: Alignment) -> None:
    with pytest.raises(WeakAlignmentError, match="3 segments"):
        _ = alignment.clocks["paused"].offset


def test_only_answers_carry_a_map() -> None:
    with pytest.raises(StreamError, match="only answers carry a map"):
        ClockEstimate("aligned")
    with pytest.raises(StreamError, match="only answers carry a map"):
        ClockEstimate("no_match", ClockMap())
    with pytest.raises(StreamError, match="expected one of"):
        ClockEstimate("fine", ClockMap())  # type: ignore[arg-type]


def test_there_is_one_covariance_per_segment() -> None:
    two = PiecewiseClock((Segment(0, 1, 0), Segment(1, 2, 5)))
    ClockEstimate("aligned", two, np.zeros((2, 2, 2)))
    ClockEstimate("aligned", ClockMap(), np.zeros((2, 2)))
    for clock, cov in ((two, COV), (two, np.zeros((3, 2, 2))), (ClockMap(), np.zeros(2))):
        with pytest.raises(StreamError, match="cov of shape"):
            ClockEstimate("aligned", clock, cov)


def test_each_segment_has_its_own_uncertainty(alignment: Alignment) -> None:
    estimate = alignment.clocks["paused"]
    for k, t in enumerate((5.0, 15.0, 40.0)):
        v = np.array([1.0, t])
        assert estimate.std_at(t) == pytest.approx(math.sqrt(v @ (COV * (k + 1)) @ v))


@given(offset=st.floats(-1e4, 1e4), drift=st.floats(-1e-3, 1e-3), t=st.floats(-100, 1e4))
def test_an_edge_read_backwards_is_the_inverse_with_the_same_certainty(offset: float, drift: float, t: float) -> None:
    edge = ClockEdge(("a", "sound"), ("b", "sound"), ClockMap(offset, drift), COV, 0.99, "sound")
    back = edge.inverse()
    assert (back.reference, back.moving) == (edge.moving, edge.reference)
    np.testing.assert_allclose(back.map(edge.map(t)), t, atol=1e-7)
    # The moving time of a reference time is as uncertain as the reference time of that moving time, in its units.
    there, here = np.array([1.0, t]), np.array([1.0, float(edge.map(t))])
    expected = there @ COV @ there / (1 + drift) ** 2
    assert here @ back.cov @ here == pytest.approx(expected, rel=1e-3, abs=1e-16)


@pytest.mark.parametrize("cov", [np.zeros(2), np.full((2, 2), np.nan)])
def test_an_edge_needs_a_finite_covariance(cov: np.ndarray) -> None:
    with pytest.raises(StreamError, match="expected a finite"):
        ClockEdge(("a", "sound"), ("b", "sound"), ClockMap(), cov, 0.9, "sound")


def test_printing_reads_as_the_design_says(alignment: Alignment) -> None:
    lines = str(alignment).splitlines()
    assert lines[0].split() == ["cam", "reference"]
    assert lines[1].split() == ["recorder", "+3.20410", "s", "±", "0.012", "ms", "+41.20", "±", "0.3", "ppm", "aligned"]
    assert "ppm" not in lines[2]
    assert "3 segments" in lines[3]
    assert "ambiguous: two answers fit" in lines[4]
    assert "on the clock of far" in lines[7]


@pytest.mark.parametrize(
    ("std", "text"),
    [(2.0, "2 s"), (0.0123, "0.012 s"), (0.0042, "4.2 ms"), (4.2e-5, "0.042 ms"), (4.2e-6, "4.2 µs"), (0.0, "0 µs")],
)
def test_a_std_is_printed_in_the_unit_that_suits_it(std: float, text: str) -> None:
    assert format_std(std) == text
    assert format_std(math.inf) == "unknown"


def test_transforms_are_kept_with_what_others_say_of_them():
    matrix = np.eye(4)
    matrix[:3, 3] = [0.1, -0.2, 0.3]
    entry = {
        "status": "aligned", "reference": "cam", "moving": "lidar", "kind": "rigid", "matrix": matrix.tolist(),
        "cov": None, "confidence": 0.99, "message": None, "measured_by": "hand",
    }  # fmt: skip
    refused = {"status": "degenerate", "reference": "cam", "moving": "imu", "kind": "rigid", "confidence": 0.0,
               "message": "it stood still"}  # fmt: skip
    clocks = {"cam": {"status": "reference", "duration": 1.0}}
    document = {
        "format": "avfuse.alignment/1", "reference": "cam", "clocks": clocks,
        "transforms": {"lidar->cam": entry, "imu->cam": refused},
    }  # fmt: skip
    made = alignment_from_json(document, ".", "made.json")
    np.testing.assert_allclose(made.transforms["lidar->cam"].transform([[0, 0, 0]]), [[0.1, -0.2, 0.3]])
    with pytest.raises(WeakAlignmentError, match="stood still"):
        _ = made.transforms["imu->cam"].transform
    assert made.to_json()["transforms"] == document["transforms"]


@pytest.mark.parametrize(
    "entry",
    [
        {"status": "aligned", "kind": "rigid", "matrix": [[2, 0], [0, 1]]},
        {"status": "aligned", "kind": "cube", "matrix": [[1]]},
        {"status": "aligned", "kind": "rigid"},
        {"status": "fine"},
        "lidar",
    ],
)
def test_transforms_that_are_none_are_one_line(entry):
    document = {"format": "avfuse.alignment/1", "reference": "cam", "transforms": {"a->cam": entry},
                "clocks": {"cam": {"status": "reference", "duration": 1.0}}}  # fmt: skip
    with pytest.raises(ReadError, match=r"made\.json: not a valid") as caught:
        alignment_from_json(document, ".", "made.json")
    assert "\n" not in str(caught.value)
