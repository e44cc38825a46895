"""Which cells of the table that an export makes are taken, and by which question each row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

_OTHER = "under the query_id of another question, which was scored later"


class Cells:
    """Answers that carry the tag `query_id` share rows; the newest of each cell stands.

    Remembers 16 bytes for each of them, and twice as many for each query.
    """

    def __init__(self) -> None:
        self._taken: set[bytes] = set()
        self._asked: dict[bytes, bytes] = {}

    def other_question(self, record: Mapping[str, Any]) -> str | None:
        """Why an answer is none to the query that it says it belongs to; None: it is one.

        A row has one prompt, one task and one split, and clients may tag what they like: under a
        `query_id` the question that comes first stands.
        """
        tags, query_id = record["tags"], query_of(record)
        if query_id is None:
            return None
        question = _digest(record["prompt"], tags.get("task"), tags.get("split"))
        first = self._asked.setdefault(_digest(query_id), question)
        return None if first == question else _OTHER

    def take(self, record: Mapping[str, Any]) -> bool:
        """Put an answer into its cell; False where one is there already."""
        query_id = query_of(record)
        if query_id is None:
            return True
        cell = _digest(query_id, record["answered_by"])
        taken = cell in self._taken
        self._taken.add(cell)
        return not taken


def query_of(record: Mapping[str, Any]) -> str | None:
    """The query that a request was tagged with; None: it is one of its own."""
    tagged: str = record["tags"].get("query_id", "")
    return tagged if tagged.strip() else None


def _digest(*texts: str | None) -> bytes:
    return hashlib.blake2b(repr(texts).encode(), digest_size=16).digest()
