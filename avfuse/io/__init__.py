"""Files in, recordings out: the only place that knows formats.

read, inspect  media through FFmpeg, in media.py and inspection.py
decoding       sources that decode a stream when iterated
placing        time stamps and counted samples: when each sample was heard
frames         decoded frames as arrays
timeline       alignments as timelines of editing programs
"""

from avfuse.io.inspection import FileInfo, StreamInfo, inspect
from avfuse.io.media import read

__all__ = ["FileInfo", "StreamInfo", "inspect", "read"]
