import numpy as np

import avfuse


def align_by_envelope(files):
    """Offsets against the first file from the loudness of every 10 ms, by one correlation each."""
    loudness = []
    for file in files:
        sound = np.concatenate([block.mean(axis=0) for _, block in avfuse.read(file)["sound"].blocks(10.0, 8000.0)])
        frames = np.sqrt((sound[: len(sound) // 80 * 80].reshape(-1, 80) ** 2).mean(axis=1))
        loudness.append(frames - frames.mean())
    lags = [np.argmax(np.correlate(loudness[0], other, mode="full")) - (len(other) - 1) for other in loudness]
    return avfuse.Alignment.from_maps({f: avfuse.ClockMap(0.01 * n) for f, n in zip(files, lags, strict=True)})
