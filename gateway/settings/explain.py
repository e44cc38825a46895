"""Pydantic's errors as faults with a place, in words that never quote a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from gateway.settings.document import Document
from gateway.settings.faults import Fault, Place
from gateway.settings.shape import known_keys

_WORDS = {
    "missing": "is required",
    "greater_than_equal": "must be ≥ {ge:g}",
    "greater_than": "must be > {gt:g}",
    "less_than_equal": "must be ≤ {le:g}",
    "less_than": "must be < {lt:g}",
    "finite_number": "must be a finite number",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
    "string_pattern_mismatch": "does not match {pattern}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": "must hold keys and values",
    "model_type": "must hold keys and values",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "path_type": "must be a path",
    "date_from_datetime_parsing": "must be a date like 2026-01-31",
    "date_parsing": "must be a date like 2026-01-31",
    "date_type": "must be a date like 2026-01-31",
}
_QUOTABLE = re.compile(r"[a-z_ -]{1,24}")
_MANY_KEYS = 12


def problem_of(
    error: ValidationError, data: Any, root: type[BaseModel], what: str
) -> tuple[Place, str]:
    """The first thing that pydantic found wrong with what a client sent, and where in `data`.

    Args:
        error: What `root` said of `data`.
        data: What was sent.
        root: What was expected.
        what: The word for a field of it, e.g. "wish".
    """
    detail = error.errors(include_url=False, include_context=True)[0]
    return _problem(detail, data, root, what)


def faults_of(error: ValidationError, document: Document, root: type[BaseModel]) -> list[Fault]:
    """Every fault that pydantic found, at its place in the document."""
    details = error.errors(include_url=False, include_context=True)
    problems = (_problem(detail, document.data, root, "setting") for detail in details)
    return [document.fault(*problem) for problem in problems]


def refusal(problems: Iterable[tuple[Place, str]]) -> ValidationError:
    """Several faults found by a validator of ours, as the one error that it may raise."""
    lines = [
        InitErrorDetails(
            type=PydanticCustomError("ours", "{text}", {"text": text}), loc=place, input=None
        )
        for place, text in problems
    ]
    return ValidationError.from_exception_data("Settings", lines)


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean ...?`, or what there is, or nothing when that is too much."""
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known here: {', '.join(known)}" if 0 < len(known) <= _MANY_KEYS else ""


def _problem(
    detail: ErrorDetails, data: Any, root: type[BaseModel], what: str
) -> tuple[Place, str]:
    place = _place(detail["loc"], data, detail["type"] == "missing")
    if detail["type"] == "extra_forbidden":
        known = known_keys(root, place[:-1], data)
        return place, f"is no {what}{nearest(str(place[-1]), known)}"
    if detail["type"] == "union_tag_invalid":
        place = (*place, "kind")
    pattern = _WORDS.get(detail["type"])
    context = detail.get("ctx", {})
    message = detail["msg"].removeprefix("Value error, ")
    if pattern is not None:
        message = pattern.format_map(context)
    return place, message + _got(detail, context)


def _place(loc: tuple[int | str, ...], data: Any, missing: bool) -> Place:
    """Pydantic's location without the names of union members that it puts in between."""
    place: list[int | str] = []
    for index, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            place.append(part)
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            place.append(part)
            data = data[part]
        elif missing and index == len(loc) - 1:
            place.append(part)
    return tuple(place)


def _got(detail: ErrorDetails, context: dict[str, Any]) -> str:
    """The value at fault if it can't be a secret: a number of the right kind, or a plain word."""
    value = detail["input"]
    if detail["type"] == "union_tag_invalid":
        value = context["tag"]
    if isinstance(value, str):
        chosen = detail["type"] in ("literal_error", "union_tag_invalid")
        return f" (got '{value}')" if chosen and _QUOTABLE.fullmatch(value) else ""
    wants_text = detail["type"].startswith("string")
    return f" (got {value!r})" if isinstance(value, int | float) and not wants_text else ""
