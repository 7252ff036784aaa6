"""What an acoustic model says of a sound, and the tokens that it knows a text by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.temporal.viterbi import checked_scores

I64 = NDArray[np.int64]
Spelling = Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]]


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
                    f"emissions: {what} {getattr(self, what)!r} is none of the tokens ({_some(self.tokens)})"
                )
        if self.blank is not None and self.silence is not None:
            raise StreamError("emissions: both a blank and a silence; a blank already fills the pauses")

    def column(self, token: str) -> int | None:
        return self._columns.get(token)


def written_words(text: str) -> list[str]:
    """Words between spaces; what holds no letter and no figure, such as a dash, belongs to the word before it."""
    words: list[str] = []
    held = ""
    for piece in text.split():
        if any(c.isalnum() for c in piece):
            words.append(f"{held} {piece}".strip())
            held = ""
        elif words:
            words[-1] += f" {piece}"
        else:
            held = f"{held} {piece}"
    if not words:
        raise StreamError("text: holds no words; expected what is said in the recording")
    return words


def tokens_of(words: Sequence[str], emissions: Emissions, spelling: Spelling | None) -> tuple[I64, I64]:
    """Columns of all tokens, and the word of each; -1 for separators."""
    columns: list[int] = []
    owners: list[int] = []
    for k, word in enumerate(words):
        if k and emissions.separator is not None:
            columns.append(emissions._columns[emissions.separator])
            owners.append(-1)
        names = _letters(word, emissions) if spelling is None else _spelt(word, spelling)
        found = [emissions.column(name) for name in names]
        if not found or None in found:
            what = "no tokens" if not found else repr(names[found.index(None)])
            raise StreamError(
                f"word {k + 1}, {word!r}: {what} for it among the tokens ({_some(emissions.tokens)}); "
                "write it as it is said, or give its spelling"
            )
        columns += [c for c in found if c is not None]
        owners += [k] * len(found)
    blank = None if emissions.blank is None else emissions.column(emissions.blank)
    if blank in columns:
        raise StreamError(
            f"the blank {emissions.blank!r} is a token of {words[owners[columns.index(blank)]]!r}; expected others"
        )
    return np.array(columns), np.array(owners)


def forms_of(word: str) -> tuple[str, ...]:
    bare = word.strip("".join({c for c in word if not c.isalnum()}))
    return word, bare, bare.lower(), bare.upper()


def _spelt(word: str, spelling: Spelling) -> Sequence[str]:
    for form in forms_of(word):
        found = spelling.get(form) if isinstance(spelling, Mapping) else spelling(form)
        if found:
            return list(found)
    raise StreamError(f"word {word!r}: has no spelling; add it to the spelling")


def _letters(word: str, emissions: Emissions) -> list[str]:
    """The word itself if it is a token; else its letters, in the case that the model has, and what else it has."""
    for form in forms_of(word):
        if emissions.column(form) is not None and form != emissions.separator:
            return [form]
    names = []
    for letter in forms_of(word)[1]:
        known = [c for c in (letter, letter.lower(), letter.upper()) if emissions.column(c) is not None]
        if known:
            names.append(known[0])
        elif letter.isalnum():
            names.append(letter)  # told as unknown; an apostrophe or hyphen that the model lacks is not said
    return names


def _some(tokens: Sequence[str]) -> str:
    shown = " ".join(tokens[:12])
    return shown if len(tokens) <= 12 else f"{shown} ... {len(tokens)} in all"
