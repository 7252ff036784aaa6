"""Two sensors that moved together: offset, drift and rotation between them, solved as one.

tracks        even grids of both streams                                    (tracks.py)
covariation   lags at which their channels go together, whatever the axes   (covariation.py)
coupling      clock and rotation along the best of them                     (coupling.py)
decide        here
frames        a picture by what turns faster than its frames can follow     (frames.py)
shutter       the rows of a picture, and its clock by them                  (shutter.py)

What carries a match is information: how many nats one track holds about the other (Gelfand and Yaglom 1959), by their
coherence and by what is new in each, against what other lags reach. Where two sensors do not keep one rotation,
magnitudes are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEstimate, inverse_jacobian
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.features.flow import ImageMotion, image_motion
from avfuse.features.inertia import rotation_rate, velocity
from avfuse.stream import Stream
from avfuse.temporal.coupling import (
    Coherence,
    Coupling,
    clock_of,
    coherence,
    couple,
    cov_at_zero,
    innovations,
    misfit,
    weighted,
)
from avfuse.temporal.covariation import Line, block_scores, lines
from avfuse.temporal.frames import match_frames
from avfuse.temporal.shutter import estimate_shutter, seen_below_middle
from avfuse.temporal.tracks import Track, native_rate, repetition, samples_of, track_of, whitened

F64 = NDArray[np.float64]
Relation = Literal["rotation", "linear"]
TURNING = ("rotation_rate", "pose", "orientation")  # kinds that tell how a body turned

_BAND = 0.45  # of the slower stream's rate: what its samples can hold
_HIGHEST, _HIGHEST_LONG, _LONG = 60.0, 20.0, 900.0  # Hz looked at; where more than so many seconds overlap
_LOW = 0.2  # Hz; below, sensors drift
_COARSE = 8.0  # Hz of the search
_BLOCK, _MAX_DRIFT = 100.0, 400e-6
_LINES = 10
_SHORTEST = 4.0  # seconds
# A match is as strong as its nats of coherence (per channel) over the first of these plus its nats of innovations over
# the second. Unrelated walks, runs and hands reach 0.8, and then 1.2 times the next line; what moved together in one
# short turn reaches 1.2, and what is as periodic as running 7 times the next line.
_COHERENCE, _INNOVATIONS = 37.0, 7.4
# Times the next line, which counts as `_NOTHING` at least: so much where the coupling explains what is strong in both
# tracks, and so much where it leaves most of it, as of two people who walk alike. Their lines reach 3.2 and 0.5.
_DISTINCT, _DISTINCT_POOR, _NOTHING = 1.5, 5.0, 0.4
_BRIEF, _DISTINCT_BRIEF = 10.0, 8.0  # seconds of recordings that count as brief, and what it takes there
# Where less is common and it repeats itself, nothing tells one step from the next.
_FEW_STEPS, _REPEATS = 12.0, 0.58  # seconds; of `repetition`
_POOR, _RICH = 0.3, 0.85  # coherence weighted by power
_SOFT_STRENGTH, _SOFT_DISTINCT = 0.035, 0.05  # widths of both, as logarithms
_AXES_TOO = 0.5  # strength that axes must have where magnitudes made the match
_SIZES_ALONE = 3.3  # strength that magnitudes need by themselves; bodies apart reach 2.6
_ACCEPT = 0.98
# Two turns about one axis may take equally long by chance. Of unrelated recordings that hold no more than one or two,
# one in twelve is aligned; all of those had less than three such moments, and six seconds of steady motion have seven.
_FEW_MOMENTS, _ONE_TURN = 5.0, 0.92
# Of what a picture turned by from frame to frame: nats, nats beyond those of any other lag, and times those. 1,000
# unrelated pairs that reach the first two (people who walk, up to 300 nats and 37 apart) reach 1.3 times, or 2.0 times
# where they are brief and 1.5 where not.
_FRAMES_NATS, _FRAMES_APART, _FRAMES_RATIO, _FRAMES_RATIO_POOR = 40.0, 18.0, 1.5, 3.0
_COHERES, _BEYOND, _LEAST_EDGE = 0.3, 1.5, 3.0  # squared coherence, times its highest frequency, Hz
_WORSE = 1.02  # times the residual
_AXIS_KNOWN = math.radians(10.0)  # of the standard deviation about the least certain axis
_FRACTION = 0.1  # of the time between frames: the standard deviation that a read-out time may have to be told
_ROWS_EXPLAINED = 0.5  # of the power of what bands of rows did
_STILL = {"rotation_rate": 0.01, "acceleration": 0.03}  # rad/s, m/s^2 rms that resting sensors reach


@dataclass(frozen=True, eq=False)
class RotationEstimate:
    """v_reference = matrix @ v_moving.

    status: `aligned`; `degenerate` (the motion does not tell it, e.g. about one axis only); `no_match` (the two do not
        keep one rotation). matrix: `(3, 3)`, None unless aligned. cov: `(3, 3)` rad^2 of the rotation vector in the
        reference's frame. gain: how much larger the moving stream's values are.
    """

    status: Literal["aligned", "degenerate", "no_match"]
    matrix: F64 | None = None
    cov: F64 | None = None
    gain: float = 1.0
    message: str | None = None

    @property
    def inverse(self) -> RotationEstimate:
        if self.matrix is None or self.cov is None:
            return self
        return replace(
            self, matrix=self.matrix.T, cov=self.matrix.T @ self.cov @ self.matrix, gain=1 / max(self.gain, 1e-300)
        )


@dataclass(frozen=True, eq=False)
class MotionEstimate:
    """clock: of the moving stream on the reference's. rotation: None where streams are no vectors in space.

    readout: of a picture against a sensor, seconds from its first row to its last, which a frame's time lies in the
    middle of; negative where the last is read first; None where the motion does not tell it. readout_std: of it.
    """

    clock: ClockEstimate
    rotation: RotationEstimate | None = None
    readout: float | None = None
    readout_std: float | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """What was measured of one stream: times `(n,)` rising, values `(n, channels)`.

    still: root of the mean square under which it says nothing; 0 where that is not known.
    """

    times: F64
    values: F64
    label: str = "motion"
    still: float = 0.0

    @classmethod
    def of(cls, stream: Stream, label: str | None = None) -> Samples:
        return cls(*samples_of(stream), label or stream.kind, _STILL.get(stream.kind, 0.0))

    @property
    def rate(self) -> float:
        return native_rate(self.times)

    @property
    def duration(self) -> float:
        return float(self.times[-1] - self.times[0])

    @property
    def magnitude(self) -> Samples:
        return replace(self, values=np.linalg.norm(self.values, axis=1, keepdims=True))

    @property
    def moves(self) -> bool:
        return bool(self.values.std(axis=0).max() > max(self.still, 1e-12))


@dataclass(frozen=True, eq=False)
class Match:
    """What was found along one line: lag at `centre`, and how well the tracks agree there."""

    coupling: Coupling
    coherence: Coherence
    strength: float

    @property
    def map(self) -> ClockMap:
        return clock_of(self.coupling)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """matches: best first, no two alike. probability: that the best one is right.

    distinct: strength against that of the next line, over what it takes. apart: seconds by which lines differ.
    """

    matches: Sequence[Match] = field(default_factory=list)
    probability: float = 0.0
    distinct: float = math.inf
    apart: float = 0.0

    @property
    def strength(self) -> float:
        return self.matches[0].strength if self.matches else 0.0

    @property
    def alone(self) -> bool:
        """Whether no other line comes near."""
        return len(self.matches) < 2 or self.matches[0].strength > _DISTINCT_POOR * self.matches[1].strength

    def close(self, other: _Comparison) -> bool:
        """Whether both take the same line to be the best."""
        if not self.matches or not other.matches:
            return False
        at = self.matches[0].coupling.centre
        return abs(float(self.matches[0].map(at)) - float(other.matches[0].map(at))) < self.apart


def estimate_motion(reference: Stream, moving: Stream, *, max_offset: float | None = None) -> MotionEstimate:
    """Offset, drift and rotation that put `moving` on the clock and on the axes of `reference`.

    reference, moving: rotation rates, accelerations, orientations, poses or pictures, both of a kind that can be
        compared; any rates, uneven sampling, gaps. Their axes, gains and biases may differ, and are found. The time of
        a picture's frame is that of its middle row.
    max_offset: seconds, searched both ways; None searches every overlap of two seconds.
    Raises StreamError for kinds that cannot be compared and streams without samples.
    """
    one, two = (image_motion(s) if s.kind == "picture" else s for s in (reference, moving))
    found = compare_motions(one, two, max_offset)
    if found is None:
        raise StreamError(
            f"estimate_motion: {reference.kind} and {moving.kind} cannot be compared; expected two streams of rotation "
            "rate, acceleration, orientation or pose, or a picture with one that turns"
        )
    return found


def compare_motions(
    reference: Stream | ImageMotion, moving: Stream | ImageMotion, max_offset: float | None
) -> MotionEstimate | None:
    """`estimate_motion`, of pictures that have been looked at; None for kinds that cannot be compared."""
    pairs = comparable(*(m.rate if isinstance(m, ImageMotion) else m for m in (reference, moving)))
    if not pairs:
        return None
    found = surest(pairs, max_offset)
    if isinstance(moving, ImageMotion) and isinstance(reference, Stream):
        return _by_picture(found, moving, pairs[0][0], max_offset)
    if isinstance(reference, ImageMotion) and isinstance(moving, Stream):
        return _exchanged(_by_picture(_exchanged(found), reference, pairs[0][1], max_offset))
    if found.clock.clock is None:
        return found
    clock = found.clock
    for seen in (reference, moving):
        if isinstance(seen, ImageMotion):
            clock = _rows_unknown(clock, seen)
    return replace(found, clock=clock)


def _by_picture(found: MotionEstimate, seen: ImageMotion, sensor: Samples, max_offset: float | None) -> MotionEstimate:
    """A picture on the clock of a sensor, more exactly, and where slow motion did not tell, by all that turned."""
    if found.clock.clock is None:
        every = _by_frames(seen, sensor, max_offset)
        if every is None:
            return found
        clock = replace(every.clock, span=found.clock.span, evidence=found.clock.evidence)
        found = replace(every, clock=clock)
    return _by_rows(found, seen, sensor)


def _by_frames(seen: ImageMotion, sensor: Samples, max_offset: float | None) -> MotionEstimate | None:
    """By what turned from frame to frame, also faster than frames follow; None where that does not tell."""
    middle = np.asarray(seen.rate.times)
    duration = min(sensor.duration, float(middle[-1] - middle[0]))
    if duration < _SHORTEST:
        return None
    found = match_frames(seen, sensor.times, sensor.values, max_offset)
    if found is None:
        return None
    slow = min(_COARSE, _BAND * sensor.rate)
    again, _ = repetition(track_of(sensor.times, sensor.values, 5 * slow, slow))
    ratio = _FRAMES_RATIO if duration >= _BRIEF and again < _REPEATS else _FRAMES_RATIO_POOR
    distinct = min((found.nats - found.other) / _FRAMES_APART, found.nats / max(found.other, 1.0) / ratio)
    probability = _probability(found.nats / _FRAMES_NATS, distinct)
    return None if probability < _ACCEPT else _aligned(found.coupling, probability, "rotation", nats=found.nats)


def _by_rows(found: MotionEstimate, seen: ImageMotion, sensor: Samples) -> MotionEstimate:
    """The clock of a picture on that of a sensor, by what bands of its rows did where they tell how rows were read."""
    loose = _rows_unknown(found.clock, seen)
    assert isinstance(loose.clock, ClockMap)
    rows = estimate_shutter(seen, sensor.times, sensor.values, loose.clock)
    longest = float(np.median(seen.apart))
    if rows is None or not (rows.std < _FRACTION * longest and rows.explained > _ROWS_EXPLAINED):
        return replace(found, clock=loose)
    clock = clock_of(rows)
    apart = abs(float(clock(rows.centre) - loose.clock(rows.centre)))
    # One rotation for all rows is off by half of them at most.
    explained = abs(rows.readout) / 2 + 5 * float(loose.std_at(rows.centre))
    if abs(rows.readout) > longest + 2 * rows.std or apart > explained:
        return replace(found, clock=loose)
    said = {"middle": rows.centre, "readout": rows.readout, "readout_std": rows.std}
    cov = cov_at_zero(rows.cov, rows.centre)
    better = replace(loose, clock=clock, cov=cov, diagnostics={**loose.diagnostics, **said})
    return replace(found, clock=better, readout=rows.readout, readout_std=rows.std)


def _rows_unknown(clock: ClockEstimate, seen: ImageMotion) -> ClockEstimate:
    """Where most was seen low in the picture it was seen late, by a share of a read-out of anything up to a frame."""
    assert clock.cov is not None
    cov = clock.cov.copy()
    cov[0, 0] += (seen_below_middle(seen) * float(np.median(seen.apart))) ** 2 / 3
    return replace(clock, cov=cov)


def surest(pairs: Sequence[tuple[Samples, Samples]], max_offset: float | None) -> MotionEstimate:
    """What the best of several ways to see one motion tells."""
    found = [compare(a, b, "rotation", max_offset=max_offset) for a, b in pairs]
    return min(found, key=lambda m: (m.clock.status != "aligned", m.clock.std if m.clock.clock else 0.0))


def comparable_kinds(one: str, two: str) -> bool:
    """Whether sensors of these kinds are compared by how they moved."""
    return one == two == "acceleration" or (one in TURNING and two in TURNING)


def comparable(reference: Stream, moving: Stream) -> list[tuple[Samples, Samples]]:
    """What two streams of sensors say of the same motion; empty where their kinds have nothing in common."""
    if not comparable_kinds(reference.kind, moving.kind):
        return []
    if reference.kind == "acceleration":
        return [(Samples.of(reference), Samples.of(moving))]
    rates = [s if s.kind == "rotation_rate" else rotation_rate(s) for s in (reference, moving)]
    pairs = [(Samples.of(rates[0]), Samples.of(rates[1]))]
    if reference.kind == moving.kind == "pose":
        pairs.append((Samples.of(velocity(reference), "velocity"), Samples.of(velocity(moving), "velocity")))
    return pairs


def compare(
    reference: Samples, moving: Samples, relation: Relation, *, max_offset: float | None = None
) -> MotionEstimate:
    """`estimate_motion` of samples. relation: of their channels, a rotation of three with three, or any linear map."""
    if max_offset is not None and not max_offset > 0:
        raise StreamError(f"max_offset is {max_offset!r} s; expected a positive number of seconds, or None")
    span = (0.0, float(moving.times[-1]))
    for role, samples in (("reference", reference), ("moving", moving)):
        if samples.duration < _SHORTEST:
            reason = f"holds {samples.duration:.2f} s of {_said(samples)}; expected {_SHORTEST:g} s or more"
        elif not samples.moves:
            reason = f"holds no motion: its {_said(samples)} stays as it was"
        else:
            continue
        return MotionEstimate(ClockEstimate("degenerate", message=f"{role} {reason}", span=span))
    # The shorter is laid along the longer: swapping the two then gives exactly the inverse.
    turned = (moving.duration, moving.rate) > (reference.duration, reference.rate)
    x, y = (moving, reference) if turned else (reference, moving)
    found = _compare_ordered(x, y, relation, max_offset)
    if turned:
        found = _exchanged(found)
    return replace(found, clock=replace(found.clock, span=span, evidence=(moving.label,)))


def _said(samples: Samples) -> str:
    return samples.label.replace("_", " ")


def _compare_ordered(x: Samples, y: Samples, relation: Relation, max_offset: float | None) -> MotionEstimate:
    axes = _search(x, y, relation, max_offset)
    sure = axes.probability >= _ACCEPT and axes.alone and min(x.duration, y.duration) >= _BRIEF
    if relation != "rotation" or sure:
        return _answer(axes, x, y, relation)
    # Sensors that were taken off and put on again, or sit on limbs: their magnitudes may still agree.
    sizes = _search(x.magnitude, y.magnitude, "linear", max_offset)
    if sizes.probability >= _ACCEPT and not sizes.close(axes):
        axes = _search(x, y, relation, max_offset, sizes.matches[:1])
    if axes.probability >= _ACCEPT:
        if min(x.duration, y.duration) < _BRIEF:  # a few steps of one walk fit a few of another: both must say so
            contradicted = not (sizes.strength > 1 and sizes.close(axes))
        else:
            contradicted = sizes.probability > 0.5 and not sizes.close(axes)
        return _answer(replace(axes, probability=0.5, distinct=1.0) if contradicted else axes, x, y, relation)
    if sizes.probability >= _ACCEPT and axes.strength > _AXES_TOO and sizes.close(axes):
        return _answer(replace(axes, probability=sizes.probability, distinct=sizes.distinct), x, y, relation)
    # Steps fit steps; axes that keep one rotation better elsewhere know which.
    elsewhere = axes.strength > sizes.strength / 2 and not sizes.close(axes)
    if sizes.probability < _ACCEPT or sizes.strength < _SIZES_ALONE or elsewhere:
        return _answer(replace(axes, probability=min(axes.probability, 0.5)), x, y, relation)
    found = _answer(sizes, x.magnitude, y.magnitude, "linear")
    message = "the two do not keep one rotation: their magnitudes agree, their axes do not"
    return replace(found, rotation=RotationEstimate("no_match", message=message))


def _search(
    x: Samples, y: Samples, relation: Relation, max_offset: float | None, also: Sequence[Match] = ()
) -> _Comparison:
    """The lines along which two tracks agree, those of `also` tried too."""
    rotation = relation == "rotation"
    high = min(_BAND * min(x.rate, y.rate), _COARSE)
    grids = [track_of(s.times, s.values, 5 * high, high) for s in (x, y)]
    white = [whitened(g, _LOW, high, 1.0) for g in grids]
    half = [whitened(g, _LOW, high, 0.5) for g in grids]
    blocks = block_scores(white[0], white[1], rotation, _BLOCK)
    matches: list[Match] = []
    tried = lines(white[0], white[1], blocks, 1 / high, _MAX_DRIFT, max_offset, _LINES)
    tried += [Line(m.coupling.lag, m.coupling.drift, m.coupling.centre, 0.0) for m in also]
    for line in tried:
        coupling = couple(half[0], half[1], line.lag, line.drift, line.centre, rotation)
        if coupling is None:
            continue
        # What happens once, near an end, is told better without a filter; what goes on for long, with one.
        plain = couple(grids[0], grids[1], coupling.lag, coupling.drift, coupling.centre, rotation)
        tries = [_weighed(grids, c, high) for c in (coupling, plain) if c is not None]
        matches.append(max(tries, key=lambda m: m.strength))
    if not matches:
        return _Comparison()
    matches.sort(key=lambda m: -m.strength)
    # Lines that run into one another are one.
    apart: list[Match] = []
    for match in matches:
        at = match.coupling.centre
        if all(abs(float(match.map(at)) - float(m.map(at))) > 1 / high for m in apart):
            apart.append(match)
    best, other = apart[0].strength, apart[1].strength if len(apart) > 1 else 0.0
    rich = float(np.interp(apart[0].coherence.main, [_POOR, _RICH], [0.0, 1.0]))
    distinct = best / max(other, _NOTHING) / (_DISTINCT**rich * _DISTINCT_POOR ** (1 - rich))
    if min(x.duration, y.duration) < _BRIEF:
        # Many lags leave too little in common to be tried; nothing else may come near.
        distinct = min(distinct, best / max(other, _NOTHING / 2) / _DISTINCT_BRIEF)
    if _common(grids, apart[0]) < _FEW_STEPS:
        again, every = repetition(grids[1])
        if again > _REPEATS and (max_offset is None or max_offset > every / 2):
            distinct = min(distinct, 1.0)
    return _Comparison(apart, _probability(best, distinct), distinct, 1 / high)


def _common(grids: Sequence[Track], match: Match) -> float:
    """Seconds of both tracks that a match lays on each other."""
    x, y = (g.times for g in grids)
    return float(min(x[-1], match.map(y[-1])) - max(x[0], match.map(y[0])))


def _weighed(grids: Sequence[Track], coupling: Coupling, high: float) -> Match:
    x, y = grids
    how = coherence(x, y, coupling, _LOW, high)
    clock = clock_of(coupling)
    back = clock.inverse()
    # Of the two, the noisier one says more of the other.
    new = max(
        innovations(x, y, lambda t: np.asarray(clock(t)), coupling.matrix, high),
        innovations(y, x, lambda t: np.asarray(back(t)), np.asarray(np.linalg.pinv(coupling.matrix), np.float64), high),
    )
    channels = min(len(x.values), len(y.values))
    return Match(coupling, how, how.information / channels / _COHERENCE + new / _INNOVATIONS)


def _probability(strength: float, distinct: float) -> float:
    """That a match is right, both over what it takes."""
    return logistic(math.log(max(strength, 1e-9)) / _SOFT_STRENGTH) * logistic(
        math.log(max(distinct, 1e-9)) / _SOFT_DISTINCT
    )


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _answer(found: _Comparison, x: Samples, y: Samples, relation: Relation) -> MotionEstimate:
    if not found.matches:
        return MotionEstimate(ClockEstimate("no_match", message="no two stretches of motion of some seconds overlap"))
    best = found.matches[0]
    if found.probability < _ACCEPT:
        if found.strength > 1 and found.distinct < math.exp(4 * _SOFT_DISTINCT):
            total = sum(m.strength for m in found.matches)
            listed = tuple(Candidate(m.map.offset, m.map.drift, m.strength / total) for m in found.matches)
            message = f"repeats itself: {len(listed)} places fit; limit max_offset"
            return MotionEstimate(
                ClockEstimate("ambiguous", candidates=listed, confidence=listed[0].confidence, message=message)
            )
        much = "too little" if found.strength > _NOTHING else "nothing"
        message = f"its {_said(y)} shares {much} with that of the reference"
        return MotionEstimate(ClockEstimate("no_match", confidence=found.probability, message=message))
    settled = _settle(x, y, best, relation)
    return _aligned(settled.coupling, found.probability, relation, strength=found.strength)


def _aligned(c: Coupling, probability: float, relation: Relation, **told: float) -> MotionEstimate:
    rotation = _rotation_of(c) if relation == "rotation" else None
    one_turn = rotation is not None and rotation.matrix is None and c.moments < _FEW_MOMENTS
    clock = ClockEstimate(
        "aligned",
        clock_of(c),
        cov_at_zero(c.cov, c.centre),
        min(probability, _ONE_TURN) if one_turn else probability,
        diagnostics={"middle": c.centre, **told, "explained": c.explained, "moments": c.moments},
    )
    return MotionEstimate(clock, rotation)


def _settle(x: Samples, y: Samples, match: Match, relation: Relation) -> Match:
    """The match again, with all frequencies that both streams hold, each as far as they cohere."""
    longest = max(x.duration, y.duration)
    high = min(_BAND * min(x.rate, y.rate), _HIGHEST if longest <= _LONG else _HIGHEST_LONG)
    rate = max(4 * high, min(max(x.rate, y.rate), 5 * high))
    grids = [track_of(s.times, s.values, rate, high) for s in (x, y)]
    rotation = relation == "rotation"
    found, how = match.coupling, match.coherence
    for _ in range(2):
        how = coherence(grids[0], grids[1], found, _LOW, high)
        again = couple(*weighted(grids[0], grids[1], how), found.lag, found.drift, found.centre, rotation)
        if again is None:
            break
        found = again
    # Where all happens in a moment, above all at an end, filters smear it. The tracks as they are, up to where they
    # cohere, then fit clearly better elsewhere.
    shared = how.frequencies[how.squared > _COHERES]
    edge = min(high, max(_LEAST_EDGE, _BEYOND * float(shared.max()) if shared.size else 0.0))
    whole = [track_of(s.times, s.values, 5 * edge, edge) for s in (x, y)]
    line = match.coupling
    plain = couple(whole[0], whole[1], line.lag, line.drift, line.centre, rotation)
    if plain is not None and misfit(whole[0], whole[1], found, plain) > _WORSE * misfit(
        whole[0], whole[1], plain, plain
    ):
        found = plain
    return Match(found, how, match.strength)


def _rotation_of(found: Coupling) -> RotationEstimate:
    assert found.rotation_cov is not None
    turn = found.matrix / found.gain  # moving <- reference
    largest = float(np.sqrt(np.linalg.eigvalsh(found.rotation_cov)[-1]))
    if not largest < _AXIS_KNOWN:
        return RotationEstimate(
            "degenerate",
            message=f"the motion does not tell the rotation (about one axis it is good to {math.degrees(largest):.0f} "
            "degrees only): turn the sensors about a second axis",
        )
    return RotationEstimate("aligned", turn.T, turn.T @ found.rotation_cov @ turn, found.gain)


def _exchanged(found: MotionEstimate) -> MotionEstimate:
    """The same with the reference as the moving stream."""
    return replace(
        found, clock=swapped(found.clock), rotation=found.rotation.inverse if found.rotation is not None else None
    )


def swapped(found: ClockEstimate) -> ClockEstimate:
    """The same estimate with the reference as the moving stream."""
    candidates = tuple(Candidate(m.offset, m.drift, c.confidence) for c in found.candidates for m in [c.map.inverse()])
    if found.clock is None or found.cov is None:
        return replace(found, candidates=candidates)
    assert isinstance(found.clock, ClockMap)
    jacobian = inverse_jacobian(found.clock)
    middle = float(found.clock(found.diagnostics["middle"]))
    return replace(
        found,
        clock=found.clock.inverse(),
        cov=jacobian @ found.cov @ jacobian.T,
        diagnostics={**found.diagnostics, "middle": middle},
    )
