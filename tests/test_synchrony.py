"""Laws of what is learned about time: shifts move the answer, strangers are refused, nothing learned is no answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

torch = pytest.importorskip("torch")

import avfuse  # noqa: E402  (torch is optional)
from avfuse import Recording, Stream, StreamError, WeakAlignmentError  # noqa: E402
from avfuse.errors import ReadError  # noqa: E402
from avfuse.nn.colearning.soft_alignment import (  # noqa: E402
    estimate_soft_warp,
    learn_soft_alignment,
    moments,
    path_cost,
)
from avfuse.nn.synchrony import (  # noqa: E402
    InStep,
    Synchroniser,
    Track,
    compare_tracks,
    estimate_synchrony,
    learn_synchrony,
    load_synchroniser,
    synchrony_edge,
    track_of,
)
from avfuse.nn.synchrony.confidence import MatchProbability, Tail  # noqa: E402
from avfuse.nn.synchrony.learning import contrast  # noqa: E402
from avfuse.nn.synchrony.network import FrameEncoder, PictureEncoder, timed  # noqa: E402
from avfuse.nn.timed import Timed  # noqa: E402
from avfuse.temporal import solve_clocks  # noqa: E402

KNOWN = np.random.default_rng(1).normal(size=(3, 4, 6))  # how the two sensors show what happens


def sensors(seed: int, *, seconds: float = 20.0, together: bool = True, rate: float = 100.0) -> Recording:
    """Two sensors, the second of which squares what it feels: no linear map leads from one to the other."""
    rng = np.random.default_rng([seed, 11])
    n = int(seconds * 100)
    happening = gaussian_filter1d(rng.normal(size=(2, n, 3)), 6.0, axis=1) * 4.0
    felt = np.tanh(happening[0] @ KNOWN[:, 0]) + 0.3 * rng.normal(size=(n, 6))
    source = happening[0 if together else 1]
    other = (source @ KNOWN[:, 1, :4]) ** 2 + 0.3 * rng.normal(size=(n, 4))
    times = np.arange(int(seconds * rate)) / rate
    other = np.stack([np.interp(times, np.arange(n) / 100, c) for c in other.T], axis=1)
    return Recording(
        f"s{seed}",
        (
            Stream("acceleration", "acceleration", felt, rate=100.0),
            Stream("feature", "feature", other, rate=rate),
        ),
    )


KINDS = ("acceleration", "feature")


@pytest.fixture(scope="module")
def model() -> Synchroniser:
    recordings = [sensors(k) for k in range(8)]
    return learn_synchrony(recordings, kinds=KINDS, steps=120, window=4.0, farthest=1.0)


def later(stream: Stream, seconds: float) -> Stream:
    return replace(stream, start=stream.start + seconds)


def test_what_was_learned_holds_on_recordings_that_were_held_out(model):
    assert model.learned is not None
    assert not set(model.learned.trained_on) & set(model.learned.held_out)
    assert model.learned.right > 0.9
    assert model.learned.answered > 0.5
    assert model.learned.wrong + model.learned.unrelated_answered <= 1


@pytest.mark.parametrize("late", [-0.73, 0.0, 0.4, 2.0])
def test_a_stream_that_comes_later_moves_the_offset_by_as_much(model, late):
    first, second = sensors(50).streams
    found = estimate_synchrony(model, later(first, late), second, max_offset=3.0)
    assert found.status == "aligned"
    assert found.evidence == ("synchrony",)
    assert found.offset == pytest.approx(late, abs=3 * found.std)
    assert found.std < 0.03


def test_swapping_the_streams_inverts_the_map(model):
    first, second = sensors(51).streams
    there = estimate_synchrony(model, later(first, 0.5), second, max_offset=2.0)
    back = estimate_synchrony(model, second, later(first, 0.5), max_offset=2.0)
    assert back.offset == pytest.approx(-there.offset, abs=1e-6)
    assert back.confidence == there.confidence


def test_another_rate_and_times_that_are_no_whole_steps_are_answered_as_well(model):
    first = sensors(52).streams[0]
    second = sensors(52, rate=61.0).streams[1]
    found = estimate_synchrony(model, first, later(second, 0.013), max_offset=2.0)
    assert found.offset == pytest.approx(-0.013, abs=3 * found.std)


def test_strangers_are_refused(model):
    refused = 0
    for k in range(60, 72):
        first, second = sensors(k, seconds=12.0).streams[0], sensors(k + 20, seconds=12.0).streams[1]
        found = estimate_synchrony(model, first, second, max_offset=2.0)
        refused += found.status in ("no_match", "ambiguous")
    assert refused == 12
    with pytest.raises(WeakAlignmentError):
        _ = found.map
    with pytest.raises(WeakAlignmentError):
        synchrony_edge(found, ("a", "x"), ("b", "y"))


def test_where_nothing_goes_together_nothing_is_answered_ever():
    strangers = [sensors(k, together=False, seconds=12.0) for k in range(4)]
    useless = learn_synchrony(strangers, kinds=KINDS, steps=15, window=4.0, farthest=1.0)
    assert useless.learned is not None
    assert useless.learned.answered == 0
    assert estimate_synchrony(useless, *sensors(50).streams, max_offset=2.0).status in ("no_match", "ambiguous")


def test_an_answer_is_an_edge_that_does_not_place_a_recording_by_itself(model):
    first, second = sensors(53).streams
    found = estimate_synchrony(model, later(first, 1.2), second, max_offset=2.0)
    edge = synchrony_edge(found, ("a", "acceleration"), ("b", "feature"))
    assert edge.evidence == "synchrony"
    assert edge.confidence <= 0.9  # whatever was held out: see `estimating`
    (alone,) = [c for c in solve_clocks([edge]).values() if c.status != "reference"]
    assert alone.status == "ambiguous"  # it takes more than this to place a recording
    assert min(abs(abs(c.map(5.0) - 5.0) - 1.2) for c in alone.candidates) < 3 * found.std


def test_equal_input_and_seed_learn_the_same_and_no_global_state_is_touched():
    recordings = [InStep.of(sensors(k, seconds=8.0), KINDS) for k in range(3)]
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    one, two = (learn_synchrony(recordings, steps=3, window=2.0, farthest=0.5, batch=2) for _ in range(2))
    assert torch.equal(torch.rand(3), drawn)
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert one.match == two.match


def test_saved_and_loaded_it_answers_the_same(model, tmp_path):
    again = load_synchroniser(model.save(tmp_path / "sync.safetensors"))
    assert (again.kinds, again.match, again.learned) == (model.kinds, model.match, model.learned)
    pair = sensors(54).streams
    assert estimate_synchrony(again, *pair).offset == estimate_synchrony(model, *pair).offset
    (tmp_path / "junk.safetensors").write_bytes(b"no such thing")
    for name, word in (("junk.safetensors", "no safetensors"), ("none", "no such file")):
        with pytest.raises(ReadError, match=word):
            load_synchroniser(tmp_path / name)


def test_still_silent_and_short_are_degenerate(model):
    first, second = (track_of(s) for s in sensors(55).streams)
    still = replace(second, values=np.zeros_like(second.values))
    for pair, word in (((first, still), "never changes"), ((first.part(0, 50), second), "2.0 s")):
        found = compare_tracks(model, *pair)
        assert found.status == "degenerate"
        assert word in (found.message or "")


def test_bad_input_is_refused_in_one_line(model):
    first, second = sensors(56).streams
    sound = Stream.from_samples(np.zeros(32000, np.float32), rate=16000.0)
    narrow = replace(first, values=np.asarray(first.values)[:, :2])
    asks = (
        (lambda: estimate_synchrony(model, sound, second), "learned for acceleration and feature"),
        (lambda: estimate_synchrony(model, narrow, second), "2 channels"),
        (lambda: estimate_synchrony(model, first, second, max_offset=-1.0), "not negative"),
        (lambda: estimate_synchrony(Synchroniser(KINDS, (6, 4)), first, second), "learn it first"),
        (lambda: learn_synchrony([sensors(1)], kinds=KINDS), "one to hold out"),
        (lambda: learn_synchrony([sensors(1), sensors(2)], kinds=KINDS, held_out=["s9"]), "no recording 's9'"),
        (lambda: learn_synchrony([sensors(1), sensors(2)]), "has no sound"),
        (lambda: Synchroniser(("picture", "sound"), (1, 40)), "picture second"),
    )
    for ask, words in asks:
        with pytest.raises(StreamError, match=words) as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("picture", [False, True])
def test_padding_and_what_is_not_valid_reach_nothing(picture):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    encoder = PictureEncoder() if picture else FrameEncoder(5)
    shape = (30, 24, 40) if picture else (120, 5)
    track = Track("picture" if picture else "other", 0, rng.uniform(0, 255, shape), np.ones(30, bool))
    short, padded = timed([track]), timed([track.part(0, 41)])
    dirty = replace(padded, values=padded.values.masked_fill(
        ~padded.valid.reshape(padded.valid.shape + (1,) * (padded.values.ndim - 2)), torch.nan))  # fmt: skip
    count = 30 * encoder.places
    one, two, three = (encoder(t).values[:, :count] for t in (short, padded, dirty))
    assert (one - two).abs().max() < 1e-5
    assert torch.equal(two, three)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = Synchroniser(("sound", "picture"), (40, 1))
    sound = Track("sound", 0, rng.normal(size=(160, 40)), np.ones(40, bool))
    film = Track("picture", 0, rng.uniform(0, 255, (30, 24, 40)), np.ones(30, bool))
    scores = net(timed([sound, sound]), timed([film, film]), 11)
    assert scores.shape == (2, 2, 11)
    contrast(scores, torch.tensor([0, 1]), 5).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_loss_is_least_where_the_own_clip_at_its_own_time_scores_highest():
    scores = torch.zeros(3, 3, 11)
    right, late, other = (scores.clone() for _ in range(3))
    right[range(3), range(3), 5] = late[range(3), range(3), 8] = other[range(3), [1, 2, 0], 5] = 4.0
    losses = [float(contrast(s, torch.arange(3), 5)) for s in (right, late, other)]
    assert losses[0] < float(contrast(scores, torch.arange(3), 5)) < min(losses[1:])
    # Another clip of one's own recording is no negative.
    assert contrast(other, torch.zeros(3), 5) < losses[2]


def test_evidence_of_chance_is_as_rare_as_it_says():
    rng = np.random.default_rng(0)
    told = []
    for _ in range(4000):
        tail = Tail.of(rng.gumbel(size=60) * 3.0 + 7.0)
        told.append(tail.evidence(float(np.max(rng.gumbel(size=10) * 3.0 + 7.0)), 10))
    for level in (1.0, 2.0, 3.0, 4.0):
        assert np.mean(np.array(told) > level) < 1.5 * np.exp(-level)
    assert np.mean(np.array(told) > 2.0) > 0.4 * np.exp(-2.0)


def test_more_evidence_is_never_less_sure_and_few_trials_bound_what_is_claimed():
    rng = np.random.default_rng(0)
    right, wrong = rng.normal(15, 3, 40), rng.exponential(1.0, 80) - 1
    few, many = (MatchProbability.fit(right, wrong, trials=n) for n in (8, 500))
    told = [many(e) for e in np.linspace(-5, 40, 50)]
    assert (np.diff(told) >= 0).all()
    assert few(1e6) == pytest.approx(0.9)
    assert many(20.0) > 0.95
    assert many(2.0) < 0.5
    # Right answers that stand out no further than wrong ones are not believed.
    assert MatchProbability.fit(wrong[:40], wrong, trials=500)(wrong.max()) < 0.9


def test_a_real_film_is_read_on_steps_of_its_own_clock(shared: Path):
    recording = avfuse.read(shared / "picture" / "bbaf2n.mpg")
    ready = InStep.of(recording)
    assert ready.second.values.shape[1:] == (24, 40)
    assert ready.first.values.shape == (4 * ready.first.steps, 40)
    assert ready.steps * 0.04 == pytest.approx(3.0, abs=0.1)
    assert ready.first.start >= recording["sound"].start_time - 1e-6
    # A speaker is heard in the middle, and not at the start.
    loud = ready.first.values.mean(axis=1)
    assert loud[120:200].mean() > loud[:20].mean() + 1.0


def test_sound_is_heard_when_it_sounds_whatever_its_rate_and_start():
    for rate, start in ((16000.0, 0.0), (44100.0, 0.313), (8000.0, -1.07)):
        samples = 1e-4 * np.random.default_rng(0).normal(size=int(4 * rate))
        at = int((1.7 - start) * rate)
        samples[at : at + int(0.01 * rate)] = 0.5
        track = track_of(Stream.from_samples(samples.astype(np.float32), rate=rate, start=start))
        heard = track.start + np.argmax(track.values.mean(axis=1)) * 0.01
        assert heard == pytest.approx(1.705, abs=0.01)


# --- soft alignment


def bend(seed: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """(times of moving, of reference): a smooth map with both ends fixed."""
    rng = np.random.default_rng([seed, 3])
    t = np.arange(int(seconds * 100)) / 100
    way = gaussian_filter1d(rng.normal(size=len(t)), 120.0)
    course = np.cumsum(np.exp(0.35 * way / np.abs(way).max()))
    return t, (course - course[0]) / (course[-1] - course[0]) * t[-1]


def takes(seed: int, *, other: int | None = None, rate: float = 40.0, seconds: float = 10.0, cut: float = 0.0):
    """Two noisy streams of one course at gains of their own, and the map between their times; `cut` seconds missing."""
    rng = np.random.default_rng([seed, 4])

    def course(number: int) -> np.ndarray:
        made = np.random.default_rng([number, 5]).normal(size=(int(seconds * 100), 3))
        return np.asarray(gaussian_filter1d(made, 15.0, axis=0) * 7.0)

    t, m = bend(seed, seconds)
    reference = np.tanh(course(seed) @ KNOWN[:, 2]) + 0.2 * rng.normal(size=(len(t), 6))
    bent = course(seed if other is None else other)
    at = np.arange(int((seconds - cut) * rate)) / rate
    source = np.where(at < 5.0, at, at + cut)
    bent = np.stack([np.interp(np.interp(source, t, m), t, c) for c in bent.T], axis=1)
    moving = np.tanh(bent @ KNOWN[:, 2] * rng.uniform(0.7, 1.4, 6)) + 0.2 * rng.normal(size=(len(at), 6))
    truth = at, np.interp(source, t, m)
    return Stream("a", "feature", reference, rate=100.0), Stream("b", "feature", moving, rate=rate), truth


@pytest.fixture(scope="module")
def aligner():
    return learn_soft_alignment([takes(k)[:2] for k in range(10)], shared=True, steps=40)


def errors(found, truth) -> np.ndarray:
    at = np.arange(0.3, truth[0][-1] - 0.3, 0.05)
    return np.asarray(found.map(at) - np.interp(at, *truth))


def test_a_known_bend_is_read_out_rising_and_as_sure_as_it_is(aligner):
    off, told = [], []
    for k in range(40, 44):
        *pair, truth = takes(k)
        found = estimate_soft_warp(aligner, *pair)
        assert found.status == "aligned"
        assert (np.diff(found.map.reference_times) > 0).all()
        off.append(np.abs(errors(found, truth)))
        told.append(found.map.confidence_at(np.arange(0.3, truth[0][-1] - 0.3, 0.05)))
    off, told = np.concatenate(off), np.concatenate(told)
    assert np.median(off) < 0.05
    assert told.mean() <= np.mean(off < 0.05) + 0.05


def test_other_rates_and_starts_are_the_same_to_it(aligner):
    a, b, truth = takes(47, rate=67.0)
    found = estimate_soft_warp(aligner, replace(a, start=5.0), replace(b, start=-2.0))
    off = found.map(truth[0][20:-20] - 2.0) - 5.0 - truth[1][20:-20]
    assert np.median(np.abs(off)) < 0.06


def test_where_a_part_is_missing_the_map_steps_over_it_and_says_so(aligner):
    *pair, truth = takes(48, cut=1.5)
    found = estimate_soft_warp(aligner, *pair)
    assert found.status == "aligned"
    at = np.concatenate([np.arange(0.5, 4.0, 0.1), np.arange(6.0, 8.0, 0.1)])
    assert np.median(np.abs(found.map(at) - np.interp(at, *truth))) < 0.08
    assert found.map.confidence_at([4.8, 5.0, 5.2]).min() < 0.7 * np.median(found.map.confidence_at(at))


def test_strangers_have_no_path(aligner):
    for k in range(50, 54):
        *pair, _ = takes(k, other=k + 30)
        found = estimate_soft_warp(aligner, *pair)
        assert found.status in ("no_match", "ambiguous")
    with pytest.raises(WeakAlignmentError):
        _ = found.map


def test_the_soft_path_goes_to_the_hard_one_as_gamma_falls():
    costs = np.random.default_rng(0).normal(size=(7, 9))
    best = np.full((7, 9), np.inf)
    for i in range(7):
        for j in range(9):
            ways = [2 * costs[i, j]] if i == j == 0 else []
            if i and j:
                ways.append(best[i - 1, j - 1] + 2 * costs[i, j])
            if i:
                ways.append(best[i - 1, j] + costs[i, j] + 1.2)
            if j:
                ways.append(best[i, j - 1] + costs[i, j] + 1.2)
            best[i, j] = min(ways)
    soft = path_cost(torch.as_tensor(costs)[None], gamma=1e-4)
    assert float(soft[0]) == pytest.approx(best[-1, -1], abs=1e-3)


def test_moments_of_a_stream_do_not_depend_on_its_rate():
    t = np.arange(1000) / 100
    fine = Stream("a", "feature", np.sin(3 * t)[:, None], rate=100.0)
    uneven = np.sort(np.random.default_rng(0).uniform(0, t[-1], 900))
    uneven[0], uneven[-1] = 0.0, t[-1]
    rough = Stream("a", "feature", np.sin(3 * uneven)[:, None], times=uneven)
    (_, a), (_, b) = moments(fine), moments(rough)
    np.testing.assert_allclose(a, b, atol=0.02)


def test_what_does_not_fit_an_aligner_is_refused_in_one_line(aligner):
    a, b, _ = takes(1)
    sound = Stream.from_samples(np.zeros(80000, np.float32), rate=16000.0)
    for ask, words in (
        (lambda: estimate_soft_warp(aligner, b, replace(a, values=np.asarray(a.values)[:, :4])), "4 channels"),
        (lambda: moments(sound), "features of it first"),
        (lambda: learn_soft_alignment([(a, b)]), "four pairs"),
    ):
        with pytest.raises(StreamError, match=words):
            ask()
    brief = replace(a, values=np.asarray(a.values)[:200])
    assert estimate_soft_warp(aligner, brief, b).status == "degenerate"


def test_timed_of_tracks_is_a_batch_of_the_frame():
    track = Track("other", 3, np.zeros((40, 2), np.float32), np.ones(10, bool))
    made = timed([track, track])
    assert isinstance(made, Timed)
    assert made.times.dtype == torch.float64
    assert made.rate == (100.0, 100.0)
