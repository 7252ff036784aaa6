"""Text with its times: what was said, when, and how sure that is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from avfuse.errors import StreamError, WeakAlignmentError

FORMAT = "avfuse.transcript/1"
TranscriptStatus = Literal["aligned", "no_match", "degenerate"]


@dataclass(frozen=True)
class Phone:
    """A phone, letter or other token of an acoustic model. start, end: seconds in the recording's own time."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """text: as it was written, with its punctuation. start, end: seconds in the recording's own time.

    confidence: probability that both ends are within 0.1 s of where the word is; None where nobody told.
    """

    text: str
    start: float
    end: float
    confidence: float | None = None
    phones: tuple[Phone, ...] = ()

    def __post_init__(self) -> None:
        if not (np.isfinite(self.start) and np.isfinite(self.end) and self.start <= self.end):
            raise StreamError(f"word {self.text!r}: from {self.start} to {self.end} s; expected an end after the start")


@dataclass(frozen=True, eq=False)
class Transcript:
    """A text on the time of a recording, or why it cannot be put there.

    status: `aligned`; `no_match` (there is speech or sound, and not of this text); `degenerate` (silence, or too few
        tokens to be told from chance).
    confidence: probability of what `status` says of the text as a whole; single words have their own.
    all_words: in order; empty for refusals. Read them as `.words`, which then raises
        WeakAlignmentError with the reason.
    evidence: "emissions", "reference speech" or "espeak-ng".
    duration: seconds of the recording, where known.
    """

    status: TranscriptStatus
    all_words: tuple[Word, ...] = ()
    confidence: float | None = None
    message: str | None = None
    evidence: tuple[str, ...] = ()
    duration: float | None = None
    source: str | None = field(default=None)

    def __post_init__(self) -> None:
        if self.status not in get_args(TranscriptStatus):
            expected = ", ".join(get_args(TranscriptStatus))
            raise StreamError(f"Transcript: status {self.status!r}; expected one of {expected}")
        if self.status != "aligned" and self.all_words:
            raise StreamError(
                f"Transcript: status {self.status!r} with {len(self.all_words)} words; only answers have any"
            )
        for before, after in zip(self.all_words, self.all_words[1:], strict=False):
            if after.start < before.end - 1e-9:
                raise StreamError(
                    f"Transcript: {after.text!r} begins at {after.start:.3f} s, before {before.text!r} ends at "
                    f"{before.end:.3f} s; expected words in order"
                )

    @property
    def words(self) -> tuple[Word, ...]:
        """In order. Raises WeakAlignmentError, with the reason, where the text could not be placed."""
        if self.status != "aligned":
            raise WeakAlignmentError(f"{self.status}: {self.message or 'there are no times'}")
        return self.all_words

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.all_words)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write .TextGrid (Praat), .srt, .vtt or .json, by the name; see `avfuse.io.transcripts`."""
        from avfuse.io.transcripts import write_transcript

        return write_transcript(self, path)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source,
            "status": self.status,
            "confidence": _rounded(self.confidence),
            "message": self.message,
            "evidence": list(self.evidence),
            "duration": _rounded(self.duration),
            "words": [
                {
                    "text": word.text,
                    "start": _rounded(word.start),
                    "end": _rounded(word.end),
                    "confidence": _rounded(word.confidence),
                    "phones": [
                        {"text": p.text, "start": _rounded(p.start), "end": _rounded(p.end)} for p in word.phones
                    ],
                }
                for word in self.all_words
            ],
        }

    def __str__(self) -> str:
        if self.status != "aligned":
            return f"{self.status}: {self.message}"
        rows = []
        for word in self.all_words:
            sure = "" if word.confidence is None else f"  {word.confidence:.2f}"
            rows.append(f"{word.start:9.3f} {word.end:9.3f}{sure}  {word.text}")
        return "\n".join(rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)
