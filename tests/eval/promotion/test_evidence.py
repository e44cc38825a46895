"""A candidate is compared with what serves now, as far as that decided enough to tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.ope.asked import LoggedWishes
from eval.ope.candidate import weighed
from eval.ope.logged import Logged
from eval.promotion.evidence import Fitting, Material, evidence, train
from eval.promotion.gate import GateRules, GateVerdict, gate
from routers.fitting.fit import fit_router
from routers.records import Candidates, Floats, OutcomeTable, Preference
from routers.router import Router

EXPERTS = ("biologist", "lawyer")
WORDS = {"gene": "cell enzyme protein membrane", "law": "judge court statute appeal"}
TRUTH = {"gene": (0.9, 0.2), "law": (0.2, 0.9)}
OLD_A = np.array([0.25, 0.75])
"""What decided at first asked the lawyer mostly, and four of five questions are about genes."""


def logged(chance_NA: Floats, kinds: list[str], rng: np.random.Generator) -> Logged:
    count = len(kinds)
    rows, chosen_N = np.arange(count), (rng.random(count) < chance_NA[:, 1]).astype(int)
    truth_N = np.array([TRUTH[kind] for kind in kinds])[rows, chosen_N]
    score_NA, chosen_NA, unknown_NA = (np.full((count, 2), np.nan) for _ in range(3))
    score_NA[rows, chosen_N] = rng.random(count) < truth_N
    chosen_NA[rows, chosen_N] = chance_NA[rows, chosen_N]
    ids = tuple(f"q{row}" for row in rows)
    table = OutcomeTable(
        ids, tuple(f"{' '.join(rng.choice(WORDS[kind].split(), 3))} {row}"
                   for row, kind in enumerate(kinds)),
        (None,) * count, ids, EXPERTS, score_NA, unknown_NA, unknown_NA, unknown_NA, unknown_NA,
        chosen_NA,
    )  # fmt: skip
    return Logged.of(table, chance_NA)


def material(old: int, own: int, explored: float = 0.5) -> Material:
    """So many decisions of what served before, and of what serves now and knows who knows what."""
    rng, count = np.random.default_rng(3), old + own
    kinds = rng.choice(["gene", "gene", "gene", "gene", "law"], count).tolist()
    knows_NA = np.array([[1.0, 0.0] if kind == "gene" else [0.0, 1.0] for kind in kinds])
    serving_N = np.arange(count) >= old
    chance_NA = np.where(serving_N[:, None], (1 - explored) * knows_NA + explored / 2, OLD_A)
    wishes = LoggedWishes([Preference()] * count)
    prices = dict.fromkeys(EXPERTS)
    return Material(logged(chance_NA, kinds, rng), wishes, None, prices, serving_N)


def verdict(material: Material, estimator: str) -> GateVerdict:
    fitting = Fitting("default", estimator, 0.5, 0)
    found = evidence(fitting, material, train(fitting, material))
    return gate(found, GateRules(most_decide_us=1e9))


def test_who_is_better_than_older_ones_and_worse_than_what_serves_is_stopped() -> None:
    both = material(600, 400)
    # It asks the biologist, whatever the question is.
    found = verdict(both, "prior")
    assert not found.passed
    assert found.reason.startswith(
        "against what serves, by its own 400 scored decisions: utility -"
    )
    whole = verdict(replace(both, serving_N=None), "prior")
    assert whole.passed
    assert whole.reason.startswith("against all that served, 1000 scored decisions: worth ")


def test_the_same_choices_learned_anew_are_no_gain() -> None:
    both = material(600, 400)
    assert not verdict(both, "ridge").passed
    assert verdict(replace(both, serving_N=None), "ridge").passed


def test_where_too_few_decisions_are_its_own_all_are_compared_with() -> None:
    assert verdict(material(600, 99), "prior").against == "all that served, 699 scored decisions"


def test_where_its_own_decisions_can_not_tell_all_are_compared_with() -> None:
    """It explores so little that they are worth less than a hundred."""
    found = verdict(material(600, 400, explored=0.04), "prior")
    assert found.against == "all that served, 1000 scored decisions"


def test_no_choice_is_judged_that_had_seen_anything_of_its_conversation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = material(80, 40)
    table = replace(both.logged.table, groups=tuple(f"c{row % 24}" for row in range(120)))
    both = replace(
        both, logged=replace(both.logged, table=table), collected=table.take(np.arange(0, 60))
    )
    fitting = Fitting("default", "ridge", 0.5, 0)
    candidate = train(fitting, both)
    learned: dict[Router, set[str]] = {}
    judged: list[str] = []

    def fit(name: str, estimator: str, table: OutcomeTable, **given: Any) -> Router:
        router = fit_router(name, estimator, table, **given)
        learned[router] = set(table.groups)
        return router

    def weigh(router: Router, part: Logged, *given: Any) -> list[Candidates]:
        assert not learned[router] & set(part.table.groups)
        judged.extend(part.table.query_ids)
        return weighed(router, part, *given)

    monkeypatch.setattr("eval.promotion.evidence.fit_router", fit)
    monkeypatch.setattr("eval.promotion.evidence.weighed", weigh)
    evidence(fitting, both, candidate)
    assert sorted(judged) == sorted(table.query_ids)
    # Each by what all other conversations taught.
    assert len(learned) == 5
    assert set.union(*learned.values()) == set(table.groups)


def test_rare_scores_weigh_more_in_what_calibration_is_judged_by() -> None:
    both = material(200, 0, explored=0.5)
    fitting = Fitting("default", "prior", 0.5, 0)
    found = evidence(fitting, both, train(fitting, both))
    # It asks the biologist, whom a quarter of the draws went to.
    seen_N = ~np.isnan(found.score_N)
    assert 20 < seen_N.sum() < 80
    np.testing.assert_allclose(found.weight_N, np.where(seen_N, 4.0, 0.0))
