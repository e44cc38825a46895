"""Engines and adapters that come and go by a reload."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from experts.fakes.provider import FakeProvider
from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from tests.gateway.reload.conftest import Running, Start, expert

SERVER = Path(__file__).parents[2] / "experts" / "engines" / "fake_vllm_server.py"
_TRIES = 400


def there(fake: FakeVllm, **adapters: str) -> dict[str, Any]:
    """A server that runs already."""
    entry = {"id": "tiny", "kind": "vllm", "base_url": fake.url, "adapters": adapters}
    return {**entry, "ready_s": 10}


def ours(name: str, *command: str, **fields: Any) -> dict[str, Any]:
    """A server that the gateway runs."""
    command = command or (sys.executable, str(SERVER))
    return {"id": name, "kind": "vllm", "model": "m", "command": command, "device": "cpu", **fields}


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    with serving(FakeVllm("tiny")) as server:
        yield server


def said(running: Running, model: str) -> str:
    answer = running.ask(model)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


async def comes_true(sought: Callable[[], bool]) -> bool:
    for _ in range(_TRIES):
        if sought():
            return True
        await anyio.sleep(0.02)
    return False


def test_adapters_come_and_go_while_their_server_runs(start: Start, fake: FakeVllm) -> None:
    fake.broken.add("/bad")
    running = start(experts=[there(fake, law="/law")])
    other = running.another()
    assert said(running, "law") == "law says hello"
    answer = running.reload(experts=[there(fake, law="/law", art="/art")])
    assert answer.status_code == 200, answer.text
    assert said(running, "art") == "art says hello"
    assert anyio.run(comes_true, lambda: other.ask("art").status_code == 200), "it follows"
    # What can't be had as a whole changes nothing.
    answer = running.reload(experts=[there(fake, law="/law", art="/art", bad="/bad", tax="/tax")])
    assert answer.status_code == 409
    assert "No adapter found for /bad" in answer.json()["error"]["message"]
    assert anyio.run(comes_true, lambda: fake.adapters == {"law": "/law", "art": "/art"})
    assert running.config()["number"] == 2
    assert running.ask("tax").status_code == 404
    assert said(running, "law") == "law says hello"
    assert running.reload(experts=[there(fake, art="/art")]).status_code == 200
    assert running.ask("law").status_code == 404
    assert anyio.run(comes_true, lambda: fake.adapters == {"art": "/art"})
    assert said(running, "art") == "art says hello"
    assert running.client.post("/admin/config/rollback").status_code == 200
    assert said(running, "law") == "law says hello"


def test_servers_come_and_go_and_lose_no_request(start: Start, fake: FakeVllm) -> None:
    running = start(experts=[there(fake)])
    slow = ours("two", args=["--pace=0.2"])
    assert running.reload(experts=[there(fake), slow]).status_code == 200
    assert said(running, "two") == "two says hello"
    assert {one["id"]: one["engine"]["status"] for one in running.experts()} == {
        "tiny": "ready",
        "two": "ready",
    }
    source = running.app.state.reloader.source
    place = source.endpoints(running.gateway.settings)["two"]
    body = {"model": "two", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with running.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if "content" in line)
        assert running.reload(experts=[there(fake)]).status_code == 200
        rest = "\n".join(lines)
    assert '"two"' in first
    assert rest.rstrip().endswith("[DONE]"), "it ends when its calls are over"

    def ended() -> bool:
        try:
            httpx2.get(place.base_url)
        except httpx2.TransportError as error:
            # One that is just ending may still take a connection, and reset it.
            return isinstance(error, httpx2.ConnectError)
        return False

    assert anyio.run(comes_true, ended)
    assert running.ask("two").status_code == 404
    assert said(running, "tiny") == "tiny says hello"


def test_a_gateway_without_engines_gains_its_first_and_loses_its_last(
    start: Start, provider: FakeProvider
) -> None:
    remote = expert("a", provider.url)
    running = start(experts=[remote])
    other = running.another()
    assert running.experts()[0]["engine"] is None
    broken = ours("broken", sys.executable, "-c", "raise SystemExit(3)")
    answer = running.reload(experts=[remote, ours("two"), broken])
    assert answer.status_code == 409
    assert "ended with exit code 3" in answer.json()["error"]["message"]
    assert running.ask("two").status_code == 404
    for _ in range(2):
        assert running.reload(experts=[remote, ours("two")]).status_code == 200
        assert said(running, "two") == "two says hello"
        assert anyio.run(comes_true, lambda: other.ask("two").status_code == 200), "it follows"
        assert running.reload(experts=[remote]).status_code == 200
        assert running.ask("two").status_code == 404
        assert anyio.run(comes_true, lambda: other.ask("two").status_code == 404), "it follows"
    assert running.ask("a").status_code == 200


def test_a_server_that_does_not_come_up_changes_nothing(start: Start, fake: FakeVllm) -> None:
    running = start(experts=[there(fake)])
    broken = ours("broken", sys.executable, "-c", "raise SystemExit(3)")
    answer = running.reload(experts=[there(fake, law="/law"), broken])
    assert answer.status_code == 409
    assert "ended with exit code 3" in answer.json()["error"]["message"]
    assert fake.adapters == {}
    assert running.config()["number"] == 1
    assert [one["id"] for one in running.experts()] == ["tiny"]
    assert 'engine="broken"' not in running.client.get("/metrics").text
    # An expert elsewhere can have a name that an engine had.
    elsewhere = {"id": "tiny", "base_url": fake.url}
    assert running.reload(experts=[elsewhere, ours("two")]).status_code == 200
    assert said(running, "tiny") == "tiny says hello"
    assert running.experts()[0]["engine"] is None
