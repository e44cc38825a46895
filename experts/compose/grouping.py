"""Which of several answers say the same: for votes, and for agreement of samples."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Protocol

import orjson

from experts.compose.base import Reply
from experts.messages import Json

_PUNCTUATION = re.compile(r"[^\w\s.%/+*=<>-]|\.(?=\s|$)")
_BLANKS = re.compile(r"\s+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_FINAL = re.compile(r"(?is)(?:####|\bfinal answer\b\s*(?:is|:)?|\banswer\b\s*(?:is|:))\s*(.+)$")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*+)\}")
# Behind a digit it is the rest of a mixed number.
_FRACTION = re.compile(r"(?<!\d)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
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
        return called(reply) or self._key(reply.text)


def called(reply: Reply) -> bytes | None:
    """The tools that an answer calls, by name and arguments; None if it calls none."""
    if not reply.completion.choices:
        return None
    choice = reply.completion.choices[0]
    calls = [_called(each) for each in choice.tool_calls]
    # As OpenAI had it before there were tools.
    calls += [_called({"function": each}) for each in [choice.fields.get("function_call")] if each]
    return orjson.dumps(calls, option=orjson.OPT_SORT_KEYS) if calls else None


def _called(call: Json) -> list[object]:
    said = call.get("function") or call.get("custom") or {}
    # A custom tool is given a text.
    arguments = said.get("arguments", said.get("input"))
    try:
        return [said.get("name"), orjson.loads(str(arguments))]
    except orjson.JSONDecodeError:
        return [said.get("name"), arguments]


def final_part(text: str) -> str:
    r"""The conclusion of a text that thinks aloud: after `####`, "answer:", or in `\boxed{}`."""
    if boxed := _BOXED.findall(text):
        return str(boxed[-1])
    found = _FINAL.search(text)
    return found[1] if found else text


def exact_key(text: str) -> str:
    """The conclusion without case, articles, marks and spare blanks."""
    said = unicodedata.normalize("NFKC", final_part(text)).casefold()
    said = _BLANKS.sub(" ", _PUNCTUATION.sub(" ", said)).strip()
    # The letter of an option is not to become nothing.
    return _BLANKS.sub(" ", _ARTICLES.sub(" ", said)).strip() or said


def numeric_key(text: str) -> Hashable:
    """The conclusion's last number, to nine digits; its words where it has none."""
    number = last_number(text)
    return exact_key(text) if number is None else float(f"{number_of(number):.9g}")


def last_number(text: str) -> str | None:
    """The last number of a text's conclusion as it is written, None if it has none."""
    numbers: list[str] = _NUMBER.findall(_FRACTION.sub(r"\1/\2", final_part(text)))
    return numbers[-1].rstrip(".,") if numbers else None


def number_of(number: str) -> float:
    """Its value: with commas between thousands, a percent sign or a slash."""
    plain = number.replace(",", "").replace(" ", "")
    scale = 0.01 if plain.endswith("%") else 1.0
    above, _, below = plain.rstrip("%").partition("/")
    return scale * float(above) / (float(below) if below and float(below) else 1.0)


_Said = tuple[bytes | None, Sequence[float]]
"""The tools that an answer calls, and the vector of its words."""
Encode = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Texts to vectors of length 1, one each; whoever wires things together brings an encoder."""


class ByMeaning:
    """Answers are the same if the cosine of their vectors is large enough; tool calls as `ByKey`.

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
        firsts: list[_Said] = []
        found: list[int] = []
        for reply, vector in zip(replies, vectors, strict=True):
            calls = called(reply)
            likes = [self._alike((calls, vector), first) for first in firsts]
            nearest = max(range(len(likes)), key=likes.__getitem__, default=None)
            if nearest is None or likes[nearest] < self._least:
                nearest = len(firsts)
                firsts.append((calls, vector))
            found.append(nearest)
        return found

    def _alike(self, one: _Said, other: _Said) -> float:
        if one[0] or other[0]:
            return float(one[0] == other[0])
        return sum(x * y for x, y in zip(one[1], other[1], strict=True))


EXACT = ByKey(exact_key)
NUMERIC = ByKey(numeric_key)
