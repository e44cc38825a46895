"""A model behind a URL as an expert, whatever wire format it speaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager

import httpx2
import orjson

from experts.base import Call
from experts.cards import ExpertCard
from experts.dialect import Dialect
from experts.errors import (
    ExpertCallError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertTimeoutError,
)
from experts.messages import ChatRequest, Event, Finish, Json
from experts.refusals import error_in_answer, refusal
from experts.sse import sse_data


class HttpExpert:
    """One model behind one URL.

    Args:
        card: Its card.
        base_url: Up to and including `/v1`.
        model: The name the endpoint knows the model by.
        dialect: How it is asked and read.
        headers: Sent with every request.
        connect_s: Longest wait for a connection. How long an answer may take is the caller's say.
        transport: For tests that need control of the wire.
    """

    def __init__(
        self,
        card: ExpertCard,
        base_url: str,
        model: str,
        dialect: Dialect,
        headers: Mapping[str, str],
        *,
        connect_s: float = 5.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._card = card
        self._model = model
        self._dialect = dialect
        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers=headers,
            timeout=httpx2.Timeout(None, connect=connect_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            transport=transport,
            # A proxy from the environment would see prompts and keys that no one sent its way.
            trust_env=False,
        )

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def aclose(self) -> None:
        await self._client.aclose()

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        body = orjson.dumps(self._dialect.body(request, self._model))
        headers = {"content-type": "application/json", **self._dialect.headers(request)}
        with self._mapped_errors():
            async with self._client.stream(
                "POST", self._dialect.path, content=body, headers=headers
            ) as response:
                if response.status_code >= 400:
                    content = await response.aread()
                    raise refusal(
                        self._card.expert_id, response.status_code, response.headers, content
                    )
                if "text/event-stream" in response.headers.get("content-type", ""):
                    async for event in self._streamed(response):
                        yield event
                else:
                    for event in self._whole(await response.aread()):
                        yield event

    async def _streamed(self, response: httpx2.Response) -> AsyncGenerator[Event, None]:
        open_choices: set[int] = {0}
        read = self._dialect.reader()
        async for payload in sse_data(response.aiter_lines()):
            for event in read(self._parsed(payload)):
                if isinstance(event, Finish):
                    open_choices.discard(event.choice)
                yield event
        if open_choices:
            raise self._error(ExpertProtocolError, "the stream ended before the answer did")

    def _whole(self, content: bytes) -> list[Event]:
        events = list(self._dialect.reader()(self._parsed(content)))
        if not any(isinstance(event, Finish) for event in events):
            raise self._error(ExpertProtocolError, "the answer has no finished choice")
        return events

    def _parsed(self, payload: str | bytes) -> Json:
        try:
            data = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise self._error(ExpertProtocolError, f"sent broken JSON: {error}") from error
        if not isinstance(data, dict):
            raise self._error(ExpertProtocolError, "sent JSON that is no object")
        if data.get("error"):
            raise error_in_answer(self._card.expert_id, data)
        return data

    def _error(self, kind: type[ExpertCallError], message: str) -> ExpertCallError:
        return kind(self._card.expert_id, message)

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException as error:
            raise self._error(ExpertTimeoutError, _named(error)) from error
        except httpx2.RemoteProtocolError as error:
            raise self._error(ExpertProtocolError, _named(error)) from error
        except httpx2.TransportError as error:
            raise self._error(ExpertConnectionError, _named(error)) from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
