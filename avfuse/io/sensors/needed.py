"""Libraries that only some formats need, asked for when such a file is read."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from avfuse.errors import ReadError


def needed(module: str, path: str, what: str, extra: str = "sensors") -> Any:
    """The module. Raises ReadError, with the command that installs it, where it is absent."""
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ReadError(
            f"{path}: reading {what} needs {library}, which is not installed; try pip install 'avfuse[{extra}]'"
        ) from error
