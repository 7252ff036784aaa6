"""Deep canonical correlation: what two or more views of one thing have in common, and an honest measure of it.

    dcca_loss         two views: minus their total correlation (Andrew et al., Deep canonical correlation
                      analysis, 2013)
    dgcca_loss        any number of views, any of them absent (Benton et al., Deep generalized canonical correlation
                      analysis, 2017)
    fit_cca           closed form for two views: a CanonicalProjection, fitted on one set, scored on another
    fit_gcca          the same for any number of views
    shuffled_scores   what unrelated rows score

A network can make any batch that it is trained on look correlated. So what it has learned is the score that `fit_cca`
of its outputs on the training set has on data that neither has seen; never the loss, and never a fit on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular
from torch import Tensor

from avfuse.errors import StreamError
from avfuse.nn.colearning.contrast import presence

_SMALLEST = 1e-12  # outputs that are smaller everywhere are taken to have collapsed
_ZERO = 1e-10  # of singular values, none of which can be above 1
_LEAST_RIDGE = 1e-10  # below it, rounding may leave a covariance that is not positive definite

Array = NDArray[np.float64]


def dcca_loss(first: Tensor, second: Tensor, *, present: Tensor | None = None, ridge: float = 1e-3) -> Tensor:
    """Minus the sum of the canonical correlations of two networks' outputs over a batch, float64.

    It is -||S11^-1/2 S12 S22^-1/2||_tr (Andrew et al. 2013, eq. 8 to 10), S11 and S22 with `ridge` on their diagonals,
    relative to the mean variance of that view: outputs of any scale give the same loss. -min(k1, k2) is the least.

    first, second: (B, k1), (B, k2). present: (B,) bool, the pairs that count.
    Gradients are finite whatever the batch: collapsed, constant, of one row, of too low a rank, or with canonical
    correlations that are equal. Such batches teach nothing, but they break nothing. The covariances are the batch's
    own, so a batch must be large beside k: 10,000 rows for 50 dimensions; never a hundred.
    Raises StreamError for shapes that do not fit, values that are not finite in a pair that counts, a ridge
    below 1e-10.
    """
    _check_ridge(ridge)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise StreamError(
            f"dcca_loss: views of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected (B, k1) and (B, k2)"
        )
    if present is not None:
        presence(("pairs",), {"pairs": present}, len(first), first.device)
        first, second = first[present], second[present]
    whitened = [
        _whitened(view, ridge, f"dcca_loss: {which} view") for which, view in (("first", first), ("second", second))
    ]
    # The gradient of a sum of singular values is U V^T, whichever are equal; only that of U and V divides by their
    # differences. Where one is 0 the sum has a kink, and 0 is the smallest of its subgradients.
    values: Tensor = torch.linalg.svdvals(whitened[0].T @ whitened[1])
    return -values.masked_fill(values <= _ZERO, 0.0).sum()


def dgcca_loss(
    views: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None = None,
    *,
    components: int | None = None,
    ridge: float = 1e-3,
) -> Tensor:
    """How far views are from one shared variable of `components` dimensions, float64: 0 where they agree in all of it.

    min over G, U of sum_j |K_j (G - H_j U_j)|^2, G^T K G = I: Benton et al. 2017, eq. 2, with the rows K_j that view j
    has, K = sum_j K_j, as in van de Velden and Takane, Generalized canonical correlation analysis with missing values,
    2012. It is components minus the sum of the largest eigenvalues of the matrix of k_i x k_j blocks
    L_i^-1 H_i^T K^-1 H_j L_j^-T; no B x B matrix is made. Of two complete views these eigenvalues are (1 + rho) / 2 of
    the canonical correlations rho.

    views: name -> (B, k_j). present: name -> (B,) bool; a name that is not there is present in all rows. Rows with
    fewer than two views say nothing of what views share, and are left out.
    components: of the shared variable, the smallest k_j unless given. Gradients are finite as those of `dcca_loss`.
    Raises StreamError as it does, and for fewer than two views.
    """
    _check_ridge(ridge)
    names = sorted(views)
    widths = [views[name].shape[-1] for name in names]
    rows = {len(views[name]) for name in names}
    if len(names) < 2 or len(rows) != 1 or any(view.ndim != 2 for view in views.values()):
        shapes = ", ".join(f"{name} {tuple(views[name].shape)}" for name in names)
        raise StreamError(f"dgcca_loss: views {shapes or 'none'}; expected two or more of shape (B, k)")
    size = _components("dgcca_loss", components, sum(widths), default=min(widths))
    like = views[names[0]]
    have = presence(names, present, len(like), like.device)
    have = have & (have.sum(dim=1) >= 2)[:, None]
    weights = have.sum(dim=1).clamp(min=2).to(torch.float64).rsqrt()
    blocks = []
    for number, name in enumerate(names):
        rows_of = have[:, number].nonzero()[:, 0]
        whitened = _whitened(views[name][rows_of], ridge, f"dgcca_loss: view {name!r}")
        block = whitened.new_zeros((len(like), whitened.shape[1]))
        blocks.append(block.index_add(0, rows_of, whitened * weights[rows_of, None]))
    joined = torch.cat(blocks, dim=1)
    # Again a sum, with gradient V V^T: no difference of eigenvalues divides it.
    eigenvalues: Tensor = torch.linalg.eigvalsh(joined.T @ joined)
    return size - eigenvalues[-size:].sum()


def _whitened(view: Tensor, ridge: float, what: str) -> Tensor:
    """(n, k) float64: X L^-T with L L^T = X^T X + ridge I, X centred and of mean variance 1 / n."""
    smallest = max(torch.finfo(view.dtype).eps, torch.finfo(torch.float64).eps)
    view = view.to(torch.float64)
    if not bool(torch.isfinite(view).all()):
        raise StreamError(f"{what}: not all values are finite; look for NaN in the data, or a smaller learning rate")
    if not view.numel():
        return view
    # By its largest value first, so that no square overflows or vanishes; what is below the rounding of the outputs'
    # own type is no spread.
    view = view / view.detach().abs().amax().clamp(min=_SMALLEST)
    view = view - view.mean(dim=0)
    view = view / (view.square().mean() + smallest**2).sqrt() / len(view) ** 0.5
    ridges = ridge * torch.eye(view.shape[1], dtype=view.dtype, device=view.device)
    factor = torch.linalg.cholesky(view.T @ view + ridges)
    whitened: Tensor = torch.linalg.solve_triangular(factor, view.T, upper=False)
    return whitened.T


@dataclass(frozen=True, eq=False)
class CanonicalProjection:
    """One linear map for each view, onto `components` axes that correlate: float64.

    means: of each view, (k_j,). weights: of each view, (k_j, components), strongest axis first; what they make of the
    data they were fitted on has a variance of about 1. correlations: (components,), on the data they were fitted on,
    mean over pairs of views. These are biased upwards, by more the fewer the rows: report `score` on others.
    """

    means: tuple[Array, ...]
    weights: tuple[Array, ...]
    correlations: Array

    def transform(self, *views: ArrayLike) -> tuple[Array, ...]:
        """(n, components) of each view, in the order in which they were fitted. Absent rows of `score` may be NaN."""
        arrays = tuple(np.asarray(view, dtype=np.float64) for view in views)
        widths = [len(mean) for mean in self.means]
        if [array.shape[1:] for array in arrays] != [(width,) for width in widths]:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise StreamError(f"views of shapes {shapes}; expected (n, k) with k = {', '.join(map(str, widths))}")
        return tuple((a - m) @ w for a, m, w in zip(arrays, self.means, self.weights, strict=True))

    def held_out(self, *views: ArrayLike, present: ArrayLike | None = None) -> Array:
        """(components,): Pearson's correlation on each axis, with its sign, mean over pairs of views.

        present: (n, number of views) bool; each pair of views is compared where both are there. An axis that does not
        vary has 0.
        """
        made = self.transform(*views)
        have = _presence([len(one) for one in made], present)
        found = []
        for a, b in combinations(range(len(made)), 2):
            both = have[:, a] & have[:, b]
            found.append(_pearson(made[a][both], made[b][both]))
        return np.mean(found, axis=0)  # type: ignore[no-any-return]

    def score(self, *views: ArrayLike, present: ArrayLike | None = None) -> float:
        """Total correlation, the sum of `held_out`: at most the number of components, near 0 for unrelated views."""
        return float(self.held_out(*views, present=present).sum())


def fit_cca(
    first: ArrayLike, second: ArrayLike, *, components: int | None = None, ridge: float = 1e-3
) -> CanonicalProjection:
    """Linear canonical correlation analysis in closed form (Hotelling, Relations between two sets of variates, 1936).

    first, second: (n, k1), (n, k2). components: the smaller of k1, k2 unless given.
    ridge: on the diagonal of each covariance, relative to its mean variance; 0 asks for covariances of full rank.
    Raises StreamError for shapes that do not fit, fewer than two rows, values that are not finite, and a covariance
    that is not of full rank without a ridge.
    """
    views = _views("fit_cca", (first, second))
    size = _components("fit_cca", components, min(view.shape[1] for view in views))
    have = _presence([len(view) for view in views], None)
    means, factors, whitened = _whiten(views, have, ridge)
    left, values, right = np.linalg.svd(whitened[0].T @ whitened[1], full_matrices=False)
    axes = (left[:, :size], right[:size].T)
    return CanonicalProjection(means, _weights(factors, axes, len(have)), values[:size])


def fit_gcca(
    *views: ArrayLike, present: ArrayLike | None = None, components: int | None = None, ridge: float = 1e-3
) -> CanonicalProjection:
    """Linear generalised canonical correlation analysis in closed form, with views that some rows lack.

    Kettenring, Canonical analysis of several sets of variables, 1971 (MAXVAR); absent views as in van de Velden and
    Takane 2012. views: (n, k_j). present: (n, number of views) bool; rows with fewer than two views are left out.
    components: the smallest k_j unless given. Of two complete views it is `fit_cca`, but for the ridge's share.
    Raises StreamError as `fit_cca` does.
    """
    arrays = _views("fit_gcca", views, present=present)
    have = _presence([len(view) for view in arrays], present)
    have &= (have.sum(axis=1) >= 2)[:, None]
    widths = [view.shape[1] for view in arrays]
    size = _components("fit_gcca", components, sum(widths), default=min(widths))
    means, factors, whitened = _whiten(arrays, have, ridge)
    share = 1 / np.sqrt(np.maximum(have.sum(axis=1), 2))[:, None]
    joined = np.concatenate(whitened, axis=1) * share
    values, vectors = np.linalg.eigh(joined.T @ joined)
    strongest = np.split(vectors[:, ::-1][:, :size], np.cumsum(widths)[:-1])
    # Of complete views, whose eigenvalues run from 1 / J (unrelated) to 1.
    count = len(arrays)
    correlations = (count * values[::-1][:size] - 1) / (count - 1)
    axes = tuple(axis * np.sqrt(count) for axis in strongest)
    return CanonicalProjection(means, _weights(factors, axes, int(have.any(axis=1).sum())), correlations)


def shuffled_scores(
    projection: CanonicalProjection, *views: ArrayLike, rng: np.random.Generator, repeats: int = 100
) -> Array:
    """(repeats,): scores of views whose rows no longer belong together: what a score has to stand above."""
    arrays = [np.asarray(view) for view in views]
    return np.array([projection.score(*(rng.permutation(a, axis=0) for a in arrays)) for _ in range(repeats)])


def _whiten(
    views: tuple[Array, ...], have: NDArray[np.bool_], ridge: float
) -> tuple[tuple[Array, ...], list[Array], list[Array]]:
    """Means, Cholesky factors L of each X^T X + ridge, and X L^-T, zero in rows that are absent."""
    if ridge < 0 or not np.isfinite(ridge):
        raise StreamError(f"ridge {ridge}; expected 0 or more, such as 1e-3")
    means, factors, whitened = [], [], []
    for number, view in enumerate(views):
        rows = have[:, number]
        if rows.sum() < 2:
            raise StreamError(f"view {number + 1}: {rows.sum()} rows that other views have too; expected two or more")
        mean = view[rows].mean(axis=0)
        centred = np.where(rows[:, None], view - mean, 0.0)
        covariance = centred.T @ centred
        covariance += ridge * max(np.trace(covariance) / len(covariance), _SMALLEST**2) * np.eye(len(covariance))
        try:
            factor = cholesky(covariance, lower=True)
        except np.linalg.LinAlgError:
            raise StreamError(
                f"view {number + 1}: its {len(covariance)} columns are not independent over {rows.sum()} rows; "
                "expected a ridge above 0, fewer columns or more rows"
            ) from None
        means.append(mean)
        factors.append(factor)
        whitened.append(solve_triangular(factor, centred.T, lower=True).T)
    return tuple(means), factors, whitened


def _weights(factors: list[Array], axes: tuple[Array, ...], rows: int) -> tuple[Array, ...]:
    return tuple(
        solve_triangular(factor, axis, lower=True, trans="T") * np.sqrt(rows)
        for factor, axis in zip(factors, axes, strict=True)
    )


def _pearson(a: Array, b: Array) -> Array:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return (a * b).sum(axis=0) / np.where(size > 0, size, 1.0)  # type: ignore[no-any-return]


def _views(what: str, views: tuple[ArrayLike, ...], present: ArrayLike | None = None) -> tuple[Array, ...]:
    arrays = tuple(np.asarray(view, dtype=np.float64) for view in views)
    if len(arrays) < 2 or any(a.ndim != 2 or not a.shape[1] for a in arrays) or len({len(a) for a in arrays}) != 1:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise StreamError(f"{what}: views of shapes {shapes or 'none'}; expected two or more, (n, k) with the same n")
    have = _presence([len(a) for a in arrays], present)
    # Whatever an absent row holds is no number from here on.
    arrays = tuple(np.where(have[:, [j]], a, 0.0) for j, a in enumerate(arrays))
    for number, array in enumerate(arrays):
        if not np.isfinite(array).all():
            raise StreamError(f"{what}: view {number + 1} has values that are not finite; leave out those rows")
    return arrays


def _presence(rows: list[int], present: ArrayLike | None) -> NDArray[np.bool_]:
    if len(set(rows)) != 1:
        raise StreamError(f"views of {', '.join(map(str, rows))} rows; expected the same number of each")
    if present is None:
        return np.ones((rows[0], len(rows)), dtype=np.bool_)
    have = np.array(present)
    if have.shape != (rows[0], len(rows)) or have.dtype != np.bool_:
        raise StreamError(f"present of shape {have.shape}, {have.dtype}; expected ({rows[0]}, {len(rows)}), bool")
    return have


def _components(what: str, given: int | None, most: int, *, default: int | None = None) -> int:
    size = (most if default is None else default) if given is None else given
    if not 1 <= size <= most:
        raise StreamError(f"{what}: {size} components; expected 1 ... {most}")
    return size


def _check_ridge(ridge: float) -> None:
    if not ridge >= _LEAST_RIDGE:
        raise StreamError(f"ridge {ridge}; expected {_LEAST_RIDGE} or more, such as 1e-3")
