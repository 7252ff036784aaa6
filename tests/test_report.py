"""The page that explains an alignment: what it says, that nothing in it can do harm, and that everybody can use it."""

from __future__ import annotations

import base64
import io
import os
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from chromium import Chromium
from hypothesis import given
from hypothesis import strategies as st

from avfuse import (
    Alignment,
    Candidate,
    ClockEstimate,
    ClockMap,
    Recording,
    Stream,
    WriteError,
    load_alignment,
    simulate,
)
from avfuse.alignment import RecordingFacts, reference_estimate
from avfuse.reporting import snippets, words
from avfuse.reporting.measuring import snippets_that_fit
from avfuse.simulation import Device, dropping_clock, write_media
from avfuse.temporal.residual import Residual

COV = np.array([[1e-10, 0.0], [0.0, 1e-14]])
PAUSES = [(6.0, 2.5), (12.0, 4.0)]
HOSTILE = (
    "<script>window.hacked=1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "\u202egnp.exe\u0007",
    "name-" * 60,
    os.fsdecode(b"caf\xe9"),
    "</style></title>--><b>&amp;{{ 7*7 }}",
)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    """One of everything: aligned, paused, ambiguous, silent, unrelated, and an island."""
    place = (1.0, 0.0, 0.0)
    cam, recorder, paused = ClockMap(0.5), ClockMap(3.0, 5e-5), dropping_clock(ClockMap(1.0, -2e-5), 16.0, PAUSES)
    event = simulate(
        duration=28.0,
        devices=[
            Device("cam", cam, 26.0, 16000.0, place, snr_db=20.0),
            Device("recorder", recorder, 18.0, 16000.0, place, snr_db=20.0),
            Device("paused", paused, 16.0, 16000.0, place, snr_db=20.0),
        ],
        rng=4,
    )
    recordings = {r.name: r for r in event.recordings}
    recordings["jingle"] = replace(recordings["recorder"], name="jingle")
    recordings["still"] = Recording("still", (Stream.from_samples(np.zeros(80000), rate=16000.0),))
    for k, name in enumerate(("far", "farther")):
        values = 0.1 * np.random.default_rng(5).standard_normal(160000)[16000 * k :]
        recordings[name] = Recording(name, (Stream.from_samples(values, rate=16000.0),))
    answers = tuple(Candidate(2.5 + 6.0 * k, 5e-5, p) for k, p in enumerate((0.5, 0.3, 0.1)))

    def at(clock: Any, lasts: float, root: str = "cam") -> ClockEstimate:
        cov = COV if isinstance(clock, ClockMap) else np.array([COV] * len(clock.segments))
        return ClockEstimate("aligned", clock, cov, 0.9996, span=(0.0, lasts), evidence=("sound",), reference=root)

    clocks = {
        "cam": reference_estimate("cam", 26.0),
        "recorder": at(cam.inverse() @ recorder, 18.0),
        "paused": at(cam.inverse() @ paused, 16.0),
        "jingle": ClockEstimate(
            "ambiguous", None, None, 0.5, answers, "three offsets fit", (0.0, 18.0), reference="cam"
        ),
        "still": ClockEstimate("degenerate", message="its sound is silent", span=(0.0, 5.0), reference="cam"),
        "far": reference_estimate("far", 10.0),
        "farther": at(ClockMap(1.0), 9.0, "far"),
    }
    facts = {name: RecordingFacts(duration=r.duration) for name, r in recordings.items()}
    return Alignment("cam", clocks, facts=facts, recordings=recordings)


