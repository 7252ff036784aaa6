"""Files here or elsewhere: a folder, or any address that fsspec knows ("s3://bucket/data", "memory://x")."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from avfuse.errors import ReadError, WriteError
from avfuse.files import check_folder
from avfuse.manifests.places import file_system, is_url, without_file_scheme

ASIDE = ".parts"  # folder of what is not finished


def fetched(path: str, folder: Path) -> str:
    """The path itself, or a copy in `folder` of what lies elsewhere. Raises ReadError where that cannot be had."""
    if not is_url(path):
        return path
    system, inside = file_system(path)
    target = folder / f"fetched-{len(os.listdir(folder))}" / os.path.basename(inside)
    target.parent.mkdir(parents=True)
    try:
        system.get_file(inside, str(target))
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file; expected a recording") from None
    except Exception as error:  # whatever a remote store raises
        raise ReadError(f"{path}: cannot be fetched ({type(error).__name__}: {error})") from error
    return str(target)


class Store:
    """A folder that files are written to, whole or not at all; names are relative, with slashes."""

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.place = without_file_scheme(os.fspath(place))
        self._remote: Any = None
        if is_url(self.place):
            self._remote, self._root = file_system(self.place)
        else:
            self._root = self.place

    def prepare(self) -> None:
        """Raises WriteError where nothing can be written."""
        if self._remote is None:
            check_folder(self._root)
            try:
                os.makedirs(self._root, exist_ok=True)
            except OSError as error:
                raise WriteError(f"{self._root}: cannot be made ({error.strerror})") from error

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Nobody else does the same here meanwhile. name: of a file that stands for it.

        Raises WriteError where somebody does; stores elsewhere have no such locks.
        """
        if self._remote is not None:
            yield
            return
        import fcntl

        with self._telling(name):
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            file = open(self.path(name), "wb")  # noqa: SIM115  (held until the end; who is killed lets it go)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WriteError(f"{self.place}: another `avfuse prepare` is at work here; wait for it") from None
            except OSError:
                pass  # a file system without locks
            yield

    def path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        try:
            if self._remote is None:
                return os.path.getsize(self.path(name))
            return int(self._remote.size(self.path(name)) or 0)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder, sorted; none where it is not there."""
        try:
            if self._remote is None:
                return sorted(os.listdir(self.path(folder)))
            return sorted(str(found).rpartition("/")[2] for found in self._remote.ls(self.path(folder), detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with (self._remote.open if self._remote is not None else open)(self.path(name), "rb") as file:
            yield file

    def read(self, name: str) -> bytes:
        with self.reading(name) as file:
            return file.read()

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file that is there, under its name, once the block has ended well. Raises WriteError for a full disk."""
        if self._remote is None:
            yield from self._local(name)
            return
        with tempfile.TemporaryDirectory(prefix="avfuse-") as folder:
            local = Path(folder) / "file"
            with local.open("wb") as file:
                yield file
            try:
                self._remote.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
                # Under its own name at once: stores of objects show nothing of what is not whole.
                self._remote.put_file(str(local), self.path(name))
            except OSError as error:
                raise WriteError(f"{self.place}/{name}: cannot be written ({error})") from error

    def _local(self, name: str) -> Iterator[IO[bytes]]:
        # Aside, so that what is killed leaves nothing beside what is whole.
        temporary = Path(self.path(f"{ASIDE}/{secrets.token_hex(8)}.tmp"))
        try:
            with self._telling(name):
                os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
                temporary.parent.mkdir(parents=True, exist_ok=True)
                file = _Written(temporary, self.path(name))
            # Not told here: what whoever writes finds elsewhere, such as in recordings on a broken disk.
            with io.BufferedWriter(file) as buffered:
                yield buffered
            with self._telling(name):
                temporary.replace(self.path(name))
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """What the file system says as one line."""
        try:
            yield
        except OSError as error:
            raise WriteError(f"{self.path(name)}: cannot be written ({error.strerror})") from error

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as file:
            file.write(data)

    def remove(self, name: str) -> None:
        """A file or a folder with all that is in it; nothing where it is not there."""
        if self._remote is not None:
            if self._remote.exists(self.path(name)):
                self._remote.rm(self.path(name), recursive=True)
        elif os.path.isdir(self.path(name)):
            shutil.rmtree(self.path(name))
        elif os.path.exists(self.path(name)):
            os.unlink(self.path(name))


class _Written(io.FileIO):
    """A new file; a full disk is a WriteError. name: what it will be."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path, "xb")
        self._told = name

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise WriteError(f"{self._told}: cannot be written ({error.strerror}); make room") from error
