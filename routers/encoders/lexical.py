"""Text to vectors: a hashing encoder that learns nothing, and reduced TF-IDF with the form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

from routers.encoders.form import FORM_FEATURES, FormScale
from routers.records import Floats, State, Vectors

# Chinese, Japanese and Korean put no spaces between words, so each of their characters is a term.
CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TERM = re.compile(rf"[{CJK}]|[^\W{CJK}]{{2,}}")
# Every byte of ASCII that is no part of a word becomes a space.
_SEPARATED = bytes(
    code if code >= 128 or chr(code).isalnum() or chr(code) == "_" else ord(" ")
    for code in range(256)
)
Real = TypeVar("Real", np.float32, np.float64)

_LONGEST_READ = 16_000
_LARGEST_VOCABULARY = 30_000
_POWER_ITERATIONS = 5
_TINY = float(np.finfo(np.float32).tiny)


class HashingEncoder:
    """Words hashed into a fixed number of places. Static: it learns nothing and needs no state.

    Of a text over 16,000 characters the two ends are read, so that no prompt makes a decision
    slow.

    Args:
        dimensions: Length of a vector.
    """

    name = "hashing"

    def __init__(self, dimensions: int = 64) -> None:
        self.dimensions = dimensions

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        return self

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors_ND = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            codes_T = np.array(list(map(crc32, _terms(ends(text)))), dtype=np.int64)
            # Half of the terms count downwards, so that terms in one place cancel on average.
            signs_T = np.where(codes_T & 0x10000, 1.0, -1.0)
            vectors_ND[row] = np.bincount(codes_T % self.dimensions, signs_T, self.dimensions)
        return unit(vectors_ND)

    def state(self) -> State:
        return {"dimensions": self.dimensions}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(int(state[0]["dimensions"]))


class TfidfSvdEncoder:
    """Word TF-IDF (sublinear) reduced by a truncated SVD, followed by the form of the text.

    Of a text over 16,000 characters the two ends are read, so that no prompt makes a decision
    slow. `state` is the vocabulary, the weight of each term, its place in the reduced space, and
    the mean and spread of the form.

    Args:
        dimensions: Length of the part that words make; fewer when the corpus is small.
    """

    name = "tfidf"

    def __init__(self, dimensions: int = 128) -> None:
        self.dimensions = dimensions
        self._place: dict[bytes, int] = {}
        self._idf_V: Floats = np.zeros(0)
        self._components_VD: Vectors = np.zeros((0, 1), dtype=np.float32)
        self._form = FormScale.of(())

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        terms = [_terms(ends(text)) for text in texts]
        fitted = type(self)(self.dimensions)
        fitted._form = FormScale.of([ends(text) for text in texts])
        vocabulary, df_V = _vocabulary(terms)
        fitted._place = {term: place for place, term in enumerate(vocabulary)}
        fitted._idf_V = np.log((1 + len(texts)) / (1 + df_V)) + 1
        if vocabulary:
            fitted._components_VD = fitted._reduce(terms, rng)
        return fitted

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self._components_VD.shape[1] + len(FORM_FEATURES)), np.float32)
        read = [ends(text) for text in texts]
        words_ND = unit(np.stack([self._words(text) for text in read]))
        return unit(np.hstack([words_ND, self._form.scaled(read)]).astype(np.float32))

    def parts(self, text: str, slope_D: Floats) -> Mapping[str, float]:
        """See `routers.base.NamingEncoder`; features of form are named in brackets."""
        text = ends(text)
        counts = Counter(_terms(text))
        places, weights = self._weights(counts)
        words_TD = weights[:, None] * self._components_VD[places]
        length = max(float(np.linalg.norm(words_TD.sum(axis=0))), _TINY)
        form_F = self._form.scaled([text])[0]
        # Both halves are divided by the length that they have together.
        whole = max(float(np.hypot(len(places) > 0, np.linalg.norm(form_F))), _TINY)
        width = words_TD.shape[1]
        points_T = words_TD @ slope_D[:width] / length / whole
        points_F = form_F * slope_D[width:] / whole
        known = [term.decode() for term in counts if term in self._place]
        found = dict(zip(known, points_T.tolist(), strict=True))
        named = zip(FORM_FEATURES, points_F.tolist(), strict=True)
        return found | {f"[{name}]": points for name, points in named}

    def state(self) -> State:
        words = np.frombuffer(b"\n".join(self._place), dtype=np.uint8)
        arrays: dict[str, npt.NDArray[Any]] = {
            "vocabulary": words,
            "idf": self._idf_V,
            "components": self._components_VD,
            **self._form.arrays(),
        }
        return {"dimensions": self.dimensions}, arrays

    @classmethod
    def from_state(cls, state: State) -> Self:
        params, arrays = state
        encoder = cls(int(params["dimensions"]))
        words = arrays["vocabulary"].tobytes().split(b"\n")
        encoder._place = {term: place for place, term in enumerate(words) if term}
        encoder._idf_V = arrays["idf"]
        encoder._components_VD = np.ascontiguousarray(arrays["components"])
        encoder._form = FormScale.from_arrays(arrays)
        return encoder

    def _words(self, text: str) -> Vectors:
        # Gathering the rows of the few terms present: a sparse product with the transposed
        # components takes a hundred times as long for one text.
        places, weights = self._weights(Counter(_terms(text)))
        words_D: Vectors = weights.astype(np.float32) @ self._components_VD[places]
        return words_D

    def _weights(self, counts: Counter[bytes]) -> tuple[npt.NDArray[np.intp], Floats]:
        known = dict(zip(map(self._place.get, counts), counts.values(), strict=True))
        known.pop(None, None)
        places = np.array(list(known), dtype=np.intp)
        times = np.array(list(known.values()), dtype=np.float64)
        return places, (1 + np.log(times)) * self._idf_V[places]

    def _reduce(self, terms: Sequence[list[bytes]], rng: np.random.Generator) -> Vectors:
        rows = [self._weights(Counter(each)) for each in terms]
        starts = np.cumsum([0, *(len(places) for places, _ in rows)])
        values = np.concatenate([unit(weights[None])[0] for _, weights in rows])
        places = np.concatenate([places for places, _ in rows])
        shape = (len(terms), len(self._place))
        # Only training needs these, and they take longer to load than a gateway to start.
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd

        matrix = csr_matrix((values, places, starts), shape=shape)
        dimensions = min(self.dimensions, *shape)
        seed = int(rng.integers(2**31))
        _, _, components_DV = randomized_svd(
            matrix, dimensions, n_iter=_POWER_ITERATIONS, random_state=seed
        )
        return np.ascontiguousarray(components_DV.T, dtype=np.float32)


def ends(text: str) -> str:
    """The two ends of a long text, so that no prompt makes a decision slow."""
    if len(text) <= _LONGEST_READ:
        return text
    return text[: _LONGEST_READ // 2] + " " + text[-_LONGEST_READ // 2 :]


def _terms(text: str) -> list[bytes]:
    """The terms of `text` in lower case and UTF-8, in order.

    The same as `_TERM.findall(text.lower())`, which takes several times as long: only pieces
    beyond ASCII are read by the pattern.
    """
    pieces = text.lower().encode(errors="replace").translate(_SEPARATED).split()
    if text.isascii():
        return [piece for piece in pieces if len(piece) > 1]
    terms: list[bytes] = []
    for piece in pieces:
        if not piece.isascii():
            terms += [term.encode() for term in _TERM.findall(piece.decode())]
        elif len(piece) > 1:
            terms.append(piece)
    return terms


def unit(vectors_ND: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Rows of unit length; rows of zeros stay."""
    norms_N1 = np.sqrt(np.add.reduce(vectors_ND * vectors_ND, axis=1, keepdims=True))
    unit_ND: npt.NDArray[Real] = np.divide(vectors_ND, np.maximum(norms_N1, _TINY))
    return unit_ND


def _vocabulary(terms: Sequence[list[bytes]]) -> tuple[list[bytes], Floats]:
    df = Counter(term for each in terms for term in set(each))
    recurring = {term: n for term, n in df.items() if n > 1} or df
    frequent = sorted(recurring.items(), key=lambda item: (-item[1], item[0]))
    kept = sorted(frequent[:_LARGEST_VOCABULARY])
    return [term for term, _ in kept], np.array([n for _, n in kept], dtype=np.float64)
