"""Names in one section that must exist in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.settings.explain import nearest
from gateway.settings.faults import Place

Problem = tuple[Place, str]


def broken_references(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Every name that is given twice or points to nothing.

    Args:
        data: The whole configuration; sections that have faults of their own are passed over.
    """
    yield from _repeated_keys(data.get("keys"))
    experts = data.get("experts")
    if not isinstance(experts, Sequence) or not all(isinstance(e, Mapping) for e in experts):
        return
    ids = [_id(entry) for entry in experts]
    if not ids:
        yield ("experts",), "needs at least one expert"
    for index, name in enumerate(ids):
        if name in ids[:index]:
            yield ("experts", index, "id"), f"the id {name!r} is given twice"
    if all(ids):
        yield from _pointers(data, [name for name in dict.fromkeys(ids) if name])


def _repeated_keys(keys: Any) -> Iterator[Problem]:
    if not isinstance(keys, Sequence) or not all(isinstance(key, Mapping) for key in keys):
        return
    names = [key.get("name") for key in keys]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield ("keys", index, "name"), f"the name {name!r} is given twice"


def _pointers(data: Mapping[str, Any], ids: Sequence[str]) -> Iterator[Problem]:
    routing, aliases = data.get("routing"), data.get("aliases")
    for name in ("default_expert", "embeddings_expert"):
        wanted = routing.get(name) if isinstance(routing, Mapping) else None
        if isinstance(wanted, str) and wanted not in ids:
            yield ("routing", name), _unknown(wanted, ids)
    for alias, expert in aliases.items() if isinstance(aliases, Mapping) else ():
        if isinstance(expert, str) and expert not in ids:
            yield ("aliases", alias), _unknown(expert, ids)
        if alias in ids:
            yield ("aliases", alias), "is already an expert's id"


def _id(entry: Mapping[str, Any]) -> str | None:
    name = entry.get("id") or entry.get("package")
    if name is None and entry.get("kind") == "calculator":
        return "calculator"
    return name if isinstance(name, str) else None


def _unknown(name: str, ids: Sequence[str]) -> str:
    return f"{name!r} is no expert's id{nearest(name, ids)}"
