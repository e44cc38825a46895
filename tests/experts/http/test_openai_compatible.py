from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import httpx2
import pytest

from experts.base import Call, Expert
from experts.cards import ExpertCard, FewShotPrompt
from experts.errors import (
    ExpertAuthError,
    ExpertConnectionError,
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertTimeoutError,
    ExpertUnavailableError,
)
from experts.fakes.provider import FakeProvider, Reply
from experts.http.openai_compatible import OpenAICompatibleExpert
from experts.messages import ChatRequest, Completion, Event, Message, Usage, collect


def alone(
    child: Expert, request: ChatRequest, at_most_usd: float | None = None, /
) -> AsyncGenerator[Event, None]:
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
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 20},
        }
    )
    usage = answered(provider.url, ask()).usage
    assert usage == Usage(input=10, cache_read=60, cache_write=30, output=30, reasoning=20)


@pytest.mark.parametrize(
    ("completion", "total", "thought", "usage"),
    [
        (50, 60, 20, Usage(10, output=30, reasoning=20)),
        (50, 60, 70, Usage(10, output=0, reasoning=50)),
        (50, 65, 20, Usage(10, output=30, reasoning=20)),
        (1, 397, 386, Usage(10, output=1, reasoning=386)),
        (50, 80, 0, Usage(10, output=50, reasoning=20)),
    ],
    ids=["among", "more than all", "among, and something else", "beside", "in the total alone"],
)
def test_thought_is_counted_once_wherever_it_is_counted(
    provider: FakeProvider, completion: int, total: int, thought: int, usage: Usage
) -> None:
    details = {"reasoning_tokens": thought} if thought else {}
    counts = {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": total}
    provider.otherwise = Reply(usage={**counts, "completion_tokens_details": details})
    assert answered(provider.url, ask()).usage == usage


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
    assert provider.left.wait(timeout=30)


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


def scripted(
    handler: Callable[[httpx2.Request], httpx2.Response], request: ChatRequest
) -> Completion:
    """What the expert makes of answers that `handler` gives."""

    async def run() -> Completion:
        transport = httpx2.MockTransport(handler)
        expert = OpenAICompatibleExpert(ExpertCard("e"), "http://x/v1", "m", transport=transport)
        try:
            async with aclosing(expert.answer(request, Call(alone))) as events:
                return await collect(events)
        finally:
            await expert.aclose()

    return anyio.run(run)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(200, html="<h1>Sign in</h1>"),
        httpx2.Response(200, content=b""),
        httpx2.Response(204),
        httpx2.Response(302, headers={"location": "http://elsewhere/"}),
        httpx2.Response(200, json={"choices": []}),
        httpx2.Response(200, json={"error": {"message": "sorry"}}),
        httpx2.Response(
            200, content=b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
        ),
    ],
    ids=["web page", "empty", "no content", "redirect", "no choices", "error", "only done"],
)
def test_what_is_no_answer_is_never_passed_off_as_one(
    response: httpx2.Response, stream: bool
) -> None:
    with pytest.raises((ExpertProtocolError, ExpertUnavailableError)):
        scripted(lambda _request: response, ask(stream=stream))


def test_a_body_shorter_than_announced_is_an_error(provider: FakeProvider) -> None:
    provider.otherwise = Reply("a b c", cut_after=1)
    with pytest.raises(ExpertProtocolError):
        answered(provider.url, ask())


@pytest.mark.parametrize("ends", [True, False], ids=["long", "cut"])
def test_a_refusal_is_one_whatever_becomes_of_its_body(ends: bool) -> None:
    body = Chunks(*[b"x" * 1000] * 100, ends=ends) if ends else Broken(b'{"error": {')
    headers = {"retry-after": "3"}
    with pytest.raises(ExpertRateLimitedError) as caught:
        scripted(lambda _request: httpx2.Response(429, stream=body, headers=headers), ask())
    assert caught.value.retry_after_s == 3


class Chunks(httpx2.AsyncByteStream):
    """A body that never ends unless told to."""

    def __init__(self, *chunks: bytes, ends: bool = False) -> None:
        self.chunks = chunks
        self.ends = ends
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if not self.ends:
            await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closed = True


