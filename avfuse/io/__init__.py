"""Files in, recordings out: the only place that knows formats.

read, inspect  media through FFmpeg: media.py, inspection.py
decoding       sources that decode a stream when iterated
placing        time stamps and counted samples: when each sample was heard
frames         decoded frames as arrays
"""

from avfuse.io.media import read

__all__ = ["read"]
