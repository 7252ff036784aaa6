"""Where sounds come from: laws on simulated arrays, the real ones, what is refused, and the command."""

from __future__ import annotations

import csv
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from avfuse.cli import run
from avfuse.errors import ReadError, StreamError, WeakAlignmentError
from avfuse.io import read
from avfuse.simulation.arrays import circular_array, place, simulate_array, solid_array, square_array
from avfuse.simulation.rooms import Room
from avfuse.simulation.sounds import music
from avfuse.spatial import locate_sound, read_array, sound_speed, steered_power, track_sounds
from avfuse.spatial.sound.array_order import check_order, reordered, symmetries
from avfuse.spatial.sound.sources import listen
from avfuse.spatial.sound.steering import Geometry, angles_of, direction_of, frame_size, spectra_of, sphere

SQUARE = square_array(0.0457)
RATE = 16000.0


def hiss(duration: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(round(duration * rate)).astype(np.float32)


def one(microphones=SQUARE, azimuth=0.6, elevation=0.4, distance=1.5, seed=0, **options):
    rng = np.random.default_rng(seed)
    return simulate_array(microphones, [place(azimuth, elevation, distance)], rng, **{"duration": 1.5, **options})


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees."""
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


def samples_of(path: Path) -> np.ndarray:
    (sound,) = read(path).of_kind("sound")
    return np.concatenate([values for _, values in sound.blocks(10.0)], axis=1)


@pytest.fixture(scope="module")
def respeaker(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    folder = shared / "geometry" / "respeaker"
    names = ("one_source_a180_e20_50cm.wav", "two_sources_a180_e20_a225_e35_50cm.wav")
    return samples_of(folder / names[0]), samples_of(folder / names[1])


def test_the_real_array_hears_one_source_where_it_stood(respeaker):
    found = locate_sound(respeaker[0], rate=RATE, microphones=SQUARE)
    assert found.status == "located"
    assert len(found) == 1
    assert abs(np.degrees(np.angle(np.exp(1j * (found[0].azimuth - np.pi))))) < 3
    assert abs(np.degrees(found[0].elevation) - 20) < 6
    assert found[0].mirror == pytest.approx((found[0].azimuth, -found[0].elevation))
    assert "mirror image" in (found.message or "")


def test_the_real_array_hears_two_sources_where_they_stood(respeaker):
    found = locate_sound(respeaker[1], rate=RATE, microphones=SQUARE)
    assert len(found) == 2
    for source, (azimuth, elevation) in zip(found, ((180, 20), (225, 35)), strict=True):
        assert apart(source.direction, direction_of(*np.radians([azimuth, elevation]))) < 12
    assert found[0].share > found[1].share


def test_every_order_that_is_not_the_square_turned_is_flagged_on_the_real_array(respeaker):
    turns = symmetries(Geometry(SQUARE))
    assert len(turns) == 8
    for order in permutations(range(4)):
        if order in turns:
            heard = listen(respeaker[1][list(order)], Geometry(SQUARE), RATE)
            check = check_order(heard.geometry, heard.spectra, heard.weights)
            assert check.best_fit < check.fit
            continue
        found = locate_sound(respeaker[1][list(order)], rate=RATE, microphones=SQUARE)
        assert found.status == "permuted", order
        assert len(found) == 0
        # In the order that it names, the channels are those of the square again, turned perhaps.
        assert found.order is not None
        assert tuple(order[k] for k in found.order) in turns


def test_orders_that_one_symmetric_wavefront_cannot_tell_change_nothing(respeaker):
    """From 180 degrees microphones 2 and 3 hear the same: their swap is no error that sound could show."""
    straight = locate_sound(respeaker[0], rate=RATE, microphones=SQUARE)
    assert (0, 2, 1, 3) in straight.diagnostics["ties"]
    assert "1, 3, 2, 4 would fit as well" in (straight.message or "")
    swapped = locate_sound(respeaker[0][[0, 2, 1, 3]], rate=RATE, microphones=SQUARE)
    assert apart(swapped[0].direction, straight[0].direction) < 6
    assert locate_sound(respeaker[0][[1, 0, 2, 3]], rate=RATE, microphones=SQUARE).status == "permuted"


def test_the_real_meeting_array_fits_its_circle_and_no_other_order(shared):
    paths = sorted((shared / "sound" / "ami_array").glob("*.wav"))
    x = np.concatenate([samples_of(path)[:, : 4 * 16000] for path in paths])
    found = locate_sound(x, rate=RATE, microphones=circular_array(8, 0.1))
    assert found.status == "located"
    assert found.diagnostics["fit"] > 0.9
    assert np.degrees(found[0].std).max() < 10
    assert locate_sound(x[[0, 1, 3, 2, 4, 6, 5, 7]], rate=RATE, microphones=circular_array(8, 0.1)).status == "permuted"


def test_turning_the_array_turns_the_answer():
    heard = one()
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    straight = locate_sound(heard.samples, rate=RATE, microphones=SQUARE)[0]
    turned = locate_sound(heard.samples, rate=RATE, microphones=SQUARE @ turn.T)[0]
    assert turned.azimuth - straight.azimuth == pytest.approx(angle, abs=0.005)
    assert turned.elevation == pytest.approx(straight.elevation, abs=0.02)
    np.testing.assert_allclose(turned.cov, straight.cov, rtol=0.3, atol=1e-5)


def test_gain_and_a_common_delay_do_not_matter():
    heard = one()
    louder = 0.01 * np.roll(heard.samples, 40, axis=1)
    a, b = (locate_sound(x, rate=RATE, microphones=SQUARE)[0] for x in (heard.samples, louder))
    assert apart(a.direction, b.direction) < 0.3


def test_channels_and_microphones_move_together():
    heard = one(solid_array(5, 0.05))
    order = [3, 0, 4, 1, 2]
    a = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones)[0]
    b = locate_sound(heard.samples[order], rate=RATE, microphones=heard.microphones[order])[0]
    assert apart(a.direction, b.direction) < 0.1


def test_a_solid_array_hears_below_itself_too_and_names_no_mirror():
    heard = one(solid_array(6, 0.05), azimuth=-2.0, elevation=-0.8)
    found = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones)
    assert apart(found[0].direction, heard.directions[0]) < 1.5
    assert found[0].mirror is None
    assert "mirror image" not in (found.message or "")


def test_facing_says_on_which_side_of_a_plane_array_the_source_is():
    plate = circular_array(6, 0.05) @ np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])  # in the yz plane
    heard = one(plate, azimuth=2.6, elevation=0.3)  # behind it
    behind = locate_sound(heard.samples, rate=RATE, microphones=plate, facing=(-1, 0, 0))
    ahead = locate_sound(heard.samples, rate=RATE, microphones=plate, facing=(1, 0, 0))
    assert apart(behind[0].direction, heard.directions[0]) < 2
    assert behind[0].mirror == pytest.approx((ahead[0].azimuth, ahead[0].elevation))
    assert "`facing`" in (locate_sound(heard.samples, rate=RATE, microphones=plate).message or "")


def test_a_large_array_feels_how_far_away_a_source_is():
    rng = np.random.default_rng(3)
    heard = one(rng.uniform(-0.15, 0.15, (8, 3)), distance=0.8, duration=2.0)
    found = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones)[0]
    assert apart(found.direction, heard.directions[0]) < 1
    assert found.distance == pytest.approx(0.8, rel=0.15)


def test_more_noise_is_a_wider_ellipse():
    widths = [
        np.sqrt(np.trace(locate_sound(one(noise_db=db).samples, rate=RATE, microphones=SQUARE)[0].cov))
        for db in (-30, -3)
    ]
    assert widths[1] > 1.2 * widths[0]


def test_stated_ellipses_hold_the_truth_in_rooms_and_outside():
    """Of 40 at most 6 outside: were the ellipses those of 95 %, it would be 2 (99.6 % of such runs have at most 6)."""
    outside, located = 0, 0
    arrays = [square_array(0.06), circular_array(6, 0.05), solid_array(6, 0.05), solid_array(4, 0.04)]
    for k in range(40):
        rng = np.random.default_rng([40, k])
        room = Room.with_rt60((6.0, 5.0, 3.4), float(rng.uniform(0.2, 0.5)), scatter=0.05) if k % 2 else None
        where = place(rng.uniform(-3, 3), rng.uniform(0.1, 0.9), rng.uniform(0.7, 1.8))
        heard = simulate_array(
            arrays[k // 2 % 4],
            [where],
            rng,
            duration=1.2,
            noise_db=rng.uniform(-30, -8),
            room=room,
            origin=(3, 2.5, 1.5),
        )
        found = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones, check=False)
        if found.status != "located":
            continue
        located += 1
        off = np.array([found[0].azimuth - heard.azimuth[0], found[0].elevation - heard.elevation[0]])
        off[0] = np.angle(np.exp(1j * off[0]))
        outside += off @ np.linalg.solve(found[0].cov, off) > 5.99
    assert located >= 36
    assert outside <= 6


def test_two_talkers_at_once_and_how_many_is_found_out():
    rng = np.random.default_rng(5)
    heard = simulate_array(circular_array(6, 0.05), [place(0.3, 0.3, 1.5), place(1.5, 0.3, 1.5)], rng, duration=2.5)
    found = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones)
    assert len(found) == 2
    for truth in heard.directions:
        assert min(apart(source.direction, truth) for source in found) < 4
    assert len(locate_sound(heard.samples, rate=RATE, microphones=heard.microphones, sources=1)) == 1
    assert len(locate_sound(heard.samples, rate=RATE, microphones=heard.microphones, most=1)) == 1


@pytest.mark.parametrize("sound", [music, hiss])
def test_other_sounds_than_speech_are_located(sound):
    heard = one(solid_array(6, 0.05), sounds=[sound], noise_db=-15)
    found = locate_sound(heard.samples, rate=RATE, microphones=heard.microphones)
    assert len(found) == 1
    assert apart(found[0].direction, heard.directions[0]) < 2


def test_other_rates_and_integers_are_taken():
    heard = one(rate=48000.0, duration=1.0)
    whole = (2e4 * heard.samples).astype(np.int16)
    found = locate_sound(whole, rate=48000.0, microphones=SQUARE)
    assert apart(found[0].direction, heard.directions[0]) < 4


def test_noise_of_the_microphones_alone_is_refused():
    for seed, array in enumerate((SQUARE, circular_array(8, 0.1), solid_array(5, 0.05))):
        heard = simulate_array(array, np.zeros((0, 3)), np.random.default_rng(seed), duration=3.0, noise_db=0.0)
        found = locate_sound(heard.samples, rate=RATE, microphones=array)
        assert found.status == "no_match"
        assert len(found) == 0
        with pytest.raises(WeakAlignmentError, match="no_match"):
            found[0]


def test_what_holds_no_information_is_degenerate():
    x = one().samples
    cases = {
        "silent": np.zeros_like(x),
        "channel 2 is silent": np.where(np.arange(4)[:, None] == 1, 0, x),
        "copies": x[[0, 1, 2, 0]],
        "are needed": x[:, :900],
    }
    for word, samples in cases.items():
        found = locate_sound(samples, rate=RATE, microphones=SQUARE)
        assert found.status == "degenerate"
        assert word in (found.message or "")
    line = np.array([[0.05 * k, 0, 0] for k in range(4)])
    assert "line" in (locate_sound(x, rate=RATE, microphones=line).message or "")


def test_channels_that_heard_something_else_are_named():
    heard = one(duration=2.0)
    noise = 0.1 * np.random.default_rng(0).standard_normal(heard.samples.shape)
    half = locate_sound(np.where(np.arange(4)[:, None] >= 2, noise, heard.samples), rate=RATE, microphones=SQUARE)
    assert half.status == "no_match"
    assert "channels 3, 4 share nothing" in (half.message or "")
    rest = locate_sound(np.where(np.arange(4)[:, None] >= 3, noise, heard.samples), rate=RATE, microphones=SQUARE)
    assert rest.status != "located" or "channel 4 shares nothing" in (rest.message or "")


def test_a_wrong_geometry_is_refused():
    heard = one(solid_array(6, 0.05), duration=2.0)
    for scale in (0.5, 2.0):
        found = locate_sound(heard.samples, rate=RATE, microphones=scale * heard.microphones)
        assert found.status in ("no_match", "permuted")
    flat = one(circular_array(6, 0.05), elevation=0.1)
    assert locate_sound(flat.samples, rate=RATE, microphones=0.6 * flat.microphones).status == "no_match"


@pytest.mark.parametrize("array", [circular_array(8, 0.1), solid_array(7, 0.06)])
def test_shuffled_channels_of_a_simulated_array_are_put_right(array):
    rng = np.random.default_rng(8)
    heard = simulate_array(array, [place(1.0, 0.4, 1.5), place(-1.6, 0.6, 2.0)], rng, duration=2.5)
    order = rng.permutation(len(array))
    found = locate_sound(heard.samples[order], rate=RATE, microphones=array)
    assert found.status == "permuted"
    assert found.order is not None
    repaired = locate_sound(heard.samples[order][list(found.order)], rate=RATE, microphones=array)
    assert repaired.status == "located"


def test_a_correlation_is_reordered_as_its_channels_are():
    rng = np.random.default_rng(0)
    heard = listen(one().samples, Geometry(SQUARE), RATE)
    from avfuse.spatial.sound.steering import Steering

    steering = Steering(heard.geometry, sphere(0.3), RATE, heard.spectra.size)
    order = tuple(int(v) for v in rng.permutation(4))
    shuffled = listen(one().samples[list(order)], Geometry(SQUARE), RATE)
    plain = steering.correlations(heard.spectra.cross(heard.weights), heard.spectra)
    other = steering.correlations(shuffled.spectra.cross(shuffled.weights), shuffled.spectra)
    np.testing.assert_allclose(reordered(plain, order, 4), other, atol=1e-3 * plain.max())


def test_steered_power_is_one_where_all_sound_comes_from():
    heard = one(circular_array(8, 0.1), noise_db=-80, sounds=[hiss])
    directions = sphere(np.radians(2), facing=(0, 0, 1))
    power = steered_power(heard.samples, rate=RATE, microphones=heard.microphones, directions=directions)
    assert apart(directions[power.argmax()], heard.directions[0]) < 2
    assert 0.9 < power.max() <= 1.001
    assert abs(float(np.median(power))) < 0.2


@pytest.mark.parametrize("seed", range(6))
def test_the_strongest_direction_is_that_of_the_plain_sums(seed):
    heard = one(circular_array(8, 0.1), azimuth=seed - 2.5, elevation=0.2 + 0.1 * seed, seed=seed, noise_db=-10)
    directions = sphere(np.radians(0.7), facing=(0, 0, 1))
    directions = directions[directions @ heard.directions[0] > np.cos(0.3)]
    power = steered_power(heard.samples, rate=RATE, microphones=heard.microphones, directions=directions)
    geometry = Geometry(heard.microphones)
    spectra = spectra_of(heard.samples, RATE, frame_size(RATE, geometry.aperture, geometry.speed))
    cross = spectra.cross(np.ones_like(spectra.power))
    sums = np.zeros(len(directions))
    for baseline, values in zip(geometry.baselines, cross.astype(np.complex128), strict=True):
        late = -(directions @ baseline) / geometry.speed
        sums += (np.exp(2j * np.pi * np.outer(late, spectra.frequencies)) @ values).real
    assert power.argmax() == sums.argmax()
    np.testing.assert_allclose(power, sums / (spectra.power.size * len(cross)), atol=5e-4)


def test_a_source_that_walks_is_followed():
    rng = np.random.default_rng(2)
    azimuth = np.linspace(-0.8, 0.9, 30)
    path = np.array([place(a, 0.3, 1.5) for a in azimuth])
    heard = simulate_array(circular_array(6, 0.05), path[None], rng, duration=5.0, noise_db=-20)
    tracks = track_sounds(heard.samples, rate=RATE, microphones=heard.microphones)
    truth = np.interp(tracks[0].times, np.linspace(0, 5, 30), azimuth)
    assert len(tracks[0].times) >= 10
    assert np.degrees(np.median(np.abs(tracks[0].azimuth - truth))) < 4
    assert tracks[0].cov.shape == (len(tracks[0].times), 2, 2)
    assert track_sounds(np.zeros((6, 16000)), rate=RATE, microphones=heard.microphones) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"samples": np.zeros(100)}, "expected (channels, n)"),
        ({"samples": np.zeros((1000, 4))}, "turn it"),
        ({"samples": np.full((4, 1000), np.nan)}, "not finite"),
        ({"samples": np.full((4, 1000), "a")}, "real numbers"),
        ({"microphones": SQUARE[:3]}, "3 positions for 4 channels"),
        ({"microphones": SQUARE[:, :2]}, "(channels, 3)"),
        ({"microphones": 1000 * SQUARE}, "are these mm"),
        ({"microphones": 0 * SQUARE}, "at one place"),
        ({"microphones": np.full((4, 3), np.nan)}, "not finite"),
        ({"rate": 0.0}, "rate"),
        ({"speed": 3.4}, "speed"),
        ({"sources": 0}, "sources"),
        ({"facing": (0, 0, 0)}, "facing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(change, word):
    given = {"samples": one().samples, "rate": RATE, "microphones": SQUARE, **change}
    with pytest.raises(StreamError) as error:
        locate_sound(given.pop("samples"), **given)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_two_microphones_are_too_few():
    with pytest.raises(StreamError, match="at least 3"):
        locate_sound(one().samples[:2], rate=RATE, microphones=SQUARE[:2])


def test_sound_runs_faster_in_warm_air():
    assert sound_speed(20.0) == pytest.approx(343.2, abs=0.2)
    assert sound_speed(30.0) / sound_speed(29.0) - 1 == pytest.approx(0.00165, abs=1e-4)


def test_angles_and_directions_are_inverses():
    rng = np.random.default_rng(0)
    azimuth, elevation = rng.uniform(-3, 3, 50), rng.uniform(-1.5, 1.5, 50)
    found = angles_of(direction_of(azimuth, elevation))
    np.testing.assert_allclose(found, (azimuth, elevation), atol=1e-12)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    import soundfile

    soundfile.write(path, samples.T, 16000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("array")
    write_wav(folder / "a.wav", one(duration=2.0).samples)
    with open(folder / "square.csv", "w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "z"], *SQUARE.tolist()])
    (folder / "square.json").write_text(json.dumps({"microphones": SQUARE.tolist()}))
    (folder / "plane.csv").write_text("# metres\n" + "\n".join(f"{x}; {y}" for x, y, _ in SQUARE))
    (folder / "three.csv").write_text("\n".join("0.1,0.2,0.3" for _ in range(3)))
    return folder


def test_files_of_arrays_say_the_same_in_every_form(files):
    for name in ("square.csv", "square.json", "plane.csv"):
        np.testing.assert_allclose(read_array(files / name, 4), SQUARE)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no positions"), ("x,y,z", "no positions"), ("1,2,3\n1,b,3", "row 2"), ("1\n2", "rows of 1"),
        ("1,2,3\n1,2", "rows of 2, 3"), ("[1, 2", "no JSON"), ('{"a": 1}', "no list"), ("1,2,nan", "not finite"),
        ("[]", "no pos"),
    ],
)  # fmt: skip
def test_files_that_are_no_arrays_are_refused(tmp_path, text, word):
    path = tmp_path / "array.csv"
    path.write_text(text)
    with pytest.raises(ReadError) as error:
        read_array(path)
    assert word in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_locates_and_its_document_says_the_same(files, capsys):
    assert run(["locate", str(files / "a.wav"), "--array", str(files / "square.csv")]) == 0
    assert "azimuth" in capsys.readouterr().out
    assert run(["locate", str(files / "a.wav"), "--array", str(files / "square.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "avfuse.locate/1"
    assert found["status"] == "located"
    assert found["sources"][0]["azimuth"] == pytest.approx(0.6, abs=0.05)
    assert set(found["sources"][0]) >= {"azimuth", "elevation", "cov", "confidence", "mirror"}


def test_the_command_s_exit_codes(files, tmp_path, capsys):
    array = str(files / "square.csv")
    quiet = write_wav(tmp_path / "quiet.wav", np.zeros((4, 32000)))
    assert run(["locate", str(quiet), "--array", array]) == 3
    assert "silent" in capsys.readouterr().out
    shuffled = one(duration=2.0).samples[[0, 2, 1, 3]]
    assert run(["locate", str(write_wav(tmp_path / "b.wav", shuffled)), "--array", array, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["status"] == "permuted"
    assert run(["locate", str(files / "a.wav"), "--array", str(files / "three.csv")]) == 2
    told = capsys.readouterr().err
    assert "three.csv" in told
    assert "3 microphones" in told
    assert "4 channels" in told
    assert run(["locate", str(files / "a.wav"), "--array", str(tmp_path / "gone.csv")]) == 2
    assert run(["locate", str(tmp_path / "gone.wav"), "--array", array]) == 2
    assert run(["locate", str(files / "a.wav"), "--array", array, "--video", str(tmp_path / "a.gif")]) == 2


def test_the_command_draws_a_map(files, tmp_path):
    out = tmp_path / "map.mp4"
    assert run(["locate", str(files / "a.wav"), "--array", str(files / "square.csv"), "--video", str(out)]) == 0
    made = read(out)
    assert len(made.of_kind("picture")) == 1
    assert len(made.of_kind("sound")) == 1
    frames = np.concatenate([values for _, values in made.of_kind("picture")[0].blocks(1.0)]).astype(float)
    # It is warm on the left, where +34 degrees lie, and not on the other side of the room.
    warm = frames.mean(axis=(0, 3))
    assert warm[100:240, 340:440].mean() > warm[100:240, 760:860].mean() + 3
