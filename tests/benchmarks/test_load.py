"""The provider and the client that gateways are measured with, one against the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from benchmarks.gateways import SCENARIOS, Scenario, build
from tests.ports import free_port

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
PACE = "first=2000us every=500us tokens=100"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("client", tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = build("provider", tmp_path_factory.mktemp("provider"))
    port = free_port()
    with subprocess.Popen([program, str(port)]) as process:
        with httpx2.Client(transport=httpx2.HTTPTransport(retries=20)) as asking:
            asking.get(f"http://127.0.0.1:{port}/health")
        yield port
        process.terminate()


def asked(
    client: Path, port: int, body: bytes, tmp_path: Path, *, rate: float = 0, tokens: int = 0
) -> dict[str, float]:
    (tmp_path / "body").write_bytes(body)
    numbers = ["4", "1", "0", str(rate), str(tokens)]
    words = [str(client), str(port), "/v1/chat/completions", str(tmp_path / "body"), *numbers]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def failures(said: dict[str, float]) -> tuple[float, float, float]:
    return said["refused"], said["broken"], said["cut"]


def test_the_provider_speaks_plainly(port: int) -> None:
    answer = httpx2.post(f"http://127.0.0.1:{port}/v1/x", content=SCENARIOS[0].body("mock-model"))
    assert len(SCENARIOS[0].body("mock-model")) in range(850, 1100)
    assert len(answer.content) in range(850, 1100)
    assert "quince" in answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["usage"]["total_tokens"] == 360


def test_the_provider_streams_as_many_tokens_as_it_is_told(port: int) -> None:
    body = Scenario("s", 1, 1, pace="first=2000us every=500us tokens=7").body("mock-model")
    with httpx2.stream("POST", f"http://127.0.0.1:{port}/v1/x", content=body) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    words = [event["choices"][0]["delta"].get("content") for event in events[:-2]]
    assert words == [" quince"] * 7
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["total_tokens"] == 300


def test_every_plain_answer_is_counted(client: Path, port: int, tmp_path: Path) -> None:
    said = asked(client, port, SCENARIOS[0].body("mock-model"), tmp_path)
    assert said["answered"] > 4
    assert failures(said) == (0, 0, 0)
    assert 0 < said["first_p50_us"] <= said["p50_us"] <= said["p99_us"]


def test_a_fixed_rate_is_kept(client: Path, port: int, tmp_path: Path) -> None:
    said = asked(client, port, SCENARIOS[0].body("mock-model"), tmp_path, rate=100)
    # A second: one request each 10 ms, the last of which may still be under way.
    assert 0 < said["answered"] <= 101
    assert failures(said) == (0, 0, 0)


def test_streams_are_read_whole(client: Path, port: int, tmp_path: Path) -> None:
    body = Scenario("s", 4, 1, pace=PACE).body("mock-model")
    said = asked(client, port, body, tmp_path, tokens=100)
    assert said["answered"] > 0
    assert failures(said) == (0, 0, 0)
    assert said["first_p50_us"] >= 2000
    assert said["p50_us"] >= 2000 + 99 * 500


def test_a_stream_that_lacks_tokens_is_no_answer(client: Path, port: int, tmp_path: Path) -> None:
    body = Scenario("s", 4, 1, pace=PACE).body("mock-model")
    said = asked(client, port, body, tmp_path, tokens=101)
    assert said["answered"] == 0
    assert said["cut"] > 0
