"""The routers that serve right now, refreshed when a pointer moves, without a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from gateway.errors import ConfigError
from gateway.router_store import RouterStore
from routers.errors import RoutingError
from routers.router import Router, untrained_router

_log = logging.getLogger(__name__)


class ServingRouters:
    """An immutable mapping that is swapped whole.

    A version that can't be loaded is reported and the one that serves goes on serving.
    """

    def __init__(self, store: RouterStore, default: str, epsilon: float) -> None:
        self._store = store
        self._default = default
        self._epsilon = epsilon
        self._untrained = untrained_router(default, epsilon)
        self._routers: Mapping[str, Router] = {default: self._untrained}
        self._refused: dict[str, str] = {}

    @property
    def current(self) -> Mapping[str, Router]:
        return self._routers

    @property
    def refused(self) -> Mapping[str, str]:
        """Router name to why its promoted version is not serving."""
        return dict(self._refused)

    def get(self, name: str) -> Router:
        return self._routers[name]

    def refresh(self) -> bool:
        """Load what was promoted since; True if anything changed."""
        fresh: dict[str, Router] = {self._default: self._untrained}
        for name in self._store.names():
            router = self._load(name)
            if router is not None:
                fresh[name] = router
        serving = {name: router.version for name, router in self._routers.items()}
        changed = serving != {name: router.version for name, router in fresh.items()}
        if changed:
            self._routers = fresh
        return changed

    def _load(self, name: str) -> Router | None:
        serving = self._routers.get(name)
        promotion = self._store.promoted(name)
        if promotion is None or (serving and serving.version == promotion.version):
            return serving
        try:
            router = self._store.load(name, promotion.version)
        except (RoutingError, ConfigError, OSError) as error:
            if self._refused.get(name) != str(error):
                _log.error("router %s@%s is not served: %s", name, promotion.version, error)
            self._refused[name] = str(error)
            return serving
        self._refused.pop(name, None)
        _log.info("router %s now serves version %s", name, router.version)
        return router
