"""`POST /v1/completions`: OpenAI's legacy completions, for prompts to be continued."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.messages import Completion, Usage, collect
from gateway.access.keys import Key
from gateway.api.answering import answered, envelope_of, headers_of, log_fault, off_the_loop, relay
from gateway.api.base_urls import DEPLOYMENT
from gateway.api.body import fault, of_deployment, parse_body
from gateway.api.chat_in import wants_usage
from gateway.api.completions_in import WIRE, parse_completions
from gateway.api.completions_out import TextWriter, completion_json, renumbered
from gateway.api.disconnect import EventStream, unless_disconnected
from gateway.api.front import Envelope, Writer
from gateway.api.routing import Routes
from gateway.ask import Ask
from gateway.errors import ApiError, api_error
from gateway.service import Answer, Service
from gateway.state import gateway_of, read_body
from gateway.telemetry.trip import Telemetry, Trip
from routers.features import answers_wanted

api = Routes()
_AT_ONCE = 16
"""Prompts of one request that are answered at the same time."""


class CompletionsFront:
    """OpenAI's legacy completions."""

    wire = WIRE

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        """The only prompt of a body; for more, see `parse_completions`."""
        asks = parse_completions(parse_body(raw), headers, key)
        if len(asks) > 1:
            raise fault("prompt", "must be one prompt")
        return asks[0]

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        return completion_json(envelope, completion, usage)

    def writer(self, ask: Ask, envelope: Envelope) -> TextWriter:
        return TextWriter(envelope, include_usage=wants_usage(ask.body))

    def error(self, failure: ApiError, request_id: str) -> bytes:
        return orjson.dumps(failure.body())


COMPLETIONS = CompletionsFront()


@api.post("/v1/completions")
async def completions(request: Request) -> Response:
    """Continue a prompt, or several, streamed or whole."""
    return await answered(COMPLETIONS, request, partial(_completed, request))


async def _completed(request: Request, trip: Trip) -> Response:
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    raw = await read_body(request)
    model = request.scope.get(DEPLOYMENT)

    def parsed() -> list[Ask]:
        return parse_completions(parse_body(of_deployment(raw, model)), request.headers, key)

    asks = await off_the_loop(raw, parsed)
    if len(asks) == 1:
        return await relay(COMPLETIONS, request, asks[0], trip)
    debug = key.admin and request.headers.get("x-pointsman-debug") == "true"
    if not asks[0].request.stream:
        return await unless_disconnected(
            request, lambda: _all_whole(gateway.service, asks, trip, debug)
        )
    turn = _Turn(gateway.service, asks, trip)
    await unless_disconnected(request, turn.begin)
    writer = COMPLETIONS.writer(asks[0], envelope_of(turn.answer))
    pieces = _all_pieces(writer, turn, gateway.telemetry)
    return EventStream(pieces, _headers([turn.answer], debug), turn.aclose, writer.fail)


async def _all_whole(service: Service, asks: Sequence[Ask], trip: Trip, debug: bool) -> Response:
    """Every prompt is a request of its own: decided, asked and booked by itself."""
    found = await _all_answers(service, asks, trip)
    answers = [answer for answer, _ in found]
    choices = tuple(choice for _, completion in found for choice in completion.choices)
    whole = Completion(choices, None, found[0][1].fields)
    usage = sum((answer.booking.usage or Usage() for answer in answers), Usage())
    body = completion_json(_envelope(answers), whole, usage)
    known = all(answer.booking.cost_complete for answer in answers)
    cost = f"{sum(answer.booking.cost_usd for answer in answers):.9f}" if known else "unknown"
    headers = {**_headers(answers, debug), "x-pointsman-cost-usd": cost}
    return Response(body, headers=headers, media_type="application/json")


async def _all_answers(
    service: Service, asks: Sequence[Ask], trip: Trip
) -> list[tuple[Answer, Completion]]:
    """All answers in the order of the prompts; the first failure ends the others."""
    found: dict[int, tuple[Answer, Completion]] = {}
    failures: list[Exception] = []
    limit = anyio.Semaphore(_AT_ONCE)
    async with anyio.create_task_group() as tasks:

        async def one(place: int) -> None:
            async with limit:
                try:
                    answer = await service.answer(asks[place], None if place else trip)
                    found[place] = (answer, await collect(answer.events()))
                except Exception as error:  # noqa: BLE001 - raised below, out of the group's wrapping
                    failures.append(error)
                    tasks.cancel_scope.cancel()

        for place in range(len(asks)):
            tasks.start_soon(one, place)
    for failure in failures:
        raise failure
    return [found[place] for place in range(len(asks))]


class _Turn:
    """The prompts of a streamed request, one after the other; `answer` is the one under way."""

    answer: Answer

    def __init__(self, service: Service, asks: Sequence[Ask], trip: Trip) -> None:
        self.asks = asks
        self._service = service
        self._trip = trip

    async def begin(self, place: int = 0) -> None:
        self.answer = await self._service.answer(self.asks[place], None if place else self._trip)

    async def aclose(self) -> None:
        await self.answer.aclose()


async def _all_pieces(
    writer: Writer, turn: _Turn, telemetry: Telemetry
) -> AsyncGenerator[bytes, None]:
    ask = turn.asks[0]
    usage, cost_usd = Usage(), 0.0
    known = True
    try:
        for place in range(len(turn.asks)):
            if place:
                await turn.begin(place)
            async for event in turn.answer.events():
                for piece in writer.write(renumbered(event, place, answers_wanted(ask.request))):
                    yield piece
            booking = turn.answer.booking
            usage, cost_usd = usage + (booking.usage or Usage()), cost_usd + booking.cost_usd
            known &= booking.cost_complete
        for piece in writer.end(usage, cost_usd if known else None):
            yield piece
    except Exception as error:  # noqa: BLE001 - whatever it was, the stream ends in words
        log_fault(error, turn.answer.booking.decision_id)
        for piece in writer.fail(telemetry.clean(api_error(error))):
            yield piece


def _envelope(answers: Sequence[Answer]) -> Envelope:
    """Of several answers: the first one's name, and everybody who answered."""
    names = dict.fromkeys(envelope_of(answer).expert for answer in answers)
    return Envelope(answers[0].booking.decision_id, ",".join(names))


def _headers(answers: Sequence[Answer], debug: bool) -> dict[str, str]:
    """The first answer's headers; what differs from answer to answer is listed or added up."""
    decisions = [answer.booking.decision_id for answer in answers]
    return {
        **headers_of(answers[0], debug),
        "x-pointsman-decision-id": ",".join(decisions),
        "x-pointsman-expert": _envelope(answers).expert,
        "x-pointsman-attempts": str(sum(answer.booking.attempts for answer in answers)),
    }
