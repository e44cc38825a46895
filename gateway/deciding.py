"""Steps 3 and 4 of the trip: names and wishes to one decision, that never costs a 5xx."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

import anyio
import numpy as np

from experts.cards import ExpertCard
from experts.params import unknown_params
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.errors import ApiError
from gateway.execution.health import Health
from gateway.naming import Names, Target
from gateway.pool import Pool
from gateway.serving import ServingRouters
from gateway.settings.root import Settings
from routers.eligible import Constraints, eligible
from routers.errors import NoEligibleExpertError
from routers.features import estimate_prompt_tokens
from routers.policies.greedy import PRESETS
from routers.records import Decision, Preference
from routers.router import Router, untrained_router

_log = logging.getLogger(__name__)
EXPLICIT = "explicit"
_ALL_ABILITIES = frozenset({"text", "image", "audio", "file"})


class Decider:
    """Turns an `Ask` into a `Decision`.

    Args:
        rng: The only source of chance in the gateway.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        serving: ServingRouters,
        health: Health,
        rng: np.random.Generator,
    ) -> None:
        self._routing = settings.routing
        self._aliases = settings.aliases
        self._pool = pool
        self._serving = serving
        self._health = health
        self._fallbacks = settings.execution.fallbacks
        self._rng = rng
        self._by_name = untrained_router(EXPLICIT)
        self._policies = {**PRESETS, **self._configured()}
        if self._routing.policy not in self._policies:
            raise ApiError(500, f"routing.policy {self._routing.policy!r} is not configured")

    def _configured(self) -> dict[str, Preference]:
        return {name: p.preference() for name, p in self._routing.policies.items()}

    @property
    def names(self) -> Names:
        """Everything the `model` field may say just now."""
        return Names(
            self._pool.experts,
            self._aliases,
            self._serving.current,
            self._policies,
            self._routing.router,
        )

    async def decide(self, ask: Ask) -> Decision:
        """Who answers.

        Raises:
            ApiError: The model or the policy does not exist.
            NoEligibleExpertError: Nobody can serve the request under its constraints.
        """
        target = self.names.resolve(ask.model)
        _check_scope(ask, target)
        constraints = self._constraints(ask)
        if target.expert is not None:
            return self._explicit(ask, target.expert, constraints)
        if ask.request.task == "embed":
            return self._explicit(ask, self._embedder(), constraints)
        assert target.router is not None  # noqa: S101 - a target names one or the other
        policy, preference = self._preference(ask, target)
        return await self._routed(ask, target.router, policy, preference, constraints)

    async def _routed(
        self,
        ask: Ask,
        router_name: str,
        policy: str,
        preference: Preference,
        constraints: Constraints,
    ) -> Decision:
        router = self._serving.get(router_name)
        uniform = float(self._rng.random())
        unhealthy = self._health.reasons()

        def decide(with_router: Router, out: Mapping[str, str] = unhealthy) -> Decision:
            try:
                return with_router.decide(
                    ask.request,
                    self._pool.cards,
                    preference=preference,
                    policy_name=policy,
                    constraints=constraints,
                    unhealthy=out,
                    uniform=uniform,
                )
            except NoEligibleExpertError:
                # Whoever could serve it is out of service: waiting or a 503 is for the execution.
                if not out:
                    raise
            return decide(with_router, {})

        try:
            with anyio.fail_after(self._routing.decide_s):
                return await anyio.to_thread.run_sync(decide, router, abandon_on_cancel=True)
        except NoEligibleExpertError:
            raise
        except Exception:  # noqa: BLE001 - an answer matters more than the reason
            # Whatever is wrong with a learned router, the request can still be answered.
            _log.exception("router %s@%s failed", router_name, router.version)
            return self._default(decide(untrained_router(router_name)))

    def _embedder(self) -> str:
        """Who embeds for all that name nobody: always the same, for vectors must be comparable."""
        if self._routing.embeddings_expert is not None:
            return self._routing.embeddings_expert
        cards = [card for card in self._pool.cards if card.api == "embeddings"]
        if not cards:
            raise NoEligibleExpertError({"all": "no expert makes embeddings"})
        unpriced = (True, 0.0)
        return min(
            cards,
            key=lambda card: (False, card.prices.expected_usd(1e6, 0)) if card.prices else unpriced,
        ).expert_id

    def fallbacks(self, ask: Ask, decision: Decision) -> tuple[str, ...]:
        """Experts configured to stand in for the chosen one, as far as they can serve.

        Nobody stands in for one that embeds: others' vectors lie in another space.
        """
        names = self._fallbacks.get(decision.expert, ())
        if not names or ask.request.task == "embed":
            return ()
        cards = [self._pool.card(name) for name in names]
        tokens = estimate_prompt_tokens(ask.request)
        able, _ = eligible(ask.request, tokens, cards, {}, self._constraints(ask))
        served = {card.expert_id for card in able}
        return tuple(name for name in names if name in served)

    def _default(self, decision: Decision) -> Decision:
        """The same eligible experts, but the configured default one answers."""
        experts = decision.candidates.experts
        wanted = self._routing.default_expert
        chosen = experts.index(wanted) if wanted in experts else decision.chosen
        certain = np.zeros(len(experts))
        certain[chosen] = 1.0
        return replace(
            decision,
            chosen=chosen,
            probabilities_A=certain,
            flags=(*decision.flags, "router_failed"),
        )

    def _explicit(self, ask: Ask, expert_id: str, constraints: Constraints) -> Decision:
        """The expert that was named, whatever its card says it can do; price ceilings hold."""
        card = _unlimited(self._pool.card(expert_id))
        _check_params(ask, card)
        return self._by_name.decide(
            ask.request,
            [card],
            preference=Preference(),
            policy_name=EXPLICIT,
            constraints=constraints,
            unhealthy={},
            uniform=0.0,
        )

    def _constraints(self, ask: Ask) -> Constraints:
        wishes = ask.wishes
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
        allowed = _within_scope(allowed, ask.key, self._pool.experts)
        latency_s = None if wishes.max_latency_ms is None else wishes.max_latency_ms / 1000
        return Constraints(allowed, wishes.max_cost_usd, latency_s)

    def _preference(self, ask: Ask, target: Target) -> tuple[str, Preference]:
        wishes = ask.wishes
        name = target.policy or wishes.policy or self._routing.policy
        if name not in self._policies:
            known = ", ".join(sorted(self._policies))
            raise ApiError(
                400,
                f"pointsman.policy: {name!r} does not exist; there are {known}",
                param="pointsman.policy",
            )
        if not ask.key.may_follow(name):
            raise _forbidden(f"this key may not use the policy {name!r}", "policy_forbidden")
        base = self._policies[name]
        soft: dict[str, float] = dict(wishes.prefer.items())
        weight = base.cost_weight if target.cost_weight is None else target.cost_weight
        return name, replace(
            base,
            cost_weight=weight + soft.pop("cost", 0.0),
            latency_weight=base.latency_weight + soft.pop("latency", 0.0),
            min_quality=base.min_quality if wishes.min_quality is None else wishes.min_quality,
            prefer={**base.prefer, **soft},
        )


