"""The generated event that comes with the project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import avfuse

EVENT = Path(__file__).parents[1] / "data" / "event"


def test_the_event_is_what_its_truth_says() -> None:
    truth = json.loads((EVENT / "truth.json").read_text())
    found = avfuse.align(sorted(EVENT.glob("*.flac")))
    assert found.reference == truth["reference"]
    for name, clock in truth["clocks"].items():
        estimate = found.clocks[name]
        if estimate.status == "reference":
            continue
        assert estimate.status == "aligned"
        middle = (estimate.span[0] + estimate.span[1]) / 2
        true = avfuse.ClockMap(clock["offset"], clock["drift"])
        assert float(estimate.map(middle)) == pytest.approx(float(true(middle)), abs=2e-5)
        assert estimate.drift == pytest.approx(true.drift, abs=2e-6)
    assert found.clocks["stranger"].status == "no_match"


def test_the_data_stay_small() -> None:
    assert sum(path.stat().st_size for path in EVENT.parent.rglob("*") if path.is_file()) < 1_000_000
