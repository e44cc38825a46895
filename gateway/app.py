"""A gateway as an ASGI application: its routes, its background work, its errors as answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
from anyio.abc import TaskGroup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from experts.errors import ExpertError
from experts.http.connecting import prepare
from gateway.access.gate import AuthenticationMiddleware
from gateway.api.answering import failed
from gateway.api.base_urls import BaseUrls
from gateway.api.chat import CHAT
from gateway.api.messages import MESSAGES, speaks_anthropic
from gateway.api.reference import DescribedApp
from gateway.api.routes import add_routes, no_route
from gateway.begun import CLIENT_LEFT
from gateway.errors import ApiError, GatewayError, api_error
from gateway.ids import now
from gateway.pool.asking_load import watch_load
from gateway.reload.board import BoardEntry
from gateway.reload.reloader import ConfigSource, Reloader
from gateway.reload.snapshots import OneGateway, Snapshot, Snapshots
from gateway.residency.line import Line
from gateway.server.shutdown import ClientLeftError, shutting_down
from gateway.settings.document import Document
from gateway.settings.load import Configuration
from gateway.state import Gateway, gateway_of
from gateway.telemetry.build import show_serving
from gateway.telemetry.request_id import HEADER, OF_ANTHROPIC, RequestIds, request_id_of
from gateway.watching import reload_on_hangup, watch_keys, watch_routers
from gateway.wiring import rebuild_gateway
from routers.errors import RoutingError


class Origin(NamedTuple):
    """Where a gateway's configuration came from, so that it can be reloaded."""

    source: ConfigSource
    configuration: Configuration
    entry: BoardEntry


def create_app(
    gateway: Gateway, *, admin_port: int | None = None, origin: Origin | None = None
) -> DescribedApp:
    """The ASGI application; it closes the gateway when it shuts down.

    Args:
        gateway: What serves at first.
        admin_port: The only port that serves the operator's routes; None: every one.
        origin: Where its configuration came from; None: it can't be reloaded.
    """
    app = DescribedApp(
        lifespan=lambda app: _at_work(gateway, app.state.snapshots, app.state.reloader)
    )
    snapshots = Snapshots(app.state, _first(gateway, origin))
    reloader = Reloader(snapshots, origin.source, rebuild_gateway) if origin else None
    app.state.snapshots = snapshots
    metrics = gateway.telemetry.metrics
    metrics.gauge("config_number", "Which configuration serves.", lambda: snapshots.current.number)
    show_serving(metrics, lambda: snapshots.current.gateway)
    app.state.reloader = reloader
    app.state.admin_port = admin_port
    add_routes(app)
    app.add_middleware(AuthenticationMiddleware, render=_gate_response)
    for kind in (GatewayError, ExpertError, RoutingError, HTTPException):
        app.add_exception_handler(kind, _error_response)
    app.add_exception_handler(ClientLeftError, _left_response)
    app.add_exception_handler(Exception, _crash_response)
    app.add_middleware(RequestIds, of_anthropic=speaks_anthropic)
    app.add_middleware(OneGateway)
    app.add_middleware(BaseUrls)
    return app


@asynccontextmanager
async def _at_work(
    gateway: Gateway, snapshots: Snapshots, reloader: Reloader | None
) -> AsyncIterator[None]:
    """What goes on beside requests; after the last of them, what all gateways share is closed.

    Args:
        gateway: What serves at first; what it has in `lasting` all later ones have too.
        snapshots: Those that serve.
        reloader: Takes over changed configurations.
    """
    lasting = gateway.lasting
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch_routers, snapshots)
        tasks.start_soon(watch_keys, snapshots)
        tasks.start_soon(watch_load, snapshots)
        tasks.start_soon(prepare)
        tasks.start_soon(gateway.telemetry.watch_loop)
        tasks.start_soon(lasting.metrics.leave_copies)
        if lasting.line is not None:
            await _join(lasting.line, snapshots, tasks)
        if lasting.responses:
            tasks.start_soon(lasting.responses.prune_for_ever)
        tasks.start_soon(snapshots.close_retired)
        if reloader is not None:
            tasks.start_soon(reloader.watch)
            tasks.start_soon(reload_on_hangup, reloader)
        with lasting.shutdown.calling(lambda: snapshots.shut_down(shutting_down())):
            yield
        tasks.cancel_scope.cancel()
    await lasting.shadows.aclose()
    await lasting.scoring.aclose()
    await snapshots.aclose()
    if lasting.counted.shared:
        await lasting.counted.shared.aclose()
    await anyio.to_thread.run_sync(lasting.ledger.close)
    if lasting.responses:
        lasting.responses.close()
    await gateway.telemetry.close()


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


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = _framework_error(request, error)
    front = MESSAGES if speaks_anthropic(request.scope) else CHAT
    failure = gateway_of(request).telemetry.clean(api_error(error))
    return failed(front, failure, request_id_of(request.scope))


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
    # The server closes it behind a fault, which whoever would ask again over it has to know.
    response.headers["connection"] = "close"
    if speaks_anthropic(request.scope):
        response.headers[OF_ANTHROPIC] = request_id_of(request.scope)
    return response
