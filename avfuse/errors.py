"""What avfuse raises.

    AvfuseError
    ├── ReadError                    a file that cannot be read, or is not what its name says
    ├── WriteError                   an output that cannot be written
    ├── StreamError (ValueError)     arrays or arguments that do not fit
    └── WeakAlignmentError           an answer was asked for that the evidence does not carry

Every message is one line for the person who reads it: the file or argument, what was found, what was
expected, what to try.
"""


class AvfuseError(Exception):
    """Everything that avfuse raises on purpose."""


class ReadError(AvfuseError):
    """A file that cannot be read."""


class WriteError(AvfuseError):
    """An output that cannot be written."""


class StreamError(AvfuseError, ValueError):
    """Arrays or arguments that do not fit."""


class WeakAlignmentError(AvfuseError):
    """The evidence does not carry the answer that was asked for."""
