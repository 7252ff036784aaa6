"""Manifests: one event whatever file it stands in, errors that name the line, folders, patterns, URLs and splits."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse.errors import ReadError, StreamError
from avfuse.manifests import SPLITS, Event, align_event, as_file_name, read_manifest, split_events
from avfuse.manifests.places import file_system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two events of two recordings each: empty files, since a manifest opens none."""
    touch(tmp_path, "e1/cam.mp4", "e1/rec.wav", "e2/cam.mp4", "e2/rec.wav")
    return tmp_path


@pytest.fixture
def memory() -> Iterator[Any]:
    """The files of fsspec's memory://, which are gone afterwards."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def written(folder: Path, *lines: str | dict[str, Any], name: str = "m.jsonl") -> Path:
    file = folder / name
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def told(file: Path | str, **keywords: Any) -> str:
    """What is wrong with a manifest: one line, without the place where it lies."""
    with pytest.raises(ReadError) as caught:
        read_manifest(file, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{Path(file).parent}/", "")


def alike(events: list[Event]) -> list[Event]:
    return [replace(event, where="") for event in events]


# What stands in one row

ROW = {"event": "e1", "files": {"cam": "e1/cam.mp4", "rec": "e1/rec.wav"}}


def test_all_keys_of_a_row_are_in_the_event(folder: Path) -> None:
    spans = [{"start": 1, "end": 2.5, "label": "clap"}]
    more = {
        "label": ["a", "b"],
        "labels": spans,
        "split": "test",
        "reference": "rec",
        "group": 7,
        "start": 1,
        "end": 9.5,
    }
    (event,) = read_manifest(written(folder, {**ROW, **more, "site": {"room": [1, None]}, "none": None}))
    assert event.files == {"cam": str(folder / "e1/cam.mp4"), "rec": str(folder / "e1/rec.wav")}
    assert event.sources == ROW["files"]
    assert (event.name, event.label, event.split, event.reference, event.group) == (
        "e1",
        ["a", "b"],
        "test",
        "rec",
        "7",
    )
    assert (event.start, event.end, event.spans[0].start, event.spans[0].end) == (1.0, 9.5, 1.0, 2.5)
    assert event.extra == {"site": {"room": [1, None]}}
    assert event.where == f"{folder / 'm.jsonl'}: line 1"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event": ""}, "no event; expected its name"),
        ({"event": True}, "event is True; expected a name"),
        ({"event": 1.5}, "event is 1.5; expected a name"),
        ({"files": ["e1/cam.mp4"]}, "files is ['e1/cam.mp4']; expected role -> path, one or more"),
        ({"files": {"cam": 3}}, "files is {'cam': 3}; expected role -> path, one or more"),
        ({"files": {"cam": None}}, "files is {'cam': None}; expected role -> path, one or more"),
        ({"files": {"": "e1/cam.mp4"}}, "files: '' is 'e1/cam.mp4'; expected a role with a path"),
        ({"files": {"cam": ""}}, "files: 'cam' is ''; expected a role with a path"),
        ({"files": {"cam": "e1\0"}}, "files: 'cam' is 'e1\\x00'; expected a role with a path"),
        ({"files": {"cam": "e1"}}, "cam: e1: no such file"),
        ({"files": {"cam": "://e1"}}, "cam: ://e1: is no URL; expected a scheme before ://"),
        ({"split": ["test"]}, "split ['test']; expected one of train, validation, test"),
        ({"reference": "recorder"}, "reference 'recorder'; expected one of its files: cam, rec"),
        ({"reference": ["cam"]}, "reference ['cam']; expected one of its files: cam, rec"),
        ({"start": "1"}, "start is '1'; expected seconds"),
        ({"end": True}, "end is True; expected seconds"),
        ({"start": 10**400}, "start is a number of 401 digits; expected seconds"),
        ({"start": 2, "end": 2}, "from 2.0 to 2.0 s; expected an end after the start"),
        ({"group": [1]}, "group is [1]; expected a name"),
        ({"labels": {"start": 1}}, "labels is {'start': 1}; expected a list of objects with start, end and label"),
        ({"labels": [{"start": 1, "end": 2}]}, "labels: {'start': 1, 'end': 2}; expected an object with start, end"),
        ({"labels": [{"start": 1, "label": "a"}]}, "labels: {'start': 1, 'label': 'a'}; expected an object with start"),
        ({"labels": [{"start": "1", "end": 2, "label": 0}]}, "labels: start is '1'; expected seconds"),
        (
            {"labels": [{"start": 3, "end": 2, "label": 0}]},
            "labels: from 3.0 to 2.0 s; expected an end after the start",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_told_with_its_line(folder: Path, change: dict[str, Any], expected: str) -> None:
    good = {**ROW, "event": "e0"}
    message = told(written(folder, good, "", {**ROW, **change}))
    assert message.replace(f"{folder}/", "").startswith(f"m.jsonl: line 3: {expected}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"event": "e1", "files"', "is no JSON (Expecting ':' delimiter); expected one object a line"),
        ('{"event": "e1", "event": "e2"}', "is no JSON (key 'event' is there twice)"),
        ('{"event": "e1", "files": {"cam": "a", "cam": "b"}}', "is no JSON (key 'cam' is there twice)"),
        ('{"event": "e1", "label": NaN}', "is no JSON (NaN is no number of JSON)"),
        ('{"event": "e1", "label": [1, 1e999]}', "label is inf; expected a finite number, or nothing"),
        ('{"event": "e1", "x": {"y": -1e999}}', "x: y is -inf; expected a finite number, or nothing"),
        ('["e1"]', "holds list; expected an object with event and files"),
        ("[" * 100_000, "is no JSON (maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_json_is_told_with_its_line(folder: Path, line: str, expected: str) -> None:
    assert told(written(folder, ROW, line)).startswith(f"m.jsonl: line 2: {expected}")


def test_an_event_that_is_there_twice_is_told_with_both_lines(folder: Path) -> None:
    message = told(written(folder, {**ROW, "event": 1}, ROW, {**ROW, "event": "1"}))
    assert message == "m.jsonl: line 3: event '1' is also in m.jsonl: line 1; expected each once"


def test_strings_may_hold_what_other_programs_take_for_the_end_of_a_line(folder: Path) -> None:
    lines = [json.dumps({**ROW, "event": f"e\u2028\x85{k}"}, ensure_ascii=False) for k in range(2)]
    events = read_manifest(written(folder, *lines))
    assert [e.name for e in events] == ["e\u2028\x850", "e\u2028\x851"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_ends_of_lines_do_not_matter(folder: Path, end: str, mark: str) -> None:
    (folder / "m.jsonl").write_bytes((mark + json.dumps(ROW) + end + json.dumps({**ROW, "event": "e2"}) + end).encode())
    (folder / "m.csv").write_bytes(f"{mark}event,cam,rec{end}{end}e1,e1/cam.mp4,e1/rec.wav{end}e2,e1/cam.mp4,".encode())
    rows, cells = read_manifest(folder / "m.jsonl"), read_manifest(folder / "m.csv")
    assert [e.name for e in rows] == [e.name for e in cells] == ["e1", "e2"]
    assert [e.where.rpartition(": ")[2] for e in rows + cells] == ["line 1", "line 2", "line 3", "line 4"]


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "no events; expected a line for each"),
        (b"\n\n", "no events; expected a line for each"),
        ("event,cam\n".encode("utf-16"), "is UTF-16 or UTF-32; expected UTF-8, save it as that"),
        ("event,cam\n".encode("utf-16-le"), "is UTF-16 or UTF-32; expected UTF-8, save it as that"),
        (b"\n\nevent,caf\xe9\n", "line 3: is no UTF-8 (byte 0xe9); expected UTF-8, save it as that"),
    ],
)
def test_files_that_are_no_utf_8_text_say_so(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert told(tmp_path / name) == f"{name}: {expected}"


def test_what_is_not_there_and_what_cannot_be_opened_are_told(tmp_path: Path) -> None:
    assert told(tmp_path / "m.jsonl").startswith("m.jsonl: no such file; expected a manifest")
    with pytest.raises(StreamError, match="missing is 'ignore'; expected one of raise, keep"):
        read_manifest(tmp_path / "m.jsonl", missing="ignore")  # type: ignore[arg-type]


# Tables


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["event,cam,cam", "e1,a,b"], "line 1: column 'cam' is there twice; expected each once"),
        (["event,,cam", "e1,a,b"], "line 1: column 2 is called ''; expected a name without spaces around it"),
        (["event, cam", "e1,a"], "line 1: column 2 is called ' cam'; expected a name without spaces around it"),
        (["name;cam", "e1;a"], "line 1: columns name;cam; expected event, and roles of files"),
        (["event,cam,labels", "e1,a,b"], "line 1: column 'labels' cannot be in such a table; expected JSON lines"),
        (
            ["event,cam,meta.start", "e1,a,b"],
            "line 1: column 'meta.start'; expected another name, 'start' has a meaning",
        ),
        (["event,cam", "e1,a", "e2,b,c"], "line 3: 3 fields, not as many as columns; expected 2"),
        (["event,cam", "e1,a", '"e2,b'], "line 3: is no CSV (unexpected end of data); expected quotes"),
        (["event,cam", '"e\n1",a', '"e2"x,b'], "line 4: is no CSV (',' expected after '\"'); expected quotes"),
        (["event,cam,start", "e1,e1/cam.mp4,soon"], "line 2: start is 'soon'; expected seconds"),
        (["event,cam,end", "e1,e1/cam.mp4,nan"], "line 2: end is nan; expected a finite number, or nothing"),
        (["event,cam", "e1,"], "line 2: files is {}; expected role -> path, one or more"),
        (["event,cam", ",e1/cam.mp4"], "line 2: no event; expected its name"),
    ],
)
def test_a_table_that_does_not_fit_is_told_with_its_line(folder: Path, lines: list[str], expected: str) -> None:
    file = written(folder, *lines, name="m.csv")
    if lines[1].startswith('"e\n'):
        touch(folder, "a")
    elif len(lines) == 3:
        touch(folder, "a", "b")
    assert told(file).startswith(f"m.csv: {expected}")


def test_columns_are_keys_metadata_or_roles(folder: Path) -> None:
    lines = ["event,meta.site,cam,start,group,meta.note", '"e ""1""","ha,ll",e1/cam.mp4,0.5,g,', "e2,,e2/cam.mp4,,,x"]
    one, two = read_manifest(written(folder, *lines, name="m.csv"))
    assert (one.name, one.extra, one.start, one.group) == ('e "1"', {"site": "ha,ll"}, 0.5, "g")
    assert (two.name, two.extra, two.start, two.group) == ("e2", {"note": "x"}, None, None)
    assert list(two.files) == ["cam"]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
