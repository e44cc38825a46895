"""What one gateway process holds, and how a handler gets at it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from gateway.access.admission import Admission
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.access.watch import KeyWatch
from gateway.deciding import Decider
from gateway.errors import ApiError
from gateway.ledger.queries import LedgerReader
from gateway.ledger.store import Ledger
from gateway.pool import Pool
from gateway.responses.store import ResponseStore
from gateway.router_store import RouterStore
from gateway.service import Service
from gateway.serving import ServingRouters
from gateway.settings.root import Settings
from gateway.telemetry.trip import Telemetry


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that was wired together in `gateway.app`, passed to handlers by `gateway_of`."""

    settings: Settings
    keyring: Keyring
    minter: Minter
    key_watch: KeyWatch
    admission: Admission
    pool: Pool
    store: RouterStore
    serving: ServingRouters
    decider: Decider
    service: Service
    ledger: Ledger
    reader: LedgerReader
    telemetry: Telemetry
    responses: ResponseStore | None


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves `request`."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def read_body(request: Request) -> bytes:
    """The whole body, or ApiError 413 as soon as it is longer than the settings allow."""
    most = gateway_of(request).settings.limits.max_body_bytes
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise ApiError(413, f"the body is longer than {most} bytes", code="body_too_large")
        chunks.append(chunk)
    return b"".join(chunks)
