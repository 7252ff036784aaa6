"""Laws of the simulator: the truth it states is the truth in its samples, frames and files."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import simulation as kernels
from avfuse.clock import ClockMap, PiecewiseClock, Segment
from avfuse.errors import StreamError, WriteError
from avfuse.io import read
from avfuse.simulation import (
    SPEED_OF_SOUND,
    UNRELATED,
    Camera,
    Decay,
    Device,
    Room,
    Scene,
    SoundSource,
    demo_event,
    dropping_clock,
    jingle_pair,
    simulate,
    simulate_pair,
    unrelated_pair,
    wandering_clock,
    write_media,
)
from avfuse.simulation.pictures import Film
from avfuse.simulation.sampling import convolve, limit_band, rms, sample_on_clock, sinc_table
from avfuse.simulation.sounds import SOUNDS, beeps, impacts, make_sound, music
from avfuse.stream import Recording, Stream

SEEDS = st.integers(0, 10_000)


def decibels(ratio: float) -> float:
    return 20.0 * float(np.log10(ratio))


def lag_between(found: np.ndarray, expected: np.ndarray) -> float:
    """Samples by which `found` is late, to a small fraction of one: where the band-limited correlation peaks."""
    size = 2 * max(len(found), len(expected))
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(expected, size))
    late = float(np.argmax(np.fft.irfft(spectrum, size)))
    turn = 2j * np.pi * np.fft.rfftfreq(size)
    for step in (0.5, 0.05, 0.01):
        before, top, after = (np.sum(spectrum * np.exp(turn * (late + k * step))).real for k in (-1, 0, 1))
        late += step * float(np.clip(0.5 * (before - after) / (before - 2.0 * top + after), -1.0, 1.0))
    return late if late < size / 2 else late - size


# Kernels against their twins


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=40)
def test_interpolation_is_the_sum_of_weights(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(int(rng.integers(1, 40))).astype(np.float32)
    positions = np.append(rng.uniform(-20.0, len(values) + 20.0, 12), [np.nan, 0.0, len(values) - 1.0])
    table = sinc_table(int(2 * rng.integers(1, 9)))
    expected = reference.interpolate_at(values, positions, table)
    np.testing.assert_allclose(kernels.interpolate_at(values, positions, table), expected, atol=2e-6)


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=20)
def test_pulses_are_the_transpose_of_interpolation(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    positions, heights = rng.uniform(0.0, n, 3), rng.standard_normal(3)
    table = sinc_table(8)
    expected = reference.pulses(n, positions, heights, table)
    np.testing.assert_allclose(kernels.pulses(n, positions, heights, table)[0], expected, atol=2e-6)


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=5)
def test_image_sources_are_the_mirrored_rooms(seed):
    rng = np.random.default_rng(seed)
    size = rng.uniform(1.5, 4.0, 3)
    source, receiver = rng.uniform(0.2, size - 0.2), rng.uniform(0.2, size - 0.2)
    walls = rng.uniform(0.1, 0.95, (6, 2))
    table = sinc_table(8)
    arguments = (size, source, receiver, walls)
    found = kernels.image_sources(*arguments, 0.0, 2000.0, 343.0, 4, 56, 1e9, table, table)
    np.testing.assert_allclose(
        found, reference.image_sources(*arguments, 2000.0, 343.0, 4, 56, table), atol=1e-5 * np.abs(found).max()
    )


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=20)
def test_damped_sines_follow_their_formula(seed):
    rng = np.random.default_rng(seed)
    decays = rng.uniform(0.01, 0.1, 5)
    rows = (
        rng.uniform(-0.05, 0.3, 5),
        rng.uniform(50, 400, 5),
        rng.uniform(0.1, 1, 5),
        0.1 * decays,
        decays,
        rng.uniform(0, 6, 5),
    )
    np.testing.assert_allclose(
        kernels.damped_sines(300, 1000.0, *rows), reference.damped_sines(300, 1000.0, *rows), atol=1e-9
    )


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=10)
def test_the_voice_is_a_source_and_its_resonators(seed):
    rng = np.random.default_rng(seed)
    n, hop = 300, 40
    frames = n // hop + 2
    tracks = [rng.uniform(low, high, frames) for low, high in ((80, 300), (0, 1), (0, 0.1), (0, 1), (1500, 3000))]
    formants = rng.uniform(200, 3500, (frames, 3))
    arguments = (rng.standard_normal(n), 8000.0, hop, *tracks, formants, np.array([60.0, 90.0, 150.0]))
    np.testing.assert_allclose(kernels.voice(*arguments), reference.voice(*arguments), atol=1e-9)


@pytest.mark.kernel
@given(SEEDS)
@settings(max_examples=20)
def test_gain_control_follows_the_level(seed):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(200) * np.repeat(10.0 ** rng.uniform(-3, 1, 4), 50)).astype(np.float32)
    arguments = (values, 0.25, 10.0, 0.1, 0.01)
    np.testing.assert_allclose(kernels.control_gain(*arguments), reference.control_gain(*arguments), rtol=1e-5)


# Sampling and clocks


@pytest.mark.parametrize("device_rate", [8000.0, 16000.0, 44100.0, 48000.0, 192000.0])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_sampling_errs_by_less_than_80_db_up_to_nine_tenths_of_nyquist(device_rate, share):
    rate, clock = 16000.0, ClockMap(0.0731, -87e-6)
    frequency = share * min(rate, device_rate) / 2
    tone = np.sin(2.0 * np.pi * frequency * np.arange(16000) / rate).astype(np.float32)
    n = int(0.7 * device_rate)
    expected = np.sin(2.0 * np.pi * frequency * clock(np.arange(n) / device_rate))
    # 20 ms at the beginning and the end of the tone are no tone.
    error = sample_on_clock(tone, rate, clock, device_rate, n) - expected
    assert decibels(np.abs(error).max()) < -80.0


def test_what_a_slower_device_cannot_hold_is_taken_out_before_sampling():
    tone = np.sin(2.0 * np.pi * 4400.0 * np.arange(16000) / 16000.0).astype(np.float32)
    heard = sample_on_clock(tone, 16000.0, ClockMap(0.05), 8000.0, 6000)
    assert decibels(rms(heard) / rms(tone)) < -80.0


@pytest.mark.parametrize("drift", [-120e-6, 0.0, 35e-6])
def test_a_device_hears_at_its_time_t_what_happens_at_start_plus_t_plus_drift_t(drift):
    clock = ClockMap(1.25, drift)
    event = simulate(
        duration=30.0,
        devices=[Device("d", clock, 25.0, 16000.0, (1.0, 0.0, 0.0))],
        sources=[SoundSource(np.sin(2.0 * np.pi * 997.0 * np.arange(30 * 16000) / 16000.0).astype(np.float32))],
        rng=0,
    )
    t = np.arange(400000) / 16000.0
    expected = np.sin(2.0 * np.pi * 997.0 * (1.25 + (1.0 + drift) * t - 1.0 / SPEED_OF_SOUND))
    np.testing.assert_allclose(event["d"]["sound"].values[0], expected, atol=1e-4)


def test_a_clock_with_a_hole_records_silence_in_it():
    clock = PiecewiseClock((Segment(0.0, 1.0, 0.5), Segment(2.0, 3.0, 0.5)))
    heard = sample_on_clock(np.ones(80000, np.float32), 16000.0, clock, 16000.0, 48000)
    assert np.all(heard[16000:32000] == 0.0)
    np.testing.assert_allclose(heard[np.r_[0:16000, 32000:48000]], 1.0, atol=1e-5)


def test_a_wandering_clock_never_jumps_and_keeps_its_mean_and_spread():
    clock = wandering_clock(3.0, 600.0, 20e-6, 5e-6, np.random.default_rng(1))
    drifts = np.array([s.drift for s in clock.segments])
    np.testing.assert_allclose([drifts.mean(), drifts.std()], [20e-6, 5e-6], rtol=1e-6)
    assert float(clock(0.0)) == pytest.approx(3.0, abs=1e-12)
    for before, after in itertools.pairwise(clock.segments):
        assert float(before.map(before.end)) == pytest.approx(float(after.map(after.start)), abs=1e-9)
    assert float(clock(600.0)) == pytest.approx(3.0 + 600.0 * (1 + 20e-6), abs=1e-9)


def test_a_dropping_clock_loses_what_was_asked_for():
    clock = dropping_clock(ClockMap(2.0, 1e-5), 60.0, [(20.0, 0.5), (40.0, 0.028)])
    straight = ClockMap(2.0, 1e-5)
    np.testing.assert_allclose(clock([10.0, 30.0, 50.0]) - straight([10.0, 30.0, 50.0]), [0.0, 0.5, 0.528], atol=1e-12)


def test_pairwise_truths_compose():
    rng = np.random.default_rng(5)
    clocks = {"a": ClockMap(1.0, 2e-5), "b": ClockMap(3.0, -4e-5), "c": wandering_clock(2.0, 10.0, 1e-5, 4e-6, rng)}
    event = simulate(
        duration=14.0, devices=[Device(n, c, 8.0, 8000.0, (1.0, 0.0, 0.0)) for n, c in clocks.items()], rng=0
    )
    t = np.linspace(0.0, 8.0, 50)
    direct = event.truth_between("a", "c")(t)
    np.testing.assert_allclose((event.truth_between("a", "b") @ event.truth_between("b", "c"))(t), direct, atol=1e-9)
    np.testing.assert_allclose(event.truth["a"](direct), event.truth["c"](t), atol=1e-9)


def test_travel_time_is_in_the_sound_but_not_in_the_clock():
    devices = [
        Device("near", ClockMap(1.0), 8.0, 16000.0, (1.0, 0.0, 0.0)),
        Device("far", ClockMap(1.0), 8.0, 16000.0, (0.0, 6.0, 0.0)),
    ]
    event = simulate(duration=10.0, devices=devices, sources=[SoundSource("white")], rng=2)
    assert event.truth_between("near", "far").offset == 0.0
    acoustic = event.acoustic_between("near", "far").offset
    assert acoustic == pytest.approx(-5.0 / SPEED_OF_SOUND)
    late = lag_between(event["far"]["sound"].values[0], event["near"]["sound"].values[0])
    assert late / 16000.0 == pytest.approx(-acoustic, abs=2e-6)


# Rooms


@given(SEEDS)
@settings(max_examples=15)
def test_the_direct_sound_arrives_when_and_as_loud_as_the_distance_says(seed):
    rng = np.random.default_rng(seed)
    room = Room((6.0, 5.0, 3.0), np.zeros(6), 0.05)
    source, receiver = (tuple(rng.uniform(0.3, np.array(room.size) - 0.3)) for _ in range(2))
    response = room.response(source, receiver, 48000.0)
    distance = np.linalg.norm(np.subtract(source, receiver))
    assert response.delay == pytest.approx(distance / 343.0)
    # A band-limited pulse at time d has the spectrum exp(-i w d): read the delay off its phase.
    frequencies = np.fft.rfftfreq(len(response.samples), 1.0 / 48000.0)
    spectrum = np.fft.rfft(response.samples.astype(float))
    inside = (frequencies > 100.0) & (frequencies < 21000.0)
    late = response.lead / 48000.0 + distance / 343.0
    turned = spectrum * np.exp(2j * np.pi * frequencies * late) * distance
    np.testing.assert_allclose(turned[inside], 1.0, atol=2e-4)


def test_one_wall_gives_one_echo_from_the_mirrored_place():
    walls = np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    room = Room((6.0, 5.0, 3.0), walls, 0.05)
    response = room.response((1.5, 2.0, 1.0), (4.0, 2.0, 1.0), 16000.0)
    echo = response.samples.copy()
    direct = Room((6.0, 5.0, 3.0), np.zeros(6), 0.05).response((1.5, 2.0, 1.0), (4.0, 2.0, 1.0), 16000.0)
    echo -= direct.samples[: len(echo)]
    k = response.lead + 5.5 / SPEED_OF_SOUND * 16000.0
    assert np.argmax(np.abs(echo)) == round(k)
    assert decibels(rms(echo) / rms(direct.samples)) == pytest.approx(decibels(0.5 * 2.5 / 5.5), abs=0.1)
    assert response.drr_db == pytest.approx(-decibels(0.5 * 2.5 / 5.5), abs=0.1)


@pytest.mark.parametrize("rt60", [0.2, 0.5, 0.8])
def test_rooms_decay_as_asked(rt60):
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        room = Room.random(rng, rt60=(rt60, rt60))
        source, receiver = (tuple(rng.uniform(0.5, np.array(room.size) - 0.5)) for _ in range(2))
        samples = room.response(source, receiver, 16000.0).samples.astype(float)
        left = 10.0 * np.log10(np.cumsum((samples**2)[::-1])[::-1] / np.sum(samples**2) + 1e-12)
        found.append(3.0 * (np.argmax(left < -25.0) - np.argmax(left < -5.0)) / 16000.0)
    assert np.mean(found) == pytest.approx(rt60, rel=0.12)


def test_bands_decay_each_in_its_own_time():
    room = Room.with_rt60((6.0, 5.0, 3.0), (0.6, 0.2), bands=(250.0, 4000.0))
    response = room.response((2.0, 2.0, 1.5), (4.0, 3.5, 1.2), 16000.0)
    tail = response.samples[response.lead + 3200 :]
    low, high = limit_band(tail, 16000.0, None, 300.0), limit_band(tail, 16000.0, 3500.0, None)
    assert decibels(rms(low) / rms(high)) > 20.0


def test_scattered_images_keep_the_direct_sound_and_the_energy():
    sizes = (6.0, 5.0, 3.0)
    plain, scattered = (
        Room.with_rt60(sizes, 0.4, scatter=s).response((2.0, 2.0, 1.5), (4.0, 3.5, 1.2), 16000.0) for s in (0.0, 0.08)
    )
    first = plain.lead + round(plain.delay * 16000.0) + 8
    np.testing.assert_allclose(plain.samples[first - 12 : first], scattered.samples[first - 12 : first], atol=0.02)
    assert not np.allclose(plain.samples, scattered.samples, atol=0.02)
    assert plain.drr_db == pytest.approx(scattered.drr_db, abs=1.5)


@pytest.mark.parametrize("distance", [0.5, 1.0, 4.0])
def test_a_measured_like_decay_has_the_ratio_its_distance_says(distance):
    response = Decay(0.5, critical_distance=1.0).response((0.0, 0.0, 0.0), (distance, 0.0, 0.0), 16000.0)
    assert response.drr_db == pytest.approx(-decibels(distance), abs=0.01)
    k = response.lead + response.delay * 16000.0
    first = np.flatnonzero(np.abs(response.samples) > 0.4 / distance)[0]
    assert abs(first - k) <= 1.0


def test_a_measured_like_decay_falls_by_60_db_in_its_time_and_sooner_at_high_frequencies():
    samples = Decay(0.6).response((0.0, 0.0, 0.0), (2.0, 0.0, 0.0), 16000.0).samples
    for band, rt60 in (((None, 500.0), 0.6), ((6000.0, None), 0.3)):
        power = limit_band(samples, 16000.0, *band).astype(float)[1500:] ** 2
        left = 10.0 * np.log10(np.cumsum(power[::-1])[::-1] / np.sum(power) + 1e-12)
        found = 3.0 * (np.argmax(left < -25.0) - np.argmax(left < -5.0)) / 16000.0
        assert found == pytest.approx(rt60, rel=0.25)


def test_convolution_in_blocks_is_convolution():
    rng = np.random.default_rng(0)
    values, response = rng.standard_normal(200_000).astype(np.float32), rng.standard_normal(3000).astype(np.float32)
    expected = np.fft.irfft(np.fft.rfft(values, 1 << 18) * np.fft.rfft(response, 1 << 18), 1 << 18)[100:200_100]
    np.testing.assert_allclose(convolve(values, response, 100), expected, atol=2e-3)


# Devices


def one_device(rng=4, **changes):
    device = Device("d", ClockMap(0.5), 5.0, 16000.0, (1.0, 0.0, 0.0), **changes)
    return simulate(duration=6.0, devices=[device], sources=[SoundSource("speech")], rng=rng)["d"]["sound"].values


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 20.0])
@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_noise_is_as_loud_as_asked(snr_db, slope):
    clean = one_device()
    noise = one_device(snr_db=snr_db, noise_slope_db=slope) - clean
    assert decibels(rms(clean) / rms(noise)) == pytest.approx(snr_db, abs=0.01)


def test_noise_is_measured_where_both_devices_listen():
    pair, quiet = (simulate_pair("speech", overlap=6.0, snr_db=s, offset=4.0, rng=8) for s in (0.0, None))
    begin = 4 * 16000
    signal = quiet.reference.values[:, begin : begin + 6 * 16000]
    noise = (pair.reference.values - quiet.reference.values)[:, begin : begin + 6 * 16000]
    assert decibels(rms(signal) / rms(noise)) == pytest.approx(0.0, abs=0.02)


def test_gain_polarity_and_ceiling():
    plain = one_device()
    np.testing.assert_allclose(one_device(polarity=-1, gain=0.5), -0.5 * plain, atol=1e-7)
    top = 0.3 * np.abs(plain).max()
    np.testing.assert_allclose(one_device(ceiling=float(top)), np.clip(plain, -top, top), atol=1e-7)


def test_a_band_passes_inside_and_stops_outside_without_delay():
    noise = make_sound("white", 4.0, 16000.0, np.random.default_rng(0))
    limited = limit_band(noise, 16000.0, 300.0, 3400.0)
    power = np.abs(np.fft.rfft(limited)) ** 2 / np.mean(np.abs(np.fft.rfft(noise)) ** 2)
    frequencies = np.fft.rfftfreq(len(noise), 1.0 / 16000.0)

    def level(low, high):
        return 5.0 * np.log10(np.mean(power[(frequencies >= low) & (frequencies < high)]) ** 2)

    assert level(600.0, 2500.0) == pytest.approx(0.0, abs=0.2)
    assert level(0.0, 100.0) < -30.0
    assert level(7000.0, 8000.0) < -20.0
    assert lag_between(limited, noise) == pytest.approx(0.0, abs=0.01)


def test_gain_control_brings_quiet_and_loud_closer():
    quiet = one_device(gain=0.02)
    assert decibels(rms(one_device(gain=0.02, agc=True)) / rms(quiet)) > 10.0
    assert rms(one_device(gain=5.0, agc=True)) < 0.5 * rms(one_device(gain=5.0))


def test_hum_sits_on_the_mains_and_its_harmonics():
    hum = one_device(hum_db=0.0)[0] - one_device()[0]
    power = np.abs(np.fft.rfft(hum * np.hanning(len(hum)))) ** 2
    frequencies = np.fft.rfftfreq(len(hum), 1.0 / 16000.0)
    near = np.abs(frequencies / 50.0 - np.round(frequencies / 50.0)) * 50.0 < 3.0
    assert np.sum(power[near]) > 0.99 * np.sum(power)


def test_microphones_of_one_device_hear_the_sound_at_their_own_places():
    device = Device("d", ClockMap(0.5), 5.0, 48000.0, (2.0, 0.0, 0.0), ((0.0, 0.0, 0.0), (0.343, 0.0, 0.0)))
    event = simulate(duration=6.0, devices=[device], sources=[SoundSource("white")], rng=1)
    first, second = event["d"]["sound"].values
    assert lag_between(second, first) == pytest.approx(48.0, abs=0.05)


# Sounds


@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize("rate", [8000.0, 48000.0])
def test_sounds_have_their_length_and_level_and_a_seed(kind, rate):
    one, again, other = (make_sound(kind, 3.0, rate, np.random.default_rng(s)) for s in (1, 1, 2))
    assert one.dtype == np.float32
    assert one.shape == (round(3.0 * rate),)
    assert rms(one) == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_speech_is_modulated_at_the_rate_of_syllables():
    speech = make_sound("speech", 60.0, 16000.0, np.random.default_rng(0))
    envelope = np.sqrt(np.mean(speech.reshape(-1, 160) ** 2, axis=1))
    power = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    frequencies = np.fft.rfftfreq(len(envelope), 0.01)
    bands = [power[(frequencies >= low) & (frequencies < 2 * low)].sum() for low in (0.5, 1.5, 3.0, 12.0)]
    assert bands[2] == max(bands)


def test_a_loop_repeats_sample_by_sample():
    tune = music(20.0, 16000.0, np.random.default_rng(3), loop=4)
    size = 2 * len(tune)
    own = np.fft.irfft(np.abs(np.fft.rfft(tune, size)) ** 2, size)[: len(tune) // 2]
    period = 8000 + int(np.argmax(own[8000:]))
    np.testing.assert_array_equal(tune[:-period], tune[period:])


def test_impacts_and_beeps_start_at_their_times():
    times = np.array([0.50003, 1.2, 2.00001])
    for sound in (impacts(3.0, 48000.0, np.random.default_rng(0), times=times), beeps(3.0, 48000.0, times=times)):
        for time in times:
            before, after = (
                sound[int((time + a) * 48000) : int((time + b) * 48000)] for a, b in ((-0.01, 0), (0, 0.01))
            )
            assert rms(after) > 20.0 * rms(before)


# Pairs


@pytest.mark.parametrize("room", [None, "near", "mid"])
@pytest.mark.parametrize("offset", [-3.7, 2.2])
def test_a_pair_obeys_its_truth(room, offset):
    """Undo the truth: what is left is the same sound at the same time, as far as the room lets it."""
    pair = simulate_pair("speech", overlap=6.0, snr_db=40.0, room=room, offset=offset, drift_ppm=80.0, rng=11)
    assert pair.truth == ClockMap(offset, 80e-6)
    n = pair.reference.values.shape[1]
    placed = sample_on_clock(pair.moving.values[0], 16000.0, pair.truth.inverse(), 16000.0, n)
    late = lag_between(placed, pair.reference.values[0]) / 16000.0
    assert abs(late) < (2e-6 if room is None else 2e-3)
    begin, end = max(0.0, offset), min(pair.reference.duration, float(pair.truth(pair.moving.duration)))
    assert end - begin == pytest.approx(6.0, abs=0.01)


def test_paths_are_equal_where_asked():
    for seed in range(5):
        pair = simulate_pair("white", overlap=1.0, room="mid", rng=seed)
        assert pair.reference.facts["distance"] == pytest.approx(pair.moving.facts["distance"], abs=1e-9)
        assert 0.5 <= pair.moving.facts["distance"] <= 4.0
    pair = simulate_pair("white", overlap=1.0, room="mid", equal_paths=False, rng=0)
    assert pair.reference.facts["distance"] != pair.moving.facts["distance"]


def test_close_devices_hear_more_of_the_source_than_of_the_room():
    ratios = {
        r: [simulate_pair("white", overlap=1.0, room=r, rng=s).moving.facts["drr_db"] for s in range(12)]
        for r in ("near", "far")
    }
    assert np.median(ratios["near"]) > 0.0 > np.median(ratios["far"])
    assert min(ratios["near"]) > -9.0


def test_equal_seeds_give_equal_pairs():
    one, again, other = (simulate_pair("music", overlap=2.0, room="near", rng=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.reference.values, again.reference.values)
    np.testing.assert_array_equal(one.moving.values, again.moving.values)
    assert one.truth == again.truth != other.truth


@pytest.mark.parametrize("kind", [k for k in UNRELATED if k not in {"silence", "hum", "self_noise"}])
def test_unrelated_pairs_share_no_waveform(kind):
    for seed in range(3):
        one, two = (s.values[0].astype(float) for s in unrelated_pair(kind, duration=10.0, rng=seed))
        size = 1 << 19
        spectra = [np.fft.rfft(x, size) for x in (one, two)]
        cross = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)
        assert np.abs(cross).max() < 0.6 * np.sqrt(np.sum(one**2) * np.sum(two**2))


def test_two_recordings_of_one_hum_are_one_running_hum():
    one, two = (s.values[0].astype(float) for s in unrelated_pair("hum", duration=10.0, rng=0))
    assert np.corrcoef(np.abs(np.fft.rfft(one[:96000])), np.abs(np.fft.rfft(two[:96000])))[0, 1] > 0.5


def test_a_jingle_pair_agrees_at_its_offsets_and_nowhere_else():
    pair = jingle_pair(duration=40.0, length=2.0, snr_db=None, rng=1)
    assert pair.offsets.shape == (6,)
    one, two = pair.reference.values[0].astype(float), pair.moving.values[0].astype(float)
    size = 1 << 21
    cross = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(two, size)), size)
    strong = np.argsort(cross)[::-1][:2000]
    lags = np.where(strong < size / 2, strong, strong - size) / 16000.0
    assert all(np.min(np.abs(lags - o)) < 1e-4 for o in pair.offsets)
    assert max(np.min(np.abs(pair.offsets - lag)) for lag in lags[:6]) < 0.01


# Pictures


def film(camera=None, **scene):
    default = {"impacts": np.array([1.0, 1.7, 2.9]), "flashes": np.array([2.0])} | scene
    return Film(Scene(**default), camera or Camera(160, 96, 50.0), ClockMap(0.5, 4e-5), 3.0)


def test_the_ball_is_on_the_floor_at_the_impacts_and_nowhere_else():
    scene = film().scene
    for time in scene.impacts:
        assert scene.ball(time)[1] == pytest.approx(0.0, abs=1e-12)
        assert min(scene.ball(time - 0.1)[1], scene.ball(time + 0.1)[1]) > 0.05


def test_a_flash_lights_the_frames_whose_exposure_meets_it():
    seen = film()
    bright = np.array([seen.frame(k).mean() for k in range(len(seen.times))])
    exposed = seen.clock(seen.times)
    share = np.array([seen.scene.light(t - 0.005, t + 0.005) for t in exposed])
    assert set(np.flatnonzero(bright > 130.0)) <= set(np.flatnonzero(share > 0.0))
    assert np.array_equal(bright > 200.0, share > 0.99)
    assert np.count_nonzero(share > 0.99) in {3, 4}


def test_frames_move_with_the_event():
    seen = film()
    assert np.abs(seen.frame(10).astype(int) - seen.frame(12)).max() > 50
    times, images = next(seen.blocks(1.0))
    assert images.shape == (50, 96, 160, 3)
    np.testing.assert_array_equal(images[7], seen.frame(7))
    np.testing.assert_array_equal(times, seen.times[:50])


def test_variable_frame_rates_keep_order_and_lose_frames():
    times = Camera(160, 96, 30.0, jitter=0.004, lost=0.1, seed=3).frame_times(60.0)
    assert times[0] == 0.0
    assert np.all(np.diff(times) > 0.0)
    assert 0.85 * 1800 < len(times) < 0.95 * 1800
    assert np.std(np.diff(times)) > 0.003


# Files


def decoded(path):
    """(first presented second, rate, (channels, n)) of the first sound track, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        first = float(frames[0].pts * frames[0].time_base)
        parts = []
        for frame in frames:
            values = frame.to_ndarray()
            if values.dtype.kind == "i":
                values = values / 2.0 ** (8 * values.dtype.itemsize - 1)
            parts.append(values if frame.format.is_planar else values.reshape(-1, len(frame.layout.channels)).T)
        return first, frames[0].sample_rate, np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def filmed():
    camera = Device("cam", ClockMap(0.7, 3e-5), 4.0, 48000.0, (1.0, 0.0, 0.0), gain=0.8, camera=Camera(160, 96, 30.0))
    scene = Scene(np.array([1.5, 2.5]), np.array([2.0]))
    sounds = [SoundSource("speech"), SoundSource(beeps(5.0, 48000.0, times=scene.flashes))]
    return simulate(duration=5.0, devices=[camera], sources=sounds, scene=scene, rng=6)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_reads_back_in_time(filmed, suffix, tmp_path):
    path = filmed.write(tmp_path, suffixes={"cam": suffix})["cam"]
    first, rate, values = decoded(path)
    tick = 1e-3 if suffix == ".mkv" else 1 / 90000
    with av.open(str(path)) as container:
        times = np.array([float(f.pts * f.time_base) for f in container.decode(video=0)])
    assert rate == 48000
    expected = filmed["cam"]["sound"].values[0]
    assert abs(lag_between(values[0], expected)) < 0.2
    np.testing.assert_allclose(times - times[0], filmed["cam"]["picture"].values.times, atol=1.01 * tick)
    assert abs(first - times[0]) <= tick


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_avfuse_reads_a_film_where_it_was_written(filmed, suffix, tmp_path):
    recording = read(filmed.write(tmp_path, suffixes={"cam": suffix})["cam"])
    sound, picture = recording["sound"], recording["picture"]
    assert abs(sound.start_time) < 1 / 48000
    assert abs(picture.start_time) < 1e-3
    _, values = next(sound.blocks(10.0))
    assert abs(lag_between(values[0], filmed["cam"]["sound"].values[0])) < 0.2


