"""`POST /v1/responses`, and the responses that are kept for those who made them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from experts.messages import Completion, Usage
from gateway.access.keys import Key
from gateway.api.answering import answered, off_the_loop, relay
from gateway.api.body import fault, parse_body
from gateway.api.counting import counted
from gateway.api.front import Envelope
from gateway.api.json_answer import json_answer
from gateway.api.paging import limit_of, place_of
from gateway.api.responses_in import (
    WIRE,
    parse_responses,
    previous_id,
    refuse_what_is_elsewhere,
    wants_storing,
)
from gateway.api.responses_items import REFERENCE, Item, input_items
from gateway.api.responses_out import ResponseWriter, decision_of, response_id
from gateway.api.routing import Routes
from gateway.ask import Ask
from gateway.errors import ApiError, LedgerError
from gateway.ids import new_id
from gateway.responses.store import KeptResponse, ResponseStore
from gateway.settings.access import DEFAULT_PROJECT
from gateway.state import gateway_of, read_body
from gateway.telemetry.trip import Trip

api = Routes()
_log = logging.getLogger(__name__)
_MOST_ITEMS = 100


class ResponsesFront:
    """OpenAI's Responses, for one request.

    Args:
        store: Where the response is kept; None: it is not.
        own_items: The items of the request itself.
    """

    wire = WIRE

    def __init__(self, store: ResponseStore | None = None, own_items: Sequence[Item] = ()) -> None:
        self._store = store
        self._own_items = own_items
        self._writer: ResponseWriter | None = None
        self._envelope: Envelope | None = None
        self._stored = store is not None

    def parse(self, raw: bytes, headers: Mapping[str, str], key: Key) -> Ask:
        body, items = _items_of(raw)
        return parse_responses(body, items, headers, key)

    def writer(self, ask: Ask, envelope: Envelope) -> ResponseWriter:
        self._envelope = envelope
        self._writer = ResponseWriter(ask.body, envelope)
        self._writer.stored = self._stored
        return self._writer

    def whole(self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage) -> bytes:
        return orjson.dumps(self.writer(ask, envelope).whole(completion, usage))

    def error(self, failure: ApiError, request_id: str) -> bytes:
        return orjson.dumps(failure.body())

    async def keep(
        self, ask: Ask, envelope: Envelope, completion: Completion, usage: Usage
    ) -> None:
        """Store the response; one that can't be stored is answered and says so."""
        if self._store is None:
            return
        # A stream has told its client when it began.
        writer = ResponseWriter(ask.body, self._envelope or envelope)
        writer.stored = True
        body = writer.whole(completion, usage)
        kept = KeptResponse(
            body["id"], owner_of(ask.key), previous_id(ask.body), tuple(self._own_items), body
        )
        try:
            await self._store.save(kept)
        except LedgerError as error:
            _log.warning("response %s is not kept: %s", body["id"], error)
            self._stored = False
            if self._writer is not None:
                self._writer.stored = False


PLAIN = ResponsesFront()


def owner_of(key: Key) -> str:
    """Whose responses those are that come with `key`: its project's, if it was put into one.

    Keys of other classes of data share nothing: going on, the laxer would lead the stricter's to
    experts that must not see it.
    """
    shared = key.project != DEFAULT_PROJECT
    return f"project:{key.privacy}:{key.project}" if shared else f"key:{key.name}"


@api.post("/v1/responses")
async def create_response(request: Request) -> Response:
    """Answer a conversation, streamed or whole."""
    return await answered(PLAIN, request, lambda trip: _created(request, trip))


async def _created(request: Request, trip: Trip) -> Response:
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    raw = await read_body(request)
    body, own = await off_the_loop(raw, lambda: _items_of(raw))
    store = _store_for(body, gateway.responses)
    before, own = await _conversation(gateway.responses, owner_of(key), body, own)
    items = [*before, *own]
    ask = await off_the_loop(raw, lambda: parse_responses(body, items, request.headers, key))
    front = ResponsesFront(store, own)
    return await relay(front, request, ask, trip, partial(front.keep, ask))


def _items_of(raw: bytes) -> tuple[dict[str, Any], list[Item]]:
    body = parse_body(raw)
    # Some of it stands in for the input.
    refuse_what_is_elsewhere(body)
    return body, input_items(body.get("input"), new_id("inp"))


