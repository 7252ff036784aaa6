"""What a process of the pool does: a function, then tasks, come in and results go out."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import time
from contextlib import suppress
from typing import IO


def serve(tasks: IO[bytes], results: IO[bytes], parent: int, folder: str) -> None:
    """Serve until nobody asks any more. parent: the process that asks. folder: this process's own, for what is
    temporary.
    """
    from avfuse.preparation.pool import attempt

    threading.Thread(target=_end_with, args=(parent, folder), daemon=True).start()
    with suppress(EOFError, OSError):
        function = pickle.load(tasks)
        _settle()
        _send(results, None)  # it can work
        while True:
            _send(results, attempt(function, pickle.load(tasks)))
    # Whoever asked may be gone.
    _end(folder)


def _send(results: IO[bytes], found: object) -> None:
    pickle.dump(found, results)
    results.flush()


def _settle() -> None:
    """What the environment cannot tell to libraries that are loaded: one thread."""
    import cv2

    cv2.setNumThreads(1)


def _end_with(parent: int, folder: str) -> None:
    """Nothing is written any more once whoever asked was killed: somebody may have started again."""
    while os.getppid() == parent:
        time.sleep(0.1)
    _end(folder)


def _end(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
