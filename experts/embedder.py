"""An expert that embeds in this process: texts to vectors by a function that is handed to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import ExpertUnsupportedError
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from experts.tiers import BYTES_PER_TOKEN

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts to vectors of unit length, shape (len(texts), D). Called in a thread, one call at a time.
"""


class EmbedderExpert:
    """Embeds texts in a thread.

    Tokens are counted at four bytes each: what a text is made of differs by encoder, and some have
    no tokens at all.

    Args:
        card: Its card; `space` says what its vectors can be compared within.
        encode: What makes the vectors.
    """

    def __init__(self, card: ExpertCard, encode: Encode) -> None:
        self._card = card
        self._encode = encode
        self._one = anyio.CapacityLimiter(1)

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        texts = [given for given in request.raw if isinstance(given, str)]
        if len(texts) < len(request.raw):
            message = "embeds texts, not token numbers"
            raise ExpertUnsupportedError(self._card.expert_id, message, param="input")
        vectors_ND = await anyio.to_thread.run_sync(self._encode, texts, limiter=self._one)
        wanted, found = request.params.get("dimensions"), vectors_ND.shape[1]
        if wanted not in (None, found):
            message = f"makes vectors of {found} dimensions, not of {wanted}"
            raise ExpertUnsupportedError(self._card.expert_id, message, param="dimensions")
        for index, vector_D in enumerate(vectors_ND):
            yield Delta(choice=index, fields={"embedding": vector_D.tolist()})
            yield Finish("stop", index)
        bytes_read = sum(len(text.encode(errors="replace")) for text in texts)
        yield Usage(input=max(1, -(-bytes_read // BYTES_PER_TOKEN)))

    async def aclose(self) -> None:
        """Nothing to give back."""
