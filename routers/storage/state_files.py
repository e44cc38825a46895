"""What was fitted, on disk: one safetensors file inside which its parameters stand as JSON.

Reading one never runs code. Routers have a format of their own (`routers.storage.artifacts`).
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import orjson
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from experts.whole_files import whole_file
from routers.errors import ArtifactError
from routers.records import State

_FORMAT = 1
_ABOUT = "pointsman"


def save_state(kind: str, state: State, path: Path) -> str:
    """Write a state, wholly or not at all; a file that is there is replaced.

    Args:
        kind: What it is the state of, e.g. "shelf".
        state: JSON-able parameters and named arrays.
        path: Where to.

    Returns:
        The hash of its content: equal states have equal ones.
    """
    params, arrays = state
    content = orjson.dumps(params, option=orjson.OPT_SORT_KEYS).decode()
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    digest = _digest(content, save_arrays(contiguous))
    told = {"format": _FORMAT, "kind": kind, "params": content, "sha256": digest}
    # One entry, since safetensors writes several in no particular order.
    about = {_ABOUT: orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()}
    with whole_file(path, durable=True) as written:
        written.write_bytes(save_arrays(contiguous, metadata=about))
    return digest


def load_state(kind: str, path: Path) -> State:
    """Read a state back.

    Raises:
        ArtifactError: No such file, or it is damaged, or the state of something else.
    """
    try:
        arrays = load_arrays(path.read_bytes())
        with safe_open(path, "np") as file:
            told = orjson.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    except OSError as error:
        raise ArtifactError(f"'{path}' can't be read: {error.strerror or error}") from error
    except (SafetensorError, orjson.JSONDecodeError) as error:
        raise ArtifactError(f"'{path}' is no safetensors file: {error}") from error
    if told.get("format") != _FORMAT or told.get("kind") != kind:
        found = told.get("kind") or "something else"
        raise ArtifactError(f"'{path}' holds no {kind}, but {found}; build it again")
    ordered = {name: arrays[name] for name in sorted(arrays)}
    if _digest(told["params"], save_arrays(ordered)) != told.get("sha256"):
        raise ArtifactError(f"'{path}' is damaged: its hash is not the one that it states")
    return orjson.loads(told["params"]), ordered


def _digest(params: str, arrays: bytes) -> str:
    return sha256(params.encode() + b"\0" + arrays).hexdigest()
