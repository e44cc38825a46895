"""The gateway is killed under load, at random points, again and again: nothing is lost or twice.

`POINTSMAN_KILLS=100` kills it that often; the seed is fixed, the machine's own haste is not.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from sqlalchemy import select

from experts.fakes.provider import FakeProvider, Reply
from gateway.ledger.database import opened
from gateway.ledger.tables import attempt, decision, request
from gateway.ledger.verify import verify_ledger
from tests.contracts.test_ledger_away import locked
from tests.gateway.raw import until
from tests.journeys.test_serve import answers, config_in
from tests.ports import free_port

_KILLS = int(os.environ.get("POINTSMAN_KILLS", "20"))
_CLIENTS = 6
_LONGEST_S = 0.6


# Forked from a process that has imported everything: a life costs no start of an interpreter.
_FORKS = multiprocessing.get_context("forkserver")


def _serve(config: str, port: int) -> None:
    from gateway.cli.main import app

    app(["serve", "--config", config, "--port", str(port)])


@contextmanager
def serving(config: Path) -> Iterator[tuple[str, Any]]:
    """A gateway as a process of its own, which whoever has it may kill."""
    _FORKS.set_forkserver_preload(["gateway.cli.serve", "gateway.running", "gateway.app"])
    port = free_port()
    process = _FORKS.Process(target=_serve, args=(str(config), port), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not answers(url):
            assert process.exitcode is None, "the gateway ended instead of serving"
            assert time.monotonic() < until, "the gateway did not come up"
            time.sleep(0.02)
        yield url, process
    finally:
        process.kill()
        process.join()


@contextmanager
def asking(url: str, life: int) -> Iterator[None]:
    """Clients that ask one question after another, each of its own text, until the end."""
    ending = threading.Event()

    def client(number: int) -> None:
        with httpx2.Client(base_url=url, trust_env=False, timeout=30) as session:
            for turn in range(10_000):
                if ending.is_set():
                    return
                said = f"life {life} client {number} turn {turn}"
                message = {"role": "user", "content": said}
                body = {"model": "small", "messages": [message], "stream": turn % 2 == 1}
                with suppress(httpx2.TransportError):
                    session.post("/v1/chat/completions", json=body)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def booked_prompts(url: str) -> Counter[str]:
    """What was asked of somebody, as the ledger says, and how often."""
    query = (
        select(request.c.prompt)
        .join(decision, decision.c.request_id == request.c.request_id)
        .join(attempt, attempt.c.decision_id == decision.c.decision_id)
    )
    with opened(url) as engine, engine.connect() as connection:
        return Counter(str(prompt) for prompt in connection.execute(query).scalars())


@pytest.mark.slow
def test_no_kill_loses_a_call_or_books_one_twice(tmp_path: Path, provider: FakeProvider) -> None:
    provider.otherwise = Reply("one two three")
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = {"url": url, "text": "full", "durability": "strict"}
    # A retry would be a second call for the same question, rightly on record twice.
    config = config_in(tmp_path, provider, ledger=ledger, execution={"max_retries": 0})
    rng = np.random.default_rng(7)
    for life in range(_KILLS):
        # Every other life is long enough to show something, on any machine.
        enough = len(provider.bodies) + 2 * _CLIENTS
        with serving(config) as (address, process), asking(address, life):
            if life % 2:
                until(partial(_was_asked, provider, enough))
            time.sleep(float(rng.uniform(0.02, _LONGEST_S)))
            process.kill()
            process.join()
        called = Counter(str(body["messages"][-1]["content"]) for body in provider.bodies)
        booked = booked_prompts(url)
        assert called - booked == Counter(), "called without being on record"
        assert set(booked.values()) <= {1}, "booked twice"
        with opened(url) as engine:
            verdict = verify_ledger(engine)
        assert verdict.faults == (), f"after kill {life + 1}"
        # What was under way: a client has one question at a time.
        assert verdict.open_attempts <= _CLIENTS * (life + 1)


def _was_asked(provider: FakeProvider, times: int) -> bool:
    return len(provider.bodies) > times


@pytest.mark.slow
def test_a_kill_while_the_database_is_locked_loses_nothing(
    tmp_path: Path, provider: FakeProvider
) -> None:
    """What was put aside meanwhile is the next gateway's to book."""
    provider.otherwise = Reply("one two three")
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = {"url": url, "text": "full", "durability": "strict"}
    config = config_in(tmp_path, provider, ledger=ledger, execution={"max_retries": 0})
    rng = np.random.default_rng(11)
    for life in range(max(2, _KILLS // 5)):
        enough = len(provider.bodies) + 2 * _CLIENTS
        with (
            serving(config) as (address, process),
            locked(f"{tmp_path}/ledger.db"),
            asking(address, life),
        ):
            until(partial(_was_asked, provider, enough))
            time.sleep(float(rng.uniform(0.0, _LONGEST_S)))
            process.kill()
            process.join()
        with serving(config) as (address, _):
            until(lambda: not list(tmp_path.glob("**/spool/*.rows")))
            with httpx2.Client(base_url=address, timeout=60, trust_env=False) as client:
                assert client.get("/health/ready").json()["ledger_pending_rows"] == 0
        called = Counter(str(body["messages"][-1]["content"]) for body in provider.bodies)
        booked = booked_prompts(url)
        assert called - booked == Counter(), "called without being on record"
        assert set(booked.values()) <= {1}, "booked twice"
        with opened(url) as engine:
            assert verify_ledger(engine).faults == ()
