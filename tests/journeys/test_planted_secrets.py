"""A whole process with secrets in every place that may hold one leaves none of them anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from experts.fakes.provider import FakeProvider, Reply
from tests.journeys.test_serve import answers
from tests.ports import free_port

PLANTED = {
    "PROVIDER": "sk-planted-provider-aaaaAAAA1111",
    "OPERATOR": "planted.operator.bbbbBBBB2222",
    "CALLER": "planted-caller-ccccCCCC3333",
    "VALKEY": "planted-valkey-ddddDDDD4444",
    "COLLECTOR": "planted-collector-eeeeEEEE5555",
    "INLINE": "planted-inline-ffffFFFF6666",
}
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]


def config_with(folder: Path, provider: FakeProvider) -> Path:
    """LiteLLM's form for experts, ours for the rest; secrets inline and in variables."""
    dead = "http://127.0.0.1:9/v1"
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    prices = {"input": 1, "output": 2}
    settings: dict[str, Any] = {
        "experts": [
            {
                "id": "a",
                "base_url": provider.url,
                "api_key": "env:PLANTED_PROVIDER",
                "prices": prices,
            },
            {"id": "dead", "base_url": dead, "api_key": PLANTED["INLINE"], "prices": prices},
        ],
        "keys": [
            {"name": "op", "key": "env:PLANTED_OPERATOR", "role": "admin"},
            {"name": "team", "key": PLANTED["CALLER"], "limits": [{"usd": 1, "per": "day"}]},
        ],
        "access": {
            "shared": f"valkey://default:{PLANTED['VALKEY']}@127.0.0.1:9/0",
            "when_shared_is_down": "open",
        },
        "server": {"tls_cert": str(folder / "tls.pem"), "tls_key": str(folder / "tls.pem")},
        "telemetry": {
            "otlp_endpoint": "http://127.0.0.1:9",
            "otlp_headers": {"authorization": f"Bearer {PLANTED['COLLECTOR']}"},
            "capture_content": True,
            "key_labels": True,
        },
        "logging": {"level": "debug"},
        "ledger": {"url": f"sqlite:///{folder}/data/ledger.db", "text": "full"},
        "responses": {"store": True},
        "data_dir": str(folder / "data"),
        "limits": {"total_s": 5},
        "execution": {"max_retries": 0, "max_wait_s": 0},
        "breaker": {"failures": 1000, "window": 1000, "rate": 1.0, "max_pause_s": 0.001},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings, indent=1))
    return path


@contextmanager
def served(config: Path, log: Path, *options: str) -> Iterator[str]:
    port = free_port()
    words = ["serve", "--config", str(config), "--port", str(port), *options]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli.main", *words], stdout=file, stderr=file
        )
    url = f"https://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, "the gateway did not come up"
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def refusals() -> Iterator[Reply]:
    key = PLANTED["PROVIDER"]
    for status in (400, 401, 429, 500):
        for said in (
            f"Incorrect API key provided: {key}",
            f"sk-***1111 and a key ending in {key[-4:]}",
        ):
            yield Reply(status=status, error={"message": said, "code": key, "type": said})


def drive(url: str, provider: FakeProvider, config: Path) -> list[str]:
    """Ask everything with every key; what came back, heads included."""
    said: list[str] = []
    with httpx2.Client(base_url=url, timeout=30, trust_env=False, verify=False) as client:

        def send(method: str, path: str, key: str, **more: Any) -> None:
            answer = client.request(
                method, path, headers={"authorization": f"Bearer {key}"}, **more
            )
            asked = f"{method} {path.partition('?')[0]} {answer.status_code}"
            said.append(f"{asked} {answer.headers} {answer.text}")

        operator, caller = PLANTED["OPERATOR"], PLANTED["CALLER"]
        for stream in (False, True):
            for reply in (Reply(), *refusals(), Reply("a b", cut_after=1)):
                provider.otherwise = reply
                body = {"model": "a", "messages": HELLO, "stream": stream, "max_tokens": 9}
                send("POST", CHAT, caller, json=body)
                send("POST", "/v1/messages", operator, json=body)
                send("POST", "/v1/responses", caller, json={"model": "a", "input": "Hi"})
            send("POST", CHAT, operator, json={"model": "dead", "messages": HELLO})
        provider.otherwise = Reply()
        send("POST", CHAT, f"{caller}x", json={})
        send("POST", f"{CHAT}?api_key={operator}&key={caller}", operator, content=b"{")
        paths = ("config", "experts", "keys", "budgets", "routers")
        for path in (*(f"/admin/{p}" for p in paths), "/", "/docs", "/openapi.json", "/metrics"):
            send("GET", path, operator)
        send("POST", "/admin/config/validate", operator, content=config.read_bytes())
        faulty = config.read_text().replace('"logging": {', '"logging": {"secret": 1,')
        send("POST", "/admin/config/validate", operator, content=faulty.encode())
        kept = config.read_text()
        config.write_text(faulty)
        send("POST", "/admin/config/reload", operator)
        config.write_text(kept.replace("9, ", "8, "))
        send("POST", "/admin/config/reload", operator)
        send("POST", "/admin/config/rollback", operator)
        send("GET", "/health/ready", operator)
    return said


@pytest.mark.slow
def test_nothing_that_leaves_a_process_holds_a_secret(
    tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PROVIDER", "OPERATOR"):
        monkeypatch.setenv(f"PLANTED_{name}", PLANTED[name])
    (tmp_path / "data").mkdir()
    config = config_with(tmp_path, provider)
    private = (tmp_path / "tls.pem").read_text().splitlines()[2]
    log = tmp_path / "log"
    with served(config, log) as url:
        said = drive(url, provider, config)
    assert any(line.split()[2] == "200" for line in said)
    assert f"Bearer {PLANTED['PROVIDER']}" in {h["authorization"] for h in provider.headers}
    places = {
        "answers": "\n".join(said),
        "log": log.read_text(),
        **{
            str(path.relative_to(tmp_path)): path.read_bytes().decode("latin-1")
            for path in (tmp_path / "data").rglob("*")
            if path.is_file()
        },
    }
    assert {"answers", "log", "data/ledger.db"} <= set(places)
    secrets = {*PLANTED.values(), private, *(value[-8:] for value in PLANTED.values())}
    found = {
        (where, secret) for where, text in places.items() for secret in secrets if secret in text
    }
    assert found == set()
    # What was refused did quote them.
    assert all("[redacted]" in places[where] for where in ("answers", "log", "data/ledger.db"))
