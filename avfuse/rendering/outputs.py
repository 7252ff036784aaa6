"""Write every aligned recording onto the common timeline."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from avfuse.alignment import Alignment
from avfuse.errors import StreamError, WriteError
from avfuse.files import check_spares, replacing
from avfuse.rendering.choosing import choose_best_sound
from avfuse.rendering.progress import Progress, ProgressCallback
from avfuse.rendering.sound_file import SoundFile
from avfuse.rendering.timeline import Part, Timeline, extent_of, parts_of

if TYPE_CHECKING:
    from avfuse.rendering.movie import MovieFile


class Rendered(list[Path]):
    """The files that were written, in the alignment's order, and what a person should know about them.

    start, end: the common timeline in seconds of the reference's clock; time 0 of every file is `start`.
    left_out: name -> why that recording was not rendered.
    notes: lines "file: what could not be done, or was done differently".
    """

    def __init__(self, start: float, end: float) -> None:
        super().__init__()
        self.start = start
        self.end = end
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []


def render(
    alignment: Alignment,
    folder: str | os.PathLike[str],
    *,
    timeline: Timeline = "union",
    reencode: bool = False,
    best_sound: str | None = None,
    only: Collection[str] | None = None,
    progress: ProgressCallback | None = None,
) -> Rendered:
    """One file per aligned recording in `folder`, all of them starting at the same instant and running at one speed.

    Sound becomes `{name}.wav` (32-bit float, its own rate and channels) over the whole timeline, with silence where
    the recording says nothing. Video keeps its pictures as they are, with time stamps moved and scaled, beside its
    own sound, resampled and lossless; it lasts as long as the recording does.

    timeline: "union" (from the first sample of any recording to the last of any) or "intersection".
    reencode: decode and encode the pictures instead of copying them, so that a cut need not fall on a key frame.
    best_sound: name of the recording whose sound goes into every video as a further track, or "auto".
    only: names to write; the timeline is still that of all.
    progress: called with the share done (0..1) and the file being written.
    Existing files of the same names are replaced once everything is written; on any error, or Ctrl-C, nothing is
    left behind. Raises StreamError for unknown names and an empty timeline, ReadError for recordings that are not
    there any more, WriteError where the folder cannot be written to or a recording itself would be overwritten.
    """
    if timeline not in get_args(Timeline):
        raise StreamError(f"render: timeline {timeline!r}; expected one of {', '.join(get_args(Timeline))}")
    for name in (*(only or ()), *([best_sound] if best_sound not in (None, "auto") else ())):
        if name not in alignment.clocks:
            raise StreamError(f"render: no recording {name!r}; expected one of {', '.join(alignment.clocks)}")
    parts, left_out = parts_of(alignment)
    if not parts:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StreamError(f"render: nothing to write ({reasons})")
    rendered = Rendered(*extent_of(parts, timeline))
    rendered.left_out = left_out

    best = _best_part(parts, left_out, best_sound)
    if best is not None and best_sound == "auto":
        rendered.notes.append(f"{best.name}: taken as the best sound")
    with ExitStack() as stack:
        folder = stack.enter_context(_made(Path(folder)))
        files = [
            f for part in parts if only is None or part.name in only for f in _files(part, best, rendered, reencode)
        ]
        targets = _targets(files, folder)
        _check_inputs_survive(targets, alignment)
        _check_space(files, folder)
        reports = Progress(progress, {target.name: file.length for target, file in targets.items()})
        for target, file in targets.items():
            reports.begin(target.name)
            temporary = stack.enter_context(replacing(target))
            with _write_errors(target):
                file.write(temporary, reports)
            rendered.append(target)
            rendered.notes += [f"{target.name}: {note}" for note in file.notes]
    return rendered


def _best_part(parts: list[Part], left_out: dict[str, str], best_sound: str | None) -> Part | None:
    if best_sound is None:
        return None
    if best_sound == "auto":
        return choose_best_sound(parts)
    for part in parts:
        if part.name == best_sound:
            if not part.sounds:
                raise StreamError(f"render: best_sound {best_sound!r} has no sound")
            return part
    raise StreamError(f"render: best_sound {best_sound!r} is not on the timeline ({left_out[best_sound]})")


def _files(part: Part, best: Part | None, rendered: Rendered, reencode: bool) -> Iterator[SoundFile | MovieFile]:
    """What is written for one recording: a video, or a WAV file for each of its sounds."""
    if part.pictures:
        from avfuse.rendering.movie import MovieFile, SoundTrack, picture_of

        pictures = [p for p in (picture_of(stream, clock) for stream, clock in part.pictures) if p is not None]
        if pictures:
            sounds = [SoundTrack(f"{part.name} {stream.name}", stream, clock) for stream, clock in part.sounds]
            if best is not None and best is not part:
                stream, clock = best.sounds[0]
                sounds.append(SoundTrack(f"{best.name} {stream.name}", stream, clock))
            length = max(min(rendered.end, part.span[1]) - rendered.start, 1e-3)
            yield MovieFile(part.name, pictures, sounds, rendered.start, length, reencode)
            return
        rendered.notes.append(f"{part.name}: its pictures come from no file, so only its sound is written")
        if not part.sounds:
            rendered.left_out[part.name] = "its pictures come from no file"
    for k, (stream, clock) in enumerate(part.sounds):
        name = part.name if k == 0 else f"{part.name}.{stream.name}"
        yield SoundFile(name, stream, clock, rendered.start, rendered.end - rendered.start)


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """The folder, made if need be; what was made is removed again where the block fails and left it empty."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    # Made inside: an interrupt right after it must not leave it behind.
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise WriteError(f"{folder}: is a file; expected a folder to write to") from None
        except OSError as error:
            raise WriteError(
                f"{folder}: cannot be made ({error.strerror}); choose a folder that you may write to"
            ) from error
        yield folder
    except BaseException:
        for made in new:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()
        raise


def _targets(files: list[SoundFile | MovieFile], folder: Path) -> dict[Path, SoundFile | MovieFile]:
    targets: dict[Path, SoundFile | MovieFile] = {}
    for file in files:
        name = "".join("_" if c in "/\\\0" else c for c in file.name)
        # Recordings with equal stems are named after their whole file names: no a.wav.wav, unless a.wav is taken.
        plain = name if name.lower().endswith(file.suffix) else name + file.suffix
        free = chain([plain, name + file.suffix], (f"{name}-{k}{file.suffix}" for k in count(2)))
        targets[next(folder / n for n in free if folder / n not in targets)] = file
    return targets


def _check_inputs_survive(targets: Collection[Path], alignment: Alignment) -> None:
    for target in targets:
        check_spares(target, alignment.sources)


def _check_space(files: list[SoundFile | MovieFile], folder: Path) -> None:
    """An hour into a render is a bad time to find out."""
    needed, free = sum(file.size for file in files), shutil.disk_usage(folder).free
    if needed > free:
        raise WriteError(
            f"{folder}: needs {needed / 1e9:.1f} GB and has {free / 1e9:.1f} GB free; choose another folder"
        )


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """A full disk and its like, said of the file that was to be written."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror or error})") from error
