"""Frames as they are stored: upright, of one size, 8 bits, 4:2:0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfuse.preparation.recipe import PictureForm

_UPRIGHT = {90: "transpose=cclock", -90: "transpose=clock", 180: "hflip,vflip", -180: "hflip,vflip"}


class Shaper:
    """Makes frames of one track what the form asks for, by FFmpeg's filters."""

    def __init__(self, form: PictureForm) -> None:
        self.form = form
        self._made: dict[tuple[Any, ...], Any] = {}

    def __call__(self, frame: Any) -> Any:
        """The frame in yuv420p, limited range. One that is so already is returned as it is."""
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        turns = round(frame.rotation / 90) * 90
        height, width = self._size(*((frame.width, frame.height) if turns % 180 else (frame.height, frame.width)))
        plain = frame.format.name == "yuv420p" and not full and not turns
        if plain and (frame.height, frame.width) == (height, width):
            return frame
        key = (frame.width, frame.height, frame.format.name, turns, full)
        graph = self._made.get(key)
        if graph is None:
            self._made.clear()  # of another size, before
            graph = self._made[key] = self._graph(frame, turns, full, height, width)
        graph.push(frame)
        return graph.pull()

    def _size(self, height: int, width: int) -> tuple[int, int]:
        return self.form.size or (max(2, height // 2 * 2), max(2, width // 2 * 2))

    def _graph(self, frame: Any, turns: int, full: bool, height: int, width: int) -> Any:
        import av

        steps = _UPRIGHT[turns].split(",") if turns in _UPRIGHT else []
        size = f"{width}:{height}"
        scale = "flags=area:in_range=" + ("pc" if full else "auto") + ":out_range=tv"
        if self.form.size is None:
            steps += [f"crop={size}:0:0", f"scale={size}:{scale}"]
        elif self.form.fit == "crop":
            steps += [
                f"scale={size}:{scale}:force_original_aspect_ratio=increase:force_divisible_by=2",
                f"crop={size}",
            ]
        elif self.form.fit == "pad":
            steps += [
                f"scale={size}:{scale}:force_original_aspect_ratio=decrease:force_divisible_by=2",
                f"pad={size}:-1:-1",
            ]
        else:
            steps.append(f"scale={size}:{scale}")
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


def values_of(frame: Any) -> NDArray[np.uint8]:
    """A yuv420p frame as `(height * 3 / 2, width)`."""
    found: NDArray[np.uint8] = frame.to_ndarray()
    return found


def frame_from(time: float, values: NDArray[np.uint8]) -> tuple[float, Any]:
    """`values_of`, back."""
    import av

    return time, av.VideoFrame.from_ndarray(values, format="yuv420p")
