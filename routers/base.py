"""The seams that outsiders implement: encoder, estimator, policy.

What an encoder, an estimator or a policy can do beyond the first three protocols is a protocol of
its own (`SlowEncoder`, `NamingEncoder`, `Explaining`, `Wrapping`, `OnlineEstimator`,
`OpenPoolEstimator`, `DescribedEstimator`, `RehearsedEstimator`, `FittedPolicy`, `AdaptivePolicy`),
asked for with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np

from routers.fitting.practice import Practice
from routers.records import (
    Candidates,
    Estimates,
    FeatureBatch,
    Floats,
    OutcomeTable,
    Preference,
    Reasons,
    State,
    Vectors,
)


class Encoder(Protocol):
    """Text to vectors. `name` is what the artifact's manifest and the registry call it."""

    name: str

    def fit(self, texts: Sequence[str], rng: np.random.Generator) -> Self:
        """Learn from `texts` what there is to learn; a static encoder returns itself."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit-length (or zero) float32 vectors, shape (len(texts), D)."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


@runtime_checkable
class SlowEncoder(Encoder, Protocol):
    """An encoder that takes milliseconds for a text, so that its vectors are worth keeping.

    What it makes of a text depends on the text alone, not on what it was fitted on. A gateway asks
    it in a thread.
    """

    @property
    def identity(self) -> str:
        """Of all that a vector depends on beside the text: equal means equal vectors."""
        ...


@runtime_checkable
class NamingEncoder(Encoder, Protocol):
    """An encoder that can say which words and features its vectors are made of."""

    def parts(self, text: str, slope_D: Floats) -> Mapping[str, float]:
        """What each word and feature adds to slope · vector; they sum to it.

        Args:
            text: One text.
            slope_D: Any coefficients, shape (D,).
        """
        ...


class Estimator(Protocol):
    """State of a request to a calibrated quality per expert, prices left out.

    The constructor only stores settings. `fit` returns the fitted estimator and draws from `rng`
    alone; `predict` is pure. `from_state(x.state())` predicts what `x` predicts. What a fit chose
    by cross-validation is a setting of what it returns, which keeps it when it is fitted again.
    """

    name: str

    def fit(self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator) -> Self:
        """Learn from `table`, whose rows are those of `features`.

        Raises:
            RoutingError: The table lacks what this estimator needs; the message says what.
        """
        ...

    def predict(self, features: FeatureBatch) -> Estimates:
        """Estimates for the experts of the table it was fitted on, in that order."""
        ...

    def state(self) -> State: ...

    @classmethod
    def from_state(cls, state: State) -> Self: ...


@runtime_checkable
class Explaining(Protocol):
    """An estimator that says why it expects what it expects."""

    def reasons(self, features: FeatureBatch, chosen: str, other: str) -> Reasons:
        """Why it expects of two experts what `predict` says.

        Args:
            features: Of one request.
            chosen: An expert; one that it does not know is left out.
            other: Another one.
        """
        ...


@runtime_checkable
class Wrapping(Protocol):
    """An estimator around another, whose reasons are its own unless it is `Explaining` itself."""

    inner: Estimator


@runtime_checkable
class OnlineEstimator(Estimator, Protocol):
    """An estimator that learns on without seeing its old rows again."""

    def partial_fit(
        self, features: FeatureBatch, table: OutcomeTable, rng: np.random.Generator
    ) -> Self:
        """The estimator after these rows too, taken in their order; `self` stays as it was.

        On an unfitted estimator it is a first fit.

        Args:
            features: One row per row of `table`.
            table: New outcomes; its experts must be those of the first fit, in any share observed.
            rng: The only source of chance.

        Raises:
            TableError: The table is malformed, or names other experts.
        """
        ...


@runtime_checkable
class OpenPoolEstimator(Estimator, Protocol):
    """An estimator that takes in an expert, or lets one go, without training anew."""

    def add_expert(
        self, expert: str, features: FeatureBatch, probes: OutcomeTable, description: str = ""
    ) -> Self:
        """The estimator with one expert more; what it says of the others stays the same.

        Args:
            expert: Its id, which must be new; columns stay sorted by id.
            features: One row per row of `probes`.
            probes: Outcomes of this expert alone (one column); may have no row.
            description: What the expert's card says it is good at.

        Raises:
            TableError: The probes are malformed, or the expert is known already.
        """
        ...

    def remove_expert(self, expert: str) -> Self:
        """The estimator as if `expert` had never been added.

        Raises:
            RoutingError: There is no such expert.
        """
        ...


@runtime_checkable
class DescribedEstimator(Estimator, Protocol):
    """An estimator that goes by what the experts' cards say they are good at."""

    def described(
        self, descriptions: Mapping[str, str], instructions: Mapping[str, str] | None = None
    ) -> Self:
        """The unfitted estimator with these descriptions, by expert id; "" says nothing.

        `instructions` are what a language model wrote of templates of requests, by
        `routers.encoders.instructions.template_key`.

        Ids that the table of its fit has no column of are passed over.
        """
        ...


@runtime_checkable
class RehearsedEstimator(Estimator, Protocol):
    """An estimator that has predicted its own training rows, each by a fit that had not seen it."""

    def out_of_fold(self, table: OutcomeTable) -> Estimates:
        """What would be predicted for the rows it was just fitted on, had it not seen them.

        Args:
            table: The table that `fit` was given.

        Returns:
            One row per row of `table`; NaN where nothing could be held out.

        Raises:
            RoutingError: It was not fitted in this process: artifacts do not keep this.
        """
        ...


class Policy(Protocol):
    """Estimates, costs and wishes to a distribution over experts. Pure: no randomness, no I/O."""

    name: str

    def distribution(self, candidates: Candidates, preference: Preference) -> tuple[Floats, Floats]:
        """Probabilities, shape (A,), summing to 1, and the utilities they follow from, (A,)."""
        ...


@runtime_checkable
class FittedPolicy(Policy, Protocol):
    """A policy with parameters that are chosen on queries whose outcomes are known.

    It decides before it is fitted, too, as its class says.
    """

    @property
    def is_fitted(self) -> bool:
        """Whether its parameters were chosen, or given."""
        ...

    def fit(self, practice: Practice, preference: Preference) -> Self:
        """The policy with its parameters chosen; `self` stays as it was.

        Args:
            practice: Queries that the estimator had not learned from.
            preference: What it will be asked to decide with.

        Raises:
            TableError: They can't be chosen on these queries; the message says why.
        """
        ...


@runtime_checkable
class AdaptivePolicy(Policy, Protocol):
    """A policy whose distribution follows what was spent, such as one that keeps a budget.

    `distribution` stays pure between two calls of `observe`.
    """

    def observe(self, cost_usd: float) -> None:
        """One more request has been settled, for `cost_usd` >= 0 dollars."""
        ...
