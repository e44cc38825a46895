"""Proves the ledger: sums hold, references resolve, nothing is missing or out of order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, exists, func, select

from experts.cards import Prices
from experts.messages import Usage
from gateway.ledger import tables
from gateway.ledger.database import reader
from gateway.ledger.rollup import SUMS, closed, fold
from gateway.ledger.tables import (
    attempt,
    attempt_result,
    attempt_trace,
    cache_hit,
    cost_correction,
    decision,
    guard_action,
    outcome,
    price,
    request,
    request_result,
    shadow_call,
    shadow_outcome,
    shadow_result,
)


@dataclass(frozen=True, slots=True)
class LedgerFindings:
    """What `verify_ledger` found.

    Attributes:
        rows: Table name to its number of rows.
        faults: One sentence each, with the id at fault; empty when the ledger holds.
        open_attempts: Attempts without a result: under way, or cut off by a crash.
        unpriced: Attempts whose price is unknown.
    """

    rows: Mapping[str, int]
    faults: tuple[str, ...]
    open_attempts: int
    unpriced: int


def verify_ledger(engine: Engine, most: int = 100) -> LedgerFindings:
    """Check everything; at most `most` faults are listed."""
    faults: list[str] = []
    with reader(engine).connect() as connection:
        for check in _CHECKS:
            for fault in check(connection):
                if len(faults) < most:
                    faults.append(fault)
        rows = {
            str(table.name): _count(connection, table) for table in tables.metadata.sorted_tables
        }
        ended = select(attempt_result.c.attempt_id)
        still_open = select(func.count()).where(attempt.c.attempt_id.not_in(ended))
        unpriced = select(func.count()).where(attempt.c.price_id.is_(None))
        return LedgerFindings(
            rows,
            tuple(faults),
            int(connection.execute(still_open).scalar_one()),
            int(connection.execute(unpriced).scalar_one()),
        )


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _dangling(connection: Connection) -> Iterator[str]:
    """References that the database would refuse, were its foreign keys ever off."""
    for child, column, parent in (
        (decision, decision.c.request_id, request.c.request_id),
        (attempt, attempt.c.decision_id, decision.c.decision_id),
        (attempt, attempt.c.parent_id, attempt.alias("parent").c.attempt_id),
        (attempt, attempt.c.price_id, price.c.price_id),
        (attempt_result, attempt_result.c.attempt_id, attempt.c.attempt_id),
        (attempt_trace, attempt_trace.c.attempt_id, attempt.c.attempt_id),
        (request_result, request_result.c.request_id, request.c.request_id),
        (outcome, outcome.c.decision_id, decision.c.decision_id),
        (guard_action, guard_action.c.request_id, request.c.request_id),
        (cost_correction, cost_correction.c.attempt_id, attempt.c.attempt_id),
        (cost_correction, cost_correction.c.request_id, request.c.request_id),
        (cost_correction, cost_correction.c.price_id, price.c.price_id),
        (cache_hit, cache_hit.c.request_id, request.c.request_id),
        (cache_hit, cache_hit.c.source_decision_id, decision.c.decision_id),
        (shadow_call, shadow_call.c.decision_id, decision.c.decision_id),
        (shadow_call, shadow_call.c.root_id, shadow_call.alias("root").c.call_id),
        (shadow_call, shadow_call.c.price_id, price.c.price_id),
        (shadow_result, shadow_result.c.call_id, shadow_call.c.call_id),
        (shadow_outcome, shadow_outcome.c.call_id, shadow_call.c.call_id),
    ):
        key = next(iter(child.primary_key))
        query = select(key, column).where(column.is_not(None), column.not_in(select(parent)))
        for row in connection.execute(query):
            yield f"{child.name} {row[0]} refers to {column.name} {row[1]}, which is not there"


def _undecided(connection: Connection) -> Iterator[str]:
    """Every request has exactly one decision."""
    counted = func.count(decision.c.decision_id)
    query = (
        select(request.c.request_id, counted)
        .outerjoin(decision, decision.c.request_id == request.c.request_id)
        .group_by(request.c.request_id)
        .having(counted != 1)
    )
    for row in connection.execute(query):
        yield f"request {row[0]} has {row[1]} decisions instead of one"


def _sums(connection: Connection) -> Iterator[str]:
    """The costs of the attempts add up to the cost of the request."""
    total = func.coalesce(func.sum(attempt_result.c.cost_nanousd), 0)
    query = (
        select(request_result.c.request_id, request_result.c.cost_nanousd, total)
        .join(decision, decision.c.request_id == request_result.c.request_id)
        .outerjoin(attempt, attempt.c.decision_id == decision.c.decision_id)
        .outerjoin(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .group_by(request_result.c.request_id, request_result.c.cost_nanousd)
        .having(total != request_result.c.cost_nanousd)
    )
    for row in connection.execute(query):
        yield f"request {row[0]} is booked at {row[1]} nano-dollars, its attempts at {row[2]}"


def _costs(connection: Connection) -> Iterator[str]:
    """Every cost is its tokens times the price it names; a composition's own cost is nothing."""
    parents = select(attempt.c.parent_id).where(attempt.c.parent_id.is_not(None))
    query = (
        select(attempt, attempt_result, price)
        .join(attempt_result, attempt_result.c.attempt_id == attempt.c.attempt_id)
        .join(price, price.c.price_id == attempt.c.price_id)
        .where(attempt_result.c.input_tokens.is_not(None), attempt.c.attempt_id.not_in(parents))
    )
    for row in _streamed(connection, query):
        expected = _prices(row).cost_nanousd(_usage(row))
        booked = row[attempt_result.c.cost_nanousd]
        if booked != expected:
            name = row[attempt.c.attempt_id]
            yield f"attempt {name} is booked at {booked} nano-dollars, its tokens cost {expected}"


