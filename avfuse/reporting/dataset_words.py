"""What a prepared dataset is, in words and rows of tables: shared by its card and by its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from avfuse.alignment import format_std
from avfuse.reporting.dataset_statistics import Names, Statistics, format_bytes, local
from avfuse.reporting.distributions import Kind
from avfuse.reporting.text import format_confidence, format_duration
from avfuse.reporting.words import amount, shortened, shown

LICENCE = (
    "No licence is stated here and no consent, since avfuse cannot know them. Before you pass this folder on, say "
    "under which licence it may be used, and that those who are seen and heard in it agreed."
)
VERDICTS = {
    "in_sync": "in step with the picture",
    "out_of_sync": "out of step with the picture",
    "unknown": "could not be told",
}
TOLD = 50  # reasons, labels or modalities that the card tells one by one
_LONG = 90  # characters of a name


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
            f"{counted(total.samples, 'sample')}, {format_duration(total.duration)} in all, of "
            f"{counted(with_samples, 'event')} and {counted(found.recordings, 'recording')}, each event on a timeline."
        )
    elif without:
        text = f"This dataset holds no sample: of {counted(without, 'event')}, nothing was written."
    if corrected:
        text += f" {corrected:,} of the samples {_was(corrected)} corrected."
    if dropped:
        text += f" {counted(dropped, 'window or event', 'windows or events')} {_was(dropped)} left out, with a reason."
    if found.failures:
        text += f" {counted(found.failures, 'error')} on the way {'is' if found.failures == 1 else 'are'} listed."
    return text


def modality_rows(found: Statistics) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table of what samples are made of; without columns of which nothing is known."""
    columns = ("modality", "kind", "codec", "rate [Hz]", "size [px]", "samples", "not whole", "bytes")
    rows = [
        (
            name,
            *(_few(names) for names in (m.kinds, m.codecs, m.rates, m.sizes)),
            f"{m.samples:,}",
            f"{m.partial:,}",
            format_bytes(m.bytes),
        )
        for name, m in sorted(found.modalities.items(), key=lambda item: (-item[1].samples, item[0]))[:TOLD]
    ]
    known = [k for k in range(len(columns)) if any(row[k] != "–" for row in rows)]
    return tuple(columns[k] for k in known), [tuple(row[k] for k in known) for row in rows]


def _few(names: Names) -> str:
    """Up to three names; of more how many there are."""
    ranked = [name for name, _ in names.ranked()]
    if len(ranked) > 3 or names.others:
        return f"{ranked[0]} and {len(ranked) - 1 + (names.others > 0)} more"
    return ", ".join(ranked) or "–"


def making(facts: Mapping[str, Any]) -> str:
    """How samples come about, as far as the recipe has no say in it."""
    version = facts.get("avfuse")
    checked = (facts.get("recipe") or {}).get("limits", {}).get("sync", True)
    return (
        f"By avfuse{f' {version}' if version else ''}. The recordings of each event were put on the clock of one of "
        f"them by what they share{', and the sound of each file was held against its picture' if checked else ''}. "
        "Windows were decoded, placed on that clock and encoded again: none begins or ends where a key frame or a "
        "packet happened to be. All samples of an event are in one split."
    )


def command(facts: Mapping[str, Any]) -> str:
    """The command line: as prepare.json has it, else what it must have been but for its options."""
    if facts.get("command"):
        return shown(local(str(facts["command"])))
    name = PurePosixPath(str(facts.get("manifest") or "MANIFEST").replace("\\", "/")).name
    return f"avfuse prepare {shown(name)} -o DIR"