async def _conversation(
    store: ResponseStore | None, owner: str, body: Mapping[str, Any], own: Sequence[Item]
) -> tuple[Sequence[Item], list[Item]]:
    """What went before, and a body's `own` items with references resolved."""
    before: Sequence[Item] = ()
    if (previous := previous_id(body)) is not None:
        before = await _kept(store).conversation(owner, previous)
    return before, await _resolved(own, before, store, owner)


@api.post("/v1/responses/input_tokens")
async def count_input_tokens(request: Request) -> Response:
    """Tokens of what a response would be asked with, as whoever would answer counts them.

    Neither a model nor an input has to be named.
    """
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    raw = await read_body(request)

    def parsed() -> tuple[dict[str, Any], list[Item]]:
        said = {name: value for name, value in parse_body(raw).items() if value is not None}
        body = {"model": "auto", "input": [], **said}
        refuse_what_is_elsewhere(body)
        return body, input_items(body["input"], new_id("inp"))

    body, own = await off_the_loop(raw, parsed)
    before, own = await _conversation(gateway.responses, owner_of(key), body, own)
    items = [*before, *own]
    ask = await off_the_loop(raw, lambda: parse_responses(body, items, request.headers, key))
    tokens, headers = await counted(gateway, ask)
    found = orjson.dumps({"object": "response.input_tokens", "input_tokens": tokens})
    return Response(found, headers=headers, media_type="application/json")


@api.get("/v1/responses/{response_id}")
async def get_response(request: Request, response_id: str) -> Response:
    """A kept response."""
    kept = await _mine(request, response_id)
    if request.query_params.get("stream") == "true":
        raise fault("stream", "a kept response is given whole")
    return json_answer(kept.body)


@api.delete("/v1/responses/{response_id}")
async def delete_response(request: Request, response_id: str) -> Response:
    """Remove a kept response for good."""
    kept = await _mine(request, response_id)
    await _kept(gateway_of(request).responses).forget(kept.owner, response_id)
    body = {"id": response_id, "object": "response", "deleted": True}
    return json_answer(body)


@api.get("/v1/responses/{response_id}/input_items")
async def list_input_items(request: Request, response_id: str) -> Response:
    """The items that a kept response was asked with, newest first unless `order=asc`."""
    kept = await _mine(request, response_id)
    items = list(kept.input)
    if _query(request, "order", ("asc", "desc"), "desc") == "desc":
        items.reverse()
    if after := request.query_params.get("after"):
        items = items[place_of(after, [item["id"] for item in items], "after") + 1 :]
    limit = limit_of(request, 20, _MOST_ITEMS)
    page = items[:limit]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > limit,
    }
    return json_answer(body)


def _store_for(body: Mapping[str, Any], store: ResponseStore | None) -> ResponseStore | None:
    wanted = wants_storing(body)
    if wanted and store is None:
        raise fault("store", "nothing is kept here (responses.store is off)")
    return None if wanted is False else store


def _kept(store: ResponseStore | None) -> ResponseStore:
    if store is None:
        raise fault("previous_response_id", "nothing is kept here (responses.store is off)")
    return store


async def _resolved(
    items: Sequence[Item], before: Sequence[Item], store: ResponseStore | None, owner: str
) -> list[Item]:
    """`items` with references to kept output items replaced by those."""
    known = {item["id"]: item for item in before}
    resolved: list[Item] = []
    for place, item in enumerate(items):
        name = item["id"]
        if item["type"] == REFERENCE and name not in known:
            decision = decision_of(name)
            kept = await store.get(owner, response_id(decision)) if store and decision else None
            known |= {each["id"]: each for each in kept.items} if kept else {}
        if item["type"] == REFERENCE and name not in known:
            raise fault(f"input[{place}].id", f"{name!r} is not kept here; send the item itself")
        resolved.append(known[name] if item["type"] == REFERENCE else item)
    return resolved


async def _mine(request: Request, name: str) -> KeptResponse:
    gateway = gateway_of(request)
    key = gateway.keyring.check(request)
    kept = await gateway.responses.get(owner_of(key), name) if gateway.responses else None
    if kept is None:
        raise ApiError(404, f"the response {name!r} is not kept here", code="response_not_found")
    return kept


def _query(request: Request, name: str, allowed: Sequence[str], otherwise: str) -> str:
    value = request.query_params.get(name, otherwise)
    if value not in allowed:
        raise fault(name, f"must be one of {', '.join(allowed)}")
    return value
