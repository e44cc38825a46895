"""How much the ledger takes, and how fast a big one answers.

`python benchmarks/ledger.py write` books decisions, each with an attempt, its results and a score,
as fast as it can, in relaxed durability: how many a second, and how long the event loop waits.
`python benchmarks/ledger.py read --rows 10000000` fills a ledger with that many made-up rows in a
folder of its own and measures `stats` (the first time, and again), the savings report of one week
and the memory of `export`. Both run on SQLite, or on PostgreSQL with `--url`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.database import open_database, opened
from gateway.ledger.inserts import grouped, insert
from gateway.ledger.rows import Row, price_row
from gateway.ledger.store import Ledger
from routers.eligible import Constraints
from routers.records import Preference
from routers.router import untrained_router

_CARDS = tuple(
    ExpertCard(f"expert-{place}", prices=Prices(place + 1, 2 * place + 2)) for place in range(5)
)
_WORDS = ("law", "gene", "sum", "poem", "road", "code", "cell", "court")
_ROWS_PER_REQUEST = 6
_MONTH_S = 30 * 86_400


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("write", "read"))
    parser.add_argument("--requests", type=int, default=20_000, help="to write")
    parser.add_argument("--rows", type=int, default=200_000, help="to read")
    parser.add_argument("--url", help="an empty database; default: SQLite in a folder of its own")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        url = args.url or f"sqlite:///{folder}/ledger.db"
        if args.what == "write":
            found = written(url, args.requests)
        else:
            found = read(url, args.rows, Path(folder))
    console = Console()
    if args.json:
        console.print_json(orjson.dumps(found).decode())
        return
    table = Table("what", "measured")
    for name, value in found.items():
        table.add_row(name, f"{value:,.4g}")
    console.print(table)


def written(url: str, requests: int) -> dict[str, float]:
    """Decisions per second through the books to the disk, and what the event loop waited."""
    ledger = Ledger(open_database(url), strict=False)
    ask = Ask(ChatRequest((Message("user", "Which way? " * 20),)), "auto", "openai.chat", Key("k"))
    decision = untrained_router("default", 0.1).decide(
        ask.request,
        _CARDS,
        preference=Preference(0.1),
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.3,
    )
    card = next(card for card in _CARDS if card.expert_id == decision.expert)
    waits_s = []

    async def book() -> None:
        await ledger.admit()
        began = time.perf_counter()
        booking = Booking(ledger, ask, decision, "none")
        attempt = await booking.begin(card)
        waits_s.append(time.perf_counter() - began)
        attempt.usage = Usage(input=100, output=50)
        booking.end(attempt, "ok", last=True)
        score = Row(tables.outcome, _score(booking.decision_id, now(), 1.0))
        booking.close(200, None, card.expert_id, "", (score,))
        # Other requests have their turn, as in a gateway.
        await asyncio.sleep(0)

    async def clients() -> None:
        async def client(count: int) -> None:
            for _ in range(count):
                await book()

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(client(requests // 50))
        await ledger.flush()

    began, on_cpu = time.perf_counter(), time.process_time()
    asyncio.run(clients())
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - on_cpu
    ledger.close()
    return {
        "decisions per second": len(waits_s) / took_s,
        "microseconds of CPU per decision": 1e6 * cpu_s / len(waits_s),
        "wait of the request path, p50 ms": float(np.quantile(waits_s, 0.5)) * 1000,
        "wait of the request path, p99 ms": float(np.quantile(waits_s, 0.99)) * 1000,
    }


def _score(decision_id: str, at: float, score: float) -> dict[str, Any]:
    return {
        "outcome_id": new_id("out"),
        "decision_id": decision_id,
        "at": at,
        "objective": "quality",
        "score": score,
        "source": "benchmark",
        "comment": None,
    }


def read(url: str, rows: int, folder: Path) -> dict[str, float]:
    """Seconds and megabytes of what a person asks of a ledger of so many rows."""
    fill(url, rows // _ROWS_PER_REQUEST)
    found: dict[str, float] = {"rows": rows}
    week = time.strftime("%Y-%m-%d", time.gmtime(now() - 7 * 86_400))
    for name, words in (
        ("stats, the first time", ["ledger", "stats"]),
        ("stats", ["ledger", "stats"]),
        ("savings of one week", ["savings", "--since", week]),
        ("export", ["ledger", "export", "--out", str(folder / "outcomes.parquet")]),
    ):
        took_s, cpu_s, most_mb = _measured([*words, "--ledger", url])
        found |= {f"{name}, s": took_s, f"{name}, s of CPU": cpu_s, f"{name}, MB at most": most_mb}
    return found


def _measured(words: list[str]) -> tuple[float, float, float]:
    """Wall clock, time on the processor and peak memory of a command in a process of its own."""
    script = (
        "import resource, sys, time; from gateway.cli.main import app\n"
        "began = time.perf_counter()\n"
        f"app({words!r}, standalone_mode=False)\n"
        "took = time.perf_counter() - began\n"
        "cpu = time.process_time()\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print('measured', took, cpu, peak, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr}")
    _, took_s, cpu_s, peak_mb = done.stderr.strip().splitlines()[-1].split()
    return float(took_s), float(cpu_s), float(peak_mb)


def fill(url: str, requests: int) -> None:
    """Whole requests over the last month, with scores, as fast as the database takes them."""
    made, rng = iter(_requests(requests)), np.random.default_rng(0)
    with opened(url) as engine:
        with engine.begin() as connection:
            prices = [price_row(card.expert_id, _prices(card)) for card in _CARDS]
            insert(connection, grouped(prices))
        while chunk := list(islice(made, 5_000)):
            rows = [row for request in chunk for row in _rows(request, rng)]
            with engine.begin() as connection:
                insert(connection, grouped(rows))


def _requests(count: int) -> Iterator[tuple[str, float]]:
    first = now() - _MONTH_S
    for place in range(count):
        at = first + _MONTH_S * place / count
        yield f"{int(at * 1000):012x}{place:020x}", at


def _prices(card: ExpertCard) -> Prices:
    return card.prices or Prices(0, 0)


def _rows(request: tuple[str, float], rng: np.random.Generator) -> Iterator[Row]:
    name, at = request
    drawn, ids = int(rng.integers(len(_CARDS))), {"request_id": f"req-{name}"}
    card, decision_id, attempt_id = _CARDS[drawn], f"dec-{name}", f"att-{name}"
    usage = Usage(input=int(rng.integers(50, 500)), output=int(rng.integers(20, 300)))
    cost = _prices(card).cost_nanousd(usage)
    asked = {
        "key_name": f"key-{drawn}", "project": None, "wire": "openai.chat", "model_asked": "auto",
        "stream": False, "session": None, "tags": {"task": _WORDS[len(name) % 8]},
        "prompt_sha256": None, "prompt": " ".join(rng.choice(_WORDS, 6)),
    }  # fmt: skip
    yield Row(tables.request, {**ids, "at": at, **asked})
    made = {"decision_id": decision_id, "at": at, "expert_id": card.expert_id}
    yield Row(tables.decision, {**ids, **made, **_WEIGHED})
    began = {"attempt_id": attempt_id, "decision_id": decision_id, "ordinal": 0}
    price_id = price_row(card.expert_id, _prices(card)).values["price_id"]
    told = {"parent_id": None, "expert_id": card.expert_id, "price_id": price_id}
    yield Row(tables.attempt, {**began, "at": at, **told})
    tokens = {"input_tokens": usage.input, "output_tokens": usage.output}
    result = {"attempt_id": attempt_id, "at": at + 1, "cost_nanousd": cost, **tokens, **_ANSWERED}
    yield Row(tables.attempt_result, result)
    ended = {"at": at + 1, "answered_by": card.expert_id, "cost_nanousd": cost, **_ENDED}
    yield Row(tables.request_result, {**ids, **ended})
    score = _score(decision_id, at + 60, float(rng.random() < 0.3 + 0.1 * drawn))
    yield Row(tables.outcome, {**score, "outcome_id": f"out-{name}"})


_SOME = [0.5] * len(_CARDS)
_WEIGHED = {
    "router": "default", "version": "benchmark", "policy": "balanced",
    "preference": {"cost_weight": 0.05, "latency_weight": 0, "min_quality": 0, "prefer": {}},
    "candidates": {
        "experts": [card.expert_id for card in _CARDS], "quality": _SOME, "stderr": _SOME,
        "cost_usd": _SOME, "latency_s": _SOME, "output_tokens": _SOME, "penalty": _SOME,
        "utility": _SOME, "probability": [1 / len(_CARDS)] * len(_CARDS),
        "cost_scale_usd": 1.0, "latency_scale_s": 1.0,
    },
    "excluded": {}, "draw": 0.5, "propensity": 1 / len(_CARDS), "flags": [],
}  # fmt: skip
_ANSWERED = {
    "status": "ok", "error_kind": None, "error": None, "http_status": 200, "cache_read_tokens": 0,
    "cache_write_tokens": 0, "reasoning_tokens": 0, "tokens_estimated": False, "wasted": False,
    "first_token_s": 0.2, "latency_s": 1.0, "finish_reason": "stop",
}  # fmt: skip
_ENDED = {
    "status": 200, "error_kind": None, "cost_complete": True, "latency_s": 1.0,
    "answer": "It depends.", "shadow": None,
}  # fmt: skip


if __name__ == "__main__":
    main()
