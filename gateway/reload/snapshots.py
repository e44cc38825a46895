"""Which configuration serves, and which older ones still have requests under way."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import anyio
from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

from experts.base import Expert
from experts.http.expert import HttpExpert
from gateway.begun import BEGUN
from gateway.errors import ApiError
from gateway.settings.load import Configuration
from gateway.state import GATEWAY, HELD, Gateway

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One configuration in force, and all that was built from it.

    Attributes:
        number: Counts the configurations of one `pointsman serve`, from 1.
        at: Since when it serves, seconds since 1970.
        reason: Why: `start`, `reload`, or `rollback to <number>`.
    """

    gateway: Gateway
    configuration: Configuration
    number: int
    at: float
    reason: str


class Snapshots:
    """Swaps configurations in one step; what nobody uses any more is closed.

    Args:
        state: The application's; its `gateway` is what new requests get.
        first: What serves at first.
    """

    def __init__(self, state: State, first: Snapshot) -> None:
        self._state = state
        self._live = [first]
        self._retired: list[Expert] = []
        self._wake = anyio.Event()
        self.current = first
        state.gateway = first.gateway

    @property
    def live(self) -> tuple[Snapshot, ...]:
        """The one that serves, and those with requests that began before it."""
        return tuple(self._live)

    def load_of(self, expert_id: str) -> int:
        """Calls of an expert under way, those of older configurations included."""
        pools = (snapshot.gateway.pool.experts for snapshot in self._live)
        found = {id(each): each for pool in pools if (each := pool.get(expert_id))}
        remote = [expert for expert in found.values() if isinstance(expert, HttpExpert)]
        return sum(endpoint.load for expert in remote for endpoint in expert.endpoints)

    def swap(self, new: Snapshot) -> None:
        """Requests that begin from now on get `new`; call it on the event loop."""
        old, self.current = self.current, new
        self._live.append(new)
        self._state.gateway = new.gateway
        if old.gateway.lane is not None:
            old.gateway.lane.open = False
        old.gateway.uses.when_idle(lambda: self._retire(old))

    def _retire(self, old: Snapshot) -> None:
        self._live.remove(old)
        kept = {id(e) for snapshot in self._live for e in snapshot.gateway.pool.experts.values()}
        self._retired += [e for e in old.gateway.pool.experts.values() if id(e) not in kept]
        self._wake.set()

    async def close_retired(self) -> None:
        """Closes experts whose last request ended, as long as it runs."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._retired:
                await _close(self._retired.pop())

    def shut_down(self, failure: ApiError) -> None:
        """End the answers that are still under way without a task; their clients get `failure`."""
        for snapshot in self._live:
            if (lane := snapshot.gateway.lane) is not None:
                lane.shut_down(failure)

    async def aclose(self) -> None:
        """Close every expert that is left."""
        left = [e for snapshot in self._live for e in snapshot.gateway.pool.experts.values()]
        for expert in {id(e): e for e in [*left, *self._retired]}.values():
            await _close(expert)


async def _close(expert: Expert) -> None:
    try:
        await expert.aclose()
    except Exception:  # noqa: BLE001 - the next one has to be closed all the same
        _log.exception("closing expert %s", expert.card.expert_id)


class OneGateway:
    """Middleware: a request keeps the gateway that it began with, and counts as a use of it.

    One that the fast path began is counted already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gateway: Gateway = scope.setdefault(GATEWAY, scope["app"].state.gateway)
        if BEGUN not in scope:
            gateway.uses.begin()
        try:
            await self._app(scope, receive, send)
        finally:
            gateway.uses.end()
            if HELD in scope:
                scope[HELD].release()
