"""Which of several answers say the same: for votes, and for agreement of samples."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Protocol

import orjson

from experts.compose.base import Reply

_PUNCTUATION = re.compile(r"[^\w\s.%/+*=<>-]|\.(?=\s|$)")
_BLANKS = re.compile(r"\s+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_FINAL = re.compile(r"(?is)(?:####|\bfinal answer\b\s*(?:is|:)?|\banswer\b\s*(?:is|:))\s*(.+)$")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?:\s*/\s*\d+)?%?")


class Grouping(Protocol):
    """Puts answers that say the same into one group."""

    async def groups(self, replies: Sequence[Reply]) -> list[int]:
        """The group of each reply, numbered from 0 in the order in which they first come up."""
        ...


class ByKey:
    """Answers are the same if a key of their text is; tool calls if name and arguments are."""

    def __init__(self, key: Callable[[str], Hashable]) -> None:
        self._key = key

    async def groups(self, replies: Sequence[Reply]) -> list[int]:
        seen: dict[Hashable, int] = {}
        return [seen.setdefault(self._of(reply), len(seen)) for reply in replies]

    def _of(self, reply: Reply) -> Hashable:
        choices = reply.completion.choices
        if choices and choices[0].tool_calls:
            called = [dict(each.get("function") or {}) for each in choices[0].tool_calls]
            return orjson.dumps([_called(each) for each in called], option=orjson.OPT_SORT_KEYS)
        return self._key(reply.text)


def _called(function: dict[str, object]) -> list[object]:
    arguments = function.get("arguments")
    try:
        return [function.get("name"), orjson.loads(str(arguments))]
    except orjson.JSONDecodeError:
        return [function.get("name"), arguments]


def final_part(text: str) -> str:
    r"""The conclusion of a text that thinks aloud: after `####`, "answer:", or in `\boxed{}`."""
    if boxed := _BOXED.findall(text):
        return str(boxed[-1])
    found = _FINAL.search(text)
    return found[1] if found else text


def exact_key(text: str) -> str:
    """The conclusion without case, articles, marks and spare blanks."""
    said = unicodedata.normalize("NFKC", final_part(text)).casefold()
    said = _ARTICLES.sub(" ", _PUNCTUATION.sub(" ", said))
    return _BLANKS.sub(" ", said).strip()


def numeric_key(text: str) -> Hashable:
    """The conclusion's last number, to nine digits; its words where it has none."""
    number = last_number(text)
    return exact_key(text) if number is None else float(f"{number_of(number):.9g}")


def last_number(text: str) -> str | None:
    """The last number of a text's conclusion as it is written, None if it has none."""
    numbers: list[str] = _NUMBER.findall(final_part(text))
    return numbers[-1].rstrip(".,") if numbers else None


def number_of(number: str) -> float:
    """Its value: with commas between thousands, a percent sign or a slash."""
    plain = number.replace(",", "").replace(" ", "")
    scale = 0.01 if plain.endswith("%") else 1.0
    above, _, below = plain.rstrip("%").partition("/")
    return scale * float(above) / (float(below) if below and float(below) else 1.0)


Encode = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Texts to vectors of length 1, one each; whoever wires things together brings an encoder."""


class ByMeaning:
    """Answers are the same if the cosine of their vectors is large enough.

    Each answer joins the group whose first member it is most like, if that is like enough.

    Args:
        encode: Texts to vectors.
        least: Cosine in (0, 1] from which on two are the same.
    """

    def __init__(self, encode: Encode, least: float) -> None:
        self._encode = encode
        self._least = least

    async def groups(self, replies: Sequence[Reply]) -> list[int]:
        vectors = await self._encode([final_part(reply.text) for reply in replies])
        firsts: list[Sequence[float]] = []
        found: list[int] = []
        for vector in vectors:
            likes = [sum(x * y for x, y in zip(vector, first, strict=True)) for first in firsts]
            nearest = max(range(len(likes)), key=likes.__getitem__, default=None)
            if nearest is None or likes[nearest] < self._least:
                nearest = len(firsts)
                firsts.append(vector)
            found.append(nearest)
        return found


EXACT = ByKey(exact_key)
NUMERIC = ByKey(numeric_key)
