"""Where a sound lies on the clock of a picture: by flashes, by blows, or by who talks.

    flash    the light goes on everywhere, and something clicks
    blow     something that moved stops, and is heard
    bounce   something that moved turns round, and is heard
    talk     some region's brightness goes with the envelope of speech, as a mouth's does

Each kind of evidence is searched for over all lags (see `correspondence`), and placed finely by its own means. Sound
takes 2.9 ms for a metre and light none: what is found is when the sound was heard, not when it was made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avfuse.alignment import Candidate, ClockEstimate
from avfuse.clock import ClockMap
from avfuse.errors import StreamError
from avfuse.features.light import PictureFeatures, picture_features
from avfuse.features.loudness import SoundFeatures, sound_features
from avfuse.stream import Stream
from avfuse.temporal.calibration import PRIOR_DRIFT
from avfuse.temporal.contacts import time_contacts
from avfuse.temporal.correspondence import GRID_RATE, Correspondence, correspond, onto_grid, whitened
from avfuse.temporal.flashes import time_flashes

SHORTEST = 8.0  # seconds; below, chance goes with anything
_ACCEPT = 0.95
# Logit of a match: how far the peak must stand out from what chance and rivals make, and how fast doubt goes. Fitted
# to unrelated pairs, simulated and real (see docs/picture.md).
_MIDDLE, _SLOPE = 3.2, 2.0
_SUREST = 0.997  # recordings are not all like those that this was fitted to
_EVENTS = 4  # flashes or blows that must be seen and heard: fewer meet by chance
# Seconds by which mouths lead or follow their sound: four GRID talkers and one more lie within 60 ms, 0 in the mean.
_MOUTH_STD = 0.025
# Seconds that contact takes, in which it is heard first, and by which time stamps are off; share of a frame.
_CONTACT_STD, _FRAME_STD = 0.003, 0.1
_MOST_VAGUE = 0.02  # seconds; a contact that is told no better than this is none
# Seconds from the first row to the last that sensors take, typically: telephones 10-25, large cameras 0-15.
_READOUT, _READOUT_STD = 0.015, 0.008
_SPARSE = 1.2  # skewness of an envelope that is of blows and not of speech
_SUPPORT, _SPREAD = 4.0, 3.5  # of times that must take part: in standard deviations of their scatter, and their number
_COINCIDENCE = 4.0  # standard deviations by which more must be seen and heard together than at other lags
_LIT = 2.5  # brightness steps from frame to frame by which light comes or goes everywhere
_MOST_SCATTERED = 0.06  # seconds by which times may differ about the lag of a mouth
_MOST_DIFFERENT = 0.35  # seconds; kinds of evidence further apart than this contradict each other
_NEAR = 0.1  # seconds by which fine lags may lie outside those that were asked for
_STILL = 0.05  # brightness steps; a picture in which less changes from frame to frame shows nothing

Float = NDArray[np.float64]
Single = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Finding:
    """What one kind of evidence says. offset, std: seconds; drift: None where not estimated; events: seen and heard."""

    kind: str
    found: Correspondence
    confidence: float
    offset: float
    std: float
    events: int | None = None
    tests: tuple[float, ...] = ()
    drift: tuple[float, float, float] | None = None  # value, std, and the picture's time at which offset holds
    readout: float | None = None
    alike: bool = False  # whether something else happens with every sound that looks the same


def estimate_sound_picture(sound: Stream, picture: Stream, *, max_offset: float | None = None) -> ClockEstimate:
    """Offset that puts a picture on the clock of a sound: t_sound = offset + t_picture.

    sound, picture: streams of these kinds, of one recording or of two. max_offset: seconds, searched both ways; None
    searches every overlap. Raises StreamError for other kinds, ReadError for files that cannot be read.
    """
    return compare_sound_picture(sound_features(sound), picture_features(picture), max_offset=max_offset)


def compare_sound_picture(
    sound: SoundFeatures, picture: PictureFeatures, *, max_offset: float | None = None
) -> ClockEstimate:
    """The same from features, which are made once for each recording."""
    if max_offset is not None and not max_offset >= 0.0:
        raise StreamError(f"max_offset {max_offset!r} s; expected a number that is not negative, or None")
    nothing = _nothing_to_compare(sound, picture)
    if nothing is not None:
        return ClockEstimate("degenerate", message=nothing, evidence=("picture",))
    far = max_offset if max_offset is not None else math.inf
    findings = [f for f in _findings(sound, picture, -far, far) if f is not None and abs(f.offset) <= far + _NEAR]
    seen: dict[str, object] = {"findings": {f.kind: f for f in findings}}
    span = (picture.start, picture.end)
    best = _best(findings)
    if best is None or best.confidence < 0.5:
        return ClockEstimate(
            "no_match", confidence=1.0 - (best.confidence if best else 0.0), evidence=("picture",), diagnostics=seen,
            message="nothing that moves, flashes or talks in the picture goes with the sound",
        )  # fmt: skip
    others = [f for f in findings if f.confidence >= _ACCEPT and abs(f.offset - best.offset) > _MOST_DIFFERENT]
    if others or best.confidence < _ACCEPT:
        offered = [best, *others]
        candidates = [Candidate(f.offset, 0.0, f.confidence / len(offered)) for f in offered]
        candidates += [Candidate(r, 0.0, (1 - best.confidence) / 4) for r in best.found.rivals if not others]
        return ClockEstimate(
            "ambiguous", candidates=tuple(candidates), confidence=candidates[0].confidence, span=span,
            evidence=("picture",), diagnostics=seen, message=_doubt(best, others),
        )  # fmt: skip
    middle = (span[0] + span[1]) / 2
    if best.drift is not None:
        drift, drift_std, at = best.drift
    else:
        drift, drift_std, at = 0.0, PRIOR_DRIFT, middle
    seen |= {"decided": best.kind, "middle": at}
    away = np.array([1.0, -at])  # offset at time 0 from the lag at `at` and the drift
    cov = best.std**2 * np.diag([1.0, 0.0]) + drift_std**2 * np.array([[away[1] ** 2, away[1]], [away[1], 1.0]])
    return ClockEstimate(
        "aligned", ClockMap(best.offset - drift * at, drift), cov, best.confidence, span=span,
        drift_known=best.drift is not None, evidence=("picture",), diagnostics=seen, message=None,
    )  # fmt: skip


def _nothing_to_compare(sound: SoundFeatures, picture: PictureFeatures) -> str | None:
    """Why these cannot be compared at all, or None."""
    for what, length in (("sound", sound.duration), ("picture", picture.end - picture.start)):
        if length < SHORTEST:
            return f"the {what} lasts {length:.1f} s; at least {SHORTEST:g} s are needed"
    if sound.silent or float(np.ptp(sound.envelope)) < 0.5:
        return "the sound is silent or never changes: nothing in it can go with a picture"
    if float(np.percentile(picture.motion.astype(np.float32).max(axis=1), 90)) < _STILL:
        return "the picture is still: nothing in it can go with a sound"
    return None


def _doubt(best: Finding, others: list[Finding]) -> str:
    if others:
        return f"{' and '.join(f.kind for f in (best, *others))} contradict each other"
    if best.alike:
        return "with every sound something stops or starts more than once: which time belongs to the sound is not clear"
    return f"the {best.kind} that goes with the sound does not stand out from chance"


def _best(findings: list[Finding]) -> Finding | None:
    """The finest kind of evidence that is sure; else the surest."""
    sure = [f for f in findings if f.confidence >= _ACCEPT]
    if sure:
        return min(sure, key=lambda f: f.std)
    return max(findings, key=lambda f: f.confidence, default=None)


def _findings(sound: SoundFeatures, picture: PictureFeatures, low: float, high: float) -> list[Finding | None]:
    start = picture.start
    count = int((picture.end - start) * GRID_RATE)
    envelope, onsets = _on_sound_grid(sound)
    lead = sound.start - start
    brightness = onto_grid(picture.times, _brightness(picture), start, count)
    stopping, turning, rising = _stops(picture), _turns(picture), _steps(picture)
    stops = onto_grid(picture.times, np.sqrt(stopping), start, count)
    turns = onto_grid(picture.times, np.sqrt(turning), start, count)
    steps = onto_grid(picture.times, np.log1p(rising), start, count)

    def search(regions: Single, heard: Single, *, signed: bool) -> Correspondence | None:
        return correspond(regions, heard, lead=lead, low=low, high=high, signed=signed)

    return [
        _flash(sound, picture, rising, search(steps, onsets, signed=False)),
        _blow("blow", sound, picture, stopping, search(stops, onsets, signed=False)),
        _blow("bounce", sound, picture, turning, search(turns, onsets, signed=False)),
        _talk(brightness, envelope, lead, search(brightness, envelope, signed=True)),
    ]


def _on_sound_grid(sound: SoundFeatures) -> tuple[Single, Single]:
    """Envelope of speech, and strength of onsets, at GRID_RATE."""
    from scipy.ndimage import gaussian_filter1d

    at = sound.start + np.arange(int(sound.duration * GRID_RATE)) / GRID_RATE
    envelope = np.interp(at, sound.times, gaussian_filter1d(sound.envelope, 20.0))
    strength = np.zeros(sound.energy.shape[1])
    found = sound.onsets
    strength[np.clip(((found.times - sound.start) * 1000).astype(int), 0, len(strength) - 1)] = found.strengths
    onsets = np.interp(at, sound.times, gaussian_filter1d(strength, 25.0)) * 50.0
    return envelope.astype(np.float32), onsets.astype(np.float32)


def _brightness(picture: PictureFeatures) -> Single:
    """(n, cells) against the whole picture's: lights and automatic exposure are no mouths."""
    values = picture.brightness.astype(np.float32)
    values -= np.median(values, axis=1, keepdims=True)
    lit = _lit(picture)
    if lit.any() and not lit.all():
        # What a light does to the single cell says nothing of what is there.
        before = np.maximum.accumulate(np.where(lit, 0, np.arange(len(lit))))
        values = values[before]
    return np.asarray(values)


