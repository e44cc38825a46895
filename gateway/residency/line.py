"""A worker's connection to the process that owns the engines."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from gateway.engines.local import Endpoints, RunningEngines
from gateway.residency.residents import Residents
from gateway.residency.words import (
    MOST_BYTES,
    Command,
    CommandResult,
    Do,
    News,
    Told,
    line_of,
    read_line,
)
from gateway.settings.root import Settings

_log = logging.getLogger(__name__)
_GATHER_S = 0.02
"""By so much a report that nobody waits for is put off, so that one tells of many calls."""
_AGAIN_S = 0.2
_SHOWN_S = 5.0


def open_line(settings: Settings, engines: RunningEngines) -> Line | None:
    """The line to whoever looks after these engines; None where nobody does."""
    if not engines.desk:
        return None
    residency = settings.residency
    residents = Residents(
        homes(engines.endpoints),
        residency.experts,
        queue=residency.queue,
        wait_s=residency.wait_s,
        down_s=settings.execution.max_wait_s,
    )
    return Line(Path(engines.desk), residents)


def homes(endpoints: Endpoints) -> dict[str, str]:
    """Expert to the engine that answers for it."""
    return {name: endpoint.engine or name for name, endpoint in endpoints.items()}


class LineError(Exception):
    """Nobody who owns engines is to be reached."""


class Line:
    """Tells the owner of the engines how this process stands, and the process how they stand.

    Args:
        path: Of the owner's socket.
        residents: Who is told, and asked.

    Attributes:
        residents: As given.
    """

    def __init__(self, path: Path, residents: Residents) -> None:
        self._path = path
        self.residents = residents
        self._writer: asyncio.StreamWriter | None = None
        self._due: asyncio.Handle | None = None
        self._due_at = 0.0
        self._numbers = itertools.count(1)
        self._commands: dict[int, asyncio.Future[CommandResult]] = {}
        self._connected = anyio.Event()
        residents.tell = self._stir

    async def connected(self, within_s: float = 10.0) -> None:
        """Wait until the first news has come, which calls need.

        Raises:
            LineError: None came in time.
        """
        try:
            with anyio.fail_after(within_s):
                await self._connected.wait()
        except TimeoutError as error:
            raise LineError(f"nobody answers at {self._path}") from error

    async def listen(self) -> None:
        """Keep connected, for ever."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    str(self._path), limit=MOST_BYTES
                )
                await self._hear(reader)
            except (OSError, ValueError) as error:
                _log.debug("no line to the engines: %s", error)
            finally:
                self._cut()
            await anyio.sleep(_AGAIN_S)

    async def command(self, do: Do, engine: str = "", text: str = "") -> CommandResult:
        """Have something done, see `Command`; returns when it is, or can't be.

        Raises:
            LineError: There is no connection, or it ended before there was an answer.
        """
        if self._writer is None:
            raise LineError("whoever owns the engines does not answer just now")
        number = next(self._numbers)
        answer: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._commands[number] = answer
        try:
            self._writer.write(line_of(Command(number, do, engine, text)))
            return await answer
        finally:
            self._commands.pop(number, None)

    async def shown(self) -> Mapping[str, Mapping[str, Any]]:
        """Engine to how it is, see `CommandResult`; nothing if its owner does not say."""
        try:
            with anyio.fail_after(_SHOWN_S):
                return (await self.command("show")).shown
        except (LineError, TimeoutError):
            return {}

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said = read_line(line)
            if isinstance(said, News):
                self.residents.heard(said)
                self._connected.set()
            elif isinstance(said, CommandResult):
                waiting = self._commands.get(said.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(said)

    def _stir(self, at_once: bool) -> None:
        """Something is to be reported, soon or in this turn of the loop."""
        if self._writer is None:
            return
        loop = asyncio.get_running_loop()
        due_at = loop.time() + (0.0 if at_once else _GATHER_S)
        if self._due is not None:
            if self._due_at <= due_at:
                return
            self._due.cancel()
        self._due, self._due_at = loop.call_at(due_at, self._report), due_at

    def _report(self) -> None:
        self._due = None
        if self._writer is None:
            return
        self._writer.write(line_of(Told(*self.residents.report())))
        if self.residents.draining:
            self._stir(False)

    def _cut(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.residents.lost()
        for waiting in self._commands.values():
            with suppress(asyncio.InvalidStateError):
                waiting.set_exception(LineError("whoever owns the engines is gone"))
