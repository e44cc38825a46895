"""The form of a text: how long, how many digits, signs, capitals and lines. Says nothing of words.

Length alone already tells hard questions from easy ones, and it carries over to topics that no
training text had.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from routers.records import Floats

FORM_FEATURES = ("length", "digits", "signs", "capitals", "lines", "non_ascii")


def forms(texts: Sequence[str]) -> Floats:
    """Log length in bytes, then the shares of five kinds of byte, shape (N, len(FORM_FEATURES))."""
    return np.stack([_form(text) for text in texts]) if texts else np.zeros((0, len(FORM_FEATURES)))


def _form(text: str) -> Floats:
    kinds = _KIND[np.frombuffer(text.encode(errors="replace"), dtype=np.uint8)]
    counts = np.bincount(kinds, minlength=len(FORM_FEATURES)).astype(np.float64)
    length = 1.0 + len(kinds)
    return np.concatenate([[np.log(length)], counts[1:] / length])


def _kinds() -> npt.NDArray[np.uint8]:
    kinds = np.zeros(256, dtype=np.uint8)
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
    kinds[128:] = FORM_FEATURES.index("non_ascii")
    return kinds


_KIND = _kinds()
