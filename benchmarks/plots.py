"""The picture that docs/accuracy.md shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avfuse.evaluation import Evaluation
from avfuse.metrics import succeeds
from avfuse.reporting.evaluation import COLOURS
from benchmarks.cases import ROOMS


def draw_accuracy(path: Path, found: Evaluation, names: Sequence[str]) -> Path:
    """Share of the simulated pairs within a tolerance against the tolerance, a panel for each room."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tolerances = np.geomspace(1e-6, 1.0, 400)
    figure, panels = plt.subplots(1, len(ROOMS), figsize=(12, 4.5), sharey=True, layout="constrained")
    for panel, room in zip(panels, ROOMS, strict=True):
        inside = [p for p in found.pairs if p.settings.get("room") == (room or "free field")]
        for name, colour in zip(names, COLOURS, strict=True):
            error = [p.error for p in inside if p.method == name]
            share = np.array([succeeds(error, t).mean() if error else 0.0 for t in tolerances])
            own = name == "avfuse"
            panel.step(
                tolerances * 1e3, 100 * share, color=colour, lw=2.6 if own else 1.5, label=name, where="post",
                zorder=3 if own else 2, ls="--" if name == "avfuse, best guess" else "-",
            )  # fmt: skip
        panel.set(xscale="log", xlim=(1e-3, 1e3), ylim=(-2, 102), xlabel="tolerance [ms]")
        panel.set_title(
            f"{'free field' if room is None else 'room, ' + room} ({len(inside) // len(found.methods)} pairs)"
        )
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("pairs within the tolerance [%]")
    # Outside: every corner of a panel has a curve in it.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
