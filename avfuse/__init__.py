"""avfuse: recordings of one event on one timeline and in one frame of space, with honest uncertainty.

    import avfuse
    alignment = avfuse.align(["cam.mp4", "recorder.wav"])
    print(alignment)

Two-input estimators take `(reference, moving)` and map moving -> reference: t_ref = offset + (1 + drift) * t.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Loaded when first asked for, so that `import avfuse` stays quick.
_HOMES = {
    "align": "avfuse.aligning",
    "Alignment": "avfuse.alignment",
    "Candidate": "avfuse.alignment",
    "ClockEdge": "avfuse.alignment",
    "ClockEstimate": "avfuse.alignment",
    "load_alignment": "avfuse.alignment",
    "Batch": "avfuse.batches",
    "Samples": "avfuse.batches",
    "Window": "avfuse.batches",
    "collate": "avfuse.batches",
    "windows": "avfuse.batches",
    "check": "avfuse.checking",
    "SyncCheck": "avfuse.checking",
    "ClockMap": "avfuse.clock",
    "PiecewiseClock": "avfuse.clock",
    "Segment": "avfuse.clock",
    "WarpPath": "avfuse.clock",
    "AvfuseError": "avfuse.errors",
    "ReadError": "avfuse.errors",
    "StreamError": "avfuse.errors",
    "WeakAlignmentError": "avfuse.errors",
    "WriteError": "avfuse.errors",
    "evaluate": "avfuse.evaluation",
    "Evaluation": "avfuse.evaluation",
    "inspect": "avfuse.io",
    "read": "avfuse.io",
    "prepare": "avfuse.preparation",
    "Prepared": "avfuse.preparation",
    "Recipe": "avfuse.preparation",
    "render": "avfuse.rendering",
    "simulate": "avfuse.simulation",
    "Recording": "avfuse.stream",
    "Stream": "avfuse.stream",
    "Affine": "avfuse.transform",
    "Camera": "avfuse.transform",
    "Essential": "avfuse.transform",
    "Fundamental": "avfuse.transform",
    "Homography": "avfuse.transform",
    "Rigid": "avfuse.transform",
    "Similarity": "avfuse.transform",
    "TransformEstimate": "avfuse.transform_estimate",
}
_ROOMS = ("temporal", "spatial", "io", "evaluation", "metrics", "nn", "preparation")
__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604

if TYPE_CHECKING:
    from avfuse.aligning import align as align
    from avfuse.alignment import Alignment as Alignment
    from avfuse.alignment import Candidate as Candidate
    from avfuse.alignment import ClockEdge as ClockEdge
    from avfuse.alignment import ClockEstimate as ClockEstimate
    from avfuse.alignment import load_alignment as load_alignment
    from avfuse.batches import Batch as Batch
    from avfuse.batches import Samples as Samples
    from avfuse.batches import Window as Window
    from avfuse.batches import collate as collate
    from avfuse.batches import windows as windows
    from avfuse.checking import SyncCheck as SyncCheck
    from avfuse.checking import check as check
    from avfuse.clock import ClockMap as ClockMap
    from avfuse.clock import PiecewiseClock as PiecewiseClock
    from avfuse.clock import Segment as Segment
    from avfuse.clock import WarpPath as WarpPath
    from avfuse.errors import AvfuseError as AvfuseError
    from avfuse.errors import ReadError as ReadError
    from avfuse.errors import StreamError as StreamError
    from avfuse.errors import WeakAlignmentError as WeakAlignmentError
    from avfuse.errors import WriteError as WriteError
    from avfuse.evaluation import Evaluation as Evaluation
    from avfuse.evaluation import evaluate as evaluate
    from avfuse.io import inspect as inspect
    from avfuse.io import read as read
    from avfuse.preparation import Prepared as Prepared
    from avfuse.preparation import Recipe as Recipe
    from avfuse.preparation import prepare as prepare
    from avfuse.rendering import render as render
    from avfuse.simulation import simulate as simulate
    from avfuse.stream import Recording as Recording
    from avfuse.stream import Stream as Stream
    from avfuse.transform import Affine as Affine
    from avfuse.transform import Camera as Camera
    from avfuse.transform import Essential as Essential
    from avfuse.transform import Fundamental as Fundamental
    from avfuse.transform import Homography as Homography
    from avfuse.transform import Rigid as Rigid
    from avfuse.transform import Similarity as Similarity
    from avfuse.transform_estimate import TransformEstimate as TransformEstimate


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"avfuse.{name}")
    raise AttributeError(f"module 'avfuse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
