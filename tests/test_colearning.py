"""Contrast, metric learning and canonical correlation: against plain twins, and at their limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.multiprocessing
from torch import Tensor, distributed

from avfuse import StreamError
from avfuse.nn.colearning.contrast import InfoNCE
from avfuse.nn.colearning.correlation import (
    dcca_loss,
    dgcca_loss,
    fit_cca,
    fit_gcca,
    shuffled_scores,
)
from avfuse.nn.colearning.metric import multi_similarity_loss, triplet_loss
from benchmarks.fusion.degenerate import KINDS, degenerate_batches

NAMES = ("picture", "sensor", "sound")
ROWS, DIM = 11, 6


def embeddings(rows: int = ROWS, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn((rows, DIM), generator=rng, dtype=dtype)
    return {name: shared + 0.8 * torch.randn((rows, DIM), generator=rng, dtype=dtype) for name in NAMES}


def presence(rows: int = ROWS, seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.rand(rows, generator=rng) < 0.7 for name in NAMES}


def unit(vectors: Tensor) -> np.ndarray:
    array = vectors.detach().double().numpy()
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


Present = dict[str, Tensor] | None


def labels_of(rows: int) -> Tensor:
    return torch.arange(rows) % 5


def infonce(given: dict[str, Tensor], present: Present = None, labels: Tensor | None = None) -> Tensor:
    return InfoNCE().double()(given, present)


def triplets(given: dict[str, Tensor], present: Present = None, labels: Tensor | None = None) -> Tensor:
    return triplet_loss(given, labels_of(len(given["sound"])) if labels is None else labels, present)


def similarities(given: dict[str, Tensor], present: Present = None, labels: Tensor | None = None) -> Tensor:
    return multi_similarity_loss(given, labels_of(len(given["sound"])) if labels is None else labels, present)


def dcca_of_two(given: dict[str, Tensor], present: Present = None, labels: Tensor | None = None) -> Tensor:
    both = None if present is None else present["picture"] * present["sound"]
    return dcca_loss(given["picture"], given["sound"], present=both)


def dgcca(given: dict[str, Tensor], present: Present = None, labels: Tensor | None = None) -> Tensor:
    return dgcca_loss(given, present, components=3)


Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "InfoNCE": infonce,
    "triplet": triplets,
    "multi-similarity": similarities,
    "DCCA": dcca_of_two,
    "DGCCA": dgcca,
}


# Laws of all


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_rows_and_modalities_changes_nothing(name: str) -> None:
    loss, given, present = LOSSES[name], embeddings(40), presence(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    shuffled = {n: given[n][order] for n in reversed(NAMES)}
    there = {n: present[n][order] for n in reversed(NAMES)}
    torch.testing.assert_close(loss(shuffled, there, labels_of(40)[order]), loss(given, present), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_absent_rows_reach_nothing_and_get_no_gradient(name: str) -> None:
    loss, given, present = LOSSES[name], embeddings(40), presence(40)
    spoiled = {n: v.masked_fill(~present[n][:, None], math.nan).requires_grad_() for n, v in given.items()}
    without = {n: v.clone().requires_grad_() for n, v in given.items()}
    found, expected = loss(spoiled, present), loss(without, present)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.backward()
    expected.backward()
    for n in NAMES:
        if spoiled[n].grad is None:
            assert name == "DCCA", n  # which has two views only
            continue
        assert (spoiled[n].grad[~present[n]] == 0).all()
        torch.testing.assert_close(spoiled[n].grad, without[n].grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_nothing_is_present_in_are_as_if_not_there(name: str) -> None:
    loss, given, present = LOSSES[name], embeddings(40), presence(40)
    longer = {n: torch.cat([v, torch.full((5, DIM), 7.0, dtype=v.dtype)]) for n, v in given.items()}
    there = {n: torch.cat([p, torch.zeros(5, dtype=torch.bool)]) for n, p in present.items()}
    torch.testing.assert_close(loss(longer, there, labels_of(45)), loss(given, present), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    given = embeddings()
    tensors = [given[n].requires_grad_() for n in NAMES]
    assert torch.autograd.gradcheck(lambda *t: LOSSES[name](dict(zip(NAMES, t, strict=True))), tensors, fast_mode=True)


@pytest.mark.parametrize("name", LOSSES)
def test_batches_without_a_pair_lose_nothing(name: str) -> None:
    given = {n: v.requires_grad_() for n, v in embeddings().items()}
    # Each row has one modality; and nothing in another is like it.
    alone = {n: torch.arange(ROWS) % 3 == k for k, n in enumerate(NAMES)}
    loss = LOSSES[name](given, alone, torch.arange(ROWS))
    loss.backward()
    assert loss.item() == pytest.approx(3.0 if name == "DGCCA" else 0.0, abs=1e-9)
    assert all(v.grad is None or not v.grad.any() for v in given.values())


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_that_do_not_fit_are_named(name: str) -> None:
    given = embeddings()
    with pytest.raises(StreamError, match="expected"):
        LOSSES[name]({**given, "sound": given["sound"][1:]})
    with pytest.raises(StreamError, match="present"):
        LOSSES[name](given, {n: torch.ones(ROWS) for n in NAMES})
    if name != "DCCA":
        with pytest.raises(StreamError, match="'lidar' is not given"):
            LOSSES[name](given, {"lidar": torch.ones(ROWS, dtype=torch.bool)})


# InfoNCE


def plain_infonce(
    given: dict[str, Tensor],
    present: dict[str, Tensor],
    scale: float,
    negatives: dict[str, Tensor] | None = None,
    usable: dict[str, Tensor] | None = None,
) -> float:
    """As its definition reads, one example at a time."""
    vectors = {n: unit(v) for n, v in given.items()}
    means = []
    for a in given:
        for b in given:
            losses = []
            for i in range(len(vectors[a])):
                if a == b or not (present[a][i] and present[b][i]):
                    continue
                scores = [scale * vectors[a][i] @ vectors[b][j] for j in range(len(vectors[b])) if present[b][j]]
                if negatives is not None and b in negatives:
                    others = unit(negatives[b][i])
                    scores += [scale * vectors[a][i] @ others[k] for k in range(len(others)) if usable[b][i, k]]
                losses.append(np.log(np.exp(scores).sum()) - scale * vectors[a][i] @ vectors[b][i])
            if losses:
                means.append(np.mean(losses))
    return float(np.mean(means))


def test_infonce_is_its_plain_twin() -> None:
    given, present = embeddings(), presence()
    found = InfoNCE(temperature=0.2).double()(given, present)
    assert found.item() == pytest.approx(plain_infonce(given, present, 5.0), rel=1e-6)


def test_negatives_of_ones_own_clip_are_further_candidates() -> None:
    given, present = embeddings(), presence()
    rng = torch.Generator().manual_seed(1)
    negatives = {"sound": torch.randn((ROWS, 4, DIM), generator=rng, dtype=torch.float64)}
    usable = {"sound": torch.rand((ROWS, 4), generator=rng) < 0.6}
    loss = InfoNCE(temperature=0.2).double()
    spoiled = {"sound": negatives["sound"].masked_fill(~usable["sound"][..., None], math.nan)}
    found = loss(given, present, spoiled, usable)
    assert found.item() == pytest.approx(plain_infonce(given, present, 5.0, negatives, usable), rel=1e-6)
    assert found > loss(given, present)


def test_temperature_starts_at_007_and_can_come_back_from_its_limit() -> None:
    loss, given = InfoNCE(), embeddings(dtype=torch.float32)
    assert loss.scale.item() == pytest.approx(1 / 0.07, rel=1e-6)
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    # Embeddings that point anywhere: a scale of 100 is much too sure, and the gradient has to say so.
    apart = {n: v.roll(k, dims=0) for k, (n, v) in enumerate(given.items())}
    loss(apart).backward()
    assert loss.scale.item() == pytest.approx(100.0, rel=1e-5)
    assert loss.log_scale.grad is not None
    assert loss.log_scale.grad > 0


def test_half_precision_changes_little() -> None:
    given = embeddings(dtype=torch.float32)
    loss = InfoNCE()
    exact = loss(given).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(given).item() == pytest.approx(exact, rel=1e-6)


SPLITS = {"even": (6, 5), "uneven": (9, 2), "one empty": (11, 0)}


def encoders() -> torch.nn.ModuleDict:
    torch.manual_seed(7)
    return torch.nn.ModuleDict({n: torch.nn.Linear(DIM, 4) for n in NAMES}).double()


def learn(rows: slice, *, idle: slice | None = None) -> tuple[float, list[np.ndarray]]:
    """Loss and gradients of linear encoders and temperature on some rows of one batch; in `idle` there is nothing."""
    given, present, net = embeddings(seed=5), presence(seed=5), encoders()
    if idle is not None:
        for mask in present.values():
            mask[idle] = False
    loss_of = InfoNCE(temperature=0.5).double()
    made = {n: net[n](given[n][rows]) for n in NAMES}
    if rows == idle:  # and so it was not encoded: no embedding of this process wants a gradient
        made = {n: v.detach() for n, v in made.items()}
    loss = loss_of(made, {n: p[rows] for n, p in present.items()})
    loss.backward()
    parameters = [loss_of.log_scale, *net.parameters()]
    return loss.item(), [np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in parameters]


IDLE = slice(6, 11)
CASES = [(name, sizes, None) for name, sizes in SPLITS.items()] + [("one idle", (6, 5), IDLE)]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    # Soon, so that processes that wait for each other for good are an error.
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    found: dict[str, np.ndarray] = {}
    for name, (first, second), idle in CASES:
        rows = slice(0, first) if rank == 0 else slice(first, first + second)
        loss, gradients = learn(rows, idle=idle)
        found |= {f"{name}/{k}": gradient for k, gradient in enumerate(gradients)} | {f"{name}/loss": np.array(loss)}
    try:
        InfoNCE().double()({n: v for n, v in embeddings().items() if rank == 0 or n != "sound"})
    except StreamError as error:
        found["refused"] = np.array(str(error))
    np.savez(Path(folder) / f"rank{rank}.npz", **found)
    distributed.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(worker, args=(str(tmp_path),), nprocs=2)
    ranks = [np.load(tmp_path / f"rank{rank}.npz") for rank in range(2)]
    for name, _, idle in CASES:
        loss, gradients = learn(slice(0, ROWS), idle=idle)
        assert np.mean([rank[f"{name}/loss"] for rank in ranks]) == pytest.approx(loss, abs=1e-10)
        for k, gradient in enumerate(gradients):
            joined = np.mean([rank[f"{name}/{k}"] for rank in ranks], axis=0)  # as DistributedDataParallel does
            np.testing.assert_allclose(joined, gradient, rtol=0, atol=1e-10, err_msg=f"{name}, parameter {k}")
        assert any(np.abs(gradient).max() > 1e-3 for gradient in gradients)
    assert all("expected the same names" in str(rank["refused"]) for rank in ranks)


# Metric learning


def test_triplets_are_their_plain_twin() -> None:
    given, present, labels = embeddings(), presence(), labels_of(ROWS)
    vectors = {n: unit(v) for n, v in given.items()}
    means = []
    for a in NAMES:
        for b in NAMES:
            losses = []
            for i in range(ROWS):
                there = [j for j in range(ROWS) if a != b and present[a][i] and present[b][j]]
                distances = {j: ((vectors[a][i] - vectors[b][j]) ** 2).sum() for j in there}
                negatives = [distances[j] for j in there if labels[j] != labels[i]]
                for p in (j for j in there if labels[j] == labels[i]):
                    if negatives:
                        further = [d for d in negatives if d > distances[p]]
                        chosen = min(further) if further else max(negatives)
                        losses.append(max(0.0, distances[p] - chosen + 0.2))
            if losses:
                means.append(np.mean(losses))
    assert triplet_loss(given, labels, present).item() == pytest.approx(np.mean(means), rel=1e-9)


@pytest.mark.parametrize("base", [0.5, 1.0])
def test_multi_similarity_is_its_plain_twin(base: float) -> None:
    present, labels = presence(), labels_of(ROWS)
    # Two of the five labels are far from all others, so that some anchors are left with no pair.
    given = {n: v + 6 * torch.eye(DIM)[labels] * (labels < 2)[:, None] for n, v in embeddings().items()}
    vectors = {n: unit(v) for n, v in given.items()}
    means, apart = [], 0
    for a in NAMES:
        for b in NAMES:
            losses = []
            for i in range(ROWS):
                there = [j for j in range(ROWS) if a != b and present[a][i] and present[b][j]]
                like = [vectors[a][i] @ vectors[b][j] for j in there if labels[j] == labels[i]]
                unlike = [vectors[a][i] @ vectors[b][j] for j in there if labels[j] != labels[i]]
                if not like or not unlike:
                    continue
                pulled = [s for s in like if s < max(unlike) + 0.1]
                pushed = [s for s in unlike if s > min(like) - 0.1]
                if pulled and pushed:
                    losses.append(
                        np.log(1 + sum(np.exp(-2 * (s - base)) for s in pulled)) / 2
                        + np.log(1 + sum(np.exp(50 * (s - base)) for s in pushed)) / 50
                    )
                else:
                    losses.append(0.0)
                    apart += 1
            if losses:
                means.append(np.mean(losses))
    assert apart
    assert multi_similarity_loss(given, labels, present, base=base).item() == pytest.approx(np.mean(means), rel=1e-9)


@pytest.mark.parametrize("name", ["InfoNCE", "triplet", "multi-similarity"])
def test_partners_that_agree_lose_less_than_partners_that_do_not(name: str) -> None:
    loss, own = LOSSES[name], torch.arange(ROWS)
    same = dict.fromkeys(NAMES, embeddings()["sound"])
    other = {n: v.roll(k, dims=0) for k, (n, v) in enumerate(same.items())}
    assert loss(same, None, own) < loss(embeddings(), None, own) < loss(other, None, own)


# Canonical correlation


def correlated(
    rows: int, known: tuple[float, ...], widths: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two views whose canonical correlations are `known`, mixed by matrices of condition 30 or so."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[1]))
    for k, rho in enumerate(known):
        second[:, k] = rho * first[:, k] + math.sqrt(1 - rho**2) * second[:, k]
    return tuple(view @ mixing(view.shape[1], rng) + rng.normal(size=view.shape[1]) for view in (first, second))


def mixing(width: int, rng: np.random.Generator) -> np.ndarray:
    left, right = np.linalg.qr(rng.normal(size=(width, width)))[0], np.linalg.qr(rng.normal(size=(width, width)))[0]
    return left * np.geomspace(1, 30, width) @ right


def canonical_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By QR and the angles between the two column spaces (Bjorck and Golub 1973): no covariance, no ridge."""
    q1, q2 = (np.linalg.qr(view - view.mean(axis=0))[0] for view in (first, second))
    return np.linalg.svd(q1.T @ q2, compute_uv=False)


