"""What a request cost is what its attempts cost, and what every budget over it was charged.

For any tree of attempts: answers and failures, billed and not, retries and fallbacks, hedges and
their losers, compositions in compositions whose children run one by one or at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.errors import ExpertCallError, ExpertUnavailableError
from experts.fakes.scripted import Hold, ScriptedExpert, Sleep, says
from experts.messages import ChatRequest, Delta, Event, Message, Usage, collect
from gateway.access.admission import Admission
from gateway.access.keys import Key
from gateway.access.spending import Spending
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.errors import AllExpertsFailedError, ApiError
from gateway.execution.execution import Execution
from gateway.execution.traffic import Terms, Traffic
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from gateway.ledger.tables import attempt, attempt_result, decision, request, request_result
from gateway.ledger.verify import verify_ledger
from gateway.settings.access import AccessSettings, Grant, Limit
from gateway.settings.root import Settings
from routers.eligible import Constraints
from routers.records import Preference
from routers.router import untrained_router

TOTAL = Limit(usd=1_000, per="total")


@dataclass(frozen=True)
class Leaf:
    """A call: what it costs a million tokens, how many it takes, how it ends."""

    price: float
    tokens: int
    fate: str  # says, silent (counts nothing), breaks (after some words), fails, slow


@dataclass(frozen=True)
class Branch:
    """A composition: its children one by one, or at once until the first has answered."""

    children: tuple[Any, ...]
    race: bool
    fails: bool


leaves = st.builds(
    Leaf,
    st.sampled_from([0.0, 0.37, 1.0, 1e4]),
    st.integers(0, 900),
    st.sampled_from(["says", "says", "silent", "breaks", "fails", "slow"]),
)
trees = st.recursive(
    leaves,
    lambda below: st.builds(
        Branch, st.lists(below, min_size=1, max_size=3).map(tuple), st.booleans(), st.booleans()
    ),
    max_leaves=8,
)
_numbers = count()


def scripted(leaf: Leaf, name: str) -> ScriptedExpert:
    card = ExpertCard(name, prices=Prices(leaf.price, 2 * leaf.price))
    usage = Usage(input=leaf.tokens, output=leaf.tokens // 2)
    down = ExpertUnavailableError(card.expert_id, "down")
    scripts: dict[str, Sequence[Any]] = {
        "says": says("one two", usage),
        "silent": says("one two", None),
        "breaks": [Delta("one"), usage, down],
        "fails": [down],
        "slow": [Sleep(0.004), *says("one two", usage)],
    }
    return ScriptedExpert(card, scripts[leaf.fate])


class Composed:
    """Plays a `Branch`."""

    def __init__(self, branch: Branch, name: str) -> None:
        self.card = ExpertCard(name, composed=True)
        self._branch = branch
        self._below = [grown(child, f"{name}.{n}") for n, child in enumerate(branch.children)]

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        run = self._raced if self._branch.race else self._one_by_one
        await run(request, call)
        if self._branch.fails:
            raise ExpertUnavailableError(self.card.expert_id, "nothing came of it")
        for step in says("done", None):
            assert not isinstance(step, Exception | Sleep | Hold)
            yield step

    async def _one_by_one(self, request: ChatRequest, call: Call) -> None:
        for child in self._below:
            with suppress(ExpertCallError):
                await _asked(child, request, call)

    async def _raced(self, request: ChatRequest, call: Call) -> None:
        async with anyio.create_task_group() as group:

            async def one(child: Expert) -> None:
                with suppress(ExpertCallError):
                    await _asked(child, request, call)
                    group.cancel_scope.cancel()

            for child in self._below:
                group.start_soon(one, child)

    async def aclose(self) -> None:
        return None


async def _asked(child: Expert, request: ChatRequest, call: Call) -> None:
    async with aclosing(call.run(child, request)) as events:
        await collect(events)


def grown(tree: Leaf | Branch, name: str) -> Expert:
    return scripted(tree, name) if isinstance(tree, Leaf) else Composed(tree, name)


class World:
    """A ledger, budgets over it, and who asks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.spending = Spending(ledger.engine, lambda name: [f"{name}-child"], lambda _: ())

    def admission(self, project: str) -> Admission:
        said = {"projects": {project: {"limits": [TOTAL]}}, "unknown_price": "allow"}
        return Admission(AccessSettings.model_validate(said), self.spending, self.ledger.flush)

    async def ask(
        self, admission: Admission, key: Key, roots: Sequence[Expert], hedge: bool, leaves: bool
    ) -> int:
        """One request through the real execution and books; what it is booked at."""
        experts = {expert.card.expert_id: expert for expert in roots}
        traffic = Traffic.of(_settings(hedge=hedge), seed=1)
        asked = ChatRequest((Message("user", "Hi"),), stream=True, max_tokens=2_000)
        bare = Ask(asked, "auto", "openai.chat", key)
        made = Ask(asked, "auto", "openai.chat", key, bare.wishes.model_copy(update=_SESSION))
        decided = untrained_router("test").decide(
            asked,
            [expert.card for expert in roots],
            preference=Preference(),
            policy_name="best",
            constraints=Constraints(),
            unhealthy={},
            uniform=0.0,
        )
        booking = Booking(self.ledger, made, decided, "none")
        passed = await admission.admit(made)
        terms = Terms(anyio.current_time() + 30, reservation=passed)
        running = Execution(experts, decided, booking, traffic, terms)
        status = 200
        try:
            async with aclosing(running.events(asked)) as events:
                async for _ in events:
                    if leaves:
                        status = 499
                        break
        except (AllExpertsFailedError, ApiError):
            status = 502
        passed.close()
        booking.close(status, None, running.answered_by, "")
        return booking.cost_nanousd


