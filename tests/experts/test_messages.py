from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from experts.messages import (
    ChatRequest,
    Choice,
    Collector,
    Delta,
    Event,
    Finish,
    Message,
    Source,
    Usage,
)

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts)


@given(usages, usages)
def test_usage_parts_add_up(a: Usage, b: Usage) -> None:
    both = a + b
    assert both.prompt_tokens == a.prompt_tokens + b.prompt_tokens
    assert both.completion_tokens == a.completion_tokens + b.completion_tokens


@given(st.lists(st.text(), min_size=1), st.integers(0, 3))
def test_text_is_the_deltas_in_order_whatever_their_size(pieces: list[str], choice: int) -> None:
    collector = Collector()
    events: list[Event] = [Delta(piece, choice) for piece in pieces]
    for event in [*events, Finish("stop", choice)]:
        collector.add(event)
    (only,) = collector.completion().choices
    assert (only.text, only.finish_reason) == ("".join(pieces), "stop")


def test_tool_call_arguments_are_joined_per_index() -> None:
    collector = Collector()
    for index, piece in ((0, '{"a"'), (1, "{}"), (0, ":1}")):
        call = {"index": index, "id": f"c{index}", "function": {"arguments": piece}}
        collector.add(Delta(tool_calls=(call,)))
    calls = collector.completion().choices[0].tool_calls
    assert [call["function"]["arguments"] for call in calls] == ['{"a":1}', "{}"]
    assert [call["id"] for call in calls] == ["c0", "c1"]


def test_a_request_knows_what_it_needs() -> None:
    image = ({"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}})
    request = ChatRequest(
        (Message("system", "Be brief."), Message("user", image)),
        params={"tools": [{}], "response_format": {"type": "json_object"}},
    )
    assert request.modalities == {"text", "image"}
    assert request.needs_tools
    assert request.needs_schema
    assert request.question == "see"
    assert request.text == "Be brief.\nsee"


def test_a_source_holds_only_until_something_is_changed() -> None:
    body = {"messages": ["as it came"]}
    messages, params = (Message("user", "My name is Eve"),), {"temperature": 0}
    source = Source("wire", body, (messages, 5, params))
    request = ChatRequest(messages, 5, False, params, source)
    assert request.source_on("wire") is body
    assert replace(request, stream=True).source_on("wire") is body
    assert request.source_on("another wire") is None
    redacted = replace(request, messages=(Message("user", "My name is [name]"),))
    assert redacted.source_on("wire") is None
    assert replace(request, max_tokens=6).source_on("wire") is None
    assert replace(request, params={**params, "top_p": 1}).source_on("wire") is None


def test_a_changed_message_forgets_what_it_was_made_from() -> None:
    content, fields = "secret", {"name": "a"}
    message = Message("user", content, fields, Source("wire", [1], (content, fields)))
    assert message.source_on("wire") == [1]
    assert replace(message, content="redacted").source_on("wire") is None


def test_a_choice_remembers_its_events_until_it_is_changed() -> None:
    collector = Collector()
    events: list[Event] = [Delta("a"), Delta(tool_calls=({"index": 0, "id": "c"},)), Delta("b")]
    for event in [*events, Finish("stop", stop="x")]:
        collector.add(event)
    (choice,) = collector.completion().choices
    assert list(choice.events()) == [*events, Finish("stop", stop="x")]
    changed = replace(choice, text="[redacted]").events()
    assert [event.text for event in changed if isinstance(event, Delta)] == ["", "[redacted]", ""]


def test_a_choice_without_events_says_thought_text_and_calls_in_this_order() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    events = Choice("text", "tool_calls", (call,), "thought").events()
    assert events == (
        Delta(reasoning="thought"),
        Delta("text"),
        Delta(tool_calls=({"index": 0, **call},)),
        Finish("tool_calls"),
    )


def test_lists_and_texts_in_fields_are_added_up() -> None:
    collector = Collector()
    collector.add(Delta(fields={"refusal": "I ", "thinking_blocks": [1], "role": "x"}))
    collector.add(Delta(fields={"refusal": "won't", "thinking_blocks": [2]}))
    (choice,) = collector.completion().choices
    assert choice.fields == {"refusal": "I won't", "thinking_blocks": [1, 2], "role": "x"}


def test_a_changed_request_has_its_own_text() -> None:
    asked = ChatRequest((Message("user", "before"),))
    assert asked.text == "before"
    changed = replace(asked, messages=(Message("user", "after"), Message("tool", "found")))
    assert (changed.text, asked.text) == ("after\nfound", "before")
    assert replace(changed, messages=asked.messages) == asked
