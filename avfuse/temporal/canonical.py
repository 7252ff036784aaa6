"""Any two streams of numbers that show one event: offset and drift, whatever linear map relates their channels.

flattened     every channel with all its frequencies alike, then the few principal components of all
surprises     how surprising the correlations of all pairs of components are, at every lag
search        the best lines of lag and drift, against the others and against one stream played backwards
settle        canonical pairs along the best line; lag, drift and covariance by them     (coupling.py)
decide        here

Unrelated streams of any colour go together somewhere by chance. So channels are made white before they are compared,
what is left of their own memory is counted (Bartlett 1935), and every correlation is measured against the products it
sums (self-normalised: de la Pena, Lai and Shao 2009), so that one jolt or step in each is one coincidence and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from avfuse.alignment import Candidate, ClockEstimate
from avfuse.errors import StreamError
from avfuse.features.channels import channels
from avfuse.features.inertia import force_parts
from avfuse.stream import Kind, Stream
from avfuse.temporal.coupling import Coupling, clock_of, coherence, couple, cov_at_zero, effective_count, weighted
from avfuse.temporal.covariation import Blocks, Line, lines
from avfuse.temporal.motion import Samples, logistic, swapped
from avfuse.temporal.tracks import Track, octave_mean, samples_of, shaped, track_of, windows_of

F64 = NDArray[np.float64]

_MOTION = ("acceleration", "rotation_rate", "orientation", "pose")
_FEWEST = 100  # samples of either
_BAND = 0.45  # of the slower stream's rate: what its samples can hold
_HIGHEST = 40.0  # Hz
_NARROWER, _BANDS = 2.0, 7  # each band looked at is so much narrower than the one before
_LEAST_CYCLES = 40.0  # of its highest frequency that a band needs
_LOWEST, _PERIODS = 60.0, 6.0  # times below its highest frequency, where a band begins; and periods of that, at least
_MARGIN = 0.5  # periods of the lowest frequency at both ends, which a filter makes up
_OVERLAP = 40.0  # independent samples that must overlap
_MOMENTS = 12.0  # independent ones for each pair of components
_COMPONENTS, _SMALLEST = 6, 1e-3  # of each stream, and the least share of the first one's power
_MEMORY = 512  # samples over which what is left of it is looked at
_MAX_DRIFT = 400e-6
_LINES, _NEAR = 8, 4.0  # lines that are weighed; periods of the highest frequency within which they are flanks
_EFFORT = 25_000.0  # periods of the highest frequency in both, in the mean, that are searched
# Nats of surprise beyond what the best of so many lags reaches by chance, and times what the best other line, or the
# best one backwards, reaches.
_BEYOND, _DISTINCT = 12.0, 1.7
_SOFT_BEYOND, _SOFT_DISTINCT = 0.6, 0.04
_MOMENT, _WITNESSES, _SOFT_WITNESSES = 5.0, 6.0, 0.25  # periods of a moment; so many of them must bear witness
_ACCEPT, _SUREST = 0.98, 0.998
_PAIRS, _TOLD = 3, 12.0  # canonical pairs that are settled by, at most; n r^2 that they need beyond chance
_TURNS, _UNIT = 3, 6.0  # of settling, in units of time in which what goes together is so many "Hz" broad
_INEXACT = 5e-3  # periods of the highest frequency that grids and filters are good to
_WIDER = 1.25  # times the std that scores tell: what goes together was chosen by how it does
_POSED = 0.35  # steps of poses to which they tell when something was felt
_OF_NOTE = 1.5  # standard deviations of a phase at frequency 0 that is no chance


@dataclass(frozen=True, eq=False)
class _Found:
    """What one band shows. lines: best first, with the nats of surprise of each; backwards: of the best one there;
    witnesses: of the best line."""

    x: Track
    y: Track
    low: float
    high: float
    lines: Sequence[Line]
    nats: Sequence[float]
    backwards: float
    chance: float
    witnesses: float

    @property
    def rival(self) -> float:
        far = [
            n for line, n in zip(self.lines, self.nats, strict=True) if abs(line.lag - self.lines[0].lag) > self.near
        ]
        return max([self.backwards, self.chance, *far])

    @property
    def near(self) -> float:
        """Seconds within which lines are flanks of one."""
        return _NEAR / self.high

    @property
    def wide(self) -> float:
        """Seconds by which the best line may be one of its own flanks."""
        flanks = [line.lag for line, n in zip(self.lines, self.nats, strict=True) if n * _DISTINCT > self.nats[0]]
        apart = [abs(lag - self.lines[0].lag) for lag in flanks]
        return max((a for a in apart if a <= self.near), default=0.0) / 2

    @property
    def distinct(self) -> float:
        return self.nats[0] / self.rival

    @property
    def probability(self) -> float:
        beyond = logistic((self.nats[0] - self.chance - _BEYOND) / _SOFT_BEYOND)
        told = logistic((self.witnesses - _WITNESSES) / _SOFT_WITNESSES)
        return beyond * told * logistic(math.log(max(self.distinct, 1e-9) / _DISTINCT) / _SOFT_DISTINCT) * _SUREST


def estimate_canonical(reference: Stream, moving: Stream, *, max_offset: float | None = None) -> ClockEstimate:
    """Offset and drift that put `moving` on the clock of `reference`, by whatever of their channels goes together.

    reference, moving: any two streams of numbers of one event: features, points, channels of amplifiers, sensors of
        unlike kinds, accelerations and poses; one channel or many, any rates, NaN. Some channels of one must be linear
        mixtures of those of the other, but for noise and at one moment: what one sensor delays is in the offset.
    max_offset: seconds, searched both ways; None searches every overlap.
    Raises StreamError for sound, pictures and text.
    """
    one, two = channels_of(reference, moving.kind), channels_of(moving, reference.kind)
    return compare_channels(
        one, two, max_offset=max_offset, inexact=inexact_of(one, two, (reference.kind, moving.kind))
    )


def inexact_of(one: Samples, two: Samples, kinds: tuple[Kind, Kind]) -> float:
    """Seconds to which poses tell when something was felt: what lies between them was filled in."""
    posed = [s.rate for s, kind in zip((one, two), kinds, strict=True) if kind in ("orientation", "pose") and s.rate]
    return _POSED / min(posed) if posed and "acceleration" in kinds else 0.0


def channels_of(stream: Stream, other: Kind) -> Samples:
    """What `compare_channels` takes of a stream against one of another kind: of poses and orientations, what an
    accelerometer would feel, or how they moved."""
    label = "motion" if stream.kind in _MOTION and other in _MOTION else "channels"
    felt = other == "acceleration" and stream.kind in ("pose", "orientation")
    made = channels(force_parts(stream) if felt else stream)
    values = np.asarray(made.values)
    if len(values) < _FEWEST or not values.size:
        return Samples(np.asarray(made.times), values, label)
    return Samples(*samples_of(made), label)


def compare_channels(
    reference: Samples, moving: Samples, *, max_offset: float | None = None, inexact: float = 0.0
) -> ClockEstimate:
    """Offset and drift that put the channels of `moving` on the clock of those of `reference`.

    max_offset: seconds, searched both ways; None searches every overlap. inexact: seconds (standard deviation) by which
    what one shows may be later than what the other does.
    """
    if max_offset is not None and not max_offset > 0:
        raise StreamError(f"max_offset is {max_offset!r} s; expected a positive number of seconds, or None")
    span = (0.0, float(moving.times[-1]) if len(moving.times) else 0.0)
    for role, samples in (("reference", reference), ("moving", moving)):
        if len(samples.times) < _FEWEST or not samples.values.shape[1]:
            held = f"{len(samples.times)} samples of {samples.values.shape[1]} channels that change"
            message = f"{role} holds {held}; expected {_FEWEST} of one at least"
            return ClockEstimate("degenerate", span=span, evidence=(moving.label,), message=message)
    # The shorter is laid along the longer: swapping the two then gives exactly the inverse.
    turned = (moving.duration, moving.rate, len(moving.times)) > (
        reference.duration, reference.rate, len(reference.times),
    )  # fmt: skip
    x, y = (moving, reference) if turned else (reference, moving)
    found = _answer(_search(x, y, max_offset))
    if found.cov is not None:
        found = replace(found, cov=found.cov + np.diag([inexact**2, 0.0]))
    return replace(swapped(found) if turned else found, span=span, evidence=(moving.label,))


def _search(x: Samples, y: Samples, max_offset: float | None) -> _Found | None:
    """The band that tells most."""
    shorter, longer = sorted((x.duration, y.duration))
    high = min(_BAND * min(x.rate, y.rate), _HIGHEST, _EFFORT / math.sqrt(shorter * (shorter + longer) / 2))
    found: list[_Found] = []
    for _ in range(_BANDS):
        if high * shorter < _LEAST_CYCLES:
            break
        band = _search_band(x, y, high, max_offset)
        if band is not None:
            found.append(band)
        high /= _NARROWER
    return max(found, key=lambda f: (f.probability, f.nats[0] - f.chance), default=None)


def _search_band(x: Samples, y: Samples, high: float, max_offset: float | None) -> _Found | None:
    low = max(high / _LOWEST, _PERIODS / min(x.duration, y.duration))
    flat = [flattened(track_of(s.times, s.values, 2.5 * high, high), low, high) for s in (x, y)]
    independent = 2 * high * min(t.held for t in flat)
    # Each pair of components is one more way to agree by chance.
    most = min(_COMPONENTS, int(math.sqrt(independent / _MOMENTS)))
    if most < 1:
        return None
    one, two = (_components(t, most) for t in flat)
    if one is None or two is None:
        return None
    ahead, tried = _lines(one, two, high, max_offset)
    back = replace(two, values=np.ascontiguousarray(two.values[:, ::-1]), valid=two.valid[::-1])
    behind, _ = _lines(one, back, high, None)
    if not ahead:
        return None
    chance = math.log(max(tried, 2) * _BANDS)
    return _Found(
        one, two, low, high, [line for line, _ in ahead], [nats for _, nats in ahead],
        max((nats for _, nats in behind), default=0.0), chance, witnesses(one, two, ahead[0][0], high),
    )  # fmt: skip


def flattened(track: Track, low: float, high: float) -> Track:
    """Every channel with all frequencies from `low` to `high` Hz alike, lines cut down to what is about them.

    What is periodic says little about when it happened, and would drown the rest.
    """
    values = np.concatenate([_flat(track, i, low, high) for i in range(len(track.values))])
    valid, margin = track.valid.copy(), int(_MARGIN / low * track.rate)
    valid[:margin] = valid[track.size - margin :] = False
    values = np.where(valid, values, 0.0)
    return replace(track, values=values / np.maximum(values.std(axis=1, keepdims=True), 1e-300), valid=valid)


def _flat(track: Track, channel: int, low: float, high: float) -> F64:
    alone = replace(track, values=track.values[channel : channel + 1])
    length = max(32, min(int(100 / high * track.rate), track.size // 4))
    frequencies, power = _welch(alone, length)
    level = octave_mean(frequencies, power[0], 0.5)
    lines = np.convolve(np.pad(power[0], 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    level = np.maximum(np.maximum(level, lines), 1e-10 * float(level.max()) + 1e-300)

    def amplitude(f: F64) -> F64:
        edges = 1 / (1 + (low / np.maximum(f, 1e-9)) ** 4) / (1 + (f / high) ** 8)
        return np.asarray(np.interp(f, frequencies, level) ** -0.5 * edges)

    return shaped(alone, amplitude).values


def _welch(track: Track, length: int) -> tuple[F64, F64]:
    """Frequencies `(bins,)` and mean power `(channels, bins)` of half overlapping windows."""
    taper = np.hanning(length)
    starts = windows_of(track.valid, length) or [0]
    total = np.zeros((len(track.values), length // 2 + 1))
    for start in starts:
        part = track.values[:, start : start + length]
        total += np.abs(fft.rfft(np.pad(part, ((0, 0), (0, length - part.shape[1]))) * taper)) ** 2
    return fft.rfftfreq(length, 1 / track.rate), total / len(starts)


def _components(track: Track, most: int) -> Track | None:
    """The first principal components `(k, n)`, each of power one where valid; None where nothing is left."""
    count = int(track.valid.sum())
    if not count:
        return None
    values, vectors = np.linalg.eigh(track.values @ track.values.T / count)
    keep = np.flatnonzero(values > max(_SMALLEST * float(values[-1]), 1e-12))[::-1][:most]
    if not keep.size:
        return None
    return replace(track, values=(vectors[:, keep] / np.sqrt(values[keep])).T @ track.values)


def _compressed(track: Track) -> Track:
    """Moments in which much happens count little more than others: more of them then bear witness."""
    power = (track.values**2).mean(axis=0)
    values = track.values / np.sqrt(1 + power)
    size = np.sqrt((values**2).sum(axis=1, keepdims=True) / max(int(track.valid.sum()), 1))
    return replace(track, values=values / np.maximum(size, 1e-300))


def _lines(x: Track, y: Track, high: float, max_offset: float | None) -> tuple[list[tuple[Line, float]], int]:
    """The best lines with their nats of surprise, best first; and how many lines were tried."""
    blocks, freedom = surprises(_compressed(x), _compressed(y), high)
    found = lines(x, y, blocks, 1 / high, _MAX_DRIFT if len(blocks.scores) > 1 else 0.0, max_offset, _LINES)
    scale = math.sqrt(len(blocks.scores))
    rated = [(line, nats_of(line.score * scale, freedom * _blocks_met(x, y, blocks, line))) for line in found]
    reach = _MAX_DRIFT * y.size / y.rate * high * 4 if len(blocks.scores) > 1 else 0.0
    far = (x.size + y.size) / x.rate
    tried = min(far, 2 * max_offset) if max_offset is not None else far
    return sorted(rated, key=lambda r: -r[1]), int(2 * high * tried * max(1.0, reach))


def _blocks_met(x: Track, y: Track, blocks: Blocks, line: Line) -> int:
    """How many blocks of y overlap x there."""
    times = y.start + blocks.cuts / y.rate + line.lag
    return max(1, sum(bool(b > x.start and a < x.start + x.size / x.rate) for a, b in pairwise(times)))


def nats_of(excess: float, freedom: int) -> float:
    """Nats by which a chi-square of `freedom` degrees surprises that is so much over its mean (Chernoff's bound)."""
    return 0.5 * (excess - freedom * math.log1p(excess / freedom)) if excess > 0 else 0.0


def surprises(x: Track, y: Track, high: float) -> tuple[Blocks, int]:
    """Sums over all pairs of channels of squared correlations, each over its variance by chance, less their number.

    x, y: channels of power one, of `high` Hz. Per block of y and lag, as `covariation.lines` takes them; and how many
    pairs there are. By chance they are those of chi-squares of so many degrees of freedom.
    """
    # Over half a block no drift moves by more than half a period of the highest frequency.
    count = max(1, round(y.size / y.rate * high * _MAX_DRIFT * 2))
    cuts = np.linspace(0, y.size, count + 1).astype(np.int64)
    n = fft.next_fast_len(x.size + int(np.diff(cuts).max()), real=True)
    bins, squares = fft.rfft(x.values, n), fft.rfft(x.values**2, n)
    there = fft.rfft(x.valid.astype(np.float64), n)
    memory = _memory(x, y)
    p, q = len(x.values), len(y.values)
    heights, powers = (x.values**2).mean(axis=0), (y.values**2).mean(axis=0)
    energy, energy_squared = fft.rfft(heights, n), fft.rfft(heights**2, n)
    scores = []
    for a, b in pairwise(cuts):
        size = int(b - a)

        def lagged(left: NDArray[np.complex128], right: NDArray[np.complex128], size: int = size) -> F64:
            product = fft.irfft(left * right, n)
            return np.concatenate([product[n - size + 1 :], product[: x.size]])

        def part(values: F64, a: int = a, b: int = b) -> NDArray[np.complex128]:
            return np.asarray(np.conj(fft.rfft(values[..., a:b], n)))

        overlap = lagged(there, part(y.valid.astype(np.float64)))
        usable = overlap >= _OVERLAP * x.rate / (2 * high)
        parts, parts_squared = part(y.values), part(y.values**2)
        total = np.zeros(len(overlap))
        for i in range(p):
            for j in range(q):
                spread = memory[i, j] * np.maximum(lagged(squares[i], parts_squared[j]), 1e-9 * x.size)
                total += lagged(bins[i], parts[j]) ** 2 / spread
        # No more than so many independent moments were seen, whatever the number of channels.
        most = lagged(energy, part(powers)) ** 2
        moments = most / np.maximum(lagged(energy_squared, part(powers**2)), 1e-9 * x.size) / memory.mean()
        score = np.zeros(len(overlap), np.float32)
        if usable.any():
            # Whatever is still wrong with the variances shows at most lags.
            usual = p * q * (1 - 2 / (9 * p * q)) ** 3
            wider = max(1.0, float(np.median(total[usable])) / usual)
            score[usable] = np.minimum(total[usable] / wider - p * q, moments[usable])
        scores.append(score)
    return Blocks(scores, cuts), p * q


def _memory(x: Track, y: Track) -> F64:
    """By how much the variance of a correlation grows because both channels remember, `(p, q)` (Bartlett 1935)."""
    length = max(32, min(_MEMORY, x.size // 2, y.size // 2))
    one, two = (_welch(t, length)[1][:, 1:] for t in (x, y))
    one, two = (power / np.maximum(power.mean(axis=1, keepdims=True), 1e-300) for power in (one, two))
    return np.asarray(np.maximum(one @ two.T / one.shape[1], 1.0))


def _answer(found: _Found | None) -> ClockEstimate:
    if found is None:
        return ClockEstimate("no_match", message="no two stretches overlap that are long enough to be compared")
    seen: dict[str, object] = {
        "nats": found.nats[0], "rival": found.rival, "chance": found.chance, "highest": found.high,
        "witnesses": found.witnesses,
    }  # fmt: skip
    settled = settle(found) if found.probability >= _ACCEPT else None
    if settled is None:
        if found.nats[0] > found.chance + _BEYOND and found.distinct < _DISTINCT:
            total = sum(found.nats)
            maps = [clock_of(line) for line in found.lines]
            listed = tuple(Candidate(m.offset, m.drift, n / total) for m, n in zip(maps, found.nats, strict=True))
            message = f"repeats itself: {len(listed)} places fit; limit max_offset"
            return ClockEstimate(
                "ambiguous", candidates=listed, confidence=listed[0].confidence, message=message, diagnostics=seen
            )
        message = "its channels share nothing, or too little, with those of the reference"
        if found.nats[0] > found.chance + _BEYOND and found.witnesses < _WITNESSES:
            message = (
                f"its channels go with those of the reference in {found.witnesses:.1f} moments, which chance may do"
            )
        return ClockEstimate("no_match", confidence=1 - found.probability, message=message, diagnostics=seen)
    return ClockEstimate(
        "aligned", clock_of(settled), cov_at_zero(settled.cov, settled.centre), found.probability,
        diagnostics={"middle": settled.centre, **seen, "explained": settled.explained},
    )  # fmt: skip


def settle(found: _Found) -> Coupling | None:
    """Lag, drift and covariance by the canonical pairs along the best line; None where they lead away from it."""
    line = found.lines[0]
    tracks = _canonical(found.x, found.y, line)
    # In units of time in which what goes together is as broad for all, as heartbeats and temperatures need it.
    scale, lag, drift, centre = found.high / _UNIT, line.lag, line.drift, line.centre
    best: Coupling | None = None
    x, y = tracks
    for turn in range(_TURNS):
        x, y = (replace(t, rate=t.rate / scale, start=t.start * scale) for t in tracks)
        told = x, y
        if best is not None:
            told = weighted(x, y, coherence(x, y, _scaled(best, scale), found.low / scale, found.high / scale))
        again = couple(*told, lag * scale, drift, centre * scale, False)
        if again is None:
            return None
        best = _scaled(again, 1 / scale)
        lag, drift, centre = best.lag, best.drift, best.centre
        if turn < _TURNS - 1:
            how = coherence(x, y, again, found.low / scale, found.high / scale)
            wide = effective_count(how.squared / (1 - how.squared)) * float(how.frequencies[1])
            scale *= min(1.0, max(wide, 0.1) / _UNIT)
    assert best is not None
    away = abs(lag - line.lag - drift * (centre - line.centre))
    if away > 1 / found.high + found.wide + _MAX_DRIFT * found.y.size / found.y.rate / 4:
        return None
    cov = _WIDER**2 * best.cov
    cov[0, 0] += (_unlike(x, y, _scaled(best, scale)) / scale) ** 2 + (_INEXACT / found.high) ** 2 + found.wide**2
    return replace(best, cov=cov)


def _scaled(found: Coupling, scale: float) -> Coupling:
    """The same in other units of time."""
    units = np.diag([scale, 1.0])
    return replace(found, lag=found.lag * scale, centre=found.centre * scale, cov=units @ found.cov @ units)


def _places(x: Track, y: Track, line: Line) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Samples of x at which those of y fall along a line, and whether both are there."""
    at = (y.times + line.lag + line.drift * (y.times - line.centre) - x.start) * x.rate
    place = np.clip(np.round(at).astype(np.int64), 0, x.size - 1)
    return place, y.valid & x.valid[place] & (np.abs(at - place) < 1)


def witnesses(x: Track, y: Track, line: Line, high: float) -> float:
    """How many moments of some periods bear witness to a line, all alike; one jolt that both had is one."""
    one, two = _canonical(_compressed(x), _compressed(y), line)
    place, both = _places(x, y, line)
    products = (one.values[:, place] * two.values).sum(axis=0) * both
    length = max(1, int(_MOMENT / high * y.rate))
    parts = products[: len(products) // length * length].reshape(-1, length).sum(axis=1)
    return effective_count(parts)


def _canonical(x: Track, y: Track, line: Line) -> tuple[Track, Track]:
    """The combinations of channels of each that go together most along a line (Hotelling 1936)."""
    place, both = _places(x, y, line)
    one, two = x.values[:, place[both]], y.values[:, both]
    # Channels are white over all of each stream, and by a ridge, here.
    count = max(int(both.sum()), 1)
    roots = []
    for part in (one, two):
        values, vectors = np.linalg.eigh(part @ part.T / count)
        roots.append((vectors / np.sqrt(np.maximum(values, 0.0) + 0.1)) @ vectors.T)
    u, shared, vt = np.linalg.svd(roots[0] @ (one @ two.T / count) @ roots[1])
    independent = count * float(1 / _memory(x, y).mean())
    chance = len(one) + len(two) + _TOLD
    keep = max(1, min(_PAIRS, int((independent * shared**2 > chance).sum())))
    return (
        replace(x, values=u[:, :keep].T @ roots[0] @ x.values),
        replace(y, values=vt[:keep] @ roots[1] @ y.values),
    )


def _unlike(x: Track, y: Track, found: Coupling) -> float:
    """Seconds that the lag may be off because one is no copy of the other: where their phase is not that of a delay.

    A rate of change leads by a quarter of a period at every frequency, which no lag undoes: what is left of the phase
    at frequency 0, once a lag is taken out, over the middle frequency.
    """
    from scipy.interpolate import CubicSpline

    at = found.on_reference(y.times)
    place = np.clip(((at - x.start) * x.rate).astype(np.int64), 0, x.size - 1)
    both = y.valid & x.valid[place] & (at > x.start) & (at < x.start + (x.size - 1) / x.rate)
    made = np.where(both, found.matrix @ CubicSpline(x.times, x.values.T)(at).T, 0.0)
    length = max(16, min(int(4.0 * y.rate), int(both.sum()) // 4))
    taper = np.hanning(length)
    starts = windows_of(both, length)
    if not starts:
        return 0.0
    cross, one, two = np.zeros(length // 2 + 1, np.complex128), 0.0, 0.0
    for start in starts:
        a, b = (fft.rfft(v[:, start : start + length] * taper) for v in (made, y.values))
        cross = cross + (np.conj(a) * b).sum(axis=0)
        one, two = one + (np.abs(a) ** 2).sum(axis=0), two + (np.abs(b) ** 2).sum(axis=0)
    frequencies = fft.rfftfreq(length, 1 / y.rate)
    independent = max(0.56 * len(starts) * len(y.values), 1.01)
    squared = np.abs(cross) ** 2 / np.maximum(one * two, 1e-300)
    squared = np.clip((squared - 1 / independent) / (1 - 1 / independent), 0.0, 0.999)
    # cross = c exp(i (phase + 2 pi f late)): the small turn that is left, by weighted least squares.
    weight = independent * 2 * squared / (1 - squared) * (frequencies > 0)
    if weight.sum() < 30:
        return 0.0
    middle = float((weight * frequencies).sum() / weight.sum())
    spread = float((weight * (frequencies - middle) ** 2).sum())
    angle = np.angle(cross)
    mean = float((weight * angle).sum() / weight.sum())
    slope = float((weight * (frequencies - middle) * angle).sum() / max(spread, 1e-300))
    left = mean - slope * middle
    sure = math.sqrt(1 / float(weight.sum()) + middle**2 / max(spread, 1e-300))
    return abs(left) / (2 * math.pi * middle) if abs(left) > _OF_NOTE * sure else 0.0
