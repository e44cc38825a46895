"""All guards of the configuration around one request, in their order."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import anyio

from experts.cards import strictest
from experts.messages import ChatRequest, Delta, Event
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.guards.base import BlockedError, Guard, Memory, Record
from gateway.guards.denylist import RegexGuard
from gateway.guards.events import EventGuard, FailedError, StoppedError
from gateway.guards.finder import Detector, Finder
from gateway.guards.pii import PLACEHOLDER, PiiGuard, Placeholders
from gateway.guards.texts import Eye, Restorer, read_request
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from gateway.settings.guards import GuardSettings, PiiGuardSettings, Side
from gateway.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)
# Longer texts are read in a thread: it takes milliseconds.
_INLINE_CHARS = 16 * 1024


class GuardChain:
    """The guards of one process.

    Args:
        settings: The `guards` section.
        ledger: Where refusals are put on record; what else was done is in the request's own books.
        metrics: Where actions are counted.
    """

    def __init__(self, settings: Sequence[GuardSettings], ledger: Ledger, metrics: Metrics) -> None:
        self._guards: list[Guard] = [_built(each) for each in settings]
        self._ledger = ledger
        self._metrics = metrics
        restores = any(isinstance(each, PiiGuardSettings) and each.restore for each in settings)
        placeholders = Detector("placeholder", PLACEHOLDER)
        self._restoring = Finder([placeholders], streams=True) if restores else None

    async def check(self, ask: Ask) -> Guarded:
        """The request as the experts may see it.

        Raises:
            ApiError: 400 `content_blocked` naming the guard, or 500 `guard_failed`.
        """
        guarded = Guarded(ask, self._guards, self._restoring, self._metrics)
        if not self._guards:
            return guarded
        try:
            if _length(ask.request) > _INLINE_CHARS:
                await anyio.to_thread.run_sync(guarded.check)
            else:
                guarded.check()
        except ApiError:
            self._ledger.append(guarded.rows(None))
            raise
        return guarded


@dataclass(slots=True)
class _Watch:
    """One guard and one request."""

    guard: Guard
    memory: Memory
    records: dict[str, Record] = field(default_factory=dict)

    def record(self, side: Side) -> Record:
        settings = self.guard.settings
        record = Record(settings.name or settings.kind, side, settings.action)
        return self.records.setdefault(side, record)

    def eye(self, side: Side) -> Eye:
        action = self.guard.settings.action
        return Eye(self.guard.finder, action, self.memory, self.record(side))


class Guarded:
    """One request under guard.

    Attributes:
        ask: As it may be seen by experts and kept in the books.
    """

    def __init__(
        self, ask: Ask, guards: Iterable[Guard], restoring: Finder | None, metrics: Metrics
    ) -> None:
        self.ask = ask
        self._watches = [_Watch(guard, guard.begin()) for guard in guards]
        self._metrics = metrics
        self._restoring = restoring
        self._restorers: list[EventGuard] = []
        self._put_back: list[tuple[str, str]] = []

    def check(self) -> None:
        """Let every guard of the input read the request, in order.

        Raises:
            ApiError: See `GuardChain.check`.
        """
        for watch in self._on("input"):
            if any(not isinstance(raw, str) for raw in self.ask.request.raw):
                self._unreadable(watch)
                self._confine(watch)
            try:
                request = read_request(self.ask.request, watch.eye("input").read)
            except BlockedError:
                raise _blocked(watch) from None
            except Exception as error:  # noqa: BLE001 - a guard that fails must not let all through
                self._failed(watch, "input", error)
                self._confine(watch)
                continue
            if request is not self.ask.request:
                self.ask = replace(self.ask, request=request)
            self._confine(watch)
            self._will_restore(watch)

    def events(self, source: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """An expert's answer as it may be seen; closes `source` when it may not go on."""
        # Vectors are no texts.
        watches = [] if self.ask.request.task == "embed" else self._on("output")
        stages = [_Stage(watch, EventGuard(watch.eye("output"))) for watch in watches]
        return self._events(source, stages) if stages else source

    async def _events(
        self, source: AsyncGenerator[Event, None], stages: list[_Stage]
    ) -> AsyncGenerator[Event, None]:
        async with aclosing(source):
            async for event in source:
                out: list[Event] = []
                if isinstance(event, Delta) and len(event.text) > _INLINE_CHARS:
                    goes_on = await anyio.to_thread.run_sync(self._through, stages, event, out)
                else:
                    goes_on = self._through(stages, event, out)
                for passed in out:
                    yield passed
                if not goes_on:
                    return

    def restored(self, event: Event) -> list[Event]:
        """An event as the client gets it: with its own data in place of placeholders."""
        events = [event]
        for restorer in self._restorers:
            events = [out for each in events for out in restorer.write(each)]
        return events

    def concealed(self, text: str) -> str:
        """A text as the client got it, with placeholders in place of its own data again."""
        # The longest first: one datum may be a part of another.
        for placeholder, original in sorted(self._put_back, key=lambda each: -len(each[1])):
            text = text.replace(original, placeholder)
        return text

    def rows(self, request_id: str | None) -> list[Row]:
        """What the guards did, for the ledger; counted at the same time."""
        rows: list[Row] = []
        for record in (each for watch in self._watches for each in watch.records.values()):
            if record.found or record.action.startswith("failed"):
                self._metrics.guard_actions.add((record.guard, record.side, record.action))
                rows.append(Row(tables.guard_action, _values(record, request_id, self.ask)))
        return rows

    def _confine(self, watch: _Watch) -> None:
        """What was found, or could not be looked for, may make the request more confidential."""
        wishes, record = self.ask.wishes, watch.record("input")
        privacy = strictest(wishes.privacy, watch.guard.settings.privacy)
        suspect = bool(record.found) or record.action == "failed_open"
        if suspect and privacy != wishes.privacy:
            self.ask = replace(self.ask, wishes=wishes.model_copy(update={"privacy": privacy}))

    def _will_restore(self, watch: _Watch) -> None:
        """Only what the client itself has sent: an expert's finds stay redacted."""
        settings, memory = watch.guard.settings, watch.memory
        if self._restoring is None or not isinstance(memory, Placeholders) or not memory.originals:
            return
        if isinstance(settings, PiiGuardSettings) and settings.restore:
            self._restorers.append(EventGuard(Restorer(self._restoring, memory.originals)))
            self._put_back.extend(memory.originals.items())

    def _on(self, side: Side) -> list[_Watch]:
        return [watch for watch in self._watches if side in watch.guard.settings.on]

    def _through(self, stages: Sequence[_Stage], event: Event, out: list[Event]) -> bool:
        """One event through all guards in order, onto `out`; False when it was the last."""
        if not stages:
            out.append(event)
            return True
        events, goes_on = self._write(stages[0], event)
        return all(self._through(stages[1:], each, out) for each in events) and goes_on

    def _write(self, stage: _Stage, event: Event) -> tuple[list[Event], bool]:
        if stage.failed:
            return [event], True
        try:
            return stage.guard.write(event), True
        except StoppedError as stop:
            return stop.last, False
        except FailedError as error:
            self._failed(stage.watch, "output", error.__cause__ or error)
            stage.failed = True
            return error.unread, True

    def _unreadable(self, watch: _Watch) -> None:
        """Raises ApiError 400, unless the guard is said to fail open."""
        record = watch.record("input")
        if watch.guard.settings.on_error == "open":
            record.action = "failed_open"
            return
        record.action = "failed_closed"
        raise ApiError(
            400,
            f"prompt: the guard {record.guard!r} can't read tokens, send text",
            param="prompt",
            code="content_blocked",
        )

    def _failed(self, watch: _Watch, side: Side, error: BaseException) -> None:
        """Raises ApiError 500, unless the guard is said to fail open."""
        record = watch.record(side)
        # Not the message: it may hold what was guarded.
        _log.error("the guard %s failed on the %s: %s", record.guard, side, type(error).__name__)
        if watch.guard.settings.on_error == "open":
            record.action = "failed_open"
            return
        record.action = "failed_closed"
        raise ApiError(
            500,
            f"the guard {record.guard!r} failed, so nothing passes it",
            type="server_error",
            code="guard_failed",
        )


@dataclass(slots=True)
class _Stage:
    """One guard of one answer."""

    watch: _Watch
    guard: EventGuard
    failed: bool = False


def _built(settings: GuardSettings) -> Guard:
    return PiiGuard(settings) if isinstance(settings, PiiGuardSettings) else RegexGuard(settings)


def _blocked(watch: _Watch) -> ApiError:
    name = watch.record("input").guard
    return ApiError(
        400, f"the guard {name!r} does not let this request pass", code="content_blocked"
    )


def _values(record: Record, request_id: str | None, ask: Ask) -> dict[str, object]:
    return {
        "action_id": new_id("gua"),
        "request_id": request_id,
        "at": now(),
        "key_name": ask.key.name,
        "guard": record.guard,
        "side": record.side,
        "action": record.action,
        "found": dict(record.found),
    }


def _length(request: ChatRequest) -> int:
    return sum(len(message.text) for message in request.messages)
