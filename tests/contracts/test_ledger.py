"""Everything the ledger promises, over SQLite and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, delete, insert, select, update

from experts.cards import Prices
from experts.messages import Usage
from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.access.meters import Meter
from gateway.access.minting import Minter
from gateway.access.spending import Spending
from gateway.booking import Booking
from gateway.errors import LedgerError
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.database import open_database, opened
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import Row, decision_of, price_row
from gateway.ledger.store import Ledger
from gateway.ledger.verify import verify_ledger
from gateway.settings.access import Grant, Limit
from tests.contracts.booked import (
    CHEAP,
    UNPRICED,
    a_decision,
    an_ask,
    booked,
    booked_request_values,
    score,
)
from tests.gateway.raw import until


def test_the_schema_is_what_the_migrations_make(url: str) -> None:
    with opened(url) as engine, engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    assert found == []


def test_opening_twice_changes_nothing(url: str) -> None:
    with opened(url), opened(url) as second:
        assert LedgerReader(second).count(tables.request) == 0


def test_the_decision_is_on_disk_before_the_call(ledger: Ledger, url: str) -> None:
    booking = Booking(ledger, an_ask(), a_decision(), "full")
    asyncio.run(_begin(booking))
    with opened(url) as elsewhere:
        record = LedgerReader(elsewhere).decision(booking.decision_id)
    assert record is not None
    assert record["attempts"][0]["status"] is None
    assert record["result"] is None


async def _begin(booking: Booking) -> None:
    await booking.begin(CHEAP)


def test_a_client_that_leaves_before_the_disk_answers_leaves_no_open_attempt(
    ledger: Ledger,
) -> None:
    booking = Booking(ledger, an_ask(), a_decision(CHEAP), "full")

    async def leave() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await booking.begin(CHEAP)
            pytest.fail("the call is made all the same")
        booking.close(499, "client_left", None, "")
        await ledger.flush()

    anyio.run(leave)
    record = LedgerReader(ledger.engine).decision(booking.decision_id)
    assert record is not None
    assert record["attempts"][0]["status"] == "not_sent"
    assert record["cost"]["complete"] is True
    assert verify_ledger(ledger.engine).open_attempts == 0


def test_a_booked_request_reads_back_whole(ledger: Ledger) -> None:
    decision = a_decision(CHEAP)
    booking = booked(ledger, decision)
    booking.close(500, "once_more", None, "")
    asyncio.run(ledger.flush())
    assert ledger.lost_rows == 0
    record = LedgerReader(ledger.engine).decision(booking.decision_id)
    assert record is not None
    assert record["result"]["cost_nanousd"] == 10 * 1000 + 5 * 2000
    assert record["cost"]["total_usd"] == pytest.approx(20e-6)
    assert record["request"]["prompt"] == "Hi"
    assert record["replay"] == {"expert": "cheap", "matches": True}
    again = decision_of(record)
    assert again.ranked() == decision.ranked()
    assert again.propensity == decision.propensity


def test_an_unknown_price_is_said_and_never_nothing(ledger: Ledger) -> None:
    booking = booked(ledger, a_decision(UNPRICED))
    record = LedgerReader(ledger.engine).decision(booking.decision_id)
    assert record is not None
    assert record["attempts"][0]["cost_nanousd"] is None
    assert record["result"]["cost_complete"] is False
    assert record["cost"]["complete"] is False


def test_a_sound_ledger_verifies(ledger: Ledger) -> None:
    booking = booked(ledger, a_decision())
    score(ledger, booking, 1.0)
    verdict = verify_ledger(ledger.engine)
    assert verdict.faults == ()
    assert verdict.open_attempts == 0
    assert verdict.rows["decision"] == 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (update(tables.attempt_result).values(cost_nanousd=1), "its attempts at 1"),
        (update(tables.attempt_result).values(input_tokens=11), "its tokens cost"),
        (update(tables.attempt_result).values(output_tokens=-5), "negative output_tokens"),
        (update(tables.decision).values(propensity=0.5), "logs propensity 0.5"),
        (update(tables.decision).values(expert_id="nobody"), "for a draw that had 0.0"),
        (update(tables.outcome).values(score=7), "outside 0 to 1"),
        (update(tables.attempt).values(at=0.0), "older than its decision"),
    ],
    ids=["sum", "tokens", "negative", "propensity", "expert", "score", "order"],
)
def test_every_kind_of_damage_is_found(ledger: Ledger, damage: object, words: str) -> None:
    booking = booked(ledger, a_decision(CHEAP))
    score(ledger, booking, 1.0)
    with ledger.engine.begin() as connection:
        connection.execute(damage)  # type: ignore[call-overload]
    assert any(words in fault for fault in verify_ledger(ledger.engine).faults)


@pytest.mark.parametrize(("back_s", "faults"), [(0.5, 0), (2.0, 1)])
def test_a_clock_that_steps_back_a_little_is_no_fault(
    ledger: Ledger, back_s: float, faults: int
) -> None:
    booked(ledger, a_decision(CHEAP))
    with ledger.engine.begin() as connection:
        decided = connection.execute(select(tables.decision.c.at)).scalar_one()
        connection.execute(update(tables.attempt).values(at=decided - back_s))
    assert len(verify_ledger(ledger.engine).faults) == faults


def test_a_request_without_its_decision_is_found(ledger: Ledger) -> None:
    values = booked_request_values()
    with ledger.engine.begin() as connection:
        connection.execute(insert(tables.request), [values])
    assert any("0 decisions" in fault for fault in verify_ledger(ledger.engine).faults)


def test_rows_of_one_append_are_written_together_or_not_at_all(ledger: Ledger) -> None:
    good = Row(tables.request, booked_request_values())
    bad = Row(tables.request, {**booked_request_values(), "request_id": None})
    other = Row(tables.request, {**booked_request_values(), "request_id": "req-2"})
    refusals: list[LedgerError] = []

    async def both() -> None:
        written = anyio.Event()

        def told(error: LedgerError | None) -> None:
            assert error is None
            written.set()

        ledger.append_then([good, bad], lambda error: refusals.append(error or LedgerError("")))
        ledger.append_then([other], told)
        with anyio.fail_after(30):
            await written.wait()

    anyio.run(both)
    assert "refused" in str(refusals[0])
    assert _request_ids(ledger.engine) == {"req-2"}


def test_what_a_column_does_not_hold_is_cut_and_holds_nobody_up(ledger: Ledger) -> None:
    awkward = {"prompt": "a\0b", "session": "s" * 300, "key_name": "k\0" * 150}
    request = Row(tables.request, {**booked_request_values(), **awkward})
    other = Row(tables.request, {**booked_request_values(), "request_id": "req-2"})

    async def both() -> None:
        with anyio.fail_after(60):
            await ledger.commit([request])
            await ledger.commit([other])

    anyio.run(both)
    assert _request_ids(ledger.engine) == {"req-1", "req-2"}
    assert ledger.lost_rows == 0


@pytest.mark.parametrize(
    "unfit",
    [{"tags": {"a": object()}}, {"tags": {"n": 2**70}}, {"prompt": "\ud800"}],
    ids=["object", "number", "half a character"],
)
def test_what_can_not_be_written_down_holds_nobody_up(
    ledger: Ledger, unfit: dict[str, object]
) -> None:
    """Experts of somebody's own leave what they like."""
    bad = Row(tables.request, {**booked_request_values(), **unfit})
    other = Row(tables.request, {**booked_request_values(), "request_id": "req-2"})

    async def both() -> None:
        with anyio.fail_after(30):
            ledger.append([bad])
            await ledger.commit([other])

    anyio.run(both)
    assert _request_ids(ledger.engine) == {"req-2"}
    assert (ledger.lost_rows, ledger.pending) == (1, 0)


