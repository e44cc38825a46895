"""Tokens of a prompt: as the expert counts them, or our estimate, and nothing is booked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import fake_anthropic
from experts.fakes.provider import FakeProvider
from experts.http.anthropic import AnthropicExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
PATH = "/v1/responses/input_tokens"
TOOL = {"type": "function", "name": "where", "parameters": {"type": "object"}}


@pytest.fixture
def served(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    return serve({"small": remote("small", provider.url)})


def count(served: Any, **body: Any) -> int:
    answer = served.client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-pointsman-expert"] == "small"
    assert answer.headers["x-pointsman-estimated"] == "true"
    found = answer.json()
    assert found.keys() == {"object", "input_tokens"}
    assert found["object"] == "response.input_tokens"
    return int(found["input_tokens"])


def test_all_that_would_be_read_is_counted(served: Any, provider: FakeProvider) -> None:
    short = count(served, model="small", input="Capital of Peru?")
    assert 0 < short < 20
    assert count(served, input="Capital of Peru?") == short
    assert count(served, model=None, input=[{"role": "user", "content": "Capital of Peru?"}]) == (
        short
    )
    assert count(served, input="Capital of Peru?", instructions="Be brief. " * 9) > short + 9
    assert count(served, input="Capital of Peru?", tools=[TOOL]) > short + 9
    assert count(served, instructions="Be brief.") > 0
    assert provider.bodies == []
    assert served.totals()["requests"] == 0


def test_what_was_said_before_is_counted_too(served: Any) -> None:
    long = "word " * 100
    made = served.client.post("/v1/responses", json={"model": "small", "input": long}).json()
    assert count(served, input="Hi", previous_response_id=made["id"]) > 100
    assert count(served, previous_response_id=made["id"]) > 100


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": 5}, "input"),
        ({"input": "Hi", "model": 5}, "model"),
        ({"input": "Hi", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "Hi", "conversation": "c"}, "conversation"),
        ({"input": "Hi", "previous_response_id": "resp_x"}, "previous_response_id"),
    ],
)
def test_a_fault_is_named_by_its_field(served: Any, fields: dict[str, Any], param: str) -> None:
    answer = served.client.post(PATH, json=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_who_can_count_is_asked(serve: Serve) -> None:
    with fake_anthropic() as claude:
        claude.counts.append(1234)
        card = ExpertCard("claude", prices=Prices(3, 15))
        served = serve({"claude": AnthropicExpert(card, claude.url, "m")})
        said = {"model": "claude", "tools": [TOOL], "instructions": "Be brief."}
        answer = served.client.post(PATH, json={**said, "input": "Hi"})
        assert claude.paths == ["/v1/messages/count_tokens"]
    assert "x-pointsman-estimated" not in answer.headers
    assert answer.json()["input_tokens"] == 1234
    assert served.totals()["requests"] == 0


def test_a_key_opens_it_by_its_path(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    keys = [
        {"name": "counts", "key": "long-enough-1", "routes": [PATH]},
        {"name": "asks", "key": "long-enough-2", "routes": ["/v1/responses"]},
    ]
    client = serve({"small": remote("small", provider.url)}, keys=keys).client
    for key, status in (("1", 200), ("2", 403), ("3", 401)):
        headers = {"api-key": f"long-enough-{key}"}
        assert client.post(PATH, json={"input": "Hi"}, headers=headers).status_code == status
