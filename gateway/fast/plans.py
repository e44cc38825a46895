"""What is the same for thousands of requests, found once and looked up for each.

A client sends the same head again and again, names the same few models, and nothing of the
configuration changes in between. Whose key it is, whom the model's name means, what they cost,
which columns of the ledger and which lines of the answer's head are the same: a `Plan` holds all
that, and a request looks up two dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from experts.cards import NANO_PER_USD
from experts.http.expert import HttpExpert
from experts.http.heads import KnownHead
from experts.messages import ChatRequest, Message
from experts.wire.openai import ChatDialect
from gateway.access.keys import Key
from gateway.access.passes import FreePass
from gateway.api.chat import CHAT
from gateway.ask import HEADER_PREFIX, Ask
from gateway.booking import kept_of
from gateway.execution.silence import ENDLESS
from gateway.fast.naming import ModelName
from gateway.fast.plain_body import Plain
from gateway.ledger.briefs import Asked, Certain, Tokens
from gateway.ledger.rows import price_row
from gateway.telemetry.request_id import HEADER
from gateway.telemetry.tally import Kind
from routers.explicit import usual_answer
from routers.features import estimate_tokens
from routers.records import Decision

if TYPE_CHECKING:
    from gateway.fast.lane import Lane
    from gateway.state import Gateway

_PATH = "/v1/chat/completions"
_MOST_PLANS = 1_000
_SPECIAL = frozenset({"cache-control", "traceparent", "baggage", HEADER})
Headers = Sequence[tuple[bytes, bytes]]
Timing = tuple[float, float, float, float, float]
_SAMPLE = ChatRequest((Message("user", "Hi"),))


class Plan:
    """Calls to one expert for one key, under one name, streamed or not.

    Attributes:
        asked: What the books of all of them say.
        certain: The decision, if the expert is asked by its name.
        tally: Where those that came through are counted.
        name: Puts our name into their answers.
        expert, expert_id, endpoint, plain: Whom to call, and where.
        wait_s: Longest wait for what comes first of an answer, if nobody else could be asked.
    """

    __slots__ = (
        "_answer_tokens", "_head", "_model", "_prices", "asked", "certain", "endpoint", "expert",
        "expert_id", "name", "plain", "tally", "wait_s",
    )  # fmt: skip

    def __init__(self, lane: Lane, expert: HttpExpert, asked: Asked, decision: Decision) -> None:
        only, card, telemetry = expert.only, expert.card, lane.telemetry
        assert only is not None  # noqa: S101 - `Plans` has looked
        self.endpoint, self.plain, self._model = only
        self.expert = expert
        self.expert_id = card.expert_id
        self.asked = asked
        self.certain: Certain | None = None
        self.wait_s = lane.first_wait_s(self.expert_id, ENDLESS, stream=asked.stream)
        self.name = ModelName(self.expert_id)
        self._prices = card.prices
        self._answer_tokens = usual_answer(card)
        self._head = _head(self.expert_id, decision.router)
        key = asked.key_name if telemetry.key_labels else None
        self.tally = telemetry.metrics.tally(
            Kind(asked.wire, decision.router, decision.policy, self.expert_id, decision.flags, key)
        )
        telemetry.metrics.running.setdefault(self.expert_id, 0)

    def expected_usd(self, plain: Plain) -> float | None:
        """What the decision for a named expert says: see `routers.explicit`."""
        if self._prices is None:
            return None
        most, usual = plain.max_tokens, self._answer_tokens
        answer = usual if most is None or most > usual else most
        return self._prices.expected_usd(estimate_tokens(plain.text), answer)

    def cost_nanousd(self, tokens: Tokens) -> int | None:
        """What a call has cost, None for nobody knows."""
        if self._prices is None:
            return None
        fresh, cache_read, cache_write, output, reasoning = tokens
        return self._prices.cost_of(fresh, cache_read, cache_write, output + reasoning)

    def payload(self, body: dict[str, Any]) -> bytes:
        """What to send; `body` is changed. Written anew: what was read is what is asked."""
        body["model"] = self._model
        if self.asked.stream:
            body["stream_options"] = {**body.get("stream_options", {}), "include_usage": True}
        else:
            body.pop("stream_options", None)
        return orjson.dumps(body)

    def answer(
        self, defaults: bytes, mark: str, timing: Timing, cost: int | None, body: bytes
    ) -> bytes:
        """An answer with its head.

        Args:
            defaults: The server's own lines.
            mark: What ids end with.
            timing: Seconds, in the order of `Trip.server_timing`.
            cost: In nano-dollars.
            body: As the client gets it.
        """
        usd = b"unknown" if cost is None else b"%.9f" % (cost / NANO_PER_USD)
        ids = mark.encode()
        admit, decide, ledger, upstream, overhead = timing
        return self._head % (
            defaults, len(body), usd, ids, admit * 1e3, decide * 1e3, ledger * 1e3, upstream * 1e3,
            overhead * 1e3, ids, body,
        )  # fmt: skip


def _head(expert_id: str, router: str) -> bytes:
    # Both names were checked when they were configured: there is no line end in them.
    lines = (
        "HTTP/1.1 200 OK",
        "%bcontent-length: %d",
        "content-type: application/json",
        "x-pointsman-cost-usd: %b",
        "x-pointsman-decision-id: dec-%b",
        f"x-pointsman-expert: {expert_id.replace('%', '%%')}",
        f"x-pointsman-router: {router.replace('%', '%%')}",
        "x-pointsman-attempts: 1",
        "server-timing: admit;dur=%.3f, decide;dur=%.3f, ledger;dur=%.3f, upstream;dur=%.3f, "
        "overhead;dur=%.3f",
        f"{HEADER}: req-%b",
        "",
        "%b",
    )
    return "\r\n".join(lines).encode("latin-1")


class Plans:
    """Makes and keeps the plans of a lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._named: dict[tuple[Key, str, bool], Plan | None] = {}
        self._drawn: dict[tuple[Key, str, bool, str, str, str, tuple[str, ...]], Plan | None] = {}

    def visit(self, gateway: Gateway, head: KnownHead, host: str | None) -> Visit | None:
        """Whoever sends this head, if nothing about them has to be looked at again."""
        lane, headers = self._lane, head.headers
        if lane.traced or not lane.afterwards.idle or not _SPECIAL.isdisjoint(headers):
            return None
        if any(name.startswith(HEADER_PREFIX) for name in headers):
            return None
        generation = lane.keyring.generation
        key = lane.keyring.steady(headers, host, _PATH)
        passed = None if key is None else lane.admission.free(key)
        if key is None or passed is None:
            return None
        return Visit(gateway, lane, head, generation, key, passed)

    def named(self, key: Key, model: str, *, stream: bool) -> Plan | None:
        """For requests that name an expert; None: they name somebody else, or can't have a plan."""
        known = key, model, stream
        if known not in self._named:
            if len(self._named) >= _MOST_PLANS:
                self._named.clear()
            self._named[known] = self._made_named(key, model, stream=stream)
        return self._named[known]

    def drawn(self, key: Key, model: str, decision: Decision, *, stream: bool) -> Plan | None:
        """For requests that a router has decided."""
        kind = decision.expert, decision.router, decision.policy, decision.flags
        known = key, model, stream, *kind
        if known not in self._drawn:
            if len(self._drawn) >= _MOST_PLANS:
                self._drawn.clear()
            expert = self._direct(decision.expert, stream=stream)
            plan = expert and self._made(key, model, expert, decision, stream=stream)
            self._drawn[known] = plan or None
        return self._drawn[known]

    def _made_named(self, key: Key, model: str, *, stream: bool) -> Plan | None:
        lane = self._lane
        expert = self._direct(lane.settings.aliases.get(model, model), stream=stream)
        if expert is None or lane.settings.execution.fallbacks.get(expert.card.expert_id):
            return None
        found: list[Decision | Exception] = []
        lane.decider.submit(_ask(key, model), found.append)
        (decision,) = found
        if not isinstance(decision, Decision):
            return None
        plan = self._made(key, model, expert, decision, stream=stream)
        plan.certain = Certain(decision)
        return plan

    def _direct(self, expert_id: str, *, stream: bool) -> HttpExpert | None:
        """An expert that is asked in one place, with no limit and no field of another name."""
        lane, rules = self._lane, self._lane.traffic.rules
        expert = lane.direct.get(expert_id)
        if expert is None or expert.only is None or lane.traffic.slots.limits(expert_id):
            return None
        if stream and (rules.hold_back_s or rules.hold_back_tokens):
            return None
        dialect = expert.dialect
        return expert if isinstance(dialect, ChatDialect) and dialect.takes_all else None

    def _made(
        self, key: Key, model: str, expert: HttpExpert, decision: Decision, *, stream: bool
    ) -> Plan:
        card, settings = expert.card, self._lane.settings
        mode = kept_of(settings.ledger, _ask(key, model))
        price = None if card.prices is None else price_row(card.expert_id, card.prices)
        asked = Asked(key.name, key.project, CHAT.wire, model, stream, mode, card.expert_id, price)
        return Plan(self._lane, expert, asked, decision)


