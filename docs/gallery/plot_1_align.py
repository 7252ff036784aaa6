"""
Align two recordings and read the result
========================================

A phone and a recorder hear the same talk in a small room. Neither knows when the other was started, and the recorder's
clock runs slow by 40 ppm, which is 2.4 ms in a minute.
"""

import matplotlib.pyplot as plt
import numpy as np

import avfuse
from avfuse.simulation import Device, Room, SoundSource, simulate

# Both 1 m from the talker: sound takes as long to each, so that the clocks alone are the truth.
event = simulate(
    duration=62.0,
    devices=[
        Device("phone", avfuse.ClockMap(0.5), 60.0, rate=16000.0, position=(2.0, 1.6, 1.2), snr_db=15.0, agc=True),
        Device("recorder", avfuse.ClockMap(12.8, 40e-6), 45.0, rate=16000.0, position=(3.0, 2.6, 1.2), snr_db=30.0),
    ],
    sources=[SoundSource("speech", (2.0, 2.6, 1.2))],
    room=Room.with_rt60((5.0, 4.0, 2.6), 0.3, scatter=0.08),
    rng=7,
)

# %%
# `event.recordings` are what `avfuse.read` gives for files; `align` takes paths as well.

alignment = avfuse.align(event.recordings, reference="phone")
print(alignment)

# %%
# The recorder was started 12.3 s after the phone. Its map takes its own seconds to those of the phone:

recorder = alignment.clocks["recorder"]
print(f"status      {recorder.status}, right with probability {recorder.confidence:.4f}")
print(f"its 10.0 s  {recorder.map(10.0):.6f} s of the phone, ± {1e6 * recorder.std_at(10.0):.1f} µs")
print(f"back again  {recorder.map.inverse()(recorder.map(10.0)):.6f} s")

# %%
# Only a simulation knows the truth. The error stays within the stated interval all along. The interval is narrowest in
# the middle of what both heard; it widens away from it, as drift is not known exactly either.

times = np.linspace(0.0, 45.0, 200)
error = recorder.map(times) - event.truth_between("phone", "recorder")(times)
std = recorder.std_at(times)

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.fill_between(times, -1.96e6 * std, 1.96e6 * std, color="tab:blue", alpha=0.2, lw=0, label="stated 95 % interval")
ax.plot(times, 1e6 * error, color="tab:blue", label="error")
ax.axhline(0.0, color="0.6", lw=0.8, zorder=0)
ax.set(xlabel="recorder's own time [s]", ylabel="error [µs]", title="The clock of the recorder against the truth")
ax.legend(loc="upper center", frameon=False)
plt.show()
