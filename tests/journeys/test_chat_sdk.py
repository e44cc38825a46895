"""What else chat completions have, through the openai SDK: n, log probabilities, tools, schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pytest
from pydantic import BaseModel

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]
TOKEN = {"token": "Lima", "logprob": -0.1, "bytes": [76], "top_logprobs": []}
NOTE = {"type": "url_citation", "url_citation": {"url": "https://x.example", "title": "x"}}
ABOUT = {"system_fingerprint": "fp_1", "service_tier": "flex"}


class City(BaseModel):
    name: str
    country: str


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def client(
    request: pytest.FixtureRequest, serve: Serve, remote: Remote, provider: FakeProvider
) -> Iterator[Any]:
    served = serve(
        {"small": remote("small", provider.url, tools=True, structured_output=True)},
        server={"fast_path": request.param},
    )
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as made:
        yield made


def call(index: int, city: str) -> dict[str, Any]:
    function = {"name": "City", "arguments": f'{{"name":"{city}","country":"Peru"}}'}
    return {"id": f"call_{index}", "type": "function", "function": function}


def chunk(index: int = 0, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    logprobs = delta.pop("logprobs", None)
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
    return {**ABOUT, "choices": [choice]}


def test_several_answers_with_all_that_belongs_to_them(client: Any, provider: FakeProvider) -> None:
    logprobs = {"content": [TOKEN], "refusal": None}
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": text,
                "refusal": None,
                "annotations": [NOTE],
                "mood": "calm",
            },
            "logprobs": logprobs,
            "finish_reason": "stop",
            "stop_reason": 7,
        }
        for index, text in enumerate(("Lima", "It is Lima"))
    ]
    chunks = [
        chunk(1, content="It is"),
        chunk(0, content="Lima", logprobs=logprobs),
        chunk(1, content=" Lima", annotations=[NOTE]),
        chunk(0, mood="calm"),
        chunk(0, "stop"),
        chunk(1, "stop"),
        "[DONE]",
    ]
    provider.otherwise = Reply(whole={**ABOUT, "choices": choices}, chunks=tuple(chunks))
    whole = client.chat.completions.create(model="small", messages=ASK, n=2, logprobs=True)
    assert [choice.message.content for choice in whole.choices] == ["Lima", "It is Lima"]
    first = whole.choices[0].to_dict()
    assert first["message"]["annotations"] == [NOTE]
    assert first["message"]["mood"] == "calm"
    assert first["message"]["refusal"] is None
    assert first["logprobs"] == logprobs
    assert first["stop_reason"] == 7
    assert (whole.system_fingerprint, whole.service_tier) == ("fp_1", "flex")
    assert whole.usage.completion_tokens > 0
    with client.chat.completions.stream(
        model="small", messages=ASK, n=2, logprobs=True, stream_options={"include_usage": True}
    ) as stream:
        last = [event.chunk for event in stream if event.type == "chunk"][-1]
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["Lima", "It is Lima"]
    assert final.choices[0].logprobs.content[0].token == "Lima"
    assert final.choices[0].message.to_dict()["mood"] == "calm"
    assert final.choices[1].message.to_dict()["annotations"][0]["type"] == "url_citation"
    # The SDK takes the tier from the first chunk only; ours is told when the answer is whole.
    assert (last.system_fingerprint, last.service_tier) == ("fp_1", "flex")
    assert final.usage.completion_tokens > 0


@pytest.mark.parametrize("wanted", [True, False])
def test_usage_comes_once_at_the_end_to_who_wants_it(client: Any, wanted: bool) -> None:
    options = {"include_usage": wanted}
    *before, last = client.chat.completions.create(
        model="small", messages=ASK, stream=True, stream_options=options
    )
    assert [piece.usage for piece in before] == [None] * len(before)
    assert all(("usage" in piece.to_dict()) is wanted for piece in before)
    assert (last.usage is not None) is wanted


def test_a_refusal_is_not_a_text(client: Any, provider: FakeProvider) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I can't"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    chunks = (chunk(refusal="I "), chunk(refusal="can't"), chunk(0, "stop"), "[DONE]")
    provider.otherwise = Reply(whole=whole, chunks=chunks)
    answer = client.chat.completions.create(model="small", messages=ASK).choices[0].message
    assert (answer.content, answer.refusal) == (None, "I can't")
    with client.chat.completions.stream(model="small", messages=ASK) as stream:
        list(stream)
        final = stream.get_final_completion().choices[0].message
    assert final.refusal == "I can't"


def test_parallel_calls_parse_whole_and_streamed(client: Any, provider: FakeProvider) -> None:
    calls = (call(0, "Lima"), call(1, "Cusco"))
    provider.otherwise = Reply("", tool_calls=calls, finish="tool_calls")
    asked: Any = {"model": "small", "messages": ASK, "tools": [openai.pydantic_function_tool(City)]}
    whole = client.chat.completions.parse(**asked).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked) as stream:
        done = [e for e in stream if e.type == "tool_calls.function.arguments.done"]
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    for found in (whole, streamed):
        assert [(each.id, each.function.parsed_arguments.name) for each in found] == [
            ("call_0", "Lima"),
            ("call_1", "Cusco"),
        ]
    assert [event.parsed_arguments.name for event in done] == ["Lima", "Cusco"]


def test_calls_in_pieces_that_repeat_themselves_arrive_once(
    client: Any, provider: FakeProvider
) -> None:
    whole = call(0, "Lima")
    arguments = whole["function"]["arguments"]
    pieces = [
        {**whole, "function": {"name": "City", "arguments": arguments[at : at + 9]}}
        for at in range(0, len(arguments), 9)
    ]
    chunks = [chunk(tool_calls=[piece]) for piece in pieces]
    provider.otherwise = Reply(chunks=(*chunks, chunk(0, "tool_calls"), "[DONE]"))
    asked: Any = {"model": "small", "messages": ASK, "tools": [openai.pydantic_function_tool(City)]}
    with client.chat.completions.stream(**asked) as stream:
        list(stream)
        (found,) = stream.get_final_completion().choices[0].message.tool_calls
    assert found.id == "call_0"
    assert found.function.name == "City"
    assert found.function.parsed_arguments == City(name="Lima", country="Peru")


def test_a_schema_is_parsed_into_its_type(client: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply('{"name":"Lima","country":"Peru"}')
    asked: Any = {"model": "auto", "messages": ASK, "response_format": City}
    assert client.chat.completions.parse(**asked).choices[0].message.parsed.name == "Lima"
    assert provider.bodies[-1]["response_format"]["json_schema"]["name"] == "City"
    with client.chat.completions.stream(**asked) as stream:
        list(stream)
        assert stream.get_final_completion().choices[0].message.parsed.country == "Peru"


def test_the_async_helper_sees_the_same(client: Any) -> None:
    async def ask() -> str | None:
        async with (
            openai.AsyncOpenAI(base_url=client.base_url, api_key="x") as own,
            own.chat.completions.stream(model="small", messages=ASK) as stream,
        ):
            final = await stream.get_final_completion()
            return final.choices[0].message.content

    assert anyio.run(ask) == "Hello there"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_body_goes_through_as_it_came_but_for_the_model(
    client: Any, provider: FakeProvider, stream: bool
) -> None:
    picture = {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low", "odd": 1}
    parts = [
        {"type": "text", "text": "What? 😀", "odd": [1]},
        {"type": "image_url", "image_url": picture},
    ]
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "x", "odd": {"a": None}},
        {"role": "user", "content": parts, "odd": True},
        {"role": "assistant", "content": None, "tool_calls": [{**call(0, "Lima"), "odd": 2}]},
        {"role": "tool", "content": "fine", "tool_call_id": "call_0", "odd": 3},
    ]
    body = {
        "messages": messages,
        "tools": [{**openai.pydantic_function_tool(City), "odd": 4}],
        "temperature": 0.5,
        "seed": 7,
        "logit_bias": {"5": -1},
        "odd_field": {"of": ["nobody", None, 1.5]},
    }
    extra = {**body, "pointsman": {"tags": {"a": "b"}}}
    answer = client.chat.completions.create(
        model="small", messages=ASK, extra_body=extra, stream=stream
    )
    if stream:
        list(answer)
    asked_stream = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert provider.bodies[-1] == {**body, "model": "m", **asked_stream}
