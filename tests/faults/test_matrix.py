"""Every fault, asked for in every way: the whole right answer, or one clean error in bounded time.

The table says which. Attempts, their spacing, the bill and the ledger are held to it as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest

from experts.broken.provider import TEXT, WORDS
from tests.faults.apis import APIS, Heard
from tests.faults.rig import (
    BACKOFF_S,
    INPUT_NANOUSD,
    LIMIT_S,
    OUTPUT_NANOUSD,
    RETRIES,
    WAYS,
    Bench,
    Cell,
    Mode,
    Outcome,
    bench,
)
from tests.faults.table import KINDS, ROWS

MODES: tuple[Mode, ...] = ("named", "once", "auto")
CELLS = [
    Cell(row, api, stream, mode, way=way)
    for api in APIS
    for way in (WAYS if api == "chat" else ("plain",))
    for row in ROWS
    for stream in (False, True)
    for mode in (MODES if row.kind(stream=stream) else ("named",))
]
ANTHROPIC = [
    Cell(row, api, stream, mode, wire="anthropic")
    for api in ("chat", "messages")
    for row in ROWS
    for stream in (False, True)
    for mode in ("once", "auto")
    if row.anthropic and (row.kind(stream=stream) or mode == "once")
]


@pytest.fixture(scope="module")
def benches(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Cell], Bench]]:
    """Which bench a cell was tried on: with the first of its kind, all that are wanted are."""
    wanted: dict[tuple[object, ...], dict[Cell, None]] = defaultdict(dict)
    for item in request.session.items:
        cell = getattr(item, "callspec", None) and item.callspec.params.get("cell")  # type: ignore[attr-defined]
        if isinstance(cell, Cell):
            wanted[_kin(cell)][cell] = None
    found: dict[tuple[object, ...], Bench] = {}
    with ExitStack() as stack:

        def of(cell: Cell) -> Bench:
            kin = _kin(cell)
            if kin not in found:
                directory = tmp_path_factory.mktemp("bench")
                found[kin] = stack.enter_context(bench(tuple(wanted[kin]), directory))
            return found[kin]

        yield of


def _kin(cell: Cell) -> tuple[object, ...]:
    return cell.api, cell.wire, cell.way, cell.row.waits, cell.row.waits and cell.mode == "auto"


def _pace(cell: Cell) -> str:
    if not cell.row.waits:
        return "at once"
    return "fails over" if cell.mode == "auto" else "waits"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_fault_costs_no_answer_or_one_clean_error(
    cell: Cell, benches: Callable[[Cell], Bench]
) -> None:
    judge(cell, benches(cell).outcome(cell))


@pytest.mark.parametrize("cell", ANTHROPIC, ids=lambda cell: cell.name)
def test_the_same_of_a_provider_of_anthropics_wire(
    cell: Cell, benches: Callable[[Cell], Bench]
) -> None:
    judge(cell, benches(cell).outcome(cell))


@pytest.mark.parametrize(
    "cell",
    [
        next(c for c in (*CELLS, *ANTHROPIC) if _kin(c) == kin)
        for kin in dict.fromkeys(map(_kin, (*CELLS, *ANTHROPIC)))
    ],
    ids=lambda cell: f"{cell.api}-{cell.wire}-{cell.way}-{_pace(cell)}",
)
def test_the_books_hold_and_nothing_is_open(cell: Cell, benches: Callable[[Cell], Bench]) -> None:
    verdict = benches(cell).verified()
    assert (verdict.faults, verdict.open_attempts, verdict.unpriced) == ((), 0, 0)


def judge(cell: Cell, outcome: Outcome) -> None:
    """Hold what came of a cell against its row."""
    kind = KINDS[cell.kind] if cell.kind else None
    answered = (
        kind is None
        or {
            "named": False,
            "once": kind.same,
            "auto": kind.other,
        }[cell.mode]
    )
    judge_attempts(cell, outcome, answered)
    if answered:
        judge_answer(cell, outcome)
    else:
        judge_error(cell, outcome)
    judge_bill(cell, outcome, answered)


def judge_answer(cell: Cell, outcome: Outcome) -> None:
    """The whole right answer, and all that is said with it."""
    assert outcome.status == 200, outcome.content
    api = APIS[cell.api]
    heard = api.streamed(outcome.content) if cell.stream else api.whole(outcome.content)
    assert heard.error is None
    assert (heard.text, heard.finish) == (TEXT, "stop")
    counted = cell.row.counted if cell.stream else cell.row.counted_whole
    if cell.kind is None and not counted:
        assert heard.tokens is not None
        assert heard.tokens[1] > 0
    else:
        assert heard.tokens == (10, WORDS)
    by = "spare" if cell.mode == "auto" and cell.kind else cell.name
    if not (cell.stream and cell.row.begun):
        # Headers of a stream are gone when somebody else goes on with it.
        assert outcome.headers["x-pointsman-expert"] == by
    assert outcome.record["result"]["answered_by"] == by
    assert outcome.record["result"]["status"] == 200


def judge_error(cell: Cell, outcome: Outcome) -> None:
    """One error in the words of the API, and nothing after it."""
    assert cell.kind is not None
    kind, api = KINDS[cell.kind], APIS[cell.api]
    if cell.stream and cell.row.begun:
        assert outcome.status == 200
        heard = api.streamed(outcome.content)
        assert_cut(heard)
        error = heard.error or {}
    else:
        assert outcome.status == kind.status, outcome.content
        error = api.error(outcome.content)
        if kind.status in (429, 503):
            assert int(outcome.headers["retry-after"]) >= 1
    assert error["code"] == (cell.row.code or kind.code)
    assert cell.name in error["message"]
    assert "sk-1234" not in error["message"]
    if cell.row.waits and cell.kind == "timeout":
        assert f"within {LIMIT_S:g} s" in error["message"]
    assert outcome.record["result"]["status"] == kind.status


def assert_cut(heard: Heard) -> None:
    assert heard.error is not None
    assert heard.finish is None
    assert heard.text
    assert TEXT.startswith(heard.text)


def judge_attempts(cell: Cell, outcome: Outcome, answered: bool) -> None:
    """Who was asked how often, and when."""
    kind = KINDS[cell.kind] if cell.kind else None
    if cell.mode == "auto" and kind and kind.other:
        experts = [cell.name, "spare"]
    else:
        again = 0 if kind is None or not kind.same else 1 if answered else RETRIES
        experts = [cell.name] * (1 + again)
    attempts = outcome.record["attempts"]
    assert [attempt["expert_id"] for attempt in attempts] == experts
    failed = len(experts) - answered
    assert [attempt["error_kind"] for attempt in attempts[:failed]] == [cell.kind] * failed
    assert [attempt["status"] for attempt in attempts[failed:]] == ["ok"] * answered
    assert len(outcome.asked) == experts.count(cell.name)
    times = [asked.at for asked in outcome.asked]
    for number, (before, after) in enumerate(pairwise(times)):
        least = max(cell.row.pause_s, BACKOFF_S * 2**number / 2)
        assert after - before >= least


def judge_bill(cell: Cell, outcome: Outcome, answered: bool) -> None:
    """What each attempt cost, and that they add up."""
    attempts, result = outcome.record["attempts"], outcome.record["result"]
    assert result["cost_nanousd"] == sum(attempt["cost_nanousd"] or 0 for attempt in attempts)
    assert result["cost_complete"] is True
    assert [attempt["wasted"] for attempt in attempts] == [
        attempt["status"] != "ok" for attempt in attempts
    ]
    if answered and not (cell.kind is None and not cell.row.counted):
        right = 10 * INPUT_NANOUSD + WORDS * OUTPUT_NANOUSD
        assert attempts[-1]["cost_nanousd"] == right
    begun = cell.stream and cell.row.begun
    for attempt in attempts[: len(attempts) - answered]:
        if begun:
            assert attempt["output_tokens"] > 0
            assert attempt["cost_nanousd"] > 0
    if not cell.stream and answered:
        told = outcome.headers["x-pointsman-cost-usd"]
        assert float(told) == pytest.approx(result["cost_nanousd"] / 1e9)
