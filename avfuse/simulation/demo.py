"""The event of the demo: a talker, a bouncing ball, flashes with beeps; two cameras and a recorder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avfuse.clock import ClockMap
from avfuse.simulation.devices import Device
from avfuse.simulation.events import SimulatedEvent, SoundSource, simulate
from avfuse.simulation.pictures import Camera, Scene
from avfuse.simulation.rooms import Room
from avfuse.simulation.sounds import ambience, beeps, impacts, speech

RATE = 48000.0


def demo_event(rng: np.random.Generator | int, *, duration: float = 40.0) -> SimulatedEvent:
    """Three recordings of `duration` seconds (at least 20) of an event, each with a start and a drift of its own.

    `cam-a`: 25 fps, stereo. `cam-b`: 30 fps from the other side, inverted, noisy and with automatic gain.
    `recorder`: 48 kHz. All sounds but the murmur come from one vertical line, and the microphones stand 1.4 m
    around it at one height, so that sound takes equally long to each of them and the clocks alone are the truth.
    Drifts are 10-60 ppm. The ball hits the floor at
    `event.scene.impacts`; light and beep go on at `event.scene.flashes`.
    """
    rng = np.random.default_rng(rng)
    # Spawned, so that the places do not depend on how many numbers a sound draws.
    for_scene, for_clocks, for_sounds, for_event = rng.spawn(4)
    gaps = for_scene.uniform(0.5, 1.6, int(2.0 * duration))
    hits = 1.0 + np.cumsum(gaps)
    hits = hits[hits < duration - 1.0]
    flashes = np.array([0.15, 0.5, 0.85]) * duration
    # A hit within a beep would be hard to hear, and to see.
    hits = hits[np.min(np.abs(hits[:, None] - flashes), axis=1) > 0.3]
    scene = Scene(hits, flashes)
    room = Room.with_rt60((8.0, 6.0, 3.0), 0.35, scatter=0.08)
    speaking, bouncing, murmur = for_sounds.spawn(3)
    sources = [
        SoundSource(speech(duration, RATE, speaking), (3.2, 2.7, 1.5)),
        SoundSource(impacts(duration, RATE, bouncing, times=hits), (3.2, 2.7, 0.15), gain=0.8),
        SoundSource(beeps(duration, RATE, times=flashes), (3.2, 2.7, 1.0), gain=0.5),
        SoundSource(ambience(duration, RATE, murmur), (7.2, 5.4, 2.6), gain=0.1),
    ]
    drifts = for_clocks.uniform(10e-6, 60e-6, 3) * for_clocks.choice([-1.0, 1.0], 3)
    starts = np.array([0.0, 0.11, 0.05]) * duration + for_clocks.uniform(0.2, 1.0, 3)
    lengths = np.array([0.9, 0.8, 0.88]) * duration + for_clocks.uniform(-0.5, 0.5, 3)
    clocks = [ClockMap(float(s), float(d)) for s, d in zip(starts, drifts, strict=True)]
    ears = ((-0.08, 0.0, 0.0), (0.08, 0.0, 0.0))
    cam_a = Device(
        "cam-a", clocks[0], float(lengths[0]), RATE, (3.2, 1.3023, 1.5), ears, gain=0.6, snr_db=30.0, ceiling=1.0
    )
    cam_b = Device("cam-b", clocks[1], float(lengths[1]), RATE, (3.592, 4.044, 1.5), gain=0.8, polarity=-1, snr_db=12.0)
    recorder = Device(
        "recorder", clocks[2], float(lengths[2]), RATE, (1.856, 2.308, 1.5), gain=0.5, snr_db=45.0, ceiling=1.0
    )
    return simulate(
        duration=duration,
        devices=[
            replace(cam_a, camera=Camera(640, 360, 25.0)),
            replace(
                cam_b,
                band=(120.0, 12000.0),
                agc=True,
                noise_slope_db=2.0,
                hum_db=-25.0,
                ceiling=0.9,
                camera=Camera(640, 360, 30.0, zoom=0.85, shift=(0.03, 0.0), mirrored=True),
            ),
            recorder,
        ],
        sources=sources,
        room=room,
        scene=scene,
        rng=for_event,
    )
