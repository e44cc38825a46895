"""A router is judged as it would serve: by the configured policies, with their own propensities."""

from __future__ import annotations

import numpy as np
import pytest

from eval.errors import OffPolicyError
from eval.ope.asked import LoggedWishes
from eval.ope.candidate import targets, weighed
from eval.ope.logged import Logged
from eval.ope.study import study
from eval.promotion.evidence import Fitting, Material, evidence
from eval.replay.replay import request_of
from experts.cards import ExpertCard, Prices
from routers.eligible import Constraints
from routers.fitting.fit import fit_router
from routers.named import Named
from routers.policies.budget import BudgetPolicy
from routers.policies.pacer import PacerPolicy
from routers.policies.softmax import SoftmaxPolicy
from routers.records import Floats, OutcomeTable, Preference
from routers.router import Router

EXPERTS = ("cheap", "dear")
PRICES = {"cheap": Prices(1.0, 1.0), "dear": Prices(10.0, 10.0)}
TRUTH = {"easy": (0.9, 0.95), "hard": (0.3, 0.9)}
CARDS = {
    "cheap": ExpertCard("cheap", local=True),
    "dear": ExpertCard("dear", params_total_b=400.0),
}
_OUT = 100.0


def world(count: int, seed: int, chance: float = 0.5) -> tuple[Logged, Floats]:
    """A log in which chance chose the expert, and each expert's true quality, (N, 2)."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["easy", "hard"], count)
    truth_NA = np.array([TRUTH[kind] for kind in kinds])
    chosen_N = (rng.random(count) < chance).astype(int)
    rows = np.arange(count)
    score_NA, cost_NA, propensity_NA = (np.full((count, 2), np.nan) for _ in range(3))
    score_NA[rows, chosen_N] = rng.random(count) < truth_NA[rows, chosen_N]
    cost_NA[rows, chosen_N] = np.where(chosen_N == 1, 1e-3, 1e-4)
    propensity_NA[rows, chosen_N] = np.where(chosen_N == 1, chance, 1 - chance)
    ids = tuple(f"q{row}" for row in rows)
    table = OutcomeTable(
        ids, tuple(f"{kind} {kind} question {row}" for row, kind in enumerate(kinds)),
        (None,) * count, ids, EXPERTS, score_NA, np.full((count, 2), 10.0),
        np.full((count, 2), _OUT), cost_NA, np.full((count, 2), np.nan), propensity_NA,
    )  # fmt: skip
    return Logged.of(table, np.tile([1 - chance, chance], (count, 1))), truth_NA


@pytest.fixture(scope="module")
def router() -> Router:
    logged, _ = world(400, seed=1)
    return fit_router("default", "ridge", logged.table, seed=0, epsilon=0.1)


def chances(router: Router, logged: Logged, asked: LoggedWishes) -> Floats:
    queries = weighed(router, logged, PRICES, asked)
    return targets(router, logged, queries, asked, PRICES)


def asked_for(count: int, named: Named, cards: bool = False) -> LoggedWishes:
    asked = LoggedWishes(
        [Preference()] * count, ["mine"] * count, {"mine": named}, CARDS if cards else {}
    )
    return asked.under("mine")


def test_a_request_is_decided_by_the_policy_it_asked_for(router: Router) -> None:
    logged, _ = world(200, seed=2)
    soft = Named(Preference(), policy=SoftmaxPolicy(0.2))
    names = ["soft" if row % 2 else "gone" for row in range(200)]
    asked = LoggedWishes([Preference()] * 200, names, {"soft": soft})
    chance_NA = chances(router, logged, asked)
    queries = weighed(router, logged, PRICES, asked)
    own_A = router.policy.distribution(queries[0], Preference())[0]
    np.testing.assert_allclose(chance_NA[0], 0.9 * own_A + 0.05)
    soft_A = SoftmaxPolicy(0.2).distribution(queries[1], Preference())[0]
    np.testing.assert_allclose(chance_NA[1], 0.9 * soft_A + 0.05)
    assert 0.05 < chance_NA[1].min() < 0.5


@pytest.mark.parametrize(
    "preference",
    [
        Preference(),
        Preference(cost_weight=0.5),
        Preference(min_quality=0.6),
        Preference(prefer={"local": 0.4, "size": 0.1}),
    ],
    ids=["best", "thrifty", "at least", "soft flags"],
)
def test_chances_are_those_that_would_be_drawn_by(router: Router, preference: Preference) -> None:
    logged, _ = world(40, seed=8)
    asked = LoggedWishes([preference] * 40, cards=CARDS)
    made = [
        router.decide(
            request_of(prompt),
            asked.pool(PRICES),
            preference=preference,
            policy_name="best",
            constraints=Constraints(),
            unhealthy={},
            uniform=0.5,
        ).probabilities_A
        for prompt in logged.table.prompts
    ]
    np.testing.assert_array_equal(chances(router, logged, asked), made)


def test_the_value_of_a_stochastic_policy_is_its_own(router: Router) -> None:
    logged, truth_NA = world(800, seed=3)
    soft = Named(Preference(), policy=SoftmaxPolicy(0.3))
    asked = asked_for(800, soft)
    truth = float((chances(router, logged, asked) * truth_NA).sum(axis=1).mean())
    found = study(router, logged, asked, PRICES, replicates=20, with_front=False)
    value = found.judgement.values["quality"]["dr"]
    assert value.value == pytest.approx(truth, abs=3 * value.stderr)
    greedy = study(router, logged, asked.at(Preference()), PRICES, replicates=20, with_front=False)
    # They differ by far more than either is unsure of.
    gap = greedy.judgement.values["quality"]["dr"].value - value.value
    assert gap > 4 * value.stderr


def test_a_budget_is_fitted_to_the_candidate_and_held(router: Router) -> None:
    logged, _ = world(1000, seed=4)
    pacer = PacerPolicy(4e-4, step=0.05)
    for policy in (BudgetPolicy(4e-4), pacer):
        asked = asked_for(1000, Named(Preference(), policy=policy))
        chance_NA = (chances(router, logged, asked) - 0.05) / 0.9
        spent = float((chance_NA @ [110e-6, 1100e-6]).mean())
        assert spent == pytest.approx(4e-4, rel=0.2)
    # What was replayed is a copy: the configured pacer stands where it stood.
    assert pacer.price == 0.0


def test_limits_and_soft_flags_of_a_policy_count(router: Router) -> None:
    logged, _ = world(50, seed=5)
    local = Named(Preference(), Constraints(only_local=True))
    np.testing.assert_array_equal(
        chances(router, logged, asked_for(50, local, cards=True)), [[1.0, 0.0]] * 50
    )
    small = Named(Preference(prefer={"local": 5.0}))
    assert chances(router, logged, asked_for(50, small, cards=True))[:, 0].min() > 0.9
    nobody = Named(Preference(), Constraints(allow=frozenset({"third"})))
    with pytest.raises(OffPolicyError, match="nobody could serve 'q0' under policy 'mine'"):
        chances(router, logged, asked_for(50, nobody))


def test_the_gate_judges_what_would_serve(router: Router) -> None:
    logged, _ = world(250, seed=7)
    thrifty = Named(Preference(cost_weight=5.0))
    material = Material(logged, asked_for(250, thrifty), None, PRICES)
    found = evidence(Fitting("default", "ridge", 0.1, 0), material, router)
    # The candidate's own trade-off would ask the dear one for half of them.
    assert found.judgement.share["cheap"] == pytest.approx(0.95, abs=0.01)


def test_every_named_policy_has_its_point_or_says_why_not(router: Router) -> None:
    logged, _ = world(400, seed=6)
    named = {
        "soft": Named(Preference(), policy=SoftmaxPolicy(0.2)),
        "thrifty": Named(Preference(cost_weight=5.0)),
        "abroad": Named(Preference(), Constraints(tags=frozenset({("region", "us")}))),
    }
    asked = LoggedWishes([Preference()] * 400, ["soft"] * 400, named)
    found = study(router, logged, asked, PRICES, policy="thrifty", replicates=20)
    assert found.candidate.endswith(" under thrifty")
    points = {point.policy: point for point in found.policies}
    assert sorted(points) == ["abroad", "soft", "thrifty"]
    assert "nobody could serve" in points["abroad"].refused[0]
    thrifty, soft = points["thrifty"], points["soft"]
    assert thrifty.cost
    assert soft.cost
    assert thrifty.cost.value < soft.cost.value
    assert found.judgement.values["cost"]["dr"].value == pytest.approx(thrifty.cost.value)
    with pytest.raises(OffPolicyError, match="no policy 'x'; there are abroad, soft, thrifty"):
        study(router, logged, asked, PRICES, policy="x")