def _check_params(ask: Ask, card: ExpertCard) -> None:
    unknown = unknown_params(ask.request, card)
    if card.params == "strict" and unknown:
        raise ApiError(
            400,
            f"{unknown[0]}: {card.expert_id} does not take this field",
            code="unsupported_parameter",
            param=unknown[0],
        )


def _check_scope(ask: Ask, target: Target) -> None:
    """Raises ApiError 403 when the key may not have what the model field names."""
    if target.expert is not None and not ask.key.may_ask(target.expert):
        raise _forbidden(f"this key may not ask the expert {target.expert!r}", "expert_forbidden")
    if target.cost_weight is not None and not ask.key.follows_any:
        raise _forbidden("this key may not set its own threshold", "policy_forbidden")


def _forbidden(message: str, code: str) -> ApiError:
    return ApiError(403, message, type="permission_error", code=code, param="model")


def _within_scope(
    allowed: frozenset[str] | None, key: Key, experts: Collection[str]
) -> frozenset[str] | None:
    """The experts allowed by the wishes (None is all) that the key may ask too."""
    if key.asks_anyone:
        return allowed
    return frozenset(name for name in allowed or experts if key.may_ask(name))


def _unlimited(card: ExpertCard) -> ExpertCard:
    # A client that names an expert knows what it can do better than a default on a card.
    return replace(
        card, tools=True, structured_output=True, modalities=_ALL_ABILITIES, context_tokens=None
    )
