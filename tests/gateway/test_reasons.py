"""`POST /v1/route` says why, with no word of what others asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experts.cards import ExpertCard, Prices
from experts.fakes import ScriptedExpert, says
from gateway.router_store import RouterStore
from routers.fit import fit_router
from tests.gateway.test_slow_encoders import animals_or_contracts

Serve = Callable[..., Any]


def routed(serve: Serve, folder: Path, estimator: str, text: str) -> Any:
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
    return served.client.post("/v1/route", json=body).json()


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


def test_a_named_expert_and_an_untrained_router_give_no_reasons(
    serve: Serve, tmp_path: Path
) -> None:
    card = ExpertCard("vet", prices=Prices(1.0, 2.0))
    served = serve({"vet": ScriptedExpert(card, says("x"))})
    for model in ("vet", "auto"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        assert served.client.post("/v1/route", json=body).json()["reasons"] is None
