"""What the SDKs of OpenAI and Anthropic do around an answer: raw access, retries, time limits,
errors as exceptions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import anyio
import openai
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import FakeAnthropic, Message, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
Sdk = Any
ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]
SAID = "The capital is Lima."
KEYS = [
    {"name": "team", "key": "team-key-1"},
    {"name": "narrow", "key": "narrow-key-1", "experts": ["claude"], "routes": ["/v1/models*"]},
    {"name": "poor", "key": "poor-key-1", "limits": [{"requests": 1, "per": "hour"}]},
]


@pytest.fixture
def claude() -> Iterator[FakeAnthropic]:
    with fake_anthropic() as running:
        running.otherwise = Message(({"type": "text", "text": SAID},))
        yield running


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider, claude: FakeAnthropic) -> Any:
    provider.otherwise = Reply(SAID)
    card = ExpertCard("claude", prices=Prices(3, 15), wire="anthropic", params="drop")
    experts = {
        "small": remote("small", provider.url),
        "claude": AnthropicExpert(card, claude.url, "claude-x"),
    }
    return serve(
        experts, keys=KEYS, execution={"max_retries": 0, "max_wait_s": 0}, breaker={"failures": 100}
    )


def openai_sdk(url: str, key: str = "team-key-1", **options: Any) -> openai.OpenAI:
    options = {"max_retries": 0, **options}
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, **options)


def anthropic_sdk(url: str, key: str = "team-key-1", **options: Any) -> anthropic.Anthropic:
    options = {"max_retries": 0, **options}
    return anthropic.Anthropic(base_url=url, api_key=key, **options)


def ask(client: Sdk, model: str = "small", **fields: Any) -> Any:
    """One request, in the SDK's own way."""
    if isinstance(client, openai.OpenAI):
        return client.chat.completions.create(model=model, messages=ASK, **fields)
    return client.messages.create(model=model, messages=ASK, max_tokens=9, **fields)


both_sdks = pytest.mark.parametrize("sdk", [openai_sdk, anthropic_sdk], ids=["openai", "anthropic"])
both_experts = pytest.mark.parametrize("model", ["small", "claude"])


def errors_of(client: Sdk) -> Any:
    """The SDK's module, whose exceptions have the same names in both."""
    return openai if isinstance(client, openai.OpenAI) else anthropic


@both_experts
@both_sdks
@pytest.mark.parametrize(
    ("status", "name", "seen"),
    [
        (400, "BadRequestError", 400),
        (422, "BadRequestError", 400),
        # That our own key is wrong is no fault of the client's.
        (401, "InternalServerError", 502),
        (404, "InternalServerError", 502),
        (429, "RateLimitError", 429),
        (500, "InternalServerError", 502),
        (529, "InternalServerError", 502),
    ],
)
def test_refusals_of_a_provider(
    served: Any,
    provider: FakeProvider,
    claude: FakeAnthropic,
    sdk: Any,
    model: str,
    status: int,
    name: str,
    seen: int,
) -> None:
    pause = {"retry-after": "7"} if status == 429 else {}
    provider.otherwise = Reply(status=status, error={"message": "no"}, headers=pause)
    claude.otherwise = Message(status=status, headers=pause)
    with sdk(served.url) as client:
        # While it pauses it is not asked again.
        for stream in (False,) if pause else (False, True):
            with pytest.raises(getattr(errors_of(client), name)) as caught:
                list(ask(client, model, stream=stream))
            assert caught.value.status_code == seen
            assert caught.value.request_id or sdk is anthropic_sdk
            if pause:
                assert 7 <= int(caught.value.response.headers["retry-after"]) <= 60
                with pytest.raises(
                    errors_of(client).InternalServerError, match="asked for a pause"
                ):
                    ask(client, model)


@both_sdks
def test_refusals_of_our_own(served: Any, sdk: Any) -> None:
    with sdk(served.url, "nobodys-key-1") as client:
        with pytest.raises(errors_of(client).AuthenticationError):
            ask(client)
        with pytest.raises(errors_of(client).AuthenticationError):
            client.models.list()
    with sdk(served.url, "narrow-key-1") as client:
        assert "claude" in [model.id for model in client.models.list()]
        with pytest.raises(errors_of(client).PermissionDeniedError):
            ask(client, "claude")
    with sdk(served.url) as client:
        with pytest.raises(errors_of(client).NotFoundError):
            ask(client, "nobody")
        with pytest.raises(errors_of(client).NotFoundError):
            client.models.retrieve("nobody")
    with sdk(served.url, "poor-key-1") as client:
        assert ask(client)
        with pytest.raises(errors_of(client).RateLimitError) as caught:
            ask(client)
    headers = caught.value.response.headers
    assert int(headers["retry-after"]) >= 1
    assert headers["x-ratelimit-remaining-requests"] == "0"


@both_sdks
def test_what_we_do_not_have_is_a_404_in_the_sdks_words(served: Any, sdk: Any) -> None:
    with sdk(served.url) as client, pytest.raises(errors_of(client).NotFoundError) as caught:
        client.post("/v1/batches" if sdk is anthropic_sdk else "/batches", cast_to=object, body={})
    assert "there is no POST /v1/batches" in str(caught.value)


