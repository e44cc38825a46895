"""Entries of experts on Ray clusters, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.ray_serve import RaySpec
from experts.fakes.server import serving
from gateway.engines.local import local_engines
from gateway.engines.specs import spec_of
from gateway.reload.changes import needs_restart
from gateway.running import background_server, make_app
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration
from gateway.settings.local import RayExpert
from gateway.settings.root import Settings
from tests.experts.engines.fake_ray import FakeRay

LLM = """
experts:
  - id: qwen
    kind: ray
    dashboard: http://10.0.0.9:8265
    token: env:RAY_TEST_TOKEN
    env: {HF_TOKEN: "env:RAY_TEST_TOKEN"}
    base_url: http://10.0.0.9:8000/qwen/v1
    args:
      llm_configs:
        - model_loading_config: {model_id: qwen, model_source: Qwen/Qwen3-8B}
          deployment_config: {num_replicas: 2, health_check_period_s: 1}
"""


def settings_of(text: str = LLM) -> Settings:
    return read_configuration(text, "config.yaml").settings


def spec_in(settings: Settings) -> RaySpec:
    entry = settings.experts[0]
    assert isinstance(entry, RayExpert)
    spec = spec_of(entry, settings)
    assert isinstance(spec, RaySpec)
    return spec


def test_an_entry_becomes_an_application_of_ray_serve_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TEST_TOKEN", "sesame")
    spec = spec_in(settings_of())
    assert spec.token == "sesame"
    assert "sesame" not in repr(spec)
    assert spec.model == "qwen"
    assert spec.application == {
        "name": "qwen",
        "route_prefix": "/qwen",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {
            "llm_configs": [
                {
                    "model_loading_config": {"model_id": "qwen", "model_source": "Qwen/Qwen3-8B"},
                    "deployment_config": {"num_replicas": 2, "health_check_period_s": 1},
                }
            ]
        },
        "runtime_env": {"env_vars": {"HF_TOKEN": "sesame", "POINTSMAN_EXPERT": "qwen"}},
    }


@pytest.mark.parametrize(
    ("base_url", "said", "listen"),
    [
        ("http://localhost:8000/a/v1", {}, {"host": "127.0.0.1", "port": 8000}),
        ("http://127.0.0.1:8001/a/v1", {}, {"host": "127.0.0.1", "port": 8001}),
        ("http://10.0.0.9:8000/a/v1", {}, {}),
        ("http://10.0.0.9:8000/a/v1", {"host": "10.0.0.9"}, {"host": "10.0.0.9"}),
    ],
)
def test_serve_is_only_started_for_all_to_reach_where_that_is_said(
    base_url: str, said: dict[str, Any], listen: dict[str, Any]
) -> None:
    entry = {"id": "a", "kind": "ray", "dashboard": "http://h:8265", "base_url": base_url}
    settings = Settings.model_validate({"experts": [{**entry, "http_options": said}]})
    assert spec_in(settings).listen == listen


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ("base_url: 'http://h/a'", "must end with /v1"),
        ("base_url: 'http://169.254.169.254/v1'", "link-local"),
        ("dashboard: 'ray://h:10001'", "must begin with http"),
        ("options: {route_prefix: /b}", "can't say route_prefix: the entry does"),
    ],
)
def test_what_can_not_be_is_refused(changed: str, fault: str) -> None:
    entry = {"dashboard": "'http://h:8265'", "base_url": "'http://h/a/v1'"}
    key, _, value = changed.partition(": ")
    fields = ", ".join(f"{k}: {v}" for k, v in {**entry, key: value}.items())
    with pytest.raises(FaultyConfigError, match=fault):
        settings_of(f"experts: [{{id: a, kind: ray, {fields}}}]")


def test_what_is_declared_needs_a_restart_to_change() -> None:
    changed = settings_of(LLM.replace("num_replicas: 2", "num_replicas: 3"))
    assert list(needs_restart(settings_of(), changed))


def test_it_is_asked_and_moved_like_any_engine(tmp_path: Path) -> None:
    with serving(FakeRay()) as fake:
        entry = {"id": "tiny", "kind": "ray", "dashboard": f"{fake.dashboard}/"}
        entry |= {"base_url": f"{fake.dashboard}/tiny/v1"}
        ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
        settings = Settings.model_validate(
            {"experts": [entry], "data_dir": tmp_path, "ledger": ledger}
        )
        with (
            local_engines(settings) as engines,
            background_server(make_app(settings, engines)) as url,
            httpx2.Client(base_url=url, timeout=30, trust_env=False) as client,
        ):
            body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
            answer = client.post("/v1/chat/completions", json=body).json()
            assert answer["choices"][0]["message"]["content"] == "tiny says hello"
            client.post("/admin/experts/tiny/sleep").raise_for_status()
            assert not fake.applications, "it has no lighter sleep"
            client.post("/admin/experts/tiny/wake").raise_for_status()
            assert fake.applications["tiny"]["status"] == "RUNNING"
