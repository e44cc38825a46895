from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from experts.messages import ChatRequest, Collector, Delta, Event, Finish, Message, Usage

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
