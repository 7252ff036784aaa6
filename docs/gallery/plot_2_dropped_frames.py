"""
A recorder that dropped samples
===============================

At 31 s of its own time a recorder lost 28 ms, and at 60 s it paused for 0.6 s; its file shows neither. Its clock is a
`PiecewiseClock`, a line for each stretch. :doc:`/joint` tells how
the breaks are found.
"""

import matplotlib.pyplot as plt
import numpy as np

import avfuse
from avfuse.simulation import Device, SoundSource, dropping_clock, simulate

clock = dropping_clock(avfuse.ClockMap(3.0, 30e-6), 90.0, [(31.0, 0.028), (60.0, 0.6)])
event = simulate(
    duration=100.0,
    devices=[
        Device("camera", avfuse.ClockMap(0.5), 98.0, rate=16000.0, position=(1.0, 0.0, 0.0), snr_db=20.0),
        Device("recorder", clock, 90.0, rate=16000.0, position=(0.0, 1.0, 0.0), snr_db=20.0),
    ],
    sources=[SoundSource("music")],
    rng=1,
)

alignment = avfuse.align(event.recordings, reference="camera")
recorder = alignment.clocks["recorder"]
print(alignment)

# %%
# `breaks` tells where the clock jumps and by how much; `missing` is negative where a recording has too much.

for found in recorder.breaks:
    print(f"at {found.at:.2f} s ± {1e3 * found.std:.0f} ms: {1e3 * found.missing:+.2f} ms are missing")
for segment in recorder.segments:
    print(f"{segment.start:6.2f} to {segment.end:6.2f} s: {segment.offset:+.5f} s {1e6 * segment.drift:+.2f} ppm")

# %%
# What was lost belongs to no time of the recorder, so that the way back has holes there:

back = recorder.map.inverse()
lost = float(recorder.map(60.2)) - 0.5
print(f"{lost:.2f} s of the camera is {back(lost):.2f} s of the recorder")

# %%
# A single line would be off by more than half a second. Away from the breaks the error is microseconds.

times = np.linspace(0.0, 90.0, 2000)
truth = event.truth_between("camera", "recorder")(times)
error = recorder.map(times) - truth
away = np.min(np.abs(times[:, None] - [31.0, 60.0]), axis=1) > 0.2

fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
above.plot(times, 1e3 * (truth - times - truth[0]), color="0.75", lw=5, label="truth")
above.plot(times, 1e3 * (recorder.map(times) - times - truth[0]), color="tab:blue", lw=1.2, label="found")
above.set(ylabel="lag less its first [ms]", title="The recorder's lag behind the camera")
above.legend(frameon=False)
below.plot(times, np.where(away, 1e6 * error, np.nan), color="tab:blue")
below.fill_between(
    times, -1.96e6 * recorder.std_at(times), 1.96e6 * recorder.std_at(times), color="tab:blue", alpha=0.2, lw=0
)
for place in (31.0, 60.0):
    below.axvline(place, color="tab:red", lw=0.8, ls=":")
below.set(xlabel="recorder's own time [s]", ylabel="error [µs], and 95 %")
plt.show()
