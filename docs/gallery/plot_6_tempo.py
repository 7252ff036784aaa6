"""
Two takes at different tempo
============================

The same piece, played twice: by another instrument, in another room, now faster and now slower. No clock explains that;
`avfuse.temporal.estimate_warp` finds the elastic map. :doc:`/warp` tells how.
"""

import matplotlib.pyplot as plt
import numpy as np

from avfuse.simulation.performances import simulate_performances
from avfuse.temporal import estimate_warp

pair = simulate_performances(30.0, np.random.default_rng(1))  # tempo 0.7 to 1.4
found = estimate_warp(pair.reference, pair.moving)
print(f"{found.status}, right with probability {found.confidence:.3f}")

# %%
# The map takes seconds of one take to those of the other, knows the tempo, and says at every time how likely it is to
# be within 50 ms:

times = np.array([5.0, 15.0, 25.0])
print("reference", found.map(times).round(3))
print("truth    ", pair.truth(times).round(3))
print("tempo    ", found.map.tempo(times).round(2))
print("sure     ", found.map.confidence_at(times).round(3))

# %%
# The other direction is the inverse:

print(found.map.inverse()(found.map(times)))

# %%
# How much of the time the map is farther off than 50 ms, beside what it states. One pair says little about a
# probability; over many the two agree.

times = np.linspace(*found.map.span, 600)
error = found.map(times) - pair.truth(times)
print(f"off by more than 50 ms {np.mean(np.abs(error) > 0.05):.1%} of the time, ", end="")
print(f"stated {np.mean(1 - found.map.confidence_at(times)):.1%}; median error {1e3 * np.median(np.abs(error)):.1f} ms")

# %%
# The tempo that was found beside the one that was played, and the error of the map. Between onsets it is only as good
# as the tempo is smooth.

step = 0.5
played = (pair.truth(times + step / 2) - pair.truth(times - step / 2)) / step
heard = (found.map(times + step / 2) - found.map(times - step / 2)) / step
fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
above.plot(times, played, color="0.75", lw=5, label="played")
above.plot(times, heard, color="tab:blue", lw=1.2, label="found")
above.set(ylabel="tempo", title="Reference seconds per second of the moving take")
above.legend(frameon=False, ncols=2)
below.plot(times, 1e3 * error, color="tab:blue")
for height in (-50, 0, 50):
    below.axhline(height, color="0.6", lw=0.8, ls=":" if height else "-", zorder=0)
below.set(xlabel="moving take [s]", ylabel="error of the map [ms]")
plt.show()
