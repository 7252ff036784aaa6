"""The `avfuse` command: each subcommand is one public function and its printing.

Results go to stdout, everything else to stderr. Exit codes:

    0    done, and everything aligned
    1    an unexpected fault: a bug
    2    bad usage, or a file that cannot be read or written
    3    done, but something is not aligned, out of sync or unknown
    130  interrupted
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer

from avfuse.cli import learning, measuring, preparing, space, timeline  # noqa: F401  (each adds its commands)
from avfuse.cli.options import DONE, DOUBTFUL, FAULT, INTERRUPTED, TERMINATED, USAGE, app
from avfuse.console import say
from avfuse.errors import AvfuseError, WeakAlignmentError
from avfuse.files import FAULTS_OF_THE_DISK

REPORT_TO = "https://github.com/avfuse/avfuse/issues"


def _terminate(number: int, frame: object) -> None:
    sys.exit(TERMINATED)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # A polite kill cleans up behind itself as Ctrl-C does.
    signal.signal(signal.SIGTERM, _terminate)
    # Python has None where a stream was closed before it started.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (open until the end)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Names and ± in a terminal of another encoding: better a question mark than a fault.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # Typer's own base class of usage errors: from Click in older releases, its own copy in newer ones.
    usage_error: type[Any] = typer.BadParameter.__mro__[2]
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(args=arguments or ["--help"], prog_name="avfuse", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except WeakAlignmentError as error:
        say(f"avfuse: {error}")
        return DOUBTFUL
    except AvfuseError as error:
        say(f"avfuse: {error}")
        return USAGE
    except usage_error as error:
        command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "avfuse"
        message = " ".join(error.format_message().split()).rstrip(".")
        say(f"avfuse: {message}; try '{command} --help'")
        return USAGE
    except Exception as error:
        if not _was_interrupted(error):
            return _fault(error)
        code = INTERRUPTED
    if code == INTERRUPTED:
        say("avfuse: interrupted")
    return int(code or DONE) if arguments else USAGE


def _was_interrupted(error: BaseException | None) -> bool:
    """Numba turns a Ctrl-C that falls into a kernel into a SystemError with it as the cause."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fault(error: Exception) -> int:
    if os.environ.get("AVFUSE_DEBUG") == "1":
        raise error
    if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_DISK:
        place = f"{error.filename}: " if error.filename else ""
        say(f"avfuse: {place}{error.strerror}; make room, or set TMPDIR to a folder elsewhere")
        return USAGE
    what = " ".join(f"{type(error).__name__}: {error}".split())
    say(f"avfuse: unexpected fault ({what}). This is a bug: please report it at {REPORT_TO}, with AVFUSE_DEBUG=1 set")
    return FAULT
