"""Laws of the refinement: noise, and what reflections bend, are told apart, and both are stated."""

from __future__ import annotations

import numpy as np
import pytest

from avfuse.temporal import calibration
from avfuse.temporal.coarse import Line
from avfuse.temporal.refine import Cells, Refined, refine

GROUPS, BANDS, WIDTH = 40, 40, 8
OMEGA = 2 * np.pi * np.linspace(100.0, 5000.0, BANDS * WIDTH)
LOOKS = 40.0  # independent values in each cell


def cells(
    rng: np.random.Generator,
    *,
    lag: float = 0.0,
    drift: float = 0.0,
    coherence: float = 0.5,
    filled: float = 1.0,
    bent: float = 0.0,
) -> Cells:
    """Mean phase vectors of a delay in noise.

    filled: share of the half seconds that hold sound. bent: seconds, 1 sigma, by which each band is off.
    """
    times = 0.5 * np.arange(GROUPS) + 0.25
    late = lag + drift * (times[:, None] - times.mean()) + np.repeat(bent * rng.standard_normal(BANDS), WIDTH)[None]
    level = coherence * (rng.random((GROUPS, 1)) < filled)
    noise = rng.standard_normal((2, GROUPS, BANDS * WIDTH)) * np.sqrt(WIDTH / (2 * LOOKS))
    # The part that is not shared has what power the shared one leaves.
    mean = level * np.exp(-1j * OMEGA * late) + np.sqrt(1 - level**2) * (noise[0] + 1j * noise[1])
    return Cells(Line(0.0, 0.0, times.mean(), 9.0), times, mean, OMEGA, np.full((GROUPS, BANDS), LOOKS))


def lag_of(found: Refined, at: float) -> float:
    return found.line.lag + found.line.drift * (at - found.line.centre)


def test_a_clean_delay_and_drift_are_found_exactly() -> None:
    rng = np.random.default_rng(1)
    given = cells(rng, lag=7e-6, drift=3e-7, coherence=1.0)
    still = Cells(given.line, given.times, given.mean / np.abs(given.mean), given.omega, given.looks)
    clean = np.exp(-1j * np.outer(7e-6 + 3e-7 * (given.times - given.times.mean()), OMEGA))
    found = refine(Cells(still.line, still.times, clean, still.omega, still.looks))
    assert lag_of(found, float(given.times.mean())) == pytest.approx(7e-6, abs=1e-12)
    assert found.line.drift == pytest.approx(3e-7, abs=1e-12)


@pytest.mark.parametrize(("coherence", "filled"), [(0.8, 1.0), (0.3, 1.0), (0.6, 0.15)])
def test_noise_alone_states_the_error_that_it_makes(coherence: float, filled: float) -> None:
    """Also where most cells hold nothing: a weight from a cell's own noise would halve the stated error there."""
    scores = []
    for seed in range(120):
        found = refine(cells(np.random.default_rng(seed), coherence=coherence, filled=filled))
        # Bands disagree a little by chance, and that may be stated as bending.
        scores.append(lag_of(found, found.line.centre) / np.hypot(found.bent, np.sqrt(found.cov[0, 0])))
    assert 0.75 < np.sqrt(np.mean(np.square(scores))) < 1.35


def test_bands_that_disagree_are_stated_as_bending() -> None:
    scores, stated, without = [], [], []
    for seed in range(60):
        found = refine(cells(np.random.default_rng(seed), coherence=0.8, bent=20e-6))
        stated.append(found.bent)
        scores.append(lag_of(found, found.line.centre) / np.hypot(found.bent, np.sqrt(found.cov[0, 0])))
        without.append(refine(cells(np.random.default_rng(seed), coherence=0.8)).bent)
    assert np.median(stated) == pytest.approx(20e-6 / np.sqrt(BANDS), rel=0.5)
    assert np.median(without) < 0.2 * np.median(stated)
    assert 0.7 < np.sqrt(np.mean(np.square(scores))) < 1.4


def test_bands_that_disagree_do_not_decide_by_their_strength() -> None:
    """One strong band that is bent pulls less than its strength would."""
    rng = np.random.default_rng(4)
    given = cells(rng, coherence=0.5, bent=15e-6)
    strong = slice(10 * WIDTH, 12 * WIDTH)
    given.mean[:, strong] = 0.99 * np.exp(-1j * OMEGA[strong] * 60e-6)
    assert abs(lag_of(refine(given), 10.0)) < 15e-6  # two of forty bands, not most of the weight


def settled(plain: tuple[float, float, float], onset: tuple[float, float, float]) -> calibration.Settled:
    """(lag, noise, bent) of both."""
    return calibration.settle(
        *(Refined(Line(lag, 0.0, 5.0, 9.0), np.diag([noise**2, 1e-14]), bent, 0.5, True)
          for lag, noise, bent in (plain, onset))
    )  # fmt: skip


def test_the_more_certain_estimate_is_stated_and_disagreement_widens_it() -> None:
    agree = settled((1e-6, 1e-6, 0.0), (2e-6, 5e-6, 0.0))
    assert agree.line.lag == 1e-6
    bent = settled((1e-6, 1e-6, 20e-6), (2e-6, 5e-6, 0.0))
    assert bent.line.lag == 2e-6
    apart = settled((1e-6, 1e-6, 0.0), (51e-6, 5e-6, 0.0))
    assert np.sqrt(apart.cov[0, 0]) == pytest.approx(50e-6, rel=0.05)
    assert apart.cov[0, 0] > 100 * agree.cov[0, 0]
