"""One plain request as a few callbacks: nothing is made for it that its plan has already.

It goes the whole way by itself only if all goes well: one call, one answer in one piece, and a
client that waits for it. Whatever else happens (a stream, a failure, silence, a client that
leaves, the end of the process), it unfolds into the `Exchange` that it would have been, which
goes on from there. So there is one place for everything that is not plain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic, time
from typing import TYPE_CHECKING

import orjson

from experts.cards import NANO_PER_USD
from experts.errors import ExpertCallError
from experts.http.plain_connection import PlainCall
from gateway.api.chat_in import parse_chat
from gateway.ask import Ask
from gateway.errors import LedgerError
from gateway.execution.silence import ENDLESS, Patience
from gateway.fast.nobody import NOBODY_WAITS
from gateway.fast.plain_answer import PlainAnswer, read_answer
from gateway.fast.plain_body import Plain, read_plain
from gateway.fast.plans import Plan, Visit
from gateway.fast.unfolding import unfold
from gateway.ids import new_mark
from gateway.ledger.briefs import Certain, Closing, Opening
from gateway.telemetry.tally import MOST
from gateway.telemetry.trip import NO_HEADERS
from routers.records import Decision

if TYPE_CHECKING:
    from gateway.fast.exchange import Exchange
    from gateway.fast.protocol import FastProtocol

_log = logging.getLogger(__name__)
_JSON = "application/json"
_MOST_PIECES = 8


class Quick:
    """One plain request. It stands in for the server's own cycles, and takes the expert's answer.

    Args:
        protocol: The connection it came over.
        visit: Whose it is, and who serves it.
        raw: Its body.
        plain: What that says.
        began: Seconds on `time.monotonic`, which is the event loop's clock too.

    Attributes:
        response_complete, disconnected, keep_alive, message_event: As the server's own cycles.
        ask: What is asked, if a router has to know.
        decision: Who answers, once that is known.
        plan: How that one is asked, once that is known.
        usd: What a certain decision expects it to cost.
        sent: Whether the call was made.
        call: The call while its answer is waited for.
        deadline: When all of it has to be over.
        exchange: What goes on in its place, once something does.
    """

    __slots__ = (
        "_came", "_due", "_opening", "_payload", "_protocol", "_stream", "_text", "admit_s", "ask",
        "asked_at", "began", "call", "deadline", "decide_s", "decision", "disconnected", "exchange",
        "gateway", "keep_alive", "ledger_s", "mark", "patience", "plan", "raw", "response_complete",
        "sent", "ticket", "usd", "visit",
    )  # fmt: skip

    message_event = NOBODY_WAITS

    def __init__(
        self,
        protocol: FastProtocol,
        visit: Visit,
        raw: bytes,
        plain: Plain,
        began: float,
    ) -> None:
        self._protocol = protocol
        self._stream = plain.stream
        self._text = plain.text
        self.gateway = visit.gateway
        self.visit = visit
        self.raw = raw
        self.began = began
        self.mark = new_mark()
        self.response_complete = self.disconnected = self.sent = False
        self.keep_alive = True
        self.ask: Ask | None = None
        self.plan: Plan | None = None
        self.decision: Decision | Certain | None = None
        self.usd: float | None = None
        self.call: PlainCall | None = None
        self.exchange: Exchange | None = None
        self.patience: Patience = ENDLESS
        self._came: tuple[Mapping[str, str], list[bytes]] | None = None
        self.admit_s = self.decide_s = self.ledger_s = 0.0

    @classmethod
    def of(cls, protocol: FastProtocol, visit: Visit, raw: bytes) -> Quick | None:
        """A request, if it is plain and may be answered now; nothing is counted before `begin`."""
        began, lane = monotonic(), visit.lane
        plain = None if len(raw) > lane.max_body_bytes or lane.ledger.pressed else read_plain(raw)
        if plain is None:
            return None
        model = plain.body["model"]
        plan = lane.plans.named(visit.key, model, stream=plain.stream)
        if plan is not None:
            ticket = lane.traffic.admit_now(plan.expert_id)
            if ticket is None:
                return None
            quick = cls(protocol, visit, raw, plain, began)
            quick.ticket, quick.plan, quick.decision = ticket, plan, plan.certain
            quick.usd = plan.expected_usd(plain)
            quick._payload = plan.payload(plain.body)
        elif lane.is_drawn(model, stream=plain.stream):
            quick = cls(protocol, visit, raw, plain, began)
            # A router weighs the request as a whole.
            quick.ask = parse_chat(plain.body, visit.headers, visit.key)
        else:
            return None
        quick.admit_s = monotonic() - began
        return quick

    def begin(self) -> None:
        """Have it decided, put on record and asked."""
        lane = self.visit.lane
        lane.metrics.in_flight += 1
        self._due = self.deadline = self.began + lane.total_s
        lane.quick.add(self, self._protocol.loop)
        if self.plan is not None:
            self._announce(self.plan)
        elif self.ask is not None:
            lane.decider.submit(self.ask, self._decided)

    def _decided(self, found: Decision | Exception) -> None:
        try:
            if self.exchange is not None or not self._is_drawn(found):
                self.unfold().decided(found)
        except Exception:  # noqa: BLE001 - others wait behind this callback
            self.fault()

    def _is_drawn(self, found: Decision | Exception) -> bool:
        """Ask who was chosen; False if that takes more than a call."""
        ask, visit, lane = self.ask, self.visit, self.visit.lane
        if not isinstance(found, Decision) or ask is None:
            return False
        plan = lane.plans.drawn(visit.key, ask.model, found, stream=self._stream)
        ticket = None if plan is None else lane.traffic.admit_now(plan.expert_id)
        if plan is None or ticket is None:
            return False
        now = monotonic()
        self.decide_s = now - self.began - self.admit_s
        self.ticket = ticket
        self.decision = found
        self.patience = lane.patience(ask, found, self.deadline - now)
        self._payload = plan.payload(dict(ask.body))
        self._announce(plan)
        return True

    def _announce(self, plan: Plan) -> None:
        ledger, decision = self.visit.lane.ledger, self.decision
        assert decision is not None  # noqa: S101 - it is known who answers
        self.plan = plan
        plan.endpoint.load += 1
        self.asked_at = monotonic()
        opening = Opening(plan.asked, self.mark, time(), self._text, decision, self.usd)
        self._opening = opening
        ledger.open(opening)
        if not ledger.commit_then((), self._recorded):
            self._ask(plan)

    def _recorded(self, error: LedgerError | None) -> None:
        try:
            if self.exchange is not None or error is not None or self.plan is None:
                self.unfold().recorded(error)
                return
            began, self.asked_at = self.asked_at, monotonic()
            self.ledger_s = self.asked_at - began
            self._ask(self.plan)
        except Exception:  # noqa: BLE001 - others wait behind this callback
            self.fault()

    def _ask(self, plan: Plan) -> None:
        lane = self.visit.lane
        lane.metrics.running[plan.expert_id] += 1
        patience, wait_s = self.patience, plan.wait_s
        if patience is not ENDLESS:
            wait_s = lane.first_wait_s(plan.expert_id, patience, stream=self._stream)
        due = self.asked_at + wait_s
        if due < self._due:
            self._due = due
        self.sent = True
        self.call = plan.plain.send(self._payload, NO_HEADERS, self)
        self._payload = b""
        if self._stream:
            # Not before it is sent; what a stream needs is there before its first token comes.
            self._protocol.loop.call_soon(self._expect_stream)

    def _expect_stream(self) -> None:
        try:
            self.unfold()
        except Exception:  # noqa: BLE001 - the event loop would only log it
            self.fault()

    # What comes from the expert.

    def on_whole(self, headers: Mapping[str, str], body: bytes) -> None:
        self.call = None
        try:
            if headers.get("content-type") != _JSON or not self._passes(body):
                self.unfold().relay.on_whole(headers, body)
        except Exception:  # noqa: BLE001 - whoever calls back could not tell the client
            self.fault()

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        if status == 200 and not self._stream and headers.get("content-type", "").startswith(_JSON):
            self._came = (headers, [])
        else:
            self.unfold().relay.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        if self._came is None:
            return
        pieces = self._came[1]
        pieces.append(data)
        if len(pieces) > _MOST_PIECES:
            # Long answers are measured as they come.
            self.unfold()

    def on_end(self) -> None:
        self.call = None
        try:
            if self._came is None or not self._passes(b"".join(self._came[1])):
                exchange = self.unfold()
                # What came may have been too much already.
                if not exchange.over:
                    exchange.relay.on_end()
        except Exception:  # noqa: BLE001 - see above
            self.fault()

    def on_broken(self, error: ExpertCallError) -> None:
        self.call = None
        exchange = self.unfold()
        if not exchange.over:
            exchange.relay.on_broken(error)

    def _passes(self, body: bytes) -> bool:
        """Pass on an answer, if it is all that a client counts on."""
        fits = len(body) <= self.visit.lane.max_answer_bytes
        answer = read_answer(body) if fits and self.keep_alive and not self._stream else None
        if answer is None or self.plan is None:
            return False
        try:
            passed = self.plan.name.put(body, answer.data)
        except orjson.JSONEncodeError:
            return False
        self._end(answer, passed)
        return True

    def _end(self, answer: PlainAnswer, passed: bytes) -> None:
        """The answer is all that a client counts on: close the books, pass it on."""
        plan, visit, protocol = self.plan, self.visit, self._protocol
        assert plan is not None  # noqa: S101 - it was asked
        lane, now = visit.lane, monotonic()
        call_s, total_s = now - self.asked_at, now - self.began
        tokens, cost = answer.tokens, plan.cost_nanousd(answer.tokens)
        reason, text = answer.finish_reason, answer.text
        closing = Closing(self._opening, time(), tokens, cost, call_s, total_s, reason, text)
        lane.ledger.shut(closing)
        self.response_complete = True
        self._settle(plan, call_s, cost)
        seen = plan.tally.seen
        seen.append((self.decide_s, call_s, total_s, tokens, cost))
        if len(seen) >= MOST:
            plan.tally.add_up()
        if visit.logged:
            lane.telemetry.access.write_brief(closing)
        timing = (self.admit_s, self.decide_s, self.ledger_s, call_s, total_s - call_s)
        lines = lane.default_lines(protocol.server_state.default_headers)
        written = plan.answer(lines, self.mark, timing, cost, passed)
        protocol.outbox.send(protocol.transport, written)
        lane.quick.discard(self)
        protocol.ended(self)

    def _settle(self, plan: Plan, call_s: float, cost: int | None) -> None:
        """Give back what was taken for the call, and tell who wants to know how it went."""
        lane, expert_id = self.visit.lane, plan.expert_id
        traffic, metrics = lane.traffic, lane.metrics
        plan.endpoint.load -= 1
        metrics.in_flight -= 1
        metrics.running[expert_id] -= 1
        traffic.health.record(expert_id, None, self.ticket)
        traffic.silence.ended(expert_id, call_s, stream=False)
        traffic.retries.request()
        decision = self.decision
        if isinstance(decision, Decision) and decision.settle is not None and cost is not None:
            decision.settle(cost / NANO_PER_USD)

    # What goes otherwise.

    def unfold(self) -> Exchange:
        """What goes on in its place."""
        if self.exchange is None:
            client = self._protocol.client_of(self)
            self.exchange = client.exchange = unfold(self, client)
            came, self._came = self._came, None
            if came is not None:
                relay, (headers, pieces) = self.exchange.relay, came
                relay.on_head(200, headers)
                if pieces:
                    # Together: behind a piece that is too much, no other may follow.
                    relay.on_data(b"".join(pieces))
        return self.exchange

    def check(self, now: float) -> None:
        """See `gateway.fast.clock.Timed`."""
        if now >= self._due:
            self.unfold().check(now)

    def fault(self) -> None:
        """Something of ours broke; call it where the exception is handled."""
        if self.response_complete:
            _log.exception("request req-%s failed", self.mark)
            self._protocol.transport.abort()
        else:
            self.unfold().fault()
