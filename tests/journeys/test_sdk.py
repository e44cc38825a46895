"""The openai SDK against our endpoint, unchanged: sync, async, streamed, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import openai
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
KEY = "team-key-1"
ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def served(
    request: pytest.FixtureRequest, serve: Serve, remote: Remote, provider: FakeProvider
) -> Any:
    provider.otherwise = Reply("The capital is Lima.")
    keys = [{"name": "team", "key": KEY}]
    return serve(
        {"small": remote("small", provider.url)}, keys=keys, server={"fast_path": request.param}
    )


@pytest.fixture
def client(served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["auto", "auto:cheap", "auto:best", "small", "router:default"])
def test_sync_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ASK)
    assert answer.choices[0].message.content == "The capital is Lima."
    assert answer.model == "small"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12


def test_sync_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="auto", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "The capital is Lima."
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


def test_the_streaming_helper_sees_the_same_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=ASK) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "The capital is Lima."
    assert final.choices[0].finish_reason == "stop"


def test_async_chat_and_stream(served: Any) -> None:
    async def run() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=KEY) as client:
            whole = await client.chat.completions.create(model="auto", messages=ASK)
            stream = await client.chat.completions.create(model="auto", messages=ASK, stream=True)
            pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]
            return whole.choices[0].message.content, "".join(pieces)

    whole, streamed = anyio.run(run)
    assert whole == streamed == "The capital is Lima."


@pytest.mark.parametrize("deployment", [None, "small"])
def test_azures_client(served: Any, deployment: str | None) -> None:
    version = "2024-10-21"
    with openai.AzureOpenAI(
        azure_endpoint=served.url, azure_deployment=deployment, api_version=version, api_key=KEY
    ) as client:
        answer = client.chat.completions.create(model="small", messages=ASK)
        assert answer.choices[0].message.content == "The capital is Lima."
        stream = client.chat.completions.create(model="small", messages=ASK, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces) == "The capital is Lima."
        said = client.responses.create(model="auto", input="Capital of Peru?", store=False)
        assert said.output_text == "The capital is Lima."
        assert "small" in [model.id for model in client.models.list()]
    with (
        openai.AzureOpenAI(azure_endpoint=served.url, api_version=version, api_key="no") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model="small", messages=ASK)


def test_wishes_go_into_extra_body(client: openai.OpenAI, served: Any) -> None:
    wishes = {"pointsman": {"policy": "best", "tags": {"team": "x"}}}
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=ASK, extra_body=wishes
    )
    decision_id = raw.headers["x-pointsman-decision-id"]
    assert raw.headers["x-pointsman-expert"] == "small"
    headers = {"authorization": f"Bearer {KEY}"}
    record = served.client.get(f"/v1/decisions/{decision_id}", headers=headers).json()
    assert record["policy"] == "best"
    assert record["request"]["tags"] == {"team": "x"}


def test_models_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"auto", "auto:cheap", "auto:balanced", "auto:best", "small"} <= set(names)
    assert client.models.retrieve("auto:best").id == "auto:best"


def test_errors_are_the_sdks_own(client: openai.OpenAI, served: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=ASK)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[])
    assert caught.value.param == "messages"
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong-key", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_broken_stream_raises_in_the_sdk(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.otherwise = Reply("a b c", cut_after=2)
    stream = client.chat.completions.create(model="auto", messages=ASK, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
