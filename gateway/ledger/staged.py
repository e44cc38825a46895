"""Briefs into SQLite: each is bound once, and the database makes its rows of it.

Of the five rows of a request most values are the same for thousands, or are there twice. Binding
them one by one costs more than writing them, and holds the interpreter, which the event loop
wants. So what varies goes into a table of this connection alone, and five statements do the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
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
_OPENED = (
    "mark", "alike", "at", "prompt_sha256", "prompt", "candidates", "draw", "propensity",
)  # fmt: skip
_CLOSED = (
    "mark", "at", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_nanousd", "call_s", "total_s", "finish_reason", "expert_id", "answer",
)  # fmt: skip
_TABLES = (
    f"CREATE TEMP TABLE IF NOT EXISTS brief_alike (alike INTEGER PRIMARY KEY, {', '.join(_ALIKE)})",
    f"CREATE TEMP TABLE IF NOT EXISTS brief_opened (n INTEGER PRIMARY KEY, {', '.join(_OPENED)})",
    f"CREATE TEMP TABLE IF NOT EXISTS brief_closed (n INTEGER PRIMARY KEY, {', '.join(_CLOSED)})",
)
_OPEN = (
    """
    INSERT INTO request (request_id, at, key_name, project, wire, model_asked, stream, session,
        tags, prompt_sha256, prompt)
    SELECT 'req-' || mark, at, key_name, project, wire, model_asked, stream, NULL, '{}',
        prompt_sha256, prompt
    FROM brief_opened CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
    """
    INSERT INTO decision (decision_id, request_id, at, router, version, policy, preference,
        candidates, excluded, draw, expert_id, propensity, flags)
    SELECT 'dec-' || mark, 'req-' || mark, at, router, version, policy, preference, candidates,
        excluded, draw, expert_id, propensity, flags
    FROM brief_opened CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
    """
    INSERT INTO attempt (attempt_id, decision_id, parent_id, ordinal, at, expert_id, price_id)
    SELECT 'att-' || mark, 'dec-' || mark, NULL, 0, at, expert_id, price_id
    FROM brief_opened CROSS JOIN brief_alike USING (alike) ORDER BY n
    """,
)
_CLOSE = (
    """
    INSERT INTO attempt_result (attempt_id, at, status, error_kind, error, http_status,
        input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
        tokens_estimated, cost_nanousd, wasted, first_token_s, latency_s, finish_reason)
    SELECT 'att-' || mark, at, 'ok', NULL, NULL, NULL, input_tokens, cache_read_tokens,
        cache_write_tokens, output_tokens, reasoning_tokens, 0, cost_nanousd, 0, call_s, call_s,
        finish_reason
    FROM brief_closed ORDER BY n
    """,
    """
    INSERT INTO request_result (request_id, at, status, error_kind, answered_by, cost_nanousd,
        cost_complete, latency_s, answer)
    SELECT 'req-' || mark, at, 200, NULL, expert_id, coalesce(cost_nanousd, 0),
        cost_nanousd IS NOT NULL, total_s, answer
    FROM brief_closed ORDER BY n
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
    prices = [opening.asked.price for opening in briefs.openings if opening.asked.price]
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
    if briefs.openings:
        alike = _Alike()
        opened = [_opened(opening, alike) for opening in briefs.openings]
        _fill(cursor, "brief_alike", ("alike", *_ALIKE), alike.rows())
        _fill(cursor, "brief_opened", _OPENED, opened)
        for statement in _OPEN:
            cursor.execute(statement)
    if briefs.closings:
        _fill(cursor, "brief_closed", _CLOSED, map(_closed, briefs.closings))
        for statement in _CLOSE:
            cursor.execute(statement)
    for name in ("brief_alike", "brief_opened", "brief_closed"):
        cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names


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


def _opened(opening: Opening, alike: _Alike) -> tuple[Any, ...]:
    asked, mark, at, text, decided, usd = opening
    if isinstance(decided, Certain):
        decision, candidates = decided.decision, decided.candidates(usd)
        number = alike.certain(asked, decided)
    else:
        decision = decided
        columns, candidates = decision_columns(decided)
        number = alike.number(asked, columns)
    mode = asked.text_mode
    digest, prompt = prompt_digest(text, mode), kept_text(text, mode)
    return mark, number, at, digest, prompt, candidates, decision.draw, decision.propensity


def _closed(closing: Closing) -> tuple[Any, ...]:
    asked, mark, at, tokens, cost, call_s, total_s, reason, answer = closing
    kept = kept_text(answer, asked.text_mode)
    return mark, at, *tokens, cost, call_s, total_s, reason, asked.expert_id, kept


def _fill(cursor: sqlite3.Cursor, table: str, columns: Names, rows: Iterable[Column]) -> None:
    insert_columns(cursor, table, columns, list(zip(*rows, strict=True)))