KNOWN = (0.95, 0.8, 0.5, 0.2)


def test_dcca_is_minus_the_total_canonical_correlation() -> None:
    first, second = correlated(300, KNOWN, (5, 7), 0)
    loss = dcca_loss(torch.tensor(first), torch.tensor(second), ridge=1e-9)
    assert -loss.item() == pytest.approx(canonical_correlations(first, second).sum(), abs=1e-4)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e30, 1e200])
def test_scale_and_invertible_maps_change_nothing(scale: float) -> None:
    first, second = correlated(300, KNOWN, (5, 7), 1)
    rng = np.random.default_rng(2)
    given = torch.tensor(first), torch.tensor(second)
    moved = torch.tensor(first @ mixing(5, rng) * scale + 3 * scale), torch.tensor(second @ mixing(7, rng))
    torch.testing.assert_close(dcca_loss(*moved, ridge=1e-9), dcca_loss(*given, ridge=1e-9), rtol=0, atol=1e-4)
    views, changed = ({"a": pair[0], "b": pair[1]} for pair in (given, moved))
    torch.testing.assert_close(dgcca_loss(changed, ridge=1e-9), dgcca_loss(views, ridge=1e-9), rtol=0, atol=1e-4)
    # The ridge is relative to the scale: with one that counts, scale alone changes nothing at all.
    torch.testing.assert_close(dcca_loss(given[0] * scale, given[1], ridge=0.1), dcca_loss(*given, ridge=0.1))


