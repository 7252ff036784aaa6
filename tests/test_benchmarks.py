"""Laws of the benchmarks themselves: a benchmark that cannot fail measures nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from avfuse.clock import ClockMap
from benchmarks import cases, honest, limits, processes, sound, tables
from benchmarks.options import Options
from benchmarks.peers import METHODS, Answer, ask
from benchmarks.rows import gather


@pytest.fixture
def case(tmp_path: Path) -> cases.Case:
    return cases.Case("made", "simulated", tmp_path / "a.wav", tmp_path / "b.wav", ClockMap(2.0, 1e-4), (10.0, 30.0))


def test_error_is_that_of_the_mapped_time(case: cases.Case) -> None:
    constant = ClockMap(2.0 + 1e-4 * case.middle)
    assert case.error(constant, case.middle) == pytest.approx(0.0, abs=1e-12)
    assert case.worst(constant) == pytest.approx(1e-3)  # 10 s from the middle at 100 ppm
    assert case.worst(ClockMap(2.0, 1e-4)) == 0.0


def test_aligned_is_wrong_beyond_five_deviations_and_a_millisecond(case: cases.Case) -> None:
    off = Answer(2.0 + 2e-3, 1e-4, trusted=True, std=1e-5)
    assert sound.wrong(case, off)
    assert not sound.wrong(case, Answer(off.offset, off.drift, std=1e-3))
    assert not sound.wrong(case, Answer(2.0 + 0.9e-3, 1e-4, std=1e-5))
    assert not sound.wrong(case, Answer(reason="no_match"))


def test_any_answer_to_an_unrelated_pair_is_wrong(tmp_path: Path) -> None:
    stranger = cases.Case("made", "unrelated", tmp_path, tmp_path, None)
    assert sound.wrong(stranger, Answer(0.0))
    assert not sound.wrong(stranger, Answer(reason="no_match"))


def test_bound_falls_with_signal_time_and_band() -> None:
    # 10 s, 4 kHz, 0 dB: var = 3 * 3 / (8 pi^2 * 10 * 4000^3).
    assert limits.cramer_rao(0.0, 10.0, 4000.0) == pytest.approx(0.4220e-6, rel=1e-3)
    assert limits.cramer_rao(0.0, 40.0, 4000.0) == pytest.approx(limits.cramer_rao(0.0, 10.0, 4000.0) / 2)
    assert limits.cramer_rao(0.0, 10.0, 16000.0) == pytest.approx(limits.cramer_rao(0.0, 10.0, 4000.0) / 8)
    assert limits.cramer_rao(-6.0, 10.0, 4000.0) > limits.cramer_rao(0.0, 10.0, 4000.0)


def test_section_of_a_page_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks x -->\nold\n<!-- end of benchmarks x -->\nafter\n", "utf-8")
    for _ in range(2):
        tables.show([tables.Table("new", ("a",), [("1|2",)])], page, "x")
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| 1\\|2 |") == 1


def test_missed_goal_stays_missed() -> None:
    goals = tables.Goals()
    goals.add("a", "1", False)
    goals.add("b", "1", True)
    assert not goals.met
    assert [row[2] for row in goals.rows] == ["MISSED", "met"]


def test_memory_and_time_of_children_count() -> None:
    # The child keeps 200 MB for a while; its parent keeps nothing.
    child = "import time; kept = b'x' * 200_000_000; time.sleep(0.5)"
    ran = processes.run(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    )
    assert ran.code == 0
    assert 190 < ran.peak_mb < 320
    assert ran.seconds >= 0.5


def test_memory_limit_ends_what_exceeds_it() -> None:
    ran = processes.run([sys.executable, "-c", "import time; time.sleep(0.3); bytearray(2_000_000_000)"], memory=1.0)
    assert ran.code != 0
    assert "MemoryError" in ran.stderr


def test_interrupted_rows_go_on_where_they_stopped(tmp_path: Path) -> None:
    def breaks(index: int) -> dict[str, object]:
        if index == 2:
            raise KeyboardInterrupt
        return {"value": index}

    with pytest.raises(KeyboardInterrupt):
        gather(Options(out=tmp_path), "part", breaks, 4)
    asked: list[int] = []

    def works(index: int) -> dict[str, object]:
        asked.append(index)
        return {"value": index}

    rows = gather(Options(out=tmp_path, resume=True), "part", works, 4)
    assert [row["value"] for row in rows] == [0, 1, 2, 3]
    assert asked == [2, 3]


def test_methods_agree_on_the_sign_and_state_their_errors(tmp_path: Path) -> None:
    pair, *_ = [c for c in cases.simulated_cases(tmp_path, repeats=1, seed=3, quick=True) if "free-+20dB" in c.name]
    for method in METHODS[:2]:  # those that need no environment of their own
        answers, ran = ask(method, [(pair.reference, pair.moving), (tmp_path / "none.wav", pair.moving)], warm=False)
        assert ran.code == 0
        assert answers[0].offset is not None, answers[0].reason
        clock = ClockMap(answers[0].offset, answers[0].drift)
        assert pair.error(clock, pair.middle) < 2e-3
        assert answers[1].offset is None
        assert "none.wav" in answers[1].reason


def test_honest_row_judges_by_the_truth() -> None:
    row = honest.coverage_row(1, 0)
    again = honest.coverage_row(1, 0)
    assert row == again
    if row["status"] == "aligned":
        assert abs(row["error"]) < 1e-3
    assert honest.is_wrong({"error": 2e-3, "std": 1e-5})
    assert not honest.is_wrong({"error": 2e-3, "std": 1e-3})


def test_strangers_never_overlap() -> None:
    from avfuse.stream import Stream
    from benchmarks.clips import Clip, strangers

    stream = Stream.from_samples(np.zeros(10), rate=10.0)
    clips = [Clip("a", "one", 0, 10, stream), Clip("b", "one", 5, 15, stream), Clip("c", "one", 10, 20, stream)]
    clips.append(Clip("d", "two", 0, 10, stream))
    pairs = {tuple(sorted(p)) for p in strangers(clips, 10, seed=1)}
    assert pairs <= {(0, 2), (0, 3), (1, 3), (2, 3)}
    assert (0, 2) in pairs


def test_page_of_a_quick_run_is_not_the_documentation(tmp_path: Path) -> None:
    assert Options(quick=True, out=tmp_path).page.parent == tmp_path
    assert Options(out=tmp_path).page.parts[-2:] == ("docs", "accuracy.md")