@pytest.fixture(scope="module")
def page(alignment: Alignment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return alignment.report(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def hostile(alignment: Alignment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same under names that try everything, and as messages and sources too."""
    new = dict(zip(alignment.clocks, ("cam", *HOSTILE), strict=True))
    old = {theirs: ours for ours, theirs in new.items()}
    clocks = {
        name: replace(
            alignment.clocks[old[name]],
            reference=new[alignment.clocks[old[name]].reference or "cam"],
            message=None if alignment.clocks[old[name]].message is None else f"because of {name}",
        )
        for name in new.values()
    }
    facts = {name: replace(alignment.facts[old[name]], source=f"{name}.wav") for name in clocks}
    recordings = {name: replace(alignment.recordings[old[name]], name=name) for name in clocks}
    odd = Alignment("cam", clocks, facts=facts, recordings=recordings)
    return odd.report(tmp_path_factory.mktemp("hostile") / "report.html")


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, and its text by the nearest `id` around it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def card_of(name: str, page: Path) -> str:
    """Text of the part of the page about one recording."""
    (found,) = re.findall(
        rf"<article id=\"r\d+\"[^>]*>\s*<h3[^>]*><bdi>{name}</bdi>.*?</article>", page.read_text(), re.S
    )
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


# What it says


def test_every_recording_is_explained(alignment: Alignment, page: Path) -> None:
    text = Reader(page).text
    assert "3 of 7 recordings lie on one timeline, the clock of cam" in text
    recorder = card_of("recorder", page)
    assert "recorder was started 2.5 s after cam: its time 0 is +2.500000 s on the clock of cam" in recorder
    assert "Its clock runs slow: it falls behind by 180 ms in an hour (drift +50.00 ± 0.10 ppm)" in recorder
    assert "Confirmed" in recorder
    assert "Compared with cam" in recorder
    assert "silent" in card_of("still", page)
    assert "muted microphone" in card_of("still", page)
    jingle = card_of("jingle", page)
    for words_of_it in ("Three offsets fit", "+2.5000 s", "+8.5000 s", "0.3000", "--max-offset 6", "Answer 1"):
        assert words_of_it in jingle
    assert "Island of far" in text
    assert "joins the islands" in card_of("farther", page)


def test_gaps_are_told_with_place_and_length(page: Path) -> None:
    paused = card_of("paused", page)
    assert "At 6 s of its own time, 2.5 s of the event are missing" in paused
    assert "At 12 s of its own time, 4 s of the event are missing" in paused
    assert "Confirmed" in paused


def test_islands_are_compared_within_themselves(page: Path) -> None:
    assert "Compared with far" in card_of("farther", page)
    assert "Confirmed" in card_of("farther", page)


def test_no_island_is_compared_with_another(alignment: Alignment, tmp_path: Path) -> None:
    recordings = {name: r for name, r in alignment.recordings.items() if name != "far"}
    page = replace(alignment, recordings=recordings).report(tmp_path / "report.html")
    card = card_of("farther", page)
    assert "Compared with" not in card
    assert "no other recording that overlaps it could be heard" in card


def test_who_does_not_meet_the_reference_is_compared_with_whom_it_meets(alignment: Alignment, tmp_path: Path) -> None:
    def cut(name: str, first: float, last: float) -> Recording:
        values = np.asarray(alignment.recordings[name]["sound"].values)[:, int(first * 16000) : int(last * 16000)]
        stream = Stream.from_samples(values, rate=16000.0, start=first)
        return replace(alignment.recordings[name], streams=(stream,))

    names = ("cam", "recorder", "paused")
    recordings = {"cam": cut("cam", 0, 5), "recorder": cut("recorder", 8, 18), "paused": alignment.recordings["paused"]}
    one = replace(alignment, clocks={n: alignment.clocks[n] for n in names}, recordings=recordings)
    card = card_of("recorder", one.report(tmp_path / "report.html"))
    assert "Compared with paused" in card
    assert "Confirmed" in card
    assert "Left ear, above: paused" in card


def measured(residuals: np.ndarray) -> Residual:
    lags, times = np.linspace(-0.05, 0.05, 101), np.arange(len(residuals), dtype=float)
    return Residual(times, residuals, np.full(len(times), 5.0), lags, np.exp(-((1e3 * lags) ** 2)), 1.0)


@pytest.mark.parametrize(
    ("residuals", "expected"),
    [
        (np.full(20, 2e-4), "holds"),
        (np.full(20, -2e-3), "doubtful"),
        (np.linspace(-6e-4, 6e-4, 20), "doubtful"),  # a drift
        (np.repeat([2e-4, 4e-3], [14, 6]), "doubtful"),  # a jump
        (np.repeat([2e-4, 4e-3], [19, 1]), "holds"),  # one odd place
        (np.repeat([2e-4, np.nan], [3, 17]), "holds"),
        (np.full(20, np.nan), "unknown"),
    ],
)
def test_the_verdict_asks_for_the_middle_the_slope_and_most_places(residuals: np.ndarray, expected: str) -> None:
    found, sentence = words.verdict(measured(residuals), 1e-5, 20.0)
    assert found == expected
    assert words.verdict(measured(residuals), 0.01, 20.0)[0] == ("unknown" if expected == "unknown" else "holds")
    assert sentence.endswith(".")
    assert words.verdict(None, 1e-5, 20.0)[0] == "unknown"


@pytest.mark.parametrize(
    ("wrong", "said"),
    # 1.4 ms from end to end of 18 s: every place alone is within 1 ms of the middle.
    [(ClockMap(0.006), "the sounds agree −6 ms"), (ClockMap(0.0, 8e-5), "differ among each other")],
)
def test_an_alignment_that_does_not_fit_its_recordings_is_called_doubtful(
    alignment: Alignment, tmp_path: Path, wrong: ClockMap, said: str
) -> None:
    moved = replace(alignment.clocks["recorder"], clock=wrong @ alignment.clocks["recorder"].map)
    # Wrong in the drift alone: right in the middle.
    clocks = {"cam": alignment.clocks["cam"], "recorder": moved}
    if wrong.drift:
        middle = float(alignment.clocks["recorder"].map(9.0))
        moved = replace(moved, clock=ClockMap(-wrong.drift * middle) @ moved.map)
        clocks["recorder"] = moved
    card = card_of("recorder", replace(alignment, clocks=clocks).report(tmp_path / "report.html"))
    assert "Doubtful" in card
    assert said in card


def test_a_saved_alignment_is_measured_again_and_missing_files_are_no_fault(
    alignment: Alignment, tmp_path: Path
) -> None:
    names = ("cam", "recorder")
    facts = {}
    for name in names:
        file = write_media(tmp_path / f"{name}.wav", alignment.recordings[name])
        facts[name] = replace(alignment.facts[name], source=str(file))
    saved = Alignment("cam", {name: alignment.clocks[name] for name in names}, facts=facts).save(tmp_path / "a.json")
    page = load_alignment(saved).report(tmp_path / "report.html")
    assert "Confirmed" in card_of("recorder", page)
    (tmp_path / "recorder.wav").unlink()
    page = load_alignment(saved).report(tmp_path / "report.html")
    card = card_of("recorder", page)
    assert "could not be measured again" in card
    assert "recorder.wav" in card
    assert "its time 0 is +2.500000 s" in card
    assert "Drift of recorder" in card
    (tmp_path / "cam.wav").unlink()
    assert "No sound could be read from any recording" in Reader(load_alignment(saved).report(tmp_path / "r.html")).text


def test_a_stream_that_is_corrected_inside_its_recording_is_measured_where_it_then_is(
    alignment: Alignment, tmp_path: Path
) -> None:
    names = ("cam", "recorder")
    late = replace(
        alignment.clocks["recorder"], clock=alignment.clocks["recorder"].map @ ClockMap(-0.02), span=(0.0, 18.0)
    )
    clocks = {"cam": alignment.clocks["cam"], "recorder": late}
    for corrected, said in (({"sound": 0.02}, "Confirmed"), ({}, "Doubtful")):
        facts = {n: replace(alignment.facts[n], streams=corrected if n == "recorder" else {}) for n in names}
        page = replace(alignment, clocks=clocks, facts=facts).report(tmp_path / "report.html")
        assert said in card_of("recorder", page)


def test_equal_input_gives_equal_pages(alignment: Alignment, page: Path, tmp_path: Path) -> None:
    assert alignment.report(tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_a_page_never_replaces_a_recording_and_leaves_nothing_half_written(
    alignment: Alignment, tmp_path: Path
) -> None:
    take = write_media(tmp_path / "cam.wav", alignment.recordings["cam"])
    facts = {"cam": RecordingFacts(source=str(take), duration=26.0)}
    one = Alignment("cam", {"cam": alignment.clocks["cam"]}, facts=facts)
    before = take.read_bytes()
    with pytest.raises(WriteError, match="is one of the recordings"):
        one.report(take)
    with pytest.raises(WriteError, match="does not exist"):
        one.report(tmp_path / "absent" / "report.html")
    assert take.read_bytes() == before
    assert list(tmp_path.iterdir()) == [take]


def shorter(recording: Recording) -> Recording:
    """Long enough for the longest snippets, short enough to be quick."""
    values = np.asarray(recording["sound"].values)[:, : 10 * 16000]
    return replace(recording, streams=(Stream.from_samples(values, rate=16000.0),))


def test_twelve_recordings_stay_below_3_mb(alignment: Alignment, tmp_path: Path) -> None:
    names = ["cam", *(f"phone-{k}" for k in range(11))]
    old = {name: "cam" if name == "cam" else "recorder" for name in names}
    many = Alignment(
        "cam",
        {name: alignment.clocks[old[name]] for name in names},
        facts={name: alignment.facts[old[name]] for name in names},
        recordings={name: shorter(alignment.recordings[old[name]]) for name in names},
    )
    page = many.report(tmp_path / "report.html")
    assert page.stat().st_size < 3e6
    assert len(Reader(page).all("audio")) == 22


@pytest.mark.parametrize("codec", ["libmp3lame", "flac"])
@pytest.mark.parametrize("count", [2, 12, 40, 300])
def test_however_many_recordings_there_are_their_sounds_fit(
    monkeypatch: pytest.MonkeyPatch, codec: str, count: int
) -> None:
    monkeypatch.setattr(av, "codecs_available", {codec})
    names = [f"phone-{k}" for k in range(count)]
    doubtful = ClockEstimate("ambiguous", candidates=(Candidate(0.0, 0.0, 0.5),) * 3)
    clocks = {name: reference_estimate(name, 9.0) for name in names} | {"doubtful": doubtful}
    seconds, chosen = snippets_that_fit(Alignment(names[0], clocks), names)
    assert 2.0 <= seconds <= 5.0
    assert (2 * len(chosen - {"doubtful"}) + 3) * seconds * snippets.bytes_per_second() <= 1.5e6
    assert "doubtful" in chosen  # those who need it most come first
    assert len(chosen) == count + 1 or codec == "flac" or count == 300


# What it lets hear


def decoded(uri: str) -> np.ndarray:
    with av.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as container:
        planes = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return planes if len(planes) == 2 else planes.reshape(-1, 2).T  # FLAC interleaves


def lag_between_ears(uri: str) -> tuple[float, float]:
    """Seconds by which the right ear is late, and the height of that peak against the next one 5 ms away."""
    left, right = decoded(uri)
    spectrum = np.fft.rfft(right, 1 << 18) * np.conj(np.fft.rfft(left, 1 << 18))
    c = np.fft.fftshift(np.abs(np.fft.irfft(spectrum / np.maximum(np.abs(spectrum), 1e-9))))
    top = int(np.argmax(c))
    rest = np.delete(c, slice(top - 80, top + 81))
    return (top - len(c) // 2) / 16000, float(c[top] / rest.max())


@pytest.mark.parametrize("codec", ["libmp3lame", "flac"])
def test_after_both_ears_hear_the_same_and_before_they_do_not(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    if codec == "flac":
        monkeypatch.setattr(av, "codecs_available", {"flac"})  # as in a build of FFmpeg without LAME
    clocks = {name: alignment.clocks[name] for name in ("cam", "recorder")}
    page = replace(alignment, clocks=clocks).report(tmp_path / "report.html")
    before, after = (a["src"] or "" for a in Reader(page).all("audio"))
    assert after.startswith("data:audio/mpeg" if codec == "libmp3lame" else "data:audio/flac")
    lag, height = lag_between_ears(after)
    assert abs(lag) < 2e-4
    assert height > 2
    lag, height = lag_between_ears(before)
    assert abs(lag) > 0.1 or height < 1.5


def test_a_second_of_sound_costs_what_the_budget_takes_it_for(page: Path) -> None:
    longest = max(len(a["src"] or "") for a in Reader(page).all("audio"))
    assert 0.9 < longest / (5.0 * snippets.bytes_per_second()) <= 1.0


# Names


@given(st.text() | st.binary().map(os.fsdecode))
def test_a_shown_name_can_do_nothing(name: str) -> None:
    found = words.shown(name)
    found.encode("utf-8")
    assert all(c.isprintable() or c in "\u200c\u200d" for c in found)
    assert len(found) >= len(name)


@given(st.floats(-1e6, 1e6))
def test_amounts_are_read_aloud_easily(seconds: float) -> None:
    assert re.fullmatch(r"\d+(\.\d+)? (s|ms|µs)|(\d+:)?\d+:\d\d", words.amount(seconds))


def test_names_are_text_wherever_they_stand(hostile: Path) -> None:
    found = Reader(hostile)
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert not [a for _, a in found.elements if any(key.startswith("on") for key in a)]
    for name in HOSTILE:
        assert found.text.count(words.shown(name)) >= 3
    assert "\\u202egnp.exe\\x07" in found.text
    assert "caf\\xe9" in found.text
    assert "{{ 7*7 }}" in found.text


def test_nothing_is_loaded_from_anywhere(page: Path, hostile: Path) -> None:
    for one in (page, hostile):
        for tag, attributes in Reader(one).elements:
            for key in ("src", "href", "data", "poster", "action"):
                value = attributes.get(key)
                assert value is None or value.startswith(("#", "data:")), (tag, value)
        text = one.read_text(encoding="utf-8")
        assert "@import" not in text
        assert "url(" not in text


def test_the_wheel_holds_the_template(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is in the extra `test`")
    root = Path(__file__).resolve().parents[1]
    (built,) = wheel.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(built).namelist()
    assert {"avfuse/reporting/templates/report.html.j2", "avfuse/reporting/templates/report.css"} <= set(names)


# In a browser


@pytest.mark.parametrize(
    ("which", "width", "dark"),
    [
        ("page", 1280, False), ("page", 1280, True), ("page", 360, False), ("hostile", 360, True),
    ],
)  # fmt: skip
def test_it_loads_offline_without_a_complaint_and_shuts_nobody_out(
    chromium: Chromium, axe: str, request: pytest.FixtureRequest, which: str, width: int, dark: bool
) -> None:
    shown = request.getfixturevalue(which)
    chromium.show(shown, width=width, dark=dark)
    assert chromium.complaints == [shown.as_uri()]
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("window.hacked === undefined")
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 3 * 64) == dark
    chromium.run(axe)
    found = chromium.run(
        "axe.run({resultTypes: ['violations']}).then(r => r.violations.filter(v => v.impact === 'serious' || "
        "v.impact === 'critical').map(v => v.id + ': ' + v.nodes[0].html))"
    )
    assert found == []


def test_axe_would_see_violations(chromium: Chromium, axe: str, page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for good, ill in (
        ("--faint: #55616d", "--faint: #a5b1bd"),
        ("<h1>", '<img src="data:,"><h1>'),
        (' role="img" aria-label=', ' role="img" data-label='),
    ):
        assert good in text
        text = text.replace(good, ill)
    bad = tmp_path / "bad.html"
    bad.write_text(text, encoding="utf-8")
    chromium.show(bad)
    chromium.run(axe)
    rules = ["color-contrast", "image-alt", "svg-img-alt"]
    assert chromium.run(f"axe.run({{runOnly: {rules}}}).then(r => r.violations.map(v => v.id).sort())") == rules


def test_a_request_or_an_error_would_be_seen(chromium: Chromium, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script src='https://example.org/x.js'></script><script>console.error(1); nothing()</script>")
    chromium.show(bad)
    assert len(chromium.complaints) >= 4


def test_it_can_be_used_by_keyboard(chromium: Chromium, page: Path) -> None:
    chromium.show(page)
    focused = "document.activeElement.getAttribute('href') || document.activeElement.tagName"
    chromium.press("Tab")
    assert chromium.run(focused) == "#main"
    assert chromium.run("document.activeElement.getBoundingClientRect().left") >= 0  # seen once it is reached
    assert chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    chromium.press("Enter")
    assert chromium.run("location.hash") == "#main"
    wanted = set(chromium.run("[...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))")) | {"AUDIO"}
    for _ in range(200):
        chromium.press("Tab")
        wanted.discard(chromium.run(focused))
        if not wanted:
            break
    assert not wanted


def test_headings_go_down_one_step_at_a_time(page: Path) -> None:
    levels = [int(tag[1]) for tag, _ in Reader(page).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_sounds_play_one_at_a_time(chromium: Chromium, page: Path) -> None:
    chromium.show(page)
    played = chromium.run(
        """(async () => {
          const [first, second] = document.querySelectorAll("audio");
          await first.play();
          await new Promise(done => first.addEventListener("timeupdate", () => first.currentTime > 0.1 && done()));
          const moved = document.querySelector(".head").getAttribute("transform");
          await second.play();
          await new Promise(done => setTimeout(done, 50));
          return [first.duration, moved, first.paused, second.paused];
        })()"""
    )
    assert played[0] == pytest.approx(5.0, abs=0.2)
    assert re.fullmatch(r"translate\([\d.]+ 0\)", played[1])
    assert played[2:] == [True, False]
