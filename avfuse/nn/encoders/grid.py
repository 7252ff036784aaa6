"""Samples brought onto an even grid of time, and what strides do to times and masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from avfuse.errors import StreamError
from avfuse.nn.timed import Timed

_LEAST_WEIGHT = 0.25  # of a sample, for a point to be known; the nearest point of a sample gets at least 0.5
_STEADY = 0.01  # grid steps squared, added to the spread of samples: one sample alone tells no slope


def check_heads(dim: int, heads: int) -> None:
    """Raises StreamError where `dim` features cannot be shared among `heads` that rotate pairs of them."""
    if heads < 1 or dim % (2 * heads):
        raise StreamError(f"dim {dim}, heads {heads}: expected features that are a multiple of twice the heads")


def grid_points(stream: Timed, rate: float, duration: float | None) -> int:
    """How many points k / rate hold the samples of every row: of `duration` seconds, or of what there is.

    Raises StreamError for samples outside of 0 ... duration, and where a traced graph would depend on the data.
    """
    if duration is not None:
        points = math.ceil(duration * rate - 1e-9) + 1
    if torch.compiler.is_compiling():
        if duration is None:
            raise StreamError("a network to be exported needs the windows' duration: give it to the encoder")
        return points
    times = stream.times[stream.mask]
    first, last = (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)
    if first < 0 or (duration is not None and last > duration):
        raise StreamError(
            f"samples from {first:.3f} s to {last:.3f} s; expected 0 s ... {duration or 'any'} s: times count from the "
            "batch's origin (`since_origin`), and `duration` of the encoder is that of the longest window"
        )
    return points if duration is not None else math.floor(last * rate) + 2


def on_grid(
    values: Tensor, times: Tensor, mask: Tensor, *, rate: float, points: int, gap: float
) -> tuple[Tensor, Tensor]:
    """Values at the times k / rate, (B, points, C), and whether they are known, (B, points).

    values: (B, T, C); what is found is float32, or float64 as they are. times: (B, T) seconds. mask: (B, T), samples
    that count. Each point takes the samples within one step of it, weighted by a triangle, as a local line (Fan,
    Design-adaptive nonparametric regression, 1992): what is sampled more densely than the grid is smoothed, jitter does
    no harm, and straight lines stay as they are. Points without samples are interpolated between known ones where those
    are at most `gap` seconds apart; others are 0 and not known. The work grows with the number of samples and points,
    not with their product.
    """
    batch, _, channels = values.shape
    place = (times * rate).masked_fill(~mask, 0.0)
    below = place.floor()
    # Never in less: half precision could not count the points.
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    share = (place - below).to(values.dtype)
    values = values.masked_fill(~mask[:, :, None], 0.0)
    weight, moment, spread = (values.new_zeros((batch, points)) for _ in range(3))
    total, product = (values.new_zeros((batch, points, channels)) for _ in range(2))
    for step in (0, 1):
        away = share - step  # of the sample from the point, in steps: 0 ... 1, then -1 ... 0
        index = (below.long() + step).clamp(0, points - 1)
        w = torch.where(mask, 1 - away.abs(), 0.0)
        weight = weight.scatter_add(1, index, w)
        moment = moment.scatter_add(1, index, w * away)
        spread = spread.scatter_add(1, index, w * away**2)
        wide = index[:, :, None].expand(-1, -1, channels)
        total = total.scatter_add(1, wide, w[:, :, None] * values)
        product = product.scatter_add(1, wide, (w * away)[:, :, None] * values)
    known = weight >= _LEAST_WEIGHT
    safe = weight.clamp(min=_LEAST_WEIGHT)
    mean, middle = total / safe[:, :, None], moment / safe
    slope = (product / safe[:, :, None] - middle[:, :, None] * mean) / (spread / safe - middle**2 + _STEADY)[:, :, None]
    found = torch.where(known[:, :, None], mean - slope * middle[:, :, None], 0.0)
    return _bridged(found, known, math.floor(gap * rate + 1e-9))


def _bridged(values: Tensor, known: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Points between known ones that are at most `reach` steps apart, by straight lines."""
    points = known.shape[1]
    number = torch.arange(points, device=values.device, dtype=values.dtype).expand(known.shape)
    far = float(4 * (points + reach))
    # The nearest known point on either side: a running maximum of their numbers.
    before = _running_max(torch.where(known, number, -far), (reach, 0), -far)
    after = -_running_max(torch.where(known, -number, -far), (0, reach), -far)
    between = (after - before) <= reach
    at = (number - before) / (after - before).clamp(min=1.0)
    left, right = (
        values.gather(1, side.clamp(0, points - 1).long()[:, :, None].expand(values.shape)) for side in (before, after)
    )
    filled = left + at[:, :, None] * (right - left)
    found = torch.where(known[:, :, None], values, torch.where(between[:, :, None], filled, 0.0))
    return found, known | between


def _running_max(values: Tensor, sides: tuple[int, int], fill: float) -> Tensor:
    padded = functional.pad(values[:, None], sides, value=fill)
    return functional.max_pool1d(padded, sum(sides) + 1, stride=1)[:, 0]


def halved(times: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Times and mask of pairs: (B, N) -> (B, N // 2), N even; a pair is valid where one of it is."""
    pairs = mask.reshape(mask.shape[0], -1, 2)
    stamps = times.reshape(pairs.shape).masked_fill(~pairs, 0.0)
    return stamps.sum(dim=2) / pairs.sum(dim=2).clamp(min=1), pairs.any(dim=2)


def even_length(values: Tensor, times: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One invalid step more where their number is odd; values: (B, N, ...)."""
    if mask.shape[1] % 2 == 0:
        return values, times, mask
    tail = values.new_zeros((values.shape[0], 1, *values.shape[2:]))
    return torch.cat([values, tail], dim=1), functional.pad(times, (0, 1)), functional.pad(mask, (0, 1))
