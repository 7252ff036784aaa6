"""Where things are: correspondences, transforms between frames of space, sound on pixels.

matching    which descriptors belong together: match_descriptors, match_guided

Estimators of two inputs take `(reference, moving)` and return a TransformEstimate, moving -> reference.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avfuse.spatial.matching import Matches as Matches
    from avfuse.spatial.matching import match_descriptors as match_descriptors
    from avfuse.spatial.matching import match_guided as match_guided

# Loaded when first asked for: each is a world of its own.
_HOMES: dict[str, str] = {
    "Matches": "matching",
    "match_descriptors": "matching",
    "match_guided": "matching",
    "JointInformation": "information",
    "information_distance": "information",
    "register_images": "registration",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"avfuse.spatial.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'avfuse.spatial' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
