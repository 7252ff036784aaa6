"""`read`: which reader a file is for, by its first bytes and its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from avfuse.errors import ReadError
from avfuse.io.media import read_media
from avfuse.stream import Recording

# Text has no first bytes that tell: these are tables by name. Others, such as playlists, are FFmpeg's.
_TABLES = {".csv", ".tsv", ".txt", ".tum", ".dat", ".log", ".asc"}
_PARQUET = {".parquet", ".pq"}
_ARRAYS = {".npy", ".npz"}
_BAGS = {".bag", ".db3", ".mcap"}
_XDF = {".xdf", ".xdfz"}
TABLES = ("text", "parquet", "arrays")  # forms that leave open what their columns are
# FFmpeg tells media by their bytes. Of files in a folder: what holds pictures that move, and what holds sound.
VIDEOS = frozenset(
    ".3gp .asf .avi .flv .m2t .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogv .ts .vob .webm .wmv".split()  # noqa: SIM905  (twenty quoted words are harder to read)
)
_SOUNDS = frozenset(
    ".aac .ac3 .aif .aiff .amr .au .caf .flac .m4a .mka .mp2 .mp3 .oga .ogg .opus .rf64 .w64 .wav .wma .wv".split()  # noqa: SIM905
)
_RECORDINGS = VIDEOS | _SOUNDS | _TABLES | _PARQUET | _ARRAYS | _BAGS | _XDF


def read(
    path: str | os.PathLike[str],
    *,
    time_column: str | int | None = None,
    time_unit: str | None = None,
    rate: float | None = None,
) -> Recording:
    """The recording in a file: media that FFmpeg decodes, or what sensors wrote.

    Media are read lazily. Time 0 is the earliest presented sound or picture sample, from time stamps, after edit lists
    and skipped encoder priming; every stream keeps its own start. `Recording.start` is the container's time of that
    sample in ns. A camera's own sensors (GoPro's GPMF and what telemetry-parser knows) come as further streams.
    facts: `container`, `creation_time` and `timecode` where the file has them (weak priors: clocks of cameras are
    often wrong), `time_reference` (samples since midnight, of broadcast WAV), `odd`: sentences on what a person
    should know. Streams' facts: `codec`, `index` and for pictures `width`, `height`, `average_rate`, `is_variable`,
    `rotation`.

    Sensors: tables as text (CSV, TSV, TUM, EuRoC; gzipped or not), Parquet, NumPy (.npy, .npz), XDF, MCAP and ROS
    bags. Time 0 is the smallest stamp; `Recording.start` keeps it as integer nanoseconds, `start_clock` says whether
    it is a date ("unix") or a device's own count ("device"). Streams have times `(n,)` and values `(n, k)` float64 in
    SI units; what was converted, and what decided, stands in their facts `unit`, `unit_from`, `scale`, `kind_from`.
    time_column: name or number (from 1) of the column of a table that holds stamps, where the file leaves it open.
    time_unit: "s", "ms", "us" or "ns" of that column, where the file leaves it open.
    rate: Hz of a table whose rows are evenly sampled and that has no times; it then starts at 0.
    What of these was given stands in `facts["reading"]`, so that the file can be read again.

    Raises ReadError, one line, for what is missing, cannot be read, holds nothing to align, or leaves open which
    column is time or what its unit is.
    """
    name = os.fspath(path)
    form = format_of(name)
    options = {"time_column": time_column, "time_unit": time_unit, "rate": rate}
    told = {word: given for word, given in options.items() if given is not None}
    if form not in TABLES:
        if told:
            raise ReadError(f"{name}: is no table; {next(iter(told))}= is for tables alone, leave it out")
    else:
        found = _read_table(form, name, options)
        return replace(found, facts={**found.facts, "reading": told}) if told else found
    if form == "xdf":
        from avfuse.io.sensors.xdf import read_xdf

        return read_xdf(name)
    if form == "bag":
        from avfuse.io.sensors.bags import read_bag

        return read_bag(name)
    from avfuse.io.sensors.telemetry import with_telemetry

    return with_telemetry(read_media(name))


def _read_table(form: str, name: str, options: dict[str, Any]) -> Recording:
    if form == "text":
        from avfuse.io.sensors.text_tables import read_text_table

        return read_text_table(name, **options)
    if form == "parquet":
        from avfuse.io.sensors.parquet import read_parquet

        return read_parquet(name, **options)
    from avfuse.io.sensors.arrays import read_arrays

    return read_arrays(name, **options)


def format_of(path: str) -> str:
    """ "text", "parquet", "arrays", "xdf", "bag" or "media"."""
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if os.path.isdir(path):
        return "bag" if os.path.isfile(os.path.join(path, "metadata.yaml")) else "media"
    if os.path.exists(path) and not os.path.isfile(path):
        return "media"  # told there: opening a pipe would wait for ever
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        return "media"  # told there
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened ({error.strerror}); expected a file that you may read") from error
    if head == b"":
        return "media"
    for mark, form in ((b"XDF:", "xdf"), (b"PAR1", "parquet"), (b"\x93NUMPY", "arrays"), (b"\x89MCAP", "bag"),
                       (b"#ROSBAG", "bag")):  # fmt: skip
        if head.startswith(mark):
            return form
    # Named as one and beginning as something else: its reader says best what is wrong.
    if suffix in _TABLES:
        return "text"
    if suffix in _PARQUET:
        return "parquet"
    if suffix in _ARRAYS:
        return "arrays"
    if suffix in _XDF:
        return "xdf"
    return "bag" if suffix in _BAGS else "media"


def is_named_as_recording(name: str) -> bool:
    """Whether a file of this name is likely one that `read` takes: of media and sensors, by the suffix."""
    return os.path.splitext(name.lower().removesuffix(".gz"))[1] in _RECORDINGS
