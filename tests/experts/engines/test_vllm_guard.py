"""What stands before every route of a vLLM server of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from experts.engines.vllm_side.pointsman_guard import Guard

KEY = (b"authorization", b"Bearer sesame")


def status(monkeypatch: pytest.MonkeyPatch, kind: str, *headers: tuple[bytes, bytes]) -> int | None:
    """What it answers; 0 if it lets the request through, None if it says nothing."""
    monkeypatch.setenv("VLLM_API_KEY", "sesame")
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"status": 0})

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": "/sleep", "headers": list(headers)}
    asyncio.run(Guard(app)(scope, receive, send))
    return sent[0]["status"] if sent else None


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", b"Bearer"),),
        ((b"authorization", b"Bearer sesam"),),
        ((b"authorization", b"bearer sesame"),),
        ((b"authorization", b"Bearer other"), KEY),
        (KEY, KEY),
    ],
)
def test_whoever_does_not_know_the_key_stays_outside(
    headers: tuple[tuple[bytes, bytes], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(monkeypatch, "http", *headers) == 401
    assert status(monkeypatch, "websocket", *headers) is None


def test_whoever_knows_it_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(monkeypatch, "http", KEY) == 0
    assert status(monkeypatch, "websocket", KEY) == 0
    assert status(monkeypatch, "lifespan") == 0
