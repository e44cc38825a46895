"""Entries of vLLM experts and their adapters, and what comes of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.vllm import VllmSpec
from experts.fakes.server import serving
from experts.fakes.vllm import FakeVllm
from gateway.checking import find_faults
from gateway.engines.local import EngineEndpoint, local_engines
from gateway.engines.specs import spec_of
from gateway.execution.traffic import Traffic
from gateway.pool.pool import build_experts
from gateway.reload.changes import needs_restart
from gateway.running import background_server, make_app
from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration
from gateway.settings.local import VllmExpert
from gateway.settings.root import Settings

TEXT = """
experts:
  - id: tiny
    kind: vllm
    model: /models/tiny
    venv: /opt/vllm
    args: [--max-model-len, "512"]
    env: {TOKEN: "env:VLLM_TEST_TOKEN"}
    context_tokens: 512
    tools: true
    adapters: {law: /adapters/law}
  - {id: art, kind: adapter, engine: tiny, path: /adapters/art, description: paints}
"""


def settings_of(text: str = TEXT) -> Settings:
    return read_configuration(text, "config.yaml").settings


def spec_in(settings: Settings) -> VllmSpec:
    entry = settings.experts[0]
    assert isinstance(entry, VllmExpert)
    spec = spec_of(entry, settings)
    assert isinstance(spec, VllmSpec)
    return spec


def test_an_entry_becomes_a_server_with_all_its_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_TOKEN", "t")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    spec = spec_in(settings_of())
    assert spec.command == ("/opt/vllm/bin/vllm", "serve")
    assert spec.args == ("--max-model-len", "512")
    assert spec.serves == ("tiny", "art", "law")
    assert spec.adapters == {"art": "/adapters/art", "law": "/adapters/law"}
    assert spec.env["TOKEN"] == "t"
    assert spec.env["PATH"] == os.environ["PATH"]
    assert "OPENAI_API_KEY" not in spec.env


def test_its_experts_ask_the_server_by_their_own_names() -> None:
    endpoint = EngineEndpoint("http://127.0.0.1:1/v1", api_key="sesame")
    experts = build_experts(settings_of(), dict.fromkeys(("tiny", "law", "art"), endpoint))
    assert list(experts) == ["tiny", "art", "law"]
    assert all(expert.card.local for expert in experts.values())
    assert [experts[name].card.privacy for name in experts] == ["private", "public", "private"]
    assert experts["law"].card.tools
    assert experts["law"].card.context_tokens == 512
    assert experts["art"].card.description == "paints"
    assert not experts["art"].card.tools, "its own entry says what it can do"


def test_they_are_called_on_the_terms_of_any_model_behind_a_url() -> None:
    entry: dict[str, Any] = {"id": "tiny", "kind": "vllm", "model": "m", "adapters": {"law": "p"}}
    entry |= {"max_concurrency": 3, "hedge_after_s": 2, "catalogue": "openai/gpt-4o-mini"}
    settings = Settings.model_validate({"experts": [entry]})
    traffic = Traffic.of(settings)
    endpoint = EngineEndpoint("http://127.0.0.1:1/v1")
    experts = build_experts(settings, dict.fromkeys(("tiny", "law"), endpoint))
    for name in ("tiny", "law"):
        assert traffic.slots.limits(name)
        assert traffic.hedge_s[name] == 2
        card = experts[name].card
        assert (card.prices and card.prices.input, card.context_tokens) == (0.15, 128_000)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{id: a, kind: vllm}", "needs a `model`, or the `base_url` of a server"),
        ("{id: a, kind: vllm, model: m, venv: v, command: [x]}", "needs either `venv` or"),
        ("{id: a, kind: vllm, base_url: 'http://h/v1', args: [x]}", "can't be given to a server"),
        ("{id: a, kind: vllm, model: --help}", "may not begin with '-'"),
        ("{id: a, kind: vllm, base_url: 'http://169.254.169.254/v1'}", "link-local"),
        ("{id: a, kind: adapter, engine: b, path: p}", "'b' is no vllm expert's id"),
        ("{id: a, kind: vllm, model: m, adapters: {a: p}}", "the id 'a' is given twice"),
    ],
)
def test_what_can_not_be_is_refused(entry: str, fault: str) -> None:
    with pytest.raises(FaultyConfigError, match=fault):
        settings_of(f"experts: [{entry}]")


def test_a_program_that_is_not_there_is_a_fault_before_anything_starts() -> None:
    configuration = read_configuration(TEXT.replace("env:VLLM_TEST_TOKEN", "t"), "config.yaml")
    assert "there is no program '/opt/vllm/bin/vllm'" in str(find_faults(configuration)[0])


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ("model: /models/tiny", "model: /models/other", True),
        ("law: /adapters/law", "law: /adapters/new", True),
        ("law: /adapters/law", "tax: /adapters/tax", False),
        ("{law: /adapters/law}", "{}\n    ready_s: 5", True),
        ("description: paints", "description: draws", False),
        ("context_tokens: 512", "max_concurrency: 2", False),
    ],
)
def test_what_a_server_is_started_with_needs_a_restart(
    before: str, after: str, refused: bool
) -> None:
    changed = settings_of(TEXT.replace(before, after))
    problems = list(needs_restart(settings_of(), changed))
    assert bool(problems) is refused


def test_a_server_without_room_for_adapters_takes_none_later() -> None:
    for room, fits in (("", False), (", max_loras: 1", True)):
        entry = f"id: tiny, kind: vllm, model: m{room}"
        old = settings_of(f"experts: [{{{entry}}}]")
        new = settings_of(f"experts: [{{{entry}, adapters: {{law: p}}}}]")
        problems = [why for _, why in needs_restart(old, new)]
        assert ["takes none" in why for why in problems] == [True] * (not fits)


def test_a_server_that_runs_is_followed(tmp_path: Path) -> None:
    with serving(FakeVllm("there", "sesame")) as fake:
        entry: dict[str, Any] = {"id": "here", "kind": "vllm", "base_url": fake.url}
        entry |= {"model": "there", "api_key": "sesame", "adapters": {"law": "/adapters/law"}}
        settings = Settings.model_validate({"experts": [entry], "data_dir": tmp_path})
        with local_engines(settings) as engines:
            endpoints = engines.endpoints
            assert endpoints["here"] == endpoints["law"]
            assert endpoints["here"].base_url == fake.url
            assert endpoints["here"].api_key == "sesame"
            assert fake.adapters == {"law": "/adapters/law"}


def test_adapters_come_and_go_by_themselves(tmp_path: Path) -> None:
    """An adapter that its server lacks is out of service, with the reason; the rest serves."""
    with serving(FakeVllm("tiny")) as fake:
        fake.broken.add("/adapters/bad")
        entry: dict[str, Any] = {"id": "tiny", "kind": "vllm", "base_url": fake.url}
        entry["adapters"] = {"law": "/adapters/law", "bad": "/adapters/bad"}
        ledger = {"url": f"sqlite:///{tmp_path}/ledger.db"}
        settings = Settings.model_validate(
            {"experts": [entry], "data_dir": tmp_path, "ledger": ledger}
        )
        with (
            local_engines(settings) as engines,
            background_server(make_app(settings, engines)) as url,
            httpx2.Client(base_url=url, timeout=30, trust_env=False) as client,
        ):

            def ask(model: str) -> httpx2.Response:
                body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
                return client.post("/v1/chat/completions", json=body)

            assert ask("law").json()["choices"][0]["message"]["content"] == "law says hello"
            assert ask("bad").status_code == 503
            assert "No adapter found" in ask("bad").json()["error"]["message"]
            client.post("/admin/experts/law/stop").raise_for_status()
            assert fake.adapters == {}
            assert ask("law").status_code == 503
            assert "it is stopped" in ask("law").json()["error"]["message"]
            assert ask("tiny").status_code == 200
            client.post("/admin/experts/law/start").raise_for_status()
            assert ask("law").status_code == 200
            client.post("/admin/experts/tiny/stop").raise_for_status()
            refused = client.post("/admin/experts/law/start")
            assert refused.status_code == 409
            assert "wake or start it first" in refused.json()["error"]["message"]
