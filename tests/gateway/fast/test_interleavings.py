"""Clients, experts, routers and the ledger in any order: whatever it is, the books and all counts
come out, and every client hears the answers to its own requests, in their order.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ApiError, LedgerError
from gateway.server.protocol import WAITING
from tests.gateway.fast.stage import LONGEST, Asked, Stage, event, settled, told
from tests.gateway.raw import chat, head, post

KINDS = ("plain", "stream", "parts", "auto", "auto stream", "ordinary", "health", "nobody", "last")


def request_of(kind: str, text: str) -> bytes:
    if kind == "health":
        return head(method="GET", path="/health/live")
    content: Any = [{"type": "text", "text": text}] if kind == "parts" else text
    model = {"auto": "auto", "auto stream": "auto", "nobody": "nobody"}.get(kind, "a")
    stream = kind.endswith("stream")
    body = chat(model=model, messages=[{"role": "user", "content": content}], stream=stream)
    special = {"ordinary": ["x-pointsman-debug: true"], "last": ["connection: close"]}
    return post(body, *special.get(kind, []))


class Play:
    """One connection, and everything that can happen to it."""

    def __init__(self, stage: Stage, strict: bool, pressed: bool) -> None:
        self.stage = stage
        self.wire = stage.connect()
        stage.books.strict, stage.books.pressed = strict, pressed
        self.sent: list[tuple[str, str]] = []
        self.coming = b""
        self.stopped = self.refused = False
        self.pieces: dict[Asked, int] = {}

    # What the client does.

    def ask(self, kind: int, quarters: int) -> None:
        text = f"<{len(self.sent)}>"
        self.sent.append((KINDS[kind], text))
        self.coming += request_of(KINDS[kind], text)
        self.send(quarters)

    def send(self, quarters: int) -> None:
        size = len(self.coming) * quarters // 4
        data, self.coming = self.coming[:size], self.coming[size:]
        if data and not self.wire.left:
            self.wire.send(data)

    def leave(self) -> None:
        self.wire.leave()

    def read_slowly(self) -> None:
        if (protocol := self.wire.protocol) is not None and not protocol.flow.write_paused:
            protocol.pause_writing()

    def read_on(self) -> None:
        if (protocol := self.wire.protocol) is not None and protocol.flow.write_paused:
            protocol.resume_writing()

    # What experts do.

    def expert(self, which: int, what: str) -> None:
        open_ = [asked for asked in self.stage.asked if not asked.over]
        if not open_:
            return
        asked = open_[which % len(open_)]
        if asked.future is not None:
            if what in ("break", "cut") and not asked.future.done():
                asked.fail()
            elif what == "tell":
                asked.tell(asked.text)
        else:
            getattr(self, f"_{what}")(asked)

    def _tell(self, asked: Asked) -> None:
        body = told(asked.text)
        come = self.pieces.get(asked, 0)
        if asked.stream:
            self._begin(asked)
            asked.on_data(event("", "stop") + b"data: [DONE]\n\n")
            asked.on_end()
        elif come:
            asked.on_data(body[len(body) // 2 :])
            asked.on_end()
        else:
            asked.on_whole(body)

    def _begin(self, asked: Asked) -> None:
        if asked in self.pieces:
            return
        self.pieces[asked] = 1
        body = told(asked.text)
        asked.on_head(200, "text/event-stream" if asked.stream else "application/json")
        asked.on_data(event(asked.text) if asked.stream else body[: len(body) // 2])

    def _odd(self, asked: Asked) -> None:
        if asked not in self.pieces:
            body = orjson.loads(told(asked.text))
            asked.on_whole(orjson.dumps({"choices": body["choices"]}))

    def _much(self, asked: Asked) -> None:
        self._begin(asked)
        for _ in range(3):
            asked.on_data(b"x" * LONGEST)
        asked.on_end()

    def _refuse(self, asked: Asked) -> None:
        if asked not in self.pieces:
            asked.on_head(500, "application/json")
            asked.on_data(b"{}")
            asked.on_end()

    def _break(self, asked: Asked) -> None:
        asked.on_broken()

    def _cut(self, asked: Asked) -> None:
        self._begin(asked)
        asked.on_broken()

    # What the gateway does.

    def record(self, which: int, well: bool) -> None:
        waiting = self.stage.books.waiting
        if waiting:
            self.refused |= not well
            error = None if well else LedgerError("the disk is full")
            self.stage.books.tell(which % len(waiting), error)

    def press(self, pressed: bool) -> None:
        self.stage.books.pressed = pressed

    def decide(self, which: int, well: bool) -> None:
        decisions = self.stage.decisions
        if decisions:
            error = None if well else ApiError(503, "nobody can answer")
            decisions.pop(which % len(decisions))(error)

    def hold(self, held: bool) -> None:
        self.stage.holding = held

    def late(self) -> None:
        lane, after = self.stage.lane, asyncio.get_running_loop().time() + 1e6
        for timed in [*lane.quick.waiting, *lane.wheel.waiting]:
            timed.check(after)

    def stop(self) -> None:
        self.stopped = True
        if self.wire.protocol is not None:
            self.wire.protocol.shutdown()
        self.stage.stop()

    async def finish(self) -> None:
        """Everybody does what is waited for."""
        await settled()
        made = len(self.stage.asked)
        gone = self.wire.protocol is None
        if gone or self.stopped:
            # Nobody waits for them any more.
            assert all(asked.over for asked in self.stage.asked)
        self.send(4)
        self.press(False)
        self.hold(False)
        for _ in range(100):
            self.read_on()
            self.decide(0, True)
            self.record(0, True)
            self.expert(0, "tell")
            await settled()
            waiting = (*self.stage.decisions, *self.stage.books.waiting)
            if not waiting and all(asked.over for asked in self.stage.asked):
                assert not gone or len(self.stage.asked) == made
                return
        raise AssertionError("it does not come to an end")

    def check_answers(self) -> None:
        told_, got = [], self.wire.got
        while got:
            status, headers, body, got = answer_of(got)
            told_.append((status, headers, body))
        assert len(told_) <= len(self.sent)
        for (kind, text), (status, _, body) in zip(self.sent, told_, strict=False):
            if kind == "health":
                assert (status, b"<" in body) == (200, False)
            elif kind == "nobody":
                assert status in (404, 503)
            elif status == 200:
                assert set(re.findall(rb"<\d+>", body)) <= {text.encode()}
                assert text.encode() in body or b'"error"' in body
            else:
                assert orjson.loads(body)["error"]
        if self.stopped or self.wire.left:
            return
        last = told_[-1][1].get("connection") == "close"
        assert self.wire.closing == last
        assert last or len(told_) == len(self.sent)
        # Who asks nothing is known to be idle.
        assert last or (self.wire.protocol is not None and self.wire.protocol.phase == WAITING)

    def check_books(self) -> None:
        counts = self.stage.books.counts
        requests, closed = counts("request", "request_id"), counts("request_result", "request_id")
        assert requests == closed
        assert set(requests.values()) <= {1}
        made, ended = counts("attempt", "attempt_id"), counts("attempt_result", "attempt_id")
        assert set(made.values()) | set(ended.values()) <= {1}
        assert self.stage.books.closed_last()
        # What could not be put on record is not made, and has no end there.
        assert made == ended or (self.refused and ended.keys() < made.keys())


def answer_of(got: bytes) -> tuple[int, dict[str, str], bytes, bytes]:
    """The first of some answers, and the rest."""
    top, _, rest = got.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    assert first.startswith("HTTP/1.1 "), got[:200]
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if "content-length" in headers:
        size = int(headers["content-length"])
        assert len(rest) >= size
        return int(first.split()[1]), headers, rest[:size], rest[size:]
    body = b""
    while rest:
        digits, _, rest = rest.partition(b"\r\n")
        size = int(digits, 16)
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            break
    return int(first.split()[1]), headers, body, rest


Step = tuple[str, tuple[Any, ...], int]
"""What happens: a method of `Play` and its arguments; and how much of everything else then."""
_OFTEN = {
    "ask": 8, "expert": 8, "record": 4, "decide": 2, "send": 2, "leave": 1, "late": 1, "stop": 1,
    "hold": 1, "press": 1, "read_slowly": 1, "read_on": 1,
}  # fmt: skip
_NAMES = [name for name, often in _OFTEN.items() for _ in range(often)]
_FEW, _WELL = st.integers(0, 3), st.sampled_from([True, True, True, True, False])
_SIZES = st.sampled_from([4, 4, 4, 4, 1, 2, 3])
_DOES = ("tell", "tell", "begin", "odd", "much", "refuse", "break", "cut")
_ARGUMENTS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "ask": (st.integers(0, len(KINDS) - 1), _SIZES),
    "expert": (_FEW, st.sampled_from(_DOES)),
    "record": (_FEW, _WELL),
    "decide": (_FEW, _WELL),
    "send": (_SIZES,),
    "hold": (st.booleans(),),
    "press": (st.booleans(),),
}
_TURNS = st.sampled_from([2, 2, 2, 2, 1, 0])
"""All that can happen, one turn of the event loop, or nothing."""


@st.composite
def _steps(draw: st.DrawFn) -> list[Step]:
    names = ["ask", *draw(st.lists(st.sampled_from(_NAMES), min_size=3, max_size=12))]
    return [
        (name, tuple(draw(each) for each in _ARGUMENTS.get(name, ())), draw(_TURNS))
        for name in names
    ]


@contextmanager
def nothing_of_ours_breaks() -> Iterator[None]:
    """Nothing is logged as a fault, and nothing is raised where only the event loop hears it."""
    found: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(logging.Formatter().format(record))

    heard = Heard(logging.ERROR)
    logging.getLogger().addHandler(heard)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(heard)
    assert found == []


async def played(stage: Stage, strict: bool, pressed: bool, does: list[Step]) -> None:
    play = Play(stage, strict, pressed)
    for name, arguments, turns in does:
        getattr(play, name)(*arguments)
        if turns == 1:
            await asyncio.sleep(0)
        elif turns:
            await settled()
    await play.finish()
    play.check_answers()
    play.wire.leave()
    await settled()
    assert play.wire.protocol is None
    assert stage.left() == {}
    play.check_books()


def test_every_request_is_answered_in_its_order_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_ledger: Path
) -> None:
    shutil.copy(empty_ledger, tmp_path)
    stage = Stage(monkeypatch, tmp_path)

    @given(st.booleans(), st.sampled_from([False, False, False, True]), _steps())
    @settings(max_examples=300)
    def whatever(strict: bool, pressed: bool, does: list[Step]) -> None:
        with nothing_of_ours_breaks():
            runner.run(played(stage, strict, pressed, does))

    with asyncio.Runner() as runner:
        try:
            whatever()
        finally:
            stage.close()
