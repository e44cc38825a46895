"""Two real vLLM servers and room for one of them awake, and an adapter that comes by a reload.

A CPU build goes through all the steps of sleeping and frees nothing: room is what is said of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.engines.local import local_engines
from gateway.running import background_server, launched, serving_app
from gateway.settings.load import load_configuration
from tests.engine_rig import PATIENCE_S, asked
from tests.vllm.conftest import ARGS, ON_TWO_CORES, PATIENT
from tests.vllm.tiny_llama import make_adapter, make_model

pytestmark = pytest.mark.vllm


@dataclass
class Turns:
    """A gateway with the experts `one` and `two`, and its configuration's file."""

    client: httpx2.Client
    path: Path

    def text(self, model: str) -> str:
        answer = self.client.post("/v1/chat/completions", json=asked(model))
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pointsman-expert"] == model
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said

    def engines(self, what: str) -> dict[str, Any]:
        told = self.client.get("/admin/experts").json()["experts"]
        return {each["engine"]["name"]: each["engine"][what] for each in told}


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turns]:
    python = os.environ.get("VLLM_PYTHON")
    if python is None:
        pytest.skip("run `make test-vllm`, which installs vLLM and says where")
    folder = tmp_path_factory.mktemp("turns")
    path = folder / "pointsman.yaml"
    path.write_text(json.dumps(_settings(folder, python)))
    configuration = load_configuration(path)
    with ExitStack() as stack:
        engines = stack.enter_context(local_engines(configuration.settings))
        run = stack.enter_context(launched(path, configuration, engines, {}, None))
        url = stack.enter_context(background_server(serving_app(run)))
        client = httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        yield Turns(stack.enter_context(client), path)


def _settings(folder: Path, python: str) -> dict[str, Any]:
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model"]
    served: dict[str, Any] = {"kind": "vllm", "command": command, "args": ARGS}
    served |= {"env": ON_TWO_CORES, "device": "cpu", "sleep": True}
    return {
        "experts": [
            {**served, "id": name, "model": str(make_model(folder / name, seed)), **more}
            for seed, (name, more) in enumerate({"one": {"max_loras": 1}, "two": {}}.items())
        ],
        "residency": {
            "memory_gb": 1,
            "window_s": 0.5,
            "stay": 0,
            "wait_s": PATIENCE_S,
            "experts": {"one": {"memory_gb": 0.6}, "two": {"memory_gb": 0.6}},
        },
        "limits": dict.fromkeys(PATIENT, PATIENCE_S),
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "data_dir": str(folder),
    }


def test_they_take_turns_and_all_are_answered(turns: Turns) -> None:
    said = {name: turns.text(name) for name in ("one", "two")}
    assert said["one"] != said["two"]
    for name in ("one", "two") * 2:
        assert turns.text(name) == said[name], "its weights are what they were"
        other = "two" if name == "one" else "one"
        assert turns.engines("status") == {name: "ready", other: "asleep"}
        assert turns.engines("level") == {name: 0, other: 1}
    # Whoever is awake at the start woke for that.
    assert turns.engines("wakes") == {"one": 3, "two": 3}
    names = ("one", "two") * 6
    with ThreadPoolExecutor(len(names)) as threads:
        assert list(threads.map(turns.text, names)) == [said[name] for name in names]
    # Each by itself would have woken one. Who is late may have to wait for another turn.
    assert 7 <= sum(turns.engines("wakes").values()) <= 11, "those that wait begin together"
    assert turns.engines("restarts") == {"one": 0, "two": 0}


def test_an_adapter_comes_and_goes_by_a_reload(turns: Turns) -> None:
    plain = turns.text("one")
    before = turns.path.read_text()
    settings = json.loads(before)
    law = {"kind": "adapter", "id": "law", "engine": "one"}
    folder = turns.path.parent
    settings["experts"].append({**law, "path": str(folder / "nowhere")})
    turns.path.write_text(json.dumps(settings))
    refused = turns.client.post("/admin/config/reload")
    assert refused.status_code == 409
    assert "No adapter found" in refused.json()["error"]["message"]
    settings["experts"][-1]["path"] = str(make_adapter(folder / "law", 3))
    turns.path.write_text(json.dumps(settings))
    assert turns.client.post("/admin/config/reload").json()["number"] == 2
    assert turns.text("law") != plain
    turns.path.write_text(before)
    assert turns.client.post("/admin/config/reload").json()["number"] == 3
    assert turns.client.post("/v1/chat/completions", json=asked("law")).status_code == 404
    assert turns.text("one") == plain
