"""The robust loop by itself: seeds, threads, orders, losses, chance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from avfuse import StreamError
from avfuse.robust import clumping, consensus, least_agreeing, log_chance, loss_tables, seed_of, spread
from avfuse.simulation.scenes3d import simulate_correspondences
from avfuse.spatial.correspondences.epipolar import _fundamental as fundamental_estimator
from avfuse.spatial.correspondences.transforms import homography_estimator


def scene(seed=1, **what):
    made = simulate_correspondences("homography", np.random.default_rng(seed), **what)
    data = np.concatenate([made.reference.T, made.moving.T]) / 200 - 1.5
    return made, np.ascontiguousarray(data), 3 / 200


def test_equal_seeds_give_equal_bits_in_any_number_of_threads():
    _, data, threshold = scene(outliers=0.6)
    estimator = homography_estimator()

    def run(_):
        return consensus(estimator, data, threshold, rng=4).model

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(run, range(16)))
    for model in together:
        assert_array_equal(model, run(0))


def test_other_seeds_find_the_same_consensus():
    _, data, threshold = scene(outliers=0.6)
    gains = [consensus(homography_estimator(), data, threshold, rng=seed).gain for seed in range(5)]
    assert_allclose(gains, gains[0], rtol=2e-3)


def test_none_is_seed_zero_and_generators_go_on():
    assert seed_of(None).integers(1000) == seed_of(0).integers(1000)
    rng = np.random.default_rng(3)
    assert seed_of(rng) is rng
    for bad in (-1, 1.5, "a", True):
        with pytest.raises(StreamError, match="rng"):
            seed_of(bad)


def test_trusted_matches_first_takes_fewer_samples():
    made, data, threshold = scene(outliers=0.8)
    rng = np.random.default_rng(0)
    scores = made.right + rng.normal(0, 0.5, len(made.right))
    plain = consensus(homography_estimator(), data, threshold)
    ordered = consensus(homography_estimator(), data, threshold, scores=scores)
    assert ordered.draws < plain.draws / 5
    assert ordered.gain >= 0.99 * plain.gain
    # And scores that mislead cost time, not the answer.
    misled = consensus(homography_estimator(), data, threshold, scores=-scores)
    assert misled.gain >= 0.99 * plain.gain


@pytest.mark.parametrize("score", ["msac", "magsac"])
def test_both_scores_find_what_is_right(score):
    made, data, threshold = scene(outliers=0.7)
    found = consensus(homography_estimator(), data, threshold, score=score)
    near = homography_estimator().squared(found.model, data) <= threshold**2
    assert np.mean(near[made.right]) > 0.97
    assert np.mean(near[~made.right]) < 0.03


def test_a_score_that_is_none_is_an_error():
    _, data, threshold = scene()
    with pytest.raises(StreamError, match="msac"):
        consensus(homography_estimator(), data, threshold, score="lmeds")


@pytest.mark.parametrize("kind", ["magsac", "biweight"])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_weight_is_the_slope_of_its_loss(kind, dimensions):
    loss, weight = loss_tables(kind, dimensions)
    assert loss[0] == pytest.approx(0)
    assert loss[-1] == pytest.approx(1)
    slope = np.diff(loss) * (len(loss) - 1)
    middle = (weight[1:] + weight[:-1]) / 2
    # The first cells hold a root that no line follows.
    ratio = slope[8:-8] / middle[8:-8]
    assert_allclose(ratio, ratio[0], rtol=0.01)


def test_the_search_is_as_good_as_the_truth():
    for seed in range(5):
        made, data, threshold = scene(seed, outliers=0.75)
        estimator = homography_estimator()
        found = consensus(estimator, data, threshold)
        scale = np.diag([1 / 200, 1 / 200, 1.0])
        scale[:2, 2] = -1.5
        truth = np.ascontiguousarray((scale @ made.truth.matrix @ np.linalg.inv(scale)).ravel())
        loss = np.minimum(estimator.squared(truth * np.sign(truth[-1]), data) / threshold**2, 1).sum()
        assert found.gain >= data.shape[1] - loss


def views(seed=1, **what):
    """Of a fundamental matrix: the scene, data, threshold, true model."""
    made = simulate_correspondences("fundamental", np.random.default_rng(seed), **what)
    scale = np.diag([1 / 300, 1 / 300, 1.0])
    scale[:2, 2] = -1.0
    pixels = np.full((2, len(made.right)), 300.0**-2)
    data = np.concatenate([made.reference.T / 300 - 1, made.moving.T / 300 - 1, pixels])
    truth = np.linalg.inv(scale).T @ made.truth.matrix @ np.linalg.inv(scale)
    return made, np.ascontiguousarray(data), 3.0, (truth / np.linalg.norm(truth)).ravel()


def test_nearly_clean_samples_lead_to_the_truth():
    # Of 100,000 samples of seven one or two are clean where four of five matches are wrong, and noise spoils those.
    for seed in range(4):
        _, data, threshold, truth = views(seed, outliers=0.8)
        found = consensus(fundamental_estimator(), data, threshold, least=60, rivals=False)
        loss = np.minimum(fundamental_estimator().squared(truth, data) / threshold**2, 1).sum()
        assert found.gain >= data.shape[1] - loss


def test_lines_reach_as_far_as_the_noise_and_points_as_the_threshold():
    for noise in (0.2, 0.4, 0.8):
        for outliers in (0.0, 0.6):
            _, data, threshold, _ = views(outliers=outliers, noise=noise)
            found = consensus(fundamental_estimator(), data, threshold, least=60, rivals=False)
            assert_allclose(found.reach, 3.5 * noise, rtol=0.2)
    _, data, threshold, _ = views(outliers=0.0, noise=4.0)
    assert consensus(fundamental_estimator(), data, threshold, rivals=False).reach == 1.5 * threshold
    _, data, threshold = scene(outliers=0.3, noise=0.2)
    assert_allclose(consensus(homography_estimator(), data, threshold).reach, 2 * threshold)


def test_another_plane_is_a_rival_and_a_smaller_one_is_none():
    _, data, threshold = scene(1, outliers=0.0, count=200)
    _, other, _ = scene(2, outliers=0.0, count=190)
    both = np.ascontiguousarray(np.concatenate([data, other], axis=1))
    assert consensus(homography_estimator(), both, threshold).rival is not None
    assert consensus(homography_estimator(), np.ascontiguousarray(both[:, :290]), threshold).rival is None


def test_chance_is_what_random_models_meet():
    """Of samples of the estimator's size, the best number that agree by chance is as seldom as is said."""
    rng = np.random.default_rng(1)
    estimator, share, n = homography_estimator(), 0.05, 40
    best = [np.max(4 + rng.binomial(n - 4, share, 2000)) for _ in range(200)]
    for agree in (10, 12, 14):
        # 2,000 of the C(40, 4) samples are drawn: the expected number of those with as many or more.
        expected = 10 ** log_chance(n, agree, estimator, share)
        assert np.mean(np.array(best) >= agree) <= expected


def test_the_least_agreement_is_where_chance_turns():
    least = least_agreeing(100, homography_estimator(), 0.01, -3.0)
    assert log_chance(100, least, homography_estimator(), 0.01) <= -3.0
    assert log_chance(100, least - 1, homography_estimator(), 0.01) > -3.0


def test_errors_that_go_together_are_told_from_those_that_do_not():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 640, (600, 2))
    noise = rng.normal(size=(600, 2))
    smooth = np.column_stack([np.sin(positions[:, 0] / 60), np.cos(positions[:, 1] / 60)])
    assert clumping(noise, positions) == 1.0
    assert clumping(noise + smooth, positions) > 3.0


def test_what_is_free_has_no_spread():
    _, data, threshold = scene(outliers=0.0, count=60)
    estimator = homography_estimator()
    found = consensus(estimator, data, threshold)
    model = found.model
    known = spread(estimator, model, data, found.reach)
    more = spread(estimator, model, np.ascontiguousarray(np.tile(data, 4)), found.reach)
    assert_allclose(np.diag(more.cov) / np.diag(known.cov), 0.25, rtol=0.1)
    assert spread(estimator, model, np.ascontiguousarray(data[:, :4]), found.reach) is None
