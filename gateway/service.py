"""The trip of one request: let in, guarded, decided, booked, answered, settled.

`Service.answer` begins it, `_answered` is the whole of it, `_settled` its end, however it ends.
The fast path (`gateway.fast`) does the same for plain requests with fewer objects, and hands over
here what it can't finish.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from experts.cards import NO_CAPS, Caps
from experts.messages import Collector, Event
from experts.params import dropped_params
from gateway.access.admission import Admission
from gateway.access.passes import Pass
from gateway.ask import Ask
from gateway.begun import CLIENT_LEFT, Begun
from gateway.booking import Booking, kept_of
from gateway.caching.cache import AnswerCache, CachedExecution, Lookup
from gateway.embedding.spaces import Spaces, embeds, searched
from gateway.errors import LedgerError, api_error, too_hurried
from gateway.execution.execution import Execution
from gateway.execution.traffic import Terms, Traffic
from gateway.guards.chain import GuardChain, Guarded
from gateway.ledger.store import Ledger
from gateway.outcomes.afterwards import Afterwards
from gateway.pool.pool import Pool
from gateway.routing.deciding import Decider
from gateway.server.shutdown import SHUTTING_DOWN, Shutdown, shutting_down
from gateway.settings.root import Settings
from gateway.telemetry.trip import Telemetry, Trip
from routers.records import Decision

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Answer:
    """An answer under way: who decided what, the books, and the events to relay.

    Whoever holds it calls `aclose` when nobody wants it any more, read or not.
    """

    decision: Decision
    booking: Booking
    execution: Execution | CachedExecution
    source: AsyncGenerator[Event, None]
    lookup: Lookup
    passed: Pass
    first: Event | None = None
    dropped_params: tuple[str, ...] = ()
    """Fields that the expert which answers does not get to see."""
    collections: tuple[str, ...] = ()
    """Of a request for vectors: those that hold vectors of the same space."""

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events, the one that was waited for included."""
        if self.first is not None:
            yield self.first
            async for event in self.source:
                yield event

    async def aclose(self) -> None:
        """Stop the work behind the answer, if it still goes on."""
        await self.source.aclose()


