"""One call to one expert: admitted, covered, booked, timed, counted; children of it the same."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Protocol

import anyio

from experts.base import Below, Call, Expert
from experts.cards import ExpertCard
from experts.errors import (
    ExpertCallError,
    ExpertCapError,
    ExpertOutOfServiceError,
    ExpertTimeoutError,
    ExpertUnsupportedError,
)
from experts.http.breaker import BreakerState
from experts.http.expert import HttpExpert
from experts.http.replicas import Endpoint
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from experts.taxonomy import OF_A_PLACE, handling
from gateway.booking import Attempt
from gateway.errors import ApiError, LedgerError, too_hurried
from gateway.execution.places import place
from gateway.execution.purse import Purse
from gateway.execution.reserve import Covered
from gateway.execution.silence import ENDLESS, FIRST, HEAD, NEXT, WHOLE, Patience, bound, late
from gateway.execution.traffic import Terms, Traffic
from gateway.settings.limits import LimitSettings
from routers.features import estimate_prompt_tokens, estimate_tokens

_TICK_S = 0.002
"""By so much may a timer be early."""


class Books(Protocol):
    """Where calls are recorded: before they are made, and when they have ended."""

    async def begin(self, card: ExpertCard, parent: Attempt | None = None) -> Attempt: ...

    def end(
        self, attempt: Attempt, status: str, error: ExpertCallError | None = None
    ) -> int | None: ...


class Attempts:
    """Makes the calls of one request.

    Attributes:
        failed_at: Endpoints that failed this request, to be avoided.
    """

    def __init__(self, traffic: Traffic, terms: Terms, booking: Books) -> None:
        self._traffic = traffic
        self._terms = terms
        self._booking = booking
        self._purse = Purse(traffic.purses, terms.caps)
        self._deadline = terms.deadline
        self.failed_at: list[Endpoint] = []

    def flows(self) -> None:
        """The client has begun to read a stream, which may go on for longer than it may wait."""
        self._deadline = self._terms.deadline + self._terms.stream_more_s

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - anyio.current_time())

    def limits_of(self, expert_id: str) -> LimitSettings:
        """See `Traffic.limits_of`."""
        return self._traffic.limits_of(expert_id)

    @property
    def hurried(self) -> bool:
        """Whether the deadline is the client's wish."""
        return self._terms.hurried

    def has_spare(self, expert: Expert) -> bool:
        """Whether it has another endpoint to be asked if the next one fails."""
        return isinstance(expert, HttpExpert) and expert.has_spare(self.failed_at)

    async def run(
        self,
        expert: Expert,
        request: ChatRequest,
        patience: Patience = ENDLESS,
        parent: _Watch | None = None,
        at_most_usd: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of one call.

        Args:
            expert: Whom to ask.
            request: What to ask.
            patience: How long it may be silent, beside the limits.
            parent: The call of the composition that asks.
            at_most_usd: Most dollars that it and all below it may cost, beside other caps.

        Raises:
            ExpertCallError: It failed, or a cap leaves no room for it; that is recorded.
            ApiError: There is no money for it, or no time.
            LedgerError: It can't be put on record, so it was not made.
        """
        card = expert.card
        if not card.clears(self._terms.privacy):
            # The one door to every expert, whoever opens it: nobody should have come so far.
            raise ExpertUnsupportedError(
                card.expert_id, f"may not be sent {self._terms.privacy} data"
            )
        purse = (self._purse if parent is None else parent.purse).inner(card.caps, at_most_usd)
        with purse.holding(card, request) as held:
            async with self._place(card.expert_id), self._reported(card.expert_id):
                covered = await self._covered(card, held.request, parent)
                asked = covered.request
                watch = _Watch(self, card, asked, patience, purse, parent)
                try:
                    attempt = watch.attempt = await self._begin(card, parent)
                    async with aclosing(self._booked(expert, asked, watch, attempt)) as events:
                        async for event in events:
                            yield event
                finally:
                    held.cost_nanousd, held.usage = watch.cost_nanousd(), watch.usage()
                    covered.spent(held.cost_nanousd, held.usage)

    async def _covered(
        self, card: ExpertCard, request: ChatRequest, parent: _Watch | None
    ) -> Covered:
        try:
            return await self._terms.reservation.cover(card, request)
        except ApiError as error:
            if parent is None:
                raise
            # What was paid for is worth something: the composition may go on with that.
            raise ExpertCapError(card.expert_id, error.message) from error

    def _place(self, expert_id: str) -> AbstractAsyncContextManager[None]:
        return place(self._traffic, self._terms, expert_id, self.left_s)

    @asynccontextmanager
    async def _reported(self, expert_id: str) -> AsyncIterator[None]:
        """Asks the expert's health for leave, and tells it how the call ended."""
        health, aside = self._traffic.health, self._terms.recall is not None
        probing = aside and health.state(expert_id) is not BreakerState.CLOSED
        ticket = None if probing else health.admit(expert_id)
        if ticket is None:
            wait_s = health.retry_after_s(expert_id)
            raise ExpertOutOfServiceError(expert_id, health.why(expert_id), retry_after_s=wait_s)
        try:
            yield
        except ExpertCallError as error:
            capped = isinstance(error, ExpertCapError)
            if error.spare or error.hurried or aside or capped:
                # One endpoint of several failed, and that one's own breaker knows; or none did.
                health.abandon(expert_id, ticket)
            else:
                health.record(expert_id, error, ticket)
            raise
        except BaseException:
            health.abandon(expert_id, ticket)
            raise
        else:
            if aside:
                health.abandon(expert_id, ticket)
            else:
                health.record(expert_id, None, ticket)

    async def _begin(self, card: ExpertCard, parent: _Watch | None) -> Attempt:
        if parent is not None:
            parent.has_child()
        try:
            with anyio.fail_after(self.left_s()):
                return await self._booking.begin(card, None if parent is None else parent.attempt)
        except TimeoutError as error:
            if self.hurried:
                raise too_hurried() from error
            raise LedgerError("the ledger did not record the decision in time") from error

    async def _booked(
        self, expert: Expert, request: ChatRequest, watch: _Watch, attempt: Attempt
    ) -> AsyncGenerator[Event, None]:
        call = self._call(watch, attempt)
        attempt.trace = call.trace
        counted = _Counted(attempt, request, watch.purse.below)
        try:
            async with aclosing(expert.answer(request, call)) as source:
                while (event := await watch.next(source)) is not None:
                    counted.add(event)
                    yield event
        except ExpertCallError as error:
            counted.settle()
            failure = error.within(attempt.card.expert_id)
            failure.hurried = isinstance(error, ExpertTimeoutError) and watch.hurried()
            self._blame(call, failure)
            self._booking.end(attempt, "failed", failure)
            raise failure from error
        except BaseException as error:
            # The client left, or another call was faster: what was read and written is paid for.
            counted.settle(sent=True)
            self._booking.end(attempt, "failed" if isinstance(error, Exception) else "cancelled")
            raise
        counted.settle()
        if attempt.first_token_s is not None:
            self._traffic.silence.ended(
                attempt.card.expert_id, attempt.first_token_s, stream=request.stream
            )
        self._booking.end(attempt, "ok")

    def _call(self, watch: _Watch, attempt: Attempt) -> Call:
        def run(
            child: Expert, asked: ChatRequest, at_most_usd: float | None = None, /
        ) -> AsyncGenerator[Event, None]:
            return self.run(child, asked, parent=watch, at_most_usd=at_most_usd)

        # Of a client's haste an endpoint hears nothing: our own clock ends the wait.
        header_s = min(watch.limits.header_s, watch.patience.begin_s)
        if not self.hurried:
            header_s = min(header_s, watch.share_s)
        purse = watch.purse
        return Call(
            run,
            self._terms.session,
            header_s,
            self.failed_at,
            headers=attempt.headers,
            below=purse.below,
            room_usd=purse.room_usd,
            expects=self._terms.expects,
            header_limit=bound(HEAD, header_s, watch.limits),
        )

    def _blame(self, call: Call, error: ExpertCallError) -> None:
        """The endpoint can't see that it was too slow; and it is not asked again if others are."""
        if call.lease is None:
            return
        if isinstance(error, ExpertTimeoutError) and not error.hurried:
            call.lease.blame(error)
        self.failed_at.append(call.lease.endpoint)
        error.spare = is_spare(call, error)


def is_spare(call: Call, error: ExpertCallError) -> bool:
    """Whether a call that failed with `error` may well succeed at another endpoint."""
    passes = handling(error).same or handling(error).counts or error.kind in OF_A_PLACE
    return call.spare and passes


class _Watch:
    """The clock of one call, and its purse."""

    def __init__(
        self,
        owner: Attempts,
        card: ExpertCard,
        request: ChatRequest,
        patience: Patience,
        purse: Purse,
        parent: _Watch | None,
    ) -> None:
        self._owner = owner
        self.limits = owner.limits_of(card.expert_id)
        self._stream = request.stream
        self._scope: anyio.CancelScope | None = None
        self._children = False
        self._since = anyio.current_time()
        self.patience = patience
        self.purse = purse
        # A composition may still say what it has when the time of those below it is up.
        self._until = math.inf if parent is None else parent.purse.deadline
        self.share_s = min(patience.share_s, self.left_s())
        self.attempt: Attempt | None = None

    def cost_nanousd(self) -> int | None:
        """What the call cost; nothing if it was not made."""
        return 0 if self.attempt is None else self.attempt.cost_nanousd()

    def usage(self) -> Usage | None:
        """The tokens of the call, if any were counted."""
        return None if self.attempt is None else self.attempt.usage

    def left_s(self) -> float:
        """Seconds until the request's deadline, or that of the composition it is made for."""
        return max(0.0, min(self._owner.left_s(), self._until - anyio.current_time()))

    def hurried(self) -> bool:
        """Whether a wish for haste ended the wait just now: the client's, or a composition's."""
        if self._until - anyio.current_time() <= _TICK_S:
            return True
        waited = anyio.current_time() - self._since + _TICK_S
        return self._owner.hurried and (self._owner.left_s() <= _TICK_S or waited >= self.share_s)

    def has_child(self) -> None:
        """From now on its children's clocks bound it, and the deadline."""
        self._children = True
        if self._scope is not None:
            self._scope.deadline = anyio.current_time() + self.left_s()

    async def next(self, source: AsyncGenerator[Event, None]) -> Event | None:
        """The next event in time, or None at the end."""
        left_s = self.left_s()
        what, limit_s = self._limit()
        try:
            with anyio.fail_after(min(limit_s, left_s)) as self._scope:
                return await anext(source, None)
        except TimeoutError as error:
            assert self.attempt is not None  # noqa: S101 - it is begun before it is asked
            limit = left_s if self._children else limit_s
            said = late(what, min(limit, left_s), self.limits)
            raise ExpertTimeoutError(self.attempt.card.expert_id, said) from error
        finally:
            self._scope = None

    def _limit(self) -> tuple[str, float]:
        begun = self.attempt is not None and self.attempt.first_token_s is not None
        if self._children:
            return WHOLE, self.left_s()
        if begun:
            return NEXT, min(self.limits.idle_s, self.patience.between_s())
        most_s = min(self.patience.begin_s, self.share_s)
        if self._stream:
            return FIRST, min(self.limits.first_token_s, most_s)
        return WHOLE, min(self.limits.whole_s, most_s)


class _Counted:
    """Keeps an attempt's tokens and times while its events pass by."""

    def __init__(self, attempt: Attempt, request: ChatRequest, below: Below) -> None:
        self._attempt = attempt
        self._request = request
        self._below = below
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
            self._seen.append(event.reasoning)

    def settle(self, *, sent: bool = False) -> None:
        """Tokens as reported, or as we count them; see `settle_usage`. Of a composition, all below.

        What it says of itself may leave out calls that failed or were given up, and are paid for.
        """
        if self._attempt.card.composed:
            self._attempt.usage = self._below.usage
            return
        settle_usage(self._attempt, self._request, self._reported, self._seen, sent=sent)


def settle_usage(
    attempt: Attempt,
    request: ChatRequest,
    reported: Usage | None,
    seen: Sequence[str],
    *,
    sent: bool = False,
) -> None:
    """Tokens as reported, or as we count them when the call reached the model and broke off.

    Args:
        attempt: Whose tokens they are.
        request: What was asked.
        reported: What the provider counted, if it did.
        seen: The pieces of text that came.
        sent: The call was given up by us, so that the prompt counts as read.
    """
    if reported is not None:
        attempt.usage = reported
    elif any(seen) or attempt.finish_reason or (sent and not attempt.has_children):
        read, written = estimate_prompt_tokens(request), "".join(seen)
        attempt.usage = Usage(
            input=round(read),
            output=round(estimate_tokens(written)) if written else 0,
            estimated=True,
        )
