"""Any OpenAI-compatible endpoint as an expert: remote APIs, vLLM, the embedded engine."""

from __future__ import annotations

import httpx2

from experts.cards import ExpertCard
from experts.dialect import Dialect
from experts.http_expert import HttpExpert
from experts.openai_wire import ChatDialect, CompletionsDialect


class OpenAICompatibleExpert(HttpExpert):
    """One model behind one URL; a card with a few-shot `prompt` is asked through `/completions`.

    Args:
        card: Its card.
        base_url: Up to and including `/v1`.
        model: The name the endpoint knows the model by.
        api_key: Sent as a bearer token if given.
        connect_s: Longest wait for a connection. How long an answer may take is the caller's say.
        transport: For tests that need control of the wire.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        connect_s: float = 5.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        dialect: Dialect = CompletionsDialect(card.prompt) if card.prompt else ChatDialect()
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        super().__init__(
            card, base_url, model, dialect, headers, connect_s=connect_s, transport=transport
        )
