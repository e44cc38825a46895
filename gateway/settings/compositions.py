"""Entries of `experts` that are made of others: `kind: cascade`, `vote`, `best_of`, ...

A child is an expert's id, or a composition written in place. `{vote: {of: small, n: 5}}` is short
for `{kind: vote, of: small, n: 5}`, and `{cascade: [small, large]}` for one of these children.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from experts.cards import Caps
from gateway.settings.base import Frozen
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import refusal
from gateway.settings.faults import Place

Unit = Annotated[float, Field(ge=0, le=1)]


class CompositionSettings(Frozen):
    """What every composition's entry may say."""

    id: ExpertId = ""
    """Where it is written in place of a child: its parent's id and its number if not said."""
    description: str = ""
    quality_prior: Unit | None = None
    """Guess of its quality until outcomes say more; None: a little above its best child's."""
    cap_usd: float | None = Field(None, gt=0)
    """Most dollars that all calls for one answer may cost."""
    cap_calls: int | None = Field(None, ge=1)
    """Most calls of models for one answer."""
    cap_s: float | None = Field(None, gt=0)
    """Most seconds until the last of them is ended."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, data: Any) -> Any:
        return long_form(data)

    @property
    def caps(self) -> Caps:
        return Caps(self.cap_usd, self.cap_calls, self.cap_s)


class DeferSettings(Frozen):
    """When a draft is the answer; see docs/compositions.md."""

    by: Literal["logprob", "margin", "entropy", "dispersion"] = "logprob"
    """What a draft is judged by."""
    accept_at: Unit = 0.8
    """A draft of that score, in [0, 1], is accepted."""
    hopeless_below: Unit = 0
    """A draft of less is given too, for nobody would do better."""
    power: float = Field(1, gt=0)
    chance: bool = False
    """Accept with the score as probability, whatever the thresholds; the propensity is logged."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hopeless_below > self.accept_at:
            raise refusal([(("hopeless_below",), "must be ≤ accept_at")])
        return self


class CascadeSettings(CompositionSettings):
    """The cheapest first, and upwards as long as drafts are not good enough."""

    kind: Literal["cascade"]
    children: tuple[Child, ...] = Field(min_length=1)
    defer: DeferSettings | tuple[DeferSettings, ...] = DeferSettings()
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


class VoteSettings(CompositionSettings):
    """Several answers, and the one that most of them give."""

    kind: Literal["vote"]
    of: Child | tuple[Child, ...]
    """Who votes."""
    n: int = Field(1, ge=1, le=64)
    """Answers of each."""
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """What an answer of each counts; None: the same."""
    same: Literal["exact", "numeric"] = "exact"
    """When two answers are the same: by their words, or by their last number."""
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
        return self.of if isinstance(self.of, tuple) else (self.of,)


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
    prompt: str | None = None
    """In place of ours; `{experts}`, `{question}` and the tags' names are filled in."""

    @model_validator(mode="after")
    def _a_tag_of_its_own(self) -> Self:
        if self.route_word in ("think", "information", "answer"):
            raise refusal([(("route_word",), "must not be think, information or answer")])
        return self


_SHORT = {"cascade": "children"}
"""Which field a list stands for in a kind's short form; `of` if not said."""
KINDS: dict[str, type[CompositionSettings]] = {
    "cascade": CascadeSettings,
    "vote": VoteSettings,
    "rounds": RoundsSettings,
}
_CHILDREN = ("children", "of", "last", "judge", "driver")
"""Fields that may name children."""


def composed_kind(data: Any) -> str | None:
    """The kind of composition that an entry or a child is, None for anything else."""
    if isinstance(data, CompositionSettings):
        return str(getattr(data, "kind", ""))
    if not isinstance(data, Mapping):
        return None
    if "kind" in data:
        return data["kind"] if data["kind"] in KINDS else None
    return next((name for name in KINDS if name in data), None)


def long_form(data: Any) -> Any:
    """An entry with `kind`, whichever way it is written."""
    kind = composed_kind(data)
    if kind is None or not isinstance(data, Mapping) or "kind" in data:
        return data
    told = data[kind]
    inner = told if isinstance(told, Mapping) else {_SHORT.get(kind, "of"): told}
    rest = {name: value for name, value in data.items() if name != kind}
    return {"kind": kind, **inner, **rest}


def children_of(entry: Any) -> Iterator[tuple[Place, Any]]:
    """Every child that a composition's entry names, with its place below the entry."""
    data = long_form(entry)
    if composed_kind(data) is None or not isinstance(data, Mapping):
        return
    for name in _CHILDREN:
        told = data.get(name)
        if isinstance(told, Sequence) and not isinstance(told, str):
            yield from (((name, index), child) for index, child in enumerate(told))
        elif told is not None:
            yield (name,), told


def named_children(entry: Any) -> Iterator[tuple[Place, str]]:
    """The ids that a composition's entry names, those in compositions within it included."""
    for place, child in children_of(entry):
        if isinstance(child, str):
            yield place, child
        else:
            yield from (((*place, *inner), name) for inner, name in named_children(child))


def _child_kind(data: Any) -> str:
    return composed_kind(data) or "id"


Child = Annotated[
    Annotated[ExpertId, Tag("id")]
    | Annotated[CascadeSettings, Tag("cascade")]
    | Annotated[VoteSettings, Tag("vote")]
    | Annotated[RoundsSettings, Tag("rounds")],
    Discriminator(_child_kind),
]
"""An expert's id, or a composition written in place."""

for _model in KINDS.values():
    _model.model_rebuild()
