"""torchaudio's forced alignment of a .npz: its path and seconds into another. Arguments: in, out, repeats."""

import sys
import time

import numpy as np
import torch
from torchaudio.functional import forced_align

torch.set_num_threads(1)
given = np.load(sys.argv[1])
tokens = torch.from_numpy(given["tokens"])[None]
found = {}
for dtype in ("float32", "float64"):
    emissions, taken = torch.from_numpy(given["emissions"].astype(dtype))[None], []
    for _ in range(int(sys.argv[3])):
        began = time.perf_counter()
        path, _ = forced_align(emissions, tokens, blank=0)
        taken.append(time.perf_counter() - began)
    found |= {f"path_{dtype}": path[0].numpy(), f"seconds_{dtype}": np.array(taken)}
np.savez(sys.argv[2], **found)
