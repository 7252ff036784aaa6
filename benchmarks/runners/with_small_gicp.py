"""small_gicp on one pair of clouds, as often as asked. Argument: in.npz (reference, moving). Of each line on stdin, the
number of threads, answers a line of JSON: seconds, matrix."""

import json
import sys
import time

import numpy as np
import small_gicp

given = np.load(sys.argv[1])
reference, moving = given["reference"], given["moving"]
for line in sys.stdin:
    began = time.perf_counter()
    found = small_gicp.align(
        reference, moving, registration_type="GICP", downsampling_resolution=0.25, max_correspondence_distance=1.0,
        num_threads=int(line),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "matrix": np.asarray(found.T_target_source).tolist()}), flush=True)
