"""Pairs through audalign's recognisers with their own settings: `fingerprints` (its default) or `correlation`."""

import sys

import audalign
from loop import answer_all

RECOGNISERS = {"fingerprints": audalign.FingerprintRecognizer, "correlation": audalign.CorrelationRecognizer}


def align(reference, moving):
    recogniser = RECOGNISERS[sys.argv[3]]()
    # Processes of its own would not pay for two files.
    recogniser.config.multiprocessing = False
    found = audalign.recognize(moving, reference, recognizer=recogniser)
    if not found or not found.get("match_info"):
        return {"reason": "no match"}
    (name, match), *_ = found["match_info"].items()
    rank = found["rankings"]["match_info"][name]
    return {"offset": float(match["offset_seconds"][0]), "trusted": rank >= 7, "score": float(rank)}


answer_all(align)
