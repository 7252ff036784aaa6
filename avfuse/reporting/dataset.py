"""The card of a prepared dataset: README.md, with the header that the Hugging Face hub and `datasets` read.

https://huggingface.co/docs/hub/datasets-cards, https://huggingface.co/docs/hub/datasets-manual-configuration
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from avfuse.reporting.dataset_statistics import (
    Figure,
    Names,
    Statistics,
    format_bytes,
    gather,
    local,
    settings,
)
from avfuse.reporting.distributions import Kind, Kinds
from avfuse.reporting.tables import Table
from avfuse.reporting.text import format_confidence, format_duration
from avfuse.reporting.words import amount, number, shortened, shown

LICENCE = (
    "No licence is stated here and no consent, since avfuse cannot know them. Before you pass this folder on, say "
    "under which licence it may be used, and that those who are seen and heard in it agreed."
)
VERDICTS = {
    "in_sync": "in step with the picture",
    "out_of_sync": "out of step with the picture",
    "unknown": "could not be told",
}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
_TAGS = {"sound": "audio", "picture": "video", "text": "text"}
_KINDS = 50  # reasons, labels or modalities that are told one by one; the page has more
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


def title(facts: Mapping[str, Any]) -> str:
    """What the dataset is called: its manifest without folder and suffix."""
    name = str(facts.get("manifest") or "dataset").replace("\\", "/")
    return shortened(shown(PurePosixPath(name).stem or "dataset"), _LONG)


def summary(found: Statistics) -> str:
    """One paragraph: how much there is, of how much."""
    with_samples, without = found.events
    total = found.total
    corrected, dropped = total.decisions["correct"], total.decisions["drop"]
    text = "This dataset holds no sample."
    if total.samples:
        text = (
            f"{_many(total.samples, 'sample')}, {format_duration(total.duration)} in all, of "
            f"{_many(with_samples, 'event')} and {_many(found.recordings, 'recording')}, each event on one timeline."
        )
    elif without:
        text = f"This dataset holds no sample: of {_many(without, 'event')}, nothing was written."
    if corrected:
        text += f" {corrected:,} of the samples {_was(corrected)} corrected."
    if dropped:
        text += f" {_many(dropped, 'window or event', 'windows or events')} {_was(dropped)} left out, with a reason."
    if found.failures:
        text += f" {_many(found.failures, 'error')} on the way {'is' if found.failures == 1 else 'are'} listed."
    return text


def _header(facts: Mapping[str, Any], found: Statistics) -> str:
    """YAML; texts as JSON, which is YAML too."""
    size = next((k for k in range(len(_SIZES)) if found.total.samples < 1000 * 10**k), len(_SIZES) - 1)
    kinds = {kind for modality in found.modalities.values() for kind in modality.kinds.counts}
    tags = ["avfuse", "synchronization", *sorted({_TAGS[kind] for kind in kinds if kind in _TAGS})]
    lines = ["---", f"pretty_name: {json.dumps(title(facts), ensure_ascii=False)}"]
    lines += ["size_categories:", f"- {_SIZES[size]}", "tags:", *(f"- {tag}" for tag in tags)]
    paths = shard_paths(facts)
    if paths:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for split, path in paths:
            lines += [f"  - split: {json.dumps(split)}", f"    path: {json.dumps(path, ensure_ascii=False)}"]
    return "\n".join([*lines, "---"])


def shard_paths(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(split, pattern of its shards) of every split that has shards: train, validation, test."""
    found = {s["split"]: PurePosixPath(s["name"]) for s in facts.get("shards", ())}
    order = {"train": 0, "validation": 1, "test": 2}
    names = sorted(found, key=lambda name: (order.get(name, 3), name))
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
        parts.append(f"**{_many(found.leaks, 'event')} have samples in more than one split.**")
    return parts


