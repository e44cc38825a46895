"""Two real models and memory for one: both answer through the endpoint, and they take turns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.ports import free_port

pytestmark = pytest.mark.slow

CONFIG = """
data_dir: {folder}
ledger: {{url: "sqlite:///{folder}/ledger.db"}}
server: {{workers: 2}}
experts:
  - {{kind: packaged, package: smollm2-135m-instruct, id: smollm2}}
  - {{kind: packaged, package: gemma-3-270m, id: gemma}}
residency:
  memory_gb: 0.5
  window_s: 3
  experts:
    smollm2: {{memory_gb: 0.4}}
    gemma: {{memory_gb: 0.5}}
"""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    config = folder / "pointsman.yaml"
    config.write_text(CONFIG.format(folder=folder))
    port = free_port()
    words = ["serve", "--config", str(config), "--port", str(port)]
    command = [sys.executable, "-m", "gateway.cli.main", *words]
    log = folder / "serve.log"
    with log.open("w") as told, subprocess.Popen(command, stderr=told, text=True) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 180
            while time.monotonic() < deadline and not _is_up(url):
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
            yield url, server
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def _is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/ready", trust_env=False).is_success
    except httpx2.TransportError:
        return False


def engines_of(server: subprocess.Popen[Any]) -> list[int]:
    """Processes that serve a model, below `server`."""
    children = Path(f"/proc/{server.pid}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"llama_child" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def ask(client: httpx2.AsyncClient, expert: str) -> str:
    body = {
        "model": expert,
        "max_tokens": 8,
        "temperature": 0,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
    }
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


async def all_turns(url: str, server: subprocess.Popen[str]) -> list[int]:
    """Ask both, alternately and together; how many engines there were at each look."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(len(await anyio.to_thread.run_sync(engines_of, server)))
            await anyio.sleep(0.05)

    async with (
        httpx2.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client,
        anyio.create_task_group() as watching,
    ):
        watching.start_soon(look)
        for expert in ("smollm2", "gemma"):
            assert await ask(client, expert)
        async with anyio.create_task_group() as together:
            for expert in ("gemma", "smollm2", "gemma", "smollm2"):
                together.start_soon(ask, client, expert)
        watching.cancel_scope.cancel()
    return seen


def test_both_answer_and_never_both_are_awake(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    with serving(tmp_path) as (url, server):
        assert max(anyio.run(all_turns, url, server)) == 1
        with httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as admin:
            told = admin.get("/admin/experts").json()["experts"]
            (awake,) = [each["id"] for each in told if each["engine"]["status"] == "ready"]
            assert admin.post(f"/admin/experts/{awake}/sleep").json()["engine"]["tier"] == "disk"
            assert engines_of(server) == []
            assert admin.post("/admin/experts/smollm2/stop").json()["engine"]["status"] == "stopped"
            refused = admin.post("/admin/experts/smollm2/wake")
            assert (refused.status_code, refused.json()["error"]["message"]) == (
                409,
                "smollm2 is stopped: start it first",
            )
            assert admin.post("/admin/experts/nobody/wake").status_code == 404
            assert admin.post("/admin/experts/smollm2/start").json()["engine"]["status"] == "ready"
            engines = engines_of(server)
            assert len(engines) == 1
    assert server.returncode in (0, -signal.SIGTERM)
    deadline = time.monotonic() + 60
    while any(_command(pid) for pid in engines):
        assert time.monotonic() < deadline
        time.sleep(0.1)
