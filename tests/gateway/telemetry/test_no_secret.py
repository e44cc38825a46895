"""Planted secrets are found nowhere: not in logs, bodies, headers, figures, spans or the ledger."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text

from experts.fakes.provider import FakeProvider, Reply, fake_provider
from gateway.app import create_app
from gateway.ledger import tables
from gateway.ledger.database import opened
from gateway.pool.pool import build_experts
from gateway.running import background_server
from gateway.settings.root import Settings
from gateway.telemetry.logs import Logs
from gateway.telemetry.redaction import secrets_of
from gateway.telemetry.tracing import Content, Tracing
from gateway.wiring import build_gateway

PROVIDER_KEY = "sk-proj-planted0provider1key2WXYZ"
ODD_PROVIDER_KEY = "planted/odd+provider=key 7"
CLIENT_KEY = "pm-planted-client-key-0123456789"
PLAIN_CLIENT_KEY = "planted.plain.client.key"
STRANGERS_KEY = "pm-planted-strangers-key-98765"
COLLECTOR_KEY = "planted-collector-token"
PLANTED = (
    PROVIDER_KEY,
    ODD_PROVIDER_KEY,
    "odd+provider",
    CLIENT_KEY,
    PLAIN_CLIENT_KEY,
    STRANGERS_KEY,
    COLLECTOR_KEY,
    "WXYZ",
    "planted-url-password",
)
HELLO = [{"role": "user", "content": "Hi"}]


def refusals() -> Iterator[Reply]:
    """What providers say when they refuse, with our key in it as real ones have it."""
    for status in (400, 401, 403, 404, 413, 422, 429, 500, 503):
        for said in (
            f"Incorrect API key provided: {PROVIDER_KEY}. You can find your key at https://x.",
            "Incorrect API key provided: sk-proj-pl****************WXYZ.",
            "the key ending in WXYZ may not do this",
            f"bad header Authorization: Bearer {PROVIDER_KEY}",
            f"no access with {ODD_PROVIDER_KEY}",
            "can't reach redis://default:planted-url-password@10.0.0.1:6379",
        ):
            code = f"key_{PROVIDER_KEY}" if status == 422 else "bad"
            yield Reply(status=status, error={"message": said, "code": code, "type": said})


@pytest.fixture
def odd() -> Iterator[FakeProvider]:
    with fake_provider() as running:
        yield running


@pytest.fixture
def settings(
    tmp_path: Path, provider: FakeProvider, odd: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("PLANTED_PROVIDER_KEY", PROVIDER_KEY)
    dead = "http://127.0.0.1:9/v1"
    return Settings.model_validate(
        {
            "experts": [
                {"id": "a", "base_url": provider.url, "api_key": "env:PLANTED_PROVIDER_KEY"},
                {"id": "b", "base_url": odd.url, "api_key": ODD_PROVIDER_KEY},
                {"id": "dead", "base_url": dead, "api_key": PROVIDER_KEY},
            ],
            "keys": [
                {"name": "one", "key": CLIENT_KEY, "admin": True},
                {"name": "two", "key": PLAIN_CLIENT_KEY},
            ],
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
            "telemetry": {"otlp_headers": {"authorization": COLLECTOR_KEY}, "key_labels": True},
            "logging": {"level": "debug"},
            # Every failure is to reach its expert, and soon.
            "execution": {"max_retries": 0, "max_wait_s": 0},
            "breaker": {"failures": 1000, "window": 1000, "rate": 1.0, "max_pause_s": 0.001},
            "limits": {"total_s": 3},
            "data_dir": str(tmp_path),
        }
    )


class Seen:
    """Everything that left the process."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.spans = InMemorySpanExporter()
        self.answers: list[str] = []

    def ask(self, client: httpx2.Client, key: str, path: str, **body: Any) -> httpx2.Response:
        answer = client.post(path, json=body, headers={"authorization": f"Bearer {key}"})
        self.answers.append(f"{answer.headers.multi_items()} {answer.text}")
        return answer

    def get(self, client: httpx2.Client, path: str) -> None:
        answer = client.get(path, headers={"x-api-key": CLIENT_KEY})
        self.answers.append(f"{answer.headers.multi_items()} {answer.text}")