def test_written_pictures_keep_their_colours(filmed, tmp_path):
    film = filmed["cam"]["picture"].values
    with av.open(str(filmed.write(tmp_path)["cam"])) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == len(film.times)
    for k in (0, 20, 60):
        assert np.mean(np.abs(images[k].astype(float) - film.frame(k))) < 6.0


def test_opus_packets_fall_on_whole_milliseconds(filmed, tmp_path):
    path = filmed.write(tmp_path, suffixes={"cam": ".mkv"})["cam"]
    with av.open(str(path)) as container:
        stamps = [(frame.pts * frame.time_base, frame.samples) for frame in container.decode(audio=0)]
    # Presented time 0 is half a millisecond into the file; the first frame is shorter by what is skipped.
    ends = np.cumsum([samples for _, samples in stamps]) / 48000.0
    np.testing.assert_allclose([float(t) for t, _ in stamps[1:]], 0.0005 + ends[:-1], atol=1e-9)


@pytest.mark.parametrize(
    ("suffix", "bits", "step"),
    [(".wav", 16, 2**-16), (".wav", 24, 2**-23), (".wav", 32, 0), (".flac", 16, 2**-16), (".flac", 24, 2**-23)],
)
def test_lossless_files_hold_the_samples(suffix, bits, step, tmp_path):
    stream = Stream.from_samples(
        0.5 * make_sound("speech", 2.0, 44100.0, np.random.default_rng(0)).reshape(2, -1), rate=44100.0
    )
    path = write_media(tmp_path / f"x{suffix}", Recording("x", (stream,)), bits=bits)
    _, rate, values = decoded(path)
    assert rate == 44100
    np.testing.assert_allclose(values, stream.values, atol=1.01 * step)


