"""Answers that real experts gave, given again: a loop over them takes no model's time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from experts.base import Call
from experts.cards import ExpertCard
from experts.errors import ExpertRejectedError
from experts.messages import ChatRequest, Delta, Event, Finish, Usage
from gateway.ledger.database import reader
from gateway.ledger.tables import attempt, attempt_result, decision, request, request_result

_TOKENS = ("input", "cache_read", "cache_write", "output", "reasoning")


@dataclass(frozen=True, slots=True)
class Said:
    """One answer, with what was read and written for it."""

    text: str
    usage: Usage


class RecalledExpert:
    """Answers every question as `card` did, word by word and token by token.

    Args:
        card: Of whom the answers are.
        answers: Question to answer.
    """

    def __init__(self, card: ExpertCard, answers: Mapping[str, Said]) -> None:
        self._card = card
        self._answers = answers

    @property
    def card(self) -> ExpertCard:
        return self._card

    async def answer(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        said = self._answers.get(request.question)
        if said is None:
            raise ExpertRejectedError(self._card.expert_id, "it was never asked that")
        yield Delta(said.text)
        yield Finish("stop")
        yield said.usage

    async def aclose(self) -> None:
        return None


def newest_collection(engine: Engine) -> str:
    """The collection that the newest answers belong to; "" where there is none."""
    query = select(request.c.tags).order_by(request.c.at.desc())
    with reader(engine).connect() as connection:
        for tags in connection.execute(query).scalars():
            if "collection" in tags:
                return str(tags["collection"])
    return ""


def _tokens(row: Any) -> dict[str, Any]:
    return {name: row[name] or 0 for name in _TOKENS}


def recall(engine: Engine, tags: Mapping[str, str]) -> dict[str, dict[str, Said]]:
    """Expert to question to answer, of requests that named their expert and carry all `tags`."""
    spent = attempt_result.c
    query = (
        select(
            request.c.prompt,
            request.c.tags,
            request_result.c.answered_by,
            request_result.c.answer,
            *(spent[f"{name}_tokens"].label(name) for name in _TOKENS),
        )
        .join(decision, decision.c.request_id == request.c.request_id)
        .join(request_result, request_result.c.request_id == request.c.request_id)
        .join(attempt, attempt.c.decision_id == decision.c.decision_id)
        .join(attempt_result, spent.attempt_id == attempt.c.attempt_id)
        .where(decision.c.router == "explicit", spent.status == "ok", attempt.c.parent_id.is_(None))
    )
    found: dict[str, dict[str, Said]] = {}
    with reader(engine).connect() as connection:
        for row in connection.execute(query).mappings():
            if any(row["tags"].get(name) != value for name, value in tags.items()):
                continue
            said = Said(row["answer"] or "", Usage(**_tokens(row)))
            found.setdefault(row["answered_by"], {})[row["prompt"]] = said
    return found