@contextmanager
def watched(settings: Settings) -> Iterator[tuple[httpx2.Client, Seen]]:
    seen = Seen()
    gateway = build_gateway(settings, build_experts(settings, {}))
    redactor = gateway.telemetry.redactor
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(seen.spans))
    meters = MeterProvider(shutdown_on_exit=False)
    gateway.telemetry.tracing = Tracing(tracers, meters, {}, Content(True, redactor))
    logs = Logs(settings.logging, redactor, seen.log)
    logs.start()
    try:
        with (
            background_server(create_app(gateway)) as url,
            httpx2.Client(base_url=url, timeout=30) as client,
        ):
            yield client, seen
    finally:
        logs.stop()


def ledger_text(settings: Settings) -> str:
    with opened(settings.ledger_url) as engine, engine.connect() as connection:
        names = [name for name in tables.metadata.tables if name != "key"]
        rows = [connection.execute(text(f"SELECT * FROM {name}")).all() for name in names]  # noqa: S608
    return str(rows)


def drive(client: httpx2.Client, seen: Seen, provider: FakeProvider, odd: FakeProvider) -> None:
    chat = "/v1/chat/completions"
    for stream in (False, True):
        seen.ask(client, CLIENT_KEY, chat, model="a", messages=HELLO, stream=stream)
        seen.ask(client, CLIENT_KEY, chat, model="dead", messages=HELLO, stream=stream)
        for reply in refusals():
            provider.otherwise = odd.otherwise = reply
            seen.ask(client, CLIENT_KEY, chat, model="a", messages=HELLO, stream=stream)
        for expert, key in (("a", CLIENT_KEY), ("b", PLAIN_CLIENT_KEY), ("auto", CLIENT_KEY)):
            seen.ask(client, key, chat, model=expert, messages=HELLO, stream=stream)
        for said in ({"message": f"no {PROVIDER_KEY}", "code": PROVIDER_KEY}, PROVIDER_KEY):
            begun = {"choices": [{"index": 0, "delta": {"content": "one "}}]}
            broken = {"error": said}
            provider.otherwise = Reply(chunks=(begun, broken), whole=broken)
            seen.ask(client, CLIENT_KEY, chat, model="a", messages=HELLO, stream=stream)
        provider.otherwise = Reply("one two three", cut_after=1)
        seen.ask(client, CLIENT_KEY, chat, model="a", messages=HELLO, stream=stream)
        provider.otherwise = Reply()
    seen.ask(client, CLIENT_KEY, "/v1/messages", model="a", messages=HELLO, max_tokens=5)
    seen.ask(client, STRANGERS_KEY, chat, model="a", messages=HELLO)
    seen.ask(client, CLIENT_KEY, chat, model=f"no {PROVIDER_KEY}", messages=HELLO)
    seen.ask(client, CLIENT_KEY, chat, model="a", messages="none")
    logging.getLogger("third.party").debug("headers %s", {"authorization": f"Bearer {CLIENT_KEY}"})
    for path in ("/metrics", "/health/ready", "/v1/models", "/", "/v1/nothing", "/docs"):
        seen.get(client, path)
    for name in ("routers", "config", "experts", "keys", "budgets"):
        seen.get(client, f"/admin/{name}")


def test_planted_secrets_are_found_nowhere(
    settings: Settings, provider: FakeProvider, odd: FakeProvider
) -> None:
    with watched(settings) as (client, seen):
        drive(client, seen, provider, odd)
    spans = "\n".join(span.to_json() for span in seen.spans.get_finished_spans())
    places = {
        "log": seen.log.getvalue(),
        "answers": "\n".join(seen.answers),
        "spans": spans,
        "ledger": ledger_text(settings),
    }
    found = {
        (where, planted) for where, said in places.items() for planted in PLANTED if planted in said
    }
    assert found == set()
    # None of them is empty, and the failures that quoted keys did get there.
    assert all(len(said) > 10_000 for said in places.values())
    assert all("[redacted]" in said for said in places.values())
    assert provider.headers[-1]["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_what_was_planted_is_what_is_known(settings: Settings) -> None:
    known = {PROVIDER_KEY, ODD_PROVIDER_KEY, CLIENT_KEY, PLAIN_CLIENT_KEY, COLLECTOR_KEY}
    assert secrets_of(settings) == known
