"""A gateway without sockets, disks and clocks: what comes when is for the test to say."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from experts.base import Call
from experts.cards import ExpertCard, Prices
from experts.errors import ExpertCallError, ExpertConnectionError
from experts.http.expert import HttpExpert
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.http.plain_connection import PlainCall, Receiver
from experts.http.plain_http import PlainEndpoint
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from gateway.app import create_app
from gateway.errors import ApiError, LedgerError
from gateway.fast.protocol import FastProtocol
from gateway.ledger.briefs import Closing, Opening, closed_rows, opened_rows
from gateway.ledger.entries import Then
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from gateway.routing.batching import Batcher, Case
from gateway.routing.batching import Then as Decided
from gateway.server.connection_limits import ConnectionLimits, Sweeper
from gateway.server.shutdown import shutting_down
from gateway.settings.root import Settings
from gateway.wiring import build_gateway
from routers.router import Router

LONGEST = 4096
"""Bytes of an answer."""


async def settled() -> None:
    """Returns when nobody has anything to do any more."""
    loop: Any = asyncio.get_running_loop()
    for _ in range(2000):
        await asyncio.sleep(0)
        if not loop._ready:
            return
    raise AssertionError("it never comes to rest")


class Wire(asyncio.Transport):
    """A client's connection, and what came over it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol: FastProtocol | None = None
        self.got = b""
        self.closing = self.ended = self.left = False
        self.reading = True
        self.untaken = 0
        self._coming: list[bytes] = []

    def send(self, data: bytes) -> None:
        """The client sends something, which is read as soon as the server reads."""
        self._coming.append(data)
        self._read()

    def _read(self) -> None:
        while self.reading and self._coming and not self.closing and self.protocol is not None:
            self.protocol.data_received(self._coming.pop(0))
        if self.reading and self.left:
            self.abort()

    def leave(self) -> None:
        """The client is gone, which is seen as soon as the server reads."""
        self.left = True
        self._read()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "an answer behind the end"
        if not self.closing:
            self.got += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        asyncio.get_running_loop().call_soon(self._read)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._lost)

    def abort(self) -> None:
        self.close()

    def _lost(self) -> None:
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connection_lost(None)