# Carriage returns at the end of a file without a line end, and fields of spaces alone, are CSV's own matters.
ROLE = st.sampled_from(["cam", "rec", "imu-2", "caméra"])
SECONDS = st.floats(0, 1e6).map(lambda t: round(t, 3))


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What all three kinds of files can say: text as labels and metadata."""
    found = []
    for name in draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)):
        row: dict[str, Any] = {"event": name, "files": draw(st.dictionaries(ROLE, TEXT, min_size=1))}
        row["files"] = {role: path.replace("://", "-") for role, path in sorted(row["files"].items())}
        start, length = draw(st.none() | SECONDS), draw(st.none() | SECONDS)
        optional = {
            "label": draw(st.none() | TEXT),
            "split": draw(st.none() | st.sampled_from(SPLITS)),
            "reference": draw(st.none() | st.sampled_from(sorted(row["files"]))),
            "group": draw(st.none() | TEXT),
            "start": start,
            "end": None if length is None else (start or 0.0) + 1.0 + length,
            "site": draw(st.none() | TEXT),
            "note": draw(st.none() | TEXT),
        }
        found.append(row | {key: value for key, value in optional.items() if value is not None})
    return found


def as_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and cells of rows, roles and metadata as columns of their own."""
    named = {"site": "meta.site", "note": "meta.note"}
    cells = [{named.get(k, k): v for k, v in row.items() if k != "files"} | row["files"] for row in rows]
    roles = sorted({role for row in rows for role in row["files"]})
    return ["event", *roles, *sorted({c for row in cells for c in row} - {"event", *roles})], cells


