"""Carries out one decision: who is asked, in which order, until one answer is whole."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing

import anyio

from experts.base import Expert
from experts.errors import (
    ExpertCallError,
    ExpertOutOfServiceError,
    ExpertRejectedError,
    ExpertTimeoutError,
)
from experts.http.breaker import BreakerState
from experts.http.replicas import Endpoint
from experts.messages import ChatRequest, Event, Usage
from gateway.booking import Booking
from gateway.errors import AllExpertsFailedError, LedgerError
from gateway.execution.attempt import Attempts
from gateway.execution.delivered import Continuation, Delivered, Splice
from gateway.execution.hedge import Race
from gateway.execution.plan import AttemptPlan, PlannedAttempt
from gateway.execution.silence import ENDLESS, Patience
from gateway.execution.traffic import Terms, Traffic
from routers.records import Decision

Events = AsyncGenerator[Event, None]
Take = Callable[[Event], Iterator[Event]]


class Execution:
    """Asks the chosen expert, and on failure whoever `AttemptPlan` names next, until one answers.

    A streamed answer is committed with its first token (or when `hold_back_s` or
    `hold_back_tokens` are over). If it breaks after that, another call goes on from where it broke:
    by continuing the text where the expert can, else by beginning again, as long as the new answer
    starts in the same words. An answer that is not streamed is committed when it is complete.

    Args:
        experts: The pool.
        decision: Whom to ask, and in which order to fall back.
        booking: Where every attempt is recorded.
        traffic: What all requests share.
        terms: Deadline, money, and whose request it is.

    Attributes:
        answered_by: Who gave the last event.
    """

    def __init__(
        self,
        experts: Mapping[str, Expert],
        decision: Decision,
        booking: Booking,
        traffic: Traffic,
        terms: Terms,
    ) -> None:
        self._experts = experts
        self._booking = booking
        self._traffic = traffic
        self._attempts = Attempts(traffic, terms, booking)
        self._plan = plan_of(decision, terms.fallbacks, experts, traffic)
        self._failures: list[ExpertCallError] = []
        self._delivered = Delivered()
        self._no_prefill: set[str] = set()
        self.answered_by: str | None = None

    async def events(
        self,
        request: ChatRequest,
        failures: Sequence[ExpertCallError] = (),
        delivered: Delivered | None = None,
        failed_at: Sequence[Endpoint] = (),
        failure: LedgerError | None = None,
    ) -> Events:
        """The answer, event by event.

        Args:
            request: What is asked.
            failures: Calls of this request that were made elsewhere and failed, booked already.
            delivered: What the client was sent of the last one's answer.
            failed_at: The endpoints that these calls failed at.
            failure: Why no call can be made.

        Raises:
            AllExpertsFailedError: Nobody answered, or the answer broke and could not be resumed.
            ApiError: The money was not enough.
            LedgerError: It can't be put on record.
        """
        self._failures = list(failures)
        self._attempts.failed_at += failed_at
        self._delivered = delivered or Delivered()
        self._traffic.retries.request()
        if failure is not None:
            raise failure
        if self._delivered.complete(request.choices):
            return
        while (step := self._next_step(request)) is not None:
            if step.wait_s:
                await anyio.sleep(step.wait_s)
            try:
                async with aclosing(self._step(step.expert_id, request)) as events:
                    async for event in events:
                        self._delivered.add(event)
                        self._flows(request)
                        yield event
            except ExpertCallError as error:
                self._failures.append(error)
                if self._delivered.complete(request.choices):
                    return
            else:
                return
        raise AllExpertsFailedError(tuple(self._causes()), self._booking.decision_id)

    def _flows(self, request: ChatRequest) -> None:
        """A stream that its client has begun to read gets more time."""
        if request.stream and not self._delivered.empty:
            self._attempts.flows()

    def _next_step(self, request: ChatRequest) -> PlannedAttempt | None:
        self._flows(request)
        resuming = not self._delivered.empty
        if resuming and not self._may_resume():
            return None
        return self._plan.next(self._failures, self._attempts.left_s(), resuming=resuming)

    def _may_resume(self) -> bool:
        return self._traffic.rules.mid_stream == "resume" and self._delivered.resumable

    def _causes(self) -> Sequence[ExpertCallError]:
        if self._failures:
            return self._plan.told(self._failures)
        chosen, wait_s = self._plan.chain[0], self._plan.in_service_after_s()
        if not self._attempts.left_s():
            return [ExpertTimeoutError(chosen, "was not asked, for the time was over before")]
        return [
            ExpertOutOfServiceError(chosen, self._traffic.health.why(chosen), retry_after_s=wait_s)
        ]

    async def _step(self, expert_id: str, request: ChatRequest) -> Events:
        """One expert's part of the answer: all of it, or what follows what was delivered."""
        if self._delivered.empty:
            async with aclosing(self._beginning(expert_id, request)) as events:
                async for event in events:
                    yield event
            return
        if self._can_continue(expert_id, request):
            try:
                async with aclosing(self._continued(expert_id, request)) as events:
                    async for event in events:
                        yield event
            except ExpertRejectedError as error:
                # It does not take prefills after all; that is no reason not to ask it.
                if not self._plan.may_go_on([*self._failures, error], self._attempts.left_s()):
                    raise
                self._failures.append(error)
                self._no_prefill.add(expert_id)
            else:
                return
        async with aclosing(self._spliced(expert_id, request)) as events:
            async for event in events:
                yield event

    def _can_continue(self, expert_id: str, request: ChatRequest) -> bool:
        card = self._experts[expert_id].card
        return expert_id not in self._no_prefill and self._delivered.continued_by(card, request)

    async def _continued(self, expert_id: str, request: ChatRequest) -> Events:
        delivered = self._delivered
        so_far = Continuation(delivered)
        whole_usage = delivered.usage_of_whole()
        asked = delivered.continuation(self._experts[expert_id].card, request)

        def take(event: Event) -> Iterator[Event]:
            if isinstance(event, Usage):
                yield whole_usage(event)
            else:
                yield from so_far.take(event)

        async with aclosing(self._taken(expert_id, asked, take)) as events:
            async for event in events:
                yield event
        if self._booking.usage is not None:
            self._booking.usage = whole_usage(self._booking.usage)

    async def _spliced(self, expert_id: str, request: ChatRequest) -> Events:
        splice = Splice(expert_id, self._delivered)
        async with aclosing(self._taken(expert_id, request, splice.take)) as events:
            async for event in events:
                yield event

    async def _taken(self, expert_id: str, request: ChatRequest, take: Take) -> Events:
        """What `take` makes of a call's events."""
        async with aclosing(self._call(expert_id, request)) as events:
            async for event in events:
                for new in take(event):
                    self.answered_by = expert_id
                    yield new

    async def _beginning(self, expert_id: str, request: ChatRequest) -> Events:
        """Events of a call, held back until falling back would no longer be possible."""
        held: list[Event] = []
        began: float | None = None
        flowing = False
        async with aclosing(self._hedged(expert_id, request)) as events:
            async for event in events:
                if flowing:
                    yield event
                    continue
                held.append(event)
                if not request.stream or isinstance(event, Usage):
                    continue
                began = anyio.current_time() if began is None else began
                if self._held_enough(len(held), began):
                    flowing = True
                    for early in held:
                        yield early
        if not flowing:
            for event in held:
                yield event

    def _held_enough(self, pieces: int, since: float) -> bool:
        rules = self._traffic.rules
        if not (rules.hold_back_s or rules.hold_back_tokens):
            return True
        long = bool(rules.hold_back_s) and anyio.current_time() - since >= rules.hold_back_s
        return long or (bool(rules.hold_back_tokens) and pieces > rules.hold_back_tokens)

    async def _hedged(self, expert_id: str, request: ChatRequest) -> Events:
        """A call's events, or those of a second one that was faster."""
        after_s = self._traffic.hedge_s.get(expert_id)
        other = self._plan.other_than(self._failures, expert_id)
        if after_s is None or other is None:
            async with aclosing(self._call(expert_id, request)) as events:
                async for event in events:
                    self.answered_by = expert_id
                    yield event
            return

        def second() -> Events | None:
            return self._call(other, request) if self._traffic.retries.spend() else None

        race = Race(self._call(expert_id, request), second, after_s)
        try:
            async with aclosing(race.events()) as events:
                async for event in events:
                    self.answered_by = other if race.second_won else expert_id
                    yield event
        finally:
            self._failures += race.failures

    def _call(self, expert_id: str, request: ChatRequest) -> Events:
        patience, expert = ENDLESS, self._experts[expert_id]
        if self._plan.has_other(self._failures, expert_id) or self._attempts.has_spare(expert):
            silence, health = self._traffic.silence, self._traffic.health
            probe = health.state(expert_id) is not BreakerState.CLOSED
            left_s = self._attempts.left_s()
            patience = Patience(
                *silence.patience(expert_id, left_s, stream=request.stream, probe=probe),
                lambda: silence.between_s if self._may_resume() else math.inf,
            )
        return self._attempts.run(expert, request, patience)


def plan_of(
    decision: Decision, fallbacks: Sequence[str], experts: Mapping[str, Expert], traffic: Traffic
) -> AttemptPlan:
    """Whom a decision may come to be carried out by, in order."""
    chosen, *others = decision.ranked()
    chain = dict.fromkeys((chosen, *fallbacks, *others))
    standby = [name for name in decision.standby if name not in chain]
    return AttemptPlan(
        tuple(chain), lambda name: experts[name].card, traffic, named=not others, standby=standby
    )
