"""Names and messages as files of editors can hold them."""

from __future__ import annotations

import re

# What XML 1.0 has no place for, not even escaped: control characters, halves of surrogate pairs, two non-characters.
_IMPOSSIBLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` with a replacement character for what is no text, such as bytes of file names that are no UTF-8."""
    return _IMPOSSIBLE.sub("\ufffd", text)
