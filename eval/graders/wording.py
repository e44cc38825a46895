"""How graders read words: normal forms, whole-word mentions, and mentions that are denied."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_ARTICLES = ("a", "an", "the")
_EDGES = ".,;:!?\"'`*_()[]{}<>\u201c\u201d\u2018\u2019\u2026\u00bf\u00a1"
_DENIED = re.compile(
    r"(?:(?<![\w'])(?:not|no|never|neither|nor|without|cannot|isnt)|n't|\bnon)"
    r"(?:[\s*_\"'`]+(?:a|an|the|be|really|very|at|all|necessarily|considered|just|labell?ed|is|it's))*"
    r"[\s*_\"'`]*$"
)
_LOOK_BACK = 60


def fold(text: str) -> str:
    """Case, Unicode form and typographic apostrophes evened out; positions may move."""
    return unicodedata.normalize("NFC", text).casefold().replace("\u2019", "'")


def normal(text: str) -> str:
    """The form in which whole answers are compared.

    Case, spacing, punctuation around words, hyphens between letters and a leading article don't
    matter. Signs that carry meaning (minus, plus, percent, the point of 3.5) do.
    """
    words = re.sub(r"(?<=[^\W\d_])-(?=[^\W\d_])", " ", fold(text)).split()
    bare = [word for word in (_bare(word) for word in words) if word]
    while len(bare) > 1 and bare[0] in _ARTICLES:
        bare = bare[1:]
    return " ".join(bare)


def _bare(word: str) -> str:
    word = word.rstrip(_EDGES)
    return word if re.match(r"\.\d", word) else word.lstrip(_EDGES)


def mentioned(phrases: Sequence[str], text: str) -> tuple[str, ...]:
    """Which of `phrases` occur in `text` as whole words and are not denied ("not positive").

    Where one phrase is part of another ("spam", "not spam"), the longer one is taken.
    """
    text = fold(text)
    taken: list[tuple[int, int]] = []
    found = set()
    for phrase in sorted(phrases, key=len, reverse=True):
        for match in _whole_words(phrase).finditer(text):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            taken.append(match.span())
            if not _DENIED.search(text[max(0, match.start() - _LOOK_BACK) : match.start()]):
                found.add(phrase)
    return tuple(phrase for phrase in phrases if phrase in found)


def _whole_words(phrase: str) -> re.Pattern[str]:
    folded = fold(phrase).split()
    body = r"[\s\-]+".join(re.escape(word) for word in folded)
    first, last = folded[0][0], folded[-1][-1]
    before = r"(?<![\w\-])" if first.isalnum() else r"(?<!\w)"
    after = r"(?![\w#])(?!-\w|\+\+)" if last.isalnum() else ""
    if first.isdigit():
        before += r"(?<!\d[.,:/])(?<![.\u2212\u2013])"
    if last.isdigit():
        after += r"(?![.,:/]\d)"
    return re.compile(before + body + after)
