"""Any OpenAI-compatible endpoint as an expert: remote APIs, vLLM, the embedded engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from experts.cards import ExpertCard
from experts.dialect import Dialect
from experts.http_expert import HttpExpert, HttpOptions
from experts.openai_wire import ChatDialect, CompletionsDialect


class OpenAICompatibleExpert(HttpExpert):
    """One model behind one URL; a card with a few-shot `prompt` is asked through `/completions`.

    Args:
        card: Its card.
        base_urls: One or more, up to and including `/v1`.
        model: The name the endpoint knows the model by.
        api_key: Sent as a bearer token if given.
        options: See `HttpOptions`.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_urls: str | Sequence[str],
        model: str,
        *,
        api_key: str | None = None,
        **options: Unpack[HttpOptions],
    ) -> None:
        dialect: Dialect = CompletionsDialect(card.prompt) if card.prompt else ChatDialect()
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        super().__init__(card, base_urls, model, dialect, headers, **options)
