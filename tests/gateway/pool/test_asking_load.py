"""Several vLLM servers of one expert, which say how busy they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from gateway.engines.local import NO_ENGINES
from gateway.running import background_server, make_app
from gateway.settings.root import Settings

_TRIES = 500


@pytest.fixture
def servers() -> Iterator[list[FakeVllm]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(FakeVllm("m", "sesame"))) for _ in range(2)]


@pytest.fixture
def client(servers: list[FakeVllm], tmp_path: Path) -> Iterator[httpx2.Client]:
    expert = {"id": "m", "provider": "vllm", "base_urls": [fake.url for fake in servers]}
    settings = {
        "experts": [{**expert, "api_key": "sesame"}],
        "balance": {"load_s": 0.01},
        "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
        "data_dir": tmp_path,
    }
    app = make_app(Settings.model_validate(settings), NO_ENGINES)
    with (
        background_server(app) as url,
        httpx2.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        yield client


def told(client: httpx2.Client) -> list[tuple[int, int]]:
    """What is known of each server: requests of others, and those that wait."""
    [expert] = client.get("/admin/experts").json()["experts"]
    return [(one["others"], one["waiting"]) for one in expert["endpoints"]]


def until_told(client: httpx2.Client, wanted: list[tuple[int, int]]) -> None:
    assert any(told(client) == wanted for _ in range(_TRIES)), told(client)


def asked_of(client: httpx2.Client, servers: list[FakeVllm]) -> list[int]:
    """How many of six requests each server gets."""
    before = [fake.tokens for fake in servers]
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(6):
        client.post("/v1/chat/completions", json=body).raise_for_status()
    return [(fake.tokens - tokens) // 3 for fake, tokens in zip(servers, before, strict=True)]


def test_calls_go_where_fewest_wait_as_long_as_that_is_so(
    client: httpx2.Client, servers: list[FakeVllm]
) -> None:
    first, second = servers
    first.running, first.waiting = 4, 2
    until_told(client, [(6, 2), (0, 0)])
    assert asked_of(client, servers) == [0, 6]
    first.running, first.waiting = 0, 0
    second.running = 9
    until_told(client, [(0, 0), (9, 0)])
    assert asked_of(client, servers) == [6, 0]
    # A key that was changed there ends what is known.
    second.api_key = "other"
    until_told(client, [(0, 0), (0, 0)])
