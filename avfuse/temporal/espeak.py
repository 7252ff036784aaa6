"""A text spoken by espeak-ng, with the times of its words and phones.

espeak-ng is an optional program (Debian: `apt-get install espeak-ng`), called only here. Its library tells where in its
speech each phone begins, which the program itself prints for no voice of its own; it is loaded by a script in another
process, so that nothing of it (it is under GPL-3) is loaded into this one.
"""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from avfuse.errors import ReadError, StreamError

_WORDS_AT_ONCE = 60
_WORKER = Path(__file__).with_name("espeak_worker.py")
_ABSENT = (
    "espeak-ng is not installed, and without it a text cannot be compared with speech: install it "
    "(Debian: apt-get install espeak-ng), or give reference speech, or emissions of an acoustic model"
)


@dataclass(frozen=True)
class SpokenPhone:
    """word: index in the text, None for a pause. start, end: seconds."""

    text: str
    word: int | None
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Piece:
    """samples: `(n,)` at `rate` Hz. phones: all of it, pauses too."""

    samples: NDArray[np.float32]
    rate: float
    phones: tuple[SpokenPhone, ...]


def library_of_espeak() -> str:
    """Name of libespeak-ng. Raises ReadError, one sentence, where there is none."""
    found = ctypes.util.find_library("espeak-ng")
    if found is None:
        raise ReadError(_ABSENT)
    return found


def speak(words: Sequence[str], *, voice: str, rate: int) -> Iterator[Piece]:
    """Pieces of at most 60 words, cut at the ends of sentences where there are any.

    voice: one of `espeak-ng --voices`, by name or language, e.g. "en-us", "de", "en-us+f2". rate: words a minute.
    Raises ReadError where espeak-ng is absent, StreamError where it has no such voice.
    """
    library = library_of_espeak()
    spans = list(_pieces(words))
    texts = [" ".join(words[first:last]) for first, last in spans]
    asked = json.dumps({"library": library, "voice": voice, "rate": rate, "pieces": texts}).encode()
    with subprocess.Popen(
        [sys.executable, "-I", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        assert worker.stdin
        assert worker.stdout
        assert worker.stderr
        try:
            worker.stdin.write(asked)
            worker.stdin.close()
            for first, last in spans:
                head = worker.stdout.readline()
                if not head.endswith(b"\n"):
                    raise _failure(worker.wait(), worker.stderr, voice)
                yield _piece(json.loads(head), worker.stdout, words[first:last], first)
        finally:
            worker.kill()


def _failure(code: int, stderr: IO[bytes], voice: str) -> Exception:
    said = stderr.read().decode("utf-8", "replace").strip().splitlines()
    if code == 3:
        return StreamError(f"voice {voice!r}: espeak-ng has none of this name; `espeak-ng --voices` lists them")
    return ReadError(
        f"espeak-ng: {said[-1] if said else f'ended with code {code}'}; check that `espeak-ng hello` works"
    )


def _pieces(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(words):
        last = min(first + _WORDS_AT_ONCE, len(words))
        if last < len(words):
            ends = [
                k
                for k in range(first + _WORDS_AT_ONCE // 2, last)
                if words[k].rstrip("\"')”’").endswith((".", "!", "?"))
            ]
            last = ends[-1] + 1 if ends else last
        yield first, last
        first = last


def _piece(head: dict[str, object], stdout: IO[bytes], words: Sequence[str], first: int) -> Piece:
    count, rate = int(str(head["samples"])), float(str(head["rate"]))
    samples = np.frombuffer(stdout.read(2 * count), "<i2").astype(np.float32) / np.float32(32768)
    ends = np.cumsum([len(word) + 1 for word in words])
    events: list[tuple[int, int, int, str]] = head["events"]  # type: ignore[assignment]
    marks: list[tuple[str, int | None, float]] = []
    word = None
    for kind, position, sample, name in events:
        if kind == 1:
            word = first + min(int(np.searchsorted(ends, position - 1, side="right")), len(words) - 1)
        else:
            # "(en)" and the like only say that the language changes.
            pause = name.startswith(("_", "("))
            marks.append((name, None if pause else word, sample / rate))
    stops = [mark[2] for mark in marks[1:]] + [len(samples) / rate]
    phones = tuple(SpokenPhone(*mark, max(end, mark[2])) for mark, end in zip(marks, stops, strict=True))
    return Piece(samples, rate, phones)
