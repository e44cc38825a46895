"""Settings to a running application: the one place where things are wired together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import numpy as np
from anyio.abc import TaskGroup
from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from experts.base import Expert
from experts.errors import ExpertError
from gateway.access.admission import Admission, Counted
from gateway.access.book import KeyBook
from gateway.access.gate import Gate
from gateway.access.keyring import Keyring
from gateway.access.minting import Minter
from gateway.access.shared import Shared
from gateway.access.sharing import counts_alone
from gateway.access.spending import Spending
from gateway.access.watch import KeyWatch
from gateway.api.answering import failed
from gateway.api.chat import CHAT
from gateway.api.messages import MESSAGES, speaks_anthropic
from gateway.api.reference import DescribedApp
from gateway.api.routes import add_routes, no_route
from gateway.asking_load import watch_load
from gateway.begun import CLIENT_LEFT
from gateway.bodies import Bodies
from gateway.caching.cache import AnswerCache
from gateway.closing import ClientLeftError, Closing, shutting_down
from gateway.deciding import Decider
from gateway.embedding.spaces import KnownSpaces, Spaces
from gateway.errors import ApiError, GatewayError, api_error
from gateway.execution.traffic import Traffic
from gateway.fast.lane import Lane
from gateway.guards.chain import GuardChain
from gateway.ids import now
from gateway.ledger.opening import open_ledger
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import card_row
from gateway.ledger.store import Ledger
from gateway.local import NO_ENGINES, RunningEngines
from gateway.outcomes.afterwards import Afterwards, Scoring
from gateway.pool import Pool
from gateway.reload.board import Entry
from gateway.reload.reloader import Reloader, Source
from gateway.reload.snapshots import OneGateway, Snapshot, Snapshots
from gateway.residency.line import Line, open_line
from gateway.residency.residents import NOBODY_LIVES_HERE
from gateway.responses.store import ResponseStore
from gateway.router_store import RouterStore
from gateway.service import Service
from gateway.serving import ServingRouters
from gateway.settings.base import secret
from gateway.settings.document import Document
from gateway.settings.load import Configuration
from gateway.settings.root import Settings
from gateway.shadows.calls import ShadowCalls, ShadowWork
from gateway.state import Gateway, Lasting, Uses, gateway_of
from gateway.telemetry.build import (
    build_telemetry,
    ledger_metrics,
    show_drifts,
    show_shadows,
    show_traffic,
)
from gateway.telemetry.otlp import models_of, start_tracing
from gateway.telemetry.redaction import Redactor, secrets_of
from gateway.telemetry.request_id import HEADER, RequestIds, request_id_of
from gateway.watching import reload_on_hangup, watch_keys, watch_routers
from routers.errors import RoutingError


def build_gateway(
    settings: Settings,
    experts: Mapping[str, Expert],
    *,
    seed: int | None = None,
    redactor: Redactor | None = None,
    engines: RunningEngines = NO_ENGINES,
) -> Gateway:
    """Open the ledger, load the routers, and put everything together.

    Args:
        settings: What is configured.
        experts: The pool.
        seed: Of all chance; None: another each time.
        redactor: Takes secrets out of log lines.
        engines: Those that run for experts of the pool.

    Raises:
        ConfigError, LedgerError: Something that is configured can't be used.
    """
    ledger = open_ledger(settings)
    engine = ledger.engine
    store = RouterStore(settings.data_dir / "routers")
    metrics = ledger_metrics(ledger)
    show_drifts(metrics, store)
    bodies = Bodies()
    metrics.gauge("bodies_bytes", "Memory set aside for request bodies.", lambda: bodies.held)
    line = open_line(settings, engines)
    redactor = redactor or Redactor(secrets_of(settings))
    lasting = Lasting(
        database=engine,
        ledger=ledger,
        reader=LedgerReader(engine),
        store=store,
        metrics=metrics,
        redactor=redactor,
        tracing=start_tracing(settings, redactor),
        serving=_serving(settings, store),
        cache=AnswerCache(settings.cache, metrics),
        traffic=Traffic.of(settings, seed, line.residents if line else NOBODY_LIVES_HERE),
        key_book=KeyBook(engine),
        counted=Counted(_shared(settings)),
        responses=_response_store(settings),
        bodies=bodies,
        closing=Closing(),
        scoring=Scoring.of(settings, ledger.append, metrics),
        shadows=ShadowWork.of(settings, engine),
        spaces=KnownSpaces(engine),
        adaptive={},
        rng=np.random.default_rng(seed),
        line=line,
    )
    return _assembled(settings, experts, lasting)


def rebuild_gateway(old: Gateway, settings: Settings, experts: Mapping[str, Expert]) -> Gateway:
    """A gateway with other settings on the books, counters and routers of one that runs."""
    before, lasting = old.settings, old.lasting
    lasting.redactor.learn(secrets_of(settings))
    if lasting.tracing is not None:
        lasting.tracing.learn(models_of(settings))
    lasting = lasting._replace(traffic=lasting.traffic.renewed(before, settings))
    if _how_routed(before) != _how_routed(settings):
        lasting = lasting._replace(serving=_serving(settings, lasting.store))
    if (before.cache, before.experts) != (settings.cache, settings.experts):
        # What an expert answered says nothing of the one that now has its name.
        lasting = lasting._replace(cache=AnswerCache(settings.cache, lasting.metrics))
    shadows = lasting.shadows.renewed(before, settings, lasting.database)
    return _assembled(settings, experts, lasting._replace(shadows=shadows))


def _how_routed(settings: Settings) -> tuple[str, float]:
    return settings.routing.router, settings.routing.epsilon


def _assembled(settings: Settings, experts: Mapping[str, Expert], lasting: Lasting) -> Gateway:
    pool, ledger, traffic = Pool(dict(experts)), lasting.ledger, lasting.traffic
    telemetry = build_telemetry(settings, lasting.metrics, lasting.redactor, lasting.tracing)
    show_traffic(lasting.metrics, traffic, experts)
    show_shadows(lasting.metrics, lasting.shadows)
    decider = Decider(
        settings,
        pool,
        lasting.serving,
        lasting.traffic,
        lasting.adaptive,
        lasting.rng,
        lasting.ledger.append,
    )
    decider.prepare()
    keyring = Keyring(settings.keys, settings.access.when_ledger_is_down, settings.server)
    watch = KeyWatch(lasting.key_book, keyring)
    watch.read()
    spending = Spending(lasting.database, keyring.under)
    alone = counts_alone(settings)
    admission = Admission(settings.access, spending, ledger.flush, lasting.counted, alone=alone)
    afterwards = Afterwards(settings, ledger.append, lasting.scoring)
    service = Service(
        settings,
        pool,
        decider,
        Spaces(pool, lasting.spaces, routed=settings.routing.embeddings_router is not None),
        GuardChain(settings.guards, ledger, lasting.metrics),
        lasting.cache,
        lasting.traffic,
        ledger,
        telemetry,
        admission,
        lasting.closing,
        afterwards,
    )
    uses = Uses()
    afterwards.judge_through(service, decider.limits, uses)
    if settings.shadow.share:
        shadows = ShadowCalls(settings, pool, lasting, uses, afterwards.score, decider.limits)
        afterwards.shadow_through(shadows.offer)
    _record_cards(ledger, pool)
    lane = Lane(settings, pool, keyring, admission, decider, traffic, ledger, telemetry, afterwards)
    return Gateway(
        settings=settings,
        keyring=keyring,
        minter=Minter(lasting.key_book, keyring),
        key_watch=watch,
        admission=admission,
        pool=pool,
        decider=decider,
        service=service,
        telemetry=telemetry,
        lasting=lasting,
        lane=lane,
        uses=uses,
    )


def _serving(settings: Settings, store: RouterStore) -> ServingRouters:
    serving = ServingRouters(store, settings.routing.router, settings.routing.epsilon)
    serving.refresh()
    return serving


def _shared(settings: Settings) -> Shared | None:
    if settings.access.shared is None:
        return None
    # Longer than any request, the time for a settlement to be sent included.
    return Shared(secret(settings.access.shared), settings.limits.total_s + 60)


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


class Origin(NamedTuple):
    """Where a gateway's configuration came from, so that it can be reloaded."""

    source: Source
    configuration: Configuration
    entry: Entry


