"""The form of a text: how long, how many digits, signs, capitals and lines. Says nothing of words.

Length alone already tells hard questions from easy ones, and it carries over to topics that no
training text had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Self

import numpy as np

from routers.records import Floats

FORM_FEATURES = ("length", "digits", "signs", "capitals", "lines", "non_ascii")

# Of .1, .2 and none, tried on four sets of outcomes with the words at 1.
_WEIGHT = 0.15
_CLIP = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class FormScale:
    """The forms that are usual in a corpus, which the form of a text is measured by.

    Attributes:
        mean_F: Mean of each feature.
        std_F: Its standard deviation; a feature that never varied says nothing.
    """

    mean_F: Floats
    std_F: Floats
    _usual: tuple[tuple[float, float], ...] = field(init=False)

    def __post_init__(self) -> None:
        spread_F = np.where(self.std_F > 0, self.std_F, np.inf)
        usual = tuple(zip(self.mean_F.tolist(), spread_F.tolist(), strict=True))
        object.__setattr__(self, "_usual", usual)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """The scale of a corpus, which may be empty."""
        if not texts:
            return cls(np.zeros(len(FORM_FEATURES)), np.ones(len(FORM_FEATURES)))
        forms_NF = forms(texts)
        return cls(forms_NF.mean(axis=0), forms_NF.std(axis=0))

    def scaled(self, texts: Sequence[str]) -> Floats:
        """The forms of `texts` as they go beside words of unit length, (N, len(FORM_FEATURES))."""
        rows = [self._scaled(_form(text)) for text in texts]
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(FORM_FEATURES))

    def _scaled(self, form: Sequence[float]) -> list[float]:
        # A list, because for one text arrays take several times as long.
        standard = [
            (value - mean) / spread for value, (mean, spread) in zip(form, self._usual, strict=True)
        ]
        return [_WEIGHT * min(max(value, -_CLIP), _CLIP) for value in standard]

    def arrays(self) -> dict[str, Floats]:
        """What `from_arrays` takes."""
        return {"form_mean": self.mean_F, "form_std": self.std_F}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> Self:
        return cls(arrays["form_mean"], arrays["form_std"])


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
