"""Cascade routing: after each answer, think again who is worth asking next, or stop.

Source: J. Dekoninck, M. Baader, M. Vechev, "A Unified Approach to Routing and Cascading for LLMs",
2025.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from experts.base import Call, Expert
from experts.cards import ExpertCard
from experts.compose.base import ChildRequest, Composed, Reply, ask_or_fail, said, used, why_none
from experts.messages import ChatRequest, Event, Json


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to do next.

    Attributes:
        ask: Index of the child to ask; None: stop.
        best: Index of the child whose answer is the one to give, of those that answered; None
            while none has.
        propensity: The probability that this step had, in (0, 1].
        why: What spoke for it, for the trace.
        reply: A better answer than that of `best`, which came up as that was judged; None: none.
    """

    ask: int | None
    best: int | None = None
    propensity: float = 1.0
    why: Json = field(default_factory=dict)
    reply: Reply | None = None


class Steps(Protocol):
    """The steps of one request."""

    async def next(self, reply: Reply | None) -> NextStep:
        """The next step.

        Args:
            reply: What the child asked last has said, or why it failed; None at first.
        """
        ...


class StepChooser(Protocol):
    """Decides step by step who takes part, from the request and the answers so far."""

    def asks(self, request: ChatRequest) -> ChatRequest:
        """`request` as children must be asked for their answers to be judged."""
        ...

    def begin(self, request: ChatRequest, children: Sequence[Expert], call: Call) -> Steps:
        """The steps of one request.

        Args:
            request: What the client asks.
            children: Everyone who can be asked; a reply's `index` is its child's place here.
            call: The composition's own: what a cap leaves, and further calls.
        """
        ...


class Routed(Composed):
    """Asks whom the chooser names, one after the other, and gives the answer it likes best.

    Nothing is streamed before the chooser stops: what an answer is worth is told by the others.

    Args:
        card: Its card.
        children: Everyone who can be asked.
        chooser: Who says what to do next.
        most_calls: After so many children it stops, >= 1.
    """

    def __init__(
        self, card: ExpertCard, children: Sequence[Expert], chooser: StepChooser, most_calls: int
    ) -> None:
        super().__init__(card)
        self._children = tuple(children)
        self._chooser = chooser
        self._most_calls = most_calls

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        asking = self._chooser.asks(request)
        steps = self._chooser.begin(request, self._children, call)
        replies: dict[int, Reply] = {}
        step = await steps.next(None)
        while (index := self._whom(step, replies)) is not None:
            call.trace.append(self._told(step))
            child = ChildRequest(self._children[index], asking)
            replies[index] = await ask_or_fail(call, child, index)
            step = await steps.next(replies[index])
        call.trace.append(self._told(step))
        answered = [reply for reply in replies.values() if reply.error is None]
        if not answered:
            raise why_none([reply.error for reply in replies.values() if reply.error])
        best = None if step.best is None else replies.get(step.best)
        given = answered[-1] if best is None or best.error else step.reply or best
        for event in (*said(given, request), *used(call)):
            yield event

    def _whom(self, step: NextStep, replies: Mapping[int, Reply]) -> int | None:
        """The child to ask now, if any: nobody twice, and at least one."""
        if step.ask is None and not replies:
            return 0
        fresh = step.ask is not None and step.ask not in replies
        return step.ask if fresh and len(replies) < self._most_calls else None

    def _told(self, step: NextStep) -> dict[str, object]:
        return {
            "ask": self._name(step.ask),
            "best": self._name(step.best),
            "propensity": step.propensity,
            **step.why,
        }

    def _name(self, index: int | None) -> str | None:
        return None if index is None else self._children[index].card.expert_id
