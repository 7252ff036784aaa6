"""Apply an alignment: aligned media files that start together and run at one speed.

outputs      render: every aligned recording onto the common timeline
timeline     which recordings lie on it, from when to when
placing      sound evaluated on another clock, band-limited
sound_file   one WAV file; its bytes in `wav`
movie        one video file; its packets in `picture`
choosing     which recording sounds best
"""

from avfuse.rendering.outputs import Rendered, render
from avfuse.rendering.placing import PlacedSound

__all__ = ["PlacedSound", "Rendered", "render"]
