"""Goes on with an answer of which the client has a part: as an application, but without a head."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.types import Receive, Scope, Send

from experts.errors import ExpertError
from gateway.api.answering import pieces_of
from gateway.api.disconnect import EventStream
from gateway.begun import Begun
from gateway.errors import GatewayError, api_error
from gateway.state import Gateway


class Rest:
    """What is left of one streamed answer.

    Args:
        gateway: Whose request it is.
        begun: How far it came; it has a writer.
    """

    def __init__(self, gateway: Gateway, begun: Begun) -> None:
        self._gateway = gateway
        self._begun = begun
        assert begun.writer is not None  # noqa: S101 - its client has a part of the answer
        self._writer = begun.writer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            fail = self._writer.fail
            stream = EventStream(self._pieces(), {}, _nothing, fail, begun=True)
            await stream(scope, receive, send)
        finally:
            self._begun.left()
            self._gateway.uses.end()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        begun, telemetry = self._begun, self._gateway.telemetry
        try:
            answer = await self._gateway.service.answer(begun.ask, begun.trip, begun)
        except (GatewayError, ExpertError) as error:
            for piece in self._writer.fail(telemetry.clean(api_error(error))):
                yield piece
            return
        try:
            async for piece in pieces_of(self._writer, telemetry, answer):
                yield piece
        finally:
            await answer.aclose()


async def _nothing() -> None:
    return None
