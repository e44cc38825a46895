"""Who gets a kept answer, and what is said to have been saved by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider, Reply
from experts.http.openai_compatible import OpenAICompatibleExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
EXACT = {"exact": True}


@pytest.fixture
def one(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    return serve({"small": remote("small", provider.url)}, cache=EXACT)


def test_who_may_no_longer_ask_an_expert_gets_none_of_its_answers(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    experts = {"small": remote("small", provider.url), "other": remote("other", spare.url)}
    boss = {"name": "boss", "key": "boss-key-1", "role": "admin"}
    served = serve(experts, cache=EXACT, keys=[boss])

    def post(path: str, body: dict[str, Any], who: str = boss["key"]) -> Any:
        answer = served.client.post(path, json=body, headers={"authorization": f"Bearer {who}"})
        assert answer.status_code in (200, 201), answer.text
        return answer

    secret = post("/admin/keys", {"name": "ann", "experts": ["small"]}).json()["key"]
    asked = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}

    def ask() -> tuple[str, str]:
        headers = post("/v1/chat/completions", asked, secret).headers
        return headers["x-pointsman-cache"], headers["x-pointsman-expert"]

    assert [ask(), ask()] == [("miss", "small"), ("hit", "small")]
    post("/admin/keys/ann", {"experts": ["other"]})
    assert [ask(), ask()] == [("miss", "other"), ("hit", "other")]


def test_nobody_knows_what_a_kept_answer_of_an_unknown_price_saved(
    serve: Serve, provider: FakeProvider
) -> None:
    unpriced = OpenAICompatibleExpert(ExpertCard("small"), provider.url, "m")
    served = serve({"small": unpriced}, cache=EXACT)
    hit = [served.ask("small") for _ in range(2)][1]
    assert hit.headers["x-pointsman-cache"] == "hit"
    assert served.record(hit)["cache_hit"]["saved_nanousd"] is None


def test_choices_that_came_mixed_are_kept_apart(one: Any, provider: FakeProvider) -> None:
    said = [(0, "a"), (1, "x"), (0, "b"), (1, "y"), (1, "z")]
    chunks = [{"choices": [{"index": at, "delta": {"content": text}}]} for at, text in said]
    ends: list[Any] = [
        {"choices": [{"index": at, "delta": {}, "finish_reason": "stop"}]} for at in (0, 1)
    ]
    provider.otherwise = Reply(chunks=(*chunks, *ends, "[DONE]"))
    miss = one.ask("small", n=2, stream=True)
    hit = one.ask("small", n=2)
    assert [each.headers["x-pointsman-cache"] for each in (miss, hit)] == ["miss", "hit"]
    told = hit.json()["choices"]
    assert [choice["message"]["content"] for choice in told] == ["ab", "xyz"]
