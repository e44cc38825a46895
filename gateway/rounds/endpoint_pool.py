"""A pool for training that is asked through a gateway, so that limits and books hold there too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import httpx2

from experts.compose.rounds.briefing import ASSIST
from experts.http.connecting import bearer
from routers.rounds.episodes import PaidReply, Question
from routers.rounds.reward import Paid

_TIMEOUT = httpx2.Timeout(180.0, connect=5.0)


class EndpointPool:
    """Experts behind an OpenAI-compatible endpoint, asked by their ids.

    Args:
        url: The endpoint, with `/v1`.
        prices: Expert id to dollars per million tokens that it writes.
        key: API key, None where none is needed.
        reply_tokens: Longest answer.
        at_once: Questions under way at the same time.

    Attributes:
        failures: Why questions were not answered, one sentence each.
    """

    def __init__(
        self,
        url: str,
        prices: Mapping[str, float],
        *,
        key: str | None = None,
        reply_tokens: int = 512,
        at_once: int = 10,
    ) -> None:
        self.experts = tuple(prices)
        self.failures: list[str] = []
        self._url = url
        self._prices = dict(prices)
        self._headers = bearer(key)
        self._reply_tokens = reply_tokens
        self._at_once = at_once

    def ask(self, questions: Sequence[Question]) -> list[PaidReply | None]:
        return anyio.run(self._ask, questions)

    async def _ask(self, questions: Sequence[Question]) -> list[PaidReply | None]:
        replies: list[PaidReply | None] = [None] * len(questions)
        places = iter(range(len(questions)))
        async with httpx2.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=_TIMEOUT, trust_env=False
        ) as client:

            async def work() -> None:
                for place in places:
                    replies[place] = await self._one(client, questions[place])

            async with anyio.create_task_group() as tasks:
                for _ in range(self._at_once):
                    tasks.start_soon(work)
        return replies

    async def _one(self, client: httpx2.AsyncClient, question: Question) -> PaidReply | None:
        body = {
            "model": question.expert,
            "messages": [
                {"role": "system", "content": ASSIST},
                {"role": "user", "content": question.query},
            ],
            "max_tokens": self._reply_tokens,
            "temperature": 0,
        }
        try:
            answer = await client.post("/chat/completions", json=body)
            answer.raise_for_status()
            return self._reply(question.expert, answer.json())
        except httpx2.HTTPError as error:
            self.failures.append(f"{question.expert}: {str(error) or type(error).__name__}")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            self.failures.append(f"{question.expert}: no answer in OpenAI's shape ({error!r})")
        return None

    def _reply(self, expert: str, body: Any) -> PaidReply:
        text = body["choices"][0]["message"]["content"] or ""
        return PaidReply(text, Paid(int(body["usage"]["completion_tokens"]), self._prices[expert]))
