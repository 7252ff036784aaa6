"""cca_zoo's losses on batches that break them. Arguments: objectives.py of cca_zoo, number of batches, seed. Prints a
line of JSON: kind -> [batches, those whose loss or gradient was not finite or that raised an error].

Its losses need torch alone, so they run with the Python of the benchmark, from cca_zoo's own file.
"""

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.fusion.degenerate import degenerate_batches

spec = importlib.util.spec_from_file_location("objectives", sys.argv[1])
objectives = importlib.util.module_from_spec(spec)
spec.loader.exec_module(objectives)
losses = {"CCALoss": objectives.CCALoss(), "GCCALoss": objectives.GCCALoss()}
found = {name: defaultdict(lambda: [0, 0]) for name in losses}
for what, first, second in degenerate_batches(int(sys.argv[2]), int(sys.argv[3])):
    for name, loss_of in losses.items():
        leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
        try:
            loss = loss_of(leaves)
            fine = bool(torch.isfinite(loss))
            fine = all(bool(torch.isfinite(g).all()) for g in torch.autograd.grad(loss, leaves)) and fine
        except (RuntimeError, ValueError, IndexError):
            fine = False
        counted = found[name][what]
        counted[0] += 1
        counted[1] += not fine
print(json.dumps(found))