def _request_ids(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(tables.request.c.request_id)).scalars())


def test_content_that_is_known_is_not_written_twice(ledger: Ledger) -> None:
    for _ in range(2):
        anyio.run(ledger.commit, [price_row("cheap", Prices(1, 2))])
    assert LedgerReader(ledger.engine).count(tables.price) == 1


def test_closing_writes_what_is_left(url: str) -> None:
    ledger = Ledger(open_database(url), strict=False)
    for index in range(500):
        values = {**booked_request_values(), "request_id": f"req-{index}"}
        ledger.append([Row(tables.request, values)])
    ledger.close()
    with opened(url) as engine:
        assert LedgerReader(engine).count(tables.request) == 500
    with pytest.raises(LedgerError, match="closed"):
        ledger.append([])


def test_rows_that_nobody_waits_for_are_written_all_the_same(url: str) -> None:
    """The writer is woken once a batch: whatever it was at, no row waits for the next one."""
    ledger = Ledger(open_database(url), strict=False)
    for index in range(20):
        for part in "ab":
            values = {**booked_request_values(), "request_id": f"req-{index}-{part}"}
            ledger.append([Row(tables.request, values)])
        until(lambda: ledger.pending == 0)
    assert len(_request_ids(ledger.engine)) == 40
    ledger.close()


