"""Commands of space: images onto images, sound onto directions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfuse.cli.options import DONE, DOUBTFUL, AsJson, app
from avfuse.console import print_json, printing, say
from avfuse.errors import StreamError, WriteError
from avfuse.files import check_spares, check_writable

if TYPE_CHECKING:
    pass


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
