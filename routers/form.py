"""The form of a text: how long, how many digits, signs, capitals and lines. Says nothing of words.

Length alone already tells hard questions from easy ones, and it carries over to topics that no
training text had.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from routers.records import Floats

FORM_FEATURES = ("length", "digits", "signs", "capitals", "lines", "non_ascii")


def forms(texts: Sequence[str]) -> Floats:
    """Log length in bytes, then the shares of five kinds of byte, shape (N, len(FORM_FEATURES))."""
    return np.array([_form(text) for text in texts]).reshape(len(texts), len(FORM_FEATURES))


def _form(text: str) -> list[float]:
    kinds = text.encode(errors="replace").translate(_KINDS)
    length = 1.0 + len(kinds)
    return [log(length), *(kinds.count(kind) / length for kind in range(1, len(FORM_FEATURES)))]


def _kinds() -> bytes:
    kinds = bytearray(256)
    for code in range(128):
        char = chr(code)
        if char.isdigit():
            kinds[code] = FORM_FEATURES.index("digits")
        elif char.isupper():
            kinds[code] = FORM_FEATURES.index("capitals")
        elif char == "\n":
            kinds[code] = FORM_FEATURES.index("lines")
        elif not char.isalnum() and not char.isspace():
            kinds[code] = FORM_FEATURES.index("signs")
    kinds[128:] = bytes([FORM_FEATURES.index("non_ascii")]) * 128
    return bytes(kinds)


# The kind of each byte; 0 for what is none of them.
_KINDS = _kinds()
