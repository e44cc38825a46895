"""Routers that a comparison has trained already, on disk until it is whole; no pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np
import orjson

from eval.replay.own_code import own_code
from eval.replay.training import Bench, TrainedRouter
from routers.errors import ArtifactError
from routers.fitting.fit import data_hash
from routers.storage.state_files import load_state, save_state

Arrays = dict[str, np.ndarray[Any, Any]]

_KIND = "finished fit"


class KeptFits:
    """A folder of finished fits, so that a comparison that was stopped goes on where it was.

    Each stands under the hash of all that it follows from: both tables, prices, settings, seed,
    the router's recipe, our code, and every package installed. So a fit of anything else is never
    taken.

    Args:
        folder: Where; made when something is to be kept.
        bench: What they are trained and judged with.
    """

    def __init__(self, folder: Path, bench: Bench) -> None:
        self._folder = folder
        self._follow_from = _follow_from(bench)

    def read(self, name: str) -> TrainedRouter | None:
        """The finished fit of a router; None where there is none, or a damaged one."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            packed, arrays = load_state(_KIND, path)
        except ArtifactError:
            return None
        return cast(TrainedRouter, _unpack(TrainedRouter, packed, arrays))

    def write(self, trained: TrainedRouter) -> None:
        """Keep a fit, wholly or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays: Arrays = {}
        packed = _pack(trained, arrays)
        save_state(_KIND, (packed, arrays), self._path(trained.name))

    def _path(self, name: str) -> Path:
        content = f"{self._follow_from}\0{name}".encode()
        return self._folder / f"{sha256(content).hexdigest()}.safetensors"


def _follow_from(bench: Bench) -> str:
    pool = bench.pool
    # The hash of a table says nothing of the order of its rows, in which figures are kept.
    tables = [[data_hash(table), table.query_ids] for table in (pool.train, pool.test)]
    installed = sorted(f"{each.name} {each.version}" for each in distributions())
    told = [own_code(), installed, tables, pool.prices, bench.cost_weights, bench.seed]
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _pack(value: Any, arrays: Arrays) -> Any:
    """`value` as JSON; arrays go to `arrays`, floats to their hex form, which keeps NaN and inf."""
    if isinstance(value, np.ndarray):
        arrays[name := f"array{len(arrays)}"] = value
        return name
    if is_dataclass(value):
        return {each.name: _pack(getattr(value, each.name), arrays) for each in fields(value)}
    if isinstance(value, Mapping):
        # Pairs, since the files sort what has names.
        return [[name, _pack(each, arrays)] for name, each in value.items()]
    if isinstance(value, tuple):
        return [_pack(each, arrays) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value.hex() if isinstance(value, float) else value


def _unpack(kind: Any, packed: Any, arrays: Mapping[str, Any]) -> Any:
    """What `_pack` was given, a value of the type `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if packed is None:
        return None
    if origin is UnionType:
        return _unpack(inner[0], packed, arrays)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        told = {name: _unpack(hints[name], each, arrays) for name, each in packed.items()}
        return cast(Any, kind)(**told)
    if origin is np.ndarray:
        return arrays[packed]
    if origin is Mapping:
        return {name: _unpack(inner[1], each, arrays) for name, each in packed}
    if origin is tuple:
        return tuple(_unpack(inner[0], each, arrays) for each in packed)
    return float.fromhex(packed) if kind is float and isinstance(packed, str) else packed
