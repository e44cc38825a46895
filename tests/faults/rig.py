"""Runs cells of the matrix, many at once, through one gateway; keeps what came of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2

from experts.broken.provider import BrokenProvider, broken_provider
from experts.fakes.server import ReceivedRequest
from gateway.app import create_app
from gateway.ledger.database import opened
from gateway.ledger.verify import LedgerFindings, verify_ledger
from gateway.pool.pool import build_experts
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.settings.server import ServerSettings
from gateway.state import Gateway
from gateway.wiring import build_gateway
from tests.faults.apis import APIS
from tests.faults.table import Row

PATIENCE_S = 60.0
"""Of clients: nothing may take so long."""
LIMIT_S = 2.5
"""What cells that wait wait for; all that should be in time takes milliseconds."""
_CONNECTS = {"connect_s": 60}
BACKOFF_S = 0.04
RETRIES = 2
INPUT_NANOUSD, OUTPUT_NANOUSD = 1000, 2000
Mode = Literal["named", "once", "auto"]
WAYS = ("fast", "plain") if "fast_path" in ServerSettings.model_fields else ("plain",)
"""The fast path for chats, and what serves all else."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault in one situation.

    Attributes:
        row: The fault.
        api: How the client asks.
        stream: Whether it wants a stream.
        mode: `named`: an expert by name that always fails so. `once`: that fails so once only.
            `auto`: one that always fails so, beside one that doesn't.
        wire: What the expert speaks.
        way: What serves it, see `WAYS`.
    """

    row: Row
    api: str
    stream: bool
    mode: Mode
    wire: str = "openai"
    way: str = "plain"

    @property
    def name(self) -> str:
        how = "stream" if self.stream else "whole"
        way = ("fast",) if self.way == "fast" else ()
        return "-".join((self.row.fault, self.api, how, self.mode, *way))

    @property
    def kind(self) -> str | None:
        return self.row.kind(stream=self.stream)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cell: the answer, what the provider was asked, and the record."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    asked: Sequence[ReceivedRequest]
    record: Mapping[str, Any]


@dataclass(slots=True)
class Bench:
    """One gateway over the experts of its cells."""

    url: str
    gateway: Gateway
    outcomes: dict[Cell, Outcome | Exception] = field(default_factory=dict)

    def outcome(self, cell: Cell) -> Outcome:
        """What came of it.

        Raises:
            Exception: Not even an answer came, or none that is on record.
        """
        found = self.outcomes[cell]
        if isinstance(found, Exception):
            raise found
        return found

    def verified(self) -> LedgerFindings:
        anyio.run(self.gateway.ledger.flush)
        with opened(self.gateway.settings.ledger_url) as engine:
            return verify_ledger(engine)


def sections(cells: Sequence[Cell], provider: BrokenProvider, directory: Path) -> dict[str, Any]:
    """The configuration that the cells are tried with."""
    waits = cells[0].row.waits
    # Whoever has a second expert to turn to needs no other limit; and that one gets its time.
    limit_s = LIMIT_S if waits and cells[0].mode != "auto" else 60
    limits = dict.fromkeys(("header_s", "first_token_s", "idle_s", "whole_s"), limit_s)
    limits |= dict.fromkeys(("failover_s", "failover_whole_s"), LIMIT_S if waits else 60)
    experts = [_entry(cell, provider.base(*_how(cell))) for cell in cells]
    wires = {cell.wire for cell in cells}, {APIS[cell.api].upstream for cell in cells}
    (wire,), (upstream,) = wires
    experts.append(_spare(wire, upstream, provider.base("healthy")))
    found: dict[str, Any] = {
        "experts": experts,
        "limits": {**limits, "total_s": 120, "max_answer_bytes": 100_000},
        "execution": {"max_retries": RETRIES, "backoff_s": BACKOFF_S, "retries_per_s": 1000},
        # Whether breakers open is for other tests: here each cell stands for itself.
        "breaker": {"failures": 1000, "window": 1000},
        "routing": {"epsilon": 0.0},
        "ledger": {"url": f"sqlite:///{directory}/ledger.db"},
        "data_dir": str(directory),
    }
    if len(WAYS) > 1:
        found["server"] = {"fast_path": cells[0].way == "fast"}
    return found


def _entry(cell: Cell, url: str) -> dict[str, Any]:
    kind = {"kind": cell.wire} if cell.wire == "anthropic" else {"api": APIS[cell.api].upstream}
    prices = {"input": INPUT_NANOUSD / 1000, "output": OUTPUT_NANOUSD / 1000}
    more = {"quality_prior": 0.9, "max_concurrency": 1, "prices": prices, **_CONNECTS}
    return {"id": cell.name, "base_url": url, "model": "m", **kind, **more}


def _spare(wire: str, upstream: str, url: str) -> dict[str, Any]:
    kind = {"kind": wire} if wire == "anthropic" else {"api": upstream}
    prices = {"input": INPUT_NANOUSD / 1000, "output": OUTPUT_NANOUSD / 1000}
    return {
        **{"id": "spare", "base_url": url, "model": "m", "quality_prior": 0.2},
        **{"prices": prices, **_CONNECTS, **kind},
    }


def _how(cell: Cell) -> tuple[str, str, str]:
    # The connection has to be used once before it can be stale.
    return cell.row.fault, "1" if cell.mode == "once" else "always", cell.name


@contextmanager
def bench(cells: Sequence[Cell], directory: Path) -> Iterator[Bench]:
    """A gateway that has answered all cells, and still runs."""
    with ExitStack() as stack:
        provider = stack.enter_context(broken_provider())
        settings = Settings.model_validate(sections(cells, provider, directory))
        gateway = build_gateway(settings, build_experts(settings, {}), seed=1)
        url = stack.enter_context(background_server(create_app(gateway)))
        found = Bench(url, gateway)
        anyio.run(_run, found, cells, provider)
        yield found
        nobody_left_behind(gateway, [cell.name for cell in cells])


def nobody_left_behind(gateway: Gateway, names: Sequence[str]) -> None:
    """No request, call or slot is left of answers that are over."""
    metrics, traffic = gateway.telemetry.metrics, gateway.lasting.traffic
    until = time.monotonic() + 60
    while (metrics.in_flight or gateway.uses.count) and time.monotonic() < until:
        anyio.run(gateway.ledger.flush)
    assert (metrics.in_flight, gateway.uses.count) == (0, 0)
    assert not any(metrics.running.values())
    assert [name for name in names if not traffic.slots.try_acquire(name)] == []


async def _run(found: Bench, cells: Sequence[Cell], provider: BrokenProvider) -> None:
    at_once = anyio.CapacityLimiter(len(cells) if cells[0].row.waits else 12)
    client = httpx2.AsyncClient(
        base_url=found.url,
        timeout=PATIENCE_S,
        trust_env=False,
        limits=httpx2.Limits(max_connections=None),
    )

    async def run(cell: Cell) -> None:
        async with at_once:
            try:
                found.outcomes[cell] = await _outcome(client, cell, provider)
            except (httpx2.HTTPError, KeyError) as error:
                found.outcomes[cell] = error

    async with client, anyio.create_task_group() as tasks:
        for cell in cells:
            tasks.start_soon(run, cell)


async def _outcome(client: httpx2.AsyncClient, cell: Cell, provider: BrokenProvider) -> Outcome:
    answer = await client.post(APIS[cell.api].path, json=_body(cell))
    decision_id = answer.headers["x-pointsman-decision-id"]
    record = (await client.get(f"/v1/decisions/{decision_id}")).json()
    asked = provider.asked[provider.base(*_how(cell))]
    return Outcome(answer.status_code, answer.headers, answer.content, asked, record)


def _body(cell: Cell) -> dict[str, Any]:
    body = APIS[cell.api].body(stream=cell.stream)
    if cell.mode != "auto":
        return {"model": cell.name, **body}
    return {"model": "auto", "pointsman": {"experts": [cell.name, "spare"]}, **body}
