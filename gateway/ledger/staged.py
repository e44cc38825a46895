"""Briefs into SQLite: each is bound once, and the database makes its rows of it.

Of the five rows of a request most values are the same for thousands, or are there twice. Binding
them one by one costs more than writing them, and holds the interpreter, which the event loop
wants. So what varies goes into a table of this connection alone, and five statements do the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Engine

from gateway.ledger.briefs import Asked, Briefs, Certain, Closing, Opening, decision_columns
from gateway.ledger.bulk import Column, Names, driven, insert_columns
from gateway.ledger.database import certain
from gateway.ledger.inserts import KnownRows, grouped, insert
from gateway.ledger.rows import kept_text, prompt_digest
from gateway.ledger.spool import Rows

_ALIKE = (
    "key_name", "project", "wire", "model_asked", "stream", "expert_id", "price_id",
    "router", "version", "policy", "preference", "excluded", "flags",
)  # fmt: skip
_OPENED = ("alike", "opened_at", "prompt_sha256", "prompt", "candidates", "draw", "propensity")
_CLOSED = (
    "closed_at", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nanousd", "call_s", "total_s", "finish_reason", "answered_by",
    "answer",
)  # fmt: skip
_BRIEF = ("mark", *_OPENED, *_CLOSED)
_TABLES = (
    f"CREATE TEMP TABLE IF NOT EXISTS brief_alike (alike INTEGER PRIMARY KEY, {', '.join(_ALIKE)})",
    f"CREATE TEMP TABLE IF NOT EXISTS brief (n INTEGER PRIMARY KEY, {', '.join(_BRIEF)})",
)
_OPEN = (
    """
    INSERT INTO request (request_id, at, key_name, project, wire, model_asked, stream, session,
        tags, prompt_sha256, prompt)
    SELECT 'req-' || mark, opened_at, key_name, project, wire, model_asked, stream, NULL, '{}',
        prompt_sha256, prompt
    FROM brief CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
    """
    INSERT INTO decision (decision_id, request_id, at, router, version, policy, preference,
        candidates, excluded, draw, expert_id, propensity, flags)
    SELECT 'dec-' || mark, 'req-' || mark, opened_at, router, version, policy, preference,
        candidates, excluded, draw, expert_id, propensity, flags
    FROM brief CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
    """
    INSERT INTO attempt (attempt_id, decision_id, parent_id, ordinal, at, expert_id, price_id)
    SELECT 'att-' || mark, 'dec-' || mark, NULL, 0, opened_at, expert_id, price_id
    FROM brief CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
)
_CLOSE = (
    """
    INSERT INTO attempt_result (attempt_id, at, status, error_kind, error, http_status,
        input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
        tokens_estimated, cost_nanousd, wasted, first_token_s, latency_s, finish_reason)
    SELECT 'att-' || mark, closed_at, 'ok', NULL, NULL, NULL, input_tokens, cache_read_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, 0, cost_nanousd, 0, call_s, call_s,
        finish_reason
    FROM brief WHERE closed_at IS NOT NULL ORDER BY n
    """,
    """
    INSERT INTO request_result (request_id, at, status, error_kind, answered_by, cost_nanousd,
        cost_complete, latency_s, answer)
    SELECT 'req-' || mark, closed_at, 200, NULL, answered_by, coalesce(cost_nanousd, 0),
        cost_nanousd IS NOT NULL, total_s, answer
    FROM brief WHERE closed_at IS NOT NULL ORDER BY n
    """,
)


def write_briefs(
    engine: Engine, briefs: Briefs, known: KnownRows, beside: Iterable[Rows] = ()
) -> None:
    """Insert the rows of these briefs and those beside them, in one transaction.

    Prices that are known already are left out, those that are new come to them.

    Args:
        engine: SQLite.
        briefs: Their rows certainly refer to rows that are there, so alone they are not checked.
        known: What is there for good.
        beside: What waited with them. How a request ended must not come to the disk behind what the
            same client asked next.

    Raises:
        DBAPIError: As if SQLAlchemy had run the statements. It does not, since that takes longer
            than they do.
    """
    prices = [opening.asked.price for opening in briefs.opened() if opening.asked.price]
    first = grouped({id(price): price for price in prices}.values())
    last = grouped(chain.from_iterable(beside))
    once = [*known.fresh(first), *known.fresh(last)]
    checked = engine if any(last.values()) else certain(engine)
    with checked.begin() as connection:
        insert(connection, first)
        with driven(connection) as cursor:
            _insert(cursor, briefs)
        insert(connection, last)
    known.add(once)


