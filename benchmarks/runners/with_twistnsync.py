"""twistnsync on pairs of gyroscopes. Arguments: in.npz (t1_0, x1_0, t2_0, x2_0, t1_1, ...), out.npz."""

import sys
import time

import numpy as np
from twistnsync import TimeSync

given = np.load(sys.argv[1])
offsets, taken = [], []
for k in range(len(given.files) // 4):
    t1, x1, t2, x2 = (given[f"{name}_{k}"] for name in ("t1", "x1", "t2", "x2"))
    began = time.perf_counter()
    try:
        sync = TimeSync(x1, x2, t1, t2)
        sync.resample()
        sync.obtain_delay()
        offsets.append(t1[0] - t2[0] - sync.time_delay)
    except Exception:  # whatever a program does with a pair is its answer to it
        offsets.append(np.nan)
    taken.append(time.perf_counter() - began)
np.savez(sys.argv[2], offsets=offsets, seconds=taken)
