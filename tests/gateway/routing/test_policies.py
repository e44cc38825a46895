"""Named policies over the endpoint: fitted at its start, exact in the ledger, adapting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider
from gateway.checking import find_router_faults
from gateway.ledger.database import opened
from gateway.ledger.history import history
from gateway.routing.router_store import RouterStore
from gateway.settings.root import Settings
from gateway.wiring import rebuild_gateway
from routers.fitting.fit import fit_router
from routers.policies.pacer import PacerPolicy
from routers.records import OutcomeTable
from routers.router import Router
from routers.storage.artifacts import with_content_version

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
TEXTS = ("easy sum", "hard proof")


@pytest.fixture(scope="module")
def router() -> Router:
    """Knows that on hard texts only the large expert is right, and on easy ones both mostly are."""
    rng = np.random.default_rng(0)
    hard_N = np.arange(400) % 2 == 1
    right_NA = np.column_stack([np.full(400, 0.95), np.where(hard_N, 0.1, 0.9)])
    score_NA = (rng.random((400, 2)) < right_NA).astype(float)
    ids = tuple(f"q{i:03}" for i in range(400))
    tokens_NA = np.full_like(score_NA, 10.0)
    unknown_NA = np.full_like(score_NA, np.nan)
    table = OutcomeTable(
        ids,
        tuple(f"{TEXTS[int(hard)]} {rng.integers(50)}" for hard in hard_N),
        (None,) * 400,
        ids,
        ("large", "small"),
        score_NA,
        tokens_NA,
        tokens_NA,
        unknown_NA,
        unknown_NA,
        np.ones_like(score_NA),
    )
    return fit_router("default", "knn", table, seed=0)


@pytest.fixture
def start(serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path) -> Serve:
    """A gateway over a large and a small expert, with policies and, if given, a trained router."""

    def started(policies: dict[str, Any], router: Router | None = None, **routing: Any) -> Any:
        if router is not None:
            store = RouterStore(tmp_path / "routers")
            store.promote("default", store.publish(router))
        large = remote(
            "large", provider.url, Prices(100, 200), quality_prior=0.9, tags={"region": "us"}
        )
        small = remote(
            "small", provider.url, Prices(10, 20), quality_prior=0.8, local=True, params_total_b=7.0
        )
        experts = {"large": large, "small": small}
        return serve(experts, routing={"epsilon": 0.0, "policies": policies, **routing})

    return started


def routed(served: Any, model: str, text: str = TEXTS[0], **wishes: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "pointsman": wishes}
    answer = served.client.post("/v1/route", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chances(decision: dict[str, Any]) -> dict[str, float]:
    return {each["expert"]: each["probability"] for each in decision["candidates"]}


def test_each_kind_decides_what_it_promises(start: Serve, router: Router) -> None:
    served = start(
        {
            "near": {"kind": "floor", "share": 0.9},
            "half": {"kind": "threshold", "strong_share": 0.5},
            "safe": {"kind": "conformal", "wrong": 0.1},
            "scarce": {"kind": "capacity", "shares": {"large": 0.3}},
            "curious": {"kind": "softmax", "temperature": 0.5},
            "alike": {"kind": "plugin", "policy_name": "uniform"},
        },
        router,
    )
    for name in ("near", "half", "safe"):
        hard, easy = (routed(served, f"auto:{name}", text) for text in TEXTS[::-1])
        assert (hard["expert"], easy["expert"]) == ("large", "small"), name
        assert hard["flags"] == []
        assert hard["policy"] == name
    scarce = [
        [chances(routed(served, "auto:scarce", f"{text} {i}"))["large"] for i in range(30)]
        for text in TEXTS
    ]
    assert np.mean(scarce[0]) < 0.05
    assert 0.45 < np.mean(scarce[1]) < 0.75
    assert 0.5 < chances(routed(served, "auto:curious"))["large"] < 0.7
    assert chances(routed(served, "auto:alike")) == {"large": 0.5, "small": 0.5}
    assert "auto:near" in [each["id"] for each in served.client.get("/v1/models").json()["data"]]


def test_a_budget_is_a_mixture_that_the_ledger_replays(start: Serve, router: Router) -> None:
    # Twenty tokens: $.003 of the large expert, $.0003 of the small one.
    served = start({"thrifty": {"kind": "budget", "usd_per_request": 0.001}}, router)
    answers = [served.ask("auto:thrifty", f"{TEXTS[1]} {i}") for i in range(10)]
    for answer in answers:
        record = served.record(answer)
        assert record["replay"]["matches"]
        probability = chances(record)
        assert record["propensity"] == probability[record["replay"]["expert"]]
        assert 0.1 < probability["large"] < 0.9
    assert served.verified().faults == ()


@pytest.mark.parametrize("name", ["half", "thrifty"])
def test_without_a_rehearsal_greedy_decides_and_says_so(
    name: str, start: Serve, router: Router
) -> None:
    policies = {
        "half": {"kind": "threshold"},
        "thrifty": {"kind": "budget", "usd_per_request": 0.001},
    }
    served = start(policies, replace(router, rehearsal=None))
    decision = routed(served, f"auto:{name}")
    assert decision["flags"] == ["policy_unfitted"]
    assert decision["expert"] == routed(served, "auto:best")["expert"]
    (fault,) = find_router_faults(served.gateway.settings)
    assert "half, thrifty" in fault
    assert "train again" in fault


def test_a_router_that_begins_to_serve_has_its_policies_fitted(
    start: Serve, router: Router, tmp_path: Path
) -> None:
    served = start({"half": {"kind": "threshold"}}, reload_s=600)
    assert "policy_unfitted" in routed(served, "auto:half")["flags"]
    version = RouterStore(tmp_path / "routers").publish(router)
    path = "/admin/routers/default/promote"
    assert served.client.post(path, json={"version": version}).status_code == 200
    assert routed(served, "auto:half", TEXTS[1])["expert"] == "large"
    assert routed(served, "auto:half", TEXTS[0])["flags"] == []


def test_a_version_on_trial_has_policies_of_its_own(
    start: Serve, router: Router, tmp_path: Path
) -> None:
    served = start({"half": {"kind": "threshold"}}, router, reload_s=600)
    store = RouterStore(tmp_path / "routers")
    tried = with_content_version(replace(router, rehearsal=None))
    store.publish(tried)
    store.try_out("default", tried.version, 0.5)
    served.gateway.serving.refresh()
    served.gateway.decider.prepare()
    flags = {tuple(routed(served, "auto:half")["flags"]) for _ in range(20)}
    assert flags == {(), ("policy_unfitted",)}


def test_a_pacer_hears_what_requests_cost_and_outlives_a_reload(
    start: Serve, remote: Remote, provider: FakeProvider
) -> None:
    pacer = {"kind": "pacer", "usd_per_request": 0.0004, "step": 0.01}
    served = start({"paced": pacer})
    gateway = served.gateway
    (_, policy) = gateway.lasting.adaptive["paced"]
    assert isinstance(policy, PacerPolicy)
    assert policy.price == 0
    for model in ("auto:paced", "auto:best"):
        assert served.ask(model).headers["x-pointsman-expert"] == "large"
    cost = float(served.ask("auto:best").headers["x-pointsman-cost-usd"])
    spent = policy.price
    assert spent == pytest.approx(0.01 * (cost / 0.0004 - 1))
    assert spent > 0
    routed(served, "auto:paced")
    assert policy.price == spent
    other = {**gateway.settings.model_dump()["routing"], "epsilon": 0.5}
    settings = gateway.settings.model_copy(
        update={"routing": type(gateway.settings.routing).model_validate(other)}
    )
    again = rebuild_gateway(gateway, settings, dict(gateway.pool.experts))
    assert again.lasting.adaptive["paced"][1] is policy


def test_a_pacer_turns_to_the_cheap_expert_when_too_much_was_spent(start: Serve) -> None:
    served = start({"paced": {"kind": "pacer", "usd_per_request": 0.0004, "step": 0.05}})
    experts = [served.ask("auto:paced").headers["x-pointsman-expert"] for _ in range(12)]
    assert experts[0] == "large"
    assert experts[-1] == "small"


def test_a_policys_hard_limits_hold_and_requests_can_only_tighten_them(start: Serve) -> None:
    served = start({"private": {"only_local": True, "prefer": {"size": 0.1}}})
    decision = routed(served, "auto:private")
    assert decision["expert"] == "small"
    assert decision["excluded"] == {"large": "does not run on our machines"}
    body = {"model": "auto:private", "messages": [{"role": "user", "content": "Hi"}]}
    for wishes in ({"experts": ["large"]}, {"require_tags": {"region": "us"}}):
        answer = served.client.post("/v1/route", json={**body, "pointsman": wishes})
        assert answer.json()["error"]["code"] == "no_eligible_expert"


def test_hard_wishes_hold_for_an_expert_that_is_named_too(
    start: Serve, provider: FakeProvider
) -> None:
    served = start({})
    for wishes in (
        {"only_local": True},
        {"max_params_b": 70},
        {"released_after": "2020-01-01"},
        {"require_tags": {"region": "eu"}},
    ):
        answer = served.ask("large", pointsman=wishes)
        assert answer.json()["error"]["code"] == "no_eligible_expert"
    headers = {"x-pointsman-require-tags": "region=us", "x-pointsman-only-local": "false"}
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    found = served.client.post("/v1/route", json=body, headers=headers).json()
    assert found["expert"] == "large"
    assert found["excluded"] == {"small": "is not tagged region=us"}


def test_routellm_thresholds_are_win_rates_in_a_pool_of_two(start: Serve) -> None:
    # Expected .9 and .8: the large one's win rate is .55.
    served = start({})
    for threshold, expert in ((0.0, "large"), (0.54, "large"), (0.56, "small"), (1.0, "small")):
        assert routed(served, f"router-default-{threshold}")["expert"] == expert
    weighed = routed(served, "router-default-0.54", prefer={"cost": 1.0})
    assert weighed["expert"] == "small"


def test_in_a_larger_pool_a_threshold_is_the_weight_of_costs(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    experts = {
        name: remote(name, provider.url, Prices(price, price), quality_prior=quality)
        for name, price, quality in (("a", 100, 0.9), ("b", 50, 0.8), ("c", 1, 0.75))
    }
    served = serve(experts, routing={"epsilon": 0.0})
    chosen = [routed(served, f"router-default-{weight}")["expert"] for weight in (0, 0.3, 0.45, 1)]
    assert chosen == ["a", "a", "c", "c"]


def test_a_key_asks_only_for_policies_of_its_scope(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    key = {"name": "k", "key": "sk-scope-0123456789", "policies": ["near"]}
    experts = {"a": remote("a", provider.url)}
    routing = {"policies": {"near": {"kind": "floor"}, "half": {"kind": "softmax"}}}
    served = serve(experts, keys=[key], routing=routing)
    served.client.headers["authorization"] = "Bearer sk-scope-0123456789"
    assert served.ask("auto:near").status_code == 200
    assert served.ask("auto:half").status_code == 403
    assert served.ask("router-default-0.5").status_code == 403


def test_settings_of_every_kind_make_the_policy_of_that_kind() -> None:
    policies: dict[str, dict[str, Any]] = {
        "budget": {"usd_per_request": 0.1},
        "pacer": {"usd_per_request": 0.1, "most": 3},
        "cautious": {"usual": "smollm2"},
        "capacity": {"shares": {"smollm2": 0.5}},
        "thompson": {"stderrs": 2},
        "top_p": {"mass": 0.5},
        "modes": {"instant": {"gemma": "smollm2"}, "power": 1},
        "pessimistic": {},
        "optimistic": {},
        "uniform": {},
    }
    routing = {"policies": {kind: {"kind": kind, **said} for kind, said in policies.items()}}
    settings = Settings.model_validate({"routing": routing})
    for kind, said in policies.items():
        policy = settings.routing.policies[kind].policy()
        assert policy is not None
        assert policy.name == kind
        for name, value in said.items():
            assert getattr(policy, name) == value


def bold(router: Router) -> Router:
    return replace(router, epsilon=0.5)


def test_nothing_is_tried_on_a_critical_request(start: Serve, router: Router) -> None:
    served = start({"alike": {"kind": "plugin", "policy_name": "uniform"}}, bold(router))
    for policy in ("auto:alike", "auto:best"):
        decision = routed(served, policy, critical=True)
        assert sorted(chances(decision).values()) == [0.0, 1.0]
        assert "unexplored" in decision["flags"]
    assert sorted(chances(routed(served, "auto:best")).values()) == [0.25, 0.75]


def test_a_spent_budget_ends_exploration_and_says_so(start: Serve, router: Router) -> None:
    served = start({"least": {"cost_weight": 10}}, bold(router), explore_budget_usd=0.0001)
    first, second = (served.ask("auto:least") for _ in range(2))
    # Half of the draws are even ones between $.0003 and $.003: $.0007 are expected for the first.
    assert served.record(first)["propensity"] in (0.25, 0.75)
    assert served.record(second)["propensity"] == 1.0
    assert served.record(second)["flags"] == ["unexplored"]
    assert served.verified().faults == ()
    with opened(served.gateway.settings.ledger_url) as engine:
        found = history(engine, "default")
    assert (len(found.logged), found.left_out) == (1, {"made without exploration": 1})
