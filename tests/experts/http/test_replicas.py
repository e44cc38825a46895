from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.engines.load import EngineLoad
from experts.errors import (
    ExpertAuthError,
    ExpertCallError,
    ExpertConnectionError,
    ExpertNotFoundError,
    ExpertQuotaError,
    ExpertRateLimitedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.http.breaker import BreakerRules
from experts.http.replicas import Balance, Lease, Replicas, prefix_of
from experts.messages import ChatRequest, Message

URLS = [f"http://{name}/v1" for name in "abcd"]
FAILED = ExpertConnectionError("e", "refused")


@dataclass
class Clock:
    now: float = 10.0

    def __call__(self) -> float:
        return self.now


def asked(text: str = "Hi") -> ChatRequest:
    return ChatRequest((Message("user", text),))


def long_beginning(name: str) -> ChatRequest:
    return ChatRequest((Message("system", name * 600), Message("user", "Hi")))


def picked(replicas: Replicas, request: ChatRequest, session: str | None = None) -> Lease:
    lease = replicas.pick(request, session)
    assert lease is not None
    return lease


def home(replicas: Replicas, request: ChatRequest, session: str | None = None) -> str:
    """Where a call goes when nothing else is under way."""
    lease = picked(replicas, request, session)
    lease.end(None)
    return lease.endpoint.url


def test_calls_with_nothing_in_common_go_where_least_is_going_on() -> None:
    replicas = Replicas(URLS)
    leases = [picked(replicas, asked(str(i))) for i in range(8)]
    assert [endpoint.load for endpoint in replicas.endpoints] == [2, 2, 2, 2]
    leases[3].end(None)
    assert picked(replicas, asked()).endpoint is leases[3].endpoint


def test_conversations_that_begin_alike_go_to_the_same_endpoint() -> None:
    replicas, others = Replicas(URLS), Replicas(URLS[::-1])
    homes = [home(replicas, long_beginning(chr(65 + i))) for i in range(20)]
    assert homes == [home(others, long_beginning(chr(65 + i))) for i in range(20)]
    assert set(homes) == set(URLS)


def test_an_endpoint_less_moves_only_its_own_conversations() -> None:
    before, after = Replicas(URLS), Replicas(URLS[:3])
    for i in range(20):
        request = long_beginning(chr(65 + i))
        if home(before, request) != URLS[3]:
            assert home(after, request) == home(before, request)


def test_a_later_turn_begins_like_the_first() -> None:
    first = long_beginning("s")
    later = ChatRequest((*first.messages, Message("assistant", "a"), Message("user", "more")))
    assert prefix_of(first) == prefix_of(later)


def test_affinity_ends_where_others_are_idle() -> None:
    replicas = Replicas(URLS, Balance(prefix_margin=2))
    for _ in range(12):
        picked(replicas, long_beginning("s"))
    loads = sorted(endpoint.load for endpoint in replicas.endpoints)
    assert loads[-1] <= 4, "a quarter more than the mean"
    assert loads[-1] > loads[0]


def test_a_session_stays_until_that_costs_more_than_a_cold_cache() -> None:
    replicas = Replicas(URLS[:2], Balance(session_margin=3))
    stays = picked(replicas, asked(), "s").endpoint
    for _ in range(3):
        assert picked(replicas, asked(), "s").endpoint is stays
    moved = picked(replicas, asked(), "s").endpoint
    assert moved is not stays
    stays.load = 0
    assert picked(replicas, asked(), "s").endpoint is moved, "its cache is there now"


def test_what_others_ask_of_an_endpoint_counts_and_who_waits_counts_twice() -> None:
    replicas = Replicas(URLS[:2], Balance(session_margin=3, prefix_margin=3))
    first, second = replicas.endpoints
    ours = picked(replicas, asked(), "s")
    first, second = (first, second) if ours.endpoint is first else (second, first)
    first.told(EngineLoad(running=3, waiting=0))
    assert (first.load, first.others, first.busy) == (1, 2, 3), "one of the three is ours"
    assert home(replicas, asked()) == second.url
    assert home(replicas, asked(), "s") == first.url, "its cache is worth three requests"
    first.told(EngineLoad(running=3, waiting=1))
    assert first.busy == 5
    assert home(replicas, asked(), "s") == second.url
    alike = [long_beginning(chr(65 + i)) for i in range(20)]
    assert {home(replicas, request) for request in alike} == {second.url}
    second.told(EngineLoad(running=2, waiting=0))
    assert {home(replicas, request) for request in alike} == {first.url, second.url}
    for _ in range(4):
        second.told(None)
    assert second.busy == 2, "it may have too much to do to answer"
    second.told(None)
    assert second.busy == 0, "nobody is disfavoured for what he said long ago"
    ours.end(None)
    first.told(EngineLoad(running=0, waiting=0))
    assert first.busy == 0


def test_sessions_are_forgotten_in_the_end() -> None:
    replicas = Replicas(URLS[:2])
    for i in range(10_050):
        picked(replicas, asked(), str(i)).end(None)
    assert len(replicas._sessions) == 10_000


def test_an_endpoint_that_fails_is_left_alone_and_probed_later() -> None:
    clock = Clock()
    replicas = Replicas(URLS[:2], rules=BreakerRules(failures=2, open_s=5), clock=clock)
    bad = replicas.endpoints[0]
    for _ in range(2):
        lease = replicas.pick(asked(), avoid=[replicas.endpoints[1]])
        assert lease is not None
        assert lease.endpoint is bad
        lease.end(FAILED)
    assert {home(replicas, asked()) for _ in range(10)} == {URLS[1]}
    assert not replicas.spare([replicas.endpoints[1]])
    clock.now += 5
    probes = [picked(replicas, asked()) for _ in range(3)]
    assert Counter(lease.endpoint is bad for lease in probes)[True] == 1


@pytest.mark.parametrize("kind", [ExpertAuthError, ExpertNotFoundError, ExpertQuotaError])
def test_an_endpoint_that_refuses_what_others_may_not_is_left_alone_while_there_are_others(
    kind: type[ExpertCallError],
) -> None:
    replicas = Replicas(URLS[:2], rules=BreakerRules(failures=2, open_s=5), clock=Clock())
    for _ in range(20):
        lease = picked(replicas, asked())
        lease.end(kind("e", "no") if lease.endpoint.url == URLS[0] else None)
    assert {home(replicas, asked()) for _ in range(10)} == {URLS[1]}
    for _ in range(20):
        picked(replicas, asked()).end(kind("e", "no"))
    assert home(replicas, asked()) == URLS[1], "the last one goes on to say why"


def test_when_all_endpoints_are_out_nobody_is_picked() -> None:
    clock = Clock()
    replicas = Replicas(URLS[:2], rules=BreakerRules(failures=1, open_s=5), clock=clock)
    for _ in range(2):
        picked(replicas, asked()).end(FAILED)
    assert replicas.pick(asked()) is None
    assert replicas.wait_s() == 5


def test_an_endpoint_to_be_avoided_is_still_better_than_none() -> None:
    replicas = Replicas(URLS[:2])
    lease = replicas.pick(asked(), avoid=replicas.endpoints)
    assert lease is not None


def test_a_place_is_given_back_once_and_a_timeout_counts_afterwards() -> None:
    clock = Clock()
    replicas = Replicas(URLS[:2], rules=BreakerRules(failures=1), clock=clock)
    lease = picked(replicas, asked())
    lease.abandon()
    lease.end(None)
    assert lease.endpoint.load == 0
    lease.blame(ExpertTimeoutError("e", "silent"))
    assert lease.endpoint.wait_s > 0


def test_an_endpoint_that_asks_for_a_pause_gets_it() -> None:
    replicas = Replicas(URLS[:2], clock=Clock())
    lease = picked(replicas, asked())
    lease.end(ExpertRateLimitedError("e", "429", retry_after_s=3))
    assert lease.endpoint.wait_s == 3
    other = picked(replicas, asked())
    other.end(ExpertUnavailableError("e", "503", retry_after_s=9999))
    assert other.endpoint.wait_s == BreakerRules().max_pause_s


def test_a_single_endpoint_is_always_picked() -> None:
    replicas = Replicas(URLS[:1])
    for _ in range(10):
        picked(replicas, asked()).end(FAILED)
    assert home(replicas, asked()) == URLS[0]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pick", "end", "fail", "abandon", "wait"]),
        st.integers(0, 5),
        st.sampled_from([None, "s", "t"]),
    ),
    max_size=60,
)


@given(STEPS)
def test_loads_are_the_calls_under_way(steps: list[tuple[str, int, str | None]]) -> None:
    clock = Clock()
    replicas = Replicas(URLS[:3], rules=BreakerRules(failures=2, open_s=1), clock=clock)
    open_: list[Lease] = []
    for what, which, session in steps:
        if what == "wait":
            clock.now += which
        elif what == "pick":
            lease = replicas.pick(long_beginning(str(which)), session)
            assert (lease is None) == (replicas.wait_s() > 0)
            open_ += [lease] if lease else []
        elif open_:
            lease = open_.pop(which % len(open_))
            {"end": lambda one: one.end(None), "fail": lambda one: one.end(FAILED)}.get(
                what, Lease.abandon
            )(lease)
    assert Counter(lease.endpoint.url for lease in open_) == Counter(
        {endpoint.url: endpoint.load for endpoint in replicas.endpoints}
    )
