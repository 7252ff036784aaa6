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
from avfuse.spatial.array_order import OrderCheck, check_order
from avfuse.spatial.plane_waves import (
    Wave,
    angles_covariance,
    climb,
    covariance_of_delays,
    diffuse_fit,
    direction_of_q,
    misfit,
    q_of,
    scatter,
    separate,
    slope,
    tangent,
)
from avfuse.spatial.steering import (
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
_PLACE_ERROR = 3e-4  # metres by which a microphone is off its stated place
_DELAY_ERROR = 1e-6  # seconds, of converters and rounding


@dataclass(frozen=True, eq=False)
class SoundSource:
    """One source of sound.

    azimuth, elevation: radians, counter-clockwise from +x, up from the xy plane, seen from the middle of the array.
    cov: `(2, 2)` of the two, rad^2. confidence: probability that a source is there, give or take five standard
    deviations. share: of what could tell a direction at all, that it fills alone. mirror: (azimuth, elevation) of the
    direction that an array in one plane cannot tell from this one; None for others. distance: metres, where the array is
    large enough to feel how the wavefront is bent, with its standard deviation of 1 / distance in `bend_std`; else None.
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

    status: `located`; `permuted` (the channels are not in the order of the microphones: `order` says in which they would
        fit, channel of each microphone, from 0); `no_match` (there is sound, and no direction in it); `degenerate`
        (silence, copies of one channel, microphones on a line).
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
            "degenerate", message=f"lasts {lasts:.2f} s; at least {(_FEWEST_FRAMES + 1) * size / 2 / rate:.2f} are needed"
        )
    heard = listen(loudest(x, rate), geometry, rate)
    order = check_order(geometry, heard.spectra, heard.weights) if check else None
    refused = None if order is None else _order_refused(order, geometry)
    if refused is not None:
        return refused
    waves, left, gains = find_waves(heard, sources, most)
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
        return "the microphones lie on a line, which tells the angle to that line alone; expected an array that is not one"
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
    return Listening(geometry, spectra, weights, Steering(geometry, sphere(step, facing=facing), rate, spectra.size, bends))


def _rising(spectra: Spectra) -> F32:
    """`(frames, bins)` 1 where a cell is louder than what rings on of those before, less where it may be their echo:
    what arrives first came straight (the precedence effect; Litovsky et al., J. Acoust. Soc. Am. 106, 1999)."""
    left = float(10 ** (-_RINGING / 10 * spectra.hop / spectra.rate))
    ringing = np.zeros(spectra.power.shape[1], np.float32)
    out = np.empty_like(spectra.power)
    for k, power in enumerate(spectra.power):
        out[k] = power / (_ABOVE * ringing + np.float32(1e-30))
        ringing = np.maximum(np.float32(left) * ringing, power)
    return np.clip(out, np.float32(_LEAST), np.float32(1.0))


def find_waves(heard: Listening, sources: int | None, most: int) -> tuple[list[Wave], F32, list[float]]:
    """Waves, the cells that are left, and by how much each one raised the likelihood of a cell when it came."""
    geometry, spectra = heard.geometry, heard.spectra
    waves: list[Wave] = []
    left, last = heard.weights, 0.0
    gains: list[float] = []
    for _ in range(most if sources is None else sources):
        cross = spectra.cross(left)
        top = int(heard.steering.power(cross, spectra).argmax())
        start = q_of(geometry, heard.steering.direction(top), heard.steering.bends[top // len(heard.steering.directions)])
        start = climb(geometry, start, cross, spectra.frequencies)
        found, rest, likelihood = separate(geometry, spectra, [*(w.q for w in waves), start], heard.weights)
        if sources is None and waves and not _is_one_more(heard, found, likelihood - last):
            break
        gains.append(likelihood - last)
        waves, left, last = found, rest, likelihood
    order = np.argsort([-w.share for w in waves], kind="stable")
    return [waves[k] for k in order], left, [gains[k] for k in order]


def _is_one_more(heard: Listening, waves: list[Wave], gain: float) -> bool:
    return True


def judged(
    heard: Listening, waves: list[Wave], gains: list[float], side: F64, order: OrderCheck | None
) -> SoundSources:
    geometry, spectra = heard.geometry, heard.spectra
    found = []
    for k, wave in enumerate(waves):
        by_frames, count = scatter(geometry, spectra, waves, k, heard.weights)
        variance, freedom = misfit(geometry, spectra, wave)
        found.append((wave, by_frames, count, variance, freedom))
    return SoundSources("located", diagnostics={"found": found, "gains": gains, "heard": heard, "order": order})


def _order_refused(order: OrderCheck, geometry: Geometry) -> SoundSources | None:
    return None
