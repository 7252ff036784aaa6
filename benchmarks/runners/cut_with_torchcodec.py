"""Frames and samples of spans by torchcodec: cut_with_torchcodec.py FILE SPANS.json OUT

SPANS.json: [[start, end], ...] in seconds of the file's own time stamps. OUT: a folder; K.npz for span K, with frames
(n, height, width, 3), times, sound (m,), sound_start, rate; times as torchcodec states them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from torchcodec.decoders import AudioDecoder, VideoDecoder

path, spans, out = sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")), Path(sys.argv[3])
picture, sound = VideoDecoder(path, dimension_order="NHWC"), AudioDecoder(path)
for k, (start, end) in enumerate(spans):
    seen = picture.get_frames_played_in_range(start, end)
    heard = sound.get_samples_played_in_range(start, end)
    np.savez(
        out / f"{k}.npz", frames=seen.data.numpy(), times=seen.pts_seconds.numpy(), sound=heard.data.numpy().mean(0),
        sound_start=heard.pts_seconds, rate=heard.sample_rate,
    )  # fmt: skip