@settings(deadline=None, max_examples=60)
@given(rows())
def test_json_lines_tables_and_parquet_say_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("rows")
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns, cells = as_table(rows)
    with (folder / "m.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(cells)
    schema = pa.schema([(column, kind(pa, column)) for column in columns])
    parquet.write_table(pa.Table.from_pylist(cells, schema), folder / "c.parquet")
    keys = sorted({key for row in rows for key in row})
    struct = pa.struct([(role, pa.string()) for role in sorted({role for row in rows for role in row["files"]})])
    schema = pa.schema([(key, struct if key == "files" else kind(pa, key)) for key in keys])
    parquet.write_table(pa.Table.from_pylist(rows, schema), folder / "struct.parquet")
    maps = [{**row, "files": list(row["files"].items())} for row in rows]
    schema = pa.schema([(k, pa.map_(pa.string(), pa.string()) if k == "files" else kind(pa, k)) for k in keys])
    parquet.write_table(pa.Table.from_pylist(maps, schema), folder / "map.parquet")
    expected = alike(read_manifest(folder / "m.jsonl", missing="keep"))
    assert [e.name for e in expected] == [row["event"] for row in rows]
    for name in ("m.csv", "c.parquet", "struct.parquet", "map.parquet"):
        assert alike(read_manifest(folder / name, missing="keep")) == expected, name


def kind(pa: Any, column: str) -> Any:
    return pa.float64() if column in ("start", "end") else pa.string()


def parquet_of(folder: Path, columns: dict[str, Any] | list[tuple[str, Any]]) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names, values = zip(*(columns.items() if isinstance(columns, dict) else columns), strict=True)
    parquet.write_table(pa.table([pa.array(v) for v in values], names=list(names)), folder / "m.parquet")
    return folder / "m.parquet"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"event": ["e1", "e1"], "cam": ["e1/cam.mp4"] * 2}, "row 2: event 'e1' is also in"),
        ({"event": ["e1", "e2"], "cam": ["e1/cam.mp4", "gone.mp4"]}, "row 2: cam: gone.mp4: no such file"),
        (
            {"event": ["e1"], "cam": ["e1/cam.mp4"], "age": [3]},
            "row 1: age is 3; expected a path, or meta.age as the name",
        ),
        (
            {"event": ["e1"], "cam": ["e1/cam.mp4"], "label": [math.nan]},
            "row 1: label is nan; expected a finite number",
        ),
        ({"event": ["e1"], "cam": ["e1/cam.mp4"], "meta.x": [b"1"]}, "row 1: x is bytes; expected text, numbers"),
        ({"event": ["e1"], "files": ["e1/cam.mp4"]}, "row 1: files is 'e1/cam.mp4'; expected role -> path"),
        ({"name": ["e1"]}, "columns name; expected event, and roles of files"),
        ({"event": []}, "no events; expected a line for each"),
        ([("event", ["e1"]), ("cam", ["a"]), ("cam", ["b"])], "column 'cam' is there twice; expected each once"),
        ([("event", ["e1"]), ("files", ["a"]), ("files", ["b"])], "column 'files' is there twice; expected each once"),
    ],
)
def test_parquet_that_does_not_fit_is_told_with_its_row(folder: Path, columns: dict[str, Any], expected: str) -> None:
    message = told(parquet_of(folder, columns))
    assert message.replace(f"{folder}/", "").startswith(f"m.parquet: {expected}")