def _corrections(connection: Connection) -> Iterator[str]:
    """Every correction follows what was known before it, at its own price."""
    row, booked = cost_correction.c, attempt_result.c
    query = (
        select(cost_correction, attempt_result, price, decision.c.request_id.label("asked"))
        .join(attempt, attempt.c.attempt_id == row.attempt_id)
        .join(decision, decision.c.decision_id == attempt.c.decision_id)
        .join(attempt_result, booked.attempt_id == row.attempt_id)
        .join(price, price.c.price_id == row.price_id)
        .order_by(row.attempt_id, row.ordinal)
    )
    last: tuple[str, int, int | None] = ("", -1, None)
    for found in _streamed(connection, query):
        name, ordinal, old = found[row.attempt_id], found[row.ordinal], found[row.old_nanousd]
        if name != last[0]:
            last = (name, -1, found[booked.cost_nanousd])
        if (ordinal, old) != (last[1] + 1, last[2]):
            yield f"correction {ordinal} of attempt {name} does not follow what it cost before"
        if found[row.request_id] != found["asked"]:
            yield f"correction {ordinal} of attempt {name} names another request than its own"
        expected = _prices(found).cost_nanousd(_usage(found))
        if found[row.new_nanousd] != expected:
            yield f"correction {ordinal} of attempt {name} is not what its tokens cost: {expected}"
        last = (name, ordinal, found[row.new_nanousd])


def _prices(row: Any) -> Prices:
    columns = ("input", "output", "cache_read", "cache_write", "request")
    return Prices(**{name: row[price.c[name]] for name in columns})


def _usage(row: Any, table: Table = attempt_result) -> Usage:
    parts = ("input", "cache_read", "cache_write", "output", "reasoning")
    return Usage(**{name: row[table.c[f"{name}_tokens"]] for name in parts})


def _shadows(connection: Connection) -> Iterator[str]:
    """Shadow calls went to whom chance sent them and to nobody else, and cost their tokens."""
    made, child = shadow_result.c, shadow_call.alias("child")
    query = (
        select(
            shadow_call,
            shadow_result,
            price,
            decision.c.expert_id.label("drawn"),
            request_result.c.shadow,
            exists()
            .where(child.c.root_id == shadow_call.c.call_id, child.c.call_id != child.c.root_id)
            .label("composed"),
        )
        .join(decision, decision.c.decision_id == shadow_call.c.decision_id)
        .outerjoin(request_result, request_result.c.request_id == decision.c.request_id)
        .outerjoin(shadow_result, made.call_id == shadow_call.c.call_id)
        .outerjoin(price, price.c.price_id == shadow_call.c.price_id)
    )
    for row in _streamed(connection, query):
        name, expert = row[shadow_call.c.call_id], row[shadow_call.c.expert_id]
        own = row[shadow_call.c.root_id] == name
        chances = row[request_result.c.shadow]
        # Its request may end in the books a moment later, or never if the gateway was killed.
        if own and chances is not None and (expert == row["drawn"] or not chances.get(expert)):
            yield f"shadow call {name} asked {expert}, which had no chance to be asked"
        if row["composed"] or row[made.input_tokens] is None or row[price.c.price_id] is None:
            continue
        expected = _prices(row).cost_nanousd(_usage(row, shadow_result))
        if row[made.cost_nanousd] != expected:
            booked = f"{row[made.cost_nanousd]} nano-dollars"
            yield f"shadow call {name} is booked at {booked}, its tokens cost {expected}"