def test_training_linear_encoders_by_dcca_finds_what_closed_form_does() -> None:
    first, second = correlated(400, KNOWN, (6, 8), 3)
    torch.manual_seed(0)
    nets = torch.nn.Linear(6, 2, dtype=torch.float64), torch.nn.Linear(8, 2, dtype=torch.float64)
    given = torch.tensor(first), torch.tensor(second)
    optimizer = torch.optim.LBFGS(
        [p for n in nets for p in n.parameters()], max_iter=300, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = dcca_loss(nets[0](given[0]), nets[1](given[1]), ridge=1e-9)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert -closure().item() == pytest.approx(canonical_correlations(first, second)[:2].sum(), abs=1e-4)


def test_dgcca_of_two_views_is_cca() -> None:
    first, second = correlated(300, KNOWN, (5, 7), 4)
    rho = canonical_correlations(first, second)
    loss = dgcca_loss({"a": torch.tensor(first), "b": torch.tensor(second)}, ridge=1e-9, components=3)
    assert loss.item() == pytest.approx(3 - (1 + rho[:3]).sum() / 2, abs=1e-4)
    linear, general = fit_cca(first, second, ridge=0.0), fit_gcca(first, second, ridge=0.0)
    np.testing.assert_allclose(general.correlations, linear.correlations, atol=1e-9)
    np.testing.assert_allclose(linear.correlations, rho, atol=1e-9)
    for a, b in zip(linear.transform(first, second), general.transform(first, second), strict=True):
        np.testing.assert_allclose(np.abs(np.corrcoef(a.T, b.T)[:5, 5:]), np.eye(5), atol=1e-6)
    np.testing.assert_allclose(linear.held_out(first, second), rho, atol=1e-9)


def test_dgcca_is_the_distance_to_the_best_shared_variable() -> None:
    """The definition itself: G from the B x B matrix, each view regressed on it, rows without a second view apart."""
    given, present = embeddings(40), presence(40)
    ridge = 1e-9
    have = np.stack([present[n].numpy() for n in NAMES], axis=1)
    have &= (have.sum(axis=1) >= 2)[:, None]
    rows = have.any(axis=1)
    count = have[rows].sum(axis=1)
    views = []
    for k, n in enumerate(NAMES):
        view = given[n].numpy()[rows]
        view = np.where(have[rows, k, None], view - view[have[rows, k]].mean(axis=0), 0.0)
        views.append(view)
    projections = sum(view @ np.linalg.pinv(view) for view in views)
    root = np.diag(count**-0.5)
    shared = root @ np.linalg.eigh(root @ projections @ root)[1][:, -3:]  # G^T K G = I
    distance = 0.0
    for k, view in enumerate(views):
        off = shared - view @ np.linalg.lstsq(view, shared, rcond=None)[0]
        distance += (off[have[rows, k]] ** 2).sum()
    assert dgcca_loss(given, present, components=3, ridge=ridge).item() == pytest.approx(distance, abs=1e-5)


def test_no_batch_makes_dcca_or_dgcca_infinite() -> None:
    seen = set()
    for what, first, second in degenerate_batches(1000):
        seen.add(what)
        leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
        third = (leaves[0] * 2).detach()
        for loss in (dcca_loss(*leaves), dgcca_loss({"a": leaves[0], "b": leaves[1], "c": third})):
            grads = torch.autograd.grad(loss, leaves)
            assert torch.isfinite(loss), what
            assert all(torch.isfinite(g).all() for g in grads), what
        assert dcca_loss(first, second) >= -min(first.shape[1], second.shape[1]) - 1e-9, what
    assert len(seen) == KINDS


def test_a_constant_view_gets_no_gradient() -> None:
    """Any direction is as good as any other there: none is taken, where a step would be huge."""
    constant, other = torch.full((20, 3), 2.5, requires_grad=True), torch.randn(20, 3)
    for loss in (dcca_loss(constant, other), dgcca_loss({"a": constant, "b": other})):
        (gradient,) = torch.autograd.grad(loss, constant)
        assert gradient.abs().max() < 1e-6


def test_one_view_collapsed_gets_its_gradient_back_when_it_moves() -> None:
    """A little noise is enough to learn from: collapse is no trap."""
    first, second = (torch.tensor(view) for view in correlated(500, (0.9,), (1, 1), 5))
    leaf = (3.0 + 1e-6 * first).requires_grad_()
    loss = dcca_loss(leaf, second)
    assert loss.item() == pytest.approx(dcca_loss(first, second).item(), abs=1e-6)
    loss.backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.abs().max() > 0


def test_unrelated_views_score_nothing_on_held_out_rows_whatever_the_fit_says() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(400, 40)), rng.normal(size=(400, 40))
    fitted = fit_cca(first[:200], second[:200])
    assert fitted.correlations.sum() > 15
    assert abs(fitted.score(first[200:], second[200:])) < 2.0
    three = fit_gcca(first[:200], second[:200], rng.normal(size=(200, 40)))
    assert three.correlations.sum() > 15
    assert abs(three.score(first[200:], second[200:], rng.normal(size=(200, 40)))) < 2.0


