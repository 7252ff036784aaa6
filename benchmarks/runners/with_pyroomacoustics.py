"""pyroomacoustics' SRP-PHAT on a cell. Arguments: in.npz (samples, microphones, rate, azimuth, colatitude, size,
repeats), out.npz (directions found, seconds). The grid and its tables are made before the clock starts, and so are the
frames: what is timed is `locate_sources`."""

import sys
import time

import numpy as np
import pyroomacoustics as pra

given = np.load(sys.argv[1])
size, rate = int(given["size"]), int(given["rate"])
found, taken = [], []
window = np.hanning(size + 1)[:-1]
doa = pra.doa.SRP(
    given["microphones"].T, rate, size, c=343.0, num_src=1, dim=3, azimuth=given["azimuth"],
    colatitude=given["colatitude"],
)  # fmt: skip
for samples in given["samples"]:
    framed = np.lib.stride_tricks.sliding_window_view(samples, size, axis=1)[:, :: size // 2] * window
    spectra = np.fft.rfft(framed, axis=-1).transpose(0, 2, 1)
    for _ in range(int(given["repeats"])):
        began = time.perf_counter()
        doa.locate_sources(spectra, freq_range=[100.0, 7600.0])
        taken.append(time.perf_counter() - began)
    azimuth, colatitude = float(np.ravel(doa.azimuth_recon)[0]), float(np.ravel(doa.colatitude_recon)[0])
    found.append([np.sin(colatitude) * np.cos(azimuth), np.sin(colatitude) * np.sin(azimuth), np.cos(colatitude)])
np.savez(sys.argv[2], directions=found, seconds=taken)
