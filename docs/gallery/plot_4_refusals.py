"""
Refused and ambiguous answers
=============================

A wrong answer stated with confidence costs more than none. Where the sound does not carry an answer, avfuse says why.
"""

import matplotlib.pyplot as plt
import numpy as np

from avfuse import Stream, WeakAlignmentError
from avfuse.simulation import jingle_pair, unrelated_pair
from avfuse.temporal import estimate_clock

RATE = 16000.0
rng = np.random.default_rng(1)

# %%
# Two talks that have nothing to do with each other, and silence:

unrelated = estimate_clock(*unrelated_pair("speech", duration=20.0, rng=3))
silent = estimate_clock(*unrelated_pair("silence", duration=20.0, rng=3))
for estimate in (unrelated, silent):
    print(f"{estimate.status}: {estimate.message}")

# %%
# A refusal has no map. Whoever asks for it all the same is told the reason:

try:
    unrelated.map(10.0)
except WeakAlignmentError as error:
    print(f"WeakAlignmentError: {error}")

# %%
# **Sound that repeats.** A loop of half a second of noise fits at every repeat. The candidates are listed:

bar = rng.standard_normal(round(0.5 * RATE))
loop = np.tile(bar, 24)


def with_noise(sound):
    return Stream.from_samples(0.1 * sound + 0.01 * rng.standard_normal(len(sound)), rate=RATE)


repeating = estimate_clock(with_noise(loop), with_noise(loop[: 16 * len(bar)]))
print(f"{repeating.status}: {repeating.message}")
print("offsets:", ", ".join(f"{c.offset:+.2f}" for c in sorted(repeating.candidates, key=lambda c: c.offset)))

# %%
# A bound on the offset, where one is known, settles it:

settled = estimate_clock(with_noise(loop), with_noise(loop[: 16 * len(bar)]), max_offset=0.2)
print(settled)

# %%
# **Two broadcasts that share a jingle** and nothing else. The jingle matches to the sample, three times two times; but
# the broadcasts are no recordings of one event:

pair = jingle_pair(duration=40.0, rng=4)
broadcast = estimate_clock(pair.reference, pair.moving)
print(f"{broadcast.status}: {broadcast.message}")

# %%
# The probability of each candidate, of the loop and of the broadcasts. None comes near the 0.98 from which on an
# answer is stated (the green line).

fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for ax, title, estimate in zip(axes, ("a loop", "a shared jingle"), (repeating, broadcast), strict=True):
    offsets, sure = zip(*[(c.offset, c.confidence) for c in estimate.candidates], strict=True)
    ax.stem(offsets, sure, basefmt=" ")
    ax.axhline(0.98, color="tab:green", lw=1)
    ax.set(xlabel="offset [s]", title=f"{title}: {estimate.status}", ylim=(0, 1.05))
axes[0].set(ylabel="confidence")
plt.show()