def test_held_out_score_tends_to_the_known_correlation_and_shuffled_ones_to_none() -> None:
    first, second = correlated(20_000, KNOWN, (5, 7), 7)
    fitted = fit_cca(first[:10_000], second[:10_000], components=4, ridge=1e-6)
    test = first[10_000:], second[10_000:]
    np.testing.assert_allclose(fitted.held_out(*test), KNOWN, atol=0.03)
    shuffled = shuffled_scores(fitted, *test, rng=np.random.default_rng(0), repeats=50)
    assert np.abs(shuffled).max() < 4 * math.sqrt(4 / 10_000)
    assert np.std(shuffled) == pytest.approx(math.sqrt(4 / 10_000), rel=0.4)


def test_gcca_finds_what_three_views_share_with_views_missing() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(size=(6000, 2))
    views = [
        np.c_[shared + 0.5 * rng.normal(size=(6000, 2)), rng.normal(size=(6000, 3))] @ mixing(5, rng) for _ in "abc"
    ]
    present = rng.random((6000, 3)) < 0.7
    spoiled = [np.where(present[:, [k]], view, np.nan) for k, view in enumerate(views)]
    fitted = fit_gcca(*(view[:3000] for view in spoiled), present=present[:3000], components=2, ridge=1e-6)
    score = fitted.score(*(view[3000:] for view in spoiled), present=present[3000:])
    assert score == pytest.approx(2 / 1.25, abs=0.06)
    whole = fit_gcca(*(view[:3000] for view in views), components=2, ridge=1e-6)
    assert score == pytest.approx(whole.score(*(view[3000:] for view in views)), abs=0.06)


