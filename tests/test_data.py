"""The generated event that comes with the project."""

from __future__ import annotations

from pathlib import Path

import avfuse
from avfuse.evaluation import judge, read_cases

EVENT = Path(__file__).parents[1] / "data" / "event"


def test_the_event_is_what_its_truth_says() -> None:
    (case,) = read_cases(EVENT / "truth.json")
    found = avfuse.align(sorted(EVENT.glob("*.flac")))
    assert found.reference == case.true.reference
    results = {result.moving: result for result in judge(case, "avfuse", found)}
    for name in ("right", "front"):
        assert results[name].status == "aligned"
        assert abs(results[name].error) < 2e-5
        assert abs(results[name].drift_error) < 2e-6
    assert results["stranger"].status == "no_match"


def test_the_cases_can_be_read_and_made(tmp_path: Path) -> None:
    cases = read_cases(EVENT.parent / "cases.json")
    assert [case.group for case in cases[::-1]].count("simulated") == 18
    assert len(cases[0].names) == 4
    made = next(case for case in cases if case.name == "unrelated hum").made(tmp_path)
    assert made.true.clocks["moving"].status == "no_match"


def test_the_data_stay_small() -> None:
    assert sum(path.stat().st_size for path in EVENT.parent.rglob("*") if path.is_file()) < 1_000_000
