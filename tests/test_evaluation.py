"""Methods on cases with known truth: what is asked, what is judged, and what a method cannot spoil."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import avfuse
from avfuse import Alignment, Candidate, ClockEstimate, ClockMap, PiecewiseClock, ReadError, Segment, StreamError
from avfuse.alignment import RecordingFacts, json_text, reference_estimate
from avfuse.evaluation import Case, evaluate, first_candidate, judge, read_cases, true_pairs, write_cases
from avfuse.evaluation.judging import mutual_errors
from avfuse.evaluation.methods import Command, Function, Local, named_method, parse_method
from avfuse.evaluation.processes import run
from avfuse.simulation import simulate_pair
from avfuse.simulation.cases import simulate_case, write_case
from avfuse.stream import Stream

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "my_method.py"
QUIET = Stream.from_samples(np.zeros(16000), rate=1600.0)  # 10 s


def truth_of(folder: Path, clocks: dict[str, Any], durations: dict[str, float] | None = None) -> Alignment:
    """A truth with a reference "a" of 60 s and clocks on it; every recording has an empty file."""
    durations = {"a": 60.0} | {name: 40.0 for name in clocks} | (durations or {})
    facts = {}
    for name, duration in durations.items():
        path = folder / f"{name}.wav"
        path.touch()
        facts[name] = RecordingFacts(str(path), duration=duration)
    found = {"a": reference_estimate("a", 60.0)}
    for name, clock in clocks.items():
        if isinstance(clock, ClockEstimate):
            found[name] = clock
            continue
        span = (
            (0.0, durations[name]) if isinstance(clock, ClockMap) else (clock.segments[0].start, clock.segments[-1].end)
        )
        found[name] = ClockEstimate("aligned", clock, confidence=0.999, span=span)
    return Alignment("a", found, facts=facts)


def says(truth: Alignment, **clocks: Any) -> Alignment:
    """The answer that differs from the truth in some clocks."""
    found = dict(truth.clocks)
    for name, clock in clocks.items():
        found[name] = clock if isinstance(clock, ClockEstimate) else replace(found[name], clock=clock)
    return replace(truth, clocks=found)


NO = ClockEstimate("no_match", message="shares nothing")


# Judging


def test_the_truth_itself_has_no_error(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0, 1e-4), "c": ClockMap(-2.0, -5e-5), "x": NO})
    results = judge(Case("made", truth), "m", truth)
    assert [r.moving for r in results] == ["b", "c", "x"]
    for r in results[:2]:
        assert (r.error, r.worst, r.first, r.last, r.drift_error) == (0.0, 0.0, 0.0, 0.0, 0.0)
        assert r.stated
        assert not r.wrong
    assert (results[2].status, results[2].shared, results[2].wrong) == ("no_match", False, False)


def test_errors_are_those_of_the_mapped_time_in_the_middle_and_at_the_ends(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(30.0, 0.0)})  # b's 0 to 30 s are on a
    answer = says(truth, b=ClockMap(30.0 - 15 * 1e-4 + 1e-3, 1e-4))
    (r,) = judge(Case("made", truth), "m", answer)
    assert r.error == pytest.approx(1e-3)
    assert (r.first, r.last) == (pytest.approx(-0.5e-3), pytest.approx(2.5e-3))
    assert r.worst == pytest.approx(2.5e-3)
    assert r.drift_error == pytest.approx(1e-4)


def test_which_reference_a_method_takes_does_not_matter(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0, 1e-4), "c": ClockMap(-2.0, -5e-5)})
    case = Case("made", truth)
    cov = np.diag([4e-8, 1e-14])
    b = ClockEstimate("aligned", ClockMap(3.002, 1e-4), cov, 0.9, span=(0.0, 40.0))
    direct = judge(case, "m", says(truth, b=b))
    back = b.map.inverse()
    turned = Alignment(
        "b",
        {
            "a": ClockEstimate("aligned", back, cov, 0.9, span=(0.0, 60.0)),
            "b": reference_estimate("b", 40.0),
            "c": ClockEstimate("aligned", back @ ClockMap(-2.0, -5e-5), cov, 0.9, span=(0.0, 40.0)),
        },
        facts=truth.facts,
    )
    other = judge(case, "m", turned)
    for one, two in zip(direct, other, strict=True):
        assert two.error == pytest.approx(one.error, abs=1e-9)
        assert two.worst == pytest.approx(one.worst, abs=1e-9)
    assert other[0].std == pytest.approx(direct[0].std, rel=1e-2)
    # Two recordings that both have clocks to be found: nothing tells how their errors hang together.
    assert math.isnan(other[1].std)


def test_recordings_are_known_by_their_files_whatever_they_are_called(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0)})
    a, b = (str(tmp_path / name) for name in ("a.wav", "b.wav"))
    renamed = Alignment(
        "first",
        {"first": reference_estimate("first", 60.0), "second": ClockEstimate("aligned", ClockMap(3.5))},
        facts={"first": RecordingFacts(os.path.relpath(a)), "second": RecordingFacts(b)},
    )
    (r,) = judge(Case("made", truth), "m", renamed)
    assert r.error == pytest.approx(0.5)
    (r,) = judge(Case("made", truth), "m", replace(renamed, facts={}))
    assert (r.status, "says nothing of b" in r.reason) == ("failed", True)


def test_strangers_must_not_be_placed_beside_anybody(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0), "x": NO, "y": NO})
    case = Case("made", truth)
    placed = ClockEstimate("aligned", ClockMap(1.0), confidence=0.999)
    results = {r.moving: r for r in judge(case, "m", says(truth, x=placed))}
    assert results["x"].wrong
    assert not results["y"].wrong
    # An island of two strangers is as wrong, though neither is on the reference's clock.
    island = says(truth, x=reference_estimate("x", 40.0), y=replace(placed, reference="x"))
    assert [r.moving for r in judge(case, "m", island) if r.wrong] == ["x", "y"]
    alone = says(truth, x=reference_estimate("x", 40.0))
    assert not any(r.wrong for r in judge(case, "m", alone))


def test_islands_of_the_truth_must_not_be_joined(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0), "x": NO, "y": NO})
    truth = says(truth, x=reference_estimate("x", 40.0), y=ClockEstimate("aligned", ClockMap(1.0), reference="x",
                                                                         span=(0.0, 40.0)))  # fmt: skip
    case = Case("made", truth)
    assert [(p.reference, p.moving, p.clock is None) for p in true_pairs(case)] == [
        ("a", "b", False), ("a", "x", True), ("x", "y", False)
    ]  # fmt: skip
    assert [r.wrong for r in judge(case, "m", truth)] == [False, False, False]
    joined = says(truth, x=ClockEstimate("aligned", ClockMap(5.0)), y=ClockEstimate("aligned", ClockMap(6.0)))
    results = judge(case, "m", joined)
    assert (results[1].stated, results[1].shared) == (True, False)
    assert results[2].error == pytest.approx(0.0)  # y on x is right all the same


def test_a_refusal_with_the_truth_among_its_candidates_is_told(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0)})
    case = Case("made", truth)

    def unsure(*offsets: float) -> Alignment:
        candidates = tuple(Candidate(o, 0.0, 0.4) for o in offsets)
        return says(truth, b=ClockEstimate("ambiguous", candidates=candidates, message="two fit"))

    (near,) = judge(case, "m", unsure(7.0, 3.0001))
    (far,) = judge(case, "m", unsure(7.0, 3.01))
    assert (near.stated, near.among, far.among) == (False, True, False)
    (best,) = judge(case, "m", first_candidate(unsure(3.2, 3.0)))
    assert best.error == pytest.approx(0.2)


def test_of_several_true_offsets_none_may_be_chosen(tmp_path: Path) -> None:
    several = ClockEstimate("ambiguous", candidates=(Candidate(1.0, 0.0, 0.5), Candidate(4.0, 0.0, 0.5)), message="")
    truth = truth_of(tmp_path, {"b": several})
    case = Case("made", truth)
    (r,) = judge(case, "m", truth)
    assert (r.shared, r.wrong, r.among) == (False, False, True)
    (r,) = judge(case, "m", says(truth, b=ClockEstimate("aligned", ClockMap(4.0), confidence=0.999)))
    assert r.wrong


def test_truths_with_breaks_are_judged_on_each_side_and_not_at_the_break(tmp_path: Path) -> None:
    clock = PiecewiseClock((Segment(0.0, 20.0, 3.0), Segment(20.0, 40.0, 5.0)))
    truth = truth_of(tmp_path, {"b": clock})
    case = Case("made", truth)
    late = PiecewiseClock((Segment(0.0, 20.3, 3.0), Segment(20.3, 40.0, 5.0)))
    (r,) = judge(case, "m", says(truth, b=late))
    assert (r.error, r.worst) == (0.0, 0.0)
    (r,) = judge(case, "m", says(truth, b=ClockMap(3.0)))  # the second half is missed by 2 s
    assert r.worst == pytest.approx(2.0)
    hole = PiecewiseClock((Segment(0.0, 4.0, 3.0), Segment(36.0, 40.0, 5.0)))
    (r,) = judge(case, "m", says(truth, b=hole))
    assert (r.status, "hole" in r.reason) == ("no_match", True)


def test_truth_that_is_known_to_a_millisecond_forgives_a_millisecond(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0)})
    known = says(truth, b=replace(truth.clocks["b"], cov=np.diag([1e-6, 0.0]), drift_known=False))
    stated = ClockEstimate("aligned", ClockMap(3.0025), np.zeros((2, 2)), 0.999, span=(0.0, 40.0))
    (r,) = judge(Case("made", truth), "m", says(truth, b=stated))
    assert r.wrong
    (r,) = judge(Case("made", known), "m", says(truth, b=stated))
    assert (r.wrong, r.known) == (False, 1e-3)
    assert math.isnan(r.drift_error)


def test_recordings_that_overlap_nowhere_are_no_case(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(100.0)})
    with pytest.raises(StreamError, match="no time in common"):
        evaluate([Case("made", truth)], {"m": lambda files: truth})


def test_errors_between_moving_recordings_need_not_be_those_against_the_reference(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0), "c": ClockMap(4.0)})
    both_late = says(truth, b=ClockMap(3.1), c=ClockMap(4.1))
    assert np.sort(mutual_errors(Case("made", truth), both_late)) == pytest.approx([0.0, 0.1, 0.1])


# Figures of an evaluation


@pytest.fixture
def made(tmp_path: Path) -> list[Case]:
    """Ten cases with a pair, and five with strangers."""
    cases = []
    for k in range(15):
        folder = tmp_path / f"case-{k}"
        folder.mkdir()
        clock: Any = ClockMap(1.0 + k) if k < 10 else NO
        setting = {"parity": "even" if k % 2 == 0 else "odd"}
        cases.append(Case(f"case-{k}", truth_of(folder, {"b": clock}), group="pair" if k < 10 else "stranger",
                          settings=setting))  # fmt: skip
    return cases


def number_of(files: list[str]) -> int:
    return int(Path(files[0]).parent.name.split("-")[1])


def late_by(error: float, *, std: float | None = None, confidence: float = 0.0) -> Callable[[list[str]], Alignment]:
    """Places everything, strangers too."""

    def align(files: list[str]) -> Alignment:
        found = Alignment.from_maps({files[0]: ClockMap(), files[1]: ClockMap(1.0 + number_of(files) + error)})
        if std is None:
            return found
        cov = np.diag([std**2, 0.0])
        return replace(found, clocks={**found.clocks, "b": replace(found.clocks["b"], cov=cov, confidence=confidence)})

    return align


def test_figures_are_those_of_what_was_said(made: list[Case]) -> None:
    def sometimes(files: list[str]) -> Alignment:
        k = number_of(files)
        if k in (8, 9) or k >= 10:
            return Alignment.from_maps({files[0]: ClockMap(), files[1]: None})
        return late_by(0.0 if k < 4 else 3e-3 if k < 7 else 0.5)(files)

    found = evaluate(made, {"sometimes": sometimes, "late": late_by(30e-3)})
    s = found.summary("sometimes")
    assert (s.pairs, s.strangers) == (10, 5)
    assert s.stated.value == pytest.approx(0.8)
    assert [f.value for f in s.success] == pytest.approx([0.4, 0.7, 0.7, 0.7, 0.7])
    assert s.gross.value == pytest.approx(0.1)
    assert s.missed.value == pytest.approx(0.2)
    assert s.false.value == 0.0
    assert s.largest == pytest.approx(0.5)
    late = found.summary("late")
    assert late.false.value == 1.0
    assert late.median.value == pytest.approx(30e-3)
    c = found.comparison("late")
    assert c.success[0].value == pytest.approx(0.4)  # within 1 ms: 4 of 10 against none
    assert c.p[0] == pytest.approx(2 / 2**4)
    assert (c.closer, c.farther) == (7, 1)


def test_coverage_and_confidence_are_those_stated(made: list[Case]) -> None:
    found = evaluate(made, {"sure": late_by(2e-3, std=1e-3, confidence=0.999), "vague": late_by(2e-3, std=1.1e-3),
                            "silent": late_by(2e-3)})  # fmt: skip
    sure, vague, silent = (found.summary(name) for name in found.methods)
    assert (sure.covered.value, vague.covered.value) == (0.0, 1.0)
    assert silent.covered.count == 0
    # 2 ms are within five deviations; the strangers are what is wrong.
    assert (sure.sure_wrong.value, sure.sure_wrong.count) == (pytest.approx(5 / 15), 15)
    assert vague.sure_wrong.count == 0
    (level,) = found.reliability("sure")
    assert (level.count, level.right) == (15, 10)


def test_whatever_a_method_does_is_its_result_of_that_case(made: list[Case]) -> None:
    def breaks(files: list[str]) -> Any:
        k = number_of(files)
        if k == 0:
            raise ZeroDivisionError("of no use")
        if k == 1:
            raise SystemExit(3)
        if k == 2:
            return 4.5
        return late_by(0.0)(files)

    found = evaluate(made, {"breaks": breaks})
    failed = {p.case: p.reason for p in found.pairs if p.status == "failed"}
    assert failed == {
        "case-0": "ZeroDivisionError: of no use",
        "case-1": "SystemExit: 3",
        "case-2": "returned float; expected an avfuse.Alignment",
    }
    assert found.summary("breaks").failed.value == pytest.approx(3 / 15)
    assert "ZeroDivisionError: of no use" in str(found)


def test_a_change_of_what_was_said_is_a_method_of_its_own(made: list[Case]) -> None:
    def refuse(alignment: Alignment) -> Alignment:
        return replace(alignment, clocks={**alignment.clocks, "b": NO})

    found = evaluate(made, {"m": late_by(0.0)}).also("refused", "m", refuse)
    assert found.methods == ("m", "refused")
    assert (found.summary("m").stated.value, found.summary("refused").stated.value) == (1.0, 0.0)
    assert math.isnan(found.summary("refused").seconds.value)
    with pytest.raises(StreamError, match="refused"):
        found.also("refused", "m", refuse)


def test_tables_are_of_the_chosen_cases(made: list[Case]) -> None:
    found = evaluate(made, {"m": late_by(0.0)})
    assert found.where(lambda c: c.group == "pair").summary("m").strangers == 0
    nothing = found.where(lambda c: False).summary("m")
    assert (nothing.pairs, nothing.stated.count) == (0, 0)
    assert found.settings() == {"group": ("pair", "stranger"), "parity": ("even", "odd")}
    titles = [table.title for table in found.tables()]
    assert "By parity: pairs within 1 ms / off by more than 100 ms" in titles


def test_what_is_saved_holds_every_pair_and_escapes_names(made: list[Case], tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> $x_ & [red]"
    found = evaluate([replace(made[0], name=hostile), *made[1:3]], {hostile: late_by(0.5)}, folder=tmp_path / "out")
    paths = {path.name: path for path in found.save(tmp_path / "out")}
    assert set(paths) == {"evaluation.json", "pairs.csv", "evaluation.html", "errors.svg"}
    document = json.loads(paths["evaluation.json"].read_text())
    assert document["format"] == "avfuse.evaluation/1"
    assert [pair["error"] for pair in document["pairs"]] == pytest.approx([0.5] * 3)
    rows = list(csv.DictReader(paths["pairs.csv"].open()))
    assert [row["case"] for row in rows] == [hostile, "case-1", "case-2"]
    assert rows[0]["setting: parity"] == "even"
    page = paths["evaluation.html"].read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\((?!#)""", page)  # nothing is fetched
    assert hostile in str(found)
    from avfuse.reporting.evaluation import print_evaluation

    with (tmp_path / "printed.txt").open("w") as file:
        print_evaluation(found, file)
    assert hostile in (tmp_path / "printed.txt").read_text()


