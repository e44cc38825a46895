"""What engine an expert's entry stands for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from experts.engines.base import EngineSpec
from experts.engines.llama import LlamaSpec
from experts.engines.vllm import VllmSpec
from experts.packaged import PACKAGED, packaged_model
from gateway.settings.base import secret
from gateway.settings.local import AdapterExpert, EngineExpert, PackagedExpert, VllmExpert
from gateway.settings.root import Settings

_PASSED_ON = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "USER", "SSL_CERT_FILE"}
)
_PASSED_ON_WITH = (
    *("CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "VLLM_", "HF_", "LC_", "XDG_"),
    *("TORCH", "PYTORCH_", "TRITON_", "OMP_", "MKL_", "KMP_"),
)


def engine_entries(settings: Settings) -> list[EngineExpert]:
    """The entries that an engine is started for."""
    return [e for e in settings.experts if isinstance(e, PackagedExpert | VllmExpert)]


def spec_of(entry: EngineExpert, settings: Settings) -> EngineSpec:
    """How to serve an expert.

    Raises:
        ExpertConfigError: Its package is not installed; the message has the command that does.
        ConfigError: A secret's environment variable is not set.
    """
    if isinstance(entry, PackagedExpert):
        path = packaged_model(entry.package, settings.data_dir / "packaged")
        context = PACKAGED[entry.package].context_tokens
        return LlamaSpec(entry.id, path, entry.threads, context, entry.slots)
    return VllmSpec(
        entry.id,
        entry.model,
        command_of(entry),
        entry.args,
        _environment(entry),
        adapters_of(entry, settings),
        entry.max_loras,
        sleeps=entry.sleep,
        device=entry.device,
        lazy=entry.lazy,
        optional=entry.optional,
        ready_s=entry.ready_s,
        base_url=entry.base_url.rstrip("/"),
        api_key=secret(entry.api_key) if entry.api_key else None,
    )


def command_of(entry: VllmExpert) -> tuple[str, ...]:
    """What starts its server, but for the model and its options."""
    if entry.command:
        return entry.command
    program = str(Path(entry.venv) / "bin" / "vllm") if entry.venv else "vllm"
    return (program, "serve")


def adapters_of(entry: VllmExpert, settings: Settings) -> dict[str, str]:
    """Expert id to folder of the adapters that its server takes."""
    return {
        each.id: each.path
        for each in settings.experts
        if isinstance(each, AdapterExpert) and each.engine == entry.id
    }


def _environment(entry: VllmExpert) -> Mapping[str, str]:
    """What its server needs of ours; keys of providers are none of its business."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_WITH)
    }
    own = {name: secret(value) for name, value in entry.env.items()}
    # `python -m` would look for modules in the working directory first.
    return {"PYTHONSAFEPATH": "1", **passed, **own}
