"""Rotations from matrices and vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from avfuse.rotations import cross_matrices, nearest_rotation

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_no_rotation_explains_more(seed):
    rng = np.random.default_rng(seed)
    moments = rng.normal(size=(4, 3, 3))
    found = nearest_rotation(moments)
    assert_allclose(found @ found.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-12)
    assert_allclose(np.linalg.det(found), 1.0)
    others = Rotation.random(50, random_state=rng).as_matrix()
    best = np.einsum("nij,nij->n", found, moments)
    assert (np.einsum("kij,nij->nk", others, moments) <= best[:, None] + 1e-12).all()
    assert_allclose(nearest_rotation(moments[0]), found[0], atol=1e-12)


@given(SEEDS)
def test_two_vectors_tell_a_rotation(seed):
    rng = np.random.default_rng(seed)
    turn, seen = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=(2, 3))
    assert_allclose(nearest_rotation((seen @ turn.T).T @ seen), turn, atol=1e-6)


@given(SEEDS)
def test_matrices_of_cross_products(seed):
    v, w = np.random.default_rng(seed).normal(size=(2, 5, 3))
    assert_allclose(np.einsum("nij,nj->ni", cross_matrices(v), w), np.cross(v, w))
    assert_allclose(cross_matrices(v[0]) @ w[0], np.cross(v[0], w[0]))
