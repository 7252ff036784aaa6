"""A text as words, and words as tokens of an acoustic model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import StreamError
from avfuse.transcript import Emissions, shortened

I64 = NDArray[np.int64]
Spelling = Mapping[str, Sequence[str]] | Callable[[str], Sequence[str]]


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
    between = None if emissions.separator is None else emissions.column(emissions.separator)
    for k, word in enumerate(words):
        if k and between is not None:
            columns.append(between)
            owners.append(-1)
        names = _letters(word, emissions) if spelling is None else _spelt(word, spelling)
        found = [emissions.column(name) for name in names]
        if not found or None in found:
            what = "no tokens" if not found else repr(names[found.index(None)])
            raise StreamError(
                f"word {k + 1}, {word!r}: {what} for it among the tokens ({shortened(emissions.tokens)}); "
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