def test_many_threads_lose_nothing(ledger: Ledger) -> None:
    async def write(worker: int) -> None:
        for index in range(50):
            values = {**booked_request_values(), "request_id": f"req-{worker}-{index}"}
            await ledger.commit([Row(tables.request, values)])

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for worker in range(8):
                group.create_task(write(worker))

    asyncio.run(all_of_them())
    assert ledger.pending == 0
    assert len(_request_ids(ledger.engine)) == 400


def test_nothing_in_the_ledger_is_ever_deleted_or_changed_but_old_texts() -> None:
    sources = {path.name: path.read_text() for path in Path("gateway").rglob("*.py")}
    words = (delete.__name__, update.__name__)
    assert not any(f" {word}(" in source for source in sources.values() for word in words)
    rows = [f"{table.name}.{word}(" for table in tables.metadata.sorted_tables for word in words]
    changing = {name for name, source in sources.items() if any(row in source for row in rows)}
    assert changing == {"forget.py"}


def test_keys_are_made_on_every_database(url: str) -> None:
    with opened(url) as engine:
        minter = Minter(KeyBook(engine), Keyring())
        minter.create(None, "team", Grant.model_validate({"limits": [{"usd": 1, "per": "day"}]}))
        minter.rotate(None, "team")
        minter.revoke(None, "team")
        state = KeyBook(engine).states()["team"]
    assert (state.events, len(state.digests), state.grant.limits[0].usd) == (3, 2, 1.0)
    assert state.revoked_at is not None


def test_what_was_spent_is_summed_by_key_project_and_session(ledger: Ledger) -> None:
    booked(ledger, a_decision(CHEAP), Usage(input=10, output=5))
    cents = Limit(usd=1, per="day")
    meters = [Meter("key", "k", cents), Meter("project", "default", cents)]
    meters += [Meter("session", "k", cents, ""), Meter("key", "boss", cents)]
    others = [Meter("key", "other", cents), Meter("session", "k", cents, "s")]
    others.append(Meter("project", "borrowers", cents))
    meters.append(Meter("project", "lenders", cents))
    spending = Spending(
        ledger.engine,
        lambda name: ["k"] if name == "boss" else [],
        lambda project: ["k"] if project == "lenders" else [],
    )
    assert [spending.since(meter, 0.0) for meter in meters] == [20_000] * 5
    assert [spending.since(meter, 0.0) for meter in others] == [0, 0, 0]
    assert spending.since(meters[0], now() + 1) == 0


def test_prices_are_written_once_however_often_they_come(ledger: Ledger, url: str) -> None:
    for _ in range(3):
        booked(ledger, a_decision(CHEAP))
    dearer = replace(CHEAP, prices=Prices(3, 4))
    row = price_row(dearer.expert_id, dearer.prices or Prices(0, 0))
    anyio.run(ledger.commit, [row, row])
    again = Row(row.table, dict(row.values), once=True)
    anyio.run(ledger.commit, [again])
    with opened(url) as engine:
        reader = LedgerReader(engine)
        assert reader.count(tables.price) == 2
        assert reader.count(tables.attempt) == 3


def test_a_price_that_could_not_be_written_is_written_with_the_next_call(
    ledger: Ledger, url: str
) -> None:
    prices = price_row("cheap", Prices(5, 6))
    refused = Row(tables.outcome, {"outcome_id": "out-1"})
    with pytest.raises(LedgerError):
        anyio.run(ledger.commit, [prices, refused])
    with opened(url) as engine:
        assert LedgerReader(engine).count(tables.price) == 0
        anyio.run(ledger.commit, [prices])
        assert LedgerReader(engine).count(tables.price) == 1
