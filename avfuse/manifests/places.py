"""Where manifests and recordings lie: folders of this machine, or URLs that fsspec opens."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avfuse.errors import ReadError


def is_url(path: str) -> bool:
    return "://" in path


def without_file_scheme(path: str) -> str:
    """Of a URL file://..., the path on this machine, which everything else can read; others as they are."""
    return str(file_system(path)[1]) if path.startswith("file://") else path


def folder_of(path: str) -> str:
    if not is_url(path):
        return os.path.dirname(path)
    scheme, _, rest = path.partition("://")
    return f"{scheme}://{posixpath.dirname(rest)}"


def placed(folder: str, given: str) -> tuple[str, str]:
    """A path that is given relative to a folder, absolute, or as a URL: where it is, and how the folder sees it.

    The latter has "/" on every machine; it is absolute, or a URL, where `given` is one that lies elsewhere.
    """
    given = without_file_scheme(given)
    if is_url(given):
        return given, given.removeprefix(f"{folder.rstrip('/')}/")
    if os.path.isabs(given):
        path, around = Path(os.path.normpath(given)), Path(os.path.abspath(folder or "."))
        inside_it = not is_url(folder) and path.is_relative_to(around)
        return str(path), (path.relative_to(around) if inside_it else path).as_posix()
    if is_url(folder):
        scheme, _, rest = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, given))}", posixpath.normpath(given)
    return os.path.normpath(os.path.join(folder, given)), Path(os.path.normpath(given)).as_posix()


def read_bytes(path: str) -> bytes:
    """All of a file. Raises FileNotFoundError where there is none, and ReadError where it cannot be read."""
    if is_url(path):
        with _telling(path):
            system, inner = file_system(path)
            return bytes(system.cat_file(inner))
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ReadError(f"{path}: cannot be read ({error.strerror}); expected a file that you may read") from error


def exists(path: str) -> bool:
    """Whether anything is there."""
    return _kind_at(path) is not None if is_url(path) else os.path.lexists(path)


def is_folder(path: str) -> bool:
    return _kind_at(path) == "directory" if is_url(path) else os.path.isdir(path)


def holds_recording(path: str) -> bool:
    """Whether `avfuse.read` could find a recording there: a file, or a folder that is a ROS bag."""
    return _kind_at(path) == "file" if is_url(path) else os.path.isfile(path) or _is_bag(path)


def recordings_in(folder: str, pattern: str, *, named: bool) -> list[str]:
    """Files, and folders that are ROS bags, below `folder` that a glob finds; relative to it, with "/", sorted.

    named: only what is called as recordings are, and is not hidden.
    """
    if is_url(folder):
        with _telling(folder):
            system, inner = file_system(folder)
            inner = inner.rstrip("/")
            facts = system.glob(f"{inner}/{pattern}", detail=True)
        files = {path[len(inner) + 1 :] for path, told in facts.items() if told["type"] == "file"}
        bags: set[str] = set()
    else:
        names = {name.replace(os.sep, "/") for name in glob.glob(pattern, root_dir=folder or None, recursive=True)}
        paths = {name: os.path.join(folder, name) for name in names}
        bags = {name for name, path in paths.items() if _is_bag(path)}
        # What is in a bag is the bag's.
        in_bags = {place for place in map(os.path.dirname, paths.values()) if _is_bag(place)}
        files = {n for n in names - bags if os.path.dirname(paths[n]) not in in_bags and os.path.isfile(paths[n])}
    if named:
        from avfuse.io.reading import is_named_as_recording

        files = {n for n in files if is_named_as_recording(n) and not any(s.startswith(".") for s in n.split("/"))}
    return sorted(bags | files)


def _is_bag(path: str) -> bool:
    from avfuse.io.reading import format_of

    return bool(path) and os.path.isdir(path) and format_of(path) == "bag"


def _kind_at(url: str) -> str | None:
    """ "file" or "directory"; None where nothing is there."""
    with _telling(url):
        system, inner = file_system(url)
        try:  # not isdir: over HTTP, it takes a file with links in it for a folder
            return str(system.info(inner)["type"])
        except FileNotFoundError:
            return None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system and the path in it. Raises ReadError where it knows none, or a library is not installed."""
    from avfuse.io.sensors.needed import needed

    core = needed("fsspec.core", url, "URLs", extra="scale")
    with _telling(url):
        system, path = core.url_to_fs(url)
    return system, str(path)


@contextmanager
def _telling(url: str) -> Iterator[None]:
    """What goes wrong at a URL as one line; FileNotFoundError is left to the caller, who knows what was expected."""
    try:
        yield
    except (ReadError, FileNotFoundError):
        raise
    except Exception as error:  # drivers raise what they like, and ImportError where they lack a library
        told = " ".join(str(error).split()) or type(error).__name__
        raise ReadError(f"{url}: cannot be opened ({told}); expected a URL that fsspec can read") from error
