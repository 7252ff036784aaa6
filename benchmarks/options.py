"""What every benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Options:
    """quick: a few minutes at most, to see that everything runs. out: folder of results and made files.

    repeats: of every condition; None takes the benchmark's own. seed: of everything simulated.
    processes: how many share the work where timing is not measured. resume: keep rows of an interrupted run.
    memory: GB of address space that a program under test may ask for. part: the only one to run of a benchmark that has
    some, see `benchmarks.parts`.
    """

    quick: bool = False
    out: Path = ROOT / "benchmarks" / "results"
    repeats: int | None = None
    seed: int = 1
    processes: int = 1
    resume: bool = False
    memory: float = 12.0
    part: str | None = None

    @property
    def page(self) -> Path:
        """Where tables go: the documentation, but for quick runs."""
        return self.out / "accuracy.md" if self.quick else ROOT / "docs" / "accuracy.md"

    def pick(self, quick: int, full: int) -> int:
        """Number of repeats, unless it was given."""
        return self.repeats if self.repeats is not None else quick if self.quick else full
