"""Local engines as experts of the gateway: started, measured, priced, asked, handed on."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import httpx2
import pytest

from experts.pricing import Rates, prices_from_rates
from gateway.cli.endpoint import running_gateway
from gateway.engines.local import EngineEndpoint, plain_endpoints, read_endpoints
from gateway.pool.pool import build_experts
from gateway.settings.root import Settings

RATES = Rates(140.0, 70.0, date(2026, 1, 2))


def test_endpoints_survive_the_way_to_a_worker() -> None:
    endpoints = {"a": EngineEndpoint("http://127.0.0.1:1/v1", RATES)}
    assert read_endpoints(json.loads(json.dumps(plain_endpoints(endpoints)))) == endpoints


def test_a_packaged_expert_is_priced_by_its_speed_and_hour() -> None:
    settings = Settings()
    endpoints = {
        name: EngineEndpoint("http://127.0.0.1:1/v1", RATES) for name in ("smollm2", "gemma")
    }
    experts = build_experts(settings, endpoints)
    card = experts["smollm2"].card
    assert card.prices == prices_from_rates(RATES, 0.05)
    assert card.prices is not None
    assert card.prices.output == pytest.approx(0.05 / 3600 / 70 * 1e6)
    assert "2026-01-02" in card.prices.source
    assert card.prompt is None
    assert experts["gemma"].card.prompt is not None
    assert experts["calculator"].card.prices is not None


@pytest.mark.slow
def test_real_models_answer_through_the_gateway(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "ledger": {"url": f"sqlite:///{tmp_path}/ledger.db"}}
    )
    with (
        running_gateway(settings, seed=0) as url,
        httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as client,
    ):
        for expert, question, word in (
            ("smollm2", "What is the capital of Peru?", "Lima"),
            ("gemma", "What is the capital of France?", "Paris"),
            ("calculator", "What is 17 * 23?", "391"),
        ):
            body = {
                "model": expert,
                "max_tokens": 12,
                "temperature": 0,
                "messages": [{"role": "user", "content": question}],
            }
            answer = client.post("/v1/chat/completions", json=body)
            assert word in answer.json()["choices"][0]["message"]["content"]
            cost = float(answer.headers["x-pointsman-cost-usd"])
            assert (cost == 0) is (expert == "calculator")
