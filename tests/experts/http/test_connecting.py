"""Many calls that begin in one moment: connected a few at a time, and under way all at once."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from experts.base import Call
from experts.cards import ExpertCard
from experts.fakes.server import Act, FakeServer, ReceivedRequest, Then, serving, whole
from experts.http import connecting as connections
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.messages import ChatRequest, Message, collect

CALLS = 100
AT_ONCE = 32


class Silent(FakeServer):
    """Answers nothing; `all_here` is set when all calls have come."""

    def __init__(self) -> None:
        super().__init__()
        self.all_here = threading.Event()

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        if len(self.bodies) == CALLS:
            self.all_here.set()
        yield Then.STALL


async def ask(expert: OpenAICompatibleExpert) -> None:
    request = ChatRequest((Message("user", "Hi"),))
    async for _ in expert.answer(request, Call(None)):  # type: ignore[arg-type]
        pass


def test_calls_that_are_connected_do_not_wait_for_each_other() -> None:
    async def run(server: Silent) -> None:
        expert = OpenAICompatibleExpert(ExpertCard("a"), server.url, "m")
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLS):
                tasks.start_soon(ask, expert)
            assert await anyio.to_thread.run_sync(server.all_here.wait, 30)
            tasks.cancel_scope.cancel()
        await expert.aclose()

    with serving(Silent()) as server:
        anyio.run(run, server)


@pytest.mark.anyio
async def test_only_a_few_are_being_connected_at_a_time() -> None:
    with ExitStack() as stack:
        # A listener that accepts nobody: whoever connects after the first few waits for ever.
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        expert = OpenAICompatibleExpert(
            ExpertCard("a"), f"http://127.0.0.1:{port}/v1", "m", connect_s=60
        )
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLS):
                tasks.start_soon(ask, expert)
            with anyio.fail_after(30):
                while connecting(port) < AT_ONCE:
                    await anyio.lowlevel.checkpoint()
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert connecting(port) == AT_ONCE
            tasks.cancel_scope.cancel()
        await expert.aclose()


def connecting(port: int) -> int:
    """Connections to `port` that are asked for and not yet there."""
    sent = "02"
    wanted = f":{port:04X}"
    rows = [row.split() for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(wanted) and row[3] == sent for row in rows)


def test_certificates_are_read_for_endpoints_with_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bool] = []

    def certificates() -> ssl.SSLContext:
        read.append(True)
        return connections.NO_TLS

    monkeypatch.setattr(connections, "tls", certificates)

    def used(url: str) -> None:
        # Until it is called, a plain one has no client of its own.
        OpenAICompatibleExpert(ExpertCard("a"), url, "m")._client.build_request("GET", url)

    used("http://127.0.0.1:1/v1")
    assert read == []
    used("https://127.0.0.1:1/v1")
    assert read == [True]


class Doubling(FakeServer):
    """Answers each request twice: with how many came before, and with nonsense."""

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        right, false = (
            whole(200, {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}, {})
            for said in (str(len(self.bodies)), "false")
        )
        yield right + false


def test_what_comes_behind_an_answer_is_not_the_next_one() -> None:
    async def run(server: FakeServer) -> list[str]:
        expert = OpenAICompatibleExpert(ExpertCard("a"), server.url, "m")
        request = ChatRequest((Message("user", "Hi"),))
        told = [await collect(expert.answer(request, Call(None))) for _ in range(3)]  # type: ignore[arg-type]
        await expert.aclose()
        return [each.text for each in told]

    with serving(Doubling()) as server:
        assert anyio.run(run, server) == ["1", "2", "3"]
        assert server.connections == 3
