"""Makes of a quick request the `Exchange` that it would have been, at the point where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.base import Call
from experts.http.replicas import Lease
from experts.messages import ChatRequest
from gateway.access.passes import Cover
from gateway.api.chat import CHAT
from gateway.booking import Attempt, Booking
from gateway.fast.exchange import Exchange
from gateway.fast.hold import Hold, alone
from gateway.fast.lane import PATH, Admitted
from gateway.fast.plans import Plan
from gateway.fast.reply import Client
from gateway.ledger.briefs import Certain

if TYPE_CHECKING:
    from gateway.fast.quick import Quick


def unfold(quick: Quick, client: Client) -> Exchange:
    """Whoever goes on with it. What was counted and booked is not counted and booked again."""
    visit = quick.visit
    lane = visit.lane
    lane.quick.discard(quick)
    lane.metrics.in_flight -= 1
    ask = quick.ask or CHAT.parse(quick.raw, visit.headers, visit.key)
    trip = lane.telemetry.begin(CHAT.wire, visit.headers, f"req-{quick.mark}", PATH.decode())
    trip.began, trip.admit_s = quick.began, quick.admit_s
    trip.asked(ask)
    admitted = Admitted(ask, visit.key, trip, visit.passed)
    exchange = Exchange(lane, client, admitted, quick.deadline)
    exchange.enlist()
    plan, decision = quick.plan, quick.decision
    if plan is None or decision is None:
        # It is being decided.
        return exchange
    if isinstance(decision, Certain):
        decision = decision.costing(quick.usd)
    trip.decided(decision, quick.decide_s)
    booking = Booking(
        lane.ledger, ask, decision, plan.asked.text_mode, trip, lane.afterwards.of(ask)
    )
    booking.announced(quick.mark, quick.began)
    attempt = Attempt(f"att-{quick.mark}", plan.expert.card, None, quick.asked_at)
    exchange.announced(decision, plan.expert, _hold(quick, plan, ask.request), booking, attempt)
    if quick.sent:
        lane.metrics.running[plan.expert_id] -= 1
        trip.recorded(quick.ledger_s)
        trip.attempt_began(attempt)
        exchange.asking(quick.call, quick.patience, quick.asked_at)
    return exchange


def _hold(quick: Quick, plan: Plan, request: ChatRequest) -> Hold:
    lease = Lease(plan.endpoint, 0)
    # It is the same place.
    plan.endpoint.load -= 1
    call = Call(alone, None)
    call.lease = lease
    traffic = quick.visit.lane.traffic
    return Hold(traffic, plan.expert_id, quick.ticket, call, lease, Cover(request))
