"""The routers that serve right now, refreshed when a pointer moves, without a restart."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.errors import ConfigError
from gateway.routing.router_store import Promotion, RouterStore
from routers.errors import RoutingError
from routers.router import Router, untrained_router

_log = logging.getLogger(__name__)
_STEPS = 1 << 32


@dataclass(frozen=True, slots=True)
class Tried:
    """A version that is tried beside the one that serves.

    Attributes:
        router: What it decides with.
        share: Of the requests that it decides, in [0, 1); with 0 it only says what it would do.
    """

    router: Router
    share: float


@dataclass(frozen=True, slots=True)
class _Loaded:
    routers: Mapping[str, Router]
    trials: Mapping[str, Tried] = field(default_factory=dict)

    def versions(self) -> list[tuple[str, str, str, float]]:
        found = []
        for name, router in self.routers.items():
            tried = self.trials.get(name)
            trial = (tried.router.version, tried.share) if tried else ("", 0.0)
            found.append((name, router.version, *trial))
        return found


class ServingRouters:
    """An immutable mapping that is swapped whole.

    A version that can't be loaded is reported and the one that serves goes on serving.
    """

    def __init__(self, store: RouterStore, default: str, epsilon: float) -> None:
        self._store = store
        self._default = default
        self._untrained = untrained_router(default, epsilon)
        self._loaded = _Loaded({default: self._untrained})
        self._refused: dict[str, str] = {}
        self._asked_for: Router | None = None
        # Two that look at once, and the one that looked first ends last: it would undo the other.
        self._refreshing = threading.Lock()

    @property
    def current(self) -> Mapping[str, Router]:
        return self._loaded.routers

    @property
    def loaded(self) -> list[Router]:
        """Every one that decides: those that serve, and those that are tried beside them."""
        found = self._loaded
        return [*found.routers.values(), *(tried.router for tried in found.trials.values())]

    @property
    def refused(self) -> Mapping[str, str]:
        """Router name to why its promoted version is not serving."""
        return dict(self._refused)

    def get(self, name: str) -> Router:
        """The one that serves."""
        return self._loaded.routers[name]

    def version(self, name: str, version: str) -> Router | None:
        """Any version that is there, whether it serves or not; None where it can't be loaded.

        Reads what does not serve, which takes a moment, and keeps the last one.
        """
        for router in (*self.loaded, self._asked_for):
            if router is not None and (router.name, router.version) == (name, version):
                return router
        try:
            self._asked_for = self._store.load(name, version)
        except (RoutingError, ConfigError, OSError) as error:
            _log.info("router %s: version %s can't be read: %s", name, version, error)
            return None
        return self._asked_for

    def tried(self, name: str) -> Tried | None:
        """The one that is tried beside it, if any."""
        return self._loaded.trials.get(name)

    def pick(self, name: str, session: str | None, rng: np.random.Generator) -> Router:
        """The one that decides this request: what serves, or by its share what is tried.

        All requests of a session go to the same one, so that a conversation is not torn and counts
        as one when the two are compared.
        """
        tried = self._loaded.trials.get(name)
        if tried is None or not tried.share:
            return self._loaded.routers[name]
        place = float(rng.random()) if session is None else _place(session, tried.router.version)
        return tried.router if place < tried.share else self._loaded.routers[name]

    def refresh(self) -> bool:
        """Load what was promoted or put on trial since; True if anything changed."""
        with self._refreshing:
            return self._refreshed()

    def _refreshed(self) -> bool:
        routers: dict[str, Router] = {self._default: self._untrained}
        trials: dict[str, Tried] = {}
        known, self._refused = self._refused, {}
        for name in self._store.names():
            try:
                promotion = self._store.promoted(name)
            except ConfigError as error:
                self._refused[name] = str(error)
                self._go_on(name, routers, trials)
                continue
            if promotion is None:
                continue
            router = self._load(name, promotion.version, self._loaded.routers.get(name))
            if router is not None:
                routers[name] = router
                if tried := self._trial(name, promotion):
                    trials[name] = tried
        for name, why in self._refused.items():
            if known.get(name) != why:
                _log.error("router %s is not served as it should be: %s", name, why)
        fresh = _Loaded(routers, trials)
        changed = fresh.versions() != self._loaded.versions()
        if changed:
            self._loaded = fresh
        return changed

    def _go_on(self, name: str, routers: dict[str, Router], trials: dict[str, Tried]) -> None:
        """Put what serves under a name, and what is tried beside it, among what will."""
        before = self._loaded
        if name in before.routers:
            routers[name] = before.routers[name]
        if name in before.trials:
            trials[name] = before.trials[name]

    def _trial(self, name: str, promotion: Promotion) -> Tried | None:
        if promotion.trial is None:
            return None
        before = self._loaded.trials.get(name)
        router = self._load(name, promotion.trial.version, before.router if before else None)
        if router is None or router.version != promotion.trial.version:
            return None
        return Tried(router, promotion.trial.share)

    def _load(self, name: str, version: str, loaded: Router | None) -> Router | None:
        if loaded and loaded.version == version:
            return loaded
        try:
            router = self._store.load(name, version)
        except (RoutingError, ConfigError, OSError) as error:
            self._refused[name] = f"version {version}: {error}"
            return loaded
        _log.info("router %s: version %s is loaded", name, router.version)
        return router


def _place(session: str, version: str) -> float:
    """Where a session lies in [0, 1) as far as this version is concerned."""
    digest = hashlib.sha256(f"{version}\x1f{session}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / _STEPS
