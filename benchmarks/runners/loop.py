"""What every runner does: read pairs, time the answers, write them one by one. Standard library only, since
it runs inside the peers' environments; benchmarks.peers.Answer says what the fields mean."""

import contextlib
import json
import math
import os
import sys
import time


def answer_all(align):
    """align(reference, moving) -> dict of the fields of `Answer`, or an exception."""
    questions, target = sys.argv[1:3]
    with open(questions, encoding="utf-8") as file:
        asked = json.load(file)
    with open(target, "w", encoding="utf-8") as answers:
        for k, (reference, moving) in enumerate(asked["pairs"]):
            if k == 0 and asked["warm"]:
                _attempt(align, reference, moving)
            found = _attempt(align, reference, moving)
            found = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in found.items()}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


def _attempt(align, reference, moving):
    began = time.perf_counter()
    # What peers print is no concern here.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            found = align(reference, moving)
        except KeyboardInterrupt:
            raise
        # A peer may leave by SystemExit; whatever it is, it is an answer about this pair.
        except BaseException as error:
            found = {"reason": f"{type(error).__name__}: {error}"[:200]}
    found["seconds"] = time.perf_counter() - began
    return found
