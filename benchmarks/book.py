"""What it costs to put a request on record: on the event loop, and in the thread that writes.

`python benchmarks/book.py` books made-up requests, each with a decision among some experts or of an
expert that was named, one attempt and its results, into a SQLite ledger in relaxed durability, as
many at a time as would queue in a busy gateway. CPU time of each thread, per request.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import orjson
from rich.console import Console
from rich.table import Table

from experts.cards import ExpertCard, Prices
from experts.messages import ChatRequest, Message, Usage
from gateway.access.keys import Key
from gateway.ask import Ask
from gateway.booking import Booking
from gateway.ledger.database import open_database
from gateway.ledger.store import Ledger
from routers.eligible import Constraints
from routers.explicit import explicit_decision
from routers.policies.greedy import PRESETS
from routers.records import Decision
from routers.router import untrained_router

_AT_A_TIME = 500
_ASK = Ask(
    ChatRequest((Message("user", "How does a gateway choose a model? " * 28),)),
    "auto",
    "openai.chat",
    Key("k"),
)
_ANSWER = "By what it has learned of them. " * 30
_USAGE = Usage(input=250, output=240)


def main() -> None:
    """Parse the command line, measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--experts", type=int, default=5)
    parser.add_argument("--text", default="none", choices=("none", "redacted", "full"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    found = costs(args.experts, args.requests, args.rounds, args.text)
    if args.json:
        Console().print_json(orjson.dumps(found).decode())
    else:
        show(found, args.experts, args.text)


def costs(
    experts: int, requests: int = 5_000, rounds: int = 5, text: str = "none"
) -> dict[str, dict[str, float]]:
    """Microseconds of CPU per request by thread, by how the expert was found."""
    return {
        name: costs_us(decision, cards, requests, rounds, text)
        for name, (decision, cards) in decisions(experts).items()
    }


def show(found: dict[str, dict[str, float]], experts: int, text: str) -> None:
    """Print a column per way to find the expert."""
    title = f"CPU µs per request to put it on record: {experts} experts, text {text}"
    table = Table("thread", *found, title=title)
    for part in ("event loop", "writer", "both"):
        table.add_row(part, *(f"{each[part]:.1f}" for each in found.values()))
    Console().print(table)


def decisions(experts: int) -> dict[str, tuple[Decision, list[ExpertCard]]]:
    """A decision among all experts, and one that the request made itself."""
    cards = [
        ExpertCard(f"expert-{index:02d}", prices=Prices(0.1 * 2**index, 0.4 * 2**index))
        for index in range(experts)
    ]
    drawn = untrained_router("default", epsilon=0.05).decide(
        _ASK.request,
        cards,
        preference=PRESETS["balanced"],
        policy_name="balanced",
        constraints=Constraints(),
        unhealthy={},
        uniform=0.4,
    )
    return {
        "decided": (drawn, cards),
        "named": (explicit_decision(_ASK.request, cards[0], Constraints()), cards),
    }


def costs_us(
    decision: Decision, cards: list[ExpertCard], requests: int, rounds: int, text: str
) -> dict[str, float]:
    """Microseconds of CPU per request by thread, the median of the rounds."""
    loop_us, writer_us = [], []
    with TemporaryDirectory() as name:
        ledger = Ledger(
            open_database(f"sqlite:///{Path(name) / 'ledger.db'}", durable=False), strict=False
        )
        for _ in range(rounds):
            loop_s, writer_s = anyio.run(_booked, ledger, decision, cards, requests, text)
            loop_us.append(loop_s / requests * 1e6)
            writer_us.append(writer_s / requests * 1e6)
        ledger.close()
    loop, writer = statistics.median(loop_us), statistics.median(writer_us)
    return {"event loop": loop, "writer": writer, "both": loop + writer}


async def _booked(
    ledger: Ledger, decision: Decision, cards: list[ExpertCard], requests: int, text: str
) -> tuple[float, float]:
    card = next(card for card in cards if card.expert_id == decision.expert)
    loop_s = writer_s = 0.0
    for start in range(0, requests, _AT_A_TIME):
        everything, began = time.process_time(), time.thread_time()
        for _ in range(min(_AT_A_TIME, requests - start)):
            booking = Booking(ledger, _ASK, decision, text)
            attempt = await booking.begin(card)
            attempt.usage, attempt.finish_reason = _USAGE, "stop"
            attempt.first_token_s = 0.1
            booking.end(attempt, "ok")
            booking.close(200, None, card.expert_id, _ANSWER)
        took_s = time.thread_time() - began
        await ledger.flush()
        loop_s += took_s
        writer_s += time.process_time() - everything - took_s
    return loop_s, writer_s


if __name__ == "__main__":
    main()
