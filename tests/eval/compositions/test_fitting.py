"""A cascade is fitted to a budget, a quality or a risk, and keeps it on other requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.compositions.actions import fit_actions
from eval.compositions.drafts import DraftTable
from eval.compositions.fitting import fit_cascade
from eval.errors import ComparisonError
from tests.eval.compositions.recorded import EXPERTS, recorded


def test_a_budget_is_kept_and_worth_more_than_the_single_expert_of_its_price() -> None:
    table, drafts = recorded(160)
    found = fit_cascade(table, drafts, EXPERTS, budget_usd=5.0, judge="hashing")
    assert found.by == "scorer"
    assert found.chain.cost_usd <= 5.0
    assert found.chain.experts[-1] == "dear"
    assert found.chain.quality > 0.85


def test_a_quality_is_reached_at_less_than_what_the_expert_of_that_quality_costs() -> None:
    table, drafts = recorded(160)
    found = fit_cascade(table, drafts, EXPERTS, quality=0.9, judge="hashing")
    assert found.chain.quality >= 0.88
    assert found.chain.replay(found.logged)[0].mean() >= 0.9
    assert found.chain.cost_usd < 10.0
    with pytest.raises(ComparisonError, match="the best reaches"):
        fit_cascade(table, drafts, EXPERTS, quality=1.0, judge="hashing")


def test_a_risk_names_the_two_experts_in_their_order() -> None:
    table, drafts = recorded(160)
    found = fit_cascade(table, drafts, ("small", "dear"), risk=0.05, judge="hashing")
    assert found.chain.experts == ("small", "dear")
    column = found.logged.experts.index("small")
    kept_N = 1 - found.chain.thresholds[0].deferred(found.logged.signal_NA[:, column])
    assert (kept_N * (1 - found.logged.score_NA[:, column])).mean() <= 0.05
    assert kept_N.mean() > 0.3
    with pytest.raises(ComparisonError, match="two experts in their order"):
        fit_cascade(table, drafts, EXPERTS, risk=0.05)


def test_drafts_that_nobody_would_better_are_given_up() -> None:
    """Samples that all differ tell of questions that the dear expert can't answer either."""
    table, _ = recorded(400)
    rng = np.random.default_rng(5)
    state_N = rng.choice(3, p=[0.5, 0.3, 0.2], size=len(table))
    score_NA = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])[state_N]
    agreement_NA = np.tile(np.array([0.9, 0.5, 0.1])[state_N][:, None], (1, 3))
    five = np.full((len(table), 3), 5.0)
    silent = DraftTable(((None,) * 3,) * len(table), agreement_NA, five, five)
    graded = replace(table, score_NA=score_NA)
    found = fit_actions(graded, silent, ("small", "dear"), worth_usd=100.0)
    actions = found.rule.actions
    assert (actions[0], actions[4], actions[7]) == ("hopeless", "defer", "accept")
    assert found.quality == pytest.approx(score_NA[:, 0].mean())
    assert found.cost_usd == pytest.approx(1.0 + 10.0 * np.mean(state_N == 1))
    cheap = fit_actions(graded, silent, ("small", "dear"), worth_usd=5.0)
    assert cheap.cost_usd < 2.0, "ten dollars are more than the answer is worth"
    with pytest.raises(ComparisonError, match="two experts in their order"):
        fit_actions(table, silent, EXPERTS, worth_usd=1.0)


def test_agreement_of_samples_serves_where_no_answer_is_recorded() -> None:
    table, _ = recorded(200)
    rng = np.random.default_rng(3)
    agreement_NA = np.where(table.score_NA == 1, 0.9, 0.5) + rng.uniform(-0.1, 0.1, size=(200, 3))
    five, unknown = np.full((200, 3), 5.0), np.full((200, 3), np.nan)
    silent = DraftTable(((None,) * 3,) * 200, agreement_NA, five, unknown)
    found = fit_cascade(table, silent, EXPERTS, quality=0.9)
    assert found.by == "agreement"
    assert found.scorer is None
    assert found.chain.cost_usd < 6.0
    nothing = DraftTable(silent.answers_NA, unknown, unknown, unknown)
    with pytest.raises(ComparisonError, match="column 'response'"):
        fit_cascade(table, nothing, EXPERTS, quality=0.9)


def test_exactly_one_goal_and_enough_queries() -> None:
    table, drafts = recorded(30)
    with pytest.raises(ComparisonError, match="one of a budget"):
        fit_cascade(table, drafts, EXPERTS)
    with pytest.raises(ComparisonError, match="40 are needed"):
        fit_cascade(table, drafts, EXPERTS, quality=0.5)
    with pytest.raises(ComparisonError, match="no outcome of ghost"):
        fit_cascade(table, drafts, ("small", "ghost"), risk=0.1)
