"""Transcripts in files: Praat's TextGrid, the subtitles SRT and WebVTT, and avfuse's own JSON.

read_text          what is said, without times
read_transcript    .TextGrid (long and short form) or .json
write_transcript   .TextGrid, .srt, .vtt or .json
subtitles          words in lines that can be read in the time they stand
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avfuse.alignment import json_text
from avfuse.errors import AvfuseError, ReadError, WriteError
from avfuse.files import replacing
from avfuse.transcript import FORMAT, Phone, Transcript, Word

_WORD_TIERS, _PHONE_TIERS = ("word", "words"), ("phone", "phones")
_SILENT = {"", "sil", "sp", "spn", "<eps>", "_", "#"}  # labels that stand for no word
_LINE, _LINES = 42, 2  # characters and lines of a subtitle, as broadcasters ask for
_LONGEST = 7.0  # seconds that a subtitle stands
_SHORTEST = 1.0
_PAUSE = 0.7  # seconds of silence that end a subtitle
_ENDS = re.compile(r"[.!?…。！？][\"'”’)\]]*$")

Interval = tuple[float, float, str]


# What is read ---------------------------------------------------------------------------------------------------------


def read_transcript(path: str | os.PathLike[str], tier: str | None = None) -> Transcript:
    """Words, and phones within them, of a .TextGrid or a .json that avfuse wrote.

    tier: the tier of words in a TextGrid; by default the one named "word" or "words". A tier "phone" or "phones" gives
        the phones of every word that they lie within.
    Raises ReadError, one line, for what is missing or is not what its name says.
    """
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror}); expected a .TextGrid or .json") from error
    suffix = Path(name).suffix.lower()
    if suffix not in (".textgrid", ".json"):
        raise ReadError(f"{name}: is no .TextGrid or .json; expected a file of words with their times")
    text = decoded(name, data)
    try:
        if suffix == ".json":
            return _from_json(name, text)
        return _from_tiers(name, read_tiers(name, text), tier)
    except ReadError:
        raise
    except AvfuseError as error:
        raise ReadError(f"{name}: {error}") from error


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file in UTF-8 (or UTF-16, marked as such). Raises ReadError, one line, for what is none."""
    name = os.fspath(path)
    try:
        return decoded(name, Path(path).read_bytes())
    except OSError as error:
        raise ReadError(f"{name}: cannot be read ({error.strerror}); expected a text file") from error


