"""Files through `avfuse.align`: with the scores that led to a refusal, or told how far devices stood apart."""

import math
from dataclasses import replace

import avfuse

SCORES = ("peak", "share", "match")
SPACING = 10.0  # metres


def align_with_scores(files):
    """Refusals carry what they were decided by."""
    found = avfuse.align(files, reference=files[0])
    facts = dict(found.facts)
    for name, clock in found.clocks.items():
        scores = {key: float(clock.diagnostics[key]) for key in SCORES if key in clock.diagnostics}
        known = {key: score for key, score in scores.items() if math.isfinite(score)}
        facts[name] = replace(facts[name], extra={"scores": known})
    return replace(found, facts=facts)


def align_apart(files):
    """Devices that stood up to 10 m apart."""
    return avfuse.align(files, reference=files[0], spacing=SPACING)
