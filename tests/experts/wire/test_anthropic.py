"""Requests as an Anthropic expert sends them, beyond what every wire has in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from experts.cards import ExpertCard
from experts.errors import ExpertUnsupportedError
from experts.messages import ChatRequest, Message, Source
from experts.params import with_known_params
from experts.wire.anthropic import AnthropicDialect, Habits
from experts.wire.anthropic_turns import WIRE

CARD = ExpertCard("claude", wire="anthropic", params="drop")
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}


def body_of(*messages: Message, habits: Habits | None = None, **params: Any) -> dict[str, Any]:
    dialect = AnthropicDialect(CARD, habits or Habits())
    return dialect.body(ChatRequest(messages, params=params), "m")


def call(arguments: str, call_id: str = "t1") -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def native(role: str, content: str, *blocks: dict[str, Any]) -> Message:
    fields: dict[str, Any] = {}
    return Message(role, content, fields, Source(WIRE, list(blocks), (content, fields)))


def anthropic_request() -> ChatRequest:
    messages = (
        Message("user", "My name is Eve."),
        native("assistant", "Hello Eve.", THOUGHT, {"type": "text", "text": "Hello Eve."}),
        Message("user", "Who am I?"),
    )
    body = {
        "model": "auto",
        "pointsman": {"session": "s"},
        "max_tokens": 9,
        "context_management": {"edits": []},
        "messages": [
            {"role": "user", "content": "My name is Eve."},
            {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "Hello Eve."}]},
            {"role": "user", "content": "Who am I?"},
        ],
    }
    params: dict[str, Any] = {}
    source = Source(WIRE, body, (messages, 9, params), {"anthropic-beta": "a, b"})
    return ChatRequest(messages, 9, False, params, source)


def test_what_nobody_changed_goes_as_it_came() -> None:
    request = anthropic_request()
    assert request.source is not None
    said = {n: v for n, v in request.source.data.items() if n != "pointsman"}
    dialect = AnthropicDialect(CARD, Habits(betas=("b", "c")))
    assert dialect.body(request, "m") == {**said, "model": "m"}
    assert dialect.headers(request) == {"anthropic-beta": "b,c,a"}


def test_what_was_redacted_is_not_in_what_is_sent() -> None:
    request = anthropic_request()
    first, answer, last = request.messages
    hidden = (
        replace(first, content="My name is [name]."),
        replace(answer, content="Hello [name]."),
        last,
    )
    changed = replace(request, messages=hidden)
    dialect = AnthropicDialect(CARD, Habits())
    body = dialect.body(changed, "m")
    assert "Eve" not in str(body)
    assert [turn["content"] for turn in body["messages"]] == [message.content for message in hidden]
    assert dialect.headers(changed) == {}


def test_one_changed_message_leaves_the_others_as_they_came() -> None:
    request = anthropic_request()
    first, *rest = request.messages
    changed = replace(request, messages=(replace(first, content="Hi"), *rest))
    turns = AnthropicDialect(CARD, Habits()).body(changed, "m")["messages"]
    assert turns[0]["content"] == "Hi"
    assert turns[1]["content"][0] == THOUGHT


def test_dropped_fields_leave_the_rest_as_it_came() -> None:
    request = anthropic_request()
    assert request.source is not None
    data = {**request.source.data, "min_p": 0.1}
    params = {"min_p": 0.1}
    source = Source(WIRE, data, (request.messages, 9, params))
    known = with_known_params(replace(request, params=params, source=source), CARD)
    body = AnthropicDialect(CARD, Habits()).body(known, "m")
    assert "min_p" not in body
    assert "context_management" in body
    assert body["messages"][1]["content"][0] == THOUGHT


def test_dropped_fields_do_not_bring_a_changed_request_back() -> None:
    request = anthropic_request()
    params = {"min_p": 0.1}
    changed = replace(request, messages=(Message("user", "Other"),), params=params)
    known = with_known_params(changed, CARD)
    assert AnthropicDialect(CARD, Habits()).body(known, "m")["messages"] == [
        {"role": "user", "content": "Other"}
    ]


@pytest.mark.parametrize("thought_first", [True, False])
def test_thinking_is_left_out_where_the_wire_would_refuse_it(thought_first: bool) -> None:
    blocks = [THOUGHT, USE] if thought_first else [USE]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
    thinking = {"type": "enabled", "budget_tokens": 2000}
    body = {
        "max_tokens": 9000,
        "thinking": thinking,
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": [result]},
        ],
    }
    messages, params = (Message("user", "q"),), dict[str, Any]()
    source = Source(WIRE, body, (messages, 9000, params))
    request = ChatRequest(messages, 9000, False, params, source)
    sent = AnthropicDialect(CARD, Habits()).body(request, "m")
    assert sent.get("thinking") == (thinking if thought_first else None)


def test_effort_as_budget_needs_room_and_thought_before_earlier_calls() -> None:
    habits = Habits(thinking="budget")
    plain = body_of(Message("user", "q"), habits=habits, reasoning_effort="minimal")
    assert plain["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    history = (
        Message("user", "q"),
        Message("assistant", None, {"tool_calls": [call("{}")]}),
        Message("tool", "x", {"tool_call_id": "t1"}),
    )
    assert "thinking" not in body_of(*history, habits=habits, reasoning_effort="low")


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", {"type": "any", "disable_parallel_tool_use": True}),
        ("none", {"type": "none"}),
    ],
)
def test_one_call_at_a_time_is_said_where_there_may_be_calls(choice: Any, sent: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    params = {"tools": tools, "parallel_tool_calls": False, "tool_choice": choice}
    assert body_of(Message("user", "q"), **params)["tool_choice"] == sent


def test_a_tool_that_failed_is_said_to_have() -> None:
    body = body_of(
        Message("user", "q"),
        Message("assistant", None, {"tool_calls": [call("{}")]}),
        Message("tool", "x", {"tool_call_id": "t1", "is_error": True}),
    )
    assert body["messages"][2]["content"][0]["is_error"] is True


def test_ids_lose_what_the_wire_refuses_on_both_sides() -> None:
    body = body_of(
        Message("user", "q"),
        Message("assistant", None, {"tool_calls": [call("{}", "functions.f:0")]}),
        Message("tool", "x", {"tool_call_id": "functions.f:0"}),
    )
    assert body["messages"][1]["content"][0]["id"] == "functions_f_0"
    assert body["messages"][2]["content"][0]["tool_use_id"] == "functions_f_0"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("", {}), ('{"a":1}', {"a": 1}), ("[1]", {"arguments": "[1]"}), ("{", {"arguments": "{"})],
)
def test_arguments_become_an_object(arguments: str, given: dict[str, Any]) -> None:
    message = Message("assistant", None, {"tool_calls": [call(arguments)]})
    body = body_of(Message("user", "q"), message)
    assert body["messages"][1]["content"][0]["input"] == given


def test_an_instruction_alone_is_asked_as_a_question() -> None:
    body = body_of(Message("system", "Say hello."), Message("developer", "Loudly."))
    texts = [{"type": "text", "text": "Say hello."}, {"type": "text", "text": "Loudly."}]
    assert body["messages"] == [{"role": "user", "content": texts}]
    assert "system" not in body


def test_system_messages_are_joined_and_keep_their_cache_marks() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    question = Message("user", "q")
    assert body_of(Message("system", "a"), question, Message("system", "b"))["system"] == "a\n\nb"
    marked = Message("system", ({"type": "text", "text": "a", **mark},))
    assert body_of(marked, question)["system"] == [{"type": "text", "text": "a", **mark}]


@pytest.mark.parametrize(
    ("messages", "params", "param"),
    [
        ((), {"n": 2}, "n"),
        ((), {"functions": [{}]}, "functions"),
        ((), {"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ((), {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ((), {"reasoning_effort": "huge"}, "reasoning_effort"),
        ((Message("user", ({"type": "input_audio"},)),), {}, "messages[0].content[0]"),
        ((Message("assistant", None, {"audio": {"id": "a"}}),), {}, "messages[0].audio"),
        ((Message("function", "x", {"name": "f"}),), {}, "messages[0].role"),
        (
            (Message("assistant", "x", {"function_call": {"name": "f"}}),),
            {},
            "messages[0].function_call",
        ),
        (
            (Message("user", "x"), Message("assistant", "x", {"tool_calls": ({"type": "x"},)})),
            {},
            "messages[1].tool_calls[0]",
        ),
        ((Message("assistant", "x", {"tool_calls": (5,)}),), {}, "messages[0]"),
        (
            (Message("user", ({"type": "image_url", "image_url": {"url": "data:,x"}},)),),
            {},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_the_wire_cannot_say_is_named(
    messages: tuple[Message, ...], params: dict[str, Any], param: str
) -> None:
    with pytest.raises(ExpertUnsupportedError) as caught:
        body_of(*(messages or (Message("user", "q"),)), **params)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


def test_a_schema_by_tool_leaves_the_clients_tools_their_chance() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    tool = {"type": "function", "function": {"name": "f"}}
    body = body_of(
        Message("user", "q"),
        habits=Habits(json_by="tool"),
        response_format=wanted,
        tools=[tool],
        reasoning_effort="high",
    )
    assert [tool["name"] for tool in body["tools"]] == ["f", "answer_as_json"]
    assert body["tool_choice"] == {"type": "any"}
    assert "thinking" not in body


def test_a_client_that_forbids_its_tools_still_gets_json() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    wanted: dict[str, Any] = {"response_format": {"type": "json_object"}, "tools": [tool]}
    question = Message("user", "q")
    forced = {"type": "tool", "name": "answer_as_json"}
    assert body_of(question, tool_choice="none", **wanted)["tool_choice"] == forced
    one = body_of(question, parallel_tool_calls=False, **wanted)["tool_choice"]
    assert one == {"type": "any", "disable_parallel_tool_use": True}


def test_the_limit_is_the_requests_or_the_cards() -> None:
    request = ChatRequest((Message("user", "q"),))
    roomy = AnthropicDialect(replace(CARD, max_output_tokens=8000), Habits())
    assert roomy.body(request, "m")["max_tokens"] == 8000
    assert roomy.body(replace(request, max_tokens=5), "m")["max_tokens"] == 5
    assert body_of(*request.messages)["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"stop": 7}, "stop"),
        ({"metadata": 7}, "metadata"),
        ({"tools": 7}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": 7}]}, "tools[0]"),
        (
            {"tool_choice": 7, "tools": [{"type": "function", "function": {"name": "f"}}]},
            "tool_choice",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format"),
        ({"reasoning_effort": {}}, "reasoning_effort"),
        ({"n": "two"}, "n"),
    ],
    ids=str,
)
def test_fields_of_another_kind_are_refused(params: dict[str, Any], param: str) -> None:
    with pytest.raises(ExpertUnsupportedError, match=r"^claude: ") as caught:
        body_of(Message("user", "Hi"), **params)
    assert caught.value.param == param
