"""`POST /v1/route` says why, with no word of what others asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from gateway.routing.router_store import RouterStore
from routers.fitting.fit import fit_router
from tests.gateway.routing.test_slow_encoders import animals_or_contracts

Serve = Callable[..., Any]


def routed(serve: Serve, folder: Path, estimator: str, text: str) -> Any:
    return routed_over(serve, folder, estimator, text)[1]


def routed_over(serve: Serve, folder: Path, estimator: str, text: str) -> tuple[Any, Any]:
    """A gateway with a trained router, and what it says of a request."""
    store = RouterStore(folder / "routers")
    router = fit_router("default", estimator, animals_or_contracts(), seed=0)
    store.promote("default", store.publish(router))
    card = ExpertCard("vet", prices=Prices(1.0, 2.0))
    served = serve(
        {
            expert: ScriptedExpert(replace(card, expert_id=expert), says(expert))
            for expert in ("vet", "lawyer")
        },
        routing={"epsilon": 0.0},
    )
    body = {"model": "auto:best", "messages": [{"role": "user", "content": text}]}
    return served, served.client.post("/v1/route", json=body).json()


def test_neighbours_are_told_by_id_and_never_by_text(serve: Serve, tmp_path: Path) -> None:
    told = routed(serve, tmp_path, "knn", "The cat sleeps well.")
    reasons = told["reasons"]
    assert (reasons["expert"], reasons["against"]) == (told["expert"], told["fallback"][0])
    assert len(reasons["neighbours"]) == 5
    table = animals_or_contracts()
    for one in reasons["neighbours"]:
        row = table.query_ids.index(one["query_id"])
        assert one["scores"]["vet"] == table.score_NA[row, table.experts.index("vet")]
    assert not any(prompt in str(told) for prompt in table.prompts)
    nearest, farthest = (reasons["neighbours"][place]["similarity"] for place in (0, -1))
    assert f"similarity {nearest:.2f} to {farthest:.2f}" in told["explanation"]


def test_words_of_the_request_are_told_with_their_shares(serve: Serve, tmp_path: Path) -> None:
    told = routed(serve, tmp_path, "ridge", "The clause is void.")
    reasons = told["reasons"]
    assert told["expert"] == "lawyer"
    assert reasons["unit"] == "quality"
    named = {one["name"]: one["points"] for one in reasons["contributions"]}
    assert named["clause"] > 0
    assert f"'clause' {named['clause']:+.3f}" in told["explanation"]


def asked(served: Any, text: str, keep: str | None = None) -> Any:
    """The record of a decision that was really made."""
    body = {
        "model": "auto:best",
        "messages": [{"role": "user", "content": text}],
        "pointsman": {"keep": keep} if keep else {},
    }
    answer = served.client.post("/v1/chat/completions", json=body)
    decision_id = answer.headers["x-pointsman-decision-id"]
    return served.client.get(f"/v1/decisions/{decision_id}").json()


def test_the_record_of_a_decision_has_the_same_reasons_after_another_version_serves(
    serve: Serve, tmp_path: Path
) -> None:
    text = "The clause is void."
    served, told = routed_over(serve, tmp_path, "ridge", text)
    before = asked(served, text)
    assert before["reasons"] == {**told["reasons"], "redacted": False}
    store = RouterStore(tmp_path / "routers")
    other = fit_router("default", "knn", animals_or_contracts(), seed=0)
    store.promote("default", store.publish(other))
    served.gateway.serving.refresh()
    decision_id = before["decision_id"]
    again = served.client.get(f"/v1/decisions/{decision_id}").json()
    assert again["reasons"] == before["reasons"]
    assert again["reasons"]["contributions"]


def test_no_prompt_no_reasons_and_a_redacted_one_says_so(serve: Serve, tmp_path: Path) -> None:
    served, _ = routed_over(serve, tmp_path, "ridge", "The clause is void.")
    assert asked(served, "The clause is void.", keep="hash")["reasons"] is None
    private = asked(served, "Ask ann@example.com of the clause.", keep="redacted")
    assert private["reasons"]["redacted"] is True
    assert "ann@example.com" not in str(private)


def test_a_named_expert_and_an_untrained_router_give_no_reasons(
    serve: Serve, tmp_path: Path
) -> None:
    card = ExpertCard("vet", prices=Prices(1.0, 2.0))
    served = serve({"vet": ScriptedExpert(card, says("x"))})
    for model in ("vet", "auto"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        assert served.client.post("/v1/route", json=body).json()["reasons"] is None
