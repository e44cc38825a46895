"""Answers given again, through the real application."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import orjson
import pytest

from experts.base import Call, Expert
from experts.cards import ExpertCard, Prices
from experts.fakes.provider import FakeProvider, Reply
from experts.messages import ChatRequest, Delta, Event, Finish

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
EXACT = {"exact": True}
TOOL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
KEYS = [{"name": name, "key": f"key-of-{name}"} for name in ("ann", "bob")]


@pytest.fixture
def one(serve: Serve, remote: Remote, provider: FakeProvider) -> Any:
    return serve({"small": remote("small", provider.url)}, cache=EXACT)


def state(answer: httpx2.Response) -> str | None:
    found: str | None = answer.headers.get("x-pointsman-cache")
    return found


def content(answer: httpx2.Response) -> tuple[str, str]:
    """Text and finish reason, streamed or not."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        choice = answer.json()["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    choices = [c for line in lines[:-1] for c in orjson.loads(line)["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, choices[-1]["finish_reason"]


def test_without_the_setting_nothing_is_kept(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)})
    assert [state(served.ask("small")) for _ in range(2)] == [None, None]
    assert len(provider.bodies) == 2


@pytest.mark.parametrize("first", [False, True], ids=["whole first", "stream first"])
@pytest.mark.parametrize("second", [False, True], ids=["whole hit", "streamed hit"])
def test_a_hit_is_the_same_answer_at_no_cost(
    one: Any, provider: FakeProvider, first: bool, second: bool
) -> None:
    miss, hit = one.ask("small", stream=first), one.ask("small", stream=second)
    assert (state(miss), state(hit)) == ("miss", "hit")
    assert content(hit) == content(miss) == ("Hello there", "stop")
    assert len(provider.bodies) == 1
    assert hit.headers["x-pointsman-cache-kind"] == "exact"
    assert int(hit.headers["age"]) >= 0
    assert hit.headers["x-pointsman-attempts"] == "0"
    assert hit.headers["x-pointsman-expert"] == "small"
    record = one.record(hit)
    assert record["router"] == "cache"
    assert record["flags"] == ["cache_exact"]
    assert record["attempts"] == []
    assert record["result"]["cost_nanousd"] == 0
    assert record["result"]["answer"] == "Hello there"
    assert record["cache_hit"]["saved_nanousd"] == 14_000
    assert record["cache_hit"]["saved_tokens"] == 12
    assert record["cache_hit"]["source_decision_id"] == miss.headers["x-pointsman-decision-id"]
    assert one.verified().faults == ()
    assert one.totals()["saved_usd"] == pytest.approx(14e-6)


def test_usage_and_cost_of_a_whole_hit(one: Any) -> None:
    miss, hit = one.ask("small"), one.ask("small")
    assert hit.json()["usage"] == miss.json()["usage"]
    assert float(hit.headers["x-pointsman-cost-usd"]) == 0


def test_tool_calls_are_given_again_whole(one: Any, provider: FakeProvider) -> None:
    provider.otherwise = Reply("", tool_calls=(TOOL,), finish="tool_calls")
    miss, hit = one.ask("small", stream=True), one.ask("small")
    assert (state(miss), state(hit)) == ("miss", "hit")
    assert hit.json()["choices"][0]["message"]["tool_calls"] == [TOOL]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply("cut off here", cut_after=2),
        Reply("filtered", finish="content_filter"),
    ],
    ids=["failed", "cut", "filtered"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_broken_or_filtered_answer_is_not_kept(
    one: Any, provider: FakeProvider, reply: Reply, stream: bool
) -> None:
    provider.otherwise = reply
    one.ask("small", stream=stream)
    provider.otherwise = Reply("better")
    again = one.ask("small")
    assert state(again) == "miss"
    assert content(again) == ("better", "stop")


def test_wishes_and_headers_rule_it(one: Any, provider: FakeProvider) -> None:
    def ask(headers: dict[str, str] | None = None, **wishes: Any) -> httpx2.Response:
        body: dict[str, Any] = {
            "model": "small",
            "messages": [{"role": "user", "content": "Hi"}],
        }
        body["pointsman"] = wishes
        answer: httpx2.Response = one.client.post(
            "/v1/chat/completions", json=body, headers=headers or {}
        )
        return answer

    assert state(ask()) == "miss"
    assert state(ask({"cache-control": "no-store"})) == "off"
    assert state(ask(cache="off")) == "off"
    assert state(ask({"x-pointsman-cache": "off"})) == "off"
    assert state(ask({"cache-control": "no-store"}, cache="use")) == "hit"
    provider.otherwise = Reply("newer")
    assert content(ask()) == ("Hello there", "stop")
    refreshed = ask({"cache-control": "no-cache"})
    assert (state(refreshed), content(refreshed)) == ("miss", ("newer", "stop"))
    assert (state(ask()), content(ask())) == ("hit", ("newer", "stop"))
    assert ask(cache="never").status_code == 400


def test_a_temperature_above_the_setting_is_asked_afresh(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve(
        {"small": remote("small", provider.url)}, cache={"exact": True, "max_temperature": 0}
    )
    assert [state(served.ask("small", temperature=0.7)) for _ in range(2)] == ["off", "off"]
    assert [state(served.ask("small", temperature=0)) for _ in range(2)] == ["miss", "hit"]
    assert [state(served.ask("small")) for _ in range(2)] == ["miss", "hit"]


def test_a_key_never_gets_what_another_was_answered(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)}, cache=EXACT, keys=KEYS)

    def ask(name: str) -> str | None:
        headers = {"authorization": f"Bearer key-of-{name}"}
        body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
        return state(served.client.post("/v1/chat/completions", json=body, headers=headers))

    assert [ask("ann"), ask("bob"), ask("ann"), ask("bob")] == ["miss", "miss", "hit", "hit"]


