"""A disk that is really full: a small one of its own, in a namespace of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from experts.fakes.provider import FakeProvider, Reply
from gateway.ledger.database import opened
from gateway.ledger.verify import verify_ledger
from tests.contracts.test_ledger_away import calls_made, calls_on_record
from tests.journeys.test_serve import answers, config_in
from tests.ports import free_port

_MOUNT = ["unshare", "--map-root-user", "--mount"]


def small_disks() -> bool:
    """Whether this machine lets us have some."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    tried = subprocess.run(
        [*_MOUNT, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


@contextmanager
def serving_on(disk: Path, config: Path) -> Iterator[tuple[str, int]]:
    """A gateway that sees a disk of two megabytes there; its URL and process id."""
    port = free_port()
    script = (
        f"mount -t tmpfs -o size=2m tmpfs {disk} && "
        f"exec {sys.executable} -m gateway.cli.main serve --config {config} --port {port}"
    )
    process = subprocess.Popen([*_MOUNT, "sh", "-c", script])
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not answers(url):
            assert process.poll() is None, "the gateway ended instead of serving"
            assert time.monotonic() < until, "the gateway did not come up"
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def inside(process: int, *words: str) -> None:
    """Run a command where the gateway's disk is seen."""
    where = ["nsenter", "--target", str(process), "--user", "--mount", "--preserve-credentials"]
    subprocess.run([*where, *words], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_a_full_disk_refuses_in_time_and_loses_nothing(
    tmp_path: Path, provider: FakeProvider, durability: str
) -> None:
    """Ledger and spool share the disk, so that nothing is left but to wait, within bounds."""
    if not small_disks():
        pytest.skip("this machine lets nobody mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    provider.otherwise = Reply("one two three")
    ledger = {"url": f"sqlite:///{disk}/ledger.db", "text": "full", "durability": durability}
    config = config_in(
        tmp_path,
        provider,
        ledger={**ledger, "max_pending": 50},
        data_dir=str(disk),
        limits={"total_s": 1},
    )
    copy = tmp_path / "copy.db"
    with (
        serving_on(disk, config) as (url, process),
        httpx2.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        codes: list[int] = []
        for turn in range(3_000):
            codes.append(_asked(client, turn))
            if codes[-1] == 503:
                break
        assert set(codes) == {200, 503}, "it answers as long as there is room, then says so"
        inside(process, "mount", "-o", "remount,size=64m", str(disk))
        until = time.monotonic() + 30
        while _asked(client, len(codes)) != 200:
            codes.append(503)
            assert time.monotonic() < until, "it never came back"
        codes.append(200)
        while client.get("/health/ready").json()["ledger_pending_rows"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        inside(process, "sh", "-c", f"test -z \"$(find {disk}/spool -size +0 -name '*.rows')\"")
        copied = f"VACUUM INTO '{copy}'"
        script = f"import sqlite3; sqlite3.connect('{disk}/ledger.db').execute({copied!r})"
        inside(process, sys.executable, "-c", script)
    assert calls_on_record(f"sqlite:///{copy}") == calls_made(provider)
    with opened(f"sqlite:///{copy}") as engine:
        assert verify_ledger(engine).faults == ()


def _asked(client: httpx2.Client, turn: int) -> int:
    message = {"role": "user", "content": f"turn {turn} " + "of many words " * 40}
    return client.post(
        "/v1/chat/completions", json={"model": "small", "messages": [message]}
    ).status_code
