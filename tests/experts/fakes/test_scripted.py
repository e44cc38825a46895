"""A scripted expert plays its script and tells how each call ended."""

from __future__ import annotations

import anyio
import pytest

from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import ExpertTimeoutError
from experts.fakes.scripted import Ending, Hold, Script, ScriptedExpert, Sleep, says
from experts.messages import ChatRequest, Completion, Message, Usage, collect

REQUEST = ChatRequest((Message("user", "Hi"),))


async def no_children(*_: object) -> None:
    raise AssertionError("a scripted expert asks nobody")


CALL = Call(run=no_children)  # type: ignore[arg-type]


def scripted(*scripts: Script) -> ScriptedExpert:
    return ScriptedExpert(ExpertCard("fake"), *scripts)


def asked(expert: ScriptedExpert) -> Completion:
    async def ask() -> Completion:
        return await collect(expert.answer(REQUEST, CALL))

    return anyio.run(ask)


def test_text_comes_back_whole_with_reason_and_usage() -> None:
    answer = asked(scripted(says("two words", Usage(input=3, output=2), reason="length")))
    assert answer.text == "two words"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage == Usage(input=3, output=2)


def test_usage_that_nobody_counted_stays_unknown() -> None:
    assert asked(scripted(says("hello"))).usage is None


def test_scripts_are_played_in_turn_and_the_last_one_for_ever() -> None:
    expert = scripted(says("first"), says("then"))
    assert [asked(expert).text for _ in range(4)] == ["first", "then", "then", "then"]
    assert expert.requests == [REQUEST] * 4
    assert {call.ending for call in expert.calls} == {Ending.COMPLETE}


def test_an_exception_in_the_script_is_raised() -> None:
    expert = scripted([*says("half")[:1], ExpertTimeoutError("fake", "too slow")])
    with pytest.raises(ExpertTimeoutError, match="too slow"):
        asked(expert)
    assert expert.calls[0].ending is Ending.FAILED


def test_a_sleeping_step_lets_the_callers_deadline_pass() -> None:
    expert = scripted([Sleep(60.0), *says("late")])

    async def ask() -> None:
        with anyio.fail_after(0.01):
            await collect(expert.answer(REQUEST, CALL))

    with pytest.raises(TimeoutError):
        anyio.run(ask)
    assert expert.calls[0].ending is Ending.CLOSED


def test_a_held_answer_waits_to_be_released() -> None:
    async def ask() -> tuple[Ending | None, str]:
        hold = Hold()
        expert = scripted([hold, *says("at last")])
        answers: list[Completion] = []

        async def read() -> None:
            answers.append(await collect(expert.answer(REQUEST, CALL)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await hold.reached.wait()
            while_held = expert.calls[0].ending
            hold.release.set()
        return while_held, answers[0].text

    assert anyio.run(ask) == (None, "at last")


def test_it_tells_that_its_caller_left() -> None:
    expert = scripted(says("many words to come"))

    async def leave_after_one() -> None:
        events = expert.answer(REQUEST, CALL)
        await anext(events)
        await events.aclose()
        await expert.aclose()

    anyio.run(leave_after_one)
    assert expert.calls[0].ending is Ending.CLOSED
    assert expert.closed


def test_a_scripted_expert_without_a_script_is_refused() -> None:
    with pytest.raises(ValueError, match="'fake' needs at least one script"):
        scripted()
