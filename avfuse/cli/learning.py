"""Commands that learn from events, and decide on others."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from avfuse.cli.options import DONE, DOUBTFUL, AsJson, app
from avfuse.console import print_json, printing, progress_bar, say
from avfuse.errors import StreamError


@app.command()
def train(
    configuration: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML of the data, the network and the training.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder of the model; `model` beside CONFIG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from where the run in DIR was stopped.")] = False,
    example: Annotated[
        Path | None, typer.Option("--example", metavar="DIR", help="Write a configuration and raw recordings to try.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the example's recordings.")] = 0,
) -> int:
    """Align labelled events, and train a network that fuses them."""
    if example is not None:
        from avfuse.simulation.takes import write_example

        if configuration is not None:
            raise StreamError(f"{configuration}: is given beside --example, which writes one; expected one of the two")
        with progress_bar() as progress:
            config, unseen = write_example(example, seed=seed, tell=progress)
        say(f"wrote {config}, and {len(unseen)} events that it does not learn from below {example / 'unseen'}")
        with printing():
            print(f"avfuse train {config}\navfuse predict {example / 'model'} {' '.join(map(str, unseen[0]))}")
        return DONE
    if configuration is None:
        raise StreamError("CONFIG: is missing; expected a TOML file, or --example DIR, which writes one")
    _needs_torch()
    from avfuse.nn.configuration import load_configuration
    from avfuse.nn.training import train as run

    folder = configuration.parent / "model" if output is None else output
    with progress_bar() as progress:
        trained = run(load_configuration(configuration), folder, resume=resume, tell=progress)
    if not trained.is_main:
        return DONE
    for line in trained.left_out:
        say(line)
    with printing():
        print(f"best of {trained.epochs} epochs: {trained.best}")
        for split, scores in trained.scores.items():
            print(f"{split:<10} " + "   ".join(f"{name} {value:.4g}" for name, value in scores.items()))
        print(f"wrote {trained.model}")
    return DOUBTFUL if trained.left_out else DONE


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="As `avfuse train` wrote it: a file or its folder.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Recordings, called after their roles, or ROLE=PATH; one event for each folder."
        ),
    ],
    as_json: AsJson = False,
) -> int:
    """Align files that a model has not seen, and tell what it makes of them."""
    _needs_torch()
    from avfuse.nn.prediction import events_of, load_model, to_json
    from avfuse.nn.prediction import predict as run
    from avfuse.reporting.predictions import print_predictions

    loaded = load_model(model)
    predictions = run(loaded, events_of(files, loaded.configuration.roles))
    with printing():
        if as_json:
            print_json(to_json(str(model), predictions))
        else:
            print_predictions(predictions, sys.stdout)
    return DONE if all(prediction.complete for prediction in predictions) else DOUBTFUL


def _needs_torch() -> None:
    # Threads of OpenMP that wait for one another by spinning take the cores that others want: beside one busy process,
    # training then takes twice as long. It is read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import avfuse.nn  # noqa: F401
    except ImportError as error:
        raise StreamError(str(error)) from error
