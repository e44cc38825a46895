"""Old texts are forgotten, and nothing else is."""

from __future__ import annotations

from sqlalchemy import select

from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.forget import count_due, days_by_wire, forget
from gateway.ledger.queries import LedgerReader
from gateway.ledger.store import Ledger
from gateway.ledger.upkeep import upkeep
from gateway.ledger.verify import verify_ledger
from gateway.settings.ledger import LedgerSettings
from tests.contracts.booked import CHEAP, a_decision, booked, score
from tests.gateway.raw import until


def texts(ledger: Ledger) -> list[tuple[str | None, str | None]]:
    joined = tables.request.join(tables.request_result)
    query = select(tables.request.c.prompt, tables.request_result.c.answer).select_from(joined)
    with ledger.engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def test_texts_are_forgotten_when_they_are_due_and_all_else_stays(ledger: Ledger) -> None:
    for _ in range(3):
        score(ledger, booked(ledger, a_decision(CHEAP)), 1.0)
    before, digests = LedgerReader(ledger.engine).totals(), _digests(ledger)
    told: list[int] = []
    days = {"openai.chat": 7.0}
    assert forget(ledger.engine, days, at=now() + 6 * 86_400) == 0
    assert texts(ledger) == [("Hi", "Hello")] * 3
    assert forget(ledger.engine, {"anthropic.messages": 7.0}, at=now() + 8 * 86_400) == 0
    assert (
        forget(ledger.engine, days, at=now() + 8 * 86_400, progress=told.append) == sum(told) == 3
    )
    assert texts(ledger) == [(None, None)] * 3
    assert (LedgerReader(ledger.engine).totals(), _digests(ledger)) == (before, digests)
    assert verify_ledger(ledger.engine).faults == ()
    assert forget(ledger.engine, days, at=now() + 8 * 86_400) == 0


def _digests(ledger: Ledger) -> list[str]:
    with ledger.engine.connect() as connection:
        return list(connection.execute(select(tables.request.c.prompt_sha256)).scalars())


def test_a_route_may_forget_sooner(url: str) -> None:
    route = {"/v1/messages": 1}
    settings = LedgerSettings.model_validate({"url": url, "keep_text_days_by_route": route})
    assert days_by_wire(settings) == {"anthropic.messages": 1}
    settings = settings.model_copy(update={"keep_text_days": 9.0})
    assert days_by_wire(settings)["openai.chat"] == 9
    assert days_by_wire(settings)["anthropic.messages"] == 1


def test_a_gateway_forgets_beside_its_requests(ledger: Ledger, url: str) -> None:
    booked(ledger, a_decision(CHEAP))
    settings = LedgerSettings.model_validate({"url": url, "keep_text_days": 1e-9})
    assert count_due(ledger.engine, days_by_wire(settings)) == 1
    with upkeep(url, settings):
        until(lambda: texts(ledger) == [(None, None)])
