"""What the fast path costs the event loop for one chat request, sockets aside.

`python benchmarks/fast_path.py` feeds requests to the server's protocol class over transports that
only remember what is written, with an expert that answers at once, and prints the CPU time of the
event loop's thread and of the ledger's writer for each. `--profile` shows where it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from rich.console import Console
from uvicorn.server import ServerState

from experts.http.expert import HttpExpert
from experts.http.plain_connection import Connection
from gateway.app import create_app
from gateway.fast.protocol import FastProtocol
from gateway.pool.pool import build_experts
from gateway.running import settled
from gateway.server.connection_limits import ConnectionLimits
from gateway.settings.root import Settings
from gateway.state import Gateway
from gateway.wiring import build_gateway

_TURNS = 100_000
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
_SYSTEM = "You are a helpful assistant."
_QUESTION = "Explain in simple terms how a gateway picks a model for a prompt. "


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="first", help="an expert's name, or auto")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--together", type=int, default=32, help="requests in one turn of the loop")
    parser.add_argument("--stream", action="store_true", help="answers of 100 chunks")
    parser.add_argument("--durability", choices=("strict", "relaxed"), default="relaxed")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gateway = _gateway(Path(folder), args.durability)
        asyncio.run(_measured(gateway, args))


def _gateway(folder: Path, durability: str) -> Gateway:
    names = ("first", "second")
    experts = [
        {
            "id": name,
            "base_url": "http://127.0.0.1:9/v1",
            "model": "mock-model",
            "prices": {"input": 1.0, "output": 2.0},
        }
        for name in names
    ]
    ledger = {"url": f"sqlite:///{folder}/ledger.db", "durability": durability}
    settings = Settings.model_validate(
        {"experts": experts, "ledger": ledger, "data_dir": str(folder)}
    )
    return build_gateway(settings, build_experts(settings, {}), seed=1)


class _Wire(asyncio.Transport):
    """A transport that counts what is written; `reply` is what comes back for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.protocol: Any = None
        self.reply: bytes | None = None
        self.written = 0
        self.last = b""

    def write(self, data: Any) -> None:
        self.written += 1
        self.last = data
        if self.reply is not None:
            self.loop.call_soon(self.protocol.data_received, self.reply)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        return None

    abort = pause_reading = resume_reading = close


async def _measured(gateway: Gateway, args: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    app = settled(create_app(gateway))
    config = uvicorn.Config(app, log_config=None, proxy_headers=False)
    config.load()
    clients = [_client(config, loop) for _ in range(args.together)]
    for expert in gateway.pool.experts.values():
        assert isinstance(expert, HttpExpert)  # noqa: S101 - see `_gateway`
        for endpoint in expert._plain.values():
            for _ in range(args.together):
                wire = _Wire(loop)
                wire.reply = _answer(stream=args.stream)
                connection = wire.protocol = Connection(endpoint)
                connection.connection_made(wire)
                connection.idle_since = time.monotonic() + 1e6
                endpoint._idle.append(connection)
    request = _request(args.model, stream=args.stream)
    await _round(clients, request, 500)
    await gateway.ledger.flush()
    profile = cProfile.Profile() if args.profile else None
    for _ in range(args.rounds):
        began, all_began = time.thread_time(), time.process_time()
        if profile:
            profile.enable()
        await _round(clients, request, args.requests)
        if profile:
            profile.disable()
        loop_us = (time.thread_time() - began) / args.requests * 1e6
        await gateway.ledger.flush()
        all_us = (time.process_time() - all_began) / args.requests * 1e6
        Console().print(
            f"event loop {loop_us:.1f} us a request, other threads {all_us - loop_us:.1f} us"
        )
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
    gateway.ledger.close()


def _client(config: uvicorn.Config, loop: asyncio.AbstractEventLoop) -> FastProtocol:
    protocol = FastProtocol(config, ServerState(), {}, loop, limits=ConnectionLimits())
    protocol.connection_made(_Wire(loop))
    return protocol


async def _round(clients: list[FastProtocol], request: bytes, count: int) -> None:
    for _ in range(count // len(clients)):
        for client in clients:
            client.data_received(request)
        # Every step of an answer is a callback of the loop, so turns are what there is to wait for.
        for _ in range(_TURNS):
            if all(client.cycle.response_complete for client in clients):
                break
            await asyncio.sleep(0)
        else:
            raise RuntimeError("an answer did not come")


def _request(model: str, *, stream: bool) -> bytes:
    messages = [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": _QUESTION * 13},
    ]
    body = orjson.dumps(
        {"model": model, "messages": messages, "temperature": 0.2, "stream": stream}
    )
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1:8000",
        "content-type: application/json",
        "user-agent: benchmark",
        "authorization: Bearer unused",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def _answer(*, stream: bool) -> bytes:
    ids: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "mock-model"}
    usage = {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300}
    if not stream:
        message = {"role": "assistant", "content": "A gateway weighs what it knows. " * 25}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        body = orjson.dumps(
            {**ids, "object": "chat.completion", "choices": [choice], "usage": usage}
        )
        return b"%bapplication/json\r\ncontent-length: %d\r\n\r\n%b" % (_HEAD, len(body), body)
    deltas = [{"role": "assistant", "content": ""}, *[{"content": " word"}] * 100, {}]
    events = [
        {
            **ids,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}],
        }
        for delta in deltas
    ]
    events.append({**ids, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    text = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
    text += b"data: [DONE]\n\n"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)


if __name__ == "__main__":
    threading.current_thread().name = "event loop"
    main()