def test_rows_with_one_view_change_no_gcca() -> None:
    given, rng = [v.numpy() for v in embeddings(60).values()], np.random.default_rng(9)
    present = rng.random((60, 3)) < 0.8
    alone = [np.r_[view, 5 + rng.normal(size=(30, DIM))] for view in given]
    there = np.r_[present, np.eye(3, dtype=bool)[np.arange(30) % 3]]
    fitted, longer = fit_gcca(*given, present=present), fit_gcca(*alone, present=there)
    np.testing.assert_allclose(longer.correlations, fitted.correlations, atol=1e-10)
    assert longer.score(*given, present=present) == pytest.approx(fitted.score(*given, present=present), abs=1e-8)


def test_bad_views_are_named() -> None:
    first, second = np.ones((10, 3)), np.ones((10, 2))
    with pytest.raises(StreamError, match="not independent"):
        fit_cca(first, second, ridge=0.0)
    with pytest.raises(StreamError, match="expected two or more"):
        fit_cca(first[:1], second[:1])
    with pytest.raises(StreamError, match="same n"):
        fit_cca(first, second[1:])
    with pytest.raises(StreamError, match="not finite"):
        fit_gcca(first * np.nan, second)
    with pytest.raises(StreamError, match=r"components; expected 1 \.\.\. 2"):
        fit_cca(first, second, components=3)
    with pytest.raises(StreamError, match="expected \\(n, k\\) with k = 3, 2"):
        fit_cca(np.random.default_rng(0).normal(size=(10, 3)), np.random.default_rng(1).normal(size=(10, 2))).score(
            second, first
        )
    with pytest.raises(StreamError, match="not all values are finite"):
        dcca_loss(torch.tensor(first) * math.nan, torch.tensor(second))
    with pytest.raises(StreamError, match="ridge 0"):
        dcca_loss(torch.tensor(first), torch.tensor(second), ridge=0)
