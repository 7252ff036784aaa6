"""The command that makes training shards of raw recordings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from avfuse.cli.options import DONE, DOUBTFUL, AsJson, app
from avfuse.console import print_json, printing, progress_bar
from avfuse.errors import StreamError

_FORMAT = "avfuse.prepared/1"


@app.command()
def prepare(
    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST", help="JSON lines, CSV or Parquet; a folder; or a pattern: 'data/{event}/{role}.mp4'."
        ),
    ],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Folder of the shards, or its address.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML of everything below, and more; options go before it.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(metavar="S", help="Of each window; without it, an event is one sample.")
    ] = None,
    hop: Annotated[float | None, typer.Option(metavar="S", help="From one window to the next; end to end.")] = None,
    timeline: Annotated[str | None, typer.Option(help="intersection (all streams are there) or union (any).")] = None,
    streams: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            metavar="NAME=ROLE/STREAM[,...]",
            help="Of each modality, the first that is aligned; all streams.",
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of pictures; as recorded.")] = None,
    fit: Annotated[str | None, typer.Option(help="Pictures of another shape: stretch, crop or pad.")] = None,
    fps: Annotated[float | None, typer.Option(metavar="HZ", help="Of pictures; every frame at its own time.")] = None,
    sound_rate: Annotated[float | None, typer.Option(metavar="HZ", help="Of sound; as recorded.")] = None,
    mono: Annotated[bool, typer.Option("--mono", help="Mix the channels of sound.")] = False,
    transforms: Annotated[
        list[str] | None,
        typer.Option("--transform", metavar="NAME=MODULE:FUNCTION", help="Store what a function makes of a modality."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="webdataset or parquet.")] = None,
    shard: Annotated[int | None, typer.Option(metavar="N", help="Samples in each file; 1000.")] = None,
    validation: Annotated[float | None, typer.Option(metavar="SHARE", help="Of events, for validation; 0.")] = None,
    test: Annotated[float | None, typer.Option(metavar="SHARE", help="Of events, for tests; 0.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice of events for these.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option(metavar="P", help="Least probability that a clock is right; 0.95.")
    ] = None,
    max_offset: Annotated[float | None, typer.Option(metavar="S", help="That recordings start apart at most.")] = None,
    spacing: Annotated[float | None, typer.Option(metavar="M", help="That devices stood apart at most; 0.")] = None,
    lacking: Annotated[str | None, typer.Option(help="Windows without an asked stream: drop or keep.")] = None,
    unsure: Annotated[str | None, typer.Option(help="In sync or not is unknown: drop or keep (default).")] = None,
    damaged: Annotated[str | None, typer.Option(help="Files that are damaged or cut short: drop or keep.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not check sound against picture.")] = False,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes at once; one for each core.")] = None,
    engine: Annotated[str, typer.Option(help="pool, or ray.")] = "pool",
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of a running Ray cluster; else Ray starts here.")
    ] = None,
    retries: Annotated[int, typer.Option(metavar="N", help="Of an event whose process died.")] = 2,
    memory: Annotated[float, typer.Option(metavar="GIB", help="That each process may take.")] = 4.0,
    time_limit: Annotated[float | None, typer.Option(metavar="S", help="For an event.")] = None,
    dry_run: Annotated[
        int, typer.Option("--dry-run", metavar="N", help="Tell what would be done to N samples, and write nothing.")
    ] = 0,
    as_json: AsJson = False,
) -> int:
    """Turn raw recordings into synchronised, windowed, filtered, documented shards."""
    from avfuse.preparation import Recipe, load_recipe
    from avfuse.preparation import prepare as run
    from avfuse.preparation.recipe import with_values
    from avfuse.reporting.preparing import print_prepared

    if output is None and not dry_run:
        raise StreamError("--output: is missing; expected -o DIR, or --dry-run N, which writes nothing")
    told = with_values(
        load_recipe(recipe) if recipe is not None else Recipe(),
        {
            "duration": duration, "hop": hop, "timeline": timeline,
            "streams": _pairs("--stream", streams, several=True),
            "picture.size": _size(size), "picture.fit": fit, "picture.rate": fps, "sound.rate": sound_rate,
            "sound.mono": mono or None, "transforms": _pairs("--transform", transforms), "format": format,
            "shard": shard, "validation": validation, "test": test, "seed": seed,
            "limits.confidence": min_confidence, "max_offset": max_offset, "spacing": spacing,
            "limits.lacking": lacking, "limits.unsure": unsure, "limits.damaged": damaged,
            "limits.sync": False if no_check else None,
        },
    )  # fmt: skip
    with progress_bar() as progress:
        found = run(
            manifest, output or "", told, workers=workers, engine=engine,  # type: ignore[arg-type]  # checked there
            ray_address=ray_address, retries=retries, memory=memory, time_limit=time_limit, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip
    with printing():
        if as_json:
            print_json(
                {
                    "format": _FORMAT,
                    "output": output,
                    "splits": found.splits,
                    "decisions": found.decisions,
                    "errors": list(found.errors),
                    "shards": [vars(one) for one in found.shards],
                    "rows": list(found.rows),
                }
            )
        else:
            print_prepared(found, sys.stdout)
    return DOUBTFUL if found.errors or found.decisions.get("drop") else DONE


def _pairs(option: str, given: Sequence[str] | None, several: bool = False) -> Mapping[str, Any] | None:
    """NAME=VALUE, again and again."""
    if not given:
        return None
    found: dict[str, Any] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not (mark and name and value):
            raise StreamError(f"{option} {text!r}; expected NAME=VALUE")
        found[name] = tuple(value.split(",")) if several and "," in value else value
    return found


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise StreamError(f"--size {text!r}; expected WIDTHxHEIGHT in pixels, such as 256x256")
    return int(match[2]), int(match[1])
