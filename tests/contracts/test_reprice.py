"""Costs are corrected without changing what was booked, over SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from experts.cards import Prices
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.export import export_outcomes
from gateway.ledger.history import history, latest_prices
from gateway.ledger.queries import LedgerReader
from gateway.ledger.reprice import Repriced, Which, count_attempts, reprice
from gateway.ledger.store import Ledger
from gateway.ledger.verify import verify_ledger
from tests.contracts.booked import CHEAP, UNPRICED, a_decision, booked, score

DEARER = Prices(10, 20, source="the list said ten times as much")
HOUR_AGO = 3600.0


def the_last_hour(expert: str = "cheap") -> Which:
    return Which(expert, now() - HOUR_AGO)


def test_corrected_costs_count_everywhere_and_bookings_stay(ledger: Ledger) -> None:
    booking = booked(ledger, a_decision(CHEAP))
    score(ledger, booking, 1.0)
    assert reprice(ledger.engine, the_last_hour(), DEARER) == Repriced(1, 1, 20_000, 200_000)
    reader = LedgerReader(ledger.engine)
    assert reader.totals()["cost_usd"] == pytest.approx(200e-6)
    assert reader.by_expert()[0]["cost_usd"] == pytest.approx(200e-6)
    record = reader.decision(booking.decision_id)
    assert record is not None
    assert record["cost"]["total_usd"] == pytest.approx(200e-6)
    assert record["attempts"][0]["booked_nanousd"] == 20_000
    assert record["result"]["cost_nanousd"] == 20_000
    assert record["corrections"][0]["reason"] == DEARER.source
    assert export_outcomes(ledger.engine).rows[0]["cost_usd"] == pytest.approx(200e-6)
    logged = history(ledger.engine, "default").logged
    assert logged.table.cost_usd_NA[0, 0] == pytest.approx(200e-6)
    assert verify_ledger(ledger.engine).faults == ()


def test_correcting_again_changes_nothing_and_further_corrections_follow(ledger: Ledger) -> None:
    for _ in range(3):
        booked(ledger, a_decision(CHEAP))
    assert count_attempts(ledger.engine, the_last_hour()) == 3
    tried = reprice(ledger.engine, the_last_hour(), DEARER, dry_run=True)
    assert LedgerReader(ledger.engine).count(tables.cost_correction) == 0
    assert reprice(ledger.engine, the_last_hour(), DEARER) == tried
    assert reprice(ledger.engine, the_last_hour(), DEARER).corrected == 0
    assert reprice(ledger.engine, the_last_hour(), Prices(2, 4)) == Repriced(3, 3, 600_000, 120_000)
    assert LedgerReader(ledger.engine).totals()["cost_usd"] == pytest.approx(120e-6)
    assert verify_ledger(ledger.engine).faults == ()


def test_a_price_that_was_unknown_becomes_known(ledger: Ledger) -> None:
    booked(ledger, a_decision(UNPRICED))
    reader = LedgerReader(ledger.engine)
    assert reader.totals()["unpriced"] == 1
    assert reprice(ledger.engine, the_last_hour("unpriced"), Prices(1, 2)).new_nanousd == 20_000
    assert (reader.totals()["unpriced"], reader.totals()["cost_usd"]) == (0, pytest.approx(20e-6))
    assert verify_ledger(ledger.engine).faults == ()


def test_other_experts_and_other_times_stay_as_they_are(ledger: Ledger) -> None:
    booked(ledger, a_decision(CHEAP))
    assert reprice(ledger.engine, the_last_hour("other"), DEARER).looked_at == 0
    long_ago = Which("cheap", 0.0, until=now() - HOUR_AGO)
    assert reprice(ledger.engine, long_ago, DEARER).looked_at == 0


def test_a_correction_of_the_past_is_not_the_price_of_today(ledger: Ledger) -> None:
    booked(ledger, a_decision(CHEAP))
    booked(ledger, a_decision(UNPRICED))
    reprice(ledger.engine, the_last_hour(), DEARER)
    reprice(ledger.engine, the_last_hour("unpriced"), DEARER)
    prices = latest_prices(ledger.engine)
    # Nothing better is known of what never had a price.
    assert (prices["cheap"], prices["unpriced"]) == (CHEAP.prices, DEARER)


@pytest.mark.parametrize(
    ("damage", "words"),
    [({"old_nanousd": 7}, "does not follow"), ({"new_nanousd": 7}, "not what its tokens cost")],
    ids=["old", "new"],
)
def test_a_wrong_correction_is_found(ledger: Ledger, damage: dict[str, int], words: str) -> None:
    booked(ledger, a_decision(CHEAP))
    reprice(ledger.engine, the_last_hour(), DEARER)
    with ledger.engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.cost_correction)) == 1
        connection.execute(update(tables.cost_correction).values(**damage))
    assert any(words in fault for fault in verify_ledger(ledger.engine).faults)
