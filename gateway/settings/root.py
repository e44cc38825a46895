"""The whole configuration as one frozen record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from gateway.settings.access import AccessSettings, KeySettings
from gateway.settings.base import RESTART, Frozen, secret
from gateway.settings.cache import CacheSettings
from gateway.settings.devices import DeviceSettings, unplaceable
from gateway.settings.execution import BalanceSettings, BreakerSettings, ExecutionSettings
from gateway.settings.experts import ExpertSettings, local_pool
from gateway.settings.explain import refusal
from gateway.settings.guards import GuardSettings
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitSettings
from gateway.settings.local import with_adapters
from gateway.settings.logging import LoggingSettings
from gateway.settings.outcomes import JudgeSettings, OutcomeSettings
from gateway.settings.references import broken_references
from gateway.settings.residency import ResidencySettings
from gateway.settings.responses import ResponsesSettings
from gateway.settings.retrain import RetrainSettings
from gateway.settings.routing import RoutingSettings
from gateway.settings.server import ServerSettings
from gateway.settings.shadow import ShadowSettings
from gateway.settings.telemetry import TelemetrySettings


class Settings(Frozen):
    """The whole configuration. Without a file: the local pool, one router, SQLite."""

    server: ServerSettings = ServerSettings()
    keys: tuple[KeySettings, ...] = ()
    access: AccessSettings = AccessSettings()
    experts: tuple[ExpertSettings, ...] = Field(default_factory=local_pool)
    devices: Annotated[tuple[DeviceSettings, ...], RESTART] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    guards: tuple[GuardSettings, ...] = ()
    execution: ExecutionSettings = ExecutionSettings()
    breaker: BreakerSettings = BreakerSettings()
    balance: BalanceSettings = BalanceSettings()
    residency: Annotated[ResidencySettings, RESTART] = ResidencySettings()
    ledger: LedgerSettings = LedgerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    logging: LoggingSettings = LoggingSettings()
    responses: ResponsesSettings = ResponsesSettings()
    retrain: RetrainSettings = RetrainSettings()
    shadow: ShadowSettings = ShadowSettings()
    outcomes: OutcomeSettings = OutcomeSettings()
    judges: tuple[JudgeSettings, ...] = ()
    data_dir: Annotated[Path, RESTART] = Path("data")
    """Routers, engine logs and measured rates."""

    @property
    def ledger_url(self) -> str:
        """The ledger's URL, taken from the environment where it says so."""
        return secret(self.ledger.url)

    @property
    def responses_url(self) -> str:
        """Where responses are kept."""
        if self.responses.url is not None:
            return secret(self.responses.url)
        beside = f"sqlite:///{self.data_dir / 'responses.db'}"
        return beside if self.ledger_url.startswith("sqlite") else self.ledger_url

    @field_validator("experts", mode="before")
    @classmethod
    def _each_adapter_is_an_expert(cls, experts: Any) -> Any:
        return with_adapters(experts) if isinstance(experts, list | tuple) else experts

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        if problems := list(broken_references(self.model_dump())):
            raise refusal(problems)
        return self

    @model_validator(mode="after")
    def _servers_find_room(self) -> Settings:
        problems = list(unplaceable(self.devices, self.experts, self.residency))
        if problems:
            raise refusal(problems)
        return self