def test_what_is_no_parquet_and_where_pyarrow_is_absent_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet_of(folder, {"event": ["e1"], "cam": ["e1/cam.mp4"]})
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert told(file).startswith("m.parquet: cannot be read as Parquet (")
    file.write_bytes(whole)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    expected = "m.parquet: reading Parquet needs pyarrow, which is not installed; try pip install 'avfuse[scale]'"
    assert told(file) == expected


def test_dates_and_lists_of_parquet_become_what_json_can_say(folder: Path) -> None:
    import datetime

    day = datetime.date(2026, 11, 28)
    file = parquet_of(folder, {"event": ["e1"], "cam": ["e1/cam.mp4"], "meta.day": [day], "label": [["a", "b"]]})
    (event,) = read_manifest(file)
    assert (event.extra, event.label) == ({"day": "2026-11-28"}, ["a", "b"])
    json.dumps(event.extra)


# Files that are not there, and where files are


def test_files_that_are_not_there_can_be_kept_and_nothing_else(folder: Path) -> None:
    gone = {"event": "e3", "files": {"cam": "e3/gone.mp4", "rec": "e1/rec.wav"}}
    file = written(folder, ROW, gone)
    assert told(file) == f"m.jsonl: line 2: cam: {folder}/e3/gone.mp4: no such file".replace(f"{folder}/", "")
    events = read_manifest(file, missing="keep")
    assert events[1].files == {"cam": str(folder / "e3/gone.mp4"), "rec": str(folder / "e1/rec.wav")}
    assert "split 'all'" in told(written(folder, {**gone, "split": "all"}), missing="keep")


