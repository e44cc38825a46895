"""The named policies: fitted to the routers that serve; those that adapt outlive a reload."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from experts.cards import ExpertCard
from gateway.settings.policies import PolicySettings
from routers.base import AdaptivePolicy, FittedPolicy, Policy
from routers.eligible import Constraints
from routers.errors import TableError
from routers.named import NO_LIMITS, Named, fitted
from routers.policies.greedy import PRESETS
from routers.router import Router

_log = logging.getLogger(__name__)
UNFITTED = "policy_unfitted"

Adaptive = dict[str, tuple[PolicySettings, AdaptivePolicy]]
"""Policies that adapt, by name, with the settings that made them."""


class Decides(NamedTuple):
    """What decides a request under a router; see `gateway.routing.batching.Case`."""

    by: Policy | None = None
    settle: Callable[[float], None] | None = None
    flags: tuple[str, ...] = ()


_ROUTERS_OWN = Decides()
_UNFITTED = Decides(flags=(UNFITTED,))


class Policies:
    """Every policy that requests may name.

    Args:
        configured: Of `routing.policies`.
        cards: The pool.
        adaptive: Those that adapt; new ones are put in, and of others those with the same settings
            go on as they are.
    """

    def __init__(
        self,
        configured: Mapping[str, PolicySettings],
        cards: Sequence[ExpertCard],
        adaptive: Adaptive,
    ) -> None:
        self._cards = tuple(cards)
        self._adaptive = adaptive
        self._configured = configured
        self.named: Mapping[str, Named] = named_policies(configured)
        self._decides: Mapping[tuple[str, str], Mapping[str, Decides]] = {}

    def decides(self, name: str, router: Router) -> Decides:
        """What decides under a policy and a router: its own, where none could be fitted to it."""
        if self.named[name].policy is None:
            return _ROUTERS_OWN
        return self._decides.get((router.name, router.version), {}).get(name, _UNFITTED)

    def prepare(self, routers: Iterable[Router]) -> None:
        """Fit the policies to routers that are new; takes a moment, best off the event loop."""
        before = self._decides
        by_version = {(router.name, router.version): router for router in routers}
        self._decides = {
            key: before.get(key) or dict(self._prepared(router))
            for key, router in by_version.items()
        }

    def _prepared(self, router: Router) -> Iterator[tuple[str, Decides]]:
        for name, named in self.named.items():
            if named.policy is None:
                continue
            try:
                yield name, self._ready(name, named, router)
            except TableError as error:
                _log.warning("policy %s is not fitted to router %s: %s", name, router.name, error)
                yield name, _UNFITTED

    def _ready(self, name: str, named: Named, router: Router) -> Decides:
        policy = named.policy
        if isinstance(policy, AdaptivePolicy):
            adapting = self._going_on(name, named, router)
            return Decides(adapting, adapting.observe)
        if isinstance(policy, FittedPolicy):
            policy = fitted(policy, named, router, self._cards)
        return Decides(policy)

    def _going_on(self, name: str, named: Named, router: Router) -> AdaptivePolicy:
        """One that adapts is fitted once, and goes on from there under every router."""
        settings = self._configured[name]
        before = self._adaptive.get(name)
        if before is not None and before[0] == settings:
            return before[1]
        policy = named.policy
        if isinstance(policy, FittedPolicy):
            try:
                policy = fitted(policy, named, router, self._cards)
            except TableError as error:
                _log.info("policy %s starts from nothing: %s", name, error)
        assert isinstance(policy, AdaptivePolicy)  # noqa: S101 - or it would not be here
        self._adaptive[name] = settings, policy
        return policy


def named_policies(configured: Mapping[str, PolicySettings]) -> dict[str, Named]:
    """The presets, and those of `routing.policies`, which may replace them."""
    presets = {name: Named(preference) for name, preference in PRESETS.items()}
    return presets | {
        name: Named(each.preference(), _limits(each), each.policy())
        for name, each in configured.items()
    }


def _limits(settings: PolicySettings) -> Constraints:
    """What policies without limits have is one and the same, so that it is cheap to tell."""
    limits = settings.constraints()
    return NO_LIMITS if limits == NO_LIMITS else limits
