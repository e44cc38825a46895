"""Faults in any order, many at once: the answer or an error, and nothing is left behind."""

from __future__ import annotations

import asyncio
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
    ExpertProtocolError,
    ExpertRateLimitedError,
    ExpertUnavailableError,
)
from experts.fakes.scripted import ScriptedExpert, Sleep, says
from experts.messages import ChatRequest, Delta
from gateway.errors import AllExpertsFailedError
from tests.gateway.execution.bench import (
    ANSWER,
    WHOLE,
    Bench,
    Purse,
    Run,
    cut_after,
    down,
    scripted,
)

pytestmark = pytest.mark.anyio
HEDGED = {"hedge_after_s": 0.03}


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
