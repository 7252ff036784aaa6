"""What an editor must know of the file that a clip shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avfuse.alignment import Alignment, RecordingFacts
from avfuse.errors import ReadError
from avfuse.io.reading import read
from avfuse.io.timeline.rates import DEFAULT, nearest, seconds_of_timecode
from avfuse.stream import Recording

# Containers whose own time editors keep: a first frame that is stamped 0.5 s is shown at 0.5 s. Of others they show
# the first frame first.
_STAMPED = {".mp4", ".mov", ".m4v", ".m4a", ".3gp", ".qt"}
# For files that are not here any more.
_SOUNDS = {".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".aif", ".aiff", ".wma", ".caf", ".w64", ".mka"}
_PICTURES = {
    ".mp4", ".mov", ".m4v", ".mkv", ".avi", ".mts", ".m2ts", ".ts", ".mxf", ".mpg", ".mpeg", ".webm", ".wmv", ".3gp",
}  # fmt: skip
_RENDERED = (".mp4", ".mkv", ".mov", ".wav")


@dataclass(frozen=True)
class Picture:
    """rate: frames per second, the standard one where it is near. size: width, height, upright. None: unknown."""

    rate: Fraction | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Media:
    """A file on the clock that editors show for it, in seconds from its first frame or sample.

    zero: the recording's time 0 on that clock. end: where the file ends on it.
    timecode: what the file's own time code says at 0.
    sounds: channels of each of its sound streams; sound_rate: Hz of the first, None where unknown.
    note: what a person should know of it.
    """

    path: str
    zero: float
    end: float
    timecode: Fraction
    picture: Picture | None
    sounds: tuple[int, ...]
    sound_rate: int | None
    note: str | None = None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def url(self) -> str:
        """`file://`, absolute and percent-encoded; what is an address already stays as it is."""
        return self.path if "://" in self.path else Path(os.path.abspath(self.path)).as_uri()


class NoMediaError(Exception):
    """A recording that no clip can show; says why."""


def media_of(alignment: Alignment, name: str) -> Media:
    """The file of a recording. One that is not there any more is described by what the alignment knows of it.

    Raises NoMediaError where there is no file, or neither sound nor picture in it.
    """
    facts = alignment.facts.get(name, RecordingFacts())
    source = facts.source or (alignment.recordings[name].source if name in alignment.recordings else None)
    if source is None:
        raise NoMediaError("was made from arrays, so there is no file to point at")
    try:
        recording = alignment.recording(name)
    except ReadError as error:
        if os.path.exists(source):
            raise NoMediaError(f"cannot be read ({error})") from error
        return _remembered(source, facts)
    zero = max(recording.start, 0) / 1e9 if Path(source).suffix.lower() in _STAMPED else 0.0
    return _described(source, recording, zero)


def _remembered(source: str, facts: RecordingFacts) -> Media:
    suffix = Path(source).suffix.lower()
    if suffix not in _SOUNDS | _PICTURES or not facts.duration:
        raise NoMediaError(f"{source} is not there any more")
    zero = max(facts.start, 0) / 1e9 if suffix in _STAMPED else 0.0
    picture = None if suffix in _SOUNDS else Picture()
    found = "sound" if picture is None else "picture and sound"
    note = f"{source} is not there any more; taken for {found} by its name, without time code: link it in the editor"
    return Media(source, zero, zero + facts.duration, Fraction(0), picture, (2,), None, note)


def _described(path: str, recording: Recording, zero: float) -> Media:
    pictures, sounds = recording.of_kind("picture"), recording.of_kind("sound")
    if not pictures and not sounds:
        raise NoMediaError("has neither sound nor picture")
    if not recording.duration > 0:
        raise NoMediaError("lasts no time")
    picture, note = None, None
    if pictures:
        facts, rate = pictures[0].facts, pictures[0].rate
        average = float(facts.get("average_rate") or rate or DEFAULT)
        size = (facts["width"], facts["height"]) if "width" in facts else None
        picture = Picture(nearest(average), size)
        if facts.get("is_variable"):
            note = f"variable frame rate, {average:.3f} frames/s on average; editors may show other frames than it has"
    sound_rate = round(sounds[0].rate) if sounds and sounds[0].rate else None
    return Media(
        path,
        zero,
        zero + recording.duration,
        _timecode(recording, picture, sound_rate),
        picture,
        tuple(max(1, len(sound.channels)) for sound in sounds),
        sound_rate,
        note,
    )


def _timecode(recording: Recording, picture: Picture | None, sound_rate: int | None) -> Fraction:
    """What editors take for the time of the first frame: a time code track, or the stamp of a broadcast WAV."""
    found = None
    if picture is not None and picture.rate is not None and "timecode" in recording.facts:
        found = seconds_of_timecode(recording.facts["timecode"], picture.rate)
    elif picture is None and sound_rate and str(recording.facts.get("time_reference", "")).isdecimal():
        found = Fraction(int(recording.facts["time_reference"]), sound_rate)
    return found or Fraction(0)


def rendered_media(folder: Path, name: str, longest: float) -> Media:
    """The file that `render` wrote for a recording.

    longest: seconds that the common timeline of the alignment lasts.
    Raises ReadError where there is none, or it is longer than that.
    """
    plain = "".join("_" if c in "/\\\0" else c for c in name)
    names = [plain] * plain.lower().endswith(_RENDERED) + [plain + suffix for suffix in _RENDERED]
    path = next((folder / n for n in names if (folder / n).is_file()), None)
    if path is None:
        raise ReadError(
            f"{folder}: no {', '.join(names)} in it; write the files of this alignment with 'avfuse render'"
        )
    recording = read(path)
    media = _described(str(path), recording, recording.start / 1e9)
    if media.end > longest + 0.5:
        raise ReadError(
            f"{path}: lasts {media.end:.1f} s, but the recordings of this alignment only {longest:.1f} s together; "
            "it was rendered from another one"
        )
    return media
