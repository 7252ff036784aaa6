"""Folders and patterns of paths -> events: what a manifest would say stands in the names of folders and files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from avfuse.errors import ReadError
from avfuse.manifests.events import Event
from avfuse.manifests.places import is_url, placed, recordings_in
from avfuse.manifests.rows import event_of

FIELDS = ("event", "role", "label", "split", "group")
ALONE = "recording"  # the role of a file that is an event of its own
_MAGIC = re.compile(r"[*?\[]|\{[^{}/]*\}")
_PIECES = re.compile(
    r"\{(?P<field>[^{}/]*)\}|(?P<run>\*+)|(?P<one>\?)|\[(?P<set>!?\]?[^\]/]*)\]|(?P<plain>.)", re.DOTALL
)


def is_pattern(path: str) -> bool:
    return _MAGIC.search(path.partition("://")[2] if is_url(path) else path) is not None


def events_of_folder(folder: str) -> list[Event]:
    """Each folder in it is an event whose roles are the recordings in that; recordings beside them are events, too."""
    alone = recordings_in(folder, "*", named=True)
    inside: dict[str, list[str]] = {}
    for path in recordings_in(folder, "*/*", named=True):
        event, _, name = path.partition("/")
        inside.setdefault(event, []).append(name)
    if not alone and not inside:
        raise ReadError(f"{folder}: a folder without recordings; expected folders of them, or media and sensor files")
    rows = []
    for event, names in inside.items():
        files = {role: f"{event}/{name}" for role, name in zip(_short(names), names, strict=True)}
        rows.append({"event": event, "files": files})
    for event, path in zip(_short(alone, taken=inside), alone, strict=True):
        rows.append({"event": event, "files": {ALONE: path}})
    return _events(rows, folder)


def events_of_pattern(pattern: str) -> list[Event]:
    """Of files whose paths fit, the fields that they fill in."""
    folder, rest = _divided(pattern)
    fields = [piece["field"] for piece in _PIECES.finditer(rest) if piece["field"] is not None]
    for name in fields:
        if name not in FIELDS:
            raise ReadError(f"{pattern}: field {{{name}}} is not known; expected {{{'}, {'.join(FIELDS)}}}")
    if "role" in fields and "event" not in fields:
        raise ReadError(f"{pattern}: has {{role}} without {{event}}; expected both: files of one event share its name")
    try:
        expression, glob = _compiled(rest)
    except re.error as error:
        raise ReadError(f"{pattern}: is no pattern ({error}); expected sets of characters such as [a-z]") from error
    suffix = rest.rpartition("/")[2].rpartition(".")
    is_open = not suffix[1] or _MAGIC.search(suffix[2]) is not None
    found = {path: expression.fullmatch(path) for path in recordings_in(folder, glob, named=is_open)}
    filled = {path: fit.groupdict() for path, fit in found.items() if fit}
    if not filled:
        raise ReadError(f"{pattern}: matches no recording; try * in more places, or another folder")
    if "event" in fields:
        return _events(_gathered(filled, folder), folder)
    named = zip(_short(list(filled)), filled.items(), strict=True)
    return _events(({"event": event, "files": {ALONE: path}, **told} for event, (path, told) in named), folder)


def _gathered(filled: dict[str, dict[str, str]], folder: str) -> list[dict[str, Any]]:
    """Files of one event as one row of a manifest."""
    rows: dict[str, dict[str, Any]] = {}
    for path, told in filled.items():
        role, event = told.pop("role", ALONE), told["event"]
        row = rows.setdefault(event, {**told, "files": {}})
        if role in row["files"]:
            raise ReadError(
                f"{placed(folder, path)[0]}: event {event!r} has another {role}, {row['files'][role]}; expected one: "
                "narrow the pattern, or put * for {event} to make each file an event"
            )
        for field, value in told.items():
            if row[field] != value:
                raise ReadError(
                    f"{placed(folder, path)[0]}: event {event!r} has {field} {value!r} here and {row[field]!r} by "
                    f"{next(iter(row['files'].values()))}; expected one for all its files"
                )
        row["files"][role] = path
    return list(rows.values())


def _events(rows: Iterable[dict[str, Any]], folder: str) -> list[Event]:
    """By name, and roles by name: the order in which a file system lists them is its own."""
    events = []
    for row in sorted(rows, key=lambda row: str(row["event"])):
        files = dict(sorted(row["files"].items()))
        where = placed(folder, next(iter(files.values())))[0]
        events.append(event_of({**row, "files": files}, where, folder, "keep"))
    return events


def _divided(pattern: str) -> tuple[str, str]:
    """The folder, path or URL, that holds everything that can match, and the pattern from there on."""
    scheme, mark, rest = pattern.partition("://") if is_url(pattern) else ("", "", pattern)
    segments = rest.split("/")
    fixed = 0
    while (
        fixed < len(segments) - 1
        and (
            not _MAGIC.search(segments[fixed])
            # A folder may well be called "film [1080p]".
            or (not scheme and os.path.isdir("/".join(segments[: fixed + 1])))
        )
    ):
        fixed += 1
    folder = "/".join(segments[:fixed]) or ("/" if fixed else "")
    return scheme + mark + folder, "/".join(segments[fixed:])


def _compiled(pattern: str) -> tuple[re.Pattern[str], str]:
    """What paths must be, and a glob that finds these and maybe more. Raises re.error for a set that is none."""
    segments = pattern.split("/")
    if segments[-1] == "**":
        segments.append("*")
    expressions, globs = [], []
    seen: set[str] = set()
    for segment in segments:
        if segment == "**":
            expressions.append(r"(?:(?!\.)[^/]+/)*")
            globs.append(segment)
            continue
        # Wildcards and fields find no hidden files; a dot that is written does.
        expression, glob = "" if segment.startswith(".") else r"(?!\.)", ""
        for piece in _PIECES.finditer(segment):
            if (field := piece["field"]) is not None:
                expression += f"(?P={field})" if field in seen else f"(?P<{field}>[^/]+)"
                seen.add(field)
            elif (characters := piece["set"]) is not None:
                escaped = re.sub(r"[\\\[^&~|]", r"\\\g<0>", characters.removeprefix("!"))
                expression += f"[^/{escaped}]" if characters.startswith("!") else f"[{escaped}]"
            else:
                expression += "[^/]*" if piece["run"] else "[^/]" if piece["one"] else re.escape(piece[0])
            glob += "*" if piece["field"] is not None or piece["run"] else piece[0]
        expressions.append(expression + "/")
        globs.append(glob)
    return re.compile("".join(expressions).removesuffix("/")), "/".join(globs)


def _short(paths: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The stem of each; the whole path of those whose stem is another's, too, or taken."""
    stems = [PurePosixPath(path.removesuffix(".gz")).stem for path in paths]
    count = Counter([*stems, *taken])
    return [path if count[stem] > 1 else stem for stem, path in zip(stems, paths, strict=True)]
