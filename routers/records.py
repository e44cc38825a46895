"""The records that routing is about. Arrays carry their axes in their names.

`N` requests, `A` experts, `D` features. NaN in a float array means unknown, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from experts.record import record

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

UNEXPLORED = "unexplored"
"""Flags a decision that chance had no part in, because the request was critical or too dear."""

FAILED = "router_failed"
"""Flags a decision that its router did not make, because it failed or was late."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """What an estimator may look at.

    Attributes:
        texts: The requests as text, length N.
        vectors_ND: One unit-length (or zero) vector per request, float32, shape (N, D).
        prompt_tokens_N: Estimated prompt tokens, shape (N,), >= 1.
        encode: Makes features of other texts as these were made; None where nobody can.
    """

    texts: tuple[str, ...]
    vectors_ND: Vectors
    prompt_tokens_N: Floats
    encode: Callable[[Sequence[str]], FeatureBatch] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: npt.NDArray[np.intp]) -> FeatureBatch:
        texts = tuple(self.texts[row] for row in rows)
        vectors_ND, tokens_N = self.vectors_ND[rows], self.prompt_tokens_N[rows]
        return FeatureBatch(texts, vectors_ND, tokens_N, self.encode)


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What is expected of each expert on each request. Prices are no part of it.

    Attributes:
        experts: Expert ids, length A; the columns.
        quality_NA: Expected score in [0, 1], shape (N, A); NaN where the estimator knows nothing.
        stderr_NA: Standard error of that expectation, >= 0, same shape.
        output_tokens_NA: Expected completion tokens, same shape, NaN unknown.
        latency_s_NA: Expected seconds to the whole answer, same shape, NaN unknown.
        unfamiliar_N: Which requests are unlike all that was learned from, shape (N,); None where
            nobody looked.
    """

    experts: tuple[str, ...]
    quality_NA: Floats
    stderr_NA: Floats
    output_tokens_NA: Floats
    latency_s_NA: Floats
    unfamiliar_N: npt.NDArray[np.bool_] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeTable:
    """Observed outcomes, one row per query and one column per expert.

    Attributes:
        query_ids: Length N, unique.
        prompts: Length N.
        tasks: Length N, None where no task label is known.
        groups: Length N; rows of one group are near-identical and must never be on both sides of
            a split. The query id where no group is known.
        experts: Expert ids, length A, sorted.
        score_NA: Scores in [0, 1], NaN unobserved.
        prompt_tokens_NA: Tokens read, NaN unknown.
        output_tokens_NA: Tokens written, NaN unknown.
        cost_usd_NA: Dollars, NaN unknown.
        latency_s_NA: Seconds, NaN unknown.
        propensity_NA: P(this expert was asked), in (0, 1]; 1 where every expert was asked.
    """

    query_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    tasks: tuple[str | None, ...]
    groups: tuple[str, ...]
    experts: tuple[str, ...]
    score_NA: Floats
    prompt_tokens_NA: Floats
    output_tokens_NA: Floats
    cost_usd_NA: Floats
    latency_s_NA: Floats
    propensity_NA: Floats

    def __len__(self) -> int:
        return len(self.query_ids)

    def take(self, rows: npt.NDArray[np.intp]) -> OutcomeTable:
        """The same table with only `rows`, in that order."""
        pick = [int(row) for row in rows]
        return OutcomeTable(
            tuple(self.query_ids[row] for row in pick),
            tuple(self.prompts[row] for row in pick),
            tuple(self.tasks[row] for row in pick),
            tuple(self.groups[row] for row in pick),
            self.experts,
            self.score_NA[pick],
            self.prompt_tokens_NA[pick],
            self.output_tokens_NA[pick],
            self.cost_usd_NA[pick],
            self.latency_s_NA[pick],
            self.propensity_NA[pick],
        )


@dataclass(frozen=True, slots=True)
class Preference:
    """What the asker wants, as weights on quality points (the rule of Tryage: utility = q - sum).

    Attributes:
        cost_weight: Quality points worth giving up to save the price of one typical request to the
            dearest expert; >= 0. 0 asks for the best whatever it costs.
        latency_weight: The same for the slowest expert's typical latency.
        min_quality: Experts expected to be below it are left out while any is above it.
        prefer: Soft flags and their weights in quality points, among {"size", "recency", "local"}.
        wait_weight: Quality points worth giving up to begin a second sooner, where an expert sleeps
            or others wait for it; >= 0.
    """

    cost_weight: float = 0.0
    latency_weight: float = 0.0
    min_quality: float = 0.0
    prefer: Mapping[str, float] = field(default_factory=dict)
    wait_weight: float = 0.002


