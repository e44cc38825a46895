"""A gateway of remote experts in two processes gains a real model by a reload, and loses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.fakes.provider import FakeProvider
from tests.journeys.test_serve import config_in, serving
from tests.journeys.test_taking_turns import engines_of

pytestmark = pytest.mark.slow
MODEL = {"kind": "packaged", "package": "smollm2-135m-instruct", "id": "smollm2"}


def rewritten(config: Path, url: str, experts: list[dict[str, Any]]) -> None:
    """Put these experts in force, and wait until each process serves them."""
    config.write_text(json.dumps({**json.loads(config.read_text()), "experts": experts}))
    answer = httpx2.post(f"{url}/admin/config/reload", timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    number = answer.json()["number"]
    assert any(loaded(url) == [number] * 2 for _ in range(1000))


def loaded(url: str) -> list[int]:
    """The number of the configuration that each process serves."""
    told = httpx2.get(f"{url}/admin/config", timeout=60, trust_env=False).json()
    return [each["number"] for each in told["processes"]]


def answers(url: str, count: int) -> list[httpx2.Response]:
    """The model's, over a new connection each, so that both processes are asked."""
    message = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": "smollm2", "messages": [message], "max_tokens": 4}
    path = f"{url}/v1/chat/completions"
    return [httpx2.post(path, json=body, timeout=60, trust_env=False) for _ in range(count)]


def test_a_gateway_started_without_engines_gains_and_loses_one(
    tmp_path: Path, provider: FakeProvider
) -> None:
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    config = config_in(tmp_path, provider)
    remote = json.loads(config.read_text())["experts"]
    with serving(config, "--workers", "2") as (url, server):
        assert engines_of(server) == []
        assert {each.status_code for each in answers(url, 8)} == {404}
        rewritten(config, url, [*remote, MODEL])
        told = answers(url, 12)
        assert [each.status_code for each in told] == [200] * 12, told[-1].text
        assert all(each.json()["choices"][0]["message"]["content"] for each in told)
        assert len(engines_of(server)) == 1
        rewritten(config, url, remote)
        assert {each.status_code for each in answers(url, 8)} == {404}
        assert any(loaded(url) and engines_of(server) == [] for _ in range(1000))
