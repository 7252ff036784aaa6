"""The card and the page of a prepared dataset: that they tell what its rows say, harm nobody and shut nobody out."""

from __future__ import annotations

import io
import json
import math
import os
import random
import re
import socket
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from html import unescape
from html.parser import HTMLParser
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium
from hypothesis import given
from hypothesis import strategies as st

from avfuse.preparation.recipe import PictureForm, Recipe
from avfuse.reporting import distributions, words
from avfuse.reporting.dataset import dataset_card, shard_paths
from avfuse.reporting.dataset_page import statistics_page
from avfuse.reporting.dataset_statistics import format_bytes, gather, local, reason_of
from avfuse.reporting.dataset_words import settings
from avfuse.reporting.text import format_duration
from avfuse.simulation import film_with_sound, write_media

LABELS = ("clap", "speech", "door", "music")
HOSTILE = (
    "<script>window.hacked=1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "\u202egnp.exe\u0007",
    "name-" * 60,
    os.fsdecode(b"caf\xe9"),
    "</style></title>--><b>&amp;{{ 7*7 }}",
    "a | b\n---\n# `c` [d](javascript:alert(1)) ![e](https://example.org/e.png) *f* <g>",
)


def made_rows(
    events: int,
    *,
    seed: int = 0,
    windows: int = 4,
    dropping: float = 0.25,
    name: str = "e{}",
    labels: tuple[Any, ...] = LABELS,
) -> Iterator[dict[str, Any]]:
    """Rows as `prepare` writes them: some events dropped as a whole, some windows alone, some clocks corrected."""
    rng = random.Random(seed)
    for k in range(events):
        event, split = name.format(k + 1), rng.choices(("train", "validation", "test"), (8, 1, 1))[0]
        label, delay = rng.choice(labels), rng.gauss(0.0, 0.015)
        clocks = {
            role: {"offset": rng.gauss(0.0, 3.0), "drift": rng.gauss(0.0, 2e-5) if rng.random() < 0.9 else 0.0,
                   "std": 10 ** rng.gauss(-4.5, 0.6), "confidence": 1 - 10 ** rng.uniform(-5, -2)}
            for role in ("phone", "recorder")
        }  # fmt: skip
        checks = {"camera": _check(delay, rng)}
        common = {"event": event, "split": split, "label": label, "extra": {}, "reference": "camera", "sync": checks}
        if rng.random() < dropping / 2:
            sure = rng.uniform(0.2, 0.89)
            clocks["recorder"] |= {"offset": None, "drift": None, "std": None, "confidence": sure}
            reason = rng.choice([f"recorder: confidence {sure:.2f} is below 0.9", f"only {rng.random():.1f} s overlap"])
            yield {
                **common, "key": event, "shard": None, "start": None, "duration": None, "decision": "drop",
                "reasons": [reason], "streams": {n: _stream(n, clocks, 0.0, rng) for n in ("camera", "sound")},
            }  # fmt: skip
            continue
        for n in range(windows):
            start, dropped, corrected = 2.0 * n, rng.random() < dropping / 2, abs(delay) > 0.02
            whole = rng.random() < 0.9
            coverage = 1.0 if whole else rng.uniform(0.8, 1.0)
            reasons = [f"sound of camera moved by {-1e3 * delay:.1f} ms"] if corrected else []
            if dropped:
                reasons = [f"sound covers {rng.uniform(0.1, 0.7):.2f} of the window, less than 0.8"]
            streams = {m: _stream(m, clocks, start, rng, coverage) for m in ("camera", "phone", "sound")}
            yield {
                **common, "key": f"{event}-{n:05d}", "shard": None if dropped else f"{split}/000000.tar",
                "start": start, "duration": 2.0, "reasons": reasons, "streams": streams,
                "decision": "drop" if dropped else "correct" if corrected else "keep",
            }  # fmt: skip


