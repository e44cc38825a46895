"""One call on the fast path: the expert's bytes in, the client's bytes out, the books closed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from experts.errors import ExpertCallError, ExpertProtocolError, ExpertTimeoutError
from experts.http.expert import HttpExpert
from experts.http.plain_connection import PlainCall
from experts.messages import Usage
from experts.wire.refusals import refusal
from experts.wire.sse import is_stream
from gateway.booking import Attempt, Booking
from gateway.execution.attempt import settle_usage
from gateway.execution.delivered import Delivered
from gateway.execution.silence import FIRST, HEAD, NEXT, WHOLE, Patience, late
from gateway.fast.clock import Clock
from gateway.fast.hold import Hold
from gateway.fast.lane import Lane
from gateway.fast.naming import ModelName
from gateway.fast.reply import Reply
from gateway.fast.streams import Stream, seen_in, text_of
from gateway.fast.whole import read_streamed, read_whole
from gateway.settings.limits import LimitSettings

_MAX_ERROR_BYTES = 64 * 1024
_GRACE_S = 1.0
"""Longest wait for usage after the last choice finished."""

Failed = Callable[[ExpertCallError, Delivered], None]


class Relay:
    """Receives an expert's answer and passes it on.

    Whatever happens, the call is booked once: as `ok`, `failed` or `cancelled`. Who made it hears
    of its end: `done` when the request is over with it, `failed` when another call may follow,
    `fault`, within the handler of an exception, when something of ours broke.

    Attributes:
        stream: The answer, if it comes as a stream.
    """

    __slots__ = (
        "_asked_at", "_attempt", "_body", "_booked", "_booking", "_call", "_clock", "_done",
        "_ending", "_expert", "_failed_to", "_fault", "_first_s", "_headers", "_hold", "_lane",
        "_next_s", "_reply", "_request", "_size", "_status", "stream",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        expert: HttpExpert,
        hold: Hold,
        booking: Booking,
        attempt: Attempt,
        reply: Reply,
        done: Callable[[int, str | None, str], None],
        failed: Failed,
        fault: Callable[[], None],
    ) -> None:
        self.stream: Stream | None = None
        self._lane = lane
        self._expert = expert
        self._hold = hold
        self._booking = booking
        self._attempt = attempt
        self._reply = reply
        self._done = done
        self._failed_to = failed
        self._fault = fault
        self._booked = False
        self._request = hold.cover.request
        self._call: PlainCall | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._ending = False

    def start(self, clock: Clock, patience: Patience) -> None:
        """Ask; `patience` says how long the expert may be silent, beside the limits.

        Raises:
            ExpertRejectedError: The expert's wire can't say what is asked; nothing is booked yet.
        """
        self._wait(clock, patience, clock.now())
        headers = self._attempt.headers
        self._call = self._expert.send(self._hold.lease, self._request, headers, self)

    def take_over(
        self, clock: Clock, patience: Patience, asked_at: float, call: PlainCall | None
    ) -> None:
        """Somebody else has asked; the answer comes here from now on.

        Args:
            clock: As for `start`.
            patience: As for `start`.
            asked_at: When that was, on the event loop's clock.
            call: The call, None if its connection is done with it already.
        """
        self._wait(clock, patience, asked_at)
        self._call = call
        if call is not None:
            call.receiver = self

    def _wait(self, clock: Clock, patience: Patience, asked_at: float) -> None:
        self._clock, self._asked_at = clock, asked_at
        limits, most_s = self._limits, min(patience.share_s, patience.begin_s)
        self._next_s = min(limits.idle_s, patience.between_s())
        if self._request.stream:
            self._first_s = min(limits.first_token_s, most_s)
            head_s = min(limits.header_s, self._first_s)
            clock.wait(HEAD, head_s, since=asked_at)
        else:
            clock.wait(WHOLE, min(limits.whole_s, most_s), since=asked_at)

    # What comes from the expert.

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self._call = None
        self._guarded(self._whole, headers, body)

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        self._guarded(self._head, status, headers)

    def on_data(self, data: bytes) -> None:
        self._guarded(self._data, data)

    def on_end(self) -> None:
        self._call = None
        self._guarded(self._body_ended)

    def on_broken(self, error: ExpertCallError) -> None:
        self._call = None
        self._guarded(self._broken, error)

    def late(self, what: str, waited_s: float) -> None:
        """Something did not come in time."""
        self._guarded(self._too_late, what, waited_s)

    def _guarded(self, step: Callable[..., None], *given: object) -> None:
        try:
            step(*given)
        except Exception:  # noqa: BLE001 - whoever calls back could not tell the client
            self._fault()

    def _whole(self, headers: Mapping[str, str], body: bytes) -> None:
        kind = headers.get("content-type", "")
        most = self._lane.settings.limits.max_answer_bytes
        if kind == "application/json" and body.startswith(b"{") and len(body) <= most:
            self._status = 200
            self._whole_ended(body)
            return
        self._head(200, headers)
        if body and not self._booked:
            self._data(body)
        if not self._booked:
            self._body_ended()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers
        if self._request.stream:
            self._clock.wait(FIRST, self._first_s, since=self._asked_at)

    def _data(self, data: bytes) -> None:
        if self.stream is None and self._status == 200 and not self._body:
            most = self._lane.settings.limits.max_answer_bytes
            if self._request.stream and is_stream(self._kind, data):
                self.stream = self._reply.stream(self._expert, self._request, most)
        if (stream := self.stream) is not None:
            passed = stream.feed(data)
            self._pass_on(stream, passed + stream.close() if stream.done else passed)
            return
        self._body.append(data)
        self._size += len(data)
        if self._status != 200:
            if self._size > _MAX_ERROR_BYTES:
                self._refused()
        elif self._size > (most := self._lane.settings.limits.max_answer_bytes):
            self.fail(self._no_answer(f"sent more than {most} bytes"))

    def _body_ended(self) -> None:
        if self.stream is not None:
            self._pass_on(self.stream, self.stream.close(), ended=True)
        elif self._status != 200:
            self._refused()
        else:
            self._whole_ended(b"".join(self._body))

    def _broken(self, error: ExpertCallError) -> None:
        if self.stream is not None and self.stream.finished:
            self._stream_ended(self.stream)
        elif self._status >= 400:
            self._refused()
        else:
            self.fail(error)

    def _too_late(self, what: str, waited_s: float) -> None:
        if self.stream is not None and self.stream.finished:
            self._stream_ended(self.stream)
        elif what == NEXT and waited_s < self._idle_s and not self._delivered().resumable:
            # Nobody could go on with it: it is waited for as if there were nobody else.
            self._next_s = self._idle_s
            self._clock.wait(NEXT, self._idle_s, since=self._clock.now() - waited_s)
        else:
            message = late(what, waited_s, self._limits)
            self.fail(ExpertTimeoutError(self._expert_id, message))

    def _pass_on(self, stream: Stream, passed: bytes, *, ended: bool = False) -> None:
        attempt = self._attempt
        if stream.begun and attempt.first_token_s is None:
            attempt.first_token_s = attempt.elapsed_s
            self._clock.extend(self._lane.stream_more_s)
        if passed:
            self._reply.piece(passed)
        if stream.failure is not None:
            self.fail(stream.failure)
        elif stream.done or ended:
            self._stream_ended(stream)
        elif stream.finished:
            # Once: what still comes does not stretch it.
            if not self._ending:
                self._ending = True
                self._clock.wait("usage", _GRACE_S)
        elif stream.spoke and stream.begun:
            stream.spoke = False
            self._clock.wait(NEXT, self._next_s)

    # How it ends.

    def _refused(self) -> None:
        body = b"".join(self._body)[:_MAX_ERROR_BYTES]
        if self._status >= 400:
            self.fail(refusal(self._expert_id, self._status, self._headers, body))
        else:
            self.fail(self._no_answer(f"answered with status {self._status}"))

    def _whole_ended(self, body: bytes) -> None:
        streamed = self._request.stream
        name = None if streamed else ModelName(self._expert_id)
        try:
            read = self._expert.dialect.reader(self._request)
            choices = self._request.choices
            if is_stream(self._kind, body):
                whole = read_streamed(self._expert_id, read, body, choices)
            else:
                whole = read_whole(self._expert_id, read, body, choices, name)
        except ExpertCallError as error:
            self.fail(error)
            return
        self._attempt.first_token_s = self._attempt.elapsed_s
        self._attempt.finish_reason = whole.finish_reason
        usage = self._settled(whole.usage, whole.seen)
        self._done(200, None, whole.text)
        if whole.body is None:
            self._reply.rendered(whole.events, usage)
        else:
            self._reply.whole(whole.body)

    def _stream_ended(self, stream: Stream) -> None:
        self._attempt.finish_reason = stream.finish_reason
        seen, text = () if stream.usage else seen_in(stream), self.text()
        usage = self._settled(stream.usage, seen)
        cost_usd = self._booking.cost_usd if self._booking.cost_complete else None
        self._done(200, None, text)
        self._reply.end(stream.ending(usage, cost_usd))

    def _settled(self, reported: Usage | None, seen: list[str] | tuple[str, ...]) -> Usage:
        """Book a call that came through; returns the tokens of the answer."""
        self._end_call()
        self._booked = True
        settle_usage(self._attempt, self._request, reported, seen)
        cost = self._booking.end(self._attempt, "ok", last=True)
        self._hold.ok(cost, self._attempt.usage)
        if (after_s := self._attempt.first_token_s) is not None:
            silence, stream = self._lane.traffic.silence, self._request.stream
            silence.ended(self._expert_id, after_s, stream=stream)
        self._lane.traffic.retries.request()
        return self._booking.usage or Usage()

    def fail(self, error: ExpertCallError) -> None:
        """The call failed; somebody may go on where it stopped."""
        self._end_call()
        self._booked = True
        delivered = self._delivered()
        settle_usage(self._attempt, self._request, self._reported(), self._seen())
        self._hold.failed(error, self._attempt.cost_nanousd(), self._attempt.usage)
        self._booking.end(self._attempt, "failed", error)
        self._failed_to(error, delivered)

    def _delivered(self) -> Delivered:
        delivered = Delivered()
        for event in self.stream.events() if self.stream is not None else ():
            delivered.add(event)
        return delivered

    def cancel(self, *, readable: bool = True) -> None:
        """Nobody wants it any more; what was read and written so far is paid for.

        Args:
            readable: Else what was written can't be told; what the expert reported still counts.
        """
        self._end_call()
        if self._booked:
            return
        self._booked = True
        seen = self._seen() if readable else []
        settle_usage(self._attempt, self._request, self._reported(), seen, sent=True)
        self._booking.end(self._attempt, "cancelled", last=True)
        self._hold.abandon(self._attempt.cost_nanousd(), self._attempt.usage)

    def pause(self, *, paused: bool) -> None:
        """The client reads more slowly than the expert writes, or has caught up.

        Meanwhile the expert is not late: nobody listens to it.
        """
        if self._call is None:
            return
        (self._call.pause if paused else self._call.resume)()
        if self.begun:
            what, wait_s = ("usage", _GRACE_S) if self._ending else (NEXT, self._next_s)
            self._clock.wait(what, math.inf if paused else wait_s)

    def _end_call(self) -> None:
        self._clock.stop()
        if self.stream is not None:
            self._expert.malformed += self.stream.malformed
        call, self._call = self._call, None
        if call is None:
            return
        if self.stream is not None and self.stream.done:
            call.detach()
        else:
            call.cancel()

    @property
    def _idle_s(self) -> float:
        return self._limits.idle_s

    @property
    def _limits(self) -> LimitSettings:
        return self._lane.traffic.limits_of(self._expert_id)

    @property
    def _kind(self) -> str:
        return self._headers.get("content-type", "")

    @property
    def _expert_id(self) -> str:
        return self._expert.card.expert_id

    def _no_answer(self, message: str) -> ExpertCallError:
        return ExpertProtocolError(self._expert_id, message)

    def _reported(self) -> Usage | None:
        return None if self.stream is None else self.stream.usage

    def _seen(self) -> list[str]:
        return [] if self.stream is None else seen_in(self.stream)

    @property
    def begun(self) -> bool:
        """Whether the answer has."""
        return self._attempt.first_token_s is not None

    def text(self) -> str:
        """What was said so far, if the books keep it."""
        if self.stream is None or not (self._booking.keeps_text or self._lane.traced):
            return ""
        return text_of(self.stream)
