"""Entries of `experts` that are made of others: `kind: cascade`, `vote`, `best_of`, ...

A child is an expert's id, or a composition written in place. `{vote: {of: small, n: 5}}` is short
for `{kind: vote, of: small, n: 5}`, and `{cascade: [small, large]}` for one of these children.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from typing_extensions import TypeAliasType

from gateway.settings.base import Frozen
from gateway.settings.children import composed_kind
from gateway.settings.composed import (
    ChooseSettings,
    CompositionSettings,
    DraftingSettings,
    Same,
    Unit,
)
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import refusal
from gateway.settings.outcomes import CheckFields


class DeferSettings(Frozen):
    """When a draft is the answer; see docs/compositions.md."""

    by: Literal[
        "logprob",
        "margin",
        "entropy",
        "dispersion",
        "agreement",
        "self_check",
        "arithmetic",
        "schema",
        "check",
        "scorer",
    ] = "logprob"
    """What a draft is judged by."""
    accept_at: Unit = 0.8
    """A draft of that score, in [0, 1], is accepted."""
    hopeless_below: Unit = 0
    """A draft of less is given too, for nobody would do better."""
    actions: tuple[Literal["accept", "defer", "hopeless"], ...] = ()
    """In place of the thresholds: one for each of so many equal parts of [0, 1], lowest first."""
    power: float = Field(1, gt=0)
    samples: int | None = Field(None, ge=1, le=64)
    """Answers of each (`agreement`, 3 if not said), or verdicts (`self_check`, 8)."""
    among: tuple[Child, ...] = ()
    """Who answers beside whoever drafted, for `agreement`."""
    same: Same = "exact"
    temperature: float | None = Field(None, ge=0, le=2)
    verifier: Child | None = None
    """Who checks; whoever drafted if not said."""
    check: CheckFields | None = None
    scorer: Path | None = None
    """What `pointsman compose fit` wrote, for `by: scorer`."""
    chance: bool = False
    """Accept with the score as probability, whatever the thresholds; the propensity is logged."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hopeless_below > self.accept_at:
            raise refusal([(("hopeless_below",), "must be ≤ accept_at")])
        if (self.by == "check") != (self.check is not None):
            raise refusal([(("check",), "goes with `by: check`")])
        if (self.by == "scorer") != (self.scorer is not None):
            raise refusal([(("scorer",), "goes with `by: scorer`, which needs it")])
        if self.among and self.by != "agreement":
            raise refusal([(("among",), "goes with `by: agreement`")])
        if self.by == "agreement" and self.samples == 1 and not self.among:
            raise refusal([(("samples",), "must be ≥ 2: one answer agrees with itself")])
        return self


class CascadeSettings(CompositionSettings):
    """The cheapest first, and upwards as long as drafts are not good enough."""

    kind: Literal["cascade"]
    children: tuple[Child, ...] = Field(min_length=1)
    defer: DeferSettings | tuple[DeferSettings, ...] = Field(default_factory=DeferSettings)
    """One rule for all drafts, or one for each child but the last."""

    @model_validator(mode="after")
    def _one_rule_each(self) -> Self:
        if isinstance(self.defer, tuple) and len(self.defer) != len(self.children) - 1:
            raise refusal([(("defer",), "needs one rule for each child but the last")])
        return self

    @property
    def rules(self) -> tuple[DeferSettings, ...]:
        """One for each child but the last."""
        if isinstance(self.defer, tuple):
            return self.defer
        return (self.defer,) * (len(self.children) - 1)


class VotersSettings(CompositionSettings):
    """What compositions say that count answers."""

    of: Child | tuple[Child, ...]
    """Who votes."""
    n: int = Field(1, ge=1, le=64)
    """Answers of each."""
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """What an answer of each counts; None: the same."""
    router_weights: bool = False
    """An answer counts what the router expects of who gave it, in place of `weights`."""
    same: Same = "exact"
    alike: float = Field(0.85, gt=0, le=1)
    """Cosine from which on two answers mean the same."""
    temperature: float | None = Field(None, ge=0, le=2)
    min_successful: int = Field(1, ge=1)
    at_once: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.voters):
            raise refusal([(("weights",), "needs one weight for each child")])
        if self.min_successful > self.n * len(self.voters):
            raise refusal([(("min_successful",), "is more than the answers asked for")])
        return self

    @property
    def voters(self) -> tuple[Any, ...]:
        return _each(self.of)


