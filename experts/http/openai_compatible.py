"""Any OpenAI-compatible endpoint as an expert: remote APIs, vLLM, the embedded engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from experts.cards import ExpertCard
from experts.http.connecting import bearer
from experts.http.expert import HttpExpert, HttpOptions
from experts.wire.openai import dialect_of


class OpenAICompatibleExpert(HttpExpert):
    """One model behind one URL.

    Args:
        card: Its card; `api` and a few-shot `prompt` say which endpoint is asked.
        base_urls: One or more, up to and including `/v1`.
        model: The name the endpoint knows the model by.
        api_key: Sent as a bearer token if given.
        max_tokens_field: What it calls the longest answer; None: what the client called it.
        options: See `HttpOptions`.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_urls: str | Sequence[str],
        model: str,
        *,
        api_key: str | None = None,
        max_tokens_field: str | None = None,
        **options: Unpack[HttpOptions],
    ) -> None:
        dialect = dialect_of(card, max_tokens_field)
        super().__init__(card, base_urls, model, dialect, bearer(api_key), **options)