# Of a recipe: what a setting is, how its value is told, and what none of it means.
_KEPT = {"drop": "dropped", "keep": "kept"}.get
_YES = {True: "yes", False: "no"}.get
_FIT = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}.get
_SETTINGS: dict[str, tuple[str, Callable[[Any], str | None], str]] = {
    "duration": ("length of a sample", amount, "that of its event"),
    "hop": ("from the start of one window to the next", amount, "their length"),
    "timeline": (
        "windows lie where",
        {"intersection": "all streams have something", "union": "any stream has something"}.get,
        "",
    ),
    "streams": ("streams", str, "all of all recordings"),
    "transforms": ("features", str, "none"),
    "limits.confidence": ("probability that a clock is right, at least", lambda v: f"{v:g}", ""),
    "limits.std": ("standard deviation of times, at most", format_std, "no limit"),
    "limits.coverage": ("share of a window that a stream covers, at least", lambda v: f"{100 * v:g} %", ""),
    "limits.offset": ("recordings started apart, at most", amount, "no limit"),
    "limits.drift": ("drift, at most", lambda v: f"{v * 1e6:g} ppm", "no limit"),
    "limits.lacking": ("windows that lack a stream are", _KEPT, ""),
    "limits.sync": ("sound is held against picture", _YES, ""),
    "limits.sync_confidence": ("probability of a delay to act on, at least", lambda v: f"{v:g}", ""),
    "limits.unsure": ("recordings of which that cannot tell are", _KEPT, ""),
    "limits.damaged": ("events with damaged files are", _KEPT, ""),
    "limits.correct": ("clocks and delays are corrected", _YES, ""),
    "picture.size": ("size of pictures", lambda v: f"{v[1]} × {v[0]} pixels", "as recorded"),
    "picture.fit": ("pictures of another shape are", _FIT, ""),
    "picture.rate": ("pictures a second", lambda v: f"{v:g}", "every frame, at its own time"),
    "picture.quality": ("constant rate factor of H.264", str, ""),
    "picture.speed": ("preset of x264", str, ""),
    "sound.rate": ("samples of sound a second", lambda v: f"{v:g}", "as recorded"),
    "sound.mono": ("channels of sound are mixed", _YES, ""),
    "sound.bits": ("bits of a sample of sound", str, ""),
    "format": ("shards are", {"webdataset": "WebDataset (tar)", "parquet": "Parquet"}.get, ""),
    "shard": ("samples in a shard, at most", str, ""),
    "validation": ("share of events for validation", lambda v: f"{100 * v:g} %", ""),
    "test": ("share of events for tests", lambda v: f"{100 * v:g} %", ""),
    "seed": ("seed of that choice", str, ""),
    "spacing": ("devices stood apart, at most", lambda v: f"{v:g} m" if v else "not taken into account", ""),
    "max_offset": ("offsets were looked for up to", amount, "any length"),
}  # fmt: skip


def settings(recipe: Mapping[str, Any], parent: str = "") -> list[tuple[str, str]]:
    """A recipe as (what, which), in its order; what no words are known for is told under its own name."""
    found: list[tuple[str, str]] = []
    for key, value in recipe.items():
        name = f"{parent}{key}"
        what, tell, none = _SETTINGS.get(name, (name.replace("_", " ").replace(".", ": "), _told, "none"))
        if isinstance(value, Mapping) and value:
            found += settings(value, f"{name}.")
        elif value is None or value == {}:
            found.append((shown(what), none))
        else:
            found.append((shown(what), shown(local(tell(value) or _told(value)))))
    return found


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return ", else ".join(map(_told, value)) if isinstance(value, list) else str(value)


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


def clock_note(found: Statistics) -> str:
    """What the figures of the clocks are of."""
    still = f" The drift of {counted(found.still, 'clock')} is unknown and was taken as 0." if found.still else ""
    return (
        "Of recordings that samples were cut from, references left out; of each the worst of its samples. The standard "
        "deviation is that of a time on the event's timeline, if the recording lies at the right place at all; the "
        "confidence is the probability that it does: of clocks stated with 0.99 or more, at most 1 in 100 is wrong."
        + still
    )


def check_rows(found: Statistics) -> list[tuple[str, str, str]]:
    """(verdict, how many recordings with samples, how many without), in the order of `VERDICTS`."""
    names = [name for name in VERDICTS if name in found.checks] + sorted(set(found.checks) - set(VERDICTS))
    return [
        (VERDICTS.get(name, shown(name)), f"{found.checks[name][0]:,}", f"{found.checks[name][1]:,}") for name in names
    ]


def limits(found: Statistics) -> list[str]:
    """What a user of the data has to know and cannot see in them."""
    partial = sum(m.partial for m in found.modalities.values())
    unknown = found.checks.get("unknown", (0, 0))[0]
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
        said.append(
            f"Whether sound and picture are in step is unknown of {counted(unknown, 'recording')} with samples."
        )
    if partial:
        said.append(
            f"{counted(partial, 'stream')} of samples do not reach over the whole window: `valid` in the row says from "
            "where to where they do."
        )
    return said


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def counted(count: int, one: str, many: str | None = None) -> str:
    """1,204 samples."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
