"""Anthropic's messages API at the level of bodies and bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from experts.fakes.provider import FakeProvider, Reply
from experts.messages import Choice, Completion, Delta, Event, Finish, Usage
from gateway.api.blocks_out import BlockEvents
from gateway.api.front import Envelope
from gateway.api.messages_out import MessageWriter, message_json
from gateway.errors import ApiError

ENVELOPE = Envelope("dec_1", "small", created=1)
GOOD: dict[str, Any] = {
    "model": "small",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hi"}],
}


def call(index: int, name: str = "", arguments: str = "") -> Delta:
    named = {"id": f"c{index}", "type": "function"} if name else {}
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return Delta(tool_calls=({"index": index, **named, "function": function},))


def blocks(*deltas: Delta) -> list[tuple[Any, ...]]:
    """Events in short: what, index, and the piece or the kind."""
    writer = BlockEvents()
    events = [event for delta in deltas for event in writer.add(delta)] + list(writer.close())
    short = []
    for event in events:
        what = event["type"].removeprefix("content_block_")
        piece = event.get("delta") or event.get("content_block") or {}
        said = [piece[name] for name in ("partial_json", "text", "thinking") if piece.get(name)]
        short.append((what, event["index"], *(said or [piece["type"]] if piece else [])))
    return short


def test_a_block_ends_before_the_next_begins() -> None:
    pieces = (
        Delta(reasoning="hm"),
        Delta("a"),
        Delta("b"),
        call(0, "f", "{"),
        call(0, "", "}"),
        call(1, "g", "{}"),
        Delta("c"),
    )
    assert blocks(*pieces) == [
        ("start", 0, "thinking"),
        ("delta", 0, "hm"),
        ("stop", 0),
        ("start", 1, "text"),
        ("delta", 1, "a"),
        ("delta", 1, "b"),
        ("stop", 1),
        ("start", 2, "tool_use"),
        ("delta", 2, "{"),
        ("delta", 2, "}"),
        ("stop", 2),
        ("start", 3, "tool_use"),
        ("delta", 3, "{}"),
        ("stop", 3),
        ("start", 4, "text"),
        ("delta", 4, "c"),
        ("stop", 4),
    ]


def test_calls_whose_pieces_come_mixed_keep_their_own_blocks() -> None:
    pieces = (call(0, "f"), call(1, "g", '{"b"'), call(0, "", '{"a":1}'), call(1, "", ":2}"))
    assert blocks(*pieces) == [
        ("start", 0, "tool_use"),
        ("start", 1, "tool_use"),
        ("delta", 1, '{"b"'),
        ("delta", 0, '{"a":1}'),
        ("delta", 1, ":2}"),
        ("stop", 0),
        ("stop", 1),
    ]


def test_the_golden_stream() -> None:
    writer = MessageWriter(ENVELOPE)
    events: list[Event] = [
        Delta(reasoning="hm"),
        Delta("Hi"),
        call(0, "f", "{}"),
        Finish("stop"),
        Usage(7, 100, 20, 5, 3),
    ]
    pieces = [piece for event in events for piece in writer.write(event)]
    text = b"".join([*pieces, *writer.end(Usage(7, 100, 20, 5, 3), 0.25)]).decode()
    counts = (
        '"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},'
        '"output_tokens":{},"output_tokens_details":{{"thinking_tokens":{}}}'
    )
    wanted = [
        '{"type":"message_start","message":{"id":"msg_dec_1","type":"message","role":"assistant",'
        '"model":"small","content":[],"stop_reason":null,"stop_sequence":null,'
        '"usage":{' + counts.format(0, 0, 0, 0, 0) + "}}}",
        '{"type":"ping"}',
        '{"type":"content_block_start","index":0,'
        '"content_block":{"type":"thinking","thinking":"","signature":""}}',
        '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}',
        '{"type":"content_block_stop","index":0}',
        '{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}',
        '{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hi"}}',
        '{"type":"content_block_stop","index":1}',
        '{"type":"content_block_start","index":2,'
        '"content_block":{"type":"tool_use","id":"c0","name":"f","input":{}}}',
        '{"type":"content_block_delta","index":2,'
        '"delta":{"type":"input_json_delta","partial_json":"{}"}}',
        '{"type":"content_block_stop","index":2}',
        '{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},'
        '"usage":{' + counts.format(7, 20, 100, 8, 3) + ',"cost_usd":0.25}}',
        '{"type":"message_stop"}',
    ]
    names = [orjson.loads(line)["type"] for line in wanted]
    lines = [f"event: {name}\ndata: {line}\n\n" for name, line in zip(names, wanted, strict=True)]
    assert text == "".join(lines)


def test_a_sign_of_life_is_passed_on() -> None:
    writer = MessageWriter(ENVELOPE)
    list(writer.write(Delta("Hi")))
    assert list(writer.write(Delta())) == [b'event: ping\ndata: {"type":"ping"}\n\n']


def test_a_stream_that_breaks_has_an_error_and_no_end() -> None:
    writer = MessageWriter(ENVELOPE)
    pieces = [*writer.write(Delta("Hi")), *writer.fail(ApiError(504, "too slow", code="c"))]
    *_, last = b"".join(pieces).decode().removesuffix("\n\n").split("\n\n")
    assert last.startswith("event: error\n")
    assert '"type":"timeout_error","message":"too slow"' in last
    assert b"message_stop" not in b"".join(pieces)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ('{"a": 1, "b": [2', {"a": 1, "b": [2]}),
        ("[1]", {"arguments": "[1]"}),
        ("not JSON", {"arguments": "not JSON"}),
    ],
    ids=["empty", "cut", "array", "broken"],
)
def test_arguments_that_are_no_object(arguments: str, given: dict[str, Any]) -> None:
    function = {"name": "f", "arguments": arguments}
    tool_call = {"id": "c", "type": "function", "function": function}
    completion = Completion((Choice("", "length", (tool_call,)),), None)
    body = orjson.loads(message_json(ENVELOPE, completion, Usage()))
    assert body["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": given}]
    assert body["stop_reason"] == "max_tokens"


def test_a_refusal_is_a_text_and_a_reason() -> None:
    completion = Completion((Choice("", "stop", fields={"refusal": "No."}),), None)
    body = orjson.loads(message_json(ENVELOPE, completion, Usage()))
    assert body["content"] == [{"type": "text", "text": "No."}]
    assert body["stop_reason"] == "refusal"


def test_who_says_stop_after_a_call_is_understood_all_the_same() -> None:
    tool_call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    completion = Completion((Choice("", "stop", (tool_call,)),), None)
    assert orjson.loads(message_json(ENVELOPE, completion, Usage()))["stop_reason"] == "tool_use"


@pytest.fixture
def served(serve: Callable[..., Any], remote: Callable[..., Any], provider: FakeProvider) -> Any:
    return serve({"small": remote("small", provider.url)})


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"system": {"a": 1}}, "system"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [{"name": "", "input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": ["auto"]}}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format"),
        ({"n": 2}, "n"),
        ({"base_url": "http://evil"}, "base_url"),
        ({"stream": 1}, "stream"),
        ({"pointsman": {"policy": 1}}, "pointsman.policy"),
    ],
)
def test_a_fault_is_named_by_its_field(served: Any, changed: dict[str, Any], param: str) -> None:
    answer = served.client.post("/v1/messages", json={**GOOD, **changed})
    assert answer.status_code == 400
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == param
    assert param.partition("[")[0].partition(".")[0] in body["error"]["message"]


def test_a_tool_result_may_show_a_picture(served: Any, provider: FakeProvider) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "aaaa"}
    shown = [{"type": "text", "text": "here:"}, {"type": "image", "source": source}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": shown}
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    messages = [
        *GOOD["messages"],
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    served.client.post("/v1/messages", json={**GOOD, "messages": messages})
    *_, tool, picture = provider.bodies[-1]["messages"]
    assert tool == {"role": "tool", "tool_call_id": "t1", "content": "here:"}
    assert picture["role"] == "user"
    assert picture["content"][0]["image_url"]["url"] == "data:image/png;base64,aaaa"


def test_documents_become_files_and_texts(served: Any, provider: FakeProvider) -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    text = {"type": "text", "media_type": "text/plain", "data": "all of it"}
    found = {"type": "search_result", "source": "u", "title": "S", "content": [{"text": "hit"}]}
    content = [
        {"type": "document", "source": pdf, "title": "a.pdf"},
        {"type": "document", "source": text, "title": "Notes"},
        found,
    ]
    body = {**GOOD, "messages": [{"role": "user", "content": content}]}
    served.client.post("/v1/messages", json=body)
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert provider.bodies[-1]["messages"][0]["content"] == [
        {"type": "file", "file": file},
        {"type": "text", "text": "Notes\nall of it"},
        {"type": "text", "text": "S\nhit"},
    ]


def test_fields_we_do_not_know_go_to_who_takes_them(served: Any, provider: FakeProvider) -> None:
    own = {"cache_control": {"type": "ephemeral"}, "container": "c", "inference_geo": "eu"}
    served.client.post("/v1/messages", json={**GOOD, **own, "top_k": 3, "min_p": 0.1})
    assert provider.bodies[-1].keys() == {"model", "messages", "max_tokens", "top_k", "min_p"}


def test_the_ledger_has_it_under_its_own_wire(served: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("Hello")
    answer = served.client.post("/v1/messages", json=GOOD)
    record = served.record(answer)
    assert record["request"]["wire"] == "anthropic.messages"
