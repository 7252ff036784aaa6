"""Makes data/event: `python data/make.py` (from the project's root; a few seconds)."""

from __future__ import annotations

import json
from pathlib import Path

from avfuse import ClockMap, simulate
from avfuse.simulation import Device, Room, SoundSource

FOLDER = Path(__file__).parent / "event"
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
    for made in (event, stranger):
        made.write(FOLDER, suffixes={name: ".flac" for name in made.devices})
    clocks = {name: event.truth_between("left", name) for name in event.devices}
    truth = {"reference": "left", "clocks": {n: {"offset": c.offset, "drift": c.drift} for n, c in clocks.items()}}
    (FOLDER / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
