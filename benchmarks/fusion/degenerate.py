"""Batches that break losses of canonical correlation. Imports nothing of avfuse: peers are given the same."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = 14


def degenerate_batches(count: int, seed: int = 0) -> list[tuple[str, Tensor, Tensor]]:
    """(what, first, second), float32: views of 0 to 31 rows and 1 to 24 columns, of each of 14 kinds in turn."""
    rng = torch.Generator().manual_seed(seed)

    def noise(rows: int, width: int) -> Tensor:
        return torch.randn((rows, width), generator=rng)

    made = []
    for k in range(count):
        rows, width = int(torch.randint(0, 30, (), generator=rng)), 1 + k % 8
        x, y = noise(rows, width), noise(rows, 1 + (k // 2) % 8)
        point = noise(1, width)
        kinds = {
            "few rows": (x[:3], y[:3]),
            "constant": (point.expand(rows, -1) * 10.0 ** float(k % 40 - 20), y),
            "both constant": (point.expand(rows, -1), noise(1, y.shape[1]).expand(rows, -1)),
            "zero": (x * 0, y * 0),
            "itself": (x, x.clone()),
            "equal correlations": (x, torch.cat([x, x], dim=1)),
            "rank one": (noise(rows, 1) * point, y),
            "one column collapsed": (torch.cat([x, torch.zeros(rows, 1)], dim=1), y),
            "columns twice": (torch.cat([x, x, 2 * x], dim=1), y),
            "near collapse": (point + 1e-7 * x, y),
            "scales apart": (x * 10.0 ** noise(1, width).mul(12).clamp(-30, 30), y * 1e30),
            "tiny": (x * 1e-30, y * 1e-38),
            "two places": (point * (x[:, :1] > 0), y),
            "one row apart": (torch.cat([x * 0, 1e4 * noise(1, width)]), torch.cat([y, noise(1, y.shape[1])])),
        }
        what = list(kinds)[k % KINDS]
        made.append((what, *kinds[what]))
    return made
