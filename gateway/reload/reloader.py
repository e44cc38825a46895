"""Takes over a changed configuration while requests go on; a bad one changes nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from experts.base import Expert
from experts.errors import ExpertError
from gateway.checking import find_faults, find_warnings
from gateway.engines.local import Endpoints, read_endpoints
from gateway.errors import ConfigError, GatewayError, LedgerError
from gateway.ids import now
from gateway.pool.pool import build_experts
from gateway.reload.board import Board, BoardEntry, Note
from gateway.reload.changes import needs_restart, unchanged_experts
from gateway.reload.snapshots import Snapshot, Snapshots
from gateway.residency.line import Line, LineError, homes
from gateway.settings.document import digest_of
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import Configuration, read_configuration, read_text
from gateway.settings.local import ServedHere
from gateway.settings.root import Settings
from gateway.state import Gateway
from routers.errors import RoutingError

_log = logging.getLogger(__name__)
_POLL_S = 0.5
_FORESEEN = (GatewayError, ExpertError, RoutingError, OSError)

Rebuild = Callable[[Gateway, Settings, Mapping[str, Expert]], Gateway]
"""A gateway for other settings and experts that shares what must survive with the one that runs."""


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where the configuration of one `pointsman serve` comes from.

    Attributes:
        path: The file; None for the defaults, which can't be reloaded.
        board: What all its processes share.
        server: Settings that the command line overrides.
    """

    path: Path | None
    board: Board
    server: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.path) if self.path else "defaults"

    def endpoints(self, settings: Settings) -> Endpoints:
        """Where experts on engines of ours are asked."""
        placed = read_endpoints(self.board.endpoints())
        # Those that are about to end are still there.
        named = {e.id for e in settings.experts if isinstance(e, ServedHere)}
        return {name: endpoint for name, endpoint in placed.items() if name in named}

    def read(self, text: str, name: str | None = None) -> Configuration:
        """Raises FaultyConfigError for a text that can't be served."""
        configuration = read_configuration(text, name or self.name, self.server)
        if faults := find_faults(configuration):
            raise FaultyConfigError(faults)
        return configuration


