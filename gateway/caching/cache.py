"""Looks answers up before anyone is asked, and keeps those that may be given again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import anyio
import numpy as np

from experts.messages import ChatRequest, Event, Usage
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.caching.entries import CacheEntry, Question, decode, encode, is_whole
from gateway.caching.fingerprint import fingerprint, surroundings
from gateway.caching.similar import question_of
from gateway.caching.store import AnswerStore
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.settings.cache import CacheSettings
from gateway.telemetry.metrics import Metrics
from routers.base import Encoder
from routers.encoders.lexical import HashingEncoder
from routers.records import Candidates, Decision, Preference

Kind = Literal["exact", "semantic"]
_DIMENSIONS = 1024
# Longer conversations are digested in a thread: it takes milliseconds.
_INLINE_CHARS = 256 * 1024


@dataclass(slots=True, eq=False)
class _Flight:
    """A request that is being answered while others wait for its answer."""

    landed: anyio.Event = field(default_factory=anyio.Event)
    left: bool = False
    """Its client left: somebody else may take its place."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer found.

    Attributes:
        entry: The answer.
        kind: How it was found.
        similarity: 1 for an exact hit, else the cosine of the questions.
        age_s: How old it is.
    """

    entry: CacheEntry
    kind: Kind
    similarity: float
    age_s: float

    @property
    def decision(self) -> Decision:
        """Nobody was chosen: the one who gave the answer is certain."""
        one, unknown = np.ones(1), np.full(1, np.nan)
        candidates = Candidates(
            (self.entry.expert,), one, np.zeros(1), np.zeros(1), unknown, unknown, np.zeros(1), 1, 1
        )
        return Decision(
            router="cache",
            version=self.kind,
            policy="cache",
            preference=Preference(),
            candidates=candidates,
            excluded={},
            utility_A=one,
            probabilities_A=one,
            draw=0.0,
            chosen=0,
            flags=(f"cache_{self.kind}",),
        )

    def row(self, booking: Booking) -> Row:
        """What it saved, for the ledger."""
        values = {
            "request_id": booking.request_id,
            "at": now(),
            "source_decision_id": self.entry.decision_id,
            "kind": self.kind,
            "similarity": self.similarity,
            "saved_nanousd": self.entry.cost_nanousd,
            "saved_tokens": self.entry.usage.prompt_tokens + self.entry.usage.completion_tokens,
        }
        return Row(tables.cache_hit, values)


class CachedExecution:
    """Gives a kept answer again: takes the place of an `Execution`."""

    def __init__(self, hit: Hit, booking: Booking) -> None:
        self.answered_by: str | None = hit.entry.expert
        self._hit = hit
        self._booking = booking

    async def events(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The kept events; the request has had its say when they were found."""
        self._booking.usage = self._hit.entry.usage
        for event in decode(self._hit.entry.events):
            yield event


class Lookup:
    """One request's dealings with the cache: what was found, or what there will be to keep.

    As a context it says so when the request failed before its answer began.
    """

    def __init__(
        self,
        cache: AnswerCache,
        *,
        key: bytes | None = None,
        question: Question | None = None,
        hit: Hit | None = None,
        flight: _Flight | None = None,
    ) -> None:
        self.hit = hit
        self._cache = cache
        self._key = key
        self._question = question
        self._flight = flight
        self._events: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self._land(left=not isinstance(error, Exception))

    @property
    def headers(self) -> dict[str, str]:
        """What the client is told of it; nothing where there is no cache."""
        if not self._cache.on:
            return {}
        if self.hit is None:
            return {"x-pointsman-cache": "off" if self._key is None else "miss"}
        return {
            "x-pointsman-cache": "hit",
            "x-pointsman-cache-kind": self.hit.kind,
            "age": str(int(self.hit.age_s)),
        }

    @property
    def decision(self) -> Decision | None:
        """The decision under which a found answer is booked."""
        return self.hit.decision if self.hit else None

    def replay(self, booking: Booking) -> CachedExecution | None:
        """A found answer, given again."""
        return CachedExecution(self.hit, booking) if self.hit else None

    def add(self, event: Event) -> None:
        """See one event of the answer that the client gets."""
        if self._key is not None and self.hit is None:
            self._events.append(event)

    def close(self, status: int, booking: Booking, answered_by: str | None) -> list[Row]:
        """The answer has ended: keep it if it is complete. Returns rows for the ledger."""
        if self.hit is not None:
            return [self.hit.row(booking)]
        if self._key is not None and status == 200 and answered_by is not None:
            self._cache.keep(self._key, self._question, self._events, booking, answered_by)
        self._land(left=status == 499)
        return []

    def _land(self, *, left: bool) -> None:
        if self._flight is not None and self._key is not None:
            self._cache.land(self._key, self._flight, left=left)


