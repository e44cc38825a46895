"""Questions with lettered options: found in a text, put into another order, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from experts.compose.grouping import final_part

_LETTERS = "ABCDEFGHIJ"
_OPTION = re.compile(r"(?m)^([ \t]*\(?)([A-J])([).:][ \t]+)(\S(?:.*\S)?)[ \t]*$")
_FIRST = re.compile(r"^\W*([A-J])(?:[).:,]|\s*$|\s*[-–\n])")
_NAMED = re.compile(r"(?i:option|choice|answer)(?i:\s+is)?\s*(?::\s*)?\(?([A-J])\b")
_BRACKETED = re.compile(r"\(([A-J])\)")


@dataclass(frozen=True, slots=True)
class Choices:
    """A question with options A, B, ... on lines of their own.

    Attributes:
        text: The whole question.
        spans: Where the words of each option stand in it.
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    @property
    def options(self) -> tuple[str, ...]:
        """The words of each, without its letter."""
        return tuple(self.text[start:end] for start, end in self.spans)

    def reordered(self, order: Sequence[int]) -> str:
        """The question with option `order[i]` under the i-th letter.

        Args:
            order: A permutation of the options.
        """
        options, parts, at = self.options, list[str](), 0
        for (start, end), place in zip(self.spans, order, strict=True):
            parts += [self.text[at:start], options[place]]
            at = end
        return "".join([*parts, self.text[at:]])


def choices_in(text: str) -> Choices | None:
    """The last run of options A, B, ... in a text, None if there are not at least two."""
    found: list[re.Match[str]] = []
    for option in _OPTION.finditer(text):
        if option[2] == _LETTERS[len(found)]:
            found.append(option)
        elif option[2] == "A":
            found = [option]
        else:
            return None
        if len(found) == len(_LETTERS):
            break
    if len(found) < 2:
        return None
    return Choices(text, tuple((option.start(4), option.end(4)) for option in found))


def rotated(count: int, times: int) -> tuple[int, ...]:
    """The order in which each option moves up by so many letters.

    Over `count` rotations every option stands once under every letter, so what a model likes for
    its letter is shared out evenly.
    """
    return tuple((place + times) % count for place in range(count))


def picked(answer: str, options: Sequence[str]) -> int | None:
    """Which option an answer concludes with: by its letter, or by its words if only one fits.

    Args:
        answer: What was said.
        options: As they were shown, in the order of their letters.
    """
    said = final_part(answer).strip()
    for found in (_FIRST.findall(said)[:1], _NAMED.findall(said), _BRACKETED.findall(said)):
        if found and _LETTERS.index(found[-1]) < len(options):
            return _LETTERS.index(found[-1])
    words = said.casefold()
    fitting = [n for n, option in enumerate(options) if option.casefold().strip() in words]
    return fitting[0] if len(fitting) == 1 else None


def lettered(index: int, options: Sequence[str]) -> str:
    """How an option is given as an answer."""
    return f"{_LETTERS[index]}) {options[index]}"
