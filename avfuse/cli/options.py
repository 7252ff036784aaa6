"""What commands share: the program itself, options, exit codes."""

from __future__ import annotations

from typing import Annotated

import typer

from avfuse import __version__

DONE, FAULT, USAGE, DOUBTFUL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

app = typer.Typer(
    name="avfuse",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Recordings: what FFmpeg decodes, and files of sensors.")
]
TimeColumn = Annotated[
    str | None,
    typer.Option("--time-column", metavar="NAME", help="Column of time of tables that leave it open, or its number."),
]
TimeUnit = Annotated[
    str | None, typer.Option("--time-unit", metavar="UNIT", help="Its unit, where it is open: s, ms, us, ns.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", metavar="HZ", min=0.0, help="Rows a second of tables that have no times.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout, and nothing else there.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avfuse {__version__}")
        raise typer.Exit


@app.callback()
def avfuse(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Put recordings of one event on one timeline, with honest uncertainty."""
