"""A provider that sends us elsewhere is not followed: our key would go along."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import ExpertProtocolError
from experts.fakes.server import Act, FakeServer, ReceivedRequest, serving, whole
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.messages import ChatRequest, Message


class Elsewhere(FakeServer):
    """Sends everybody to `where`."""

    def __init__(self, status: int, where: str) -> None:
        super().__init__()
        self._status = status
        self._where = where

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        yield whole(self._status, {}, {"location": self._where})


async def asked(url: str) -> None:
    expert = OpenAICompatibleExpert(ExpertCard("a"), url, "m", api_key="sk-planted")
    call = Call(lambda *_asked: pytest.fail("a composition only"))
    try:
        async for _ in expert.answer(ChatRequest((Message("user", "Hi"),)), call):
            pass
    finally:
        await expert.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_it_is_a_failure_and_nobody_else_is_asked(status: int) -> None:
    with (
        serving(Elsewhere(200, "")) as thief,
        serving(Elsewhere(status, f"{thief.url}/chat/completions")) as provider,
    ):
        with pytest.raises(ExpertProtocolError, match=f"status {status}"):
            anyio.run(asked, provider.url)
        assert [headers["authorization"] for headers in provider.headers] == ["Bearer sk-planted"]
        assert thief.connections == 0
