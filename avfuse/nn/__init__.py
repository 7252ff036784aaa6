"""Networks that know their clocks: encoders, fusion and decisions over aligned streams (needs the `fusion` extra).

timed           Timed, Tokens: tensors with times, validity and confidence; Batch -> tensors
attention       attention between tokens that know when they are
encoders        one stream -> Tokens: sound, pictures, sensors, text, images, models that the user brings
fusion          Tokens of several modalities -> Tokens
heads           Tokens -> a decision
network         FusionNet(encoders, fusion, head)
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("avfuse.nn needs torch, which is not installed: pip install 'avfuse[fusion]'") from error
