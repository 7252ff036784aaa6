"""avfuse and its peers, as methods that `avfuse.evaluate` takes.

Every peer lives in an environment of its own, made on first use in benchmarks/.peers and kept, and is a command: a
small script (benchmarks/runners) that runs with that environment's Python and writes alignment.json.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from avfuse.alignment import Alignment, ClockEstimate
from benchmarks.options import ROOT

ENVIRONMENTS = ROOT / "benchmarks" / ".peers"
RUNNERS = ROOT / "benchmarks" / "runners"
WITH_SCORES = f"{RUNNERS / 'with_avfuse.py'}:align_with_scores"
APART = f"{RUNNERS / 'with_avfuse.py'}:align_apart"


@dataclass(frozen=True)
class Method:
    """A program that finds offsets.

    runner: script in benchmarks/runners and its arguments; the name of a function of it stands after a colon, and none
    is what avfuse itself is. packages: what pip installs for it, with `environment` the folder's name; none for what
    runs beside avfuse. rule: when its own words call an answer good.
    """

    name: str
    runner: tuple[str, ...]
    rule: str
    environment: str = ""
    packages: tuple[str, ...] = ()


METHODS = (
    Method("avfuse", (), "status `aligned`"),
    Method("SciPy correlation", ("with_scipy.py:align",), "none: always an answer"),
    Method(
        "audalign, fingerprints", ("with_audalign.py", "fingerprints"), "rank >= 7 of 10 (it names no threshold)",
        "audalign", ("audalign==1.3.1",),
    ),
    Method(
        "audalign, correlation", ("with_audalign.py", "correlation"), "rank >= 7 of 10 (it names no threshold)",
        "audalign", ("audalign==1.3.1",),
    ),
    Method(
        "audio-offset-finder", ("with_audio_offset_finder.py",), "standard score > 10 (its README: likely correct)",
        "audio-offset-finder", ("audio-offset-finder==0.5.5", "numpy<2"),
    ),
    Method("syncstart", ("with_syncstart.py",), "none: always an answer", "syncstart", ("syncstart==1.1.1",)),
)  # fmt: skip


def python_of(method: Method) -> str:
    """The Python that runs a method; its environment is made where it is absent or holds other packages."""
    if not method.packages:
        return sys.executable
    folder = ENVIRONMENTS / method.environment
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(method.packages) + "\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"making an environment for {method.environment}", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *method.packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{method.environment}: {' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    # Last, so that an interrupted installation is made again.
    stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def specifications(methods: Sequence[Method] = METHODS) -> dict[str, str]:
    """name -> specification, as `avfuse.evaluate` and `avfuse evaluate --method` take it."""
    return {method.name: specification(method) for method in methods}


def specification(method: Method) -> str:
    if not method.runner:
        return "avfuse"
    script, *arguments = method.runner
    if not method.packages:
        return f"{RUNNERS / script}"
    words = [python_of(method), str(RUNNERS / script)]
    return f"cmd:{shlex.join(words)} {{reference}} {{moving}} {{out}} {shlex.join(arguments)}"


def trusted_only(alignment: Alignment) -> Alignment:
    """An answer of a peer, refused where the peer's own rule does not call it good."""
    clocks = dict(alignment.clocks)
    for name, facts in alignment.facts.items():
        if facts.extra.get("trusted") is False and clocks[name].status == "aligned":
            clocks[name] = ClockEstimate("no_match", message="not good by its own rule")
    return replace(alignment, clocks=clocks)
