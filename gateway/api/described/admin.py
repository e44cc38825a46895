"""Shapes of `/admin`: routers, experts, budgets, the configuration, keys."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, RootModel

from gateway.api.described.operation import ErrorJson, Open


class RouterState(Open):
    """Which version of a router serves, which was promoted, and all there are."""

    serving: str | None
    promoted: str | None
    promoted_at: float | None
    history: list[str]
    versions: list[str]
    refused: str | None


class RouterStates(RootModel[dict[str, RouterState]]):
    """Every router by its name."""


class Promotion(Open):
    """Which version is to serve."""

    version: str = Field(min_length=1)


class Endpoint(Open):
    """One of an expert's URLs; of one that tells its load, what it said last."""

    url: str
    in_flight: int
    others: int
    waiting: int
    wait_s: float


class EngineJson(Open):
    """The engine of ours that an expert runs on; of one that sleeps, how deep."""

    name: str
    status: str
    level: int
    tier: str
    restarts: int
    wakes: int
    last_error: str
    start_s: float | None
    sleep_s: float | None
    wake_s: float | None
    memory_gb: float | None
    calls: int
    waiting: int
    load: dict[str, Any] | None


class ExpertMoved(Open):
    """How the engine is after the move."""

    id: str
    engine: EngineJson | None


class ExpertState(Open):
    """An expert just now."""

    id: str
    leaving: bool
    health: str
    wait_s: float
    in_flight: int
    waiting: int
    endpoints: list[Endpoint]
    price_source: str | None
    local: bool
    engine: EngineJson | None


class ExpertStates(Open):
    """All of them."""

    experts: list[ExpertState]


class Budget(Open):
    """One budget of this period, in dollars."""

    of: str
    name: str
    session: str | None
    per: str
    since: float
    until: float | None
    limit_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class Budgets(Open):
    """Those that the key may see."""

    budgets: list[Budget]


class ConfigState(Open):
    """Which configuration serves."""

    number: int
    digest: str
    loaded_at: float
    reason: str


class ConfigJson(ConfigState):
    """The same with its text, without secrets, and what every process has loaded."""

    serving: list[dict[str, Any]]
    warnings: list[str]
    settings: dict[str, Any]


class ConfigChange(ConfigState):
    """What serves now."""

    changed: bool


class FaultyConfigJson(ErrorJson):
    """A configuration that can't be served, with every fault in its place."""

    faults: list[dict[str, Any]]


class ConfigVerdict(Open):
    """Whether a text could be served."""

    ok: bool
    faults: list[dict[str, Any]]
    warnings: list[str] | None = None
    needs_restart: list[Any] | None = None
    digest: str | None = None


class KeyJson(Open):
    """A key without its secret; what it may do is told as it was granted."""

    name: str
    source: Literal["ledger", "configuration"]
    role: str
    project: str
    routes: list[str]
    experts: list[str]
    policies: list[str]
    privacy: str
    expires_at: float | None = None
    warnings: list[str] | None = None


class MintedKey(KeyJson):
    """The same with its secret, which is told this once."""

    key: str


class Keys(Open):
    """Those that the caller looks after."""

    keys: list[KeyJson]
