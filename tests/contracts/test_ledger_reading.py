"""What a ledger gives back: rows to learn from, totals, decisions as they were made."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import anyio
import numpy as np
import pytest

from experts.cards import Prices
from gateway.booking import Booking
from gateway.errors import LedgerError
from gateway.ids import now
from gateway.ledger.database import opened
from gateway.ledger.export import (
    as_table,
    booked_answers,
    count_scored,
    export_outcomes,
    export_rows,
)
from gateway.ledger.history import history, latest_prices
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import decision_of
from gateway.ledger.store import Ledger
from routers.records import Candidates, Decision, Preference
from tests.contracts.booked import (
    CHEAP,
    UNPRICED,
    a_decision,
    an_ask,
    booked,
    score,
)


def test_logged_outcomes_become_rows_to_learn_from(ledger: Ledger) -> None:
    booking = booked(ledger, a_decision(CHEAP), task="facts")
    score(ledger, booking, 0.0)
    score(ledger, booking, 1.0, "second thought")
    (row,) = export_outcomes(ledger.engine).rows
    assert (row["model"], row["score"], row["task"]) == ("cheap", 1.0, "facts")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 5)
    assert row["cost_usd"] == pytest.approx(20e-6)
    assert row["propensity"] == 1.0
    assert "response" not in row
    (told,) = export_outcomes(ledger.engine, answers=True).rows
    assert told.pop("response") == "Hello"
    assert told == row


def test_answers_of_one_collected_query_share_it(ledger: Ledger) -> None:
    for card in (CHEAP, UNPRICED):
        score(ledger, booked(ledger, a_decision(card), query_id="q1", run="a"), 1.0)
    score(ledger, booked(ledger, a_decision(CHEAP), query_id="q9", run="b"), 1.0)
    rows = export_outcomes(ledger.engine, tags={"run": "a"}).rows
    assert {(row["query_id"], row["model"]) for row in rows} == {
        ("q1", "cheap"),
        ("q1", "unpriced"),
    }


def test_what_is_booked_of_a_collection_is_told_with_whether_it_is_scored(ledger: Ledger) -> None:
    score(ledger, booked(ledger, a_decision(CHEAP), query_id="q1", run="a"), 0.0)
    booked(ledger, a_decision(CHEAP), query_id="q1", run="a")
    booked(ledger, a_decision(UNPRICED), query_id="q1", run="a")
    booked(ledger, a_decision(CHEAP), query_id="q2", run="b")
    found = booked_answers(ledger.engine, {"run": "a"})
    told = {pair: (answer.scored, answer.text) for pair, answer in found.items()}
    assert told == {("q1", "cheap"): (True, None), ("q1", "unpriced"): (False, "Hello")}


def test_the_newest_usable_answer_of_a_cell_is_its_row(ledger: Ledger) -> None:
    for value in (0.0, 0.5, 1.0):
        score(ledger, booked(ledger, a_decision(CHEAP), query_id="q1"), value)
    alone = booked(ledger, a_decision(CHEAP))
    for value in (0.2, 0.1):
        score(ledger, alone, value)
    left_out: dict[str, int] = {}
    told: list[int] = []
    rows = list(export_rows(ledger.engine, left_out, progress=told.append))
    assert [(row["query_id"], row["score"]) for row in rows] == [(alone.request_id, 0.1), ("q1", 1)]
    assert (left_out, sum(told), count_scored(ledger.engine)) == ({}, 4, 5)


def test_another_question_under_the_same_query_id_spoils_no_table(ledger: Ledger) -> None:
    """Two files of prompts may both begin with q1, and clients may tag what they like."""
    for card, task in ((CHEAP, "sums"), (UNPRICED, "facts"), (CHEAP, "facts")):
        score(ledger, booked(ledger, a_decision(card), query_id="q1", task=task), 1.0)
    exported = export_outcomes(ledger.engine)
    assert {row["model"] for row in exported.rows} == {"cheap", "unpriced"}
    assert list(exported.left_out.values()) == [1]
    assert "query_id of another question" in next(iter(exported.left_out))
    table = as_table(exported)
    assert (table.query_ids, table.tasks) == (("q1",), ("facts",))


@pytest.mark.parametrize("said", ["", " \t"])
def test_a_query_id_that_says_nothing_is_none(ledger: Ledger, said: str) -> None:
    for card in (CHEAP, UNPRICED):
        score(ledger, booked(ledger, a_decision(card), query_id=said), 1.0)
    exported = export_outcomes(ledger.engine)
    assert len(as_table(exported)) == len({row["query_id"] for row in exported.rows}) == 2


def test_a_price_that_is_back_is_the_newest(ledger: Ledger) -> None:
    """A slip of the keyboard that was put right must not be reckoned with for good."""
    right, slip = Prices(1, 2, source="right"), Prices(1000, 2000, source="slip")
    for prices in (right, slip, right):
        card = replace(CHEAP, prices=prices)
        booking = Booking(ledger, an_ask(), a_decision(card), "full")
        anyio.run(booking.begin, card)
    anyio.run(ledger.flush)
    assert latest_prices(ledger.engine)["cheap"] == right


def test_answers_of_an_expert_from_before_a_time_are_left_out(ledger: Ledger) -> None:
    for card in (CHEAP, UNPRICED):
        score(ledger, booked(ledger, a_decision(card)), 1.0)
    later = now() + 1
    rows = export_outcomes(ledger.engine, since={"cheap": later}).rows
    assert [row["model"] for row in rows] == ["unpriced"]
    assert len(export_outcomes(ledger.engine, since={"cheap": later - 100}).rows) == 2


def test_an_unscored_answer_is_no_row_and_nothing_at_all_is_an_error(ledger: Ledger) -> None:
    booked(ledger, a_decision(CHEAP))
    with pytest.raises(LedgerError, match="no scored answer"):
        export_outcomes(ledger.engine)


def test_totals_add_up(ledger: Ledger) -> None:
    for _ in range(3):
        score(ledger, booked(ledger, a_decision(CHEAP)), 0.5)
    reader = LedgerReader(ledger.engine)
    totals = reader.totals()
    assert (totals["requests"], totals["failed"], totals["outcomes"]) == (3, 0, 3)
    assert totals["cost_usd"] == pytest.approx(60e-6)
    (row,) = reader.by_expert()
    assert (row["expert"], row["requests"], row["score"]) == ("cheap", 3, 0.5)
    assert len(reader.recent(2)) == 2


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_decision_weighed_is_read_back_as_it_was(
    ledger: Ledger, url: str, steps: int
) -> None:
    """NaN is null; an array of a plugin need not be contiguous; any mapping will do."""
    numbers = np.array([0.1, np.nan, 1 / 3, 2.0])[::steps]
    experts = ("cheap", "b", "c", "d")[: len(numbers)]
    weighed = Candidates(
        experts,
        numbers,
        numbers,
        numbers,
        numbers,
        numbers,
        numbers,
        cost_scale_usd=0.5,
        latency_scale_s=2.0,
    )
    certain = np.zeros(len(numbers))
    certain[0] = 1.0
    made = Decision(
        router="r",
        version="v",
        policy="p",
        preference=Preference(0.1, 0.2, 0.3, {"local": 0.4}),
        candidates=weighed,
        excluded=MappingProxyType({"z": "too dear"}),
        utility_A=numbers,
        probabilities_A=certain,
        draw=0.25,
        chosen=0,
        flags=("untrained",),
    )
    booking = booked(ledger, made)
    with opened(url) as engine:
        record = LedgerReader(engine).decision(booking.decision_id)
    assert record is not None
    read = decision_of(record)
    assert read.preference == made.preference
    assert (read.excluded, read.flags) == ({"z": "too dear"}, ("untrained",))
    assert read.candidates.experts == experts
    for name in ("quality_A", "stderr_A", "cost_usd_A", "latency_s_A", "penalty_A"):
        assert np.array_equal(getattr(read.candidates, name), numbers, equal_nan=True)
    assert np.array_equal(read.utility_A, numbers, equal_nan=True)
    assert np.array_equal(read.probabilities_A, certain)


def test_of_many_decisions_some_at_random_stand_for_all(ledger: Ledger) -> None:
    for place in range(12):
        score(ledger, booked(ledger, a_decision(CHEAP)), place / 12)
    drawn = history(ledger.engine, "default", most=5, seed=1)
    everything = history(ledger.engine, "default", most=12)
    assert list(drawn.left_out.items()) == [("since 5 drawn at random stand for all 12", 7)]
    assert everything.left_out == {}
    of = dict(zip(everything.logged.table.query_ids, everything.logged.table.score_NA, strict=True))
    table = drawn.logged.table
    assert len(set(table.query_ids)) == 5
    for name, score_A in zip(table.query_ids, table.score_NA, strict=True):
        assert np.array_equal(score_A, of[name], equal_nan=True)
    assert list(drawn.at_N) == sorted(drawn.at_N)
