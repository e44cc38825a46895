"""Any Anthropic-compatible endpoint as an expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from experts.cards import ExpertCard
from experts.http.expert import HttpExpert, HttpOptions
from experts.messages import ChatRequest
from experts.wire.anthropic import AnthropicDialect, Habits

VERSION = "2023-06-01"


class AnthropicExpert(HttpExpert):
    """One model behind one URL, or several, that speak Anthropic's messages API.

    Args:
        card: Its card.
        base_urls: Up to and including `/v1`.
        model: The name the endpoint knows the model by.
        api_key: Sent as `x-api-key` if given.
        version: Sent as `anthropic-version`.
        habits: What this model or server does its own way.
        options: See `HttpOptions`.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_urls: str | Sequence[str],
        model: str,
        *,
        api_key: str | None = None,
        version: str = VERSION,
        habits: Habits | None = None,
        **options: Unpack[HttpOptions],
    ) -> None:
        card = replace(card, wire="anthropic")
        self._speaks = AnthropicDialect(card, habits or Habits())
        headers = {"anthropic-version": version, **({"x-api-key": api_key} if api_key else {})}
        super().__init__(card, base_urls, model, self._speaks, headers, **options)

    async def count_tokens(self, request: ChatRequest) -> int:
        """Tokens of the prompt as the provider counts them; costs nothing.

        Raises:
            ExpertCallError: The provider can't count them, or answered with something else.
        """
        body = self._speaks.counting_body(request, self._model)
        data = await self._asked("messages/count_tokens", body, self._speaks.headers(request))
        count = data.get("input_tokens")
        if not isinstance(count, int):
            raise self._no_answer("counted no `input_tokens`")
        return count
