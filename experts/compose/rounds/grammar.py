"""The language in which a driver thinks, routes and answers: tags, one turn, a whole transcript.

    <think>…</think><search>expert:query</search><information>…</information>…<answer>…</answer>

The tags are those of Router-R1 (Zhang, Feng and You 2025, https://arxiv.org/abs/2506.09033), whose
word for asking is `search`. A driver writes all of it but the information, which it is given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

NOTHING = "None"
"""What the information holds when nobody was asked or nobody answered."""
_PLACEHOLDERS = frozenset({"", "llm-name", "your-query", "query", "expert", "...", "…"})


@dataclass(frozen=True, slots=True)
class Words:
    """The names of the four tags.

    Attributes:
        route: Asks an expert.
    """

    think: str = "think"
    route: str = "search"
    information: str = "information"
    answer: str = "answer"

    def __post_init__(self) -> None:
        if len(set(self.all)) < len(self.all):
            raise ValueError(f"the four tags need names of their own, got {', '.join(self.all)}")
        for word in self.all:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", word):
                raise ValueError(f"a tag is named by letters, digits, - and _, got {word!r}")

    @property
    def all(self) -> tuple[str, str, str, str]:
        return (self.think, self.route, self.information, self.answer)

    @property
    def stops(self) -> tuple[str, str]:
        """Where a turn of the driver ends."""
        return (f"</{self.route}>", f"</{self.answer}>")

    def informed(self, text: str) -> str:
        """What the driver is given back; `text` can't pass for a tag in it."""
        return f"<{self.information}>{escaped(text.strip(), self) or NOTHING}</{self.information}>"


PUBLISHED = Words()


class FormatFault(StrEnum):
    """Why a transcript is none; the format reward is −1 for each of them alike."""

    NO_TAGS = "there are no tags"
    UNBALANCED = "a tag is not closed, or closed without being opened"
    NESTED = "a tag stands within another"
    EMPTY_THINK = "a thought is empty"
    NO_THINK = "there is no thought"
    ANSWERS = "there is not exactly one answer"
    UNINFORMED = "there are not as many pieces of information as questions"
    START = "it does not begin with a thought"
    END = "it does not end with the answer"
    COLONS = "a question has not exactly one colon"
    EMPTY_QUERY = "a question names no expert or asks nothing"
    PLACEHOLDER = "a question repeats the example of how to ask"
    NAME_IN_QUERY = "a question repeats the expert's name"
    UNKNOWN_EXPERT = "a question goes to nobody in the pool"


@dataclass(frozen=True, slots=True)
class Segment:
    """What stands in one pair of tags; `start` and `end` include the tags."""

    word: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ExpertQuestion:
    """A question to an expert: what stands before the first colon, and all that follows it."""

    expert: str
    query: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer, with which the conversation ends."""

    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A turn that neither asks nor answers."""


def asked(text: str) -> ExpertQuestion:
    """A question as it stands between the tags; either part may be empty.

    Colons in the query are the query's own: only the first one divides.
    """
    expert, _, query = text.partition(":")
    return ExpertQuestion(expert.strip(), query.strip())


def known(expert: str, pool: Collection[str]) -> str | None:
    """The id in `pool` that is meant, or None; case doesn't matter where it tells none apart."""
    if expert in pool:
        return expert
    alike = [name for name in pool if name.casefold() == expert.casefold()]
    return alike[0] if len(alike) == 1 else None


def read_turn(text: str, words: Words = PUBLISHED) -> ExpertQuestion | Answered | Unread:
    """What the driver wants with one turn: the first whole question or answer in it."""
    pattern = rf"<({re.escape(words.route)}|{re.escape(words.answer)})>(.*?)</\1>"
    found = re.search(pattern, text, re.DOTALL)
    if found is None:
        return Unread()
    if found[1] == words.answer:
        return Answered(found[2].strip())
    return asked(found[2])


def closed(text: str, words: Words = PUBLISHED) -> str:
    """`text` with the tag closed at which its author was stopped, for who leaves stops out."""
    for word in (words.route, words.answer):
        if text.rfind(f"<{word}>") > text.rfind(f"</{word}>"):
            return f"{text}</{word}>"
    return text


