"""Methods measured on cases with known truth: `avfuse.evaluate`.

cases      recordings and their true clocks, from folders and lists
methods    what is compared: functions and commands
asking     one method asked about one case: a process, its time and its memory
running    all methods asked about all cases
judging    what they said against the truth
results    figures with intervals, comparisons, `Evaluation`
"""

from avfuse.evaluation.asking import Answer
from avfuse.evaluation.cases import Case, read_cases, write_cases
from avfuse.evaluation.judging import PairResult, judge, true_pairs
from avfuse.evaluation.results import Comparison, Evaluation, Summary, first_candidate
from avfuse.evaluation.running import evaluate

__all__ = [
    "Answer",
    "Case",
    "Comparison",
    "Evaluation",
    "PairResult",
    "Summary",
    "evaluate",
    "first_candidate",
    "judge",
    "read_cases",
    "true_pairs",
    "write_cases",
]
