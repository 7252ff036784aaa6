"""A process of the pool: python -m avfuse.preparation.worker; a function, then tasks, come in and results go out."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from contextlib import suppress


def _end_with(parent: int) -> None:
    """Nothing is written any more once whoever asked was killed: somebody may have started again."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def main() -> None:
    """Serve until nobody asks any more."""
    inputs = sys.stdin.buffer
    # Whatever prints to stdout must not end up between results.
    outputs = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from avfuse.preparation.pool import attempt, settle

    settle()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        function = pickle.load(inputs)
        while True:
            result = attempt(function, pickle.load(inputs))
            pickle.dump(result, outputs)
            outputs.flush()
    # Whoever asked may be gone: nothing is left to tidy, and nobody to tell.
    os._exit(0)


if __name__ == "__main__":
    main()
