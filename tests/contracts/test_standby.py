"""Who does not say whether it can stands by for those who do, on either path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply

Remote = Callable[..., Expert]
Serve = Callable[..., Any]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
pytestmark = [
    pytest.mark.parametrize("fast", [False, True], ids=["ordinary", "fast"]),
    pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"]),
]


def tried(served: Any, answer: httpx2.Response) -> list[str]:
    return [attempt["expert_id"] for attempt in served.record(answer)["attempts"]]


def test_one_that_does_not_say_answers_when_those_who_do_fail(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    fast: bool,
    stream: bool,
) -> None:
    provider.otherwise, spare.otherwise = Reply(status=500), Reply("well")
    experts = {
        "able": remote("able", provider.url, tools=True),
        "silent": remote("silent", spare.url, quality_prior=0.9),
        "unable": remote("unable", spare.url, tools=False),
    }
    served = serve(
        experts, server={"fast_path": fast}, execution={"max_retries": 1, "backoff_s": 0.01}
    )
    answer = served.ask("auto", tools=TOOLS, stream=stream)
    assert answer.status_code == 200
    assert "well" in answer.text
    assert tried(served, answer) == ["able", "able", "silent"]
    record = served.record(answer)
    assert record["expert_id"] == "able"
    assert record["result"]["answered_by"] == "silent"
    assert "it is asked when they fail" in record["excluded"]["silent"]
    body = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
    assert served.client.post("/v1/route", json=body).json()["fallback"] == ["silent"]
    # What it refuses is not told in place of the failure: asked again, the able one may answer.
    spare.otherwise = Reply(status=400, error={"message": "no tools here"})
    refused = served.ask("auto", tools=TOOLS, stream=stream)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_unavailable")
    assert "no tools here" in refused.json()["error"]["message"]


def test_of_those_configured_to_stand_in_they_come_last(
    serve: Serve, remote: Remote, provider: FakeProvider, fast: bool, stream: bool
) -> None:
    provider.script.extend([Reply(status=500)] * 2)
    provider.otherwise = Reply("well")
    said: dict[str, dict[str, Any]] = {
        "named": {"tools": True},
        "silent": {},
        "able": {"tools": True},
        "unable": {"tools": False},
    }
    experts = {name: remote(name, provider.url, **card) for name, card in said.items()}
    fallbacks = {"named": ["unable", "silent", "able"]}
    execution = {"max_retries": 0, "fallbacks": fallbacks}
    served = serve(experts, server={"fast_path": fast}, execution=execution)
    answer = served.ask("named", tools=TOOLS, stream=stream)
    assert answer.status_code == 200
    assert tried(served, answer) == ["named", "able", "silent"]
