"""The `routing.policies` section: named ways to decide, each of one kind."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from experts.cards import Privacy
from gateway.settings.base import Frozen
from gateway.settings.explain import nearest, refusal
from routers.base import Policy
from routers.eligible import Constraints
from routers.errors import RoutingError
from routers.records import Preference
from routers.registry import make_policy, policy_names

Flag = Literal["size", "recency", "local"]
Share = Annotated[float, Field(gt=0, le=1)]


class PolicySettings(Frozen):
    """What any named policy may say: see `routers.records.Preference`, and hard limits."""

    cost_weight: float = Field(0, ge=0)
    latency_weight: float = Field(0, ge=0)
    wait_weight: float = Field(0.002, ge=0)
    min_quality: float = Field(0, ge=0, le=1)
    prefer: dict[Flag, Annotated[float, Field(ge=0, le=1000)]] = Field(default_factory=dict)
    max_cost_usd: float | None = Field(None, gt=0)
    max_latency_ms: float | None = Field(None, gt=0)
    only_local: bool = False
    max_params_b: float | None = Field(None, gt=0)
    released_after: date | None = None
    require_tags: dict[str, str] = Field(default_factory=dict)
    privacy: Privacy = "public"

    def preference(self) -> Preference:
        prefer = cast("dict[str, float]", self.prefer)
        return Preference(
            self.cost_weight, self.latency_weight, self.min_quality, prefer, self.wait_weight
        )

    def constraints(self) -> Constraints:
        return Constraints(
            max_cost_usd=self.max_cost_usd,
            max_latency_s=None if self.max_latency_ms is None else self.max_latency_ms / 1000,
            only_local=self.only_local,
            max_params_b=self.max_params_b,
            released_after=self.released_after or date.min,
            tags=frozenset(self.require_tags.items()),
            privacy=self.privacy,
        )

    def policy(self) -> Policy | None:
        """A new policy; None for the router's own, which is greedy unless it was made otherwise.

        Raises:
            RoutingError, TypeError, ValueError: It can't be made of these settings.
        """
        names = set(type(self).model_fields) - set(PolicySettings.model_fields) - {"kind"}
        said = self.model_dump(include=names, exclude_unset=True)
        return make_policy(self.model_dump()["kind"], **said)


class GreedyPolicySettings(PolicySettings):
    """The highest utility."""

    kind: Literal["greedy"] = "greedy"

    def policy(self) -> Policy | None:
        return None


class FloorPolicySettings(PolicySettings):
    """The cheapest that keeps a share of the best expert's quality."""

    kind: Literal["floor"]
    share: Share = 0.95
    confidence: float = Field(0.95, ge=0.5, lt=1)


class BudgetPolicySettings(PolicySettings):
    """The best quality for so many dollars a request, on average."""

    kind: Literal["budget"]
    usd_per_request: float = Field(gt=0)


class PacerPolicySettings(PolicySettings):
    """The same, whatever becomes of prices and traffic."""

    kind: Literal["pacer"]
    usd_per_request: float = Field(gt=0)
    step: float = Field(0.005, gt=0)
    most: float = Field(10, gt=0)


class ThresholdPolicySettings(PolicySettings):
    """A share of the traffic for the strong one of two experts."""

    kind: Literal["threshold"]
    strong_share: float = Field(0.5, ge=0, le=1)
    strong: str = ""
    weak: str = ""


class ConformalPolicySettings(PolicySettings):
    """The cheap expert, unless it would be wrong too often."""

    kind: Literal["conformal"]
    wrong: float = Field(0.1, gt=0, lt=1)
    cheap: str = ""


class CautiousPolicySettings(PolicySettings):
    """The usual expert, unless another one looks better by a margin that would have paid."""

    kind: Literal["cautious"]
    usual: str = ""


class CapacityPolicySettings(PolicySettings):
    """No expert gets more than its share of the traffic."""

    kind: Literal["capacity"]
    shares: dict[str, Share]
    temperature: float = Field(0.01, gt=0)


class SoftmaxPolicySettings(PolicySettings):
    """Every expert has a chance, the better the more."""

    kind: Literal["softmax"]
    temperature: float = Field(0.05, gt=0)


class TopPPolicySettings(PolicySettings):
    """The same without the long tail."""

    kind: Literal["top_p"]
    mass: Share = 0.8
    temperature: float = Field(0.05, gt=0)


class ThompsonPolicySettings(PolicySettings):
    """Each expert as often as it may be the best."""

    kind: Literal["thompson"]
    stderrs: float = Field(1, gt=0)


class OptimisticPolicySettings(PolicySettings):
    """The best if who is little known turns out well."""

    kind: Literal["optimistic"]
    stderrs: float = Field(1, ge=0)


class PessimisticPolicySettings(PolicySettings):
    """The best if who is little known turns out badly."""

    kind: Literal["pessimistic"]
    stderrs: float = Field(1, ge=0)


class ModesPolicySettings(PolicySettings):
    """Slow modes of a model only where its instant one is likely to fail."""

    kind: Literal["modes"]
    instant: dict[str, str]
    power: float = Field(2, gt=0)


class UniformPolicySettings(PolicySettings):
    """Everybody alike."""

    kind: Literal["uniform"]


class PluginPolicySettings(PolicySettings):
    """A policy that another package brings (entry point group `pointsman.policies`)."""

    kind: Literal["plugin"]
    policy_name: str
    settings: dict[str, Any] = Field(default_factory=dict)

    def policy(self) -> Policy | None:
        return make_policy(self.policy_name, **self.settings)

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        names = policy_names()
        if self.policy_name not in names:
            problem = f"{self.policy_name!r} is no policy{nearest(self.policy_name, names)}"
            raise refusal([(("policy_name",), problem)])
        try:
            self.policy()
        except (RoutingError, TypeError, ValueError) as error:
            raise refusal(
                [(("settings",), f"does not suit {self.policy_name!r}: {error}")]
            ) from error
        return self


def _kind(data: Any) -> str:
    kind = data.get("kind", "greedy") if isinstance(data, dict) else getattr(data, "kind", "greedy")
    return str(kind)


PolicyOfAKind = Annotated[
    Annotated[GreedyPolicySettings, Tag("greedy")]
    | Annotated[FloorPolicySettings, Tag("floor")]
    | Annotated[BudgetPolicySettings, Tag("budget")]
    | Annotated[PacerPolicySettings, Tag("pacer")]
    | Annotated[ThresholdPolicySettings, Tag("threshold")]
    | Annotated[ConformalPolicySettings, Tag("conformal")]
    | Annotated[CautiousPolicySettings, Tag("cautious")]
    | Annotated[CapacityPolicySettings, Tag("capacity")]
    | Annotated[SoftmaxPolicySettings, Tag("softmax")]
    | Annotated[TopPPolicySettings, Tag("top_p")]
    | Annotated[ThompsonPolicySettings, Tag("thompson")]
    | Annotated[OptimisticPolicySettings, Tag("optimistic")]
    | Annotated[PessimisticPolicySettings, Tag("pessimistic")]
    | Annotated[ModesPolicySettings, Tag("modes")]
    | Annotated[UniformPolicySettings, Tag("uniform")]
    | Annotated[PluginPolicySettings, Tag("plugin")],
    Discriminator(_kind),
]
