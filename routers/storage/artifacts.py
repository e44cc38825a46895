"""Routers on disk: safetensors files and a manifest with the hash of each. Never runs code."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from routers.base import Policy
from routers.errors import ArtifactError, RoutingError
from routers.features import Featurizer
from routers.fitting.rehearsal import Rehearsal
from routers.records import State
from routers.registry import encoder_class, estimator_class, make_policy, policy_params
from routers.router import Router

FORMAT = 1
MANIFEST = "manifest.json"

Arrays = dict[str, npt.NDArray[Any]]
"""What a part of a router keeps beside its parameters, by name."""

_VERSION_LENGTH = 16
_PARTS = ("encoder", "estimator")
_REHEARSAL = "rehearsal"


def save_router(router: Router, directory: Path) -> str:
    """Write `router` into `directory`, wholly or not at all.

    A router that is already there is replaced.

    Returns:
        Its version: a hash of the content, so equal routers have equal versions.

    Raises:
        ArtifactError: `directory` holds something that is no router.
    """
    packed = _pack(router)
    if directory.exists() and not _may_replace(directory):
        raise ArtifactError(f"'{directory}' exists and is no router; choose another directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        new, old = workshop / "new", workshop / "old"
        new.mkdir()
        for name, content in packed.files.items():
            _write(new / name, content)
        if directory.exists():
            directory.replace(old)
        try:
            new.replace(directory)
        except OSError:
            if old.exists():
                old.replace(directory)
            raise
    finally:
        shutil.rmtree(workshop)
    return packed.version


def load_router(directory: Path) -> Router:
    """Read a router back, after checking every hash.

    Raises:
        ArtifactError: A file is missing or damaged, or the artifact is of an unknown kind.
    """
    manifest = _read_manifest(directory)
    parts = (*_PARTS, _REHEARSAL) if _REHEARSAL in manifest else _PARTS
    arrays = {part: _read_part(directory, manifest, part) for part in parts}
    try:
        return _unpack(manifest, arrays)
    except (RoutingError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"'{directory / MANIFEST}' describes a router that this version can't build: {error}"
        ) from error


def with_content_version(router: Router) -> Router:
    """`router` under the version that `save_router` would give it."""
    return replace(router, version=_pack(router).version)


@dataclass(frozen=True, slots=True)
class _Packed:
    version: str
    files: Mapping[str, bytes]


def _pack(router: Router) -> _Packed:
    states: dict[str, tuple[str, State]] = {
        "encoder": (router.featurizer.encoder.name, router.featurizer.encoder.state()),
        "estimator": (router.estimator.name, router.estimator.state()),
    }
    if router.rehearsal is not None:
        states[_REHEARSAL] = (_REHEARSAL, router.rehearsal.state())
    files: dict[str, bytes] = {}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": router.name,
        "policy": _described(router.policy),
        "epsilon": router.epsilon,
        "typical": {
            "prompt_tokens": router.typical_prompt_tokens,
            "output_tokens": router.typical_output_tokens,
            "latency_s": None if math.isnan(router.typical_latency_s) else router.typical_latency_s,
        },
        "metadata": dict(router.metadata),
    }
    for part, (kind, (params, arrays)) in states.items():
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        files[_file(part)] = save_arrays(contiguous)
        manifest[part] = {"kind": kind, "params": params, "sha256": _hash(files[_file(part)])}
    version = _version(manifest)
    files[MANIFEST] = _json(manifest | {"version": version})
    return _Packed(version, files)


def _unpack(manifest: Mapping[str, Any], arrays: Mapping[str, Arrays]) -> Router:
    states = {part: (manifest[part]["params"], found) for part, found in arrays.items()}
    encoder = encoder_class(manifest["encoder"]["kind"]).from_state(states["encoder"])
    estimator = estimator_class(manifest["estimator"]["kind"]).from_state(states["estimator"])
    typical = manifest["typical"]
    latency_s = typical["latency_s"]
    return Router(
        name=manifest["name"],
        version=manifest["version"],
        featurizer=Featurizer(encoder),
        estimator=estimator,
        policy=_policy(manifest["policy"]),
        epsilon=manifest["epsilon"],
        typical_prompt_tokens=typical["prompt_tokens"],
        typical_output_tokens=typical["output_tokens"],
        typical_latency_s=math.nan if latency_s is None else latency_s,
        rehearsal=Rehearsal.from_state(states[_REHEARSAL]) if _REHEARSAL in states else None,
        metadata=manifest["metadata"],
    )


def _described(policy: Policy) -> str | dict[str, Any]:
    """A policy's name, with its parameters if it has any."""
    params = policy_params(policy)
    return {"kind": policy.name, "params": params} if params else policy.name


def _policy(described: str | Mapping[str, Any]) -> Policy:
    if isinstance(described, str):
        return make_policy(described)
    return make_policy(described["kind"], **described["params"])


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise ArtifactError(f"'{path}' is not JSON: {error}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ArtifactError(f"'{path}' is not the manifest of a router")
    if manifest["format"] != FORMAT:
        raise ArtifactError(
            f"'{path}' has format {manifest['format']!r}, this version reads {FORMAT}; train again"
        )
    stated = manifest.get("version")
    if stated != _version({key: manifest[key] for key in manifest if key != "version"}):
        raise ArtifactError(
            f"'{path}' was changed after it was written: its hash is not {stated!r}"
        )
    return manifest


def _read_part(directory: Path, manifest: Mapping[str, Any], part: str) -> Arrays:
    path = directory / _file(part)
    content = _read(path)
    described = manifest.get(part)
    if not isinstance(described, dict) or _hash(content) != described.get("sha256"):
        raise ArtifactError(f"'{path}' is damaged: its hash is not the one in the manifest")
    try:
        found: Arrays = load_arrays(content)
    except SafetensorError as error:
        raise ArtifactError(f"'{path}' is no safetensors file: {error}") from error
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "it can't be read"
        raise ArtifactError(f"no router can be loaded: '{path}': {reason}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _may_replace(directory: Path) -> bool:
    return directory.is_dir() and ((directory / MANIFEST).exists() or not any(directory.iterdir()))


def _version(manifest: Mapping[str, Any]) -> str:
    return _hash(_json(manifest))[:_VERSION_LENGTH]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _file(part: str) -> str:
    return f"{part}.safetensors"
