"""What a brief says becomes the rows that it stands for, over SQLite and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message
from gateway.errors import LedgerError
from gateway.ledger import tables
from gateway.ledger.briefs import Asked, Briefs, Certain, Closing, Opening, closed_rows, opened_rows
from gateway.ledger.database import open_database
from gateway.ledger.rows import Row, json_text, price_row
from gateway.ledger.store import Ledger
from gateway.ledger.verify import verify_ledger
from routers.eligible import Constraints
from routers.explicit import explicit_decision
from routers.records import Decision, Preference
from routers.router import untrained_router

PRICED = ExpertCard("priced%s'", prices=Prices(1, 2, cache_read=0.1))
UNPRICED = ExpertCard("unpriced")
QUESTION = ChatRequest((Message("user", "Who is ann@example.org, born \u2028 here?"),))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(open_database(url), strict=False)
    yield opened
    opened.close()


def certain(card: ExpertCard) -> Decision:
    return explicit_decision(QUESTION, card, Constraints())


def drawn() -> Decision:
    return untrained_router("default", 0.1).decide(
        QUESTION,
        (PRICED, UNPRICED),
        preference=Preference(cost_weight=0.1),
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.3,
    )


def asked(card: ExpertCard, mode: str, *, stream: bool = False) -> Asked:
    price = None if card.prices is None else price_row(card.expert_id, card.prices)
    return Asked("k", "p", "openai.chat", "a name", stream, mode, card.expert_id, price)


def briefs() -> tuple[list[Opening], list[Closing]]:
    """All kinds of them, more than are inserted together, and one request that is under way."""
    openings, closings = [], []
    named = [(asked(card, "full"), Certain(certain(card)), card) for card in (PRICED, UNPRICED)]
    kinds: list[tuple[Asked, Decision | Certain, ExpertCard]] = [
        *named,
        (asked(PRICED, "none", stream=True), Certain(certain(PRICED)), PRICED),
        (asked(PRICED, "redacted"), drawn(), PRICED),
        (asked(PRICED, "hash"), drawn(), PRICED),
    ]
    for number in range(90):
        about, decision, card = kinds[number % len(kinds)]
        mark, at = f"{number:032x}", 1000.0 + number / 3
        usd = None if card.prices is None else number / 7e6
        opening = Opening(about, mark, at, QUESTION.text, decision, usd)
        openings.append(opening)
        tokens = (number, 1, 2, 3, 4)
        cost = None if card.prices is None else card.prices.cost_of(number, 1, 2, 7)
        closings.append(
            Closing(opening, at + 1, tokens, cost, 0.25, 0.5, "stop", "Mail ann@example.org")
        )
    return openings, closings[:-1]


def written(engine: Engine) -> Mapping[str, list[dict[str, Any]]]:
    found = {}
    with engine.connect() as connection:
        for table in (*_REQUEST, tables.price):
            rows = connection.execute(select(table).order_by(*table.primary_key)).mappings()
            found[table.name] = [dict(row) for row in rows]
    return found


_REQUEST = (
    tables.request, tables.decision, tables.attempt, tables.attempt_result, tables.request_result,
)  # fmt: skip


def test_briefs_become_the_rows_that_they_stand_for(ledger: Ledger, url: str) -> None:
    openings, closings = briefs()
    for opening in openings:
        ledger.open(opening)
    # Some end before the writer comes by, others after it.
    for half in (closings[:50], closings[50:]):
        for closing in half:
            ledger.shut(closing)
        asyncio.run(ledger.flush())
    assert ledger.pending == 0
    found = written(ledger.engine)
    assert [len(found[table.name]) for table in _REQUEST] == [90, 90, 90, 89, 89]
    rows = [*opened_rows(openings), *closed_rows(closings)]
    for table in (*_REQUEST, tables.price):
        stood_for = [plain(row) for row in rows if row.table is table]
        keys = [column.name for column in table.primary_key]
        once = {tuple(row[key] for key in keys): row for row in stood_for}
        assert found[table.name] == [once[key] for key in sorted(once)]
    verdict = verify_ledger(ledger.engine)
    assert (verdict.faults, verdict.open_attempts) == ((), 1)


def test_briefs_count_for_the_rows_that_they_stand_for() -> None:
    openings, closings = briefs()
    waiting = Briefs()
    for opening in openings[:9]:
        waiting.open(opening)
    begun = waiting.take()
    for opening in openings[9:13]:
        waiting.open(opening)
    for closing in closings[7:11]:
        waiting.shut(closing)
    for of in (begun, waiting):
        rows = [row for entry in of.entries() for row in entry if row.table is not tables.price]
        assert of.rows == len(rows) >= 20
    assert waiting.take()
    assert not waiting


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_batch_after_batch_is_written_without_making_rows_of_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the quick way can't write is written row by row, so nobody would miss it."""
    apart: list[Briefs] = []
    entries_of = ledger._entries_of

    def by_rows(of: Briefs) -> Any:
        apart.append(of)
        return entries_of(of)

    monkeypatch.setattr(ledger, "_entries_of", by_rows)
    openings, closings = briefs()
    for start in range(0, 90, 30):
        for opening in openings[start : start + 30]:
            ledger.open(opening)
        for closing in closings[start : start + 15]:
            ledger.shut(closing)
        asyncio.run(ledger.flush())
        for closing in closings[start + 15 : start + 30]:
            ledger.shut(closing)
        asyncio.run(ledger.flush())
    assert apart == []
    found = written(ledger.engine)
    assert [len(found[table.name]) for table in _REQUEST] == [90, 90, 90, 89, 89]


