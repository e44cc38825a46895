"""A real vLLM server behind a gateway, started once for all tests that need one."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from experts.engines.keeper import Backoff, Timing
from experts.engines.states import EngineState, EngineStatus
from experts.engines.supervisor import Supervisor
from experts.fake_provider import fake_provider
from gateway.local import Endpoint, RunningEngines
from gateway.local_specs import engine_entries, spec_of
from gateway.residency.desk import desk_for
from gateway.residency.first import steward_of
from gateway.running import background_server, make_app
from gateway.settings.root import Settings
from tests.vllm.tiny_llama import make_adapter, make_model

PATIENCE_S = 300
_TRIES = 100
"""Until a gateway has heard of what became of an engine."""
ON_TWO_CORES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0-1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    # To compile a kernel takes a minute, to warm up another: neither is worth it here.
    "VLLM_CPU_CI_ENV": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
ARGS = (
    *("--enforce-eager", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "16"),
    *("--max-lora-rank", "8", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)


@dataclass
class Rig:
    """A gateway with the expert `tiny`, its adapters `law`, `art` and `bad`, and a stand-in.

    Attributes:
        supervisor: Of the vLLM server.
        client: Of the gateway.
        changes: Every state of the server that nobody has looked at.
    """

    supervisor: Supervisor
    client: httpx2.Client
    changes: queue.Queue[EngineState] = field(default_factory=queue.Queue)

    @property
    def state(self) -> EngineState:
        return self.supervisor.state("tiny")

    def expect(self, status: EngineStatus, timeout_s: float = PATIENCE_S) -> EngineState:
        """The next change to that status."""
        while True:
            state = self.changes.get(timeout=timeout_s)
            if state.status is status:
                return state

    def ask(self, model: str, **body: Any) -> httpx2.Response:
        return self.client.post("/v1/chat/completions", json=asked(model, **body))

    def expect_out(self, model: str) -> None:
        """Requests that name an expert are told to come again, as soon as it is known here."""
        assert self._tried(model, lambda answer: answer.status_code == 503).headers["retry-after"]

    def expect_back(self, model: str) -> None:
        """Requests reach it again, as soon as it is known here."""
        self._tried(model, lambda answer: answer.headers.get("x-pointsman-expert") == model)

    def _tried(self, model: str, right: Callable[[httpx2.Response], bool]) -> httpx2.Response:
        answers = (self.ask(model) for _ in range(_TRIES))
        return next(answer for answer in answers if right(answer))

    def text(self, model: str) -> str:
        """What an expert says when nothing is left to chance."""
        answer = self.ask(model)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-pointsman-expert"] == model
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said


def asked(model: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Who goes there?"}]
    return {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0, **body}


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    python = os.environ.get("VLLM_PYTHON")
    if python is None:
        pytest.skip("run `make test-vllm`, which installs vLLM and says where")
    changes: queue.Queue[EngineState] = queue.Queue()
    folder = tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        provider = stack.enter_context(fake_provider())
        settings = _settings(folder, python, provider.url)
        specs = [spec_of(entry, settings) for entry in engine_entries(settings)]
        timing = Timing(backoff=Backoff(first_s=0.0), drain_s=PATIENCE_S)
        desk = stack.enter_context(desk_for(steward_of(settings)))

        def told(state: EngineState) -> None:
            desk.told(state)
            changes.put(state)

        supervisor = stack.enter_context(
            Supervisor(specs, folder / "logs", on_change=told, timing=timing, drain=desk.drain)
        )
        stack.enter_context(desk.looking_after(supervisor))
        url, key = supervisor.base_url("tiny"), supervisor.api_key("tiny")
        endpoint = Endpoint(url, None, key, "tiny")
        endpoints = dict.fromkeys(supervisor.state("tiny").serves, endpoint)
        engines = RunningEngines(endpoints, str(desk.path))
        url = stack.enter_context(background_server(make_app(settings, engines, seed=0)))
        client = stack.enter_context(
            httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        )
        yield Rig(supervisor, client, changes)


def _settings(folder: Path, python: str, stand_in: str) -> Settings:
    adapters = {name: make_adapter(folder / name, seed) for seed, name in enumerate(("law", "art"))}
    tiny = {
        "id": "tiny",
        "kind": "vllm",
        "model": str(make_model(folder / "tiny")),
        "command": [python, "-m", "vllm.entrypoints.openai.api_server", "--model"],
        "args": ARGS,
        "env": ON_TWO_CORES,
        "adapters": {name: str(path) for name, path in adapters.items()}
        | {"bad": str(folder / "nowhere")},
        "max_loras": 2,
        "sleep": True,
        "device": "cpu",
        "tools": True,
    }
    return Settings.model_validate(
        {
            "experts": [tiny, {"id": "stand-in", "base_url": stand_in}],
            "execution": {"fallbacks": {"tiny": ["stand-in"]}, "max_retries": 0},
            "breaker": {"failures": 1, "open_s": 0.05, "max_open_s": 0.05},
            "limits": {"total_s": PATIENCE_S, "idle_s": PATIENCE_S, "whole_s": PATIENCE_S},
            "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
            "data_dir": str(folder),
        }
    )
