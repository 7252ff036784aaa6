"""Where sounds come from, as an array of microphones hears it.

    samples (channels, n) -> phases of frames -> order of the channels checked
                          -> plane waves, one after the other (`plane_waves`) -> directions with covariance

Every source found takes the moments and frequencies that it fills; the next one is looked for in what is left, and all
are then settled together. Directions are those from the middle of the array (the mean of its microphones).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avfuse.errors import StreamError, WeakAlignmentError
from avfuse.spatial.sound.array_order import OrderCheck, check_order
from avfuse.spatial.sound.plane_waves import (
    Wave,
    angles_covariance,
    climb,
    covariance_of_delays,
    diffuse_fit,
    direction_of_q,
    per_channel,
    q_of,
    scatter,
    separate,
    steering_vector,
    tangent,
)
from avfuse.spatial.sound.steering import (
    F32,
    F64,
    Geometry,
    Spectra,
    Steering,
    angles_of,
    checked_geometry,
    checked_samples,
    direction_of,
    frame_size,
    spectra_of,
    sphere,
)

SoundStatus = Literal["located", "permuted", "no_match", "degenerate"]

_LONGEST = 60.0  # seconds that are looked at: the loudest, where there are more
_PIECE = 0.5  # seconds that are taken or left together
_FEWEST_FRAMES = 4
_QUIET = 1e-7  # root mean square, full scale 1, under which there is no sound
_COPIED = 1e-4  # relative difference of channels that are one and the same
_LOUDEST = 2.0  # times its mean, the most that a cell's amplitude counts
_RINGING = 62.5  # dB/s by which a room falls silent at the slowest that is provided for: 1 s to -60 dB
_ABOVE = 3.0  # times what rings on: a cell that counts in full
_LEAST = 0.05  # what others count
_SPEED_ERROR = 0.006  # relative: 3.5 K

# Of 260 simulated recordings of one to three sources: 95 % ellipses then hold the truth in 92 to 97 %.
_SCATTER = 2.5  # by which the blocks of frames understate the error
_BLUNT = 8e-6  # seconds by which a microphone's delay errs where all of a source's cells are filled by echoes, too
_DELAY_ERROR = 2e-6  # seconds: of places of microphones (0.7 mm), of converters
_USUAL_BEND = 0.8  # 1/m, of sources whose distance the array cannot tell

# A source that comes raises the mean log likelihood of a cell. Noise that channels do not share never did so by 0.04.
_FIRST_GAIN = 0.05
_LATER_GAIN, _LATER_PART = 0.08, 0.04  # at least, and of that of all before it
_SPLIT, _SPLIT_PART = 80e-6, 0.15  # seconds within which two may be one that is split in two; it must bring this much
_LEAST_SHARE = 0.06  # of the strongest source's

# Of correct orders in the same simulations none stood this far behind another; swaps that matter stand 0.1 to 0.7.
_BEHIND, _BEHIND_SURE = 0.08, 5.0
_PERHAPS, _PERHAPS_SURE = 0.04, 4.0
_FITS = 0.5  # of what pairs have in common: less of it explained by one direction is no array of this geometry
_COHERENT = 0.12
_DEAF = 0.15
_TOO_LONG = 1.06  # times the delays that a geometry allows


@dataclass(frozen=True, eq=False)
class SoundSource:
    """One source of sound.

    azimuth, elevation: radians, counter-clockwise from +x, up from the xy plane, seen from the middle of the array.
    cov: `(2, 2)` of the two, rad^2. confidence: probability that a source is there, give or take five standard
    deviations. share: of what could tell a direction at all, that it fills alone. mirror: (azimuth, elevation) of the
    direction that an array in one plane cannot tell from this one; None for others. distance: metres, where the array
    is large enough to feel how the wavefront is bent, with the standard deviation of 1 / distance in `bend_std`.
    """

    azimuth: float
    elevation: float
    cov: F64
    confidence: float
    share: float
    mirror: tuple[float, float] | None = None
    distance: float | None = None
    bend_std: float | None = None

    @property
    def direction(self) -> F64:
        """Unit vector `(3,)` from the array to the source."""
        return direction_of(self.azimuth, self.elevation)

    @property
    def std(self) -> F64:
        """Of azimuth and elevation, radians."""
        return np.sqrt(np.diag(self.cov))

    def to_json(self) -> dict[str, Any]:
        return {
            "azimuth": self.azimuth,
            "elevation": self.elevation,
            "cov": self.cov.tolist(),
            "confidence": self.confidence,
            "share": self.share,
            "mirror": None if self.mirror is None else list(self.mirror),
            "distance": self.distance,
        }


@dataclass(frozen=True, eq=False)
class SoundSources(Sequence[SoundSource]):
    """The sources of a recording, strongest first, or why there are none.

    status: `located`; `permuted` (the channels are not in the order of the microphones: `order` says in which they
        would fit, channel of each microphone, from 0); `no_match` (there is sound, and no direction in it);
        `degenerate` (silence, copies of one channel, microphones on a line).
    message: what a person should know: the reason of a refusal, or what was taken for granted.
    """

    status: SoundStatus
    sources: tuple[SoundSource, ...] = ()
    message: str | None = None
    order: tuple[int, ...] | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in get_args(SoundStatus):
            expected = ", ".join(get_args(SoundStatus))
            raise StreamError(f"SoundSources: status {self.status!r}; expected one of {expected}")

    @overload
    def __getitem__(self, index: int) -> SoundSource: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SoundSource, ...]: ...

    def __getitem__(self, index: int | slice) -> SoundSource | tuple[SoundSource, ...]:
        if isinstance(index, int) and not self.sources:
            raise WeakAlignmentError(f"{self.status}: {self.message or 'no source was found'}")
        return self.sources[index]

    def __iter__(self) -> Iterator[SoundSource]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "message": self.message,
            "order": None if self.order is None else list(self.order),
            "sources": [one.to_json() for one in self.sources],
        }


@dataclass(frozen=True, eq=False)
class Listening:
    """What is heard of one recording: its array, its frames, and what each of their cells can tell."""

    geometry: Geometry
    spectra: Spectra
    weights: F32
    steering: Steering


def locate_sound(
    samples: ArrayLike,
    *,
    rate: float,
    microphones: ArrayLike,
    sources: int | None = None,
    most: int = 4,
    speed: float = 343.0,
    facing: ArrayLike = (0.0, 0.0, 1.0),
    check: bool = True,
) -> SoundSources:
    """Directions of the sources that an array of microphones hears, strongest first.

    samples: `(channels, n)`. rate: Hz. microphones: `(channels, 3)` metres, row k that of channel k. sources: how many
    there are; None finds out, up to `most`. speed: of sound, m/s (`sound_speed(temperature)`); what an unknown
    temperature adds is in the covariance. facing: `(3,)`, the side on which all sources are of an array whose
    microphones lie in one plane: it cannot tell a direction from its mirror image, and up is taken where nothing is
    said. check: whether the order of the channels is checked against the microphones.

    Of long recordings the loudest minute is looked at, and sources are taken to stand still; `track_sounds` follows
    them. Raises StreamError for arrays that do not fit each other.
    """
    x = checked_samples(samples, rate)
    geometry = checked_geometry(microphones, len(x), speed)
    side = np.asarray(facing, np.float64)
    if side.shape != (3,) or not np.isfinite(side).all() or not np.linalg.norm(side) > 0:
        raise StreamError(f"facing: {facing!r}; expected a direction of three numbers")
    if sources is not None and not 1 <= sources <= 16:
        raise StreamError(f"sources: {sources!r}; expected a number from 1 to 16, or None")
    reason = nothing_to_hear(x, geometry)
    if reason is not None:
        return SoundSources("degenerate", message=reason)
    size = frame_size(rate, geometry.aperture, speed)
    if x.shape[1] < (_FEWEST_FRAMES + 1) * size // 2:
        lasts = x.shape[1] / rate
        return SoundSources(
            "degenerate",
            message=f"lasts {lasts:.2f} s; at least {(_FEWEST_FRAMES + 1) * size / 2 / rate:.2f} are needed",
        )
    heard = listen(loudest(x, rate), geometry, rate)
    order = check_order(geometry, heard.spectra, heard.weights) if check else None
    refused = None if order is None else _order_refused(order, len(x))
    if refused is not None:
        return refused
    waves, gains = find_waves(heard, sources, most)
    return judged(heard, waves, gains, side, order)


def nothing_to_hear(x: NDArray[np.floating], geometry: Geometry) -> str | None:
    """Why nothing can be told of these samples, or None."""
    level = np.sqrt(np.mean(np.square(x - x.mean(axis=1, keepdims=True), dtype=np.float64), axis=1))
    if level.max() <= _QUIET:
        return "all channels are silent"
    dead = np.flatnonzero(level < 1e-4 * level.max())
    if len(dead):
        names = ", ".join(str(d + 1) for d in dead)
        return f"channel {names} is silent beside the others; leave it out of the recording and of the geometry"
    if geometry.rank == 1:
        return (
            "the microphones lie on a line, which tells the angle to that line alone; expected an array that is not one"
        )
    unit = (x - x.mean(axis=1, keepdims=True)) / level[:, None]
    for i in range(len(x)):
        for j in range(i):
            if float(np.sqrt(np.mean(np.square(unit[i] - unit[j], dtype=np.float64)))) < _COPIED:
                return f"channels {j + 1} and {i + 1} are copies of each other; expected one channel of each microphone"
    return None


def loudest(x: NDArray[np.floating], rate: float) -> NDArray[np.floating]:
    """The loudest minute of sound `(channels, n)`, in pieces of half a second, in their order; all of shorter ones."""
    piece = round(_PIECE * rate)
    count = x.shape[1] // piece
    if count * _PIECE <= _LONGEST:
        return x
    energy = np.array([float(np.mean(np.square(x[:, k * piece : (k + 1) * piece]))) for k in range(count)])
    kept = np.sort(np.argsort(-energy, kind="stable")[: round(_LONGEST / _PIECE)])
    return np.concatenate([x[:, k * piece : (k + 1) * piece] for k in kept], axis=1)


def listen(x: NDArray[np.floating], geometry: Geometry, rate: float) -> Listening:
    spectra = spectra_of(x, rate, frame_size(rate, geometry.aperture, geometry.speed))
    usual = spectra.power.mean(axis=0) + np.float32(1e-30)
    loud = np.minimum(np.sqrt(spectra.power / usual), _LOUDEST)
    loud *= _rising(spectra)
    # Where sound from everywhere looks like a wave from anywhere, there is nothing to learn.
    tells = 1 - diffuse_fit(geometry, spectra.frequencies)
    weights = (loud * (tells / tells.max())).astype(np.float32)
    shortest = geometry.speed / float(spectra.frequencies[-1])
    step = float(np.clip(0.35 * shortest / geometry.aperture, np.radians(1.5), np.radians(4.0)))
    facing = geometry.axes[2] if geometry.rank == 2 else None
    bends = (0.0, 1.0, 2.0) if geometry.feels_distance else (0.0,)
    return Listening(
        geometry, spectra, weights, Steering(geometry, sphere(step, facing=facing), rate, spectra.size, bends)
    )


def _rising(spectra: Spectra) -> F32:
    """`(frames, bins)` 1 where a cell is louder than what rings on of those before, less where it may be their echo:
    what arrives first came straight (the precedence effect; Litovsky et al., J. Acoust. Soc. Am. 106, 1999)."""
    left = float(10 ** (-_RINGING / 10 * spectra.hop / spectra.rate))
    ringing = np.zeros(spectra.power.shape[1], np.float32)
    least = np.float32(1e-6) * spectra.power.mean(axis=0) + np.float32(1e-30)
    out = np.empty_like(spectra.power)
    for k, power in enumerate(spectra.power):
        out[k] = power / (_ABOVE * np.maximum(ringing, least))
        ringing = np.maximum(np.float32(left) * ringing, power)
    return np.clip(out, np.float32(_LEAST), np.float32(1.0))


def find_waves(heard: Listening, sources: int | None, most: int) -> tuple[list[Wave], list[float]]:
    """Waves, strongest first, and by how much each one raised the mean log likelihood of a cell when it came."""
    geometry, spectra = heard.geometry, heard.spectra
    waves: list[Wave] = []
    left, last = heard.weights, 0.0
    gains: list[float] = []
    for _ in range(most if sources is None else sources):
        cross = spectra.cross(left)
        top = int(heard.steering.power(cross, spectra).argmax())
        start = q_of(
            geometry, heard.steering.direction(top), heard.steering.bends[top // len(heard.steering.directions)]
        )
        start = climb(geometry, start, cross, spectra.frequencies)
        found, rest, likelihood = separate(geometry, spectra, [*(w.q for w in waves), start], heard.weights)
        gain = likelihood - last
        if not waves and gain < _FIRST_GAIN:
            break
        if sources is None and waves and not _is_one_more(heard, found, gain, last):
            break
        gains.append(gain)
        waves, left, last = found, rest, likelihood
    order = np.argsort([-w.share for w in waves], kind="stable")
    return [waves[k] for k in order], [gains[k] for k in order]


def _is_one_more(heard: Listening, waves: list[Wave], gain: float, before: float) -> bool:
    """Whether the last of these waves is a source of its own."""
    geometry = heard.geometry
    new, strongest = waves[-1], max(w.share for w in waves)
    if gain < max(_LATER_GAIN, _LATER_PART * before) or min(w.share for w in waves) < _LEAST_SHARE * strongest:
        return False
    apart = min(float(np.linalg.norm((new.q - w.q)[: geometry.rank])) for w in waves[:-1])
    return not (apart * geometry.aperture / geometry.speed < _SPLIT and gain < _SPLIT_PART * before)


def judged(
    heard: Listening, waves: list[Wave], gains: list[float], side: F64, order: OrderCheck | None
) -> SoundSources:
    """What is said of the waves that were found."""
    geometry = heard.geometry
    told: dict[str, Any] = {"gains": gains}
    if order is not None:
        told |= {"fit": order.fit, "best_order": order.best, "best_fit": order.best_fit, "ties": order.ties}
    if not waves:
        return SoundSources(
            "no_match", message="there is sound, but none of it comes from one direction: noise of the microphones "
            "alone, sound from everywhere, or channels that are not of one array", diagnostics=told,
        )  # fmt: skip
    deaf = deaf_channels(heard, waves[0])
    alive = np.setdiff1d(np.arange(len(geometry.microphones)), deaf)
    named = ", ".join(str(k + 1) for k in deaf)
    if len(deaf) and (len(alive) < 3 or Geometry(geometry.microphones[alive], geometry.speed).rank < 2):
        return SoundSources(
            "no_match", message=f"channels {named} share nothing with the others, and those that are left tell no "
            "direction: are they of the same array, and on?", diagnostics=told,
        )  # fmt: skip
    length, length_std = length_of(heard, waves[0])
    told |= {"length": length, "length_std": length_std}
    if abs(length - 1) > max(5 * length_std, _TOO_LONG - 1) and (length > 1 or geometry.rank == 3):
        return SoundSources(
            "no_match", message=f"delays between microphones are {length:.2f} times as long as this geometry allows: "
            "check its positions and units, the order of the channels and the speed of sound", diagnostics=told,
        )  # fmt: skip
    doubtful = order is not None and order.best_fit - order.fit > _PERHAPS and order.doubt > _PERHAPS_SURE
    found = tuple(_source(heard, waves, k, gains[k], side, doubtful) for k in range(len(waves)))
    notes = []
    if len(deaf):
        notes.append(f"channel {named} shares nothing with the others: leave it out of the recording and the geometry")
    if doubtful and order is not None:
        notes.append(f"channels in the order {_spoken(order.best)} would fit a little better: is the geometry right?")
    if order is not None and order.ties and not doubtful:
        notes.append(
            f"this sound cannot tell whether the channels are in order: {_spoken(order.ties[0])} would fit as well; "
            "a source elsewhere could"
        )
    if geometry.rank == 2:
        if abs(float(geometry.axes[2] @ side)) < 1e-3 * float(np.linalg.norm(side)):
            notes.append("the microphones lie in one plane, and `facing` lies in it, too: the side is not known")
        else:
            notes.append(_plane_note(side))
    return SoundSources("located", found, "; ".join(notes) or None, diagnostics=told)


def _plane_note(side: F64) -> str:
    where = "above" if np.allclose(side / np.linalg.norm(side), (0, 0, 1)) else "on the side that `facing` names"
    return f"the microphones lie in one plane, which cannot tell a direction from its mirror image: {where} is assumed"


def _source(heard: Listening, waves: list[Wave], which: int, gain: float, side: F64, doubtful: bool) -> SoundSource:
    geometry, wave = heard.geometry, waves[which]
    q, cov = wave.q, wave_covariance(heard, waves, which)
    towards = direction_of_q(geometry, q)
    spread = angles_covariance(geometry, q, cov)
    mirror = None
    if geometry.rank == 2:
        other = geometry.mirrored(towards)
        if other @ side > towards @ side + 1e-9:
            towards, other = other, towards
            # The image has the same errors across, seen from the other side.
            spread = spread if abs(geometry.axes[2, 2]) > 1 - 1e-9 else _mirrored_covariance(geometry, q, cov)
        across, up = angles_of(other)
        mirror = (float(across), float(up))
    confidence = 0.99 - 0.09 * float(np.exp(-gain / 0.1)) if which == 0 else 0.95 - 0.15 * float(np.exp(-gain / 0.2))
    azimuth, elevation = angles_of(towards)
    distance = bend_std = None
    if geometry.feels_distance:
        bend_std = float(np.sqrt(cov[2, 2]))
        distance = float(1 / q[-1]) if q[-1] > 2 * bend_std else None
    return SoundSource(
        float(azimuth), float(elevation), spread, min(confidence, 0.5) if doubtful else confidence, wave.share,
        mirror, distance, bend_std if distance is not None else None,
    )  # fmt: skip


def wave_covariance(heard: Listening, waves: list[Wave], which: int) -> F64:
    """Of q along its ways: what blocks of frames disagree about, what echoes that always come along may add, and what
    is not known of the microphones, the speed of sound and the distance."""
    geometry, wave = heard.geometry, waves[which]
    by_frames, _ = scatter(geometry, heard.spectra, waves, which, heard.weights)
    blunt = wave.blunt_share / max(wave.share + wave.blunt_share, 1e-12)
    by_delays = covariance_of_delays(geometry, wave.q, (_BLUNT * blunt) ** 2 + _DELAY_ERROR**2)
    cov = _SCATTER**2 * by_frames + by_delays
    base = tangent(geometry, wave.q)
    if geometry.rank == 2:
        along = base.T @ (wave.q * _SPEED_ERROR)
        along[2:] = 0.0
        cov = cov + np.outer(along, along)
    if not geometry.feels_distance:
        ways = per_channel(geometry, wave.q) @ base
        late = geometry.lateness(direction_of_q(geometry, wave.q)[None])[0] * _USUAL_BEND
        moved = np.linalg.lstsq(ways - ways.mean(axis=0), late - late.mean(), rcond=None)[0]
        cov = cov + np.outer(moved, moved)
    return np.asarray(cov)


def _mirrored_covariance(geometry: Geometry, q: F64, cov: F64) -> F64:
    """`angles_covariance` of the image in the plane of the microphones: by the same points, each one's image."""
    return angles_covariance(geometry, q, cov, mirrored=True)