def test_sources_do_not_depend_on_where_the_manifest_lies(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place in (tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there") / "in" / "it"):
        touch(place, "m/e1/cam.mp4", "e2/rec.wav")
        inside = str(place / "m" / "e1" / "cam.mp4")
        file = written(
            place / "m", {"event": "e", "files": {"a": "./x/../e1/cam.mp4", "b": "../e2/rec.wav", "c": inside}}
        )
        (event,) = read_manifest(file)
        assert all(Path(path).is_file() for path in event.files.values())
        monkeypatch.chdir(place / "m")
        (beside,) = read_manifest("m.jsonl")
        assert beside.sources == event.sources
        found.append(event.sources)
    assert found[0] == found[1] == {"a": "e1/cam.mp4", "b": "../e2/rec.wav", "c": "e1/cam.mp4"}


def test_events_made_by_hand_have_sources_too() -> None:
    event = Event("e", {"cam": "a/cam.mp4", "rec": "b/rec.wav"}, sources={"rec": "rec.wav"})
    assert event.sources == {"cam": "a/cam.mp4", "rec": "rec.wav"}
    assert replace(event, files={"rec": "c/rec.wav"}).sources == {"rec": "rec.wav"}


# Folders


def test_a_folder_is_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "e2/rec.wav", "e2/cam.MP4", "e2/imu.csv.gz", "e2/notes.pdf", "e2/.cam.mp4", "e2/deep/er.wav")
    touch(
        tmp_path,
        "e1/a.mp4",
        "e1/a.wav",
        ".e3/cam.mp4",
        "e4/thumb.jpg",
        "loose.flac",
        "e1.wav",
        ".hidden.wav",
        "README.md",
    )
    touch(tmp_path, "e2/bag/metadata.yaml", "e2/bag/log.db3", "tour/metadata.yaml", "tour/log.db3")
    events = read_manifest(tmp_path)
    assert {e.name: dict(e.sources) for e in events} == {
        "e1": {"a.mp4": "e1/a.mp4", "a.wav": "e1/a.wav"},
        "e1.wav": {"recording": "e1.wav"},
        "e2": {"bag": "e2/bag", "cam": "e2/cam.MP4", "imu": "e2/imu.csv.gz", "rec": "e2/rec.wav"},
        "loose": {"recording": "loose.flac"},
        "tour": {"recording": "tour"},
    }
    assert [e.name for e in events] == sorted(e.name for e in events)
    assert events[2].files["cam"] == str(tmp_path / "e2" / "cam.MP4")
    assert [list(e.files) for e in events] == [sorted(e.files) for e in events]


def test_a_folder_without_recordings_is_one_line(tmp_path: Path) -> None:
    touch(tmp_path / "d", "README.md", "e1/.cam.mp4")
    assert told(tmp_path / "d").startswith("d: a folder without recordings; expected folders of them")


def test_a_folder_is_the_manifest_that_would_name_its_files(folder: Path) -> None:
    rows = [
        {"event": e, "files": {r: f"{e}/{r}{s}" for r, s in (("cam", ".mp4"), ("rec", ".wav"))}} for e in ("e1", "e2")
    ]
    expected = alike(read_manifest(written(folder, *rows)))
    assert alike(read_manifest(folder)) == expected
    assert alike(read_manifest(folder / "{event}" / "{role}.*")) == expected


# Patterns


def matched(pattern: Path | str) -> dict[str, dict[str, str]]:
    return {event.name: dict(event.sources) for event in read_manifest(pattern)}


def test_fields_of_a_pattern_say_what_a_manifest_would(tmp_path: Path) -> None:
    touch(tmp_path, "train/a_b_cam.mp4", "train/a_b_rec.wav", "test/c_cam.mov", "test/c_cam.txt.bak", "test/d-cam.mov")
    events = read_manifest(tmp_path / "{split}" / "{event}_{role}.*")
    assert [(e.name, e.split, dict(e.sources)) for e in events] == [
        ("a_b", "train", {"cam": "train/a_b_cam.mp4", "rec": "train/a_b_rec.wav"}),
        ("c", "test", {"cam": "test/c_cam.mov"}),
    ]
    touch(tmp_path, "k/clap/s1/x.mp4", "k/wave/s2/y.mp4")
    events = read_manifest(tmp_path / "k" / "{label}" / "{group}" / "{event}.mp4")
    assert [(e.name, e.label, e.group, dict(e.sources)) for e in events] == [
        ("x", "clap", "s1", {"recording": "clap/s1/x.mp4"}),
        ("y", "wave", "s2", {"recording": "wave/s2/y.mp4"}),
    ]


def test_without_an_event_each_file_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "clap/1.mp4", "wave/1.mp4", "wave/2.mp4", ".hidden/3.mp4", "wave/.4.mp4", "wave/deep/5.mp4")
    assert matched(tmp_path / "*" / "*.mp4") == {
        "2": {"recording": "wave/2.mp4"},
        "clap/1.mp4": {"recording": "clap/1.mp4"},
        "wave/1.mp4": {"recording": "wave/1.mp4"},
    }
    assert [e.label for e in read_manifest(tmp_path / "{label}" / "*.mp4")] == ["wave", "clap", "wave"]
    assert set(matched(tmp_path / "**" / "*.mp4")) == {"2", "5", "clap/1.mp4", "wave/1.mp4"}
    assert set(matched(tmp_path / "**")) == set(matched(tmp_path / "**" / "*.mp4"))
    assert set(matched(tmp_path / "wave" / "[!2-9].mp4")) == {"1"}
    assert set(matched(tmp_path / "w?ve" / "[2a].mp4")) == {"2"}
    assert set(matched(tmp_path / "wave" / ".*.mp4")) == {".4"}


