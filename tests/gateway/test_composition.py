"""A composition is an expert: its children are run, bounded, cancelled and booked like any call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

import anyio
import pytest

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.errors import ExpertCallError, ExpertUnavailableError
from experts.fakes.scripted import Ending, Hold, ScriptedExpert, says
from experts.messages import ChatRequest, Event, Message, Usage, collect
from gateway.access.keys import Key
from gateway.api.disconnect import EventStream
from gateway.ask import Ask
from gateway.errors import AllExpertsFailedError
from gateway.state import GATEWAY

Serve = Callable[..., Any]


class DraftThenAnswer:
    """Asks one expert for a draft, then another for the answer; goes on without a failed draft."""

    def __init__(self, name: str, first: Expert, then: Expert) -> None:
        self._card = ExpertCard(name, composed=True)
        self._first = first
        self._then = then

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(call.run(self._first, request)) as draft:
                await collect(draft)
        except ExpertCallError:
            pass
        async with aclosing(call.run(self._then, request)) as answer:
            async for event in answer:
                yield event

    async def aclose(self) -> None:
        return None


def scripted(name: str, *scripts: Any, price: float = 1.0) -> ScriptedExpert:
    return ScriptedExpert(ExpertCard(name, prices=Prices(price, price)), *scripts)


def an_ask(model: str, stream: bool = False) -> Ask:
    request = ChatRequest((Message("user", "Hi"),), stream=stream)
    return Ask(request, model, "openai.chat", Key("k"))


def answered(served: Any, model: str) -> dict[str, Any]:
    return dict(served.record(served.ask(model)))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_children_cost_what_they_cost_and_the_sum_is_the_requests(
    serve: Serve, stream: bool
) -> None:
    draft = scripted("draft", says("a draft", Usage(input=5, output=2)))
    final = scripted("final", says("the answer", Usage(input=7, output=3)), price=10.0)
    served = serve({"both": DraftThenAnswer("both", draft, final), "draft": draft, "final": final})
    record = served.record(served.ask("both", stream=stream))
    (root,) = record["cost"]["attempts"]
    assert root["expert"] == "both"
    assert [child["expert"] for child in root["children"]] == ["draft", "final"]
    assert [child["cost_usd"] for child in root["children"]] == [
        pytest.approx(7e-6),
        pytest.approx(100e-6),
    ]
    assert record["result"]["cost_nanousd"] == 107_000
    assert record["result"]["cost_complete"] is True
    assert record["result"]["answered_by"] == "both"
    assert served.verified().faults == ()


def test_compositions_nest(serve: Serve) -> None:
    leaf = scripted("leaf", says("word", Usage(input=1, output=1)))
    inner = DraftThenAnswer("inner", leaf, leaf)
    served = serve({"outer": DraftThenAnswer("outer", inner, leaf), "leaf": leaf})
    record = answered(served, "outer")
    (root,) = record["cost"]["attempts"]
    assert [len(child["children"]) for child in root["children"]] == [2, 0]
    assert record["result"]["cost_nanousd"] == 3 * 2000
    assert served.verified().faults == ()


def test_a_childs_failure_is_the_compositions_to_handle_and_is_booked(serve: Serve) -> None:
    broken = scripted("broken", [ExpertUnavailableError("broken", "down")])
    final = scripted("final", says("fine", Usage(input=1, output=1)))
    served = serve({"both": DraftThenAnswer("both", broken, final)})
    record = answered(served, "both")
    assert [a["status"] for a in record["attempts"]] == ["ok", "failed", "ok"]
    assert record["result"]["status"] == 200


def test_a_client_that_leaves_stops_every_child(serve: Serve) -> None:
    hold = Hold()
    draft = scripted("draft", [hold])
    served = serve({"both": DraftThenAnswer("both", draft, draft)})
    service = served.gateway.service

    async def leave() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.answer, an_ask("both"))
            await hold.reached.wait()
            tasks.cancel_scope.cancel()
        await served.gateway.ledger.flush()

    anyio.run(leave)
    assert draft.calls[0].ending is Ending.CLOSED
    (row,) = served.gateway.reader.recent(1)
    assert row["status"] == 499
    attempts = served.gateway.reader.decision(row["decision_id"])["attempts"]
    assert [a["status"] for a in attempts] == ["cancelled", "cancelled"]
    assert served.verified().faults == ()


def test_a_bug_in_an_expert_is_booked_as_a_failure(serve: Serve) -> None:
    served = serve({"odd": scripted("odd", [ZeroDivisionError("oops")])})

    async def run() -> None:
        await served.gateway.service.answer(an_ask("odd"))

    with pytest.raises(ZeroDivisionError):
        anyio.run(run)
    anyio.run(served.gateway.ledger.flush)
    (row,) = served.gateway.reader.recent(1)
    assert row["status"] == 500


def test_a_stream_that_was_begun_never_goes_on_in_other_words(serve: Serve) -> None:
    events = says("a b")
    cut = scripted("cut", [events[0], ExpertUnavailableError("cut", "gone")])
    spare = scripted("spare", says("never"))
    served = serve({"cut": cut, "spare": spare}, routing={"epsilon": 0.0})
    assert served.gateway.settings.execution.mid_stream == "resume"

    async def run() -> list[Event]:
        answer = await served.gateway.service.answer(an_ask("auto", stream=True))
        events = answer.events()
        first = await anext(events)
        with pytest.raises(AllExpertsFailedError):
            await anext(events)
        return [first]

    assert anyio.run(run) == [events[0]]
    assert spare.calls[0].ending is Ending.CLOSED, "nobody reads on what does not fit"


def test_a_stream_nobody_came_for_is_closed_without_being_read(serve: Serve) -> None:
    hold = Hold()
    slow = scripted("slow", [*says("a b")[:1], hold])
    served = serve({"slow": slow})

    async def gone() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def nobody(_message: MutableMapping[str, Any]) -> None:
        raise OSError("the socket is closed")

    async def run() -> None:
        answer = await served.gateway.service.answer(an_ask("slow", stream=True))
        response = EventStream(_never(), {}, answer.aclose, lambda _failure: iter(()))
        with suppress(BaseExceptionGroup):
            await response({"type": "http", GATEWAY: served.gateway}, gone, nobody)
        await served.gateway.ledger.flush()

    anyio.run(run)
    assert slow.calls[0].ending is Ending.CLOSED
    (row,) = served.gateway.reader.recent(1)
    assert row["status"] == 499


async def _never() -> AsyncGenerator[bytes, None]:
    raise AssertionError("nobody asked for a piece")
    yield b""
