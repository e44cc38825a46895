"""What one wire has no place for is said elsewhere on it, or refused; it is never lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
URL = "data:image/png;base64,AA=="


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    seeing = frozenset({"text", "image"})
    return serve({"small": remote("small", provider.url, modalities=seeing)})


@pytest.fixture
def client(served: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0)


def test_pictures_of_a_tools_output_follow_the_outputs_of_its_round(
    client: openai.OpenAI, provider: FakeProvider
) -> None:
    def call(name: str) -> Any:
        return {"type": "function_call", "call_id": name, "name": "look", "arguments": "{}"}

    shown = [
        {"type": "input_text", "text": "this:"},
        {"type": "input_image", "image_url": URL, "detail": "auto"},
    ]
    outputs: list[Any] = [
        {"type": "function_call_output", "call_id": "a", "output": shown},
        {"type": "function_call_output", "call_id": "b", "output": "nothing"},
    ]
    asked: list[Any] = [{"role": "user", "content": "Look"}, call("a"), call("b"), *outputs]
    client.responses.create(model="small", input=asked)
    _, _, first, second, last = provider.bodies[0]["messages"]
    assert (first["role"], first["tool_call_id"], first["content"]) == ("tool", "a", "this:")
    assert (second["role"], second["tool_call_id"], second["content"]) == ("tool", "b", "nothing")
    (picture,) = last["content"]
    assert last["role"] == "user"
    assert picture["image_url"]["url"] == URL


def test_what_was_said_after_a_call_is_not_said_before_it(
    client: openai.OpenAI, provider: FakeProvider
) -> None:
    call = {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"}
    asked: list[Any] = [{"role": "user", "content": "Look"}, call]
    asked += [{"role": "assistant", "content": "Never mind."}, {"role": "user", "content": "Go on"}]
    client.responses.create(model="small", input=asked)
    _, first, second, _ = provider.bodies[0]["messages"]
    assert (first["content"], len(first["tool_calls"])) == (None, 1)
    assert (second["content"], "tool_calls" in second) == ("Never mind.", False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_words_of_refusal_are_the_text_of_a_completion(
    client: openai.OpenAI, provider: FakeProvider, stream: bool
) -> None:
    pieces = [{"refusal": "I "}, {"refusal": "won't."}]
    chunks = [{"choices": [{"index": 0, "delta": each}]} for each in pieces]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    message = {"role": "assistant", "content": None, "refusal": "I won't."}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    provider.otherwise = Reply(whole=whole, chunks=(*chunks, end, "[DONE]"))
    if stream:
        answer = client.completions.create(model="small", prompt="Do", stream=True)
        text = "".join(piece.choices[0].text for piece in answer)
    else:
        text = client.completions.create(model="small", prompt="Do").choices[0].text
    assert text == "I won't."


@pytest.mark.parametrize("params", ["pass", "drop", "strict"])
def test_echo_is_put_before_an_anthropic_experts_answer_too(serve: Serve, params: Any) -> None:
    with fake_anthropic() as claude:
        card = ExpertCard("claude", params=params, prices=Prices(3, 15))
        served = serve({"claude": AnthropicExpert(card, claude.url, "m")})
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0)
        answer = client.completions.create(model="claude", prompt="Say: ", echo=True)
        assert answer.choices[0].text == "Say: Hello there"
        assert "echo" not in claude.bodies[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_chat_may_have_a_field_called_echo(
    served: Any, provider: FakeProvider, stream: bool
) -> None:
    answer = served.ask("small", echo=True, stream=stream)
    assert answer.status_code == 200, answer.text
    assert "Hello" in answer.text
    assert provider.bodies[0]["echo"] is True
