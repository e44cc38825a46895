"""Log lines, written by a thread of their own: nobody else waits for a disk or a pipe.

Every line goes through the redactor. Logging belongs to the process, not to a gateway: the command
that serves starts it.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any, TextIO

import orjson

from gateway.settings.logging import LoggingSettings
from gateway.telemetry.redaction import Redactor

_STOP_S = 2.0
_TALKATIVE = ("httpx2", "alembic")


class Lines(QueueHandler):
    """Hands records to the writing thread; when that is too far behind, drops and counts them."""

    def __init__(self, queue: SimpleQueue[logging.LogRecord], most: int) -> None:
        super().__init__(queue)
        self._queue = queue
        self._most = most
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._queue.qsize() >= self._most:
            self.dropped += 1
        else:
            self._queue.put(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record with its message as it is now; arguments may change before it is written."""
        if not record.args and not record.exc_info:
            return record
        ready = copy.copy(record)
        ready.msg, ready.args = record.getMessage(), None
        if record.exc_info:
            ready.exc_text = _PLAIN.formatException(record.exc_info)
            ready.exc_info = None
        return ready


_PLAIN = logging.Formatter()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the record's own fields."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {"message": record.getMessage(), **fields_of(record)}
        if record.exc_text:
            said["exception"] = record.exc_text
        # One look at all of it, since next to no line has anything to hide.
        if self._redactor.suspects("\n".join(filter(_is_text, said.values()))):
            said = {name: self._clean(value) for name, value in said.items()}
        head = {"at": _at(record), "level": record.levelname.lower(), "logger": record.name}
        return orjson.dumps({**head, **said}, default=str).decode()

    def _clean(self, value: Any) -> Any:
        return self._redactor.text(value) if isinstance(value, str) else value


class TextLines(logging.Formatter):
    """The same for people."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        named = (f"{name}={value}" for name, value in fields_of(record).items())
        said = " ".join([record.getMessage(), *named])
        # What a client or a provider wrote must not look like a line of ours.
        said = _escaped(self._redactor.text(said))
        first = f"{_at(record)} {record.levelname.lower()} {record.name}: {said}"
        trace = self._redactor.text(record.exc_text or "").splitlines()
        return "\n  ".join([first, *map(_escaped, trace)])


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was said beside the message, as `extra={"fields": {...}}`."""
    found: dict[str, Any] = getattr(record, "fields", {})
    return found


def _at(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Logs:
    """The process's log lines from here on.

    Args:
        settings: Form, level and bounds.
        redactor: Takes secrets out of every line.
        stream: Where they go.
    """

    def __init__(
        self, settings: LoggingSettings, redactor: Redactor, stream: TextIO | None = None
    ) -> None:
        queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
        writer = logging.StreamHandler(stream or sys.stderr)
        writer.setFormatter((JsonLines if settings.format == "json" else TextLines)(redactor))
        self._lines = Lines(queue, settings.max_queue)
        self._listener = QueueListener(queue, writer)
        self._level = settings.level.upper()
        self._before: tuple[list[logging.Handler], int] = ([], logging.WARNING)

    def start(self) -> None:
        """Take over the root logger; uvicorn's loggers and everybody else's end there."""
        root = logging.getLogger()
        self._before = (list(root.handlers), root.level)
        root.handlers[:] = [self._lines]
        root.setLevel(self._level)
        if self._level != "DEBUG":
            # A line of each call, of each look at an engine, of each table of a new ledger.
            _set_level(logging.WARNING)
        self._listener.start()

    def stop(self) -> None:
        """Write what is left, unless nobody reads it, and give the root logger back."""
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        _set_level(logging.NOTSET)
        last = threading.Thread(target=self._listener.stop, name="last-log-lines", daemon=True)
        last.start()
        last.join(_STOP_S)


def _set_level(level: int) -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(level)


def dropped_lines() -> int:
    """Lines of this process that nobody will see because their reader was too slow."""
    handlers = logging.getLogger().handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, Lines))