class AnswerCache:
    """The answers of one process, bounded in time, number and bytes.

    Args:
        settings: The `cache` section.
        metrics: Where hits and misses are counted.
        encoder: Turns questions into vectors; only asked when `semantic` is on.
    """

    def __init__(
        self, settings: CacheSettings, metrics: Metrics, encoder: Encoder | None = None
    ) -> None:
        self.on = settings.on
        self.store = AnswerStore(settings.ttl_s, settings.max_entries, settings.max_bytes)
        self._settings = settings
        self._metrics = metrics
        self._encoder = encoder or HashingEncoder(_DIMENSIONS)
        self._flights: dict[bytes, _Flight] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for the answer to the same request."""
        return self._waiting

    async def look_up(self, ask: Ask, deadline: float) -> Lookup:
        """Find an answer, waiting for one that is under way for the very same request.

        Args:
            ask: As the client asked it.
            deadline: On anyio's clock.
        """
        if not self._may_use(ask):
            return Lookup(self)
        if len(ask.request.text) > _INLINE_CHARS:
            key, question = await anyio.to_thread.run_sync(self._compared_by, ask)
        else:
            key, question = self._compared_by(ask)
        if ask.wishes.cache == "refresh":
            return self._missed(key, question, None)
        # Who waited for half of its time in vain still has the other half to ask for itself.
        with anyio.move_on_after((deadline - anyio.current_time()) / 2):
            return await self._found(ask, key, question)
        return self._missed(key, question, None)

    async def _found(self, ask: Ask, key: bytes, question: Question | None) -> Lookup:
        while True:
            if (hit := self._hit(ask, key, question)) is not None:
                self._metrics.cache_hit(hit.kind, hit.entry.cost_nanousd)
                return Lookup(self, key=key, hit=hit)
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = _Flight()
                return self._missed(key, question, flight)
            self._waiting += 1
            try:
                await flight.landed.wait()
            finally:
                self._waiting -= 1
            if not flight.left and self.store.get(key) is None:
                # It failed or may not be kept: waiting in line for more of that helps nobody.
                return self._missed(key, question, None)

    def _hit(self, ask: Ask, key: bytes, question: Question | None) -> Hit | None:
        kind: Kind = "exact"
        entry, similarity = self.store.get(key), 1.0
        semantic = self._settings.semantic
        if entry is None and question is not None and semantic is not None:
            near = self.store.nearest(question, semantic.threshold)
            if near is not None:
                (entry, similarity), kind = near, "semantic"
        if entry is None or not ask.key.may_ask(entry.expert):
            return None
        return Hit(entry, kind, similarity, self.store.age_s(entry))

    def _missed(self, key: bytes, question: Question | None, flight: _Flight | None) -> Lookup:
        self._metrics.cache_lookups.add(("miss",))
        return Lookup(self, key=key, question=question, flight=flight)

    def _may_use(self, ask: Ask) -> bool:
        most = self._settings.max_temperature
        warm = most is not None and (ask.request.params.get("temperature") or 0) > most
        return self.on and ask.wishes.cache != "off" and not warm

    def _compared_by(self, ask: Ask) -> tuple[bytes, Question | None]:
        scope = self._settings.scope
        key = fingerprint(ask, scope)
        around = surroundings(ask, scope) if self._settings.semantic else None
        if around is None:
            return key, None
        return key, question_of(ask.request.question, around, self._encoder)

    def keep(
        self,
        key: bytes,
        question: Question | None,
        events: list[Event],
        booking: Booking,
        answered_by: str,
    ) -> None:
        """Store an answer, unless it is not whole."""
        if not is_whole(events, self._settings.finish_reasons):
            return
        self.store.put(
            CacheEntry(
                key=key,
                events=encode(events),
                usage=booking.usage or Usage(),
                decision_id=booking.decision_id,
                expert=answered_by,
                cost_nanousd=booking.cost_nanousd if booking.cost_complete else None,
                stored_at=self.store.now(),
                question=question,
            )
        )

    def land(self, key: bytes, flight: _Flight, *, left: bool) -> None:
        """Let those who waited for this answer look again."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.left = left
        flight.landed.set()