def _check(delay: float, rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.2:
        return {"verdict": "unknown", "sound_delay": None, "std": None, "confidence": 0.0, "message": "nothing moves"}
    verdict = "in_sync" if abs(delay) < 0.03 else "out_of_sync"
    return {"verdict": verdict, "sound_delay": delay, "std": 0.004, "confidence": 0.99, "message": None}


def _stream(
    name: str, clocks: dict[str, Any], start: float, rng: random.Random, coverage: float = 1.0
) -> dict[str, Any]:
    recording = "recorder" if name == "sound" else name
    clock = clocks.get(recording, {"offset": 0.0, "drift": 0.0, "std": 0.0, "confidence": 1.0})
    sound = name == "sound"
    return {
        "recording": recording, "stream": "sound" if sound else "picture", "source": f"e1/{recording}.mp4",
        "source_start": start, "kind": "sound" if sound else "picture", "file": f"{name}.{'flac' if sound else 'mp4'}",
        "codec": "flac" if sound else "h264", "time_base": "1/16000" if sound else "1/15360", "start": 0.0,
        "samples": 32000 if sound else 60, "rate": 16000.0 if sound else 30.0,
        **({} if sound else {"size": [180, 320]}), **clock, "evidence": ["sound"], "coverage": coverage,
        "valid": [[0.0, 2.0 * coverage]], "bytes": rng.randrange(30000, 60000), "sha256": "0" * 64,
    }  # fmt: skip


def facts_of(rows: list[dict[str, Any]], *, suffix: str = "tar") -> dict[str, Any]:
    """prepare.json for `rows`."""
    written = [row for row in rows if row["decision"] != "drop"]
    splits = sorted({row["split"] for row in written})
    size = {s: sum(t["bytes"] for r in written if r["split"] == s for t in r["streams"].values()) for s in splits}
    return {
        "format": "avfuse.shards/1",
        "avfuse": "0.1.0",
        "recipe": Recipe(
            duration=2.0,
            streams={"sound": ("recorder/sound", "phone/sound"), "camera": "camera/picture"},
            picture=PictureForm(size=(180, 320)),
            format="webdataset" if suffix == "tar" else "parquet",
        ).to_json(),
        "manifest": "events.jsonl",
        "shards": [
            {"name": f"{s}/000000.{suffix}", "split": s, "bytes": size[s], "sha256": "0" * 64,
             "samples": sum(r["split"] == s for r in written)} for s in splits
        ],
        "errors": 0,
    }  # fmt: skip


def made_errors(count: int) -> list[dict[str, Any]]:
    return [
        {"event": f"broken{k}", "where": "events.jsonl: line 3", "source": f"/home/somebody/raw/broken{k}.mp4",
         "kind": "ReadError", "message": f"/home/somebody/raw/broken{k}.mp4: ends after {k} bytes; expected a film",
         "attempts": 2}
        for k in range(count)
    ]  # fmt: skip


def cells_of(card: str, heading: str) -> list[list[str]]:
    """Rows of all tables below a heading of a card, as they are read."""
    (part,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", card, re.S | re.M)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("|")]
    return [[unescape(re.sub(r"\\(.)", r"\1", cell)).strip() for cell in row] for row in rows]


def header_of(card: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="a YAML parser comes with the extra `test`")
    start, header, _ = card.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(header)
    return found


class Reader(HTMLParser):
    """What a browser would make of a page: its elements, its text, and the cells of its tables by their part."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._part = ""
        self._hidden = self._cell = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag in ("style", "script")
        if tag == "section":
            self._part = str(dict(attrs).get("id"))
        if tag == "tr":
            self.tables.setdefault(self._part, []).append([])
        if tag in ("td", "th"):
            self.tables[self._part][-1].append("")
            self._cell += 1

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")
        self._cell -= tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
        if self._cell:
            self.tables[self._part][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def examples_of(rows: list[dict[str, Any]], videos: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    written = [row for row in rows if row["decision"] != "drop"]
    paths = [*videos, *[None] * 3]
    return [{"key": r["key"], "video": v, "audio": None, "row": r} for r, v in zip(written, paths, strict=False)]


def test_paths_from_the_root_lose_their_folders_and_others_stay() -> None:
    for path in (
        "/home/me/raw/a.mp4",
        "C:\\raw\\a.mp4",
        "~/raw/a.mp4",
        "~me/raw/a.mp4",
        "file:///home/me/a.mp4",
        "\\\\host\\raw\\a.mp4",
    ):
        assert local(f"cannot read {path}: no sound") == "cannot read …/a.mp4: no sound"
    for text in ("raw/a.mp4: no sound", "1/16000 s", "s3://bucket/raw/a.mp4", "sound and/or picture", "2 / 3"):
        assert local(text) == text
    error = {"source": "/a b/c d.wav", "message": "/a b/c d.wav: 3 bytes; expected more than /a b/c d.wav has"}
    assert reason_of(error) == "3 bytes; expected more than c d.wav has"


# What is told


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up(seed: int) -> None:
    rows = list(made_rows(60, seed=seed))
    facts, errors = facts_of(rows), made_errors(7)
    written = [row for row in rows if row["decision"] != "drop"]
    decisions = Counter(row["decision"] for row in rows)
    card, page = dataset_card(facts, rows, errors), Reader(statistics_page(facts, rows, errors, []))

    told = {row[0]: row for row in cells_of(card, "What it holds")}
    for name in {row["split"] for row in written}:
        of = [row for row in written if row["split"] == name]
        lasts = format_duration(sum(row["duration"] for row in of))
        assert told[name][1:4] == [str(len({row["event"] for row in of})), str(len(of)), lasts]
        (shard,) = [shard for shard in facts["shards"] if shard["split"] == name]
        assert told[name][4:] == ["1", format_bytes(shard["bytes"])]
    assert f"{len(written)} samples" in card

    header, *table = page.tables["decisions"]
    counts = {row[0]: list(map(int, row[1:5])) for row in table}
    assert header[1:5] == ["Events", "Kept", "Corrected", "Dropped"]
    assert counts.pop("all") == [sum(column) for column in zip(*counts.values(), strict=True)]
    assert [sum(column) for column in zip(*counts.values(), strict=True)][1:] == [
        decisions[name] for name in ("keep", "correct", "drop")
    ]

    parts = {row[0]: row for row in cells_of(card, "What it holds") if len(row) > 6}
    for name in ("camera", "sound"):
        streams = [row["streams"][name] for row in written]
        size = format_bytes(sum(stream["bytes"] for stream in streams))
        assert parts[name][-3:] == [str(len(streams)), str(sum(s["coverage"] < 1 for s in streams)), size]

    labels = {row[0]: int(row[1]) for row in page.tables["samples"] if row[0] in LABELS}
    assert labels == Counter(row["label"] for row in written)
    reasons = [int(row[1]) for row in page.tables["dropped"] if row[0] != "Reason"]
    assert sum(reasons) == sum(len(row["reasons"]) for row in rows)
    rows_of_card = [row for row in cells_of(card, "What was left out") if row[1].isdigit()]
    assert sum(int(row[1]) for row in rows_of_card) == sum(reasons) + len(errors)


def test_every_kind_of_reason_and_every_error_is_told() -> None:
    rows = list(made_rows(40))
    for k, row in enumerate(row for row in rows if row["decision"] == "drop"):
        row["reasons"] = [f"reason of kind {'abcdefghij'[k % 10]} with {k} of 99", f"another for {'xyz'[k % 3]}"]
    errors = [{**e, "event": f"odd-{k}", "message": f"{'no' * k} sound"} for k, e in enumerate(made_errors(30), 1)]
    card, text = dataset_card(facts_of(rows), rows, errors), statistics_page(facts_of(rows), rows, errors, [])
    page = Reader(text)
    dropped = [row for row in rows if row["decision"] == "drop"]
    for column in ("".join(cell[0] for cell in page.tables["dropped"]), card):
        for k in range(min(len(dropped), 10)):
            assert f"reason of kind {'abcdefghij'[k]} with" in column
            assert f"another for {'xyz'[k % 3]}" in column
    told = {row[0]: row[1:3] for row in page.tables["errors"] if len(row) == 5}
    for k, error in enumerate(errors, 1):
        assert told[f"odd-{k}"] == [Path(error["source"]).name, f"{'no' * k} sound"]
        assert f"| {'no' * k} sound | 1 | odd-{k} |" in card


def test_of_many_errors_the_page_lists_the_first_and_counts_all() -> None:
    page = Reader(statistics_page(facts_of([]), [], made_errors(201), []))
    listed = [row[0] for row in page.tables["errors"] if len(row) == 5 and row[0] != "Event"]
    assert listed == [f"broken{k}" for k in range(200)]
    assert "The first 200 of 201" in page.text
    assert ["ends after 0 to 200 bytes; expected a film", "201"] in [row[:2] for row in page.tables["errors"]]


def test_a_drop_without_a_reason_is_told_too() -> None:
    (row, *_) = [row for row in made_rows(20) if row["decision"] == "drop"]
    assert "| no reason was stated | 1 |" in dataset_card(facts_of([]), [row | {"reasons": []}], [])


def test_it_does_not_matter_in_which_order_events_come() -> None:
    rows, errors = list(made_rows(50)), made_errors(5)
    events = [list(of) for _, of in groupby(rows, lambda row: row["event"])]
    for seed in range(3):
        order = random.Random(seed)
        other = [row for event in order.sample(events, len(events)) for row in order.sample(event, len(event))]
        again = order.sample(errors, len(errors))
        assert dataset_card(facts_of(rows), other, again) == dataset_card(facts_of(rows), rows, errors)
        page, same = (statistics_page(facts_of(rows), r, errors, examples_of(rows)) for r in (rows, other))
        assert page == same


def test_a_clock_counts_once_however_many_windows_its_event_has_and_a_reference_never() -> None:
    few, many = (list(made_rows(30, windows=n, dropping=0.0)) for n in (1, 1))
    many = [row | {"key": f"{row['key']}-{k}"} for row in many for k in range(5)]
    alone = [row | {"streams": {k: s for k, s in row["streams"].items() if k != "camera"}} for row in few]
    tables = [cells_of(dataset_card(facts_of(rows), rows, []), "How well the clocks are known")
              for rows in (few, many, alone)]  # fmt: skip
    assert tables[0][2][:2] == ["size of the offset", "60"]
    assert tables[1] == tables[2] == tables[0]


def test_clocks_are_told_as_they_are() -> None:
    rows = list(made_rows(40))
    clocks = {}
    for row in rows:
        if row["decision"] != "drop":
            clocks |= {(row["event"], s["recording"]): s for s in row["streams"].values()}
    found = [clock for (_, recording), clock in clocks.items() if recording != "camera"]
    card = dataset_card(facts_of(rows), rows, [])
    stated = {row[0]: row[1:] for row in cells_of(card, "How well the clocks are known")}
    size = sorted(abs(clock["offset"]) for clock in found)
    rank = [size[math.ceil(share * len(size)) - 1] for share in (0.5, 0.9, 1.0)]
    told = (f"{sign}{words.amount(value)}" for sign, value in zip(("", "≤ ", "≤ "), rank, strict=True))
    assert stated["size of the offset"] == [str(len(size)), *told]
    assert float(stated["confidence"][3].removeprefix("≥ ")) <= min(clock["confidence"] for clock in found)
    drifts = [clock["drift"] for clock in found if clock["drift"] != 0.0]
    assert stated["size of the drift"][0] == str(len(drifts)) != str(len(found))
    assert f"drift of {len(found) - len(drifts)} clocks is unknown" in card


def test_of_a_clock_that_is_known_less_well_at_times_the_worst_is_told() -> None:
    rows = [row for row in made_rows(10, windows=3, dropping=0.0)]
    stds = {}
    for k, row in enumerate(rows):
        stream = row["streams"]["sound"]
        row["streams"] = {"sound": stream | {"std": (k + 1) / 1024, "confidence": 1 - (k + 1) / 1024}}
        stds[row["event"]] = (k + 1) / 1024
    # What was dropped says nothing of a clock that has samples.
    rows[-1] |= {"decision": "drop", "shard": None}
    stds[rows[-1]["event"]] -= 1 / 1024
    found = gather(facts_of(rows), rows, []).figures
    assert [found["std"].written.items(), found["std"].dropped.count] == [[(s, 1) for s in sorted(stds.values())], 0]
    assert found["confidence"].written.items() == [(1 - s, 1) for s in sorted(stds.values(), reverse=True)]
    alone = gather(facts_of(rows), rows[-1:], []).figures["std"]
    assert [alone.written.count, alone.dropped.items()] == [0, [(len(rows) / 1024, 1)]]


def test_reasons_that_differ_in_the_names_before_them_are_one_kind() -> None:
    errors, rows = made_errors(4), []
    for error in errors:
        error |= {"source": f"raw/{error['event']}/cam.mp4", "message": "no such file"}
        reason = f"{error['source']}: no such file"
        rows.append({"key": error["event"], "event": error["event"], "decision": "drop", "reasons": [reason]})
    rows.append({"key": "x", "event": "x", "decision": "drop", "reasons": ["x: x: no such file"]})
    assert cells_of(dataset_card({}, rows, errors), "What was left out")[2] == ["no such file", "5", "broken0"]
    page = Reader(statistics_page({}, rows, errors, []))
    assert page.tables["dropped"][1] == ["no such file", "5", "broken0, broken1, broken2"]


def test_kinds_as_frequent_as_each_other_are_told_by_name() -> None:
    rows = [{"key": n, "event": n, "decision": "drop", "reasons": [f"for {n}"]} for n in ("c", "a", "b")]
    told = [row[0] for row in cells_of(dataset_card({}, rows, []), "What was left out")[2:]]
    assert told == ["for a", "for b", "for c"]


def test_every_setting_of_a_recipe_has_words_and_a_new_one_keeps_its_name() -> None:
    def names(values: Any, parent: str = "") -> Iterator[str]:
        for key, value in values.items():
            yield f"{parent}{key}"
            yield from names(value, f"{parent}{key}: ") if isinstance(value, dict) else ()

    recipe = Recipe().to_json()
    told = dict(settings(recipe))
    assert not set(told) & {name.replace("_", " ") for name in names(recipe)} - {"streams"}
    assert len(told) == sum(1 for name in names(recipe)) - 3  # limits, picture, sound
    assert told["drift, at most"] == "1000 ppm"
    assert told["length of a sample"] == "that of its event"
    assert settings({"new_one": {"of": [1, "x"]}, "limits": {"std": 0.02}}) == [
        ("new one: of", "1, else x"), ("standard deviation of times, at most", "0.02 s")
    ]  # fmt: skip
    for value in ("keep", "drop", True, False):
        assert all("None" not in text for _, text in settings({"limits": {"lacking": value, "sync": value}}))


def test_numbers_as_labels_are_a_figure_and_what_has_none_is_counted() -> None:
    rows = [row | {"label": k / 8} for k, row in enumerate(made_rows(20, dropping=0.0))]
    rows[3]["label"], rows[4]["label"] = None, "odd"
    card = dataset_card(facts_of(rows), rows, [])
    assert f"Labels that are numbers: {len(rows) - 2}, from 0 to {(len(rows) - 1) / 8:g}." in card
    assert "Labels of samples: odd (1)." in card
    assert "Without a label: 1." in card
    page = Reader(statistics_page(facts_of(rows), rows, [], []))
    assert "Labels of samples, 1 without one" in page.text
    assert f"{len(rows) - 2} samples written: median" in page.text


def test_an_event_in_two_splits_is_a_warning() -> None:
    rows = [row for row in made_rows(20, dropping=0.0)]
    assert "more than one split" not in dataset_card(facts_of(rows), rows, [])
    rows[1] = rows[1] | {"split": "test" if rows[0]["split"] != "test" else "train"}
    assert "**1 event have samples in more than one split.**" in dataset_card(facts_of(rows), rows, [])
    page = Reader(statistics_page(facts_of(rows), rows, [], []))
    assert "more than one split" in page.text


def test_rows_are_gone_through_once_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(events: int) -> int:
        tracemalloc.start()
        try:
            gather({}, made_rows(events, windows=1), [])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    monkeypatch.setattr(distributions, "DISTINCT", 128)  # numbers that are kept fill up soon
    peak(300)  # what is made once
    assert peak(2000) < 1.2 * peak(500)


def test_equal_input_gives_equal_text_without_date_machine_or_folder() -> None:
    rows, errors = list(made_rows(30)), made_errors(3)
    facts = facts_of(rows) | {
        "manifest": "/home/somebody/raw/events.jsonl",
        "command": "avfuse prepare /home/somebody/raw/events.jsonl -o /mnt/x",
    }
    rows[0]["reasons"] = ["/home/somebody/raw/a.wav: too short"]
    copied, again = json.loads(json.dumps([facts, rows])), json.loads(json.dumps(errors))
    texts = [dataset_card(facts, rows, errors), statistics_page(facts, rows, errors, examples_of(rows))]
    assert texts == [dataset_card(*copied, again), statistics_page(*copied, again, examples_of(copied[1]))]
    for text in texts:
        assert "somebody" not in text
        assert "/mnt" not in text
        assert "avfuse prepare …/events.jsonl -o …/x" in text
        shown = text if text.startswith("---") else Reader(text).text
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", shown)
        assert not re.search(r"\b20[2-9]\d\b", shown)


@given(st.integers(0, 10**15))
def test_sizes_of_files_have_three_digits(count: int) -> None:
    value, unit = format_bytes(count).split()
    scale = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(value) * scale == pytest.approx(count, rel=5.01e-3)
    assert float(value) < 1000 or unit == "TB"


# The card as others read it


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_the_header_names_the_shards_that_are_there(suffix: str) -> None:
    for rows in (list(made_rows(40)), [r for r in made_rows(40) if r["split"] != "validation"]):
        facts = facts_of(rows, suffix=suffix)
        header = header_of(dataset_card(facts, rows, []))
        (config,) = header["configs"]
        assert config["config_name"] == "default"
        files = {entry["split"]: entry["path"] for entry in config["data_files"]}
        assert set(files) == {row["split"] for row in rows if row["decision"] != "drop"}
        for shard in facts["shards"]:
            assert [split for split, path in files.items() if fnmatch(shard["name"], path)] == [shard["split"]]
        assert header["tags"] == ["avfuse", "synchronization", "audio", "video"]
        assert "license" not in header


def test_without_a_sample_the_header_promises_no_file() -> None:
    rows = [row for row in made_rows(40) if row["decision"] == "drop"]
    header = header_of(dataset_card(facts_of(rows), rows, []))
    assert "configs" not in header
    assert header["size_categories"] == ["n<1K"]
    assert header_of(dataset_card({}, [], []))["pretty_name"] == "dataset"


@pytest.mark.parametrize(
    ("count", "category"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9999, "1K<n<10K"), (10000, "10K<n<100K")]
)
def test_the_size_is_that_of_the_hub(count: int, category: str) -> None:
    rows = ({"event": str(k), "split": "train", "decision": "keep", "duration": 1.0} for k in range(count))
    assert header_of(dataset_card({}, rows, []))["size_categories"] == [category]


@given(st.text(max_size=30))
def test_any_name_of_a_manifest_is_a_header(name: str) -> None:
    header = header_of(dataset_card({"manifest": f"{name}.jsonl"}, [], []))
    assert isinstance(header["pretty_name"], str)


def shards_at(folder: Path, rows: list[dict[str, Any]]) -> str:
    """A folder with archives as `prepare` writes them; its card."""
    facts = facts_of(rows)
    values = io.BytesIO()
    np.savez(values, values=np.arange(6.0).reshape(3, 2), valid=np.ones(3, bool))
    for shard in facts["shards"]:
        (folder / shard["name"]).parent.mkdir(exist_ok=True)
        with tarfile.open(folder / shard["name"], "w") as tar:
            for row in rows:
                if row["split"] != shard["split"] or row["decision"] == "drop":
                    continue
                files = {"json": json.dumps(row).encode()}
                files |= {
                    s["file"]: values.getvalue() if s["kind"] == "other" else b"x" for s in row["streams"].values()
                }
                for name, data in files.items():
                    member = tarfile.TarInfo(f"{row['key']}.{name}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    card = dataset_card(facts, rows, [])
    (folder / "README.md").write_text(card, encoding="utf-8")
    return card


@pytest.mark.parametrize("library", ["webdataset", "datasets"])
def test_what_the_card_says_of_loading_loads(library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [row | {"split": "train" if k < 30 else "test"} for k, row in enumerate(made_rows(12)) if row["shard"]]
    # What the first samples do not have comes later: a reason, a message, a modality; and some lack one.
    for k, row in enumerate(rows):
        imu = row["streams"]["sound"] | {"file": "imu.npz", "kind": "other", "codec": "npz"}
        row["streams"] = row["streams"] | {"imu": imu} if k > 8 else {"sound": row["streams"]["sound"]}
        row["label"] = row["label"] if k > 8 else None
        row["reasons"] = ["a reason"] if k > 8 else []
        row["sync"] = {"camera": row["sync"]["camera"] | {"message": "nothing moves" if k > 8 else None}}
    card = shards_at(tmp_path, rows)
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", card, re.S) if f"import {library}" in code]
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(code, scope)
    (split, _), *_ = shard_paths(facts_of(rows))
    wanted = [row for row in rows if row["split"] == split]
    found = list(scope["samples"])
    assert [sample["__key__"] for sample in found] == [row["key"] for row in wanted]
    if library == "datasets":
        for loaded in (found, scope["datasets"].load_dataset(str(tmp_path), split=split)):
            for sample, row in zip(loaded, wanted, strict=True):
                assert {**sample["json"], "sync": None, "streams": None} == {**row, "sync": None, "streams": None}
                assert sample["sound.flac"] == b"x"
                assert (sample["imu.npz"] is None) == ("imu" not in row["streams"])
        assert found[-1]["imu.npz"]["values"] == [[0, 1], [2, 3], [4, 5]]


def test_every_piece_of_code_is_python() -> None:
    for suffix in ("tar", "parquet"):
        rows = list(made_rows(8))
        pieces = re.findall(r"```python\n(.*?)```", dataset_card(facts_of(rows, suffix=suffix), rows, []), re.S)
        assert len(pieces) == (3 if suffix == "tar" else 2)
        for piece in pieces:
            compile(piece, "README.md", "exec")


# Names that try everything


def hostile_rows() -> list[dict[str, Any]]:
    rows = list(made_rows(len(HOSTILE) * 3, dropping=0.6))
    for k, row in enumerate(rows):
        name = HOSTILE[k % len(HOSTILE)]
        for stream in row["streams"].values():
            stream["recording"] = stream["recording"] if stream["recording"] == "camera" else name
            stream["codec"] = name
        row |= {"key": f"{name}{k}", "event": name, "label": name, "streams": {name: row["streams"]["sound"]}}
        row["reasons"] = [name]
        row["sync"] = {name: row["sync"]["camera"] | {"verdict": name}}
    return rows


def hostile_errors() -> list[dict[str, Any]]:
    return [{"event": n, "where": n, "source": n, "kind": n, "message": n, "attempts": 1} for n in HOSTILE]


def hostile_page() -> str:
    rows = hostile_rows()
    facts = facts_of(rows) | {"recipe": {name: name for name in HOSTILE}, "manifest": HOSTILE[0], "command": HOSTILE[5]}
    return statistics_page(facts, rows, hostile_errors(), examples_of(rows, (f"examples/{HOSTILE[1]}.mp4",)))


def test_names_are_text_in_the_page() -> None:
    found = Reader(hostile_page())
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert not [a for _, a in found.elements if any(key.startswith("on") for key in a)]
    for name in HOSTILE:
        assert found.text.count(words.shown(name)) >= 1
    assert "{{ 7*7 }}" in found.text
    assert found.all("video")[0]["src"] == "./examples/%22%27%3E%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E.mp4"


def test_names_are_text_in_the_card() -> None:
    rows = hostile_rows()
    facts = facts_of(rows) | {"recipe": {name: name for name in HOSTILE}, "manifest": f"{HOSTILE[6]}.jsonl"}
    card = dataset_card(facts, rows, hostile_errors())
    card.encode("utf-8")
    assert header_of(card)["size_categories"] == ["n<1K"]
    body = re.sub(r"```.*?```|^    .*$", "", card.split("---\n", 2)[2], flags=re.S | re.M)
    assert not re.search(r"(?<!\\)<|<(?=\w)", body)  # no element
    assert not re.search(r"(?<!\\)\]\((?!index\.html)", body)  # no link but ours
    for table in re.findall(r"(?:^\|.*\n)+", card, re.M):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    read = [cell for row in cells_of(card, "What was left out") for cell in row]
    for name in HOSTILE[:3]:
        assert words.shown(name) in read


# Figures


def figure(page: Reader, heading: str) -> str:
    """What is told below a figure."""
    (told,) = re.findall(rf"{re.escape(heading)}\s*(.*?)\s*(?=\n\s*\n|$)", page.text, re.S)[:1]
    return " ".join(told.split())


def test_a_figure_of_one_value_or_of_none_is_a_sentence() -> None:
    rows = [row for row in made_rows(6, dropping=0.0)][:1]
    page = Reader(statistics_page(facts_of(rows), rows, [], []))
    assert "1 window written: 2 s." in page.text
    assert "3 streams written: all at 100 %." in page.text or "streams written" in page.text
    offsets = [s["offset"] for s in rows[0]["streams"].values() if s["recording"] != "camera"]
    assert all(words.amount(abs(offset)) in page.text for offset in offsets)
    empty = Reader(statistics_page({}, [], [], []))
    assert not empty.all("svg")
    assert "No clock was looked for" in empty.text


def test_bars_hold_every_value_and_say_what_they_are() -> None:
    rows = list(made_rows(200, seed=5))
    text = statistics_page(facts_of(rows), rows, [], [])
    found = Reader(text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.S):
        title, told = re.findall(r"<(?:title|desc) [^>]*>(.*?)</", svg)
        counted = sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) \w+ (?:written|dropped)", told))
        assert counted > 1
        heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', svg)]
        ticks = [(float(y) - 4, float(t)) for y, t in re.findall(r'y="([\d.]+)" class="end">([\d.]+)<', svg)]
        unit = 1000 if "[thousands]" in svg else 1
        pixels = abs(ticks[1][0] - ticks[0][0]) / abs(ticks[1][1] - ticks[0][1]) / unit  # of one value
        least = 0.8 / pixels  # that a bar has to be seen
        assert counted * 0.999 <= sum(heights) / pixels <= counted * 1.001 + least * len(heights)
        # Bars of what was dropped stand on those of what was written, from the foot of the figure upwards.
        foot, stacks = 180.0, {}
        for kind, x, y, h in re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" .*? height="([\d.]+)"', svg):
            assert float(y) + float(h) == pytest.approx(stacks.get(x, foot), abs=0.9)
            assert kind == ("dropped" if x in stacks else kind)
            stacks[x] = float(y)
        marks = [(float(x), float(t.replace("−", "-"))) for x, t in
                 re.findall(r'<text x="([\d.]+)" y="196" class="mid">([−\d.e]+)<', svg)]  # fmt: skip
        steps = [(t - s) / (x - w) for (w, s), (x, t) in pairwise(marks)]
        even = max(steps) <= 1.2 * min(steps)
        assert len(marks) > 2
        assert even == ("powers of ten" not in title)
    assert [one.split(":")[0] for one in re.findall(r"Histogram: [^<]*", text)] == ["Histogram"] * len(found.all("svg"))
    assert len(found.all("svg")) == 6  # all but durations, which are alike
    ids = [a["id"] for _, a in found.elements if a.get("id")]
    assert len(ids) == len(set(ids))


# In a browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rich.html with two films beside it, hostile.html and empty.html."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "examples").mkdir()
    films = tuple(f"examples/{name}.mp4" for name in ("a film #1", "second"))
    for k, film in enumerate(films):
        write_media(folder / film, film_with_sound("flash", k, duration=1.0, size=(160, 90)).recording)
    rows = list(made_rows(60))
    texts = {
        "rich": statistics_page(facts_of(rows), rows, made_errors(3), examples_of(rows, films)),
        "hostile": hostile_page(),
        "empty": statistics_page({}, [], [], []),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("which", "width", "dark"),
    [("rich", 1400, False), ("rich", 360, True), ("hostile", 360, False), ("empty", 1400, True)],
)
def test_it_loads_offline_without_a_complaint_and_shuts_nobody_out(
    chromium: Chromium, axe: str, pages: Path, which: str, width: int, dark: bool
) -> None:
    page = pages / f"{which}.html"
    chromium.show(page, width=width, dark=dark)
    if which != "hostile":  # whose film is not there
        beside = {(pages / "examples" / name).as_uri() for name in ("a film #1.mp4", "second.mp4")}
        assert set(chromium.complaints) == {page.as_uri(), *(beside if which == "rich" else ())}
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run("window.hacked === undefined")
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 3 * 64) == dark
    chromium.run(axe)
    assert (
        chromium.run("axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + v.nodes[0].html))")
        == []
    )


def test_films_play_one_at_a_time(chromium: Chromium, pages: Path) -> None:
    chromium.show(pages / "rich.html")
    played = chromium.run(
        """(async () => {
          const [first, second] = document.querySelectorAll("video");
          await first.play();
          await second.play();
          await new Promise(done => setTimeout(done, 50));
          return [first.duration, first.videoWidth, first.paused, second.paused];
        })()"""
    )
    assert played[0] == pytest.approx(1.0, abs=0.1)
    assert played[1:] == [160, True, False]


def test_headings_go_down_one_step_at_a_time(pages: Path) -> None:
    for page in pages.glob("*.html"):
        found = Reader(page.read_text(encoding="utf-8"))
        levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        anchors = {f"#{a['id']}" for _, a in found.elements if a.get("id")}
        assert {a["href"] for a in found.all("a")} <= anchors
