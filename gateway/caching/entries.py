"""A kept answer: its events as bytes, what it cost, and whether it may be kept at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from experts.messages import Delta, Event, Finish, Usage
from experts.wire.kept_json import kept_json

_OVERHEAD_BYTES = 1_000
_KINDS: dict[str, type[Delta | Finish | Usage]] = {
    kind.__name__: kind for kind in (Delta, Finish, Usage)
}


@dataclass(frozen=True, slots=True)
class Question:
    """What a question is compared by; see `gateway.caching.similar`.

    Attributes:
        bucket: Only questions of one bucket are compared at all.
        words: Its words, in their order.
        vector_D: Of length 1.
    """

    bucket: bytes
    words: tuple[str, ...]
    vector_D: npt.NDArray[np.float32]

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self.vector_D.nbytes + sum(60 + len(word) for word in self.words)


@dataclass(frozen=True, slots=True, eq=False)
class CacheEntry:
    """One answer.

    Attributes:
        key: The request's fingerprint.
        events: The answer as `encode` made it.
        usage: Tokens of that answer as it was booked.
        decision_id: Under which it was asked for.
        expert: Who gave it.
        cost_nanousd: What asking cost, None unknown.
        stored_at: On the monotonic clock.
        question: For finding it by similarity, None if that is not wanted or not possible.
    """

    key: bytes
    events: bytes
    usage: Usage
    decision_id: str
    expert: str
    cost_nanousd: int | None
    stored_at: float
    question: Question | None = None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.events) + _OVERHEAD_BYTES + (self.question.size if self.question else 0)


def is_whole(events: Iterable[Event], finish_reasons: Collection[str]) -> bool:
    """Whether an answer is complete: every choice ended, each in one of these ways."""
    begun: set[int] = set()
    ended: dict[int, str] = {}
    for event in events:
        if isinstance(event, Finish):
            ended[event.choice] = event.reason
        elif isinstance(event, Delta):
            begun.add(event.choice)
    return bool(ended) and begun <= ended.keys() and set(ended.values()) <= set(finish_reasons)


def encode(events: Iterable[Event]) -> bytes:
    """Events as JSON, runs of plain text joined; `decode` is the inverse."""
    return kept_json([[type(event).__name__, event] for event in _joined(events)])


def decode(data: bytes) -> list[Event]:
    """The events of `encode`."""
    return [_event(kind, fields) for kind, fields in orjson.loads(data)]


def _event(kind: str, fields: dict[str, Any]) -> Event:
    if kind == Delta.__name__:
        fields = {**fields, **{name: tuple(fields[name]) for name in ("tool_calls", "opaque")}}
    return _KINDS[kind](**fields)


def _joined(events: Iterable[Event]) -> Sequence[Event]:
    joined: list[Event] = []
    run: list[str] = []
    plain: Delta | None = None

    def end_run() -> None:
        if plain is not None:
            joined.append(replace(plain, text="".join(run)))
        run.clear()

    for event in events:
        if isinstance(event, Delta) and event == Delta(event.text, event.choice):
            if plain is None or plain.choice != event.choice:
                end_run()
                plain = event
            run.append(event.text)
            continue
        end_run()
        plain = None
        joined.append(event)
    end_run()
    return joined
