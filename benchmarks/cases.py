"""Pairs of files with known truth, as entries of a cases file: real ones read in place, simulated ones written once."""

from __future__ import annotations

import os
from itertools import combinations, product
from pathlib import Path

import numpy as np

import avfuse
from avfuse.clock import ClockMap
from avfuse.simulation import UNRELATED, simulate_pair, unrelated_pair
from avfuse.simulation.cases import write_case
from avfuse.stream import Stream
from benchmarks.measuring import Entry

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
ARRAY = "ami_array"


def truth_of(reference: Path, moving: Path, clock: ClockMap | None, known: float = 0.0) -> dict[str, object]:
    """The truth about two files as an alignment document. clock: None where they share nothing.

    known: seconds to which it is known, 1 sigma; 0 is exactly. The drift of what is not exact is not known.
    """
    durations = [avfuse.read(path).duration for path in (reference, moving)]
    clocks: dict[str, object] = {
        "reference": {"status": "reference", "source": os.path.abspath(reference), "duration": durations[0]},
        "moving": {"status": "no_match", "source": os.path.abspath(moving), "duration": durations[1],
                   "message": "shares nothing with the reference"},
    }  # fmt: skip
    if clock is not None:
        segment = {"start": 0.0, "end": durations[1], "offset": clock.offset, "drift": clock.drift, "std": known,
                   "drift_std": None if known else 0.0}  # fmt: skip
        source = {"source": os.path.abspath(moving), "duration": durations[1]}
        clocks["moving"] = {"status": "aligned", "segments": [segment], **source}
    return {"format": "avfuse.alignment/1", "reference": "reference", "clocks": clocks}


def real_cases(shared: Path, *, quick: bool) -> list[Entry]:
    """Pairs of real recordings; nothing where the folder is absent. quick: one of the array's 28 pairs."""
    sound = shared / "sound"
    if not sound.is_dir():
        return []
    found = [_real(sound / a, sound / b, ClockMap(offset), known) for a, b, offset, known in _REAL]
    array = list(combinations(sorted((sound / "ami_array").glob("*.wav")), 2))
    for a, b in array[:1] if quick else array:
        found.append(_real(a, b, ClockMap(0.0), ARRAY_KNOWN) | {"settings": {"source": ARRAY}})
    noecho = [sound / f"noecho_{name}.wav" for name in ("loudspeaker", "microphone")]
    found.append(_real(noecho[0], noecho[1], None, 0.0) | {"group": "unrelated", "settings": {"kind": "real: noecho"}})
    return found


def _real(reference: Path, moving: Path, clock: ClockMap | None, known: float) -> dict[str, object]:
    truth = truth_of(reference, moving, clock, known)
    return {"name": f"{reference.stem} / {moving.stem}", "group": "real", "truth": truth}


def simulated_cases(folder: Path, *, repeats: int, seed: int, quick: bool) -> list[Entry]:
    """SNR x room x overlap x drift, written to `folder` as 48 kHz WAV; cases that are there are not made again.

    quick: only 0 dB with 30 s and no drift, and 20 dB with 10 s and drift.
    """
    settings = list(product(SNRS, ROOMS, OVERLAPS, DRIFTS))
    if quick:
        settings = [s for s in settings if (s[0], *s[2:]) in {(0.0, 30.0, 0.0), (20.0, 10.0, 80.0)}]
    found: list[Entry] = []
    for number, (snr, room, overlap, drift) in enumerate(settings):
        for repeat in range(repeats):
            kind = KINDS[(number + repeat) % len(KINDS)]
            name = f"{kind}-{room or 'free'}-{snr:+g}dB-{overlap:g}s-{drift:g}ppm-seed{seed}-{repeat}"
            if not (folder / name / "alignment.json").exists():
                rng = np.random.default_rng(
                    [seed, round(snr) + 100, ROOMS.index(room), round(overlap), round(drift), repeat]
                )
                pair = simulate_pair(
                    kind, overlap=overlap, snr_db=snr, room=room, drift_ppm=drift, rate=RATE, rng=rng
                )  # fmt: skip
                _write(folder / name, (pair.reference, pair.moving), pair.truth)
            setting = {"room": room or "free field", "SNR": f"{snr:+g} dB", "overlap": f"{overlap:g} s",
                       "drift": f"{drift:g} ppm", "kind": kind}  # fmt: skip
            truth = str(folder / name / "alignment.json")
            found.append({"name": name, "group": "simulated", "settings": setting, "truth": truth})
    return found


def unrelated_cases(folder: Path, *, repeats: int, seed: int, quick: bool) -> list[Entry]:
    """Pairs that share nothing, of every kind there is; some are hard to tell from pairs that do.

    quick: every fourth kind.
    """
    found: list[Entry] = []
    for kind, repeat in product(UNRELATED[::4] if quick else UNRELATED, range(repeats)):
        name = f"unrelated-{kind}-seed{seed}-{repeat}"
        if not (folder / name / "alignment.json").exists():
            rng = np.random.default_rng([seed, UNRELATED.index(kind), repeat])
            _write(folder / name, unrelated_pair(kind, duration=20.0, rate=RATE, rng=rng), None)
        truth = str(folder / name / "alignment.json")
        found.append({"name": name, "group": "unrelated", "settings": {"kind": kind}, "truth": truth})
    return found


def _write(folder: Path, streams: tuple[Stream, Stream], truth: ClockMap | None) -> None:
    # A device close to the source would clip; its gain is not what is measured here.
    loud = [
        Stream.from_samples(values * (0.9 / max(float(np.abs(values).max()), 0.9)), rate=RATE)
        for values in (np.asarray(stream.values) for stream in streams)
    ]
    write_case(folder, loud, truth, bits=16)
