"""A model behind a URL as an expert, whatever wire format it speaks."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypedDict, Unpack

import anyio
import httpx2
import orjson

from experts.barred import barred
from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertOutOfServiceError,
    ExpertProtocolError,
    ExpertTimeoutError,
    ExpertUnsupportedError,
)
from experts.http.breaker import BreakerRules
from experts.http.connecting import ConnectTurn, is_plain, new_client
from experts.http.plain_connection import PlainCall, Receiver
from experts.http.plain_http import CONNECTING_AT_ONCE, PlainEndpoint
from experts.http.replicas import Balance, Endpoint, Lease, Replicas
from experts.http.unpacking import UnpackingError, unpacked
from experts.messages import ChatRequest, Event, Json
from experts.params import with_known_params
from experts.wire.depth import load_json
from experts.wire.dialect import Dialect
from experts.wire.kept_json import kept_json
from experts.wire.reading import StreamReader, whole_answer
from experts.wire.refusals import refusal
from experts.wire.sse import MAX_EVENT_BYTES, is_stream

_GRACE_S = 1.0
"""Longest wait for usage after the last choice finished."""
_DRAIN_S = 0.05
"""Longest wait for the end of the body after `[DONE]`, so that the connection can be used again."""
_MAX_SHORT_BYTES = 64 * 1024
"""Most that is read of errors, and of what is no answer of a model."""
_JSON = {"content-type": "application/json"}


class HttpOptions(TypedDict, total=False):
    """How an endpoint is reached, the same for every wire format.

    Attributes:
        connect_s: Longest wait for a connection. How long an answer may take is the caller's say.
        max_answer_bytes: Longest answer; longest event, and text, of one that is streamed.
        balance: How calls are spread over several URLs.
        rules: When one of several URLs is left alone.
        transport: For tests that need control of the wire.
    """

    connect_s: float
    max_answer_bytes: int
    balance: Balance
    rules: BreakerRules
    transport: httpx2.AsyncBaseTransport


class HttpExpert:
    """One model behind one URL, or behind several that serve the same.

    Args:
        card: Its card.
        base_urls: Up to and including `/v1`.
        model: The name the endpoint knows the model by.
        dialect: How it is asked and read.
        headers: Sent with every request.
        options: See `HttpOptions`.

    Attributes:
        card: Its card.
        malformed: Chunks of streams that were no JSON and were passed over.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_urls: str | Sequence[str],
        model: str,
        dialect: Dialect,
        headers: Mapping[str, str],
        **options: Unpack[HttpOptions],
    ) -> None:
        urls = [base_urls] if isinstance(base_urls, str) else base_urls
        self.card = card
        self._model, self._dialect = model, dialect
        self._max_answer_bytes = options.get("max_answer_bytes", MAX_EVENT_BYTES)
        places = [url.rstrip("/") for url in urls]
        self._replicas = Replicas(places, options.get("balance"), options.get("rules"))
        self.malformed = 0
        # By endpoint: one that is dead must not keep the turns of the others. Transports that are
        # not httpx's own don't tell when they are connected.
        self._connecting = {
            endpoint.url: anyio.Semaphore(CONNECTING_AT_ONCE)
            for endpoint in (() if "transport" in options else self._replicas.endpoints)
        }
        connect_s = options.get("connect_s", 5.0)
        self._plain: dict[str, PlainEndpoint] = {}
        if "transport" not in options and all(map(is_plain, urls)):
            self._plain = {
                one.url: PlainEndpoint(card.expert_id, one.url, dialect.path, headers, connect_s)
                for one in self._replicas.endpoints
            }
        transport = options.get("transport")
        self._new_client = partial(new_client, headers, connect_s, transport, plain=self.plain)
        # A gateway whose experts are all next door starts without it.
        self._made = None if self._plain else self._new_client()

    @property
    def _client(self) -> httpx2.AsyncClient:
        self._made = self._made or self._new_client()
        return self._made

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it answers, and how busy each place is."""
        return self._replicas.endpoints

    @property
    def dialect(self) -> Dialect:
        """How it is asked and read."""
        return self._dialect

    @property
    def plain(self) -> bool:
        """Whether `send` can be used: no endpoint wants TLS."""
        return bool(self._plain)

    @property
    def only(self) -> tuple[Endpoint, PlainEndpoint, str] | None:
        """Where every call goes, if that is one place without TLS, and the model's name there."""
        first, *more = self._replicas.endpoints
        return None if more or not self._plain else (first, self._plain[first.url], self._model)

    def has_spare(self, used: Collection[Endpoint]) -> bool:
        """Whether there is another endpoint to be asked if the next call fails."""
        endpoints = self._replicas.endpoints
        if len(endpoints) == 1:
            return False
        return sum(one.in_service and one not in used for one in endpoints) > 1

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()
        for endpoint in self._plain.values():
            await endpoint.aclose()

    def send(
        self, lease: Lease, request: ChatRequest, headers: Mapping[str, str], receiver: Receiver
    ) -> PlainCall:
        """Ask without a task; the answer comes to `receiver` as it comes off the socket.

        Args:
            lease: From `pick`.
            request: What to ask.
            headers: Sent along.
            receiver: Takes the answer.

        Raises:
            ExpertRejectedError: It is not to be asked that, or its wire format can't say it.
        """
        return self._plain[lease.endpoint.url].send(self._body(request), headers, receiver)

    def pick(self, request: ChatRequest, call: Call) -> Lease:
        """A place at the endpoint that this call should go to.

        Raises:
            ExpertOutOfServiceError: Every endpoint failed too often lately.
        """
        lease = self._replicas.pick(request, call.session, call.avoid)
        if lease is None:
            raise ExpertOutOfServiceError(
                self.card.expert_id,
                "every endpoint failed too often lately",
                retry_after_s=self._replicas.wait_s(),
            )
        call.lease = lease
        if len(self._replicas.endpoints) > 1:
            call.spare = self._replicas.spare([*call.avoid, lease.endpoint])
        return lease

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        body = self._body(request)
        async with self._opened(request, body, call) as response:
            if response.status_code != 200:
                raise await self._refused(response)
            kind = response.headers.get("content-type", "")
            pieces = unpacked(response)
            with self._mapped_errors(ExpertProtocolError):
                first = await anext(pieces, b"")
            if is_stream(kind, first):
                async with aclosing(self._streamed(request, first, pieces)) as events:
                    async for event in events:
                        yield event
            else:
                for event in await self._whole(request, first, pieces):
                    yield event

    def _body(self, request: ChatRequest) -> bytes:
        if found := barred(request, self.card):
            raise ExpertUnsupportedError(self.card.expert_id, ": ".join(found), param=found.param)
        known = with_known_params(request, self.card)
        return kept_json(self._dialect.body(known, self._model))

    @asynccontextmanager
    async def _opened(
        self, request: ChatRequest, body: bytes, call: Call
    ) -> AsyncIterator[httpx2.Response]:
        """The response from its head to its end; the endpoint hears how it ended."""
        lease, response = await self._connected(request, body, call)
        try:
            yield response
        except ExpertCallError as error:
            lease.end(error)
            raise
        except BaseException:
            lease.abandon()
            raise
        else:
            lease.end(None)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _connected(
        self, request: ChatRequest, body: bytes, call: Call
    ) -> tuple[Lease, httpx2.Response]:
        """The response once its head is there; a connection that fails is tried elsewhere."""
        while True:
            lease = self.pick(request, call)
            try:
                return lease, await self._sent(lease.endpoint, body, request, call)
            except ExpertCallError as error:
                lease.end(error)
                if not (call.spare and isinstance(error, ExpertConnectionError)):
                    raise
                call.avoid.append(lease.endpoint)
            except BaseException:
                lease.abandon()
                raise

    async def _sent(
        self, endpoint: Endpoint, body: bytes, request: ChatRequest, call: Call
    ) -> httpx2.Response:
        asked = self._client.build_request(
            "POST",
            f"{endpoint.url}/{self._dialect.path}",
            content=body,
            headers={**_JSON, **call.headers, **self._dialect.headers(request)},
        )
        # The head of an answer that is not streamed comes when the whole answer does.
        header_s = call.header_s if request.stream else None
        try:
            with self._mapped_errors(ExpertConnectionError), anyio.fail_after(header_s):
                if endpoint.url not in self._connecting:
                    return await self._client.send(asked, stream=True)
                async with ConnectTurn(self._connecting[endpoint.url]) as turn:
                    asked.extensions["trace"] = turn.heard
                    return await self._client.send(asked, stream=True)
        except TimeoutError as error:
            said = f"the head of the answer did not come within {header_s:g} s{call.header_limit}"
            raise ExpertTimeoutError(self.card.expert_id, said) from error

    async def _refused(self, response: httpx2.Response) -> ExpertCallError:
        if response.status_code < 400:
            return self._no_answer(f"answered with status {response.status_code}")
        content = await self._beginning(response, _MAX_SHORT_BYTES)
        return refusal(self.card.expert_id, response.status_code, response.headers, content)

    async def _asked(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Json:
        """The JSON answer to one further question that is no chat."""
        url = f"{self._replicas.endpoints[0].url}/{path}"
        content, sent = orjson.dumps(body), {**_JSON, **headers}
        with self._mapped_errors(ExpertConnectionError):
            async with self._client.stream("POST", url, content=content, headers=sent) as response:
                if response.status_code != 200:
                    raise await self._refused(response)
                content = await self._beginning(response, _MAX_SHORT_BYTES)
        try:
            data = load_json(content)
        except orjson.JSONDecodeError as error:
            raise self._no_answer("sent broken JSON") from error
        return data if isinstance(data, dict) else {}

    async def _streamed(
        self, request: ChatRequest, first: bytes, rest: AsyncIterator[bytes]
    ) -> AsyncGenerator[Event, None]:
        read, most = self._dialect.reader(request), self._max_answer_bytes
        held = not request.stream
        reader = StreamReader(self.card.expert_id, read, request.choices, most, held=held)
        try:
            for event in reader.feed(first):
                yield event
            async with aclosing(self._chunks(rest, reader)) as chunks:
                async for chunk in chunks:
                    for event in reader.feed(chunk):
                        yield event
            for event in reader.end():
                yield event
        except ExpertCallError:
            # What was counted before the end was lost is still to be paid for.
            if reader.usage is not None:
                yield reader.usage
            raise
        finally:
            self.malformed += reader.malformed

    async def _chunks(
        self, rest: AsyncIterator[bytes], reader: StreamReader
    ) -> AsyncGenerator[bytes, None]:
        """The rest of a body as it comes; once the answer is finished it need not end well.

        Nor need it end at all: what still comes does not stretch the wait for its end.
        """
        until = math.inf
        while True:
            if reader.done:
                until = min(until, anyio.current_time() + _DRAIN_S)
            elif reader.finished:
                until = min(until, anyio.current_time() + _GRACE_S)
            wait_s = None if until == math.inf else until - anyio.current_time()
            try:
                with self._mapped_errors(ExpertProtocolError), anyio.fail_after(wait_s):
                    chunk = await anext(rest, None)
            except (ExpertCallError, TimeoutError):
                if reader.finished or reader.done:
                    return
                raise
            if chunk is None:
                return
            yield chunk

    async def _whole(
        self, request: ChatRequest, first: bytes, rest: AsyncIterator[bytes]
    ) -> list[Event]:
        pieces, size = [first], len(first)
        with self._mapped_errors(ExpertProtocolError):
            async for piece in rest:
                pieces.append(piece)
                size += len(piece)
                if size > self._max_answer_bytes:
                    raise self._no_answer(f"sent more than {self._max_answer_bytes} bytes")
        content = b"".join(pieces)
        read = self._dialect.reader(request)
        return whole_answer(self.card.expert_id, read, content, request.choices)

    async def _beginning(self, response: httpx2.Response, most: int) -> bytes:
        """So much of the body as comes: the status says what matters."""
        pieces: list[bytes] = []
        try:
            with self._mapped_errors(ExpertProtocolError):
                async for piece in unpacked(response):
                    pieces.append(piece)
                    if sum(map(len, pieces)) >= most:
                        break
        except ExpertCallError:
            # Cut off; what has come may still be read.
            pass
        return b"".join(pieces)[:most]

    def _no_answer(self, message: str) -> ExpertCallError:
        return ExpertProtocolError(self.card.expert_id, message)

    @contextmanager
    def _mapped_errors(self, otherwise: type[ExpertCallError]) -> Iterator[None]:
        """The client's errors to ours; `otherwise` is what a broken connection means here."""
        expert_id = self.card.expert_id
        try:
            yield
        except httpx2.TimeoutException as error:
            raise ExpertTimeoutError(expert_id, _named(error)) from error
        except (httpx2.TransportError, httpx2.DecodingError, UnpackingError) as error:
            raise otherwise(expert_id, _named(error)) from error
        except TimeoutError:
            # Our own clock, not the wire's.
            raise
        except (OSError, AttributeError) as error:
            # Of a socket that is gone before the client has looked at it: it maps all others.
            # uvloop then has None in its place, and anyio asks that for its peer.
            if isinstance(error, AttributeError) and error.name != "getpeername":
                raise
            raise otherwise(expert_id, _named(error)) from error


def _named(error: Exception) -> str:
    if isinstance(error, UnpackingError):
        return str(error)
    kind = "no connection" if isinstance(error, httpx2.ConnectError) else type(error).__name__
    return f"{kind}: {str(error) or 'the connection failed'}"