def test_equal_seeds_give_equal_files(filmed, tmp_path):
    for suffix in (".mp4", ".mkv", ".wav"):
        one, two = (
            filmed.write(tmp_path / n, suffixes={"cam": suffix})["cam"]
            if suffix != ".wav"
            else write_media(tmp_path / f"{n}.wav", Recording("x", (filmed["cam"]["sound"],)))
            for n in ("a", "b")
        )
        assert one.read_bytes() == two.read_bytes()


def test_flash_and_beep_of_the_written_demo_coincide(tmp_path):
    event = demo_event(3, duration=20.0)
    drifts = [1e6 * abs(clock.drift) for clock in event.truth.values()]
    assert all(10.0 <= d <= 60.0 for d in drifts)
    path = write_media(tmp_path / "cam-b.mkv", event["cam-b"])
    clock = event.truth["cam-b"]
    first, _, values = decoded(path)
    with av.open(str(path)) as container:
        frames = [(float(f.pts * f.time_base), f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
    distance = event.distances["cam-b"][2]
    for flash in event.scene.flashes:
        at = float(clock.inverse()(flash))
        lit = [time for time, light in frames if abs(time - at) < 0.5 and light > 150.0]
        assert -0.01 <= lit[0] - at < 1 / 30 + 0.01
        # The beep's 1 kHz: it rises when the sound has travelled to the camera.
        t = np.arange(int((at - 0.1) * 48000), int((at + 0.1) * 48000))
        tone = np.abs(np.convolve(values[0, t] * np.exp(-2j * np.pi * 1000.0 * t / 48000.0), np.hanning(192), "same"))
        rise = first + t[np.argmax(tone > 0.5 * tone.max())] / 48000.0
        assert rise - at == pytest.approx(distance / SPEED_OF_SOUND, abs=0.003)


# What cannot be


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: simulate_pair("yodel", rng=0), "yodel"),
        (lambda: simulate_pair(room="cellar", rng=0), "cellar"),
        (lambda: simulate_pair(overlap=0.0, rng=0), "overlap"),
        (lambda: unrelated_pair("yodel", rng=0), "yodel"),
        (lambda: jingle_pair(duration=5.0, plays=(3, 2), rng=0), "do not fit"),
        (lambda: Room((3.0, 3.0, 0.0), np.zeros(6), 0.1), "size"),
        (lambda: Room((3.0, 3.0, 3.0), np.zeros(5), 0.1), "shape"),
        (lambda: Room((3.0, 3.0, 3.0), np.ones(6), 0.1), "silent"),
        (lambda: Room.with_rt60((3.0, 3.0, 3.0), 0.0), "rt60"),
        (lambda: Room((3.0, 3.0, 3.0), np.zeros(6), 0.1).response((1, 1, 1), (4, 1, 1), 8000.0), "not inside"),
        (lambda: Room((3.0, 3.0, 3.0), np.zeros(6), 0.1).response((1, 1, 1), (1, 1, 1), 8000.0), "closer"),
        (lambda: Device("d", ClockMap(), 0.0), "at least one sample"),
        (lambda: Device("d", ClockMap(), 1.0, polarity=0), "polarity"),
        (lambda: simulate(duration=1.0, devices=[], rng=0), "devices"),
        (lambda: simulate(duration=1.0, devices=[Device("d", ClockMap(), 1.0)], sources=[], rng=0), "no sources"),
        (lambda: music(1.0, 8000.0, np.random.default_rng(0), loop=0), "loop"),
        (lambda: make_sound("white", 0.0, 8000.0, np.random.default_rng(0)), "at least one sample"),
        (lambda: Scene(np.array([2.0, 1.0]), np.array([])), "rise"),
        (lambda: Camera(161, 96), "even"),
        (lambda: Camera(exposure=1.0), "exposure"),
    ],
)
def test_what_cannot_be_is_said(wrong, says):
    with pytest.raises(StreamError, match=says):
        wrong()


def test_files_that_cannot_hold_a_recording_say_so_and_leave_nothing(filmed, tmp_path):
    three = Recording("x", (Stream.from_samples(np.zeros((3, 100)), rate=8000.0),))
    for name, recording, bits, says in (
        ("x.ogg", filmed["cam"], 16, "format"),
        ("x.wav", filmed["cam"], 16, "one sound"),
        ("x.mp4", Recording("x", ()), 16, "neither"),
        ("x.wav", three, 16, "3 channels"),
        ("x.flac", Recording("x", (filmed["cam"]["sound"],)), 32, "16 or 24"),
        ("x.mp4", Recording("x", (Stream.from_samples(np.zeros(100), rate=192000.0),)), 16, "FFmpeg|rate"),
    ):
        with pytest.raises(WriteError, match=says):
            write_media(tmp_path / name, recording, bits=bits)
    assert list(tmp_path.iterdir()) == []
