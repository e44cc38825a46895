"""A request in two records: what is announced before the only call, and how that ended. Pure.

Most requests make one call, which comes through. All that their five rows hold is a handful of
figures beside what is the same for thousands of them, so the event loop hands over just that, and
whoever writes makes the rows: `opened_rows` and `closed_rows` say which.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from experts.record import record
from gateway.ledger import tables
from gateway.ledger.rows import (
    Row,
    decision_row,
    json_text,
    kept_text,
    prompt_digest,
)
from routers.records import Candidates, Decision

Tokens = tuple[int, int, int, int, int]
"""Input, read from cache, written to cache, output, reasoning: see `experts.messages.Usage`."""


class Asked(NamedTuple):
    """What the books of many requests say alike.

    Attributes:
        text_mode: What is kept of texts, see `kept_text`.
        price: The price of a call, None if it is unknown.
    """

    key_name: str
    project: str
    wire: str
    model: str
    stream: bool
    text_mode: str
    expert_id: str
    price: Row | None


class Certain:
    """A decision of which nothing but the expected cost varies: that for an expert by its name.

    Args:
        decision: One of them, with one candidate.

    Attributes:
        decision: The same.
        columns: Router, version, policy, preference, what is excluded, and flags, as text.
    """

    __slots__ = ("_after", "_before", "columns", "decision")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.columns, candidates = decision_columns(_with_cost(decision, _MARK))
        self._before, _, self._after = candidates.partition(str(_MARK))

    def candidates(self, usd: float | None) -> str:
        """What was weighed, as text, with this cost."""
        return f"{self._before}{'null' if usd is None else repr(usd)}{self._after}"

    def costing(self, usd: float | None) -> Decision:
        """The decision with this cost."""
        return _with_cost(self.decision, np.nan if usd is None else usd)


@record(eq=False)
class Opening:
    """Request, decision and attempt, about to be made.

    Attributes:
        asked: What is asked, as far as many ask the same.
        mark: What its ids end with: those of request, decision and attempt.
        at: When, in seconds since 1970.
        text: What is asked.
        decision: Who answers.
        usd: What a certain decision expects it to cost, None for nobody knows.
    """

    asked: Asked
    mark: str
    at: float
    text: str
    decision: Decision | Certain
    usd: float | None


@record(eq=False)
class Closing:
    """The call came through, and the client has its answer.

    Attributes:
        opening: What was announced.
        at: When it ended, in seconds since 1970.
        tokens: Of the call.
        cost_nanousd: Its cost, None for nobody knows.
        call_s: From the call until its answer, which came as a whole.
        total_s: From the request.
        finish_reason: Of the last choice.
        answer: The text of the first.
    """

    opening: Opening
    at: float
    tokens: Tokens
    cost_nanousd: int | None
    call_s: float
    total_s: float
    finish_reason: str
    answer: str


class Briefs:
    """Briefs that wait to be written; the event loop adds them, the writer takes them.

    Most requests end before the writer comes by. Their end takes along what they announced, and is
    written together with it.

    Attributes:
        openings: What was announced and has not ended yet, by its mark.
        wholes: Ends together with what they end.
        closings: Ends of what the writer has taken already.
    """

    __slots__ = ("closings", "openings", "wholes")

    def __init__(self) -> None:
        self.openings: dict[str, Opening] = {}
        self.wholes: deque[Closing] = deque()
        self.closings: deque[Closing] = deque()

    def __bool__(self) -> bool:
        return bool(self.openings or self.wholes or self.closings)

    @property
    def rows(self) -> int:
        """How many rows they stand for, prices aside."""
        opened, closed = len(self.openings), len(self.closings)
        whole = len(self.wholes)
        return _ROWS_OPENED * (opened + whole) + _ROWS_CLOSED * (closed + whole)

    def open(self, opening: Opening) -> None:
        """Something is announced; on the event loop only."""
        self.openings[opening.mark] = opening

    def shut(self, closing: Closing) -> None:
        """It has ended; on the event loop only."""
        # Popping is atomic: either the writer has got what was announced, or its end has.
        waited = self.openings.pop(closing.opening.mark, None)
        (self.closings if waited is None else self.wholes).append(closing)

    def take(self) -> Briefs:
        """All that are here just now; what is taken is not here any more."""
        taken = Briefs()
        # In this order: nothing ends before it was announced.
        for mine, theirs in ((self.closings, taken.closings), (self.wholes, taken.wholes)):
            theirs.extend(mine.popleft() for _ in range(len(mine)))
        with suppress(KeyError):
            # Not so many are left of those that were there if some end meanwhile.
            for _ in range(len(self.openings)):
                mark, opening = self.openings.popitem()
                taken.openings[mark] = opening
        return taken

    def opened(self) -> list[Opening]:
        """All that were announced."""
        return [*(whole.opening for whole in self.wholes), *self.openings.values()]

    def closed(self) -> list[Closing]:
        """All that ended."""
        return [*self.wholes, *self.closings]

    def entries(self) -> list[tuple[Row, ...]]:
        """Their rows; those of each go together."""
        opened = [tuple(opened_rows([opening])) for opening in self.opened()]
        return [*opened, *(tuple(closed_rows([closing])) for closing in self.closed())]


_ROWS_OPENED, _ROWS_CLOSED = 3, 2
# No cost is as high, and in no other column of one candidate does it occur.
_MARK = 123456789.5


def _with_cost(decision: Decision, usd: float) -> Decision:
    weighed = decision.candidates
    candidates = Candidates(
        weighed.experts,
        weighed.quality_A,
        weighed.stderr_A,
        np.array([usd]),
        weighed.latency_s_A,
        weighed.output_tokens_A,
        weighed.penalty_A,
        weighed.cost_scale_usd,
        weighed.latency_scale_s,
    )
    return replace(decision, candidates=candidates)


def decision_columns(decision: Decision) -> tuple[tuple[str, ...], str]:
    """A decision's columns that many have alike, and what was weighed, as text."""
    values = decision_row("", "", 0.0, decision).values
    names = ("preference", "excluded", "flags")
    preference, excluded, flags = (json_text(values[name]) for name in names)
    alike = (decision.router, decision.version, decision.policy, preference, excluded, flags)
    return alike, json_text(values["candidates"])


