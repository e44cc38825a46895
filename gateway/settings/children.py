"""How compositions name their children, in whichever form an entry is written. Plain data only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.settings.faults import Place

LISTED: dict[str, str] = {
    "best_of": "of",
    "cascade": "children",
    "medprompt": "of",
    "mixture": "of",
    "mode": "of",
    "panel": "of",
    "peers": "of",
    "rounds": "of",
    "routed": "children",
    "self_moa": "of",
    "templates": "of",
    "vote": "of",
}
"""Every kind, and the field that its short form stands for when it holds no mapping."""
_CHILDREN = ("children", "of", "judge", "aggregator", "primary", "driver")
"""Fields that may name children."""
_RULES = ("defer", "select", "judged")
"""Fields whose `verifier` may name one, and whose `among` several."""


def composed_kind(data: Any) -> str | None:
    """The kind of composition that an entry or a child is, None for anything else."""
    if not isinstance(data, Mapping):
        kind = getattr(data, "kind", None)
    elif "kind" in data:
        kind = data["kind"]
    else:
        kind = next((name for name in LISTED if name in data), None)
    return kind if isinstance(kind, str) and kind in LISTED else None


def long_form(data: Any) -> Any:
    """An entry with `kind`, whichever way it is written."""
    kind = composed_kind(data)
    if kind is None or not isinstance(data, Mapping) or "kind" in data:
        return data
    told = data[kind]
    inner = told if isinstance(told, Mapping) else {LISTED[kind]: told}
    rest = {name: value for name, value in data.items() if name != kind}
    return {"kind": kind, **inner, **rest}


def children_of(entry: Any) -> Iterator[tuple[Place, Any]]:
    """Every child that a composition's entry names, with its place below the entry as written."""
    data = long_form(entry)
    if composed_kind(data) is None or not isinstance(data, Mapping):
        return
    for place, child in _named_in(data):
        yield _as_written(entry, place), child


def _as_written(entry: Mapping[str, Any], place: Place) -> Place:
    """Where in an entry, short or long, a key of its long form stands."""
    kind = composed_kind(entry) or ""
    told = entry.get(kind)
    if "kind" in entry:
        return place
    if isinstance(told, Mapping):
        return (kind, *place) if place[0] in told else place
    return (kind, *place[1:]) if place[0] == LISTED[kind] else place


def _named_in(data: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for name in _CHILDREN:
        told = data.get(name)
        if isinstance(told, Sequence) and not isinstance(told, str):
            yield from (((name, index), child) for index, child in enumerate(told))
        elif told is not None:
            yield (name,), told
    for name in _RULES:
        told = data.get(name)
        rules = [((name,), told)] if isinstance(told, Mapping) else _in_list(name, told)
        for place, rule in rules:
            if not isinstance(rule, Mapping):
                continue
            if rule.get("verifier") is not None:
                yield (*place, "verifier"), rule["verifier"]
            for index, child in enumerate(_listed(rule.get("among"))):
                yield (*place, "among", index), child


def _in_list(name: str, told: Any) -> list[tuple[Place, Any]]:
    """The rules of a list, with their places."""
    return [((name, index), rule) for index, rule in enumerate(_listed(told))]


def _listed(told: Any) -> Sequence[Any]:
    return told if isinstance(told, list | tuple) else ()


def named_children(entry: Any) -> Iterator[tuple[Place, str]]:
    """The ids that a composition's entry names, those in compositions within it included."""
    for place, child in children_of(entry):
        if isinstance(child, str):
            yield place, child
        else:
            yield from (((*place, *inner), name) for inner, name in named_children(child))
