"""Attempts at a corrected price: corrections are added to what was booked, nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, exists, func, select
from sqlalchemy.exc import IntegrityError

from experts.cards import NANO_PER_USD, Prices
from experts.messages import Usage
from gateway.errors import ConfigError, LedgerError
from gateway.ids import now
from gateway.ledger.database import reader
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row, price_row
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    cost_correction,
    decision,
    expert_card,
    request_result,
)

_BATCH = 500
_UNBILLED = ("failed", "not_sent")


@dataclass(frozen=True, slots=True)
class Repriced:
    """What a correction found.

    Attributes:
        looked_at: Attempts of the expert in that time whose tokens are known.
        corrected: Those that had cost something else, or an unknown amount.
        old_nanousd: What these had cost before, as far as it was known.
        new_nanousd: What they cost now.
    """

    looked_at: int
    corrected: int
    old_nanousd: int
    new_nanousd: int

    def as_json(self) -> dict[str, Any]:
        """For programs, in dollars."""
        return {
            "looked_at": self.looked_at,
            "corrected": self.corrected,
            "old_usd": self.old_nanousd / NANO_PER_USD,
            "new_usd": self.new_nanousd / NANO_PER_USD,
        }


@dataclass(frozen=True, slots=True)
class Which:
    """Attempts of one expert that began in [since, until), seconds since 1970."""

    expert_id: str
    since: float
    until: float = float("inf")

    def narrowed(self, query: Select[Any]) -> Select[Any]:
        """`query` over attempts with their results, of these only."""
        child = attempt.alias("child")
        # A composition's own cost is that of its children.
        has_children = exists().where(
            child.c.decision_id == attempt.c.decision_id, child.c.parent_id == attempt.c.attempt_id
        )
        return query.where(
            attempt.c.expert_id == self.expert_id,
            attempt.c.at >= self.since,
            attempt.c.at < self.until,
            attempt_result.c.input_tokens.is_not(None),
            ~has_children,
        )


def check_known(engine: Engine, expert_id: str) -> None:
    """Raises ConfigError if the ledger never heard of an expert of that name."""
    known = exists().where(expert_card.c.expert_id == expert_id)
    with reader(engine).connect() as connection:
        if not connection.execute(select(known)).scalar_one():
            raise ConfigError(f"the ledger knows no expert {expert_id!r}")


def count_attempts(engine: Engine, which: Which) -> int:
    """How many attempts a correction looks at."""
    query: Select[Any] = select(func.count()).select_from(_joined())
    with reader(engine).connect() as connection:
        return int(connection.execute(which.narrowed(query)).scalar_one())


def reprice(
    engine: Engine,
    which: Which,
    prices: Prices,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Repriced:
    """Add a correction to every attempt that had cost something else at `prices`.

    Done again, it finds nothing to correct; stopped half-way, it is finished by doing it again.

    Args:
        engine: The ledger.
        which: The attempts that were booked at a wrong price, or at none.
        prices: The right ones; `source` says why, and is kept with the price.
        dry_run: Only reckon.
        progress: Is told of so many more attempts that were looked at.

    Raises:
        LedgerError: Somebody else corrects the same attempts at the same time.
    """
    looked_at = corrected = old = new = 0
    for batch in _batches(engine, which):
        rows = _corrections(engine, batch, which.expert_id, prices)
        if rows and not dry_run:
            try:
                with engine.begin() as connection:
                    insert(connection, grouped([price_row(which.expert_id, prices), *rows]))
            except IntegrityError as error:
                raise LedgerError(
                    "somebody else corrects these attempts just now; run it again afterwards"
                ) from error
        looked_at += len(batch)
        corrected += len(rows)
        old += sum(row.values["old_nanousd"] or 0 for row in rows)
        new += sum(row.values["new_nanousd"] for row in rows)
        progress(len(batch))
    return Repriced(looked_at, corrected, old, new)


def _joined() -> Any:
    return attempt.join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)


def _batches(engine: Engine, which: Which) -> Iterator[Sequence[Mapping[str, Any]]]:
    query: Select[Any] = (
        select(attempt.c.attempt_id, decision.c.request_id, attempt_result)
        .select_from(_joined().join(decision, decision.c.decision_id == attempt.c.decision_id))
        .order_by(attempt.c.attempt_id)
        .limit(_BATCH)
    )
    query, last = which.narrowed(query), ""
    while True:
        with reader(engine).connect() as connection:
            found = connection.execute(query.where(attempt.c.attempt_id > last)).mappings().all()
        if not found:
            return
        yield [dict(row) for row in found]
        last = found[-1]["attempt_id"]


def _corrections(
    engine: Engine, batch: Sequence[Mapping[str, Any]], expert_id: str, prices: Prices
) -> list[Row]:
    with reader(engine).connect() as connection:
        before = _newest(connection, [row["attempt_id"] for row in batch])
        wrong = []
        for row in batch:
            ordinal, old = before.get(row["attempt_id"], (0, row["cost_nanousd"]))
            cost = prices.cost_nanousd(_usage(row))
            if cost != old:
                wrong.append((row, ordinal, old, cost))
        known = {row["attempt_id"] for row, *_ in wrong}
        unsettled = _unsettled(connection, {row["request_id"] for row, *_ in wrong}, known)
    price_id, at = price_row(expert_id, prices).values["price_id"], now()
    return [
        Row(
            cost_correction,
            {
                "attempt_id": row["attempt_id"],
                "ordinal": ordinal,
                "request_id": row["request_id"],
                "at": at,
                "old_nanousd": old,
                "new_nanousd": cost,
                "completes": row["request_id"] not in unsettled,
                "price_id": price_id,
                "reason": prices.source,
            },
        )
        for row, ordinal, old, cost in wrong
    ]


def _usage(row: Mapping[str, Any]) -> Usage:
    parts = ("input", "cache_read", "cache_write", "output", "reasoning")
    return Usage(**{name: row[f"{name}_tokens"] for name in parts})


def _newest(connection: Connection, attempts: Collection[str]) -> dict[str, tuple[int, int]]:
    """Attempt to the ordinal that comes next and what it costs so far, where it was corrected."""
    row = cost_correction.c
    query = select(row.attempt_id, row.ordinal, row.new_nanousd).where(row.attempt_id.in_(attempts))
    found = connection.execute(query.order_by(row.ordinal))
    return {name: (ordinal + 1, cost) for name, ordinal, cost in found}


def _unsettled(
    connection: Connection, requests: Collection[str], known: Collection[str]
) -> frozenset[str]:
    """Which requests still have an attempt of unknown cost, or have not ended."""
    ended = set(
        connection.execute(
            select(request_result.c.request_id).where(request_result.c.request_id.in_(requests))
        ).scalars()
    )
    corrected = exists().where(cost_correction.c.attempt_id == attempt.c.attempt_id)
    unbilled = attempt_result.c.status.in_(_UNBILLED) & attempt_result.c.input_tokens.is_(None)
    query = (
        select(decision.c.request_id, attempt.c.attempt_id)
        .join(attempt, attempt.c.decision_id == decision.c.decision_id)
        .outerjoin(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .where(
            decision.c.request_id.in_(requests),
            attempt_result.c.cost_nanousd.is_(None),
            attempt_result.c.attempt_id.is_(None) | ~unbilled,
            ~corrected,
        )
    )
    open_yet = {name for name, made in connection.execute(query) if made not in known}
    return frozenset(open_yet | (set(requests) - ended))
