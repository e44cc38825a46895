"""The callback client under any script of calls, servers and receivers that call back in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experts.errors import ExpertCallError
from experts.http import plain_http
from experts.http.plain_connection import PlainCall
from experts.http.plain_http import PlainEndpoint
from tests.experts.http.plain_rig import (
    INTERIM,
    KEPT,
    KINDS,
    RIGHT,
    TO_NOBODY,
    Hangup,
    Loop,
    Wire,
    answers,
    outcome,
    sized,
)

CONNECT_S = 5.0
DRAINED_S = 0.06
TO_THE_INNER = len(INTERIM) + sized(sized(b"to 1")).index(b"\r\n\r\n") + 4
EVERYTHING = 1_000_000
CUTS = (1, 7, 20, 61, TO_THE_INNER, EVERYTHING)

UNASKED: dict[str, Callable[[], bytes | Hangup]] = {
    "unasked": lambda: sized(TO_NOBODY),
    "hang up": Hangup,
    "reset": lambda: Hangup(ConnectionResetError()),
}
Saying = tuple[Mapping[str, str], str, int]
"""What a receiver does on which event; what its server says, and how much of it at a time."""
Turn = tuple[list[Saying], list[tuple[str, int]], bool]
"""Calls that are made, things that go otherwise, and whether servers go on."""


class Asked:
    """One call, and what was heard of it.

    Attributes:
        plan: What its receiver does on which event.
        given_up: It was cancelled or detached: it hears nothing more.
        ended: How it ended, once it has.
        excused: What answers it came unasked before, which nobody can tell.
    """

    def __init__(self, script: Script, number: int, said: Saying) -> None:
        self.script, self.number = script, number
        plan, self.kind, self.cut = said
        self.plan, self.right = dict(plan), False
        self.call: PlainCall | None = None
        self.heard: list[str] = []
        self.body = b""
        self.headers: Mapping[str, str] = {}
        self.status = 0
        self.given_up = self.excused = False
        self.ended = ""

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self._should(not self.heard)
        self.status, self.headers, self.body = 200, headers, body
        self._ends("whole")

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._should(not self.heard)
        self.status, self.headers = status, headers
        self._hears("head")

    def on_data(self, data: bytes) -> None:
        self._should(bool(data and self.heard))
        self.body += data
        self._hears("data")

    def on_end(self) -> None:
        self._should(bool(self.heard))
        self._ends("end")

    def on_broken(self, error: ExpertCallError) -> None:
        self._ends("broken")

    def _ends(self, how: str) -> None:
        complete = self.number in self.script.complete
        self._should(not self.ended and (self.excused or complete is (how != "broken")))
        self.ended = how
        self._hears(how)

    def _should(self, right: bool) -> None:
        # Not raised here: whoever calls back would take it for a fault of the answer.
        if self.given_up or not right:
            self.script.faults.append(f"{self.number} {self.kind}: {self.heard}")

    def _hears(self, event: str) -> None:
        self._should(self.ended in ("", event))
        self.heard.append(event)
        action = self.plan.pop(event, None)
        if action is not None:
            self.script.call_back(self, action)


class Script:
    """Plays both sides.

    Attributes:
        complete: Calls whose answer the client has read to its end.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.place = PlainEndpoint("x", "http://host/v1", "chat", {}, CONNECT_S)
        self.calls: list[Asked] = []
        self.complete: set[int] = set()
        self.faults: list[object] = []
        self.rounds = 0

    def send(self, said: Saying) -> None:
        asked = Asked(self, len(self.calls), said)
        self.calls.append(asked)
        asked.call = self.place.send(b"%d" % asked.number, {}, asked)

    def call_back(self, asked: Asked, action: str) -> None:
        if action == "send":
            self.send(({}, "sized", EVERYTHING))
        elif asked.call is not None:
            if action == "detach" and not asked.body:
                return
            asked.given_up = asked.given_up or action in ("cancel", "detach")
            getattr(asked.call, action)()

    def act(self, name: str, which: int) -> None:
        """One thing goes otherwise."""
        wires = [wire for wire in self.loop.wires if not wire.closing]
        live = [each for each in self.calls if not each.given_up and not each.ended]
        doors = [door for door in self.loop.doors if not door.done()]
        if name == "refuse" and doors:
            doors[which % len(doors)].set_exception(OSError("no"))
        elif name in ("unasked", "hang up", "reset") and wires:
            wires[which % len(wires)].to_come.append((None, UNASKED[name]()))
        elif name in ("cancel", "pause", "resume", "detach") and live:
            self.call_back(live[which % len(live)], name)
        elif name == "wait":
            self.loop.now += (DRAINED_S, CONNECT_S + 1)[which % 2]

    def answer(self, wire: Wire) -> None:
        if wire.answered < len(wire.asked) and not wire.closing:
            number = wire.asked[wire.answered]
            wire.answered += 1
            asked = self.calls[number]
            said, asked.right = answers(asked.kind, number, b"to %d" % number)
            wire.to_come += said

    def deliver(self, wire: Wire, most: int) -> None:
        if wire.closing or wire.paused:
            return
        taken, waits = wire.take(most), wire.protocol._call
        for asked in self.calls:
            if taken and asked.call is waits and asked.number not in wire.begun:
                # What comes before the answer nobody can tell from it.
                asked.excused |= taken[0][0] is None
        for owner, _ in taken:
            wire.begun.add(owner)
            left = any(owner == other for other, _ in wire.to_come)
            if owner is not None and not left and self.calls[owner].right:
                self.complete.add(owner)
        ends = [said for _, said in taken if isinstance(said, Hangup)]
        if ends:
            wire.hang_up(ends[0])
        elif taken:
            wire.protocol.data_received(b"".join(s for _, s in taken if isinstance(s, bytes)))
        # What nobody asked for is answered by no call to come.
        assert waits is not None or wire.is_closing() or not taken
        if {owner for owner, _ in taken} <= self.complete and not self.place._closed:
            for asked in (self.calls[owner] for owner, _ in taken if owner is not None):
                kept = asked.kind in KEPT and not (asked.given_up or asked.excused)
                assert not (kept and wire.is_closing()), f"not kept after {asked.kind}"
        self.look()

    async def serve(self) -> None:
        """Every server does what comes next."""
        for door in self.loop.doors:
            if not door.done():
                door.set_result(None)
        self.loop.doors.clear()
        await self.turned()
        for wire in self.loop.wires:
            self.answer(wire)
            self.deliver(wire, self.calls[wire.asked[-1]].cut if wire.asked else EVERYTHING)

    async def turned(self) -> None:
        """Let all be done that is to be done, and look at what is left."""
        for _ in range(6):
            await asyncio.sleep(0)
        open_ = [wire for wire in self.loop.wires if not wire.closing]
        assert self.place.connections == len(open_)
        self.look()
        assert all(each.is_open for each in self.place._idle)
        if not self.place._opening:
            assert all(w.protocol._call or w.protocol in self.place._idle for w in open_)
        assert self.faults == []

    def look(self) -> None:
        """What is in the pool can take a call."""
        idle = self.place._idle
        assert len(idle) == len(set(idle))
        assert not (idle and self.place._closed)
        for wire in self.loop.wires:
            if wire.protocol in idle:
                # Nobody knows yet of one that was lost in this turn.
                assert not wire.closing or wire.is_lost
                assert not wire.paused
                assert wire.protocol._call is None
                assert wire.protocol._draining is None

    async def finish(self) -> None:
        """The rest goes well: everybody who waits gets his answer."""
        while waiting := [each for each in self.calls if not each.ended and not each.given_up]:
            self.rounds += 1
            assert self.rounds < 60, [(w.kind, w.heard) for w in waiting]
            for asked in waiting:
                if asked.call is not None:
                    asked.call.resume()
                asked.cut = EVERYTHING
            await self.serve()
            await self.turned()
        self.loop.now += DRAINED_S
        await self.turned()
        for asked in self.calls:
            if asked.ended in ("whole", "end") and not asked.excused:
                told = outcome(asked.kind, b"to %d" % asked.number)
                assert (asked.status, asked.body) == told
                assert asked.headers["content-type"] == "text/plain"
        await self.place.aclose()
        await self.turned()
        assert self.place.connections == 0
        assert len(asyncio.all_tasks()) == 1


