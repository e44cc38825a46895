"""What one section needs of another: names that must exist, and what must be allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.settings.children import composed_kind, named_children
from gateway.settings.explain import nearest
from gateway.settings.faults import Place
from gateway.settings.local import homeless_adapters
from routers.policies.greedy import PRESETS

Problem = tuple[Place, str]


def broken_references(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Every name that is given twice or points to nothing, and checks that may not run code.

    Args:
        data: The whole configuration; sections that have faults of their own are passed over.
    """
    yield from _repeated("keys", data.get("keys"))
    yield from _repeated("judges", data.get("judges"))
    yield from _forbidden_code(data)
    experts = data.get("experts")
    if not isinstance(experts, Sequence) or not all(isinstance(e, Mapping) for e in experts):
        return
    ids = [_id(entry) for entry in experts]
    if not ids:
        yield ("experts",), "needs at least one expert"
    for index, name in enumerate(ids):
        if name in ids[:index]:
            yield ("experts", index, "id"), f"the id {name!r} is given twice"
        if means_router(name):
            yield ("experts", index, "id"), f"{name!r} is what requests call a router"
    yield from _compositions(experts)
    yield from homeless_adapters(experts)
    if all(ids):
        yield from _pointers(data, [name for name in dict.fromkeys(ids) if name])


def means_router(name: str | None) -> bool:
    """Whether a request that says this means a router, and could never reach who is called so."""
    return name == "auto" or str(name).startswith(("auto:", "router:"))


def _repeated(section: str, named: Any) -> Iterator[Problem]:
    if not isinstance(named, Sequence) or not all(isinstance(each, Mapping) for each in named):
        return
    names = [each.get("name") for each in named]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield (section, index, "name"), f"the name {name!r} is given twice"


def _forbidden_code(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Checks that would run what a model wrote where nothing may: they could never tell."""
    outcomes = _mapping(data.get("outcomes"))
    if _mapping(outcomes.get("code")).get("enabled"):
        return
    for section in ("experts", "outcomes"):
        for place, check in _checks((section,), data.get(section)):
            if check.get("kind") == "code":
                yield place, "runs code, which `outcomes.code.enabled: true` allows"


def _checks(place: Place, value: Any) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """All that stands under a key `check`, however deep."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "check" and isinstance(inner, Mapping):
                yield (*place, key), inner
            else:
                yield from _checks((*place, key), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _checks((*place, index), inner)


def _compositions(experts: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Compositions without a name, children that nobody is, and those that lead back to itself."""
    known = {name: index for index, entry in enumerate(experts) if (name := _id(entry))}
    asks: dict[str, set[str]] = {}
    for index, entry in enumerate(experts):
        if composed_kind(entry) is None:
            continue
        if _id(entry) is None:
            yield ("experts", index, "id"), "is required"
        for place, name in named_children(entry):
            if name not in known:
                yield (
                    ("experts", index, *place),
                    f"{name!r} is no expert's id{nearest(name, list(known))}",
                )
            elif _not_a_child(experts[known[name]]):
                yield ("experts", index, *place), f"{name!r} {_not_a_child(experts[known[name]])}"
            asks.setdefault(_id(entry) or "", set()).add(name)
    for name in asks:
        if name in known and _leads_to(name, name, asks):
            yield ("experts", known[name]), f"{name!r} would come to ask itself"


def _not_a_child(entry: Mapping[str, Any]) -> str:
    """Why no composition can ask it; "" if one can."""
    api = "embeddings" if entry.get("kind") == "embedder" else entry.get("api", "chat")
    if api == "embeddings":
        return "embeds: vectors of several models can't be compared, so nothing combines them"
    return "" if api == "chat" else "does not chat"


def _leads_to(start: str, goal: str, asks: Mapping[str, set[str]]) -> bool:
    seen, waiting = set[str](), [start]
    while waiting:
        for name in asks.get(waiting.pop(), ()):
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return False


def _pointers(data: Mapping[str, Any], ids: Sequence[str]) -> Iterator[Problem]:
    for place, name in (*_named_experts(data), *_residents(data)):
        if isinstance(name, str) and name not in ids:
            yield place, f"{name!r} is no expert's id{nearest(name, ids)}"
    for alias in _mapping(data.get("aliases")):
        if alias in ids:
            yield ("aliases", alias), "is already an expert's id"
        if means_router(alias):
            yield ("aliases", alias), "is what requests call a router"
    for index, judge in enumerate(_list(data.get("judges"))):
        expert = _mapping(judge).get("expert", "auto")
        known = [*ids, *_mapping(data.get("aliases"))]
        if isinstance(expert, str) and expert.partition(":")[0] not in ("auto", "router", *known):
            place = ("judges", index, "expert")
            yield place, f"{expert!r} is no expert, alias or auto{nearest(expert, known)}"
    routing = _mapping(data.get("routing"))
    policy, policies = routing.get("policy"), [*PRESETS, *_mapping(routing.get("policies"))]
    if isinstance(policy, str) and policy not in policies:
        yield ("routing", "policy"), f"{policy!r} is no policy{nearest(policy, policies)}"


def _named_experts(data: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Every place where an expert's id is expected, and what stands there."""
    for name in ("default_expert", "embeddings_expert"):
        yield ("routing", name), _mapping(data.get("routing")).get(name)
    for name, policy in _mapping(_mapping(data.get("routing")).get("policies")).items():
        for role in ("strong", "weak", "cheap"):
            # "" leaves it to the router.
            yield ("routing", "policies", name, role), _mapping(policy).get(role) or None
        for slow, fast in _mapping(_mapping(policy).get("instant")).items():
            yield ("routing", "policies", name, "instant", slow), slow
            yield ("routing", "policies", name, "instant", slow), fast
        for expert in _mapping(_mapping(policy).get("shares")):
            yield ("routing", "policies", name, "shares", expert), expert
    for index, expert in enumerate(_list(_mapping(data.get("shadow")).get("experts"))):
        yield ("shadow", "experts", index), expert
    for alias, expert in _mapping(data.get("aliases")).items():
        yield ("aliases", alias), expert
    fallbacks = _mapping(_mapping(data.get("execution")).get("fallbacks"))
    for name, stand_ins in fallbacks.items():
        yield ("execution", "fallbacks", name), name
        for index, stand_in in enumerate(_list(stand_ins)):
            yield ("execution", "fallbacks", name, index), stand_in


def _residents(data: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    for expert in _mapping(_mapping(data.get("residency")).get("experts")):
        yield ("residency", "experts", expert), expert


def _id(entry: Mapping[str, Any]) -> str | None:
    name = entry.get("id") or entry.get("package")
    if name is None and entry.get("kind") == "calculator":
        return "calculator"
    return name if isinstance(name, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
