"""Commands that put words on their speech, and measure methods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfuse.cli.options import DONE, DOUBTFUL, AsJson, app
from avfuse.console import print_json, printing, progress_bar, say
from avfuse.errors import ReadError, StreamError, WriteError
from avfuse.files import check_folder, check_spares, check_writable

if TYPE_CHECKING:
    from avfuse.stream import Recording, Stream


@app.command()
def transcript(
    recording: Annotated[str, typer.Argument(metavar="RECORDING", help="What was recorded: anything with sound.")],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Text file of all that is said, in order, in UTF-8.")],
    outputs: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write .TextGrid, .srt, .vtt or .json; again for more."),
    ] = None,
    as_json: AsJson = False,
    emissions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An acoustic model's log_probs, tokens and rate in a .npz, instead of speech."
        ),
    ] = None,
    spelling: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With emissions: a line for each word and its tokens.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="FILE", help="Speech of the same words, with --times, instead of espeak-ng's.")
    ] = None,
    times: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words of the reference with their times: .TextGrid or .json.")
    ] = None,
    voice: Annotated[str, typer.Option(metavar="NAME", help="Voice of espeak-ng that speaks the text.")] = "en-us",
) -> int:
    """Tell when each word of a text is said: by an acoustic model's emissions, or against speech of the same words."""
    from dataclasses import replace

    from avfuse.io import read
    from avfuse.io.emissions import read_emissions, read_spelling
    from avfuse.io.transcripts import read_text, read_transcript, writer_of
    from avfuse.temporal.transcript import estimate_transcript

    inputs: list[str | Path | None] = [recording, text, emissions, spelling, reference, times]
    for out in outputs or ():
        writer_of(out)
        check_spares(out, inputs)
        check_writable(out)
    if (reference is None) != (times is None):
        raise StreamError("--reference and --times belong together: speech, and the times of its words")
    said = read_text(text)
    example = None if reference is None or times is None else (_sound_of(read(reference)), read_transcript(times))
    found = estimate_transcript(
        _sound_of(read(recording)), said, emissions=None if emissions is None else read_emissions(emissions),
        spelling=None if spelling is None else read_spelling(spelling), reference=example, voice=voice,
    )  # fmt: skip
    found = replace(found, source=recording)
    for out in outputs or ():
        if found.status == "aligned" or out.suffix.lower() == ".json":
            found.save(out)
            say(f"wrote {out}")
        else:
            say(f"{out}: not written: the text could not be placed")
    with printing():
        if as_json:
            print_json(found.to_json())
        else:
            print(found)
    if found.status == "aligned" and found.message:
        say(found.message)
    return DONE if found.status == "aligned" else DOUBTFUL


def _sound_of(recording: Recording) -> Stream:
    sounds = recording.of_kind("sound")
    if not sounds:
        raise ReadError(f"{recording.source}: holds no sound; expected a recording of speech")
    return sounds[0]


@app.command()
def evaluate(
    cases: Annotated[Path, typer.Argument(metavar="CASES", help="Folder of cases, or a JSON file that lists them.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="avfuse, FILE.py:FUNCTION, MODULE:FUNCTION or 'cmd:PROGRAM {files} -o {out}'; again for more. "
            "[NAME=] before it names it. Others are compared with the first.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Write tables, plot and every result.")
    ] = None,
    as_json: AsJson = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take the answers of an interrupted run into the same DIR.")
    ] = False,
    together: Annotated[
        bool, typer.Option("--together", help="One process per method for all cases: quicker, memory is not told.")
    ] = False,
    cycles: Annotated[
        bool, typer.Option("--cycles", help="Ask about every pair of a case alone, too: do the answers close?")
    ] = False,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cases at a time; with more than one, times are not told.")
    ] = 1,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", min=0.1, help="Seconds for one case and method.")
    ] = 600.0,
    memory_limit: Annotated[
        float | None,
        typer.Option("--memory-limit", metavar="GB", min=0.1, help="Memory that a method may ask for (Linux)."),
    ] = None,
) -> int:
    """Measure methods on cases with known truth: accuracy, refusals, coverage, time and memory."""
    if output is not None:
        check_folder(output)
    elif resume:
        raise WriteError("--resume: there is nothing to go on from; give the DIR of the interrupted run with -o")
    from avfuse.evaluation import evaluate as evaluate_methods

    try:
        with progress_bar() as progress:
            found = evaluate_methods(
                cases, methods or None, folder=output, resume=resume, fresh=not together, cycles=cycles,
                processes=processes, time_limit=time_limit, memory_limit=memory_limit, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        if output is not None:
            say(f"finished cases are kept in {output}; go on with --resume")
        raise
    if output is not None:
        for path in found.save(output):
            say(f"wrote {path}")
    with printing():
        if as_json:
            print_json(found.to_json())
        else:
            from avfuse.reporting.evaluation import print_evaluation

            print_evaluation(found, sys.stdout)
    return DONE
