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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avfuse import __version__
from avfuse.console import print_json, printing, progress_bar, say
from avfuse.errors import AvfuseError, ReadError, StreamError, WeakAlignmentError, WriteError
from avfuse.files import FAULTS_OF_THE_DISK, check_folder, check_spares, check_writable

if TYPE_CHECKING:
    from avfuse.alignment import Alignment
    from avfuse.stream import Recording, Stream

DONE, FAULT, USAGE, DOUBTFUL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
REPORT_TO = "https://github.com/avfuse/avfuse/issues"

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


@app.command()
def register(
    reference: Annotated[str, typer.Argument(metavar="REF", help="The image, or a video's first picture.")],
    moving: Annotated[str, typer.Argument(metavar="MOVING", help="What is brought onto it.")],
    model: Annotated[
        str,
        typer.Option(metavar="KIND", help="translation, rigid, similarity, affine or homography."),
    ] = "similarity",
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the JSON.")] = None,
    warp: Annotated[
        Path | None, typer.Option("--warp", metavar="FILE", help="Write MOVING as REF's frame shows it: .png, .tif.")
    ] = None,
) -> int:
    """Tell which map of pixels brings one image onto another, also of cameras that see differently."""
    from avfuse.alignment import json_text
    from avfuse.files import replacing
    from avfuse.io.images import check_image, read_image, write_image
    from avfuse.reporting.registration import names_of, print_registration, registration_to_json
    from avfuse.spatial.images.registration import register_images

    for out in (output, warp):
        if out is not None:
            check_spares(out, [reference, moving])
            check_writable(out)
    if output is not None and warp is not None and os.path.realpath(output) == os.path.realpath(warp):
        raise WriteError(f"{output}: is given both for the JSON and for the image; choose two names")
    if warp is not None:
        check_image(warp)
    images = read_image(reference), read_image(moving)
    found = register_images(*images, model=model)  # type: ignore[arg-type]
    document = registration_to_json(found, *names_of(reference, moving))
    if output is not None:
        with replacing(output) as temporary:
            temporary.write_text(json_text(document) + "\n", encoding="utf-8")
    if warp is not None and found.status == "aligned":
        from avfuse.warping import warp as warp_image

        height, width = images[0].shape[:2]
        write_image(warp, warp_image(images[1], found.transform, (width, height)).filled(0))
        say(f"wrote {warp}")
    elif warp is not None:
        say(f"{warp}: not written, for nothing is aligned")
    with printing():
        if as_json:
            print_json(document)
        else:
            print_registration(found, reference, moving, images[1].shape[:2], sys.stdout)
    return DONE if found.status == "aligned" else DOUBTFUL


@app.command()
def locate(
    recording: Annotated[str, typer.Argument(metavar="RECORDING", help="Sound of an array, a channel a microphone.")],
    array: Annotated[
        Path,
        typer.Option("--array", metavar="GEOMETRY", help="Where its microphones are: x, y, z in metres, .csv, .json."),
    ],
    as_json: AsJson = False,
    camera: Annotated[
        Path | None,
        typer.Option(metavar="CAMERA", help="JSON of the camera, its pose T_camera_array: pixels of the sources, too."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Film of that camera, on the recording's clock; else the recording's own."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write .mp4 or .mkv: sound on the picture, or on a map.")
    ] = None,
    most: Annotated[int, typer.Option(metavar="N", min=1, max=8, help="Sources at most.")] = 4,
    temperature: Annotated[
        float, typer.Option(metavar="C", min=-40.0, max=60.0, help="Of the air, for the speed of sound.")
    ] = 20.0,
    distance: Annotated[
        tuple[float, float], typer.Option(metavar="NEAR FAR", help="Metres of the sources: parallax to the camera.")
    ] = (0.5, 10.0),
    facing: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="X Y Z", help="Side of a flat array on which the sources are; the camera's, or up."),
    ] = None,
) -> int:
    """Tell where the sound comes from, as an array of microphones hears it."""
    from avfuse.locating import check_video, locate_recording, print_located

    if video is not None:
        check_video(video)
        check_spares(video, [recording, array, camera, picture])
        check_writable(video)
    if picture is not None and camera is None:
        raise StreamError("--picture: needs --camera, which says how the array stands to it")
    found = locate_recording(
        recording, array, camera=camera, film=picture, most=most, temperature=temperature, distance=distance,
        facing=facing,
    )  # fmt: skip
    if video is not None and found.write_video(video):
        say(f"wrote {video}")
    with printing():
        if as_json:
            print_json(found.to_json())
        else:
            print_located(found, sys.stdout)
    return DONE if found.sources.status == "located" else DOUBTFUL


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
