"""The openai SDK's Responses against our endpoint: whole, streamed, parsed, tools, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import orjson
import pytest
from pydantic import BaseModel

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.scripted import ScriptedExpert, says
from experts.messages import Delta, Event, Finish, Usage

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
KEY = "team-key-1"
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "where", "arguments": '{"of":"Lima"}'},
}
WHERE: Any = {
    "type": "function",
    "name": "where",
    "parameters": {
        "type": "object",
        "properties": {"of": {"type": "string"}},
        "required": ["of"],
        "additionalProperties": False,
    },
    "strict": True,
}
THOUGHT: list[Event] = [
    Delta(reasoning="Peru, "),
    Delta(reasoning="so Lima."),
    Delta("It is"),
    Delta(" Lima."),
    Finish("stop"),
    Usage(10, 4, 0, 3, 5),
]


class City(BaseModel):
    name: str
    country: str


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    provider.otherwise = Reply("The capital is Lima.")
    keys = [{"name": "team", "key": KEY}, {"name": "other", "key": "other-key-2"}]
    card = ExpertCard("thinker", prices=Prices(1, 2))
    small = remote("small", provider.url, tools=True, structured_output=True)
    return serve({"small": small, "thinker": ScriptedExpert(card, THOUGHT)}, keys=keys)


@pytest.fixture
def client(served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_a_whole_response(client: Any, provider: FakeProvider) -> None:
    answer = client.responses.create(
        model="small",
        input="Capital of Peru?",
        instructions="Be brief.",
        max_output_tokens=50,
        temperature=0,
        metadata={"team": "x"},
        extra_body={"top_k": 3},
    )
    assert answer.output_text == "The capital is Lima."
    assert (answer.status, answer.model, answer.store) == ("completed", "small", True)
    assert answer.metadata == {"team": "x"}
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.total_tokens) == (10, 12)
    assert provider.bodies[-1] == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Capital of Peru?"},
        ],
        "max_tokens": 50,
        "temperature": 0,
        "top_k": 3,
    }


def test_a_raw_response_says_who_answered(client: Any) -> None:
    raw = client.responses.with_raw_response.create(model="auto", input="Hi")
    assert raw.headers["x-pointsman-expert"] in ("small", "thinker")
    assert raw.parse().id == f"resp_{raw.headers['x-pointsman-decision-id']}"


def test_tokens_are_counted_beforehand(client: Any) -> None:
    found = client.responses.input_tokens.count(model="small", input="Capital of Peru?")
    assert (found.object, found.input_tokens > 0) == ("response.input_tokens", True)
    more = client.responses.input_tokens.count(input="Capital of Peru?", tools=[WHERE])
    assert more.input_tokens > found.input_tokens


def test_the_streaming_helper_sees_the_same_response(client: Any) -> None:
    whole = client.responses.create(model="small", input="Hi")
    with client.responses.stream(model="small", input="Hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.output_text == whole.output_text == "The capital is Lima."
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.total_tokens == whole.usage.total_tokens


@pytest.mark.parametrize("summary", ["auto", None])
def test_thought_is_an_item_of_its_own(client: Any, summary: Any) -> None:
    reasoning: Any = {"effort": "low", "summary": summary}
    whole = client.responses.create(model="thinker", input="Capital?", reasoning=reasoning)
    with client.responses.stream(model="thinker", input="Capital?", reasoning=reasoning) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    for answer in (whole, streamed):
        thought, message = answer.output
        assert thought.type == "reasoning"
        parts = thought.summary if summary else thought.content or []
        assert [part.text for part in parts] == ["Peru, so Lima."]
        assert message.type == "message"
        assert answer.output_text == "It is Lima."
        assert answer.usage is not None
        assert answer.usage.output_tokens_details.reasoning_tokens == 5
        assert answer.usage.input_tokens_details.cached_tokens == 4
    told = "reasoning_summary_text" if summary else "reasoning_text"
    assert kinds.count(f"response.{told}.delta") == 2


def test_a_tool_loop_over_previous_response_id(client: Any, provider: FakeProvider) -> None:
    provider.script.append(Reply("", tool_calls=(CALL,), finish="tool_calls"))
    asked = client.responses.create(model="small", input="Where is Lima?", tools=[WHERE])
    (call,) = asked.output
    assert call.type == "function_call"
    assert (call.call_id, call.name) == ("call_1", "where")
    assert orjson.loads(call.arguments) == {"of": "Lima"}
    answer = client.responses.create(
        model="small",
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": "call_1", "output": "Peru"}],
        tools=[WHERE],
    )
    assert answer.output_text == "The capital is Lima."
    assert provider.bodies[-1]["messages"] == [
        {"role": "user", "content": "Where is Lima?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "Peru", "tool_call_id": "call_1"},
    ]
    assert provider.bodies[-1]["tools"][0]["function"]["name"] == "where"


def test_streamed_calls_arrive_whole(client: Any, provider: FakeProvider) -> None:
    other = {**CALL, "id": "call_2", "function": {"name": "where", "arguments": '{"of":"Rome"}'}}
    provider.script.append(Reply("", tool_calls=(CALL, other), finish="tool_calls"))
    with client.responses.stream(model="small", input="Where?", tools=[WHERE]) as stream:
        done = [e for e in stream if e.type == "response.function_call_arguments.done"]
        final = stream.get_final_response()
    assert [orjson.loads(event.arguments)["of"] for event in done] == ["Lima", "Rome"]
    assert [item.call_id for item in final.output if item.type == "function_call"] == [
        "call_1",
        "call_2",
    ]


def test_parse_gives_back_the_type(client: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply('{"name":"Lima","country":"Peru"}')
    answer = client.responses.parse(model="small", input="Capital of Peru?", text_format=City)
    assert answer.output_parsed == City(name="Lima", country="Peru")
    wanted = provider.bodies[-1]["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["name"] == "City"
    assert wanted["json_schema"]["strict"] is True
    with client.responses.stream(model="small", input="Capital?", text_format=City) as stream:
        list(stream)
        assert stream.get_final_response().output_parsed == City(name="Lima", country="Peru")


def test_a_cut_off_answer_says_so(client: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("The capital", finish="length")
    answer = client.responses.create(model="small", input="Hi")
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    events = list(client.responses.create(model="small", input="Hi", stream=True))
    assert events[-1].type == "response.incomplete"


def test_a_broken_stream_fails_in_so_many_words_and_raises(
    client: Any, provider: FakeProvider
) -> None:
    provider.otherwise = Reply("a b c", cut_after=2)
    seen: list[Any] = []
    with pytest.raises(openai.APIError):
        seen.extend(client.responses.create(model="small", input="Hi", stream=True))
    assert seen[-1].type == "response.failed"
    assert seen[-1].response.status == "failed"
    assert seen[-1].response.error is not None
    assert "response.completed" not in {event.type for event in seen}


def test_kept_responses_are_found_listed_and_deleted(client: Any, served: Any) -> None:
    made = client.responses.create(model="small", input="Capital of Peru?")
    found = client.responses.retrieve(made.id)
    assert found.output_text == made.output_text
    assert found.id == made.id
    (item,) = client.responses.input_items.list(made.id)
    assert item.type == "message"
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="other-key-2", max_retries=0) as other,
        pytest.raises(openai.NotFoundError),
    ):
        other.responses.retrieve(made.id)
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="small", input="Go on", previous_response_id=made.id)
    assert caught.value.param == "previous_response_id"


def test_a_streamed_response_is_kept_as_it_was_streamed(client: Any) -> None:
    with client.responses.stream(model="thinker", input="Capital?") as stream:
        final = stream.get_final_response()
    kept = client.responses.retrieve(final.id)
    told = [item.to_dict() for item in final.output]
    for item in told:
        for part in item.get("content") or []:
            part.pop("parsed", None)
    assert [item.to_dict() for item in kept.output] == told
    assert [item.id for item in kept.output] == [item.id for item in final.output]
    assert kept.output_text == final.output_text


def test_what_is_not_to_be_kept_is_not(client: Any) -> None:
    made = client.responses.create(model="small", input="Hi", store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_async_create_and_stream(served: Any) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY) as client:
            whole = await client.responses.create(model="small", input="Hi")
            async with client.responses.stream(model="small", input="Hi") as stream:
                final = await stream.get_final_response()
            return whole.output_text, final.output_text

    assert anyio.run(ask) == ("The capital is Lima.", "The capital is Lima.")


def test_a_gateway_that_keeps_nothing_says_so(serve: Serve) -> None:
    usage = Usage(3, output=2)
    expert = ScriptedExpert(ExpertCard("s", prices=Prices(1, 1)), says("Good day", usage))
    served = serve({"s": expert}, responses={"store": False})
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        assert client.responses.create(model="s", input="Hi").output_text == "Good day"
        with pytest.raises(openai.BadRequestError, match=r"responses\.store is off"):
            client.responses.create(model="s", input="Hi", store=True)
        with pytest.raises(openai.BadRequestError, match=r"responses\.store is off"):
            client.responses.create(model="s", input="Hi", previous_response_id="resp_x")
