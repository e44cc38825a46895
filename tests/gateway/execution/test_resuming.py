"""What becomes of a stream that breaks off after its client has had a part of it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from experts.errors import (
    ExpertFilteredError,
    ExpertProtocolError,
    ExpertUnavailableError,
)
from experts.fakes.scripted import Ending, Hold, says
from experts.messages import Delta, Finish, Usage
from gateway.errors import AllExpertsFailedError
from tests.gateway.execution.bench import (
    ANSWER,
    WHOLE,
    Bench,
    Run,
    cut_after,
    down,
    scripted,
    status_of,
)

pytestmark = pytest.mark.anyio


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


async def test_a_prefill_that_is_refused_is_a_call_like_any_other() -> None:
    refusal = ExpertFilteredError("b", "no assistant message at the end", status=400)
    able = scripted("b", [refusal], ANSWER, rank=1, prefill=True)
    run = await Bench(scripted("a", cut_after(2, "a")), able, limits={"max_attempts": 2}).run()
    assert len(run.book.attempts()) == 2
    assert [cause.expert_id for cause in run.causes] == ["a", "b"]


async def test_what_was_finished_is_not_asked_for_again() -> None:
    expert = scripted("a", [*says("Lima."), ExpertProtocolError("a", "no usage")])
    run = await Bench(expert, explicit=True).run()
    assert (run.error, run.text, len(expert.calls)) == (None, "Lima.", 1)


async def test_a_choice_that_has_not_begun_is_asked_for_again_when_another_one_is_finished() -> (
    None
):
    second = [Delta("Lima, of course.", 1), Finish("stop", 1)]
    broken = [*says("Lima."), ExpertProtocolError("a", "cut")]
    expert = scripted("a", broken, [*says("Another."), *second])
    run = await Bench(expert, explicit=True).run(params={"n": 2})
    assert run.error is None
    assert run.events == [*says("Lima."), *second]


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
