"""Sums over closed hours, so that a big ledger is summed up at once. Derived, exact, rebuildable.

A gateway brings them up to date every hour (`gateway.ledger.upkeep`), and so does whoever reads;
nothing on the request path does. What was written since the last closed hour is summed from the
rows themselves. That no row came late is checked by counting: if one did, the sums are made anew
as another generation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Select,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.exc import IntegrityError

from experts.cards import NANO_PER_USD
from gateway.ids import now
from gateway.ledger.costs import DELTA_NANOUSD
from gateway.ledger.database import reader
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row
from gateway.ledger.scores import QUALITY, scores_between
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    cache_hit,
    cost_correction,
    outcome,
    request_result,
    rollup,
    shadow_call,
    shadow_outcome,
    shadow_result,
)

SUMS = tuple(c.name for c in rollup.c if not c.primary_key)
_SUMMED = (
    request_result, attempt_result, outcome, cache_hit, cost_correction, shadow_result,
    shadow_outcome,
)  # fmt: skip
_HOUR_S, _DAY_S = 3600, 86_400
# Rows come a little after the time they carry: they wait in groups, and for a database away.
_LATE_S = 600
_NANO, _MICRO = 1e9, 1e6

Sums = dict[str, dict[str, int]]
"""Expert ("" for what belongs to none) to the sums of `SUMS`."""


def summed(
    engine: Engine, at: float | None = None, progress: Callable[[int], None] = lambda _: None
) -> Sums:
    """All that was ever written, summed by expert.

    Args:
        engine: The ledger; sums over closed hours are added to it.
        at: The time; hours that ended well before are closed.
        progress: Is told of so many more days that are closed.
    """
    generation = _generation(engine)
    while True:
        _close_hours(engine, generation, now() if at is None else at, progress)
        with _snapshot(engine) as connection:
            until, kept = closed(connection, generation)
            whole = _added(kept, fold(connection, until, math.inf))
            read = sum(each["rows_read"] for each in whole.values())
            if read == _written(connection) or read == _counted(connection):
                return whole
        generation += 1
        _write(engine, generation, 0, {})


def days_due(engine: Engine) -> int:
    """How many days `summed` has to close, more or less."""
    last = _last_closed(now())
    with _snapshot(engine) as connection:
        start = closed(connection)[0] or _first_row(connection)
    return max(0, math.ceil((last - start) / _DAY_S)) if start < math.inf else 0


def _written(connection: Connection) -> int:
    """How many rows were ever inserted: all, since none is ever deleted."""
    if connection.dialect.name != "sqlite":
        return _counted(connection)
    # Counting reads a whole index; the number of the last row is at hand.
    queries: Iterator[Select[Any]] = (
        select(func.coalesce(func.max(literal_column(f"{table.name}.rowid")), 0)).select_from(table)
        for table in _SUMMED
    )
    return sum(int(connection.execute(query).scalar_one()) for query in queries)


def _counted(connection: Connection) -> int:
    counts = (select(func.count()).select_from(table) for table in _SUMMED)
    return sum(int(connection.execute(each).scalar_one()) for each in counts)


def total(sums: Sums) -> dict[str, Any]:
    """Requests, failures, dollars (all, wasted, saved and of shadows), mean quality score."""
    of = {name: sum(each[name] for each in sums.values()) for name in SUMS}
    return {
        "requests": of["requests"],
        "failed": of["failed"],
        "cost_usd": of["cost_nanousd"] / NANO_PER_USD,
        "wasted_usd": of["wasted_nanousd"] / NANO_PER_USD,
        "unpriced": of["unpriced"],
        "cache_hits": of["cache_hits"],
        "saved_usd": of["saved_nanousd"] / NANO_PER_USD,
        "shadow_calls": of["shadow_calls"],
        "shadow_usd": of["shadow_nanousd"] / NANO_PER_USD,
        "shadow_outcomes": of["shadow_outcomes"],
        "outcomes": of["outcomes"],
        "mean_score": _mean(of["score_nano"], of["outcomes"]),
    }


def by_expert(sums: Sums) -> list[dict[str, Any]]:
    """Per answering expert: requests, dollars, seconds, mean score; busiest first."""
    busiest = sorted(sums.items(), key=lambda item: -item[1]["requests"])
    return [
        {
            "expert": expert,
            "requests": of["requests"],
            "latency_s": of["latency_us"] / _MICRO / of["requests"],
            "scored": of["scored"],
            "score": _mean(of["newest_nano"], of["scored"]),
            "cost_usd": of["cost_nanousd"] / NANO_PER_USD,
        }
        for expert, of in busiest
        if expert and of["requests"]
    ]


def _mean(nano: int, count: int) -> float | None:
    return nano / _NANO / count if count else None


def closed(connection: Connection, generation: int | None = None) -> tuple[int, Sums]:
    """Until when the hours are closed (0: none is), and the sums over them."""
    if generation is None:
        newest = select(func.coalesce(func.max(rollup.c.generation), 0))
        generation = int(connection.execute(newest).scalar_one())
    query: Select[Any] = (
        select(
            rollup.c.expert_id,
            func.max(rollup.c.until),
            *(_whole(func.sum(rollup.c[name])) for name in SUMS),
        )
        .where(rollup.c.generation == generation)
        .group_by(rollup.c.expert_id)
    )
    rows = connection.execute(query).all()
    until = max((int(row[1]) for row in rows), default=0)
    return until, {row[0]: dict(zip(SUMS, map(int, row[2:]), strict=True)) for row in rows}


def fold(connection: Connection, start: float, end: float) -> Sums:
    """The sums over all rows written in [start, end), from the rows themselves."""
    sums: Sums = {}
    for query in _queries(start, end):
        for row in connection.execute(query).mappings():
            of = sums.setdefault(row["expert_id"] or "", dict.fromkeys(SUMS, 0))
            for name, value in row.items():
                if name != "expert_id":
                    of[name] += int(value or 0)
    # A score counts for who answered: those that count now, less those that did before.
    for sign, moment in ((1, end), (-1, start)):
        for row in connection.execute(scores_between(start, end, moment)).mappings():
            of = sums.setdefault(row["expert_id"] or "", dict.fromkeys(SUMS, 0))
            of["scored"] += sign * int(row["scored"])
            of["newest_nano"] += sign * int(row["newest_nano"])
    return sums


def _queries(start: float, end: float) -> Iterator[Select[Any]]:
    ended, made, delta = request_result.c, attempt_result.c, cost_correction.c
    quality = outcome.c.objective == QUALITY
    yield _during(
        request_result,
        start,
        end,
        ended.answered_by.label("expert_id"),
        func.count().label("requests"),
        func.count().filter(ended.status >= 400).label("failed"),
        func.count().filter(ended.cost_complete.is_(False)).label("unpriced"),
        func.sum(ended.cost_nanousd).label("cost_nanousd"),
        func.sum(_whole(func.round(ended.latency_s * _MICRO))).label("latency_us"),
        func.count().label("rows_read"),
    ).group_by(ended.answered_by)
    # Without a join to the rows that are merely counted.
    nobody = literal("").label("expert_id")
    yield _during(attempt_result, start, end, nobody, func.count().label("rows_read"))
    yield (
        _during(
            attempt_result,
            start,
            end,
            attempt.c.expert_id,
            func.sum(made.cost_nanousd).label("wasted_nanousd"),
        )
        .join(attempt, attempt.c.attempt_id == made.attempt_id)
        .where(made.wasted.is_(True))
        .group_by(attempt.c.expert_id)
    )
    yield _during(
        outcome,
        start,
        end,
        nobody,
        func.count().filter(quality).label("outcomes"),
        func.sum(_whole(func.round(outcome.c.score * _NANO))).filter(quality).label("score_nano"),
        func.count().label("rows_read"),
    )
    yield _during(
        cache_hit,
        start,
        end,
        nobody,
        func.count().label("cache_hits"),
        func.sum(cache_hit.c.saved_nanousd).label("saved_nanousd"),
        func.count().label("rows_read"),
    )
    yield from _of_shadows(start, end)
    yield from _of_corrections(start, end, delta, made)


def _of_shadows(start: float, end: float) -> Iterator[Select[Any]]:
    """What was asked beside requests: no part of their costs and scores."""
    made = shadow_result.c
    yield (
        _during(
            shadow_result,
            start,
            end,
            shadow_call.c.expert_id,
            func.count().filter(shadow_call.c.root_id == made.call_id).label("shadow_calls"),
            func.sum(made.cost_nanousd).label("shadow_nanousd"),
            func.count().label("rows_read"),
        )
        .join(shadow_call, shadow_call.c.call_id == made.call_id)
        .group_by(shadow_call.c.expert_id)
    )
    quality = shadow_outcome.c.objective == QUALITY
    yield _during(
        shadow_outcome,
        start,
        end,
        literal("").label("expert_id"),
        func.count().filter(quality).label("shadow_outcomes"),
        func.count().label("rows_read"),
    )


def _of_corrections(start: float, end: float, delta: Any, made: Any) -> Iterator[Select[Any]]:
    ended = request_result.c
    nobody = literal("").label("expert_id")
    yield _during(cost_correction, start, end, nobody, func.count().label("rows_read"))
    completed = func.count(delta.request_id.distinct()).filter(
        delta.completes.is_(True), delta.old_nanousd.is_(None)
    )
    yield (
        _during(
            cost_correction,
            start,
            end,
            ended.answered_by.label("expert_id"),
            func.sum(DELTA_NANOUSD).label("cost_nanousd"),
            (-completed).label("unpriced"),
        )
        .join(request_result, ended.request_id == delta.request_id)
        .group_by(ended.answered_by)
    )
    yield (
        _during(
            cost_correction,
            start,
            end,
            attempt.c.expert_id,
            func.sum(DELTA_NANOUSD).label("wasted_nanousd"),
        )
        .join(attempt_result, made.attempt_id == delta.attempt_id)
        .join(attempt, attempt.c.attempt_id == delta.attempt_id)
        .where(made.wasted.is_(True))
        .group_by(attempt.c.expert_id)
    )


def _during(table: Any, start: float, end: float, *columns: Any) -> Select[Any]:
    query: Select[Any] = select(*columns).select_from(table).where(table.c.at >= start)
    return query if end == math.inf else query.where(table.c.at < end)


def _whole(value: Any) -> Any:
    return cast(value, BigInteger)


def _last_closed(at: float) -> int:
    return int((at - _LATE_S) // _HOUR_S) * _HOUR_S


def _first_row(connection: Connection) -> float:
    """When the first row was written; infinity when there is none."""
    return min(
        float(connection.execute(select(func.min(table.c.at))).scalar() or math.inf)
        for table in _SUMMED
    )


def _close_hours(
    engine: Engine, generation: int, at: float, progress: Callable[[int], None]
) -> None:
    last = _last_closed(at)
    with _snapshot(engine) as connection:
        start = closed(connection, generation)[0]
        if start == 0:
            first = _first_row(connection)
            if first >= last:
                return
            # What is older than its day (a clock gone wrong) counts to the first one.
            next_end = int(first // _DAY_S + 1) * _DAY_S
        else:
            next_end = start + _DAY_S
    while start < last:
        end = min(next_end, last)
        with _snapshot(engine) as connection:
            sums = fold(connection, start, end)
        if not _write(engine, generation, end, sums):
            return
        progress(1)
        start, next_end = end, end + _DAY_S


def _write(engine: Engine, generation: int, until: int, sums: Sums) -> bool:
    """Whether nobody else had done so."""
    nothing: Mapping[str, int] = dict.fromkeys(SUMS, 0)
    key = {"generation": generation, "until": until}
    rows = [
        Row(rollup, {**key, "expert_id": expert, **values})
        for expert, values in {"": nothing, **sums}.items()
    ]
    try:
        with engine.execution_options(reads=False).begin() as connection:
            insert(connection, grouped(rows))
    except IntegrityError:
        return False
    return True


def _generation(engine: Engine) -> int:
    query = select(func.coalesce(func.max(rollup.c.generation), 0))
    with reader(engine).connect() as connection:
        return int(connection.execute(query).scalar_one())


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees one state of all tables."""
    of_one_state = {"isolation_level": "REPEATABLE READ"}
    options = of_one_state if engine.dialect.name == "postgresql" else {}
    with reader(engine).connect().execution_options(**options) as connection:
        yield connection


def _added(one: Sums, other: Sums) -> Sums:
    nothing = dict.fromkeys(SUMS, 0)
    return {
        expert: {
            name: one.get(expert, nothing)[name] + other.get(expert, nothing)[name] for name in SUMS
        }
        for expert in one.keys() | other.keys()
    }
