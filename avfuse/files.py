"""Outputs that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from avfuse.errors import ReadError, WriteError

# What an operating system says of the place and not of the program: full, over quota, too big, read-only, broken.
FAULTS_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    The temporary name keeps the suffix, since writers choose their format by it. A link is written through;
    a device or a pipe, such as /dev/stdout, has nothing to replace and is yielded as it is.
    Raises WriteError where the folder does not exist, cannot be written to, or the disk is full.
    """
    target = _check_place(path)
    if _is_special(target):
        yield target
        return
    temporary = _temporary(target)
    # Made inside: an interrupt right after it must not leave it behind.
    try:
        _make(temporary, target, path)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        ours = error.filename is not None and Path(os.fsdecode(error.filename)) == temporary
        if ours or error.errno in FAULTS_OF_THE_DISK:
            raise WriteError(f"{path}: cannot be written ({error.strerror})") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise WriteError now, before long work, where `replacing(path)` would raise it after."""
    target = _check_place(path)
    if not _is_special(target):
        temporary = _temporary(target)
        _make(temporary, target, path)
        temporary.unlink()


def check_spares(path: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str] | None]) -> None:
    """Raise WriteError where writing `path` would replace one of the files that were read."""
    for source in sources:
        if source is not None and os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise WriteError(f"{path}: is one of the recordings; choose another name to write to")


def read_toml(path: str | os.PathLike[str], what: str, hint: str) -> dict[str, Any]:
    """A document of TOML. what, hint: for messages, "a recipe" and where one comes from. Raises ReadError."""
    file = Path(path)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReadError(f"{file}: no such file; expected {what}{hint}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"{file}: cannot be read as TOML ({error}); expected {what}") from error


def for_ffmpeg(path: str) -> str:
    """`path` so that FFmpeg takes it for a file: it would read 12:30.wav as an address of the protocol "12"."""
    return os.path.abspath(path) if ":" in path else path


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise WriteError where `path` is no folder that files can be written to and cannot become one."""
    folder = Path(path)
    present = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
    if not os.path.isdir(present):
        raise WriteError(f"{folder}: {present} is a file; expected a folder to write to")
    if not os.access(present, os.W_OK | os.X_OK):
        raise WriteError(f"{folder}: {present} cannot be written to; choose a folder that you may write to")


def _check_place(path: str | os.PathLike[str]) -> Path:
    """`path` with its links followed. Raises WriteError where no file can be there."""
    target = Path(os.path.realpath(path))
    if os.path.isdir(target):
        raise WriteError(f"{path}: is a folder; expected a file name to write to")
    if not os.path.isdir(target.parent):
        raise WriteError(f"{path}: folder {Path(path).parent} does not exist; make it or choose another")
    return target


def _is_special(target: Path) -> bool:
    return os.path.exists(target) and not os.path.isfile(target)


def _temporary(target: Path) -> Path:
    # Without the stem: a name that just fits must not be too long for want of a few letters more.
    return target.with_name(f".{secrets.token_hex(4)}.part{target.suffix}")


def _make(temporary: Path, target: Path, path: str | os.PathLike[str]) -> None:
    """A new empty file beside `target`."""
    try:
        with suppress(FileNotFoundError):
            os.lstat(target)  # too long a name is told here: the temporary one is short
        with temporary.open("xb"):
            pass
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error
