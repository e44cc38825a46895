"""What a call of a composition may cost of what a cap leaves: others are to be made too."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from experts.base import Call, Expert
from experts.compose.best_of import BestOf
from experts.compose.cascade import Cascade, Stage
from experts.compose.deferral.agreement import Agreement
from experts.compose.deferral.base import Deferral, Signal
from experts.compose.deferral.gates import Threshold
from experts.compose.deferral.self_check import SelfCheck
from experts.compose.judge import JudgedByExpert
from experts.compose.medprompt import Medprompt
from experts.compose.mixture import Mixture, SequentialMixture, Team
from experts.compose.panel import Panel
from experts.compose.peers import PrimaryWithPeers
from experts.compose.vote import Vote, Voter
from experts.messages import ChatRequest, Event, collect
from tests.experts.compose.asking import Actor, card, question

ONE = Actor("one", lambda request, times: str(times))
LAST = Actor("last", "1")
CARD = card(ONE, LAST)
TEAM = Team((ONE, ONE), LAST)


def judged(signal: Signal) -> Cascade:
    return Cascade(CARD, [Stage(ONE, Deferral(signal, Threshold(1.0)))], LAST)


@pytest.mark.parametrize(
    ("expert", "most"),
    [
        (Vote(CARD, [Voter(ONE, 4)]), [1 / 4] * 4),
        (Medprompt(CARD, ONE, None, runs=2), [1 / 2] * 2),
        (BestOf(CARD, [ONE] * 2, JudgedByExpert(LAST), keep=0.2), [0.4, 0.4, None]),
        (Panel(CARD, [Voter(ONE, 2)], LAST), [1 / 3, 1 / 3, None]),
        (PrimaryWithPeers(CARD, TEAM), [1 / 4, 1 / 4, None]),
        (Mixture(CARD, TEAM, layers=3), [1 / 6, 1 / 6, 1 / 4, 1 / 4, None]),
        (SequentialMixture(CARD, Team((ONE,) * 3, LAST), window=2), [1 / 5] * 3 + [None] * 2),
        (judged(Agreement(3)), [None, 1 / 4, 1 / 4, None]),
        (judged(SelfCheck(2)), [None, 1 / 4, 1 / 4, None]),
    ],
    ids=[
        *("vote", "medprompt", "best of", "panel", "peers", "mixture", "in sequence"),
        *("agreement", "self check"),
    ],
)
def test_calls_at_once_leave_something_for_those_that_follow(
    expert: Expert, most: list[float | None]
) -> None:
    """Of one dollar that is never spent."""
    told: list[float | None] = []

    async def run(
        child: Expert, request: ChatRequest, at_most_usd: float | None = None, /
    ) -> AsyncGenerator[Event, None]:
        told.append(at_most_usd)
        async with aclosing(child.answer(request, Call(run))) as events:
            async for event in events:
                yield event

    anyio.run(collect, expert.answer(question(), Call(run, room_usd=lambda: 1.0)))
    assert told == [each if each is None else pytest.approx(each) for each in most]
