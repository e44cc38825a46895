"""The real `vllm-router` as the URL of an expert, in front of two pretended vLLM servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from gateway.engines.local import NO_ENGINES
from gateway.running import background_server, make_app
from gateway.settings.root import Settings
from tests.engine_rig import asked
from tests.ports import free_port

pytestmark = pytest.mark.vllm


@contextmanager
def router(servers: list[FakeVllm], log: Path) -> Iterator[str]:
    """It answers as soon as the servers behind it do."""
    program = Path(os.environ.get("VLLM_PYTHON", "")).with_name("vllm-router")
    if not program.exists():
        pytest.skip("run `make test-vllm`, which installs vllm-router")
    port, urls = free_port(), [fake.url.removesuffix("/v1") for fake in servers]
    command = [str(program), "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls", *urls]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            transport = httpx2.HTTPTransport(retries=10)
            with httpx2.Client(transport=transport, timeout=60) as client:
                client.get(f"http://127.0.0.1:{port}/health").raise_for_status()
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def test_it_chooses_where_it_is_the_url(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(FakeVllm("m"))) for _ in range(2)]
        url = stack.enter_context(router(servers, tmp_path / "router.log"))
        settings = {
            "experts": [{"id": "routed", "provider": "vllm", "model": "m", "base_url": url}],
            "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"},
            "data_dir": tmp_path,
        }
        app = make_app(Settings.model_validate(settings), NO_ENGINES)
        base = stack.enter_context(background_server(app))
        client = stack.enter_context(httpx2.Client(base_url=base, timeout=30, trust_env=False))
        for stream in (False, True, False, True):
            answer = client.post("/v1/chat/completions", json=asked("routed", stream=stream))
            assert answer.status_code == 200, answer.text
            assert "hello" in answer.text
            assert answer.text.rstrip().endswith("[DONE]") is stream
        assert all(fake.tokens for fake in servers)
