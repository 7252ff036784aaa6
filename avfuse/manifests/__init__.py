"""Manifests: which files belong to one event, and what is known of it.

JSON lines, one event each:

    {"event": "e1", "files": {"camera": "e1/cam.mp4", "recorder": "e1/rec.wav"}, "label": "clap", "split": "train"}
    {"event": "e2", "files": {...}, "labels": [{"start": 1.0, "end": 2.5, "label": "clap"}, ...], "site": "hall"}

Parquet with these as columns, or a table (CSV, and Parquet without `files`) whose columns `event`, `label`, `split`,
`reference`, `group`, `start` and `end` mean the same, `meta.NAME` are metadata and all others are roles of files. Or no
manifest at all: a folder, or a pattern such as `data/{event}/{role}.mp4`.

Paths are relative to the manifest. Roles become the names of recordings. Times are seconds of the event's timeline.

events      Event, Span; aligning them, and names as file names
rows        one row, checked -> Event
reading     JSON lines, CSV, Parquet
patterns    folders and patterns of paths
places      folders of this machine, and URLs
splitting   train, validation, test
"""

from avfuse.manifests.events import SPLITS, Event, Span, align_event, align_recordings, as_file_name
from avfuse.manifests.reading import read_manifest
from avfuse.manifests.splitting import split_events

__all__ = [
    "SPLITS",
    "Event",
    "Span",
    "align_event",
    "align_recordings",
    "as_file_name",
    "read_manifest",
    "split_events",
]