def opened_rows(openings: Iterable[Opening]) -> Iterator[Row]:
    """The rows of what was announced."""
    for opening in openings:
        asked, mark, at, text = opening.asked, opening.mark, opening.at, opening.text
        decided = opening.decision
        decision = decided.costing(opening.usd) if isinstance(decided, Certain) else decided
        price_id = None
        if asked.price is not None:
            yield asked.price
            price_id = asked.price.values["price_id"]
        request_id, decision_id = f"req-{mark}", f"dec-{mark}"
        request = {
            "request_id": request_id,
            "at": at,
            "key_name": asked.key_name,
            "project": asked.project,
            "wire": asked.wire,
            "model_asked": asked.model,
            "stream": asked.stream,
            "session": None,
            "tags": {},
            "prompt_sha256": prompt_digest(text, asked.text_mode),
            "prompt": kept_text(text, asked.text_mode),
        }
        attempt = {
            "attempt_id": f"att-{mark}",
            "decision_id": decision_id,
            "parent_id": None,
            "ordinal": 0,
            "at": at,
            "expert_id": asked.expert_id,
            "price_id": price_id,
        }
        yield Row(tables.request, request)
        yield decision_row(decision_id, request_id, at, decision)
        yield Row(tables.attempt, attempt)


def closed_rows(closings: Iterable[Closing]) -> Iterator[Row]:
    """The rows of how it ended."""
    for closing in closings:
        asked, mark, cost = closing.opening.asked, closing.opening.mark, closing.cost_nanousd
        result = {
            "attempt_id": f"att-{mark}",
            "at": closing.at,
            "status": "ok",
            "error_kind": None,
            "error": None,
            "http_status": None,
            **dict(zip(_TOKENS, closing.tokens, strict=True)),
            "tokens_estimated": False,
            "cost_nanousd": cost,
            "wasted": False,
            "first_token_s": closing.call_s,
            "latency_s": closing.call_s,
            "finish_reason": closing.finish_reason,
        }
        request_result = {
            "request_id": f"req-{mark}",
            "at": closing.at,
            "status": 200,
            "error_kind": None,
            "answered_by": asked.expert_id,
            "cost_nanousd": cost or 0,
            "cost_complete": cost is not None,
            "latency_s": closing.total_s,
            "answer": kept_text(closing.answer, asked.text_mode),
        }
        yield Row(tables.attempt_result, result)
        yield Row(tables.request_result, request_result)


_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