def _insert(cursor: sqlite3.Cursor, briefs: Briefs) -> None:
    for table in _TABLES:
        cursor.execute(table)
    alike = _Alike()
    wholes, openings, closings = briefs.wholes, briefs.openings.values(), briefs.closings
    if wholes:
        opened = _opened([whole.opening for whole in wholes], alike)
        _fill(cursor, _BRIEF, [*opened, *_closed(wholes)])
    if openings:
        _fill(cursor, ("mark", *_OPENED), _opened(openings, alike))
    if closings:
        marks = [closing.opening.mark for closing in closings]
        _fill(cursor, ("mark", *_CLOSED), [marks, *_closed(closings)])
    if wholes or openings:
        insert_columns(cursor, "brief_alike", ("alike", *_ALIKE), _columns(alike.rows()))
        for statement in _OPEN:
            cursor.execute(statement)
    if wholes or closings:
        for statement in _CLOSE:
            cursor.execute(statement)
    cursor.execute("DELETE FROM brief")
    cursor.execute("DELETE FROM brief_alike")


class _Alike:
    """Numbers what requests of one batch have alike."""

    __slots__ = ("_certain", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._certain: dict[tuple[int, int], int] = {}

    def certain(self, asked: Asked, decided: Certain) -> int:
        """The number of a request for an expert by its name: its plan has both for all of them."""
        # The batch keeps them, so nothing else comes to have their ids.
        place = id(asked), id(decided)
        number = self._certain.get(place)
        if number is None:
            number = self._certain[place] = self.number(asked, decided.columns)
        return number

    def number(self, asked: Asked, columns: tuple[str, ...]) -> int:
        """The number of a request with these columns of its decision."""
        key_name, project, wire, model, stream, _, expert_id, price = asked
        price_id = None if price is None else price.values["price_id"]
        key = (key_name, project, wire, model, stream, expert_id, price_id, *columns)
        return self._numbers.setdefault(key, len(self._numbers))

    def rows(self) -> list[tuple[Any, ...]]:
        """Each number with its columns."""
        return [(number, *key) for key, number in self._numbers.items()]


def _opened(openings: Collection[Opening], alike: _Alike) -> list[Column]:
    """Marks, and the columns `_OPENED`."""
    marks = [opening.mark for opening in openings]
    times = [opening.at for opening in openings]
    numbers, *others = _columns([_told(opening, alike) for opening in openings])
    return [marks, numbers, times, *others]


def _told(opening: Opening, alike: _Alike) -> tuple[Any, ...]:
    asked, decided = opening.asked, opening.decision
    if isinstance(decided, Certain):
        decision, candidates = decided.decision, decided.candidates(opening.usd)
        number = alike.certain(asked, decided)
    else:
        decision = decided
        columns, candidates = decision_columns(decided)
        number = alike.number(asked, columns)
    text, mode = opening.text, asked.text_mode
    digest, prompt = prompt_digest(text, mode), kept_text(text, mode)
    return number, digest, prompt, candidates, decision.draw, decision.propensity


def _closed(closings: Collection[Closing]) -> list[Column]:
    """The columns `_CLOSED`."""
    asked = [closing.opening.asked for closing in closings]
    answers = [closing.answer for closing in closings]
    modes = [each.text_mode for each in asked]
    return [
        [closing.at for closing in closings],
        *_columns([closing.tokens for closing in closings]),
        [closing.cost_nanousd for closing in closings],
        [closing.call_s for closing in closings],
        [closing.total_s for closing in closings],
        [closing.finish_reason for closing in closings],
        [each.expert_id for each in asked],
        list(map(kept_text, answers, modes)),
    ]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[Column]:
    return list(zip(*rows, strict=True))


def _fill(cursor: sqlite3.Cursor, names: Names, columns: Sequence[Column]) -> None:
    insert_columns(cursor, "brief", names, columns)
