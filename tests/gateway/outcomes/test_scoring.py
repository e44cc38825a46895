"""Answers are scored after they have ended: by checks, by what clients do, by judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import Hold, ScriptedExpert, says
from experts.messages import Usage
from tests.gateway.raw import until

PRICES = Prices(1.0, 2.0)
USED = Usage(input=30, output=10)
Serve = Callable[..., Any]


def expert(name: str, *said: str, price: Prices = PRICES) -> ScriptedExpert:
    return ScriptedExpert(ExpertCard(name, prices=price), *(says(text, USED) for text in said))


def scored(served: Any, answer: Any, count: int = 1) -> list[tuple[str, str, float]]:
    """Objective, source and score of an answer's outcomes, once there are so many."""
    found: list[Any] = []

    def enough() -> bool:
        found[:] = served.record(answer)["outcomes"]
        return len(found) >= count

    until(enough)
    return [(each["objective"], each["source"], each["score"]) for each in found]


def figure(served: Any, name: str, result: str) -> float:
    for line in served.client.get("/metrics").text.splitlines():
        if line.startswith(f'pointsman_{name}_total{{result="{result}"}}'):
            return float(line.rpartition(" ")[2])
    return 0.0


def happens(served: Any, name: str, result: str) -> None:
    until(lambda: figure(served, name, result) > 0)


