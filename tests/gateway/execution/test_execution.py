from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import takewhile
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.cards import ExpertCard
from experts.errors import (
    ExpertConnectionError,
    ExpertContextError,
    ExpertFilteredError,
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertUnavailableError,
)
from experts.fakes import Ending, Hold, ScriptedExpert, Sleep, says
from experts.messages import ChatRequest, Delta, Finish, Usage
from gateway.errors import AllExpertsFailedError, ApiError, api_error
from gateway.execution.delivered import Delivered
from tests.gateway.execution.bench import Bench, Run, composed_of, scripted

pytestmark = pytest.mark.anyio
ANSWER = says("The capital is Lima.", Usage(input=10, output=6))
WHOLE = "The capital is Lima."


def down(name: str, status: int = 503) -> list[Any]:
    return [ExpertUnavailableError(name, "down", status=status)]


def status_of(run: Run) -> int:
    assert run.error is not None
    return api_error(run.error).status


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
    bench = Bench(expert, explicit=True, breaker={"failures": 3, "open_s": 7})
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


class Purse:
    """Allows calls until it is empty, and bounds their answers."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.open = 0
        self.paid: list[int | None] = []

    async def cover(self, card: ExpertCard, request: ChatRequest) -> Coin:
        if not self.calls:
            raise ApiError(429, "the budget is spent", code="budget_exceeded")
        self.calls -= 1
        self.open += 1
        return Coin(self, ChatRequest(request.messages, 7, request.stream, request.params))


class Coin:
    """One call's worth of a purse."""

    def __init__(self, purse: Purse, request: ChatRequest) -> None:
        self.request = request
        self._purse = purse

    def spent(self, cost_nanousd: int | None, usage: Usage | None) -> None:
        self._purse.open -= 1
        self._purse.paid.append(cost_nanousd)


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


def cut_after(words: int, name: str) -> list[Any]:
    return [*ANSWER[:words], ExpertProtocolError(name, "cut")]


async def test_a_broken_stream_goes_on_elsewhere_with_nothing_twice() -> None:
    bench = Bench(scripted("a", cut_after(2, "a")), scripted("b", ANSWER, rank=1))
    run = await bench.run()
    assert run.text == WHOLE
    assert run.book.attempts() == [("a", "failed", "protocol"), ("b", "ok", None)]
    assert run.booking.usage == Usage(input=10, output=6)
    results = [row.values for row in run.book.rows if "wasted" in row.values]
    assert [(row["wasted"], row["output_tokens"]) for row in results] == [(True, 3), (False, 6)]


async def test_a_broken_stream_goes_on_at_the_same_expert_if_there_is_no_other() -> None:
    expert = scripted("a", cut_after(2, "a"), cut_after(3, "a"), ANSWER)
    run = await Bench(expert, explicit=True).run()
    assert run.text == WHOLE
    assert len(expert.calls) == 3


async def test_another_answer_is_not_glued_on() -> None:
    other = scripted("b", says("It is Lima."), rank=1)
    again = scripted("a", cut_after(2, "a"), says("Lima, that is."))
    run = await Bench(again, other).run()
    assert run.text == "The capital"
    assert [cause.kind for cause in run.causes] == ["protocol", "diverged", "diverged"]
    assert status_of(run) == 502
    assert other.calls[0].ending is Ending.CLOSED


async def test_resuming_can_be_switched_off() -> None:
    spare = scripted("b", ANSWER, rank=1)
    run = await Bench(
        scripted("a", cut_after(2, "a")), spare, execution={"mid_stream": "error"}
    ).run()
    assert isinstance(run.error, AllExpertsFailedError)
    assert (run.text, spare.calls) == ("The capital", [])


async def test_an_expert_that_can_prefill_continues_the_text() -> None:
    onward = says("Lima.", Usage(input=13, output=2))
    others = scripted("b", ANSWER, rank=1)
    able = scripted("c", onward, rank=2, prefill=True)
    run = await Bench(scripted("a", [*ANSWER[:3], *down("a")]), others, able).run(max_tokens=50)
    assert run.text == "The capital isLima."
    asked = able.requests[0]
    assert asked.messages[-1].text == "The capital is"
    assert (asked.params["continue_final_message"], asked.max_tokens) == (True, 46)
    assert others.calls == []
    assert run.booking.usage == Usage(input=9, output=6, estimated=True)
    assert [event for event in run.events if isinstance(event, Usage)] == [run.booking.usage]


