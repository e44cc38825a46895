"""What a request asks for, in a sentence: the instruction without the data that it is about."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

from routers.encoders.lexical import ends

_LONGEST = 300
_DIGITS = re.compile(r"\d+")
_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|`[^`]*`|(?<=[\s:(])'[^'\n]*'")
_OPTION = re.compile(r"\s*(?:[-*•]|\(?[A-Za-z0-9]{1,2}[.):])\s")
# The full-width marks of Chinese and Japanese end a sentence without a space after them.
_BREAK = re.compile(r"(?<=[.?!])\s+|(?<=[\u3002\uff01\uff1f])")
_LABEL = re.compile(
    r"^\s*(?:question|answer|context|passage|input|output|tools?|q|a|problem"
    r"|\u95ee\u9898|\u7b54\u6848)\s*[:\uff1a]\s*",
    re.IGNORECASE,
)
# Words that instructions begin with.
_ASKS = re.compile(
    r"\W*(?:add|analyse|analyze|answer|arrange|calculate|change|choose|classify|"
    r"compare|complete|compute|convert|correct|count|create|decide|define|"
    r"derive|describe|design|determine|draft|edit|estimate|evaluate|explain|"
    r"express|extract|fill|find|fix|generate|give|identify|implement|improve|"
    r"infer|list|make|name|optimise|optimize|outline|paraphrase|pick|plan|"
    r"predict|prove|provide|rank|read|rearrange|recommend|refactor|replace|"
    r"reply|respond|return|review|revise|rewrite|select|show|simplify|solve|"
    r"sort|state|suggest|summarise|summarize|tell|transform|translate|use|"
    r"verify|write|please|your task|you (?:are|have to|must|need|should|will))\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w")
_QUESTION_MARKS = ("?", "\uff1f")


class Instructor(Protocol):
    """Says what a text asks for. Language models that do so are handed in from above."""

    def instruction(self, text: str) -> str:
        """One short instruction; the same text always has the same one while it is predicted."""
        ...


class ExtractiveInstructor:
    """The sentences of the text itself that ask for something: no model, no network.

    Questions count, and sentences that begin with a word such as "write" or "you". Of several the
    first and the last are taken; options to choose from, labels like "Question:" and everything
    else, which is what the instruction is about, stay out. Where nothing asks, it is the first
    sentence. At most 300 characters; of a text over 16,000 characters the two ends are read.
    """

    def instruction(self, text: str) -> str:
        lines = (line for line in ends(text).splitlines() if not _OPTION.match(line))
        found = [sentence for line in lines for sentence in _sentences(line)]
        asking = [sentence for sentence in found if _asks(sentence)]
        if len(asking) > 1:
            asking = [asking[0], asking[-1]]
        return " ".join(asking or found[:1] or [text.strip()])[:_LONGEST]


class WrittenInstructor:
    """What a language model once wrote of each template; for one it never saw, the text itself.

    Args:
        written: `template_key` to instruction.
    """

    def __init__(self, written: Mapping[str, str]) -> None:
        self.written = dict(written)
        self._otherwise = ExtractiveInstructor()

    def instruction(self, text: str) -> str:
        found = self.written.get(template_key(text)) if self.written else None
        return found or self._otherwise.instruction(text)


def template_key(text: str) -> str:
    """What prompts that were made from one template have in common, as a hash of 16 characters.

    Their instruction is the same but for numbers and what stands in quotes.
    """
    instruction = ExtractiveInstructor().instruction(text).lower()
    masked = " ".join(_DIGITS.sub("0", _QUOTED.sub('""', instruction)).split())
    return hashlib.sha256(masked.encode(errors="replace")).hexdigest()[:16]


def _sentences(line: str) -> list[str]:
    parts = map(str.strip, _BREAK.split(_LABEL.sub("", line, 1)))
    return [part for part in parts if _WORD.search(part)]


def _asks(sentence: str) -> bool:
    return sentence.endswith(_QUESTION_MARKS) or bool(_ASKS.match(sentence))
