"""avfuse and its peers, asked the same question: at which reference time does the moving file begin?

Every peer lives in an environment of its own, made on first use in benchmarks/.peers and kept. A question is
put by running a small script (benchmarks/runners) with that environment's Python; answers come back as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import ROOT
from benchmarks.processes import Ran, run

ENVIRONMENTS = ROOT / "benchmarks" / ".peers"
RUNNERS = ROOT / "benchmarks" / "runners"


@dataclass(frozen=True)
class Method:
    """A program that finds offsets.

    runner: script in benchmarks/runners and its arguments. packages: what pip installs for it, with `environment`
    the folder's name; none for what runs beside avfuse. rule: when its own words call an answer good.
    """

    name: str
    runner: tuple[str, ...]
    rule: str
    environment: str = ""
    packages: tuple[str, ...] = ()


METHODS = (
    Method("avfuse", ("with_avfuse.py",), "status `aligned`"),
    Method("SciPy correlation", ("with_scipy.py",), "none: always an answer"),
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


@dataclass(frozen=True)
class Answer:
    """t_ref = offset + (1 + drift) * t; offset is None where there was no answer, and `reason` says why.

    trusted: whether the method's own rule calls it good. score: of that rule. std, confidence: avfuse's.
    guesses: (offset, drift) best first, where several were offered. seconds: without the start of a process.
    """

    offset: float | None = None
    drift: float = 0.0
    trusted: bool = False
    score: float | None = None
    std: float | None = None
    confidence: float | None = None
    guesses: tuple[tuple[float, float], ...] = ()
    reason: str = ""
    seconds: float = float("nan")


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


def ask(
    method: Method, pairs: Sequence[tuple[Path, Path]], *, memory: float | None = None, timeout: float = 3600.0,
    warm: bool = True,
) -> tuple[list[Answer], Ran]:  # fmt: skip
    """Answers for (reference, moving) files in order, and what all of them took together.

    warm: answer the first pair once before, untimed. Pairs that a program did not live to answer have the
    reason of its death.
    """
    python = python_of(method)
    with tempfile.TemporaryDirectory(prefix="avfuse-benchmark-") as folder:
        questions, answers = Path(folder, "questions.json"), Path(folder, "answers.jsonl")
        questions.write_text(json.dumps({"pairs": [[str(a), str(b)] for a, b in pairs], "warm": warm}), "utf-8")
        script, *arguments = method.runner
        ran = run(
            [python, str(RUNNERS / script), str(questions), str(answers), *arguments], memory=memory, timeout=timeout
        )
        lines = answers.read_text("utf-8").splitlines() if answers.exists() else []
    found = []
    for line in lines:
        answer = json.loads(line)
        answer["guesses"] = tuple((float(o), float(d)) for o, d in answer.get("guesses", ()))
        found.append(Answer(**answer))
    last_words = (ran.stderr.strip().splitlines() or [f"exit status {ran.code}"])[-1][:200]
    found += [Answer(reason=f"program ended early: {last_words}")] * (len(pairs) - len(found))
    return found, ran
