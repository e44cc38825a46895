"""Which requests take the fast path, and what all of them share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from experts.http.breaker import BreakerState
from experts.http.expert import HttpExpert
from experts.wire.openai import ChatDialect
from gateway.access.admission import Admission
from gateway.access.keyring import Keyring
from gateway.access.keys import Key
from gateway.access.passes import Pass
from gateway.api.chat import CHAT
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.execution.execution import plan_of
from gateway.execution.silence import ENDLESS, Patience
from gateway.execution.traffic import Traffic
from gateway.fast import heads
from gateway.fast.clock import Timed, Wheel
from gateway.fast.plans import Plans
from gateway.ledger.store import Ledger
from gateway.outcomes.afterwards import Afterwards
from gateway.pool.pool import Pool
from gateway.routing.deciding import Decider
from gateway.settings.root import Settings
from gateway.telemetry.request_id import HEADER, request_id_from
from gateway.telemetry.trip import Telemetry, Trip
from routers.records import Decision

if TYPE_CHECKING:
    from gateway.fast.exchange import Exchange
    from gateway.fast.quick import Quick

PATH = b"/v1/chat/completions"
PATHS = frozenset({PATH, b"/chat/completions"})
"""The same, see `gateway.api.base_urls`."""
MAX_BODY_BYTES = 64 * 1024
"""Larger ones are counted, see `gateway.server.bodies`, and parsed where nobody waits for it."""


class Admitted(NamedTuple):
    """A request that was understood and let in."""

    ask: Ask
    key: Key
    trip: Trip
    passed: Pass


class Lane:
    """Lets in what can be served without waiting for anything but the expert.

    Everything else is left to the ordinary path: other routes, large bodies, whatever is refused,
    guards and caches, limits that are counted elsewhere. Nothing is done for a request before it
    is certain that it stays, or else what was done is handed over.

    Attributes:
        live: Requests under way.
        wheel: Looks after their clocks.
        quick: Requests under way that are plain so far, and looks after them.
        plans: What many requests have alike.
        open: Whether anything comes this way at all; not any more once it has a successor.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        keyring: Keyring,
        admission: Admission,
        decider: Decider,
        traffic: Traffic,
        ledger: Ledger,
        telemetry: Telemetry,
        afterwards: Afterwards,
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.admission = admission
        self.decider = decider
        self.traffic = traffic
        self.ledger = ledger
        self.telemetry = telemetry
        self.afterwards = afterwards
        self.keyring = keyring
        self.metrics = telemetry.metrics
        self.live: set[Exchange] = set()
        self.wheel: Wheel[Timed] = Wheel()
        self.quick: Wheel[Quick] = Wheel()
        self.traced = bool(telemetry.tracing)
        self.direct = _direct(pool, traffic)
        self.plans = Plans(self)
        self.max_body_bytes = min(MAX_BODY_BYTES, settings.limits.max_body_bytes)
        self.max_answer_bytes = settings.limits.max_answer_bytes
        self.total_s = settings.limits.total_s
        self.stream_more_s = settings.limits.stream_more_s
        self._default: tuple[Sequence[tuple[bytes, bytes]], bytes] = (), b""
        self.open = bool(
            settings.server.fast_path
            and self.direct
            and not settings.guards
            and not settings.cache.on
        )

    @property
    def pressed(self) -> bool:
        """Whether the ledger has so much to write that new requests have to wait."""
        return self.ledger.pressed

    def admit(self, raw: bytes, headers: Mapping[str, str], host: str | None) -> Admitted | None:
        """A request from its body and headers; None: it is not for this path."""
        too_much = len(raw) > self.settings.limits.max_body_bytes
        if too_much or "x-pointsman-debug" in headers:
            return None
        try:
            key = self.keyring.find(headers, host, "/v1/chat/completions")
            ask = CHAT.parse(raw, headers, key)
            if self._special(ask) or not self._may_come(ask):
                return None
            passed = self.admission.admit_now(ask)
        except ApiError:
            return None
        if passed is None:
            return None
        given = headers.get(HEADER)
        request_id = request_id_from(None if given is None else given.encode("latin-1"))
        trip = self.telemetry.begin(CHAT.wire, headers, request_id, "/v1/chat/completions")
        trip.asked(ask)
        trip.admitted()
        return Admitted(ask, key, trip, passed)

    def is_drawn(self, model: str, *, stream: bool) -> bool:
        """Whether a router decides about requests for `model`, if it means anything."""
        name, rules = self.settings.aliases.get(model, model), self.traffic.rules
        return name not in self.pool.experts and not (
            stream and (rules.hold_back_s or rules.hold_back_tokens)
        )

    def first_wait_s(self, expert_id: str, patience: Patience, *, stream: bool) -> float:
        """Longest wait for what comes first of an expert's answer."""
        limits, most_s = self.traffic.limits_of(expert_id), min(patience.share_s, patience.begin_s)
        if stream:
            return min(limits.header_s, limits.first_token_s, most_s)
        return min(limits.whole_s, most_s)

    def default_lines(self, defaults: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The server's own header lines, which change once a second."""
        before, lines = self._default
        if before is not defaults:
            lines = heads.raw_lines(defaults)
            self._default = defaults, lines
        return lines

    def shut_down(self, failure: ApiError) -> None:
        """Every request under way ends with `failure`."""
        for quick in list(self.quick.waiting):
            quick.unfold()
        for exchange in list(self.live):
            exchange.shut_down(failure)
        # Who is left waits for the ledger. The ordinary path refuses them.
        for waiting in list(self.wheel.waiting):
            waiting.check(math.inf)

    def expert(self, decision: Decision) -> HttpExpert | None:
        """The chosen expert, if it can be asked without a task."""
        return self.direct.get(decision.expert)

    def patience(self, ask: Ask, decision: Decision, left_s: float) -> Patience:
        """How long the first call may be silent, with so many seconds until the deadline."""
        if not self._has_other(ask, decision):
            return ENDLESS
        silence, chosen = self.traffic.silence, decision.expert
        probe = self.traffic.health.state(chosen) is not BreakerState.CLOSED
        resumes = self.traffic.rules.mid_stream == "resume"
        return Patience(
            *silence.patience(chosen, left_s, stream=ask.request.stream, probe=probe),
            lambda: silence.between_s if resumes else math.inf,
        )

    def _has_other(self, ask: Ask, decision: Decision) -> bool:
        if self.direct[decision.expert].has_spare(()):
            return True
        fallbacks = self.decider.fallbacks(ask, decision)
        if len(decision.candidates.experts) == 1 and not fallbacks:
            return False
        plan = plan_of(decision, fallbacks, self.pool.experts, self.traffic)
        return plan.has_other((), decision.expert)

    def _special(self, ask: Ask) -> bool:
        """Whether its clocks are others than those of most, or it has a check to be looked at."""
        rules = self.traffic.rules
        held = ask.request.stream and bool(rules.hold_back_s or rules.hold_back_tokens)
        wishes = ask.wishes
        return held or wishes.max_latency_ms is not None or wishes.check is not None

    def _may_come(self, ask: Ask) -> bool:
        """Whether whom the request names is on this path; a router may choose anybody."""
        name = self.settings.aliases.get(ask.model, ask.model)
        return name in self.direct or name not in self.pool.experts


def _direct(pool: Pool, traffic: Traffic) -> Mapping[str, HttpExpert]:
    return {
        name: expert
        for name, expert in pool.experts.items()
        if isinstance(expert, HttpExpert)
        and expert.plain
        and isinstance(expert.dialect, ChatDialect)
        and name not in traffic.hedge_s
        and not traffic.residents.sleeps(name)
    }
