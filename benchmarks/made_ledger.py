"""Fills a ledger with made-up requests inside the database: ten million in minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Engine,
    Float,
    String,
    case,
    cast,
    false,
    insert,
    literal,
    select,
    true,
)

from experts.cards import ExpertCard, Prices
from gateway.ids import now
from gateway.ledger import tables
from gateway.ledger.inserts import grouped
from gateway.ledger.inserts import insert as insert_rows
from gateway.ledger.rows import price_row

CARDS = tuple(
    ExpertCard(f"expert-{place}", prices=Prices(place + 1, 2 * place + 2)) for place in range(5)
)
_WORDS = ("law", "gene", "sum", "poem", "road", "code", "cell", "court")
_TOGETHER = 100_000
_MONTH_S = 30 * 86_400
# A request's number is padded to one width, so that ids are in the order of time, as real ones are.
_PADDED = 10**15


def fill(engine: Engine, requests: int, progress: Callable[[int], None] = lambda _: None) -> None:
    """Whole requests over the last month, each with an attempt, its results and a score.

    Args:
        engine: An empty ledger.
        requests: How many; each is six rows.
        progress: Is told of so many more that are written.
    """
    with engine.begin() as connection:
        prices = [price_row(card.expert_id, _prices(card)) for card in CARDS]
        insert_rows(connection, grouped(prices))
    first, step = now() - _MONTH_S, _MONTH_S / requests
    for start in range(0, requests, _TOGETHER):
        end = min(start + _TOGETHER, requests)
        with engine.begin() as connection:
            for table, values in _rows(_numbers(start, end), first, step):
                columns = [table.c[name] for name in values]
                made = select(*(_value(table, *item) for item in values.items()))
                connection.execute(insert(table).from_select(columns, made))
        progress(end - start)


def _numbers(start: int, end: int) -> CTE:
    numbers = select(cast(literal(start), BigInteger).label("i")).cte("n", recursive=True)
    more = select((numbers.c.i + 1).label("i")).where(numbers.c.i < end - 1)
    return numbers.union_all(more)


def _value(table: Any, name: str, value: Any) -> ColumnElement[Any]:
    made: ColumnElement[Any] = value
    if not isinstance(value, ColumnElement):
        made = literal(value, table.c[name].type)
    return made.label(name)


def _rows(numbers: CTE, first: float, step: float) -> list[tuple[Any, dict[str, Any]]]:
    i = numbers.c.i
    at = literal(first, Float) + i * step
    # Primes, so that who is drawn, what it took and how it scored have nothing in common.
    drawn, words = (i * 7919) % 5, (i * 104_729) % 8
    read, said = 50 + (i * 1_299_709) % 450, 20 + (i * 15_485_863) % 280
    cost = (drawn + 1) * 1_000 * read + (2 * drawn + 2) * 1_000 * said
    good = (i * 32_452_843) % 100 < 30 + 10 * drawn
    expert, key = _of_cards(drawn, lambda card: card.expert_id), _named("key-", drawn)
    price = _of_cards(
        drawn, lambda card: price_row(card.expert_id, _prices(card)).values["price_id"]
    )
    request_id, decision_id = _named("req-", i + _PADDED), _named("dec-", i + _PADDED)
    attempt_id, outcome_id = _named("att-", i + _PADDED), _named("out-", i + _PADDED)
    word = case(*((words == place, literal(each)) for place, each in enumerate(_WORDS)), else_="")
    asked = {
        "request_id": request_id, "at": at, "key_name": key, "wire": "openai.chat",
        "model_asked": "auto", "stream": false(), "tags": {"task": "made up"},
        "prompt": literal("What of the ") + word + " " + word + _named(" ", i),
    }  # fmt: skip
    decided = {
        "decision_id": decision_id, "request_id": request_id, "at": at, "expert_id": expert,
        **_WEIGHED,
    }  # fmt: skip
    called = {
        "attempt_id": attempt_id, "decision_id": decision_id, "ordinal": 0, "at": at,
        "expert_id": expert, "price_id": price,
    }  # fmt: skip
    returned = {
        "attempt_id": attempt_id, "at": at + 1.0, "input_tokens": read, "output_tokens": said,
        "cost_nanousd": cost, **_RETURNED,
    }  # fmt: skip
    ended = {
        "request_id": request_id, "at": at + 1.0, "answered_by": expert, "cost_nanousd": cost,
        **_ENDED,
    }  # fmt: skip
    scored = {
        "outcome_id": outcome_id, "decision_id": decision_id, "at": at + 60.0,
        "objective": "quality", "score": case((good, 1.0), else_=0.0), "source": "benchmark",
    }  # fmt: skip
    # PostgreSQL looks every parent up, so they come first.
    return [
        (tables.request, asked),
        (tables.decision, decided),
        (tables.attempt, called),
        (tables.attempt_result, returned),
        (tables.request_result, ended),
        (tables.outcome, scored),
    ]


def _named(prefix: str, number: ColumnElement[Any]) -> ColumnElement[str]:
    return literal(prefix) + cast(number, String)


def _of_cards(drawn: ColumnElement[Any], of: Callable[[ExpertCard], str]) -> ColumnElement[str]:
    return case(*((drawn == place, literal(of(card))) for place, card in enumerate(CARDS)))


def _prices(card: ExpertCard) -> Prices:
    return card.prices or Prices(0, 0)


_SOME = [0.5] * len(CARDS)
_WEIGHED = {
    "router": "default", "version": "benchmark", "policy": "balanced",
    "preference": {"cost_weight": 0.05, "latency_weight": 0, "min_quality": 0, "prefer": {}},
    "candidates": {
        "experts": [card.expert_id for card in CARDS], "quality": _SOME, "stderr": _SOME,
        "cost_usd": _SOME, "latency_s": _SOME, "output_tokens": _SOME, "penalty": _SOME,
        "utility": _SOME, "probability": [1 / len(CARDS)] * len(CARDS),
        "cost_scale_usd": 1.0, "latency_scale_s": 1.0,
    },
    "excluded": {}, "draw": 0.5, "propensity": 1 / len(CARDS), "flags": [],
}  # fmt: skip
_RETURNED = {
    "status": "ok", "http_status": 200, "cache_read_tokens": 0, "cache_write_tokens": 0,
    "reasoning_tokens": 0, "tokens_estimated": false(), "wasted": false(), "first_token_s": 0.2,
    "latency_s": 1.0, "finish_reason": "stop",
}  # fmt: skip
_ENDED = {"status": 200, "cost_complete": true(), "latency_s": 1.0, "answer": "It depends."}
