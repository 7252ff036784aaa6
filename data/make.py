"""Makes data/event and data/cases.json: `python data/make.py` (from the project's root; a few seconds)."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

from avfuse import ClockMap, simulate
from avfuse.evaluation import write_cases
from avfuse.simulation import UNRELATED, Device, Room, SoundSource
from avfuse.simulation.cases import write_event_case

FOLDER = Path(__file__).parent / "event"
CASES = Path(__file__).parent / "cases.json"
RATE = 16000.0
STAGE = (3.2, 2.7, 1.4)
TALK = [SoundSource("speech", STAGE)]


def main() -> None:
    """Three devices around a talker, 1.2 m from the talker, and one that was somewhere else at the time."""
    devices = [
        Device("left", ClockMap(0.0, 0.0), 12.0, RATE, (2.0, 2.7, 1.4), snr_db=25.0, ceiling=1.0),
        Device("right", ClockMap(1.75, 35e-6), 10.0, RATE, (4.4, 2.7, 1.4), polarity=-1, snr_db=15.0, ceiling=1.0),
        Device("front", ClockMap(3.1, -60e-6), 8.0, RATE, (3.2, 1.5, 1.4), snr_db=20.0, agc=True, ceiling=1.0),
    ]
    room = Room.with_rt60((8.0, 6.0, 3.0), 0.25, scatter=0.08)
    event = simulate(duration=12.5, devices=devices, sources=TALK, room=room, rng=7)
    stranger = simulate(
        duration=6.0, devices=[Device("stranger", ClockMap(), 6.0, RATE, (2.0, 2.7, 1.4))], sources=TALK, rng=8
    )
    write_event_case(event, FOLDER, strangers=stranger.recordings, suffix=".flac")
    os.replace(FOLDER / "alignment.json", FOLDER / "truth.json")
    write_cases(CASES, [{"name": "event", "truth": "event/truth.json", "group": "event"}, *recipes()])


def recipes() -> list[dict[str, object]]:
    """Pairs that are made when they are asked for: 18 share something, 12 do not, 2 have several answers."""
    found: list[dict[str, object]] = []
    for number, (room, snr, kind) in enumerate(product((None, "near", "mid"), (20, 0), ("speech", "music", "impacts"))):
        recipe = {"pair": "related", "kind": kind, "overlap": 20.0, "snr_db": snr, "room": room,
                  "drift_ppm": (0, 60, -90)[number % 3], "seed": [2026, number]}  # fmt: skip
        settings = {"room": room or "free field", "SNR": f"{snr:+d} dB", "kind": kind}
        name = f"{kind}, {room or 'free field'}, {snr:+d} dB"
        found.append({"name": name, "group": "simulated", "settings": settings, "simulate": recipe})
    for number, kind in enumerate(UNRELATED):
        recipe = {"pair": "unrelated", "kind": kind, "duration": 15.0, "seed": [2027, number]}
        found.append(
            {"name": f"unrelated {kind}", "group": "unrelated", "settings": {"kind": kind}, "simulate": recipe}
        )
    for number in range(2):
        recipe = {"pair": "jingle", "plays": [3, 2], "seed": [2028, number]}
        found.append(
            {"name": f"jingle {number}", "group": "jingle", "settings": {"kind": "jingle"}, "simulate": recipe}
        )
    return found


if __name__ == "__main__":
    main()
