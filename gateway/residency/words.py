"""What is said between the process that owns the engines and those that call them, as JSON lines.

A worker sends reports, and commands of the operator with a number; it gets news, and the result of
each command under its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import orjson

from experts.residency.steward import Door, Report

Do = Literal["start", "sleep", "wake", "stop", "show", "gain", "lose"]
"""What the operator can want of an engine; `show` wants to know how busy they are. `gain` wants all
that a configuration names to run, `lose` nothing else."""
MOST_BYTES = 16 * 1024 * 1024
"""Of a line; a report names each request that waits."""


class Command(NamedTuple):
    """A command of the operator.

    Attributes:
        number: Its own.
        do: What is to be done.
        engine: With whom.
        text: Of the configuration, to gain or lose by.
    """

    number: int
    do: Do
    engine: str = ""
    text: str = ""


class CommandResult(NamedTuple):
    """What became of a command.

    Attributes:
        number: Whose.
        fault: "" if it was carried out; `conflict` if it can't be as things are, else `failed`.
        message: Why not.
        shown: Engine to what there is to know of it; what was gained: expert to its endpoint.
    """

    number: int
    fault: Literal["", "conflict", "failed"] = ""
    message: str = ""
    shown: Mapping[str, Mapping[str, Any]] = {}


class Told(NamedTuple):
    """A report, and what was decided since the last one: engine to the sum of its probabilities."""

    report: Report
    asked: Mapping[str, float]


class News(NamedTuple):
    """How the engines stand."""

    number: int
    doors: Mapping[str, Door]


def line_of(said: Told | Command | News | CommandResult) -> bytes:
    """As it goes over the wire."""
    return orjson.dumps({type(said).__name__.lower(): said}, default=tuple) + b"\n"


def read_line(line: bytes) -> Told | Command | News | CommandResult:
    """The inverse of `line_of`."""
    (kind, said), *_ = orjson.loads(line).items()
    if kind == "told":
        return Told(Report(**said[0]), said[1])
    if kind == "news":
        return News(said[0], {name: Door(*door) for name, door in said[1].items()})
    return (Command if kind == "command" else CommandResult)(*said)