@pytest.mark.parametrize(("wanted", "score"), [(42, 1.0), (41, 0.0)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_check_in_the_request_grades_its_answer(
    serve: Serve, wanted: int, score: float, stream: bool
) -> None:
    one = expert("one", "It is 42")
    served = serve({"one": one}, ledger={"text": "none"})
    check = {"kind": "numeric", "answer": wanted}
    answer = served.ask("one", pointsman={"check": check}, stream=stream)
    assert scored(served, answer) == [("quality", "grader:numeric", score)]
    assert "42" not in str(one.requests[0].params)
    assert served.verified().faults == ()


def test_a_wrong_check_is_refused_by_name(serve: Serve) -> None:
    served = serve({"one": expert("one", "42")})
    answer = served.ask("one", pointsman={"check": {"kind": "numeric"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "pointsman.check")
    assert "'answer': missing" in answer.json()["error"]["message"]


def test_structured_output_is_checked_against_a_schema(serve: Serve) -> None:
    served = serve({"one": expert("one", '{"age": "36"}')})
    schema = {"properties": {"age": {"type": "integer"}}}
    answer = served.ask("one", pointsman={"check": {"kind": "json_schema", "schema": schema}})
    assert scored(served, answer) == [("quality", "grader:json_schema", 0.0)]
    (outcome,) = served.record(answer)["outcomes"]
    assert outcome["comment"] == "$.age: '36' is not of type 'integer'"
    wrong = {"properties": {"age": {"type": "int"}}}
    refused = served.ask("one", pointsman={"check": {"kind": "json_schema", "schema": wrong}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "pointsman.check")
    assert "$.properties.age.type: 'int'" in refused.json()["error"]["message"]


def test_running_code_is_off_until_it_is_configured(serve: Serve) -> None:
    one = expert("one", "42")
    served = serve({"one": one})
    answer = served.ask("one", pointsman={"check": {"kind": "code", "tests": "pass"}})
    assert (answer.status_code, "outcomes.code.enabled" in answer.text) == (400, True)
    assert one.calls == []


def test_callers_may_not_have_code_run(serve: Serve) -> None:
    keys = [{"name": "team", "key": "team-key-1"}]
    served = serve({"one": expert("one", "42")}, keys=keys, outcomes={"code": {"enabled": True}})
    served.client.headers["authorization"] = "Bearer team-key-1"
    answer = served.ask("one", pointsman={"check": {"kind": "code", "tests": "pass"}})
    assert answer.status_code == 403


def test_code_is_run_apart_where_it_is_configured(serve: Serve) -> None:
    one = expert("one", "```python\ndef double(x):\n    return 2 * x\n```")
    served = serve({"one": one}, outcomes={"code": {"enabled": True}})
    right = served.ask(
        "one", pointsman={"check": {"kind": "code", "tests": "assert double(2) == 4"}}
    )
    wrong = served.ask(
        "one", pointsman={"check": {"kind": "code", "tests": "assert double(2) == 5"}}
    )
    until(lambda: sum(figure(served, "grades", result) for result in ("graded", "unable")) == 2)
    if figure(served, "grades", "unable"):
        pytest.skip("the kernel can't keep code apart")
    assert scored(served, right) == [("quality", "grader:code", 1.0)]
    assert scored(served, wrong) == [("quality", "grader:code", 0.0)]


def test_configured_graders_grade_what_they_are_meant_for(serve: Serve) -> None:
    grader = {
        "check": {"kind": "regex", "pattern": "[0-9]+"},
        "objective": "form",
        "models": ["one"],
    }
    served = serve(
        {"one": expert("one", "42"), "two": expert("two", "42")}, outcomes={"graders": [grader]}
    )
    mine, other = served.ask("one"), served.ask("two")
    assert scored(served, mine) == [("form", "grader:regex", 1.0)]
    assert scored(served, other, 0) == []


def test_a_question_asked_again_in_a_session_is_booked_beside_quality(serve: Serve) -> None:
    experts = {"one": expert("one", "42"), "two": expert("two", "43")}
    served = serve(experts, outcomes={"implicit": True})
    session = {"pointsman": {"session": "s1"}}
    first, again = served.ask("one", **session), served.ask("one", **session)
    other = served.ask("two", **session)
    unlike = served.ask("two", "Bye", **session)
    assert scored(served, first) == [("regenerated", "implicit", 0.0)]
    assert scored(served, again) == [("switched", "implicit", 0.0)]
    assert [scored(served, each, 0) for each in (other, unlike)] == [[], []]
    assert served.totals()["mean_score"] is None


def test_what_clients_do_is_not_watched_unless_it_is_said(serve: Serve) -> None:
    served = serve({"one": expert("one", "42")})
    session = {"pointsman": {"session": "s1"}}
    first, _ = served.ask("one", **session), served.ask("one", **session)
    assert scored(served, first, 0) == []


def judged_by(judge: ScriptedExpert, serve: Serve, **settings: Any) -> Any:
    experts = {"one": expert("one", "It is 42"), "judge": judge}
    house = {"name": "house", "expert": "judge", "rate": 1, "budget_usd": 1, **settings}
    return serve(experts, judges=[house], ledger={"text": "none"})


def test_a_judge_scores_and_its_cost_is_its_own(serve: Serve) -> None:
    judge = expert("judge", "Fine.\nSCORE: 0.75")
    served = judged_by(judge, serve, objective="tone", rubric="Is polite.")
    answer = served.ask("one", "2+40?")
    assert scored(served, answer) == [("tone", "judge:house", 0.75)]
    asked = judge.requests[0]
    assert "Is polite." in asked.messages[0].text
    assert "2+40?" in asked.messages[1].text
    assert "It is 42" in asked.messages[1].text
    # A judge's own answers are not judged.
    assert len(judge.calls) == 1
    assert served.record(answer)["result"]["cost_nanousd"] == 50_000
    totals = served.totals()
    assert (totals["requests"], totals["cost_usd"]) == (2, pytest.approx(100e-6))
    assert served.verified().faults == ()


def test_a_judge_that_says_no_score_gives_none(serve: Serve) -> None:
    served = judged_by(expert("judge", "SCORE: 7"), serve)
    answer = served.ask("one")
    happens(served, "judgements", "unread")
    assert scored(served, answer, 0) == []


def test_a_judge_without_money_left_asks_nobody(serve: Serve) -> None:
    judge = expert("judge", "SCORE: 1")
    served = judged_by(judge, serve, budget_usd=0.00006)
    answers = [served.ask("one") for _ in range(3)]
    happens(served, "judgements", "refused")
    assert [answer.status_code for answer in answers] == [200] * 3
    spent = served.totals()["cost_usd"] - 3 * 50e-6
    assert spent <= 0.00006


def test_nobody_waits_for_a_judge(serve: Serve) -> None:
    judge = ScriptedExpert(ExpertCard("judge", prices=PRICES), [Hold(), *says("SCORE: 1", USED)])
    served = judged_by(judge, serve)
    answers = [served.ask("one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert scored(served, answers[0], 0) == []


def test_what_named_an_expert_is_not_judged_where_routers_are(serve: Serve) -> None:
    judge = expert("judge", "SCORE: 1")
    served = judged_by(judge, serve, when="router")
    named, routed = served.ask("one"), served.ask("auto", pointsman={"experts": ["one"]})
    assert scored(served, routed) == [("quality", "judge:house", 1.0)]
    assert scored(served, named, 0) == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_answers_of_either_path_are_graded_though_no_text_is_kept(
    serve: Serve, remote: Callable[..., Any], provider: FakeProvider, fast: bool, stream: bool
) -> None:
    provider.otherwise = Reply("It is 42")
    grader = {"check": {"kind": "numeric", "answer": 42}}
    served = serve(
        {"one": remote("one", provider.url)},
        server={"fast_path": fast},
        outcomes={"graders": [grader]},
        ledger={"text": "none"},
    )
    answer = served.ask("one", stream=stream)
    assert scored(served, answer) == [("quality", "grader:numeric", 1.0)]
    happens(served, "grades", "graded")


def test_a_failed_request_is_not_graded(
    serve: Serve, remote: Callable[..., Any], provider: FakeProvider
) -> None:
    provider.otherwise = Reply("42", status=500)
    check = {"kind": "numeric", "answer": 42}
    served = serve({"one": remote("one", provider.url)})
    assert served.ask("one", pointsman={"check": check}).status_code == 502
    assert served.totals()["outcomes"] == 0
