"""One locally optimised RANSAC loop (Chum, Matas and Kittler 2003) over small estimators.

An estimator is six functions over models, which are rows of numbers:

    solve      models through a minimal sample        residuals  squared distances of correspondences
    normal     normal equations in a model's entries  tangent    how those entries move with its free parameters
    retract    the model a small step away            upgrade    a better model where the sample was degenerate

They are taken as pointers of one type each, so that the loop is compiled once for all of them.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, njit, types, uint64

MODEL, DATA = float64[::1], float64[:, ::1]
SOLVE = int64(DATA, int64[::1], DATA)
RESIDUALS = types.void(MODEL, DATA, int64, int64, MODEL)
NORMAL = types.void(MODEL, DATA, MODEL, DATA, MODEL)
TANGENT = types.void(MODEL, DATA)
RETRACT = types.void(MODEL, MODEL, MODEL)
UPGRADE = int64(DATA, int64[::1], MODEL, float64, uint64[::1], MODEL)

_BLOCK = 128  # correspondences scored before it is asked whether the rest is worth it
_TEN, _SEVEN, _THIRTEEN, _ELEVEN = np.uint64(10), np.uint64(7), np.uint64(13), np.uint64(11)
_UNIT = 1.0 / 9007199254740992.0  # 2^-53
_ROUNDS, _CLOSE = (
    4,
    1e-3,
)  # of local optimisation: rounds, and the share of the loss below which the next is not worth it
_INNER, _INNER_ROUNDS = 50, 10  # samples drawn from what agrees with a model, and rounds of them
_PATIENCE = 200  # samples after which that is worth it (Lebeda, Matas and Chum 2012 wait too)
_DOUBT = 4.0  # standard errors: one good model in 30,000 is missed
_SUMS = {"reassoc", "contract"}


@njit(float64(uint64[::1]), cache=True, nogil=True)
def uniform(state):
    """The next number of [0, 1) (xorshift, Marsaglia 2003). state: `(1,)`, not 0."""
    x = state[0]
    x ^= x << _THIRTEEN
    x ^= x >> _SEVEN
    x ^= x << np.uint64(17)
    state[0] = x
    return np.float64(np.int64(x >> _ELEVEN)) * _UNIT


@njit(types.void(uint64[::1], int64, int64, int64[::1]), cache=True, nogil=True)
def draw(state, count, among, sample):
    """Different whole numbers below `among` into the first `count` places of `sample`."""
    for k in range(count):
        fresh = False
        while not fresh:
            sample[k] = int(uniform(state) * among)
            fresh = True
            for j in range(k):
                if sample[j] == sample[k]:
                    fresh = False


@njit(int64(DATA, int64[::1], MODEL, float64, uint64[::1], MODEL), cache=True, nogil=True)
def nothing(data, sample, model, threshold2, state, out):
    """The upgrade of estimators that need none."""
    return 0


@njit(types.boolean(DATA, MODEL, MODEL), cache=True, nogil=True, error_model="numpy")
def solved(a, b, x):
    """x of a x = b into `x`, by elimination with pivots; both are overwritten. False where `a` is singular."""
    n = b.shape[0]
    for k in range(n):
        best = k
        for i in range(k + 1, n):
            if abs(a[i, k]) > abs(a[best, k]):
                best = i
        if not abs(a[best, k]) > 1e-300:
            return False
        if best != k:
            for j in range(k, n):
                held = a[k, j]
                a[k, j] = a[best, j]
                a[best, j] = held
            held = b[k]
            b[k] = b[best]
            b[best] = held
        for i in range(k + 1, n):
            f = a[i, k] / a[k, k]
            for j in range(k + 1, n):
                a[i, j] -= f * a[k, j]
            b[i] -= f * b[k]
    for k in range(n - 1, -1, -1):
        total = b[k]
        for j in range(k + 1, n):
            total -= a[k, j] * x[j]
        x[k] = total / a[k, k]
    return True


@njit(float64(MODEL, int64, int64, float64, MODEL), cache=True, nogil=True, fastmath=_SUMS, error_model="numpy")
def block_cost(squared, start, stop, scale, losses):
    """Sum of losses of squared distances. losses: none for truncated squares, else a table over [0, 1]."""
    total = 0.0
    if losses.shape[0] == 0:
        for i in range(start, stop):
            total += min(squared[i] * scale, 1.0)
        return total
    last = losses.shape[0] - 1
    for i in range(start, stop):
        u = min(squared[i] * scale, 1.0) * last
        k = min(int(u), last - 1)
        total += losses[k] + (u - k) * (losses[k + 1] - losses[k])
    return total


@njit(
    float64(types.FunctionType(RESIDUALS), MODEL, DATA, float64, MODEL, float64, float64, MODEL), cache=True,
    nogil=True, error_model="numpy",
)  # fmt: skip
def cost_of(residuals, model, data, threshold2, losses, bound, doubt, squared):
    """Summed loss of a model, and its squared distances into `squared`; infinite as soon as it is `bound` or more.

    doubt: standard errors by which the columns seen so far must speak against it to leave the others unseen; they are a
    fair draw, since columns are in random order (after Matas and Chum 2005, who test likelihoods). Infinite: all count.
    """
    n = data.shape[1]
    total = 0.0
    scale = 1.0 / threshold2
    mean = min(bound / n, 1.0)
    spread = doubt * np.sqrt(mean * (1.0 - mean)) if doubt < np.inf else np.inf
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        residuals(model, data, start, stop, squared)
        total += block_cost(squared, start, stop, scale, losses)
        if not (total < bound and total < mean * stop + spread * np.sqrt(stop)):
            return np.inf
    return total


@njit(types.void(MODEL, float64, MODEL, MODEL), cache=True, nogil=True, error_model="numpy")
def weigh(squared, threshold2, weights, out):
    """What each correspondence counts in a fit: the slope of its loss. weights: none for truncated squares."""
    last = weights.shape[0] - 1
    for i in range(squared.shape[0]):
        u = squared[i] / threshold2
        if not u < 1.0:
            out[i] = 0.0
        elif last < 0:
            out[i] = 1.0
        else:
            k = min(int(u * last), last - 1)
            out[i] = weights[k] + (u * last - k) * (weights[k + 1] - weights[k])


@njit(cache=True, nogil=True, error_model="numpy")
def along(ambient, slope, moves, half, small, gradient):
    """Normal equations of all entries in the free parameters: small = moves^T ambient moves, gradient = moves^T slope.

    half: room for ambient moves.
    """
    m, free = moves.shape
    for i in range(m):
        for k in range(free):
            total = 0.0
            for j in range(m):
                total += ambient[i, j] * moves[j, k]
            half[i, k] = total
    for k in range(free):
        for l in range(free):
            total = 0.0
            for i in range(m):
                total += moves[i, k] * half[i, l]
            small[k, l] = total
        total = 0.0
        for i in range(m):
            total += moves[i, k] * slope[i]
        gradient[k] = total


REFINE = float64(
    types.FunctionType(RESIDUALS), types.FunctionType(NORMAL), types.FunctionType(TANGENT),
    types.FunctionType(RETRACT), MODEL, float64, DATA, float64, MODEL, MODEL, int64, int64, float64,
)  # fmt: skip


@njit(REFINE, cache=True, nogil=True, error_model="numpy")
def refined(residuals, normal, tangent, retract, model, cost, data, threshold2, losses, weights, free, rounds, close):
    """Levenberg-Marquardt on the summed loss, the correspondences weighted anew in each round.

    model: changed where that lowers its `cost`, which is returned. free: number of its free parameters. close: share of
    the loss below which a gain ends it.
    """
    n, m = data.shape[1], model.shape[0]
    squared, w = np.empty(n), np.empty(n)
    trial, step, gradient, right = np.empty(m), np.empty(free), np.empty(free), np.empty(free)
    ambient, slope = np.empty((m, m)), np.empty(m)
    moves, half, small, damped = (
        np.empty((m, free)),
        np.empty((m, free)),
        np.empty((free, free)),
        np.empty((free, free)),
    )
    damping = 1e-4
    cost_of(residuals, model, data, threshold2, losses, np.inf, np.inf, squared)
    for _ in range(rounds):
        weigh(squared, threshold2, weights, w)
        normal(model, data, w, ambient, slope)
        tangent(model, moves)
        along(ambient, slope, moves, half, small, gradient)
        better = False
        before = cost
        for _attempt in range(4):
            for k in range(free):
                for l in range(free):
                    damped[k, l] = small[k, l]
                damped[k, k] += damping * small[k, k] + 1e-300
                right[k] = -gradient[k]
            if solved(damped, right, step):
                retract(model, step, trial)
                found = cost_of(residuals, trial, data, threshold2, losses, cost, np.inf, squared)
                if found < cost:
                    for i in range(m):
                        model[i] = trial[i]
                    cost = found
                    damping = max(0.1 * damping, 1e-12)
                    better = True
                    break
            damping *= 30.0
        if not better or before - cost < close * before:
            break
    return cost


@njit(float64(int64, int64, int64, float64), cache=True, nogil=True, error_model="numpy")
def draws_needed(agree, among, count, missed):
    """Samples after which one without outliers has been drawn but for a probability of `missed`."""
    pure = 1.0
    for k in range(count):
        pure *= max(agree - k, 0) / max(among - k, 1)
    if pure >= 1.0 - 1e-12:
        return 1.0
    if pure < 1e-15:
        return np.inf
    return np.log(missed) / np.log1p(-pure)


@njit(float64(MODEL, float64, int64[::1], int64, int64, float64), cache=True, nogil=True)
def enough(squared, threshold2, order, pool, count, missed):
    """Samples needed, given how far each column is from the best model so far.

    With an order, the least of what its beginnings need, which hold the `pool` that has been drawn from so far; one of
    fewer than 20 proves nothing.
    """
    n = squared.shape[0]
    agree = 0
    least = np.inf
    for k in range(order.shape[0]):
        agree += squared[order[k]] <= threshold2
        if k + 1 >= max(pool, 20):
            least = min(least, draws_needed(agree, k + 1, count, missed))
    if order.shape[0] > 0:
        return least
    for i in range(n):
        agree += squared[i] <= threshold2
    return draws_needed(agree, n, count, missed)


RESAMPLE = float64(
    types.FunctionType(SOLVE), types.FunctionType(RESIDUALS), types.FunctionType(NORMAL),
    types.FunctionType(TANGENT), types.FunctionType(RETRACT), DATA, int64[::1], float64, MODEL, MODEL,
    uint64[::1], MODEL, float64,
)  # fmt: skip


@njit(RESAMPLE, cache=True, nogil=True, error_model="numpy")
def resampled(solve, residuals, normal, tangent, retract, data, sizes, threshold2, losses, weights, state, best, cost):
    """Samples drawn from what agrees with the best model, where good correspondences are many times as frequent as
    among all (the inner samples of LO-RANSAC). The best of a few is refined; again while that helps.

    best: changed where that lowers its `cost`, which is returned.
    """
    count, free, models = sizes[0], sizes[1], sizes[2]
    n, m = data.shape[1], best.shape[0]
    sample, close = np.empty(count, np.int64), np.empty(n, np.int64)
    found, local, squared = np.zeros((models, m)), np.empty(m), np.empty(n)
    for _ in range(_INNER_ROUNDS):
        residuals(best, data, 0, n, squared)
        agree = 0
        for i in range(n):
            if squared[i] <= threshold2:
                close[agree] = i
                agree += 1
        if agree <= count:
            break
        least = np.inf
        for _inner in range(_INNER):
            draw(state, count, agree, sample)
            for k in range(count):
                sample[k] = close[sample[k]]
            made = solve(data, sample, found)
            for k in range(made):
                tried = cost_of(residuals, found[k], data, threshold2, losses, least, _DOUBT, squared)
                if tried < least:
                    least = tried
                    local[:] = found[k]
        if not least < np.inf:
            break
        tried = refined(
            residuals, normal, tangent, retract, local, least, data, threshold2, losses, weights, free, _ROUNDS, _CLOSE
        )  # fmt: skip
        if not tried < cost:
            break
        cost = tried
        best[:] = local
    return cost


SEARCH = types.Tuple((float64, int64, int64))(
    types.FunctionType(SOLVE), types.FunctionType(RESIDUALS), types.FunctionType(NORMAL),
    types.FunctionType(TANGENT), types.FunctionType(RETRACT), types.FunctionType(UPGRADE), DATA, int64[::1],
    float64, MODEL, MODEL, int64[::1], float64, int64, float64, uint64[::1], MODEL,
)  # fmt: skip


@njit(SEARCH, cache=True, nogil=True, error_model="numpy")
def search(
    solve, residuals, normal, tangent, retract, upgrade, data, sizes, threshold2, losses, weights, order, bound, most,
    missed, state, best,
):  # fmt: skip
    """The model with the least summed loss that samples lead to.

    data: `(rows, n)`, a column for each correspondence, in random order. order: none, or the columns from the most
    trusted to the least, which are then drawn as PROSAC does (Chum and Matas 2005). sizes: correspondences in a sample,
    free parameters, most models of a sample. bound: a loss that the model must stay under. most: samples at most; fewer
    where a better model is there but for a probability of `missed`. state: of the random numbers. best: the model,
    zeros where there is none.
    Returns its loss, the samples drawn, and how often a sample was better than all before.
    """
    count, free, models = sizes[0], sizes[1], sizes[2]
    n, m = data.shape[1], best.shape[0]
    sample = np.zeros(count, np.int64)
    found, local, other = np.zeros((models, m)), np.empty(m), np.empty(m)
    squared = np.empty(n)
    best[:] = 0.0
    best_cost, minimal_cost = bound, bound
    ordered = order.shape[0] > 0
    needed = float(most)
    improved = 0
    # PROSAC: the sample is drawn from the first `pool`, which grows as fast as plain draws would have covered it.
    pool, until = (count, 1.0) if ordered else (n, 1.0)
    average = float(most)
    for k in range(count):
        average *= (count - k) / (n - k)
    drawn = 0
    waits = False
    while drawn < most and drawn < needed:
        drawn += 1
        if pool < n and drawn > until:
            pool += 1
            following = average * pool / (pool - count)
            until += np.ceil(following - average)
            average = following
        if ordered and pool < n and drawn <= until and pool > count:
            draw(state, count - 1, pool - 1, sample)
            sample[count - 1] = pool - 1
        else:
            draw(state, count, pool, sample)
        if ordered:
            for k in range(count):
                sample[k] = order[sample[k]]
        made = solve(data, sample, found)
        better = False
        for k in range(made):
            cost = cost_of(residuals, found[k], data, threshold2, losses, minimal_cost, _DOUBT, squared)
            if not cost < minimal_cost:
                continue
            minimal_cost = cost
            improved += 1
            local[:] = found[k]
            if upgrade(data, sample, local, threshold2, state, other) > 0:
                upgraded = cost_of(residuals, other, data, threshold2, losses, cost, np.inf, squared)
                if upgraded < cost:
                    local[:] = other
                    cost = upgraded
                    minimal_cost = cost
            cost = refined(
                residuals,
                normal,
                tangent,
                retract,
                local,
                cost,
                data,
                threshold2,
                losses,
                weights,
                free,
                _ROUNDS,
                _CLOSE,
            )
            if cost < best_cost:
                best_cost = cost
                best[:] = local
                better, waits = True, True
        if waits and drawn >= _PATIENCE:
            best_cost = resampled(
                solve, residuals, normal, tangent, retract, data, sizes, threshold2, losses, weights, state, best,
                best_cost,
            )  # fmt: skip
            better, waits = True, False
        if better:
            cost_of(residuals, best, data, threshold2, losses, np.inf, np.inf, squared)
            needed = enough(squared, threshold2, order, pool, count, missed)
    return best_cost, drawn, improved


SCATTER = types.void(types.FunctionType(NORMAL), MODEL, DATA, DATA, MODEL, float64, int64, DATA, DATA, DATA)


@njit(SCATTER, cache=True, nogil=True, error_model="numpy")
def scattered(normal, model, data, moves, squared, square, dimensions, inverse, slopes, products):
    """Sums over the columns nearer than the root of `square`, in a model's free parameters, under a biweight.

    inverse: of `slopes` as an earlier call left it, for the share that each column has in its own fit; zeros at first.
    slopes: sum of the derivatives of what a column says. products: sum of the squares of that, each as if the column
    had not taken part.
    """
    m, free = moves.shape
    rows, n = data.shape
    one, weight = np.empty((rows, 1)), np.ones(1)
    ambient, slope = np.empty((m, m)), np.empty(m)
    half, small, says = np.empty((m, free)), np.empty((free, free)), np.empty(free)
    slopes[:] = 0.0
    products[:] = 0.0
    for i in range(n):
        u = squared[i] / square
        if not u < 1.0:
            continue
        for r in range(rows):
            one[r, 0] = data[r, i]
        normal(model, one, weight, ambient, slope)
        follows = (1.0 - u) ** 2 - 4.0 * u * (1.0 - u) / dimensions
        share = 0.0
        along(ambient, slope, moves, half, small, says)
        for k in range(free):
            says[k] *= (1.0 - u) ** 2
            for l in range(free):
                share += inverse[k, l] * small[k, l]
        share = min(max(share * follows / dimensions, 0.0), 0.9)
        for k in range(free):
            for l in range(free):
                slopes[k, l] += follows * small[k, l]
                products[k, l] += says[k] * says[l] / (1.0 - share) ** 2


def compiled(solve, residuals, normal, tangent, retract, upgrade):
    """`search`, `refined` and `scattered` of one estimator. Pointers are not cached: this takes a moment."""

    @njit(SEARCH.return_type(*SEARCH.args[6:]), nogil=True)
    def search_for(data, sizes, threshold2, losses, weights, order, bound, most, missed, state, best):
        return search(
            solve, residuals, normal, tangent, retract, upgrade, data, sizes, threshold2, losses, weights, order,
            bound, most, missed, state, best,
        )  # fmt: skip

    @njit(REFINE.return_type(*REFINE.args[4:]), nogil=True)
    def refine(model, cost, data, threshold2, losses, weights, free, rounds, close):
        return refined(
            residuals, normal, tangent, retract, model, cost, data, threshold2, losses, weights, free, rounds, close
        )

    @njit(SCATTER.return_type(*SCATTER.args[1:]), nogil=True)
    def scatter(model, data, moves, squared, square, dimensions, inverse, slopes, products):
        scattered(normal, model, data, moves, squared, square, dimensions, inverse, slopes, products)

    return search_for, refine, scatter
