"""What an acoustic model says, and how words are spelt, in files.

read_emissions   .npz: log_probs, tokens, rate, and what else `Emissions` has
read_spelling    a dictionary such as CMUdict: a line for each word and its tokens
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import numpy as np

from avfuse.errors import ReadError, StreamError
from avfuse.io.transcripts import decoded
from avfuse.transcript import Emissions

_EXPECTED = "expected a .npz with log_probs (frames, tokens), tokens (their names) and rate (frames a second)"
_NAMES = ("blank", "silence", "separator")


def read_emissions(path: str | os.PathLike[str]) -> Emissions:
    """Emissions from a file that `numpy.savez` wrote: log_probs, tokens, rate; start, blank, silence, separator if any.

    Raises ReadError, one line, for what is missing, damaged or does not fit.
    """
    name = os.fspath(path)
    try:
        found = np.load(name, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise ReadError(f"{name}: holds one array; {_EXPECTED}")
        with found:
            held = {key: found[key] for key in found.files}
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror or error}); {_EXPECTED}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ReadError(f"{name}: is no whole .npz ({error}); {_EXPECTED}") from error
    missing = [key for key in ("log_probs", "tokens", "rate") if key not in held]
    if missing:
        raise ReadError(f"{name}: holds {', '.join(held) or 'nothing'}, and no {missing[0]}; {_EXPECTED}")
    try:
        return Emissions(
            held["log_probs"], tuple(map(str, held["tokens"].ravel())), float(held["rate"]),
            float(held.get("start", 0.0)), *(str(held[key]) if key in held else None for key in _NAMES),
        )  # fmt: skip
    except StreamError as error:
        raise ReadError(f"{name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ReadError(f"{name}: {error}; {_EXPECTED}") from error


def read_spelling(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Tokens of words: `BOBBY  B AA1 B IY0`; the first of several is taken, lines that begin with ;;; are remarks.

    Raises ReadError, one line, for what cannot be read and for a word without tokens.
    """
    name = os.fspath(path)
    try:
        text = decoded(name, Path(path).read_bytes())
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror}); expected a line for each word") from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split()
        if not parts or line.startswith(";;;"):
            continue
        if len(parts) == 1:
            raise ReadError(f"{name}: line {number}, {parts[0]!r}, has no tokens; expected a word and then its tokens")
        word = re.sub(r"\(\d+\)$", "", parts[0])  # CMUdict numbers further ways to say it
        for form in (word, word.lower()):
            found.setdefault(form, tuple(parts[1:]))
    if not found:
        raise ReadError(f"{name}: holds no words; expected a line for each word and its tokens")
    return found
