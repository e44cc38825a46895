"""The learning loop over a ledger of a world whose truth is known, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from gateway.ledger.trials import events
from gateway.routing.router_store import RouterStore
from gateway.routing.serving import ServingRouters
from routers.fitting.fit import fit_router
from routers.router import Router
from tests.gateway.logged_world import Questions

EPSILON = 0.5


class Loop:
    """A ledger and versions of one router."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self.url = f"sqlite:///{directory}/ledger.db"
        self.engine = engine
        self.store = RouterStore(directory / "routers")
        self.rng = np.random.default_rng(5)

    def serve(self, estimator: str, rows: int = 300, epsilon: float = EPSILON) -> Router:
        """Learn something on the side, and let it serve."""
        rng = np.random.default_rng(9)
        table = Questions.draw(rows, rng).table(rng)
        router = fit_router("default", estimator, table, seed=0, epsilon=epsilon)
        self.store.promote("default", self.store.publish(router))
        return router

    @property
    def serving(self) -> ServingRouters:
        """What serves now, and what is tried."""
        serving = ServingRouters(self.store, "default", EPSILON)
        serving.refresh()
        return serving

    def told(self) -> list[str]:
        """What happened to the router, in order."""
        return [event["event"] for event in reversed(events(self.engine, "default"))]
