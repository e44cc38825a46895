"""What a router on trial would have decided, on requests that another one decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.rows import Row
from gateway.routing.batching import Batcher, Case, Then
from gateway.routing.serving import Tried
from routers.records import FAILED, Decision
from routers.router import Router

_SAMPLED = 0.2
"""Share of the requests that a shadowing router is asked about."""


class Shadow:
    """Asks a router on trial after the request has been decided; nobody waits for what it says.

    Args:
        batcher: Decides, as it does for requests.
        append: Takes rows for the ledger; never blocks.
        rng: Which requests are sampled. Of its own, so that decisions stay the same with a shadow.
    """

    def __init__(
        self, batcher: Batcher, append: Callable[[Sequence[Row]], None], rng: np.random.Generator
    ) -> None:
        self._batcher = batcher
        self._append = append
        self._rng = rng

    def behind(self, tried: Tried, served: Router, case: Case, then: Then) -> Then:
        """`then`, followed by the question to what is tried, on a sample of the requests."""
        if tried.share or self._rng.random() >= _SAMPLED:
            return then

        def decided(found: Decision | Exception) -> None:
            then(found)
            if isinstance(found, Decision):
                self._ask(tried.router, served, case, found)

        return decided

    def _ask(self, tried: Router, served: Router, case: Case, decision: Decision) -> None:
        def record(found: Decision | Exception) -> None:
            failed = isinstance(found, Exception) or FAILED in found.flags
            values = {
                "shadow_id": new_id("shd"),
                "at": now(),
                "router": served.name,
                "served_version": served.version,
                "served_expert": decision.expert,
                "version": tried.version,
                "expert_id": None if failed or isinstance(found, Exception) else found.expert,
            }
            self._append([Row(tables.shadow_decision, values)])

        self._batcher.submit(tried, case, record)
