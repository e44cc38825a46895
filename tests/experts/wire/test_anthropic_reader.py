"""Anthropic's answers as they are read, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from experts.messages import Delta, Event, Finish, Usage
from experts.wire.anthropic_reader import MessageReader

PING = {"type": "ping"}


def read(*data: dict[str, Any]) -> list[Event]:
    reader = MessageReader("answer_as_json")
    return [event for item in data for event in reader(item)]


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_a_ping_is_a_sign_of_life_once_something_was_said() -> None:
    thought = start(0, type="thinking", thinking="", signature="")
    spoken = [start(1, type="text", text=""), piece(1, "text_delta", text="Hi")]
    assert read({"type": "message_start", "message": {}}, PING, thought, PING) == []
    assert read(thought, *spoken, PING) == [Delta("Hi"), Delta()]


def test_counts_are_totals_and_the_last_of_each_counts() -> None:
    begun = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}
    first = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    last = {**end, "usage": {"input_tokens": 8, "output_tokens": 9}}
    events = read({"type": "message_start", "message": {"usage": begun}}, first, last)
    counted = [event for event in events if isinstance(event, Usage)]
    assert counted[-1] == Usage(8, 3, 0, 9, 0)


def test_input_that_comes_with_the_start_of_a_call_is_not_lost() -> None:
    events = read(start(0, type="tool_use", id="t", name="f", input={"a": 1}), stop(0))
    arguments = [c["function"]["arguments"] for e in events for c in e.tool_calls]  # type: ignore[union-attr]
    assert "".join(arguments) == '{"a":1}'


def test_hidden_thought_is_a_signature_only() -> None:
    events = read(
        start(0, type="thinking", thinking="", signature=""),
        piece(0, "signature_delta", signature="c2"),
        piece(0, "signature_delta", signature="ln"),
        stop(0),
    )
    block = {"type": "thinking", "thinking": "", "signature": "c2ln", "index": 0}
    assert events == [Delta(fields={"thinking_blocks": [block]})]


def test_an_unsigned_thought_is_nothing_to_send_back() -> None:
    events = read(start(0, type="thinking", thinking="Hm", signature=""), stop(0))
    assert events == [Delta(reasoning="Hm")]


def test_blocks_of_the_future_go_on_as_they_are() -> None:
    block = {"type": "sculpture", "form": ""}
    events = read(start(0, **block), piece(0, "form_delta", form="round"), stop(0))
    assert [event.opaque for event in events if isinstance(event, Delta)] == [
        ({"type": "content_block_start", "content_block": block},),
        ({"type": "content_block_delta", "delta": {"type": "form_delta", "form": "round"}},),
        ({"type": "content_block_stop"},),
    ]


def test_only_the_json_answer_was_called() -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}
    call = start(0, type="tool_use", id="t", name="answer_as_json", input={})
    events = read(call, piece(0, "input_json_delta", partial_json='{"a":1}'), stop(0), end)
    assert events[0] == Delta('{"a":1}')
    finish = events[1]
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.opaque["stop_reason"]) == ("stop", "end_turn")


@pytest.mark.parametrize("odd", [5, True, [1], {"a": 1}])
def test_what_is_no_text_says_nothing(odd: Any) -> None:
    begun = [start(0, type="thinking", thinking=odd, signature=odd), stop(0)]
    spoken = [start(1, type="text", text=odd), piece(1, "text_delta", text=odd)]
    assert read(*begun, *spoken) == []
    called = read(start(2, type="tool_use", id=odd, name=odd, input={}))
    (call,) = called[0].tool_calls  # type: ignore[union-attr]
    assert call["id"].startswith("toolu_")
    assert call["function"]["name"] == ""
    assert read({"type": "message_delta", "delta": {"stop_reason": odd}}) == []
    end = {"stop_reason": "end_turn", "stop_sequence": odd}
    (finish,) = read({"type": "message_delta", "delta": end})
    assert (finish.stop, "stop_sequence" in finish.opaque) == (None, False)  # type: ignore[union-attr]


@pytest.mark.parametrize("odd", [None, 5, [1], {"a": 1}])
def test_an_event_or_a_block_of_no_kind_is_malformed(odd: Any) -> None:
    for event in ({"type": odd}, start(0, type=odd), {**piece(0, "x"), "delta": {"type": odd}}):
        with pytest.raises(TypeError):
            read(event)


def test_a_text_is_said_whatever_block_it_stands_in() -> None:
    thought = start(0, type="thinking", thinking="", signature="")
    assert read(thought, piece(0, "text_delta", text="Hi")) == [Delta("Hi")]
