"""A pair through audalign's recognisers with their own settings: `fingerprints` (its default) or `correlation`."""

import sys

import audalign
from loop import answer

RECOGNISERS = {"fingerprints": audalign.FingerprintRecognizer, "correlation": audalign.CorrelationRecognizer}


def align(reference, moving):
    recogniser = RECOGNISERS[sys.argv[4]]()
    # Processes of its own would not pay for two files.
    recogniser.config.multiprocessing = False
    found = audalign.recognize(moving, reference, recognizer=recogniser)
    if not found or not found.get("match_info"):
        return None, False, None
    (name, match), *_ = found["match_info"].items()
    rank = found["rankings"]["match_info"][name]
    return match["offset_seconds"][0], rank >= 7, float(rank)


answer(align)
