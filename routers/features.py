"""What an estimator may look at: a vector of the text and how long it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from experts.messages import ChatRequest
from routers.base import Encoder, SlowEncoder
from routers.encoders.vector_store import VectorStore
from routers.records import FeatureBatch, Vectors

_BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> float:
    """About how many tokens `text` is, >= 1, without any model's tokenizer.

    Four bytes of UTF-8 a token: four letters of English, two of Cyrillic, one and a third of
    Chinese characters. Byte-pair encoders of chat models come within about a third of that.
    """
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    return max(size / _BYTES_PER_TOKEN, 1.0)


def estimate_prompt_tokens(request: ChatRequest, text: str | None = None) -> float:
    """About how many tokens the whole request is: its text, its tool calls and its tools, >= 1.

    Args:
        request: What is asked.
        text: `request.text`, where the caller has it already.
    """
    definitions = request.params.get("tools") or request.params.get("functions")
    extra = len(orjson.dumps(definitions)) if definitions else 0
    for message in request.messages:
        if message.fields:
            extra += len(orjson.dumps(dict(message.fields)))
    tokens = estimate_tokens(request.text if text is None else text) + extra / _BYTES_PER_TOKEN
    if request.raw:
        tokens += sum(len(given) for given in request.raw if not isinstance(given, str))
    return tokens


def answers_wanted(request: ChatRequest) -> int:
    """How many answers to one prompt are asked for (`n`), >= 1."""
    return max(int(request.params.get("n") or 1), 1)


class Featurizer:
    """Texts to features, through an encoder.

    Args:
        encoder: A static or fitted encoder, or one that `fit` is still to be called on.
        store: Where the vectors of a slow encoder are kept, if anywhere.
    """

    def __init__(self, encoder: Encoder, store: VectorStore | None = None) -> None:
        self.encoder = encoder
        self._store = store

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Featurizer:
        """A featurizer whose encoder has learned from `texts`."""
        return Featurizer(self.encoder.fit(texts, rng), self._store)

    def transform(self, texts: Sequence[str]) -> FeatureBatch:
        """Features of `texts`, one row each."""
        prompt_tokens_N = np.array([estimate_tokens(text) for text in texts], dtype=np.float64)
        return FeatureBatch(tuple(texts), self._vectors(texts), prompt_tokens_N, self.transform)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        if self._store is not None and isinstance(self.encoder, SlowEncoder):
            return self._store.encode(self.encoder, texts)
        return self.encoder.encode(texts)
