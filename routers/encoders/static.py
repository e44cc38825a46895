"""Text to vectors by a table of token vectors that was trained elsewhere: nothing to learn here.

The table is WordLlama's (Miller, "WordLlama", 2024): the token embeddings of large language models,
reduced and trained on sentence pairs so that the first dimensions say the most (Matryoshka). Its
package brings the table along, so nothing is ever downloaded; only its two files are read, none of
its code.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
from safetensors import safe_open

from routers.encoders.form import FORM_FEATURES, FormScale
from routers.encoders.lexical import CJK, ends, unit
from routers.encoders.packaged import PackagedFiles
from routers.errors import RoutingError
from routers.records import State, Vectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_VECTORS = "wordllama/weights/l2_supercat_256.safetensors"
_TOKENS = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
FILES = PackagedFiles("wordllama", (_VECTORS, _TOKENS), "the encoder 'static'", "static")
WIDTH = 256
_MOST_WORDS = 32_768
# Longer ones are cut, so that what is remembered of them stays small.
_LONGEST_WORD = 32
_BEGIN = "\u2581"
"""What the tokenizer has for the space before a word; no token goes on into another word."""
_WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


class StaticEncoder:
    """The mean direction of the tokens' vectors, followed by the form of the text.

    What words are made of is remembered, for the tokenizer takes several times as long for a text
    as all the rest. Of a text over 16,000 characters the two ends are read. Only what form is usual
    is learned.

    Args:
        dimensions: How many of the table's 256 dimensions are used.

    Raises:
        RoutingError: The extra `static` is not installed, or there are no such dimensions.
    """

    name = "static"

    def __init__(self, dimensions: int = 64) -> None:
        if not 1 <= dimensions <= WIDTH:
            raise RoutingError(f"static has 1 to {WIDTH} dimensions, not {dimensions}")
        self.dimensions = dimensions
        self._words = _words(dimensions)
        self._form = FormScale.of(())

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        fitted = type(self)(self.dimensions)
        fitted._form = FormScale.of([ends(text) for text in texts])
        return fitted

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self.dimensions + len(FORM_FEATURES)), np.float32)
        read = [ends(text) for text in texts]
        vectors_ND = np.empty((len(texts), self.dimensions + len(FORM_FEATURES)), np.float32)
        vectors_ND[:, : self.dimensions] = unit(self._words.sums(read))
        vectors_ND[:, self.dimensions :] = self._form.scaled(read)
        return unit(vectors_ND)

    def __reduce__(self) -> tuple[Callable[[State], Self], tuple[State]]:
        # Another process has the table itself, and makes what can't be sent of it.
        return type(self).from_state, (self.state(),)

    def state(self) -> State:
        params = {"dimensions": self.dimensions, "table_sha256": FILES.sha256()}
        return params, dict(self._form.arrays())

    @classmethod
    def from_state(cls, state: State) -> Self:
        """What `state` describes; the table itself is not in it.

        Raises:
            RoutingError: The table is missing, or it is another one than the state was made with.
        """
        params, arrays = state
        encoder = cls(int(params["dimensions"]))
        FILES.check(params["table_sha256"], "table of static vectors")
        encoder._form = FormScale.from_arrays(arrays)
        return encoder


class _Memory:
    """The summed vectors of words met so far. Only ever added to, so readers need no lock."""

    __slots__ = ("place", "sums_WD")

    def __init__(self, most_words: int, dimensions: int) -> None:
        self.place: dict[str, int] = {}
        self.sums_WD: Vectors = np.empty((most_words, dimensions), dtype=np.float32)


class _Words:
    """Words to vectors, by the table; safe to use from several threads."""

    def __init__(self, table_TD: Vectors, tokenizer: Tokenizer) -> None:
        self._table_TD = table_TD
        self._tokenizer = tokenizer
        # What looks like a mark of the end of a text is text.
        tokenizer.encode_special_tokens = True
        self._memory = _Memory(_MOST_WORDS, table_TD.shape[1])
        self._lock = threading.Lock()

    def sums(self, texts: Sequence[str]) -> Vectors:
        """The sum over all tokens of each text, (N, D)."""
        sums_ND = np.zeros((len(texts), self._table_TD.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            words = text.split() if text.isascii() else _WORD.findall(text)
            memory = self._memory
            places = list(map(memory.place.get, words))
            if None in places:
                if max(map(len, words)) > _LONGEST_WORD:
                    words = [piece for word in words for piece in _pieces(word)]
                memory = self._knowing(words)
                places = list(map(memory.place.get, words))
            vectors_WD = memory.sums_WD.take(np.array(places, dtype=np.intp), axis=0)
            np.add.reduce(vectors_WD, axis=0, out=sums_ND[row])
        return sums_ND

    def _knowing(self, words: Sequence[str]) -> _Memory:
        """A memory that has all of `words`."""
        with self._lock:
            memory = self._memory
            new = [word for word in dict.fromkeys(words) if word not in memory.place]
            if len(memory.place) + len(new) > len(memory.sums_WD):
                # Who still reads the old one keeps it.
                memory, new = _Memory(*memory.sums_WD.shape), list(dict.fromkeys(words))
            if not new:
                return memory
            first = len(memory.place)
            memory.sums_WD[first : first + len(new)] = self._summed(new)
            # Last, since from now on they are read.
            memory.place.update(zip(new, range(first, first + len(new)), strict=True))
            self._memory = memory
        return memory

    def _summed(self, words: Sequence[str]) -> Vectors:
        """The sum of each word's tokens, (W, D)."""
        # One call for all takes a tenth as long for each. The mark that begins a word means a space
        # to the tokenizer, and half a surrogate pair nothing at all.
        text = " ".join(words).replace(_BEGIN, "_").encode(errors="replace").decode()
        read = self._tokenizer.encode(text, add_special_tokens=False)
        starts = [place for place, token in enumerate(read.tokens) if token.startswith(_BEGIN)]
        sums_WD: Vectors = np.add.reduceat(self._table_TD[read.ids], starts, axis=0)
        return sums_WD


def _pieces(word: str) -> list[str]:
    return [word[at : at + _LONGEST_WORD] for at in range(0, len(word), _LONGEST_WORD)]


@lru_cache(maxsize=4)
def _words(dimensions: int) -> _Words:
    """The words of a process, whose routers all share them."""
    try:
        # An extra, and a gateway that does not use it starts without.
        from tokenizers import Tokenizer
    except ImportError as error:
        raise FILES.missing() from error
    tokenizer = Tokenizer.from_file(str(FILES.path(_TOKENS)))
    with safe_open(FILES.path(_VECTORS), framework="np") as file:
        (name,) = file.keys()
        table_TD = file.get_slice(name)[:, :dimensions].astype(np.float32)
    return _Words(np.ascontiguousarray(table_TD), tokenizer)