class Reloader:
    """One process's part in changing its configuration."""

    def __init__(self, snapshots: Snapshots, source: ConfigSource, rebuild: Rebuild) -> None:
        self._snapshots = snapshots
        self._source = source
        self._rebuild = rebuild
        self._lock = anyio.Lock()
        self._refused: int | None = None
        self._complaint: tuple[int, str] | None = None
        self._seen = _stamp(source.path)
        self._note()

    @property
    def source(self) -> ConfigSource:
        return self._source

    @property
    def snapshots(self) -> Snapshots:
        return self._snapshots

    @property
    def _line(self) -> Line:
        """To whoever owns the engines."""
        line = self._snapshots.current.gateway.lasting.line
        assert line is not None  # noqa: S101 - whatever serves a file has one
        return line

    async def reload(self) -> Snapshot:
        """Serve what the file says now; the same text changes nothing.

        Raises:
            ConfigError: The file can't be served; what served goes on serving.
        """
        path = self._source.path
        if path is None:
            raise ConfigError("this gateway was started without a configuration file")
        async with self._lock:
            await self._follow()
            text = await anyio.to_thread.run_sync(read_text, path)
            if digest_of(text) == self._snapshots.current.configuration.document.digest:
                return self._snapshots.current
            return await self._serve(text, partial(self._source.board.publish, text, "reload"))

    async def roll_back(self) -> Snapshot:
        """Serve what served before; the file stays as it is.

        Raises:
            ConfigError: Nothing served before, or it can't be served any more.
        """
        board = self._source.board
        async with self._lock:
            await self._follow()
            before = board.history()
            if not before:
                raise ConfigError("there is no earlier configuration to go back to")
            number = self._snapshots.current.number
            return await self._serve(
                board.text(before[-1].number), partial(board.roll_back, number)
            )

    def validate(self, text: str) -> tuple[Configuration, list[str]]:
        """Check a text as a reload would; also says what only a restart could change.

        Raises:
            FaultyConfigError: It could not be served.
        """
        configuration = self._source.read(text, "posted")
        old = self._snapshots.current.gateway.settings
        problems = needs_restart(old, configuration.settings)
        return configuration, [str(configuration.document.fault(*problem)) for problem in problems]

    async def watch(self) -> None:
        """Follow what other processes put in force, and the file if the settings say so."""
        while True:
            await anyio.sleep(_POLL_S)
            async with self._lock:
                await self._follow()
            if self._snapshots.current.gateway.settings.server.watch_config:
                await self._watch_file()

    async def reload_or_tell(self) -> None:
        """For a signal or a changed file: nobody waits for the answer, so the log has it."""
        try:
            snapshot = await self.reload()
        except Exception as error:  # noqa: BLE001 - what looks for the next one has to go on
            _log.error("the configuration was not reloaded:\n%s", error, exc_info=_crash(error))
        else:
            _log.warning("serving configuration %d, %s", snapshot.number, self._source.name)

    async def _watch_file(self) -> None:
        seen = await anyio.to_thread.run_sync(_stamp, self._source.path)
        if seen != self._seen:
            self._seen = seen
            await self.reload_or_tell()

    async def _follow(self) -> None:
        """Take over what another process put in force."""
        board = self._source.board
        entry = await anyio.to_thread.run_sync(board.current)
        if entry.number in (self._snapshots.current.number, self._refused):
            return
        try:
            text = await anyio.to_thread.run_sync(board.text, entry.number)
            configuration = await anyio.to_thread.run_sync(self._checked, text)
            new = await anyio.to_thread.run_sync(self._built, configuration)
        except Exception as error:  # noqa: BLE001 - what looks for the next one has to go on
            await anyio.to_thread.run_sync(self._refuse, entry.number, error)
            return
        await self._swap(new, entry)

    def _refuse(self, number: int, error: Exception) -> None:
        if not isinstance(error, LedgerError):
            # What is wrong with the ledger may be over in a moment.
            self._refused = number
        if self._complaint != (number, str(error)):
            self._complaint = number, str(error)
            said = "configuration %d is not served here:\n%s"
            _log.error(said, number, error, exc_info=_crash(error))
            self._note(str(error))

    async def _serve(self, text: str, publish: Callable[[], BoardEntry]) -> Snapshot:
        """Put a text in force, with all the engines that it wants, or leave everything as it is."""
        configuration = await anyio.to_thread.run_sync(self._checked, text)
        alone = self._source.board.alone
        with await anyio.to_thread.run_sync(alone, abandon_on_cancel=True):
            self._source.board.place(await _gained(self._line, text))
            try:
                return await self._put_in_force(configuration, publish)
            finally:
                await self._lose_others(self._line)

    async def _put_in_force(
        self, configuration: Configuration, publish: Callable[[], BoardEntry]
    ) -> Snapshot:
        new = await anyio.to_thread.run_sync(self._built, configuration)
        return await self._swap(new, await anyio.to_thread.run_sync(publish))

    async def _lose_others(self, line: Line) -> None:
        """End engines that what is now in force does not want: the one before, if that failed."""
        board = self._source.board
        try:
            await line.command("lose", text=board.text(board.current().number))
        except LineError as error:
            _log.error("engines that nobody wants any more go on: %s", error)

    def _checked(self, text: str) -> Configuration:
        configuration = self._source.read(text)
        old = self._snapshots.current.gateway.settings
        problems = needs_restart(old, configuration.settings)
        if faults := [configuration.document.fault(*problem) for problem in problems]:
            raise FaultyConfigError(faults)
        return configuration

    def _built(self, configuration: Configuration) -> tuple[Configuration, Gateway]:
        old, settings = self._snapshots.current.gateway, configuration.settings
        kept = unchanged_experts(old, settings)
        experts = build_experts(settings, self._source.endpoints(settings), kept)
        for warning in find_warnings(configuration):
            _log.warning("%s", warning)
        return configuration, self._rebuild(old, settings, experts)

    async def _swap(self, new: tuple[Configuration, Gateway], entry: BoardEntry) -> Snapshot:
        configuration, gateway = new
        if entry.number != self._snapshots.current.number:
            endpoints = self._source.endpoints(configuration.settings)
            self._line.residents.move_in(homes(endpoints))
            self._snapshots.swap(
                Snapshot(gateway, configuration, entry.number, now(), entry.reason)
            )
            await anyio.to_thread.run_sync(self._note)
        return self._snapshots.current

    def _note(self, error: str | None = None) -> None:
        current = self._snapshots.current
        digest = current.configuration.document.digest
        try:
            self._source.board.note(Note(os.getpid(), current.number, digest, now(), error))
        except OSError as failure:
            _log.warning("what this process serves can't be noted: %s", failure)


def _crash(error: Exception) -> Exception | None:
    """The error, if nobody foresaw it: then it matters where it came from."""
    return None if isinstance(error, _FORESEEN) else error


async def _gained(line: Line, text: str) -> Mapping[str, Any]:
    """Have all run that a text names; expert to its endpoint.

    Raises:
        ConfigError: Something of it does not run.
    """
    try:
        outcome = await line.command("gain", text=text)
    except LineError as error:
        raise ConfigError(f"the engines can't be changed: {error}") from error
    if outcome.fault:
        raise ConfigError(outcome.message)
    return outcome.shown


def _stamp(path: Path | None) -> tuple[int, ...]:
    try:
        about = path.stat() if path else None
    except OSError:
        return ()
    return (about.st_mtime_ns, about.st_size, about.st_ino) if about else ()
