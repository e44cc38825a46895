"""The anthropic SDK against our endpoint, unchanged, over experts of either wire."""

from __future__ import annotations

from typing import Any

import anthropic
import anyio
import pytest
from pydantic import BaseModel

from experts.fakes.anthropic import FakeAnthropic, Message
from experts.fakes.provider import FakeProvider, Reply

KEY = "team-key-1"
ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]
TOOL: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS = (
    {
        "id": "call_a",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Lima"}'},
    },
    {
        "id": "call_b",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
    },
)
TWO_CALLS = [("call_a", "weather", {"city": "Lima"}), ("call_b", "weather", {"city": "Oslo"})]
PIXEL = "iVBORw0KGgo="

both = pytest.mark.parametrize("model", ["small", "claude"])


@both
def test_a_whole_message(client: anthropic.Anthropic, model: str) -> None:
    answer = client.messages.create(model=model, max_tokens=100, messages=ASK)
    assert [block.to_dict() for block in answer.content] == [
        {"type": "text", "text": "The capital is Lima."}
    ]
    assert (answer.stop_reason, answer.model, answer.role) == ("end_turn", model, "assistant")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 2)


@both
def test_the_streaming_helper_sees_the_same_message(
    client: anthropic.Anthropic, model: str
) -> None:
    whole = client.messages.create(model=model, max_tokens=100, messages=ASK)
    with client.messages.stream(model=model, max_tokens=100, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "The capital is Lima."
    kept = {"content", "stop_reason", "stop_sequence", "model", "role"}
    assert final.model_dump(include=kept) == whole.model_dump(include=kept)
    assert final.usage.input_tokens == 10
    assert final.usage.output_tokens == 2


def test_the_events_of_a_stream_come_in_anthropics_order(client: anthropic.Anthropic) -> None:
    stream = client.messages.create(model="small", max_tokens=100, messages=ASK, stream=True)
    kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


@both
def test_async(served: Any, model: str) -> None:
    async def run() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=served.url, api_key=KEY) as client:
            whole = await client.messages.create(model=model, max_tokens=9, messages=ASK)
            async with client.messages.stream(model=model, max_tokens=9, messages=ASK) as stream:
                streamed = await stream.get_final_text()
            return whole.content[0].to_dict()["text"], streamed  # type: ignore[return-value]

    assert anyio.run(run) == ("The capital is Lima.", "The capital is Lima.")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@both
def test_parallel_tools_and_their_results(
    client: anthropic.Anthropic,
    provider: FakeProvider,
    claude: FakeAnthropic,
    model: str,
    streamed: bool,
) -> None:
    provider.script.append(Reply("", finish="tool_calls", tool_calls=CALLS))
    uses = tuple(
        {"type": "tool_use", "id": i, "name": name, "input": given} for i, name, given in TWO_CALLS
    )
    claude.script.append(Message(uses, "tool_use"))
    asked: Any = {"model": model, "max_tokens": 50, "tools": [TOOL], "tool_choice": {"type": "any"}}
    if streamed:
        with client.messages.stream(messages=ASK, **asked) as stream:
            answer: Any = stream.get_final_message()
    else:
        answer = client.messages.create(messages=ASK, **asked)
    assert answer.stop_reason == "tool_use"
    assert [(b.id, b.name, b.input) for b in answer.content] == TWO_CALLS

    results: Any = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "call_b", "content": "no data", "is_error": True},
        {"type": "text", "text": "Well?"},
    ]
    history: Any = [
        *ASK,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": results},
    ]
    last = client.messages.create(messages=history, **asked)
    assert last.stop_reason == "end_turn"
    if model == "claude":
        assert claude.bodies[-1]["messages"][2]["content"] == results
        assert claude.bodies[-1]["tools"] == [TOOL]
        assert claude.bodies[-1]["tool_choice"] == {"type": "any"}
    else:
        sent = provider.bodies[-1]
        assert [m["role"] for m in sent["messages"]] == [
            "user",
            "assistant",
            "tool",
            "tool",
            "user",
        ]
        assert [call["id"] for call in sent["messages"][1]["tool_calls"]] == ["call_a", "call_b"]
        assert sent["messages"][3]["content"] == "Error: no data"
        assert sent["messages"][3]["tool_call_id"] == "call_b"
        assert sent["tool_choice"] == "required"
        assert sent["tools"][0]["function"]["parameters"] == TOOL["input_schema"]


