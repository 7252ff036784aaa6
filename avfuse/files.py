"""Outputs that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfuse.errors import WriteError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffix, since writers choose their format by it.
    Raises WriteError where the folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise WriteError(f"{target}: is a folder; expected a file name to write to")
    if not target.parent.is_dir():
        raise WriteError(f"{target}: folder {target.parent} does not exist; make it or choose another")
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        with temporary.open("xb"):
            pass
    except OSError as error:
        raise WriteError(
            f"{target}: cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) == temporary:
            raise WriteError(f"{target}: cannot be written ({error.strerror})") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
