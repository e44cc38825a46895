"""What shadow calls answered is learned from and judged by, and counted for nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import Engine, select

from eval.ope.asked import LoggedWishes
from eval.ope.savings import savings
from eval.ope.savings_page import render_savings
from gateway.ledger.database import opened
from gateway.ledger.export import as_table, export_outcomes
from gateway.ledger.history import History, history, latest_prices
from gateway.ledger.queries import LedgerReader
from gateway.ledger.residuals import residuals
from gateway.ledger.shadows import count_shadow_scores, shadow_totals
from gateway.ledger.tables import request_result
from gateway.ledger.verify import verify_ledger
from routers.encoders.lexical import HashingEncoder
from routers.features import Featurizer
from tests.gateway.logged_world import EXPERTS, Questions, fill

COUNT, SHARE, EPSILON = 400, 0.25, 0.3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    rng = np.random.default_rng(1)
    fill(url, Questions.draw(COUNT, rng), rng, epsilon=EPSILON, shadow=SHARE)
    with opened(url) as opened_engine:
        yield opened_engine


@pytest.fixture(scope="module")
def found(engine: Engine) -> History:
    return history(engine, "default")


def test_the_ledger_holds_and_the_costs_of_requests_are_their_own(engine: Engine) -> None:
    assert verify_ledger(engine).faults == ()
    totals = LedgerReader(engine).totals()
    assert totals["requests"] == COUNT
    assert totals["outcomes"] == COUNT
    # All others of a sampled request are asked.
    assert (
        totals["shadow_calls"]
        == totals["shadow_outcomes"]
        == count_shadow_scores(engine, "default")
    )
    assert totals["shadow_calls"] == pytest.approx(SHARE * COUNT * 2, rel=0.3)
    with engine.connect() as connection:
        booked = connection.execute(select(request_result.c.cost_nanousd)).scalars()
        assert totals["cost_usd"] == pytest.approx(sum(booked) / 1e9)
    since = LedgerReader(engine).totals(since=1.0)
    assert since == pytest.approx(totals)


def test_each_score_has_the_chance_that_it_had_to_be_seen(found: History) -> None:
    logged = found.logged
    seen_NA = logged.seen
    whole = seen_NA.all(axis=1)
    assert whole.mean() == pytest.approx(SHARE, abs=0.07)
    drawn_N = np.where(whole, -1, seen_NA.argmax(axis=1))
    for expert in range(len(EXPERTS)):
        rows = np.flatnonzero(drawn_N == expert)
        mean = logged.logged_NA[rows, expert]
        chance = logged.table.propensity_NA[rows, expert]
        # Drawn, or else asked aside.
        assert chance == pytest.approx(mean + (1 - mean) * SHARE, rel=0.2)
        assert (chance > mean).all()
    # An expert that is seen with its true chance weighs one on average.
    weight_NA = np.where(seen_NA, 1 / logged.table.propensity_NA, 0.0)
    assert weight_NA.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)


def test_savings_are_of_what_served(engine: Engine, found: History) -> None:
    told = savings(
        found.logged,
        LoggedWishes(found.preferences, found.policies, {}, {}),
        latest_prices(engine),
        Featurizer(HashingEncoder()),
        found.served,
        aside=shadow_totals(engine, "default", (0.0, float("inf"))),
        labels=found.labels,
    )
    totals = LedgerReader(engine).totals()
    assert told.spent_usd == pytest.approx(totals["cost_usd"])
    assert told.as_json()["shadow_calls"] == totals["shadow_calls"] > 0
    assert told.as_json()["shadow_usd"] == pytest.approx(totals["shadow_usd"])
    assert "shadow calls for $" in render_savings(told)
    assert told.quality == pytest.approx(totals["mean_score"])
    assert sum(part.spent_usd for part in told.parts if part.label == "key") == pytest.approx(
        totals["cost_usd"]
    )


def test_exported_rows_have_them_too(engine: Engine) -> None:
    table = as_table(export_outcomes(engine))
    assert len(table) == COUNT
    seen_NA = ~np.isnan(table.score_NA)
    assert seen_NA.all(axis=1).mean() == pytest.approx(SHARE, abs=0.07)
    assert (seen_NA.sum(axis=1) >= 1).all()
    weight_NA = np.where(seen_NA, 1 / table.propensity_NA, 0.0)
    assert weight_NA.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.25)
    # Those that named their expert have no shadows.
    with pytest.raises(Exception, match="no scored answer"):
        export_outcomes(engine, named_only=True)


def test_drift_is_looked_for_in_them_too(engine: Engine) -> None:
    seen = residuals(engine, "default", ["prior"], 0.0)
    assert len(seen) == COUNT + count_shadow_scores(engine, "default")
    assert (np.diff(seen.at_N) >= 0).all()
