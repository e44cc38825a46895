from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from experts.base import Call, Expert
from experts.cards import ExpertCard, FewShotPrompt
from experts.errors import (
    ExpertAuthError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertUnavailableError,
)
from experts.fake_provider import FakeProvider, Reply
from experts.messages import ChatRequest, Completion, Event, Message, Usage, collect
from experts.openai_compatible import OpenAICompatibleExpert


def alone(child: Expert, request: ChatRequest) -> AsyncGenerator[Event, None]:
    raise AssertionError("a leaf expert asks nobody")


CALL = Call(alone)


def ask(text: str = "Hi", **fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **fields)


def answered(url: str, request: ChatRequest, card: ExpertCard | None = None) -> Completion:
    async def run() -> Completion:
        expert = OpenAICompatibleExpert(card or ExpertCard("e"), url, "m", api_key="sk-secret")
        try:
            async with aclosing(expert.answer(request, CALL)) as events:
                return await collect(events)
        finally:
            await expert.aclose()

    return anyio.run(run)


def test_streamed_and_whole_answers_are_the_same(provider: FakeProvider) -> None:
    provider.otherwise = Reply("The capital is Lima.")
    whole = answered(provider.url, ask())
    streamed = answered(provider.url, ask(stream=True))
    assert whole == streamed
    assert whole.text == "The capital is Lima."
    assert whole.usage == Usage(input=10, output=2)


def test_unknown_parameters_reach_the_provider_and_the_model_is_its_own(
    provider: FakeProvider,
) -> None:
    answered(provider.url, ask(max_tokens=7, params={"top_k": 3, "temperature": 0}))
    sent = provider.bodies[0]
    assert (sent["top_k"], sent["temperature"], sent["max_tokens"]) == (3, 0, 7)
    assert sent["model"] == "m"
    assert provider.headers[0]["authorization"] == "Bearer sk-secret"


def test_a_stream_asks_for_its_usage(provider: FakeProvider) -> None:
    answered(provider.url, ask(stream=True))
    assert provider.bodies[0]["stream_options"] == {"include_usage": True}


def test_cached_and_reasoning_tokens_are_counted_once(provider: FakeProvider) -> None:
    provider.otherwise = Reply(
        usage={
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 60},
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
    )
    usage = answered(provider.url, ask()).usage
    assert usage == Usage(input=40, cache_read=60, output=30, reasoning=20)


def test_tool_calls_survive_both_ways(provider: FakeProvider) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    provider.otherwise = Reply("", tool_calls=(call,), finish="tool_calls")
    whole = answered(provider.url, ask())
    streamed = answered(provider.url, ask(stream=True))
    assert whole.choices[0].tool_calls == streamed.choices[0].tool_calls
    assert whole.choices[0].tool_calls[0]["function"]["arguments"] == '{"a":1}'


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_refusal_is_an_error_with_its_status(provider: FakeProvider, stream: bool) -> None:
    provider.otherwise = Reply(status=500)
    with pytest.raises(ExpertUnavailableError) as caught:
        answered(provider.url, ask(stream=stream))
    assert caught.value.status == 500


def test_the_words_of_a_refused_key_are_not_repeated(provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=401, error={"message": "bad key sk-secret"})
    with pytest.raises(ExpertAuthError) as caught:
        answered(provider.url, ask())
    assert "sk-secret" not in str(caught.value)


def test_retry_after_is_passed_on(provider: FakeProvider) -> None:
    provider.otherwise = Reply(status=429, headers={"retry-after": "7"})
    with pytest.raises(ExpertRateLimitedError) as caught:
        answered(provider.url, ask())
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    "reply",
    [Reply("a b c", cut_after=2), Reply("a b c", finish=None)],
    ids=["connection cut", "no finish reason"],
)
def test_a_stream_that_ends_early_is_an_error_not_an_answer(
    provider: FakeProvider, reply: Reply
) -> None:
    provider.otherwise = reply
    with pytest.raises(ExpertProtocolError):
        answered(provider.url, ask(stream=True))


def test_nobody_listening_is_a_failed_connection() -> None:
    with pytest.raises(ExpertConnectionError):
        answered("http://127.0.0.1:9/v1", ask())


def test_closing_the_answer_closes_the_connection(provider: FakeProvider) -> None:
    provider.otherwise = Reply("a b c", stall_after=1)

    async def leave_early() -> None:
        expert = OpenAICompatibleExpert(ExpertCard("e"), provider.url, "m")
        async with aclosing(expert.answer(ask(stream=True), CALL)) as events:
            await anext(events)
        await expert.aclose()

    anyio.run(leave_early)
    assert provider.left.wait(timeout=5)


def base_card() -> ExpertCard:
    return ExpertCard("base", prompt=FewShotPrompt("Answer.", (("1+1?", "2"),)))


def test_a_base_model_continues_the_prompt_of_its_card(provider: FakeProvider) -> None:
    provider.otherwise = Reply(" Lima")
    completion = answered(provider.url, ask("Capital of Peru?", max_tokens=5), base_card())
    assert completion.text == "Lima"
    sent = provider.bodies[0]
    assert sent["prompt"] == "Answer.\n\nQ: 1+1?\nA: 2\n\nQ: Capital of Peru?\nA:"
    assert "\nQ:" in sent["stop"]
    assert "messages" not in sent


def test_earlier_turns_become_examples(provider: FakeProvider) -> None:
    turns = ("user", "assistant", "user")
    messages = tuple(Message(role, f"{role} {i}") for i, role in enumerate(turns))
    answered(provider.url, ChatRequest(messages), base_card())
    assert "Q: user 0\nA: assistant 1\n\nQ: user 2\nA:" in provider.bodies[0]["prompt"]


def test_base_models_stream_too(provider: FakeProvider) -> None:
    provider.otherwise = Reply("one two")
    assert answered(provider.url, ask(stream=True), base_card()).text == "one two"