def decoded(name: str, data: bytes) -> str:
    """Text as UTF-8, or as UTF-16 where its first bytes say so (Praat writes both)."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
        if "\0" in text:
            raise ReadError(f"{name}: is no text: character {text.index(chr(0)) + 1} is NUL; expected a text in UTF-8")
        return text
    except UnicodeDecodeError as error:
        raise ReadError(f"{name}: is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def read_tiers(name: str, text: str) -> dict[str, list[Interval]]:
    """Intervals of every interval tier of a TextGrid, by the tier's name; the long and the short form alike.

    Both forms hold the same values in the same order: only what is quoted, a number or a <flag> counts, which is how
    Praat reads them.
    """
    values = _values(name, text)
    take = iter(values)

    def number(what: str) -> float:
        value = next(take, None)
        if not isinstance(value, float):
            raise ReadError(f"{name}: ends or is broken at {what} (found {value!r}); expected a Praat TextGrid")
        return value

    def string(what: str) -> str:
        value = next(take, None)
        if not isinstance(value, str):
            raise ReadError(f"{name}: ends or is broken at {what} (found {value!r}); expected a Praat TextGrid")
        return value

    if string("its file type") != "ooTextFile" or string("its class") != "TextGrid":
        raise ReadError(f"{name}: is no Praat TextGrid: it does not begin as one")
    number("its start"), number("its end")
    flag = next(take, None)
    if flag not in ("<exists>", "<absent>"):
        raise ReadError(
            f"{name}: ends or is broken at whether it has tiers (found {flag!r}); expected a Praat TextGrid"
        )
    if flag == "<absent>":
        return {}
    tiers: dict[str, list[Interval]] = {}
    for k in range(int(number("the number of tiers"))):
        kind, label = string(f"the class of tier {k + 1}"), string(f"the name of tier {k + 1}")
        number(f"tier {label!r}"), number(f"tier {label!r}")
        found: list[Interval] = []
        for i in range(int(number(f"the size of tier {label!r}"))):
            where = f"interval {i + 1} of tier {label!r}"
            first = number(where)
            last = number(where) if kind == "IntervalTier" else first
            mark = string(where)
            if last < first:
                raise ReadError(f"{name}: {where} ends at {last:g} s, before it begins at {first:g} s")
            found.append((first, last, mark))
        if kind == "IntervalTier":
            tiers.setdefault(label, found)
    return tiers


_TOKENS = re.compile(r'"((?:[^"]|"")*)"|<([a-z]+)>|![^\n]*|[^\s"<!]+')


def _values(name: str, text: str) -> list[float | str]:
    values: list[float | str] = []
    for match in _TOKENS.finditer(text):
        if match.group(1) is not None:
            values.append(match.group(1).replace('""', '"'))
        elif match.group(2) is not None:
            values.append(f"<{match.group(2)}>")
        else:
            try:
                values.append(float(match.group(0)))
            except ValueError:
                continue  # xmin, =, item, [1]: and the like
    if not values:
        raise ReadError(f"{name}: is no Praat TextGrid: nothing in it is a value")
    return values


def _from_tiers(name: str, tiers: dict[str, list[Interval]], tier: str | None) -> Transcript:
    wanted = tier if tier is not None else next((t for t in tiers if t.lower() in _WORD_TIERS), None)
    if wanted is None or wanted not in tiers:
        have = ", ".join(map(repr, tiers)) or "none"
        raise ReadError(f"{name}: no tier {'word' if wanted is None else wanted!r}; its interval tiers: {have}")
    phones = next((marks for label, marks in tiers.items() if label.lower() in _PHONE_TIERS), [])
    said = [mark for mark in phones if mark[2].strip().lower() not in _SILENT]
    words, k = [], 0
    for first, last, mark in tiers[wanted]:
        if mark.strip().lower() in _SILENT:
            continue
        inside = []
        while k < len(said) and said[k][0] + said[k][1] < 2 * last:  # its middle
            if said[k][0] + said[k][1] >= 2 * first:
                inside.append(Phone(said[k][2].strip(), *said[k][:2]))
            k += 1
        words.append(Word(" ".join(mark.split()), first, last, phones=tuple(inside)))
    if not words:
        raise ReadError(f"{name}: tier {wanted!r} holds no words")
    ends = [mark[1] for marks in tiers.values() for mark in marks[-1:]]
    return Transcript("aligned", tuple(words), source=name, duration=max(ends))


def _from_json(name: str, text: str) -> Transcript:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{name}: cannot be read as JSON ({error}); expected a transcript") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise ReadError(f"{name}: format is {found!r}; expected {FORMAT!r}")
    try:
        return Transcript(
            document["status"], tuple(_word_of(word) for word in document["words"]), document.get("confidence"),
            document.get("message"), tuple(document.get("evidence", ())), document.get("duration"),
            document.get("source"),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadError(f"{name}: is no whole transcript ({type(error).__name__}: {error})") from error


def _word_of(word: dict[str, Any]) -> Word:
    phones = tuple(Phone(str(p["text"]), float(p["start"]), float(p["end"])) for p in word.get("phones", ()))
    return Word(str(word["text"]), float(word["start"]), float(word["end"]), word.get("confidence"), phones)


# What is written ------------------------------------------------------------------------------------------------------


def write_transcript(transcript: Transcript, path: str | os.PathLike[str]) -> Path:
    """Write a transcript: the ending of `path` (.TextGrid, .srt, .vtt, .json) says how.

    Raises WriteError for another ending or a place that cannot be written to, WeakAlignmentError for a refusal, which
    only .json can hold.
    """
    write = writer_of(path)
    document = write(transcript)
    with replacing(path) as temporary:
        temporary.write_text(document, encoding="utf-8", newline="\n")
    return Path(path)


def writer_of(path: str | os.PathLike[str]) -> Callable[[Transcript], str]:
    """What makes the file's text. Raises WriteError where the ending says no format."""
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise WriteError(f"{path}: ends in {suffix or 'nothing'}; expected .TextGrid, .srt, .vtt or .json")
    return _WRITERS[suffix]


