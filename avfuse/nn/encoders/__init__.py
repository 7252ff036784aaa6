"""Encoders: one stream with its times -> Tokens.

    sound      SoundEncoder                            waveforms: log-mel, convolutions, transformer
    picture    VideoConvolution, VideoTransformer      frames, one token each
               ImageEncoder                            still images, a token for each patch
    sensors    SensorConvolution, SensorTransformer    numbers of any rate
    text       TextEncoder, bytes_of                   bytes or word pieces
    adapters   ModuleEncoder, TransformersEncoder      models that the user brings
    grid       on_grid                                 samples at any times onto an even grid of seconds

All are Module(Timed) -> Tokens. Times count from the batch's origin, as `FusionNet` hands them on (`since_origin`).
"""

from avfuse.nn.encoders.adapters import ModuleEncoder, TransformersEncoder
from avfuse.nn.encoders.picture import ImageEncoder, VideoConvolution, VideoTransformer
from avfuse.nn.encoders.sensors import SensorConvolution, SensorTransformer
from avfuse.nn.encoders.sound import LogMel, SoundEncoder
from avfuse.nn.encoders.text import BEGIN, BYTES, END, MASK, TextEncoder, bytes_of

__all__ = [
    "BEGIN",
    "BYTES",
    "END",
    "MASK",
    "ImageEncoder",
    "LogMel",
    "ModuleEncoder",
    "SensorConvolution",
    "SensorTransformer",
    "SoundEncoder",
    "TextEncoder",
    "TransformersEncoder",
    "VideoConvolution",
    "VideoTransformer",
    "bytes_of",
]
