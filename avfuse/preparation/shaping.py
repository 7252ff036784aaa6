"""Frames as they are stored: upright, of one size, 8 bits, 4:2:0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.io.frames import UPRIGHT
from avfuse.preparation.recipe import PictureForm

# Numbers of ITU-T H.273 for how brightness and colour are made of red, green and blue: what FFmpeg's scaler calls them.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_RGB, _SMPTE170M = 0, 6


class Shaper:
    """Makes frames of one track what the form asks for, by FFmpeg's filters.

    Where it asks for no size, all have that of the first one. What brightness and colour are of (BT.601, BT.709, ...)
    stays as it is, and is told by the frame's `colorspace`.
    """

    def __init__(self, form: PictureForm) -> None:
        self.form = form
        self._size = form.size
        self._made: dict[tuple[Any, ...], Any] = {}

    def __call__(self, frame: Any) -> Any:
        """The frame in yuv420p, limited range. One that is so already is returned as it is."""
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        turns = round(frame.rotation / 90) * 90
        height, width = (frame.width, frame.height) if turns % 180 else (frame.height, frame.width)
        even = max(2, height // 2 * 2), max(2, width // 2 * 2)
        self._size = self._size or even
        plain = frame.format.name == "yuv420p" and not full and not turns
        if plain and (frame.height, frame.width) == self._size:
            return frame
        colours = frame.colorspace if frame.colorspace != _RGB else _SMPTE170M
        key = (frame.width, frame.height, frame.format.name, turns, full, colours)
        graph = self._made.get(key)
        if graph is None:
            self._made.clear()  # of another size, before
            whole = self.form.size is None and even == self._size
            graph = self._made[key] = self._graph(frame, turns, full, colours, self._size, whole)
        graph.push(frame)
        made = graph.pull()
        made.colorspace = colours
        return made

    def _graph(self, frame: Any, turns: int, full: bool, colours: int, size: tuple[int, int], whole: bool) -> Any:
        """whole: nothing is scaled, only a row or a column may be left out."""
        import av

        steps = list(UPRIGHT.get(turns, ()))
        shape = f"{size[1]}:{size[0]}"
        matrix = _MATRICES.get(colours, "bt601")
        scale = f"flags=area:in_range={'pc' if full else 'auto'}:out_range=tv:in_color_matrix={matrix}"
        scale += f":out_color_matrix={matrix}"
        if whole:
            steps += [f"crop={shape}:0:0", f"scale={shape}:{scale}"]
        elif self.form.fit == "crop":
            steps += [
                f"scale={shape}:{scale}:force_original_aspect_ratio=increase:force_divisible_by=2",
                f"crop={shape}",
            ]
        elif self.form.fit == "pad":
            steps += [
                f"scale={shape}:{scale}:force_original_aspect_ratio=decrease:force_divisible_by=2",
                f"pad={shape}:-1:-1",
            ]
        else:
            steps.append(f"scale={shape}:{scale}")
        steps.append("format=yuv420p")
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
        ]
        nodes += [graph.add(*step.split("=", 1)) for step in steps]
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph


def packed_frame(item: tuple[float, Any]) -> tuple[tuple[float, int], NDArray[np.uint8]]:
    """(time, yuv420p frame) as what is told of it, and its values `(height * 3 / 2, width)`."""
    time, frame = item
    values: NDArray[np.uint8] = frame.to_ndarray()
    return (time, frame.colorspace), values


def unpacked_frame(facts: tuple[float, int], values: NDArray[np.uint8]) -> tuple[float, Any]:
    """`packed_frame`, back."""
    import av

    time, colours = facts
    frame = av.VideoFrame.from_ndarray(values, format="yuv420p")
    frame.colorspace = colours
    return time, frame