def test_a_suffix_that_is_written_is_taken_and_an_open_one_must_be_a_recordings(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "b.mp4", "c.jpg")
    assert set(matched(tmp_path / "*.xyz")) == {"a"}
    assert set(matched(tmp_path / "*")) == set(matched(tmp_path / "{event}.*")) == {"b"}


def test_a_field_that_is_there_twice_is_the_same_both_times(tmp_path: Path) -> None:
    touch(tmp_path, "e1/e1_cam.mp4", "e2/e1_cam.mp4")
    assert matched(tmp_path / "{event}" / "{event}_{role}.mp4") == {"e1": {"cam": "e1/e1_cam.mp4"}}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{evnt}/{role}.mp4", "field {evnt} is not known; expected {event}, {role}, {label}, {split}, {group}"),
        ("*/{role}.mp4", "has {role} without {event}; expected both"),
        ("{event}/{role}.mkv", "matches no recording; try * in more places"),
        ("none/*.mp4", "matches no recording; try * in more places"),
        ("[z-a]*.mp4", "is no pattern (bad character range z-a"),
        ("{label}/{event}.mp4", "event '1' has another recording, clap/1.mp4; expected one: narrow the pattern"),
        ("{label}/{event}.*", "event '1' has another recording"),
        ("{split}/*.mp4", "split 'clap'; expected one of train, validation, test"),
        (
            "{label}/{event}_{role}.mp4",
            "event 'e' has label 'wave' here and 'clap' by clap/e_a.mp4; expected one for all",
        ),
    ],
)
def test_a_pattern_that_does_not_fit_is_one_line(tmp_path: Path, pattern: str, expected: str) -> None:
    touch(tmp_path, "clap/1.mp4", "wave/1.mp4", "clap/e_a.mp4", "wave/e_b.mp4")
    message = told(f"{tmp_path}/{pattern}").replace(f"{tmp_path}/", "")
    assert expected in message


def test_what_is_called_like_a_pattern_can_be_a_file_or_a_folder(folder: Path) -> None:
    touch(folder, "film [1080p]/{event}/a.mp4")
    assert matched(folder / "film [1080p]" / "{event}" / "{event}.mp4") == {"a": {"recording": "a.mp4"}}
    assert told(folder / "film [1080p]" / "b.mp4").startswith("b.mp4: matches no recording")
    assert [e.name for e in read_manifest(written(folder, ROW, name="m[1]{event}.jsonl"))] == ["e1"]


# URLs


def test_a_manifest_at_a_url_names_what_lies_beside_it(memory: Any, folder: Path) -> None:
    memory.pipe({"/d/e1/cam.mp4": b"", "/rec.wav": b""})
    row = {"event": "e1", "files": {"cam": "e1/cam.mp4", "rec": "x/../../rec.wav", "far": "memory://rec.wav"}}
    own = {"event": "e2", "files": {"mine": str(folder / "e1" / "cam.mp4"), "near": "memory://d/e1/cam.mp4"}}
    memory.pipe("/d/m.jsonl", f"{json.dumps(row)}\n{json.dumps(own)}".encode())
    one, two = read_manifest("memory://d/m.jsonl")
    assert one.files == {"cam": "memory://d/e1/cam.mp4", "rec": "memory://rec.wav", "far": "memory://rec.wav"}
    assert one.sources == {"cam": "e1/cam.mp4", "rec": "../rec.wav", "far": "memory://rec.wav"}
    assert two.files == {"mine": str(folder / "e1" / "cam.mp4"), "near": "memory://d/e1/cam.mp4"}
    assert two.sources == {"mine": (folder / "e1" / "cam.mp4").as_posix(), "near": "e1/cam.mp4"}
    assert one.where == "memory://d/m.jsonl: line 1"
    memory.pipe("/d/m.csv", b"event,cam\ne1,e1/gone.mp4\n")
    assert told("memory://d/m.csv").endswith("m.csv: line 2: cam: memory://d/e1/gone.mp4: no such file")
    (kept,) = read_manifest("memory://d/m.csv", missing="keep")
    assert kept.files == {"cam": "memory://d/e1/gone.mp4"}


def test_parquet_at_a_url_is_read(memory: Any, folder: Path) -> None:
    file = parquet_of(folder, {"event": ["e1"], "cam": ["e1/cam.mp4"]})
    memory.pipe({"/d/e1/cam.mp4": b"", "/d/m.parquet": file.read_bytes()})
    assert [dict(e.files) for e in read_manifest("memory://d/m.parquet")] == [{"cam": "memory://d/e1/cam.mp4"}]
    memory.pipe("/d/manifest", file.read_bytes())  # by its first bytes
    assert alike(read_manifest("memory://d/manifest")) == alike(read_manifest("memory://d/m.parquet"))


