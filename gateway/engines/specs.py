"""What engine an expert's entry stands for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experts.engines.base import EngineSpec
from experts.engines.llama import LlamaSpec
from experts.engines.placement import Device, Placement
from experts.engines.ray_serve import RaySpec
from experts.engines.vllm import VllmSpec
from experts.weights.packaged import PACKAGED, packaged_model
from gateway.settings.base import secret
from gateway.settings.devices import placed_on
from gateway.settings.local import (
    AdapterExpert,
    EngineExpert,
    PackagedExpert,
    RayExpert,
    VllmExpert,
)
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
    return [e for e in settings.experts if isinstance(e, EngineExpert)]


def spec_of(entry: EngineExpert, settings: Settings, placed: Placement | None = None) -> EngineSpec:
    """How to serve an expert.

    Args:
        entry: What is said of it.
        settings: The others.
        placed: The devices of all servers; None: as if all were placed now.

    Raises:
        ExpertConfigError: Its package is not installed; the message has the command that does.
        ConfigError: A secret's environment variable is not set.
    """
    takes_turns = entry.id in settings.residency.experts
    if isinstance(entry, PackagedExpert):
        path = packaged_model(entry.package, settings.data_dir / "packaged")
        context = PACKAGED[entry.package].context_tokens
        return LlamaSpec(entry.id, path, entry.threads, context, entry.slots, takes_turns)
    if isinstance(entry, RayExpert):
        return _on_ray(entry, takes_turns)
    if placed is None:
        placed = placed_on(settings.devices, settings.experts, settings.residency).seats
    devices = placed.get(entry.id, ())
    return VllmSpec(
        entry.id,
        entry.model,
        command_of(entry),
        (*_sharing(entry, devices), *entry.args),
        {**_environment(entry), **_visible(devices)},
        adapters_of(entry, settings),
        entry.max_loras,
        sleeps=entry.sleep,
        device=entry.device,
        lazy=entry.lazy or takes_turns,
        optional=entry.optional,
        ready_s=entry.ready_s,
        base_url=entry.base_url.rstrip("/"),
        api_key=secret(entry.api_key) if entry.api_key else None,
    )


def _on_ray(entry: RayExpert, takes_turns: bool) -> RaySpec:
    return RaySpec(
        entry.id,
        dashboard=entry.dashboard.rstrip("/"),
        base_url=entry.base_url,
        import_path=entry.import_path,
        args=entry.args,
        options=entry.options,
        model=entry.served_as,
        listen=entry.listen,
        env={name: secret(value) for name, value in entry.env.items()},
        token=secret(entry.token) if entry.token else None,
        api_key=secret(entry.api_key) if entry.api_key else None,
        lazy=entry.lazy or takes_turns,
        optional=entry.optional,
        ready_s=entry.ready_s,
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


def _sharing(entry: VllmExpert, devices: Sequence[Device]) -> Iterator[str]:
    """What tells its server how much of how many devices it may take."""
    if entry.tensor_parallel > 1:
        yield f"--tensor-parallel-size={entry.tensor_parallel}"
    if entry.replicas > 1:
        yield f"--data-parallel-size={entry.replicas}"
    if devices and entry.memory_gb is not None:
        # Of the same share of each, and all of them are equally large.
        share = entry.memory_gb / entry.tensor_parallel / devices[0].memory_gb
        # Rounded down, so that what fits by its figures fits by its shares.
        yield f"--gpu-memory-utilization={math.floor(share * 1e4) / 1e4:g}"


def _visible(devices: Sequence[Device]) -> dict[str, str]:
    if not devices:
        return {}
    # Numbers are those of nvidia-smi, and not of who computes fastest.
    ids = ",".join(one.device_id for one in devices)
    return {"CUDA_VISIBLE_DEVICES": ids, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


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
