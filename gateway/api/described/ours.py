"""Shapes of our own: decisions, scores, health."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from gateway.api.described.operation import Open
from gateway.settings.base import Frozen


class Candidate(Open):
    """An expert that could serve, as it was weighed; null is unknown."""

    expert: str
    quality: float | None
    quality_stderr: float | None
    cost_usd: float | None
    latency_s: float | None
    output_tokens: float | None
    penalty: float | None
    utility: float | None
    probability: float = Field(ge=0, le=1)


class NeighbourJson(Open):
    """A logged query that is near; its text is not told."""

    query_id: str
    similarity: float
    weight: float = Field(ge=0, le=1)
    scores: dict[str, float]


class RegionJson(Open):
    """A task or a cluster that the request belongs to, and what is expected there."""

    name: str
    share: float = Field(ge=0)
    quality: dict[str, float]


class ContributionJson(Open):
    """What a word or a feature adds to the difference of the two experts."""

    name: str
    points: float


class ReasonsJson(Open):
    """What spoke for the chosen expert against the next one, before calibration."""

    expert: str
    against: str
    neighbours: list[NeighbourJson]
    regions: list[RegionJson]
    contributions: list[ContributionJson]
    baseline: float | None
    unit: Literal["quality", "log-odds"] | None


class RouteJson(Open):
    """What would be decided, and why."""

    expert: str
    router: str
    version: str
    policy: str
    propensity: float = Field(gt=0, le=1)
    explanation: str
    reasons: ReasonsJson | None
    fallback: list[str]
    candidates: list[Candidate] = Field(min_length=1)
    excluded: dict[str, str]
    flags: list[str]


class Feedback(Frozen):
    """A score for a decision."""

    decision_id: str = Field(min_length=1)
    score: float = Field(ge=0, le=1)
    source: str | None = Field(None, max_length=200)
    objective: str | None = Field(None, max_length=200)
    comment: str | None = Field(None, max_length=2000)
    event_id: str | None = Field(None, max_length=200)


class TensorZeroFeedback(Frozen):
    """The same as TensorZero's clients send it."""

    metric_name: str = Field(min_length=1, max_length=200)
    value: bool | Annotated[float, Field(ge=0, le=1)]
    inference_id: str = Field(min_length=1)
    dryrun: bool | None = None
    """Whether it is only checked, and not booked."""
    tags: dict[str, str] | None = None
    """Taken and not kept: those of the request count."""


Scores = Annotated[list[Feedback | TensorZeroFeedback], Field(min_length=1, max_length=1000)]


class AnyFeedback(RootModel[Feedback | TensorZeroFeedback | Scores]):
    """A score for a decision, in either shape; or a list of them."""


class BookedOutcome(Open):
    """The score is in the ledger."""

    outcome_id: str
    decision_id: str
    repeated: bool = False
    """Whether it was there already, by its `event_id`."""


class BatchItem(Open):
    """What became of one score of a batch: its ids, or an `error`."""

    index: int
    outcome_id: str | None = None
    decision_id: str | None = None
    error: dict[str, Any] | None = None


class BookedBatch(Open):
    """What became of a batch."""

    booked: int
    refused: int
    items: list[BatchItem]


class BookedOutcomes(RootModel[BookedOutcome | BookedBatch]):
    """The score is in the ledger; of a list, each answered for itself."""


class Replay(Open):
    """The same draw made again."""

    expert: str
    matches: bool


class DecisionJson(Open):
    """Everything that the ledger knows of one decision; what was decided is told as for a route."""

    decision_id: str
    expert: str
    router: str
    version: str
    policy: str
    propensity: float = Field(gt=0, le=1)
    candidates: list[Candidate] = Field(min_length=1)
    excluded: dict[str, str]
    flags: list[str]
    request: dict[str, Any]
    result: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    cost: dict[str, Any]
    guards: list[dict[str, Any]]
    cache_hit: dict[str, Any] | None
    outcomes: list[dict[str, Any]]
    explanation: str
    reasons: dict[str, Any] | None
    replay: Replay


class Live(Open):
    """The process runs."""

    status: Literal["live"]


class Ready(Open):
    """Whether it can serve; the rest is told on the operator's listener only."""

    status: Literal["ready", "ledger_behind"]
    experts: list[str] | None = None
    routers: dict[str, str] | None = None
    refused_routers: dict[str, str] | None = None
    ledger_pending_rows: int | None = None
