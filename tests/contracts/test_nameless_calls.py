"""A call of a tool that nobody names is no answer, whoever asks for it and however."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from experts.base import Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.anthropic import Message, fake_anthropic
from experts.fakes.provider import FakeProvider, Reply
from experts.http.anthropic import AnthropicExpert

Remote = Callable[..., Expert]
Serve = Callable[..., Any]
CALL = {"id": "c", "type": "function", "function": {"name": "", "arguments": "{}"}}
TOOL = {"type": "object", "properties": {}}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}]},
    ),
    "tools": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": TOOL}}],
        },
    ),
    "messages": (
        "/v1/messages",
        {
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 9,
            "tools": [{"name": "f", "input_schema": TOOL}],
        },
    ),
    "responses": (
        "/v1/responses",
        {"input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": TOOL}]},
    ),
}
every_front = pytest.mark.parametrize("front", ASKED)
every_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
every_path = pytest.mark.parametrize("fast", [False, True], ids=["ordinary", "fast"])


def asked(served: Any, model: str, front: str, *, stream: bool) -> httpx2.Response:
    path, body = ASKED[front]
    answer: httpx2.Response = served.client.post(
        path, json={"model": model, "stream": stream, **body}
    )
    return answer


@every_front
@every_way
@every_path
def test_it_is_an_error_or_another_expert_answers(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    front: str,
    stream: bool,
    fast: bool,
) -> None:
    provider.otherwise = Reply("", tool_calls=(CALL,))
    spare.otherwise = Reply("all is well")
    experts = {name: remote(name, provider.url) for name in ("alone", "first")}
    experts["second"] = remote("second", spare.url)
    execution = {"max_retries": 0, "fallbacks": {"first": ["second"]}}
    served = serve(experts, server={"fast_path": fast}, execution=execution)
    refused(asked(served, "alone", front, stream=stream))
    answer = asked(served, "first", front, stream=stream)
    assert answer.status_code == 200
    assert "all" in answer.text
    assert "well" in answer.text
    assert '"c"' not in answer.text


@every_front
@every_way
def test_the_same_of_a_provider_of_anthropics_wire(serve: Serve, front: str, stream: bool) -> None:
    use = {"type": "tool_use", "id": "c", "name": "", "input": {}}
    with fake_anthropic() as claude:
        claude.otherwise = Message((use,), "tool_use")
        expert = AnthropicExpert(ExpertCard("alone", prices=Prices(1.0, 2.0)), claude.url, "m")
        served = serve({"alone": expert}, execution={"max_retries": 0})
        refused(asked(served, "alone", front, stream=stream))


def refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["code"] == "upstream_protocol"
    assert "without saying which" in error["message"]


@every_front
@every_path
def test_a_call_is_told_from_its_name_on(
    serve: Serve, remote: Remote, provider: FakeProvider, front: str, fast: bool
) -> None:
    """Some providers say the id first and the name later; who reads a call begins with both."""
    pieces = [
        {"index": 0},
        {"index": 0, "id": "c", "type": "function", "function": {"arguments": '{"a'}},
        {"index": 0, "function": {"name": "f", "arguments": '":'}},
        {"index": 0, "function": {"arguments": "1}"}},
    ]
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"tool_calls": [piece]} for piece in pieces]
    chunks: list[Any] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    provider.otherwise = Reply(chunks=(*chunks, "[DONE]"))
    served = serve({"late": remote("late", provider.url)}, server={"fast_path": fast})
    answer = asked(served, "late", front, stream=True)
    assert '"c"' in answer.text
    assert '"f"' in answer.text
    assert '"name":""' not in answer.text
    told = answer.text.replace('\\"', "'")
    assert "{'a':" in told
    assert "1}" in told
