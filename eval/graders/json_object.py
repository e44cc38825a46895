"""Grades structured output: a JSON object in the answer holds the wanted keys and values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self

from eval.errors import GraderConfigError
from eval.graders.base import Fields, Grade, right, wrong
from eval.graders.fields import refuse_unknown, required

_LONGEST = 100_000
_MOST_TRIES = 200


@dataclass(frozen=True, slots=True)
class JsonCheck:
    """Some JSON object in the answer has every key of `equals` with that very value.

    Text around the object and further keys in it don't matter. 1 and 1.0 are the same number; true
    is not 1, and "1" is not 1.
    """

    kind: ClassVar[str] = "json"
    equals: Mapping[str, Any]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        refuse_unknown(fields, {"equals"})
        equals = required(fields, "equals")
        if not isinstance(equals, Mapping) or not equals:
            raise GraderConfigError("equals", f"must be an object with keys, got {equals!r}")
        return cls(dict(equals))

    def grade(self, answer: str) -> Grade:
        reason = "holds no JSON object"
        for found in _found(answer[:_LONGEST], "{"):
            differing = [key for key in self.equals if _differs(found, key, self.equals[key])]
            if not differing:
                return right("the JSON object has the wanted values")
            key = differing[0]
            was = repr(found[key]) if key in found else "missing"
            reason = f"key {key!r} is {was[:80]}, wanted {self.equals[key]!r}"
        return wrong(reason)


def documents(text: str, *, whole: bool) -> Iterator[Any]:
    """JSON in a text: all of it if it is JSON, else the objects and arrays in it, outermost only.

    Args:
        text: An answer.
        whole: Whether all of it must be JSON.
    """
    if len(text) <= _LONGEST:
        try:
            yield json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            pass
        else:
            return
    if not whole:
        yield from _found(text[:_LONGEST], "{[")


def _found(text: str, openings: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    opening = re.compile(f"[{re.escape(openings)}]")
    start = opening.search(text)
    for _ in range(_MOST_TRIES):
        if start is None:
            return
        try:
            found, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            end = start.end()
        else:
            yield found
        start = opening.search(text, end)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _differs(found: Mapping[str, Any], key: str, wanted: object) -> bool:
    return key not in found or not _same(found[key], wanted)


def _same(left: object, right_: object) -> bool:
    if isinstance(left, bool) or isinstance(right_, bool):
        return left is right_
    if isinstance(left, Mapping) and isinstance(right_, Mapping):
        return left.keys() == right_.keys() and all(_same(left[k], right_[k]) for k in left)
    if isinstance(left, list | tuple) and isinstance(right_, list | tuple):
        pairs = zip(left, right_, strict=False)
        return len(left) == len(right_) and all(_same(a, b) for a, b in pairs)
    return left == right_
