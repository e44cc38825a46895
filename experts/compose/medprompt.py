"""Medprompt: examples with checked reasoning, options in several orders, and a vote.

Source: Nori et al., "Can Generalist Foundation Models Outcompete Special-Purpose Tuning? Case Study
in Medicine", 2023; `direct` is Medprompt+ of their code (promptbase), whose model says itself how
much reasoning is worth.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import (
    ChildRequest,
    Composed,
    FanOut,
    Reply,
    ask_or_fail,
    each_its_share,
    one_answer,
    said,
    used,
    why_none,
)
from experts.compose.choices import Choices, choices_in, lettered, picked, rotated
from experts.compose.grouping import EXACT, Grouping, final_part
from experts.compose.sampling import sampled
from experts.compose.shelves import Example, Shelf, with_turns
from experts.compose.vote import Ballot
from experts.messages import ChatRequest, Delta, Event, Finish, Message

_SCRATCH_PAD = "Does answering this question require a scratch-pad? Reply with yes or no."
_REASONING_COUNTS = {"yes": 2.0, "no": 0.5}


class Run(NamedTuple):
    """One of the ways in which the question is put.

    Attributes:
        request: What is asked.
        order: Which option stands under each letter; None: it has no options.
        reasons: Whether its examples show their reasoning.
    """

    request: ChatRequest
    order: tuple[int, ...] | None
    reasons: bool = True


@dataclass(frozen=True, slots=True)
class _Conclusion:
    """An example without its reasoning."""

    question: str
    text: str


class Medprompt(Composed):
    """Asks another expert the question several times, after similar ones and how they were solved.

    Lettered options stand in another order each time, and answers are put back before they are
    counted, so a liking for a letter costs no vote. As soon as answers still to come can't turn the
    vote, their calls are cancelled. Of the answers that won, that to the original order is given as
    it is; if there is none, the option itself, since the reasoning speaks of other letters.

    With `direct` runs it is Medprompt+: these see the examples without reasoning, and first of all
    the expert is asked whether the question needs a scratch-pad. If so, answers of the other runs
    count twice, if not, half.

    Args:
        card: Its card.
        inner: Who answers.
        shelf: Where examples with checked reasoning are kept; None: none are told.
        shots: Examples that are told.
        runs: How often the question is put, >= 1.
        direct: How often beside that, after examples without reasoning, >= 0.
        temperature: Where the client sets none; None leaves it to the expert.
        grouping: Which answers are the same where there are no options.
        at_once: Most calls under way at the same time; None: all.
    """

    def __init__(
        self,
        card: ExpertCard,
        inner: Expert,
        shelf: Shelf | None,
        *,
        shots: int = 5,
        runs: int = 5,
        direct: int = 0,
        temperature: float | None = None,
        grouping: Grouping = EXACT,
        at_once: int | None = None,
    ) -> None:
        super().__init__(card)
        self._inner = inner
        self._shelf = shelf
        self._shots = shots
        self._runs = runs
        self._direct = direct
        self._temperature = temperature
        self._grouping = grouping
        self._at_once = at_once

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        one_answer(self.card, request)
        question = request.question
        choices = choices_in(question) if _plain(request) else None
        shown = await self._shelf.near(question, self._shots) if self._shelf else ()
        runs = self._put(request, choices, shown)
        ballot, groups = Ballot(await self._weights(request, runs, call)), list[int]()
        asks = [ChildRequest(self._inner, run.request) for run in runs]
        async with FanOut(call, each_its_share(call, asks), self._at_once) as replies:
            async for reply in replies:
                ballot.add(reply)
                if ballot.came:
                    groups = await self._groups(ballot.came, runs, choices)
                    ballot.count(groups)
                if ballot.decided:
                    break
        call.trace.append(ballot.told())
        if not ballot.came:
            raise why_none(ballot.errors)
        for event in _given(ballot.winner, runs, choices, request):
            yield event
        for usage in used(call):
            yield usage

    def _put(
        self, request: ChatRequest, choices: Choices | None, shown: Sequence[Example]
    ) -> list[Run]:
        """The question in each of its ways, after the examples."""
        concluded = [_Conclusion(each.question, final_part(each.text).strip()) for each in shown]
        runs = []
        for run in range(self._runs + self._direct):
            reasons = run < self._runs
            order = rotated(len(choices.spans), run) if choices else None
            put = request
            if choices is not None and order is not None:
                put = _asking(request, choices.reordered(order))
            told = with_turns(put, shown if reasons else concluded)
            runs.append(Run(sampled(told, run, self._temperature), order, reasons))
        return runs

    async def _weights(
        self, request: ChatRequest, runs: Sequence[Run], call: Call
    ) -> Sequence[float]:
        """What the answer of each run counts."""
        if not self._direct:
            return [1.0] * len(runs)
        asked = ChatRequest(
            (Message("user", f"{request.question}\n\n{_SCRATCH_PAD}"),),
            max_tokens=8,
            params={"temperature": 0},
        )
        reply = await ask_or_fail(call, ChildRequest(self._inner, asked))
        found = re.search(r"\b(yes|no)\b", reply.text.casefold())
        call.trace.append({"scratch_pad": found[1] if found else None})
        counts = _REASONING_COUNTS[found[1]] if found else 1.0
        return [counts if run.reasons else 1.0 for run in runs]

    async def _groups(
        self, came: Sequence[Reply], runs: Sequence[Run], choices: Choices | None
    ) -> list[int]:
        """Which answers say the same; who names no option stands alone."""
        if choices is None:
            return await self._grouping.groups(came)
        seen: dict[object, int] = {}
        groups = []
        for reply in came:
            option = _option(reply, runs, choices)
            key: object = ("alone", reply.index) if option is None else option
            groups.append(seen.setdefault(key, len(seen)))
        return groups


def _option(reply: Reply, runs: Sequence[Run], choices: Choices) -> int | None:
    """The option that an answer means, counted as in the original order."""
    order = runs[reply.index].order or rotated(len(choices.spans), 0)
    letter = picked(reply.text, [choices.options[place] for place in order])
    return None if letter is None else order[letter]


def _given(
    winner: Reply, runs: Sequence[Run], choices: Choices | None, request: ChatRequest
) -> Sequence[Event]:
    order = runs[winner.index].order
    option = _option(winner, runs, choices) if choices else None
    if choices is None or option is None or order == rotated(len(choices.spans), 0):
        return list(said(winner, request))
    ends = [event for event in winner.events if isinstance(event, Finish)]
    return [Delta(lettered(option, choices.options)), *ends]


def _plain(request: ChatRequest) -> bool:
    """Whether what the user said last is plain text, which can be put another way."""
    users = [message for message in request.messages if message.role == "user"]
    return bool(users) and isinstance(users[-1].content, str)


def _asking(request: ChatRequest, question: str) -> ChatRequest:
    messages = list(request.messages)
    place = max(n for n, message in enumerate(messages) if message.role == "user")
    messages[place] = replace(messages[place], content=question)
    return replace(request, messages=tuple(messages))
