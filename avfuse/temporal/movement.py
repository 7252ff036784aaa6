"""What recordings show of motion, by sensors and by pictures, and the clocks between them that it tells.

Sensors are cheap and are compared first, then whatever else was measured; a picture is looked at only where sensors of
both did not do: against sensors and other silent pictures for how the camera turned, and against sound for flashes,
blows and talkers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from avfuse.alignment import ClockEstimate
from avfuse.errors import StreamError
from avfuse.features.channels import KINDS as NUMBERS
from avfuse.features.flow import ImageMotion, image_motion
from avfuse.features.light import PictureFeatures, picture_features
from avfuse.features.loudness import SoundFeatures, sound_features
from avfuse.stream import Kind, Recording, Stream
from avfuse.temporal.canonical import channels_of, compare_channels, estimate_canonical, inexact_of
from avfuse.temporal.motion import (
    TURNING,
    Samples,
    comparable_kinds,
    compare_motions,
    estimate_motion,
    swapped,
)
from avfuse.temporal.picture import compare_sound_picture
from avfuse.temporal.scenes import compare_pictures

_KINDS = ("rotation_rate", "pose", "orientation", "acceleration")
_MOST = 600.0  # seconds of a picture that are looked at; a minute of it takes about twenty
_PLAIN = ("feature", "other", "points")  # what only `canonical` compares
_FELT = ({"acceleration", "pose"}, {"acceleration", "orientation"})  # what one feels is a linear map of the other
_MOST_PAIRS = 12  # of streams of two recordings whose channels are compared


class Movement:
    """The streams of one recording that tell of motion; pictures are decoded when they are needed, and once.

    sounds: streams in which something is to be heard; all that are sound by default.
    """

    def __init__(self, recording: Recording, sounds: Sequence[Stream] | None = None) -> None:
        self.sensors: tuple[Stream, ...] = tuple(s for kind in _KINDS for s in recording.of_kind(kind))  # type: ignore[arg-type]
        self.plain: tuple[Stream, ...] = tuple(s for kind in _PLAIN for s in recording.of_kind(kind))  # type: ignore[arg-type]
        self._channels: dict[tuple[str, Kind], Samples | None] = {}
        self._sounds = recording.of_kind("sound") if sounds is None else tuple(sounds)
        self._pictures = recording.of_kind("picture")

    @property
    def tells(self) -> bool:
        return bool(self.sensors or self.plain or self._pictures or self._sounds)

    @property
    def silent(self) -> bool:
        return not self._sounds

    @property
    def blind(self) -> bool:
        """Whether there are sensors and nothing else: comparisons then cost little."""
        return bool(self.sensors or self.plain) and not self._sounds and not self._pictures

    def channels(self, stream: Stream, other: Kind) -> Samples | None:
        """What a stream holds for `compare_channels`, made once; None where it is too little, or broken."""
        if (stream.name, other) not in self._channels:
            try:
                made = channels_of(stream, other)
            except StreamError:
                made = None
            self._channels[stream.name, other] = made if made is not None and made.values.size else None
        return self._channels[stream.name, other]

    @cached_property
    def seen(self) -> ImageMotion | None:
        """How the camera turned; None where there is no picture, or none that lasts."""
        if not self._pictures:
            return None
        try:
            return image_motion(self._pictures[0], most=_MOST)
        except StreamError:
            return None

    @cached_property
    def shown(self) -> PictureFeatures | None:
        """None where there is no picture, or one too small to look at."""
        try:
            return picture_features(self._pictures[0]) if self._pictures else None
        except StreamError:
            return None

    @cached_property
    def heard(self) -> SoundFeatures | None:
        return sound_features(self._sounds[0]) if self._sounds else None


def compare_streams(reference: Stream, moving: Stream, *, max_offset: float | None = None) -> ClockEstimate:
    """The clock of one stream on that of another, of sensors, pictures, or a sound and a picture.

    Raises StreamError for kinds that have nothing to compare.
    """
    kinds = (reference.kind, moving.kind)
    if kinds == ("sound", "picture"):
        return compare_sound_picture(sound_features(reference), picture_features(moving), max_offset=max_offset)
    if kinds == ("picture", "sound"):
        return swapped(
            compare_sound_picture(sound_features(moving), picture_features(reference), max_offset=max_offset)
        )
    if "picture" not in kinds and not comparable_kinds(*kinds) and set(kinds) <= set(NUMBERS):
        return estimate_canonical(reference, moving, max_offset=max_offset)
    found = estimate_motion(reference, moving, max_offset=max_offset).clock
    if kinds == ("picture", "picture") and found.status != "aligned":
        return compare_pictures(picture_features(reference), picture_features(moving), max_offset=max_offset)
    return replace(found, evidence=("picture" if "picture" in kinds else "motion",))


def compare_movements(
    reference: Movement, moving: Movement, *, max_offset: float | None = None
) -> ClockEstimate | None:
    """The clock of one recording on that of the other, by the first kind of motion that tells it; None where they have
    no such kind in common. Refusals are those of the last kind that was tried.
    """
    last: ClockEstimate | None = None
    for a in reference.sensors:
        for b in moving.sensors:
            found = _of_streams(a, b, max_offset)
            if found is not None and found.status == "aligned":
                return replace(found, evidence=("motion",))
            last = found or last
    for a, b in _with_channels(reference, moving):
        left, right = reference.channels(a, b.kind), moving.channels(b, a.kind)
        if left is None or right is None:
            continue
        inexact = inexact_of(left, right, (a.kind, b.kind))
        found = compare_channels(left, right, max_offset=max_offset, inexact=inexact)
        if found.status == "aligned":
            return found
        last = last or found
    # A camera and a sensor on one body, or two silent cameras on one rig.
    for one, two in _with_pictures(reference, moving):
        found = _of_streams(one, two, max_offset)
        if found is not None and found.status == "aligned":
            return replace(found, evidence=("picture",))
        last = found or last
    # A camera that heard nothing, and a recording that heard what it saw.
    if moving.silent and moving.shown is not None and reference.heard is not None:
        last = compare_sound_picture(reference.heard, moving.shown, max_offset=max_offset)
    elif reference.silent and reference.shown is not None and moving.heard is not None:
        last = swapped(compare_sound_picture(moving.heard, reference.shown, max_offset=max_offset))
    if last is not None and last.status == "aligned":
        return last
    # Two cameras that look at one scene from different places.
    if (reference.silent or moving.silent) and reference.shown is not None and moving.shown is not None:
        found = compare_pictures(reference.shown, moving.shown, max_offset=max_offset)
        return found if found.status == "aligned" else last or found
    return last


def _with_pictures(
    reference: Movement, moving: Movement
) -> Iterator[tuple[Stream | ImageMotion, Stream | ImageMotion]]:
    """What can be compared where one of the two is seen; cameras that both heard sound have had their chance."""
    for a in _turning(reference):
        if moving.seen is not None:
            yield a, moving.seen
    for b in _turning(moving):
        if reference.seen is not None:
            yield reference.seen, b
    if (reference.silent or moving.silent) and reference.seen is not None and moving.seen is not None:
        yield reference.seen, moving.seen


def _with_channels(reference: Movement, moving: Movement) -> list[tuple[Stream, Stream]]:
    """Accelerations and poses, then streams of which one at least does not tell of motion, those of one kind first."""
    felt = [(a, b) for a in reference.sensors for b in moving.sensors if {a.kind, b.kind} in _FELT]
    pairs = [(a, b) for a in reference.plain for b in (*moving.plain, *moving.sensors)]
    pairs += [(a, b) for a in reference.sensors for b in moving.plain]
    return felt + sorted(pairs, key=lambda pair: pair[0].kind != pair[1].kind)[:_MOST_PAIRS]


def _turning(movement: Movement) -> list[Stream]:
    return [s for s in movement.sensors if s.kind in TURNING]


def _of_streams(a: Stream | ImageMotion, b: Stream | ImageMotion, max_offset: float | None) -> ClockEstimate | None:
    """None where these two streams cannot be compared at all."""
    try:
        found = compare_motions(a, b, max_offset)
    except StreamError as error:
        return ClockEstimate("degenerate", message=str(error), evidence=("motion",))
    return found.clock if found else None
