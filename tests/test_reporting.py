"""Laws of what is shown: nothing hidden, nothing rounded up, nothing half-written."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfuse import Alignment, Candidate, ClockEstimate, ClockMap, PiecewiseClock, Segment, WriteError
from avfuse.alignment import RecordingFacts, reference_estimate
from avfuse.reporting.text import (
    format_clock,
    format_confidence,
    format_duration,
    format_offset,
    format_ppm,
    print_alignment,
    print_truth,
)
from avfuse.reporting.timeline import draw_timeline

COV = np.array([[4e-10, 0.0], [0.0, 9e-14]])


def estimate(clock: ClockMap | PiecewiseClock, reference: str = "cam", lasts: float = 60.0) -> ClockEstimate:
    cov = COV if isinstance(clock, ClockMap) else np.array([COV] * len(clock.segments))
    return ClockEstimate("aligned", clock, cov, 0.99996, span=(0.0, lasts), reference=reference)


@pytest.fixture
def alignment() -> Alignment:
    paused = PiecewiseClock((Segment(0, 20, 5, 1e-5), Segment(20, 60, 9, 1e-5)))
    answers = tuple(Candidate(10.0 * k, 0.0, 0.2) for k in range(1, 6))
    clocks = {
        "cam": reference_estimate("cam", 90.0),
        "recorder": estimate(ClockMap(3.2041, 4.12e-5)),
        "paused": estimate(paused),
        "$x_1$ [red]入口": estimate(ClockMap(-2.0)),
        "jingle": ClockEstimate("ambiguous", None, None, 0.2, answers, "five places fit", reference="cam"),
        "still": ClockEstimate("degenerate", message="is silent [/nothing]", reference="cam"),
        "far": reference_estimate("far", 30.0),
        "farther": estimate(ClockMap(1.0), reference="far"),
    }
    return Alignment("cam", clocks, {}, {name: RecordingFacts(duration=60.0) for name in clocks})


def shown(alignment: Alignment) -> list[str]:
    out = io.StringIO()
    print_alignment(alignment, out)
    return out.getvalue().splitlines()


def line_of(name: str, lines: list[str]) -> str:
    (found,) = (line for line in lines if line.lstrip().startswith(name))
    return found


def test_every_recording_has_a_row_with_what_is_known_of_it(alignment: Alignment) -> None:
    table = shown(alignment)[:-2]
    assert line_of("recorder", table).split() == [
        "recorder", "+3.204100", "s", "±", "0.022", "ms", "+41.20", "±", "0.30", "ppm", "0.9999", "aligned",
    ]  # fmt: skip
    assert line_of("cam", table).split()[-1] == "reference"
    assert "+9.00000" in line_of("from 20.000 s", table)
    assert line_of("jingle", table).count(" s or ") == 3
    assert "2 more" in line_of("jingle", table)
    assert "aligned to far" in line_of("farther", table)
    assert "island" in line_of("far ", table)
    assert "[red]入口" in line_of("$x_1$", table)


def test_doubts_are_told_in_words_below(alignment: Alignment) -> None:
    assert shown(alignment)[-2:] == ["jingle: five places fit", "still: is silent [/nothing]"]


def test_no_line_is_broken_or_styled_in_a_pipe(alignment: Alignment) -> None:
    long = ClockEstimate("no_match", message="word " * 200, reference="cam")
    lines = shown(Alignment("cam", {**alignment.clocks, "n" * 300: long}))
    assert any(len(line) > 1000 for line in lines)
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_the_truth_is_compared_in_the_middle_of_each_recording() -> None:
    clocks = {"cam": reference_estimate("cam", 60.0), "recorder": estimate(ClockMap(1.0, 1e-5))}
    out = io.StringIO()
    truth = {"cam": ClockMap(), "recorder": ClockMap(0.999, 0.0)}
    print_truth(Alignment("cam", clocks), truth, out)
    assert "+1.3000 ms" in line_of("recorder", out.getvalue().splitlines())  # 1 ms of offset and 30 s of 10 ppm


@given(st.floats(0.0, 1.0))
def test_confidence_is_never_rounded_up(confidence: float) -> None:
    assert float(format_confidence(confidence)) <= confidence + 1e-12


@given(offset=st.floats(-1e5, 1e5), std=st.floats(1e-5, 10.0))
def test_offsets_show_the_digits_that_their_std_bears(offset: float, std: float) -> None:
    text = format_offset(offset, std)
    assert text[0] in "+-"
    assert abs(float(text) - offset) <= 0.06 * std + 1e-9


def test_units_are_readable() -> None:
    assert format_ppm(-1.2e-5, 2.5e-7) == "-12.00 ± 0.25"
    assert format_ppm(1.2e-4, 5e-5) == "+120 ± 50"
    assert [format_duration(s) for s in (41.25, 119.94, 725.0, 3765.2)] == ["41.2 s", "119.9 s", "12:05", "1:02:45"]
    assert [format_clock(s) for s in (0.0, -0.2, -30.0, 59.6)] == ["0:00", "0:00", "-0:30", "1:00"]


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_picture_is_of_the_kind_its_name_says_and_equal_for_equal_input(
    alignment: Alignment, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    first, second = (draw_timeline(alignment, tmp_path / f"{name}{suffix}") for name in "ab")
    assert first.read_bytes().startswith(magic)
    assert first.read_bytes() == second.read_bytes()


def test_the_picture_names_every_recording_and_every_reason(alignment: Alignment, tmp_path: Path) -> None:
    drawn = alignment.picture(tmp_path / "timeline.svg").read_text(encoding="utf-8")
    assert ">$x_1$ [red]入口<" in drawn  # and not set as a formula
    for words in ("recorder", "2 segments", "ambiguous: 5 answers", "five places fit", "is silent"):
        assert words in drawn
    assert "time on the clock of far, an island" in drawn
    assert "own time of recordings that could not be placed" in drawn


def test_the_picture_grows_with_the_recordings(tmp_path: Path) -> None:
    def height(count: int) -> int:
        clocks = {"cam": reference_estimate("cam", 60.0)}
        clocks |= {f"phone-{k}": estimate(ClockMap(float(k))) for k in range(count)}
        drawn = draw_timeline(Alignment("cam", clocks), tmp_path / "t.png").read_bytes()
        return int.from_bytes(drawn[20:24], "big")  # of the PNG's header

    assert height(30) - height(10) == pytest.approx(2 * (height(20) - height(10)), abs=2)
    assert height(30) > 2 * height(10)


def test_a_picture_that_cannot_be_written_leaves_nothing(alignment: Alignment, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"expected a name that ends in \.png, \.svg, \.pdf"):
        draw_timeline(alignment, tmp_path / "timeline.gif")
    with pytest.raises(WriteError, match="does not exist"):
        draw_timeline(alignment, tmp_path / "absent" / "timeline.png")
    assert list(tmp_path.iterdir()) == []
