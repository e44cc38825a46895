"""Graded answers that commands learn from: those of a ledger, by the tags that requests carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Engine

from gateway.cli.console import say
from gateway.errors import ConfigError
from gateway.ledger.database import existing
from gateway.ledger.export import Export, as_outcomes, as_table, export_outcomes, with_doubts
from routers.records import OutcomeTable

if TYPE_CHECKING:
    from eval.tables.sources import Outcomes


def ledger_table(url: str, tags: dict[str, str]) -> OutcomeTable:
    """The scored answers of a ledger as a table."""
    with existing(url) as engine:
        return as_table(_exported(engine, tags))


def ledger_outcomes(url: str, tags: dict[str, str]) -> Outcomes:
    """The same with how sure each answer was, as far as `collect --logprobs` booked it."""
    with existing(url) as engine:
        return as_outcomes(with_doubts(engine, _exported(engine, tags), tags))


def _exported(engine: Engine, tags: dict[str, str]) -> Export:
    exported = export_outcomes(engine, tags=tags)
    for reason, count in exported.left_out.items():
        say(f"left out: {count} scored answers {reason}")
    return exported


def parse_tags(given: list[str] | None) -> dict[str, str]:
    """`name=value` options as a mapping."""
    pairs = [tag.partition("=") for tag in given or ()]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise ConfigError(f"--tag {name!r} must look like name=value")
    return {name: value for name, _, value in pairs}
