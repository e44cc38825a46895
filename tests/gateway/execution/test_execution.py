from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from experts.errors import (
    ExpertConnectionError,
    ExpertContextError,
    ExpertFilteredError,
    ExpertProtocolError,
    ExpertRateLimitedError,
)
from experts.fakes.scripted import Hold
from experts.messages import ChatRequest, Delta, Finish
from gateway.errors import ApiError, api_error
from gateway.execution.delivered import Delivered
from tests.gateway.execution.bench import (
    ANSWER,
    WHOLE,
    Bench,
    Purse,
    composed_of,
    down,
    scripted,
    status_of,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_named_expert_is_asked_again_when_its_failure_may_pass(stream: bool) -> None:
    expert = scripted("a", down("a"), [ExpertConnectionError("a", "reset")], ANSWER)
    run = await Bench(expert, explicit=True).run(stream)
    assert run.text == WHOLE
    assert run.book.attempts() == [
        ("a", "failed", "unavailable"),
        ("a", "failed", "connection"),
        ("a", "ok", None),
    ]


async def test_a_pause_that_was_asked_for_is_waited_for() -> None:
    wait = ExpertRateLimitedError("a", "slow down", status=429, retry_after_s=0.3)
    expert = scripted("a", [wait], ANSWER)
    began = time.monotonic()
    run = await Bench(expert, explicit=True).run()
    assert run.text == WHOLE
    assert 0.3 <= time.monotonic() - began < 3


async def test_a_pause_nobody_has_time_for_is_passed_on() -> None:
    wait = ExpertRateLimitedError("a", "slow down", status=429, retry_after_s=40)
    bench = Bench(scripted("a", [wait]), explicit=True)
    run = await bench.run()
    assert status_of(run) == 429
    second = await bench.run()
    assert status_of(second) == 503
    assert second.book.attempts() == []
    assert api_error(second.error or ValueError()).headers["retry-after"] == "40"


async def test_another_expert_answers_before_the_first_is_asked_again() -> None:
    first, second = scripted("a", down("a")), scripted("b", ANSWER, rank=1)
    run = await Bench(first, second).run()
    assert run.book.attempts() == [("a", "failed", "unavailable"), ("b", "ok", None)]
    assert run.execution.answered_by == "b"


async def test_with_nobody_left_every_cause_is_told() -> None:
    bench = Bench(scripted("a", down("a")), scripted("b", down("b"), rank=1))
    run = await bench.run()
    assert [cause.expert_id for cause in run.causes] == ["a", "b", "a", "b"]
    assert status_of(run) == 502


async def test_a_stand_in_that_is_configured_answers_for_a_named_expert() -> None:
    bench = Bench(scripted("a", down("a")), scripted("b", ANSWER, rank=1), explicit=True)
    bench.fallbacks = ("b",)
    assert (await bench.run()).execution.answered_by == "b"


@pytest.mark.parametrize("allowed", [False, True], ids=["by default", "configured"])
async def test_a_filter_is_routed_around_only_if_that_is_configured(allowed: bool) -> None:
    refused = scripted("a", [ExpertFilteredError("a", "no", status=400)])
    rules = {"fallback_on": ["content_filter"]} if allowed else {}
    run = await Bench(refused, scripted("b", ANSWER, rank=1), execution=rules).run()
    assert run.text == (WHOLE if allowed else "")
    assert allowed or status_of(run) == 400


async def test_a_request_too_long_goes_to_a_larger_window_only() -> None:
    long = [ExpertContextError("a", "long", status=400, code="context_length_exceeded")]
    experts = [
        scripted("a", long, context_tokens=100),
        scripted("b", ANSWER, rank=1, context_tokens=100),
        scripted("c", ANSWER, rank=2, context_tokens=200),
    ]
    run = await Bench(*experts).run()
    assert run.execution.answered_by == "c"
    run = await Bench(*experts[:2]).run()
    assert status_of(run) == 400


async def test_an_expert_out_of_service_is_not_called_and_says_when() -> None:
    expert = scripted("a", down("a"))
    bench = Bench(expert, explicit=True, breaker={"failures": 3, "open_s": 7, "alone_s": 0})
    assert status_of(await bench.run()) == 502
    calls = len(expert.calls)
    run = await bench.run()
    assert (status_of(run), len(expert.calls)) == (503, calls)
    assert api_error(run.error or ValueError()).headers["retry-after"] == "7"


async def test_one_probe_brings_an_expert_back() -> None:
    hold = Hold()
    expert = scripted("a", down("a"), [hold, *ANSWER], ANSWER)
    bench = Bench(
        expert, explicit=True, breaker={"failures": 1, "open_s": 0.05}, execution={"max_retries": 0}
    )
    assert status_of(await bench.run()) == 502
    await anyio.sleep(0.06)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await hold.reached.wait()
        assert status_of(await bench.run()) == 503, "a probe is under way"
        hold.release.set()
    assert (await bench.run()).text == WHOLE


async def test_a_client_that_leaves_during_a_probe_leaves_room_for_another() -> None:
    hold = Hold()
    expert = scripted("a", down("a"), [hold], ANSWER)
    bench = Bench(
        expert, explicit=True, breaker={"failures": 1, "open_s": 0.05}, execution={"max_retries": 0}
    )
    await bench.run()
    await anyio.sleep(0.06)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await hold.reached.wait()
        tasks.cancel_scope.cancel()
    assert (await bench.run()).text == WHOLE


async def test_retries_end_with_the_budget_of_the_process() -> None:
    expert = scripted("a", down("a"))
    rules = {"retry_ratio": 0, "retries_per_s": 0}
    run = await Bench(expert, explicit=True, execution=rules).run()
    assert run.book.attempts() == [("a", "failed", "unavailable")]


async def test_each_request_brings_its_share_of_retries() -> None:
    expert = scripted("a", down("a"), ANSWER)
    bench = Bench(expert, explicit=True, execution={"retry_ratio": 1, "retries_per_s": 0})
    while bench.traffic.retries.spend():
        pass
    assert (await bench.run()).text == WHOLE
    assert not bench.traffic.retries.spend()


async def test_a_full_expert_is_passed_over_or_refuses() -> None:
    hold = Hold()
    entries = [
        {"id": "a", "base_url": "http://127.0.0.1:9/v1", "max_concurrency": 1},
        {"id": "b", "base_url": "http://127.0.0.1:9/v1"},
    ]
    full = scripted("a", [hold, *ANSWER])
    bench = Bench(full, scripted("b", ANSWER, rank=1), experts=entries, execution={"queue": 0})
    alone = Bench(full, explicit=True, experts=entries[:1], execution={"queue": 0})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await hold.reached.wait()
        run = await bench.run()
        assert run.execution.answered_by == "b"
        assert run.book.attempts() == [("b", "ok", None)]
        assert alone.traffic.slots.try_acquire("a")
        assert status_of(await alone.run()) == 503
        hold.release.set()


async def test_every_call_is_covered_first_and_settled_afterwards() -> None:
    leaf = scripted("leaf", down("leaf"), ANSWER)
    bench = Bench(composed_of(leaf), scripted("b", ANSWER, rank=1))
    bench.reservation = purse = Purse(9)
    run = await bench.run()
    assert run.text == WHOLE
    assert run.book.attempts() == [
        ("composed", "failed", "unavailable"),
        ("leaf", "failed", "unavailable"),
        ("b", "ok", None),
    ]
    assert [request.max_tokens for request in leaf.requests] == [7]
    assert (purse.open, purse.paid) == (0, [None, 0, 22_000])


@pytest.mark.parametrize("calls", [0, 1], ids=["at once", "before the second call"])
async def test_without_money_nobody_is_asked(calls: int) -> None:
    spare = scripted("b", ANSWER, rank=1)
    bench = Bench(scripted("a", down("a")), spare)
    bench.reservation = purse = Purse(calls)
    run = await bench.run()
    assert isinstance(run.error, ApiError)
    assert run.error.code == "budget_exceeded"
    assert (spare.calls, purse.open) == ([], 0)


async def test_a_composition_that_fails_because_of_a_child_is_what_failed() -> None:
    leaf = scripted("leaf", down("leaf"))
    bench = Bench(composed_of(leaf), explicit=True, execution={"max_retries": 1})
    run = await bench.run()
    assert [cause.expert_id for cause in run.causes] == ["composed", "composed"]
    assert "leaf: down" in str(run.error)


async def test_a_composition_may_take_longer_than_one_call_to_say_its_first_word() -> None:
    slow = scripted("leaf", ANSWER)

    async def drafts(request: ChatRequest, call: Any) -> Any:
        for _ in range(3):
            async for _event in call.run(slow, request):
                await anyio.sleep(0.02)
        yield Delta("done")
        yield Finish("stop")

    composed: Any = composed_of(slow)
    composed.answer = drafts
    run = await Bench(composed, explicit=True, limits={"first_token_s": 0.1, "idle_s": 0.1}).run()
    assert run.text == "done"


async def test_calls_that_failed_elsewhere_count_and_what_was_sent_stays_sent() -> None:
    first, second = scripted("a", ANSWER), scripted("b", ANSWER, rank=1)
    sent = Delivered()
    sent.add(Delta("The capital"))
    cut = ExpertProtocolError("a", "cut")
    run = await Bench(first, second).run(failures=[cut], delivered=sent)
    assert run.text == " is Lima."
    assert run.book.attempts() == [("b", "ok", None)]
    run = await Bench(first, limits={"max_attempts": 1}).run(failures=[cut])
    assert run.causes == (cut,)


async def test_nothing_is_asked_for_an_answer_that_was_sent_whole_elsewhere() -> None:
    expert, sent = scripted("a", ANSWER), Delivered()
    for event in (Delta("Lima."), Finish("stop")):
        sent.add(event)
    run = await Bench(expert).run(failures=[ExpertProtocolError("a", "cut")], delivered=sent)
    assert (run.error, run.events, expert.calls) == (None, [], [])