def create_app(
    gateway: Gateway, *, admin_port: int | None = None, origin: Origin | None = None
) -> FastAPI:
    """The ASGI application; it closes the gateway when it shuts down.

    Args:
        gateway: What serves at first.
        admin_port: The only port that serves the operator's routes; None: every one.
        origin: Where its configuration came from; None: it can't be reloaded.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_routers, snapshots)
            tasks.start_soon(watch_keys, snapshots)
            tasks.start_soon(watch_load, snapshots)
            tasks.start_soon(gateway.telemetry.watch_loop)
            tasks.start_soon(gateway.telemetry.metrics.leave_copies)
            if gateway.lasting.line is not None:
                await _join(gateway.lasting.line, snapshots, tasks)
            if gateway.responses:
                tasks.start_soon(gateway.responses.prune_for_ever)
            tasks.start_soon(snapshots.close_retired)
            if reloader is not None:
                tasks.start_soon(reloader.watch)
                tasks.start_soon(reload_on_hangup, reloader)
            with gateway.lasting.closing.calling(lambda: snapshots.shut_down(shutting_down())):
                yield
            tasks.cancel_scope.cancel()
        await gateway.lasting.shadows.aclose()
        await gateway.lasting.scoring.aclose()
        await snapshots.aclose()
        if gateway.lasting.counted.shared:
            await gateway.lasting.counted.shared.aclose()
        await anyio.to_thread.run_sync(gateway.ledger.close)
        if gateway.responses:
            gateway.responses.close()
        await gateway.telemetry.close()

    app = DescribedApp(
        title="Pointsman",
        lifespan=lifespan,
        openapi_url=None,
        # It would name operators' routes to the public, under whatever `Host` was sent.
        redirect_slashes=False,
        telemetry=_OUR_OWN_TELEMETRY,
    )
    snapshots = Snapshots(app.state, _first(gateway, origin))
    reloader = Reloader(snapshots, origin.source, rebuild_gateway) if origin else None
    app.state.snapshots = snapshots
    gateway.telemetry.metrics.gauge(
        "config_number", "Which configuration serves.", lambda: snapshots.current.number
    )
    app.state.reloader = reloader
    app.state.admin_port = admin_port
    add_routes(app)
    app.add_middleware(Gate, render=_gate_response)
    for kind in (GatewayError, ExpertError, RoutingError, HTTPException):
        app.add_exception_handler(kind, _error_response)
    app.add_exception_handler(ClientLeftError, _left_response)
    app.add_exception_handler(Exception, _crash_response)
    app.add_middleware(RequestIds)
    app.add_middleware(OneGateway)
    return app


async def _join(line: Line, snapshots: Snapshots, tasks: TaskGroup) -> None:
    """Hear whose engines are awake before anybody is served."""
    line.residents.load_of = snapshots.load_of
    tasks.start_soon(line.listen)
    await line.connected()


def _first(gateway: Gateway, origin: Origin | None) -> Snapshot:
    if origin is None:
        given = Configuration(gateway.settings, Document("given", "", {}, {}))
        return Snapshot(gateway, given, 1, now(), "start")
    _, configuration, entry = origin
    return Snapshot(gateway, configuration, entry.number, now(), entry.reason)


def _record_cards(ledger: Ledger, pool: Pool) -> None:
    ledger.append([card_row(card, now()) for card in pool.cards])


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = _framework_error(request, error)
    front = MESSAGES if speaks_anthropic(request) else CHAT
    return failed(front, gateway_of(request).telemetry.clean(api_error(error)))


def _framework_error(request: Request, error: HTTPException) -> ApiError:
    if error.status_code in (404, 405):
        return no_route(request)
    return ApiError(error.status_code, str(error.detail), code="http_error")


async def _gate_response(request: Request, error: Exception) -> Response:
    """Who came without a key: measured like any request that is refused."""
    telemetry = gateway_of(request).telemetry
    trip = telemetry.begin("none", request.headers, request_id_of(request.scope))
    response = await _error_response(request, error)
    trip.end(response.status_code, api_error(error).code)
    response.headers["server-timing"] = trip.server_timing()
    return response


async def _left_response(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _crash_response(request: Request, error: Exception) -> Response:
    """A fault of ours, answered beyond the reach of the middleware that adds request ids."""
    response = await _error_response(request, error)
    response.headers[HEADER] = request_id_of(request.scope)
    return response
