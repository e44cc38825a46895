"""What the processes of one `pointsman serve` agree on: which configuration is in force.

A directory that only its user may read: every text that was in force, a pointer to the current one,
replaced in one step, where the engines of ours answer, and a note of each process on what it has
loaded.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from experts.whole_files import whole_file
from gateway.errors import ConfigError
from gateway.ids import now
from gateway.settings.document import digest_of

_POINTER = "current.json"
_ENDPOINTS = "endpoints.json"
_MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """One configuration that is or was in force."""

    number: int
    digest: str
    at: float
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """What one process has loaded, and why not more."""

    pid: int
    number: int
    digest: str
    at: float
    error: str | None = None


class Board:
    """See the module; every method may be called by several processes at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "notes").mkdir(mode=0o700, parents=True, exist_ok=True)

    def alone(self) -> TextIO:
        """Wait until no other process puts a text in force; closing what is given lets the next."""
        file = (self._directory / "alone").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def current(self) -> BoardEntry:
        """What is in force."""
        return self._entries()[-1]

    def history(self) -> list[BoardEntry]:
        """What was in force before it and can be gone back to, oldest first."""
        return self._entries()[:-1]

    def text(self, number: int) -> str:
        return self._text(number).read_text(encoding="utf-8")

    def publish(self, text: str, reason: str) -> BoardEntry:
        """Put `text` in force; publishing what is in force changes nothing."""
        with self._locked():
            entries = self._entries()
            if entries and entries[-1].digest == digest_of(text):
                return entries[-1]
            return self._put(entries, text, reason)

    def roll_back(self, number: int) -> BoardEntry:
        """Put what was in force before `number` in force again.

        Raises:
            ConfigError: There is nothing before it, or `number` is no longer in force.
        """
        with self._locked():
            entries = self._entries()
            if entries[-1].number != number:
                raise ConfigError(f"configuration {number} is no longer in force")
            if len(entries) < 2:
                raise ConfigError("there is no earlier configuration to go back to")
            before = entries[-2]
            reason = f"rollback to {before.number}"
            return self._put(entries[:-2], self.text(before.number), reason, number + 1)

    def place(self, endpoints: Mapping[str, Any]) -> None:
        """Say where the experts on engines of ours are asked."""
        self._replace(Path(_ENDPOINTS), endpoints)

    def endpoints(self) -> dict[str, Any]:
        """What was said last."""
        text = (self._directory / _ENDPOINTS).read_text(encoding="utf-8")
        endpoints: dict[str, Any] = json.loads(text)
        return endpoints

    def note(self, note: Note) -> None:
        """Say what this process has loaded."""
        self._replace(Path("notes") / f"{note.pid}.json", asdict(note))

    def notes(self) -> list[Note]:
        """What every process that lives has loaded."""
        found = []
        for path in sorted((self._directory / "notes").glob("*.json")):
            note = Note(**json.loads(path.read_text(encoding="utf-8")))
            if _lives(note.pid):
                found.append(note)
            else:
                path.unlink(missing_ok=True)
        return found

    def _put(
        self, before: list[BoardEntry], text: str, reason: str, number: int | None = None
    ) -> BoardEntry:
        if number is None:
            number = before[-1].number + 1 if before else 1
        entry = BoardEntry(number, digest_of(text), now(), reason)
        entries = [*before, entry][-_MAX_HISTORY:]
        descriptor = os.open(self._text(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        self._replace(Path(_POINTER), [asdict(each) for each in entries])
        kept = {self._text(each.number) for each in entries}
        for path in set(self._directory.glob("*.yaml")) - kept:
            path.unlink()
        return entry

    def _entries(self) -> list[BoardEntry]:
        try:
            text = (self._directory / _POINTER).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [BoardEntry(**each) for each in json.loads(text)]

    def _text(self, number: int) -> Path:
        return self._directory / f"{number}.yaml"

    def _replace(self, name: Path, content: Any) -> None:
        with whole_file(self._directory / name) as written:
            written.write_text(json.dumps(content), encoding="utf-8")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
