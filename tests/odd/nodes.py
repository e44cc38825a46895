"""Valid JSON of a confusing shape: at every place of a value, everything odd in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
ODD = {
    "null": "null",
    "true": "true",
    "0": "0",
    "-1": "-1",
    "1.5": "1.5",
    "2**63": str(2**63),
    "1e308": "1e308",
    "infinite": "1e999",
    "empty": '""',
    "x": '"x"',
    "half": r'"\ud83d"',
    "[]": "[]",
    "[[]]": "[[]]",
    "{}": "{}",
    "object": '{"a":1}',
    "half key": r'{"\ude42":"\ud83d"}',
    "deep": '{"a":' * 300 + "1" + "}" * 300,
}
"""As text: much of it is not what `json.dumps` would write."""
_HERE, _TWIN = "<<here>>", "<<twin>>"


@dataclass(frozen=True, slots=True)
class Change:
    """A value with one oddity.

    Attributes:
        name: Where and what.
        text: The whole as JSON.
    """

    name: str
    text: str


def changes(whole: Any) -> Iterator[Change]:
    """`whole`, changed in one place in one way; every place and every way."""
    for path in places(whole):
        where = "/".join(map(str, path)) or "all"
        marked = _with(whole, path, _HERE)
        for name, odd in ODD.items():
            yield Change(f"{where}={name}", written(marked).replace(f'"{_HERE}"', odd))
        if not path:
            continue
        yield Change(f"{where} absent", written(_without(whole, path)))
        if isinstance(path[-1], str):
            yield from _twice(whole, path, where)
        yield Change(f"{where} beside another", written(_with_another(whole, path)))


def places(whole: Any) -> Iterator[Path]:
    """The paths of all that `whole` consists of, its own first."""
    yield ()
    if isinstance(whole, dict):
        inner: Any = whole.items()
    else:
        inner = enumerate(whole) if isinstance(whole, list) else ()
    for key, value in inner:
        yield from ((key, *path) for path in places(value))


def written(value: Any) -> str:
    """As servers write it, without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _twice(whole: Any, path: Path, where: str) -> Iterator[Change]:
    key, value = json.dumps(path[-1]), written(_at(whole, path))
    marked = written(_with(whole, path, _TWIN))
    for name, first, last in (("before", "null", value), ("after", value, "null")):
        twins = f"{first},{key}:{last}"
        yield Change(f"{where} null {name}", marked.replace(f'"{_TWIN}"', twins))


def _at(whole: Any, path: Path) -> Any:
    for key in path:
        whole = whole[key]
    return whole


def _with(whole: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copy = deepcopy(whole)
    _at(copy, path[:-1])[path[-1]] = value
    return copy


def _without(whole: Any, path: Path) -> Any:
    copy = deepcopy(whole)
    del _at(copy, path[:-1])[path[-1]]
    return copy


def _with_another(whole: Any, path: Path) -> Any:
    copy = deepcopy(whole)
    inner = _at(copy, path[:-1])
    if isinstance(inner, list):
        inner.insert(int(path[-1]), inner[int(path[-1])])
    else:
        inner["odd"] = {"odd": [None]}
    return copy
