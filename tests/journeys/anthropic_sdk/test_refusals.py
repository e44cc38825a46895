"""What the anthropic SDK raises when something is refused or breaks."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from experts.fakes.anthropic import FakeAnthropic, Message
from experts.fakes.provider import FakeProvider

ASK: Any = [{"role": "user", "content": "Capital of Peru?"}]


def test_errors_are_the_sdks_own(client: anthropic.Anthropic, served: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nobody", max_tokens=9, messages=ASK)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(model="auto", max_tokens=9, messages=[])
    assert bad.value.body["type"] == "error"  # type: ignore[index]
    assert "messages" in str(bad.value)
    with (
        anthropic.Anthropic(base_url=served.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as unknown,
    ):
        stranger.messages.create(model="auto", max_tokens=9, messages=ASK)
    assert unknown.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    with pytest.raises(anthropic.NotFoundError) as no_model:
        client.models.retrieve("nobody")
    assert no_model.value.body["type"] == "error"  # type: ignore[index]


def _no_key(served: Any, client: anthropic.Anthropic) -> Any:
    return anthropic.Anthropic(base_url=served.url, api_key="wrong", max_retries=0).messages.create(
        model="small", max_tokens=9, messages=ASK
    )


BEFORE_A_DECISION: dict[str, Any] = {
    "no key": _no_key,
    "no model": lambda _, client: client.messages.create(
        model="nobody", max_tokens=9, messages=ASK
    ),
    "bad body": lambda _, client: client.messages.create(model="auto", max_tokens=9, messages=[]),
    "count": lambda _, client: client.messages.count_tokens(model="auto", messages=[]),
    "models": lambda _, client: client.models.retrieve("nobody"),
    "no route": lambda _, client: client.messages.batches.list(),
}


@pytest.mark.parametrize("case", list(BEFORE_A_DECISION))
def test_errors_before_a_decision_have_the_requests_own_id(
    client: anthropic.Anthropic, served: Any, case: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        BEFORE_A_DECISION[case](served, client)
    body: Any = caught.value.body
    assert caught.value.request_id == body["request_id"]
    assert caught.value.response.headers.get_list("request-id") == [body["request_id"]]
    assert caught.value.response.headers["x-request-id"] == body["request_id"]


def test_answers_without_a_decision_have_one_too(client: anthropic.Anthropic) -> None:
    count = client.messages.with_raw_response.count_tokens(model="small", messages=ASK)
    for answer in (count, client.models.with_raw_response.list()):
        assert answer.headers["request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("status", "error", "raised", "code"),
    [
        (529, "overloaded_error", anthropic.InternalServerError, "overloaded_error"),
        (429, "rate_limit_error", anthropic.RateLimitError, "rate_limit_error"),
        (400, "invalid_request_error", anthropic.BadRequestError, "context_length_exceeded"),
        (413, "request_too_large", anthropic.BadRequestError, "context_length_exceeded"),
        (401, "authentication_error", anthropic.InternalServerError, "authentication_error"),
    ],
)
def test_refusals_of_the_provider(
    client: anthropic.Anthropic,
    claude: FakeAnthropic,
    status: int,
    error: str,
    raised: type[anthropic.APIStatusError],
    code: str,
) -> None:
    said = {"type": error, "message": "prompt is too long: 210000 tokens > 200000 maximum"}
    claude.otherwise = Message(status=status, error=said, headers={"retry-after": "7"})
    with pytest.raises(raised) as caught:
        client.messages.create(model="claude", max_tokens=9, messages=ASK)
    body: Any = caught.value.body
    assert body["error"]["code"] == code
    assert body["request_id"] == caught.value.request_id
    assert body["request_id"] == caught.value.response.headers["x-pointsman-decision-id"]
    if status == 429:
        assert int(caught.value.response.headers["retry-after"]) >= 7


@pytest.mark.parametrize("broken", [{"cut_after": 5}, {"error_after": 5}], ids=["cut", "error"])
def test_a_broken_stream_raises_in_the_sdk(
    client: anthropic.Anthropic, claude: FakeAnthropic, broken: Any
) -> None:
    claude.otherwise = Message(
        error={"type": "overloaded_error", "message": "Overloaded"}, **broken
    )
    stream = client.messages.create(model="claude", max_tokens=9, messages=ASK, stream=True)
    with pytest.raises(anthropic.APIError) as caught:
        list(stream)
    body: Any = caught.value.body
    assert body["request_id"] == stream.response.headers["request-id"]
    assert body["request_id"] == stream.response.headers["x-pointsman-decision-id"]


def test_an_unsigned_thought_of_another_expert_is_not_sent_to_anthropic(
    client: anthropic.Anthropic, claude: FakeAnthropic, provider: FakeProvider
) -> None:
    thought: Any = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    signed: Any = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    said: Any = {"type": "text", "text": "Lima."}
    history: Any = [
        *ASK,
        {"role": "assistant", "content": [thought, said]},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": [signed, said]},
        {"role": "user", "content": "And now?"},
    ]
    client.messages.create(model="claude", max_tokens=9, messages=history)
    assert claude.bodies[-1]["messages"][1]["content"] == [said]
    assert claude.bodies[-1]["messages"][3]["content"] == [signed, said]
    client.messages.create(model="small", max_tokens=9, messages=history)
    assert provider.bodies[-1]["messages"][3] == {"role": "assistant", "content": "Lima."}


def test_a_server_of_this_wire_that_cannot_count_is_estimated(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.count_tokens(model="claude", messages=ASK)
    assert raw.headers["x-pointsman-estimated"] == "true"
    assert 1 < raw.parse().input_tokens < 20


def test_a_provider_that_fails_to_count_is_an_error(
    client: anthropic.Anthropic, claude: FakeAnthropic
) -> None:
    claude.counts.append("many")  # type: ignore[arg-type]
    with pytest.raises(anthropic.InternalServerError) as caught:
        client.messages.count_tokens(model="claude", messages=ASK)
    body: Any = caught.value.body
    assert (body["type"], body["error"]["code"]) == ("error", "upstream_protocol")