def test_interrupted_runs_go_on_where_they_stopped(made: list[Case], tmp_path: Path) -> None:
    asked: list[int] = []

    def interrupted(files: list[str]) -> Alignment:
        asked.append(number_of(files))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return late_by(0.0)(files)

    with pytest.raises(KeyboardInterrupt):
        evaluate(made, {"m": interrupted}, folder=tmp_path / "kept")
    with (tmp_path / "kept" / "answers.jsonl").open("a") as file:
        file.write('{"key": "torn')
    found = evaluate(made, {"m": interrupted}, folder=tmp_path / "kept", resume=True)
    assert asked == [0, 1, 2, 3, *range(3, 15)]
    again = evaluate(made, {"m": interrupted}, folder=tmp_path / "kept", resume=True)
    assert len(asked) == 16
    assert again.summary("m").median == found.summary("m").median
    os.utime(made[5].files[1], ns=(1, 1))  # a recording that changed is another case
    evaluate(made, {"m": interrupted}, folder=tmp_path / "kept", resume=True)
    assert asked[16:] == [5]


def test_cycles_are_of_answers_about_pairs_alone(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(3.0), "c": ClockMap(4.0), "d": ClockMap(5.0)})
    offsets = {"a": 0.0, "b": 3.0, "c": 4.0, "d": 5.0}
    asked: list[list[str]] = []

    def align(files: list[str]) -> Alignment:
        names = [Path(f).stem for f in files]
        asked.append(names)
        wrong = 0.2 if names == ["a", "b"] else 0.0
        first = offsets[names[0]]
        return Alignment.from_maps({f: ClockMap(offsets[n] - first + wrong * (n == "b"))
                                    for f, n in zip(files, names, strict=True)})  # fmt: skip

    found = evaluate([Case("made", truth)], {"m": align}, cycles=True)
    assert len(asked) == 1 + 6
    s = found.summary("m")
    assert s.cycle_max == pytest.approx(0.2)
    assert s.cycle_median == pytest.approx(0.1)  # two of four triangles
    assert s.mutual_p95 == pytest.approx(0.0, abs=1e-12)  # the joint answer was right


