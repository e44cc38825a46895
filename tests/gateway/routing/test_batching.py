"""Requests of one turn of the loop are decided together, and none suffers from another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import anyio
import anyio.lowlevel
import numpy as np

from experts.cards import ExpertCard, Prices
from experts.errors import ExpertConnectionError
from experts.http.breaker import BreakerRules
from experts.messages import ChatRequest, Message
from gateway.execution.health import Health
from gateway.routing.batching import Batcher, Case
from routers.eligible import Constraints
from routers.encoders.lexical import HashingEncoder
from routers.errors import NoEligibleExpertError
from routers.features import Featurizer
from routers.policies.greedy import GreedyUtilityPolicy
from routers.records import Decision, Estimates, FeatureBatch, OutcomeTable, Preference, State
from routers.router import Router, untrained_router

CARDS = [
    ExpertCard("a", prices=Prices(1.0, 2.0), context_tokens=50_000, quality_prior=0.9),
    ExpertCard("b", prices=Prices(10.0, 20.0), quality_prior=0.2),
]
Found = dict[str, Decision | Exception]


@dataclass
class Watched:
    """An estimator that expects more of "b" the more "b"s a text has, and that is watched."""

    act: Callable[[Sequence[str]], None] = lambda texts: None
    works_s: Mapping[str, float] = field(default_factory=dict)
    """How long it works for some texts, by the clock that it shows; 0 for all others."""
    waits_s: Mapping[str, float] = field(default_factory=dict)
    """How long it waits for something else meanwhile."""
    worked: float = 0.0
    waited: float = 0.0
    batches: list[tuple[str, ...]] = field(default_factory=list)
    threads: list[bool] = field(default_factory=list)
    """Of each batch: whether it was estimated off the event loop."""
    name = "watched"

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        return self

    def predict(self, features: FeatureBatch) -> Estimates:
        self.batches.append(features.texts)
        self.threads.append(threading.current_thread() is not threading.main_thread())
        self.act(features.texts)
        self.worked += sum(self.works_s.get(text, 0.0) for text in features.texts)
        self.waited += sum(self.waits_s.get(text, 0.0) for text in features.texts)
        of_b_N = np.array([text.count("b") / len(text) for text in features.texts])
        quality_NA = np.stack([np.full(len(of_b_N), 0.5), of_b_N], axis=1)
        unknown_NA = np.full_like(quality_NA, np.nan)
        return Estimates(("a", "b"), quality_NA, unknown_NA, unknown_NA, unknown_NA)

    def state(self) -> State:
        return {}, {}

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls()


def router(estimator: Watched, epsilon: float = 0.0) -> Router:
    featurizer = Featurizer(HashingEncoder(8))
    return Router("default", "v1", featurizer, estimator, GreedyUtilityPolicy(), epsilon)


def case(text: str, uniform: float = 0.5, **constraints: Any) -> Case:
    request = ChatRequest((Message("user", text),))
    return Case(request, "best", Preference(), Constraints(**constraints), uniform)


def batcher(
    estimator: Watched,
    default: str | None = None,
    within_s: float = 30,
    health: Health | None = None,
) -> Batcher:
    def clock() -> float:
        return estimator.waited + estimator.worked

    return Batcher(CARDS, health or Health(), default, within_s, clock, lambda: estimator.worked)


async def decided(batch: Batcher, by: Router, cases: Mapping[str, Case]) -> Found:
    """What each case comes to, all of them submitted in one turn."""
    found: Found = {}
    all_told = anyio.Event()

    def told(name: str, each: Decision | Exception) -> None:
        assert name not in found, "told twice"
        found[name] = each
        if len(found) == len(cases):
            all_told.set()

    for name, each in cases.items():
        batch.submit(by, each, partial(told, name))
    assert found == {}, "nobody is told before the turn is over"
    await all_told.wait()
    return found


def experts(found: Found) -> dict[str, str]:
    return {
        name: each.expert if isinstance(each, Decision) else type(each).__name__
        for name, each in found.items()
    }


def test_what_comes_in_one_turn_is_estimated_together_once_a_router_is_known_to_be_quick() -> None:
    estimator = Watched()
    by = router(estimator)

    async def scenario() -> Found:
        batch = batcher(estimator)
        await decided(batch, by, {"first": case("x")})
        return await decided(batch, by, {text: case(text) for text in ("aab", "bbb", "b")})

    found = anyio.run(scenario)
    assert experts(found) == {"aab": "a", "bbb": "b", "b": "b"}
    assert estimator.batches == [("x",), ("aab", "bbb", "b")]
    assert estimator.threads == [True, False], "measured in a thread, then trusted on the loop"


def test_together_comes_out_what_comes_out_alone() -> None:
    estimator = Watched()
    by = router(estimator, epsilon=0.3)
    rng = np.random.default_rng(5)
    texts = ["ab" * n + "b" * (n % 3) for n in range(1, 40)]
    cases = {text: case(text, float(rng.random())) for text in texts}

    async def scenario() -> Found:
        batch = batcher(estimator)
        await decided(batch, by, {"first": case("x")})
        return await decided(batch, by, cases)

    for text, each in anyio.run(scenario).items():
        alone = by.decide(
            cases[text].request,
            CARDS,
            preference=Preference(),
            policy_name="best",
            constraints=Constraints(),
            unhealthy={},
            uniform=cases[text].uniform,
        )
        assert isinstance(each, Decision)
        assert (each.expert, each.draw) == (alone.expert, alone.draw)
        assert np.array_equal(each.probabilities_A, alone.probabilities_A)
        assert np.array_equal(each.candidates.quality_A, alone.candidates.quality_A)


def test_everybody_is_told_in_the_order_of_arrival_however_many_wait() -> None:
    texts = [f"b{n}" for n in range(100)]
    estimator = Watched()

    async def scenario() -> Found:
        batch, by = batcher(estimator), router(estimator)
        await decided(batch, by, {"first": case("x")})
        return await decided(batch, by, {text: case(text) for text in texts})

    assert list(anyio.run(scenario)) == texts
    # So many would keep the loop from everything else.
    assert max(map(len, estimator.batches)) <= 32


def test_one_text_that_an_estimator_fails_on_fails_alone() -> None:
    def act(texts: Sequence[str]) -> None:
        if any("poison" in text for text in texts):
            raise ValueError("a bug in a plugin")

    estimator = Watched(act)

    async def scenario() -> Found:
        batch, by = batcher(estimator, default="b"), router(estimator)
        await decided(batch, by, {"first": case("x")})
        cases = {text: case(text) for text in ("aab", "poison", "bbb")}
        return await decided(batch, by, cases)

    found = anyio.run(scenario)
    assert experts(found) == {"aab": "a", "poison": "b", "bbb": "b"}
    poisoned, well = found["poison"], found["bbb"]
    assert isinstance(poisoned, Decision)
    assert isinstance(well, Decision)
    assert "router_failed" in poisoned.flags
    assert poisoned.propensity == 1.0
    assert "router_failed" not in well.flags


def test_a_router_that_fails_without_a_default_leaves_it_to_the_priors() -> None:
    def act(_texts: Sequence[str]) -> None:
        raise ValueError("a bug in a plugin")

    estimator = Watched(act)
    found = anyio.run(decided, batcher(estimator), router(estimator), {"bbb": case("bbb")})
    assert experts(found) == {"bbb": "a"}


def test_who_can_be_served_by_nobody_is_told_why_and_nobody_else() -> None:
    estimator = Watched()

    async def scenario() -> Found:
        batch, by = batcher(estimator), router(estimator)
        cases = {
            "nobody": case("bb", allow=frozenset()),
            "long": case("b" * 900_000, allow=frozenset({"a"})),
            "well": case("bb"),
        }
        return await decided(batch, by, cases)

    found = anyio.run(scenario)
    assert experts(found) == {
        "nobody": "NoEligibleExpertError",
        "long": "NoEligibleExpertError",
        "well": "b",
    }
    assert isinstance(found["nobody"], NoEligibleExpertError)
    assert set(found["nobody"].reasons) == {"a", "b"}


def test_who_is_out_of_service_is_left_out_unless_nobody_else_is_there() -> None:
    health = Health(BreakerRules(failures=1))
    estimator = Watched()
    by = router(estimator)

    async def scenario(*out: str) -> Found:
        batch = batcher(estimator, health=health)
        for expert in out:
            health.record(expert, ExpertConnectionError(expert, "is away"))
        return await decided(batch, by, {"bbb": case("bbb")})

    assert experts(anyio.run(scenario, "b")) == {"bbb": "a"}
    assert experts(anyio.run(scenario, "a")) == {"bbb": "b"}


def test_a_slow_router_stays_off_the_loop_and_gives_up_in_time() -> None:
    free = threading.Event()

    def act(texts: Sequence[str]) -> None:
        if "slow" in texts:
            assert free.wait(30)

    estimator = Watched(act)

    async def scenario() -> Found:
        batch, by = batcher(estimator, default="b", within_s=0.2), router(estimator)
        try:
            # Neither waits for the other: each has a thread and a time limit of its own.
            found = await decided(batch, by, {"slow": case("slow"), "aab": case("aab")})
        finally:
            free.set()
        return found

    found = anyio.run(scenario)
    assert list(found) == ["aab", "slow"]
    assert experts(found) == {"aab": "a", "slow": "b"}
    late = found["slow"]
    assert isinstance(late, Decision)
    assert "router_failed" in late.flags
    assert estimator.threads == [True, True]


def test_where_a_router_works_follows_what_it_was_measured_to_take() -> None:
    estimator = Watched(works_s={"hard": 0.003}, waits_s={"wait": 0.02, "interrupted": 0.005})

    async def scenario() -> None:
        batch, by = batcher(estimator), router(estimator)
        for text in ("hard", "interrupted", "x", "hard", "y", "wait", "wait", "z", "w"):
            await decided(batch, by, {text: case(text)})

    anyio.run(scenario)
    # Being interrupted is no work; one hard text among easy ones is no reason to leave the loop,
    # and having waited for something else is.
    found = list(zip(estimator.batches, estimator.threads, strict=True))
    assert [text for (text,), apart in found if apart] == ["hard", "interrupted", "wait", "z"]
    assert len(found) == 9


def test_a_router_that_hangs_holds_few_threads_and_soon_nobody_up() -> None:
    free = threading.Event()

    def act(_texts: Sequence[str]) -> None:
        assert free.wait(60)

    estimator = Watched(act)

    async def scenario() -> tuple[Found, Found]:
        batch, by = batcher(estimator, default="b", within_s=0.1), router(estimator)
        try:
            first = await decided(batch, by, {f"n{n}": case("aab") for n in range(12)})
            # All threads hang, so who comes now is not kept waiting at all.
            batch._within_s = 3600
            with anyio.fail_after(30):
                later = await decided(batch, by, {"later": case("aab")})
        finally:
            free.set()
        return first, later

    first, later = anyio.run(scenario)
    assert set(experts(first | later).values()) == {"b"}
    assert len(estimator.batches) == 4, "the others never began"


def test_threads_that_caught_up_are_used_again() -> None:
    free = threading.Event()

    def act(texts: Sequence[str]) -> None:
        if "slow" in texts:
            assert free.wait(60)

    estimator = Watched(act)

    async def scenario() -> Found:
        batch, by = batcher(estimator, default="b", within_s=0.1), router(estimator)
        await decided(batch, by, {f"n{n}": case("slow") for n in range(4)})
        free.set()
        batch._within_s = 60
        while batch._overdue:
            await anyio.lowlevel.checkpoint()
        return await decided(batch, by, {"aab": case("aab")})

    found = anyio.run(scenario)["aab"]
    assert isinstance(found, Decision)
    assert "router_failed" not in found.flags


def test_a_very_long_text_is_estimated_off_the_loop() -> None:
    estimator = Watched()

    async def scenario() -> None:
        batch, by = batcher(estimator), router(estimator)
        await decided(batch, by, {"first": case("x")})
        await decided(batch, by, {"long": case("b" * 300_000), "short": case("b")})

    anyio.run(scenario)
    lengths = [len(batch[0]) for batch in estimator.batches]
    found = sorted(zip(lengths, estimator.threads, strict=True))
    assert found == [(1, False), (1, True), (300_000, True)]


def test_an_untrained_router_never_needs_a_thread() -> None:
    before = set(threading.enumerate())
    during: set[threading.Thread] = set()

    async def scenario() -> Found:
        found = await decided(batcher(Watched()), untrained_router("u"), {"x": case("x")})
        during.update(threading.enumerate())
        return found

    assert experts(anyio.run(scenario)) == {"x": "a"}
    assert during <= before


def test_one_listener_that_fails_costs_the_others_nothing() -> None:
    told: list[Decision | Exception] = []

    def broken(_found: Decision | Exception) -> None:
        raise ValueError("a bug of whoever asked")

    async def scenario() -> None:
        batch, by = batcher(Watched()), untrained_router("u")
        done = anyio.Event()
        batch.submit(by, case("x"), broken)
        batch.submit(by, case("x"), told.append)
        batch.submit(by, case("x"), lambda _found: done.set())
        await done.wait()

    anyio.run(scenario)
    assert len(told) == 1