def test_a_body_for_an_expert_of_the_same_wire_goes_through_as_it_came(
    client: anthropic.Anthropic, claude: FakeAnthropic
) -> None:
    cached: Any = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    document: Any = {"type": "document", "source": source, "citations": {"enabled": True}}
    body: Any = {
        "max_tokens": 77,
        "system": [cached],
        "messages": [{"role": "user", "content": [document, {"type": "text", "text": "Sum up."}]}],
        "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "metadata": {"user_id": "u-1"},
        "stop_sequences": ["END"],
        "service_tier": "standard_only",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    extra = {"pointsman": {"tags": {"a": "b"}}, "context_management": {"edits": []}, "top_k": 5}
    beta = {"anthropic-beta": "context-management-2025-06-27"}
    client.messages.create(model="claude", extra_body=extra, extra_headers=beta, **body)
    kept = {name: value for name, value in extra.items() if name != "pointsman"}
    assert claude.bodies[-1] == {**body, **kept, "model": "claude-x"}
    assert claude.headers[-1]["anthropic-beta"] == "context-management-2025-06-27"
    assert claude.headers[-1]["x-api-key"] == "upstream-key"
    assert claude.headers[-1]["anthropic-version"] == "2023-06-01"
    assert KEY not in str(claude.headers[-1])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_blocks_that_only_anthropic_knows_are_not_lost(
    client: anthropic.Anthropic, claude: FakeAnthropic, streamed: bool
) -> None:
    found = [{"type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "x"}]
    cited = {"type": "char_location", "cited_text": "c", "document_index": 0}
    content: tuple[Any, ...] = (
        {"type": "thinking", "thinking": "Let me look.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
        {"type": "text", "text": "I will look."},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": found},
        {"type": "text", "text": "First."},
        {"type": "text", "text": "Second.", "citations": [cited]},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
    )
    usage = {
        "input_tokens": 7,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
        "service_tier": "standard",
    }
    claude.otherwise = Message(content, "pause_turn", usage=usage)
    asked: Any = {"model": "claude", "max_tokens": 99, "messages": ASK, "tools": [TOOL]}
    if streamed:
        with client.messages.stream(**asked) as stream:
            answer: Any = stream.get_final_message()
    else:
        answer = client.messages.create(**asked)
    got = [block.to_dict() for block in answer.content]
    assert got == [dict(block) for block in content]
    assert answer.stop_reason == "pause_turn"
    counted = answer.usage
    assert (counted.input_tokens, counted.output_tokens) == (7, 50)
    assert (counted.cache_read_input_tokens, counted.cache_creation_input_tokens) == (100, 20)
    assert counted.output_tokens_details.thinking_tokens == 30


@both
def test_a_stop_sequence_is_named(
    client: anthropic.Anthropic, claude: FakeAnthropic, provider: FakeProvider, model: str
) -> None:
    claude.otherwise = Message(stop_reason="stop_sequence", stop_sequence="END")
    answer = client.messages.create(
        model=model, max_tokens=9, messages=ASK, stop_sequences=["END", "STOP"]
    )
    if model == "claude":
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")
    else:
        # OpenAI's wire doesn't say which one, or that one did.
        assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
        assert provider.bodies[-1]["stop"] == ["END", "STOP"]


@both
def test_images(
    client: anthropic.Anthropic, claude: FakeAnthropic, provider: FakeProvider, model: str
) -> None:
    inline = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    linked = {"type": "url", "url": "https://example.org/a.png"}
    content: Any = [
        {"type": "image", "source": inline},
        {"type": "image", "source": linked},
        {"type": "text", "text": "What?"},
    ]
    turns: Any = [{"role": "user", "content": content}]
    client.messages.create(model=model, max_tokens=9, messages=turns)
    if model == "claude":
        assert claude.bodies[-1]["messages"] == turns
    else:
        assert provider.bodies[-1]["messages"][0]["content"] == [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            {"type": "text", "text": "What?"},
        ]


class Capital(BaseModel):
    city: str


@both
def test_parse_gives_an_object(
    client: anthropic.Anthropic, claude: FakeAnthropic, provider: FakeProvider, model: str
) -> None:
    claude.otherwise = Message(({"type": "text", "text": '{"city": "Lima"}'},))
    provider.otherwise = Reply('{"city": "Lima"}')
    answer = client.messages.parse(model=model, max_tokens=9, messages=ASK, output_format=Capital)
    assert answer.parsed_output == Capital(city="Lima")
    if model == "small":
        wanted = provider.bodies[-1]["response_format"]
        assert wanted["type"] == "json_schema"
        assert "city" in wanted["json_schema"]["schema"]["properties"]


@both
def test_counting_tokens(
    client: anthropic.Anthropic, claude: FakeAnthropic, served: Any, model: str
) -> None:
    claude.counts.append(1234)
    raw = client.messages.with_raw_response.count_tokens(
        model=model, messages=ASK, system="Be brief.", tools=[TOOL]
    )
    count = raw.parse().input_tokens
    if model == "claude":
        assert count == 1234
        assert claude.paths[-1] == "/v1/messages/count_tokens"
        assert claude.bodies[-1] == {
            "model": "claude-x",
            "messages": ASK,
            "system": "Be brief.",
            "tools": [TOOL],
        }
        assert "x-pointsman-estimated" not in raw.headers
    else:
        assert 10 < count < 100
        assert raw.headers["x-pointsman-estimated"] == "true"
    assert served.totals()["requests"] == 0


def test_raw_responses_and_request_ids(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model="claude", max_tokens=9, messages=ASK)
    assert raw.headers["request-id"] == raw.headers["x-pointsman-decision-id"]
    assert raw.headers["x-pointsman-expert"] == "claude"
    # 10 tokens at 3 and 2 at 15 dollars per million.
    assert float(raw.headers["x-pointsman-cost-usd"]) == pytest.approx(60e-6)
    assert raw.parse()._request_id == raw.headers["request-id"]


def test_models_are_listed_in_anthropics_shape(client: anthropic.Anthropic) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {"auto", "small", "claude"} <= models.keys()
    assert models["claude"].type == "model"
    assert client.models.retrieve("auto:best").id == "auto:best"
    every = list(models)
    for limit in (1, 2, len(every) - 1, len(every), 1000):
        page = client.models.list(limit=limit)
        assert [model.id for model in page.data] == every[:limit]
        assert page.has_next_page() is (limit < len(every))
        assert [model.id for model in page] == every
    back = client.models.list(limit=2, before_id=every[-1])
    assert [model.id for model in back.data] == every[-3:-1]
    # The SDK turns pages towards the beginning, each in the order of the list.
    assert sorted(model.id for model in back) == sorted(every[:-1])
