"""Between Anthropic's wire and Anthropic's wire no field of an answer is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.messages import Collector
from experts.wire.anthropic import AnthropicDialect, Habits
from experts.wire.reading import StreamReader, whole_answer
from tests.contracts.test_wires import ENVELOPE, HELLO, asked, relayed
from tests.contracts.wire_fronts import MessagesClient, events_of

CLIENT = MessagesClient()
DIALECT = AnthropicDialect(ExpertCard("x", wire="anthropic"), Habits())
CALL = {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "direct"}}
END = {"stop_reason": "tool_use", "stop_sequence": None, "container": {"id": "c1"}}
ABOUT = {"context_management": {"applied_edits": [{"type": "x"}]}, "odd": {"z": 1}}
USAGE = {"input_tokens": 1, "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}}
START = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}


def whole() -> dict[str, Any]:
    sent = {**START, "content": [CALL], **END, **ABOUT, "usage": USAGE}
    ask = asked(CLIENT, HELLO, stream=False)
    collector = Collector()
    for event in whole_answer("x", DIALECT.reader(ask.request), json.dumps(sent).encode()):
        collector.add(event)
    completion = collector.completion()
    assert completion.usage is not None
    got: dict[str, Any] = json.loads(
        CLIENT.front.whole(ask, ENVELOPE, completion, completion.usage)
    )
    return got


def streamed() -> dict[str, Any]:
    told = {"odd": ABOUT["odd"]}
    sent: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**START, **told, "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": CALL},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": END,
            "usage": USAGE,
            "context_management": ABOUT["context_management"],
        },
        {"type": "message_stop"},
    ]
    lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in sent)
    ask = asked(CLIENT, HELLO, stream=True)
    reader = StreamReader("x", DIALECT.reader(ask.request))
    events = [*reader.feed("".join(lines).encode()), *reader.end()]
    got: dict[str, Any] = {"content": []}
    for data in events_of(relayed(CLIENT, ask, events)):
        event = json.loads(data)
        if event["type"] == "content_block_start":
            got["content"].append(event["content_block"])
        elif event["type"] == "message_delta":
            got |= {**event, **event["delta"]}
    return got


@pytest.mark.parametrize("answer", [whole, streamed])
def test_fields_that_nobody_knows_come_through(answer: Any) -> None:
    got = answer()
    assert got["content"] == [CALL]
    assert {name: got[name] for name in END} == END
    assert {name: got[name] for name in ABOUT} == ABOUT
    assert got["usage"]["server_tool_use"] == USAGE["server_tool_use"]