def test_semantic_hits_say_so_and_the_guard_holds(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    served = serve({"small": remote("small", provider.url)}, cache={"semantic": {"threshold": 0.9}})
    assert state(served.ask("small", "What is the capital of France?")) == "miss"
    near = served.ask("small", "what's the capital of France please", stream=True)
    assert (state(near), near.headers["x-pointsman-cache-kind"]) == ("hit", "semantic")
    assert 0.9 <= served.record(near)["cache_hit"]["similarity"] <= 1
    assert state(served.ask("small", "What is the capital of Spain?")) == "miss"
    assert state(served.ask("small", "What is the capital of France?", seed=1)) == "miss"
    exact = served.ask("small", "What is the capital of France?")
    assert exact.headers["x-pointsman-cache-kind"] == "exact"
    assert served.verified().faults == ()


class GatedExpert:
    """Answers "once" to its first call when the gate opens, "again" to others at once."""

    def __init__(self) -> None:
        self.card = ExpertCard("small", prices=Prices(1, 2))
        self.gate = threading.Event()
        self.calls = 0

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        self.calls += 1
        first = self.calls == 1
        if first:
            await anyio.to_thread.run_sync(self.gate.wait, abandon_on_cancel=True)
        yield Delta("once" if first else "again")
        yield Finish("stop")

    async def aclose(self) -> None:
        self.gate.set()


def waiting(served: Any, count: int) -> None:
    """Return when so many requests wait for another's answer."""
    until = time.monotonic() + 60
    while f"pointsman_cache_waiting {count}.0" not in served.client.get("/metrics").text:
        assert time.monotonic() < until


def test_many_at_once_are_one_call(serve: Serve) -> None:
    expert = GatedExpert()
    served = serve({"small": expert}, cache=EXACT)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(served.ask, "small", stream=bool(i % 2)) for i in range(8)]
        waiting(served, 7)
        expert.gate.set()
        answers = [future.result(timeout=20) for future in asked]
    assert expert.calls == 1
    assert {content(answer) for answer in answers} == {("once", "stop")}
    assert sorted(state(answer) or "" for answer in answers) == ["hit"] * 7 + ["miss"]
    assert served.verified().faults == ()


def test_those_who_wait_outlive_the_client_they_wait_for(serve: Serve) -> None:
    expert = GatedExpert()
    served = serve({"small": expert}, cache=EXACT)
    with ThreadPoolExecutor(4) as pool:
        with left_open(served.url):
            until = time.monotonic() + 60
            while expert.calls == 0:
                assert time.monotonic() < until
            asked = [pool.submit(served.ask, "small") for _ in range(4)]
            waiting(served, 4)
        answers = [future.result(timeout=20) for future in asked]
    assert {content(answer) for answer in answers} == {("again", "stop")}
    assert expert.calls == 2


def left_open(url: str) -> socket.socket:
    """A request sent by hand; closing the socket leaves it."""
    body = orjson.dumps({"model": "small", "messages": [{"role": "user", "content": "Hi"}]})
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        f"content-length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", ""))
    client = socket.create_connection(("127.0.0.1", httpx2.URL(url).port or 0))
    client.sendall(head.encode() + body)
    return client


def test_who_waited_too_long_asks_for_itself(serve: Serve) -> None:
    expert = GatedExpert()
    served = serve({"small": expert}, cache=EXACT)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.ask, "small")
        until = time.monotonic() + 60
        while expert.calls == 0:
            assert time.monotonic() < until
        assert content(served.ask("small", pointsman={"max_latency_ms": 400})) == ("again", "stop")
        expert.gate.set()
        assert content(first.result(timeout=20)) == ("once", "stop")


def test_a_failure_is_not_shared(serve: Serve, remote: Remote, provider: FakeProvider) -> None:
    provider.script.append(Reply(status=400, error={"message": "no"}))
    served = serve({"small": remote("small", provider.url)}, cache=EXACT)
    assert served.ask("small").status_code == 400
    assert state(served.ask("small")) == "miss"


def test_the_metrics_show_hits_misses_savings_and_bytes(one: Any) -> None:
    one.ask("small")
    one.ask("small")
    text = one.client.get("/metrics").text
    assert 'pointsman_cache_lookups_total{result="exact"} 1.0' in text
    assert 'pointsman_cache_lookups_total{result="miss"} 1.0' in text
    assert "pointsman_cache_saved_usd_total 1.4e-05" in text
    assert "pointsman_cache_entries 1.0" in text
