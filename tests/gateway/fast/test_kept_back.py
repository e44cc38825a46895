"""An answer kept back until its turn ends is not overtaken, nor lost when its connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.fast.protocol import FastProtocol
from gateway.server.connection_limits import ConnectionLimits


class Wire(asyncio.Transport):
    """Remembers what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.log.append(bytes(data).split(b"\r\n", 1)[0])

    def close(self) -> None:
        self.log.append(b"closed")

    def write_eof(self) -> None:
        return None

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return b"closed" in self.log

    def get_write_buffer_size(self) -> int:
        return 0


async def application(scope: Any, receive: Any, send: Any) -> None:
    return None


_ENDED: Any = SimpleNamespace(keep_alive=False, gateway=SimpleNamespace(uses=SimpleNamespace()))
_ENDED.gateway.uses.end = lambda: None


@pytest.mark.parametrize(
    ("then", "log"),
    [
        (lambda at: at.data_received(b"no HTTP\r\n\r\n"), [b"HTTP/1.1 400 Bad Request"]),
        (lambda at: at.make_room(), [b"closed"]),
        (lambda at: at.eof_received(), []),
        (lambda at: at.ended(_ENDED), [b"closed"]),
        (lambda at: at.shutdown(), [b"closed"]),
    ],
)
def test_what_follows_an_answer_comes_behind_it(
    then: Callable[[FastProtocol], None], log: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.protocol._gateway_of", lambda _: None)
    monkeypatch.setattr("gateway.server.connection_limits.Sweeper.stop", lambda *_: None)

    async def connected() -> None:
        config = uvicorn.Config(application, interface="asgi3", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        protocol = FastProtocol(config, ServerState(), {}, loop, limits=ConnectionLimits())
        wire = Wire()
        protocol.connection_made(wire)
        protocol.outbox.send(wire, b"HTTP/1.1 200 OK\r\n\r\n")
        then(protocol)
        assert wire.log == [b"HTTP/1.1 200 OK", *log]
        await asyncio.sleep(0)
        assert wire.log == [b"HTTP/1.1 200 OK", *log]
        protocol.connection_lost(None)

    asyncio.run(connected())
