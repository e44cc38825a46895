"""Runs a decision: attempts, fallback, deadlines and cancellation, the same for every expert."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import anyio

from experts.base import Call, Expert
from experts.errors import ExpertCallError, ExpertTimeoutError
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from experts.taxonomy import handling
from gateway.booking import Attempt, Booking
from gateway.errors import AllExpertsFailedError, LedgerError
from gateway.settings.limits import LimitSettings
from routers.features import estimate_tokens
from routers.records import Decision


class Execution:
    """Asks the chosen expert, and on failure the next best, until one answers.

    A streamed answer is committed with its first token: from then on a failure is the client's to
    see. An answer that is not streamed is committed when it is complete.

    Args:
        experts: The pool.
        decision: Whom to ask, and in which order to fall back.
        booking: Where every attempt is recorded.
        limits: Seconds and counts; `deadline` is on anyio's clock and bounds the whole chain.
    """

    def __init__(
        self,
        experts: Mapping[str, Expert],
        decision: Decision,
        booking: Booking,
        limits: LimitSettings,
        deadline: float,
    ) -> None:
        self._experts = experts
        self._decision = decision
        self._booking = booking
        self._limits = limits
        self._deadline = deadline
        self.answered_by: str | None = None

    async def events(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The answer, event by event.

        Raises:
            AllExpertsFailedError: Nobody answered, or the answer broke after it was committed.
        """
        failures: list[ExpertCallError] = []
        for expert_id in self._decision.ranked()[: self._limits.max_attempts]:
            committed = False
            try:
                async with aclosing(self._committed(expert_id, request)) as events:
                    async for event in events:
                        committed, self.answered_by = True, expert_id
                        yield event
            except ExpertCallError as error:
                failures.append(error)
                if committed or not handling(error).other or self._too_late():
                    break
            else:
                return
        raise AllExpertsFailedError(tuple(failures), self._booking.decision_id)

    def _too_late(self) -> bool:
        return anyio.current_time() >= self._deadline

    async def _committed(self, expert_id: str, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """Events of one attempt, held back until falling back would no longer be possible."""
        held: list[Event] = []
        flowing = False
        async with aclosing(self._attempt(self._experts[expert_id], request, None)) as events:
            async for event in events:
                if flowing:
                    yield event
                    continue
                held.append(event)
                if request.stream and not isinstance(event, Usage):
                    flowing = True
                    for early in held:
                        yield early
        if not flowing:
            for event in held:
                yield event

    async def _attempt(
        self, expert: Expert, request: ChatRequest, parent: Attempt | None
    ) -> AsyncGenerator[Event, None]:
        attempt = await self._begin(expert, parent)

        def run(child: Expert, asked: ChatRequest) -> AsyncGenerator[Event, None]:
            return self._attempt(child, asked, attempt)

        answer = _Counted(attempt, request)
        try:
            async with aclosing(expert.answer(request, Call(run))) as source:
                while (event := await self._next(source, attempt)) is not None:
                    answer.add(event)
                    yield event
        except ExpertCallError as error:
            answer.settle()
            self._booking.end(attempt, "failed", error)
            raise
        except BaseException as error:
            # The client left, or a sibling failed: what was written so far is paid for.
            answer.settle()
            self._booking.end(attempt, "failed" if isinstance(error, Exception) else "cancelled")
            raise
        answer.settle()
        self._booking.end(attempt, "ok")

    async def _begin(self, expert: Expert, parent: Attempt | None) -> Attempt:
        left = self._deadline - anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, left)):
                return await self._booking.begin(expert.card, parent)
        except TimeoutError as error:
            raise LedgerError("the ledger did not record the decision in time") from error

    async def _next(self, source: AsyncGenerator[Event, None], attempt: Attempt) -> Event | None:
        """The next event in time, or None at the end."""
        waiting_for_first = attempt.first_token_s is None
        limit = self._limits.first_token_s if waiting_for_first else self._limits.idle_s
        left = self._deadline - anyio.current_time()
        try:
            with anyio.fail_after(max(0.0, min(limit, left))):
                return await anext(source, None)
        except TimeoutError as error:
            what = "the first token" if waiting_for_first else "the next token"
            waited = f"{attempt.elapsed_s:.1f} s" if left <= limit else f"{limit:g} s"
            raise ExpertTimeoutError(
                attempt.card.expert_id, f"{what} did not come within {waited}"
            ) from error


class _Counted:
    """Keeps an attempt's tokens and times while its events pass by."""

    def __init__(self, attempt: Attempt, request: ChatRequest) -> None:
        self._attempt = attempt
        self._request = request
        self._reported: Usage | None = None
        self._seen: list[str] = []

    def add(self, event: Event) -> None:
        attempt = self._attempt
        if attempt.first_token_s is None:
            attempt.first_token_s = attempt.elapsed_s
        if isinstance(event, Usage):
            self._reported = event if self._reported is None else self._reported + event
        elif isinstance(event, Finish):
            attempt.finish_reason = event.reason
        elif isinstance(event, Delta):
            self._seen.append(event.text)

    def settle(self) -> None:
        """Tokens as reported, or as we count them when the call reached the model and broke off."""
        if self._reported is not None:
            self._attempt.usage = self._reported
        elif self._seen or self._attempt.finish_reason:
            read, written = estimate_tokens(self._request.text), "".join(self._seen)
            self._attempt.usage = Usage(
                input=round(read),
                output=round(estimate_tokens(written)) if written else 0,
                estimated=True,
            )
