"""The openai SDK, unchanged, over an expert that speaks Anthropic's wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import FakeAnthropic, Message, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert
from experts.wire.anthropic import JSON_TOOL, Habits

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
THOUGHT = {"type": "thinking", "thinking": "Peru, then Lima.", "signature": "c2lnbmVk"}
USES = (
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Lima", "days": [1, 2]}},
    {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
)
USAGE = {
    "input_tokens": 7,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 20,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 30},
}

whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with fake_anthropic() as running:
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider, claude: FakeAnthropic) -> Any:
    able: Any = {
        "tools": True,
        "structured_output": True,
        "modalities": frozenset({"text", "image"}),
        "wire": "anthropic",
        "params": "drop",
    }
    cheap = ExpertCard("claude", prices=Prices(1, 1), quality_prior=0.9, **able)
    by_tool = ExpertCard("by-tool", prices=Prices(50, 50), quality_prior=0.1, **able)
    old = Habits(thinking="budget", json_by="tool")
    experts = {
        "claude": AnthropicExpert(cheap, claude.url, "claude-x"),
        "by-tool": AnthropicExpert(by_tool, claude.url, "claude-old", habits=old),
        "openai": remote("openai", provider.url, quality_prior=0.2),
    }
    return serve(experts, routing={"epsilon": 0})


@pytest.fixture
def client(served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as made:
        yield made


def said(client: openai.OpenAI, streamed: bool, **asked: Any) -> Any:
    """The answer, whole or put together by the SDK."""
    asked = {"model": "claude", "messages": ASK, **asked}
    if not streamed:
        return client.chat.completions.create(**asked)
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(stream_options=options, **asked) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


@whole_and_streamed
def test_thought_text_calls_and_usage(
    client: openai.OpenAI, claude: FakeAnthropic, streamed: bool
) -> None:
    content = (THOUGHT, {"type": "text", "text": "I look."}, *USES)
    claude.otherwise = Message(content, "tool_use", usage=USAGE)
    answer = said(client, streamed, tools=[TOOL])
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look."
    assert choice.message.reasoning_content == "Peru, then Lima."
    calls = [
        (c.id, c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls
    ]
    assert calls == [("t1", "weather", USES[0]["input"]), ("t2", "weather", {})]
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (127, 50)
    read = usage.prompt_tokens_details
    assert (read.cached_tokens, read.cache_write_tokens) == (100, 20)
    assert usage.completion_tokens_details.reasoning_tokens == 30


@whole_and_streamed
def test_a_client_that_sends_the_message_back_returns_its_thought(
    client: openai.OpenAI, claude: FakeAnthropic, provider: FakeProvider, streamed: bool
) -> None:
    hidden = {"type": "redacted_thinking", "data": "aGlkZGVu"}
    claude.otherwise = Message((THOUGHT, hidden, *USES), "tool_use")
    message = said(client, streamed, tools=[TOOL]).choices[0].message
    history: Any = [
        {"role": "system", "content": "Be brief."},
        *ASK,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "rain"}]},
        {"role": "user", "content": "So?"},
    ]
    said(client, streamed, messages=history, tools=[TOOL], parallel_tool_calls=False)
    sent = claude.bodies[-1]
    assert sent["system"] == "Be brief."
    assert sent["messages"] == [
        {"role": "user", "content": "Capital of Peru?"},
        {"role": "assistant", "content": [THOUGHT, hidden, *USES]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "rain"},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    said(client, False, model="openai", messages=history)
    assert "thinking_blocks" not in provider.bodies[-1]["messages"][2]


class Capital(BaseModel):
    city: str


@pytest.mark.parametrize("model", ["claude", "by-tool"])
def test_parse_gives_an_object(client: openai.OpenAI, claude: FakeAnthropic, model: str) -> None:
    answer = {"city": "Lima"}
    text = {"type": "text", "text": json.dumps(answer)}
    use = {"type": "tool_use", "id": "t", "name": JSON_TOOL, "input": answer}
    claude.script.append(Message((text,)) if model == "claude" else Message((use,), "tool_use"))
    parsed = client.chat.completions.parse(model=model, messages=ASK, response_format=Capital)
    assert parsed.choices[0].message.parsed == Capital(city="Lima")
    assert parsed.choices[0].finish_reason == "stop"
    body = claude.bodies[-1]
    if model == "claude":
        assert body["output_config"]["format"]["schema"]["required"] == ["city"]
        assert "tools" not in body
    else:
        assert body["tool_choice"] == {"type": "tool", "name": JSON_TOOL}
        assert body["tools"][0]["input_schema"]["required"] == ["city"]


@whole_and_streamed
def test_any_json_object(client: openai.OpenAI, claude: FakeAnthropic, streamed: bool) -> None:
    use = {"type": "tool_use", "id": "t", "name": JSON_TOOL, "input": {"a": [1, None]}}
    claude.otherwise = Message((use,), "tool_use")
    answer = said(client, streamed, response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"a": [1, None]}
    assert answer.choices[0].finish_reason == "stop"


def test_images_and_limits(client: openai.OpenAI, claude: FakeAnthropic) -> None:
    urls = ["data:image/png;base64,iVBORw0KGgo=", "https://example.org/a.png"]
    content: Any = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    turns: Any = [{"role": "user", "content": [{"type": "text", "text": "What?"}, *content]}]
    said(client, False, messages=turns, max_completion_tokens=77, stop="END", temperature=0.5)
    inline = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert claude.bodies[-1] == {
        "model": "claude-x",
        "max_tokens": 77,
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image", "source": inline},
                    {"type": "image", "source": {"type": "url", "url": urls[1]}},
                ],
            }
        ],
    }


def test_effort(client: openai.OpenAI, claude: FakeAnthropic) -> None:
    said(client, False, reasoning_effort="minimal")
    assert claude.bodies[-1]["thinking"] == {"type": "adaptive"}
    assert claude.bodies[-1]["output_config"] == {"effort": "low"}
    said(client, False, reasoning_effort="none")
    assert claude.bodies[-1]["thinking"] == {"type": "disabled"}
    said(client, False, model="by-tool", reasoning_effort="high", max_tokens=5000)
    assert claude.bodies[-1]["thinking"] == {"type": "enabled", "budget_tokens": 4999}
    said(client, False, model="by-tool", reasoning_effort="high", max_tokens=1000)
    assert "thinking" not in claude.bodies[-1]


def test_fields_without_a_word_on_this_wire_are_dropped_and_named(
    client: openai.OpenAI, claude: FakeAnthropic
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="claude", messages=ASK, seed=1, logprobs=True, extra_body={"top_k": 3, "min_p": 0.1}
    )
    assert raw.headers["x-pointsman-dropped-params"] == "logprobs,min_p,seed"
    assert claude.bodies[-1].keys() == {"model", "max_tokens", "messages", "top_k"}


def test_what_the_wire_cannot_say_goes_to_another_expert(
    client: openai.OpenAI, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("from openai")
    several = client.chat.completions.create(model="auto:best", messages=ASK, n=2)
    assert several.model == "openai"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="claude", messages=ASK, n=2)
    assert caught.value.code == "unsupported_by_expert"
    assert "one answer per request" in str(caught.value)


def test_a_prompt_too_long_is_openais_error(client: openai.OpenAI, claude: FakeAnthropic) -> None:
    said_so = {"type": "invalid_request_error", "message": "prompt is too long: 9 > 5 maximum"}
    claude.otherwise = Message(status=400, error=said_so)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="claude", messages=ASK)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("broken", [{"cut_after": 5}, {"error_after": 5}], ids=["cut", "error"])
def test_a_broken_stream_raises(client: openai.OpenAI, claude: FakeAnthropic, broken: Any) -> None:
    claude.otherwise = Message(**broken)
    with pytest.raises(openai.APIError):
        said(client, True)
