"""The same on Ray: the same bytes, and the same costs of what dies, grows or hangs."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from to_prepare import LOUD, RECIPE, lines_of, make_recordings, tree, write_manifest

from avfuse.errors import StreamError
from avfuse.preparation import prepare
from avfuse.preparation.on_ray import run_on_ray
from avfuse.preparation.pool import Bounds, Failed, run_tasks

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine; starting it takes longer than what is tested."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("recordings"))


def misbehave(task: tuple[str, str]) -> str:
    what, folder = task
    mark = Path(folder, what)
    if what == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "grows":
        held = []
        while True:
            held.append(b"x" * (32 << 20))
            time.sleep(0.01)
    if what == "hangs":
        time.sleep(600)
    if what == "is waited for":
        mark.with_suffix(".part").write_text(str(os.getpid()))
        mark.with_suffix(".part").rename(mark)
        while not Path(folder, "go").exists():
            time.sleep(0.02)
    if what == "raises":
        raise KeyError("odd")
    return f"{what}, {os.environ['AVFUSE_CORES']} core, {os.getcwd()}"


def test_what_dies_grows_hangs_or_raises_costs_itself_alone_as_in_the_pool(started: None, tmp_path: Path) -> None:
    tasks = [(what, str(tmp_path)) for what in ("first", "dies", "grows", "hangs", "raises", "last")]
    bounds = Bounds(memory=600e6, seconds=8.0, retries=1)
    found = list(run_on_ray(misbehave, tasks, workers=2, address=None, bounds=bounds))
    assert [(f.kind, f.attempts) for f in found if isinstance(f, Failed)] == [
        ("Died", 2), ("Memory", 1), ("Time", 1), ("Fault", 2),
    ]  # fmt: skip
    assert found == list(run_tasks(misbehave, tasks, workers=2, ahead=8, bounds=bounds))


def test_a_process_of_ray_that_is_killed_in_the_middle_costs_nothing(started: None, tmp_path: Path) -> None:
    at_work: list[psutil.Process] = []

    def kill() -> None:
        while not (tmp_path / "is waited for").exists():
            time.sleep(0.02)
        at_work.append(psutil.Process(int((tmp_path / "is waited for").read_text())))
        parent = at_work[0].parent()
        if parent is not None and "ray::" in " ".join(parent.cmdline()):
            parent.kill()
            at_work.append(parent)
        (tmp_path / "go").touch()

    tasks = [(what, str(tmp_path)) for what in ("first", "is waited for", "last")]
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = list(run_on_ray(misbehave, tasks, workers=1, address=None, bounds=Bounds(retries=0)))
    killer.join(timeout=10)
    assert [str(f).partition(",")[0] for f in found] == ["first", "is waited for", "last"]
    assert len(at_work) == 2
    assert psutil.wait_procs(at_work, timeout=10)[1] == []


def test_ray_makes_the_same_bytes_as_the_pool(
    started: None, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pool = prepare(manifest, tmp_path / "pool", RECIPE, workers=2)
    monkeypatch.chdir(tmp_path)
    by_ray = prepare(os.path.relpath(manifest), "ray", RECIPE, workers=2, engine="ray")
    assert tree(by_ray) == tree(by_pool)
    assert by_ray.shards == by_pool.shards
    assert len(by_ray.errors) == 2


def test_an_event_that_kills_its_process_costs_itself_alone(started: None, manifest: Path, tmp_path: Path) -> None:
    lines = [line for line in lines_of(manifest) if line["event"] in (f"clip-{LOUD}", "clip-1")]
    clips = write_manifest(manifest.parent / "two.jsonl", lines)
    recipe = replace(RECIPE, streams={"sound": "camera/sound"}, transforms={"sound": "to_prepare:die_if_loud"})
    found = prepare(clips, tmp_path / "out", recipe, workers=1, engine="ray", retries=1)
    (line,) = found.errors
    assert (line["event"], line["kind"], line["attempts"]) == (f"clip-{LOUD}", "Died", 2)
    assert found.samples == 2


def test_a_cluster_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(StreamError, match=r"ray_address 'nonsense:1:2': nobody answers") as told:
        list(run_on_ray(misbehave, [], workers=1, address="nonsense:1:2"))
    assert "\n" not in str(told.value)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of two nodes of one core each, both on this machine."""
    executable = str(Path(sys.executable).with_name("ray"))
    folder = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    # Of its own: else the head takes one that lies on this machine, and the other node takes none.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    address = f"127.0.0.1:{free_port()}"
    common = ["--num-cpus", "1", "--block", "--disable-usage-stats", "--node-ip-address", "127.0.0.1",
              "--object-store-memory", "100000000"]  # fmt: skip
    head = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard", "false"]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for told in (head, ["--address", address]):
            with (folder / f"{len(nodes)}.log").open("wb") as log:
                nodes.append(
                    subprocess.Popen(
                        [executable, "start", *told, *common], stdout=log, stderr=log,
                        start_new_session=True,
                    )
                )  # fmt: skip
            end = time.monotonic() + 90
            while b"Ray runtime started" not in (folder / f"{len(nodes) - 1}.log").read_bytes():
                assert nodes[-1].poll() is None, (folder / f"{len(nodes) - 1}.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.2)
        yield address
    finally:
        # At once: a polite end takes half a minute for each.
        processes = [psutil.Process(node.pid) for node in nodes if node.poll() is None]
        processes += [child for process in processes for child in process.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        for node in nodes:
            node.wait()


@pytest.mark.slow
def test_a_cluster_of_two_nodes_makes_the_same_bytes(manifest: Path, tmp_path: Path, cluster: str) -> None:
    if ray.is_initialized():
        ray.shutdown()
    command = [sys.executable, "-m", "avfuse", "prepare", str(manifest), "--duration", "1.5", "--shard", "3"]
    command += ["--validation", "0.3", "-o"]
    by_pool = prepare(manifest, tmp_path / "pool", RECIPE, workers=2)
    cluster_options = ["--engine", "ray", "--ray-address", cluster]
    done = subprocess.run([*command, tmp_path / "ray", *cluster_options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert tree(tmp_path / "ray") == tree(by_pool)
