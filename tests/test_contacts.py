"""Laws of contacts: what stops or turns round at its sounds is placed there, whatever it is that strikes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from avfuse import Stream
from avfuse.features import PictureFeatures, picture_features, sound_features
from avfuse.simulation import film_with_sound
from avfuse.simulation.striking import STRIKERS
from avfuse.temporal import compare_sound_picture
from avfuse.temporal.contacts import time_contacts

RATE = 25.0
BLOWS = np.cumsum(np.random.default_rng(8).uniform(0.9, 1.7, 22))
Float = np.ndarray


def bars(blows: Float, apart: Callable[[Float, Float], Float]) -> PictureFeatures:
    """Two bars that are `apart(until, since)` pixels from each other's place, seconds until and since a blow."""
    times = np.arange(int((blows[-1] + 1.0) * RATE)) / RATE
    next_one = np.searchsorted(blows, times, side="right")
    until = np.append(blows, np.inf)[next_one] - times
    since = times - np.concatenate([[-np.inf], blows])[next_one]
    columns = np.arange(160)
    noise = np.random.default_rng(2).integers(0, 4, (8, 88, 160))
    frames = np.empty((len(times), 88, 160), np.uint8)
    for k, gap in enumerate(apart(until, since)):
        # Edges between pixels are seen as shares of them.
        inner, outer = 80.0 - gap, 68.0 - gap
        bar = np.clip(inner - columns, 0, 1) - np.clip(outer - columns, 0, 1)
        frames[k] = noise[k % 8] + 60
        frames[k, 30:60] += (120 * (bar + bar[::-1])).astype(np.uint8)
    return picture_features(Stream("picture", "picture", frames, rate=RATE))


def clapping(opening: float) -> Callable[[Float, Float], Float]:
    """They meet within 120 ms, faster and faster, stay for 50 ms, and part within `opening` seconds."""

    def apart(until: Float, since: Float) -> Float:
        return 30.0 * np.minimum(
            1.0 - (1.0 - np.clip(until / 0.12, 0, 1)) ** 2, np.clip((since - 0.05) / opening, 0, 1)
        )

    return apart


def kicked(until: Float, since: Float) -> Float:
    """They fly apart at the blow, slow down and come back."""
    return 30.0 * (1.0 - np.exp(-since.clip(0, 5) / 0.08)) * np.clip(1.0 - (since - 0.3) / 0.4, 0, 1)


@pytest.fixture(scope="module")
def claps() -> PictureFeatures:
    return bars(BLOWS, clapping(0.5))


def unlit(picture: PictureFeatures) -> Float:
    return np.zeros(len(picture.times), bool)


@pytest.mark.parametrize("struck", STRIKERS)
def test_blows_of_every_kind_are_placed_within_their_interval(struck):
    made = film_with_sound("blow", 12, duration=40.0, rate=RATE, delay=0.3, readout=0.02, struck=struck, size=(160, 96))
    sound, picture = made.recording.streams
    found = compare_sound_picture(sound_features(sound), picture_features(picture), max_offset=2.0)
    assert found.diagnostics["decided"] in ("blow", "bounce")
    assert abs(found.offset - 0.3) <= 2.5 * found.std
    assert found.std < 0.01


@pytest.mark.parametrize("late", [-0.5, 0.013, 0.4])
def test_contacts_are_found_from_half_a_second_away_and_to_a_fifth_of_a_frame(claps, late):
    found = time_contacts(claps, BLOWS + 0.2, 0.2 + late, unlit(claps))
    assert found is not None
    assert found.offset == pytest.approx(0.2, abs=0.2 / RATE)
    assert not found.rivals


def test_what_parts_as_abruptly_as_it_met_could_be_heard_at_either_time():
    found = time_contacts(bars(BLOWS, clapping(0.06)), BLOWS, 0.0, np.zeros(2000, bool))
    assert found is not None
    # 50 ms of rest and 60 ms of parting later; whichever of the two is the stronger.
    assert min(abs(abs(r - found.offset) - 0.11) for r in found.rivals) < 0.02


def test_what_is_kicked_starts_at_its_sound_and_is_not_placed_where_it_stops():
    found = time_contacts(bars(BLOWS, kicked), BLOWS, 0.0, np.zeros(2000, bool))
    assert found is None or min(map(abs, found.rivals)) < 0.02


def test_blows_that_keep_time_with_the_frames_are_less_certain(claps):
    apart = np.round(BLOWS * RATE) / RATE + 0.013
    locked = time_contacts(bars(apart, clapping(0.5)), apart, 0.0, np.zeros(2000, bool))
    free = time_contacts(claps, BLOWS, 0.0, unlit(claps))
    assert locked is not None
    assert free is not None
    assert locked.std > 1.5 * free.std
    assert abs(locked.offset) <= 2.0 * locked.std


def test_other_sounds_among_the_blows_do_no_harm(claps):
    others = np.random.default_rng(3).uniform(2.0, BLOWS[-1], 8)
    found = time_contacts(claps, np.sort(np.concatenate([BLOWS, others])), 0.0, unlit(claps))
    assert found is not None
    assert found.offset == pytest.approx(0.0, abs=0.2 / RATE)
    assert found.events == pytest.approx(len(BLOWS), abs=2)


@pytest.mark.parametrize("seed", range(6))
def test_sounds_at_which_nothing_stops_have_no_contact(claps, seed):
    heard = np.sort(np.random.default_rng(seed).uniform(1.0, BLOWS[-1], 22))
    assert time_contacts(claps, heard, 0.0, unlit(claps)) is None


def test_contacts_low_in_the_picture_are_told_to_be_there(claps):
    rows, columns = claps.grid
    raised = claps.detail.reshape(-1, 2 * rows, 2 * columns)
    lowered = replace(claps, detail=np.roll(raised, 5, axis=1).reshape(len(raised), -1))
    first, second = (time_contacts(p, BLOWS, 0.0, unlit(p)) for p in (claps, lowered))
    assert first is not None
    assert second is not None
    assert first.down == pytest.approx(45.0 / 88.0, abs=0.03)
    assert second.down - first.down == pytest.approx(5.0 / (2 * rows), abs=0.03)


def test_frames_in_which_light_comes_or_goes_are_left_out(claps):
    assert time_contacts(claps, BLOWS, 0.0, ~unlit(claps)) is None
    assert time_contacts(claps, BLOWS[:4], 0.0, unlit(claps)) is None


@pytest.mark.parametrize("rate", [8.0, 25.0])
def test_drawings_without_noise_and_few_frames_are_no_trouble(rate):
    times = np.arange(int((BLOWS[-1] + 1.0) * rate)) / rate
    until = np.append(BLOWS, np.inf)[np.searchsorted(BLOWS, times, side="right")] - times
    frames = np.zeros((len(times), 88, 160), np.uint8)
    for frame, above in zip(frames, 40.0 * np.clip(until / 0.25, 0.0, 1.0) ** 1.5, strict=True):
        top = 60 - round(above)
        frame[top : top + 3, 80:83] = 255
    picture = picture_features(Stream("picture", "picture", frames, rate=rate))
    found = time_contacts(picture, BLOWS, 0.0, unlit(picture))
    assert found is None or found.rivals or abs(found.offset) <= 3.0 * found.std