# Cases


def test_a_case_is_a_folder_a_truth_or_an_entry_of_a_list(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_case(tmp_path / name, (QUIET, QUIET), ClockMap(1.5, 2e-5), bits=16)
    assert [c.name for c in read_cases(tmp_path)] == ["one", "two"]
    assert read_cases(tmp_path / "one" / "alignment.json")[0].true.clocks["moving"].map == ClockMap(1.5, 2e-5)
    inline = json.loads((tmp_path / "two" / "alignment.json").read_text())
    for clock in inline["clocks"].values():
        clock["source"] = f"two/{clock['source']}"
        clock["duration"] = 0.0  # asked of the files
    write_cases(tmp_path / "cases.json", [
        {"name": "first", "truth": "one/alignment.json", "group": "g", "settings": {"snr": 3}},
        {"name": "second", "truth": inline},
        {"name": "third", "simulate": {"pair": "unrelated", "kind": "hum", "duration": 4.0, "seed": 1}},
    ])  # fmt: skip
    first, second, third = read_cases(tmp_path)
    assert (first.group, first.settings) == ("g", {"snr": "3"})
    assert first.files == tuple(str(tmp_path / "one" / f"{name}.wav") for name in ("reference", "moving"))
    assert second.true.facts["reference"].duration == pytest.approx(10.0)
    with pytest.raises(StreamError, match="made when"):
        _ = third.true
    assert third.made(tmp_path / "third").true.clocks["moving"].status == "no_match"


BAD = [
    ({"format": "else"}, "format is 'else'"),
    ({"format": "avfuse.cases/1", "cases": []}, "holds no cases"),
    ([{"name": "x"}], "expected one of 'truth'"),
    ([{"name": "x", "truth": "none.json"}], "none.json: cannot be read"),
    ([{"name": "x", "truth": "t.json", "gruop": "y"}], "'gruop'"),
    ([{"truth": "t.json"}], "its name is None"),
    ([{"name": "x", "truth": "t.json"}, {"name": "x", "truth": "t.json"}], "two cases are named 'x'"),
    ([{"name": "x", "truth": "missing.json"}], "there is no file"),
    ([{"name": "x", "simulate": {"pair": "related", "snr": 3, "seed": 1}}], "'snr'"),
    ([{"name": "x", "simulate": {"pair": "relate", "seed": 1}}], "'relate'"),
    ([{"name": "x", "simulate": {"pair": "related"}}], "seed"),
    ([7], "case 1 is 7"),
]


@pytest.mark.parametrize(("document", "told"), BAD)
def test_bad_cases_are_told_in_one_line(document: Any, told: str, tmp_path: Path) -> None:
    truth = truth_of(tmp_path, {"b": ClockMap(1.0)})
    (tmp_path / "t.json").write_text(json_text(truth.to_json(tmp_path)))
    gone = truth.to_json(tmp_path)
    gone["clocks"]["b"]["source"] = "gone.wav"
    (tmp_path / "missing.json").write_text(json_text(gone))
    if isinstance(document, list):
        document = {"format": "avfuse.cases/1", "cases": document}
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ReadError, match=r"cases\.json") as raised:
        read_cases(path)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_places_without_cases_are_told(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none", tmp_path / "text.json"):
        if place.suffix:
            place.write_text("no json")
        with pytest.raises(ReadError, match=r"expected a folder of cases"):
            read_cases(place)


def test_a_simulated_case_is_the_pair_that_the_simulation_makes(tmp_path: Path) -> None:
    recipe = {"pair": "related", "kind": "impacts", "overlap": 4.0, "snr_db": 10, "drift_ppm": 50, "seed": [1, 2]}
    truth = simulate_case(recipe, tmp_path)
    pair = simulate_pair("impacts", overlap=4.0, snr_db=10, drift_ppm=50, rng=np.random.default_rng([1, 2]))
    assert truth.clocks["moving"].map == pair.truth
    assert avfuse.load_alignment(tmp_path / "alignment.json").clocks["moving"].map == pair.truth
    _, samples = next(avfuse.read(tmp_path / "moving.wav")["sound"].blocks(60.0))
    np.testing.assert_array_equal(samples, pair.moving.values)


# Methods


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short real cases: a pair, and strangers."""
    folder = tmp_path_factory.mktemp("pairs")
    simulate_case({"pair": "related", "overlap": 6.0, "snr_db": 20, "seed": 3}, folder / "near")
    simulate_case({"pair": "unrelated", "kind": "speech", "duration": 6.0, "seed": 4}, folder / "strange")
    return folder


def test_a_ten_line_method_in_a_file_is_compared_by_its_name(pairs: Path) -> None:
    found = evaluate(pairs, ["avfuse", f"{EXAMPLE}:align_by_envelope"])
    assert found.methods == ("avfuse", "align_by_envelope")
    own, theirs = (found.summary(name) for name in found.methods)
    assert own.median.value < 1e-4
    assert 1e-5 < theirs.median.value < 20e-3
    assert (own.false.value, theirs.false.value) == (0.0, 1.0)
    # Honest costs: more than an empty Python, and without the start of it.
    for s in (own, theirs):
        assert 20 < s.peak_mb < 2000
        assert 0 < s.seconds.value < 60
        assert s.startup > 0.1
    assert theirs.peak_mb < own.peak_mb


def test_the_page_shows_the_method_as_it_is() -> None:
    assert EXAMPLE.read_text() in (EXAMPLE.parents[1] / "evaluate.md").read_text()


def test_the_ten_lines_on_real_recordings(shared: Path) -> None:
    listed = read_cases(EXAMPLE.parent / "real-cases.json")
    assert [len(case.names) for case in listed] == [2, 2, 2, 2, 2, 8]
    assert all(Path(file).resolve().is_relative_to(shared.resolve()) for case in listed for file in case.files)
    chosen = [case for case in listed if case.name in ("talk", "no echo")]
    found = evaluate(chosen, ["avfuse", f"{EXAMPLE}:align_by_envelope"], fresh=False)
    own, theirs = (found.summary(name) for name in found.methods)
    assert own.largest < 1e-3
    assert theirs.largest < 20e-3  # it steps by 10 ms
    assert (own.false.value, theirs.false.value) == (0.0, 1.0)


METHODS = """
import os, sys, time
import avfuse
from beside import OFFSET

def good(files):
    print("chatter", flush=True); sys.stdin.read()
    return avfuse.Alignment.from_maps({files[0]: avfuse.ClockMap(), files[1]: avfuse.ClockMap(OFFSET)})

def dies(files):
    sys.stderr.write("last words\\n"); sys.stderr.flush(); os._exit(7)

def hangs(files):
    time.sleep(600 if "case-" in files[0] else 0)

def hungry(files):
    kept = bytearray(300_000_000); kept[::4096] = b"x" * len(kept[::4096])
    return good(files)

def greedy(files):
    bytearray(20_000_000_000)
"""


@pytest.fixture
def file_of_methods(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("OFFSET = 1.0\n")
    path = tmp_path / "methods.py"
    path.write_text(METHODS)
    return path


def test_each_case_runs_in_a_process_that_may_die(made: list[Case], file_of_methods: Path) -> None:
    names = ("good", "dies", "hungry", "greedy")
    found = evaluate(made[:1], [f"{file_of_methods}:{name}" for name in names], memory_limit=8.0)
    (part,) = found.asked
    assert {p.method: p.status for p in found.pairs} == {
        "good": "aligned", "dies": "failed", "hungry": "aligned", "greedy": "failed"
    }  # fmt: skip
    assert part.answers["dies"].reason == "its process died; exit status 7: last words"
    assert "MemoryError" in part.answers["greedy"].reason
    assert part.answers["hungry"].peak_mb > part.answers["good"].peak_mb + 280


def test_what_takes_too_long_is_ended(made: list[Case], file_of_methods: Path) -> None:
    sleeper = f"cmd:{sys.executable} -c 'import time; time.sleep(60)' {{files}} {{out}}"
    found = evaluate(made[:1], [f"sleeper={sleeper}"], time_limit=0.5)
    assert found.pairs[0].reason == "took longer than 0.5 s and was ended"
    found = evaluate(made[:1], [f"{file_of_methods}:hangs"], time_limit=5.0)
    assert found.pairs[0].reason == "took longer than 5 s and was ended"


def test_a_method_that_cannot_be_loaded_is_bad_input(made: list[Case], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\ndef f(files): pass\n")
    with pytest.raises(ReadError, match="cannot be loaded: ModuleNotFoundError"):
        evaluate(made, [f"{tmp_path / 'broken.py'}:f"])


def test_one_process_for_all_cases_says_the_same(made: list[Case], file_of_methods: Path) -> None:
    method = [f"{file_of_methods}:good"]
    apart, together = evaluate(made[:3], method), evaluate(made[:3], method, fresh=False)
    beside = evaluate(made[:3], method, fresh=False, processes=2)
    for found in (together, beside):
        assert [p.error for p in found.pairs] == [p.error for p in apart.pairs]
        assert math.isnan(found.summary("good").peak_mb)
    assert not any("Cost" in table.title for table in beside.tables())


def test_commands_get_names_as_they_are_without_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s $(touch here); a "name" {out}'
    folder.mkdir()
    truth = truth_of(folder, {"b": ClockMap(1.0)})
    script = tmp_path / "tool.py"
    script.write_text(
        "import sys, json\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import avfuse\n"
        "a, b, option, out = sys.argv[2:]\n"
        "found = avfuse.Alignment.from_maps({a: avfuse.ClockMap(), b: avfuse.ClockMap(1.25)}).to_json()\n"
        "assert option == '--to'\n"
        "json.dump(found | {'seconds': 0.001}, open(out, 'w'))\n"
        "sys.exit(3)\n"
    )
    root = Path(avfuse.__file__).parents[1]
    command = f"cmd:{shlex.quote(sys.executable)} {script} {root} {{reference}} {{moving}} --to {{out}}"
    found = evaluate([Case("made", truth)], {"tool": command})
    assert found.pairs[0].reason == ""
    assert found.pairs[0].error == pytest.approx(0.25)
    answer = found.asked[0].answers["tool"]
    # What it says of its own time is believed, and the rest is its start.
    assert answer.seconds == 0.001
    assert answer.startup > 0.02
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("import sys; print('{}')", "format is None"),
        ("print('no json')", "is no JSON"),
        ("pass", "printed nothing; exit status 0"),
        ("raise ValueError('why')", "printed nothing; exit status 1: ValueError: why"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11"),
    ],
)
def test_a_command_without_an_answer_has_failed(command: str, told: str, made: list[Case]) -> None:
    found = evaluate(made[:1], {"m": f'cmd:{sys.executable} -c "{command}" {{files}}'})
    assert found.pairs[0].status == "failed"
    assert told in found.pairs[0].reason


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("mine", "is neither"),
        ("none.py:f", "cannot be read"),
        (f"{EXAMPLE}:align", "it has align_by_envelope"),
        ("no_such_module:f", "there is no module"),
        ("cmd:no-such-program {files} {out}", "there is no program 'no-such-program'"),
        ("cmd:ls {file}", "{file} is no placeholder"),
        ("cmd:ls --all={files}", "several files"),
        ("cmd:ls 'open {files}", "quotes"),
        ("cmd:ls", "is not told the files"),
        ("cmd:", "names no program"),
    ],
)
def test_bad_methods_are_told_in_one_line(spec: str, told: str) -> None:
    with pytest.raises(ReadError) as raised:
        parse_method(spec)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_methods_have_names_of_their_own(made: list[Case]) -> None:
    assert parse_method("avfuse").name == "avfuse"
    assert parse_method(f"mine={EXAMPLE}:align_by_envelope").name == "mine"
    assert isinstance(parse_method("cmd:ls -l=a {files}"), Command)
    assert parse_method("cmd:ls {files}").name == "ls"
    with pytest.raises(ReadError, match="two methods have this name"):
        evaluate(made, ["avfuse", "avfuse"])


def test_functions_that_a_process_can_load_run_in_one() -> None:
    assert named_method("m", avfuse.align) == Function("m", "align", "avfuse.aligning")
    assert isinstance(named_method("m", lambda files: None), Local)
    assert isinstance(named_method("m", late_by(0.0)), Local)
    with pytest.raises(StreamError, match="type int"):
        named_method("m", 3)  # type: ignore[arg-type]


def test_a_script_that_evaluates_its_own_function_runs_it_elsewhere(pairs: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    text = (
        "import os, avfuse\n"
        "started = os.getpid()\n"
        "def mine(files):\n"
        "    found = avfuse.Alignment.from_maps(dict.fromkeys(files, avfuse.ClockMap()))\n"
        "    raise RuntimeError(f'in {started}')\n"
        "GUARD"
        "    found = avfuse.evaluate(PAIRS, {'mine': mine}, time_limit=60)\n"
        "    print(os.getpid(), found.pairs[0].reason)\n"
    ).replace("PAIRS", repr(str(pairs)))
    root = str(Path(avfuse.__file__).parents[1])

    def run_script(guard: str) -> Any:
        script.write_text(text.replace("GUARD", guard))
        return run([sys.executable, str(script)], environment={**os.environ, "PYTHONPATH": root}, time_limit=100)

    ran = run_script("if __name__ == '__main__':\n")
    own, *reason = ran.stdout.split()
    assert reason[:2] == ["RuntimeError:", "in"]
    assert reason[2] != own
    ran = run_script("if True:\n")
    assert ran.code == 1
    assert "call it under if __name__" in ran.stderr.splitlines()[-1]


# Processes


def test_memory_and_time_of_children_count() -> None:
    # The child keeps 200 MB for a while; its parent keeps nothing.
    child = "import time; kept = b'x' * 200_000_000; time.sleep(0.5)"
    ran = run([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"])
    assert ran.code == 0
    assert 190 < ran.peak_mb < 320
    assert ran.seconds >= 0.5


def test_memory_limit_ends_what_exceeds_it() -> None:
    ran = run([sys.executable, "-c", "import time; time.sleep(0.3); bytearray(2_000_000_000)"], memory_limit=1.0)
    assert ran.code != 0
    assert "MemoryError" in ran.stderr


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    import psutil

    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    ran = run([sys.executable, "-c", parent], time_limit=1.5)
    assert ran.timed_out
    pid = int(note.read_text())
    for _ in range(100):  # the system takes a moment
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} lives on")
