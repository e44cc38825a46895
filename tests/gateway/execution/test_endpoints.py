"""What the endpoints of one expert are blamed for by the calls of it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx2
import pytest

from experts.cards import ExpertCard, Prices
from experts.errors import ExpertTimeoutError
from experts.http.breaker import BreakerRules, BreakerState
from experts.http.openai_compatible import OpenAICompatibleExpert
from tests.gateway.execution.bench import Bench
from tests.gateway.execution.test_attempts import said

pytestmark = pytest.mark.anyio

URLS = ("http://one/v1", "http://two/v1")


def slow_to_connect(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectTimeout("too slow", request=request)


def at_both(handler: Callable[..., object], failures: int) -> OpenAICompatibleExpert:
    return OpenAICompatibleExpert(
        ExpertCard("a", prices=Prices(1, 2)),
        URLS,
        "m",
        transport=httpx2.MockTransport(handler),  # type: ignore[arg-type]
        rules=BreakerRules(failures=failures),
    )


async def test_a_call_that_was_too_slow_counts_once_wherever_that_was_seen() -> None:
    expert = at_both(slow_to_connect, failures=2)
    bench = Bench(expert, explicit=True, limits={"max_attempts": 2})
    assert [cause.kind for cause in (await bench.run()).causes] == ["timeout"] * 2
    assert [endpoint.in_service for endpoint in expert.endpoints] == [True, True]
    await bench.run()
    assert [endpoint.in_service for endpoint in expert.endpoints] == [False, False]


async def test_what_one_endpoint_fails_another_answers_and_the_expert_stays_in_service() -> None:
    """Though the session would go where it went before, and one failure is enough for a breaker."""
    asked: list[str] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.host)
        if request.url.host != asked[0] or len(asked) == 1:
            message = {"role": "assistant", "content": "Lima."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return httpx2.Response(200, json={"choices": [choice]})
        return httpx2.Response(503, json={"error": {"message": "busy"}})

    expert = at_both(answers, failures=5)
    bench = Bench(expert, explicit=True, breaker={"failures": 1})
    for _ in range(2):
        run = await bench.run(False, session="s")
        assert (run.text, run.error) == ("Lima.", None)
    first, second = asked[0], next(url for url in asked if url != asked[0])
    assert asked == [first, first, second]
    assert bench.traffic.health.state("a") is BreakerState.CLOSED


async def test_for_its_clients_haste_no_endpoint_is_blamed() -> None:
    async def silent(_request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep_forever()
        raise AssertionError

    expert = at_both(silent, failures=1)
    bench = Bench(expert, explicit=True, limits={"total_s": 0.05})
    with anyio.fail_after(20), pytest.raises(ExpertTimeoutError):
        await said(bench, expert, hurried=True)
    assert [endpoint.in_service for endpoint in expert.endpoints] == [True, True]
    with anyio.fail_after(20), pytest.raises(ExpertTimeoutError):
        await said(bench, expert)
    assert [endpoint.in_service for endpoint in expert.endpoints].count(False) == 1