def plain(row: Row) -> dict[str, Any]:
    """A row's values as they are read back."""
    nothing = dict.fromkeys(column.name for column in row.table.columns)
    columns = row.table.columns
    said = {
        name: orjson.loads(json_text(value)) if str(columns[name].type) == "JSON" else value
        for name, value in row.values.items()
    }
    return {**nothing, **said}


def test_one_that_the_database_refuses_keeps_no_other_from_its_place(ledger: Ledger) -> None:
    openings, closings = briefs()
    ledger.open(openings[0])
    asyncio.run(ledger.flush())
    # The same once more, and an end of what was never announced.
    for opening in openings[:3]:
        ledger.open(opening)
    for closing in (closings[5], closings[1]):
        ledger.shut(closing)
    asyncio.run(ledger.flush())
    with ledger.engine.connect() as connection:
        counts = [connection.scalar(select(func.count()).select_from(t)) for t in _REQUEST]
    assert counts == [3, 3, 3, 1, 1]
    # Three rows of the one and its price, two of the other.
    assert ledger.lost_rows == 6
    assert ledger.pending == 0


def test_the_end_of_what_was_refused_is_refused_as_well(ledger: Ledger) -> None:
    openings, closings = briefs()
    nobodys = openings[1].asked._replace(key_name=None)  # type: ignore[arg-type]
    for opening in (openings[0], replace(openings[1], asked=nobodys)):
        ledger.open(opening)
    asyncio.run(ledger.flush())
    ledger.shut(closings[1])
    asyncio.run(ledger.flush())
    with ledger.engine.connect() as connection:
        counts = [connection.scalar(select(func.count()).select_from(t)) for t in _REQUEST]
    assert counts == [1, 1, 1, 0, 0]
    assert verify_ledger(ledger.engine).faults == ()


class Watched(dict[str, Opening]):
    """What waits, with another thread that comes between any two steps."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__()
        self._between = between

    def _then(self, name: str, *args: Any) -> Any:
        self._between()
        try:
            return getattr(super(), name)(*args)
        finally:
            self._between()

    def get(self, *args: Any) -> Any:
        return self._then("get", *args)

    def pop(self, *args: Any) -> Any:
        return self._then("pop", *args)

    def popitem(self) -> Any:
        return self._then("popitem")

    def __contains__(self, key: object) -> bool:
        return bool(self._then("__contains__", key))


@pytest.mark.parametrize("step", range(5))
def test_an_end_and_its_beginning_are_each_taken_once_when_the_writer_comes_between(
    step: int,
) -> None:
    (opening, *_), (closing, *_) = briefs()
    waiting, taken = Briefs(), list[Briefs]()
    steps = iter(range(5))

    def come_by() -> None:
        if next(steps, None) != step:
            return
        waiting.openings, watched = dict(waiting.openings), waiting.openings
        taken.append(waiting.take())
        watched.clear()
        waiting.openings = watched

    waiting.openings = Watched(come_by)
    waiting.open(opening)
    waiting.shut(closing)
    taken.append(waiting.take())
    assert [each for batch in taken for each in batch.opened()] == [opening]
    assert [each for batch in taken for each in batch.closed()] == [closing]


def test_an_end_and_its_beginning_are_each_taken_once_when_it_ends_while_they_are_taken() -> None:
    openings, closings = briefs()
    ending = deque(closings[:3])
    waiting = Briefs()
    waiting.openings = Watched(lambda: waiting.shut(ending.popleft()) if ending else None)
    for opening in openings[:3]:
        waiting.open(opening)
    taken = [waiting.take(), waiting.take(), waiting.take()]
    begun = [each.mark for batch in taken for each in batch.opened()]
    ended = [each.opening.mark for batch in taken for each in batch.closed()]
    assert sorted(begun) == sorted(ended) == [opening.mark for opening in openings[:3]]


def test_nothing_is_taken_once_the_ledger_is_closed(url: str) -> None:
    openings, closings = briefs()
    ledger = Ledger(open_database(url), strict=False)
    ledger.open(openings[0])
    ledger.close()
    with pytest.raises(LedgerError):
        ledger.open(openings[1])
    with pytest.raises(LedgerError):
        ledger.shut(closings[0])
    engine = open_database(url)
    assert len(written(engine)["request"]) == 1
    engine.dispose()
