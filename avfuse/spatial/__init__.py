"""Where things are: correspondences, transforms between frames of space, sound on pixels.

Estimators of two inputs take `(reference, moving)` and return a TransformEstimate, moving -> reference.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avfuse.spatial.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'avfuse.spatial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
