"""Steps 3 and 4 of the trip: names and wishes to one decision, that never costs a 5xx."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import anyio
import anyio.to_thread
import numpy as np

from experts.barred import barred
from experts.cards import ExpertCard
from experts.messages import ChatRequest
from experts.params import refused_params
from gateway.ask import Ask
from gateway.embedding.choosing import usual_embedder
from gateway.embedding.spaces import embeds, other_space
from gateway.errors import ApiError
from gateway.execution.traffic import Traffic
from gateway.ledger.rows import Row
from gateway.pool.pool import Pool
from gateway.routing.batching import Batcher, Case, Then, expectations
from gateway.routing.bounds import Bounds
from gateway.routing.exploring import Exploration
from gateway.routing.naming import Names, Target
from gateway.routing.policies import Adaptive, Policies
from gateway.routing.serving import ServingRouters, Tried
from gateway.routing.shadowing import Shadow
from gateway.settings.root import Settings
from routers.eligible import Constraints, eligible
from routers.errors import RoutingError, Unstated
from routers.explaining.reasons import Why
from routers.explicit import explicit_decision
from routers.features import estimate_prompt_tokens
from routers.named import NO_LIMITS
from routers.policies.threshold import ThresholdPolicy
from routers.records import FAILED, Decision
from routers.router import Router

_log = logging.getLogger(__name__)


class Decider:
    """Turns an `Ask` into a `Decision`.

    Args:
        traffic: Who is out of service, who has to be waited for, and who wants to hear that soon
            somebody is asked.
        adaptive: Policies that adapt; see `Policies`.
        rng: The only source of chance in the gateway.
        append: Takes rows for the ledger; never blocks.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        serving: ServingRouters,
        traffic: Traffic,
        adaptive: Adaptive,
        rng: np.random.Generator,
        append: Callable[[Sequence[Row]], None],
    ) -> None:
        self._routing = settings.routing
        self._aliases = settings.aliases
        self._pool = pool
        self._serving = serving
        self._fallbacks = settings.execution.fallbacks
        self._rng = rng
        self._policies = Policies(self._routing.policies, pool.cards, adaptive)
        if self._routing.policy not in self._policies.named:
            raise ApiError(500, f"routing.policy {self._routing.policy!r} is not configured")
        self._bounds = Bounds(settings, pool, self._policies)
        # RouteLLM's thresholds are about a strong and a weak expert.
        self._is_pair = sum(card.api == "chat" for card in pool.cards) == 2
        self._names: Names | None = None
        self._residents = traffic.residents
        self._batcher = Batcher(
            pool.cards,
            traffic.health,
            self._routing.default_expert,
            self._routing.decide_s,
            waits_s=traffic.waits_s,
        )
        budget_usd = self._routing.explore_budget_usd
        workers = max(1, settings.server.workers)
        self._exploration = Exploration(None if budget_usd is None else budget_usd / workers)
        # One at a time: a version that serves no more has to be read.
        self._explaining = anyio.CapacityLimiter(1)
        self._shadow = Shadow(self._batcher, append, np.random.default_rng())

    def prepare(self) -> None:
        """Fit the policies to routers that began to serve; takes a moment, in any thread."""
        self._policies.prepare(self._serving.loaded)

    @property
    def names(self) -> Names:
        """Everything the `model` field may say just now."""
        routers = self._serving.current
        if self._names is None or self._names.routers is not routers:
            self._names = Names(
                {card.expert_id: card for card in self._pool.cards},
                self._aliases,
                routers,
                self._policies.named,
                self._routing.router,
                self._routing.policy,
            )
        return self._names

    def submit(self, ask: Ask, then: Then) -> None:
        """Have it decided who answers; for callbacks, which can't wait.

        Call it on the event loop; `then` is called there, exactly once: before this returns when
        the request names an expert, embeds or is refused, else at the end of the loop's turn or,
        with a slow router, up to `routing.decide_s` later. It gets what `decide` returns or raises.
        """
        if self._residents.engines:
            then = self._residents.noting(then)
        try:
            found = self._named_or_case(ask)
        except (ApiError, RoutingError) as error:
            then(error)
            return
        if isinstance(found, Decision):
            then(found)
        else:
            router, case = found
            if tried := self._serving.tried(router.name):
                then = self._shadow.behind(tried, router, self._tried(tried, router, case), then)
            self._batcher.submit(router, case, self._exploration.behind(then))

    async def decide(self, ask: Ask) -> Decision:
        """Who answers.

        Raises:
            ApiError: The model or the policy does not exist.
            NoEligibleExpertError: Nobody can serve the request under its constraints.
        """
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

        def settle(found: Decision | Exception) -> None:
            # Who waited may have been cancelled.
            if decided.done():
                return
            if isinstance(found, Exception):
                decided.set_exception(found)
            else:
                decided.set_result(found)

        self.submit(ask, settle)
        return await decided

    async def why(self, text: str, decision: Decision) -> Why | None:
        """What spoke for who was chosen, worked out anew in a thread; None where nothing is known.

        Args:
            text: Of the request.
            decision: As `decide` returned it, or as it is in the ledger.
        """
        if decision.router == "explicit" or FAILED in decision.flags:
            return None

        def work_out() -> Why | None:
            router = self._serving.version(decision.router, decision.version)
            return None if router is None else router.why(text, decision)

        return await anyio.to_thread.run_sync(work_out, limiter=self._explaining)

    def _named_or_case(self, ask: Ask) -> Decision | tuple[Router, Case]:
        """The decision where the request leaves none, else which router is to make it."""
        target = self.names.resolve(ask.model)
        self._bounds.check_scope(ask, target)
        constraints = self._bounds.constraints(ask)
        if target.expert is not None:
            if ask.built and target.expert not in ask.built.values():
                raise other_space(f"{', '.join(ask.built)} was not embedded by {target.expert!r}")
            return self._explicit(ask, target.expert, constraints)
        if embeds(ask):
            routing, routers = self._routing, self._serving.current
            expert = usual_embedder(ask, self._pool.cards, routing, routers)
            if expert is not None:
                return self._explicit(ask, expert, constraints)
            target = replace(target, router=routing.embeddings_router)
            constraints = constraints.tightened(Constraints(frozenset(ask.built.values()) or None))
        assert target.router is not None  # noqa: S101 - a target names one or the other
        policy, named = self._bounds.policy(ask, target)
        if named.constraints is not NO_LIMITS:
            constraints = constraints.tightened(named.constraints)
        wishes, serving = ask.wishes, self._serving
        if wishes.critical:
            router = serving.get(target.router)
        else:
            router = serving.pick(target.router, wishes.session, self._rng)
        uniform = float(self._rng.random())
        # What is chosen for good is not tried out.
        for_good = embeds(ask) and not ask.built
        explore = self._exploration.allowed and not wishes.critical and not for_good
        case = Case(ask.request, policy, named.preference, constraints, uniform, explore=explore)
        return router, self._decided_by(case, target, router)

    def _decided_by(self, case: Case, target: Target, router: Router) -> Case:
        if target.threshold is not None:
            return self._by_threshold(case, target.threshold)
        if self._policies.named[case.policy].policy is None:
            return case
        decides = self._policies.decides(case.policy, router)
        return replace(case, by=decides.by, settle=decides.settle, flags=decides.flags)

    def _tried(self, tried: Tried, router: Router, case: Case) -> Case:
        """The case for a router that is tried: by the same policy, fitted to that router."""
        served = self._policies.decides(case.policy, router)
        if served.by is None or case.by is not served.by:
            return case
        decides = self._policies.decides(case.policy, tried.router)
        return replace(case, by=decides.by, settle=None, flags=decides.flags)

    def _by_threshold(self, case: Case, threshold: float) -> Case:
        """As RouteLLM means it, or in a pool of more than a pair, as the weight of costs."""
        weight = 0.0 if self._is_pair else threshold
        soft = max(
            case.preference.cost_weight - self._policies.named[case.policy].preference.cost_weight,
            0.0,
        )
        preference = replace(case.preference, cost_weight=weight + soft)
        by = ThresholdPolicy(threshold=threshold) if self._is_pair else None
        return replace(case, preference=preference, by=by)

    async def expects(self, request: ChatRequest) -> Mapping[str, tuple[float, float]]:
        """What the default router expects of experts on a request that a composition asks about.

        Quality and its standard error by id; nothing where it has not learned, or fails.
        """
        router, text = self._serving.get(self._routing.router), request.text
        if router.slow:
            (found,) = await anyio.to_thread.run_sync(expectations, router, [text])
        else:
            (found,) = expectations(router, [text])
        if isinstance(found, Exception):
            _log.warning("router %s failed to say what it expects: %s", router.name, found)
            return {}
        return {
            expert: (quality, stderr if stderr == stderr else 0.0)
            for expert, (quality, stderr, _tokens, _seconds) in found.items()
            if quality == quality
        }

    def fallbacks(self, ask: Ask, decision: Decision) -> tuple[str, ...]:
        """Experts configured to stand in for the chosen one, as far as they can serve.

        Those that don't say whether they can come last. Nobody stands in for one that embeds:
        others' vectors lie in another space.
        """
        names = self._fallbacks.get(decision.expert, ())
        if not names or ask.request.task == "embed":
            return ()
        cards = [self._pool.card(name) for name in names]
        tokens = estimate_prompt_tokens(ask.request)
        able, reasons = eligible(ask.request, tokens, cards, {}, self.limits(ask, decision))
        served = {card.expert_id for card in able}
        sure = [name for name in names if name in served]
        return (*sure, *(name for name in names if isinstance(reasons.get(name), Unstated)))

    def limits(self, ask: Ask, decision: Decision) -> Constraints:
        """See `Bounds.of`."""
        return self._bounds.of(ask, decision)

    def _explicit(self, ask: Ask, expert_id: str, constraints: Constraints) -> Decision:
        """The expert that was named, whatever its card says it can do; price ceilings hold."""
        card = self._pool.card(expert_id)
        _check_params(ask, card)
        return explicit_decision(ask.request, card, constraints)


def _check_params(ask: Ask, card: ExpertCard) -> None:
    if card.params == "strict" and (refused := refused_params(ask.request, card)):
        raise ApiError(
            400,
            f"{refused[0]}: {card.expert_id} does not take this field",
            code="unsupported_parameter",
            param=refused[0],
        )
    if found := barred(ask.request, card):
        raise ApiError(400, ": ".join(found), code="unsupported_parameter", param=found.param)
