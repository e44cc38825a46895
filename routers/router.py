"""The router: eligibility, features, estimates, policy and exploration under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.abilities import NOTHING, Needs
from routers.base import Estimator, Policy, SlowEncoder
from routers.candidates import Expected, Typical, Unfamiliar, row_of, weigh
from routers.eligible import Cards, Constraints, eligible
from routers.encoders.lexical import HashingEncoder
from routers.errors import NoEligibleExpertError, TableError, Unstated
from routers.estimators.prior import PriorEstimator
from routers.explaining.reasons import Why, why
from routers.explore import draw, with_exploration
from routers.features import Featurizer, estimate_prompt_tokens
from routers.fitting.practice import Practice
from routers.fitting.rehearsal import Rehearsal
from routers.policies.greedy import GreedyUtilityPolicy, good_enough
from routers.records import UNEXPLORED, Decision, Estimates, Preference
from routers.waiting import NO_WAITS, with_waits

UNTRAINED_VERSION = "prior"


@dataclass(frozen=True, slots=True, eq=False)
class Router:
    """Decides which expert answers. Frozen: training makes a new one.

    Attributes:
        name: What the config and the ledger call it.
        version: Content hash of its artifact, or `UNTRAINED_VERSION`.
        featurizer: Fitted.
        estimator: Fitted.
        policy: Turns estimates into a distribution.
        epsilon: Share of the traffic that explores, in [0, 1].
        typical_prompt_tokens: Median prompt of the training data, > 0.
        typical_output_tokens: Median answer of the training data, > 0; stands in where an
            estimator knows none.
        typical_latency_s: Median seconds of the slowest expert; NaN when unknown.
        rehearsal: What it expected of queries it had not seen; None for one that never learned, or
            was trained before this was kept.
        metadata: How it was made, JSON-able: estimator, encoder, seed, data hash, ...
    """

    name: str
    version: str
    featurizer: Featurizer
    estimator: Estimator
    policy: Policy
    epsilon: float = 0.0
    typical_prompt_tokens: float = 500.0
    typical_output_tokens: float = 300.0
    typical_latency_s: float = float("nan")
    rehearsal: Rehearsal | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self, texts: Sequence[str]) -> Estimates:
        """What is expected of each expert that was trained on, one row per text."""
        return self.estimator.predict(self.featurizer.transform(texts))

    def expectations(self, texts: Sequence[str]) -> list[Expected]:
        """What `decide` takes as `expected`, one per text.

        Requests that wait at the same time are estimated together for less than half of what
        each costs alone: the memory of an estimator is read once for all of them.
        """
        if self.version == UNTRAINED_VERSION:
            return [{} for _ in texts]
        estimates = self.estimate(texts)
        return [row_of(estimates, row) for row in range(len(texts))]

    def why(self, text: str, decision: Decision) -> Why | None:
        """What spoke for the chosen expert; None where nobody else could serve or nothing is known.

        Args:
            text: Of the request that it was decided for.
            decision: What this router decided.
        """
        ranked = decision.ranked()
        if len(ranked) < 2 or self.version == UNTRAINED_VERSION:
            return None
        features = self.featurizer.transform([text])
        return why(self.estimator, self.featurizer.encoder, features, ranked[0], ranked[1])

    @property
    def slow(self) -> bool:
        """Whether to encode a text takes milliseconds."""
        return isinstance(self.featurizer.encoder, SlowEncoder)

    @property
    def typical(self) -> Typical:
        return Typical(
            self.typical_prompt_tokens, self.typical_output_tokens, self.typical_latency_s
        )

    def practice(self, cards: Sequence[ExpertCard], preference: Preference) -> Practice:
        """Queries with known outcomes, as they would be weighed now, to fit a policy on.

        Args:
            cards: The live pool, in any order; those that don't answer chats are passed over.
            preference: What the policy will be asked to decide with.

        Raises:
            TableError: There is no rehearsal, or nobody answers chats.
        """
        if self.rehearsal is None:
            raise TableError(f"router {self.name!r} kept no rehearsal of its training; train again")
        able = [card for card in cards if card.api == "chat"]
        if not able:
            raise TableError("no expert answers chats")
        return self.rehearsal.practice(Cards.of(able), self.typical, preference)

    def decide(
        self,
        request: ChatRequest,
        cards: Sequence[ExpertCard],
        *,
        preference: Preference,
        policy_name: str,
        constraints: Constraints,
        unhealthy: Mapping[str, str],
        uniform: float,
        expected: Expected | None = None,
        policy: Policy | None = None,
        explore: bool = True,
        waits_s: Mapping[str, float] = NO_WAITS,
    ) -> Decision:
        """Choose the expert for `request`.

        An expert that is expected to miss `constraints.max_latency_s` is excluded too; one whose
        latency is unknown stays, flagged `latency_unknown:<id>`. `unstated:<setting>` says that
        the chosen one's card does not say whether it can what is needed. Experts below
        `preference.min_quality` are not explored while any other is above it. Where the chosen one
        has to be waited for, that is flagged `waits:<id>`. Others whose cards don't say stand by.

        Args:
            request: What is asked.
            cards: The live pool, in any order.
            preference: What the asker wants.
            policy_name: What the ledger calls that preference, e.g. "balanced".
            constraints: Hard limits.
            unhealthy: Expert id to the reason why it is out of service.
            uniform: A number drawn uniformly from [0, 1), the only randomness.
            expected: What `expectations` says of `request.text`; None asks it here.
            policy: What decides; None: the router's own.
            explore: Whether chance may decide; else the likeliest expert answers, and the decision
                is flagged `unexplored`.
            waits_s: Expert id to seconds until a call would begin, for those that can't at once:
                they count against the ceiling and in the utility, see `with_waits`.

        Raises:
            NoEligibleExpertError: Nobody can serve it; `.reasons` says why, expert by expert.
        """
        cards = Cards.of(cards)
        text = request.text
        prompt_tokens = estimate_prompt_tokens(request, text)
        able, excluded = eligible(request, prompt_tokens, cards, unhealthy, constraints)
        if expected is None:
            expected = self.expectations([text])[0] if able else {}
        able, unsure = _in_time(able, cards, excluded, expected, constraints, waits_s)
        if not able:
            raise NoEligibleExpertError(excluded)
        candidates, unseen = weigh(
            request, prompt_tokens, able, cards, expected, self.typical, preference.prefer
        )
        candidates = with_waits(candidates, waits_s, preference.wait_weight)
        policy = policy or self.policy
        probabilities_A, utility_A = policy.distribution(candidates, preference)
        if not explore:
            probabilities_A = np.eye(len(able))[int(probabilities_A.argmax())]
        elif self.epsilon:
            # Nobody is expected to be below nothing.
            bounded = preference.min_quality > 0
            among_A = good_enough(candidates, preference) if bounded else None
            probabilities_A = with_exploration(probabilities_A, self.epsilon, among_A)
        flags = ("untrained",) if self.version == UNTRAINED_VERSION else _flags("unseen", unseen)
        flags += () if explore else (UNEXPLORED,)
        flags += ("unfamiliar",) if isinstance(expected, Unfamiliar) else ()
        if constraints.max_latency_s is not None:
            unknown = [card.expert_id for card in able if _latency(expected, card) is None]
            flags += _flags("latency_unknown", unknown)
        chosen = draw(probabilities_A, uniform)
        needs = NOTHING if able is cards else Needs.of(request)
        flags += _of_the_chosen(able[chosen], needs, waits_s)
        return Decision(
            router=self.name,
            version=self.version,
            policy=policy_name,
            preference=preference,
            candidates=candidates,
            excluded=excluded,
            utility_A=utility_A,
            probabilities_A=probabilities_A,
            draw=uniform,
            chosen=chosen,
            flags=flags,
            standby=_best_first(unsure, expected) if unsure else (),
        )


def untrained_router(name: str, epsilon: float = 0.0) -> Router:
    """A router that knows nothing but the quality priors on the cards, and says so."""
    return Router(
        name=name,
        version=UNTRAINED_VERSION,
        featurizer=Featurizer(HashingEncoder()),
        estimator=PriorEstimator(),
        policy=GreedyUtilityPolicy(),
        epsilon=epsilon,
    )


def split_by_latency(
    able: tuple[ExpertCard, ...],
    expected: Expected,
    ceiling_s: float | None,
    waits_s: Mapping[str, float] = NO_WAITS,
) -> tuple[tuple[ExpertCard, ...], dict[str, str]]:
    """Who is expected to answer within a ceiling, or is unknown to; and why the others aren't."""
    if ceiling_s is None:
        return able, {}
    slow: dict[str, str] = {}
    for card in able:
        wait_s = waits_s.get(card.expert_id, 0.0)
        seconds = wait_s + (_latency(expected, card) or card.rtt_s)
        if seconds > ceiling_s:
            waiting = f", {wait_s:.3g} s of it waiting" if wait_s else ""
            slow[card.expert_id] = (
                f"expected to take {seconds:.3g} s{waiting}, the ceiling is {ceiling_s:g} s"
            )
    return tuple(card for card in able if card.expert_id not in slow), slow


