"""JSON Schema by the library jsonschema, where a stranger's schema can cost no more than it may.

References can double the work at each of forty levels, and Python's own regular expressions can
hang; so steps are counted and patterns are RE2. Imported when the first schema is read: a gateway
without one starts faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urljoin

import jsonschema
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from eval.graders.regex import found_in

_MOST_WORK: Final = 50_000
_MOST_TO_READ: Final = 10_000
"""Steps that checking a schema itself may take: it holds up who brings it."""
_NODES_PER_STEP: Final = 50
_REFUSED: Final = "checking against the schema takes too much work"


class CannotTellError(Exception):
    """Whether a document conforms can't be said; the message says why."""


class _Work:
    """What one document may cost: each rule a step, and more on a value of many parts.

    Rules write a value out in their messages, so that a rule's work grows with the value.
    """

    def __init__(self, document: object, most: int) -> None:
        self._parts: dict[int, int] = {}
        self._left = most
        self._count(document)

    def spend(self, value: object, times: int = 1) -> None:
        self._left -= times * (1 + self._parts.get(id(value), 0) // _NODES_PER_STEP)
        if self._left < 0:
            raise CannotTellError(_REFUSED)

    def _count(self, value: object) -> int:
        if isinstance(value, dict):
            parts = sum(1 + self._count(inner) for inner in value.values())
        elif isinstance(value, list):
            parts = sum(1 + self._count(inner) for inner in value)
        else:
            return len(value) // _NODES_PER_STEP if isinstance(value, str) else 0
        self._parts[id(value)] = parts
        return parts


_work: ContextVar[_Work] = ContextVar("work")


def first_fault(schema: Mapping[str, Any], document: object) -> str | None:
    """Where `document` does not conform, and why; None if it does.

    Raises:
        CannotTellError: It takes too much work, or is nested too deeply.
    """
    try:
        return _fault(_validator(schema), document, _MOST_WORK)
    except Unresolvable as error:
        raise CannotTellError(f"$ref: {error}") from error
    except (RecursionError, OverflowError) as error:
        raise CannotTellError("nested too deeply, or a number beyond all bounds") from error
    except UnicodeError as error:
        raise CannotTellError(f"a text that is no valid Unicode: {error}") from error


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a schema, and where; None if it can be used.

    Raises:
        CannotTellError: It is larger than any that is checked.
    """
    named = _named(schema)
    if named not in _DRAFTS:
        return f"$.$schema: {named!r} is none of {', '.join(_DRAFTS)}"
    rules, described = _DRAFTS[named]
    meta = rules(described, registry=REGISTRY, format_checker=_PATTERNS)
    if fault := _fault(meta, schema, _MOST_TO_READ):
        return fault
    resolver = _validator(schema)._resolver
    for reference in _references(schema):
        if not reference.startswith("#") or not _leads_somewhere(resolver, reference):
            return f"$ref {reference!r} is not in the schema, and nothing is fetched"
    return None


def _leads_somewhere(resolver: Any, reference: str) -> bool:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        return False
    return True


def _fault(validator: Any, document: object, most: int) -> str | None:
    before = _work.set(_Work(document, most))
    try:
        error = best_match(validator.iter_errors(document))
    finally:
        _work.reset(before)
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


def _named(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$schema", next(iter(_DRAFTS)))).rstrip("#")


def _validator(schema: Mapping[str, Any]) -> Any:
    """With the registry it fetches nothing.

    Without `$schema`, for which the library would go on by rules of its own instead of ours.
    """
    rules, _ = _DRAFTS[_named(schema)]
    bare = {name: value for name, value in schema.items() if name != "$schema"}
    return rules(bare, registry=REGISTRY)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(reference := value.get("$ref"), str):
            yield reference
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)


def _counted(rule: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _work.get().spend(instance)
        return rule(validator, value, instance, schema) or ()

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not found_in(pattern, [instance])[0]:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for name in _matching(pattern, instance):
            yield from validator.descend(instance[name], subschema, name, pattern)


def _additional(
    validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    extras = [name for name in instance if name not in schema.get("properties", {})]
    for pattern in schema.get("patternProperties", {}):
        matching = set(_matching(pattern, instance))
        extras = [name for name in extras if name not in matching]
    for name in extras:
        if wanted is False:
            yield ValidationError(f"{name!r} is not among the properties")
        else:
            yield from validator.descend(instance[name], wanted, path=name)


def _matching(pattern: str, instance: Mapping[str, Any]) -> list[str]:
    _work.get().spend(instance)
    names = list(instance)
    return [name for name, found in zip(names, found_in(pattern, names), strict=True) if found]


def _unique(validator: Any, wanted: bool, instance: Any, _: Any) -> Iterator[ValidationError]:
    if not wanted or not validator.is_type(instance, "array"):
        return
    seen: set[str] = set()
    for item in instance:
        written = json.dumps(_plain(item), sort_keys=True)
        if written in seen:
            yield ValidationError(f"{written[:80]} is there more than once")
            return
        seen.add(written)


def _plain(value: Any) -> Any:
    """1 and 1.0 are the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _is_pattern(pattern: object) -> bool:
    if isinstance(pattern, str):
        found_in(pattern, [""])
    return True


_PATTERNS: Final = jsonschema.FormatChecker(formats=())
_PATTERNS.checks("regex", raises=ValueError)(_is_pattern)
_OWN: Final[dict[str, Any]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "uniqueItems": _unique,
}


def _draft(base: Any) -> tuple[Any, dict[str, Any]]:
    """A draft's rules, ours among them, and its description of schemas as one flat schema."""
    rules = {name: _counted(rule) for name, rule in {**base.VALIDATORS, **_OWN}.items()}
    own = base.META_SCHEMA
    flat: dict[str, Any] = {"type": ["object", "boolean"]}
    parts = [REGISTRY.contents(urljoin(own["$id"], part["$ref"])) for part in own.get("allOf", ())]
    for group in ("properties", "$defs", "definitions"):
        flat[group] = {
            name: each for part in (own, *parts) for name, each in part.get(group, {}).items()
        }
    written = json.dumps(flat)
    for dynamic in ('"$dynamicRef": "#meta"', '"$recursiveRef": "#"'):
        written = written.replace(dynamic, '"$ref": "#"')
    return extend(base, rules), json.loads(written)


_DRAFTS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    base.META_SCHEMA["$schema"].rstrip("#"): _draft(base)
    for base in (
        jsonschema.Draft202012Validator,
        jsonschema.Draft201909Validator,
        jsonschema.Draft7Validator,
    )
}