def test_folders_and_patterns_find_the_same_at_a_url_as_on_this_machine(memory: Any, tmp_path: Path) -> None:
    names = [
        "e1/cam.mp4",
        "e1/rec.wav",
        "e2/cam.mp4",
        "e2/.rec.wav",
        "e2/notes.pdf",
        "loose.wav",
        ".e3/cam.mp4",
        "e4/d/x.wav",
    ]
    touch(tmp_path, *names)
    memory.pipe({f"/d/{name}": b"" for name in names})
    for end in ("", "/", "/{event}/{role}.*", "/*/*.mp4", "/**/*.wav", "/{event}/cam.mp4", "/e[!2]/?am.mp4"):
        here, there = read_manifest(f"{tmp_path}{end}"), read_manifest(f"memory://d{end}")
        assert [(e.name, e.sources) for e in here] == [(e.name, e.sources) for e in there], end
        for event in there:
            assert event.files == {role: f"memory://d/{source}" for role, source in event.sources.items()}


def test_urls_of_this_machine_are_its_paths(folder: Path) -> None:
    pytest.importorskip("fsspec")
    row = {"event": "e1", "files": {"cam": f"file://{folder}/e1/cam.mp4"}}
    file = written(folder, row)
    events = read_manifest(f"file://{file}")
    assert events == read_manifest(file)
    assert events[0].files == {"cam": str(folder / "e1" / "cam.mp4")}
    assert events[0].sources == {"cam": "e1/cam.mp4"}
    assert read_manifest(f"file://{folder}/{{event}}/*.mp4") == read_manifest(folder / "{event}" / "*.mp4")


def test_urls_that_cannot_be_opened_are_one_line(memory: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("memory://none/m.jsonl").endswith("or a row for each event), a folder or a pattern")
    assert "cannot be opened (Protocol not known: bogus); expected a URL that fsspec can read" in told(
        "bogus://d/m.jsonl"
    )
    assert "memory://d/{event}.wav: matches no recording" in told("memory://d/{event}.wav")
    with pytest.raises(ReadError, match="bogus://x: cannot be opened"):
        file_system("bogus://x")
    bad = written(folder, {"event": "e1", "files": {"cam": "bogus://x.mp4"}})
    assert "bogus://x.mp4: cannot be opened" in told(bad)
    (kept,) = read_manifest(bad, missing="keep")
    assert kept.files == {"cam": "bogus://x.mp4"}
    with pytest.raises(ReadError, match=r"line 1: cam: bogus://x.mp4: is a URL; expected a file on this machine"):
        align_event(kept)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert told("memory://d/m.jsonl").endswith("needs fsspec, which is not installed; try pip install 'avfuse[scale]'")


# Names


NAMES = st.text(max_size=12) | st.text("ab_x2eh-. é", max_size=8) | st.text("a._", min_size=140, max_size=160)


@settings(max_examples=300)
@given(NAMES, NAMES)
def test_names_of_files_are_safe_short_and_tell_events_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{0,149}", as_file_name(one))
    assert (as_file_name(one) == as_file_name(other)) == (one == other)
    # What a name became is a name, too, that becomes something else or is itself.
    again = as_file_name(as_file_name(one))
    assert (again == as_file_name(one)) == (as_file_name(one) == one)


def test_plain_names_of_files_stay_as_they_are() -> None:
    assert as_file_name("circle-0_A") == "circle-0_A"
    assert as_file_name("a/b.mp4") == "a_x2fb_x2emp4"
    assert as_file_name("\x02e") != as_file_name(".")
    assert as_file_name("x" * 149) == "x" * 149
    long = [as_file_name("x" * 150), as_file_name("x" * 151)]
    assert len(set(long)) == 2
    assert [len(name) for name in long] == [149, 149]
    assert as_file_name(long[0]) != long[0]


# Splits


def events(count: int, **told: Any) -> list[Event]:
    return [Event(f"e{k}", {"cam": "cam.mp4"}, where=f"line {k}", **told) for k in range(count)]


def split_of(found: dict[str, list[Event]]) -> dict[str, str]:
    return {event.name: name for name, those in found.items() for event in those}


SHARES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).map(lambda s: {"validation": s[0], "test": s[1]})


@st.composite
def mixed(draw: st.DrawFn) -> list[Event]:
    """Events of which some have a group, and some of the groups a split."""
    groups = {g: draw(st.none() | st.sampled_from(SPLITS)) for g in "abc"}
    found = []
    for event in events(draw(st.integers(1, 12))):
        group = draw(st.none() | st.sampled_from("abc"))
        split = (
            draw(st.none() | st.sampled_from(SPLITS)) if group is None else draw(st.sampled_from([None, groups[group]]))
        )
        found.append(replace(event, group=group, split=split))
    return found