class RoundsSettings(CompositionSettings):
    """A chat model that asks others, one after the other, before it answers."""

    kind: Literal["rounds"]
    driver: Child
    """Who thinks, asks and answers."""
    of: tuple[Child, ...] = Field(min_length=1)
    """Whom it may ask."""
    max_rounds: int = Field(4, ge=1, le=32)
    """Turns in which it may ask; one more, in which it may not, follows."""
    turn_tokens: int = Field(1024, ge=16)
    """Longest turn of the driver."""
    reply_tokens: int = Field(512, ge=1)
    """Longest answer of whom it asks."""
    information_tokens: int = Field(600, ge=1)
    """So much of an answer it is shown."""
    route_word: str = Field("search", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """The name of the tag that asks."""
    latency_s: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Expert's id to the seconds it usually takes, for the driver to know."""
    examples: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Expert's id to requests it answers well, for the driver to know."""
    stop: bool = True
    """Ask the driver to stop at the tags; some models refuse to be asked."""
    prompt: str | None = None
    """In place of ours; `{experts}`, `{question}` and the tags' names are filled in."""

    @model_validator(mode="after")
    def _a_tag_of_its_own(self) -> Self:
        if self.route_word in ("think", "information", "answer"):
            raise refusal([(("route_word",), "must not be think, information or answer")])
        return self


class VoteSettings(VotersSettings):
    """Several answers, and the one that most of them give."""

    kind: Literal["vote"]


class MixtureSettings(DraftingSettings):
    """Drafts of all children in layers, and a synthesis."""

    kind: Literal["mixture"]
    of: tuple[Child, ...] = Field(min_length=1, max_length=64)
    """Who drafts."""
    aggregator: Child | None = None
    """Who concludes; None: the first child."""
    layers: int = Field(2, ge=1, le=8)
    choose: ChooseSettings | None = None
    """Take part only if the router expects it to pay; None: all always do."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.min_successful > len(self.of):
            raise refusal([(("min_successful",), "is more than the drafts asked for")])
        return self


class SelfMoaSettings(DraftingSettings):
    """Drafts of one child, and a synthesis: at once, or a window of them at a time."""

    kind: Literal["self_moa"]
    of: Child
    n: int = Field(6, ge=1, le=64)
    """Drafts."""
    aggregator: Child | None = None
    """Who concludes; None: the child itself."""
    window: int | None = Field(None, ge=2)
    """Most answers that one synthesis reads; None: all at once."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.min_successful > self.n:
            raise refusal([(("min_successful",), "is more than the drafts asked for")])
        return self


class PeersSettings(CompositionSettings):
    """Short drafts of peers, and one answer of the primary."""

    kind: Literal["peers"]
    of: tuple[Child, ...] = Field(max_length=64)
    """The peers."""
    primary: Child
    draft_tokens: int = Field(128, ge=1)
    at_once: int | None = Field(None, ge=1)
    choose: ChooseSettings | None = None
    """Who is the primary and who is a peer follows from what the router expects of each."""


class PanelSettings(VotersSettings):
    """Answers of all members, and a judge who sees each position with its weight."""

    kind: Literal["panel"]
    judge: Child
    """Who concludes."""


class TemplatesSettings(CompositionSettings):
    """Another expert that is told guidelines of similar questions."""

    kind: Literal["templates"]
    of: Child
    shelf: Path
    """What `pointsman shelves build --distiller` wrote."""
    most: int = Field(3, ge=1)
    """Guidelines that are told."""


class MedpromptSettings(CompositionSettings):
    """Another expert that is asked several times, with examples and options in other orders."""

    kind: Literal["medprompt"]
    of: Child
    shelf: Path | None = None
    """What `pointsman shelves build` wrote; None: no examples are told."""
    shots: int = Field(5, ge=0, le=32)
    """Examples that are told."""
    runs: int = Field(5, ge=1, le=64)
    """How often the question is put."""
    direct: int = Field(0, ge=0, le=64)
    """How often beside that, after examples without reasoning (Medprompt+)."""
    temperature: float | None = Field(None, ge=0, le=2)
    same: Literal["exact", "numeric"] = "exact"
    at_once: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _examples_to_shorten(self) -> Self:
        if self.direct and self.shelf is None:
            raise refusal([(("direct",), "needs a shelf, whose examples lose their reasoning")])
        return self


class ModeSettings(CompositionSettings):
    """Another expert in one answer mode."""

    kind: Literal["mode"]
    of: Child
    how: Literal["instant", "reasoning"]
    instruction: str | None = None
    """What it is told; None: what fits the mode."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """Request fields that make the mode (`reasoning_effort: high`), whatever the client sent."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer where the client sets none."""


class BestOfSettings(CompositionSettings):
    """Several drafts, the best of which is given."""

    kind: Literal["best_of"]
    of: Child | tuple[Child, ...]
    """Who drafts."""
    n: int = Field(4, ge=1, le=64)
    """Drafts of each."""
    select: DeferSettings | None = None
    """What tells the best one; see `defer.by`. Log-probability if nobody judges."""
    judge: Child | None = None
    """In its place: who reads all drafts and names the best."""
    temperature: float | None = Field(None, ge=0, le=2)
    min_successful: int = Field(1, ge=1)
    at_once: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.select is not None and self.judge is not None:
            raise refusal([(("judge",), "can't stand beside `select`")])
        if self.min_successful > self.n * len(self.drafters):
            raise refusal([(("min_successful",), "is more than the drafts asked for")])
        return self

    @property
    def drafters(self) -> tuple[Any, ...]:
        return _each(self.of)


class RoutedSettings(CompositionSettings):
    """After each answer it is thought again who is worth asking next."""

    kind: Literal["routed"]
    children: tuple[Child, ...] = Field(min_length=1)
    judged: DeferSettings = Field(default_factory=DeferSettings)
    """What an answer is judged by; see `defer.by`."""
    usd_weight: float = Field(0, ge=0)
    """Quality, in [0, 1], that a dollar has to bring."""
    stderr: float = Field(0.25, gt=0, le=1)
    """How far a child's quality on one request may be from its card's."""
    most_calls: int = Field(3, ge=1)
    """Children asked for one answer."""
    planner: Path | None = None
    """A fitted rule in place of looking one step ahead."""
    same: Same = "exact"
    """When two answers are the same, for a fitted rule that has learned from that."""


KINDS: dict[str, type[CompositionSettings]] = {
    "best_of": BestOfSettings,
    "cascade": CascadeSettings,
    "medprompt": MedpromptSettings,
    "mixture": MixtureSettings,
    "mode": ModeSettings,
    "panel": PanelSettings,
    "peers": PeersSettings,
    "rounds": RoundsSettings,
    "routed": RoutedSettings,
    "self_moa": SelfMoaSettings,
    "templates": TemplatesSettings,
    "vote": VoteSettings,
}


def _each(of: Any) -> tuple[Any, ...]:
    """One child or several, as several."""
    return of if isinstance(of, tuple) else (of,)


def _child_kind(data: Any) -> str:
    return composed_kind(data) or "id"


Composition = (
    Annotated[BestOfSettings, Tag("best_of")]
    | Annotated[CascadeSettings, Tag("cascade")]
    | Annotated[MedpromptSettings, Tag("medprompt")]
    | Annotated[MixtureSettings, Tag("mixture")]
    | Annotated[ModeSettings, Tag("mode")]
    | Annotated[PanelSettings, Tag("panel")]
    | Annotated[PeersSettings, Tag("peers")]
    | Annotated[RoundsSettings, Tag("rounds")]
    | Annotated[RoutedSettings, Tag("routed")]
    | Annotated[SelfMoaSettings, Tag("self_moa")]
    | Annotated[TemplatesSettings, Tag("templates")]
    | Annotated[VoteSettings, Tag("vote")]
)
"""Every kind there is."""
# By a name of its own it is worked out once, and not for each field that holds a child.
Child = TypeAliasType(
    "Child", Annotated[Annotated[ExpertId, Tag("id")] | Composition, Discriminator(_child_kind)]
)
"""An expert's id, or a composition written in place."""
