"""Where the engines' owner hears the workers, and has done what the steward and operators want."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from experts.engines.load import EngineLoad
from experts.engines.states import EngineState, EngineStatus
from experts.errors import EngineMoveError, EngineStartError
from experts.residency.steward import Order, Steward
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

_log = logging.getLogger(__name__)
_THREADS = 32
_CLOSE_S = 5.0
_LOAD_S = 2.0
_SOCKET = "engines.sock"


class Engines(Protocol):
    """What the desk needs of `experts.engines.supervisor.Supervisor`."""

    def start(self, expert_id: str) -> None: ...
    def stop(self, expert_id: str) -> None: ...
    def sleep(self, expert_id: str, level: int = 1) -> None: ...
    def wake(self, expert_id: str) -> None: ...
    def states(self) -> tuple[EngineState, ...]: ...
    def load(self, expert_id: str) -> EngineLoad | None: ...


class Fleet(Protocol):
    """Who has engines come and go; both raise as `Engines` do."""

    def gain(self, text: str) -> Mapping[str, Any]:
        """Run what a configuration names beside what runs; expert to where it is asked."""
        ...

    def lose(self, text: str) -> None:
        """End what a configuration does not name, when its calls are done."""
        ...


class Desk:
    """Serves a socket from a thread of its own.

    `told` and `drain` are for the supervisor, from whatever thread; the rest is done on the desk's.

    Args:
        steward: Decides.
        path: Of the socket.
        clock: Monotonic seconds, the same in all processes.
    """

    def __init__(
        self, steward: Steward, path: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._steward = steward
        self._clock = clock
        self._loop = asyncio.new_event_loop()
        self._engines: Engines | None = None
        self._fleet: Fleet | None = None
        self._fitting = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "engines")
        self._processes: dict[int, asyncio.StreamWriter] = {}
        self._numbers = itertools.count(1)
        self._drains: list[tuple[str, Future[None]]] = []
        self._wishes: list[tuple[str, asyncio.Future[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: asyncio.TimerHandle | None = None
        self._sent = 0

    # For the supervisor.

    def told(self, state: EngineState) -> None:
        """An engine is in another state."""
        self._loop.call_soon_threadsafe(self._changed, state)

    def gone(self, engine: str) -> None:
        """There is no such engine any more."""
        self._loop.call_soon_threadsafe(self._steward.gone, engine)

    def drain(self, engine: str, patience_s: float) -> None:
        """Return when no process makes calls of it any more, or patience is over."""
        drained: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._drain, engine, drained)
        try:
            drained.result(patience_s)
        except TimeoutError:
            _log.warning("engine %s: calls go on after %.3g s and are cut", engine, patience_s)

    # For the process that owns the engines.

    @contextmanager
    def open(self) -> Iterator[Desk]:
        """Serve for as long as the context is open."""
        thread = threading.Thread(target=self._loop.run_forever, name="engines' desk")
        thread.start()
        try:
            server = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
            try:
                yield self
            finally:
                asyncio.run_coroutine_threadsafe(self._close(server), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()
            self._threads.shutdown()

    @contextmanager
    def looking_after(self, engines: Engines, fleet: Fleet | None = None) -> Iterator[None]:
        """For as long as the context is open, these engines move as the steward orders.

        Args:
            engines: Who they are.
            fleet: Has them come and go; None: they stay the same.
        """
        self._fleet = fleet

        async def take(engines: Engines | None) -> None:
            self._engines = engines
            for state in engines.states() if engines else ():
                self._steward.changed(state, self._clock())
            self._step()

        asyncio.run_coroutine_threadsafe(take(engines), self._loop).result()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(take(None), self._loop).result()

    async def _serve(self) -> asyncio.Server:
        server = await asyncio.start_unix_server(self._hear, str(self.path), limit=MOST_BYTES)
        self.path.chmod(0o600)
        return server

    async def _close(self, server: asyncio.Server) -> None:
        self._engines = None
        server.close()
        if self._due is not None:
            self._due.cancel()
        for _, drained in self._drains:
            drained.set_result(None)
        self._drains.clear()
        for writer in self._processes.values():
            writer.close()
        for task in self._tasks:
            task.cancel()
        # Those who hear workers end by themselves, with their connections.
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=_CLOSE_S)

    # On the desk's own thread.

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        process = next(self._numbers)
        self._processes[process] = writer
        self._tell(writer)
        try:
            while line := await reader.readline():
                said = read_line(line)
                if isinstance(said, Told):
                    self._told(process, said)
                elif isinstance(said, Command):
                    self._begin(self._obey(writer, said))
        except (ConnectionError, ValueError) as error:
            _log.warning("a process that calls engines is gone: %s", error)
        finally:
            del self._processes[process]
            self._steward.left(process)
            writer.close()
            self._step()

    def _told(self, process: int, said: Told) -> None:
        now = self._clock()
        self._steward.heard(process, said.report)
        for engine, weight in said.asked.items():
            self._steward.asked(engine, now, weight)
        self._step()

    def _changed(self, state: EngineState) -> None:
        self._steward.changed(state, self._clock())
        if state.status is EngineStatus.READY:
            self._settle(state.expert_id)
        elif state.status is EngineStatus.STOPPED and not self._steward.wished(state.expert_id):
            why = EngineMoveError(f"{state.expert_id} was stopped meanwhile")
            self._settle(state.expert_id, why)
        self._step()

    def _settle(self, name: str, error: Exception | None = None) -> None:
        """Whoever wished it awake hears that it is, or why not."""
        for wish in [each for engine, each in self._wishes if engine == name and not each.done()]:
            wish.set_exception(error) if error else wish.set_result(None)

    def _drain(self, engine: str, drained: Future[None]) -> None:
        self._drains.append((engine, drained))
        self._step()

    def _step(self) -> None:
        if self._engines is None:
            # Nobody calls engines that nobody has handed over yet, or that end.
            for _, drained in self._drains:
                drained.set_result(None)
            self._drains.clear()
            return
        now = self._clock()
        for order in self._steward.step(now):
            self._begin(self._carry_out(order))
        self._tell_all()
        self._let_go_drained()
        if self._due is not None:
            self._due.cancel()
        due_at = self._steward.due_at(now)
        wait_s = max(0.0, due_at - now)
        self._due = None if math.isinf(due_at) else self._loop.call_later(wait_s, self._step)

    def _let_go_drained(self) -> None:
        waiting = self._drains
        self._drains = [(name, one) for name, one in waiting if not self._steward.idle(name)]
        for name, drained in waiting:
            if self._steward.idle(name) and not drained.done():
                drained.set_result(None)

    def _tell_all(self) -> None:
        self._steward.news(self._clock())
        if self._steward.number != self._sent:
            self._sent = self._steward.number
            for writer in self._processes.values():
                self._tell(writer)

    def _tell(self, writer: asyncio.StreamWriter) -> None:
        news = self._steward.news(self._clock())
        writer.write(line_of(News(self._steward.number, news)))

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, order: Order) -> None:
        engines = self._engines
        assert engines is not None  # noqa: S101 - there were orders
        call = {
            "sleep": lambda: engines.sleep(order.engine, order.level),
            "wake": lambda: engines.wake(order.engine),
            "start": lambda: engines.start(order.engine),
        }[order.move]
        fault = f"it could not {order.move}"
        try:
            await self._loop.run_in_executor(self._threads, call)
            fault = ""
        except (EngineStartError, EngineMoveError) as error:
            _log.error("engine %s could not %s: %s", order.engine, order.move, error)
            fault = str(error)
            self._settle(order.engine, error)
        finally:
            self._steward.done(order, self._clock(), fault)
            self._step()

    async def _obey(self, writer: asyncio.StreamWriter, command: Command) -> None:
        try:
            result = await self._result(command)
        except EngineMoveError as error:
            result = CommandResult(command.number, "conflict", str(error))
        except EngineStartError as error:
            result = CommandResult(command.number, "failed", str(error))
        writer.write(line_of(result))

    async def _result(self, command: Command) -> CommandResult:
        number, do, engine, text = command
        engines = self._engines
        if engines is None:
            raise EngineMoveError("the engines are not ready to be moved yet")
        if do in ("gain", "lose"):
            return await self._fitted(number, do, text)
        if do == "show":
            return CommandResult(number, shown=await self._shown(engines))
        states = {state.expert_id: state for state in engines.states()}
        if engine not in states:
            await self._move_adapter(engines, do, engine)
            return CommandResult(number)
        status = states[engine].status
        if status is EngineStatus.STOPPED and do in ("sleep", "wake"):
            raise EngineMoveError(f"{engine} is stopped: start it first")
        if do == "stop":
            await self._loop.run_in_executor(self._threads, engines.stop, engine)
        elif do == "sleep":
            if status is EngineStatus.READY:
                await self._carry_out_by_hand(self._steward.send_to_sleep(engine))
            elif status is not EngineStatus.ASLEEP:
                raise EngineMoveError(f"{engine} is {status.value}, so it can't be sent to sleep")
        else:
            await self._woken(engine, status)
        return CommandResult(number)

    async def _fitted(self, number: int, do: Do, text: str) -> CommandResult:
        if self._fleet is None:
            raise EngineMoveError("these engines do not come and go; restart the gateway")
        if do == "gain":
            async with self._fitting:
                gained = self._loop.run_in_executor(self._threads, self._fleet.gain, text)
                return CommandResult(number, shown=await gained)
        # Calls may go on for long, and nobody waits for their end.
        self._begin(self._lose(self._fleet, text))
        return CommandResult(number)

    async def _lose(self, fleet: Fleet, text: str) -> None:
        try:
            # Before whatever is gained later.
            async with self._fitting:
                await self._loop.run_in_executor(self._threads, fleet.lose, text)
        except (EngineStartError, EngineMoveError) as error:
            _log.error("what is no longer configured goes on: %s", error)

    async def _move_adapter(self, engines: Engines, do: Do, adapter: str) -> None:
        """Load or unload it; neither takes memory, so the steward need not be asked."""
        home = next(state for state in engines.states() if adapter in state.serves)
        if home.status is not EngineStatus.READY:
            raise EngineMoveError(
                f"{home.expert_id} is {home.status.value}: wake or start it first"
            )
        move = engines.stop if do == "stop" else engines.start
        await self._loop.run_in_executor(self._threads, move, adapter)

    async def _carry_out_by_hand(self, order: Order) -> None:
        engines = self._engines
        assert engines is not None  # noqa: S101 - the caller has looked
        self._step()
        try:
            await self._loop.run_in_executor(
                self._threads, engines.sleep, order.engine, order.level
            )
        finally:
            self._steward.done(order, self._clock())
            self._step()

    async def _woken(self, engine: str, status: EngineStatus) -> None:
        if status is EngineStatus.READY:
            return
        wish = engine, self._loop.create_future()
        self._wishes.append(wish)
        self._steward.wish(engine, self._clock())
        self._step()
        try:
            await wish[1]
        finally:
            self._wishes.remove(wish)

    async def _shown(self, engines: Engines) -> dict[str, dict[str, Any]]:
        states = {state.expert_id: state for state in engines.states()}
        asked = {
            name: self._loop.run_in_executor(self._threads, engines.load, name)
            for name, state in states.items()
            if state.status in (EngineStatus.READY, EngineStatus.DRAINING)
        }
        if asked:
            # One that hangs must not hide how the others are.
            await asyncio.wait(asked.values(), timeout=_LOAD_S)
        loads = {name: load.result() for name, load in asked.items() if load.done()}
        return {
            name: {
                "state": asdict(state),
                "calls": self._steward.calls(name),
                "waiting": self._steward.waiting(name),
                "load": asdict(load) if (load := loads.get(name)) else None,
            }
            for name, state in states.items()
        }


@contextmanager
def desk_for(steward: Steward) -> Iterator[Desk]:
    """A desk on a socket that only our user reaches."""
    with (
        TemporaryDirectory(prefix="pointsman-") as directory,
        Desk(steward, Path(directory) / _SOCKET).open() as desk,
    ):
        yield desk