@given(mixed(), SHARES, st.integers(0, 2**63))
def test_every_event_is_in_one_split_which_is_the_one_it_was_given_and_its_groups(
    those: list[Event], shares: dict[str, float], seed: int
) -> None:
    found = split_events(those, **shares, seed=seed)
    assert sorted(e.name for part in found.values() for e in part) == sorted(e.name for e in those)
    assert all(part == [e for e in those if e in part] for part in found.values())
    splits = split_of(found)
    assert all(splits[e.name] == e.split for e in those if e.split)
    of_group = {(e.group, splits[e.name]) for e in those if e.group}
    assert len(of_group) == len({group for group, _ in of_group})
    open_units = {e.group or e.name for e in those} - {e.group or e.name for e in those if e.split}
    if len(open_units) >= 2 and shares["validation"] > 0 and sum(shares.values()) < 1:
        assert found["train"]
        assert found["validation"]
    # Whatever order they come in.
    assert split_of(split_events(those[::-1], **shares, seed=seed)) == splits


@given(st.integers(0, 1000), st.sets(st.integers(0, 199), min_size=60), SHARES)
def test_events_that_are_added_move_none(seed: int, some: set[int], shares: dict[str, float]) -> None:
    everyone = events(200)
    whole = split_of(split_events(everyone, **shares, seed=seed))
    part = split_events([everyone[k] for k in sorted(some)], **shares, seed=seed)
    moved = {name for name, split in split_of(part).items() if split != whole[name]}
    # Where chance leaves a split empty, one event is moved there, and only then.
    alone = {part[name][0].name for name in ("train", "validation") if len(part[name]) == 1}
    alone |= {n for n, s in whole.items() if list(whole.values()).count(s) == 1}
    assert moved <= alone


def test_shares_are_kept_on_average_and_seeds_differ() -> None:
    found = split_events(events(10_000), validation=0.2, test=0.1, seed=0)
    # Four standard deviations of 10,000 draws.
    assert abs(len(found["validation"]) - 2000) < 160
    assert abs(len(found["test"]) - 1000) < 120
    other = split_of(split_events(events(10_000), validation=0.2, test=0.1, seed=1))
    same = sum(other[name] == split for name, split in split_of(found).items()) / 10_000
    assert abs(same - (0.7**2 + 0.2**2 + 0.1**2)) < 0.02


def test_nothing_is_moved_where_no_share_was_asked_for_and_a_single_event_is_learned_from() -> None:
    assert split_of(split_events(events(20), validation=0.0, test=0.0, seed=0)) == {f"e{k}": "train" for k in range(20)}
    for seed in range(20):
        assert split_of(split_events(events(1), validation=0.5, test=0.4, seed=seed)) == {"e0": "train"}
    given = [replace(e, split="test") for e in events(3)]
    assert split_events(given, validation=0.2, test=0.0, seed=0) == {"train": [], "validation": [], "test": given}


@given(st.integers(0, 2**63), st.integers(3, 20), st.floats(0.01, 0.99))
def test_what_is_moved_into_an_empty_split_is_what_a_greater_share_would_put_there_first(
    seed: int, count: int, share: float
) -> None:
    those = events(count)
    least, more = (split_events(those, validation=v, test=0.0, seed=seed) for v in (1e-12, share))
    assert len(least["validation"]) == 1
    assert least["validation"][0] in more["validation"]
    # Validation and test are all there is: train takes from validation, which can spare one, and nothing from test.
    tight = split_events(those, validation=share, test=1.0 - share - 1e-12, seed=seed)
    untouched = split_events(those, validation=share, test=1.0 - share, seed=seed)
    assert len(tight["train"]) == 1
    if len(untouched["validation"]) > 1:
        assert tight["test"] == untouched["test"]
    wide = split_events(those, validation=1.0 - 1e-12, test=0.0, seed=seed)
    assert wide["train"][0] in more["train"]


def test_a_group_with_two_splits_and_shares_that_are_none_are_told() -> None:
    one, two, three = events(3, group="hall")
    with pytest.raises(
        ReadError, match=r"line 2: split 'test', but group 'hall' is 'train' in line 0; expected one split"
    ):
        split_events([replace(one, split="train"), two, replace(three, split="test")], validation=0.2, test=0.0, seed=0)
    for validation, test in ((-0.1, 0.0), (0.6, 0.5), (math.nan, 0.0), (0.0, math.nan)):
        with pytest.raises(StreamError, match="expected 0 or more, at most 1 together"):
            split_events([one], validation=validation, test=test, seed=0)
