"""The ledger's record of who embeds what. Every call waits for the database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from sqlalchemy import Connection, Engine, insert, select, tuple_
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.access.book import cause
from gateway.errors import LedgerError
from gateway.ids import now
from gateway.ledger.database import reader
from gateway.ledger.tables import vector_space as table


class Place(NamedTuple):
    """Where vectors that will be compared with each other are kept.

    Attributes:
        project: Whose; others may use the same names.
        kind: What is named.
        name: As the client calls it.
    """

    project: str
    kind: Literal["collection", "session"]
    name: str


class Space(NamedTuple):
    """What vectors must share to be compared.

    Attributes:
        expert: Who makes them.
        space: By which model: an expert may come to serve another.
        dimensions: How many were asked for; None: as many as the model has.
    """

    expert: str
    space: str
    dimensions: int | None


class SpaceBook:
    """Which space each place is in. A place that has one keeps it for good."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = reader(engine)

    def found(self, places: Iterable[Place]) -> dict[Place, Space]:
        """Those of `places` that have a space.

        Raises:
            LedgerError: It can't be read.
        """
        try:
            with self._reader.connect() as connection:
                return _read(connection, places)
        except SQLAlchemyError as error:
            raise LedgerError(f"the collections can't be read: {cause(error)}") from error

    def claimed(self, place: Place, space: Space) -> Space:
        """The space of `place`: this one, on disk, unless somebody was first.

        Raises:
            LedgerError: It can't be written.
        """
        values = {
            **place._asdict(),
            "at": now(),
            "expert_id": space.expert,
            "space": space.space,
            "dimensions": space.dimensions,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table), values)
        except IntegrityError:
            return self.found([place])[place]
        except SQLAlchemyError as error:
            raise LedgerError(f"the collection can't be written: {cause(error)}") from error
        return space


def _read(connection: Connection, places: Iterable[Place]) -> dict[Place, Space]:
    named = tuple_(table.c.project, table.c.kind, table.c.name)
    rows = connection.execute(select(table).where(named.in_([tuple(each) for each in places])))
    return {
        Place(row.project, row.kind, row.name): Space(row.expert_id, row.space, row.dimensions)
        for row in rows
    }
