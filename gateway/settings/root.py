"""The whole configuration as one frozen record."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from gateway.settings.access import KeySettings
from gateway.settings.base import Frozen, secret
from gateway.settings.execution import BreakerSettings, ExecutionSettings
from gateway.settings.experts import ExpertSettings, local_pool
from gateway.settings.ledger import LedgerSettings
from gateway.settings.limits import LimitSettings
from gateway.settings.routing import RoutingSettings
from gateway.settings.server import ServerSettings


class Settings(Frozen):
    """The whole configuration. Without a file: the local pool, one router, SQLite."""

    server: ServerSettings = ServerSettings()
    keys: tuple[KeySettings, ...] = ()
    experts: tuple[ExpertSettings, ...] = Field(default_factory=local_pool)
    aliases: dict[str, str] = Field(default_factory=dict)
    routing: RoutingSettings = RoutingSettings()
    limits: LimitSettings = LimitSettings()
    execution: ExecutionSettings = ExecutionSettings()
    breaker: BreakerSettings = BreakerSettings()
    ledger: LedgerSettings = LedgerSettings()
    data_dir: Path = Path("data")
    """Routers, engine logs and measured rates."""

    @property
    def ledger_url(self) -> str:
        """The ledger's URL, taken from the environment where it says so."""
        return secret(self.ledger.url)

    @field_validator("experts")
    @classmethod
    def _unique_ids(cls, experts: tuple[ExpertSettings, ...]) -> tuple[ExpertSettings, ...]:
        ids = [expert.id for expert in experts]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if not ids or twice:
            found = f"{', '.join(twice)} given twice" if twice else "none given"
            raise ValueError(f"experts need distinct ids ({found})")
        return experts

    @model_validator(mode="after")
    def _names_exist(self) -> Settings:
        ids = {expert.id for expert in self.experts}
        default = self.routing.default_expert
        if default is not None and default not in ids:
            raise ValueError(f"routing.default_expert {default!r} is no expert's id")
        for alias, expert in self.aliases.items():
            if expert not in ids:
                raise ValueError(f"alias {alias!r} points to {expert!r}, which is no expert's id")
            if alias in ids:
                raise ValueError(f"alias {alias!r} is already an expert's id")
        return self
