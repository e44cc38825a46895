"""A key as it is known here: its name and its rights, never the secret itself."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from experts.cards import ExpertCard, Privacy, strictest
from gateway.access.grants import ROLES, matches
from gateway.settings.access import ALL, Grant, Role

PREFIX = "pm-"
_SECRET_BYTES = 32
EVERYTHING_A_CALLER_MAY = Grant()


@dataclass(frozen=True, slots=True, eq=False)
class Key:
    """Who calls, and what they may do.

    A key lives within the one that granted it: it may do what both may, ends with it, and counts
    against the limits of both.

    Attributes:
        name: As the ledger and the headers have it.
        grant: Its own rights.
        granted_by: The key that made it, None for keys of the configuration and of the operator.
        lineage: This key, and those that it was granted by, nearest first.
        role: The weakest of the lineage.
        expires_at: The earliest end of the lineage, in seconds since 1970; None is never.
        privacy: The class of all data that comes with it, at least: the strictest of the lineage.
        asks_anyone: Whether it may ask every expert.
        follows_any: Whether it may use every policy.
    """

    name: str
    grant: Grant = EVERYTHING_A_CALLER_MAY
    granted_by: Key | None = None

    lineage: tuple[Key, ...] = field(init=False, repr=False)
    role: Role = field(init=False)
    expires_at: float | None = field(init=False)
    privacy: Privacy = field(init=False)
    asks_anyone: bool = field(init=False)
    follows_any: bool = field(init=False)

    def __post_init__(self) -> None:
        lineage = (self,) if self.granted_by is None else (self, *self.granted_by.lineage)
        ends = [key.grant.expires_at for key in lineage if key.grant.expires_at is not None]
        weakest = min((key.grant.role for key in lineage), key=ROLES.index)
        for name, value in (
            ("lineage", lineage),
            ("role", weakest),
            ("expires_at", min(ends, default=None)),
            ("privacy", strictest(*(key.grant.privacy for key in lineage))),
            ("asks_anyone", all(key.grant.experts == ALL for key in lineage)),
            ("follows_any", all(key.grant.policies == ALL for key in lineage)),
        ):
            object.__setattr__(self, name, value)

    @property
    def project(self) -> str:
        return self.grant.project

    @property
    def admin(self) -> bool:
        return self.role == "admin"

    @property
    def manages(self) -> bool:
        """Whether it may make keys."""
        return self.role != "caller"

    def may_visit(self, path: str) -> bool:
        """Whether it may ask this path."""
        return all(matches(key.grant.routes, path) for key in self.lineage)

    def may_ask(self, expert_id: str) -> bool:
        """Whether this expert may answer it."""
        return self.asks_anyone or all(
            matches(key.grant.experts, expert_id) for key in self.lineage
        )

    def may_reach(self, card: ExpertCard) -> bool:
        """Whether this expert may answer it, and every model that it may come to ask."""
        if self.asks_anyone:
            return True
        return self.may_ask(card.expert_id) and all(
            self.may_ask(leaf.expert_id) for leaf in card.leaves
        )

    def may_follow(self, policy: str) -> bool:
        """Whether this policy may decide for it."""
        return self.follows_any or all(matches(key.grant.policies, policy) for key in self.lineage)


LOCAL = Key("anonymous", Grant(role="admin"))
"""Who calls from this machine while there are no keys."""

STRANGER = Key("anonymous")
"""Who calls from elsewhere while there are no keys."""


def new_secret() -> str:
    """A secret to be shown once: 256 bits of chance."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest(secret: str) -> str:
    """What is kept of a secret: SHA-256 in full, as hex. Long and random, it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()
