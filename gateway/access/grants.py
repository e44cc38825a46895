"""What one key may hand to another: never more than it has itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from experts.cards import PRIVACY
from gateway.settings.access import Grant, Limit, Patterns

ROLES = ("caller", "manager", "admin")
"""Weakest first."""


def matches(patterns: Patterns, name: str) -> bool:
    """Whether one of `patterns` stands for `name`; `*` stands for any characters."""
    return patterns == ("*",) or any(fnmatchcase(name, pattern) for pattern in patterns)


def covers(wide: Patterns, narrow: Patterns) -> bool:
    """Whether everything that `narrow` stands for is stood for by one pattern of `wide`.

    A `*` in a narrow pattern can only be met by a `*` of the wide one, so matching the pattern as
    if it were a name decides.
    """
    return all(matches(wide, pattern) for pattern in narrow)


def inherited(grant: Grant, giver: Grant) -> Grant:
    """`grant` with the giver's rights where it names none of its own; the role is not inherited."""
    named = grant.model_fields_set
    plain = ("project", "routes", "experts", "policies", "privacy")
    return grant.model_copy(
        update={
            **{name: getattr(giver, name) for name in plain if name not in named},
            "expires_at": giver.expires_at if grant.expires_at is None else grant.expires_at,
            "limits": _completed(grant.limits, giver.limits),
            "session_limits": _completed(grant.session_limits, giver.session_limits),
        }
    )


def excess(grant: Grant, giver: Grant) -> str | None:
    """The field in which `grant` goes beyond `giver`, or None if it lies within."""
    checks = {
        "role": ROLES.index(grant.role) <= ROLES.index(giver.role),
        # An admin's keys may belong to any project; all others stay in their own.
        "project": giver.role == "admin" or grant.project == giver.project,
        "routes": covers(giver.routes, grant.routes),
        "experts": covers(giver.experts, grant.experts),
        "policies": covers(giver.policies, grant.policies),
        "privacy": PRIVACY.index(grant.privacy) >= PRIVACY.index(giver.privacy),
        "expires_at": _ends_no_later(grant.expires_at, giver.expires_at),
        "limits": _no_larger(grant.limits, giver.limits),
        "session_limits": _no_larger(grant.session_limits, giver.session_limits),
    }
    return next((field for field, within in checks.items() if not within), None)


def _completed(limits: Iterable[Limit], giver: Iterable[Limit]) -> tuple[Limit, ...]:
    own = {(limit.unit, limit.per): limit for limit in limits}
    return tuple({**{(limit.unit, limit.per): limit for limit in giver}, **own}.values())


def _ends_no_later(end: float | None, giver: float | None) -> bool:
    return giver is None or (end is not None and end <= giver)


def _no_larger(limits: Iterable[Limit], giver: Iterable[Limit]) -> bool:
    amounts = {(limit.unit, limit.per): limit.amount for limit in limits}
    return all(
        amounts.get((limit.unit, limit.per), limit.amount + 1) <= limit.amount for limit in giver
    )
