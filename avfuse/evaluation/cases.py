"""Cases: recordings with the truth about their clocks.

The truth is an alignment.json: its clocks are the true ones, `std` is to what the truth itself is known, and `sources`
are the files. A recording of status `no_match` or `degenerate` shares nothing and must be refused; one that is
`ambiguous` has several true answers, its candidates, and no method may choose one.

    folder/                     every folder in it with an alignment.json, and every truth beside them, is a case
    cases.json                  {"format": "avfuse.cases/1", "cases": [...]}, an entry per case:
        {"name": "hall-1", "truth": "hall-1/alignment.json", "group": "real", "settings": {"room": "hall"}}
        {"name": "hum-3", "simulate": {"pair": "unrelated", "kind": "hum", "seed": 3}, "settings": {"kind": "hum"}}

`truth` is a path relative to the file, or the document itself; `simulate` is a recipe of `avfuse.simulation.cases`,
made when the case is asked for. `group` and `settings` are what tables are broken down by.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from avfuse.alignment import FORMAT as ALIGNMENT
from avfuse.alignment import Alignment, ClockEstimate, alignment_from_json, json_text
from avfuse.errors import AvfuseError, ReadError, StreamError
from avfuse.files import replacing

FORMAT = "avfuse.cases/1"
_KEYS = ("name", "truth", "simulate", "group", "settings")
_EXPECTED = f"expected a folder of cases, a list of the format {FORMAT!r}, or a truth of the format {ALIGNMENT!r}"


@dataclass(frozen=True, eq=False)
class Case:
    """Recordings and their true clocks.

    truth: None where the case is made when it is needed. make: makes its files in a folder and returns their truth.
    group, settings: what tables are broken down by, e.g. "simulated" and {"room": "near"}.
    key: what tells this case from any other of its name, where it is made.
    """

    name: str
    truth: Alignment | None = None
    make: Callable[[Path], Alignment] | None = None
    group: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    def __post_init__(self) -> None:
        if (self.truth is None) == (self.make is None):
            raise StreamError(f"case {self.name!r}: expected either a truth or a way to make it")

    @property
    def true(self) -> Alignment:
        """The truth. Raises StreamError before the case is made."""
        if self.truth is None:
            raise StreamError(f"case {self.name!r} is made when it is asked for; its truth is not known before")
        return self.truth

    @property
    def names(self) -> tuple[str, ...]:
        """Recordings, the reference first."""
        truth = self.true
        return (truth.reference, *(name for name in truth.clocks if name != truth.reference))

    @property
    def files(self) -> tuple[str, ...]:
        """Absolute paths, in the order of `names`."""
        return tuple(os.path.abspath(self.true.facts[name].source or "") for name in self.names)

    def made(self, folder: Path) -> Case:
        """This case with its files there; the same one where they already are."""
        return self if self.make is None else replace(self, truth=self.make(folder), make=None)

    def pair(self, a: str, b: str) -> Case:
        """The case of two of its recordings alone, `a` being the reference; its truth is that they are there."""
        truth = self.true
        clocks = {a: replace(truth.clocks[a], reference=a), b: replace(truth.clocks[b], reference=a)}
        own = Alignment(a, clocks, facts={name: truth.facts[name] for name in (a, b)})
        return Case(f"{self.name}: {a} / {b}", own, group=self.group, settings=self.settings)


def check_truth(truth: Alignment) -> None:
    """Raise StreamError for a truth that no method could be asked about, and for files that are not there."""
    if len(truth.clocks) < 2:
        raise StreamError(f"the truth has {len(truth.clocks)} recording; expected two or more")
    for name in truth.clocks:
        source = truth.facts[name].source if name in truth.facts else None
        if source is None:
            raise StreamError(f"recording {name!r} has no source; expected the path of its file")
        if not os.path.isfile(source):
            raise StreamError(f"recording {name!r}: there is no file {source}")
    roots = {root_of(truth, name) for name in truth.clocks} - {None}
    missing = sorted(str(root) for root in roots if root not in truth.clocks)
    if missing:
        raise StreamError(f"the truth maps onto the clock of {missing[0]!r}, which is none of its recordings")


def root_of(alignment: Alignment, name: str) -> str | None:
    """The recording on whose clock `name` is; None where it is on nobody's."""
    estimate: ClockEstimate = alignment.clocks[name]
    if estimate.status == "reference":
        return name
    return None if estimate.clock is None else estimate.reference or alignment.reference


