"""`avfuse prepare` as a whole: the same bytes whatever happens, what costs what, and what is said of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from to_prepare import CLIPS, LOUD, RECIPE, die_if_loud, lines_of, make_recordings, samples, tree, write_manifest

import avfuse
from avfuse.errors import StreamError, WriteError
from avfuse.preparation import Prepared, prepare
from avfuse.preparation.store import Store

OPTIONS = ["--duration", "1.5", "--shard", "3", "--validation", "0.3", "--workers", "2"]  # those of RECIPE
ONE_STREAM = replace(RECIPE, streams={"sound": "camera/sound"})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """By one worker, in one go."""
    return prepare(manifest, tmp_path_factory.mktemp("undisturbed") / "out", RECIPE, workers=1)


@pytest.fixture
def clips(manifest: Path, tmp_path: Path) -> Path:
    """A manifest of the clips alone, copied: they may be changed."""
    lines = [line for line in lines_of(manifest) if line["event"].startswith("clip")]
    folder = tmp_path / "clips"
    folder.mkdir()
    for k in range(CLIPS):
        shutil.copy(manifest.parent / f"clip-{k}.mp4", folder)
    return write_manifest(folder / "clips.jsonl", lines)


def command(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "avfuse", "prepare", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


class Interruption(Exception):
    pass


def interrupting(after: int) -> Callable[[float, str], None]:
    """A listener to the progress that has enough after so many events."""
    heard = []

    def tell(share: float, text: str) -> None:
        heard.append(text)
        if len(heard) == after:
            raise Interruption

    return tell


def test_every_event_is_there_or_in_the_error_manifest(undisturbed: Prepared, manifest: Path) -> None:
    rows = [json.loads(line) for line in Path(undisturbed, "manifest.jsonl").read_text().splitlines()]
    events = [line["event"] for line in lines_of(manifest)]
    assert list(dict.fromkeys(row["event"] for row in rows)) == events
    errors = {line["event"]: line for line in undisturbed.errors}
    assert set(errors) == {"broken", "missing"} == {row["event"] for row in rows if row["decision"] == "drop"}
    assert errors["broken"]["source"] == "broken.mp4"
    assert errors["missing"]["source"] == "nowhere.wav"
    assert "no such file" in errors["missing"]["message"]
    assert {(e["kind"], e["attempts"], "\n" in e["message"]) for e in errors.values()} == {("ReadError", 1, False)}
    assert str(manifest.parent) not in Path(undisturbed, "errors.jsonl").read_text()
    assert {Path(name).parts[0] for name in tree(undisturbed)} == {
        "README.md", "index.html", "prepare.json", "manifest.jsonl", "errors.jsonl", "examples", "train", "validation",
    }  # fmt: skip


def test_more_workers_and_other_contents_of_memory_make_the_same_bytes(
    undisturbed: Prepared, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_PERTURB_", "85")
    assert tree(prepare(manifest, tmp_path / "out", RECIPE, workers=2)) == tree(undisturbed)


def test_another_order_of_the_manifest_makes_the_same_samples(
    undisturbed: Prepared, manifest: Path, tmp_path: Path
) -> None:
    order = write_manifest(manifest.parent / "other.jsonl", lines_of(manifest)[::-1])
    other = prepare(order, tmp_path / "out", RECIPE, workers=2)
    assert samples(other) == samples(undisturbed)
    assert other.splits == undisturbed.splits


def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes_and_nothing_else(
    undisturbed: Prepared, manifest: Path, tmp_path: Path
) -> None:
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}

    def parts() -> list[Path]:
        return [p for p in (out / ".parts").glob("0*.json")]

    moments: list[Callable[[], object]] = [
        (out / ".parts" / "job.json").exists,
        lambda: len(parts()) >= 2,
        lambda: list(out.glob("*/000000.tar")),
    ]
    for moment in moments:
        process = command(manifest, "-o", out, *OPTIONS, env=environment)
        wait_for(moment, process)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        assert psutil.wait_procs(workers, timeout=10)[1] == []
        assert not (out / "prepare.json").exists()
    with pytest.raises(avfuse.ReadError, match="is not finished"):
        avfuse.windows(out)
    code, _, err = finish(command(manifest, "-o", out, *OPTIONS, env=environment))
    assert (code, err) == (3, "")
    assert tree(out) == tree(undisturbed)
    assert list(temporary.iterdir()) == []


def test_an_interrupted_job_says_so_and_goes_on(undisturbed: Prepared, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = command(manifest, "-o", out, *OPTIONS)
    wait_for(lambda: list((out / ".parts").glob("0*.json")), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert finish(process) == (130, "", "avfuse: interrupted\n")
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert tree(prepare(manifest, out, RECIPE, workers=2)) == tree(undisturbed)


def test_a_finished_job_is_not_done_again_and_says_so(undisturbed: Prepared, manifest: Path) -> None:
    root = Path(undisturbed)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    (root / ".parts").mkdir()  # as where it was killed just before it removed that
    again = prepare(manifest, root, RECIPE)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == {**before}
    assert (again.before, undisturbed.before) == (True, False)
    assert replace(again, before=False) == undisturbed
    code, out, err = finish(command(manifest, "-o", root, *OPTIONS))
    assert (code, err) == (3, "")
    assert "is there" in out
    assert "wrote" not in out


def test_what_is_something_else_is_left_alone(undisturbed: Prepared, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="holds what another manifest, recipe or version"):
        prepare(clips, undisturbed, RECIPE)
    begun = tmp_path / "begun"
    with pytest.raises(Interruption):
        prepare(clips, begun, RECIPE, workers=1, progress=interrupting(2))
    with pytest.raises(StreamError, match="holds what another manifest, recipe or version"):
        prepare(clips, begun, replace(RECIPE, duration=1.0), workers=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "README.md").write_text("mine")
    with pytest.raises(StreamError, match=r"holds README\.md of something else; expected a new folder"):
        prepare(clips, foreign, RECIPE)
    assert [path.name for path in foreign.iterdir()] == ["README.md"]


def test_recordings_that_changed_are_read_again_unless_they_are_packed(clips: Path, tmp_path: Path) -> None:
    recipe = replace(ONE_STREAM, validation=0.0, shard=2)
    out = tmp_path / "out"
    with pytest.raises(Interruption):
        # Two windows of each: two clips are packed, and the third one's part is made.
        prepare(clips, out, recipe, workers=1, progress=interrupting(3))
    assert (out / "train" / "000001.tar").exists()
    old, new = clips.parent / "clip-4.mp4", clips.parent / "clip-0.mp4"
    wanted = prepare(clips, tmp_path / "wanted-before", recipe, workers=1)
    shutil.copy(old, new)
    shutil.copy(clips.parent / "clip-1.mp4", clips.parent / "clip-3.mp4")
    found, before = samples(prepare(clips, out, recipe, workers=1)), samples(wanted)
    assert set(found) == set(before)
    changed = {name.partition(".")[0] for name in found if found[name] != before[name]}
    assert changed == {"clip-3-00000", "clip-3-00001"}
    sound = {name.rpartition("-")[0]: data for name, data in found.items() if name.endswith("00000.sound.flac")}
    assert sound["clip-3"] == sound["clip-1"]
    rows = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    import hashlib

    for row in rows:
        data = found[f"{row['key']}.sound.flac"]
        assert hashlib.sha256(data).hexdigest() == row["streams"]["sound"]["sha256"]


def test_an_event_that_kills_its_worker_each_time_costs_itself_alone(
    undisturbed: Prepared, clips: Path, tmp_path: Path
) -> None:
    def prepared(transform: str, name: str) -> Prepared:
        recipe = replace(ONE_STREAM, transforms={"sound": f"to_prepare:{transform}"})
        return prepare(clips, tmp_path / name, recipe, workers=2, retries=1)

    assert die_if_loud.__module__ == "to_prepare"
    whole, found = prepared("as_it_is", "whole"), prepared("die_if_loud", "found")
    loud = f"clip-{LOUD}"
    assert samples(found) == {name: data for name, data in samples(whole).items() if not name.startswith(loud)}
    (line,) = found.errors
    assert (line["event"], line["kind"], line["attempts"]) == (loud, "Died", 2)
    assert "SIGKILL" in line["message"]
    (row,) = [r for r in lines_of(Path(found, "manifest.jsonl")) if r["event"] == loud]
    assert (row["decision"], row["shard"]) == ("drop", None)


SCRIPT = """
    import avfuse
    from avfuse.preparation import Recipe
    print("beginning")
    made = avfuse.prepare({manifest!r}, "relative/out", Recipe(duration=1.5, streams={{"sound": "camera/sound"}},
        transforms={{"sound": "beside:same"}}), workers=1)
    print(made.samples, made.errors)
