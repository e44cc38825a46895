"""The `guards` section: what may not reach an expert, or not come back from one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, model_validator

from experts.cards import Privacy
from gateway.settings.base import Frozen

Side = Literal["input", "output"]
Action = Literal["redact", "block", "flag"]
Entity = Literal["iban", "card", "us_ssn", "ip", "secret", "email", "phone"]
ENTITIES: tuple[Entity, ...] = ("iban", "card", "us_ssn", "ip", "secret", "email", "phone")


class _GuardSettings(Frozen):
    name: str = Field("", max_length=60, pattern=r"^[\w.-]*$")
    """What errors, records and figures call it; its kind if not said."""
    on: frozenset[Side] = Field(frozenset({"input", "output"}), min_length=1)
    on_error: Literal["closed", "open"] = "closed"
    """What becomes of a request whose guard fails: refused, or let through and on record."""
    privacy: Privacy = "public"
    """The class, at least, of a request in which it finds something."""


class PiiGuardSettings(_GuardSettings):
    """Personal data."""

    kind: Literal["pii"]
    action: Action = "redact"
    entities: tuple[Entity, ...] = Field(ENTITIES, min_length=1)
    regions: tuple[str, ...] = ("US",)
    """Countries (ISO 3166) whose phone numbers are known without their `+` and country code."""
    restore: bool = False
    """Whether the client's own data stand in the answer where the expert wrote placeholders."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.restore and (self.action != "redact" or "input" not in self.on):
            raise ValueError("restore needs action: redact on the input")
        # Here, since reading patterns takes libraries that a gateway without guards never loads.
        from gateway.guards.pii import pii_finder

        pii_finder(self.entities, self.regions)
        return self


class RegexGuardSettings(_GuardSettings):
    """Patterns that may not occur."""

    kind: Literal["regex"]
    action: Action = "block"
    patterns: dict[Annotated[str, Field(pattern=r"^[\w.-]{1,60}$")], str] = Field(min_length=1)
    """Name to pattern, in the syntax that RE2 and Python share."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        from gateway.guards.denylist import pattern_finder

        pattern_finder(self.patterns, streams="output" in self.on)
        return self


GuardSettings = Annotated[PiiGuardSettings | RegexGuardSettings, Discriminator("kind")]
