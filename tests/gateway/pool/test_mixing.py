"""Who takes part in a mixture follows from the router; shelves come from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.cards import ExpertCard, Prices
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Usage
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from routers.encoders.lexical import HashingEncoder
from routers.errors import RoutingError
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable
from routers.router import Router
from routers.storage.shelf import Shelf, ShelfExample
from tests.contracts.composition_cases import pool_of
from tests.gateway.routing.test_slow_encoders import ANIMALS, CONTRACTS, animals_or_contracts

Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def router() -> Router:
    """Knows a vet, a lawyer, and a scholar who is as good as each on its own."""
    table = animals_or_contracts()
    lawyer_N, vet_N = table.score_NA.T
    score_NA = np.stack([lawyer_N, np.ones(len(table)), vet_N], axis=1)
    unknown_NA = np.full_like(score_NA, np.nan)
    several: OutcomeTable = replace(
        table,
        experts=("lawyer", "scholar", "vet"),
        score_NA=score_NA,
        prompt_tokens_NA=unknown_NA,
        output_tokens_NA=unknown_NA,
        cost_usd_NA=unknown_NA,
        latency_s_NA=unknown_NA,
        propensity_NA=np.ones_like(score_NA),
    )
    return fit_router("default", "knn+tfidf", several, seed=0)


def scripted(name: str) -> ScriptedExpert:
    card = ExpertCard(name, prices=Prices(1, 1))
    return ScriptedExpert(card, says(f"{name} says", Usage(input=1, output=1)))


@pytest.fixture
def start(serve: Serve, tmp_path: Path) -> Serve:
    def started(entry: dict[str, Any], router: Router | None = None) -> Any:
        if router is not None:
            store = RouterStore(tmp_path / "routers")
            store.promote("default", store.publish(router))
        children = {name: scripted(name) for name in ("lawyer", "scholar", "vet")}
        return serve(pool_of(children, {"id": "it", **entry}))

    return started


def asked(served: Any, text: str) -> list[str]:
    """Who was asked below the composition, in order."""
    record = served.record(served.ask("it", text))
    assert served.verified().faults == ()
    (root,) = record["cost"]["attempts"]
    return [child["expert"] for child in root["children"]]


MIXTURE = {"mixture": {"of": ["lawyer", "scholar", "vet"], "choose": {"margin": 0.4, "mass": 1}}}


def test_only_who_is_expected_to_be_good_at_the_question_takes_part(
    start: Serve, router: Router
) -> None:
    served = start(MIXTURE, router)
    on_animals, on_contracts = asked(served, ANIMALS[0]), asked(served, CONTRACTS[0])
    assert set(on_animals) == {"scholar", "vet"}
    assert set(on_contracts) == {"lawyer", "scholar"}
    assert len(on_animals) == len(on_contracts) == 4, "as many calls as configured"


def test_who_is_clearly_best_is_asked_for_every_draft(start: Serve, router: Router) -> None:
    served = start({"mixture": {**MIXTURE["mixture"], "choose": {}}}, router)
    assert asked(served, ANIMALS[0]) == ["scholar"] * 4


def test_who_is_best_is_the_primary(start: Serve, router: Router) -> None:
    entry = {"peers": {"of": ["scholar", "vet"], "primary": "lawyer", "choose": {"margin": 0.0}}}
    served = start(entry, router)
    assert "lawyer" not in asked(served, ANIMALS[0])
    assert "vet" not in asked(served, CONTRACTS[0])


def test_an_untrained_router_leaves_it_to_the_configuration(start: Serve) -> None:
    served = start(MIXTURE)
    assert asked(served, ANIMALS[0]) == ["lawyer", "scholar", "vet", "lawyer"]


def test_a_router_that_fails_leaves_it_too(
    start: Serve, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any) -> Any:
        raise RoutingError("no estimates today")

    served = start(MIXTURE, router)
    monkeypatch.setattr(type(router.estimator), "predict", broken)
    assert asked(served, ANIMALS[0]) == ["lawyer", "scholar", "vet", "lawyer"]


def test_templates_reach_the_model_over_the_endpoint(start: Serve, tmp_path: Path) -> None:
    path = tmp_path / "templates.shelf"
    examples = [ShelfExample("What do cats eat?", "Name the animal, then its food.")]
    Shelf.build(examples, HashingEncoder(), np.random.default_rng(0)).save(path)
    served = start({"templates": {"of": "vet", "shelf": str(path)}})
    assert asked(served, "What do dogs eat?") == ["vet"]
    (request,) = served.gateway.pool.experts["vet"].requests
    assert "Name the animal, then its food." in request.question
    assert request.question.endswith("What do dogs eat?")


def test_a_shelf_that_is_not_there_is_told_with_the_experts_id(tmp_path: Path) -> None:
    entry = {"id": "it", "templates": {"of": "vet", "shelf": str(tmp_path / "none.shelf")}}
    with pytest.raises(ConfigError, match=r"expert 'it': .*none\.shelf' can't be read"):
        pool_of({"vet": scripted("vet")}, entry)


def test_a_panel_weighs_answers_by_what_the_router_expects(start: Serve, router: Router) -> None:
    children = {"of": ["lawyer", "vet"], "judge": "scholar", "router_weights": True}
    served = start({"panel": children}, router)
    assert asked(served, ANIMALS[0]) == ["lawyer", "vet", "scholar"]
    (request,) = served.gateway.pool.experts["scholar"].requests
    first, second = (request.question.index(f"{name} says") for name in ("vet", "lawyer"))
    assert first < second, "the weightiest position comes first"
