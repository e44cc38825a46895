"""Sweeps of routers, and collecting, over a real Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from experts.base import Expert
from experts.cards import Prices
from experts.fakes.provider import FakeProvider, Reply
from gateway.cli.main import app
from gateway.ledger.database import opened
from gateway.ledger.export import booked_answers, export_outcomes
from tests.eval.test_compare import without_times
from tests.gateway.cli.test_evaluate import recorded
from tests.ray.conftest import Cluster

pytestmark = pytest.mark.ray

_PATIENCE_S = 300


def test_an_evaluation_finds_the_same_as_on_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    table, found = str(recorded(tmp_path / "graded.parquet")), []
    for name, where in (("here", ["--jobs", "1"]), ("there", ["--ray", cluster.address])):
        words = ["--train", table, "--test", table, "--report", str(tmp_path / name), *where]
        said = CliRunner().invoke(app, ["evaluate", *words, "--routers", "category,ridge+hashing"])
        assert said.exit_code == 0, said.output
        found.append(without_times(orjson.loads((tmp_path / name / "metrics.json").read_bytes())))
    assert found[0] == found[1]


@pytest.fixture
def collecting(
    serve: Callable[..., Any],
    remote: Callable[..., Expert],
    provider: FakeProvider,
    cluster: Cluster,
    tmp_path: Path,
) -> list[str]:
    """The words of a `collect` of nine answers of one expert over the cluster."""
    provider.otherwise = Reply("4")
    served = serve({"sums": remote("sums", provider.url, Prices(1, 1))})
    settings = served.gateway.settings
    config = {
        "experts": [{"id": "sums", "base_url": provider.url}],
        "ledger": {"url": settings.ledger.url},
        "data_dir": str(settings.data_dir),
    }
    check = {"kind": "mentions", "answers": ["4"]}
    lines = [{"query_id": f"q{n}", "prompt": f"{n} - {n - 4}?", "check": check} for n in range(9)]
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["--prompts", tmp_path / "prompts.jsonl", "--config", tmp_path / "config.yaml"]
    words += ["--collection", "mine", "--url", served.url, "--ray", cluster.address]
    return ["collect", *map(str, words)]


def test_nobody_is_asked_twice_though_driver_and_worker_are_killed(
    collecting: list[str], provider: FakeProvider, cluster: Cluster, tmp_path: Path
) -> None:
    ledger = json.loads((tmp_path / "config.yaml").read_text())["ledger"]["url"]
    silent = Reply(stall_after=0)
    provider.script += [Reply("4"), silent]
    with opened(ledger) as engine:
        command = [sys.executable, "-m", "gateway.cli.main", *collecting]
        with subprocess.Popen(command) as driver:
            _await(lambda: len(booked_answers(engine, {"collection": "mine"})) == 8)
            driver.kill()
        _await(lambda: not list(_asking(cluster)))
        assert len(provider.bodies) == 9

        provider.script.append(silent)
        out = tmp_path / "out.jsonl"
        with ThreadPoolExecutor() as threads:
            killed = threads.submit(_kill_who_asks, cluster, lambda: len(provider.bodies) == 10)
            said = CliRunner().invoke(app, [*collecting, "--out", str(out)])
            killed.result()
        assert said.exit_code == 0, said.output
        assert "1 answers booked" in said.output
        assert "8 were booked there before" in said.output
        assert len(provider.bodies) == 11
        rows = export_outcomes(engine, tags={"collection": "mine"}).rows
    assert Counter(row["query_id"] for row in rows) == Counter(f"q{n}" for n in range(9))
    assert len(out.read_text().splitlines()) == 1


def _kill_who_asks(cluster: Cluster, when: Callable[[], bool]) -> None:
    _await(when)
    (pid,) = _asking(cluster)
    os.kill(pid, signal.SIGKILL)


def _asking(cluster: Cluster) -> Iterator[int]:
    """Workers of this cluster that have a piece of collecting in hand."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, env = ((process / part).read_bytes() for part in ("cmdline", "environ"))
        except OSError:
            continue
        if name.startswith(b"ray::_ask") and cluster.token.encode() in env:
            yield int(process.name)


def _await(what: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)
