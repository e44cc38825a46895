"""The other routes: route, feedback, decisions, models, health, metrics, admin, the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    experts = {
        "large": remote("large", provider.url, Prices(10, 20), quality_prior=0.9, tools=True),
        "small": remote("small", provider.url, Prices(0.1, 0.2), quality_prior=0.85),
    }
    return serve(experts, aliases={"tiny": "small"}, routing={"epsilon": 0.1})


def routed(served: Any, model: str = "auto", **fields: Any) -> Any:
    answer = served.client.post("/v1/route", json={"model": model, "messages": HELLO, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_route_explains_and_calls_nobody(served: Any, provider: FakeProvider) -> None:
    decision = routed(served, "auto:best")
    assert provider.bodies == []
    assert served.totals()["requests"] == 0
    by_name = {each["expert"]: each for each in decision["candidates"]}
    assert by_name["large"]["probability"] == pytest.approx(0.95)
    assert by_name["small"]["probability"] == pytest.approx(0.05)
    assert by_name["large"]["cost_usd"] > by_name["small"]["cost_usd"]
    assert "untrained" in decision["flags"]
    assert decision["explanation"]


def test_a_record_tells_of_a_decision_as_a_route_does(served: Any) -> None:
    wishes = {"experts": ["large"]}
    before = routed(served, "auto:best", pointsman=wishes)
    record = served.record(served.ask("auto:best", pointsman=wishes))
    not_booked = {"fallback", "explanation"}
    same = before.keys() - not_booked
    assert {name: record[name] for name in same} == {name: before[name] for name in same}
    assert record["candidates"][0].keys() >= {"expert", "quality", "quality_stderr", "penalty"}
    assert list(record["excluded"]) == ["small"]


def test_policies_trade_quality_for_cost(served: Any) -> None:
    def favourite(model: str) -> str:
        candidates = routed(served, model)["candidates"]
        return str(max(candidates, key=lambda each: each["probability"])["expert"])

    assert favourite("auto:best") == "large"
    assert favourite("auto:cheap") == "small"
    assert favourite("router-default-0.9") == "small"
    assert favourite("router-default-0.0") == "large"


def test_wishes_rule_experts_out_and_say_why(served: Any) -> None:
    assert routed(served, pointsman={"experts": ["tiny"]})["expert"] == "small"
    dear = routed(served, max_tokens=1000, pointsman={"max_cost_usd": 0.001})
    assert "ceiling" in dear["excluded"]["large"]
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert "tools" in routed(served, tools=tools)["excluded"]["small"]


def test_tools_go_to_those_that_do_not_say_where_nobody_says_yes(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    able = {"silent": {}, "unable": {"tools": False, "quality_prior": 0.9}}
    served = serve({name: remote(name, provider.url, **said) for name, said in able.items()})
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    answer = served.ask("auto", tools=tools)
    assert answer.headers["x-pointsman-expert"] == "silent"
    assert provider.bodies[-1]["tools"] == tools
    assert "unstated:tools" in served.record(answer)["flags"]
    wishes = {"experts": ["unable"]}
    refused = served.ask("auto", tools=tools, pointsman=wishes)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_eligible_expert")
    assert "cannot call tools" in refused.json()["error"]["message"]


def test_nobody_eligible_is_400_with_every_reason(served: Any) -> None:
    body = {"model": "auto", "messages": HELLO, "max_tokens": 10}
    answer = served.client.post(
        "/v1/chat/completions", json={**body, "pointsman": {"max_cost_usd": 1e-12}}
    )
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "large" in message
    assert "small" in message


def test_a_prompt_that_fits_in_no_window_is_told_so_that_clients_shorten_it(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    windows: dict[str, dict[str, Any]] = {"a": {"context_tokens": 50}, "b": {"tools": False}}
    served = serve({name: remote(name, provider.url, **card) for name, card in windows.items()})
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    refused = served.ask("auto", "word " * 300, tools=tools)
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        400,
        "context_length_exceeded",
    )
    assert "prompt is too long" in refused.json()["error"]["message"]
    answer = served.ask("auto", "word " * 300)
    assert answer.headers["x-pointsman-expert"] == "b"
    assert "context window" in served.record(answer)["excluded"]["a"]
    assert served.ask("auto", "word", tools=tools).status_code == 200
    route = served.client.post(
        "/v1/route",
        json={"model": "auto", "messages": [{"role": "user", "content": "word " * 300}]},
    )
    assert "context window" in route.json()["excluded"]["a"]


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"experts": ["nobody"]}, "pointsman.experts"),
        ({"policy": "reckless"}, "pointsman.policy"),
        ({"min_quality": 2}, "pointsman.min_quality"),
        ({"prefer": {"colour": 1}}, "pointsman.prefer.colour"),
        ({"prefer": {"cost": -1}}, "pointsman.prefer.cost"),
        ([1], "pointsman"),
    ],
)
def test_a_wrong_wish_is_400(served: Any, wishes: Any, param: str) -> None:
    body = {"model": "auto", "messages": HELLO, "pointsman": wishes}
    answer = served.client.post("/v1/route", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_wrong_wish_in_a_header_is_400(served: Any) -> None:
    body = {"model": "auto", "messages": HELLO}
    answer = served.client.post("/v1/route", json=body, headers={"x-pointsman-min-quality": "hi"})
    assert answer.json()["error"]["param"] == "pointsman.min_quality"


def test_feedback_is_booked_and_read_back(served: Any) -> None:
    answer = served.ask()
    decision_id = answer.headers["x-pointsman-decision-id"]
    for score in (0.25, 1):
        body = {"decision_id": decision_id, "score": score, "source": "person", "comment": "ok"}
        assert served.client.post("/v1/feedback", json=body).status_code == 200
    other = {"metric_name": "solved", "value": True, "inference_id": decision_id}
    assert served.client.post("/v1/feedback", json=other).status_code == 200
    outcomes = served.record(answer)["outcomes"]
    assert [(o["objective"], o["score"]) for o in outcomes] == [
        ("quality", 0.25),
        ("quality", 1.0),
        ("solved", 1.0),
    ]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "decision_id"),
        ({"decision_id": "dec-x"}, 400, "score"),
        ({"decision_id": "dec-x", "score": 1.2}, 400, "score"),
        ({"decision_id": "dec-x", "score": True}, 400, "score"),
        ({"decision_id": "dec-x", "score": 1, "sauce": "a"}, 400, "sauce"),
        ({"decision_id": "dec-x", "score": 1, "comment": 5}, 400, "comment"),
        ({"decision_id": "dec-x", "score": 1}, 404, "decision_id"),
        ({"metric_name": "m", "value": "high", "inference_id": "dec-x"}, 400, "value"),
        ({"metric_name": "m", "value": 1, "episode_id": "dec-x"}, 400, "inference_id"),
        ({"metric_name": 5, "value": 1, "inference_id": "dec-x"}, 400, "metric_name"),
    ],
)
def test_wrong_feedback_is_refused(
    served: Any, body: dict[str, Any], status: int, param: str
) -> None:
    answer = served.client.post("/v1/feedback", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert served.totals()["outcomes"] == 0


def test_a_dry_run_is_checked_and_not_booked(served: Any) -> None:
    answer = served.ask()
    score = {"metric_name": "m", "value": 1, "dryrun": True}
    known = {**score, "inference_id": answer.headers["x-pointsman-decision-id"]}
    unknown = {**score, "inference_id": "dec-x"}
    said = served.client.post("/v1/feedback", json=[known, unknown]).json()
    assert (said["booked"], said["refused"]) == (0, 1)
    assert served.client.post("/v1/feedback", json=known).status_code == 200
    assert served.record(answer)["outcomes"] == []


def test_an_unknown_decision_is_404(served: Any) -> None:
    assert served.client.get("/v1/decisions/dec-none").status_code == 404


def test_a_decision_is_explained_and_replayed(served: Any) -> None:
    record = served.record(served.ask())
    assert record["replay"] == {"expert": record["expert_id"], "matches": True}
    assert record["explanation"]
    assert record["propensity"] in (pytest.approx(0.95), pytest.approx(0.05))
    assert record["cost"]["attempts"][0]["cost_usd"] == record["cost"]["total_usd"]


def test_models_say_what_they_are(served: Any) -> None:
    data = served.client.get("/v1/models").json()["data"]
    about = {model["id"]: model["pointsman"] for model in data}
    assert about["small"]["usd_per_mtok_output"] == 0.2
    assert about["tiny"]["expert"] == "small"
    assert about["auto"]["version"] == "prior"
    assert about["auto:cheap"]["policy"] == "cheap"
    assert served.client.get("/v1/models/nobody").status_code == 404


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=\u0663", "limit"),
        ("after_id=nobody", "after_id"),
        ("before_id=nobody", "before_id"),
        ("after_id=auto&before_id=small", "before_id"),
    ],
)
def test_a_page_of_models_that_is_none_is_400(served: Any, query: str, param: str) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    answer = served.client.get(f"/v1/models?{query}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    # OpenAI's list has no pages.
    assert served.client.get(f"/v1/models?{query}").status_code == 200


def test_a_page_may_hold_no_models(served: Any) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    every = served.client.get("/v1/models", headers=headers).json()
    for query in (f"after_id={every['last_id']}", f"before_id={every['first_id']}"):
        page = served.client.get(f"/v1/models?{query}", headers=headers).json()
        assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_head_is_answered_where_that_was_meant_and_nowhere_else(served: Any) -> None:
    refused = served.client.head("/v1/models")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


def test_health_says_what_is_loaded(served: Any) -> None:
    assert served.client.get("/health/live").json() == {"status": "live"}
    for path in ("/health/live", "/health/ready"):
        head = served.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
    ready = served.client.get("/health/ready").json()
    assert ready["experts"] == ["large", "small"]
    assert ready["routers"] == {"default": "prior"}


def test_metrics_count_requests_and_dollars(served: Any) -> None:
    served.ask("small")
    text = served.client.get("/metrics").text
    asked = 'expert="small",policy="explicit",status="200",wire="openai.chat"'
    assert f"pointsman_requests_total{{{asked}}} 1.0" in text
    assert "pointsman_requests_in_flight 0.0" in text
    assert 'pointsman_cost_usd_total{expert="small"} 1.4e-06' in text


def test_what_clients_write_never_makes_new_metrics(served: Any) -> None:
    decision_id = served.ask("small").headers["x-pointsman-decision-id"]
    for source in ("grader:exact", "mallory-1", "mallory-2"):
        body = {"decision_id": decision_id, "score": 1, "source": source}
        assert served.client.post("/v1/feedback", json=body).status_code == 200
    text = served.client.get("/metrics").text
    assert 'pointsman_outcomes_total{source="grader"} 1.0' in text
    assert 'pointsman_outcomes_total{source="other"} 2.0' in text
    assert "mallory" not in text


def test_an_unknown_path_has_an_error_body_of_the_same_shape(served: Any) -> None:
    answer = served.client.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


def test_the_page_shows_requests_and_escapes_what_it_shows(served: Any) -> None:
    served.ask("small", "<script>alert(1)</script>")
    page = served.client.get("/")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "small" in page.text


def test_admin_lists_routers_and_refuses_what_is_not_there(served: Any) -> None:
    assert served.client.get("/admin/routers").json()["default"]["serving"] == "prior"
    path = "/admin/routers/default"
    assert served.client.post(f"{path}/promote", json={"version": "x"}).status_code == 404
    assert served.client.post(f"{path}/promote", json={}).status_code == 400
    assert served.client.post(f"{path}/rollback").status_code == 404


@pytest.mark.parametrize("do", ["start", "wake", "sleep", "stop"])
def test_an_expert_whose_id_has_a_slash_is_found_to_be_moved(
    serve: Serve, remote: Remote, provider: FakeProvider, do: str
) -> None:
    served = serve({"org/model": remote("org/model", provider.url)})
    answer = served.client.post(f"/admin/experts/org/model/{do}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ours")
