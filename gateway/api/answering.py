"""Serves any `Front`: the one handler behind every route that asks an expert."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from experts.errors import ExpertError
from experts.messages import Collector, Completion, Usage, collect
from gateway.api.base_urls import DEPLOYMENT
from gateway.api.body import of_deployment
from gateway.api.disconnect import EventStream, unless_disconnected
from gateway.api.front import Envelope, Front, Writer
from gateway.ask import Ask
from gateway.begun import BEGUN, CLIENT_LEFT, Begun
from gateway.booking import Booking
from gateway.errors import ApiError, GatewayError, api_error
from gateway.server.shutdown import ClientLeftError
from gateway.service import Answer
from gateway.state import gateway_of, read_body
from gateway.telemetry.request_id import request_id_of
from gateway.telemetry.trip import Telemetry, Trip
from routers.errors import RoutingError

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Parsing a megabyte takes milliseconds in which nobody else would be served.
_PARSE_INLINE_BYTES = 256 * 1024
_DECISION_ID = "x-pointsman-decision-id"
_MOST_NAMES, _LONGEST_NAME = 32, 64
_PLAIN = "[]().:/@$*+!"


async def respond(front: Front, request: Request) -> Response:
    """Answer a request in the words of its wire format, errors included."""
    return await answered(front, request, lambda trip: _respond(front, request, trip))


async def answered(
    front: Front, request: Request, work: Callable[[Trip], Awaitable[Response]]
) -> Response:
    """What `work` answers, its failures as `front` writes them; measured as one request."""
    telemetry = gateway_of(request).telemetry
    begun = begun_of(request)
    trip = (
        begun.trip
        if begun
        else telemetry.begin(
            front.wire, request.headers, request_id_of(request.scope), request.scope["path"]
        )
    )
    try:
        response = await work(trip)
    except ClientLeftError:
        if begun is not None:
            begun.left()
        trip.end(CLIENT_LEFT, "client_left")
        response = Response(status_code=CLIENT_LEFT)
    except Exception as error:  # noqa: BLE001 - whatever it was, the client gets its wire's words
        failure = telemetry.clean(api_error(error))
        failure.headers = {**_failed_headers(trip, failure), **failure.headers}
        log_fault(error, trip.request_id)
        trip.end(failure.status, failure.code or failure.type)
        response = failed(front, failure, trip.request_id)
    response.headers["server-timing"] = trip.server_timing()
    return response


def log_fault(error: Exception, name: str) -> None:
    """A fault of ours, with its traceback; what is told to clients says nothing of it."""
    if not isinstance(error, GatewayError | ExpertError | RoutingError):
        _log.error("request %s failed", name, exc_info=error)


def failed(front: Front, failure: ApiError, request_id: str) -> Response:
    """An error as `front` writes it."""
    if failure.status >= 500:
        _log.warning("answered %d: %s", failure.status, failure.message)
    return Response(
        front.error(failure, request_id),
        failure.status,
        headers=failure.headers,
        media_type="application/json",
    )


async def _respond(front: Front, request: Request, trip: Trip) -> Response:
    gateway = gateway_of(request)
    if (begun := begun_of(request)) is not None:
        return await relay(front, request, begun.ask, trip)
    key = gateway.keyring.check(request)
    raw = await read_body(request)
    model = request.scope.get(DEPLOYMENT)
    ask = await off_the_loop(
        raw, lambda: front.parse(of_deployment(raw, model), request.headers, key)
    )
    return await relay(front, request, ask, trip)


async def off_the_loop(raw: bytes, work: Callable[[], T]) -> T:
    """Do `work` on a body: at once, or in a thread if it is a large one."""
    if len(raw) > _PARSE_INLINE_BYTES:
        return await anyio.to_thread.run_sync(_uncollected, work)
    return work()


def _uncollected(work: Callable[[], T]) -> T:
    # Looking for garbage among the millions of lists that a body may consist of, again and again
    # while they become more, takes ten times as long as reading them, and nobody else runs.
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()


Keep = Callable[[Envelope, Completion, Usage], Awaitable[None]]


async def relay(
    front: Front, request: Request, ask: Ask, trip: Trip, keep: Keep | None = None
) -> Response:
    """Answer what was asked; `keep` gets to see a whole answer before its client knows it whole."""
    gateway = gateway_of(request)
    debug = ask.key.admin and request.headers.get("x-pointsman-debug") == "true"
    work = partial(gateway.service.answer, ask, trip, begun_of(request))
    if not ask.request.stream:
        return await unless_disconnected(request, lambda: _whole(front, work, ask, debug, keep))
    answer = await unless_disconnected(request, work)
    writer = front.writer(ask, envelope_of(answer))
    pieces = pieces_of(writer, gateway.telemetry, answer, keep)
    return EventStream(pieces, headers_of(answer, debug), answer.aclose, writer.fail)


def begun_of(request: Request) -> Begun | None:
    """What the fast path has done of `request`."""
    begun: Begun | None = request.scope.get(BEGUN)
    return begun


async def _whole(
    front: Front, work: Callable[[], Awaitable[Answer]], ask: Ask, debug: bool, keep: Keep | None
) -> Response:
    answer = await work()
    completion = await collect(answer.events())
    envelope, usage = envelope_of(answer), answer.booking.usage or Usage()
    if keep is not None:
        await keep(envelope, completion, usage)
    body = front.whole(ask, envelope, completion, usage)
    headers = {**headers_of(answer, debug), "x-pointsman-cost-usd": _cost_text(answer.booking)}
    return Response(body, headers=headers, media_type="application/json")


async def pieces_of(
    writer: Writer, telemetry: Telemetry, answer: Answer, keep: Keep | None = None
) -> AsyncGenerator[bytes, None]:
    """An answer as server-sent events; one that breaks ends in an error event."""
    collected = Collector()
    try:
        async for event in answer.events():
            if keep is not None:
                collected.add(event)
            for piece in writer.write(event):
                yield piece
        booking = answer.booking
        cost = booking.cost_usd if booking.cost_complete else None
        usage = booking.usage or Usage()
        if keep is not None:
            await keep(envelope_of(answer), collected.completion(), usage)
        for piece in writer.end(usage, cost):
            yield piece
    except Exception as error:  # noqa: BLE001 - whatever it was, the stream ends in words
        log_fault(error, answer.booking.decision_id)
        for piece in writer.fail(telemetry.clean(api_error(error))):
            yield piece


def envelope_of(answer: Answer) -> Envelope:
    """What the answer says of itself."""
    return Envelope(answer.booking.decision_id, answer.execution.answered_by or "")


def headers_of(answer: Answer, debug: bool) -> dict[str, str]:
    """The `x-pointsman-*` headers that are known when an answer begins."""
    decision = answer.decision
    headers = {
        _DECISION_ID: answer.booking.decision_id,
        "x-pointsman-expert": answer.execution.answered_by or "",
        "x-pointsman-router": decision.router,
        "x-pointsman-attempts": str(answer.booking.attempts),
        **answer.lookup.headers,
        **answer.passed.headers(),
    }
    if answer.collections:
        headers["x-pointsman-collections"] = listed(answer.collections)
    if dropped := answer.dropped_params:
        headers["x-pointsman-dropped-params"] = listed(dropped)
    if debug:
        headers["x-pointsman-version"] = decision.version
        headers["x-pointsman-policy"] = decision.policy
        headers["x-pointsman-propensity"] = f"{decision.propensity:.6g}"
        headers["x-pointsman-flags"] = ",".join(decision.flags)
    return headers


def _failed_headers(trip: Trip, failure: ApiError) -> dict[str, str]:
    """The `x-pointsman-*` headers of a request that failed once it was decided who answers it."""
    booking, decision = trip.booking, trip.decision
    if booking is None or decision is None:
        return {}
    # Of several prompts another one may be at fault.
    if failure.headers.get(_DECISION_ID, booking.decision_id) != booking.decision_id:
        return {}
    return {
        _DECISION_ID: booking.decision_id,
        "x-pointsman-expert": trip.last or decision.expert,
        "x-pointsman-router": decision.router,
        "x-pointsman-attempts": str(booking.attempts),
        "x-pointsman-cost-usd": _cost_text(booking),
    }


def listed(names: Sequence[str]) -> str:
    """Names that a client made up, fit for a header: line ends and the like as `%0D%0A`."""
    fit = [quote(name[:_LONGEST_NAME], safe=_PLAIN) for name in names[:_MOST_NAMES]]
    return ",".join([*fit, "..."] if len(names) > _MOST_NAMES else fit)


def _cost_text(booking: Booking) -> str:
    return f"{booking.cost_usd:.9f}" if booking.cost_complete else "unknown"