_SESSION = {"session": "s"}
ROOTS = ("root-0", "root-1", "root-2")


@lru_cache
def _settings(*, hedge: bool) -> Settings:
    execution: dict[str, Any] = {"max_retries": 1, "backoff_s": 0.0001}
    if hedge:
        execution["hedge_after_s"] = 0.001
    entries = [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in ROOTS]
    return Settings.model_validate({"experts": entries, "execution": execution})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ledger = Ledger(open_database(f"sqlite:///{tmp_path}/ledger.db", durable=False), strict=False)
    yield World(ledger)
    ledger.close()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(st.lists(trees, min_size=1, max_size=3), st.booleans(), st.booleans()),
        min_size=1,
        max_size=3,
    )
)
def test_attempts_add_up_to_the_request_and_to_every_budget(
    world: World, requests: list[tuple[list[Leaf | Branch], bool, bool]]
) -> None:
    name = f"k{next(_numbers)}"
    parent = Key(name, Grant(project=name, limits=(TOTAL,)))
    key = Key(
        f"{name}-child", Grant(project=name, limits=(TOTAL,), session_limits=(TOTAL,)), parent
    )

    async def all_of_them() -> tuple[Admission, list[int]]:
        admission = world.admission(name)
        costs = [
            await world.ask(admission, key, list(map(grown, roots, ROOTS)), hedge, leaves)
            for roots, hedge, leaves in requests
        ]
        await world.ledger.flush()
        return admission, costs

    admission, costs = asyncio.run(all_of_them())
    accounts = admission.accounts.all()
    assert {account.meter.kind for account in accounts} == {"key", "project", "session"}
    assert len(accounts) == 4, "its own, the one above, the project, the session"
    for account in accounts:
        assert (account.spent, account.reserved, account.passes) == (sum(costs), 0, 0)
        assert world.spending.since(account.meter, 0.0) == sum(costs)
    assert world_sums(world, key.name) == (sum(costs), sum(costs), len(costs))
    verdict = verify_ledger(world.ledger.engine)
    assert (verdict.faults, verdict.open_attempts) == ((), 0)
    event(f"wasted: {wasted(world, key.name) > 0}, paid for: {sum(costs) > 0}")


def world_sums(world: World, key: str) -> tuple[int, int, int]:
    """Nano-dollars of attempts, of requests, and how many requests."""
    asked = select(request.c.request_id).where(request.c.key_name == key)
    attempts = (
        select(func.coalesce(func.sum(attempt_result.c.cost_nanousd), 0))
        .join(attempt, attempt.c.attempt_id == attempt_result.c.attempt_id)
        .join(decision, decision.c.decision_id == attempt.c.decision_id)
        .where(decision.c.request_id.in_(asked))
    )
    whole = select(func.coalesce(func.sum(request_result.c.cost_nanousd), 0), func.count()).where(
        request_result.c.request_id.in_(asked)
    )
    with world.ledger.engine.connect() as connection:
        total, many = connection.execute(whole).one()
        return int(connection.execute(attempts).scalar_one()), int(total), int(many)


def wasted(world: World, key: str) -> int:
    query = (
        select(func.coalesce(func.sum(attempt_result.c.cost_nanousd), 0))
        .join(attempt, attempt.c.attempt_id == attempt_result.c.attempt_id)
        .join(decision, decision.c.decision_id == attempt.c.decision_id)
        .join(request, request.c.request_id == decision.c.request_id)
        .where(request.c.key_name == key, attempt_result.c.wasted.is_(True))
    )
    with world.ledger.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())
