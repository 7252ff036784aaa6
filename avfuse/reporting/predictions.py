"""What a model made of events, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from avfuse.reporting.tables import Table

if TYPE_CHECKING:
    from avfuse.nn.prediction import Decision, Prediction


def print_predictions(predictions: Sequence[Prediction], out: TextIO) -> None:
    """A table of events; of one event alone, of its windows, too; then what is not aligned."""
    rows = [(p.event, *_row(p.decision)) for p in predictions]
    print(Table("Events", ("event", "from [s]", "to [s]", "answer", "confidence", "by"), rows).text(), file=out)
    if len(predictions) == 1 and len(predictions[0].windows) > 1:
        parts = [_row(window) for window in predictions[0].windows]
        print(file=out)
        print(Table("Windows", ("from [s]", "to [s]", "answer", "confidence", "by"), parts).text(), file=out)
    for prediction in predictions:
        for line in prediction.left_out:
            print(line, file=out)


def _row(decision: Decision | None) -> tuple[str, str, str, str, str]:
    if decision is None:
        return "", "", "none: no window", "", ""
    confidence = "" if decision.confidence is None else f"{decision.confidence:.3f}"
    return f"{decision.start:.2f}", f"{decision.end:.2f}", _answer(decision), confidence, ", ".join(decision.present)


def _answer(decision: Decision) -> str:
    if decision.answer is None:
        return f"withheld (perhaps {decision.best})"
    if decision.std is not None:
        return ", ".join(f"{v:.4g} +- {s:.2g}" for v, s in zip(decision.answer, decision.std, strict=True))
    return ", ".join(decision.answer) or "none" if isinstance(decision.answer, list) else str(decision.answer)
