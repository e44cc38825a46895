"""Patterns of keys that stand for nothing there is: a slip, or something that is yet to come."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.access.grants import matches
from gateway.settings.access import ALL, Grant
from gateway.settings.explain import nearest
from gateway.settings.root import Settings
from routers.policies.greedy import PRESETS


class Matchless(NamedTuple):
    """One such pattern.

    Attributes:
        field: Where it stands: `experts`, `policies` or `routes`.
        place: Which of them it is.
        what: What is to be said of it.
    """

    field: str
    place: int
    what: str

    def __str__(self) -> str:
        return f"{self.field}[{self.place}]: {self.what}"


def matchless(grant: Grant, settings: Settings) -> Iterator[Matchless]:
    """The patterns of `grant` that match nobody and nothing in `settings`."""
    experts = [entry.id for entry in settings.experts]
    policies = sorted({*PRESETS, *settings.routing.policies})
    for place, pattern in enumerate(grant.experts):
        if not any(matches((pattern,), expert) for expert in experts):
            alias = settings.aliases.get(pattern)
            meant = f"; it is an alias of `{alias}`" if alias else nearest(pattern, experts)
            yield Matchless("experts", place, f"{pattern!r} matches no expert there is{meant}")
    for place, pattern in enumerate(grant.policies):
        if not any(matches((pattern,), policy) for policy in policies):
            what = f"{pattern!r} matches no policy there is{nearest(pattern, policies)}"
            yield Matchless("policies", place, what)
    if grant.routes != ALL:
        yield from _of_routes(grant.routes)


def _of_routes(patterns: Sequence[str]) -> Iterator[Matchless]:
    # What serves takes long to load, and few keys are bound to routes.
    from gateway.api.routes import paths

    served = paths()
    for place, pattern in enumerate(patterns):
        if not any(_may_be(pattern, path) for path in served):
            what = f"{pattern!r} matches no path that is served{nearest(pattern, served)}"
            yield Matchless("routes", place, what)


def _may_be(pattern: str, path: str) -> bool:
    """Whether a path like `/v1/models/{name}` can be one that `pattern` stands for."""
    fixed, varies, _ = path.partition("{")
    if not varies:
        return matches((pattern,), path)
    own = pattern.partition("*")[0]
    if own == pattern:
        parts = map(re.escape, re.split(r"\{[^}]*\}", path))
        return re.fullmatch(".+".join(parts), pattern) is not None
    # Where both vary, nothing is said rather than something wrong.
    return own.startswith(fixed) or fixed.startswith(own)