@both_experts
@both_sdks
def test_a_retry_of_the_sdk_is_a_request_of_its_own(
    served: Any, provider: FakeProvider, claude: FakeAnthropic, sdk: Any, model: str
) -> None:
    provider.script.append(Reply(status=500))
    claude.script.append(Message(status=500))
    with sdk(served.url, max_retries=1) as client:
        assert ask(client, model).model == model
    assert len(provider.bodies) + len(claude.bodies) == 2
    totals = served.totals()
    assert (totals["requests"], totals["failed"]) == (2, 1)
    assert served.verified().faults == ()


@both_sdks
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_sdk_that_loses_patience_stops_the_call(
    served: Any, provider: FakeProvider, sdk: Any, stream: bool
) -> None:
    provider.otherwise = Reply(stall_after=0)
    with (
        sdk(served.url, timeout=0.3) as client,
        pytest.raises(errors_of(client).APITimeoutError),
    ):
        ask(client, stream=stream)
    assert provider.left.wait(30)


@both_experts
def test_raw_and_streaming_access_with_openais(served: Any, model: str) -> None:
    with openai_sdk(served.url) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=ASK, stream=True
        )
        assert raw.headers["x-pointsman-expert"] == model
        pieces = [c.choices[0].delta.content or "" for c in raw.parse() if c.choices]
        assert "".join(pieces) == SAID
        with client.chat.completions.with_streaming_response.create(
            model=model, messages=ASK, stream=True
        ) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines[0].startswith("data: {")
        assert lines[-1] == "data: [DONE]"
        with client.chat.completions.with_streaming_response.create(
            model=model, messages=ASK
        ) as whole:
            assert whole.headers["x-pointsman-cost-usd"] != "unknown"
            assert whole.parse().choices[0].message.content == SAID
        with client.responses.with_streaming_response.create(model=model, input="Hi") as answer:
            assert answer.parse().output_text == SAID


@both_experts
def test_raw_and_streaming_access_with_anthropics(served: Any, model: str) -> None:
    with anthropic_sdk(served.url) as client:
        asked: Any = {"model": model, "messages": ASK, "max_tokens": 9}
        raw = client.messages.with_raw_response.create(**asked, stream=True)
        assert raw.headers["x-pointsman-expert"] == model
        kinds = [event.type for event in raw.parse()]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        with client.messages.with_streaming_response.create(**asked, stream=True) as response:
            lines = [line for line in response.iter_lines() if line]
        assert lines[0] == "event: message_start"
        with client.messages.with_streaming_response.create(**asked) as whole:
            assert whole.parse().content[0].text == SAID


@both_experts
def test_anthropics_beta_helpers(served: Any, claude: FakeAnthropic, model: str) -> None:
    betas: Any = ["context-management-2025-06-27"]
    asked: Any = {"model": model, "messages": ASK, "betas": betas}
    with anthropic_sdk(served.url) as client:
        whole = client.beta.messages.create(**asked, max_tokens=9)
        assert whole.content[0].to_dict()["text"] == SAID
        with client.beta.messages.stream(**asked, max_tokens=9) as stream:
            assert "".join(stream.text_stream) == SAID
            assert stream.get_final_message().usage.output_tokens == 2
        assert client.beta.messages.count_tokens(**asked).input_tokens > 0
    if model == "claude":
        assert claude.headers[0]["anthropic-beta"] == betas[0]


@both_experts
def test_anthropics_tool_runner(
    served: Any, provider: FakeProvider, claude: FakeAnthropic, model: str
) -> None:
    function = {"name": "degrees", "arguments": '{"city": "Lima"}'}
    calls = ({"id": "call_1", "type": "function", "function": function},)
    provider.script.append(Reply("", tool_calls=calls, finish="tool_calls"))
    use = {"type": "tool_use", "id": "call_1", "name": "degrees", "input": {"city": "Lima"}}
    claude.script.append(Message((use,), "tool_use"))
    asked: list[str] = []

    @anthropic.beta_tool
    def degrees(city: str) -> str:
        """How warm it is.

        Args:
            city: Where.
        """
        asked.append(city)
        return "21"

    with anthropic_sdk(served.url) as client:
        runner = client.beta.messages.tool_runner(
            model=model, max_tokens=9, messages=ASK, tools=[degrees]
        )
        final = runner.until_done()
    assert asked == ["Lima"]
    assert final.content[0].to_dict()["text"] == SAID


def test_async_clients_stop_what_they_leave(served: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("a b c d", stall_after=2)

    async def leave() -> str | None:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="team-key-1") as client:
            stream = await client.chat.completions.create(model="small", messages=ASK, stream=True)
            async with stream:
                async for chunk in stream:
                    if chunk.choices[0].delta.content:
                        return chunk.choices[0].delta.content
        return None

    assert anyio.run(leave) == "a"
    assert provider.left.wait(30)
