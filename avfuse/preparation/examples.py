"""Samples to look at and to listen to: picture and sound of one in one film that a browser plays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from avfuse.preparation.reading import sample_at
from avfuse.preparation.store import Store

Row = dict[str, Any]


def write_example(store: Store, row: Row, place: int) -> Row:
    """What the statistics page needs: the sample's first picture and first sound below `examples/`.

    place: which sample of its shard it is.
    """
    files = sample_at(store, str(row["shard"]), place).files
    streams: Mapping[str, Row] = row["streams"]
    picture = next((name for name, s in streams.items() if s["codec"] in ("h264", "mpeg4")), None)
    sound = next((name for name, s in streams.items() if s["codec"] == "flac" or s["codec"].startswith("pcm")), None)
    found: Row = {"key": row["key"], "video": None, "audio": None, "row": row}
    if picture is not None:
        start = float(streams[picture]["start"])
        heard = files[sound] if sound is not None else None
        found["video"] = f"examples/{row['key']}.mp4"
        store.write(found["video"], film_of(files[picture], start, heard))
    elif sound is not None:
        found["audio"] = f"examples/{row['key']}.{streams[sound]['file'].rpartition('.')[2]}"
        store.write(found["audio"], files[sound])
    return found


def film_of(picture: bytes, start: float, sound: bytes | None) -> bytes:
    """The packets of both in one MP4 file, the picture `start` seconds after the sound; as AAC, which browsers play."""
    import av

    out = io.BytesIO()
    film: Any = av.open(io.BytesIO(picture))
    with film, av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        source = film.streams.video[0]
        track: Any = container.add_stream_from_template(source)
        track.codec_context.codec_tag = source.codec_context.codec_tag
        heard: Any = None
        if sound is not None:
            from avfuse.preparation.encoding import decode_sound

            values, rate = decode_sound(sound)
            heard = container.add_stream("aac", rate=rate)
            heard.codec_context.layout = {1: "mono", 2: "stereo"}.get(values.shape[1], "mono")
            heard.codec_context.thread_count = 1
            if values.shape[1] > 2:
                values = values.mean(axis=1, keepdims=True)
            container.start_encoding()
            frame = av.AudioFrame.from_ndarray(values.T.copy(), "fltp", heard.codec_context.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in [*heard.encode(frame), *heard.encode(None)]:
                container.mux(packet)
        first: int | None = None
        for packet in film.demux(source):
            if packet.pts is None:
                continue
            first = packet.pts if first is None else first
            shift = round(start / packet.time_base) - first
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = track
            container.mux(packet)
    return out.getvalue()
