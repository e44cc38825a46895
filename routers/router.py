"""The router: eligibility, features, estimates, policy and exploration under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experts.cards import ExpertCard
from experts.messages import ChatRequest
from routers.base import Estimator, Policy
from routers.eligible import Constraints
from routers.features import Featurizer
from routers.records import Decision, Estimates, Preference

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
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def estimate(self, texts: Sequence[str]) -> Estimates:
        """What is expected of each expert that was trained on, one row per text."""
        return self.estimator.predict(self.featurizer.transform(texts))

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
    ) -> Decision:
        """Choose the expert for `request`.

        Args:
            request: What is asked.
            cards: The live pool, in any order.
            preference: What the asker wants.
            policy_name: What the ledger calls that preference, e.g. "balanced".
            constraints: Hard limits.
            unhealthy: Expert id to the reason why it is out of service.
            uniform: A number drawn uniformly from [0, 1), the only randomness.

        Raises:
            NoEligibleExpertError: Nobody can serve it; `.reasons` says why, expert by expert.
        """
        raise NotImplementedError


def untrained_router(name: str, epsilon: float = 0.0) -> Router:
    """A router that knows nothing but the quality priors on the cards, and says so."""
    raise NotImplementedError