def _latency(expected: Expected, card: ExpertCard) -> float | None:
    seconds = expected[card.expert_id][3] if card.expert_id in expected else float("nan")
    return max(seconds, card.rtt_s) if seconds == seconds else None


def _in_time(
    able: tuple[ExpertCard, ...],
    cards: Sequence[ExpertCard],
    excluded: dict[str, str],
    expected: Expected,
    constraints: Constraints,
    waits_s: Mapping[str, float],
) -> tuple[tuple[ExpertCard, ...], tuple[ExpertCard, ...]]:
    """Of the able and of those that don't say whether they are, those that are fast enough.

    `excluded` is kept up to date. Where none of the able is, the others take their place.
    """
    ceiling_s = constraints.max_latency_s
    if ceiling_s is None and not excluded:
        return able, ()
    able, slow = split_by_latency(able, expected, ceiling_s, waits_s)
    silent = [name for name, why in excluded.items() if isinstance(why, Unstated)]
    excluded |= slow
    if not silent:
        return able, ()
    unsure = tuple(card for card in cards if card.expert_id in silent)
    unsure, slow = split_by_latency(unsure, expected, ceiling_s, waits_s)
    excluded |= slow
    if able:
        return able, unsure
    for card in unsure:
        del excluded[card.expert_id]
    return unsure, ()


def _best_first(cards: Sequence[ExpertCard], expected: Expected) -> tuple[str, ...]:
    """Ids by falling quality: what is expected, or else what the card says."""

    def quality(card: ExpertCard) -> float:
        found = expected[card.expert_id][0] if card.expert_id in expected else float("nan")
        return found if found == found else card.quality_prior

    return tuple(card.expert_id for card in sorted(cards, key=quality, reverse=True))


def _of_the_chosen(card: ExpertCard, needs: Needs, waits_s: Mapping[str, float]) -> tuple[str, ...]:
    """Flags of that expert; `needs` are NOTHING where all of the pool can serve the request."""
    waits = (f"waits:{card.expert_id}",) if card.expert_id in waits_s else ()
    return waits + _flags("unstated", needs.unstated(card))


def _flags(what: str, expert_ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{what}:{expert_id}" for expert_id in expert_ids)
