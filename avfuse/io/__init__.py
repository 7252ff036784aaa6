"""Files in, recordings out: the only place that knows formats.

read, inspect  by format, in reading.py and inspection.py
media          through FFmpeg
sensors        tables, arrays, XDF, bags, cameras' telemetry
decoding       sources that decode a stream when iterated
placing        time stamps and counted samples: when each sample was heard
frames         decoded frames as arrays
timeline       alignments as timelines of editing programs
"""

from avfuse.io.inspection import FileInfo, StreamInfo, inspect
from avfuse.io.reading import read

__all__ = ["FileInfo", "StreamInfo", "inspect", "read"]
