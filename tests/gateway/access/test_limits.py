"""Limits and budgets in the real application, under real concurrency."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from sqlalchemy import func, select

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage
from gateway.access.keys import Key
from gateway.access.sharing import check_sharing
from gateway.access.worst import worst_case
from gateway.api.chat import CHAT
from gateway.errors import ConfigError
from gateway.ledger.database import opened
from gateway.ledger.tables import attempt_result
from gateway.settings.root import Settings
from tests.gateway.test_composition import DraftThenAnswer

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
BOSS = {"name": "boss", "key": "boss-key-1", "role": "admin"}


def team(*limits: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "team", "key": "team-key-1", "limits": list(limits), **more}


def ask(served: Any, key: str = "team", **fields: Any) -> httpx2.Response:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], **fields}
    headers = {"authorization": f"Bearer {key}-key-1"}
    sent: httpx2.Response = served.client.post("/v1/chat/completions", json=body, headers=headers)
    return sent


def budgets(served: Any) -> list[dict[str, Any]]:
    answer = served.client.get("/admin/budgets", headers={"authorization": "Bearer boss-key-1"})
    found: list[dict[str, Any]] = answer.json()["budgets"]
    return found


def booked(served: Any) -> int:
    served.verified()
    with opened(served.gateway.settings.ledger_url) as engine, engine.connect() as connection:
        total = select(func.coalesce(func.sum(attempt_result.c.cost_nanousd), 0))
        return int(connection.execute(total).scalar_one())


@pytest.fixture
def start(serve: Serve, remote: Remote, provider: FakeProvider) -> Callable[..., Any]:
    def make(*keys: dict[str, Any], price: Prices | None = None, **sections: Any) -> Any:
        experts = {"small": remote("small", provider.url, price or Prices(1, 2))}
        return serve(experts, keys=[BOSS, *keys], **sections)

    return make


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_every_answer_says_how_the_limits_stand(
    start: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    served = start(team({"requests": 3, "per": "minute"}, {"tokens": 1000, "per": "hour"}))
    provider.script.extend([Reply(), Reply(status=400)])
    good = ask(served, stream=stream, max_tokens=5)
    assert good.status_code == 200
    assert good.headers["x-ratelimit-limit-requests"] == "3"
    assert good.headers["x-ratelimit-remaining-requests"] == "2"
    assert good.headers["x-ratelimit-reset-requests"].endswith("s")
    assert good.headers["x-ratelimit-limit-tokens"] == "1000"
    assert int(good.headers["x-ratelimit-remaining-tokens"]) < 1000
    wrong = ask(served, temperature="hot")
    assert (wrong.status_code, wrong.headers["x-ratelimit-remaining-requests"]) == (400, "2")
    broken = ask(served, stream=stream)
    assert broken.status_code == 400
    assert broken.headers["x-ratelimit-remaining-requests"] == "1"
    assert ask(served, model="nobody").headers["x-ratelimit-remaining-requests"] == "0"
    full = ask(served, stream=stream)
    assert (full.status_code, full.json()["error"]["type"]) == (429, "rate_limit_error")
    assert 1 <= int(full.headers["retry-after"]) <= 61
    assert full.headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-ratelimit-limit-requests" not in ask(served, "boss").headers


def test_tokens_are_estimated_then_counted_as_they_were(
    start: Callable[..., Any], provider: FakeProvider
) -> None:
    served = start(team({"tokens": 1000, "per": "minute"}))
    answer = ask(served, max_tokens=900)
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(1000 - 12)
    too_long = ask(served, max_tokens=2000)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (
        400,
        "request_exceeds_limit",
    )
    provider.otherwise = Reply(usage={"prompt_tokens": 980, "completion_tokens": 5})
    assert ask(served, max_tokens=10).status_code == 200
    full = ask(served, max_tokens=10)
    assert full.status_code == 429
    assert 50 < int(full.headers["retry-after"]) <= 61


def test_a_burst_gets_as_many_answers_as_the_limit_says(start: Callable[..., Any]) -> None:
    served = start(team({"requests": 7, "per": "minute"}))
    with ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(lambda _: ask(served).status_code, range(20)))
    assert sorted(statuses) == [200] * 7 + [429] * 13


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_budget_is_never_overspent_by_many_at_once(
    start: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    # An answer costs 12 micro-dollars, its worst case a multiple: some fit, most don't.
    provider.otherwise = Reply(usage={"prompt_tokens": 4, "completion_tokens": 4})
    limit = 0.002
    served = start(team({"usd": limit, "per": "total"}), access={"min_answer_tokens": 100})
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: ask(served, max_tokens=100, stream=stream), range(50)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < 50
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "budget_exceeded")
    spent = booked(served)
    assert 0 < spent <= limit * 1e9
    (account,) = budgets(served)
    assert account["reserved_usd"] == 0
    assert round(account["spent_usd"] * 1e9) == spent == 12_000 * (50 - len(refused))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_two_hundred_at_once_get_the_fifty_answers_that_a_budget_is_for(
    start: Callable[..., Any], provider: FakeProvider, stream: bool
) -> None:
    """Every answer takes all that was set aside for it: neither more nor less than 50 fit."""
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    asked = CHAT.parse(orjson.dumps(body), {}, Key("k")).request
    worst = worst_case(ExpertCard("small"), Prices(1, 2), asked, 4096)
    assert worst is not None
    read = (worst.cost(100) - 2_000 * 100) // 1_000
    provider.otherwise = Reply(usage={"prompt_tokens": read, "completion_tokens": 100})
    limit = 50 * worst.cost(100)
    served = start(team({"usd": limit / 1e9, "per": "total"}), access={"min_answer_tokens": 100})

    statuses: list[int] = []

    async def all_at_once() -> None:
        limits = httpx2.Limits(max_connections=200)
        headers = {"authorization": "Bearer team-key-1"}
        async with httpx2.AsyncClient(
            base_url=served.url, headers=headers, limits=limits, timeout=60, trust_env=False
        ) as client:

            async def one() -> None:
                sent = {**body, "stream": stream}
                answer = await client.post("/v1/chat/completions", json=sent)
                statuses.append(answer.status_code)

            async with anyio.create_task_group() as group:
                for _ in range(200):
                    group.start_soon(one)

    anyio.run(all_at_once)
    assert sorted(statuses) == [200] * 50 + [429] * 150
    spent = booked(served)
    # What is set aside for each is rounded up to the next nano-dollar.
    assert limit - 50 <= spent <= limit
    (account,) = budgets(served)
    assert (round(account["spent_usd"] * 1e9), account["reserved_usd"]) == (spent, 0)
    assert served.verified().faults == ()


def test_a_budget_at_its_edge_holds_in_the_worst_case(
    start: Callable[..., Any], provider: FakeProvider
) -> None:
    # Every answer is as long as it may be, and its prompt as long as it was sent.
    limit = 0.01
    served = start(team({"usd": limit, "per": "day"}), price=Prices(0, 10))
    provider.otherwise = Reply(usage={"prompt_tokens": 60, "completion_tokens": 16})
    with ThreadPoolExecutor(30) as threads:
        statuses = list(threads.map(lambda _: ask(served, max_tokens=16).status_code, range(80)))
    assert set(statuses) == {200, 429}
    assert booked(served) <= limit * 1e9
    assert booked(served) > 0.95 * limit * 1e9


def test_an_answer_is_cut_to_what_the_budget_pays_for(
    start: Callable[..., Any], provider: FakeProvider
) -> None:
    served = start(team({"usd": 0.001, "per": "total"}))
    answer = ask(served, max_tokens=100_000)
    sent = provider.bodies[0]["max_tokens"]
    assert 16 <= sent < 500
    assert answer.headers["x-pointsman-max-tokens"] == str(sent)


@pytest.mark.parametrize("ending", ["failed", "left", "bad"])
def test_nothing_stays_set_aside(
    start: Callable[..., Any], provider: FakeProvider, ending: str
) -> None:
    served = start(team({"usd": 1, "per": "total"}, {"tokens": 100_000, "per": "minute"}))
    if ending == "failed":
        provider.otherwise = Reply(status=500)
        ask(served, max_tokens=50)
    elif ending == "bad":
        ask(served, model="nobody")
    else:
        provider.otherwise = Reply(stall_after=1)
        body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        headers = {"authorization": "Bearer team-key-1"}
        path = "/v1/chat/completions"
        with served.client.stream("POST", path, json=body, headers=headers) as answer:
            lines = answer.iter_lines()  # once it is forgotten, the client has left
            next(lines)
            assert budgets(served)[0]["reserved_usd"] > 0
        assert provider.left.wait(30)
    _until(lambda: budgets(served)[0]["reserved_usd"] == 0)
    assert round(budgets(served)[0]["spent_usd"] * 1e9) == booked(served)


def _until(holds: Callable[[], bool]) -> None:
    assert any(holds() for _ in range(300)), "it never came"


def test_what_was_spent_is_remembered_by_the_ledger(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    limits = [{"usd": 0.00003, "per": "month"}]
    project = {"projects": {"red": {"limits": [{"usd": 1, "per": "week"}]}}}
    provider.otherwise = Reply(usage={"prompt_tokens": 4, "completion_tokens": 4})
    free = {"name": "free", "key": "free-key-1", "project": "red"}
    keys = [BOSS, team(*limits, project="red"), free]
    first, again = (
        serve({"small": remote("small", provider.url, Prices(0, 3))}, keys=keys, access=project)
        for _ in range(2)
    )
    assert [ask(first, max_tokens=4, key=key).status_code for key in ("team", "team", "free")] == [
        200
    ] * 3
    first.verified()
    spent = {each["name"]: round(each["spent_usd"] * 1e9) for each in budgets(again)}
    assert spent == {"team": 24_000, "red": 36_000}
    assert ask(again, max_tokens=4).status_code == 429


def test_sessions_have_budgets_of_their_own(
    start: Callable[..., Any], provider: FakeProvider
) -> None:
    provider.otherwise = Reply(usage={"prompt_tokens": 4, "completion_tokens": 4})
    key = team(session_limits=[{"usd": 0.00003, "per": "total"}])
    served = start(key, price=Prices(0, 3))
    for session in ("a", "b"):
        wish = {"session": session}
        statuses = [ask(served, pointsman=wish, max_tokens=4).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]


def test_the_children_of_a_composition_are_paid_for_one_by_one(serve: Serve) -> None:
    def scripted(name: str) -> ScriptedExpert:
        answer = says("a draft", Usage(input=5, output=2))
        return ScriptedExpert(ExpertCard(name, prices=Prices(10, 10)), answer, answer)

    draft, final = scripted("draft"), scripted("small")
    both = DraftThenAnswer("both", draft, final)
    served = serve(
        {"both": both, "draft": draft, "small": final},
        keys=[BOSS, team({"usd": 0.004, "per": "total"})],
    )
    assert ask(served, model="both", max_tokens=16).status_code == 200
    (account,) = budgets(served)
    assert (account["reserved_usd"], round(account["spent_usd"] * 1e9)) == (0, booked(served))
    assert booked(served) == 2 * 70_000


def test_an_unpriced_expert_under_a_budget_is_refused_clearly(
    serve: Serve, provider: FakeProvider
) -> None:
    unpriced = ScriptedExpert(ExpertCard("small"), says("Hello", Usage(input=1, output=1)))
    served = serve({"small": unpriced}, keys=[BOSS, team({"usd": 1, "per": "day"})])
    answer = ask(served)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cost_not_bounded")
    assert "price" in answer.json()["error"]["message"]


def test_workers_that_count_apart_keep_no_limits_and_say_so(start: Callable[..., Any]) -> None:
    limits = [{"requests": 5, "per": "minute"}]
    served = start(server={"workers": 2})
    root = {"authorization": "Bearer boss-key-1"}
    body = {"name": "new", "limits": limits}
    secret = served.client.post("/admin/keys", headers=root, json=body).json()["key"]
    asked = served.client.post(
        "/v1/chat/completions",
        json={"model": "small", "messages": [{"role": "user", "content": "Hi"}]},
        headers={"authorization": f"Bearer {secret}"},
    )
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "limits_not_shared")
    assert ask(served, "boss").status_code == 200
    keys = [{"name": "team", "key": "team-key-1", "limits": limits}]
    with pytest.raises(ConfigError, match=r"access\.shared"):
        check_sharing(Settings.model_validate({"server": {"workers": 2}, "keys": keys}))
    check_sharing(Settings.model_validate({"server": {"workers": 2}}))
    check_sharing(Settings.model_validate({"keys": keys}))
