"""The yardstick for preparing: films decoded, and encoded again, by plain PyAV. reencode.py MODE PROCESSES OUT FILE...

MODE: "decode" (nothing is kept), or "encode" (H.264 and FLAC, with the settings of avfuse's recipe). One thread each.
PROCESSES: that share the files. OUT: a folder.
"""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av

TICK = Fraction(1, 90000)


def decode(path):
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(container.streams.video[0], container.streams.audio[0]):
            pass


def encode(path, out):
    stem = Path(out) / Path(path).stem
    with (
        av.open(path) as container,
        av.open(f"{stem}.mp4", "w") as pictures,
        av.open(f"{stem}.flac", "w") as sounds,
    ):
        seen, heard = container.streams.video[0], container.streams.audio[0]
        seen.codec_context.thread_count = 1
        picture = pictures.add_stream("libx264", rate=seen.average_rate)
        picture.width, picture.height, picture.pix_fmt = seen.width, seen.height, "yuv420p"
        picture.codec_context.time_base, picture.codec_context.thread_count = TICK, 1
        picture.options = {"preset": "veryfast", "crf": "20", "threads": "1", "bf": "0", "mbtree": "0"}
        sound = sounds.add_stream("flac", rate=heard.rate)
        sound.layout = heard.layout.name
        sound.format = "s16"
        for frame in container.decode(seen, heard):
            if isinstance(frame, av.VideoFrame):
                frame.pts, frame.time_base, frame.pict_type = round(frame.pts * frame.time_base / TICK), TICK, 0
                pictures.mux(picture.encode(frame))
            else:
                sounds.mux(sound.encode(frame))
        pictures.mux(picture.encode(None))
        sounds.mux(sound.encode(None))


if __name__ == "__main__":
    mode, processes, out, *files = sys.argv[1:]
    if int(processes) > 1:
        shares = [files[k :: int(processes)] for k in range(int(processes))]
        running = [subprocess.Popen([sys.executable, __file__, mode, "1", out, *share]) for share in shares]
        sys.exit(max(process.wait() for process in running))
    for file in files:
        if mode == "decode":
            decode(file)
        else:
            encode(file, out)