def _ask(key: Key, model: str) -> Ask:
    return Ask(_SAMPLE, model, CHAT.wire, key)


class Visit:
    """A connection whose client repeats its head.

    Attributes:
        gateway, lane: Of the configuration that it was looked at under.
        headers: The head's, by lower-case name.
        raw_headers: The same as they came.
        key: Whose it is.
        passed: Its way through the limits: there are none.
        logged: Whether there is to be a line for each request.
    """

    __slots__ = (
        "_generation", "_head", "gateway", "headers", "key", "lane", "logged", "passed",
        "raw_headers",
    )  # fmt: skip

    def __init__(
        self,
        gateway: Gateway,
        lane: Lane,
        head: KnownHead,
        generation: object,
        key: Key,
        passed: FreePass,
    ) -> None:
        self.gateway = gateway
        self.lane = lane
        self.headers: Mapping[str, str] = head.headers
        self.raw_headers = head.raw
        self.key = key
        self.passed = passed
        self.logged = lane.telemetry.access.on
        self._head = head
        self._generation = generation

    def holds(self, head: KnownHead) -> bool:
        """Whether it is still the same head, configuration and key."""
        lane = self.lane
        return (
            (self._head is head or _is_same(self._head.raw, head.raw))
            and lane.open
            and self._generation is lane.keyring.generation
        )


def _is_same(one: Headers, other: Headers) -> bool:
    """Whether two heads differ in the length of the body at most."""
    return len(one) == len(other) and all(
        mine == theirs or mine[0] == theirs[0] == b"content-length"
        for mine, theirs in zip(one, other, strict=True)
    )
