"""The card of a prepared dataset: README.md, with the header that the Hugging Face hub and `datasets` read.

https://huggingface.co/docs/hub/datasets-cards, https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from avfuse.reporting.dataset_statistics import Names, Statistics, format_bytes, gather, split_rank
from avfuse.reporting.dataset_words import (
    LICENCE,
    TOLD,
    check_rows,
    clock_note,
    clock_rows,
    command,
    counted,
    examples_of,
    limits,
    making,
    modality_rows,
    settings,
    summary,
    title,
)
from avfuse.reporting.distributions import Kinds
from avfuse.reporting.tables import Table
from avfuse.reporting.text import format_duration
from avfuse.reporting.words import amount, shortened, shown

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_CASTS = {"flac": "Audio", "wav": "Audio", "mp4": "Video"}  # what decodes files in `datasets`
_TAGS = {"sound": "audio", "picture": "video", "text": "text"}
_LONG = 90  # characters of a name


def dataset_card(
    facts: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
) -> str:
    """README.md of a dataset: what it holds, how it was made, what was left out and why, and what is not known.

    facts: of prepare.json. rows: of manifest.jsonl, gone through once, those of one event one after the other.
    errors: of errors.jsonl. Equal input gives equal text: no date, no folder from the root, no machine.
    """
    found = gather(facts, rows, errors)
    parts = [
        _header(facts, found),
        f"# {_text(title(facts))}",
        summary(found),
        f"> {LICENCE}",
        "Figures with examples to look at and to listen to: [index.html](index.html).",
        "## What it holds",
        *_holdings(found),
        "## How it was made",
        *_making(facts),
        "## What was left out",
        *_left_out(found),
        "## How well the clocks are known",
        *_clocks(found),
        "## Sound against picture",
        *_checks(found),
        "## How to load it",
        *_loading(facts, found),
        "## What is not known",
        "\n".join(f"- {sentence}" for sentence in limits(found)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: Mapping[str, Any], found: Statistics) -> str:
    """YAML; texts as JSON, which is YAML too."""
    size = next((k for k in range(len(_SIZES)) if found.total.samples < 1000 * 10**k), len(_SIZES) - 1)
    kinds = {kind for modality in found.modalities.values() for kind in modality.kinds.counts}
    tags = ["avfuse", "synchronization", *sorted({_TAGS[kind] for kind in kinds if kind in _TAGS})]
    lines = ["---", f"pretty_name: {_quoted(title(facts))}"]
    lines += ["size_categories:", f"- {_SIZES[size]}", "tags:", *(f"- {tag}" for tag in tags)]
    paths = shard_paths(facts)
    if paths:
        lines += _features(found) if paths[0][1].endswith(".tar") else []
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split, path in paths:
            lines += [f"  - split: {_quoted(split)}", f"    path: {_quoted(path)}"]
    return "\n".join([*lines, "---"])


def _quoted(text: str) -> str:
    return json.dumps(shown(text), ensure_ascii=False)


def _features(found: Statistics) -> list[str]:
    """What the files of a sample are. `datasets` would guess it from the first samples, and refuse what differs.

    Sound and pictures are bytes, which every installation can read; arrays are decoded in any case.
    """
    types = {file: "json" if file.endswith(".npz") else "binary" for file in _files(found)}
    fields = {"__key__": "string", "__url__": "string", "json": "json", **types}
    told = [line for name, kind in fields.items() for line in (f"  - name: {_quoted(name)}", f"    dtype: {kind}")]
    return ["dataset_info:", "  features:", *told]


def _files(found: Statistics) -> list[str]:
    """Names of the files of a sample, without its key."""
    return sorted({file for modality in found.modalities.values() for file in modality.files.counts})


def shard_paths(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(split, pattern of its shards) of every split that has shards: train, validation, test."""
    found = {s["split"]: PurePosixPath(s["name"]) for s in facts.get("shards", ())}
    names = sorted(found, key=split_rank)
    return [(name, str(found[name].parent / f"*{found[name].suffix}")) for name in names]


def _holdings(found: Statistics) -> list[str]:
    rows = [
        (
            name or "none",
            f"{s.events:,}",
            f"{s.samples:,}",
            format_duration(s.duration),
            s.shards,
            format_bytes(s.bytes),
        )
        for name, s in found.ordered()
        if s.samples or s.shards
    ]
    if not rows:
        return ["Nothing."]
    parts = [_table(("split", "events", "samples", "duration", "shards", "size"), rows)]
    parts.append(_table(*modality_rows(found)))
    windows = found.figures["duration"].written
    length = amount(windows.low)
    if not windows.single:
        length = f"{amount(windows.low)} to {amount(windows.high)}, median {amount(windows.quantile(0.5))}"
    parts.append(f"Samples last {length}. Recordings by role: {_listed(found.roles)}.")
    parts.append(_labels(found))
    if found.leaks:
        parts.append(f"**{counted(found.leaks, 'event')} have samples in more than one split.**")
    return parts


def _listed(names: Names, most: int = TOLD) -> str:
    """Names with how many there are of each."""
    ranked = names.ranked()
    told = [f"{_text(shortened(shown(name), _LONG))} ({count:,})" for name, count in ranked[:most]]
    rest = sum(count for _, count in ranked[most:]) + names.others
    return ", ".join(told + ([f"others ({rest:,})"] if rest else []))


