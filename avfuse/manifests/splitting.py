"""Events -> train, validation, test: each stays where it is when others are added."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from avfuse.errors import ReadError, StreamError
from avfuse.manifests.events import SPLITS, Event

_Unit = tuple[str, str]  # what is in one split as a whole: ("event", its name) or ("group", its name)


def split_events(events: Sequence[Event], *, validation: float, test: float, seed: int) -> dict[str, list[Event]]:
    """Train, validation and test -> their events, in the order given; each event is in one, and so is each group.

    validation, test: shares, on average, of the events whose split is left open; train has the rest.
    An event whose split is given keeps it, and takes along those of its group. Of others a hash of the seed and of the
    event's name (of the group's, where it has one) decides, so that events that are added move none that were there.
    One exception: where that leaves none in train, or in validation, though its share is not 0, the one nearest to it
    is moved there; a single one is in train.

    Raises StreamError for shares that are none, and ReadError where one group is given two splits.
    """
    if not (min(validation, test) >= 0.0 and validation + test <= 1.0):
        raise StreamError(f"split_events: shares {validation!r} and {test!r}; expected 0 or more, at most 1 together")
    splits: dict[_Unit, str] = {}
    given_by: dict[_Unit, Event] = {}
    for event in events:
        if event.split is not None:
            first = given_by.setdefault(_unit(event), event)
            if event.split != first.split:
                raise ReadError(
                    f"{event.where}: split {event.split!r}, but group {event.group!r} is {first.split!r} in "
                    f"{first.where}; expected one split for a group"
                )
            splits[_unit(event)] = event.split
    # Along [0, 1) lie validation, test and train.
    places = {unit: _place(seed, unit) for unit in map(_unit, events) if unit not in splits}
    for unit, place in places.items():
        splits[unit] = "validation" if place < validation else "test" if place < validation + test else "train"

    def movable(name: str, at_least: int = 1) -> list[_Unit]:
        """Units of a split that were not given it, in their order on [0, 1), where it has so many of both kinds."""
        here = [unit for unit, split in splits.items() if split == name]
        return sorted(places.keys() & here, key=lambda unit: places[unit]) if len(here) >= at_least else []

    if validation + test < 1.0 and "train" not in splits.values():
        for unit in (movable("validation", 2) or movable("test") or movable("validation"))[-1:]:
            splits[unit] = "train"
    if validation > 0.0 and "validation" not in splits.values():
        for unit in (movable("train", 2) or movable("test"))[:1]:
            splits[unit] = "validation"
    return {name: [event for event in events if splits[_unit(event)] == name] for name in SPLITS}


def _unit(event: Event) -> _Unit:
    return ("event", event.name) if event.group is None else ("group", event.group)


def _place(seed: int, unit: _Unit) -> float:
    """In [0, 1), uniform over names, the same on every machine."""
    digest = blake2b("\0".join((str(seed), *unit)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
