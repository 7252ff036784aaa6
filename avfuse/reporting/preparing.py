"""What `avfuse prepare` did, or would do, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from avfuse.preparation.running import Prepared

_MOST = 20  # lines of a kind that are told; the rest stands in the files


def print_prepared(found: Prepared, out: TextIO) -> None:
    """Splits, decisions and their reasons, errors; of a dry run, every sample."""
    for row in found.rows:
        start = "" if row["start"] is None else f"{row['start']:9.3f} s +{row['duration']:.3f}"
        print(f"{row['decision']:<8} {row['key']}  {start}  {'; '.join(row['reasons'])}".rstrip(), file=out)
    if found.rows:
        print(file=out)
    for name, split in found.splits.items():
        made = f"{split['samples']:,.0f} samples of {split['events']:,.0f} events, {_hours(split['duration'])}"
        print(f"{name:<12}{made}", file=out)
    total = sum(found.decisions.values())
    shares = ", ".join(f"{count:,} {name}" for name, count in found.decisions.items() if count)
    print(f"decisions   {shares or 'none'} of {total:,}", file=out)
    for line in found.errors[:_MOST]:
        print(f"error       {line['source'] or line['event']}: {line['message']}", file=out)
    if len(found.errors) > _MOST:
        print(f"            and {len(found.errors) - _MOST:,} more in errors.jsonl", file=out)
    if found.shards:
        size = sum(shard.bytes for shard in found.shards) / 1e6
        done = "is there    " if found.before else "wrote       "
        print(f"{done}{len(found.shards)} shards, {size:,.1f} MB, in {found.place}", file=out)
    elif not found.rows:
        print(f"wrote       no shard: every sample was dropped; see {found.place}/manifest.jsonl", file=out)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 600 else f"{seconds:.1f} s"
