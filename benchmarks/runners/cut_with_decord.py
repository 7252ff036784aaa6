"""Frames and samples of spans by decord: cut_with_decord.py FILE SPANS.json OUT

As cut_with_torchcodec.py. Frames are chosen by the time stamps that decord states; its sound is only asked by number
of sample, and sample 0 is at 0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import decord
import numpy as np

path, spans, out = sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")), Path(sys.argv[3])
RATE = 48000
picture = decord.VideoReader(path, num_threads=1)
sound = decord.AudioReader(path, sample_rate=RATE, mono=True)
starts = picture.get_frame_timestamp(np.arange(len(picture)))[:, 0]
for k, (start, end) in enumerate(spans):
    chosen = np.flatnonzero((starts >= start) & (starts < end))
    frames = picture.get_batch(chosen).asnumpy() if len(chosen) else np.zeros((0, 8, 8, 3), np.uint8)
    first, last = (min(max(round(t * RATE), 0), sound.shape[1]) for t in (start, end))
    heard = sound[first:last].asnumpy()[0] if last > first else np.zeros(0)
    np.savez(
        out / f"{k}.npz", frames=frames, times=starts[chosen], sound=heard, sound_start=first / RATE, rate=RATE,
    )  # fmt: skip
