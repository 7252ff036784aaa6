"""Text with its times: what was said, when, and how sure that is; and what an acoustic model says of every frame.

Transcript, Word, Phone   what comes out
Emissions                 what may go in
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.stream import Stream

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
    confidence: probability that at least half of the words are where they are said; None for refusals, and where nobody
        told. Single words have their own.
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

    def stream(self, name: str = "text") -> Stream:
        """The words as a stream of text, each at its start: what a recording needs for `avfuse.windows` to find them.

        Raises WeakAlignmentError, with the reason, where the text could not be placed.
        """
        values = np.array([word.text for word in self.words], dtype=np.str_)
        return Stream(name, "text", values, times=np.array([word.start for word in self.words], np.float64))

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


@dataclass(frozen=True, eq=False)
class Emissions:
    """What an acoustic model says of every frame.

    scores: `(frames, tokens)` log probabilities. tokens: `(tokens,)` names of the columns. rate: frames a second; frame
    k lasts from `start + k / rate` for `1 / rate` seconds, in the recording's own time.
    blank: token of a model of connectionist temporal classification (wav2vec2: "<pad>" or "-"), None for a model that
        names a phone in every frame; every token then lasts a frame at least.
    silence: token of pauses between words, for models without a blank; None where pauses belong to the phones.
    separator: token that stands between words (wav2vec2: "|"), if the model was taught one.
    Raises StreamError for what does not fit.
    """

    scores: NDArray[np.floating]
    tokens: tuple[str, ...]
    rate: float
    start: float = 0.0
    blank: str | None = None
    silence: str | None = None
    separator: str | None = None
    _columns: dict[str, int] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", checked_scores(self.scores))
        object.__setattr__(self, "tokens", tuple(map(str, self.tokens)))
        if len(self.tokens) != self.scores.shape[1]:
            raise StreamError(
                f"emissions: {self.scores.shape[1]} columns and {len(self.tokens)} tokens; expected as many"
            )
        for what, value, fits in (("rate", self.rate, self.rate > 0), ("start", self.start, True)):
            if not (np.isfinite(value) and fits):
                raise StreamError(
                    f"emissions: {what} {value!r}; expected a {'positive' if what == 'rate' else 'finite'} number"
                )
        self._columns.update((token, k) for k, token in reversed(list(enumerate(self.tokens))))
        for what in ("blank", "silence", "separator"):
            if getattr(self, what) is not None and getattr(self, what) not in self._columns:
                raise StreamError(
                    f"emissions: {what} {getattr(self, what)!r} is none of the tokens ({shortened(self.tokens)})"
                )
        if self.blank is not None and self.silence is not None:
            raise StreamError("emissions: both a blank and a silence; a blank already fills the pauses")

    def column(self, token: str) -> int | None:
        return self._columns.get(token)


def checked_scores(emissions: ArrayLike) -> NDArray[np.floating]:
    """`(frames, tokens)` floats without NaN or +inf. Raises StreamError."""
    scores = np.asarray(emissions)
    if scores.dtype.kind not in "fiu":
        raise StreamError(f"emissions: values of type {scores.dtype}; expected log probabilities")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float64)
    if scores.ndim != 2 or not scores.size:
        raise StreamError(f"emissions: shape {scores.shape}; expected (frames, tokens) with at least one of each")
    worst = float(scores.max())  # NaN where any is
    if not worst < np.inf:
        raise StreamError("emissions: NaN or +inf among them; expected log probabilities, which are at most 0")
    return scores


def shortened(tokens: Sequence[str]) -> str:
    shown = " ".join(tokens[:12])
    return shown if len(tokens) <= 12 else f"{shown} ... {len(tokens)} in all"
