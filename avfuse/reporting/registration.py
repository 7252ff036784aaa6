"""What `avfuse register` says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from avfuse.transform import Homography
from avfuse.transform_estimate import TransformEstimate


def names_of(reference: str, moving: str) -> tuple[str, str]:
    """The files' stems; where these are equal their names, then with a number."""
    for one, two in ((Path(reference).stem, Path(moving).stem), (Path(reference).name, Path(moving).name)):
        if one != two:
            return one, two
    return Path(reference).name, f"{Path(moving).name}-2"


def registration_to_json(found: TransformEstimate, reference: str, moving: str) -> dict[str, Any]:
    entry = found.to_json(reference, moving)
    return {"format": "avfuse.transform/1", "transforms": {f"{moving}->{reference}": entry}}


def print_registration(
    found: TransformEstimate, reference: str, moving: str, shape: tuple[int, int], out: TextIO
) -> None:
    """shape: height and width of the moving image."""
    out.write(f"{moving} onto {reference}: {found.status}\n")
    if found.message:
        out.write(f"  {found.message}\n")
    if not isinstance(found.answer, Homography):
        return
    seen, matrix = found.diagnostics, found.answer.matrix
    middle = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    away = found.answer(middle) - middle
    turn = math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    out.write(
        f"  {found.answer.kind}: the middle moves by {away[0]:+.2f}, {away[1]:+.2f} pixels; turned by {turn:+.3f} "
        f"degrees, scaled by {scale:.4f}; corners ± {seen['corner_std']:.2g} pixels\n"
    )
    out.write(f"  {seen['near']} of {seen['tiles']} tiles fit where they lie; confidence {found.confidence:.3f}\n")
    for row in matrix:
        out.write("  " + "  ".join(f"{v:>14.8g}" for v in row) + "\n")