class Service:
    """Everything a chat request goes through after parsing and before rendering."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        decider: Decider,
        spaces: Spaces,
        guards: GuardChain,
        cache: AnswerCache,
        traffic: Traffic,
        ledger: Ledger,
        telemetry: Telemetry,
        admission: Admission,
        shutdown: Shutdown,
        afterwards: Afterwards,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._decider = decider
        self._spaces = spaces
        self._guards = guards
        self._cache = cache
        self._traffic = traffic
        self._ledger = ledger
        self._telemetry = telemetry
        self._admission = admission
        self._shutdown = shutdown
        self._afterwards = afterwards

    async def answer(
        self, ask: Ask, trip: Trip | None = None, begun: Begun | None = None
    ) -> Answer:
        """Decide, put it on record, ask the expert; returns when the answer has begun.

        Args:
            ask: What is asked.
            trip: Who watches it, and ends that if this fails; None: nobody else does.
            begun: What was done already, by the fast path.

        Raises:
            ApiError, NoEligibleExpertError: The request can't be served as it is asked.
            AllExpertsFailedError: Everyone who was asked failed.
            LedgerError: It can't be put on record, so nobody was asked.
        """
        self._afterwards.check(ask)
        if trip is None:
            return await self._unwatched(ask)
        begun = begun or await self._begun(ask, trip)
        try:
            return await self._answered(begun)
        except BaseException:
            begun.passed.close()
            raise

    async def _unwatched(self, ask: Ask) -> Answer:
        """The same with a trip of its own, which is over if it fails before it has books."""
        trip = self._telemetry.begin(ask.wire, {})
        try:
            return await self.answer(ask, trip)
        except Exception as error:
            failure = api_error(error)
            trip.end(failure.status, failure.code or failure.type)
            raise
        except BaseException:
            trip.end(CLIENT_LEFT, "client_left")
            raise

    async def screened(self, ask: Ask) -> Ask:
        """The request as experts may see it, for what is asked of them beside answers.

        Raises:
            ApiError: A guard does not let it pass.
        """
        return (await self._guards.check(ask)).ask

    async def _begun(self, ask: Ask, trip: Trip) -> Begun:
        trip.asked(ask)
        deadline = anyio.current_time() + self.seconds(ask)
        await self._in_time(ask, deadline, self._ledger.admit)
        passed = await self._in_time(ask, deadline, lambda: self._admission.admit(ask))
        return Begun(ask, trip, passed, deadline)

    async def _answered(self, begun: Begun) -> Answer:
        guarded = await self._guards.check(begun.ask)
        with await self._cache.look_up(begun.ask, begun.deadline) as lookup:
            ask, decision = await self._decided(begun, guarded.ask, lookup)
            booking = begun.booking or self._booking(ask, decision, begun.trip)
            execution = lookup.replay(booking) or self._execution(begun, ask, decision, booking)
            source = self._settled(begun, guarded, execution, booking, lookup)
            answer = Answer(decision, booking, execution, source, lookup, begun.passed)
            # Waiting for the first event, so that a failure before it can still change the status.
            answer.first = await anext(source, None)
        if execution.answered_by is not None:
            card = self._pool.card(execution.answered_by)
            answer.dropped_params = dropped_params(ask.request, card)
        answer.collections = searched(ask, decision.expert)
        return answer

    async def _decided(self, begun: Begun, ask: Ask, lookup: Lookup) -> tuple[Ask, Decision]:
        """Who answers, and the request as they get it: `ask` is what the guards let through."""
        if embeds(ask):
            ask = await self._spaces.settled(ask)
        begun.trip.asked(ask)
        begun.trip.admitted()
        decision = begun.decision or lookup.decision or await self._decider.decide(ask)
        if embeds(ask):
            ask, decision = await self._in_one_space(ask, decision)
        if begun.decision is None:
            begun.trip.decided(decision)
        return ask, decision

    async def _in_one_space(self, ask: Ask, decision: Decision) -> tuple[Ask, Decision]:
        """The same, or who must embed it if somebody else was meanwhile chosen for its place."""
        kept = await self._spaces.kept(ask, decision.expert)
        if decision.expert not in kept.built.values() and kept.built:
            decision = await self._decider.decide(kept)
        return kept, decision

    def _booking(self, ask: Ask, decision: Decision, trip: Trip) -> Booking:
        text_mode = kept_of(self._settings.ledger, ask)
        return Booking(self._ledger, ask, decision, text_mode, trip, self._afterwards.of(ask))

    def _execution(self, begun: Begun, ask: Ask, decision: Decision, booking: Booking) -> Execution:
        fallbacks = self._decider.fallbacks(ask, decision)
        wishes = ask.wishes
        caps = NO_CAPS if wishes.max_cost_usd is None else Caps(usd=wishes.max_cost_usd)
        terms = Terms(
            begun.deadline,
            ask.key.name,
            wishes.session,
            fallbacks,
            begun.passed,
            self._hurried(ask),
            caps=caps,
            expects=self._decider.expects,
            privacy=self._decider.limits(ask, decision).privacy,
            stream_more_s=self._stream_more_s(ask),
        )
        return Execution(self._pool.experts, decision, booking, self._traffic, terms)

    async def _settled(
        self,
        begun: Begun,
        guarded: Guarded,
        execution: Execution | CachedExecution,
        booking: Booking,
        lookup: Lookup,
    ) -> AsyncGenerator[Event, None]:
        """The events, and when they end in whatever way, the books closed."""
        collected = Collector()
        status, kind = CLIENT_LEFT, "client_left"
        request = guarded.ask.request
        if isinstance(execution, Execution):
            events = execution.events(
                request, begun.failures, begun.delivered, begun.failed_at, begun.failure
            )
        else:
            events = execution.events(request)
        if lookup.hit is None:
            # A kept answer has passed the guards already.
            events = guarded.events(events)
        try:
            async for event in events:
                collected.add(event)
                for restored in guarded.restored(event):
                    lookup.add(restored)
                    yield restored
            status, kind = 200, ""
        except Exception as error:
            failure = api_error(error)
            status, kind = failure.status, failure.code or failure.type
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await events.aclose()
            begun.passed.close()
            if status == CLIENT_LEFT and self._shutdown.begun:
                status, kind = shutting_down().status, SHUTTING_DOWN
            text = collected.completion().text
            if lookup.hit is not None:
                text = guarded.concealed(text)
            more = lookup.close(status, booking, execution.answered_by)
            more += guarded.rows(booking.request_id)
            booking.close(status, kind or None, execution.answered_by, text, more)

    def seconds(self, ask: Ask) -> float:
        """How long the whole of it may take."""
        total = self._settings.limits.total_s
        wished = ask.wishes.max_latency_ms
        return total if wished is None else min(total, wished / 1000)

    def _stream_more_s(self, ask: Ask) -> float:
        """What its stream gets beyond that, once it has begun."""
        limits, wished = self._settings.limits, ask.wishes.max_latency_ms
        if wished is None:
            return limits.stream_more_s
        return min(limits.stream_more_s, max(0.0, wished / 1000 - limits.total_s))

    async def _in_time(self, ask: Ask, deadline: float, step: Callable[[], Awaitable[T]]) -> T:
        try:
            with anyio.fail_after(max(0.0, deadline - anyio.current_time())):
                return await step()
        except TimeoutError as error:
            if self._hurried(ask):
                raise too_hurried() from error
            raise LedgerError("the ledger is behind; try again shortly") from error

    def _hurried(self, ask: Ask) -> bool:
        """Whether its client wants it sooner than everybody's."""
        return self.seconds(ask) < self._settings.limits.total_s
