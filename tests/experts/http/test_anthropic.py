"""What is asked of an Anthropic-compatible provider beside its answers."""

from __future__ import annotations

import gzip
from typing import Any

import anyio
import httpx2
import orjson
import pytest

from experts.cards import ExpertCard
from experts.errors import ExpertProtocolError, ExpertUnavailableError
from experts.http.anthropic import AnthropicExpert
from experts.messages import ChatRequest, Message

BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Try later."}}


def counted(response: httpx2.Response) -> int:
    async def run() -> int:
        transport = httpx2.MockTransport(lambda _: response)
        expert = AnthropicExpert(ExpertCard("e"), "http://x/v1", "m", transport=transport)
        try:
            return await expert.count_tokens(ChatRequest((Message("user", "Hi"),)))
        finally:
            await expert.aclose()

    return anyio.run(run)


def packed(status: int, said: Any) -> httpx2.Response:
    body = httpx2.ByteStream(gzip.compress(orjson.dumps(said)))
    return httpx2.Response(status, stream=body, headers={"content-encoding": "gzip"})


def test_a_count_is_read_however_it_comes() -> None:
    assert counted(httpx2.Response(200, json={"input_tokens": 7})) == 7
    assert counted(packed(200, {"input_tokens": 7})) == 7


@pytest.mark.parametrize("response", [httpx2.Response(529, json=BUSY), packed(529, BUSY)])
def test_a_refusal_to_count_says_why(response: httpx2.Response) -> None:
    with pytest.raises(ExpertUnavailableError, match="Try later"):
        counted(response)


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(200, content=b'{"input_tokens": 7'),
        httpx2.Response(200, json=[7]),
        httpx2.Response(200, content=b'{"input_tokens": 7, "x": "' + b"x" * 100_000 + b'"}'),
    ],
    ids=["cut", "no object", "endless"],
)
def test_what_is_no_count_is_none(response: httpx2.Response) -> None:
    with pytest.raises(ExpertProtocolError):
        counted(response)
