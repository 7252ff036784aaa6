"""
One answer from comparisons that disagree
=========================================

`avfuse.temporal.solve_clocks` takes comparisons of any origin, each a line between two clocks with its covariance, and
finds one consistent clock per recording. Here five recordings are compared by hand, and one comparison is wrong by two
seconds, although it claims to be as good as the others.
"""

import matplotlib.pyplot as plt
import numpy as np

from avfuse import ClockEdge, ClockMap
from avfuse.temporal import solve_clocks

rng = np.random.default_rng(2)
truth = {
    "a": ClockMap(),
    "b": ClockMap(3.0, 20e-6),
    "c": ClockMap(-7.0, -10e-6),
    "d": ClockMap(12.0, 40e-6),
    "e": ClockMap(20.0),
}

# Most certain at 300 s of the moving recording: 0.1 ms, and 0.5 ppm.
back = np.array([[1.0, -300.0], [0.0, 1.0]])
cov = back @ np.diag([1e-4**2, 0.5e-6**2]) @ back.T


def compare(reference, moving, wrong_by=0.0):
    exact = truth[reference].inverse() @ truth[moving]
    offset, drift = rng.multivariate_normal([exact.offset + wrong_by, exact.drift], cov)
    return ClockEdge((reference, "sound"), (moving, "sound"), ClockMap(offset, drift), cov, 0.99, "sound")


edges = [
    compare("a", "b"),
    compare("a", "c"),
    compare("b", "c"),
    compare("b", "d"),
    compare("c", "d", wrong_by=2.0),
    compare("a", "d"),
    compare("d", "e"),
]
clocks = solve_clocks(edges, references=[("a", "sound")])
for (name, _), clock in clocks.items():
    print(f"{name}  {clock}  {clock.confidence:.4f}  {clock.message or ''}")

# %%
# The wrong one was let go and is named. What is left agrees with the truth within two of the stated deviations:

for name in "bcde":
    clock = clocks[name, "sound"]
    error = float(clock.map(300.0) - truth[name](300.0))
    print(f"{name}: off by {1e6 * error:+6.1f} µs, stated ± {1e6 * clock.std_at(300.0):.1f} µs")

# %%
# `e` hangs by one comparison, which nothing confirms, so that its confidence is that of this comparison at most. It is
# less, because one of these comparisons proved wrong that stated 0.99 as well. Had it stated 0.6, `e` would be refused
# and not guessed:

doubtful = [*edges[:-1], ClockEdge(edges[-1].reference, edges[-1].moving, edges[-1].map, cov, 0.6, "sound")]
refused = solve_clocks(doubtful)["e", "sound"]
print(f"{refused.status}, {refused.confidence:.2f}: {refused.message}")

# %%
# What the solution leaves of each comparison, in its own standard deviations:


def residual(edge):
    a, b = clocks[edge.reference].map, clocks[edge.moving].map
    return float((a.inverse() @ b)(300.0) - edge.map(300.0)) / 1e-4


places = dict(zip(truth, [(0, 0), (1, 1), (1, -1), (2, 0), (3.2, 0)], strict=True))
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for edge in edges:
    (x, y), (u, v) = places[edge.reference[0]], places[edge.moving[0]]
    off = residual(edge)
    wrong = abs(off) > 5
    ax.plot([x, u], [y, v], color="tab:red" if wrong else "tab:blue", ls="--" if wrong else "-", lw=1.5, zorder=1)
    ax.text(
        x + 0.6 * (u - x), y + 0.6 * (v - y), f"{off:+.1f}" if not wrong else "wrong", ha="center", va="center",
        fontsize=9, bbox={"fc": "white", "ec": "none", "pad": 1.5},
    )  # fmt: skip
for name, (x, y) in places.items():
    ax.text(x, y, name, ha="center", va="center", bbox={"boxstyle": "circle", "fc": "white", "ec": "0.3"}, zorder=2)
ax.set(xlim=(-0.4, 3.6), ylim=(-1.4, 1.4), title="Comparisons, and what the solution leaves of them")
ax.set_axis_off()
plt.show()
