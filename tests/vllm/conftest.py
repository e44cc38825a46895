"""A real vLLM server behind a gateway, started once for all tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from experts.fakes.provider import fake_provider
from gateway.settings.root import Settings
from tests.engine_rig import PATIENCE_S, Rig, rigged
from tests.vllm.tiny_llama import make_adapter, make_model

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
# A machine that is busy is no reason to ask somebody else.
PATIENT = (
    *("total_s", "header_s", "first_token_s", "idle_s", "whole_s"),
    *("failover_s", "failover_whole_s"),
)
ARGS = (
    *("--enforce-eager", "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "16"),
    *("--max-lora-rank", "8", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    python = os.environ.get("VLLM_PYTHON")
    if python is None:
        pytest.skip("run `make test-vllm`, which installs vLLM and says where")
    folder = tmp_path_factory.mktemp("vllm")
    with fake_provider() as provider, rigged(_settings(folder, python, provider.url)) as rig:
        yield rig


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
            "limits": dict.fromkeys(PATIENT, PATIENCE_S),
            "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
            "data_dir": str(folder),
        }
    )
