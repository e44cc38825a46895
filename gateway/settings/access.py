"""The `keys` and `access` sections: who may call, and what a key may do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experts.cards import NANO_PER_USD, Privacy
from gateway.settings.base import RESTART, Frozen, Secret, SecretUrl

Role = Literal["caller", "manager", "admin"]
Unit = Literal["requests", "tokens", "usd"]
Per = Literal["second", "minute", "hour", "day", "week", "month", "total"]
_CALENDAR = ("week", "month", "total")
# Only `*` is special in a pattern: that keeps the question whether one holds another decidable.
Pattern = Annotated[str, Field(pattern=r"^[\w.:/@+*-]+$", max_length=200)]
Patterns = tuple[Pattern, ...]
ALL: Patterns = ("*",)
MOST_USD = 1e9
"""So many nano-dollars still fit in 64 bits."""
_MOST_COUNTED = 2**53
_END_OF_DATES_S = 253_402_300_799


class Limit(Frozen):
    """At most so many `requests`, `tokens` or `usd` `per` period; exactly one of the three.

    Requests and tokens are counted over the last second, minute, hour or day, whenever that began;
    dollars over the calendar's second to month in UTC, or in total.
    """

    requests: int | None = Field(None, ge=1, le=_MOST_COUNTED)
    tokens: int | None = Field(None, ge=1, le=_MOST_COUNTED)
    usd: float | None = Field(None, gt=0, le=MOST_USD)
    per: Per

    @model_validator(mode="after")
    def _one_unit(self) -> Limit:
        given = [name for name in ("requests", "tokens", "usd") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a limit names exactly one of requests, tokens and usd")
        if self.usd is None and self.per in _CALENDAR:
            raise ValueError(f"{given[0]} can't be limited per {self.per}, only dollars can")
        return self

    @property
    def unit(self) -> Unit:
        if self.usd is not None:
            return "usd"
        return "requests" if self.requests is not None else "tokens"

    @property
    def amount(self) -> int:
        """Requests, tokens, or nano-dollars."""
        if self.usd is not None:
            return round(self.usd * NANO_PER_USD)
        return self.requests or self.tokens or 0


def _one_each(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    kinds = [(limit.unit, limit.per) for limit in limits]
    if len(set(kinds)) != len(kinds):
        raise ValueError("two limits of the same unit and period")
    return limits


Limits = Annotated[tuple[Limit, ...], AfterValidator(_one_each)]


def _epoch(value: Any) -> Any:
    """Dates as YAML or JSON have them to seconds since 1970; without a zone they are UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return value


Seconds = Annotated[float, Field(ge=0, le=_END_OF_DATES_S)]


DEFAULT_PROJECT = "default"


class Grant(Frozen):
    """What a key may do; without any field, everything that callers may."""

    role: Role = "caller"
    project: str = Field(DEFAULT_PROJECT, min_length=1, max_length=200)
    routes: Patterns = ALL
    """Paths it may ask, `*` standing for anything, e.g. `/v1/chat/*`."""
    experts: Patterns = ALL
    policies: Patterns = ALL
    privacy: Privacy = "public"
    """The class of all data that comes with it, at least."""
    expires_at: Annotated[Seconds | None, BeforeValidator(_epoch)] = None
    limits: Limits = ()
    session_limits: Limits = ()
    """Limits of each session by itself."""

    def bare(self) -> Grant:
        """What was said of the rights, without whatever else a subclass holds."""
        named = self.model_fields_set & Grant.model_fields.keys()
        return Grant.model_validate({name: getattr(self, name) for name in named})


class KeySettings(Grant):
    """One key: `key` is `env:NAME`, `sha256:<hex digest>` or the key itself."""

    name: str = Field(min_length=1, max_length=200)
    key: Secret = Field(min_length=6, repr=False)
    """Shorter ones could not be told from other text where secrets are blotted out."""

    @model_validator(mode="before")
    @classmethod
    def _admin_is_a_role(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "admin" not in data:
            return data
        others = {name: value for name, value in data.items() if name != "admin"}
        if not isinstance(data["admin"], bool):
            raise ValueError("admin: must be true or false")  # noqa: TRY004 - pydantic's word
        return {"role": "admin", **others} if data["admin"] else others


class ProjectSettings(Frozen):
    """What all keys of a project share."""

    limits: Limits = ()
    privacy: Privacy = "public"
    """The class of all data that comes with them, at least."""


class AccessSettings(Frozen):
    """How keys are checked, and limits kept."""

    open_metrics: bool = False
    """Whether `/metrics` may be read without a key."""
    refresh_s: float = Field(1, gt=0)
    """How often the ledger is asked for new and revoked keys."""
    when_ledger_is_down: Literal["open", "closed"] = "closed"
    """Whether a key that is not known here passes while the ledger can't be asked."""
    projects: dict[str, ProjectSettings] = Field(default_factory=dict)
    unknown_price: Literal["refuse", "allow"] = "refuse"
    """Whether a key with a budget may ask experts whose price nobody knows."""
    default_max_tokens: int = Field(4096, ge=1)
    """Longest answer under a budget where neither the request nor the expert bounds it."""
    min_answer_tokens: int = Field(16, ge=1)
    """A budget that can't pay for so long an answer refuses instead of cutting it."""
    shared: Annotated[SecretUrl | None, RESTART] = Field(None, repr=False)
    """Valkey's URL, for limits and budgets that several workers or replicas share."""
    when_shared_is_down: Literal["open", "closed"] = "closed"
    """While Valkey is away: `open` counts in each process by itself, `closed` answers 503."""
