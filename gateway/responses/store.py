"""The store behind `previous_response_id`: written and read in threads, pruned as time goes by."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import orjson
from sqlalchemy import Connection, event, select
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import ApiError, LedgerError
from gateway.ledger.database import Schema, open_database, reader
from gateway.responses.tables import VERSION_TABLE, kept_response

Item = Mapping[str, Any]
T = TypeVar("T")
_log = logging.getLogger(__name__)
SCHEMA = Schema(Path(__file__).parent / "migrations", VERSION_TABLE)
_DAY_S = 86_400
_PRUNE_S = 60.0
_MAX_TURNS = 1_000
_ID = re.compile(r"[\w.:-]{1,80}")
_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """One response as it is kept.

    Attributes:
        response_id: Its name.
        owner: The only one who gets to see it.
        previous_id: The response it goes on from.
        input: Its own input items, those of earlier responses not included.
        body: The response object, output items included.
    """

    response_id: str
    owner: str
    previous_id: str | None
    input: tuple[Item, ...]
    body: Mapping[str, Any]

    @property
    def items(self) -> tuple[Item, ...]:
        """What it adds to the conversation."""
        return (*self.input, *self.body["output"])


class ResponseStore:
    """Responses by id, each for its owner alone.

    No call blocks the event loop: work is done in at most two threads, further calls wait.

    Args:
        url: The database, as `open_database` takes it.
        retention_days: How long a response is kept; older ones are not given out any more, and
            gone from the disk a minute later.
        max_rows: How many are kept; the oldest go first.
        clock: Seconds since 1970.

    Raises:
        ConfigError, LedgerError: The database can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        retention_days: float = 30,
        max_rows: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = open_database(url, schema=SCHEMA)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _overwrite_what_is_deleted)
            # The connections of the migration were opened without it.
            self._engine.dispose()
        self._retention_s = retention_days * _DAY_S
        self._max_rows = max_rows
        self._clock = clock
        self._threads = anyio.CapacityLimiter(2)

    async def save(self, kept: KeptResponse) -> None:
        """Write one; on return it is on the disk."""
        values = {
            "response_id": kept.response_id,
            "owner": kept.owner,
            "at": self._clock(),
            "previous_id": kept.previous_id,
            "input": orjson.dumps(kept.input).decode(),
            "body": orjson.dumps(kept.body).decode(),
        }
        await self._run(lambda c: c.execute(kept_response.insert(), values))

    async def get(self, owner: str, response_id: str) -> KeptResponse | None:
        """The response, unless it is not kept or somebody else's."""
        return await self._run(lambda c: self._get(c, owner, response_id), reads=True)

    async def conversation(self, owner: str, response_id: str) -> list[Item]:
        """All items up to and including that response, oldest first.

        Raises:
            ApiError: 400 when it, or one that it goes on from, is not kept, or they are too many.
        """
        return await self._run(lambda c: self._conversation(c, owner, response_id), reads=True)

    async def forget(self, owner: str, response_id: str) -> bool:
        """Remove one for good; False if it is not there for `owner`."""
        return await self._run(lambda c: self._forget(c, owner, response_id))

    async def prune(self) -> int:
        """Remove what is too old or too much for good; how many there were."""
        removed = 0
        while some := await self._run(self._prune):
            removed += some
        return removed

    async def prune_for_ever(self) -> None:
        """`prune` once a minute; a database that is away is tried again."""
        while True:
            try:
                await self.prune()
            except LedgerError as error:
                _log.warning("kept responses were not pruned: %s", error)
            await anyio.sleep(_PRUNE_S)

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    async def _run(self, work: Callable[[Connection], T], *, reads: bool = False) -> T:
        engine = reader(self._engine) if reads else self._engine

        def run() -> T:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                raise LedgerError(f"the store of responses can't be used: {error}") from error

        return await anyio.to_thread.run_sync(run, limiter=self._threads)

    def _get(self, connection: Connection, owner: str, response_id: str) -> KeptResponse | None:
        if not _ID.fullmatch(response_id):
            # PostgreSQL takes no zero bytes, and a path may have any.
            return None
        table = kept_response.c
        query = select(kept_response).where(
            table.response_id == response_id,
            table.owner == owner,
            table.at >= self._clock() - self._retention_s,
        )
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return KeptResponse(
            row["response_id"],
            row["owner"],
            row["previous_id"],
            tuple(orjson.loads(row["input"])),
            orjson.loads(row["body"]),
        )

    def _conversation(self, connection: Connection, owner: str, response_id: str) -> list[Item]:
        turns: list[KeptResponse] = []
        wanted: str | None = response_id
        while wanted is not None:
            kept = self._get(connection, owner, wanted)
            if kept is None or len(turns) == _MAX_TURNS:
                raise _broken(wanted, response_id, len(turns))
            turns.append(kept)
            wanted = kept.previous_id
        return [item for kept in reversed(turns) for item in kept.items]

    def _forget(self, connection: Connection, owner: str, response_id: str) -> bool:
        table = kept_response.c
        mine = (table.response_id == response_id, table.owner == owner)
        return connection.execute(kept_response.delete().where(*mine)).rowcount > 0

    def _prune(self, connection: Connection) -> int:
        table = kept_response.c
        newest = select(table.response_id).order_by(table.at.desc()).offset(self._max_rows)
        old = select(table.response_id).where(table.at < self._clock() - self._retention_s)
        doomed: list[str] = []
        for query in (old, newest):
            doomed += connection.execute(query.limit(_ROWS_AT_ONCE)).scalars()
        if doomed:
            connection.execute(kept_response.delete().where(table.response_id.in_(doomed)))
        return len(set(doomed))


def _broken(missing: str, asked: str, turns: int) -> ApiError:
    why = f"{missing!r} is not kept here"
    if turns == _MAX_TURNS:
        why = f"the conversation has more than {_MAX_TURNS} responses"
    elif missing != asked:
        why = f"{missing!r}, which {asked!r} goes on from, is not kept here any more"
    return ApiError(
        400,
        f"previous_response_id: {why}; send the conversation as input",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def _overwrite_what_is_deleted(connection: Any, _record: object) -> None:
    # Deleted text is overwritten with zeros at once, and the log of writes kept short.
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA journal_size_limit=0")
