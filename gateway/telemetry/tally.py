"""Figures of requests that came through by their first call: noted one by one, added up together.

Twenty additions for each request would take longer than all else that is done for it. Who reads
the figures has them added up first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experts.cards import NANO_PER_USD

if TYPE_CHECKING:
    from gateway.telemetry.metrics import Metrics

MOST = 500
"""Requests that are noted before they are added up."""


Seen = tuple[float, float, float, tuple[int, int, int, int, int], int | None]
"""One request: seconds of the decision, of the call, and from request to closed books; tokens as
`gateway.ledger.briefs.Tokens`; nano-dollars, None for nobody knows."""


class Kind(NamedTuple):
    """What such requests are counted by; `key` only where names of keys become labels."""

    wire: str
    router: str
    policy: str
    expert: str
    flags: tuple[str, ...]
    key: str | None


class Tally:
    """Requests of one kind, each with status 200 and in one piece.

    Attributes:
        seen: Those that are not added up yet.
    """

    __slots__ = ("_kind", "_metrics", "seen")

    def __init__(self, metrics: Metrics, kind: Kind) -> None:
        self._metrics = metrics
        self._kind = kind
        self.seen: list[Seen] = []

    def add_up(self) -> None:
        """Into the figures with what was noted."""
        seen, self.seen = self.seen, []
        if not seen:
            return
        metrics, kind, count = self._metrics, self._kind, len(seen)
        decide_N, call_N, total_N = np.array([each[:3] for each in seen]).T
        decisions, decide = metrics.of_decision(kind.router, kind.policy, kind.expert)
        attempts, latency = metrics.of_attempt(kind.expert, "ok")
        requests, whole, overhead = metrics.of_request(
            kind.wire, kind.expert, kind.policy, 200, False
        )
        for counter in (decisions, attempts, requests):
            counter.value += count
        for flag in kind.flags:
            metrics.flags.add((flag,), count)
        decide.observe_all(decide_N)
        latency.observe_all(call_N)
        whole.observe_all(total_N)
        overhead.observe_all(total_N - call_N)
        self._add_tokens(seen)
        self._add_costs(seen)

    def _add_tokens(self, seen: list[Seen]) -> None:
        tokens, expert = self._metrics.tokens, self._kind.expert
        sums = [sum(column) for column in zip(*(each[3] for each in seen), strict=True)]
        for name, amount in zip(_TOKENS, sums, strict=True):
            if amount or name in ("input", "output"):
                tokens.add((expert, name), amount)

    def _add_costs(self, seen: list[Seen]) -> None:
        metrics, key = self._metrics, self._kind.key
        costs = [each[4] for each in seen]
        usd = sum(cost or 0 for cost in costs) / NANO_PER_USD
        if usd:
            metrics.cost.add((self._kind.expert,), usd)
        if unknown := costs.count(None):
            metrics.unpriced.add((), unknown)
        if free := costs.count(0):
            metrics.free.add((), free)
        if key is not None:
            metrics.key_requests.add((key,), len(seen))
            metrics.key_cost.add((key,), usd)


_TOKENS = ("input", "cache_read", "cache_write", "output", "reasoning")