def to_textgrid(transcript: Transcript) -> str:
    """A TextGrid of the tiers "words" and, where they are known, "phones", each without a gap as Praat wants it."""
    words = transcript.words
    end = max([transcript.duration or 0.0, *(word.end for word in words)])
    tiers = [("words", [(word.start, word.end, word.text) for word in words])]
    phones = [(p.start, p.end, p.text) for word in words for p in word.phones]
    if phones:
        tiers.append(("phones", phones))
    start = min([0.0, *(word.start for word in words)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", f"xmin = {start:.6f}", f"xmax = {end:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for k, (label, marks) in enumerate(tiers, 1):
        filled = list(_without_gaps(marks, start, end))
        lines += [f"    item [{k}]:", '        class = "IntervalTier"', f'        name = "{label}"']
        lines += [
            f"        xmin = {start:.6f}",
            f"        xmax = {end:.6f}",
            f"        intervals: size = {len(filled)}",
        ]
        for i, (first, last, mark) in enumerate(filled, 1):
            quoted = mark.replace('"', '""')
            lines += [f"        intervals [{i}]:", f"            xmin = {first:.6f}", f"            xmax = {last:.6f}"]
            lines.append(f'            text = "{quoted}"')
    return "\n".join(lines) + "\n"


def _without_gaps(marks: Sequence[Interval], start: float, end: float) -> Iterator[Interval]:
    """Silence between the marks; what lasts less than a microsecond, Praat could not tell from a boundary."""
    at = start
    for first, last, mark in marks:
        if last - first < 1e-6:
            continue
        if first - at >= 1e-6:
            yield at, first, ""
        yield max(at, first) if first - at < 1e-6 else first, last, mark
        at = last
    if end - at >= 1e-6:
        yield at, end, ""


@dataclass(frozen=True)
class Subtitle:
    start: float
    end: float
    lines: tuple[str, ...]


def subtitles(words: Sequence[Word]) -> list[Subtitle]:
    """Words in subtitles of at most two lines of 42 characters and seven seconds.

    One ends with a sentence, at a pause of 0.7 s, or where it is full: then after the last comma in its later half, if
    there is one. Each stands from its first word on for at least a second, and never into the next one.
    """
    groups: list[list[Word]] = []
    now: list[Word] = []
    for word in words:
        if now and (_ENDS.search(now[-1].text) or word.start - now[-1].end > _PAUSE):
            groups.append(now)
            now = []
        while now and not _fits([*now, word]):
            commas = [k for k in range(len(now) // 2, len(now)) if now[k].text.endswith((",", ";", ":"))]
            cut = commas[-1] + 1 if commas else len(now)
            groups.append(now[:cut])
            now = now[cut:]
        now.append(word)
    groups += [now] if now else []
    found = []
    for k, group in enumerate(groups):
        end = max(group[-1].end, group[0].start + _SHORTEST)
        if k + 1 < len(groups):
            end = min(end, groups[k + 1][0].start)
        found.append(Subtitle(group[0].start, max(end, group[-1].end), tuple(_lines(group))))
    return found


def _fits(group: Sequence[Word]) -> bool:
    return group[-1].end - group[0].start <= _LONGEST and len(_lines(group)) <= _LINES


def _lines(group: Sequence[Word]) -> list[str]:
    """One line if it fits, else two of about the same length; more only where words are too long for that."""
    texts = [word.text for word in group]
    whole = " ".join(texts)
    if len(whole) <= _LINE or len(texts) == 1:
        return [whole]
    halves = [(" ".join(texts[:k]), " ".join(texts[k:])) for k in range(1, len(texts))]
    best = min(halves, key=lambda pair: max(map(len, pair)))
    if max(map(len, best)) <= _LINE or len(texts) == 2:
        return list(best)
    lines = [texts[0]]
    for text in texts[1:]:
        if len(lines[-1]) + 1 + len(text) <= _LINE:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered subtitles with times to the millisecond. A time before 0 is written as 0."""
    return "\n".join(
        f"{k}\n{_stamp(s.start, ',')} --> {_stamp(s.end, ',')}\n" + "\n".join(s.lines) + "\n"
        for k, s in enumerate(subtitles(transcript.words), 1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT: the same subtitles, with &, < and > escaped."""
    cues = [
        f"{_stamp(s.start, '.')} --> {_stamp(s.end, '.')}\n" + "\n".join(map(_escaped, s.lines)) + "\n"
        for s in subtitles(transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(seconds: float, point: str) -> str:
    whole = max(0, round(seconds * 1000))
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{point}{whole % 1000:03}"


def _to_json(transcript: Transcript) -> str:
    return json_text(transcript.to_json()) + "\n"


_WRITERS = {".textgrid": to_textgrid, ".srt": to_srt, ".vtt": to_vtt, ".json": _to_json}