def one_turn(text: str, words: Words = PUBLISHED) -> str:
    """`text` up to its first question or answer, for who goes on and makes information up."""
    ends = [text.find(stop) + len(stop) for stop in words.stops if stop in text]
    return text[: min(ends)] if ends else text


def escaped(text: str, words: Words = PUBLISHED) -> str:
    """`text` without anything that could be read as a tag, in whatever spelling."""
    names = "|".join(re.escape(word) for word in words.all)
    # Not \b: a name may end in a dash.
    return re.sub(rf"<(?=[\s/]*(?:{names})(?!\w))", "&lt;", text, flags=re.IGNORECASE)


def segments(text: str, words: Words = PUBLISHED) -> tuple[Segment, ...]:
    """The tagged parts of a transcript in order.

    Raises:
        ValueError: Tags are unbalanced or nested; its argument is the `FormatFault`.
    """
    found: list[Segment] = []
    opened: re.Match[str] | None = None
    tags = list(_tags(text, words))
    opens = Counter(tag[2] for tag in tags if not tag[1])
    closes = Counter(tag[2] for tag in tags if tag[1])
    if opens != closes:
        raise ValueError(FormatFault.UNBALANCED)
    for tag in tags:
        if not tag[1]:
            if opened is not None:
                raise ValueError(FormatFault.NESTED)
            opened = tag
        elif opened is None or opened[2] != tag[2]:
            raise ValueError(FormatFault.UNBALANCED)
        else:
            inner = text[opened.end() : tag.start()]
            found.append(Segment(tag[2], inner.strip(), opened.start(), tag.end()))
            opened = None
    return tuple(found)


def fault_of(
    text: str, pool: Collection[str], words: Words = PUBLISHED, *, colons: bool = True
) -> FormatFault | None:
    """Why `text` is no transcript of a conversation over `pool`, or None: it is one.

    Args:
        text: Everything from the driver's first thought on, information included.
        pool: Ids of the experts that could be asked.
        words: How the tags are called.
        colons: Whether a colon within a query counts as a fault, as published.
    """
    text = text.strip()
    try:
        parts = segments(text, words)
    except ValueError as error:
        return FormatFault(error.args[0])
    if not parts:
        return FormatFault.NO_TAGS
    return _fault_of_order(text, parts, words) or _fault_of_queries(parts, pool, words, colons)


def _tags(text: str, words: Words) -> Iterator[re.Match[str]]:
    names = "|".join(re.escape(word) for word in words.all)
    return re.finditer(rf"<(/?)({names})>", text)


def _fault_of_order(text: str, parts: tuple[Segment, ...], words: Words) -> FormatFault | None:
    count: Mapping[str, int] = Counter(part.word for part in parts)
    faults = {
        FormatFault.NO_THINK: count[words.think] == 0,
        FormatFault.EMPTY_THINK: any(part.word == words.think and not part.text for part in parts),
        FormatFault.ANSWERS: count[words.answer] != 1,
        FormatFault.UNINFORMED: count[words.route] != count[words.information],
        FormatFault.START: parts[0].word != words.think or parts[0].start > 0,
        FormatFault.END: parts[-1].word != words.answer or parts[-1].end < len(text),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _fault_of_queries(
    parts: tuple[Segment, ...], pool: Collection[str], words: Words, colons: bool
) -> FormatFault | None:
    for part in parts:
        if part.word == words.route and (fault := _fault_of_query(part.text, pool, colons)):
            return fault
    return None


def _fault_of_query(text: str, pool: Collection[str], colons: bool) -> FormatFault | None:
    question = asked(text)
    expert, query = question.expert.casefold(), question.query.casefold()
    count = text.count(":")
    faults = {
        FormatFault.COLONS: count != 1 if colons else count == 0,
        FormatFault.EMPTY_QUERY: not expert or not query,
        FormatFault.PLACEHOLDER: expert in _PLACEHOLDERS or query in _PLACEHOLDERS,
        FormatFault.UNKNOWN_EXPERT: known(question.expert, pool) is None,
        FormatFault.NAME_IN_QUERY: expert in query,
    }
    return next((fault for fault, found in faults.items() if found), None)