def read_cases(path: str | os.PathLike[str]) -> list[Case]:
    """Cases of a folder or a file. Raises ReadError, naming the case, for what cannot be evaluated."""
    place = Path(path)
    if not place.exists():
        raise ReadError(f"{place}: no such file or folder; {_EXPECTED}")
    if not place.is_dir():
        return _from_file(place)
    if (place / "cases.json").is_file():
        return _from_file(place / "cases.json")
    found: list[Case] = []
    for entry in sorted(place.iterdir()):
        if entry.is_dir() and (entry / "alignment.json").is_file():
            found += [replace(case, name=entry.name) for case in _from_file(entry / "alignment.json")]
        elif entry.suffix == ".json" and _load(entry).get("format") == ALIGNMENT:
            name = place.resolve().name if entry.stem == "alignment" else entry.stem
            found += [replace(case, name=name) for case in _from_file(entry)]
    if not found:
        raise ReadError(f"{place}: holds no cases, neither folders with an alignment.json nor truths; {_EXPECTED}")
    return found


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ReadError(f"{path}: cannot be read as JSON ({error}); {_EXPECTED}") from error
    return document if isinstance(document, dict) else {}


def _from_file(path: Path) -> list[Case]:
    document = _load(path)
    if document.get("format") == ALIGNMENT:
        return [_entry({"truth": document, "name": path.stem}, 1, path)]
    if document.get("format") != FORMAT:
        raise ReadError(f"{path}: format is {document.get('format')!r}; {_EXPECTED}")
    entries = document.get("cases")
    if not isinstance(entries, list) or not entries:
        raise ReadError(f"{path}: holds no cases; expected a list of them under 'cases'")
    cases = [_entry(entry, number, path) for number, entry in enumerate(entries, 1)]
    check_names(cases, str(path))
    return cases


def check_names(cases: Sequence[Case], called: str) -> None:
    """Raise ReadError where two cases have one name."""
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise ReadError(f"{called}: two cases are named {case.name!r}; expected distinct names")
        seen.add(case.name)


def _entry(entry: Any, number: int, path: Path) -> Case:
    if not isinstance(entry, dict):
        raise ReadError(f"{path}: case {number} is {entry!r}; expected an object with a name and a truth")
    name = entry.get("name")
    told = f"{path}: case {number}" + (f" ({name!r})" if isinstance(name, str) else "")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise ReadError(f"{told} has {unknown[0]!r}; expected {', '.join(_KEYS)}")
    if not isinstance(name, str) or not name:
        raise ReadError(f"{told}: its name is {name!r}; expected a text")
    group, settings = entry.get("group", ""), entry.get("settings", {})
    if not isinstance(group, str) or not isinstance(settings, dict):
        raise ReadError(f"{told}: group {group!r}, settings {settings!r}; expected a text and an object of texts")
    settings = {key: str(value) for key, value in settings.items()}
    if ("truth" in entry) == ("simulate" in entry):
        raise ReadError(f"{told}: expected one of 'truth', a path or an {ALIGNMENT} document, and 'simulate'")
    try:
        if "simulate" in entry:
            from avfuse.simulation.cases import check_recipe, simulate_case

            recipe = entry["simulate"]
            check_recipe(recipe)
            key = json.dumps(recipe, sort_keys=True)
            return Case(name, make=partial(simulate_case, recipe), group=group, settings=settings, key=key)
        truth = entry["truth"]
        if isinstance(truth, str):
            file = path.parent / truth
            found = alignment_from_json(_load(file), file.parent, str(file))
        else:
            found = alignment_from_json(truth, path.parent, "its truth")
        check_truth(found)
        return Case(name, _with_durations(found), group=group, settings=settings)
    except AvfuseError as error:
        raise ReadError(f"{told}: {error}") from error


def _with_durations(truth: Alignment) -> Alignment:
    """Lengths that the truth does not state are asked of the files: what both recorded follows from them."""
    facts, clocks = dict(truth.facts), dict(truth.clocks)
    for name, known in truth.facts.items():
        if known.duration > 0.0 or known.source is None:
            continue
        from avfuse.io import read

        facts[name] = replace(known, duration=read(known.source).duration)
        if clocks[name].span == (0.0, 0.0):
            clocks[name] = replace(clocks[name], span=(0.0, facts[name].duration))
    return replace(truth, facts=facts, clocks=clocks)


def write_cases(path: str | os.PathLike[str], entries: Iterable[Mapping[str, Any]]) -> Path:
    """Write a list of cases: entries as in the module's docstring. Raises WriteError where that is not possible."""
    with replacing(path) as temporary:
        temporary.write_text(json_text({"format": FORMAT, "cases": list(entries)}) + "\n", encoding="utf-8")
    return Path(path)