def modality_rows(found: Statistics) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table of what samples are made of."""
    columns = ("modality", "kind", "codec", "rate [Hz]", "size [px]", "samples", "not whole", "bytes")
    rows = [
        (
            name,
            *(_few(names) for names in (m.kinds, m.codecs, m.rates, m.sizes)),
            f"{m.samples:,}",
            f"{m.partial:,}",
            format_bytes(m.bytes),
        )
        for name, m in sorted(found.modalities.items(), key=lambda item: (-item[1].samples, item[0]))[:_KINDS]
    ]
    return columns, rows


def _few(names: Names) -> str:
    """Up to three names; of more how many there are."""
    ranked = [name for name, _ in names.ranked()]
    if len(ranked) > 3 or names.others:
        return f"{ranked[0]} and {len(ranked) - 1 + (names.others > 0)} more"
    return ", ".join(ranked) or "–"


def _listed(names: Names, most: int = _KINDS) -> str:
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
    version = facts.get("avfuse")
    parts = [
        f"By avfuse{f' {_text(str(version))}' if version else ''}: the recordings of each event were put on the clock "
        "of one of them by what they share, the sound of each file was checked against its picture, and windows were "
        "decoded, brought onto that clock and encoded again, so that none begins or ends at a key frame or packet "
        "nearby. Splits are by event.",
        "    " + command(facts),
    ]
    told = settings(facts.get("recipe") or {})
    if told:
        parts.append(_table(("setting", "value"), told))
    return parts


def command(facts: Mapping[str, Any]) -> str:
    """The command line: as prepare.json has it, else what it must have been but for its options."""
    if facts.get("command"):
        return shown(local(str(facts["command"])))
    name = PurePosixPath(str(facts.get("manifest") or "MANIFEST").replace("\\", "/")).name
    return f"avfuse prepare {shown(name)} -o DIR"


def _left_out(found: Statistics) -> list[str]:
    parts = []
    dropped = found.total.decisions["drop"]
    if dropped:
        parts.append(
            f"{_many(dropped, 'window or event', 'windows or events')} of {found.rows:,}; one may have several reasons."
        )
        parts.append(_reasons(found.dropped, "windows or events"))
    else:
        parts.append("No window and no event was dropped.")
    if len(found.corrected):
        parts += ["What was noted of samples that were kept or corrected:", _reasons(found.corrected, "samples")]
    if found.failures:
        parts += [f"{_many(found.failures, 'error')}, of files or of events:", _reasons(found.errors, "errors")]
    return parts


def _reasons(kinds: Kinds, of: str) -> str:
    rows: list[tuple[str, str, str]] = [
        (kind.text, f"{kind.count:,}", examples_of(kind, 1)) for kind in kinds.ranked()[:_KINDS]
    ]
    rest = sum(kind.count for kind in kinds.ranked()[_KINDS:]) + kinds.others
    if rest:
        rows.append(("other reasons", f"{rest:,}", ""))
    return _table(("reason", of, "for example"), rows)


def examples_of(kind: Kind, most: int) -> str:
    return ", ".join(shortened(shown(name)) for name in kind.examples[:most])


def clock_rows(found: Statistics) -> list[tuple[str, str, str, str, str]]:
    """(what, how many, median, what 90 % keep to, what all keep to) of the clocks that samples were cut by."""
    rows = []
    for name, key, told in (
        ("size of the offset", "offset", amount),
        ("size of the drift", "drift", lambda v: f"{v * 1e6:.3g} ppm"),
        ("standard deviation", "std", amount),
    ):
        d = found.figures[key].written
        if d.count:
            median, most, all_ = (told(d.quantile(share, abs)) for share in (0.5, 0.9, 1.0))
            rows.append((name, f"{d.count:,}", median, f"≤ {most}", f"≤ {all_}"))
    d = found.figures["confidence"].written
    if d.count:
        median, most, all_ = (format_confidence(d.quantile(share)) for share in (0.5, 0.1, 0.0))
        rows.append(("confidence", f"{d.count:,}", median, f"≥ {most}", f"≥ {all_}"))
    return rows


def _clocks(found: Statistics) -> list[str]:
    rows = clock_rows(found)
    if not rows:
        return ["No clock had to be found: no sample has a recording besides the reference of its event."]
    parts = [_table(("", "clocks", "median", "90 % of them", "all"), rows), clock_note(found)]
    if found.evidence.counts:
        parts.append(f"What placed them: {_listed(found.evidence)}.")
    return parts


def clock_note(found: Statistics) -> str:
    """What the figures of the clocks are of."""
    return (
        "Of recordings that samples were cut from, references left out. The standard deviation is that of a time on "
        "the event's timeline, if the recording lies at the right place at all; the confidence is the probability "
        "that it does, and of clocks stated with 0.99 or more at most 1 in 100 is wrong."
        + (f" The drift of {number(found.still, 'clock')} could not be told and was taken as 0." if found.still else "")
    )


def _checks(found: Statistics) -> list[str]:
    rows = check_rows(found)
    if not rows:
        return ["Nothing was checked: no recording has both."]
    parts = [_table(("sound is", "recordings with samples", "dropped"), rows)]
    delay: Figure = found.figures["delay"]
    if delay.written.count:
        d = delay.written
        parts.append(
            f"Of {_many(d.count, 'recording')} whose delay was found and that samples were cut from, half are out by "
            f"no more than {amount(d.quantile(0.5, abs))} and 90 % by no more than {amount(d.quantile(0.9, abs))}."
        )
    return parts


def check_rows(found: Statistics) -> list[tuple[str, str, str]]:
    """(verdict, how many recordings with samples, how many without), in the order of `VERDICTS`."""
    names = [name for name in VERDICTS if name in found.checks] + sorted(set(found.checks) - set(VERDICTS))
    return [(VERDICTS.get(name, name), f"{found.checks[name][0]:,}", f"{found.checks[name][1]:,}") for name in names]


def _loading(facts: Mapping[str, Any], found: Statistics) -> list[str]:
    paths = shard_paths(facts)
    if not paths:
        return ["There is nothing to load."]
    split, pattern = paths[0]
    tar = pattern.endswith(".tar")
    lines = [
        "import avfuse",
        "",
        'for batch in avfuse.windows("."):  # this folder: streams with their times, what is valid and what is there',
        "    ...",
    ]
    parts = ["\n".join(["```python", *lines, "```"])]
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
        f"```python\nimport datasets\n\n"
        f'samples = datasets.load_dataset(".", split={json.dumps(split)}, streaming=True)\n```'
    )
    some = [name for name, m in found.modalities.items() if m.samples < found.total.samples]
    if some and tar:
        parts.append(
            "`datasets` takes the names of files from the first samples and refuses archives in which they differ, as "
            "here, where not every sample has every modality; the other two read it."
        )
    return parts


def limits(found: Statistics) -> list[str]:
    """What a user of the data has to know and cannot see in them."""
    partial = sum(m.partial for m in found.modalities.values())
    unknown = found.checks.get("unknown", [0, 0])[0]
    said = [
        "Clocks are put together as sound was heard. Sound takes 2.9 ms for each metre, so what devices at different "
        "distances recorded lies apart by that much.",
        "Offsets, drifts, confidences and delays are estimates by avfuse; nobody compared them with a truth.",
        "Labels are those of the manifest. Nobody checked them.",
    ]
    if found.total.decisions["drop"]:
        said.append(
            "What was left out was not left out at random: silence, stillness and weak overlap are rarer here than in "
            "the recordings."
        )
    if unknown:
        said.append(f"Whether sound and picture are in step is unknown of {_many(unknown, 'recording')} with samples.")
    if partial:
        said.append(
            f"{_many(partial, 'stream')} of samples do not reach over the whole window: `valid` in the row says from "
            "where to where they do."
        )
    return said


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _many(count: int, one: str, many: str | None = None) -> str:
    """1,204 samples."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return Table("", columns, [[_text(shortened(shown(str(cell)), 240)) for cell in row] for row in rows]).markdown()


def _text(text: str) -> str:
    """A text that Markdown shows as it is. Bars are left to `Table`, which escapes them."""
    return re.sub(r"([\\`*_\[\]~$])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
