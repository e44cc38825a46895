"""The sums over closed hours are those of the rows, whatever is written when."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from experts.cards import Prices
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.queries import LedgerReader
from gateway.ledger.reprice import Which, reprice
from gateway.ledger.rollup import SUMS, by_expert, days_due, summed, total
from gateway.ledger.store import Ledger
from gateway.ledger.upkeep import upkeep
from gateway.ledger.verify import verify_ledger
from gateway.settings.ledger import LedgerSettings
from tests.contracts.booked import CHEAP, UNPRICED, a_decision, booked, score
from tests.gateway.raw import until

_DAY_S = 86_400


def rows_alone(ledger: Ledger) -> tuple[object, object]:
    """The same figures without any rollup."""
    reader = LedgerReader(ledger.engine)
    # The sums keep microseconds.
    rows = [
        {**row, "latency_s": pytest.approx(row["latency_s"], abs=2e-6)}
        for row in reader.by_expert(since=1.0)
    ]
    return reader.totals(since=1.0), rows


def in_sums(ledger: Ledger, days: float) -> tuple[object, object]:
    """As they are read so many days from now: all that is there lies in closed hours."""
    sums = summed(ledger.engine, now() + days * _DAY_S)
    return total(sums), by_expert(sums)


def generations(ledger: Ledger) -> int:
    with ledger.engine.connect() as connection:
        count = func.count(tables.rollup.c.generation.distinct())
        return int(connection.scalar(select(count)) or 0)


def test_sums_over_closed_hours_are_those_of_the_rows(ledger: Ledger) -> None:
    assert in_sums(ledger, 0)[1] == []
    for decided in (a_decision(CHEAP), a_decision(UNPRICED), a_decision(CHEAP)):
        score(ledger, booked(ledger, decided), 0.25)
    reprice(ledger.engine, Which("unpriced", 0.0), Prices(1, 2))
    expected = rows_alone(ledger)
    assert in_sums(ledger, 0) == expected, "nothing is closed"
    assert in_sums(ledger, 2) == expected, "everything is"
    assert in_sums(ledger, 4) == expected, "and further hours without rows"
    assert generations(ledger) == 1
    assert verify_ledger(ledger.engine).faults == ()


def test_rows_that_come_late_make_the_sums_anew(ledger: Ledger) -> None:
    first = booked(ledger, a_decision(CHEAP))
    score(ledger, first, 1.0)
    in_sums(ledger, 2)
    booked(ledger, a_decision(CHEAP))
    score(ledger, first, 0.0)
    assert in_sums(ledger, 2) == rows_alone(ledger)
    assert generations(ledger) == 2
    assert verify_ledger(ledger.engine).faults == ()


def test_a_newer_score_replaces_one_in_a_closed_hour(ledger: Ledger) -> None:
    booking = booked(ledger, a_decision(CHEAP))
    score(ledger, booking, 1.0)
    with ledger.engine.begin() as connection:
        for table in (tables.request_result, tables.attempt_result, tables.outcome):
            connection.execute(update(table).values(at=table.c.at - 2 * _DAY_S))
    assert in_sums(ledger, 0) == rows_alone(ledger)
    score(ledger, booking, 0.5)
    (row,) = by_expert(summed(ledger.engine))
    assert (row["scored"], row["score"]) == (1, 0.5)
    assert generations(ledger) == 1


def test_a_score_told_before_the_request_ended_counts_once_it_has(ledger: Ledger) -> None:
    score(ledger, booked(ledger, a_decision(CHEAP)), 1.0)
    with ledger.engine.begin() as connection:
        outcome = tables.outcome
        connection.execute(update(outcome).values(at=outcome.c.at - 3 * _DAY_S))
    in_sums(ledger, -1)
    assert in_sums(ledger, 2) == rows_alone(ledger)
    assert verify_ledger(ledger.engine).faults == ()


def test_rows_that_somebody_deleted_hold_nobody_up(ledger: Ledger) -> None:
    """The number of the last row is more than there are: counting settles it."""
    for _ in range(3):
        booked(ledger, a_decision(CHEAP))
    with ledger.engine.begin() as connection:
        first = select(func.min(tables.request_result.c.request_id)).scalar_subquery()
        connection.execute(
            tables.request_result.delete().where(tables.request_result.c.request_id == first)
        )
    assert total(summed(ledger.engine))["requests"] == 2
    assert in_sums(ledger, 2) == rows_alone(ledger)
    assert generations(ledger) == 1


def test_a_gateway_sums_up_closed_hours_beside_its_requests(ledger: Ledger, url: str) -> None:
    booked(ledger, a_decision(CHEAP))
    with ledger.engine.begin() as connection:
        for table in (tables.request_result, tables.attempt_result):
            connection.execute(update(table).values(at=table.c.at - 3 * _DAY_S))
    assert days_due(ledger.engine) >= 3
    with upkeep(url, LedgerSettings()):
        until(lambda: days_due(ledger.engine) == 0)
    told: list[int] = []
    assert total(summed(ledger.engine, progress=told.append))["requests"] == 1
    assert told == [], "nothing was left to do"


def test_sums_that_are_not_those_of_the_rows_are_found(ledger: Ledger) -> None:
    booked(ledger, a_decision(CHEAP))
    in_sums(ledger, 2)
    with ledger.engine.begin() as connection:
        cost = tables.rollup.c.cost_nanousd
        connection.execute(update(tables.rollup).where(cost > 0).values(cost_nanousd=1))
    faults = verify_ledger(ledger.engine).faults
    assert faults == ("the rollup says 1 cost_nanousd of cheap, the rows 20000",)


def test_who_was_asked_in_vain_and_what_is_nobodys_are_not_listed_as_answering() -> None:
    nothing = dict.fromkeys(SUMS, 0)
    answered = {**nothing, "requests": 4, "latency_us": 2_000_000}
    sums = {"": {**nothing, "requests": 9}, "vain": {**nothing, "wasted_nanousd": 5}, "a": answered}
    assert [(each["expert"], each["latency_s"]) for each in by_expert(sums)] == [("a", 0.5)]
