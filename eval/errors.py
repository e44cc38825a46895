"""Why nothing could be read, graded or compared.

EvalError
├── SourceError          a file of outcomes or prices is malformed; `.path`, `.row`, `.column`
├── GraderConfigError    a check is malformed; `.field`
├── ComparisonError      tables that can't be compared: no shared experts, nothing observed
├── CrewError            no cluster to work on, or work that was lost with it
└── OffPolicyError       a log that can't tell what a candidate would have been worth
"""

from __future__ import annotations

from pathlib import Path


class EvalError(Exception):
    """Base of all errors of this package."""


class SourceError(EvalError, ValueError):
    """A file can't be read as what it should be.

    Attributes:
        path: The file.
        row: Which record, counted from 1 without the header; None when it is the whole file.
        column: Which column; None when it is none in particular.
    """

    def __init__(
        self, path: Path, message: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        where = [str(path)]
        if row is not None:
            where.append(f"row {row}")
        if column is not None:
            where.append(f"column {column!r}")
        super().__init__(f"{', '.join(where)}: {message}")
        self.path = path
        self.row = row
        self.column = column


class GraderConfigError(EvalError, ValueError):
    """A check can't be built; `field` is the one at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"check field {field!r}: {message}")
        self.field = field


class ComparisonError(EvalError, ValueError):
    """Tables that can't be compared; the message says why and what to do."""


class CrewError(EvalError):
    """Work that others were to do can't be done; the message says why."""


class OffPolicyError(EvalError, ValueError):
    """A log and a candidate that don't belong together, or a log that can't tell."""
