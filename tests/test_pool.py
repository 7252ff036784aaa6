"""The pool of processes: order, and what is lost when something dies, grows, hangs or talks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from avfuse.errors import AvfuseError, ReadError
from avfuse.preparation.pool import Bounds, Failed, run_tasks

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers keep what is temporary."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def run(function: object, tasks: list[object], *, workers: int = 1, **bounds: float) -> list[object]:
    return list(run_tasks(function, tasks, workers=workers, ahead=8, bounds=Bounds(**bounds)))  # type: ignore[arg-type]


def worker_processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "avfuse.preparation" in " ".join(p.cmdline())]


def wait_until(true: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def sleep_for(task: tuple[int, float]) -> int:
    time.sleep(task[1])
    return task[0]


def test_results_come_in_the_order_of_the_tasks_whatever_takes_longest() -> None:
    tasks = [(k, 0.2 if k % 4 == 0 else 0.0) for k in range(12)]
    assert run(sleep_for, tasks, workers=2) == list(range(12))


def test_no_more_tasks_are_handed_out_than_asked() -> None:
    drawn = []

    def tasks() -> Iterator[tuple[int, float]]:
        for k in range(20):
            drawn.append(k)
            yield k, 0.0

    for taken, _ in enumerate(run_tasks(sleep_for, tasks(), workers=1, ahead=3)):
        assert len(drawn) <= taken + 3
    assert len(drawn) == 20


def die_once(task: tuple[str, int]) -> int:
    folder, k = task
    mark = Path(folder, f"{k}.died")
    if k == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return k


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    assert run(die_once, [(str(tmp_path), k) for k in range(4)]) == [0, 1, 2, 3]
    assert (tmp_path / "1.died").exists()


def kill_or_tell(task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    return task


def test_a_task_that_kills_its_worker_each_time_costs_itself_alone() -> None:
    before, found, after = run(kill_or_tell, [0, 1, 2], retries=1)
    assert (before, after) == (0, 2)
    assert isinstance(found, Failed)
    assert (found.kind, found.attempts) == ("Died", 2)
    assert "SIGSEGV" in found.message


def fill(task: int) -> int:
    if task == 1:
        held = []
        while True:
            held.append(b"x" * (32 << 20))
            time.sleep(0.01)
    return task


def test_a_task_that_takes_too_much_memory_costs_itself_and_is_not_tried_again_in_a_fresh_worker() -> None:
    found = run(fill, [1, 2], memory=600e6)
    assert found == [Failed("Memory", "took more than 0.559 GiB of memory", 1), 2]


_KEPT: list[bytes] = []


def hoard(task: int) -> int:
    _KEPT.append(b"x" * (150 << 20))
    time.sleep(0.6)  # long enough to be looked at
    return task


def test_memory_that_earlier_tasks_left_behind_is_no_fault_of_the_next_one() -> None:
    assert run(hoard, [0, 1, 2], memory=560e6) == [0, 1, 2]


def hang(task: int) -> int:
    while task == 1:
        time.sleep(1.0)
    return task


def test_a_task_that_takes_too_long_costs_itself_alone() -> None:
    found = run(hang, [0, 1, 2], seconds=0.5)
    assert [x for x in found if not isinstance(x, Failed)] == [0, 2]
    assert found[1] == Failed("Time", "took longer than 0.5 s", 1)


def raise_something(task: int) -> int:
    if task == 0:
        raise ReadError("a.wav: no sound")
    raise KeyError("odd")


def test_what_is_unforeseen_is_tried_again_and_told_with_its_place_and_what_avfuse_raises_is_not() -> None:
    told, unforeseen = run(raise_something, [0, 1], retries=2)
    assert told == Failed("ReadError", "a.wav: no sound", 1)
    assert isinstance(unforeseen, Failed)
    assert (unforeseen.kind, unforeseen.attempts) == ("Fault", 3)
    assert "KeyError: 'odd' (test_pool.py:" in unforeseen.message


def talk(task: int) -> tuple[int, str]:
    print("something on stdout")
    os.write(1, b"\x80\x04and bytes")
    subprocess.run(["/bin/echo", "a child talks"], check=True)
    heard = subprocess.run(["/bin/cat"], capture_output=True, check=True).stdout
    return task, heard.decode()


def test_tasks_that_print_and_programs_that_read_stdin_come_between_nothing() -> None:
    assert run(talk, [0, 1, 2]) == [(0, ""), (1, ""), (2, "")]


def write_and_stay(task: int) -> str:
    folder = tempfile.mkdtemp()
    Path(folder, "big").write_bytes(b"x")
    return folder


def test_what_workers_leave_that_is_temporary_goes_with_them(temporary: Path) -> None:
    (made,) = run(write_and_stay, [0])
    assert Path(str(made)).is_relative_to(temporary)
    assert list(temporary.iterdir()) == []


def test_who_stops_listening_ends_the_workers(temporary: Path) -> None:
    results = run_tasks(hang, [0, 1, 1], workers=2, ahead=8)
    assert next(results) == 0
    assert worker_processes()
    results.close()  # type: ignore[attr-defined]
    assert worker_processes() == []
    assert list(temporary.iterdir()) == []


def test_workers_of_who_was_killed_end_and_leave_nothing(tmp_path: Path, temporary: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path.insert(0, {HERE!r})
            from test_pool import hang
            from avfuse.preparation.pool import run_tasks
            for found in run_tasks(hang, [0, 1, 1], workers=2, ahead=8):
                print(found, flush=True)
            """
        )
    )
    driver = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"0\n"
    workers = worker_processes()
    assert workers
    driver.kill()
    driver.wait()
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert wait_until(lambda: not list(temporary.iterdir()))


def test_workers_that_cannot_start_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "main" not in p and p != HERE][:1])
    with pytest.raises(AvfuseError, match="cannot be started"):
        run(hang, [0])
