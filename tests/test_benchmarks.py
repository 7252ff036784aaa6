"""Laws of the benchmarks themselves: a benchmark that cannot fail measures nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse.batches import Samples, Window
from avfuse.evaluation import read_cases
from avfuse.reporting.tables import Table
from avfuse.simulation.cases import check_recipe
from benchmarks import cases, honest, limits, peers, tables
from benchmarks.__main__ import main
from benchmarks.measuring import measure
from benchmarks.options import Options
from benchmarks.peers import METHODS
from benchmarks.prepare.cutting import Cut
from benchmarks.rows import gather


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
        tables.show([Table("new", ("a",), [("1|2",)])], page, "x")
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| 1\\|2 |") == 1


def test_part_of_another_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name, part, has in (
        ("fusion", "clouds", "rates"),
        ("space", "rates", "clouds"),
        ("sound", "rates", "no parts"),
    ):
        with pytest.raises(SystemExit):
            main([name, "--part", part])
        assert has in capsys.readouterr().err.splitlines()[-1]


def test_missed_goal_stays_missed() -> None:
    goals = tables.Goals()
    goals.add("a", "1", False)
    goals.add("b", "1", True)
    assert not goals.met
    assert [row[2] for row in goals.rows] == ["MISSED", "met"]


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


def test_methods_agree_on_the_sign_and_peers_are_commands(tmp_path: Path) -> None:
    made = cases.simulated_cases(tmp_path, repeats=1, seed=3, quick=True)
    chosen = [c for c in made if "free-+20dB" in str(c["name"])]
    methods = peers.specifications(METHODS[:2])  # those that need no environment of their own
    # A peer's runner, in this environment: whatever `align` it is given, it writes an answer and the time of that.
    runner = tmp_path / "peer.py"
    runner.write_text(
        f"import sys; sys.path.insert(0, {str(peers.RUNNERS)!r})\n"
        "from loop import answer\n"
        "answer(lambda reference, moving: (0.25, False, 3.0))\n"
    )
    methods["peer"] = f"cmd:{sys.executable} {runner} {{reference}} {{moving}} {{out}}"
    found = measure(Options(out=tmp_path / "out", quick=True), "signs", chosen, methods, timed=True)
    for name in list(methods)[:2]:
        assert found.summary(name).largest < 2e-3
    trusted = found.also("trusted", "peer", peers.trusted_only)
    assert [p.status for p in trusted.of_method("peer")] == ["aligned"]
    assert [p.status for p in trusted.of_method("trusted")] == ["no_match"]
    answer = found.asked[0].answers["peer"]
    assert 0.0 <= answer.seconds < 0.01 < answer.startup
    assert (tmp_path / "out" / "signs" / "evaluation.html").exists()
    assert [c.name for c in read_cases(tmp_path / "out" / "signs")] == [c["name"] for c in chosen]


def test_designs_are_recipes_that_turn_over_every_class(tmp_path: Path) -> None:
    made = honest.recipes("coverage", honest.designed_pair, 1, 48)
    assert made == honest.recipes("coverage", honest.designed_pair, 1, 48)
    assert len({tuple(list(e["settings"].values())[:3]) for e in made}) == 4 * 4 * 3  # type: ignore[attr-defined]
    for _, design in (("rooms", honest._room_pair), ("unrelated", honest._unrelated_pair), ("j", honest._jingle_pair)):
        for index in range(12):
            check_recipe(design(1, index)[0])


def test_made_cases_hold_the_truth_they_state(tmp_path: Path) -> None:
    truth = limits.noise_case(1, 0, tmp_path)
    samples = []
    for name in ("reference", "moving"):
        _, values = next(avfuse.read(truth.facts[name].source).of_kind("sound")[0].blocks(60.0))
        samples.append(values[0])
    lag = np.argmax(np.correlate(*samples, mode="full")) - (len(samples[1]) - 1)
    assert lag / 16000 == pytest.approx(truth.clocks["moving"].offset, abs=1 / 16000)


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


def windows_of_lengths(lengths: list[int], events: list[str]) -> list[Window]:
    rng = np.random.default_rng(4)
    return [
        Window(
            event, 1.0, 1.0,
            {"sensor": Samples(rng.normal(size=(n, 2)), 1.0 + np.arange(n) / 25.0, np.ones(n, bool), rate=25.0)}, k,
        )
        for k, (n, event) in enumerate(zip(lengths, events, strict=True))
    ]  # fmt: skip


def test_windows_on_disk_are_the_windows_that_were_written(tmp_path: Path) -> None:
    from benchmarks.fusion.learning import Data

    made = Data.of(windows_of_lengths([5, 9, 7], ["a", "a", "b"]))
    made.save(tmp_path / "data")
    read = Data.load(tmp_path / "data")
    assert read.labels.tolist() == [0, 1, 2]
    assert read.events.tolist() == [0, 0, 1]
    chosen = np.array([0, 2])
    for data in (made, read):
        timed = data.rows(chosen)["sensor"]
        assert timed.values.shape == (2, 7, 2)  # not padded to the 9 of the window that was not chosen
        assert timed.valid.sum(dim=1).tolist() == [5, 7]
        assert timed.rate == (25.0, 25.0)
        np.testing.assert_array_equal(timed.values.numpy(), made.modalities["sensor"].values[chosen, :7])


def test_networks_that_are_told_indices_do_not_see_when_samples_were_taken() -> None:
    from dataclasses import replace

    from benchmarks.fusion.learning import Data
    from benchmarks.fusion.rates import TRAINED, by_index

    data = Data.of(windows_of_lengths([6, 6], ["a", "b"]))
    data = replace(data, modalities={"rotation": data.modalities["sensor"]})
    later = replace(data.modalities["rotation"], times=1.7 * data.modalities["rotation"].times, rate=(42.5, 42.5))
    told = [by_index(d).modalities["rotation"] for d in (data, replace(data, modalities={"rotation": later}))]
    np.testing.assert_array_equal(told[0].times, told[1].times)
    np.testing.assert_allclose(told[0].times[0], np.arange(6) / TRAINED.rotation)
    assert told[0].rate == told[1].rate


def test_interval_of_a_share_holds_the_truth_and_widens_with_fewer_events() -> None:
    from benchmarks.fusion.learning import interval

    rng = np.random.default_rng(0)

    def found(events: int) -> tuple[float, float]:
        level = rng.uniform(0.2, 1.0, events)  # windows of one event are alike
        groups = np.repeat(np.arange(events), 40)
        right = rng.random((3, len(groups))) < level[groups]
        return interval(lambda drawn: float(drawn(right).mean()), right.shape, groups, rng, draws=200)

    wide, narrow = [found(5) for _ in range(20)], [found(40) for _ in range(20)]
    assert np.mean([high - low for low, high in wide]) > 2 * np.mean([high - low for low, high in narrow])
    assert np.mean([low <= 0.6 <= high for low, high in narrow]) >= 0.8


def test_films_tell_their_own_time_through_encoders_sizes_and_cuts(tmp_path: Path) -> None:
    from avfuse.simulation.stamped import stamped_film, time_of_sound, times_of_frames, write_film

    film = stamped_film(6.0, 3, rate=25.0, variable=0.6, starts=(0.3, 0.0))
    read = avfuse.read(write_film(tmp_path / "film.mp4", film, key_frames=10.0))
    seen = [(times, frames) for times, frames in read["picture"].blocks(1.0)]
    times, frames = (np.concatenate([block[k] for block in seen]) for k in (0, 1))
    assert np.ptp(np.diff(times)) > 0.02  # the rate varies
    np.testing.assert_allclose(times_of_frames(frames), times, atol=1e-4)
    np.testing.assert_allclose(times_of_frames(frames[:, ::2, ::2]), times, atol=1e-4)
    assert np.isnan(times_of_frames(np.full((1, 96, 160), 128, np.uint8))).all()
    for start, values in [*read["sound"].blocks(0.5)][:-1]:
        when, sure = time_of_sound(values[0], 48000.0, near=start[0] + 1.0)
        assert when == pytest.approx(start[0], abs=2e-6)
        assert sure > 0.9
    strange = np.random.default_rng(0).normal(size=24000)
    assert time_of_sound(strange, 48000.0, near=3.0)[1] < 0.2


def cut_from(begin: float, *, ahead: float = 0.0, heard_ahead: float = 0.0, frames: slice = slice(None)) -> Cut:
    """What a tool gives that comes from `ahead` seconds after what it says, its sound from `heard_ahead` more."""
    from avfuse.simulation.stamped import stamped_sound
    from benchmarks.prepare.fidelity import LENGTH

    times = np.arange(0.0, LENGTH, 0.04)[frames]
    heard = begin + ahead + heard_ahead + np.arange(int(LENGTH * 16000)) / 16000
    return Cut(begin + ahead + times, times, stamped_sound(heard, 5), 0.0, 16000.0)


def test_what_is_off_missing_or_strange_in_a_window_is_found() -> None:
    from benchmarks.prepare.fidelity import LENGTH, Judged, judge
    from benchmarks.prepare.films import Film

    film = Film("film.mp4", "aac", 25.0, 0.0, (0.0, 0.0))
    span, shown = (4.0, 4.0 + LENGTH), np.arange(0.0, 20.0, 0.04)

    def found(cut: Cut | None) -> Judged:
        return judge(film, "tool", cut, span, shown, 5)

    good = found(cut_from(4.0))
    assert good.exact
    assert good.sound < 1e-5
    assert good.picture < 1e-6
    early = found(cut_from(4.0, heard_ahead=0.00153))
    assert not early.exact
    assert early.sound == pytest.approx(0.00153, abs=1e-5)
    assert early.apart == pytest.approx(-0.00153, abs=1e-5)
    far = found(cut_from(4.0, ahead=7.2))
    assert far.sound == pytest.approx(7.2, abs=1e-4)
    assert far.picture == pytest.approx(7.2 * 25.0, abs=1e-3)
    assert far.missing == 1.0
    assert far.strange > 30
    few = found(cut_from(4.0, frames=slice(0, 30)))
    assert not few.exact
    assert few.missing == pytest.approx(1.0 - 30 / 38, abs=0.03)
    nothing = found(None)
    assert not nothing.exact
    assert not nothing.came


def test_peers_are_asked_for_the_pieces_that_are_the_spans() -> None:
    from benchmarks.prepare.cutting import _borders

    assert _borders([(1.0, 2.0), (2.0, 3.5), (5.0, 6.0)]) == ("1.0,2.0,3.5,5.0,6.0", [1, 2, 4])
    assert _borders([(0.0, 2.0), (2.5, 3.0)]) == ("2.0,2.5,3.0", [0, 2])


def test_area_under_the_curve_counts_pairs() -> None:
    from benchmarks.prepare.filter import auroc

    rng = np.random.default_rng(2)
    scores, off = rng.integers(0, 6, 60) / 5.0, rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[off] for b in scores[~off]]
    assert auroc(scores, off) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc([1.0, 2.0], [True, True]))


def test_broken_clips_are_broken_and_the_others_are_not(tmp_path: Path) -> None:
    from avfuse.errors import ReadError
    from benchmarks.prepare.broken import KINDS, make_clips

    clips, broken = make_clips(tmp_path / "clips", 40, 1)
    assert set(broken.values()) == set(KINDS)
    for name, path in clips.items():
        if "pipe" in broken.get(name, ""):
            continue  # whoever opens it waits
        if name in broken and broken[name] not in ("cut short, index first", "samples damaged"):
            with pytest.raises(ReadError):
                _samples_of(path)
        else:
            assert (_samples_of(path) >= 16000) == (name not in broken)


def _samples_of(path: Path) -> int:
    return sum(values.shape[1] for _, values in avfuse.read(path)["sound"].blocks(1.0))


def test_memory_of_a_program_and_of_what_it_starts_is_told_apart() -> None:
    from benchmarks.measuring import run_here
    from benchmarks.prepare.speed import HighWaters

    marks = HighWaters()
    child = "import time; x = bytearray(200_000_000); time.sleep(1)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    run_here([sys.executable, "-c", program], started=marks.watch)
    assert marks.parent < 100
    assert 200 < marks.largest_child < 300
    assert marks.together == pytest.approx(marks.parent + marks.largest_child)
