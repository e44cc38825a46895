"""A composition is chosen, refused and priced like any expert, by what is behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import yaml

from eval.tables.sources import read_outcomes, write_outcomes
from experts.cards import ExpertCard, Prices
from experts.compose.cards import Made
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import ChatRequest, Message, Usage
from gateway.dashboard.money import dollars
from gateway.ledger.calls import calls_made
from gateway.ledger.database import opened
from gateway.ledger.export import export_outcomes
from gateway.pool.pool import build_experts
from gateway.routing.router_store import RouterStore
from gateway.settings.children import named_children
from gateway.settings.root import Settings
from routers.candidates import Typical
from routers.eligible import Constraints, eligible
from routers.fitting.fit import fit_router
from tests.contracts.composition_cases import pool_of

DOC = Path(__file__).parents[3] / "docs" / "compositions.md"
URL = "http://127.0.0.1:9/v1"
Serve = Callable[..., Any]
KEYS = [
    {"name": "all", "key": "pm-key-all", "role": "admin"},
    {"name": "small", "key": "pm-key-small", "experts": ["small", "team"]},
    {"name": "both", "key": "pm-key-both", "experts": ["small", "large", "team"]},
    {"name": "models", "key": "pm-key-models", "experts": ["small", "large"]},
]


def scripted(name: str, price: float, **card: Any) -> ScriptedExpert:
    told = ExpertCard(name, prices=Prices(price, price), **card)
    return ScriptedExpert(told, says(name, Usage(input=10, output=5)))


def a_pool(**large: Any) -> dict[str, Any]:
    children = {
        "small": scripted("small", 1.0, local=True),
        "large": scripted("large", 10, **large),
    }
    return pool_of(
        children,
        {"id": "team", "cascade": ["small", {"vote": {"of": "small", "n": 3}}, "large"]},
    )


@pytest.mark.parametrize(
    ("key", "status"), [("all", 200), ("both", 200), ("small", 403), ("models", 403)]
)
def test_a_key_reaches_through_a_composition_only_whom_it_may_ask(
    serve: Serve, key: str, status: int
) -> None:
    served = serve(a_pool(), keys=KEYS)
    headers = {"authorization": f"Bearer pm-key-{key}"}
    body = {"model": "team", "messages": [{"role": "user", "content": "Hi"}]}
    answer = served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    listed = served.client.get("/v1/models", headers=headers).json()["data"]
    assert ("team" in [model["id"] for model in listed]) == (status == 200)
    routed = served.client.post("/v1/route", json={**body, "model": "auto"}, headers=headers)
    weighed = routed.json()["candidates"]
    assert ("team" in str(weighed)) == (status == 200)


def able(pool: dict[str, Any], request: ChatRequest, **limits: Any) -> list[str]:
    cards = [expert.card for expert in pool.values()]
    found, _ = eligible(request, 10.0, cards, {}, Constraints(**limits))
    return [card.expert_id for card in found]


ASKED = ChatRequest((Message("user", "Hi"),), max_tokens=100)


def test_it_is_as_bound_as_the_least_of_those_behind_it() -> None:
    assert able(a_pool(), ASKED, only_local=True) == ["small"]
    assert able(a_pool(local=True), ASKED, only_local=True) == ["large", "small", "team"]
    tagged = frozenset({("region", "eu")})
    assert able(a_pool(tags={"region": "eu"}), ASKED, tags=tagged) == ["large"]
    pictured = ChatRequest(
        (Message("user", ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},)),)
    )
    both = frozenset({"text", "image"})
    assert able(a_pool(modalities=both), pictured) == ["large"]
    strict = ChatRequest(ASKED.messages, params={"frobnicate": 1})
    assert able(a_pool(params="strict"), strict) == ["small"]
    template = ChatRequest(ASKED.messages, params={"chat_template": "{{ 1 }}"})
    allowed = frozenset({"chat_template"})
    assert able(a_pool(params_allow=allowed), template) == ["large"]


def test_under_a_ceiling_its_cheapest_way_must_fit() -> None:
    pool = a_pool()
    # One call of small is at most 110 tokens at $1 a million; of large, ten times that.
    assert able(pool, ASKED, max_cost_usd=1.2e-4) == ["small", "team"]
    assert able(pool, ASKED, max_cost_usd=1.0e-4) == []


def test_a_named_one_is_refused_what_a_model_behind_it_is_refused(serve: Serve) -> None:
    served = serve(a_pool(params="strict"))
    answer = served.ask("team", frobnicate=1)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "frobnicate"
    answer = served.ask("team", chat_template="{{ 1 }}")
    assert answer.json()["error"]["param"] == "chat_template"


def test_it_is_expected_to_cost_what_its_calls_do(serve: Serve) -> None:
    card = a_pool()["team"].card
    # Half of the drafts go on to the vote of three, half of those to large.
    assert card.prices == Prices(5.0, 5.0, source="expected of its children")
    assert [leaf.expert_id for leaf in card.leaves] == ["small", "large"]
    assert card.reaches == {"team", "team/2", "small", "large"}


def test_whoever_a_draft_must_agree_with_is_paid_and_counted_too(serve: Serve) -> None:
    """Three answers each of a chain of thought and of a program, then the large one in doubt."""
    children = {"small": scripted("small", 1.0), "large": scripted("large", 10.0)}
    program = {"mode": {"of": "small", "how": "reasoning", "instruction": "Write a program."}}
    defer = {"by": "agreement", "samples": 3, "among": [program], "accept_at": 0.9}
    pool = pool_of(children, {"id": "team", "cascade": ["small", "large"], "defer": defer})
    # Six answers of small, and half of the questions go on.
    assert pool["team"].card.prices == Prices(11.0, 11.0, source="expected of its children")
    assert pool["team"].card.reaches == {"team", "team/among/1", "small", "large"}
    answer = serve(pool).ask("team")
    assert answer.json()["choices"][0]["message"]["content"] == "small"
    assert [len(child.calls) for child in children.values()] == [6, 0]
    entry = {"id": "team", "cascade": ["small", "large"], "defer": {"among": ["small"]}}
    with pytest.raises(ValueError, match="goes with `by: agreement`"):
        pool_of(children, entry)
    assert [name for _, name in named_children({**entry, "defer": defer})] == [
        "small",
        "large",
        "small",
    ]


@pytest.mark.slow
def test_how_many_drafts_are_worth_it_is_learned_as_of_any_expert(
    serve: Serve, tmp_path: Path
) -> None:
    """BEST-Route: one answer, the best of four or the large model, by outcomes of all three."""
    rng = np.random.default_rng(0)
    share = {"greet": (1, 1, 1), "count": (0.95, 0.2, 0.9), "prove": (0.95, 0.1, 0.2)}
    topics = [list(share)[row % 3] for row in range(150)]
    rows = [
        {"query_id": f"q{row}", "prompt": f"{topic} {topic} {topic} {row}", "model": name,
         "score": float(rng.random() < right)}
        for row, topic in enumerate(topics)
        for name, right in zip(("large", "small", "small-x4"), share[topic], strict=True)
    ]  # fmt: skip
    table = read_outcomes(write_outcomes(rows, tmp_path / "graded.parquet")).table
    store = RouterStore(tmp_path / "routers")
    store.promote("default", store.publish(fit_router("default", "ridge+tfidf", table, seed=0)))
    children = {"small": scripted("small", 1.0), "large": scripted("large", 20.0)}
    drafts = {"id": "small-x4", "best_of": {"of": "small", "n": 4, "select": {"by": "arithmetic"}}}
    lean = {"epsilon": 0.0, "policies": {"lean": {"cost_weight": 0.5}}}
    served = serve(pool_of(children, drafts), routing=lean)
    picks = ("greet", "small", 1), ("count", "small-x4", 4), ("prove", "large", 0)
    for topic, expert, calls in picks:
        before = len(children["small"].calls)
        answer = served.ask("auto:lean", f"{topic} {topic} {topic} 7")
        assert answer.headers.get("x-pointsman-expert") == expert, answer.text
        assert len(children["small"].calls) - before == calls


def test_a_request_holds_it_to_a_ceiling(serve: Serve) -> None:
    served = serve(a_pool())
    # Enough for the draft and one or two votes at their worst, never for large.
    answer = served.ask("team", max_tokens=20, pointsman={"max_cost_usd": 9e-4})
    assert answer.status_code == 200
    record = served.record(answer)
    asked = [a["expert_id"] for a in record["attempts"]]
    assert "large" not in asked
    assert record["result"]["cost_nanousd"] <= 9e5
    assert answer.json()["choices"][0]["message"]["content"] == "small"
    assert served.verified().faults == ()


def test_no_price_is_kept_of_what_it_is_expected_to_cost(serve: Serve) -> None:
    served = serve(a_pool())
    record = served.record(served.ask("team"))
    priced = {a["expert_id"]: a["price_id"] for a in record["attempts"]}
    assert priced["team"] is None
    assert priced["team/2"] is None
    assert priced["small"]


def test_one_more_composition_does_not_change_what_costs_are_measured_by() -> None:
    cards = [expert.card for expert in a_pool().values()]
    typical = Typical()
    alone = [card for card in cards if not card.composed]
    assert typical.dearest_usd(cards) == typical.dearest_usd(alone)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL))
def test_the_examples_in_the_docs_are_configurations(block: str) -> None:
    data = yaml.safe_load(block)
    listed = data["experts"]
    ids = {entry.get("id") for entry in listed}
    named = {name for entry in listed for _, name in named_children(entry)}
    data["experts"] += [{"id": name, "base_url": URL} for name in sorted(named - ids)]
    assert Settings.model_validate(data).experts


def test_routers_learn_from_the_tokens_of_one_of_its_calls(serve: Serve) -> None:
    served = serve(a_pool())
    answer = served.ask("team", text="Say it")
    scored = {"decision_id": answer.headers["x-pointsman-decision-id"], "score": 1}
    assert served.client.post("/v1/feedback", json=scored).is_success
    anyio.run(served.gateway.ledger.flush)
    with opened(served.gateway.settings.ledger_url) as engine:
        (row,) = export_outcomes(engine).rows
    # A draft, two or three votes and the last answer, of ten and five tokens each.
    assert answer.json()["usage"]["completion_tokens"] >= 20
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 5)
    spent = served.record(answer)["result"]["cost_nanousd"]
    assert row["cost_usd"] * 1e9 == pytest.approx(spent)


def test_what_it_is_expected_to_cost_follows_whom_it_asked(serve: Serve) -> None:
    small, large = scripted("small", 1), scripted("large", 10)
    # One draft in five says nothing that can be right, and goes on.
    small.scripts = tuple(says("no" if n % 5 == 4 else "yes", Usage(10, 5)) for n in range(20))
    check = {"kind": "regex", "pattern": "yes"}
    team = {"cascade": ["small", "large"], "defer": {"by": "check", "check": check}}
    entry = {"id": "team", **team}
    pool = pool_of({"small": small, "large": large}, entry)
    assert pool["team"].card.prices == Prices(6.0, 6.0, source="expected of its children")
    served = serve(pool)
    for _ in range(20):
        assert served.ask("team").status_code == 200
    anyio.run(served.gateway.ledger.flush)
    url = served.gateway.settings.ledger_url
    with opened(url) as engine:
        assert calls_made(engine, {"team"}) == {"team": Made(20, {"small": 20, "large": 4})}
        assert calls_made(engine, {"other"}) == {}
    prices = {"small": 1, "large": 10}
    listed = [
        {"id": name, "base_url": URL, "prices": {"input": usd, "output": usd}}
        for name, usd in prices.items()
    ]
    settings = Settings.model_validate({"experts": [*listed, entry], "ledger": {"url": url}})
    # Its shape, of half of the drafts, counts for twenty answers beside the twenty it gave.
    expected = 1 + 0.35 * 10
    again = build_experts(settings, {})["team"].card.prices
    assert again == Prices(expected, expected, source="expected of its children")


def test_the_dashboard_shows_whom_a_composition_asked_and_for_how_much(serve: Serve) -> None:
    served = serve(a_pool())
    answer = served.ask("team")
    anyio.run(served.gateway.ledger.flush)
    page = served.client.get("/").text
    assert page.startswith("<!doctype html>")
    shown = re.sub(r"<[^>]+>|\s+", " ", page[page.index('<ul class="calls">') :])
    record = served.record(answer)
    (team,) = record["cost"]["attempts"]
    told = [team["expert"]]
    for call in team["children"]:
        if call["children"]:
            told += [call["expert"], *(f"small {dollars(c['cost_usd'])}" for c in call["children"])]
        else:
            told.append(f"{call['expert']} {dollars(call['cost_usd'])}")
    assert len(told) > 4
    assert re.sub(r"\s+", " ", shown).strip().startswith(" ".join(told))