@record(eq=False)
class Candidates:
    """The eligible experts of one request with all that a policy weighs, columns aligned.

    Attributes:
        experts: Ids, length A >= 1, sorted, so that the order never depends on the config's.
        quality_A: Expected score in [0, 1]; no NaN (a prior stands in).
        stderr_A: Its standard error.
        cost_usd_A: Expected dollars; NaN when the price is unknown.
        latency_s_A: Expected seconds; NaN unknown.
        output_tokens_A: Expected completion tokens, NaN unknown.
        penalty_A: Sum of the soft preferences in quality points, and what waits take, >= 0.
        cost_scale_usd: Price of one typical request to the dearest expert of the pool, > 0.
        latency_scale_s: Typical seconds of the slowest expert of the pool, > 0.
        wait_s_A: Seconds until a call would begin, part of `latency_s_A` and weighed in
            `penalty_A`; None where nobody has to be waited for. Not on record by itself.
    """

    experts: tuple[str, ...]
    quality_A: Floats
    stderr_A: Floats
    cost_usd_A: Floats
    latency_s_A: Floats
    output_tokens_A: Floats
    penalty_A: Floats
    cost_scale_usd: float
    latency_scale_s: float
    wait_s_A: Floats | None = None


@record(eq=False)
class Decision:
    """One draw from a router, written to the ledger before the call is made.

    Attributes:
        router: Name of the router, e.g. "default".
        version: Content hash of the artifact that estimated, or "prior" when none is trained.
        policy: Name of the policy setting, e.g. "balanced".
        preference: What was asked for.
        candidates: The eligible experts as they were weighed.
        excluded: Expert id to the reason why it was not eligible.
        utility_A: What the policy maximised.
        probabilities_A: The distribution drawn from; sums to 1.
        draw: The uniform number in [0, 1) that picked; replaying needs nothing else.
        chosen: Index into `candidates.experts`.
        flags: What a reader must know, e.g. "router_failed", "untrained".
        standby: Excluded experts that don't say whether they can serve the request, the best first:
            who is asked when all others have failed; not on record.
        settle: Wants to hear what the request cost in dollars, once that is known; not on record.
        expert: The id of the chosen one.
    """

    router: str
    version: str
    policy: str
    preference: Preference
    candidates: Candidates
    excluded: Mapping[str, str]
    utility_A: Floats
    probabilities_A: Floats
    draw: float
    chosen: int
    flags: tuple[str, ...] = ()
    standby: tuple[str, ...] = ()
    settle: Callable[[float], None] | None = None
    expert: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "expert", self.candidates.experts[self.chosen])

    @property
    def propensity(self) -> float:
        """P(this expert | this request) under the router that drew it."""
        return float(self.probabilities_A[self.chosen])

    def ranked(self) -> tuple[str, ...]:
        """Chosen expert first, then the others by falling utility: the order of fallback."""
        experts = self.candidates.experts
        if len(experts) == 1:
            return experts
        utilities = self.utility_A.tolist()
        # The first of equals stays the first.
        order = sorted(range(len(experts)), key=utilities.__getitem__, reverse=True)
        rest = [experts[index] for index in order if index != self.chosen]
        return (experts[self.chosen], *rest)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A logged query near a request, without its text.

    Attributes:
        query_id: As the table of outcomes names it.
        similarity: Cosine of the two vectors.
        weight: Its share of the neighbourhood, in [0, 1].
        scores: Expert to its observed score; absent where it was not asked.
    """

    query_id: str
    similarity: float
    weight: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A task or a cluster that a request belongs to.

    Attributes:
        name: Of the task, or "cluster 3".
        share: How much of the request, in [0, 1]; those of one estimator sum to 1.
        quality: Expert to what is expected of it there; absent where nothing is known.
    """

    name: str
    share: float
    quality: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one word or feature adds to the difference of two experts; may be negative."""

    name: str
    points: float


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A difference of two experts that is linear in the vector x of a request.

    It is baseline + slope · (x - mean).

    Attributes:
        slope_D: Coefficients, shape (D,).
        mean_D: An average request, shape (D,).
        baseline: The difference there.
        unit: What it is a difference of: "quality" or "log-odds".
    """

    slope_D: Floats
    mean_D: Floats
    baseline: float
    unit: str = "quality"


@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """Why an estimator expects what it expects of two experts on one request.

    Before calibration, where that is wrapped around it.

    Attributes:
        neighbours: Nearest logged queries, the nearest first.
        regions: The likeliest first; the shares of one estimator's sum to 1, and with them their
            qualities give what it expects.
        linear: The difference of the two, where it is linear.
    """

    neighbours: tuple[Neighbour, ...] = ()
    regions: tuple[Region, ...] = ()
    linear: Linear | None = None


State = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""What a fitted object is on disk: JSON-able parameters and named arrays."""
