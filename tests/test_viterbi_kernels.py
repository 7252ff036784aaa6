"""Forced alignment against its plain twin and, where it can be imported, torchaudio's."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from avfuse._kernels import viterbi as kernels
from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.temporal.viterbi import PAUSE, chain_path, ctc_chain, ctc_path, speech_chain

pytestmark = pytest.mark.kernel

SEEDS = st.integers(0, 2**32 - 1)


def scores_of(rng, frames, tokens, levels, dtype):
    """Few levels make many ties; now and then a token is ruled out."""
    scores = -rng.integers(0, levels, (frames, tokens)).astype(dtype)
    if levels > 4:
        scores = -rng.random((frames, tokens)).astype(dtype)
    scores[rng.random(scores.shape) < rng.choice([0.0, 0.1])] = -np.inf
    return scores


@given(SEEDS, st.integers(1, 40), st.integers(1, 9), st.integers(2, 6), st.booleans(), st.sampled_from([1, 2, 7, 100]))
@settings(max_examples=150)
def test_paths_are_those_of_the_whole_matrix(seed, frames, count, levels, ctc, every):
    """Whatever the number of frames between the rows that are kept."""
    rng = np.random.default_rng(seed)
    scores = scores_of(rng, frames, 4, levels, rng.choice([np.float32, np.float64]))
    if ctc:
        chain = ctc_chain(rng.integers(1, 4, count), 0)
    else:
        words = np.cumsum(rng.random(count) < 0.4)
        pause = None if rng.random() < 0.3 else 0
        hurry = rng.choice([-np.inf, -0.5, -1.0])
        chain = speech_chain(rng.integers(1, 4, count), np.arange(count), words, pause, hurry)
    total, path = reference.chain_path(scores, chain.columns, chain.skips.astype(scores.dtype), chain.loose)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avfuse.temporal.viterbi.round", lambda _: every, raising=False)
        if path is None:
            with pytest.raises(WeakAlignmentError):
                chain_path(scores, chain)
            return
        found, best = chain_path(scores, chain)
    assert best == pytest.approx(total, rel=1e-6)
    np.testing.assert_array_equal(found, path)


@given(SEEDS, st.integers(1, 30))
@settings(max_examples=60)
def test_states_are_reached_no_earlier_than_any_path_can(seed, count):
    rng = np.random.default_rng(seed)
    chain = ctc_chain(rng.integers(1, 3, count), 0)
    frames = chain.shortest + 1 + int(rng.integers(0, 4))
    reached = np.zeros((frames, len(chain.columns)), bool)
    reached[0, :2] = True
    for t in range(1, frames):
        for s in range(len(chain.columns)):
            skipped = s > 1 and chain.skips[s] > -np.inf and reached[t - 1, s - 2]
            reached[t, s] = reached[t - 1, s] or (s > 0 and reached[t - 1, s - 1]) or skipped
    np.testing.assert_array_equal(chain.earliest(), reached.argmax(axis=0))
    assert reached[chain.shortest - 1, -2]
    assert not reached[chain.shortest - 2, -2:].any() or chain.shortest == 1
    # Backwards the chain is the same one turned round.
    turned = ctc_chain(chain.columns[1::2][::-1].astype(int), 0)
    np.testing.assert_array_equal(chain.latest(frames), frames - 1 - turned.earliest()[::-1])


def test_pauses_take_no_frame_where_there_is_none():
    words = np.array([0, 0, 1])
    chain = speech_chain(np.array([1, 2, 3]), np.arange(3), words, 0)
    scores = np.full((3, 4), -5.0)
    scores[[0, 1, 2], [1, 2, 3]] = 0.0
    path, total = chain_path(scores, chain)
    assert total == 0.0
    np.testing.assert_array_equal(chain.owners[path], [0, 1, 2])
    quiet = np.insert(scores, [0, 2, 3], [0.0, -9.0, -9.0, -9.0], axis=0)
    path, _ = chain_path(quiet, chain)
    np.testing.assert_array_equal(chain.owners[path], [PAUSE, 0, 1, PAUSE, 2, PAUSE])


@given(SEEDS, st.integers(1, 60), st.integers(1, 12), st.sampled_from(["float32", "float64"]))
@settings(max_examples=100)
def test_paths_are_torchaudios(seed, frames, count, dtype):
    torch = pytest.importorskip("torch")
    functional = torchaudio_functional()
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 5, count)
    scores = np.log(rng.dirichlet(np.ones(5), frames)).astype(dtype)
    if frames < ctc_chain(tokens, 0).shortest:
        with pytest.raises(WeakAlignmentError, match="need at least"):
            ctc_path(scores, tokens)
        return
    theirs, _ = functional.forced_align(torch.from_numpy(scores)[None], torch.from_numpy(tokens)[None], blank=0)
    np.testing.assert_array_equal(ctc_path(scores, tokens), theirs[0].numpy())


def torchaudio_functional():
    try:
        import torchaudio
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio does not import: {error}")
    return torchaudio.functional


def test_memory_of_the_rows_is_bounded():
    """10 minutes: two rows a second at most, where a matrix would have fifty."""
    rng = np.random.default_rng(1)
    chain = ctc_chain(rng.integers(1, 30, 200), 0)
    scores = rng.random((3000, 30))
    every = round((4 * 3000 * 401) ** (1 / 3))
    rows = kernels.kept_rows(scores, chain.columns, chain.skips, chain.earliest(), chain.latest(3000), every)
    assert rows.nbytes < 0.01 * 3000 * 401 * 8


@pytest.mark.parametrize(
    ("emissions", "tokens", "blank", "says"),
    [
        (np.zeros((5, 3)), [1, 3], 0, "columns 0 to 2"),
        (np.zeros((5, 3)), [-1], 0, "columns 0 to 2"),
        (np.zeros((5, 3)), [1], 3, "blank: 3"),
        (np.zeros((5, 3)), [0, 1], 0, "hold the blank"),
        (np.zeros((5, 3)), [], 0, "at least one"),
        (np.zeros((5, 3)), [0.5], 0, "whole numbers"),
        (np.zeros(5), [1], 0, r"shape \(5,\)"),
        (np.zeros((0, 3)), [1], 0, r"shape \(0, 3\)"),
        (np.full((5, 3), np.nan), [1], 0, "NaN"),
        (np.full((5, 3), "a"), [1], 0, "log probabilities"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(emissions, tokens, blank, says):
    with pytest.raises(StreamError, match=says) as told:
        ctc_path(emissions, tokens, blank=blank)
    assert "\n" not in str(told.value)


def test_a_path_through_nothing_but_minus_infinity_is_none():
    with pytest.raises(WeakAlignmentError, match="rules out"):
        ctc_path(np.full((5, 3), -np.inf), [1, 2])
