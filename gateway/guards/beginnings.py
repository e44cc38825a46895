"""From a pattern to one that matches every beginning of what it matches: what a stream must hold.

A piece of a stream may end inside of a match. Its tail has to wait exactly if it is the beginning
of something that the pattern matches, which is again a regular language. Assertions such as word
boundaries are left out, so that at worst a little too much is held, never too little.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

# The standard library's own parser of patterns; it has no public name, and no other library here
# shows a pattern's structure.
_parser: Any = importlib.import_module("re._parser")
_MAX_REPEAT = int(importlib.import_module("re._constants").MAXREPEAT)
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


class PatternError(ValueError):
    """A pattern that can't be used."""


def widths(pattern: str) -> tuple[int, int | None]:
    """Fewest and most characters that `pattern` matches; None is without bound.

    Raises:
        PatternError: It is not in the syntax that RE2 and Python share.
    """
    least, most = _parsed(pattern).getwidth()
    return int(least), None if most >= _MAX_REPEAT else int(most)


def beginnings(pattern: str) -> str:
    """A pattern for RE2 that matches every beginning of a match of `pattern`, and ""."""
    tree = _parsed(pattern)
    # Too many beginnings do no harm, so one flag stands for the whole.
    flags = "(?i)" if "i" in _flags(pattern) else ""
    return flags + _beginnings(tree)


def _parsed(pattern: str) -> Any:
    if "[[:" in pattern or "[^[:" in pattern:
        raise PatternError("classes such as [[:alpha:]] are not understood, write [A-Za-z]")
    try:
        return _parser.parse(pattern)
    except (ValueError, OverflowError, RecursionError, re.error) as error:
        raise PatternError(str(error)) from error


def _flags(pattern: str) -> str:
    """Letters of all flag groups in the pattern, scoped or not."""
    groups = (part.split(")")[0].split(":")[0] for part in pattern.split("(?")[1:])
    return "".join(group for group in groups if group and group[0] not in "P<!=")


def _beginnings(items: Iterable[tuple[Any, Any]]) -> str:
    rest = ""
    for op, argument in reversed(list(items)):
        rest = f"(?:{_whole(op, argument)}{rest}|{_part(op, argument)})"
    return rest


def _whole(op: Any, argument: Any) -> str:
    """The item itself, as RE2 writes it."""
    name = str(op)
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, items = argument
        return f"(?:{_all(items)}){_count(least, most)}"
    if name == "SUBPATTERN":
        return f"(?:{_all(argument[3])})"
    if name == "BRANCH":
        return f"(?:{'|'.join(_all(items) for items in argument[1])})"
    return "" if name == "AT" else _character(name, argument)


def _part(op: Any, argument: Any) -> str:
    """Beginnings of the item that are not the whole of it, and perhaps some that are."""
    name = str(op)
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        _, most, items = argument
        before = max(int(most) - 1, 0) if most != _MAX_REPEAT else most
        return f"(?:{_all(items)}){_count(0, before)}{_beginnings(items)}"
    if name == "SUBPATTERN":
        return _beginnings(argument[3])
    if name == "BRANCH":
        return f"(?:{'|'.join(_beginnings(items) for items in argument[1])})"
    return ""


def _all(items: Iterable[tuple[Any, Any]]) -> str:
    return "".join(_whole(op, argument) for op, argument in items)


def _count(least: Any, most: Any) -> str:
    if most == _MAX_REPEAT:
        return f"{{{int(least)},}}"
    return f"{{{int(least)},{int(most)}}}"


def _character(name: str, argument: Any) -> str:
    if name == "LITERAL":
        return f"\\x{{{argument:x}}}"
    if name == "NOT_LITERAL":
        return f"[^\\x{{{argument:x}}}]"
    if name == "ANY":
        return "(?s:.)"
    if name == "IN":
        return f"[{''.join(_member(str(op), each) for op, each in argument)}]"
    raise PatternError(f"{name.lower()} is not understood")


def _member(name: str, argument: Any) -> str:
    if name == "NEGATE":
        return "^"
    if name == "LITERAL":
        return f"\\x{{{argument:x}}}"
    if name == "RANGE":
        return f"\\x{{{argument[0]:x}}}-\\x{{{argument[1]:x}}}"
    return _CATEGORIES[str(argument)]
