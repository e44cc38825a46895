"""Whose limits a request counts against: its key's, those of the keys above, project, session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.access.keys import Key
from gateway.settings.access import Limit, ProjectSettings, Unit


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of one subject.

    Attributes:
        kind: What the subject is.
        owner: Name of the key or the project.
        limit: How much it may have.
        session: The client's word for the session, "" for requests without; None for no session's.
        unit, amount: Of the limit, since asking it each time would take longer than counting.
        name: Whom it counts for, in one string: what has another name is counted by itself.
    """

    kind: str
    owner: str
    limit: Limit
    session: str | None = None
    unit: Unit = field(init=False)
    amount: int = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        limit = self.limit
        parts = [self.kind, limit.unit, limit.per, str(limit.amount), self.owner]
        if limit.unit == "usd" and self.session is None:
            # A budget that is raised or lowered has spent what it has, and holds what it holds.
            del parts[3]
        # The session comes last: whatever a client writes, it can't be taken for another meter.
        name = "|".join(parts if self.session is None else [*parts, self.session])
        for field_name, value in (("unit", limit.unit), ("amount", limit.amount), ("name", name)):
            object.__setattr__(self, field_name, value)

    @property
    def subject(self) -> str:
        """For people."""
        if self.kind == "session":
            return f"each session of the key {self.owner!r}"
        return f"the {self.kind} {self.owner!r}"


@dataclass(frozen=True, slots=True)
class Meters:
    """The meters of one request: those that count over a window, and those of dollars."""

    windows: tuple[Meter, ...] = ()
    budgets: tuple[Meter, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.windows or self.budgets)


NONE = Meters()


class Metering:
    """Finds the meters of a key.

    Args:
        projects: Limits that all keys of a project share.
    """

    def __init__(self, projects: Mapping[str, ProjectSettings]) -> None:
        self._projects = projects
        self._known: dict[str, tuple[Key, Meters, bool]] = {}

    def of_key(self, key: Key) -> Meters:
        """The meters that count whatever the session is."""
        return self._found(key)[1]

    def of(self, key: Key, session: str | None) -> Meters:
        """All meters of a request; requests that name no session share one."""
        _, meters, by_session = self._found(key)
        if not by_session:
            return meters
        added = list(_of_session(key, session or ""))
        return _sorted([*meters.windows, *meters.budgets, *added])

    def has_none(self, key: Key) -> bool:
        """Whether no request of a key comes under a limit, whatever its session."""
        _, meters, by_session = self._found(key)
        return not (meters or by_session)

    def _found(self, key: Key) -> tuple[Key, Meters, bool]:
        known = self._known.get(key.name)
        # A key that was changed is another object of the same name.
        if known is None or known[0] is not key:
            by_session = any(each.grant.session_limits for each in key.lineage)
            known = self._known[key.name] = (key, _sorted([*self._fixed(key)]), by_session)
        return known

    def _fixed(self, key: Key) -> Iterator[Meter]:
        for each in key.lineage:
            for limit in each.grant.limits:
                yield Meter("key", each.name, limit)
        for project in dict.fromkeys(each.project for each in key.lineage):
            if project in self._projects:
                for limit in self._projects[project].limits:
                    yield Meter("project", project, limit)


def _of_session(key: Key, session: str) -> Iterator[Meter]:
    for each in key.lineage:
        for limit in each.grant.session_limits:
            yield Meter("session", key.name, limit, session)


def _sorted(meters: list[Meter]) -> Meters:
    if not meters:
        return NONE
    once = {meter.name: meter for meter in meters}.values()
    return Meters(
        tuple(meter for meter in once if meter.unit != "usd"),
        tuple(meter for meter in once if meter.unit == "usd"),
    )
