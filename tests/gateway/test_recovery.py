"""What clients get over real sockets when upstreams break, and what is on record afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from experts.base import Expert
from experts.cards import ExpertCard
from experts.fakes.provider import FakeProvider, Reply, fake_provider
from experts.http.breaker import BreakerRules
from experts.http.openai_compatible import OpenAICompatibleExpert

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
DEAD = "http://127.0.0.1:9/v1"
ANSWER = Reply("one two three four")


@pytest.fixture
def spare() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        running.otherwise = ANSWER
        yield running


def pair(serve: Serve, remote: Remote, first: Any, second: Any, **sections: Any) -> Any:
    """Two experts of which `auto` prefers the first."""
    experts = {
        "first": remote("first", first, quality_prior=0.9),
        "second": remote("second", second, quality_prior=0.2, prefill=True),
    }
    return serve(experts, routing={"epsilon": 0.0}, **sections)


def streamed(answer: Any) -> tuple[str, list[dict[str, Any]], bool]:
    """Text, chunks, and whether the stream said that it is complete."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    chunks = [orjson.loads(line) for line in lines if line != "[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(delta.get("content", "") for delta in deltas), chunks, lines[-1] == "[DONE]"


def test_a_stream_cut_in_the_middle_is_continued_by_another_expert(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply("one two three four", cut_after=2)
    spare.otherwise = Reply(" three four", usage={"prompt_tokens": 12, "completion_tokens": 3})
    served = pair(serve, remote, provider.url, spare.url)
    answer = served.ask(stream=True, stream_options={"include_usage": True})
    text, chunks, done = streamed(answer)
    assert (text.split(), done) == (["one", "two", "three", "four"], True)
    body = spare.bodies[0]
    assert body["messages"][-1] == {"role": "assistant", "content": "one two"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    usage = chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 5)
    record = served.record(answer)
    assert [a["status"] for a in record["attempts"]] == ["failed", "ok"]
    assert record["attempts"][0]["output_tokens"] > 0
    assert record["result"]["status"] == 200
    assert served.verified().faults == ()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_expert_that_breaks_off_once_is_asked_again(
    serve: Serve, remote: Remote, provider: FakeProvider, stream: bool
) -> None:
    provider.otherwise = ANSWER
    provider.script.append(Reply(ANSWER.text, cut_after=2))
    served = serve({"only": remote("only", provider.url)})
    answer = served.ask("only", stream=stream)
    text = streamed(answer)[0] if stream else answer.json()["choices"][0]["message"]["content"]
    assert text == ANSWER.text
    assert len(provider.bodies) == 2
    assert served.verified().faults == ()


def test_the_rest_of_another_answer_is_never_glued_on(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply("one two three", cut_after=2)
    spare.script.append(Reply(status=400, error={"message": "no prefill here"}))
    spare.otherwise = Reply("something else")
    served = pair(serve, remote, provider.url, spare.url)
    answer = served.ask(stream=True)
    text, chunks, done = streamed(answer)
    assert (text, done) == ("one two", False)
    assert chunks[-1]["error"]["code"] == "upstream_protocol"
    assert served.record(answer)["result"]["status"] == 502


def test_a_pause_that_a_provider_asks_for_lies_between_the_attempts(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    provider.otherwise = ANSWER
    provider.script.append(Reply(status=429, headers={"retry-after-ms": "300"}))
    served = serve({"only": remote("only", provider.url)})
    answer = served.ask("only")
    assert answer.status_code == 200
    first, second = (attempt["at"] for attempt in served.record(answer)["attempts"])
    assert second - first >= 0.3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_who_was_named_answers_after_a_failure_that_passes_though_another_could(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    status: int,
    stream: bool,
) -> None:
    provider.otherwise = ANSWER
    provider.script.append(Reply(status=status, headers={"retry-after-ms": "100"}))
    experts = {"first": remote("first", provider.url), "second": remote("second", spare.url)}
    served = serve(experts, execution={"fallbacks": {"first": ["second"]}})
    answer = served.ask("first", stream=stream)
    assert (answer.status_code, answer.headers["x-pointsman-expert"]) == (200, "first")
    assert len(provider.bodies) == 2
    assert spare.bodies == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_silent_endpoint_is_replaced_by_another_of_the_same_expert(
    serve: Serve, provider: FakeProvider, spare: FakeProvider, stream: bool
) -> None:
    provider.otherwise = Reply(stall_after=0)
    only = OpenAICompatibleExpert(
        ExpertCard("only"), [provider.url, spare.url], "m", rules=BreakerRules(failures=1)
    )
    served = serve({"only": only}, limits={"first_token_s": 0.2, "whole_s": 0.2})
    answers = [served.ask("only", stream=stream) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(spare.bodies) == 6
    assert len(provider.bodies) == 1, "its breaker heard of the timeout"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [401, 403, 404, 402])
def test_what_one_endpoint_refuses_is_asked_of_another_of_the_same_expert(
    serve: Serve,
    remote: Remote,
    provider: FakeProvider,
    spare: FakeProvider,
    status: int,
    stream: bool,
) -> None:
    provider.otherwise = Reply(status=status)
    served = serve({"only": remote("only", [provider.url, spare.url])})
    answers = [served.ask("only", stream=stream) for _ in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 12
    assert 0 < len(provider.bodies) <= 5
    spare.otherwise = Reply(status=status)
    told = served.ask("only", stream=stream)
    assert told.status_code == (429 if status == 402 else 502)
    assert served.verified().faults == ()


def test_an_expert_that_keeps_failing_is_left_alone_and_routed_around(
    serve: Serve, remote: Remote, spare: FakeProvider
) -> None:
    served = pair(
        serve, remote, DEAD, spare.url, breaker={"failures": 2, "open_s": 60, "alone_s": 0}
    )
    answers = [served.ask() for _ in range(3)]
    assert [answer.headers["x-pointsman-attempts"] for answer in answers] == ["2", "2", "1"]
    record = served.record(answers[-1])
    assert "failed too often" in record["excluded"]["first"]
    named = served.ask("first")
    assert (named.status_code, named.json()["error"]["code"]) == (503, "expert_out_of_service")
    assert int(named.headers["retry-after"]) > 50


def test_when_nobody_is_in_service_the_answer_says_when_to_come_back(
    serve: Serve, remote: Remote
) -> None:
    served = pair(serve, remote, DEAD, DEAD, breaker={"failures": 1, "open_s": 30, "alone_s": 0})
    assert served.ask().status_code == 502
    answer = served.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "expert_out_of_service")
    assert 20 <= int(answer.headers["retry-after"]) <= 30
    assert served.record(answer)["attempts"] == []


def test_an_expert_without_a_stand_in_is_back_with_the_first_request_after_it_recovers(
    serve: Serve, remote: Remote, provider: FakeProvider
) -> None:
    rules = {"failures": 1, "open_s": 60, "alone_s": 0.3}
    served = serve({"only": remote("only", provider.url)}, breaker=rules)
    provider.otherwise = Reply(status=500)
    failed = [served.ask("only") for _ in range(3)]
    assert [answer.status_code for answer in failed] == [502] * 3
    provider.otherwise = Reply("here")
    assert [served.ask("only").status_code for _ in range(2)] == [200] * 2


def test_a_stand_in_must_be_able_and_allowed_to_serve(
    serve: Serve, remote: Remote, spare: FakeProvider
) -> None:
    text = frozenset({"text"})
    experts = {
        "first": remote("first", DEAD),
        "second": remote("second", spare.url, modalities=text),
    }
    served = serve(experts, execution={"fallbacks": {"first": ["second"]}})
    assert served.ask("first").headers["x-pointsman-expert"] == "second"
    assert served.ask("first", pointsman={"experts": ["first"]}).status_code == 502
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    refused = served.client.post(
        "/v1/chat/completions",
        json={"model": "first", "messages": [{"role": "user", "content": [image]}]},
    )
    assert refused.status_code == 502


def test_one_endpoint_that_asks_for_a_pause_does_not_stop_the_others(
    serve: Serve, remote: Remote, provider: FakeProvider, spare: FakeProvider
) -> None:
    provider.otherwise = Reply(status=429, headers={"retry-after": "30"})
    served = serve({"only": remote("only", [provider.url, spare.url])})
    answers = [served.ask("only") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(provider.bodies) == 1
