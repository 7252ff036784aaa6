"""What every runner of a peer does: one pair, its time without the start of the process, and an alignment.json.

Standard library only, since it runs inside the peers' environments: RUNNER REFERENCE MOVING OUT [ARGUMENT...].
"""

import contextlib
import json
import os
import sys
import time


def answer(align):
    """align(reference, moving) -> (offset or None, whether its own rule calls that good, score of the rule)."""
    reference, moving, out = sys.argv[1:4]
    # What peers print is no concern here.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        began = time.perf_counter()
        offset, trusted, score = align(reference, moving)
        seconds = time.perf_counter() - began
    found = {"status": "no_match", "source": moving, "message": "no match", "trusted": trusted, "score": score}
    if offset is not None:
        # Peers know no drift, and no length of the file is needed for one line.
        line = {"start": 0.0, "end": 1e6, "offset": float(offset), "drift": 0.0, "std": None, "drift_std": None}
        found |= {"status": "aligned", "segments": [line], "message": None}
    clocks = {"reference": {"status": "reference", "source": reference}, "moving": found}
    document = {"format": "avfuse.alignment/1", "reference": "reference", "clocks": clocks, "seconds": seconds}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(document, file)
