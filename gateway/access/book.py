"""Keys in the ledger: events that are only ever added, and the state that follows from them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import ValidationError
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.errors import ApiError, LedgerError
from gateway.ledger.database import reader
from gateway.ledger.tables import key as table
from gateway.settings.access import Grant

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """One row of the `key` table.

    Attributes:
        name: Whose event.
        ordinal: 0 for the first of a name: two writers can't both add the next.
        at: Seconds since 1970.
        event: What happened.
        by: Name of the key that did it; None is the operator at the ledger itself.
        digest: Of the new secret; None for a revocation.
        until: When the secret before this one stops working; set for a rotation.
        grant: Set for a creation and a change.
    """

    name: str
    ordinal: int
    at: float
    event: Literal["created", "changed", "rotated", "revoked"]
    by: str | None = None
    digest: str | None = None
    until: float | None = None
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class KeyState:
    """What a key's events add up to.

    Attributes:
        digests: Digest to when it stops working; None is never.
        events: How many there are.
    """

    name: str
    grant: Grant
    granted_by: str | None
    created_at: float
    digests: Mapping[str, float | None]
    revoked_at: float | None = None
    events: int = 1


class KeyBook:
    """Reads and adds key events. Every call waits for the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = reader(engine)

    def size(self) -> int:
        """How many events there are: since none is ever changed, a newer book is a longer one."""
        try:
            with self._reader.connect() as connection:
                return int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        except SQLAlchemyError as error:
            raise LedgerError(f"the keys can't be read: {cause(error)}") from error

    def states(self) -> dict[str, KeyState]:
        """Every key that was ever made, by name."""
        try:
            with self._reader.connect() as connection:
                query = select(table).order_by(table.c.name, table.c.ordinal)
                rows = connection.execute(query).mappings().all()
        except SQLAlchemyError as error:
            raise LedgerError(f"the keys can't be read: {cause(error)}") from error
        return states_of(_event(dict(row)) for row in rows)

    def add(self, event: KeyEvent) -> None:
        """Write one event and wait for the disk.

        Raises:
            ApiError: 409, somebody else has just written about the same key.
            LedgerError: The ledger can't be written.
        """
        grant = event.grant and event.grant.model_dump(mode="json")
        values = {
            "name": event.name,
            "ordinal": event.ordinal,
            "at": event.at,
            "event": event.event,
            "by": event.by,
            "digest": event.digest,
            "until": event.until,
            "grant": grant,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table), values)
        except IntegrityError as error:
            raise ApiError(
                409, f"the key {event.name!r} was changed meanwhile; look again", code="key_changed"
            ) from error
        except SQLAlchemyError as error:
            raise LedgerError(f"the key can't be written: {cause(error)}") from error


def cause(error: SQLAlchemyError) -> str:
    """What went wrong, without the statement and its values."""
    return str(getattr(error, "orig", None) or type(error).__name__)


def states_of(events: Iterable[KeyEvent]) -> dict[str, KeyState]:
    """Fold events, ordered by ordinal within each name, into states."""
    states: dict[str, KeyState] = {}
    for event in events:
        before = states.get(event.name)
        if before is not None:
            states[event.name] = _after(before, event)
        elif event.grant is not None and event.digest is not None:
            states[event.name] = KeyState(
                event.name, event.grant, event.by, event.at, {event.digest: None}
            )
    return states


def _after(before: KeyState, event: KeyEvent) -> KeyState:
    counted = replace(before, events=before.events + 1)
    if event.event == "revoked":
        return replace(counted, revoked_at=before.revoked_at or event.at)
    if event.event == "changed" and event.grant is not None:
        return replace(counted, grant=event.grant)
    if event.digest is None:
        return counted
    # Every older secret ends with the grace of this rotation at the latest.
    older = {
        digest: event.until if end is None else min(end, event.until or end)
        for digest, end in before.digests.items()
    }
    return replace(counted, digests={**older, event.digest: None})


def _event(row: dict[str, object]) -> KeyEvent:
    grant = row["grant"]
    try:
        values = {**row, "grant": None if grant is None else Grant.model_validate(grant)}
    except ValidationError:
        # A newer gateway's: what it allows and forbids is not known here, so it opens nothing here.
        _log.warning("the rights of the key %r can't be read: it is closed here", row["name"])
        values = {**row, "event": "revoked", "grant": None}
    return KeyEvent(**values)  # type: ignore[arg-type]
