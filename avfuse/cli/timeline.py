"""Commands that put recordings on one timeline, and look at it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avfuse.cli.options import DONE, DOUBTFUL, USAGE, AsJson, Files, Rate, TimeColumn, TimeUnit, app
from avfuse.console import print_json, printing, progress_bar, say
from avfuse.errors import ReadError, WriteError
from avfuse.files import check_folder, check_spares, check_writable

if TYPE_CHECKING:
    from avfuse.alignment import Alignment
    from avfuse.stream import Recording


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where its files go.")] = Path("avfuse-demo"),
) -> int:
    """Simulate an event filmed by two cameras and a recorder, align it, render it, and compare with the truth."""
    from avfuse.demo import run_demo

    check_folder(folder)
    with progress_bar() as progress:
        shown = run_demo(folder, progress=progress)
    with printing():
        shown.print(sys.stdout)
    return _code(shown.alignment)


@app.command()
def info(
    files: Files,
    as_json: AsJson = False,
    time_column: TimeColumn = None,
    time_unit: TimeUnit = None,
    rate: Rate = None,
) -> int:
    """Tell what is in files: streams, clocks, rates, gaps, and what is odd about them."""
    from avfuse.io import inspect

    found, code = [], DONE
    for file in files:
        try:
            found.append(inspect(file, time_column=time_column, time_unit=time_unit, rate=rate))
        except ReadError as error:
            say(f"avfuse: {error}")
            code = USAGE
    with printing():
        if as_json:
            print_json({"format": "avfuse.info/1", "files": [one.to_json() for one in found]})
        elif found:
            from avfuse.reporting.text import print_info

            print_info(found, sys.stdout)
    return code


@app.command()
def align(
    files: Files,
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name or path of the recording whose clock is used; the longest otherwise."),
    ] = None,
    max_offset: Annotated[
        float | None,
        typer.Option(metavar="S", min=0.0, help="Offsets beyond this many seconds are not looked for."),
    ] = None,
    spacing: Annotated[
        float,
        typer.Option(metavar="M", min=0.0, help="Metres that devices stood apart at most: sound takes 2.9 ms a metre."),
    ] = 0.0,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write alignment.json.")] = None,
    as_json: AsJson = False,
    render: Annotated[Path | None, typer.Option(metavar="DIR", help="Write every recording, aligned.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the timeline: .png, .svg, .pdf.")] = None,
    timeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a timeline for editing programs: .otio, .fcpxml.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the HTML page that explains it.")] = None,
    time_column: TimeColumn = None,
    time_unit: TimeUnit = None,
    rate: Rate = None,
) -> int:
    """Put recordings on one timeline. Without an output option it prints its table and writes nothing."""
    outputs: dict[str, str] = {}
    for what, out in (("alignment", output), ("picture", picture), ("timeline", timeline), ("report", report)):
        if out is not None:
            check_spares(out, files)
            check_writable(out)
            before = outputs.setdefault(os.path.realpath(out), what)
            if before != what:
                raise WriteError(f"{out}: is given both for the {before} and for the {what}; choose two names")
    if render is not None:
        check_folder(render)
    if picture is not None:
        from avfuse.reporting.timeline import check_picture

        check_picture(picture)
    if timeline is not None:
        from avfuse.io.timeline import check_timeline

        check_timeline(timeline)
    from avfuse.aligning import align as align_recordings

    with progress_bar() as progress:
        alignment = align_recordings(
            _tables_read(files, time_column, time_unit, rate),
            reference=reference, max_offset=max_offset, spacing=spacing, progress=progress,
        )  # fmt: skip
    if output is not None:
        alignment.save(output)
    if picture is not None:
        alignment.picture(picture)
    if timeline is not None:
        _export(alignment, timeline)
    if render is not None:
        _render(alignment, render)
    if report is not None:
        _report(alignment, report)
    with printing():
        if as_json:
            print_json(alignment.to_json())
        else:
            from avfuse.reporting.text import print_alignment

            print_alignment(alignment, sys.stdout)
    return _code(alignment)


def _tables_read(
    files: list[str], time_column: str | None, time_unit: str | None, rate: float | None
) -> list[str | Recording]:
    """Tables among the files as the options say, where these suit them; all else as paths.

    Raises ReadError where no table takes them.
    """
    if time_column is None and time_unit is None and rate is None:
        return list(files)
    from avfuse.io import read
    from avfuse.io.reading import TABLES, format_of

    found: list[str | Recording] = []
    refused: ReadError | None = None
    used = False
    for file in files:
        if format_of(file) not in TABLES:
            found.append(file)
            continue
        # A column of time, where there is one, tells more than a rate.
        ways: list[dict[str, Any]] = [{"time_column": time_column, "time_unit": time_unit}]
        if rate is not None:
            ways.append({"rate": rate})
        if time_column is not None or time_unit is not None:
            ways.append({})
        errors = []
        for way in ways:
            try:
                recording = read(file, **way)
            except ReadError as error:
                errors.append(error)
                continue
            found.append(recording)
            used |= "reading" in recording.facts
            break
        else:
            raise errors[0]
        refused = refused or (errors[0] if errors else None)
    if not used:
        raise refused or ReadError(
            "--time-column, --time-unit and --rate are for tables that leave it open; none of the files is one"
        )
    return found


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Videos with sound, or folders of them.")],
    as_json: AsJson = False,
) -> int:
    """Tell whether the sound inside each file is in step with its picture."""
    from avfuse.checking import check as check_files
    from avfuse.checking import checks_to_json

    found, code = [], DONE
    with progress_bar() as progress:
        for k, file in enumerate(files):

            def tell(share: float, text: str, k: int = k) -> None:
                if progress is not None:
                    progress((k + share) / len(files), text)

            try:
                found += check_files(file, progress=tell)
            except ReadError as error:
                say(f"avfuse: {error}")
                code = USAGE
    with printing():
        if as_json:
            print_json(checks_to_json(found))
        elif found:
            from avfuse.reporting.text import print_checks

            print_checks(found, sys.stdout)
    if code == DONE and any(one.verdict != "in_sync" for one in found):
        return DOUBTFUL
    return code


@app.command()
def render(
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="An alignment.json by `avfuse align -o`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the aligned files.")],
    intersection: Annotated[
        bool, typer.Option("--intersection", help="Only the time that every recording covers, not all that any does.")
    ] = False,
    reencode: Annotated[
        bool, typer.Option("--reencode", help="Encode pictures anew, so that cuts need not fall on key frames.")
    ] = False,
    best_sound: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Recording whose sound every video gets as a further track, or 'auto'."),
    ] = None,
) -> int:
    """Write every aligned recording onto the common timeline, so that all files start together and run alike."""
    from avfuse.alignment import load_alignment

    check_folder(output)
    loaded = load_alignment(alignment)
    timeline = "intersection" if intersection else "union"
    _render(loaded, output, timeline=timeline, reencode=reencode, best_sound=best_sound)
    return _code(loaded)


@app.command()
def export(
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="An alignment.json by `avfuse align -o`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The timeline: .otio, .fcpxml.")],
    rendered: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Show the files that `avfuse render` wrote, for editors that drop retimes."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="FPS", help="Frames per second of the timeline; that of the reference otherwise."),
    ] = None,
) -> int:
    """Write a timeline that editing programs open: a track per recording, each in its place."""
    from avfuse.alignment import load_alignment

    loaded = load_alignment(alignment)
    _export(loaded, output, rendered=rendered, rate=rate)
    return _code(loaded)


def _export(alignment: Alignment, path: Path, **options: Any) -> None:
    exported = alignment.export(path, **options)
    say(f"wrote {exported.path}")
    for name, clips in exported.rounding.items():
        each = ", ".join(f"{1e3 * seconds:.1f}" for seconds in clips)
        say(f"{name}: within {each} ms of its place, on frames of {1e3 / exported.rate:.1f} ms")
    for note in exported.notes:
        say(note)
    for name, why in exported.left_out.items():
        say(f"{name}: not on the timeline: {why}")


@app.command(name="report")
def report_command(
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="An alignment.json by `avfuse align -o`.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The HTML page to write.")],
) -> int:
    """Write one HTML page that explains an alignment: timeline, evidence measured again, sounds to listen to."""
    from avfuse.alignment import load_alignment

    loaded = load_alignment(alignment)
    if os.path.realpath(output) == os.path.realpath(alignment):
        raise WriteError(f"{output}: is the alignment itself; choose another name to write to")
    check_spares(output, loaded.sources)
    check_writable(output)
    _report(loaded, output)
    return _code(loaded)


def _report(alignment: Alignment, path: Path) -> None:
    with progress_bar() as progress:
        alignment.report(path, progress=progress)
    say(f"wrote {path}")


def _render(alignment: Alignment, folder: Path, **options: Any) -> None:
    from avfuse.rendering import render as render_recordings

    with progress_bar() as progress:
        rendered = render_recordings(alignment, folder, progress=progress, **options)
    for path in rendered:
        say(f"wrote {path}")
    for note in rendered.notes:
        say(note)
    for name, why in rendered.left_out.items():
        say(f"{name}: not rendered: {why}")


def _code(alignment: Alignment) -> int:
    return DONE if alignment.complete else DOUBTFUL
