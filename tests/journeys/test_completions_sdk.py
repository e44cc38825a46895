"""The openai SDK's legacy completions and embeddings against our endpoint, unchanged."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import numpy as np
import openai
import pytest

from experts.base import Expert
from experts.cards import FewShotPrompt, Prices
from experts.fakes.provider import FakeProvider, Reply

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
LEGACY = {
    "tokens": ["a", " b"],
    "token_logprobs": [None, -0.5],
    "top_logprobs": [None, {" b": -0.5}],
    "text_offset": [0, 1],
}
IN_CHAT = {
    "content": [
        {"token": "Hel", "logprob": -0.1, "bytes": None, "top_logprobs": []},
        {
            "token": "lo",
            "logprob": -0.2,
            "bytes": None,
            "top_logprobs": [{"token": "lo", "logprob": -0.2}, {"token": "p", "logprob": -2.0}],
        },
    ]
}


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    provider.otherwise = Reply(" there was a llama")
    prompt = FewShotPrompt("Answer.", (("1?", "one"),))
    return serve(
        {
            "chats": remote("chats", provider.url),
            "continues": remote("continues", provider.url, api="completions"),
            "base": remote("base", provider.url, prompt=prompt),
            "dear": remote("dear", provider.url, Prices(9, 0), api="embeddings"),
            "cheap": remote("cheap", provider.url, Prices(1, 0), api="embeddings"),
        }
    )


@pytest.fixture
def client(served: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["continues", "base"])
def test_a_prompt_is_continued_as_it_is(client: Any, provider: FakeProvider, model: str) -> None:
    answer = client.completions.create(
        model=model, prompt="Once upon a time", max_tokens=9, stop=["."], echo=False, suffix="!"
    )
    assert answer.object == "text_completion"
    assert answer.choices[0].text == " there was a llama"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 12
    assert provider.bodies[-1] == {
        "model": "m",
        "prompt": "Once upon a time",
        "max_tokens": 9,
        "stop": ["."],
        "echo": False,
        "suffix": "!",
    }


def test_a_chat_gets_the_prompt_as_a_message(client: Any, provider: FakeProvider) -> None:
    answer = client.completions.create(model="chats", prompt="Once", echo=True)
    assert answer.choices[0].text == "Once there was a llama"
    assert provider.bodies[-1] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Once"}],
    }


@pytest.mark.parametrize("model", ["chats", "continues"])
@pytest.mark.parametrize("echo", [True, False])
def test_the_stream_says_the_same(client: Any, model: str, echo: bool) -> None:
    asked: Any = {"model": model, "prompt": "Once", "echo": echo}
    whole = client.completions.create(**asked)
    chunks = list(
        client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].text
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_several_prompts_are_answered_in_their_order(
    client: Any, served: Any, provider: FakeProvider
) -> None:
    raw = client.completions.with_raw_response.create(
        model="continues", prompt=["a", "b", "c"], max_tokens=3
    )
    answer = raw.parse()
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(body["prompt"] for body in provider.bodies) == ["a", "b", "c"]
    assert answer.usage.total_tokens == 36
    assert float(raw.headers["x-pointsman-cost-usd"]) == pytest.approx(3 * 14e-6)
    decisions = raw.headers["x-pointsman-decision-id"].split(",")
    assert len(set(decisions)) == 3
    for decision in decisions:
        record = served.client.get(f"/v1/decisions/{decision}").json()
        assert record["result"]["status"] == 200


def test_answers_of_several_prompts_are_numbered_through(
    client: Any, provider: FakeProvider
) -> None:
    def twice(text: str) -> Reply:
        choices = [{"index": n, "text": f"{text}{n}", "finish_reason": "stop"} for n in (0, 1)]
        chunks = [{"choices": [choice]} for choice in choices]
        return Reply(whole={"choices": choices}, chunks=(*chunks, "[DONE]"))

    provider.otherwise = twice("x")
    asked: Any = {"model": "continues", "prompt": ["a", "b"], "n": 2}
    whole = client.completions.create(**asked)
    assert [(c.index, c.text) for c in whole.choices] == [
        (0, "x0"), (1, "x1"), (2, "x0"), (3, "x1"),
    ]  # fmt: skip
    streamed: dict[int, str] = {}
    for chunk in client.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    assert streamed == {choice.index: choice.text for choice in whole.choices}


def test_one_prompt_that_fails_fails_the_request(client: Any, provider: FakeProvider) -> None:
    provider.script.extend([Reply("a"), Reply(status=400), Reply("c")])
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="continues", prompt=["a", "b", "c"])
    provider.script.clear()
    provider.script.extend([Reply("a"), Reply(status=400), Reply("c")])
    stream = client.completions.create(model="continues", prompt=["a", "b", "c"], stream=True)
    with pytest.raises(openai.APIError):
        list(stream)


def test_tokens_go_to_who_takes_them(client: Any, provider: FakeProvider) -> None:
    answer = client.completions.create(model="auto", prompt=[1, 2, 3])
    assert answer.model in ("base", "continues")
    assert provider.bodies[-1]["prompt"] == [1, 2, 3]
    with pytest.raises(openai.BadRequestError, match="a prompt of tokens"):
        client.completions.create(model="chats", prompt=[1, 2, 3])


@pytest.mark.parametrize(
    "fields",
    [{"suffix": "end"}, {"best_of": 2}, {"echo": True, "logprobs": 1}, {"max_tokens": 0}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_chat_cannot_do_is_refused_by_name(client: Any, fields: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=next(iter(fields))):
        client.completions.create(model="chats", prompt="Once", **fields)
    assert client.completions.create(model="continues", prompt="Once", **fields).choices


def test_log_probabilities_have_the_legacy_shape(client: Any, provider: FakeProvider) -> None:
    choice = {"index": 0, "finish_reason": "stop"}
    provider.script.append(
        Reply(whole={"choices": [{**choice, "text": "a b", "logprobs": LEGACY}]})
    )
    answer = client.completions.create(model="continues", prompt="x", logprobs=1)
    assert answer.choices[0].logprobs.to_dict() == LEGACY
    message = {"role": "assistant", "content": "Hello"}
    provider.script.append(
        Reply(whole={"choices": [{**choice, "message": message, "logprobs": IN_CHAT}]})
    )
    answer = client.completions.create(model="chats", prompt="x", logprobs=2)
    assert answer.choices[0].logprobs.to_dict() == {
        "tokens": ["Hel", "lo"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [None, {"lo": -0.2, "p": -2.0}],
        "text_offset": [0, 3],
    }
    assert provider.bodies[-1]["top_logprobs"] == 2
    assert provider.bodies[-1]["logprobs"] is True


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 3]}, "prompt[1]"),
        ({"prompt": ["a"] * 257}, "prompt"),
        ({"prompt": [[1], [True]]}, "prompt[1]"),
        ({"n": 0}, "n"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": 3}, "suffix"),
        ({"api_base": "http://x"}, "api_base"),
    ],
)
def test_every_fault_is_named(served: Any, fields: dict[str, Any], param: str) -> None:
    body = {"model": "continues", "prompt": "a", **fields}
    answer = served.client.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_who_only_continues_does_not_chat(served: Any) -> None:
    refused = served.ask("continues")
    assert refused.status_code == 400
    assert "only continues prompts" in refused.json()["error"]["message"]


def vectors(*rows: list[float], packed: bool = False) -> Reply:
    """Rows as a provider sends them, the last first."""

    def written(row: list[float]) -> Any:
        return base64.b64encode(np.asarray(row, "<f4").tobytes()).decode() if packed else row

    data = [{"index": index, "embedding": written(row)} for index, row in enumerate(rows)]
    return Reply(whole={"data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}})


@pytest.mark.parametrize("packed", [True, False], ids=["base64", "numbers"])
def test_embeddings_as_the_sdk_asks_for_them(
    client: Any, served: Any, provider: FakeProvider, packed: bool
) -> None:
    provider.otherwise = vectors([1.0, 0.5], [0.0, -2.0], packed=packed)
    raw = client.embeddings.with_raw_response.create(
        model="dear", input=["a", "b"], dimensions=2, extra_body={"truncate": "END"}
    )
    answer = raw.parse()
    assert [item.embedding for item in answer.data] == [[1.0, 0.5], [0.0, -2.0]]
    assert [item.index for item in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens) == ("dear", 7)
    assert provider.bodies[-1] == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 2,
        "encoding_format": "base64",
        "truncate": "END",
    }
    record = served.client.get(f"/v1/decisions/{raw.headers['x-pointsman-decision-id']}").json()
    assert record["attempts"][0]["input_tokens"] == 7
    assert record["result"]["cost_nanousd"] == 7 * 9_000
    assert served.verified().faults == ()
    plain = client.embeddings.create(model="dear", input=["a", "b"], encoding_format="float")
    assert plain.data[1].embedding == [0.0, -2.0]


def test_auto_embeds_with_the_cheapest_and_always_the_same(
    client: Any, serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = vectors([1.0])
    assert {client.embeddings.create(model="auto", input="a").model for _ in range(5)} == {"cheap"}
    provider.script.append(Reply(status=500))
    provider.script.append(Reply(status=500))
    experts = {
        "one": remote("one", provider.url, Prices(1, 0), api="embeddings"),
        "two": remote("two", provider.url, Prices(2, 0), api="embeddings"),
    }
    execution = {"max_retries": 0, "fallbacks": {"one": ["two"]}}
    strict = serve(experts, routing={"embeddings_expert": "one"}, execution=execution)
    broken = strict.client.post("/v1/embeddings", json={"model": "auto", "input": "a"})
    assert broken.status_code == 502
    assert len([body for body in provider.bodies if "input" in body]) == 6


def test_async_embeddings_of_tokens(served: Any, provider: FakeProvider) -> None:
    provider.otherwise = vectors([1.0], [2.0])

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="x") as client:
            return await client.embeddings.create(model="cheap", input=[[1, 2], [3]])

    assert [item.embedding for item in anyio.run(ask).data] == [[1.0], [2.0]]
    assert provider.bodies[-1]["input"] == [[1, 2], [3]]


@pytest.mark.parametrize("model", ["chats", "continues"])
def test_who_makes_no_embeddings_says_so(client: Any, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model=model, input="a")


def test_who_embeds_is_never_asked_to_chat(served: Any) -> None:
    refused = served.ask("cheap")
    assert refused.status_code == 400
    assert "only makes embeddings" in refused.json()["error"]["message"]
    assert served.ask("auto").headers["x-pointsman-expert"] in ("chats", "base")


@pytest.mark.parametrize(
    "sent",
    [
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": None}]},
        {"data": [{"index": 0, "embedding": "AAA="}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": "x"},
    ],
    ids=["none", "another", "null", "odd bytes", "twice", "text"],
)
def test_vectors_that_are_none_are_an_error_and_not_an_answer(
    served: Any, provider: FakeProvider, sent: Any
) -> None:
    provider.otherwise = Reply(whole=sent)
    body = {"model": "cheap", "input": "a"}
    answer = served.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 502
    assert served.verified().faults == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [["a"]]}, "input[0]"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"stream": True}, "stream"),
    ],
)
def test_every_fault_of_embeddings_is_named(
    served: Any, fields: dict[str, Any], param: str
) -> None:
    body = {"model": "cheap", "input": "a", **fields}
    answer = served.client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