def _paid_hits(connection: Connection) -> Iterator[str]:
    """An answer given again from the cache is booked at nothing, and saved what it had cost."""
    source = request_result.alias("source")
    decided = decision.alias("decided")
    booked, saved = request_result.c.cost_nanousd, cache_hit.c.saved_nanousd
    query = (
        select(cache_hit.c.request_id, booked, saved, source.c.cost_nanousd)
        .join(request_result, request_result.c.request_id == cache_hit.c.request_id)
        .join(decided, decided.c.decision_id == cache_hit.c.source_decision_id)
        .join(source, source.c.request_id == decided.c.request_id)
        .where((booked != 0) | (saved != source.c.cost_nanousd))
    )
    for row in connection.execute(query):
        yield (
            f"request {row[0]} was answered by the cache, booked at {row[1]} nano-dollars and "
            f"{row[2]} saved; the answer had cost {row[3]}"
        )


def _propensities(connection: Connection) -> Iterator[str]:
    """Probabilities sum to one, and the propensity is that of the expert drawn."""
    columns = (
        decision.c.decision_id,
        decision.c.candidates,
        decision.c.expert_id,
        decision.c.propensity,
    )
    for row in _streamed(connection, select(*columns)):
        weighed = row[decision.c.candidates]
        shares = dict(zip(weighed["experts"], weighed["probability"], strict=True))
        name = row[decision.c.decision_id]
        if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
            yield f"decision {name} has probabilities that sum to {sum(shares.values())}"
        drawn = shares.get(row[decision.c.expert_id], 0.0)
        if drawn <= 0 or not math.isclose(drawn, row[decision.c.propensity], abs_tol=1e-9):
            logged = row[decision.c.propensity]
            yield f"decision {name} logs propensity {logged} for a draw that had {drawn}"


def _order(connection: Connection) -> Iterator[str]:
    """Nothing is asked before it is decided, nothing ends before it begins."""
    # Clocks step back a little now and then; what is looked for is a wrong order of writing.
    slack_s = 1.0
    pairs = (
        (request, decision, request.c.request_id == decision.c.request_id),
        (decision, attempt, decision.c.decision_id == attempt.c.decision_id),
        (attempt, attempt_result, attempt.c.attempt_id == attempt_result.c.attempt_id),
        (decision, shadow_call, decision.c.decision_id == shadow_call.c.decision_id),
        (shadow_call, shadow_result, shadow_call.c.call_id == shadow_result.c.call_id),
    )
    for first, then, joined in pairs:
        key = next(iter(then.primary_key))
        query = select(key).select_from(first.join(then, joined))
        for row in connection.execute(query.where(then.c.at < first.c.at - slack_s)):
            yield f"{then.name} {row[0]} is older than its {first.name}"


def _ranges(connection: Connection) -> Iterator[str]:
    """Scores lie in [0, 1], costs and tokens are not negative."""
    for scored in (outcome, shadow_outcome):
        score = scored.c.score
        query = select(scored.c.outcome_id).where((score < 0) | (score > 1))
        for row in connection.execute(query):
            yield f"{scored.name} {row[0]} has a score outside 0 to 1"
    for column in attempt_result.c:
        if column.name.endswith("_tokens") or column.name == "cost_nanousd":
            negative = select(attempt_result.c.attempt_id).where(column < 0)
            for row in connection.execute(negative):
                yield f"attempt {row[0]} has a negative {column.name}"


def _rollups(connection: Connection) -> Iterator[str]:
    """The sums over closed hours are those of the rows; late rows are the next reader's to add."""
    until, kept = closed(connection)
    sums = fold(connection, 0.0, until)
    nothing = dict.fromkeys(SUMS, 0)
    if sum(of["rows_read"] for of in kept.values()) != sum(of["rows_read"] for of in sums.values()):
        return
    for expert in sorted(kept.keys() | sums.keys()):
        for name in SUMS:
            said, found = kept.get(expert, nothing)[name], sums.get(expert, nothing)[name]
            if said != found:
                whose = f"of {expert}" if expert else "in all"
                yield f"the rollup says {said} {name} {whose}, the rows {found}"


def _keys(connection: Connection) -> Iterator[str]:
    """Every key begins by being made, no event of it is missing, and nothing follows its end."""
    ended: dict[str, str] = {}
    expected: dict[str, int] = {}
    columns = tables.key.c
    query = select(columns.name, columns.ordinal, columns.event)
    query = query.order_by(columns.name, columns.ordinal)
    for name, ordinal, event in connection.execute(query):
        if ordinal != expected.get(name, 0) or (event == "created") != (ordinal == 0):
            yield f"key {name} has {event} as event {ordinal}, out of order"
        if ended.get(name) == "revoked":
            yield f"key {name} was {event} after it was revoked"
        ended[name], expected[name] = event, ordinal + 1


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[Any]:
    result = connection.execution_options(yield_per=1000).execute(query)
    for row in result:
        yield row._mapping


_CHECKS: tuple[Callable[[Connection], Iterator[str]], ...] = (
    _dangling,
    _undecided,
    _sums,
    _costs,
    _corrections,
    _shadows,
    _paid_hits,
    _propensities,
    _order,
    _ranges,
    _rollups,
    _keys,
)
