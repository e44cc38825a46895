"""What the ledger says that a key, a project or a session has spent: budgets begin with it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, func, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.access.book import cause
from gateway.access.meters import Meter
from gateway.errors import LedgerError
from gateway.ledger.database import reader
from gateway.ledger.tables import attempt, attempt_result, decision, request


class Spending:
    """Sums of what attempts have cost. Waits for the database.

    Args:
        engine: The ledger's.
        under: Name of a key to that of every key it granted, directly or not.
        outside: Name of a project to that of every key of another one that counts against it too.
    """

    def __init__(
        self,
        engine: Engine,
        under: Callable[[str], Collection[str]],
        outside: Callable[[str], Collection[str]],
    ) -> None:
        self._engine = reader(engine)
        self._under = under
        self._outside = outside

    def since(self, meter: Meter, at: float) -> int:
        """Nano-dollars of the requests of `meter` that began at `at` or later.

        Raises:
            LedgerError: The ledger can't be read.
        """
        query: Select[Any] = (
            select(func.coalesce(func.sum(attempt_result.c.cost_nanousd), 0))
            .select_from(request)
            .join(decision, decision.c.request_id == request.c.request_id)
            .join(attempt, attempt.c.decision_id == decision.c.decision_id)
            .join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
            .where(self._is_of(meter), request.c.at >= at)
        )
        try:
            with self._engine.connect() as connection:
                return int(connection.execute(query).scalar_one())
        except SQLAlchemyError as error:
            raise LedgerError(f"what was spent can't be read: {cause(error)}") from error

    def _is_of(self, meter: Meter) -> ColumnElement[bool]:
        if meter.kind == "project":
            outside = request.c.key_name.in_(self._outside(meter.owner))
            return (request.c.project == meter.owner) | outside
        if meter.kind == "session":
            mine = request.c.key_name == meter.owner
            if not meter.session:
                return mine & request.c.session.is_(None)
            return mine & (request.c.session == meter.session)
        return request.c.key_name.in_([meter.owner, *self._under(meter.owner)])