class Broken(Chunks):
    """A body that breaks off."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        raise httpx2.ReadError("reset")


FINISHED = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize("rest", [b"", b"data: [DONE]\n\n"], ids=["no done", "done"])
def test_an_answer_ends_with_its_finish_even_if_the_connection_does_not(rest: bytes) -> None:
    body = Chunks(FINISHED, rest)
    headers = {"content-type": "text/event-stream"}
    answer = scripted(
        lambda _request: httpx2.Response(200, stream=body, headers=headers), ask(stream=True)
    )
    assert answer.text == "a"
    assert body.closed


UNFINISHED = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("kind", [Chunks, Broken], ids=["goes on", "breaks off"])
def test_nothing_follows_a_done_whatever_becomes_of_the_connection(kind: type[Chunks]) -> None:
    def told(*said: bytes, **fields: Any) -> Completion:
        body = kind(*said, DONE)
        headers = {"content-type": "text/event-stream"}
        response = httpx2.Response(200, stream=body, headers=headers)
        return scripted(lambda _request: response, ask(stream=True, **fields))

    # Some servers give one choice, whatever is asked for.
    assert told(FINISHED, params={"n": 2}).text == "a"
    with pytest.raises(ExpertProtocolError, match="ended before the answer did"):
        told(UNFINISHED)


def test_more_than_the_bound_is_not_read_into_memory() -> None:
    async def run() -> None:
        body = Chunks(*[b"x" * 100] * 50)
        transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, stream=body))
        expert = OpenAICompatibleExpert(
            ExpertCard("e"), "http://x/v1", "m", transport=transport, max_answer_bytes=1000
        )
        with pytest.raises(ExpertProtocolError, match="more than 1000 bytes"):
            await collect(expert.answer(ask(), Call(alone)))
        assert body.closed

    anyio.run(run)


def test_a_head_that_does_not_come_is_a_timeout() -> None:
    async def silent(_request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async def run() -> None:
        expert = OpenAICompatibleExpert(
            ExpertCard("e"), "http://x/v1", "m", transport=httpx2.MockTransport(silent)
        )
        with pytest.raises(ExpertTimeoutError, match=r"within 0\.01 s"):
            await collect(expert.answer(ask(stream=True), Call(alone, header_s=0.01)))

    anyio.run(run)


def test_a_failed_connection_is_tried_at_another_endpoint(provider: FakeProvider) -> None:
    async def run() -> None:
        urls = ["http://127.0.0.1:9/v1", provider.url]
        expert = OpenAICompatibleExpert(ExpertCard("e"), urls, "m")
        for _ in range(4):
            call = Call(alone)
            assert (await collect(expert.answer(ask(), call))).text == "Hello there"
            assert call.lease is not None
            assert call.lease.endpoint.url == provider.url
            assert call.lease.endpoint.load == 0
        await expert.aclose()

    anyio.run(run)


def asked_of_no_socket() -> None:
    """What asyncio's sockets say, and what uvloop's do, when they are closed."""
    nothing: Any = None
    nothing.getpeername()


def of_a_closed_socket() -> None:
    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


@pytest.mark.parametrize("gone", [of_a_closed_socket, asked_of_no_socket])
def test_a_socket_that_is_gone_at_once_is_a_failed_connection(gone: Callable[[], None]) -> None:
    class Gone(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # What the client does not map: the peer's name is asked for before anything is sent.
            gone()
            raise AssertionError

    async def run() -> None:
        transport = Gone()
        expert = OpenAICompatibleExpert(
            ExpertCard("e"), "http://127.0.0.1:9/v1", "m", transport=transport
        )
        async with aclosing(expert.answer(ask(), CALL)) as events:
            await anext(events)

    with pytest.raises(ExpertConnectionError, match=r"not connected|getpeername"):
        anyio.run(run)


def test_connections_are_used_again_after_streams(provider: FakeProvider) -> None:
    async def run() -> None:
        expert = OpenAICompatibleExpert(ExpertCard("e"), provider.url, "m")
        for _ in range(3):
            await collect(expert.answer(ask(stream=True), Call(alone)))
        await expert.aclose()

    anyio.run(run)
    assert provider.connections == 1
