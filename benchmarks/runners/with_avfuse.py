"""Pairs through `avfuse.align`."""

from loop import answer_all

import avfuse


def align(reference, moving):
    alignment = avfuse.align([reference, moving], reference=reference)
    (clock,) = [c for name, c in alignment.clocks.items() if name != alignment.reference]
    guesses = [(c.offset, c.drift) for c in clock.candidates]
    found = {"confidence": clock.confidence, "guesses": guesses, "reason": clock.message or ""}
    if clock.status != "aligned":
        return found | {"reason": f"{clock.status}: {clock.message}"}
    return found | {
        "offset": clock.offset,
        "drift": clock.drift,
        "trusted": True,
        "std": clock.std,
        "score": clock.confidence,
    }


answer_all(align)