def deaf_channels(heard: Listening, wave: Wave) -> NDArray[np.int64]:
    """Channels of which no pair has a part worth the name of what the best pair has in common from there."""
    cross = heard.spectra.cross(heard.weights)
    steered = steering_vector(heard.geometry, wave.q, heard.spectra.frequencies)
    i, j = heard.geometry.pairs.T
    shared = (cross * steered[i].conj() * steered[j]).real.sum(axis=1)
    channels = np.arange(len(heard.geometry.microphones))
    best = np.array([shared[(i == m) | (j == m)].max() for m in channels])
    return np.asarray(channels[best < _DEAF * shared.max()])


def length_of(heard: Listening, wave: Wave) -> tuple[float, float]:
    """By how much longer than this geometry and speed allow the delays of a wave are, and its standard deviation."""
    geometry, spectra = heard.geometry, heard.spectra
    cross = spectra.cross(wave.weights)
    q = climb(geometry, wave.q, cross, spectra.frequencies, free=True)
    length = float(np.linalg.norm(q[: geometry.rank]))
    ways = per_channel(geometry, q)[:, : geometry.rank] @ (q[: geometry.rank] / max(length, 1e-9))
    ways = ways - ways.mean()
    blunt = wave.blunt_share / max(wave.share + wave.blunt_share, 1e-12)
    error = np.hypot(_BLUNT * blunt, _DELAY_ERROR) / max(float(np.linalg.norm(ways)), 1e-12)
    return length, float(np.hypot(error, _SPEED_ERROR))


def _order_refused(order: OrderCheck, channels: int) -> SoundSources | None:
    told = {"fit": order.fit, "best_order": order.best, "best_fit": order.best_fit, "doubt": order.doubt}
    if order.best_fit - order.fit > _BEHIND and order.doubt > _BEHIND_SURE and order.best_fit > _FITS:
        return SoundSources(
            "permuted", message="the channels are not in the order of the microphones: delays explain "
            f"{order.fit:.0%} of what they share, and {order.best_fit:.0%} were microphones 1 to {channels} channels "
            f"{_spoken(order.best)}", order=order.best, diagnostics=told,
        )  # fmt: skip
    if order.fit < _FITS and order.coherence > _COHERENT:
        return SoundSources(
            "no_match", message=f"delays between microphones fit no direction (they explain {order.fit:.0%} of what "
            "the channels share): check the positions, their units and the order of the channels", diagnostics=told,
        )  # fmt: skip
    return None


def _spoken(order: tuple[int, ...]) -> str:
    return ", ".join(str(k + 1) for k in order)