"""


@pytest.mark.parametrize("way", ["script", "stdin"])
def test_a_plain_script_prepares_with_what_lies_beside_it(way: str, clips: Path, tmp_path: Path) -> None:
    """No `if __name__ == "__main__"`, relative paths, another folder, a module that prints."""
    lines = lines_of(clips)[:1]
    write_manifest(clips, lines)
    code = textwrap.dedent(SCRIPT.format(manifest=os.path.relpath(clips, tmp_path)))
    beside = tmp_path / ("elsewhere" if way == "script" else "")
    beside.mkdir(exist_ok=True)
    (beside / "script.py").write_text(code)
    (beside / "beside.py").write_text(
        "print('hello')\n\ndef same(given):\n    print('same')\n    return given.values * 2\n"
    )
    # A file that would be found instead of Python's own.
    (tmp_path / "pickle.py").write_text("raise RuntimeError('not this one')") if way == "script" else None
    told = [sys.executable, str(beside / "script.py")] if way == "script" else [sys.executable, "-"]
    given = None if way == "script" else code
    done = subprocess.run(told, input=given, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1:] == ["2 ()"], done
    assert len(samples(tmp_path / "relative" / "out")) == 4


def test_a_full_disk_ends_the_job_with_one_line_and_it_goes_on_where_there_is_room(
    undisturbed: Prepared, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    code, told, err = finish(command(manifest, "-o", out, *OPTIONS, preexec_fn=little))
    assert (code, told) == (2, "")
    assert err.count("\n") == 1
    assert "cannot be written (File too large)" in err
    assert {path.name for path in out.iterdir()} == {".parts"}
    assert tree(prepare(manifest, out, RECIPE, workers=2)) == tree(undisturbed)


def test_places_that_cannot_be_written_to_are_told(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        code, out, err = finish(command(clips, "-o", tmp_path / place, *OPTIONS))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "is a file; expected a folder to write to" in err
    with pytest.raises(StreamError, match="only the process that writes there sees it"):
        prepare(clips, "memory://out", RECIPE)
    with pytest.raises(StreamError, match="is the script"):
        prepare(clips, tmp_path / "out", replace(RECIPE, transforms={"a": "__main__:__name__"}))
    assert not (tmp_path / "out").exists()


def test_two_jobs_in_one_folder_do_not_meet(clips: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "out").alone(".parts/lock"), pytest.raises(WriteError, match="another `avfuse prepare`"):
        prepare(clips, tmp_path / "out", RECIPE, workers=1)


def test_addresses_of_files_are_as_good_as_paths(undisturbed: Prepared, manifest: Path, tmp_path: Path) -> None:
    found = prepare(f"file://{manifest}", f"file://{tmp_path}/out", RECIPE, workers=2)
    assert tree(tmp_path / "out") == tree(undisturbed)
    assert found.shards == undisturbed.shards


def test_a_dry_run_tells_of_so_many_samples_and_writes_nothing(clips: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    code, out, err = finish(command(clips, "--dry-run", "3", *OPTIONS, "--json", cwd=tmp_path))
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [row["key"] for row in document["rows"]] == ["clip-0-00000", "clip-0-00001", "clip-1-00000"]
    assert sum(split["events"] for split in document["splits"].values()) == 2
    assert document["shards"] == []
    assert tree(tmp_path) == before


def test_the_command_prints_one_document_and_its_code_says_whether_all_is_there(
    undisturbed: Prepared, clips: Path, tmp_path: Path
) -> None:
    code, out, err = finish(command(clips, "-o", tmp_path / "out", *OPTIONS, "--json"))
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert sum(shard["samples"] for shard in document["shards"]) == 2 * CLIPS
    code, out, err = finish(command(clips, *OPTIONS))
    assert (code, out) == (2, "")
    assert err == "avfuse: --output: is missing; expected -o DIR, or --dry-run N, which writes nothing\n"


def test_what_an_earlier_run_made_does_not_count_for_the_rate(clips: Path, tmp_path: Path) -> None:
    out, heard = tmp_path / "out", []
    with pytest.raises(Interruption):
        prepare(clips, out, ONE_STREAM, workers=1, progress=interrupting(3))
    prepare(clips, out, ONE_STREAM, workers=1, progress=lambda share, text: heard.append((share, text)))
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [("left" in text) for _, text in heard] == [False] * 3 + [True] * (CLIPS - 3) + [False]
