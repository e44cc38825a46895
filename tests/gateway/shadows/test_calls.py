"""Others are asked what one has answered: apart from the request, where that is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.cards import ExpertCard, Prices
from experts.errors import ExpertUnavailableError
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import Hold, ScriptedExpert, says
from experts.messages import Usage
from gateway.app import create_app
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.wiring import build_gateway
from tests.gateway.raw import until
from tests.gateway.test_composition import DraftThenAnswer

Serve = Callable[..., Any]
USED = Usage(input=30, output=10)
COST = 50_000
"""Nano-dollars of one call."""
CHECK = {"kind": "numeric", "answer": 42}
EVERY: dict[str, Any] = {"share": 1.0, "budget_usd": 100.0}


def expert(name: str, *steps: Any, prior: float = 0.5) -> ScriptedExpert:
    card = ExpertCard(
        name, prices=Prices(1.0, 2.0), quality_prior=prior, tools=True, max_output_tokens=99
    )
    return ScriptedExpert(card, *(steps or (says("It is 42", USED),)))


def pool(**others: Any) -> dict[str, Any]:
    """`best` serves, whoever else there is."""
    return {"best": expert("best", prior=0.9), **others}


def asked(served: Any, **wishes: Any) -> Any:
    answer = served.ask(pointsman={"policy": "best", "check": CHECK, **wishes})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-pointsman-expert"] == "best"
    return answer


def shadows(served: Any, answer: Any, count: int) -> list[dict[str, Any]]:
    """The shadow calls of an answer, once so many have ended and been scored as far as they are."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = served.record(answer)["shadows"]
        over = [one for one in found if one["status"] not in (None, "ok") or one["outcomes"]]
        return len(over) >= count

    until(enough)
    return found


def serving(serve: Serve, experts: Any, **sections: Any) -> Any:
    return serve(experts, **{"shadow": EVERY, "routing": {"epsilon": 0.0}, **sections})


def test_the_others_are_asked_the_same_and_what_they_cost_is_booked_apart(serve: Serve) -> None:
    other = expert("other", says("It is 41", USED))
    served = serving(serve, pool(other=other))
    answer = served.ask(text="6*7?", pointsman={"policy": "best", "check": CHECK})
    [call] = shadows(served, answer, 1)
    assert (call["expert_id"], call["status"], call["cost_usd"]) == ("other", "ok", COST / 1e9)
    assert [(one["score"], one["source"]) for one in call["outcomes"]] == [(0.0, "grader:numeric")]
    assert other.requests[0].messages[0].text == "6*7?"
    record = served.record(answer)
    assert [one["score"] for one in record["outcomes"]] == [1.0]
    assert record["result"]["shadow"] == {"best": 1.0, "other": 1.0}
    assert (record["result"]["cost_nanousd"], len(record["attempts"])) == (COST, 1)
    totals = served.totals()
    assert (totals["cost_usd"], totals["shadow_usd"]) == (COST / 1e9, COST / 1e9)
    assert (totals["requests"], totals["shadow_calls"], totals["shadow_outcomes"]) == (1, 1, 1)
    assert served.verified().faults == ()
    assert 'pointsman_shadow_calls_total{result="ok"} 1' in served.client.get("/metrics").text


@pytest.mark.parametrize("fast", [False, True])
def test_either_path_has_shadows(
    serve: Serve, remote: Callable[..., Any], provider: FakeProvider, fast: bool
) -> None:
    provider.otherwise = Reply("It is 42")
    experts = {
        "best": remote("best", provider.url, quality_prior=0.9),
        "other": remote("other", provider.url, quality_prior=0.5),
    }
    served = serving(serve, experts, server={"fast_path": fast})
    [call] = shadows(served, asked(served), 1)
    assert (call["expert_id"], call["status"]) == ("other", "ok")
    assert served.verified().faults == ()


def test_nobody_is_asked_where_that_is_not_allowed_or_teaches_nothing(serve: Serve) -> None:
    other = expert("other")
    served = serving(serve, pool(other=other))
    silent = [
        asked(served, critical=True),
        asked(served, experts=["best"]),
        # Nobody could learn from a prompt that is not kept, or from an answer without a score.
        asked(served, keep="hash"),
        asked(served, check=None),
    ]
    # Whoever was asked for the first has been by the time that the last was.
    assert len(shadows(served, asked(served), 1)) == 1
    assert [shadows(served, each, 0) for each in silent] == [[]] * 4
    assert [served.record(each)["result"]["shadow"] for each in silent] == [None] * 4
    assert len(other.calls) == 1