async def test_a_prefill_that_is_refused_is_followed_by_the_whole_request() -> None:
    refused = ExpertUnavailableError("b", "down")
    refusal = ExpertFilteredError("b", "no assistant message at the end", status=400)
    able = scripted("b", [refusal], ANSWER, [refused], rank=1, prefill=True)
    run = await Bench(scripted("a", cut_after(2, "a")), able).run()
    assert run.text == WHOLE
    assert len(able.requests[1].messages) == 1
    assert [status for _, status, _ in run.book.attempts()] == ["failed", "failed", "ok"]


async def test_what_was_finished_is_not_asked_for_again() -> None:
    expert = scripted("a", [*says("Lima."), ExpertProtocolError("a", "no usage")])
    run = await Bench(expert, explicit=True).run()
    assert (run.error, run.text, len(expert.calls)) == (None, "Lima.", 1)


@pytest.mark.parametrize(
    "rules",
    [{"hold_back_tokens": 2}, {"hold_back_s": 5}],
    ids=["pieces", "seconds"],
)
async def test_a_beginning_that_is_held_back_can_still_be_replaced(rules: dict[str, Any]) -> None:
    other = says("It is Lima.")
    run = await Bench(
        scripted("a", cut_after(2, "a")), scripted("b", other, rank=1), execution=rules
    ).run()
    assert run.text == "It is Lima."


async def test_after_the_pieces_held_back_the_stream_flows() -> None:
    hold = Hold()
    expert = scripted("a", [*ANSWER[:3], hold, *ANSWER[3:]])
    bench = Bench(expert, explicit=True, execution={"hold_back_tokens": 2})
    async with anyio.create_task_group() as tasks:
        runs: list[Run] = []

        async def run() -> None:
            runs.append(await bench.run())

        tasks.start_soon(run)
        await hold.reached.wait()
        hold.release.set()
    assert runs[0].text == WHOLE


HEDGED = {"hedge_after_s": 0.03}


async def test_the_second_expert_answers_when_the_first_is_silent() -> None:
    slow = scripted("a", [Hold(), *ANSWER])
    run = await Bench(slow, scripted("b", ANSWER, rank=1), execution=HEDGED).run()
    assert (run.text, run.execution.answered_by) == (WHOLE, "b")
    assert run.book.attempts() == [("a", "cancelled", None), ("b", "ok", None)]
    assert slow.calls[0].ending is Ending.CLOSED
    assert run.booking.cost_complete
    assert run.booking.usage == Usage(input=10, output=6)


async def test_the_first_expert_answers_if_it_is_faster_after_all() -> None:
    hold, asked = Hold(), Hold()
    first, second = scripted("a", [hold, *ANSWER]), scripted("b", [asked], rank=1)
    bench = Bench(first, second, execution=HEDGED)

    async def release() -> None:
        await asked.reached.wait()
        hold.release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        run = await bench.run()
    assert run.execution.answered_by == "a"
    assert run.book.attempts() == [("a", "ok", None), ("b", "cancelled", None)]


async def test_nobody_is_hedged_who_speaks_in_time() -> None:
    second = scripted("b", ANSWER, rank=1)
    run = await Bench(scripted("a", ANSWER), second, execution=HEDGED).run()
    assert (run.execution.answered_by, second.calls) == ("a", [])


async def test_a_hedge_that_fails_is_no_loss() -> None:
    hold, asked = Hold(), Hold()
    asked.release.set()
    second = scripted("b", [asked, *down("b")], rank=1)

    async def release() -> None:
        await asked.reached.wait()
        hold.release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        run = await Bench(scripted("a", [hold, *ANSWER]), second, execution=HEDGED).run()
    assert run.book.attempts() == [("a", "ok", None), ("b", "failed", "unavailable")]


async def test_when_both_calls_fail_a_third_expert_is_asked() -> None:
    asked = Hold()
    asked.release.set()
    first = scripted("a", [Sleep(0.1), *down("a")])
    second = scripted("b", [asked, *down("b")], rank=1)
    run = await Bench(first, second, scripted("c", ANSWER, rank=2), execution=HEDGED).run()
    assert run.execution.answered_by == "c"
    assert run.booking.attempts == 3


async def test_a_client_that_leaves_stops_both_calls() -> None:
    asked = Hold()
    first, second = scripted("a", [Hold()]), scripted("b", [asked], rank=1)
    bench = Bench(first, second, execution=HEDGED)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await asked.reached.wait()
        tasks.cancel_scope.cancel()
    assert [expert.calls[0].ending for expert in (first, second)] == [Ending.CLOSED] * 2


