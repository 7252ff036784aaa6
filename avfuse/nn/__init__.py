"""Networks that know their clocks: encoders, fusion and decisions over aligned streams (needs the `fusion` extra).

timed          Timed, Tokens: tensors with times, validity and confidence
data           windows -> batches of tensors, in an order that a seed fixes
attention      between tokens that know when they are
encoders       one stream -> Tokens: sound, pictures, sensors, text, images, models that the user brings
fusion         Tokens of several modalities -> Tokens
heads          Tokens -> a decision
network        FusionNet(encoders, fusion, head)
calibration    probabilities that mean what they say, and the right not to answer
colearning     modalities that teach each other: contrast, correlation, dropout, distillation, balance
synchrony      a synchroniser that is learned on one's own footage
configuration, targets, training, checkpoints, prediction, exporting    `avfuse train` and `avfuse predict`
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("avfuse.nn needs torch, which is not installed: pip install 'avfuse[fusion]'") from error
