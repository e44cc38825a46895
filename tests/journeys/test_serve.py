"""`pointsman serve` as a process: workers, a clean end, and a violent one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from experts.fakes.provider import FakeProvider, Reply
from experts.fakes.server import FakeServer
from gateway.ledger.database import opened
from gateway.ledger.verify import LedgerFindings, verify_ledger
from tests.ports import free_port


def config_in(folder: Path, provider: FakeServer, **sections: Any) -> Path:
    path = folder / "config.yaml"
    expert = {"id": "small", "base_url": provider.url, "prices": {"input": 1, "output": 2}}
    ledger = {"url": f"sqlite:///{folder}/ledger.db"}
    settings = {"experts": [expert], "ledger": ledger, "data_dir": str(folder / "data")}
    path.write_text(json.dumps({**settings, **sections}))
    return path


@contextmanager
def serving(
    config: Path, *options: str, scheme: str = "http"
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    words = ["serve", "--config", str(config), "--port", str(port), *options]
    process = subprocess.Popen([sys.executable, "-m", "gateway.cli.main", *words])
    url = f"{scheme}://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not answers(url):
            assert process.poll() is None, "the gateway ended instead of serving"
            assert time.monotonic() < until, "the gateway did not come up"
            time.sleep(0.05)
        yield url, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        answer = httpx2.get(f"{url}/health/ready", timeout=1, trust_env=False, verify=False)
    except httpx2.TransportError:
        return False
    return answer.status_code == 200


def ask(url: str, text: str = "Hi", model: str = "auto") -> int:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    path = f"{url}/v1/chat/completions"
    return httpx2.post(path, json=body, timeout=30, trust_env=False, verify=False).status_code


def verdict_in(folder: Path) -> LedgerFindings:
    with opened(f"sqlite:///{folder}/ledger.db") as engine:
        return verify_ledger(engine)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_and_ends_with_everything_booked(
    tmp_path: Path, provider: FakeProvider, workers: str
) -> None:
    with serving(config_in(tmp_path, provider), "--workers", workers) as (url, process):
        assert [ask(url) for _ in range(20)] == [200] * 20
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    verdict = verdict_in(tmp_path)
    assert verdict.faults == ()
    assert (verdict.rows["request_result"], verdict.open_attempts) == (20, 0)


def test_a_killed_gateway_leaves_no_call_without_its_decision(
    tmp_path: Path, provider: FakeProvider
) -> None:
    provider.script.extend([Reply(), Reply(stall_after=0)])
    config = config_in(tmp_path, provider)
    with serving(config) as (url, process):
        assert ask(url, "first") == 200
        lost = threading.Thread(target=ignore_failure, args=(url,))
        lost.start()
        assert provider.stalled.wait(timeout=30)
        os.kill(process.pid, signal.SIGKILL)
        lost.join()
    verdict = verdict_in(tmp_path)
    assert verdict.faults == ()
    assert verdict.rows["decision"] == len(provider.bodies) == 2
    assert verdict.open_attempts == 1
    with serving(config) as (url, _):
        assert ask(url, "after the crash") == 200


def ignore_failure(url: str) -> None:
    with suppress(httpx2.TransportError):
        ask(url, "lost")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_operators_routes_have_a_listener_of_their_own(
    tmp_path: Path, provider: FakeProvider, workers: str
) -> None:
    admin_port = free_port()
    config = config_in(tmp_path, provider, server={"admin_port": admin_port})
    with serving(config, "--workers", workers) as (url, _):
        admin = f"http://127.0.0.1:{admin_port}"
        for path in ("/", "/admin/routers", "/metrics", "/openapi.json"):
            # The port is the socket's: no header moves a request to the other listener.
            spoofed = {"host": f"127.0.0.1:{admin_port}", "x-forwarded-port": str(admin_port)}
            assert status(url + path, spoofed) == 404
            assert status(admin + path, {"host": url.removeprefix("http://")}) == 200
        assert ask(url) == ask(admin) == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_reloads_every_process_and_ends_none(
    tmp_path: Path, provider: FakeProvider, workers: str
) -> None:
    config = config_in(tmp_path, provider)
    with serving(config, "--workers", workers) as (url, process):
        before = {note["pid"] for note in settled(url, 1, int(workers))}
        assert ask(url, model="large") == 404
        large = {"id": "large", "base_url": provider.url, "prices": {"input": 1, "output": 2}}
        config_in(tmp_path, provider, experts=[large])
        process.send_signal(signal.SIGHUP)
        after = settled(url, 2, int(workers))
        assert {note["pid"] for note in after} == before
        assert [ask(url, model="large") for _ in range(8)] == [200] * 8
        assert [ask(url, model="small") for _ in range(8)] == [404] * 8
        config.write_text("experts: [")
        answer = httpx2.post(f"{url}/admin/config/reload", timeout=10, trust_env=False)
        assert answer.status_code == 400
        answer = httpx2.post(f"{url}/admin/config/rollback", timeout=10, trust_env=False)
        assert answer.json()["number"] == 3
        settled(url, 3, int(workers))
        assert [ask(url, model="small") for _ in range(8)] == [200] * 8


def test_a_watched_file_is_taken_over_when_it_changes(
    tmp_path: Path, provider: FakeProvider
) -> None:
    with serving(config_in(tmp_path, provider, server={"watch_config": True})) as (url, _):
        config_in(tmp_path, provider, server={"watch_config": True}, aliases={"fast": "small"})
        settled(url, 2, 1)
        assert ask(url, model="fast") == 200


def settled(url: str, number: int, processes: int) -> list[dict[str, Any]]:
    """The notes of all processes, once all of them serve that configuration."""
    until = time.monotonic() + 120
    while True:
        answer = httpx2.get(f"{url}/admin/config", timeout=10, trust_env=False)
        notes: list[dict[str, Any]] = answer.json()["processes"]
        if [note["number"] for note in notes] == [number] * processes:
            return notes
        assert time.monotonic() < until, notes
        time.sleep(0.05)


def status(url: str, headers: dict[str, str]) -> int:
    return httpx2.get(url, headers=headers, timeout=10, trust_env=False).status_code


def test_tls_is_ours_to_end(tmp_path: Path, provider: FakeProvider) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    tls = {"tls_cert": str(cert), "tls_key": str(key)}
    with serving(config_in(tmp_path, provider, server=tls), scheme="https") as (url, _):
        assert ask(url) == 200


def test_a_config_that_is_wrong_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("routing: {epsilon: 2}")
    words = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(path)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "c.yaml" in ended.stderr
    assert "epsilon" in ended.stderr