def _labels(found: Statistics) -> str:
    parts = []
    if found.labels.counts:
        parts.append(f"Labels of samples: {_listed(found.labels)}.")
    if found.numbers.count:
        low, high = found.numbers.low, found.numbers.high
        parts.append(f"Labels that are numbers: {found.numbers.count:,}, from {low:.6g} to {high:.6g}.")
    if not parts:
        return "Samples have no labels."
    return " ".join(parts + ([f"Without a label: {found.unlabelled:,}."] if found.unlabelled else []))


def _making(facts: Mapping[str, Any]) -> list[str]:
    told = settings(facts.get("recipe") or {})
    table = [_table(("setting", "value"), told)] if told else []
    return [_text(making(facts)), "    " + command(facts), *table]


def _left_out(found: Statistics) -> list[str]:
    parts = []
    dropped = found.total.decisions["drop"]
    if dropped:
        parts.append(
            f"{counted(dropped, 'window or event', 'windows or events')} of {found.rows:,}, some for several reasons."
        )
        parts.append(_reasons(found.dropped, "windows or events"))
    else:
        parts.append("No window and no event was dropped.")
    if len(found.corrected):
        parts += ["What was noted of samples that were kept or corrected:", _reasons(found.corrected, "samples")]
    if found.failures:
        parts += [f"{counted(found.failures, 'error')}, of files or of events:", _reasons(found.errors, "errors")]
    return parts


def _reasons(kinds: Kinds, of: str) -> str:
    rows: list[tuple[str, str, str]] = [
        (kind.text, f"{kind.count:,}", examples_of(kind, 1)) for kind in kinds.ranked()[:TOLD]
    ]
    rest = sum(kind.count for kind in kinds.ranked()[TOLD:]) + kinds.others
    if rest:
        rows.append(("other reasons", f"{rest:,}", ""))
    return _table(("reason", of, "for example"), rows)


def _clocks(found: Statistics) -> list[str]:
    rows = clock_rows(found)
    if not rows:
        return ["No clock had to be found: no sample has a recording besides the reference of its event."]
    parts = [_table(("", "clocks", "median", "90 % of them", "all"), rows), clock_note(found)]
    if found.evidence.counts:
        parts.append(f"What placed them: {_listed(found.evidence)}.")
    return parts


def _checks(found: Statistics) -> list[str]:
    rows = check_rows(found)
    if not rows:
        return ["Nothing was checked: no recording has both."]
    parts = [_table(("sound is", "recordings with samples", "dropped"), rows)]
    delays = found.figures["delay"].written
    if delays.single:
        way = "late" if delays.low >= 0 else "early"
        parts.append(f"The sound of {counted(delays.count, 'recording')} with samples is {amount(delays.low)} {way}.")
    elif delays.count:
        middle, most = (amount(delays.quantile(share, abs)) for share in (0.5, 0.9))
        parts.append(
            f"Of {counted(delays.count, 'recording')} with samples a delay was found: half of them are out by no more "
            f"than {middle}, 90 % by no more than {most}."
        )
    return parts


def _loading(facts: Mapping[str, Any], found: Statistics) -> list[str]:
    paths = shard_paths(facts)
    if not paths:
        return ["There is nothing to load."]
    split, pattern = paths[0]
    tar = pattern.endswith(".tar")
    lines = [
        "import avfuse",
        "",
        f'for batch in avfuse.windows(".", split={json.dumps(split)}):  # streams, their times, and what is valid',
        "    ...",
    ]
    parts = [
        "In this folder, or with its path in the place of what stands for it:",
        "\n".join(["```python", *lines, "```"]),
    ]
    if tar:
        parts.append(
            "Shards are WebDataset archives: `KEY.json` is the row of `manifest.jsonl` with the times of frames, and "
            "each stream is a file `KEY.NAME`."
        )
        parts.append(
            f"```python\nfrom glob import glob\n\nimport webdataset\n\n"
            f"samples = webdataset.WebDataset(sorted(glob({json.dumps(pattern)})), shardshuffle=False)\n```"
        )
    else:
        parts.append("Shards are Parquet files: a row for each sample, a column for each stream.")
    parts.append(
        f"```python\nimport os\n\nimport datasets\n\n"
        f"samples = datasets.load_dataset(os.getcwd(), split={json.dumps(split)}, streaming=True)\n```"
    )
    if not tar:
        parts.append("Sound and pictures are decoded by torchcodec; `samples.decode(False)` leaves them as bytes.")
        return parts
    casts = [f"`samples.cast_column({_quoted(f)}, datasets.{_CASTS[s]}())`" for f in _files(found)
             if (s := f.rpartition(".")[2]) in _CASTS]  # fmt: skip
    if casts:
        parts.append(f"Sound and pictures come as bytes; {casts[0]} decodes them, by torchcodec.")
    return parts


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return Table("", columns, [[_text(shortened(shown(str(cell)), 240)) for cell in row] for row in rows]).markdown()


def _text(text: str) -> str:
    """A text that Markdown shows as it is. Bars are left to `Table`, which escapes them."""
    return re.sub(r"([\\`*_\[\]~$])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