def _pooled(picture: PictureFeatures, values: NDArray[np.float16]) -> Single:
    """(n, pools): sums over neighbourhoods of 5, 9 and 15 cells, and over all; what moves seldom leaves those."""
    from scipy.ndimage import uniform_filter

    rows, columns = picture.grid
    cells = values.astype(np.float32).reshape(-1, rows, columns)
    found = [cells.mean(axis=(1, 2), keepdims=False)[:, None] * rows * columns]
    for size in _POOLS:
        sums = uniform_filter(cells, (0, size, size), mode="constant") * size**2
        found.append(sums[:, :: size // 4, :: size // 4].reshape(len(cells), -1))
    return np.concatenate(found, axis=1)


_POOLS = (15, 9, 5)  # cells


def _lit(picture: PictureFeatures) -> Bool:
    """(n,) where light comes or goes everywhere, or another scene begins, and a frame to either side."""
    cells = picture.brightness.astype(np.float32).reshape(-1, *picture.grid)
    bands = np.median(np.diff(cells, axis=0, prepend=cells[:1]), axis=2)
    at = (np.abs(np.median(bands, axis=1)) > _LIT) | (np.abs(bands).max(axis=1) > 3.0 * _LIT) | ~picture.valid
    at[1:] |= at[:-1].copy()
    at[:-1] |= at[1:].copy()
    return np.asarray(at)


def _turns(picture: PictureFeatures) -> Single:
    """(n, pools): how much velocity is lost or reversed at each frame."""
    turns = _pooled(picture, picture.impulse)
    turns[_lit(picture)] = 0.0
    return np.maximum(turns, 0.0)  # differences of sums of nothing may come out below it


def _stops(picture: PictureFeatures) -> Single:
    """(n, pools): how much less moves after each frame than before it.

    Where motion ends within an interval between frames, the interval still has that share of the motion, so this
    falls on the two frames around it by shares whose centre is the very time.
    """
    motion = picture.motion.astype(np.float32)
    motion -= np.median(motion, axis=1, keepdims=True)
    pooled = _pooled(picture, np.maximum(motion, 0.0).astype(np.float16))
    lost = np.zeros_like(pooled)
    lost[:-1] = np.maximum(pooled[:-1] - pooled[1:], 0.0)
    lost[_lit(picture)] = 0.0
    return lost


def _steps(picture: PictureFeatures) -> Single:
    """(n, columns): steps up of brightness from frame to frame, in medians that nothing small can move.

    Of the whole picture, its quarters, each row of cells, and the strongest of these rows: a flash that is shorter than
    the readout lights a band of rows only.
    """
    rows, columns = picture.grid
    cells = picture.brightness.astype(np.float32).reshape(-1, rows, columns)
    rise = np.diff(cells, axis=0, prepend=cells[:1])
    h, w = (rows + 1) // 2, (columns + 1) // 2
    parts = [rise, *(rise[:, i : i + h, j : j + w] for i in (0, rows - h) for j in (0, columns - w))]
    wide = np.stack([np.median(p.reshape(len(p), -1), axis=1) for p in parts], axis=1)
    bands = np.median(rise, axis=2)
    return np.asarray(np.maximum(np.concatenate([bands.max(axis=1, keepdims=True), wide, bands], axis=1), 0.0))


def _confidence(found: Correspondence, *doubts: float) -> float:
    """Probability of a match, from how far the peak stands out and whatever else must be above 0."""
    logit = _SLOPE * min(found.margin - _MIDDLE, *doubts, 20.0)
    return _SUREST / (1.0 + math.exp(-max(logit, -20.0)))


def _flash(
    sound: SoundFeatures, picture: PictureFeatures, rising: Single, found: Correspondence | None
) -> Finding | None:
    if found is None:
        return None
    confidence = _confidence(found)
    if confidence < 0.5:
        return Finding("flash", found, confidence, found.peak, 0.02, 0)
    rise = rising[:, int(np.argmax(found.weights))]
    times, heard, _ = _matched(sound, picture, rise, found.peak, 1.5 * picture.period + 0.02)
    fine = time_flashes(picture.times, picture.rows, heard, float(np.median(heard - times))) if len(heard) else None
    if fine is not None:
        # Once more from there: the first search may have begun in the wrong frame.
        again = time_flashes(picture.times, picture.rows, heard, fine.offset)
        if again is not None and again.explained.mean() > fine.explained.mean():
            fine = again
    events = 0 if fine is None else int(np.count_nonzero(fine.explained > 0.5))
    if fine is None or events < _EVENTS:
        return Finding("flash", found, min(confidence, 0.3), found.peak, 0.02, events)
    together = _coincidence(sound, picture, rise, fine.offset, 1.5 * picture.period + 0.02)
    confidence = _confidence(found, together - _COINCIDENCE)
    drift = fine.drift if fine.drift is not None and fine.drift[1] < PRIOR_DRIFT / 3 else None
    return Finding("flash", found, confidence, fine.offset, fine.std, events, (together,), drift, fine.readout)


def _blow(
    kind: str, sound: SoundFeatures, picture: PictureFeatures, strengths: Single, found: Correspondence | None
) -> Finding | None:
    if found is None:
        return None
    confidence = _confidence(found)
    if confidence < 0.5:
        return Finding(kind, found, confidence, found.peak, 0.04, 0)
    # The largest neighbourhood that tells it well: what passes through a small one leaves it before it hits.
    columns = np.flatnonzero(found.weights >= 0.6 * found.weights.max())
    strength = strengths[:, columns[0]].astype(np.float64)
    offset, events, drift = _centre(sound, picture, strength, found.peak)
    if events < _EVENTS:
        return Finding(kind, found, min(confidence, 0.3), offset, 0.04, events)
    together = _coincidence(sound, picture, strength, offset, 0.07)
    confidence = _confidence(found, together - _COINCIDENCE)
    if confidence < _ACCEPT:
        return Finding(kind, found, confidence, offset, 0.04, events, (together,))
    heard = _strong(sound)
    if drift is not None:
        heard = heard - drift[0] * (heard - offset - drift[2])
    contacts = time_contacts(picture, heard, offset, _lit(picture))
    if contacts is None or contacts.std > _MOST_VAGUE:
        return Finding(kind, found, min(confidence, 0.6), offset, 0.04, events, (together,))
    below = contacts.down - 0.5  # rows there are read after the time stamp
    offset = contacts.offset - below * _READOUT
    stds = (contacts.std, _CONTACT_STD, _FRAME_STD * picture.period, below * _READOUT_STD)
    if contacts.rivals:
        # What is lifted as abruptly as it fell stops twice; what is kicked starts, and stops later.
        found, confidence = replace(found, rivals=contacts.rivals), min(confidence, 0.6)
    std = math.sqrt(sum(s**2 for s in stds))
    alike = bool(contacts.rivals)
    return Finding(kind, found, confidence, offset, std, contacts.events, (together,), drift, alike=alike)


def _strong(sound: SoundFeatures) -> Float:
    """(k,) times of the onsets that count."""
    onsets = sound.onsets
    if not len(onsets.times):
        return onsets.times
    return onsets.times[onsets.strengths > 0.3 * np.percentile(onsets.strengths, 95)]


def _matched(
    sound: SoundFeatures, picture: PictureFeatures, strength: NDArray[np.floating], offset: float, reach: float
) -> tuple[Float, Float, Float]:
    """(times, heard, weights): for each strong onset, the centre of what was seen within `reach` of it."""
    values = np.maximum(strength - np.percentile(strength, 75), 0.0).astype(np.float64)
    level = np.percentile(values[values > 0], 95) if np.any(values > 0) else 0.0
    times, heard, weights = [], [], []
    for onset in _strong(sound):
        first, last = np.searchsorted(picture.times, [onset - offset - reach, onset - offset + reach])
        part = values[first:last]
        if len(part) and part.max() > 0.25 * level:
            times.append(float(part @ picture.times[first:last] / part.sum()))
            heard.append(float(onset))
            weights.append(min(float(part.max() / level), 1.0))
    return np.array(times), np.array(heard), np.array(weights)


def _coincidence(
    sound: SoundFeatures, picture: PictureFeatures, strength: NDArray[np.floating], offset: float, reach: float
) -> float:
    """How much more is seen at the onsets than at as many other lags, in standard deviations of that."""
    strong = _strong(sound) - offset
    values = np.maximum(strength - np.percentile(strength, 75), 0.0).astype(np.float64)
    values = np.minimum(values / max(float(np.percentile(values[values > 0], 95)), 1e-12), 1.0)
    # (n,) most that is seen within reach of each frame, so that an onset needs to be looked up only.
    from scipy.ndimage import maximum_filter1d

    nearest = maximum_filter1d(values, 2 * max(1, round(reach / picture.period)) + 1)
    shifts = np.concatenate([[0.0], *([-s, s] for s in 0.25 + 0.17 * np.arange(120))])
    at = strong[None, :] + shifts[:, None]
    inside = (at >= picture.start) & (at < picture.end)
    k = np.clip(np.searchsorted(picture.times, at), 0, len(nearest) - 1)
    seen = np.where(inside, nearest[k], 0.0).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
    enough = inside.sum(axis=1) >= max(2, 0.5 * inside[0].sum())
    others = seen[1:][enough[1:]]
    if len(others) < 10:
        return 0.0
    # Few onsets can hardly scatter: a floor as of one that meets or not.
    floor = 0.25 / max(int(inside[0].sum()), 1)
    return float((seen[0] - others.mean()) / math.hypot(float(others.std()), floor))


def _centre(
    sound: SoundFeatures, picture: PictureFeatures, strength: Float, offset: float
) -> tuple[float, int, tuple[float, float, float] | None]:
    """(offset, events, drift): of blows against what is seen of them, by a window that narrows around them."""
    period = picture.period
    times, apart, weights = np.zeros(0), np.zeros(0), np.zeros(0)
    for reach in (0.14, 0.11, 0.09, 0.08, 0.07, 0.07):
        times, heard, weights = _matched(sound, picture, strength, offset, max(reach, 1.6 * period))
        if not len(times):
            return offset, 0, None
        apart = heard - times
        middle = float(np.median(apart))
        weights = weights * np.minimum(1.0, period / np.maximum(np.abs(apart - middle), 1e-6))
        offset = float(weights @ apart / weights.sum())
    at = float(weights @ times / weights.sum())
    spread = float(weights @ (times - at) ** 2)
    if len(apart) < 3 or spread <= 0:
        return offset, len(apart), None
    slope = float(weights @ ((times - at) * (apart - offset)) / spread)
    slope_std = float(np.sqrt(weights**2 @ (apart - offset) ** 2)) / math.sqrt(spread * max(weights.sum(), 1e-9))
    return offset, len(apart), (slope, slope_std, at) if slope_std < PRIOR_DRIFT / 3 else None


def _talk(brightness: Single, envelope: Single, lead: float, found: Correspondence | None) -> Finding | None:
    if found is None:
        return None
    confidence = _confidence(found)
    if confidence < 0.5:
        return Finding("talk", found, confidence, found.peak, 0.04)
    offset, std, support, spread = _fine_talk(brightness, envelope, lead, found)
    confidence = _confidence(found, support - _SUPPORT, spread - _SPREAD)
    # What is hit goes with its sound all along, from the swing to the rebound: some time, but not which.
    centred = envelope - envelope.mean()
    sparse = float(np.mean(centred**3)) > _SPARSE * float(np.mean(centred**2)) ** 1.5
    if sparse or std > _MOST_SCATTERED:
        confidence = min(confidence, 0.3)
    return Finding("talk", found, confidence, offset, math.hypot(std, _MOUTH_STD), tests=(support, spread))


def _fine_talk(
    brightness: Single, envelope: Single, lead: float, found: Correspondence
) -> tuple[float, float, float, float]:
    """(lag, std, support, spread) of the regions that take part, between the steps of the grid.

    std: by leaving out a time at a time. support: mean over times of what they contribute, in its standard deviation.
    spread: how many times contribute, as if alike.
    """
    from scipy import fft

    finer, reach = 8, 60  # times GRID_RATE; steps of 5 ms to either side
    n, m = len(brightness), len(envelope)
    size = fft.next_fast_len(n + m, real=True)
    regions = np.flatnonzero(found.weights)
    # Each region in its own deviation, as it was searched for.
    mixed = (whitened(brightness[:, regions], size) @ found.weights[regions].astype(np.float32))[:, None]
    seen = fft.irfft(mixed[:, 0], size * finer)[: n * finer]
    heard = fft.irfft(whitened(envelope[:, None], size)[:, 0], size * finer)[: m * finer]
    shift = round((found.peak - lead) * GRID_RATE * finer)
    first, last = max(0, -shift + reach), min(len(seen), len(heard) - shift - reach)
    blocks = np.array_split(np.arange(first, last), int(np.clip((last - first) / (2.5 * GRID_RATE * finer), 4, 24)))
    shifts = np.arange(-reach, reach + 1)
    parts = np.array([[float(seen[b] @ heard[b + shift + s]) for s in shifts] for b in blocks])

    def peak(curve: Float) -> float:
        k = int(np.clip(np.argmax(curve), 1, len(curve) - 2))
        below, here, above = curve[k - 1 : k + 2]
        bend = below - 2 * here + above
        return float(shifts[k] + (0.5 * (below - above) / bend if bend < 0 else 0.0)) / (GRID_RATE * finer)

    total = parts.sum(axis=0)
    left = np.array([peak(total - part) for part in parts])
    std = math.sqrt((len(left) - 1) / len(left) * float(np.sum((left - left.mean()) ** 2)))
    each = parts[:, int(np.argmax(total))]
    support = float(each.mean() / (each.std(ddof=1) / math.sqrt(len(each)) + 1e-12))
    spread = float(np.sum(np.maximum(each, 0.0)) ** 2 / (np.sum(each**2) + 1e-12))
    return lead + shift / (GRID_RATE * finer) + peak(total), std, support, spread
