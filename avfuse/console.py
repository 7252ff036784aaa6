"""What the command line writes, and where: results to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

Progress = Callable[[float, str], None]


def say(line: str) -> None:
    """One line, whatever is in the names in it."""
    typer.echo("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), err=True)


def print_json(document: dict[str, Any]) -> None:
    from avfuse.alignment import json_text

    sys.stdout.write(json_text(document, sys.stdout.encoding or "utf-8") + "\n")


@contextmanager
def printing() -> Iterator[None]:
    """What a reader that went away (`| head`) does not see is no fault: everything else is written by then."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more on its way out; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """A progress bar on stderr; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TaskProgressColumn())
    with rich.Progress(*columns, console=Console(stderr=True, emoji=False), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda fraction, text: bar.update(task, completed=fraction, description=text)
