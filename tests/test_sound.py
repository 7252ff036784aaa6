"""Laws of estimate_offset and estimate_clock: where one sound lies on the clock of another, or an honest refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import avfuse
from avfuse import ClockEstimate, ClockMap, Stream, StreamError, WeakAlignmentError, simulate
from avfuse.simulation import Device, SoundSource
from avfuse.simulation.pairs import UNRELATED, Pair, jingle_pair, simulate_pair, unrelated_pair
from avfuse.simulation.sounds import make_sound
from avfuse.temporal import estimate_clock, estimate_offset
from avfuse.temporal.hearing import Heard, hear
from avfuse.temporal.sound import compare

RATE = 16000.0
INSIDE = np.linspace(2.0, 8.0, 4)  # seconds at which maps are compared


def sound(values: np.ndarray, rate: float = RATE, start: float = 0.0) -> Stream:
    return Stream.from_samples(np.asarray(values, np.float32), rate=rate, start=start)


def noise(n: int, seed: int, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def compare_streams(reference: Stream, moving: Stream, **options: float) -> ClockEstimate:
    return compare(hear(reference), hear(moving), **options)


def assert_never_aligned(found: ClockEstimate) -> None:
    assert found.status in ("no_match", "ambiguous", "degenerate"), f"{found}, confidence {found.confidence}"
    assert found.message
    with pytest.raises(WeakAlignmentError):
        _ = found.map


def nearest(found: ClockEstimate, offset: float) -> float:
    """Seconds from `offset` to the nearest candidate."""
    return min(abs(c.offset - offset) for c in found.candidates)


@pytest.fixture(scope="module")
def pair() -> Pair:
    """Ten seconds of speech, 20 dB above noise, 40 ppm apart."""
    return simulate_pair("speech", overlap=10.0, snr_db=20.0, drift_ppm=40.0, rng=1)


@pytest.fixture(scope="module")
def found(pair: Pair) -> ClockEstimate:
    return compare_streams(pair.reference, pair.moving)


# What must not matter, and what must show


def test_a_pair_comes_out_as_its_clocks_ran(pair, found):
    assert found.status == "aligned"
    assert found.confidence >= 0.98
    assert found.evidence == ("sound",)
    assert found.span == (0.0, pytest.approx(pair.moving.duration))
    np.testing.assert_allclose(found.map(INSIDE), pair.truth(INSIDE), atol=2e-6)


def test_both_estimators_agree_in_the_middle(pair, found):
    clock, offset = estimate_clock(pair.reference, pair.moving), estimate_offset(pair.reference, pair.moving)
    np.testing.assert_allclose(clock.map(INSIDE), found.map(INSIDE), atol=1e-12)
    assert offset.drift == 0.0
    assert offset.drift_std is None
    middle = found.diagnostics["middle"]
    assert float(offset.map(middle)) == pytest.approx(float(clock.map(middle)), abs=1e-9)
    assert float(offset.std_at(0.0)) >= float(clock.std_at(middle)) * (1 - 1e-9)


@pytest.mark.parametrize("equal_length", [False, True])
def test_swapping_the_streams_inverts_the_map(pair, equal_length):
    reference, moving = pair.reference, pair.moving
    if equal_length:
        n = min(reference.values.shape[1], moving.values.shape[1])
        reference, moving = sound(reference.values[0, :n]), sound(moving.values[0, :n])
    there, back = compare_streams(reference, moving), compare_streams(moving, reference)
    np.testing.assert_allclose((back.map @ there.map)(INSIDE), INSIDE, rtol=0, atol=1e-9)
    assert back.confidence == pytest.approx(there.confidence, abs=1e-12)
    np.testing.assert_allclose(back.std_at(there.map(INSIDE)), there.std_at(INSIDE), rtol=1e-3)


def test_swapping_keeps_refusals_and_turns_candidates(pair):
    tune = np.tile(make_sound("music", 2.0, RATE, np.random.default_rng(3)), 5)
    looped = sound(tune + noise(len(tune), 1, 0.01)), sound(tune[:80000] + noise(80000, 2, 0.01))
    there, back = compare_streams(*looped), compare_streams(*looped[::-1])
    assert there.status == back.status == "ambiguous"
    np.testing.assert_allclose(
        sorted(c.map.inverse().offset for c in back.candidates), sorted(c.offset for c in there.candidates), atol=1e-9
    )
    unrelated = unrelated_pair("speech", duration=8.0, rng=0)
    assert compare_streams(*unrelated).status == compare_streams(*unrelated[::-1]).status == "no_match"


@pytest.mark.parametrize("delay", [0.25, 1.0 / 3.0])
def test_delay_by_d_moves_the_offset_by_d(pair, found, delay):
    """Silence before the moving recording puts the same sound later on its clock."""
    n = round(delay * 48000) / 3  # thirds of a sample too: sampled at 48 kHz, kept at 16 kHz
    moving = pair.moving.values[0]
    spectrum = np.fft.rfft(np.concatenate([moving, np.zeros(8000, np.float32)]))
    turn = np.exp(-2j * np.pi * np.arange(len(spectrum)) * n / (len(moving) + 8000))
    late = compare_streams(pair.reference, sound(np.fft.irfft(spectrum * turn, len(moving) + 8000)))
    np.testing.assert_allclose(late.map(INSIDE + n / RATE), found.map(INSIDE), atol=3e-7)


@pytest.mark.parametrize("side", ["reference", "moving"])
def test_the_start_of_a_stream_is_part_of_its_clock(pair, found, side):
    """A stream that begins 1000 s into its recording is compared where it lies."""
    starts = {"reference": 0.0, "moving": 0.0, side: 1000.25}
    late = compare_streams(
        *(sound(stream.values, start=starts[role]) for role, stream in (("reference", pair[0]), ("moving", pair[1])))
    )
    expected = starts["reference"] + found.map(INSIDE)
    np.testing.assert_allclose(late.map(starts["moving"] + INSIDE), expected, atol=1e-7)
    np.testing.assert_allclose(late.std_at(starts["moving"] + INSIDE), found.std_at(INSIDE), rtol=1e-3)
    assert late.span[0] == starts["moving"]


@pytest.mark.parametrize(
    ("change", "atol"),
    [
        (lambda x: 1e-3 * x, 2e-8),
        (lambda x: 300.0 * x, 2e-8),
        (lambda x: -x, 2e-8),
        (lambda x: x + 0.5, 2e-7),
        (lambda x: np.concatenate([x, -x]), 2e-8),
        (lambda x: np.concatenate([np.zeros_like(x), x]), 2e-8),
    ],
    ids=["quiet", "loud", "inverted", "constant added", "stereo that cancels", "one channel silent"],
)
def test_level_polarity_constants_and_channels_do_not_matter(pair, found, change, atol):
    changed = compare_streams(pair.reference, sound(change(pair.moving.values)))
    assert changed.status == "aligned"
    np.testing.assert_allclose(changed.map(INSIDE), found.map(INSIDE), atol=atol)


def test_the_sample_rate_does_not_matter():
    place = (1.0, 0.0, 0.0)
    devices = [Device("reference", ClockMap(0.5), 9.0, rate=48000.0, position=place, snr_db=30.0)]
    devices += [
        Device(f"at {rate:g}", ClockMap(2.0), 7.0, rate=rate, position=place, snr_db=30.0)
        for rate in (8000.0, 44100.0, 48000.0, 192000.0)
    ]
    event = simulate(duration=10.0, devices=devices, sources=[SoundSource("speech")], rate=48000.0, rng=2)
    reference = hear(event["reference"]["sound"])
    for device in devices[1:]:
        got = compare(reference, hear(event[device.name]["sound"]))
        assert got.status == "aligned", device.name
        np.testing.assert_allclose(got.map(INSIDE), 1.5 + INSIDE, atol=5e-6, err_msg=device.name)


def test_integer_samples_are_the_same_sound(pair, found):
    peak = np.abs(pair.moving.values).max()
    as_integers = Stream.from_samples(np.round(pair.moving.values / peak * 30000).astype(np.int16), rate=RATE)
    np.testing.assert_allclose(compare_streams(pair.reference, as_integers).map(INSIDE), found.map(INSIDE), atol=1e-6)


def test_more_noise_means_a_larger_stated_std():
    stds = [
        np.median([compare_streams(*simulate_pair("white", overlap=8.0, snr_db=snr, rng=k)[:2]).std for k in range(3)])
        for snr in (20.0, 5.0, -5.0)
    ]
    assert stds[1] > 1.5 * stds[0]
    assert stds[2] > 1.5 * stds[1]


def test_a_longer_overlap_means_a_smaller_stated_std():
    short, long = (
        np.median([compare_streams(*simulate_pair("white", overlap=t, snr_db=0.0, rng=k)[:2]).std for k in range(3)])
        for t in (4.0, 16.0)
    )
    assert long < 0.75 * short


def test_distance_between_devices_is_part_of_the_stated_error(pair, found):
    """Paths that differ by up to 3 m, evenly: their travel time has a standard deviation of 3 m / 343 m/s / sqrt(3)."""
    apart = compare_streams(pair.reference, pair.moving, spacing=3.0)
    np.testing.assert_allclose(apart.map(INSIDE), found.map(INSIDE), atol=1e-12)
    expected = np.hypot(found.std_at(INSIDE), 3.0 / 343.0 / np.sqrt(3.0))
    np.testing.assert_allclose(apart.std_at(INSIDE), expected, rtol=1e-6)


# How good it must be


def test_truth_lies_within_the_stated_intervals():
    """Of 60 pairs in rooms and in the open, what is stated aligned is within 1.96 std for 85 to 100 %, none far off."""
    conditions = [("speech", None), ("white", None), ("music", None), ("speech", "near"), ("music", "near")]
    inside, errors, count = [], [], 0
    for k in range(60):
        kind, room = conditions[k % len(conditions)]
        case = simulate_pair(
            kind, overlap=10.0, snr_db=(20.0, 6.0, 0.0)[k % 3], room=room, drift_ppm=(k % 7 - 3) * 30.0, rng=k
        )
        got = compare_streams(case.reference, case.moving)
        if got.status != "aligned":
            continue
        count += 1
        middle = got.diagnostics["middle"]
        miss = abs(float(got.map(middle) - case.truth(middle)))
        errors.append(miss)
        inside.append(miss <= 1.96 * float(got.std_at(middle)))
    assert count >= 45
    assert max(errors) < 1e-3
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize("kind", ["speech", "music", "impacts"])
def test_intervals_hold_the_truth_where_noise_drowns_most_of_the_sound(kind):
    """At -6 dB most cells hold noise alone: weights that it chose itself would make intervals five times too narrow."""
    inside = []
    for k in range(8):
        case = simulate_pair(kind, overlap=15.0, snr_db=-6.0, drift_ppm=20.0, rng=200 + k)
        got = compare_streams(case.reference, case.moving)
        if got.status == "aligned":
            middle = got.diagnostics["middle"]
            inside.append(abs(float(got.map(middle) - case.truth(middle))) <= 2.5 * float(got.std_at(middle)))
    assert len(inside) >= 6
    assert np.mean(inside) >= 0.85


def test_a_room_louder_than_the_direct_sound_does_not_hide_impacts_in_noise():
    """0.5 to 4 m away, as much noise as sound: all frames alike show nothing there, onsets do."""
    for k in range(4):
        case = simulate_pair("impacts", overlap=30.0, snr_db=0.0, room="mid", drift_ppm=40.0, rng=300 + k)
        got = compare_streams(case.reference, case.moving)
        maps = [got.map] if got.status == "aligned" else [c.map for c in got.candidates]
        assert min(abs(float(m(15.0) - case.truth(15.0))) for m in maps) < 5e-4, str(got)


def test_sources_in_several_places_are_one_answer_when_the_spacing_is_known():
    """Devices 6 m apart hear three sources with lags that differ by milliseconds."""
    places = [(0.5, 0.0, 0.0), (5.5, 1.0, 0.0), (3.0, 4.0, 0.0)]
    devices = [
        Device(name, ClockMap(start), 20.0, rate=RATE, position=(x, 0.0, 1.0), snr_db=20.0)
        for name, start, x in (("reference", 0.5, 0.0), ("moving", 2.0, 6.0))
    ]
    kinds = ("speech", "music", "speech")
    event = simulate(
        duration=23.0,
        devices=devices,
        sources=[SoundSource(kind, place) for kind, place in zip(kinds, places, strict=True)],
        rate=RATE,
        rng=7,
    )
    heard_both = [hear(event[d.name].streams[0]) for d in devices]
    several = compare(*heard_both)
    # Without it, what is stated is how one of them was heard.
    first = several.map if several.status == "aligned" else several.candidates[0].map
    acoustic = [event.acoustic_between("reference", "moving", source) for source in range(3)]
    assert min(abs(float(first(5.0) - heard_at(5.0))) for heard_at in acoustic) < 3e-4
    one = compare(*heard_both, spacing=6.0)
    assert one.status == "aligned"
    assert abs(float(one.map(5.0)) - 6.5) < 1.96 * float(one.std_at(5.0)) < 0.025


def test_drift_lies_within_the_stated_intervals():
    inside = []
    for k in range(20):
        kind = ("speech", "white", "music", "impacts")[k % 4]
        case = simulate_pair(kind, overlap=12.0, snr_db=10.0, drift_ppm=(k % 5 - 2) * 40.0, rng=100 + k)
        got = compare_streams(case.reference, case.moving)
        if got.status == "aligned" and got.drift_std is not None:
            inside.append(abs(got.drift - case.truth.drift) <= 1.96 * got.drift_std)
    assert len(inside) >= 15
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize("drift_ppm", [-120.0, 0.0, 120.0])
def test_drift_of_thirty_seconds_is_found_within_1_ppm(drift_ppm):
    case = simulate_pair("speech", overlap=30.0, snr_db=0.0, drift_ppm=drift_ppm, rng=5)
    got = compare_streams(case.reference, case.moving)
    assert abs(got.drift - case.truth.drift) < 1e-6
    assert abs(float(got.map(30.0) - case.truth(30.0))) < 30e-6


@pytest.mark.parametrize("snr_db", [20.0, 10.0, 0.0, -6.0])
def test_white_noise_comes_close_to_the_cramer_rao_bound(snr_db):
    """var = 3 (1 + 2 s) / (8 pi^2 T B^3 s^2) for a flat band B, two noisy channels, snr s and T seconds.

    Delayed by turning phases: an interpolator would lose the top of the band, where most of the timing lies.
    """
    errors, n = [], 16 * 16000
    for seed in range(12):
        rng = np.random.default_rng(seed)
        event, delay = rng.standard_normal(n), rng.uniform(-1.0, 1.0)
        turn = np.exp(2j * np.pi * np.arange(n // 2 + 1) * delay * RATE / n)
        both = np.stack([event, np.fft.irfft(np.fft.rfft(event) * turn, n)])[:, 48000:208000]
        both += 10 ** (-snr_db / 20) * rng.standard_normal(both.shape)
        got = compare_streams(sound(both[0]), sound(both[1]))
        assert got.status == "aligned"
        middle = got.diagnostics["middle"]
        errors.append(float(got.map(middle)) - middle - delay)
    s = 10 ** (snr_db / 10)
    bound = np.sqrt(3 * (1 + 2 * s) / (8 * np.pi**2 * 10.0 * 8000.0**3 * s**2))
    assert np.sqrt(np.mean(np.square(errors))) <= 1.5 * bound


@pytest.fixture(scope="module")
def five_minutes() -> tuple[np.ndarray, Heard]:
    talk = make_sound("speech", 300.0, RATE, np.random.default_rng(11))
    return talk, hear(sound(talk + noise(len(talk), 12, 0.1 * float(np.std(talk)))))


@pytest.mark.parametrize("begin", [0.0, 147.3, 295.0])
def test_a_short_clip_is_found_anywhere_in_a_long_recording(five_minutes, begin):
    talk, long = five_minutes
    first = round(begin * RATE)
    clip = talk[first : first + 80000]
    clip = clip + noise(len(clip), 13, 0.1 * float(np.std(clip)))
    got = compare(long, hear(sound(clip)))
    assert got.status == "aligned"
    assert float(got.map(2.5)) == pytest.approx(begin + 2.5, abs=2e-6)


def test_recordings_that_overlap_by_a_few_seconds_are_joined_there():
    talk = make_sound("speech", 40.0, RATE, np.random.default_rng(14))
    talk = talk + noise(len(talk), 15, 0.02 * float(np.std(talk)))
    got = compare_streams(sound(talk[: 22 * 16000]), sound(talk[18 * 16000 :] + noise(22 * 16000, 16, 0.001)))
    assert got.status == "aligned"
    assert float(got.map(2.0)) == pytest.approx(20.0, abs=2e-6)


class WithGap:
    """Sound that misses the seconds between `first` and `last`, as a stopped recorder leaves it."""

    def __init__(self, values: np.ndarray, first: float, last: float) -> None:
        self.values, self.first, self.last = values, round(first * RATE), round(last * RATE)
        self.duration = values.shape[1] / RATE

    def blocks(self, duration: float, rate: float | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for begin, end in ((0, self.first), (self.last, self.values.shape[1])):
            size = round(duration * RATE)
            for k in range(begin, end, size):
                stop = min(k + size, end)
                yield np.arange(k, stop) / RATE, self.values[:, k:stop]


@pytest.mark.parametrize("side", ["reference", "moving", "both"])
def test_gaps_do_not_shift_what_follows(side):
    case = simulate_pair("speech", overlap=14.0, snr_db=20.0, drift_ppm=20.0, offset=1.5, rng=6)
    streams = {
        role: Stream("sound", "sound", WithGap(stream.values, 4.0 + k, 7.0), rate=RATE)
        if side in (role, "both")
        else stream
        for k, (role, stream) in enumerate((("reference", case.reference), ("moving", case.moving)))
    }
    got = compare_streams(**streams)
    assert got.status == "aligned"
    np.testing.assert_allclose(got.map(INSIDE), case.truth(INSIDE), atol=5e-6)


# What must be refused


@pytest.mark.parametrize("kind", UNRELATED)
def test_unrelated_recordings_are_refused(kind):
    for seed in range(2):
        got = compare_streams(*unrelated_pair(kind, duration=8.0, rng=seed))
        assert_never_aligned(got)
        if kind == "silence":
            assert got.status == "degenerate"
        assert 0.0 <= got.confidence <= 1.0


def _trembling(seed: int) -> np.ndarray:
    return noise(128000, seed) * (1 + np.sin(2 * np.pi * 4.0 * np.arange(128000) / RATE))


def _beats(seed: int) -> np.ndarray:
    values = noise(128000, seed, 1e-3)
    for k in range(0, 128000 - 800, 8000):
        values[k : k + 800] += noise(800, seed + k) * np.exp(-np.arange(800) / 200)
    return values


def _tone(seed: int) -> np.ndarray:
    return np.sin(2 * np.pi * 1000.0 * np.arange(128000) / RATE + seed) + noise(128000, seed, 1e-3)


def _saw(seed: int) -> np.ndarray:
    return (np.arange(128000) * 110.0 / RATE + 0.37 * seed) % 1.0 - 0.5 + noise(128000, seed, 1e-3)


def _gate(seed: int) -> np.ndarray:
    """Noise that starts and stops at the same instants."""
    values = noise(128000, seed)
    values[:32000] = 0
    values[64000:80000] = 0
    return values


@pytest.mark.parametrize("make", [_trembling, _beats, _tone, _saw, _gate], ids=lambda make: make.__name__[1:])
def test_what_only_looks_alike_is_never_aligned(make: Callable[[int], np.ndarray]):
    """One rhythm, one tone or one gate is not one event."""
    assert_never_aligned(compare_streams(sound(make(1)), sound(make(2)[: 7 * 16000])))


def test_halves_that_do_not_overlap_are_refused():
    talk = make_sound("speech", 24.0, RATE, np.random.default_rng(17))
    assert_never_aligned(compare_streams(sound(talk[: 12 * 16000]), sound(talk[12 * 16000 :])))


@pytest.mark.parametrize(
    "values",
    [np.zeros(80000), np.full(80000, 0.3), np.full(80000, 1e-7), "short"],
    ids=["silence", "constant", "one bit", "0.1 s"],
)
@pytest.mark.parametrize("side", ["reference", "moving"])
def test_what_holds_no_information_is_degenerate(pair, values, side):
    empty = sound(pair.moving.values[:, :1600] if isinstance(values, str) else values)
    streams = (empty, pair.moving) if side == "reference" else (pair.reference, empty)
    got = compare_streams(*streams)
    assert got.status == "degenerate"
    assert got.confidence == 0.0
    assert side in (got.message or "")


def test_a_loop_is_ambiguous_with_the_truth_among_its_candidates():
    bar = make_sound("music", 2.0, RATE, np.random.default_rng(8))
    tune = np.tile(bar, 6)
    got = compare_streams(sound(tune + noise(len(tune), 1, 0.01)), sound(tune[64000:128000] + noise(64000, 2, 0.01)))
    assert got.status == "ambiguous"
    for offset in (0.0, 2.0, 4.0, 6.0, 8.0):
        assert nearest(got, offset) < 1e-3
    assert max(c.confidence for c in got.candidates) < 0.5
    assert sum(c.confidence for c in got.candidates) <= 1.0 + 1e-6


def test_a_shared_jingle_is_ambiguous_with_every_play_among_its_candidates():
    for seed in range(2):
        case = jingle_pair(duration=30.0, plays=(2, 1), length=3.0, rng=seed)
        got = compare_streams(case.reference, case.moving)
        assert got.status == "ambiguous"
        for offset in case.offsets:
            assert nearest(got, offset) < 1e-3


def test_three_seconds_that_a_minute_shares_are_ambiguous_and_not_missed():
    for seed in range(2):
        case = jingle_pair(duration=60.0, plays=(2, 1), length=3.0, rng=50 + seed)
        got = compare_streams(case.reference, case.moving)
        assert got.status == "ambiguous"
        assert any(nearest(got, offset) < 1e-3 for offset in case.offsets)


def test_candidates_come_best_first_and_without_those_that_are_ruled_out():
    case = jingle_pair(duration=30.0, plays=(2, 2), length=3.0, rng=3)
    got = compare_streams(case.reference, case.moving)
    confidences = [c.confidence for c in got.candidates]
    assert confidences == sorted(confidences, reverse=True)
    assert len(confidences) <= 8 + len(case.offsets)
    for place in range(len(case.offsets)):
        assert np.min(np.abs(case.offsets - got.candidates[place].offset)) < 1e-3


def test_one_play_of_a_jingle_each_is_never_aligned():
    """Different talk around three shared seconds: the same broadcast element, not the same event."""
    case = jingle_pair(duration=30.0, plays=(1, 1), length=3.0, rng=4)
    got = compare_streams(case.reference, case.moving)
    assert got.status == "ambiguous"
    assert nearest(got, float(case.offsets[0])) < 1e-3


def test_max_offset_limits_what_is_found_and_resolves_what_repeats():
    click = np.zeros(160000)
    click[2000::8000] = 1.0  # twice a second
    train = click + noise(len(click), 1, 1e-3)
    late = np.roll(click, -1600) + noise(len(click), 2, 1e-3)  # heard 0.1 s earlier on its own clock
    everything = compare_streams(sound(train), sound(late))
    assert everything.status == "ambiguous"
    assert nearest(everything, 0.1) < 1e-3
    narrow = compare_streams(sound(train), sound(late), max_offset=0.2)
    assert narrow.status == "aligned"
    assert narrow.offset == pytest.approx(0.1, abs=1e-5)
    for candidate in compare_streams(sound(train), sound(late), max_offset=0.7).candidates:
        assert abs(candidate.offset) <= 0.75


@pytest.mark.parametrize("offset", [-3.0, 3.0])
def test_an_offset_beyond_max_offset_is_not_found(offset):
    case = simulate_pair("speech", overlap=8.0, snr_db=20.0, offset=offset, rng=9)
    assert compare_streams(case.reference, case.moving, max_offset=3.5).status == "aligned"
    assert_never_aligned(compare_streams(case.reference, case.moving, max_offset=2.0))


def test_max_offset_counts_between_the_clocks_and_not_between_first_samples():
    case = simulate_pair("speech", overlap=8.0, snr_db=20.0, offset=1.0, rng=9)
    late = sound(case.moving.values, start=100.0)  # offset -99
    assert_never_aligned(compare_streams(case.reference, late, max_offset=50.0))
    got = compare_streams(case.reference, late, max_offset=100.0)
    assert got.offset == pytest.approx(-99.0, abs=1e-5)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_impossible_searches_are_errors(pair, bad):
    with pytest.raises(StreamError, match="max_offset"):
        estimate_offset(pair.reference, pair.moving, max_offset=bad)
    with pytest.raises(StreamError, match="spacing"):
        estimate_clock(pair.reference, pair.moving, spacing=-1.0 if bad == 0.0 else bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_an_error_wherever_they_come_from(pair, bad):
    values = pair.moving.values.copy()
    values[0, 70000] = bad
    with pytest.raises(StreamError, match="NaN"):
        sound(values)
    lazy = Stream("sound", "sound", WithGap(values, 1.0, 1.0), rate=RATE)
    with pytest.raises(StreamError, match="NaN"):
        estimate_clock(pair.reference, lazy)


def test_pictures_are_no_sound(pair):
    pictures = Stream.from_samples(np.zeros((30, 4, 4, 3), np.uint8), rate=10.0, kind="picture")
    with pytest.raises(StreamError, match="expected sound"):
        hear(pictures)
    with pytest.raises(StreamError, match="4 x 4; expected 16 x 16"):
        estimate_offset(pair.reference, pictures)


# Real recordings


def heard(path: Path) -> Heard:
    return hear(avfuse.read(path)["sound"])


def test_a_talk_cut_from_a_talk(shared):
    """timbl_2 was cut from timbl_1 at 12.2540 s."""
    got = compare(heard(shared / "sound" / "timbl_1.mp3"), heard(shared / "sound" / "timbl_2.mp3"))
    assert got.status == "aligned"
    assert got.offset == pytest.approx(12.2540, abs=2e-4)
    assert abs(got.drift) < 1e-6


@pytest.fixture(scope="module")
def real(shared) -> dict[str, Heard]:
    names = ("echo_loudspeaker", "echo_microphone", "noecho_loudspeaker", "noecho_microphone")
    return {name: heard(shared / "sound" / f"{name}.wav") for name in names}


def test_what_a_device_played_and_what_it_heard(real):
    """Plain, PHAT and partly whitened correlation give 31.1, 10.0 and 35.4 ms for this pair."""
    got = compare(real["echo_loudspeaker"], real["echo_microphone"])
    assert got.status == "aligned"
    assert float(got.map(0.0)) == pytest.approx(-0.0354, abs=1e-3)


def test_a_device_that_heard_nothing_of_what_it_played_is_refused(real):
    assert compare(real["noecho_loudspeaker"], real["noecho_microphone"]).status == "no_match"


def test_crossed_real_recordings_are_refused(real, shared):
    others = {"ami": heard(next((shared / "sound" / "ami_array").glob("*.wav")))}
    others["digits"] = heard(shared / "speech" / "bobby.wav")
    everything = real | others
    for a, b in combinations(everything, 2):
        if {a, b} != {"echo_loudspeaker", "echo_microphone"}:
            got = compare(everything[a], everything[b])
            assert got.status != "aligned", (a, b, str(got))


@pytest.mark.parametrize(("take", "offset"), [(2, 0.105), (3, 0.100)])
def test_click_trains(shared, take, offset):
    """Clicks every 0.3 s fit at every multiple of that: `aligned` only where the search leaves one of them.

    The ends of the trains differ by the length of the files and not by what was heard, so that they tell nothing.
    Among equals the offset nearest to none is listed first.
    """
    reference, moving = (heard(shared / "sound" / "clicks" / f"latency_{role}_{take}.wav") for role in ("ref", "act"))
    everything = compare(reference, moving)
    assert everything.status == "ambiguous"
    assert everything.candidates[0].offset == pytest.approx(offset, abs=1e-3)
    narrow = compare(reference, moving, max_offset=0.15)
    assert narrow.status == "aligned"
    assert narrow.offset == pytest.approx(offset, abs=1e-3)


def test_the_microphones_of_one_array_agree(shared):
    """All 28 pairs within the array's own travel time; loops of any three close; one clock."""
    array = [heard(path) for path in sorted((shared / "sound" / "ami_array").glob("*.wav"))]
    assert len(array) == 8
    pairs = {(i, j): compare(array[i], array[j]) for i, j in combinations(range(8), 2)}
    assert {got.status for got in pairs.values()} == {"aligned"}
    for got in pairs.values():
        assert abs(float(got.map(4.0)) - 4.0) < 6e-4
        assert not got.drift_known or abs(got.drift) < 2e-6
    for i, j, k in combinations(range(8), 3):
        loop = pairs[i, j].map @ pairs[j, k].map @ pairs[i, k].map.inverse()
        assert abs(float(loop(4.0)) - 4.0) < 5e-5