def test_a_named_expert_and_one_who_brings_tools_have_no_shadows(serve: Serve) -> None:
    other = expert("other")
    served = serving(serve, pool(other=other))
    wishes = {"policy": "best", "check": CHECK}
    tool = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}
    named = served.ask("best", pointsman={"check": CHECK})
    acting = served.ask(pointsman=wishes, tools=[tool])
    assert len(shadows(served, asked(served), 1)) == 1
    assert [served.record(each)["shadows"] for each in (named, acting)] == [[], []]


def test_only_experts_that_are_named_are_asked_if_any_are(serve: Serve) -> None:
    experts = pool(other=expert("other"), third=expert("third"))
    served = serving(serve, experts, shadow={**EVERY, "experts": ["third"]})
    [call] = shadows(served, asked(served), 1)
    assert call["expert_id"] == "third"


def test_nobody_waits_for_a_shadow_and_the_gateway_ends_without_it(serve: Serve) -> None:
    other = expert("other", [Hold(), *says("42", USED)])
    served = serving(serve, pool(other=other))
    answers = [asked(served) for _ in range(5)]
    until(lambda: len(other.calls) == 2)
    # No more than `shadow.at_once`; the others wait for their turn.
    assert len(other.calls) == 2
    assert [served.record(each)["outcomes"][0]["score"] for each in answers] == [1.0] * 5


def test_an_expert_that_fails_a_shadow_fails_nobody_and_stays_in_service(serve: Serve) -> None:
    down = ExpertUnavailableError("other", "down")
    served = serving(serve, pool(other=expert("other", [down])), breaker={"failures": 1})
    calls = [shadows(served, asked(served), 1) for _ in range(3)]
    assert [[call["status"] for call in each] for each in calls] == [["failed"]] * 3
    assert 'breaker_state{expert="other"} 0' in served.client.get("/metrics").text
    assert served.verified().faults == ()


def spend(served: Any) -> float:
    """Ask until nobody else may be asked any more; what that cost."""
    for _ in range(60):
        answer = asked(served)
        if served.record(answer)["result"]["shadow"] is None:
            return float(served.totals()["shadow_usd"])
        shadows(served, answer, 1)
    raise AssertionError("the budget is never spent")


def test_they_stop_when_their_own_budget_is_spent(serve: Serve) -> None:
    served = serving(serve, pool(other=expert("other")), shadow={**EVERY, "budget_usd": 0.001})
    assert 0.0002 < spend(served) <= 0.001


def test_a_composition_is_one_call_that_costs_what_its_parts_cost(serve: Serve) -> None:
    draft, final = expert("draft"), expert("final")
    both = DraftThenAnswer("both", draft, final)
    experts = pool(both=both)
    served = serving(serve, experts)
    calls = shadows(served, asked(served), 1)
    [root] = [call for call in calls if call["call_id"] == call["root_id"]]
    parts = [call for call in calls if call is not root]
    assert (root["expert_id"], root["cost_usd"]) == ("both", 0.0)
    assert [part["expert_id"] for part in parts] == ["draft", "final"]
    assert {part["root_id"] for part in parts} == {root["call_id"]}
    assert served.totals()["shadow_calls"] == 1
    assert served.totals()["shadow_usd"] == 2 * COST / 1e9
    assert served.verified().faults == ()


def test_what_was_spent_before_a_restart_is_spent(serve: Serve) -> None:
    budget = {**EVERY, "budget_usd": 0.001}
    spent = spend(serving(serve, pool(other=expert("other")), shadow=budget))
    again = serving(serve, pool(other=expert("other")), shadow=budget)
    assert again.gateway.lasting.shadows.budget.account.spent == round(spent * 1e9)


def test_a_shadow_gives_its_slot_to_a_request(tmp_path: Path) -> None:
    other = expert("other", [Hold(), *says("42", USED)], says("It is 42", USED))
    experts = pool(other=other)
    entries = [{"id": name, "base_url": "http://127.0.0.1:9/v1", "max_concurrency": 1}
               for name in experts]  # fmt: skip
    settings = Settings.model_validate(
        {
            "experts": entries,
            "shadow": EVERY,
            "routing": {"epsilon": 0.0},
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db", "text": "full"},
            "data_dir": str(tmp_path),
        }
    )
    with (
        background_server(create_app(build_gateway(settings, experts))) as url,
        httpx2.Client(base_url=url, timeout=30.0, trust_env=False) as client,
    ):
        body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
        wishes = {"policy": "best", "check": CHECK}
        first = client.post("/v1/chat/completions", json={**body, "pointsman": wishes})
        until(lambda: bool(other.calls))
        wanted = client.post("/v1/chat/completions", json={**body, "model": "other"})
        assert wanted.status_code == 200
        assert wanted.json()["choices"][0]["message"]["content"] == "It is 42"
        [call] = client.get(f"/v1/decisions/{first.headers['x-pointsman-decision-id']}").json()[
            "shadows"
        ]
        assert call["status"] == "cancelled"
