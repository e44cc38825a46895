"""What the endpoints of one expert are blamed for by the calls of it."""

from __future__ import annotations

import httpx2
import pytest

from experts.cards import ExpertCard, Prices
from experts.http.breaker import BreakerRules
from experts.http.openai_compatible import OpenAICompatibleExpert
from tests.gateway.execution.bench import Bench

pytestmark = pytest.mark.anyio

URLS = ("http://one/v1", "http://two/v1")


def slow_to_connect(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectTimeout("too slow", request=request)


async def test_a_call_that_was_too_slow_counts_once_wherever_that_was_seen() -> None:
    expert = OpenAICompatibleExpert(
        ExpertCard("a", prices=Prices(1, 2)),
        URLS,
        "m",
        transport=httpx2.MockTransport(slow_to_connect),
        rules=BreakerRules(failures=2),
    )
    bench = Bench(expert, explicit=True, limits={"max_attempts": 2})
    assert [cause.kind for cause in (await bench.run()).causes] == ["timeout"] * 2
    assert [endpoint.in_service for endpoint in expert.endpoints] == [True, True]
    await bench.run()
    assert [endpoint.in_service for endpoint in expert.endpoints] == [False, False]
