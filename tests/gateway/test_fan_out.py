"""Many calls at once: none outlives the client, and no cap is ever passed."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.base import Call, Expert
from experts.cards import NANO_PER_USD, ExpertCard, Prices
from experts.fakes.server import FakeServer, Then, serving
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from gateway.ledger import tables
from tests.contracts.composition_cases import pool_of
from tests.gateway.execution.bench import Bench, Book, Run

Serve = Callable[..., Any]
FAN = 16


class Stalling(FakeServer):
    """Never answers, and knows how many wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.all_wait, self.nobody_waits = threading.Event(), threading.Event()

    def acts(self, asked: Any) -> Iterator[Any]:
        self.waiting += 1
        if self.waiting == FAN:
            self.all_wait.set()
        try:
            yield Then.STALL
        finally:
            self.waiting -= 1
            if self.waiting == 0:
                self.nobody_waits.set()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_client_that_leaves_a_fan_out_leaves_no_call_running(
    serve: Serve, remote: Callable[..., Expert], stream: bool
) -> None:
    with serving(Stalling()) as upstream:
        children = {"one": remote("one", upstream.url)}
        served = serve(pool_of(children, {"id": "many", "vote": {"of": "one", "n": FAN}}))
        body = {"model": "many", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}

        async def leave() -> None:
            async with (
                httpx2.AsyncClient(base_url=served.url, timeout=60, trust_env=False) as client,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(lambda: client.post("/v1/chat/completions", json=body))
                assert await anyio.to_thread.run_sync(upstream.all_wait.wait, 30)
                tasks.cancel_scope.cancel()

        anyio.run(leave)
        assert upstream.nobody_waits.wait(30), f"{upstream.waiting} calls go on"
        assert served.verified().faults == ()


class Spender:
    """Writes as much as it is allowed, up to what it wants."""

    def __init__(self, name: str, price: float, wants: int) -> None:
        self._card = ExpertCard(name, prices=Prices(price / 4, price))
        self._wants = wants

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        allowed = self._wants if request.max_tokens is None else request.max_tokens
        yield Delta(f"{self._card.expert_id} says")
        # Others run meanwhile.
        await anyio.lowlevel.checkpoint()
        yield Finish("length")
        yield Usage(input=len(request.text.encode()), output=min(allowed, self._wants))

    async def aclose(self) -> None:
        return None


LEAVES = ("a", "b", "c")
caps = st.one_of(st.none(), st.floats(1e-6, 5e-2))


def entries(depth: int) -> st.SearchStrategy[Any]:
    leaf = st.sampled_from(LEAVES)
    if depth == 0:
        return leaf
    child = entries(depth - 1)
    vote = st.builds(
        lambda of, n, cap: {"kind": "vote", "of": of, "n": n, "cap_usd": cap},
        child,
        st.integers(1, 4),
        caps,
    )
    cascade = st.builds(
        lambda children, cap: {"kind": "cascade", "children": children, "cap_usd": cap},
        st.lists(child, min_size=2, max_size=3),
        caps,
    )
    best = st.builds(
        lambda of, n, cap: {"kind": "best_of", "of": of, "n": n, "cap_usd": cap},
        child,
        st.integers(1, 3),
        caps,
    )
    return st.one_of(leaf, vote, cascade, best)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(entries(2), min_size=2, max_size=3),
    st.floats(1e-6, 5e-2),
    st.lists(st.tuples(st.floats(0.01, 50), st.integers(1, 4000)), min_size=3, max_size=3),
    st.one_of(st.none(), st.integers(1, 2000)),
)
def test_no_composition_ever_costs_more_than_its_cap_however_deep_it_nests(
    children: list[Any],
    cap_usd: float,
    spenders: list[tuple[float, int]],
    max_tokens: int | None,
) -> None:
    leaves: dict[str, Expert] = {
        name: Spender(name, price, wants)
        for name, (price, wants) in zip(LEAVES, spenders, strict=True)
    }
    entry = {"id": "it", "kind": "cascade", "children": children, "cap_usd": cap_usd}
    pool = pool_of(leaves, entry)
    bench = Bench(pool["it"], explicit=True)
    run = anyio.run(lambda: bench.run(stream=False, max_tokens=max_tokens))
    capped = {name: card for each in pool.values() for name, card in cards_below(each.card)}
    for name, spent in costs_below(run.book):
        cap = capped[name].caps.usd
        if cap is not None:
            assert spent <= cap * NANO_PER_USD, f"{name} spent {spent} of {cap}"
    check_books(run)


def cards_below(card: ExpertCard) -> Iterator[tuple[str, ExpertCard]]:
    yield card.expert_id, card
    for member in card.members:
        yield from cards_below(member)


def costs_below(book: Book) -> Iterator[tuple[str, int]]:
    """Each attempt's expert, and what all calls below it cost."""
    begun = [row.values for row in book.rows if row.table is tables.attempt]
    ended = [row.values for row in book.rows if row.table is tables.attempt_result]
    total = {row["attempt_id"]: row["cost_nanousd"] or 0 for row in ended}
    for attempt in reversed(begun):
        yield attempt["expert_id"], total[attempt["attempt_id"]]
        if attempt["parent_id"] is not None:
            total[attempt["parent_id"]] += total[attempt["attempt_id"]]


def check_books(run: Run) -> None:
    """It answered or said that a cap is in the way; nothing is held or forgotten."""
    if run.error is not None:
        assert [cause.kind for cause in run.causes] == ["over_cap"]
    costs = dict(costs_below(run.book))
    assert run.booking.cost_nanousd == costs["it"]


def test_time_is_up_for_those_below_and_the_composition_says_what_it_has() -> None:
    class Slow(Spender):
        async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
            await anyio.sleep_forever()
            yield Finish("stop")

    leaves: dict[str, Expert] = {
        "a": Spender("a", 1, 5),
        "b": Slow("b", 1, 5),
    }
    pool = pool_of(leaves, {"id": "it", "cascade": ["a", "b"], "cap_s": 0.3})
    bench = Bench(pool["it"], explicit=True)
    run = anyio.run(lambda: bench.run(stream=False))
    assert run.error is None
    assert run.text == "a says"
    assert [(name, status) for name, status, _ in run.book.attempts()] == [
        ("it", "ok"), ("a", "ok"), ("b", "failed"),
    ]  # fmt: skip
    assert bench.traffic.health.wait_s("b") == 0, "it was not given the time to answer"


def test_calls_and_depth_are_bounded() -> None:
    leaves: dict[str, Expert] = {"a": Spender("a", 1, 5)}
    many = {"id": "it", "vote": {"of": "a", "n": 9, "at_once": 1}, "cap_calls": 2}
    bench = Bench(pool_of(leaves, many)["it"], explicit=True)
    run = anyio.run(lambda: bench.run(stream=False))
    assert run.text == "a says"
    assert [name for name, _, _ in run.book.attempts()] == ["it", "a", "a"]
    deep: Any = "a"
    for _ in range(5):
        deep = {"vote": {"of": deep, "n": 1}}
    bench = Bench(pool_of(leaves, {"id": "it", **deep})["it"], explicit=True)
    run = anyio.run(lambda: bench.run(stream=False))
    assert "nest 4 deep" in str(run.error)
