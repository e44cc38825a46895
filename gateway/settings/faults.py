"""What is wrong with a configuration, each fault with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.errors import ConfigError

Place = tuple[str | int, ...]
"""A key's way from the top of the file: `("experts", 0, "prices", "input")`."""


_LONGEST_KEY = 80


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault; `line` and `column` count from 1, `key` is "" for the file as a whole."""

    line: int
    column: int
    key: str
    message: str
    file: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}"


class FaultyConfigError(ConfigError):
    """A configuration with faults; the message is one line per fault, in the file's order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(map(str, self.faults)))

    def json(self) -> list[dict[str, Any]]:
        """The faults for programs."""
        return [asdict(fault) for fault in self.faults]


def shown(place: Sequence[str | int]) -> str:
    """`experts[0].prices.input`."""
    text = ""
    for part in place:
        name = f"[{part}]" if isinstance(part, int) else _named(part)
        text += f".{name}" if text and isinstance(part, str) else name
    return text


def _named(key: str) -> str:
    return key if key.isprintable() and len(key) <= _LONGEST_KEY else repr(key[:_LONGEST_KEY])