async def test_a_hedge_needs_a_retry_from_the_budget() -> None:
    hold, second = Hold(), scripted("b", ANSWER, rank=1)
    rules = {**HEDGED, "retry_ratio": 0, "retries_per_s": 0}
    bench = Bench(scripted("a", [hold, *ANSWER]), second, execution=rules)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run)
        await hold.reached.wait()
        await anyio.sleep(0.1)
        hold.release.set()
    assert second.calls == []


async def test_nothing_is_left_behind_whoever_fails_or_leaves() -> None:
    entries = [
        {"id": "a", "base_url": "http://127.0.0.1:9/v1", "max_concurrency": 3},
        {"id": "b", "base_url": "http://127.0.0.1:9/v1"},
    ]
    pause = [Sleep(0.005), *ANSWER]
    first = scripted("a", pause, cut_after(2, "a"), down("a"), [Sleep(0.04), *ANSWER], pause)
    bench = Bench(
        first,
        scripted("b", pause, down("b"), pause, rank=1),
        experts=entries,
        execution={**HEDGED, "queue_s": 0.05},
    )
    bench.reservation = purse = Purse(10_000)
    before, runs = asyncio.all_tasks(), list[Run]()

    async def client(number: int) -> None:
        with anyio.move_on_after(0.02 if number % 3 == 0 else 20):
            runs.append(await bench.run(stream=number % 2 == 0))

    async with anyio.create_task_group() as tasks:
        for number in range(90):
            tasks.start_soon(client, number)
    assert len(runs) >= 60
    assert all(run.text == WHOLE for run in runs if run.error is None)
    slots = bench.traffic.slots
    assert [slots.try_acquire("a") for _ in range(4)] == [True, True, True, False]
    assert (slots.waiting("a"), purse.open) == (0, 0)
    assert all(call.ending is not None for call in first.calls)
    assert asyncio.all_tasks() == before


FAULTS = st.sampled_from(["503", "cut", "429", "reset", "other words", "fine", "fine"])
CALLS = st.lists(st.tuples(FAULTS, st.integers(0, 5)), min_size=1, max_size=4)


def faulty(name: str, calls: list[tuple[str, int]], rank: int, prefill: bool) -> ScriptedExpert:
    """An expert that gives the answer, or breaks off in the given ways."""
    errors = {
        "503": ExpertUnavailableError(name, "down", status=503),
        "429": ExpertRateLimitedError(name, "slow down", status=429, retry_after_s=0.01),
        "cut": ExpertProtocolError(name, "cut"),
        "reset": ExpertConnectionError(name, "reset"),
    }
    scripts: list[Any] = []
    for fault, after in calls:
        # Who can prefill goes on with what it is given, or the card is wrong.
        if fault == "other words" and not prefill:
            scripts.append(says("Quite another answer."))
        else:
            broken = [*ANSWER[: min(after, 3)], errors[fault]] if fault in errors else ANSWER
            scripts.append(broken)
    expert = Continuing if prefill else ScriptedExpert
    return expert(ExpertCard(name, quality_prior=0.9 - 0.1 * rank, prefill=prefill), *scripts)


class Continuing(ScriptedExpert):
    """Goes on with a last assistant message: leaves out of its answer what that says."""

    async def answer(self, request: ChatRequest, call: Any) -> Any:
        said = request.messages[-1].text if request.messages[-1].role == "assistant" else ""
        async for event in super().answer(request, call):
            if not isinstance(event, Delta):
                yield event
                continue
            pairs = zip(said, event.text, strict=False)
            known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            said = said[known:]
            if event.text[known:]:
                yield replace(event, text=event.text[known:])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(CALLS, st.booleans()), min_size=1, max_size=3), st.booleans())
def test_whatever_breaks_the_client_gets_the_answer_or_an_error_after_a_part_of_it(
    pool: list[tuple[list[tuple[str, int]], bool]], stream: bool
) -> None:
    experts = [
        faulty("abc"[rank], calls, rank, prefill) for rank, (calls, prefill) in enumerate(pool)
    ]
    bench = Bench(*experts, execution={"backoff_s": 0.001})
    run: Run = anyio.run(bench.run, stream)
    answers = (WHOLE, "Quite another answer.")
    if run.error is None:
        assert run.text in answers
    else:
        assert isinstance(run.error, AllExpertsFailedError)
        assert any(answer.startswith(run.text) for answer in answers)
        assert stream or not run.text
    assert len(run.book.attempts()) <= 4
    assert all(call.ending is not None for expert in experts for call in expert.calls)
