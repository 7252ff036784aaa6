"""
Your method beside avfuse
=========================

`avfuse.evaluate` asks methods about recordings whose truth is known. A method is any function from files to an
`Alignment`; here it is ten lines of correlation. :doc:`/evaluate` tells what is measured.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import avfuse
from avfuse.metrics import TOLERANCES


def by_envelope(files):
    """Offsets against the first file from the loudness of every 10 ms."""
    loudness = []
    for file in files:
        sound = np.concatenate([block.mean(axis=0) for _, block in avfuse.read(file)["sound"].blocks(10.0, 8000.0)])
        frames = np.sqrt((sound[: len(sound) // 80 * 80].reshape(-1, 80) ** 2).mean(axis=1))
        loudness.append(frames - frames.mean())
    lags = [np.argmax(np.correlate(loudness[0], other, mode="full")) - (len(other) - 1) for other in loudness]
    return avfuse.Alignment.from_maps({f: avfuse.ClockMap(0.01 * n) for f, n in zip(files, lags, strict=True)})


# %%
# Six pairs in rooms, in noise as loud as the sound, and two pairs that share nothing and must be refused. They are
# simulated when they are needed. Functions without a name are asked here and now; one that is named, as a string or by
# its `def`, has a process of its own for each case, which also tells its memory.

cases = [
    {"name": f"{kind} {k}", "group": kind, "simulate": {
        "pair": "related", "kind": kind, "room": "near", "overlap": 15.0, "snr_db": 0.0, "drift_ppm": 40.0, "seed": k,
    }}
    for kind in ("speech", "music") for k in range(3)
] + [
    {"name": f"strangers {k}", "group": "strangers", "simulate": {
        "pair": "unrelated", "kind": "speech", "duration": 15.0, "seed": k,
    }}
    for k in range(2)
]  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "cases.json"
    file.write_text(json.dumps({"format": "avfuse.cases/1", "cases": cases}))
    evaluation = avfuse.evaluate(
        file,
        {
            "avfuse": lambda files: avfuse.align(files, reference=files[0]),
            "envelope": lambda files: by_envelope(files),
        },
    )

# %%
# Printing it gives all tables; here are two of them. Figures of so few cases have wide intervals, and say so.

for table in evaluation.tables()[1:3]:
    print(table.text(), end="\n\n")

# %%
# The strangers are what tells the two apart: avfuse refuses them, a bare correlation always finds something.
#
# Shares of pairs within each tolerance, with their intervals:

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for k, method in enumerate(evaluation.methods):
    figures = evaluation.summary(method).success
    x = np.arange(len(figures)) + 0.3 * (k - 0.5)
    ax.bar(x, [f.value for f in figures], 0.28, label=method)
    low, high = ([abs(getattr(f, end) - f.value) for f in figures] for end in ("low", "high"))
    ax.errorbar(x, [f.value for f in figures], (low, high), fmt="none", ecolor="0.3", lw=1, capsize=3)
ax.set_xticks(range(len(TOLERANCES)), [f"{1e3 * t:g} ms" for t in TOLERANCES])
ax.set(ylabel="share of pairs", title="Success within a tolerance")
ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
