"""The seam: what a guard is, and what it puts on record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from experts.cards import Privacy
from gateway.guards.finder import Finder, Found
from gateway.settings.guards import Action, Side


class Memory(Protocol):
    """What a guard knows of one request."""

    def placeholder(self, found: Found) -> str:
        """What takes the place of something found, when it is redacted."""
        ...


class GuardRules(Protocol):
    """What every guard is told in the configuration."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def on(self) -> frozenset[Side]: ...
    @property
    def action(self) -> Action: ...
    @property
    def on_error(self) -> str: ...
    @property
    def privacy(self) -> Privacy: ...


class Guard(Protocol):
    """Something that looks for things in texts.

    Attributes:
        settings: Where it looks and what happens to what it finds.
        finder: What it looks for.
    """

    @property
    def settings(self) -> GuardRules: ...
    @property
    def finder(self) -> Finder: ...

    def begin(self) -> Memory:
        """A new request comes."""
        ...


class BlockedError(Exception):
    """Something was found that may not pass. Never says what.

    Attributes:
        before: The text before it.
    """

    def __init__(self, before: str) -> None:
        super().__init__("blocked")
        self.before = before


@dataclass(slots=True)
class Record:
    """What one guard did on one side of one request.

    Attributes:
        action: redact, block, flag, or `failed_open` when the guard itself failed.
        found: How often each kind of thing was found; never what.
    """

    guard: str
    side: Side
    action: str
    found: Counter[str] = field(default_factory=Counter)