PLANS = st.dictionaries(
    st.sampled_from(["head", "data", "end", "whole", "broken"]),
    st.sampled_from(["cancel", "pause", "detach", "send"]),
    max_size=2,
)
SAYINGS = st.tuples(
    st.one_of(st.just({}), PLANS),
    st.one_of(st.just("sized"), st.sampled_from([*RIGHT, "doubled"]), st.sampled_from(KINDS)),
    st.one_of(st.just(EVERYTHING), st.sampled_from(CUTS)),
)
ACTIONS = ["unasked", "hang up", "reset", "refuse", "cancel", "pause", "resume", "detach", "wait"]
TURNS = st.lists(
    st.tuples(
        st.lists(SAYINGS, max_size=3),
        st.one_of(
            st.just([]),
            st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 3)), max_size=2),
        ),
        st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=15,
)


QUIET: Turn = [], [], True
"""A turn more for servers: a connection takes one to be made."""


def alone(kind: str, cut: int = EVERYTHING) -> Turn:
    return [({}, kind, cut)], [], True


@settings(max_examples=400)
@example([alone("sized"), QUIET, alone("nested", TO_THE_INNER)], False)
@example([turn for kind in RIGHT for turn in (alone(kind), QUIET) * 2], False)
@example([alone("sized"), QUIET, QUIET, ([], [("wait", 1)], True), alone("sized")], False)
@given(TURNS, st.booleans())
def test_every_call_hears_its_own_answer_or_one_failure(turns: list[Turn], closed: bool) -> None:
    async def play(loop: Loop) -> None:
        script = Script(loop)
        loop.set_exception_handler(lambda _, context: script.faults.append(context))
        for sayings, actions, served in turns:
            for said in sayings:
                script.send(said)
            for name, which in actions:
                script.act(name, which)
            if served:
                await script.serve()
            await script.turned()
        if closed:
            await script.place.aclose()
        await script.finish()

    with pytest.MonkeyPatch.context() as patched, asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        patched.setattr(plain_http, "time", SimpleNamespace(monotonic=loop.time))
        runner.run(play(loop))