class Books:
    """A ledger that has things on disk when it is told so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clear()
        patch.setattr(Ledger, "open", lambda _, opening: self.open(opening))
        patch.setattr(Ledger, "shut", lambda _, closing: self.shut(closing))
        patch.setattr(Ledger, "append", lambda _, rows: self.rows.extend(rows))
        patch.setattr(Ledger, "commit_then", lambda _, rows, then: self.commit(rows, then))
        patch.setattr(Ledger, "relieved_then", lambda _, then: self.waiting.append(then))
        patch.setattr(Ledger, "commit", lambda _, rows: self.committed(rows))
        patch.setattr(Ledger, "admit", lambda _: self.admitted())
        patch.setattr(Ledger, "pressed", property(lambda _: self.pressed))

    def clear(self) -> None:
        self.rows: list[Row] = []
        self.waiting: list[Then] = []
        self.strict = self.pressed = False

    def open(self, opening: Opening) -> None:
        self.rows += opened_rows([opening])

    def shut(self, closing: Closing) -> None:
        self.rows += closed_rows([closing])

    def commit(self, rows: Collection[Row], then: Then) -> bool:
        self.rows += rows
        if self.strict:
            self.waiting.append(then)
        return self.strict

    async def committed(self, rows: Iterable[Row]) -> None:
        self.rows += rows
        if self.strict:
            await self._told()

    async def admitted(self) -> None:
        while self.pressed:
            await self._told()

    async def _told(self) -> None:
        done: asyncio.Future[LedgerError | None] = asyncio.Future()
        self.waiting.append(lambda error: None if done.done() else done.set_result(error))
        if (error := await done) is not None:
            raise error

    def tell(self, place: int, error: LedgerError | None) -> None:
        """One of those that wait hears how it went."""
        self.waiting.pop(place)(error)

    def counts(self, table: str, column: str) -> Counter[str]:
        """How many rows of a table there are by the values of a column."""
        return Counter(row.values[column] for row in self.rows if row.table.name == table)

    def closed_last(self) -> bool:
        """Whether nothing of a request follows its end."""
        decided: dict[str, str] = {}
        made: dict[str, str] = {}
        closed: set[str] = set()
        for row in self.rows:
            name, values = row.table.name, row.values
            if name == "decision":
                decided[values["decision_id"]] = values["request_id"]
            elif name == "attempt":
                made[values["attempt_id"]] = decided[values["decision_id"]]
            elif name == "request_result":
                closed.add(values["request_id"])
            if name in ("attempt", "attempt_result") and made[values["attempt_id"]] in closed:
                return False
        return True


class Asked:
    """One call of an expert, however it was made."""

    def __init__(self, text: str, stream: bool) -> None:
        self.text, self.stream = text, stream
        self.over = self.paused = False
        self.plain: PlainCall | None = None
        self.future: asyncio.Future[str] | None = None

    # What a connection of `PlainCall` has.

    def close(self) -> None:
        self.over = True

    def drain(self) -> None:
        self.over = True

    def pause(self, *, paused: bool) -> None:
        self.paused = paused

    def tell(self, text: str) -> None:
        """It answers."""
        if self.future is None:
            self.on_whole(told(text))
        elif not self.future.done():
            self.future.set_result(text)

    def fail(self) -> None:
        """It breaks off."""
        if self.future is None:
            self.on_broken()
        elif not self.future.done():
            self.future.set_exception(ExpertConnectionError("a", "it broke"))

    def on_broken(self) -> None:
        if (receiver := self._last()) is not None:
            receiver.on_broken(ExpertConnectionError("a", "it broke"))

    def on_whole(self, body: bytes) -> None:
        if (receiver := self._last()) is not None:
            receiver.on_whole({"content-type": "application/json"}, body)

    def on_end(self) -> None:
        if (receiver := self._last()) is not None:
            receiver.on_end()

    def on_head(self, status: int, kind: str) -> None:
        if (receiver := self._now()) is not None:
            receiver.on_head(status, {"content-type": kind})

    def on_data(self, data: bytes) -> None:
        if (receiver := self._now()) is not None:
            receiver.on_data(data)

    def _now(self) -> Receiver | None:
        return None if self.plain is None else self.plain.receiver

    def _last(self) -> Receiver | None:
        self.over = True
        receiver, plain = self._now(), self.plain
        if plain is not None:
            plain.receiver = plain._connection = None
        return receiver


class Stage:
    """A gateway over two experts, `a` and `b`; one event loop."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, **sections: Any) -> None:
        self.books = Books(patch)
        self.asked: list[Asked] = []
        self.decisions: list[Callable[[ApiError | None], None]] = []
        self.holding = False
        patch.setattr(Batcher, "submit", self._submit(Batcher.submit))
        patch.setattr(PlainEndpoint, "send", self._send)
        patch.setattr(HttpExpert, "answer", self._answer())
        patch.setattr(Sweeper, "stop", lambda *_: None)
        patch.setattr(anyio, "sleep", lambda _: asyncio.sleep(0))
        experts = {
            name: OpenAICompatibleExpert(
                ExpertCard(name, prices=Prices(1.0, 2.0)), "http://127.0.0.1:9/v1", name
            )
            for name in ("a", "b")
        }
        self.settings = Settings.model_validate(
            {
                "experts": [{"id": name, "base_url": "http://127.0.0.1:9/v1"} for name in experts],
                "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
                "data_dir": str(folder),
                "execution": {"max_retries": 0},
                # No time passes here, so nobody would come back into service.
                "breaker": {"failures": 1_000_000, "window": 1000, "rate": 1.0},
                "limits": {"max_answer_bytes": LONGEST},
                **sections,
            }
        )
        self.gateway = build_gateway(self.settings, experts, seed=1)
        # However busy the machine is, no router is slow.
        batcher: Any = self.gateway.decider._batcher
        batcher._clock = batcher._work_clock = lambda: 0.0
        self.app = create_app(self.gateway)
        options: Any = {"log_config": None, "lifespan": "off", "ws": "none"}
        self.config = uvicorn.Config(self.app, proxy_headers=False, **options)
        self.config.load()
        assert self.gateway.lane is not None
        self.lane = self.gateway.lane

    def close(self) -> None:
        self.gateway.lasting.ledger.close()

    def connect(self, **limits: Any) -> Wire:
        """A client, as far as it is served in this loop."""
        self.asked.clear()
        self.decisions.clear()
        self.holding = False
        self.books.clear()
        self.gateway.lasting.shutdown.begun = False
        self.lane.wheel._timer = self.lane.quick._timer = None
        self.state = ServerState()
        return self.join(**limits)

    def join(self, **limits: Any) -> Wire:
        """One more client of the same server."""
        wire, loop = Wire(), asyncio.get_running_loop()
        wire.protocol = FastProtocol(
            self.config, self.state, {}, loop, limits=ConnectionLimits(**limits)
        )
        wire.protocol.connection_made(wire)
        return wire

    def stop(self) -> None:
        """The time of the requests under way is over."""
        self.gateway.lasting.shutdown.begin()
        self.app.state.snapshots.shut_down(shutting_down())

    def _submit(self, submit: Callable[..., None]) -> Callable[..., None]:
        def held(batcher: Batcher, router: Router, case: Case, then: Decided) -> None:
            def decide(error: ApiError | None) -> None:
                if error is None:
                    submit(batcher, router, case, then)
                else:
                    then(error)

            self.decisions.append(decide)
            if not self.holding:
                self.decisions.pop()(None)

        return held

    def _send(self, body: bytes, headers: Mapping[str, str], receiver: Receiver) -> PlainCall:
        sent = orjson.loads(body)
        content = sent["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        asked = Asked(text, bool(sent.get("stream")))
        asked.plain = call = PlainCall(receiver)
        connection: Any = asked
        call._connection = connection
        self.asked.append(asked)
        return call

    def _answer(self) -> Callable[..., AsyncGenerator[Event, None]]:
        async def answer(
            expert: HttpExpert, request: ChatRequest, call: Call
        ) -> AsyncGenerator[Event, None]:
            asked = Asked(request.text, request.stream)
            asked.future = asyncio.Future()
            self.asked.append(asked)
            lease = expert.pick(request, call)
            try:
                text = await asked.future
                yield Delta(text=text)
                yield Finish("stop")
                yield Usage(input=1, output=1)
            except ExpertCallError as error:
                lease.end(error)
                raise
            except BaseException:
                lease.abandon()
                raise
            else:
                lease.end(None)
            finally:
                asked.over = True

        return answer

    def left(self) -> dict[str, Any]:
        """What is held of requests under way; empty when there are none."""
        metrics, pool = self.lane.metrics, self.gateway.pool.experts
        held = {
            "in flight": metrics.in_flight,
            "running": sum(map(abs, metrics.running.values())),
            "uses": self.gateway.uses.count,
            "live": len(self.lane.live),
            "quick": len(self.lane.quick.waiting),
            "clocks": len(self.lane.wheel.waiting),
            "bodies": self.gateway.lasting.bodies.held,
            "calls": sum(not asked.over for asked in self.asked),
            "load": sum(
                abs(place.load)
                for expert in pool.values()
                if isinstance(expert, HttpExpert)
                for place in expert.endpoints
            ),
        }
        return {name: count for name, count in held.items() if count}


def told(text: str) -> bytes:
    """An answer that says `text`."""
    choice = {
        "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"
    }  # fmt: skip
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return orjson.dumps({**body, "choices": [choice], "usage": usage})


def event(text: str, finish: str | None = None) -> bytes:
    """A piece of a stream."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"
