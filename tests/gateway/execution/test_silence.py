"""How long a silent expert is waited for while another one could be asked."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from experts.fakes.scripted import Hold, Sleep
from experts.messages import Delta, Event, Finish
from gateway.execution.silence import Silence
from gateway.settings.limits import LimitSettings
from tests.gateway.execution.bench import Bench, scripted

LONG = {"header_s": 60, "first_token_s": 60, "idle_s": 60, "whole_s": 60}
SHORT = {**LONG, "failover_s": 0.05, "failover_whole_s": 0.05}
pytestmark = pytest.mark.anyio
ANSWER: list[Event] = [Delta("It is"), Delta(" Lima."), Finish("stop")]


def limits(**seconds: float) -> LimitSettings:
    return LimitSettings(**seconds)


def test_experts_that_nobody_knows_get_the_limits() -> None:
    silence = Silence(limits(failover_s=7, failover_whole_s=21))
    assert silence.patience_s("a", stream=True) == silence.between_s == 7
    assert silence.patience_s("a", stream=False) == 21


def test_by_default_somebody_else_can_answer_before_a_client_has_waited_a_quarter_minute() -> None:
    assert Silence(limits()).patience_s("a", stream=True) <= 12


def test_an_expert_that_is_known_to_be_slow_gets_more() -> None:
    silence = Silence(limits(failover_s=7, failover_whole_s=21))
    silence.ended("a", 20, stream=False)
    assert silence.patience_s("a", stream=False) == 60
    assert silence.patience_s("a", stream=True) == 7
    assert silence.patience_s("b", stream=False) == 21


def test_what_was_slow_once_is_forgotten_in_time() -> None:
    silence = Silence(limits(failover_s=7))
    silence.ended("a", 20, stream=True)
    silence.ended("a", 1, stream=True)
    assert 21 < silence.patience_s("a", stream=True) < 60
    for _ in range(60):
        silence.ended("a", 1, stream=True)
    assert silence.patience_s("a", stream=True) == 7


def test_other_limits_do_not_make_it_forget() -> None:
    silence = Silence(limits(failover_s=7))
    silence.ended("a", 20, stream=True)
    assert Silence(limits(failover_s=9), silence).patience_s("a", stream=True) == 60


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("said", [0, 1], ids=["at the beginning", "in the middle"])
async def test_silence_is_cut_short_if_another_expert_could_answer(said: int, stream: bool) -> None:
    silent = scripted("a", [*ANSWER[:said], Hold()])
    run = await Bench(silent, scripted("b", ANSWER, rank=1), limits=SHORT).run(stream)
    assert (run.error, run.text) == (None, "It is Lima.")
    assert run.book.attempts() == [("a", "failed", "timeout"), ("b", "ok", None)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_nobody_is_given_up_when_there_is_nobody_else(stream: bool) -> None:
    run = await slowly_answered(stream, explicit=True)
    assert (run.error, run.text) == (None, "It is Lima.")


async def test_a_stream_that_could_not_be_resumed_is_waited_for() -> None:
    other = scripted("b", ANSWER, rank=1)
    run = await slowly_answered(True, other, first=1, execution={"mid_stream": "error"})
    assert (run.error, run.text, len(other.calls)) == (None, "It is Lima.", 0)


async def test_an_expert_that_is_only_slow_is_found_out_by_a_probe() -> None:
    slow = scripted("a", [Sleep(0.15), *ANSWER])
    breaker = {"failures": 2, "open_s": 0.01}
    bench = Bench(slow, scripted("b", ANSWER, rank=1), limits=SHORT, breaker=breaker)
    answered_by = [(await bench.run()).execution.answered_by for _ in range(2)]
    await anyio.sleep(0.02)
    answered_by += [(await bench.run()).execution.answered_by for _ in range(2)]
    assert answered_by == ["b", "b", "a", "a"]


async def slowly_answered(stream: bool, *others: Any, first: int = 0, **settings: Any) -> Any:
    """An answer that comes after a silence which is longer than `failover_s`."""
    slow = scripted("a", [*ANSWER[:first], Sleep(0.15), *ANSWER[first:]])
    return await Bench(slow, *others, limits=SHORT, **settings).run(stream)
