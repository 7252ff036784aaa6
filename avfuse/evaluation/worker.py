"""A function in a process of its own: questions come in as lines of JSON, and answers go out the same way.

The first line names the function and files to warm up on; it is answered by `{"loaded": ...}`, then `{"ready": ...}`.
Each further line is a question `{"files": [...], "out": path}`: the alignment goes to `out`, and the line
`{"seconds": ...}` or `{"error": ...}` says how that went. What the function prints goes to stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avfuse.alignment import Alignment, json_text

LOADED = "AVFUSE_EVALUATE_WORKER"


def load_function(function: str, module: str, file: str | None) -> Callable[..., Any]:
    """The function, from its file or its module. Raises whatever loading it raises."""
    if file is None:
        sys.path.insert(0, os.getcwd())
        return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
    # As for `python FILE`: what lies beside it can be imported.
    sys.path.insert(0, str(Path(file).parent))
    name = Path(file).stem
    found = importlib.util.spec_from_file_location(name if name.isidentifier() else "method", file)
    if found is None or found.loader is None:
        raise ImportError(f"{file} is no Python file")
    loaded = importlib.util.module_from_spec(found)
    sys.modules[found.name] = loaded
    found.loader.exec_module(loaded)
    return getattr(loaded, function)  # type: ignore[no-any-return]


def answer(align: Callable[..., Any], files: list[str], out: str | None) -> dict[str, Any]:
    """Ask once. Whatever goes wrong inside is an answer about this case."""
    began = time.perf_counter()
    try:
        found = align(files)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"error": reason(error), "seconds": time.perf_counter() - began}
    seconds = time.perf_counter() - began
    if not isinstance(found, Alignment):
        return {"error": f"returned {type(found).__name__}; expected an avfuse.Alignment", "seconds": seconds}
    if out is not None:
        try:
            Path(out).write_text(json_text(found.to_json()), encoding="utf-8")
        except (ValueError, TypeError, OSError) as error:
            return {"error": f"its alignment cannot be written: {reason(error)}", "seconds": seconds}
    return {"seconds": seconds}


def reason(error: BaseException) -> str:
    """One line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> None:
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # The function gets neither: it would read questions away, and its prints would be no answers.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    first = json.loads(questions.readline())
    # A script that evaluates when it is loaded would start itself again and again: `evaluate` refuses where it sees it.
    os.environ[LOADED] = "1"
    try:
        align = load_function(**first["method"])
    except BaseException as error:
        say({"fault": reason(error)})
        return
    say({"loaded": True})
    if first["warm"]:
        answer(align, first["warm"], None)
    say({"ready": True})
    for line in questions:
        question = json.loads(line)
        say(answer(align, question["files"], question["out"]))
