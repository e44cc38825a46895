"""Settings to a running application: the one place where things are wired together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import numpy as np
from fastapi import Depends, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from experts.base import Expert
from experts.errors import ExpertError
from gateway.access.admission import Admission
from gateway.access.book import KeyBook
from gateway.access.gate import Gate
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.access.spending import Spending
from gateway.access.watch import KeyWatch
from gateway.api import (
    admin,
    budgets,
    catalog,
    chat,
    feedback,
    figures,
    health,
    keys,
    messages,
    reference,
    responses,
)
from gateway.api.answering import failed
from gateway.api.chat import CHAT
from gateway.api.messages import MESSAGES, speaks_anthropic
from gateway.caching.cache import AnswerCache
from gateway.dashboard import pages
from gateway.deciding import Decider
from gateway.errors import ApiError, GatewayError, api_error
from gateway.execution.traffic import Traffic
from gateway.guards.chain import GuardChain
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.database import open_database
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import Row, card_row
from gateway.ledger.store import Ledger
from gateway.listeners import Exposure
from gateway.pool import Pool
from gateway.responses.store import ResponseStore
from gateway.router_store import RouterStore
from gateway.service import Service
from gateway.serving import ServingRouters
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.telemetry.build import build_telemetry
from gateway.telemetry.request_id import HEADER, RequestIds, request_id_of
from routers.errors import RoutingError


def build_gateway(
    settings: Settings, experts: Mapping[str, Expert], *, seed: int | None = None
) -> Gateway:
    """Open the ledger, load the routers, and put everything together.

    Raises:
        ConfigError, LedgerError: Something that is configured can't be used.
    """
    strict = settings.ledger.durability == "strict"
    engine = open_database(settings.ledger_url, durable=strict)
    ledger = Ledger(engine, strict=strict, max_pending=settings.ledger.max_pending)
    pool = Pool(dict(experts))
    store = RouterStore(settings.data_dir / "routers")
    serving = ServingRouters(store, settings.routing.router, settings.routing.epsilon)
    serving.refresh()
    telemetry = build_telemetry(settings, ledger)
    traffic = Traffic.of(settings, seed)
    rng = np.random.default_rng(seed)
    decider = Decider(settings, pool, serving, traffic.health, rng)
    cache = AnswerCache(settings.cache, telemetry.metrics)
    keyring = Keyring(settings.keys, settings.access.when_ledger_is_down)
    book = KeyBook(engine)
    watch = KeyWatch(book, keyring)
    watch.read()
    admission = Admission(settings.access, Spending(engine, keyring.under), ledger.flush)
    guards = GuardChain(settings.guards, ledger, telemetry.metrics)
    service = Service(settings, pool, decider, guards, cache, traffic, ledger, telemetry, admission)
    _record_cards(ledger, pool)
    reader = LedgerReader(engine)
    return Gateway(
        settings=settings,
        keyring=keyring,
        minter=Minter(book, keyring),
        key_watch=watch,
        admission=admission,
        pool=pool,
        store=store,
        serving=serving,
        decider=decider,
        service=service,
        ledger=ledger,
        reader=reader,
        telemetry=telemetry,
        responses=_response_store(settings),
    )


def _response_store(settings: Settings) -> ResponseStore | None:
    wanted = settings.responses
    if not wanted.store:
        return None
    return ResponseStore(
        settings.responses_url,
        retention_days=wanted.retention_days,
        max_rows=wanted.max_rows,
    )


_OUR_OWN_TELEMETRY: TelemetryConfig = {
    # The framework's would show queries and exceptions as they are, and each request twice.
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
_PUBLIC = (chat, messages, responses, catalog, feedback, health)
_OPERATOR = (admin, budgets, figures, keys, pages, reference)
"""Routes for the operator alone: not on a public listener, and not for pages of other sites."""


def create_app(gateway: Gateway, exposure: Exposure | None = None) -> FastAPI:
    """The ASGI application; it closes the gateway when it shuts down."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch_routers, gateway)
            tasks.start_soon(gateway.telemetry.watch_loop)
            tasks.start_soon(gateway.key_watch.run, gateway.settings.access.refresh_s)
            if gateway.responses:
                tasks.start_soon(gateway.responses.prune_for_ever)
            yield
            tasks.cancel_scope.cancel()
        await gateway.pool.aclose()
        await anyio.to_thread.run_sync(gateway.ledger.close)
        if gateway.responses:
            gateway.responses.close()
        await gateway.telemetry.close()

    app = FastAPI(
        title="Pointsman", lifespan=lifespan, openapi_url=None, telemetry=_OUR_OWN_TELEMETRY
    )
    app.state.gateway = gateway
    app.state.exposure = exposure or Exposure()
    for module in _PUBLIC:
        app.include_router(module.api)
    for module in _OPERATOR:
        app.include_router(module.api, dependencies=[Depends(_operator_only)])
    app.add_middleware(
        Gate,
        keyring=gateway.keyring,
        render=_gate_response,
        limits=gateway.admission.headers,
        open_metrics=gateway.settings.access.open_metrics,
    )
    app.add_middleware(RequestIds)
    for kind in (GatewayError, ExpertError, RoutingError, HTTPException):
        app.add_exception_handler(kind, _error_response)
    app.add_exception_handler(Exception, _crash_response)
    return app


async def _operator_only(request: Request) -> None:
    request.app.state.exposure.check(request)


async def _watch_routers(gateway: Gateway) -> None:
    serving: dict[str, str] = {}
    while True:
        for name, router in gateway.serving.current.items():
            if serving.get(name) != router.version:
                serving[name] = router.version
                _record_version(gateway.ledger, name, router.version, dict(router.metadata))
        await anyio.sleep(gateway.settings.routing.reload_s)
        await anyio.to_thread.run_sync(gateway.serving.refresh)


def _record_version(ledger: Ledger, name: str, version: str, manifest: dict[str, object]) -> None:
    values = {
        "event_id": new_id("rtv"),
        "at": now(),
        "router": name,
        "version": version,
        "event": "served",
        "manifest": manifest,
    }
    ledger.append([Row(tables.router_version, values)])


def _record_cards(ledger: Ledger, pool: Pool) -> None:
    ledger.append([card_row(card, now()) for card in pool.cards])


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = ApiError(error.status_code, str(error.detail), code="http_error")
    gateway: Gateway = request.app.state.gateway
    front = MESSAGES if speaks_anthropic(request) else CHAT
    return failed(front, gateway.telemetry.clean(api_error(error)))


async def _gate_response(request: Request, error: Exception) -> Response:
    """Who came without a key: measured like any request that is refused."""
    gateway: Gateway = request.app.state.gateway
    trip = gateway.telemetry.begin("none", request.headers, request_id_of(request.scope))
    failure = gateway.telemetry.clean(api_error(error))
    trip.end(failure.status, failure.code)
    response = failed(CHAT, failure)
    response.headers["server-timing"] = trip.server_timing()
    return response


async def _crash_response(request: Request, error: Exception) -> Response:
    """A fault of ours, answered beyond the reach of the middleware that adds request ids."""
    response = await _error_response(request, error)
    response.headers[HEADER] = request_id_of(request.scope)
    return response
