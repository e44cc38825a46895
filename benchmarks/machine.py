"""What a local expert's tokens cost, beside what its machine cost.

`python -m benchmarks.machine` serves a packaged model on this CPU through the gateway, asks it one
and then four questions at once, leaves it idle, and prices its tokens by what the machine costs per
hour. It prints what the ledger then holds beside hours × price, and how well prices from half of
the calls tell the machine time of the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import numpy as np
from rich.console import Console
from rich.table import Table

from eval.fleet.machine import Calls, machine_prices, machine_shares
from gateway.cli.endpoint import running_gateway
from gateway.engines.machine_price import declared_usd_per_hour, priced
from gateway.ledger.database import opened
from gateway.ledger.machine_time import calls_of
from gateway.ledger.queries import LedgerReader
from gateway.ledger.reprice import Which
from gateway.settings.ledger import LedgerSettings
from gateway.settings.local import PackagedExpert
from gateway.settings.root import Settings

EXPERT = "smollm2"
_TOPICS = ("rivers", "bread", "glass", "winter", "trains", "bees", "salt", "clocks", "tea", "maps")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Attributes:
        hours: From before its first call to after its idle end, by the clock.
        machine_usd: These hours at the machine's price.
        ledger_usd: What the ledger holds for its calls once they are priced.
        calls: How many.
        busy_share: Of the hours.
        at_once: Calls under way on average.
        input_usd: Dollars per million tokens read, idle time included.
        output_usd: The same for tokens written.
        foretold: Machine time of every other call by prices of the rest, over what it took.
    """

    hours: float
    machine_usd: float
    ledger_usd: float
    calls: int
    busy_share: float
    at_once: float
    input_usd: float
    output_usd: float
    foretold: float


def measured(folder: Path, rounds: int, idle_s: float, usd_per_hour: float) -> Measured:
    """Serve, ask, wait, and price."""
    settings = Settings(
        experts=(
            PackagedExpert(
                kind="packaged",
                package="smollm2-135m-instruct",
                id=EXPERT,
                usd_per_hour=usd_per_hour,
                slots=4,
            ),
        ),
        ledger=LedgerSettings(url=f"sqlite:///{folder}/ledger.db"),
        data_dir=folder,
    )
    with running_gateway(settings) as url:
        began = time.time()
        for at_once in (1, 4):
            _ask(url, rounds, at_once)
        time.sleep(idle_s)
        ended = time.time()
    span = (began, ended)
    hourly = declared_usd_per_hour(settings, [EXPERT])
    found = priced(settings.ledger_url, [EXPERT], hourly, span, apply=True)
    one = found["experts"][EXPERT]
    with opened(settings.ledger_url) as engine:
        spent = sum(row["cost_usd"] for row in LedgerReader(engine).by_expert())
        calls = calls_of(engine, Which(EXPERT, *span))
    hours = (ended - began) / 3600
    return Measured(
        hours=hours,
        machine_usd=hours * usd_per_hour,
        ledger_usd=spent,
        calls=one["calls"],
        busy_share=one["busy_share"],
        at_once=one["at_once"],
        input_usd=one["whole"]["input"],
        output_usd=one["whole"]["output"],
        foretold=_foretold(calls),
    )


def _ask(url: str, rounds: int, at_once: int) -> None:
    """Questions of different lengths, so many of them at a time."""

    def ask(number: int) -> None:
        topics = ", ".join(_TOPICS[: 1 + number % len(_TOPICS)])
        body = {
            "model": EXPERT,
            "messages": [{"role": "user", "content": f"{number}. Write about {topics}."}],
            "max_tokens": 4 + 12 * (number % 3),
        }
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False)
        answer.raise_for_status()

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(ask, range(rounds)))


def _foretold(calls: Calls) -> float:
    """By the prices of every other call, what the rest takes, over what it took."""
    share_N, _ = machine_shares(calls.start_N, calls.end_N)
    order_N = np.argsort(calls.end_N)
    known, asked = order_N[::2], order_N[1::2]
    # Laid end to end: their shares are their times.
    ends_N = np.cumsum(share_N[known])
    laid = replace(
        calls,
        start_N=ends_N - share_N[known],
        end_N=ends_N,
        input_N=calls.input_N[known],
        output_N=calls.output_N[known],
    )
    hours = float(ends_N[-1]) / 3600
    # A dollar a second.
    prices = machine_prices({EXPERT: laid}, 3600.0, hours)[EXPERT].busy
    told = calls.input_N[asked] @ np.full(len(asked), prices.input)
    told += calls.output_N[asked] @ np.full(len(asked), prices.output)
    return float(told / 1e6 / share_N[asked].sum())


def main() -> None:
    """Parse the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--idle-s", type=float, default=10.0)
    parser.add_argument("--usd-per-hour", type=float, default=0.05)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), args.rounds, args.idle_s, args.usd_per_hour)
    table = Table("", "")
    table.add_row("machine hours", f"{found.hours:.5f}")
    table.add_row("hours × price", f"${found.machine_usd:.9f}")
    table.add_row("sum of its calls in the ledger", f"${found.ledger_usd:.9f}")
    table.add_row("the second over the first", f"{found.ledger_usd / found.machine_usd:.4%}")
    table.add_row(
        "calls, busy, at once", f"{found.calls}, {found.busy_share:.1%}, {found.at_once:.2f}"
    )
    table.add_row("$ per million tokens read", f"{found.input_usd:.4f}")
    table.add_row("$ per million tokens written", f"{found.output_usd:.4f}")
    table.add_row("every other call by prices of the rest", f"{found.foretold:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
