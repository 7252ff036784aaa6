"""Pairs of files with known truth: real ones read in place, simulated ones written for the occasion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import numpy as np

import avfuse
from avfuse.clock import ClockMap
from avfuse.simulation import UNRELATED, simulate_pair, unrelated_pair, write_media
from avfuse.stream import Recording, Stream

RATE = 48000.0
SNRS = (20.0, 0.0, -6.0)
ROOMS = (None, "near", "mid")
OVERLAPS = (10.0, 30.0)
DRIFTS = (0.0, 80.0)
KINDS = ("speech", "music", "impacts")

# Real pairs: reference, moving, offset in seconds, and to what it is known (shared/data/README.md).
_REAL = (
    ("timbl_1.mp3", "timbl_2.mp3", 12.2540, 0.2e-3),
    ("echo_loudspeaker.wav", "echo_microphone.wav", -0.0354, 1e-3),
    ("clicks/latency_ref_2.wav", "clicks/latency_act_2.wav", 0.105, 1e-3),
    ("clicks/latency_ref_3.wav", "clicks/latency_act_3.wav", 0.100, 1e-3),
)
ARRAY_KNOWN = 0.6e-3  # seconds; sound crosses the array in less


@dataclass(frozen=True)
class Case:
    """truth: clock of `moving` on that of `reference`; None where nothing is shared.

    known: seconds to which the truth itself is known. span: what both recorded, in moving time.
    group: "real", "simulated" or "unrelated". setting: what was simulated.
    """

    name: str
    group: str
    reference: Path
    moving: Path
    truth: ClockMap | None
    span: tuple[float, float] = (0.0, 0.0)
    known: float = 0.0
    setting: dict[str, str] = field(default_factory=dict)

    @property
    def middle(self) -> float:
        return sum(self.span) / 2

    def error(self, clock: ClockMap, at: float) -> float:
        """|error| in seconds of an answer at a moving time."""
        assert self.truth is not None
        return float(abs(clock(at) - self.truth(at)))

    def worst(self, clock: ClockMap) -> float:
        """Largest |error| within what both recorded; lines are farthest apart at an end."""
        return max(self.error(clock, t) for t in self.span)


def real_cases(shared: Path, *, quick: bool) -> list[Case]:
    """Pairs of real recordings; nothing where the folder is absent. quick: 3 of the array's 28 pairs."""
    sound = shared / "sound"
    if not sound.is_dir():
        return []
    found = [_real(sound / a, sound / b, offset, known) for a, b, offset, known in _REAL]
    array = list(combinations(sorted((sound / "ami_array").glob("*.wav")), 2))
    found += [_real(a, b, 0.0, ARRAY_KNOWN) for a, b in (array[::11] if quick else array)]
    found.append(
        Case("noecho", "unrelated", sound / "noecho_loudspeaker.wav", sound / "noecho_microphone.wav", None,
             setting={"kind": "real: noecho"})
    )  # fmt: skip
    return found


def _real(reference: Path, moving: Path, offset: float, known: float) -> Case:
    truth = ClockMap(offset)
    durations = [avfuse.read(path).duration for path in (reference, moving)]
    span = (max(0.0, -offset), min(durations[1], durations[0] - offset))
    return Case(f"{reference.stem} / {moving.stem}", "real", reference, moving, truth, span, known)


def simulated_cases(folder: Path, *, repeats: int, seed: int, quick: bool) -> list[Case]:
    """SNR x room x overlap x drift, written to `folder` as 48 kHz WAV; files that are there are not made again.

    quick: only 0 dB with 30 s and no drift, and 20 dB with 10 s and drift.
    """
    settings = list(product(SNRS, ROOMS, OVERLAPS, DRIFTS))
    if quick:
        settings = [s for s in settings if (s[0], *s[2:]) in {(0.0, 30.0, 0.0), (20.0, 10.0, 80.0)}]
    found = []
    for number, (snr, room, overlap, drift) in enumerate(settings):
        for repeat in range(repeats):
            kind = KINDS[(number + repeat) % len(KINDS)]
            name = f"{kind}-{room or 'free'}-{snr:+g}dB-{overlap:g}s-{drift:g}ppm-seed{seed}-{repeat}"
            files = folder / f"{name}-reference.wav", folder / f"{name}-moving.wav"
            rng = np.random.default_rng(
                [seed, round(snr) + 100, ROOMS.index(room), round(overlap), round(drift), repeat]
            )
            pair = simulate_pair(
                kind, overlap=overlap, snr_db=snr, room=room, drift_ppm=drift, rate=RATE, rng=rng
            )  # fmt: skip
            _write(files, (pair.reference, pair.moving))
            first = max(0.0, -pair.truth.offset)
            setting = {"SNR": f"{snr:+g} dB", "room": room or "free field", "overlap": f"{overlap:g} s",
                       "drift": f"{drift:g} ppm", "kind": kind}  # fmt: skip
            found.append(Case(name, "simulated", *files, pair.truth, (first, first + overlap), setting=setting))
    return found


def unrelated_cases(folder: Path, *, repeats: int, seed: int) -> list[Case]:
    """Pairs that share nothing, of every kind there is; some are hard to tell from pairs that do."""
    found = []
    for kind, repeat in product(UNRELATED, range(repeats)):
        name = f"unrelated-{kind}-seed{seed}-{repeat}"
        files = folder / f"{name}-reference.wav", folder / f"{name}-moving.wav"
        rng = np.random.default_rng([seed, UNRELATED.index(kind), repeat])
        _write(files, unrelated_pair(kind, duration=20.0, rate=RATE, rng=rng))
        found.append(Case(name, "unrelated", *files, None, setting={"kind": kind}))
    return found


def _write(files: tuple[Path, Path], streams: tuple[Stream, Stream]) -> None:
    files[0].parent.mkdir(parents=True, exist_ok=True)
    for path, stream in zip(files, streams, strict=True):
        if not path.exists():
            # A device close to the source would clip; its gain is not what is measured here.
            values = np.asarray(stream.values)
            loud = Stream.from_samples(values * (0.9 / max(float(np.abs(values).max()), 0.9)), rate=RATE)
            write_media(path, Recording(path.stem, (loud,)))


def by(cases: list[Case], key: str) -> Iterator[tuple[str, list[int]]]:
    """(value, indices of the cases with it) for every value of a setting, in order of appearance."""
    for value in dict.fromkeys(c.setting[key] for c in cases if key in c.setting):
        yield value, [k for k, c in enumerate(cases) if c.setting.get(key) == value]
