"""What a request may have: by its wishes, its key, its project, and the policy it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from experts.cards import ExpertCard, Privacy, strictest
from gateway.access.keys import Key
from gateway.ask import NO_WISHES, Ask
from gateway.errors import ApiError
from gateway.pool.pool import Pool
from gateway.routing.naming import Target
from gateway.routing.policies import Policies
from gateway.settings.root import Settings
from routers.eligible import Constraints
from routers.named import NO_LIMITS, Named
from routers.records import Decision

_UNCONSTRAINED = Constraints()


class Bounds:
    """Turns wishes and rights into constraints and preferences, or refuses them.

    Args:
        settings: Aliases, projects, and the usual policy.
        pool: Who there is.
        policies: The named ones.
    """

    def __init__(self, settings: Settings, pool: Pool, policies: Policies) -> None:
        self._aliases = settings.aliases
        self._projects = settings.access.projects
        self._usual_policy = settings.routing.policy
        self._pool = pool
        self._policies = policies

    def check_scope(self, ask: Ask, target: Target) -> None:
        """Raises ApiError 403 when the key may not have what the model field names."""
        key, name = ask.key, target.expert
        if name is not None and not key.may_reach(self._pool.card(name)):
            behind = " or a model behind it" if self._pool.card(name).composed else ""
            raise _forbidden(
                f"this key may not ask the expert {name!r}{behind}", "expert_forbidden"
            )
        if target.threshold is not None and not key.follows_any:
            raise _forbidden("this key may not set its own threshold", "policy_forbidden")

    def of(self, ask: Ask, decision: Decision) -> Constraints:
        """Everything that a decision was bound by, and that whoever is asked beside is bound by."""
        named = self._policies.named.get(decision.policy)
        constraints = self.constraints(ask)
        if named is None or named.constraints is NO_LIMITS:
            return constraints
        return constraints.tightened(named.constraints)

    def constraints(self, ask: Ask) -> Constraints:
        """What its wishes, its key and its project bind it to.

        Raises:
            ApiError: 400, it allows an expert that there is not.
        """
        wishes, privacy = ask.wishes, self._privacy(ask)
        if wishes is NO_WISHES and ask.key.asks_anyone and privacy == "public":
            return _UNCONSTRAINED
        allowed: frozenset[str] | None = None
        if wishes.experts is not None:
            allowed = frozenset(self._aliases.get(name, name) for name in wishes.experts)
            unknown = sorted(allowed - set(self._pool.experts))
            if unknown:
                raise ApiError(
                    400,
                    f"pointsman.experts: no expert is called {', '.join(map(repr, unknown))}",
                    param="pointsman.experts",
                )
        cards = (expert.card for expert in self._pool.experts.values())
        allowed = _within_scope(allowed, ask.key, cards)
        latency_s = None if wishes.max_latency_ms is None else wishes.max_latency_ms / 1000
        return Constraints(
            allowed,
            wishes.max_cost_usd,
            latency_s,
            wishes.only_local,
            wishes.max_params_b,
            wishes.released_after or date.min,
            frozenset(wishes.require_tags.items()),
            privacy,
        )

    def policy(self, ask: Ask, target: Target) -> tuple[str, Named]:
        """The policy that decides, by name and as the wishes change it.

        Raises:
            ApiError: 400, there is no such policy; 403, the key may not use it.
        """
        wishes = ask.wishes
        name = target.policy or wishes.policy or self._usual_policy
        if name not in self._policies.named:
            known = ", ".join(sorted(self._policies.named))
            raise ApiError(
                400,
                f"pointsman.policy: {name!r} does not exist; there are {known}",
                param="pointsman.policy",
            )
        if not ask.key.may_follow(name):
            may = ", ".join(filter(ask.key.may_follow, sorted(self._policies.named)))
            raise _forbidden(
                f"this key may not use the policy {name!r}, but {may or 'none'}",
                "policy_forbidden",
            )
        named = self._policies.named[name]
        if wishes is NO_WISHES:
            return name, named
        base = named.preference
        soft: dict[str, float] = dict(wishes.prefer.items())
        preference = replace(
            base,
            cost_weight=base.cost_weight + soft.pop("cost", 0.0),
            latency_weight=base.latency_weight + soft.pop("latency", 0.0),
            min_quality=base.min_quality if wishes.min_quality is None else wishes.min_quality,
            prefer={**base.prefer, **soft},
        )
        return name, named._replace(preference=preference)

    def _privacy(self, ask: Ask) -> Privacy:
        """The class of a request's data: what it says itself, or its key or project of all."""
        project = self._projects.get(ask.key.project)
        of_project: Privacy = "public" if project is None else project.privacy
        return strictest(ask.wishes.privacy, ask.key.privacy, of_project)


def _forbidden(message: str, code: str) -> ApiError:
    return ApiError(403, message, type="permission_error", code=code, param="model")


def _within_scope(
    allowed: frozenset[str] | None, key: Key, cards: Iterable[ExpertCard]
) -> frozenset[str] | None:
    """The experts allowed by the wishes (None is all) that the key may ask too."""
    if key.asks_anyone:
        return allowed
    open_to = frozenset(card.expert_id for card in cards if key.may_reach(card))
    return open_to if allowed is None else open_to & allowed
