"""
Many recordings, and islands
============================

Five recorders, of which three hear a talk and two hear music next door. Recordings that share something with each
other and nothing with the reference form an island: they have a reference and a timeline of their own.
"""

import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import avfuse
from avfuse.simulation import Device, SoundSource, simulate


def room(sound, names, seed):
    """Recorders 1 m around one source, each with a start, a length and a drift of its own."""
    devices = [
        Device(
            name,
            avfuse.ClockMap(0.5 + 4.0 * k, 20e-6 * k),
            34.0 - 5.0 * k,
            rate=16000.0,
            position=(math.cos(k), math.sin(k), 0.0),
            snr_db=15.0,
        )
        for k, name in enumerate(names)
    ]
    return simulate(duration=38.0, devices=devices, sources=[SoundSource(sound)], rng=seed).recordings


recordings = [*room("speech", ["desk", "hall", "stage"], 1), *room("music", ["next-door", "next-door-2"], 2)]
alignment = avfuse.align(recordings)
print(alignment)

# %%
# `complete` says whether everything lies on one clock; on the command line its opposite is exit code 3.

print("complete:", alignment.complete)
for name, clock in alignment.clocks.items():
    print(f"{name:<12} {clock.status:<10} on the clock of {clock.reference}")
print(alignment.clocks["next-door"].message)

# %%
# The picture draws islands below the others.

with tempfile.TemporaryDirectory() as folder:
    picture = plt.imread(alignment.picture(Path(folder) / "timeline.png"))
fig, ax = plt.subplots(figsize=(9, 9 * picture.shape[0] / picture.shape[1]))
ax.imshow(picture)
ax.set_axis_off()
fig.subplots_adjust(0, 0, 1, 1)
plt.show()
