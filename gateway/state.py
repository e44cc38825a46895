"""What one gateway process holds, and how a handler gets at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sqlalchemy import Engine
from starlette.requests import ClientDisconnect, Request

from gateway.access.admission import Admission, Counted
from gateway.access.book import KeyBook
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.access.watch import KeyWatch
from gateway.caching.cache import AnswerCache
from gateway.embedding.spaces import KnownSpaces
from gateway.errors import ApiError
from gateway.execution.traffic import Traffic
from gateway.ledger.queries import LedgerReader
from gateway.ledger.store import Ledger
from gateway.outcomes.afterwards import Scoring
from gateway.pool.pool import Pool
from gateway.residency.line import Line
from gateway.responses.store import ResponseStore
from gateway.routing.deciding import Decider
from gateway.routing.policies import Adaptive
from gateway.routing.router_store import RouterStore
from gateway.routing.serving import ServingRouters
from gateway.server.bodies import Bodies, BodyHold
from gateway.server.shutdown import ClientLeftError, Shutdown
from gateway.service import Service
from gateway.settings.root import Settings
from gateway.shadows.calls import ShadowWork
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import Redactor
from gateway.telemetry.trip import Telemetry

if TYPE_CHECKING:
    from gateway.fast.lane import Lane
    from gateway.telemetry.tracing import Tracing

GATEWAY = "pointsman.gateway"
"""Where a request's scope holds its gateway."""
HELD = "pointsman.held"
"""Where it holds the memory that is set aside for its body."""


class Uses:
    """Counts the requests under way with one gateway, so that it can be closed after the last."""

    __slots__ = ("_then", "count")

    def __init__(self) -> None:
        self.count = 0
        self._then: Callable[[], None] | None = None

    def begin(self) -> None:
        """A request begins."""
        self.count += 1

    def end(self) -> None:
        """It is over."""
        self.count -= 1
        if self.count == 0 and self._then is not None:
            then, self._then = self._then, None
            then()

    def when_idle(self, then: Callable[[], None]) -> None:
        """Call `then` once, when no request is under way; at once if none is."""
        if self.count == 0:
            then()
        else:
            self._then = then


class Lasting(NamedTuple):
    """What has a state that a reload must not lose: one gateway hands it on to the next."""

    database: Engine
    ledger: Ledger
    reader: LedgerReader
    store: RouterStore
    metrics: Metrics
    redactor: Redactor
    tracing: Tracing | None
    serving: ServingRouters
    cache: AnswerCache
    traffic: Traffic
    key_book: KeyBook
    counted: Counted
    responses: ResponseStore | None
    bodies: Bodies
    shutdown: Shutdown
    scoring: Scoring
    shadows: ShadowWork
    spaces: KnownSpaces
    adaptive: Adaptive
    rng: np.random.Generator
    line: Line | None


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that `gateway.wiring` put together, passed to handlers by `gateway_of`."""

    settings: Settings
    keyring: Keyring
    minter: Minter
    key_watch: KeyWatch
    admission: Admission
    pool: Pool
    decider: Decider
    service: Service
    telemetry: Telemetry
    lasting: Lasting
    lane: Lane | None = None
    uses: Uses = field(default_factory=Uses)

    @property
    def ledger(self) -> Ledger:
        return self.lasting.ledger

    @property
    def reader(self) -> LedgerReader:
        return self.lasting.reader

    @property
    def store(self) -> RouterStore:
        return self.lasting.store

    @property
    def responses(self) -> ResponseStore | None:
        return self.lasting.responses

    @property
    def serving(self) -> ServingRouters:
        return self.lasting.serving


def gateway_of(request: Request) -> Gateway:
    """The gateway that `request` began with, whatever is swapped meanwhile."""
    gateway: Gateway = request.scope[GATEWAY]
    return gateway


async def read_body(request: Request) -> bytes:
    """The whole body; the room that it takes is given back when the request is over.

    Raises:
        ApiError: 415 for one that is packed; 413 as soon as it is known to be longer than the
            settings allow, 503 when all bodies under way leave no room for it.
        ClientLeftError: The client left before it was complete.
    """
    gateway = gateway_of(request)
    limits = gateway.settings.limits
    hold = request.scope[HELD] = BodyHold(gateway.lasting.bodies, limits.max_bodies_bytes)
    _check_encoding(request.headers.get("content-encoding", ""))
    said = request.headers.get("content-length", "")
    declared = int(said) if said.isdecimal() else 0
    _check_length(declared, limits.max_body_bytes)
    hold.expect(declared)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            _check_length(size, limits.max_body_bytes)
            hold.expect(size)
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise ClientLeftError from error
    raw = b"".join(chunks)
    hold.fill(raw)
    return raw


def _check_encoding(said: str) -> None:
    # Unpacking would cost more than what was sent, as much as the client likes.
    if said.lower() not in ("", "identity"):
        message = f"content-encoding: {said[:40]!r} is not unpacked here; send the body as it is"
        raise ApiError(415, message, code="unsupported_encoding")


def _check_length(size: int, most: int) -> None:
    if size > most:
        raise ApiError(413, f"the body is longer than {most} bytes", code="body_too_large")
