"""What the `model` field may say: a router, a policy of it, an expert, an alias."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from experts.cards import ExpertCard
from experts.record import record
from gateway.access.keys import Key
from gateway.errors import ApiError


@record()
class Target:
    """Whom a request goes to: an expert by name, or a router with a policy.

    Attributes:
        expert: The expert asked for by name, None when a router decides.
        router: The router that decides, None when an expert was named.
        policy: The policy asked for, None for the default one.
        threshold: Set by RouteLLM's `router-<name>-<threshold>`, in [0, 1]; else None.
    """

    expert: str | None = None
    router: str | None = None
    policy: str | None = None
    threshold: float | None = None


@lru_cache(maxsize=4096)
def _to(expert: str) -> Target:
    return Target(expert=expert)


@dataclass(frozen=True, slots=True)
class Names:
    """All names that the endpoint answers to."""

    experts: Mapping[str, ExpertCard]
    aliases: Mapping[str, str]
    routers: Collection[str]
    policies: Collection[str]
    default_router: str
    default_policy: str

    def resolve(self, model: str) -> Target:
        """Raises ApiError 404 for a name that means nothing here."""
        expert = self.aliases.get(model, model)
        if expert in self.experts:
            return _to(expert)
        if model == "auto":
            return Target(router=self.default_router)
        kind, _, rest = model.partition(":")
        if kind == "auto" and rest in self.policies:
            return Target(router=self.default_router, policy=rest)
        if kind == "router" and rest in self.routers:
            return Target(router=rest)
        return self._routellm(model) or self._unknown(model)

    def _routellm(self, model: str) -> Target | None:
        name, _, threshold = model.removeprefix("router-").rpartition("-")
        if not model.startswith("router-") or name not in self.routers:
            return None
        try:
            value = float(threshold)
        except ValueError:
            return None
        return Target(router=name, threshold=value) if 0 <= value <= 1 else None

    def _unknown(self, model: str) -> Target:
        raise ApiError(
            404,
            f"the model {model!r} does not exist; GET /v1/models lists those that do",
            code="model_not_found",
            param="model",
        )

    def listed(self) -> list[str]:
        """Every name for `GET /v1/models`, routers first."""
        policies = [f"auto:{policy}" for policy in sorted(self.policies)]
        routers = [f"router:{router}" for router in sorted(self.routers)]
        return ["auto", *policies, *routers, *sorted(self.experts), *sorted(self.aliases)]

    def open_to(self, key: Key) -> list[str]:
        """Those of `listed` that `key` may use."""
        return [name for name in self.listed() if self._is_open(self.resolve(name), key)]

    def _is_open(self, target: Target, key: Key) -> bool:
        if target.expert is not None:
            return key.may_reach(self.experts[target.expert])
        if not key.may_follow(target.policy or self.default_policy):
            return False
        return any(key.may_reach(card) for card in self.experts.values())
